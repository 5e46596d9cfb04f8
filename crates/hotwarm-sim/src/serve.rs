//! How a simulated node executes requests: the part of the shell that a front and a store are in production.
//!
//! Writes are executed against everything in the log, become effects with a position each, and are answered when the
//! core says that the position is committed. Reads are answered from the committed state, under the lease or after a
//! verified round (R19), never from what is not committed (INV-7).

use crate::bugs::Bug;
use crate::clock::{MS, SECOND};
use crate::invariants::Fact;
use crate::machine::{Mode, Waiter};
use crate::store::{self, Effect};
use crate::workload::{Reply, Request, What};
use crate::world::{Event, World};
use hotwarm_core::Input;
use hotwarm_types::{BlockKind, Lsn, Reign, RequestId, Tenure};

/// Requests that a node holds at most.
const HELD_MAX: usize = 64;

impl World {
    /// A request reaches a machine: if no process runs, the client learns it at once or never.
    pub(crate) fn request_arrives(&mut self, index: usize, request: Request) {
        match &self.machines[index].process {
            Some(process) => {
                let boot = process.boot;
                self.stimulate(index, boot, crate::machine::Stimulus::Request(request));
            }
            None if self.rng.percent(50) => self.send_reply(index, request.client, request.seq, Reply::Moved(None)),
            None => {}
        }
    }

    pub(crate) fn take_request(&mut self, index: usize, request: Request) {
        let Some(process) = &self.machines[index].process else { return };
        match (process.mode, request.what) {
            (Mode::Following(_), _) => self.send_on(index, request),
            (Mode::Holding, _) => self.hold_request(index, request),
            (Mode::Serving(_), What::Write(_)) if process.throttled => self.hold_request(index, request),
            (Mode::Serving(_), What::Write(_)) => {
                self.process(index, |process| process.batch.push_back(request));
                self.batch_soon(index);
            }
            (Mode::Serving(_), What::Read { key, verified }) => self.read(index, request, key, verified),
        }
    }

    /// Sends a client to whoever reigns, as far as this node knows.
    fn send_on(&mut self, index: usize, request: Request) {
        let mode = self.machines[index].process.as_ref().map(|process| process.mode);
        let hot = match mode {
            Some(Mode::Following(hot)) => hot.and_then(|reign| self.machine_of(reign.node)),
            Some(Mode::Serving(_) | Mode::Holding) | None => None,
        };
        self.send_reply(index, request.client, request.seq, Reply::Moved(hot.filter(|hot| *hot != index)));
    }

    fn hold_request(&mut self, index: usize, request: Request) {
        let full = self.machines[index].process.as_ref().is_none_or(|process| process.held.len() >= HELD_MAX);
        if full {
            return self.send_reply(index, request.client, request.seq, Reply::Moved(None));
        }
        self.process(index, |process| process.held.push_back(request));
    }

    /// Lets what has gathered be executed within a millisecond.
    fn batch_soon(&mut self, index: usize) {
        let wait = self.rng.below(MS);
        let due = self.process(index, |process| {
            let first = !process.batch_due && !process.batch.is_empty();
            process.batch_due |= first;
            first.then_some(process.boot)
        });
        if let Some(Some(boot)) = due {
            self.after(wait, Event::Batch { machine: index, boot });
        }
    }

    // --- Reads.

    fn read(&mut self, index: usize, request: Request, key: u8, verified: bool) {
        let machine = &mut self.machines[index];
        let now = machine.clock.at(self.now);
        let Some(process) = &mut machine.process else { return };
        // The clock is read after the request has arrived, and the answer is used at once (R15).
        let mut holds = process.node.lease_holds(now);
        if holds {
            process.lease_seen = now.0;
        }
        holds |= self.bug == Some(Bug::LeaseCached) && now.0 < process.lease_seen + 5 * SECOND;
        if !verified && holds {
            return self.answer_read(index, request, key);
        }
        let id = process.next_request();
        process.verifying.push_back((id, request));
        self.feed(index, Input::VerifyAsked { id });
    }

    fn answer_read(&mut self, index: usize, request: Request, key: u8) {
        let Some(process) = &self.machines[index].process else { return };
        let uncommitted = self.bug == Some(Bug::UncommittedRead);
        let state = if uncommitted { process.executed } else { process.store };
        self.judge(&Fact::Answered { machine: index, at: state.applied, value: state.values[usize::from(key)], key });
        self.send_reply(index, request.client, request.seq, Reply::Done(state.values[usize::from(key)]));
    }

