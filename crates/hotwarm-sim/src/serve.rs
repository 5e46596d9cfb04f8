//! Executing what clients ask for, and answering them: as the executing thread of a node does, one turn at a time.
//!
//! What may be answered, and when, is the store's [`Engine`](hotwarm_store::Engine): writes when they are committed, reads
//! under the lease or after a verified round (R19), never from what is not committed (INV-7). Here are the queues around it.

use crate::bugs::Bug;
use crate::clock::{MS, SECOND};
use crate::invariants::Fact;
use crate::ledger::{Contradiction, operations};
use crate::machine::{Mode, Stimulus};
use crate::outcome::Kind;
use crate::workload::{Command, Reply, Request, What, name_of};
use crate::world::{Event, World};
use hotwarm_core::Input;
use hotwarm_resp::Reply as Resp;
use hotwarm_store::effect::{self, Effect};
use hotwarm_store::keyspace::{Keyspace, Value};
use hotwarm_store::{Identity, Ran, Terms};
use hotwarm_types::{Block, BlockKind, Lsn, Payload, Reign, RequestId, Tenure, Token};
use std::collections::{BTreeMap, VecDeque};

/// Requests that a node holds at most.
const HELD_MAX: usize = 64;

/// Blocks proposed and not yet committed.
const PROPOSALS_MAX: usize = 2;

/// What happens at a commit.
#[derive(Clone, Debug)]
enum Then {
    /// The reply leaves.
    Tell(Resp),
    /// The reply is what the session remembers by then.
    Recall(Identity),
}

/// A reply that waits for a commit.
#[derive(Clone, Debug)]
struct Waiting {
    lsn: Lsn,
    request: Request,
    then: Then,
    /// Which state a read has seen.
    seen: Lsn,
}

/// What a node keeps of its clients' requests.
#[derive(Debug, Default)]
pub struct Serving {
    /// Requests that wait for their turn, numbered by arrival.
    queue: VecDeque<(u64, Request)>,
    arrivals: u64,
    /// A turn is on its way.
    turn_due: bool,
    /// Writes wait for room, by the core's word.
    throttled: bool,
    /// Replies, by ascending position.
    waiting: VecDeque<Waiting>,
    /// Last positions of blocks that were proposed and are not committed.
    in_flight: VecDeque<Lsn>,
    /// Positions below which a client must not be answered: its own writes.
    seen: BTreeMap<usize, Lsn>,
    /// A round of proof under way, and the number before which everything had arrived when it was asked for.
    round: Option<(RequestId, u64)>,
    /// Requests below this number are proven.
    proven: u64,
}

impl World {
    /// A request reaches a machine: if no process runs, the client learns it at once or never.
    pub(crate) fn request_arrives(&mut self, index: usize, request: Request) {
        match &self.machines[index].process {
            Some(process) => {
                let boot = process.boot;
                self.stimulate(index, boot, Stimulus::Request(request));
            }
            None if self.rng.percent(50) => self.send_reply(index, request, Reply::Moved(None)),
            None => {}
        }
    }

    pub(crate) fn take_request(&mut self, index: usize, request: Request) {
        let Some(process) = &mut self.machines[index].process else { return };
        match process.mode {
            Mode::Following(_) if self.bug == Some(Bug::ReadAtWarm) && matches!(request.what, What::Read { .. }) => {
                let Some(call) = request.what.call() else { return };
                let seen = process.committed();
                if let Ok(reply) = process.engine.read_local(&call) {
                    self.tell(index, request, &reply, seen);
                }
            }
            Mode::Following(_) => self.send_on(index, request),
            Mode::Holding | Mode::Serving(_) if process.serving.queue.len() >= HELD_MAX => {
                self.send_reply(index, request, Reply::Moved(None));
            }
            Mode::Holding | Mode::Serving(_) => {
                process.serving.arrivals += 1;
                let number = process.serving.arrivals;
                process.serving.queue.push_back((number, request));
                self.turn_soon(index, MS);
            }
        }
    }

    /// Sends a client to whoever reigns, as far as this node knows.
    fn send_on(&mut self, index: usize, request: Request) {
        let hot = match self.machines[index].process.as_ref().map(|process| process.mode) {
            Some(Mode::Following(hot)) => hot.and_then(|reign| self.machine_of(reign.node)),
            Some(Mode::Serving(_) | Mode::Holding) | None => None,
        };
        self.send_reply(index, request, Reply::Moved(hot.filter(|hot| *hot != index)));
    }

