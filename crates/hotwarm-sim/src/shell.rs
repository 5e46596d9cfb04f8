//! The shell of a simulated node: feeds the core facts and carries out what it orders, as the node's runtime does.
//!
//! Like every shell it decides nothing about the protocol. It holds the log and the state machine, reports what is
//! durable, and never says so before it is (unless a planted bug makes it lie).

use crate::bugs::Bug;
use crate::clock::{MS, SECOND};
use crate::disk::{DeviceKind, Install, LogOp};
use crate::faults::FaultKind;
use crate::invariants::Fact;
use crate::log::Misfit;
use crate::machine::{Mode, Pin, Process, Stimulus, Told};
use crate::outcome::Kind;
use crate::store::Store;
use crate::world::{Event, World};
use hotwarm_core::{Config, FenceReason, Input, Message, Node, Note, Output, Recovered};
use hotwarm_types::{Block, EntryId, GroupId, Incarnation, Lsn, NodeId, StreamId, Token};
use std::collections::{BTreeMap, VecDeque};

impl World {
    // --- Processes.

    /// Starts a process on a machine that has none.
    pub(crate) fn start(&mut self, index: usize) {
        if self.machines[index].process.is_some() || self.machines[index].fenced.is_some() {
            return;
        }
        let nonce = self.rng.bits();
        let seed = self.rng.bits();
        self.boots += 1;
        let machine = &mut self.machines[index];
        if self.bug != Some(Bug::IncarnationReused) || machine.disk.starts == 0 {
            machine.disk.starts += 1;
        }
        let nonce = if self.bug == Some(Bug::IncarnationReused) { index as u64 } else { nonce };
        let incarnation = Incarnation { start: machine.disk.starts, nonce };
        let disk = &machine.disk;
        // A folder that has voted belongs to a group that has run.
        let birth = disk.birth.clone().filter(|_| disk.vote.accepted.is_none() && disk.log.end() == EntryId::default());
        let recovered = Recovered {
            vote: disk.vote.clone(),
            log_floor: disk.log.floor,
            log_end: disk.log.end(),
            epochs: disk.log.epochs(),
            applied: disk.store.applied,
        };
        let config = Config {
            cluster: self.cluster,
            group: GroupId(1),
            name: machine.name.clone(),
            folder: machine.disk.folder,
            incarnation,
            seed,
            birth,
        };
        let now = machine.clock.at(self.now);
        machine.paused_until = None;
        machine.inbox.clear();
        machine.process = Some(Process {
            boot: self.boots,
            incarnation,
            node: Node::new(config, recovered, now),
            log: machine.disk.log.clone(),
            log_device: Default::default(),
            vote_device: Default::default(),
            store: machine.disk.store,
            executed: Store::default(),
            mode: Mode::Following(None),
            throttled: false,
            held: VecDeque::new(),
            batch: VecDeque::new(),
            batch_due: false,
            waiting: BTreeMap::new(),
            verifying: VecDeque::new(),
            requests: 0,
            known: None,
            told: BTreeMap::new(),
            pinned: BTreeMap::new(),
            receiving: None,
            timer_at: u64::MAX,
            fenced: None,
            lease_seen: 0,
        });
        let name = &self.machines[index].name;
        self.trace
            .line(self.now, format_args!("{name} starts as {incarnation}, log ends at {}", recovered_end(self, index)));
        self.judge(&Fact::Started { machine: index });
        let boot = self.boots;
        let wait = self.rng.below(200 * MS);
        self.after(wait, Event::Flush { machine: index, boot });
        let wait = self.rng.below(300 * MS);
        self.after(wait, Event::Join { machine: index, boot });
        self.feed(index, Input::WallClock { offset_ms: 1_700_000_000_000 });
    }

