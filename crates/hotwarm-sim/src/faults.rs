//! What breaks, and how it is mended.
//!
//! Everything here is something that a group must survive without a lost write (FAULTS.md). What destroys data for
//! good (a wiped or restored folder) is done only where the rest still holds everything and is a majority.

use crate::bugs::{Bug, memory_of};
use crate::clock::{MS, SECOND};
use crate::disk::Disk;
use crate::machine::Machine;
use crate::world::{Event, World};
use hotwarm_core::Input;
use hotwarm_core::register::{GroupState, Quorum, Timing};
use hotwarm_disk::{Call, Crash, Fault, FaultError};
use hotwarm_types::{FolderId, NodeId};

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    CrashAttested,
    CrashUnattested,
    PowerLoss,
    PowerLossAll,
    Pause,
    CutOneWay,
    CutPair,
    Isolate,
    Partial,
    Hold,
    Reset,
    SlowLink,
    LossyLink,
    SlowDisk,
    StallDisk,
    FailDisk,
    FullDisk,
    BitRot,
    Wipe,
    Rollback,
    ClientCut,
    WallJump,
}

impl FaultKind {
    /// All kinds.
    pub const ALL: [Self; 22] = [
        Self::CrashAttested,
        Self::CrashUnattested,
        Self::PowerLoss,
        Self::PowerLossAll,
        Self::Pause,
        Self::CutOneWay,
        Self::CutPair,
        Self::Isolate,
        Self::Partial,
        Self::Hold,
        Self::Reset,
        Self::SlowLink,
        Self::LossyLink,
        Self::SlowDisk,
        Self::StallDisk,
        Self::FailDisk,
        Self::FullDisk,
        Self::BitRot,
        Self::Wipe,
        Self::Rollback,
        Self::ClientCut,
        Self::WallJump,
    ];

    /// How often it is drawn, against the others.
    #[must_use]
    pub fn weight(self) -> u64 {
        match self {
            Self::CrashAttested | Self::Isolate | Self::CutPair | Self::CutOneWay => 12,
            Self::CrashUnattested | Self::Pause | Self::Partial | Self::Hold => 10,
            Self::PowerLoss | Self::Reset | Self::StallDisk | Self::Wipe => 6,
            Self::SlowLink | Self::LossyLink | Self::SlowDisk | Self::ClientCut | Self::Rollback => 5,
            Self::PowerLossAll | Self::FailDisk | Self::FullDisk | Self::BitRot => 3,
            Self::WallJump => 2,
        }
    }

    /// Its name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::CrashAttested => "crash_attested",
            Self::CrashUnattested => "crash_unattested",
            Self::PowerLoss => "power_loss",
            Self::PowerLossAll => "power_loss_all",
            Self::Pause => "pause",
            Self::CutOneWay => "cut_one_way",
            Self::CutPair => "cut_pair",
            Self::Isolate => "isolate",
            Self::Partial => "partial_partition",
            Self::Hold => "hold",
            Self::Reset => "reset",
            Self::SlowLink => "slow_link",
            Self::LossyLink => "lossy_link",
            Self::SlowDisk => "slow_disk",
            Self::StallDisk => "stall_disk",
            Self::FailDisk => "fail_disk",
            Self::FullDisk => "full_disk",
            Self::BitRot => "bit_rot",
            Self::Wipe => "wipe",
            Self::Rollback => "rollback",
            Self::ClientCut => "client_cut",
            Self::WallJump => "wall_jump",
        }
    }
}

/// How a fault ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mend {
    /// Packets pass again.
    Path {
        /// The link.
        link: usize,
        /// The direction.
        direction: usize,
    },
    /// Delay and loss are as at first.
    Quality {
        /// The link.
        link: usize,
    },
    /// The disk is as fast as at first.
    Disk {
        /// The machine.
        machine: usize,
    },
    /// Its files fail no more, and there is room for them.
    Files {
        /// The machine.
        machine: usize,
    },
    /// Clients reach the machine again.
    Clients {
        /// The machine.
        machine: usize,
    },
}

