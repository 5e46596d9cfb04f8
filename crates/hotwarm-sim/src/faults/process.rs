//! Faults of processes and machines: deaths of every kind, stops, clocks.

use super::{Effect, Fault, FaultKind, Mend, Place};
use crate::bugs::Bug;
use crate::clock::{MS, SECOND};
use crate::rng::Rng;
use crate::world::{Event, World};
use hotwarm_core::Input;
use hotwarm_disk::Crash;
use hotwarm_types::{Incarnation, NodeId};

impl World {
    /// Breaks a process or a machine as the fault says.
    pub(super) fn break_machine(&mut self, fault: &Fault, machine: usize, rng: &mut Rng) -> Effect {
        let length = fault.length;
        match fault.kind {
            FaultKind::CrashAttested => self.crash(machine, true, length),
            FaultKind::CrashUnattested => self.crash(machine, false, length),
            FaultKind::RestartStorm => {
                let mut at = self.now;
                while at < self.now + length + 3 * SECOND {
                    at += rng.between(100, 900) * MS;
                    self.schedule(at, Event::StormDeath { machine, attested: rng.percent(70) });
                }
                self.crash(machine, true, 0)
            }
            FaultKind::PowerLoss => self.power_loss(machine, length, rng),
            FaultKind::PowerLossAll => {
                let mut any = Effect::None;
                for machine in 0..self.machines.len() {
                    let length = rng.below(length.max(1)) + 50 * MS;
                    if let Effect::Certain = self.power_loss(machine, length, rng) {
                        any = Effect::Certain;
                    }
                }
                any
            }
            FaultKind::Pause => self.pause(machine, length),
            FaultKind::WallJump => {
                let offset_ms = rng.below(4_000_000_000_000);
                self.machines[machine].wall_offset_ms = offset_ms;
                let Some(process) = &self.machines[machine].process else { return Effect::None };
                let boot = process.boot;
                self.after(0, Event::Tell { machine, boot, fact: Box::new(Input::WallClock { offset_ms }) });
                Effect::Certain
            }
            FaultKind::ClockRate => {
                let rate_ppm = [950_000, 970_000, 1_030_000, 1_050_000][rng.index(4)];
                self.set_clock_rate(machine, rate_ppm);
                Effect::Watch { until: self.now + length, places: vec![Place::Clock { machine }] }
            }
            FaultKind::ClientCut => {
                self.machines[machine].clients_cut = true;
                self.after(length, Event::Mend(Mend::Clients { machine }));
                Effect::Watch { until: self.now + length, places: vec![Place::Clients { machine }] }
            }
            _ => Effect::None,
        }
    }

    /// A clock goes on from what it shows, at another rate.
    fn set_clock_rate(&mut self, index: usize, rate_ppm: u64) {
        let now = self.now;
        let machine = &mut self.machines[index];
        machine.clock = machine.clock.at_rate(now, rate_ppm);
        if let Some(process) = &mut machine.process {
            process.timer_at = u64::MAX;
        }
        self.set_timer(index);
    }

    /// A process dies by a signal, and is started again after a while.
    pub(crate) fn crash(&mut self, machine: usize, attested: bool, down: u64) -> Effect {
        if self.machines[machine].process.is_none() {
            return Effect::None;
        }
        self.end_process(machine, attested);
        self.after(down + MS, Event::Start { machine });
        Effect::Certain
    }

    /// One death of a storm.
    pub(crate) fn dies_again(&mut self, machine: usize, attested: bool) {
        if self.settle.faults_go_on() {
            self.crash(machine, attested, 20 * MS);
        }
    }

    /// Ends a process while the machine's kernel lives: peers that can be reached see a reset at once.
    pub(crate) fn end_process(&mut self, machine: usize, attested: bool) {
        let id = self.id_of(machine);
        let Some(incarnation) = self.machines[machine].process.as_ref().map(|process| process.incarnation) else {
            return;
        };
        self.stop(machine, Crash::Process);
        for peer in (0..self.machines.len()).filter(|peer| *peer != machine) {
            let link = self.network.between(machine, peer);
            let wait = if self.network.passes(machine, peer) {
                Some(self.rng.latency(self.plan.delay))
            } else if self.rng.percent(70) {
                Some(self.rng.between(100 * MS, 4 * SECOND))
            } else {
                None
            };
            self.break_connection(link, [wait, wait]);
        }
        if let (true, Some(id)) = (attested, id) {
            self.attest(machine, id, incarnation);
        }
    }

    /// The guardian tells the members that it can reach (R20).
    fn attest(&mut self, machine: usize, id: NodeId, incarnation: Incarnation) {
        for peer in (0..self.machines.len()).filter(|peer| *peer != machine) {
            let reachable = self.network.passes(machine, peer) && (self.plan.is_of_drills() || self.rng.percent(92));
            let Some(process) = self.machines[peer].process.as_ref().filter(|_| reachable) else { continue };
            let boot = process.boot;
            // Nodes do not hear of it at the same time.
            let apart = if self.plan.is_of_drills() { self.rng.below(20 * MS) } else { MS };
            let late = if self.bug == Some(Bug::DeathAttestedLate) { self.rng.below(3 * SECOND) } else { 0 };
            let wait = self.rng.latency(self.plan.delay) + apart + late;
            self.after(wait, Event::Attest { machine: peer, boot, id, incarnation });
        }
    }

    /// Whose death an attestation is of: the planted bug takes whichever process runs.
    pub(crate) fn attested(&self, id: NodeId, incarnation: Incarnation) -> Incarnation {
        let machine = self.machine_of(id).filter(|_| self.bug == Some(Bug::DeathAttestedLate));
        let running = machine.and_then(|machine| self.machines[machine].process.as_ref());
        running.map_or(incarnation, |process| process.incarnation)
    }

    /// A machine goes dark: nobody is told anything, and its clock starts from anywhere.
    pub(super) fn power_loss(&mut self, machine: usize, down: u64, rng: &mut Rng) -> Effect {
        if self.machines[machine].process.is_none() {
            return Effect::None;
        }
        self.stop(machine, Crash::OF_POWER[rng.index(Crash::OF_POWER.len())]);
        let shown = rng.below(1_000 * SECOND);
        self.machines[machine].clock = self.machines[machine].clock.set(self.now, shown);
        for peer in (0..self.machines.len()).filter(|peer| *peer != machine) {
            let link = self.network.between(machine, peer);
            let wait = rng.percent(60).then(|| rng.between(100 * MS, 6 * SECOND));
            self.break_connection(link, [wait, wait]);
        }
        self.after(down + 20 * MS, Event::Start { machine });
        Effect::Certain
    }

    /// SIGSTOP, a frozen host, or a very late scheduler.
    fn pause(&mut self, index: usize, length: u64) -> Effect {
        let until = self.now + length;
        let machine = &mut self.machines[index];
        let running = machine.process.as_ref().filter(|_| machine.paused_until.is_none());
        let Some(boot) = running.map(|process| process.boot) else { return Effect::None };
        machine.paused_until = Some(until);
        machine.paused_at = machine.clock.at(self.now);
        self.schedule(until, Event::Resume { machine: index, boot });
        if self.bug == Some(Bug::DeathMisattested)
            && let (Some(id), Some(process)) = (self.id_of(index), &self.machines[index].process)
        {
            let incarnation = process.incarnation;
            self.attest(index, id, incarnation);
        }
        Effect::Certain
    }
}