    /// Ends a process. Of its orders to the disk, a random prefix gets through.
    pub(crate) fn stop(&mut self, index: usize) {
        let machine = &mut self.machines[index];
        let Some(mut process) = machine.process.take() else { return };
        machine.paused_until = None;
        machine.inbox.clear();
        machine.down_since = self.now;
        let log_ops: Vec<_> = process.log_device.crash(&mut self.rng).collect();
        let votes: Vec<_> = process.vote_device.crash(&mut self.rng).collect();
        for op in log_ops {
            self.apply_to_disk(index, op);
        }
        let log = &mut self.machines[index].disk.log;
        if self.bug == Some(Bug::TailDropped)
            && let Some(last) = log.block_at(log.end().lsn).map(|block| block.first.prev())
        {
            // The block was whole, so that the cut cannot fail.
            let _ = log.cut(last);
        }
        for vote in votes {
            self.write_vote(index, vote);
        }
        let name = &self.machines[index].name;
        self.trace.line(self.now, format_args!("{name} ends, log ends at {}", recovered_end(self, index)));
        self.judge(&Fact::Stopped);
    }

    /// A process takes something, at once or when it is no longer stopped.
    pub(crate) fn stimulate(&mut self, index: usize, boot: u64, stimulus: Stimulus) {
        let machine = &mut self.machines[index];
        if machine.process.as_ref().is_none_or(|process| process.boot != boot) {
            return;
        }
        if machine.paused_until.is_some() {
            machine.inbox.push_back(stimulus);
            return;
        }
        self.take(index, stimulus);
    }

    fn take(&mut self, index: usize, stimulus: Stimulus) {
        match stimulus {
            Stimulus::Fact(fact) => self.feed(index, fact),
            Stimulus::Timer => {
                let machine = &self.machines[index];
                let now = machine.clock.at(self.now);
                let due = machine.process.as_ref().and_then(|process| process.node.deadline());
                if let Some(process) = &mut self.machines[index].process {
                    process.timer_at = u64::MAX;
                }
                if due.is_some_and(|due| due <= now) {
                    self.feed(index, Input::Elapsed);
                } else {
                    self.set_timer(index);
                }
            }
            Stimulus::LinkUp { peer, id, incarnation, connection } => {
                self.take_link_up(index, peer, Told { connection, id, incarnation });
            }
            Stimulus::LinkDown { peer, connection } => self.take_link_down(index, peer, connection),
            Stimulus::Message { peer, connection, message } => self.take_message(index, peer, connection, message),
            Stimulus::Request(request) => self.take_request(index, request),
            Stimulus::Batch => self.execute_batch(index),
            Stimulus::Installed(install) => self.installed(index, *install),
            Stimulus::Flushed(applied) => {
                self.feed(index, Input::Applied { lsn: applied });
                self.trim(index);
            }
        }
    }

    /// A stopped process goes on: its timers or its sockets come first, as chance will have it.
    pub(crate) fn resume(&mut self, index: usize, boot: u64) {
        let machine = &mut self.machines[index];
        let same = machine.process.as_ref().is_some_and(|process| process.boot == boot);
        if !same || machine.paused_until.is_none_or(|until| until > self.now) {
            return;
        }
        machine.paused_until = None;
        let name = &machine.name;
        self.trace.line(self.now, format_args!("{name} goes on"));
        if self.rng.percent(50) {
            self.stimulate(index, boot, Stimulus::Timer);
        }
        let inbox = core::mem::take(&mut self.machines[index].inbox);
        for stimulus in inbox {
            self.stimulate(index, boot, stimulus);
        }
        self.stimulate(index, boot, Stimulus::Timer);
    }

    // --- The core.

    /// Gives the core one fact and carries out what it orders.
    pub(crate) fn feed(&mut self, index: usize, input: Input) {
        let Some(input) = self.distort_input(index, input) else { return };
        if self.violation.is_some() {
            return;
        }
        self.counts.steps += 1;
        self.trace.took(self.now, &self.machines[index].name, &input);
        self.judge(&Fact::Took { machine: index, input: &input });
        let machine = &mut self.machines[index];
        let now = machine.clock.at(self.now);
        let Some(process) = &mut machine.process else { return };
        let boot = process.boot;
        let mut outputs = core::mem::take(&mut self.outputs);
        process.node.step(now, input, &mut outputs);
        for output in outputs.drain(..) {
            let alive = self.machines[index].process.as_ref().is_some_and(|process| process.boot == boot);
            if alive && self.violation.is_none() {
                self.carry_out(index, output);
            }
        }
        self.outputs = outputs;
        self.judge(&Fact::Stepped);
        self.end_if_fenced(index);
        self.set_timer(index);
    }