    /// Has what has gathered executed within a while.
    fn turn_soon(&mut self, index: usize, within: u64) {
        let wait = self.rng.below(within);
        let due = self.process(index, |process| {
            (!core::mem::replace(&mut process.serving.turn_due, true)).then_some(process.boot)
        });
        if let Some(Some(boot)) = due {
            self.after(wait, Event::Turn { machine: index, boot });
        }
    }

    /// Executes what waits, in order, until something needs proof or room; then proposes what came of it.
    pub(crate) fn turn(&mut self, index: usize) {
        let Some(process) = &mut self.machines[index].process else { return };
        process.serving.turn_due = false;
        let Mode::Serving(tenure) = process.mode else { return };
        let Some(terms) = self.terms(index) else { return };
        while let Some(Some((number, request))) = self.process(index, |process| process.serving.queue.pop_front()) {
            let Some(process) = &mut self.machines[index].process else { return };
            let serving = &process.serving;
            let seen = serving.seen.get(&request.client).copied().unwrap_or_default();
            let proven = number < serving.proven;
            let committed = process.committed();
            if self.bug == Some(Bug::UncommittedRead)
                && let What::Read { key, .. } = request.what
            {
                self.show_uncommitted(index, request, key, terms);
                continue;
            }
            let ran = match (request.what, request.what.call()) {
                (What::Read { verified, .. }, Some(call)) => process.engine.read(&call, verified, seen, proven, terms),
                (_, Some(call)) => {
                    let identity = match self.bug {
                        Some(Bug::RetriesRenumbered) => {
                            Identity { sequence: number << 32 | u64::from(request.seq), ..request.identity() }
                        }
                        Some(_) | None => request.identity(),
                    };
                    process.engine.write_once(&call, identity, proven, terms)
                }
                (_, None) => process.engine.open_session(request.session, false, proven, terms),
            };
            if !self.settle_request(index, (number, request), ran, seen.max(committed)) {
                break;
            }
        }
        self.propose(index, tenure);
    }

    /// What holds for this turn. The clock is read after everything in it has arrived (R15).
    fn terms(&mut self, index: usize) -> Option<Terms> {
        let machine = &mut self.machines[index];
        let now = machine.clock.at(self.now);
        let wall_ms = now.0 / MS + machine.wall_offset_ms;
        let process = machine.process.as_mut()?;
        let mut lease = process.node.lease_holds(now);
        if lease {
            process.lease_seen = now.0;
        }
        lease |= self.bug == Some(Bug::LeaseCached) && now.0 < process.lease_seen + 5 * SECOND;
        let now_ms = process.time.stamp(now, wall_ms);
        Some(Terms { now_ms, lease, room: !process.serving.throttled, space: !process.space_is_short })
    }

    /// The planted bug: what is executed is shown at once.
    fn show_uncommitted(&mut self, index: usize, request: Request, key: u8, terms: Terms) {
        let Some(process) = &mut self.machines[index].process else { return };
        let end = process.engine.state.end();
        let committed = process.committed();
        let mut view = process.engine.state.view_at_least(terms.now_ms, end);
        let reply = match view.get(name_of(key).as_bytes()).map(|entry| entry.value) {
            Some(Value::String(text)) => Resp::Bulk(text),
            None => Resp::Null,
        };
        self.tell(index, request, &reply, committed);
    }