impl World {
    /// Draws the next fault, and when the one after it comes.
    pub(crate) fn next_fault(&mut self) {
        if !self.settle.faults_go_on() {
            return;
        }
        let wait = self.rng.latency(self.plan.fault_interval);
        self.after(wait, Event::Fault);
        let Some(kind) = self.rng.weighted(&self.plan.weights) else { return };
        let machine = self.pick_machine();
        self.inject(FaultKind::ALL[kind], machine);
    }

    /// Mostly the hot one, or any.
    fn pick_machine(&mut self) -> usize {
        let hot = self.ledger.choices.latest().map(|state| state.reign.node).and_then(|id| self.machine_of(id));
        match hot {
            Some(hot) if self.rng.percent(40) => hot,
            Some(_) | None => self.rng.index(self.machines.len()),
        }
    }

    /// A fault at one of a process's own interesting moments.
    pub(crate) fn ambush(&mut self, machine: usize, boot: u64, kind: FaultKind) {
        let same = self.machines[machine].process.as_ref().is_some_and(|process| process.boot == boot);
        if same && self.settle.faults_go_on() {
            self.inject(kind, machine);
        }
    }

    /// How long a fault lasts: from a blink to several graces.
    fn length(&mut self) -> u64 {
        let grace = self.plan.settings.timing.grace.as_nanos() as u64;
        match self.rng.below(4) {
            0 => self.rng.below(grace / 5),
            1 => self.rng.below(grace),
            2 => grace / 2 + self.rng.below(grace),
            _ => self.rng.below(4 * grace),
        }
    }

    fn inject(&mut self, kind: FaultKind, machine: usize) {
        if !self.do_inject(kind, machine) {
            return;
        }
        *self.counts.faults.entry(kind.name()).or_default() += 1;
        self.trace.line(self.now, format_args!("-- fault: {} at {}", kind.name(), self.machines[machine].name));
    }

    /// Whether the fault could be done.
    fn do_inject(&mut self, kind: FaultKind, machine: usize) -> bool {
        let length = self.length();
        match kind {
            // The process dies; its guardian lives and tells, if it can reach anyone (R20).
            FaultKind::CrashAttested => self.crash(machine, true, length),
            // The process dies and its guardian with it.
            FaultKind::CrashUnattested => self.crash(machine, false, length),
            FaultKind::PowerLoss => self.power_loss(machine, length),
            FaultKind::PowerLossAll => {
                for machine in 0..self.machines.len() {
                    let length = self.rng.below(length.max(1)) + 50 * MS;
                    self.power_loss(machine, length);
                }
                true
            }
            // SIGSTOP, a frozen host, or a very late scheduler.
            FaultKind::Pause => self.pause(machine, length),
            FaultKind::CutOneWay => {
                let peer = self.other_machine(machine);
                if self.rng.percent(50) {
                    self.cut_for(machine, peer, length, true);
                } else {
                    self.cut_for(peer, machine, length, true);
                }
                true
            }
            FaultKind::CutPair => {
                let peer = self.other_machine(machine);
                self.cut_for(machine, peer, length, true);
                self.cut_for(peer, machine, length, true);
                true
            }
            FaultKind::Isolate => {
                // Half of them outlive the grace, so that there are two sides to ask.
                let grace = self.plan.settings.timing.grace.as_nanos() as u64;
                let length = if self.rng.percent(50) { length + grace * 3 / 2 } else { length };
                for peer in (0..self.machines.len()).filter(|peer| *peer != machine) {
                    self.cut_for(machine, peer, length, true);
                    self.cut_for(peer, machine, length, true);
                }
                self.strand_readers(machine);
                true
            }
            // Each direction between any two machines fails with a chance of a third.
            FaultKind::Partial => {
                for from in 0..self.machines.len() {
                    for to in 0..self.machines.len() {
                        if from != to && self.rng.percent(33) {
                            self.cut_for(from, to, length, true);
                        }
                    }
                }
                true
            }
            // What is on its way arrives much later, in order, on a connection that never broke.
            FaultKind::Hold => {
                let peer = self.other_machine(machine);
                self.cut_for(machine, peer, length, false);
                true
            }
            // A middle box resets a connection.
            FaultKind::Reset => {
                let peer = self.other_machine(machine);
                let link = self.network.between(machine, peer);
                let notice = [0, 1].map(|_| Some(self.rng.below(20 * MS)));
                self.break_connection(link, notice);
                true
            }
            FaultKind::SlowLink => {
                let factor = self.rng.between(5, 60);
                self.degrade(machine, factor, 0, length)
            }
            FaultKind::LossyLink => {
                let loss = self.rng.between(10, 300);
                self.degrade(machine, 1, loss, length)
            }
            FaultKind::SlowDisk => {
                self.machines[machine].sync = self.plan.sync * self.rng.between(5, 50);
                self.after(length, Event::Mend(Mend::Disk { machine }));
                true
            }
            FaultKind::StallDisk => {
                self.machines[machine].disk_stalled_until = self.now + length;
                true
            }
            FaultKind::FailDisk => self.fail_disk(machine, length),
            FaultKind::Wipe => self.wipe(machine),
            FaultKind::Rollback => self.roll_back(machine),
            FaultKind::ClientCut => {
                self.machines[machine].clients_cut = true;
                self.after(length, Event::Mend(Mend::Clients { machine }));
                true
            }
            FaultKind::FullDisk => {
                self.machines[machine].disk.files.set_capacity(0);
                self.after(length, Event::Mend(Mend::Files { machine }));
                true
            }
            FaultKind::BitRot => self.rot(machine),
            FaultKind::WallJump => {
                let offset_ms = self.rng.below(4_000_000_000_000);
                self.machines[machine].wall_offset_ms = offset_ms;
                let boot = self.machines[machine].process.as_ref().map_or(0, |process| process.boot);
                self.after(0, Event::Tell { machine, boot, fact: Box::new(Input::WallClock { offset_ms }) });
                true
            }
        }
    }

