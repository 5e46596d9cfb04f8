//! What a node's shell orders of its disk: log and vote record, the state machine's own writes, whole copies.
//!
//! An order is done when its device says so, and only then is it reported (unless a planted bug lies). The judges see
//! the platter at that moment.

use crate::bugs::Bug;
use crate::clock::MS;
use crate::disk::{DeviceKind, Install, LogOp};
use crate::invariants::Fact;
use crate::log::Misfit;
use crate::machine::{Pin, Stimulus};
use crate::outcome::Kind;
use crate::store::Store;
use crate::world::{Event, World};
use hotwarm_core::Input;
use hotwarm_core::register::Vote;
use hotwarm_types::{Block, EntryId, Lsn, NodeId, StreamId, Token, Version};

impl World {
    pub(crate) fn order_vote(&mut self, index: usize, boot: u64, token: Token, vote: Vote) {
        if let Some((_, state)) = &vote.accepted
            && let Err(contradiction) = self.ledger.proposed(state)
        {
            return self.contradiction(contradiction);
        }
        let machine = &mut self.machines[index];
        let latency = self.rng.latency(machine.sync);
        let Some(process) = &mut machine.process else { return };
        let done = process.vote_device.order(vote, Some(token), self.now, machine.disk_stalled_until, latency);
        self.schedule(done, Event::Disk { machine: index, boot, device: DeviceKind::Vote });
        if self.bug == Some(Bug::VoteNotSynced) {
            self.after(1_000, Event::Tell { machine: index, boot, fact: Box::new(Input::Persisted { token }) });
        }
    }

    pub(crate) fn order_append(&mut self, index: usize, token: Token, block: Block) {
        if self.machines[index].process.as_ref().is_some_and(|process| process.node.id().is_none()) {
            return self.fail(Kind::Safety, "INV-1", format!("{} appends and is no member", self.machines[index].name));
        }
        let Some(process) = &mut self.machines[index].process else { return };
        let prev = process.log.end();
        match process.log.append(block.clone()) {
            Ok(()) => {}
            Err(misfit) => return self.misfit(index, misfit),
        }
        if self.ledger.appended(prev, &block) {
            self.judge(&Fact::Originated { machine: index, block: &block, prev });
        }
        self.order_log(index, LogOp::Append(block), Some(token));
    }

    pub(crate) fn order_cut(&mut self, index: usize, token: Token, last: Lsn) {
        let Some(process) = &mut self.machines[index].process else { return };
        let boot = process.boot;
        if self.bug == Some(Bug::TruncationSkipped) {
            return self.after(MS, Event::Tell { machine: index, boot, fact: Box::new(Input::Persisted { token }) });
        }
        match process.log.cut(last) {
            Ok(()) => self.order_log(index, LogOp::Cut(last), Some(token)),
            Err(misfit) => self.misfit(index, misfit),
        }
    }

    fn order_log(&mut self, index: usize, op: LogOp, token: Option<Token>) {
        let machine = &mut self.machines[index];
        let latency = self.rng.latency(machine.sync);
        let Some(process) = &mut machine.process else { return };
        let boot = process.boot;
        let done = process.log_device.order(op, token, self.now, machine.disk_stalled_until, latency);
        self.schedule(done, Event::Disk { machine: index, boot, device: DeviceKind::Log });
        if let (Some(Bug::AckBeforeSync), Some(token)) = (self.bug, token) {
            self.after(1_000, Event::Tell { machine: index, boot, fact: Box::new(Input::Persisted { token }) });
        }
    }

    fn misfit(&mut self, index: usize, misfit: Misfit) {
        let what = format!("{}: {}", self.machines[index].name, misfit.0);
        self.fail(Kind::Safety, "INV-8", what);
    }

    /// The first order of a device is done: the platter changes now, the process hears of it when it can.
    pub(crate) fn disk_done(&mut self, index: usize, boot: u64, device: DeviceKind) {
        let Some(process) = &mut self.machines[index].process else { return };
        if process.boot != boot {
            return;
        }
        let (token, fails) = match device {
            DeviceKind::Log => {
                let Some(pending) = process.log_device.finish() else { return };
                if !pending.fails {
                    let install = match &pending.op {
                        LogOp::Install(install) => Some(install.clone()),
                        LogOp::Append(_) | LogOp::Cut(_) => None,
                    };
                    self.apply_to_disk(index, pending.op);
                    if let Some(install) = install {
                        return self.stimulate(index, boot, Stimulus::Installed(install));
                    }
                }
                (pending.token, pending.fails)
            }
            DeviceKind::Vote => {
                let Some(pending) = process.vote_device.finish() else { return };
                if !pending.fails {
                    self.write_vote(index, pending.op);
                }
                (pending.token, pending.fails)
            }
        };
        // What the shell ordered itself (a whole copy) fails under no number.
        let token = match token {
            Some(token) => token,
            None if fails => Token(0),
            None => return,
        };
        let early = match device {
            DeviceKind::Log => self.bug == Some(Bug::AckBeforeSync),
            DeviceKind::Vote => self.bug == Some(Bug::VoteNotSynced),
        };
        if fails {
            let error = "input/output error".to_owned();
            self.stimulate(index, boot, Stimulus::Fact(Input::PersistFailed { token, error }));
        } else if !early {
            self.stimulate(index, boot, Stimulus::Fact(Input::Persisted { token }));
        }
    }