    /// Acts on what came of an execution; false if nothing more can be executed in this turn. `seen` is the state that a
    /// read has looked at.
    fn settle_request(&mut self, index: usize, numbered: (u64, Request), ran: Ran, seen: Lsn) -> bool {
        let request = numbered.1;
        let committed = self.machines[index].process.as_ref().map_or(Lsn::ZERO, |process| process.committed());
        match ran {
            Ran::Now(Resp::Error(_)) => self.send_reply(index, request, Reply::Refused),
            Ran::Now(reply) => self.tell(index, request, &reply, seen),
            Ran::At(lsn, reply) if lsn <= committed => self.tell(index, request, &reply, seen),
            Ran::At(lsn, reply) => {
                if self.bug == Some(Bug::ReplyBeforeCommit) {
                    self.tell(index, request, &reply, seen);
                }
                self.wait(index, Waiting { lsn, request, then: Then::Tell(reply), seen });
            }
            Ran::Joined(lsn, identity) => {
                self.wait(index, Waiting { lsn, request, then: Then::Recall(identity), seen });
            }
            Ran::Unknown => self.send_reply(index, request, Reply::Unknown),
            Ran::NeedsProof => {
                self.process(index, |process| process.serving.queue.push_front(numbered));
                self.ask_for_proof(index);
                return false;
            }
            Ran::NeedsRoom => {
                self.process(index, |process| process.serving.queue.push_front(numbered));
                self.turn_soon(index, 20 * MS);
                return false;
            }
            Ran::Failed(error) => {
                let error = error.to_string();
                self.feed(index, Input::PersistFailed { token: Token(0), error });
                return false;
            }
        }
        true
    }

    fn wait(&mut self, index: usize, waiting: Waiting) {
        self.process(index, |process| {
            let serving = &mut process.serving;
            let seen = serving.seen.entry(waiting.request.client).or_default();
            *seen = waiting.lsn.max(*seen);
            let lsn = serving.waiting.back().map_or(waiting.lsn, |last| last.lsn.max(waiting.lsn));
            serving.waiting.push_back(Waiting { lsn, ..waiting });
        });
    }

    /// A reply leaves; the judges see it first.
    fn tell(&mut self, index: usize, request: Request, reply: &Resp, seen: Lsn) {
        match request.what {
            What::Open => {}
            // It changed nothing, so no session remembers it: what it reveals the oracle judges (R33).
            What::Write(Command::Claim { .. }) if *reply == Resp::Null => {}
            What::Write(_) => self.judge(&Fact::Acknowledged { machine: index, request: &request, reply }),
            What::Read { key, .. } => {
                let key = name_of(key);
                self.judge(&Fact::Answered { machine: index, at: seen, key: key.as_bytes(), reply });
            }
        }
        let reply = request.what.number(reply).map_or(Reply::Refused, Reply::Done);
        self.send_reply(index, request, reply);
    }

    /// One round at a time, for everything that has arrived by now.
    fn ask_for_proof(&mut self, index: usize) {
        let asked = self.process(index, |process| {
            if process.serving.round.is_some() {
                return None;
            }
            let id = process.next_request();
            process.serving.round = Some((id, process.serving.arrivals + 1));
            Some(id)
        });
        if let Some(Some(id)) = asked {
            self.feed(index, Input::VerifyAsked { id });
        }
    }

    /// A round is over.
    pub(crate) fn verified(&mut self, index: usize, upto: RequestId, at: Option<Lsn>) {
        let Some(process) = &mut self.machines[index].process else { return };
        let Some((_, before)) = process.serving.round.take_if(|(id, _)| *id <= upto) else { return };
        if let Some(at) = at {
            if at > process.committed() {
                let what = format!("reads are verified at {at}, past the commit position {}", process.committed());
                return self.fail(Kind::Safety, "INV-7", what);
            }
            process.serving.proven = before;
        }
        self.turn_soon(index, MS / 10);
    }

    fn propose(&mut self, index: usize, tenure: Tenure) {
        while let Some(Some(block)) = self.process(index, |process| {
            let room = process.serving.in_flight.len() < PROPOSALS_MAX && process.mode == Mode::Serving(tenure);
            if room { process.engine.state.take_block() } else { None }
        }) {
            let last = block.first.plus(block.count).prev();
            self.process(index, |process| process.serving.in_flight.push_back(last));
            let payload = Payload::new(&block.payload);
            let (first, count, stamp_ms) = (block.first, block.count, block.stamp_ms);
            self.feed(index, Input::Proposed { tenure, first, count, stamp_ms, payload });
        }
    }

    // --- What the core says.