    /// Schedules the timer that the core wants, with the slack of a real one.
    fn set_timer(&mut self, index: usize) {
        let machine = &mut self.machines[index];
        let Some(process) = &mut machine.process else { return };
        let Some(deadline) = process.node.deadline() else { return };
        let at = machine.clock.when(deadline).max(self.now + 1_000);
        if at < process.timer_at {
            let slack = self.rng.below(MS / 4);
            process.timer_at = at + slack;
            let boot = process.boot;
            self.schedule(at + slack, Event::Timer { machine: index, boot });
        }
    }

    /// A node that has fenced itself says nothing more: its process ends. A broken disk is replaced by a restart;
    /// anything else waits for the operator.
    fn end_if_fenced(&mut self, index: usize) {
        let Some(reason) = self.machines[index].process.as_ref().and_then(|process| process.fenced.clone()) else {
            return;
        };
        if matches!(reason, FenceReason::DivergedBelowCommit { .. }) {
            let what = format!("{} fenced itself: {reason:?}", self.machines[index].name);
            return self.fail(Kind::Safety, "INV-8", what);
        }
        self.end_process(index, true);
        if matches!(reason, FenceReason::Disk { .. }) {
            let wait = self.rng.between(100 * MS, 3 * SECOND);
            self.after(wait, Event::Start { machine: index });
        } else {
            self.machines[index].fenced = Some(reason);
        }
    }

    fn carry_out(&mut self, index: usize, output: Output) {
        let Some(output) = self.distort_output(index, output) else { return };
        self.trace.ordered(self.now, &self.machines[index].name, &output);
        self.judge(&Fact::Ordered { machine: index, output: &output });
        let Some(boot) = self.machines[index].process.as_ref().map(|process| process.boot) else { return };
        match output {
            Output::Send { to, message } => self.carry_out_send(index, to, message),
            Output::PersistVote { token, vote } => self.order_vote(index, boot, token, vote),
            Output::AppendLog { token, block } => self.order_append(index, token, block),
            Output::CutLog { token, last } => self.order_cut(index, token, last),
            Output::ReadLog { token, from, bytes_max } => {
                let blocks = self.process(index, |process| process.log.read(from, bytes_max)).unwrap_or_default();
                let wait = self.rng.latency(MS / 2);
                let fact = Box::new(Input::LogRead { token, blocks });
                self.after(wait, Event::Tell { machine: index, boot, fact });
            }
            Output::Commit { lsn } => self.commit(index, lsn),
            Output::Serve { epoch } => self.serve(index, epoch),
            Output::Hold => self.hold(index),
            Output::Follow { hot } => self.follow(index, hot),
            Output::Throttle { on } => self.throttle(index, on),
            Output::MakeSnapshot { to: _, stream } => self.make_snapshot(index, boot, stream),
            Output::SendSnapshot { to, stream } => self.send_snapshot(index, boot, to, stream),
            Output::DropSnapshot { stream } => {
                self.process(index, |process| process.pinned.remove(&stream));
            }
            Output::ReceiveSnapshot { from, stream, at } => {
                let from = self.machine_of(from);
                self.process(index, |process| process.receiving = from.map(|from| (from, stream, at)));
            }
            Output::Verified { upto, at } => self.verified(index, upto, at),
            Output::Answer { id, answer } => self.operator_answered(index, id, &answer),
            Output::StateChanged { state } => {
                self.learn_members(&state);
                self.process(index, |process| process.known = Some(state));
            }
            Output::Fence { reason } => {
                self.process(index, |process| process.fenced = Some(reason));
            }
            Output::Left => self.left(index),
            Output::Note(note) => self.note(index, boot, &note),
        }
    }

    /// Something of a machine's process, if it has one.
    pub(crate) fn process<T>(&mut self, index: usize, f: impl FnOnce(&mut Process) -> T) -> Option<T> {
        self.machines[index].process.as_mut().map(f)
    }

    fn carry_out_send(&mut self, index: usize, to: NodeId, message: Message) {
        if let Message::Accept { state, .. } = &message
            && let Err(contradiction) = self.ledger.proposed(state)
        {
            return self.contradiction(contradiction);
        }
        self.send(index, to, message);
    }

