//! What breaks, and how it is mended.
//!
//! Everything here is something that a group must survive without a lost write (FAULTS.md). What destroys data for
//! good (a wiped or restored folder) is done only where the rest still holds everything and is a majority.
//!
//! Faults are drawn from a source of chance of their own, whole: kind, place, length, and a number that draws the rest. So
//! the same faults come at the same times whatever the group does, and one can be left out without changing the others.

mod disk;
mod effect;
mod kind;
mod mend;
mod network;
mod process;
mod survival;

pub use effect::{Effect, Place, Watches};
pub use kind::FaultKind;
pub use mend::Mend;

use crate::outcome::Happened;
use crate::rng::Rng;
use crate::world::{Event, World};
use hotwarm_core::register::MemberRole;

/// Whom a fault is meant for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Whoever is hot by then.
    Hot,
    /// The last machine that holds data and is not hot by then.
    Warm,
    /// The last witness; a machine that is not hot, where there is none.
    Witness,
    /// This one, or the one before as often as it does not exist.
    Machine(usize),
}

/// A fault, before it happens.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// The kind.
    pub kind: FaultKind,
    /// Whom it is meant for.
    pub target: Target,
    /// How long it lasts, nanoseconds.
    pub length: u64,
    /// Draws what else there is to draw.
    pub draw: u64,
}

/// Numbers of faults that were not drawn but met a process at a moment of its own.
const AMBUSHES_FROM: u32 = 1_000_000;

impl World {
    /// Draws the next fault, and when the one after it comes.
    pub(crate) fn next_fault(&mut self) {
        if !self.settle.faults_go_on() {
            return;
        }
        let wait = self.fault_rng.latency(self.plan.fault_interval);
        self.after(wait, Event::Fault);
        let Some(kind) = self.fault_rng.weighted(&self.plan.weights) else { return };
        let any = self.fault_rng.index(self.machines.len());
        let target = if self.fault_rng.percent(40) { Target::Hot } else { Target::Machine(any) };
        let length = self.length();
        let fault = Fault { kind: FaultKind::ALL[kind], target, length, draw: self.fault_rng.bits() };
        self.faults_drawn += 1;
        self.inject_if_wanted(&fault, self.faults_drawn);
    }

    /// A fault at one of a process's own interesting moments.
    pub(crate) fn ambush(&mut self, machine: usize, boot: u64, kind: FaultKind) {
        let same = self.machines[machine].process.as_ref().is_some_and(|process| process.boot == boot);
        if same && self.settle.faults_go_on() {
            let length = self.rng.below(2 * self.plan.settings.timing.grace.as_nanos() as u64);
            let fault = Fault { kind, target: Target::Machine(machine), length, draw: self.rng.bits() };
            self.ambushes += 1;
            self.inject_if_wanted(&fault, AMBUSHES_FROM + self.ambushes);
        }
    }

    /// How long a fault lasts: from a blink to several graces.
    fn length(&mut self) -> u64 {
        let grace = self.plan.settings.timing.grace.as_nanos() as u64;
        let rng = &mut self.fault_rng;
        match rng.below(4) {
            0 => rng.below(grace / 5),
            1 => rng.below(grace),
            2 => grace / 2 + rng.below(grace),
            _ => rng.below(4 * grace),
        }
    }

    fn inject_if_wanted(&mut self, fault: &Fault, number: u32) {
        if self.plan.only.as_ref().is_none_or(|only| only.contains(&number)) {
            self.inject(fault, Some(number));
        }
    }

    /// Lets a fault happen now, if it can.
    pub(crate) fn inject(&mut self, fault: &Fault, number: Option<u32>) {
        let machine = self.machine_at(fault.target);
        let mut rng = Rng::new(fault.draw);
        let effect = match fault.kind {
            FaultKind::CrashAttested
            | FaultKind::CrashUnattested
            | FaultKind::PowerLoss
            | FaultKind::PowerLossAll
            | FaultKind::RestartStorm
            | FaultKind::Pause
            | FaultKind::ClientCut
            | FaultKind::WallJump
            | FaultKind::ClockRate => self.break_machine(fault, machine, &mut rng),
            FaultKind::CutOneWay
            | FaultKind::CutPair
            | FaultKind::Isolate
            | FaultKind::Split
            | FaultKind::Ring
            | FaultKind::Bridge
            | FaultKind::PartialPartition
            | FaultKind::Flap
            | FaultKind::Hold
            | FaultKind::Reset
            | FaultKind::SlowLink
            | FaultKind::LossyLink => self.break_network(fault, machine, &mut rng),
            FaultKind::SlowDisk
            | FaultKind::StallDisk
            | FaultKind::FailDisk
            | FaultKind::FullDisk
            | FaultKind::BitRot
            | FaultKind::MisdirectedWrite
            | FaultKind::Wipe
            | FaultKind::Rollback => self.break_disk(fault, machine, &mut rng),
        };
        if self.note_effect(fault.kind, effect) {
            let (name, kind, length) = (&self.machines[machine].name, fault.kind.name(), fault.length / 1_000_000);
            self.trace.line(self.now, format_args!("-- fault: {kind} at {name} for {length} ms"));
            let (at, machine) = (self.now, name.clone());
            self.happened.extend(number.map(|number| Happened { number, at, kind, machine, length_ms: length }));
        }
    }

    fn machine_at(&self, target: Target) -> usize {
        let hot = self.ledger.choices.latest().and_then(|state| self.machine_of(state.reign.node)).unwrap_or(0);
        let not_hot = |role| {
            let fits = |(index, machine): &(usize, &crate::machine::Machine)| machine.role == role && *index != hot;
            self.machines.iter().enumerate().filter(fits).map(|(index, _)| index).next_back()
        };
        match target {
            Target::Hot => hot,
            Target::Warm => not_hot(MemberRole::Data).unwrap_or(hot),
            Target::Witness => not_hot(MemberRole::Witness).unwrap_or((hot + 1) % self.machines.len()),
            Target::Machine(machine) => machine % self.machines.len(),
        }
    }
}
