//! The shell of a simulated node: feeds the core facts and carries out what it orders, as the node's runtime does.
//!
//! Like every shell it decides nothing about the protocol. What it does with the disk is in `storage`, with requests in
//! `serve`, with connections in `links`.

use crate::bugs::Bug;
use crate::clock::{MS, SECOND};
use crate::faults::FaultKind;
use crate::invariants::Fact;
use crate::machine::{Mode, Process, Stimulus, Told};
use crate::outcome::Kind;
use crate::store::Store;
use crate::world::{Event, World};
use hotwarm_core::{Config, FenceReason, Input, Message, Node, Note, Output, Recovered};
use hotwarm_types::{EntryId, GroupId, Incarnation, NodeId};
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
            met: BTreeMap::new(),
            told: BTreeMap::new(),
            pinned: BTreeMap::new(),
            receiving: None,
            received: None,
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
            Stimulus::Received { from, install } => self.received(index, from, install),
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
            Output::Serve { tenure } => {
                self.drill_served(tenure);
                self.serve(index, tenure);
            }
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
            Output::InstallSnapshot { stream, .. } => self.install(index, boot, stream),
            Output::Verified { upto, at } => self.verified(index, upto, at),
            Output::Answer { id, answer } => self.operator_answered(index, id, &answer),
            Output::StateChanged { state } => {
                self.learn_members(&state);
                self.process(index, |process| {
                    // Once admitted it is a member like any other.
                    process.met.retain(|_, met| state.members.values().all(|member| member.folder != met.folder));
                    process.known = Some(state);
                });
            }
            Output::Meet { newcomers } => self.meet(index, newcomers),
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
            Note::HandedOver { .. } => ("handed_over", true),
            Note::StoppedBeingHot { .. } => ("stopped_being_hot", true),
            Note::Follows { .. } => ("follows", false),
            Note::Stands { .. } => ("stands", true),
            Note::Defers { .. } => ("defers", false),
            Note::Shrunk { .. } => ("shrunk", true),
            Note::Grown { .. } => ("grown", true),
            Note::Cut { .. } => ("cut", true),
            Note::RefusedAmnesiac { .. } => ("refused_amnesiac", false),
            Note::NotAdmitted { .. } => ("not_admitted", false),
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
}

fn recovered_end(world: &World, index: usize) -> EntryId {
    world.machines[index].disk.log.end()
}