    /// A process said goodbye and exits; somebody starts it again later.
    fn left(&mut self, index: usize) {
        self.end_process(index, true);
        let wait = self.rng.between(50 * MS, 4 * SECOND);
        self.after(wait, Event::Start { machine: index });
    }

    fn note(&mut self, index: usize, boot: u64, note: &Note) {
        let (name, delicate) = match note {
            Note::BecameHot { .. } => ("became_hot", true),
            Note::StoppedBeingHot { .. } => ("stopped_being_hot", true),
            Note::Follows { .. } => ("follows", false),
            Note::Stands { .. } => ("stands", true),
            Note::Defers { .. } => ("defers", false),
            Note::Shrunk { .. } => ("shrunk", true),
            Note::Grown { .. } => ("grown", true),
            Note::Cut { .. } => ("cut", true),
            Note::RefusedAmnesiac { .. } => ("refused_amnesiac", false),
            Note::LeaseLost => ("lease_lost", false),
            Note::LeaseHeld => ("lease_held", false),
            Note::DeathAttested { .. } => ("death_attested", false),
            Note::FullSync { .. } => ("full_sync", true),
        };
        *self.counts.notes.entry(name).or_default() += 1;
        if delicate && self.settle.faults_go_on() && self.rng.percent(self.plan.ambush_percent) {
            let kind = [FaultKind::CrashAttested, FaultKind::CrashUnattested, FaultKind::Pause, FaultKind::Isolate];
            let kind = kind[self.rng.index(kind.len())];
            let wait = self.rng.latency(2 * MS);
            self.after(wait, Event::Ambush { machine: index, boot, kind });
        }
    }

    // --- The disk.

    fn order_vote(&mut self, index: usize, boot: u64, token: Token, vote: hotwarm_core::register::Vote) {
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

    fn order_append(&mut self, index: usize, token: Token, block: Block) {
        if self.id_of(index).is_none() {
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

    fn order_cut(&mut self, index: usize, token: Token, last: Lsn) {
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

    fn apply_to_disk(&mut self, index: usize, op: LogOp) {
        match self.machines[index].disk.apply(op) {
            Ok(()) => self.judge(&Fact::LogDurable),
            Err(misfit) => self.misfit(index, misfit),
        }
    }

    fn write_vote(&mut self, index: usize, mut vote: hotwarm_core::register::Vote) {
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

    fn chosen(&mut self, version: hotwarm_types::Version) {
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
    fn trim(&mut self, index: usize) {
        let kept = self.plan.log_kept;
        let machine = &mut self.machines[index];
        let Some(process) = &mut machine.process else { return };
        let habit = Lsn(process.log.end().lsn.0.saturating_sub(kept));
        let upto = machine.disk.store.applied.min(process.node.retain_after()).min(habit);
        process.log.trim(upto);
        machine.disk.log.trim(upto.min(machine.disk.log.end().lsn));
    }

    // --- Whole copies.

    fn make_snapshot(&mut self, index: usize, boot: u64, stream: StreamId) {
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

    fn send_snapshot(&mut self, index: usize, boot: u64, to: NodeId, stream: StreamId) {
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

    /// The last byte of a copy has been sent: if the connection held, the receiver now puts it in place.
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
            self.order_log(to.0, LogOp::Install(install), None);
        } else if pinned {
            self.stimulate(from.0, from.1, Stimulus::Fact(Input::SnapshotFailed { stream }));
        }
    }

    fn installed(&mut self, index: usize, install: Install) {
        let machine = &mut self.machines[index];
        let Some(process) = &mut machine.process else { return };
        process.log = machine.disk.log.clone();
        let before = process.store;
        process.store = machine.disk.store;
        if self.bug == Some(Bug::SnapshotHalf) {
            process.store.values = before.values;
        }
        self.judge(&Fact::Installed);
        self.feed(index, Input::SnapshotInstalled { stream: install.stream, at: install.at });
    }
}

fn recovered_end(world: &World, index: usize) -> EntryId {
    world.machines[index].disk.log.end()
}