    /// The log has appended a block: the state takes it up, not visible yet.
    pub(crate) fn stage(&mut self, index: usize, block: &Block) {
        let forgetful = self.bug == Some(Bug::SessionsNotReplicated)
            && self.machines[index].process.as_ref().is_some_and(|process| process.reigns().is_none());
        let without = if forgetful { without_sessions(block) } else { None };
        let now = self.machines[index].clock.at(self.now);
        let staged = self.process(index, |process| {
            process.time.observe(block.stamp_ms, now);
            process.engine.state.stage(without.as_ref().unwrap_or(block))
        });
        self.fits(index, staged);
        let hasty = self.bug == Some(Bug::UncommittedApplied)
            && self.machines[index].process.as_ref().is_some_and(|process| process.reigns().is_none());
        if hasty {
            let committed = self.process(index, |process| process.engine.state.commit(block.last));
            self.fits(index, committed);
        }
    }

    /// The log was cut: so is the tail of the state.
    pub(crate) fn truncate(&mut self, index: usize, last: Lsn) {
        self.take_back(index, last);
        let cut = self.process(index, |process| process.engine.state.truncate(last));
        self.fits(index, cut);
    }

    fn fits(&mut self, index: usize, done: Option<Result<(), hotwarm_store::ApplyError>>) {
        if let Some(Err(error)) = done {
            let what = format!("{}: log and state do not agree: {error}", self.machines[index].name);
            self.fail(Kind::Safety, "R32", what);
        }
    }

    /// Requests whose replies wait for positions after `last` are executed again, here or elsewhere.
    fn take_back(&mut self, index: usize, last: Lsn) {
        self.process(index, |process| {
            let serving = &mut process.serving;
            let kept = serving.waiting.partition_point(|waiting| waiting.lsn <= last);
            for waiting in serving.waiting.split_off(kept).into_iter().rev() {
                serving.queue.push_front((0, waiting.request));
            }
            // What was taken back has arrived before anything that will be proven.
            let mut number = serving.arrivals + 1;
            for (taken, _) in serving.queue.iter_mut().filter(|(taken, _)| *taken == 0) {
                *taken = number;
                number += 1;
            }
            serving.arrivals = number - 1;
        });
    }

    /// Applies what is committed, and answers whom it makes certain.
    pub(crate) fn commit(&mut self, index: usize, lsn: Lsn) {
        let reigns = self.machines[index].process.as_ref().and_then(|process| process.reigns());
        let Some(process) = &mut self.machines[index].process else { return };
        let blocks: Vec<_> = process.log.blocks_between(process.committed(), lsn).cloned().collect();
        for block in blocks {
            if reigns.is_some() {
                match self.ledger.commit(&block) {
                    Ok(true) => self.judge(&Fact::Committed { machine: index, block: &block }),
                    Ok(false) => {}
                    Err(contradiction) => return self.contradiction(contradiction),
                }
            }
            let committed = self.process(index, |process| process.engine.state.commit(block.last));
            self.fits(index, committed);
            let differs = match self.differs_after(index, &block) {
                Ok(differs) => differs,
                Err(contradiction) => return self.contradiction(contradiction),
            };
            self.judge(&Fact::Applied { machine: index, block: &block, differs: differs.as_deref() });
        }
        let Some(process) = &mut self.machines[index].process else { return };
        if process.committed() < lsn {
            let end = process.log.end();
            let what = format!("{} commits {lsn} and holds {end}", self.machines[index].name);
            return self.fail(Kind::Safety, "INV-7", what);
        }
        self.release(index);
    }

    /// Lets go of the replies that a commit has freed.
    fn release(&mut self, index: usize) {
        let Some(process) = &mut self.machines[index].process else { return };
        let committed = process.committed();
        while process.serving.in_flight.pop_front_if(|lsn| *lsn <= committed).is_some() {}
        let count = process.serving.waiting.partition_point(|waiting| waiting.lsn <= committed);
        let ready: Vec<_> = process.serving.waiting.drain(..count).collect();
        for Waiting { request, then, seen, .. } in ready {
            let reply = match then {
                Then::Tell(reply) => Some(reply),
                Then::Recall(identity) => self.process(index, |process| process.engine.remembered(identity)).flatten(),
            };
            match reply {
                Some(_) if self.bug == Some(Bug::ReplyBeforeCommit) => {}
                Some(reply) => self.tell(index, request, &reply, seen),
                None => self.send_reply(index, request, Reply::Unknown),
            }
        }
        self.turn_soon(index, MS / 10);
    }

