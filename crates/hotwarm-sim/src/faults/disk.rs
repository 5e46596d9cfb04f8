//! Faults of disks: slow, stalled, full, failing, lying, and whole folders that are lost or put back.

use super::{Effect, Fault, FaultKind, Mend, Place};
use crate::bugs::{Bug, memory_of};
use crate::clock::{MS, SECOND};
use crate::disk::Disk;
use crate::rng::Rng;
use crate::world::{Event, World};
use hotwarm_disk::{Call, FaultError};
use hotwarm_types::FolderId;

impl World {
    /// Breaks a disk as the fault says.
    pub(super) fn break_disk(&mut self, fault: &Fault, machine: usize, rng: &mut Rng) -> Effect {
        let until = self.now + fault.length;
        match fault.kind {
            FaultKind::SlowDisk => {
                self.machines[machine].sync = self.plan.sync * rng.between(5, 50);
                self.schedule(until, Event::Mend(Mend::Disk { machine }));
                Effect::Watch { until, places: vec![Place::Disk { machine }] }
            }
            FaultKind::StallDisk => {
                self.machines[machine].disk_stalled_until = until;
                Effect::Watch { until, places: vec![Place::Disk { machine }] }
            }
            FaultKind::FailDisk => self.fail_disk(machine, until, rng),
            FaultKind::FullDisk => {
                // It takes a while until what was made ahead of need is used up.
                let until = until + 3 * fault.length + 2 * SECOND;
                self.machines[machine].disk.files.set_capacity(0);
                self.schedule(until, Event::Mend(Mend::Files { machine }));
                Effect::Watch { until, places: vec![Place::Room { machine }] }
            }
            FaultKind::BitRot | FaultKind::MisdirectedWrite if !self.can_lose(machine) => Effect::None,
            FaultKind::BitRot => {
                let (draw, bit) = (rng.bits(), rng.index(8) as u8);
                let Some(path) = self.machines[machine].disk.rot(draw, bit) else { return Effect::None };
                self.trace.line(self.now, format_args!("-- a bit of {path} turns over"));
                Effect::Watch { until: u64::MAX, places: vec![Place::Damage { machine }] }
            }
            FaultKind::MisdirectedWrite => {
                let by_bytes = [512, 4_096, 8_192][rng.index(3)];
                let path = ["log/0", "vote"][rng.index(2)];
                let disk = &mut self.machines[machine].disk;
                disk.files.misdirect(path, by_bytes);
                disk.harmed = true;
                Effect::Watch { until, places: vec![Place::Failures { machine }] }
            }
            FaultKind::Wipe => self.wipe(machine, rng),
            FaultKind::Rollback => self.roll_back(machine, rng),
            _ => Effect::None,
        }
    }

    /// A sync or a write of the log or the vote record fails: once, and the next one seems to succeed (INV-9); or from then
    /// on, until the disk is mended.
    fn fail_disk(&mut self, machine: usize, until: u64, rng: &mut Rng) -> Effect {
        let path = ["log/", "vote"][rng.index(2)];
        let call = [Call::SyncData, Call::SyncData, Call::WriteAt][rng.index(3)];
        let fails = hotwarm_disk::Fault::nth(rng.between(1, 3), FaultError::Io).of(call).on(path);
        let fails = if rng.percent(30) { fails.lasting() } else { fails };
        self.machines[machine].disk.files.fail(fails);
        self.schedule(until, Event::Mend(Mend::Files { machine }));
        Effect::Watch { until, places: vec![Place::Failures { machine }] }
    }

    /// The disk of a machine that has been down for a while is lost.
    fn wipe(&mut self, index: usize, rng: &mut Rng) -> Effect {
        let machine = &self.machines[index];
        let down = machine.process.is_none() && self.now > machine.down_since + SECOND;
        if !self.can_lose(index) {
            return Effect::None;
        }
        if !down {
            // It goes dark first; what it had on its way must not come true after its disk is gone.
            let length = rng.between(2, 5) * SECOND;
            return self.power_loss(index, length, rng);
        }
        self.replace_folder(index);
        Effect::Certain
    }

    /// Gives a machine an empty folder, as an operator does after a loss.
    pub(crate) fn replace_folder(&mut self, index: usize) {
        let folder = FolderId(u128::from(self.rng.bits()));
        let forged = self.bug == Some(Bug::WipedNodeVotes);
        let seed = self.rng.bits();
        let machine = &mut self.machines[index];
        let (same, starts, memory) = (machine.disk.folder(), machine.disk.starts, memory_of(&machine.disk));
        let owner = machine.disk.owner_of(if forged { same } else { folder });
        machine.disk = Disk::empty(owner, None, seed);
        if forged {
            machine.forged = Some(memory);
            machine.disk.start_often(starts);
        }
        machine.image = None;
        machine.amnesiac = false;
        machine.fenced = None;
        machine.wanted = true;
        self.trace.line(self.now, format_args!("-- {} has an empty folder", self.machines[index].name));
        self.after(200 * MS, Event::Start { machine: index });
    }

    /// The disk of a machine is replaced by an older image of itself; the first time, the image is taken.
    fn roll_back(&mut self, index: usize, rng: &mut Rng) -> Effect {
        if self.machines[index].image.is_none() {
            let disk = self.machines[index].disk.image(rng.bits());
            self.machines[index].image = Some(Box::new(disk));
        }
        let Some(image) = &self.machines[index].image else { return Effect::None };
        // Only what the peers can have noticed: a start that they have met since, for long enough (R5).
        let met = self.machines[index].process.as_ref().map_or(0, |process| process.told.len());
        let member = self
            .id_of(index)
            .is_some_and(|id| self.ledger.choices.latest().is_some_and(|state| state.members.contains_key(&id)));
        let noticed = member
            && image.starts + 1 < self.machines[index].disk.starts
            && image.folder() == self.machines[index].disk.folder()
            && met + 1 == self.ledger.choices.latest().map_or(usize::MAX, |state| state.members.len());
        if !noticed || !self.can_lose(index) {
            return Effect::None;
        }
        let length = rng.between(2, 4) * SECOND;
        self.power_loss(index, length, rng);
        let forged = self.bug == Some(Bug::AmnesiaUnnoticed);
        let machine = &mut self.machines[index];
        if forged {
            machine.forged = Some(memory_of(&machine.disk));
        }
        if let Some(image) = machine.image.take() {
            machine.disk = *image;
            machine.amnesiac = true;
        }
        Effect::Certain
    }
}
