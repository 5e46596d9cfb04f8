//! The shell of a simulated node: feeds the core facts and carries out what it orders, as the node's runtime does.
//!
//! Like every shell it decides nothing about the protocol. What it does with the disk is in `storage`, with requests in
//! `serve`, with connections in `links`.

use crate::bugs::{Bug, distort_recovered};
use crate::clock::{MS, SECOND};
use crate::copies::GROUP;
use crate::devices::{LogDevice, VoteDevice};
use crate::disk::{Opened, Refused};
use crate::faults::FaultKind;
use crate::invariants::Fact;
use crate::machine::{Mode, Process, Stimulus, Told};
use crate::outcome::Kind;
use crate::serve::Serving;
use crate::world::{Event, NAMES, World};
use hotwarm_core::{Config, FenceReason, Input, Message, Node, Note, Output};
use hotwarm_disk::Crash;
use hotwarm_store::{Engine, GroupTime};
use hotwarm_types::{EntryId, Incarnation, NodeId};
use std::collections::BTreeMap;

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
        machine.disk.files.ignore_syncs(self.bug == Some(Bug::RecoveryUnsynced));
        let opened = machine.disk.open(nonce);
        machine.disk.files.ignore_syncs(false);
        let opened = match opened {
            Ok(opened) => opened,
            Err(refused) => return self.refused(index, refused),
        };
        let disk = &machine.disk;
        // A folder that has voted belongs to a group that has run.
        let used = opened.recovered.vote.accepted.is_some() || opened.recovered.log_end != EntryId::default();
        let birth = disk.birth.clone().filter(|_| !used);
        let mut incarnation = opened.incarnation;
        if self.bug == Some(Bug::IncarnationReused) {
            incarnation = Incarnation { start: 1, nonce: index as u64 };
        }
        let config = Config {
            cluster: self.cluster,
            group: GROUP,
            name: machine.name.clone(),
            folder: machine.disk.folder(),
            incarnation,
            seed,
            birth,
        };
        let now = machine.clock.at(self.now);
        machine.paused_until = None;
        machine.inbox.clear();
        let Opened { votes, log, state, recovered, written, .. } = opened;
        let recovered = distort_recovered(self.bug, recovered);
        machine.process = Some(Process {
            boot: self.boots,
            incarnation,
            node: Node::new(config, recovered, now),
            log: written,
            log_device: LogDevice::new(log),
            votes: VoteDevice::new(votes),
            feeder: state.feeder(),
            time: GroupTime::new(state.greatest_stamp_ms()),
            engine: Engine::new(state),
            space_is_short: false,
            mode: Mode::Holding,
            serving: Serving::default(),
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
        self.judge(&Fact::LogDurable);
        let vote = self.machines[index].disk.vote.clone();
        self.vote_is_durable(index, vote);
        if let Some(what) = self.state_differs(index) {
            self.fail(Kind::Safety, "INV-7", format!("{} starts with another state: {what}", NAMES[index]));
        }
        let boot = self.boots;
        let wait = self.rng.below(200 * MS);
        self.after(wait, Event::Flush { machine: index, boot });
        let wait = self.rng.below(300 * MS);
        self.after(wait, Event::Join { machine: index, boot });
        let offset_ms = self.machines[index].wall_offset_ms;
        self.feed(index, Input::WallClock { offset_ms });
    }

    /// A folder was not taken for a start.
    fn refused(&mut self, index: usize, refused: Refused) {
        let machine = &mut self.machines[index];
        self.trace.line(self.now, format_args!("{} does not start: {refused:?}", machine.name));
        match refused {
            Refused::Failed => {
                machine.disk.crash(Crash::Process);
                self.after(500 * MS, Event::Start { machine: index });
            }
            Refused::Broken(error) | Refused::Contradicts(error) if machine.disk.harmed => {
                machine.traffic.damage += 1;
                machine.fenced = Some(FenceReason::Disk { error });
            }
            Refused::Broken(error) => {
                let what = format!("{} refuses a folder that nobody harmed: {error}", machine.name);
                self.fail(Kind::Safety, "C29", what);
            }
            Refused::Contradicts(what) => {
                let what = format!("{}: {what}", machine.name);
                self.fail(Kind::Safety, "R11", what);
            }
        }
    }

    /// Ends a process, or the power of its machine. Of what its devices have begun, a first part is done.
    pub(crate) fn stop(&mut self, index: usize, crash: Crash) {
        let machine = &mut self.machines[index];
        let Some(mut process) = machine.process.take() else { return };
        machine.paused_until = None;
        machine.inbox.clear();
        machine.down_since = self.now;
        let files = &machine.disk.files;
        process.votes.die(files, &mut self.rng);
        let cut = process.log_device.die(files, &mut self.rng);
        machine.disk.cut_begun = cut.into_iter().chain(machine.disk.cut_begun).min();
        machine.disk.crash(crash);
        if self.bug == Some(Bug::TailDropped) {
            machine.disk.drop_tail();
        }
        let name = &self.machines[index].name;
        self.trace.line(self.now, format_args!("{name} ends ({crash:?}), log ends at {}", recovered_end(self, index)));
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
            Stimulus::Message { peer, connection, frame } => self.take_message(index, peer, connection, &frame),
            Stimulus::Request(request) => self.take_request(index, request),
            Stimulus::Turn => self.turn(index),
            Stimulus::Received { from, copy } => self.received(index, from, &copy),
            Stimulus::Installed(install) => self.installed(index, &install),
            Stimulus::Flushed(applied) => {
                self.feed(index, Input::Applied { lsn: applied });
                self.trim(index, applied);
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
        if self.bug == Some(Bug::ClockStopsInPause) {
            machine.clock = machine.clock.set(self.now, machine.paused_at.0);
        }
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
        self.machines[index].traffic.readings += 1;
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
    pub(crate) fn set_timer(&mut self, index: usize) {
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
            Output::PersistVote { token, vote } => self.order_vote(index, token, vote),
            Output::AppendLog { token, block } => self.order_append(index, token, block),
            Output::CutLog { token, last } => self.order_cut(index, token, last),
            Output::ReadLog { token, from, bytes_max } => {
                let read = self.process(index, |process| process.log_device.log.reader().read(from, bytes_max));
                let fact = match read {
                    Some(Ok(blocks)) => Input::LogRead { token, blocks },
                    Some(Err(error)) => {
                        self.machines[index].traffic.damage += 1;
                        Input::PersistFailed { token, error: error.to_string() }
                    }
                    None => return,
                };
                let wait = self.rng.latency(MS / 2);
                self.after(wait, Event::Tell { machine: index, boot, fact: Box::new(fact) });
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