    fn other_machine(&mut self, machine: usize) -> usize {
        let step = 1 + self.rng.index(self.machines.len() - 1);
        (machine + step) % self.machines.len()
    }

    /// Clients on the wrong side of a cut: of those that only read, half go on asking the machine that the others do not
    /// reach.
    fn strand_readers(&mut self, machine: usize) {
        for client in self.clients.iter_mut().filter(|client| client.pinned.is_some()) {
            if self.rng.percent(50) {
                client.pinned = Some(machine);
            }
        }
    }

    fn cut_for(&mut self, from: usize, to: usize, length: u64, gives_up: bool) {
        let gives_up = gives_up && self.rng.percent(80);
        self.cut(from, to, gives_up);
        let link = self.network.between(from, to);
        let direction = self.network.links[link].direction_from(from);
        self.after(length, Event::Mend(Mend::Path { link, direction }));
    }

    fn degrade(&mut self, machine: usize, factor: u64, loss_per_mille: u64, length: u64) -> bool {
        let peer = self.other_machine(machine);
        let link = self.network.between(machine, peer);
        for path in &mut self.network.links[link].paths {
            path.delay = self.plan.delay * factor;
            path.loss_per_mille = loss_per_mille.max(self.plan.loss_per_mille);
        }
        self.after(length, Event::Mend(Mend::Quality { link }));
        true
    }