    /// A round is over: its reads are answered at the commit position, or sent on.
    pub(crate) fn verified(&mut self, index: usize, upto: RequestId, at: Option<Lsn>) {
        loop {
            let next = self.process(index, |process| match process.verifying.front() {
                Some((id, _)) if *id <= upto => process.verifying.pop_front(),
                Some(_) | None => None,
            });
            let Some(Some((_, request))) = next else { return };
            let applied = self.machines[index].process.as_ref().map_or(Lsn::ZERO, |process| process.store.applied);
            match (at, request.what) {
                (Some(at), What::Read { key, .. }) if at <= applied => self.answer_read(index, request, key),
                (Some(at), What::Read { .. }) => {
                    let what = format!("a read is verified at {at}, past the commit position {applied}");
                    return self.fail(crate::outcome::Kind::Safety, "INV-7", what);
                }
                (None, _) | (_, What::Write(_)) => self.send_on(index, request),
            }
        }
    }

    // --- Writes.

    pub(crate) fn execute_batch(&mut self, index: usize) {
        let Some(process) = &mut self.machines[index].process else { return };
        process.batch_due = false;
        let batch: Vec<_> = process.batch.drain(..).collect();
        let tenure = match process.mode {
            Mode::Serving(tenure) if !process.throttled => tenure,
            Mode::Serving(_) | Mode::Holding | Mode::Following(_) => {
                for request in batch {
                    self.take_request(index, request);
                }
                return;
            }
        };
        let before = process.executed;
        let first = process.log.end().lsn.next();
        let mut effects = Vec::new();
        let mut waiters = Vec::new();
        for request in batch {
            if let Some((lsn, effect)) = self.execute(index, request, first.plus(effects.len() as u64)) {
                effects.push(effect);
                waiters.push((lsn, Waiter { client: request.client, seq: request.seq, value: effect.value }));
            }
        }
        if !effects.is_empty() {
            self.propose(index, tenure, before, first, &effects, &waiters);
        }
    }

    /// Executes one write, unless its session shows that it has been executed before (R34).
    fn execute(&mut self, index: usize, request: Request, lsn: Lsn) -> Option<(Lsn, Effect)> {
        let What::Write(command) = request.what else { return None };
        let process = self.machines[index].process.as_mut()?;
        let session = process.executed.sessions[request.client];
        if request.seq > session.seq {
            let effect = process.executed.execute(request.client as u32, request.seq, command);
            process.executed.apply_effect(lsn, effect);
            return Some((lsn, effect));
        }
        if request.seq < session.seq {
            self.send_reply(index, request.client, request.seq, Reply::Unknown);
        } else if session.lsn <= process.store.applied {
            self.send_reply(index, request.client, request.seq, Reply::Done(session.reply));
        } else {
            // A duplicate of one that is not committed joins its wait.
            let waiter = Waiter { client: request.client, seq: request.seq, value: session.reply };
            process.waiting.entry(session.lsn).or_default().push(waiter);
        }
        None
    }

    /// Hands executed writes to the core. If it does not append them, they were never executed.
    fn propose(
        &mut self,
        index: usize,
        tenure: Tenure,
        before: crate::store::Store,
        first: Lsn,
        effects: &[Effect],
        waiters: &[(Lsn, Waiter)],
    ) {
        let stamp_ms = self.stamp_ms(index);
        let count = effects.len() as u64;
        for (lsn, waiter) in waiters {
            self.process(index, |process| process.waiting.entry(*lsn).or_default().push(*waiter));
            if self.bug == Some(Bug::ReplyBeforeCommit) {
                let at = *lsn;
                self.judge(&Fact::Acknowledged { machine: index, at, waiter });
                self.send_reply(index, waiter.client, waiter.seq, Reply::Done(waiter.value));
            }
        }
        let payload = store::encode(effects);
        let after = self.machines[index].process.as_ref().map_or(before, |process| process.executed);
        self.feed(index, Input::Proposed { tenure, first, count, stamp_ms, payload });
        let Some(process) = &mut self.machines[index].process else { return };
        let appended = process
            .log
            .block_at(first)
            .is_some_and(|block| block.epoch == tenure.epoch && block.first == first && block.kind == BlockKind::Data);
        if appended {
            return;
        }
        // Refused: the clients will ask again. A `Serve` or `Follow` in the same step has cleared all this already.
        if process.executed == after {
            process.executed = before;
            for (lsn, _) in waiters {
                process.waiting.remove(lsn);
            }
        }
    }