    pub(crate) fn apply_to_disk(&mut self, index: usize, op: LogOp) {
        match self.machines[index].disk.apply(op) {
            Ok(()) => self.judge(&Fact::LogDurable),
            Err(misfit) => self.misfit(index, misfit),
        }
    }

    pub(crate) fn write_vote(&mut self, index: usize, mut vote: Vote) {
        if self.bug == Some(Bug::EpochForgotten) {
            vote.epoch = self.machines[index].disk.vote.epoch;
        }
        self.machines[index].disk.vote = vote;
        self.judge(&Fact::VoteDurable { machine: index });
        let Some(id) = self.id_of(index) else { return };
        match self.ledger.voted(id, &self.machines[index].disk.vote) {
            Ok(versions) => {
                for version in versions {
                    self.chosen(version);
                }
            }
            Err(contradiction) => self.contradiction(contradiction),
        }
    }

    fn chosen(&mut self, version: Version) {
        let Some(state) = self.ledger.choices.at(version).cloned() else { return };
        self.trace.line(
            self.now,
            format_args!(
                "register: {version} is chosen: reign {}, in sync {:?}, members {:?}, {:?}",
                state.reign,
                state.in_sync,
                state.members.keys(),
                state.changes.back().map(|record| &record.kind),
            ),
        );
        self.learn_members(&state);
        self.judge(&Fact::Chosen { state: &state });
    }

    /// Writes the state machine out, every now and then.
    pub(crate) fn flush(&mut self, index: usize, boot: u64) {
        let Some(process) = self.machines[index].process.as_ref().filter(|process| process.boot == boot) else {
            return;
        };
        let store = Box::new(process.store);
        let wait = self.rng.latency(self.machines[index].sync) + MS;
        self.after(wait, Event::Flushed { machine: index, boot, store });
        let wait = self.rng.between(50, 400) * MS;
        self.after(wait, Event::Flush { machine: index, boot });
    }

    pub(crate) fn flushed(&mut self, index: usize, boot: u64, store: &Store) {
        let machine = &mut self.machines[index];
        let same = machine.process.as_ref().is_some_and(|process| process.boot == boot);
        if same && machine.disk.store.applied < store.applied {
            machine.disk.store = *store;
            self.stimulate(index, boot, Stimulus::Flushed(store.applied));
        }
    }

    /// Drops what neither recovery, nor a follower, nor habit still needs from the log's front.
    pub(crate) fn trim(&mut self, index: usize) {
        let kept = self.plan.log_kept;
        let machine = &mut self.machines[index];
        let Some(process) = &mut machine.process else { return };
        let habit = Lsn(process.log.end().lsn.0.saturating_sub(kept));
        let upto = machine.disk.store.applied.min(process.node.retain_after()).min(habit);
        process.log.trim(upto);
        machine.disk.log.trim(upto.min(machine.disk.log.end().lsn));
    }

    pub(crate) fn make_snapshot(&mut self, index: usize, boot: u64, stream: StreamId) {
        let wait = self.rng.latency(4 * MS);
        let Some(process) = &mut self.machines[index].process else { return };
        let lsn = process.store.applied;
        let Some(epoch) = process.log.epoch_at(lsn) else {
            let what = format!("{}: the state at {lsn} lies outside the log", self.machines[index].name);
            return self.fail(Kind::Safety, "INV-8", what);
        };
        let at = EntryId { epoch, lsn };
        let install = Install { stream, at, epochs: process.log.epochs_upto(lsn), store: process.store };
        process.pinned.insert(stream, Pin { install });
        let fact =
            if self.rng.percent(3) { Input::SnapshotFailed { stream } } else { Input::SnapshotMade { stream, at } };
        self.after(wait, Event::Tell { machine: index, boot, fact: Box::new(fact) });
    }