    /// A process dies by a signal.
    pub(crate) fn crash(&mut self, machine: usize, attested: bool, down: u64) -> bool {
        if self.machines[machine].process.is_none() {
            return false;
        }
        self.end_process(machine, attested);
        self.after(down + MS, Event::Start { machine });
        true
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

    /// The guardian tells the members that it can reach.
    pub(crate) fn attest(
        &mut self,
        machine: usize,
        id: hotwarm_types::NodeId,
        incarnation: hotwarm_types::Incarnation,
    ) {
        for peer in (0..self.machines.len()).filter(|peer| *peer != machine) {
            let reachable = self.network.passes(machine, peer) && (self.plan.is_of_drills() || self.rng.percent(92));
            let Some(process) = self.machines[peer].process.as_ref().filter(|_| reachable) else { continue };
            let boot = process.boot;
            // Nodes do not hear of it at the same time.
            let apart = if self.plan.is_of_drills() { self.rng.below(20 * MS) } else { MS };
            let wait = self.rng.latency(self.plan.delay) + apart;
            self.after(wait, Event::Attest { machine: peer, boot, id, incarnation });
        }
    }

    /// A machine goes dark: nobody is told anything, and its clock starts from anywhere.
    fn power_loss(&mut self, machine: usize, down: u64) -> bool {
        if self.machines[machine].process.is_none() {
            return false;
        }
        let crash = [Crash::Lost, Crash::Torn, Crash::Process][self.rng.index(3)];
        self.stop(machine, crash);
        self.machines[machine].clock.offset = self.rng.below(1_000 * SECOND);
        for peer in (0..self.machines.len()).filter(|peer| *peer != machine) {
            let link = self.network.between(machine, peer);
            let wait = self.rng.percent(60).then(|| self.rng.between(100 * MS, 6 * SECOND));
            self.break_connection(link, [wait, wait]);
        }
        self.after(down + 20 * MS, Event::Start { machine });
        true
    }

    fn pause(&mut self, index: usize, length: u64) -> bool {
        let until = self.now + length;
        let machine = &mut self.machines[index];
        let Some(process) = machine.process.as_ref().filter(|_| machine.paused_until.is_none()) else { return false };
        let boot = process.boot;
        machine.paused_until = Some(until);
        self.schedule(until, Event::Resume { machine: index, boot });
        if self.bug == Some(Bug::DeathMisattested)
            && let (Some(id), Some(process)) = (self.id_of(index), &self.machines[index].process)
        {
            let incarnation = process.incarnation;
            self.attest(index, id, incarnation);
        }
        true
    }

    /// A sync or a write of the log or the vote record fails: once, and the next one seems to succeed (INV-9); or from then
    /// on, until the disk is mended.
    fn fail_disk(&mut self, machine: usize, length: u64) -> bool {
        let path = ["log/", "vote"][self.rng.index(2)];
        let call = [Call::SyncData, Call::SyncData, Call::WriteAt][self.rng.index(3)];
        let fault = Fault::nth(self.rng.between(1, 3), FaultError::Io).of(call).on(path);
        let lasting = self.rng.percent(30);
        let Machine { disk, process, .. } = &self.machines[machine];
        if process.is_none() {
            return false;
        }
        disk.files.fail(if lasting { fault.lasting() } else { fault });
        self.after(length, Event::Mend(Mend::Files { machine }));
        true
    }

    /// A bit of some file of a machine turns over, while others hold everything.
    fn rot(&mut self, machine: usize) -> bool {
        if !self.can_lose(machine) {
            return false;
        }
        let (draw, bit) = (self.rng.bits(), self.rng.index(8) as u8);
        let disk = &mut self.machines[machine].disk;
        let Some(path) = disk.rot(draw, bit) else { return false };
        self.trace.line(self.now, format_args!("-- a bit of {path} turns over"));
        true
    }

    /// Whether the group can go on for ever without this folder: others hold every committed write, and those left are a
    /// majority of the acceptors; by the newest state and by every one that may yet be chosen.
    pub(crate) fn can_lose(&self, machine: usize) -> bool {
        let Some(latest) = self.ledger.choices.latest() else { return false };
        let Some(lost) = self.id_of(machine) else { return true };
        self.possible_states(latest).all(|state| {
            let (holders, quorum) = self.sound(state, Some(lost));
            holders >= usize::from(state.settings.min_copies).max(1) && quorum
        })
    }

    /// The newest chosen state, and those that some acceptor holds beyond it and that may yet be chosen.
    pub(crate) fn possible_states<'a>(&'a self, latest: &'a GroupState) -> impl Iterator<Item = &'a GroupState> {
        let accepted = self.machines.iter().filter_map(|machine| machine.disk.vote.accepted.as_ref());
        accepted.map(|(_, state)| state).filter(|state| state.version > latest.version).chain([latest])
    }

    /// How many in-sync folders of a state can still count, and whether enough of its acceptors can, without a lost one:
    /// they exist, have forgotten nothing, and know that they are members. A state that changes the acceptors needs a
    /// majority of the old ones as well (R6).
    pub(crate) fn sound(&self, state: &GroupState, lost: Option<NodeId>) -> (usize, bool) {
        let sound = |id: NodeId| {
            let counts = |machine: &Machine| !machine.amnesiac && !machine.disk.harmed;
            let machine = self.machine_of(id).filter(|machine| counts(&self.machines[*machine]));
            let disk = machine.map(|machine| &self.machines[machine].disk);
            let known =
                disk.and_then(|disk| disk.vote.accepted.as_ref().map(|(_, state)| state).or(disk.birth.as_ref()));
            Some(id) != lost && known.is_some()
        };
        let holders = state.in_sync.iter().filter(|id| sound(**id)).count();
        (holders, Quorum::of(state).is_met(sound))
    }

    /// The disk of a machine that has been down for a while is lost.
    fn wipe(&mut self, index: usize) -> bool {
        let machine = &self.machines[index];
        let down = machine.process.is_none() && self.now > machine.down_since + SECOND;
        if !self.can_lose(index) {
            return false;
        }
        if !down {
            // It goes dark first; what it had on its way must not come true after its disk is gone.
            let length = self.rng.between(2, 5) * SECOND;
            return self.power_loss(index, length);
        }
        self.replace_folder(index);
        true
    }

    /// Gives a machine an empty folder, as an operator does after a loss.
    pub(crate) fn replace_folder(&mut self, index: usize) {
        let folder = FolderId(u128::from(self.rng.bits()));
        let forged = self.bug == Some(Bug::WipedNodeVotes);
        let machine = &mut self.machines[index];
        let (same, starts, memory) = (machine.disk.folder(), machine.disk.starts, memory_of(&machine.disk));
        let seed = self.rng.bits();
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
    fn roll_back(&mut self, index: usize) -> bool {
        if self.machines[index].image.is_none() {
            let seed = self.rng.bits();
            let disk = self.machines[index].disk.image(seed);
            self.machines[index].image = Some(Box::new(disk));
        }
        let Some(image) = &self.machines[index].image else { return false };
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
            return false;
        }
        let length = self.rng.between(2, 4) * SECOND;
        self.power_loss(index, length);
        let machine = &mut self.machines[index];
        if let Some(image) = machine.image.take() {
            machine.disk = *image;
            machine.amnesiac = true;
        }
        true
    }

    /// Ends a fault.
    pub(crate) fn mend(&mut self, mend: Mend) {
        match mend {
            Mend::Path { link, direction } => self.uncut(link, direction),
            Mend::Quality { link } => {
                for path in &mut self.network.links[link].paths {
                    path.delay = self.plan.delay;
                    path.loss_per_mille = self.plan.loss_per_mille;
                }
            }
            Mend::Disk { machine } => self.machines[machine].sync = self.plan.sync,
            Mend::Files { machine } => {
                let files = &self.machines[machine].disk.files;
                files.heal();
                files.set_capacity(1 << 40);
            }
            Mend::Clients { machine } => self.machines[machine].clients_cut = false,
        }
    }

    /// Ends all faults: everything is mended, goes on, or starts.
    pub(crate) fn mend_all(&mut self) {
        self.trace.line(self.now, format_args!("-- all faults end"));
        // A network on which the group can rest: loss and long tails alone would keep the tightest timers busy.
        let grace = self.plan.settings.timing.grace.min(Timing::FAST.grace).as_nanos() as u64;
        self.plan.loss_per_mille = 0;
        self.plan.delay = self.plan.delay.min(grace / 200);
        self.plan.sync = self.plan.sync.min(grace / 200);
        for link in 0..self.network.links.len() {
            self.mend(Mend::Quality { link });
            for direction in [0, 1] {
                self.mend(Mend::Path { link, direction });
            }
        }
        for machine in 0..self.machines.len() {
            self.mend(Mend::Disk { machine });
            self.mend(Mend::Clients { machine });
            self.mend(Mend::Files { machine });
            self.machines[machine].disk_stalled_until = 0;
            if self.machines[machine].paused_until.is_some() {
                self.machines[machine].paused_until = Some(self.now);
                let boot = self.machines[machine].process.as_ref().map_or(0, |process| process.boot);
                self.after(0, Event::Resume { machine, boot });
            }
            if self.machines[machine].process.is_none() {
                self.after(100 * MS, Event::Start { machine });
            }
        }
    }
}