    /// The first key that a block has written and that is not as the committed log says, if there is one.
    fn differs_after(&mut self, index: usize, block: &Block) -> Result<Option<String>, Contradiction> {
        let mut keys = Vec::new();
        for (_, operation) in operations(block)? {
            keys.extend(operation.effects.into_iter().filter_map(|effect| match effect {
                Effect::Put { key, .. } | Effect::Delete { key } => Some(key),
                Effect::Clear | Effect::SessionOpened { .. } | Effect::SessionExpired { .. } => None,
            }));
        }
        Ok(self.first_difference(index, keys.iter(), block.last))
    }

    /// The first of some keys that a node shows otherwise than the committed log does at its commit position `at`.
    fn first_difference<'a>(
        &mut self,
        index: usize,
        keys: impl Iterator<Item = &'a bytes::Bytes>,
        at: Lsn,
    ) -> Option<String> {
        let canon = &self.ledger.canon;
        let process = self.machines[index].process.as_mut()?;
        // No key has run out at time zero.
        let mut view = process.engine.state.committed_view(0);
        for key in keys {
            let held = view.get(key).map(|entry| entry.value);
            let held = held.as_ref().map(|Value::String(text)| text);
            let right = canon.value_at(key, at);
            if held != right {
                return Some(format!("{key:?} is {held:?} and should be {right:?}"));
            }
        }
        None
    }

    /// Whether a node's committed state is that of the committed log, key by key.
    pub(crate) fn state_differs(&mut self, index: usize) -> Option<String> {
        let at = self.machines[index].process.as_ref()?.committed();
        let keys: Vec<_> = self.ledger.canon.keys().cloned().collect();
        self.first_difference(index, keys.iter(), at)
    }

    /// This node reigns: execute, on top of everything in its log.
    pub(crate) fn serve(&mut self, index: usize, tenure: Tenure) {
        self.judge(&Fact::Serves { machine: index, epoch: tenure.epoch });
        self.leave_reign(index);
        let machine = &mut self.machines[index];
        let now = machine.clock.at(self.now);
        if let Some(process) = &mut machine.process {
            process.time.observe(process.engine.state.greatest_stamp_ms(), now);
            process.mode = Mode::Serving(tenure);
        }
        self.turn_soon(index, MS / 10);
    }

    /// Ends what was begun in an earlier reign: what did not get into the log never was, and every open request is
    /// executed again, under its identity.
    fn leave_reign(&mut self, index: usize) {
        if self.bug == Some(Bug::UnknownToldFailed) {
            let waiting = self.process(index, |process| core::mem::take(&mut process.serving.waiting));
            for waiting in waiting.into_iter().flatten() {
                self.send_reply(index, waiting.request, Reply::Refused);
            }
        }
        self.take_back(index, Lsn::ZERO);
        let dropped = self.process(index, |process| {
            let serving = &mut process.serving;
            serving.throttled = false;
            serving.in_flight.clear();
            serving.seen.clear();
            serving.round = None;
            serving.proven = 0;
            let end = process.log.end().lsn;
            process.engine.state.truncate(end)
        });
        self.fits(index, dropped);
    }

    pub(crate) fn hold(&mut self, index: usize) {
        self.process(index, |process| process.mode = Mode::Holding);
    }

    /// This node is not hot: whoever waits here must ask elsewhere.
    pub(crate) fn follow(&mut self, index: usize, hot: Option<Reign>) {
        self.leave_reign(index);
        let asked = self.process(index, |process| {
            process.mode = Mode::Following(hot);
            core::mem::take(&mut process.serving.queue)
        });
        for (_, request) in asked.into_iter().flatten() {
            self.send_on(index, request);
        }
    }

    pub(crate) fn throttle(&mut self, index: usize, on: bool) {
        self.process(index, |process| process.serving.throttled = on);
        if !on {
            self.turn_soon(index, MS);
        }
    }
}

/// A block as a node would stage it that keeps no sessions: for the planted bug.
fn without_sessions(block: &Block) -> Option<Block> {
    if block.kind == BlockKind::EpochStart {
        return None;
    }
    let mut payload = vec![effect::FORMAT_VERSION];
    for (_, operation) in operations(block).ok()? {
        let effects = operation.effects;
        effect::Operation { identity: None, effects, reply: None }.encode(&mut payload);
    }
    Some(Block { payload: Payload::new(&payload), ..block.clone() })
}