    /// Group time: the machine's wall clock, but never back behind the log (R35).
    fn stamp_ms(&self, index: usize) -> u64 {
        let machine = &self.machines[index];
        let wall = machine.clock.at(self.now).0 / MS;
        machine.process.as_ref().map_or(wall, |process| wall.max(process.executed.stamp_ms))
    }

    // --- What the core says.

    /// Applies what is committed, and answers whom it makes certain.
    pub(crate) fn commit(&mut self, index: usize, lsn: Lsn) {
        let reigns = self.machines[index].process.as_ref().and_then(|process| process.reigns());
        let Some(process) = &mut self.machines[index].process else { return };
        let blocks: Vec<_> = process.log.blocks_between(process.store.applied, lsn).cloned().collect();
        for block in blocks {
            if reigns.is_some() {
                match self.ledger.commit(&block) {
                    Ok(true) => self.judge(&Fact::Committed { machine: index, block: &block }),
                    Ok(false) => {}
                    Err(contradiction) => return self.contradiction(contradiction),
                }
            }
            let forget = self.bug == Some(Bug::SessionsNotReplicated) && reigns.is_none();
            let Some(process) = &mut self.machines[index].process else { return };
            let sessions = process.store.sessions;
            process.store.apply(&block);
            if forget {
                process.store.sessions = sessions;
            }
            self.judge(&Fact::Applied { machine: index, block: &block });
        }
        let Some(process) = &mut self.machines[index].process else { return };
        if process.store.applied < lsn {
            let end = process.log.end();
            let what = format!("{} commits {lsn} and holds {end}", self.machines[index].name);
            return self.fail(crate::outcome::Kind::Safety, "INV-7", what);
        }
        let later = process.waiting.split_off(&lsn.next());
        let ready = core::mem::replace(&mut process.waiting, later);
        for (at, waiters) in ready {
            for waiter in waiters {
                self.judge(&Fact::Acknowledged { machine: index, at, waiter: &waiter });
                self.send_reply(index, waiter.client, waiter.seq, Reply::Done(waiter.value));
            }
        }
    }

    /// This node reigns: execute, on top of everything in its log. The first time in a reign all of that is committed;
    /// after a `Hold` (a hand-over that came to nothing) its tail need not be.
    pub(crate) fn serve(&mut self, index: usize, tenure: Tenure) {
        self.judge(&Fact::Serves { machine: index, epoch: tenure.epoch });
        let Some(process) = &mut self.machines[index].process else { return };
        process.mode = Mode::Serving(tenure);
        process.executed = process.store;
        let tail = process.log.blocks_between(process.store.applied, process.log.end().lsn);
        tail.for_each(|block| process.executed.apply(block));
        process.throttled = false;
        self.release(index);
    }

    /// Takes everything held once more.
    fn release(&mut self, index: usize) {
        let held = self.process(index, |process| {
            let mut held: Vec<_> = process.held.drain(..).collect();
            held.extend(process.batch.drain(..));
            held
        });
        for request in held.into_iter().flatten() {
            match request.what {
                What::Write(_) => {
                    self.process(index, |process| process.batch.push_back(request));
                }
                // A read may feed the core, which is not to be entered while it is being obeyed.
                What::Read { .. } => self.after(1, Event::Request { machine: index, request }),
            }
        }
        self.batch_soon(index);
    }

    pub(crate) fn hold(&mut self, index: usize) {
        self.process(index, |process| {
            process.mode = Mode::Holding;
            let batch: Vec<_> = process.batch.drain(..).collect();
            process.held.extend(batch);
        });
    }

    /// This node is not hot: whoever waits here must ask elsewhere.
    pub(crate) fn follow(&mut self, index: usize, hot: Option<Reign>) {
        let Some(process) = &mut self.machines[index].process else { return };
        process.mode = Mode::Following(hot);
        process.throttled = false;
        let waiting = core::mem::take(&mut process.waiting);
        let mut asked: Vec<_> = process.held.drain(..).chain(process.batch.drain(..)).collect();
        asked.extend(process.verifying.drain(..).map(|(_, request)| request));
        for request in asked {
            self.send_on(index, request);
        }
        let to = hot.and_then(|reign| self.machine_of(reign.node)).filter(|to| *to != index);
        for waiter in waiting.into_values().flatten() {
            self.send_reply(index, waiter.client, waiter.seq, Reply::Moved(to));
        }
    }

    pub(crate) fn throttle(&mut self, index: usize, on: bool) {
        self.process(index, |process| process.throttled = on);
        if !on && matches!(self.machines[index].process.as_ref().map(|process| process.mode), Some(Mode::Serving(_))) {
            self.release(index);
        }
    }
}