    pub(crate) fn send_snapshot(&mut self, index: usize, boot: u64, to: NodeId, stream: StreamId) {
        let wait = self.rng.latency(20 * MS);
        let peer = self.machine_of(to).filter(|peer| *peer != index);
        let pin = self.machines[index].process.as_ref().and_then(|process| process.pinned.get(&stream)).cloned();
        let started = peer.and_then(|peer| {
            let link = self.network.between(index, peer);
            let connection = self.network.links[link].connection.as_ref()?;
            let peer_boot = self.machines[peer].process.as_ref()?.boot;
            Some((peer, peer_boot, link, connection.id))
        });
        match (started, pin) {
            (Some((peer, peer_boot, link, connection)), Some(pin)) => {
                let install = Box::new(pin.install);
                let (from, to) = ((index, boot), (peer, peer_boot));
                self.after(wait, Event::Transferred { from, to, link, connection, install });
            }
            _ => {
                let fact = Box::new(Input::SnapshotFailed { stream });
                self.after(wait, Event::Tell { machine: index, boot, fact });
            }
        }
    }

    /// The last byte of a copy has been sent: if the connection held, the receiver makes it durable, which takes a while.
    pub(crate) fn transferred(
        &mut self,
        from: (usize, u64),
        to: (usize, u64),
        link: usize,
        connection: u64,
        install: Box<Install>,
    ) {
        let stands = self.network.links[link].connection.as_ref().is_some_and(|standing| standing.id == connection);
        let slow = !self.network.links[link].is_open() || self.machines[to.0].paused_until.is_some();
        if stands && slow {
            return self.after(50 * MS, Event::Transferred { from, to, link, connection, install });
        }
        let stream = install.stream;
        let process = self.machines[to.0].process.as_ref().filter(|process| process.boot == to.1);
        let wanted = process
            .and_then(|process| process.receiving)
            .is_some_and(|(source, expected, _)| source == from.0 && expected == stream);
        let pinned = self.machines[from.0]
            .process
            .as_ref()
            .is_some_and(|process| process.boot == from.1 && process.pinned.contains_key(&stream));
        if stands && wanted && pinned {
            self.process(to.0, |process| process.receiving = None);
            let wait = self.rng.latency(300 * MS);
            self.after(wait, Event::Received { from, to, install });
        } else if pinned {
            self.stimulate(from.0, from.1, Stimulus::Fact(Input::SnapshotFailed { stream }));
        }
    }

    /// A copy is here whole. The core says whether it is installed.
    pub(crate) fn received(&mut self, index: usize, from: (usize, u64), install: Box<Install>) {
        let stream = install.stream;
        if self.bug == Some(Bug::SnapshotUnordered) {
            self.order_log(index, LogOp::Install(install.clone()), None);
        }
        self.process(index, |process| process.received = Some((from, install)));
        self.feed(index, Input::SnapshotReceived { stream });
    }

    /// The switch takes a while, too, and now and then it is not made.
    pub(crate) fn install(&mut self, index: usize, boot: u64, stream: StreamId) {
        let received = self.process(index, |process| process.received.take()).flatten();
        let wait = self.rng.latency(100 * MS);
        let Some((from, install)) = received.filter(|(_, install)| install.stream == stream) else {
            let what = format!("{} is to install what it does not have", self.machines[index].name);
            return self.fail(Kind::Safety, "R31", what);
        };
        if self.bug == Some(Bug::SnapshotUnordered) {
            let fact = Box::new(Input::SnapshotInstalled { stream, at: install.at });
            self.after(wait + 500 * MS, Event::Tell { machine: index, boot, fact });
        } else if self.rng.percent(10) {
            // The sender hears of it as well, if it is still there.
            for (machine, boot) in [(index, boot), from] {
                let fact = Box::new(Input::SnapshotFailed { stream });
                self.after(wait, Event::Tell { machine, boot, fact });
            }
        } else {
            self.after(wait, Event::Switch { machine: index, boot, install });
        }
    }

    pub(crate) fn switch(&mut self, index: usize, boot: u64, install: Box<Install>) {
        if self.machines[index].process.as_ref().is_some_and(|process| process.boot == boot) {
            self.order_log(index, LogOp::Install(install), None);
        }
    }

    pub(crate) fn installed(&mut self, index: usize, install: Install) {
        let machine = &mut self.machines[index];
        let Some(process) = &mut machine.process else { return };
        process.log = machine.disk.log.clone();
        let before = process.store;
        process.store = machine.disk.store;
        if self.bug == Some(Bug::SnapshotHalf) {
            process.store.values = before.values;
        }
        self.judge(&Fact::Installed);
        if self.bug == Some(Bug::SnapshotUnordered) {
            return;
        }
        self.feed(index, Input::SnapshotInstalled { stream: install.stream, at: install.at });
    }
}
