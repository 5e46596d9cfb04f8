//! The calls of this node's own clients, from their arrival to their end: numbered, put into the ledger, held within
//! bounds, given up when they have waited too long.

use super::follow::Forwarding;
use super::lane::LaneId;
use super::ledger::Open;
use super::work::{ClientCall, Task, Work};
use super::{Executor, Mode};
use crate::clock;
use crate::config::Reads;
use crate::resp::outbox::Outcome;
use hotwarm_resp::Reply;
use hotwarm_store::command::Call;
use hotwarm_types::Lsn;

impl Executor {
    /// Takes in calls of a client: numbers its writes, and puts them in the ledger.
    pub(super) fn calls(&mut self, client: u64, calls: Vec<ClientCall>) {
        for call in calls {
            self.call(client, call);
        }
    }

    pub(super) fn call(&mut self, client: u64, call: ClientCall) {
        let Some(entry) = self.outlet.clients.get_mut(&client) else { return };
        if let Some(reason) = &self.fenced {
            let reply = Reply::error(format!("MASTERDOWN this node has stopped serving: {reason}"));
            return self.outlet.deliver(client, call.slot, Outcome::Reply(reply), Lsn::ZERO);
        }
        if entry.lane_opening {
            entry.behind_lane.push(call);
            return;
        }
        let held = match self.mode {
            Mode::Serving(_) => false,
            Mode::Following(Some(hot)) => !self.links.contains(&hot.node),
            Mode::Holding | Mode::Following(None) => true,
        };
        if held && !self.ledger.has_room(&self.setting.hold, call.task.size_bytes()) {
            self.setting.metrics.hold_refused.inc();
            return self.outlet.deliver(client, call.slot, Outcome::Reply(too_many_held()), Lsn::ZERO);
        }
        self.setting.metrics.held.add(u64::from(held));
        let ClientCall { slot, task } = call;
        match task {
            Task::Read { call, anywhere } => {
                self.setting.metrics.reads.inc();
                if !self.read_here(client, slot, &call, anywhere) {
                    let verify =
                        self.outlet.clients.get(&client).is_some_and(|entry| entry.front.reads() == Reads::Verified);
                    self.open(client, slot, Work::Read { call, verify });
                }
            }
            Task::Write(call) => {
                self.setting.metrics.writes.inc();
                self.write(client, slot, call);
            }
            Task::Session { session, resume } => {
                self.open(client, slot, Work::Session { session, resume, lane: None });
            }
        }
    }

    /// Gives a write its identity, unless the client did.
    pub(super) fn write(&mut self, client: u64, slot: u64, call: Call) {
        if let Some(identity) = call.identity() {
            return self.open(client, slot, Work::Write { call, identity, lane: None });
        }
        let Some(entry) = self.outlet.clients.get_mut(&client) else { return };
        let lane = *entry.lane.get_or_insert_with(|| self.lanes.take());
        if self.lanes.needs_opening(lane, self.now) {
            entry.lane_opening = true;
            entry.behind_lane.push(ClientCall { slot, task: Task::Write(call) });
            let session = self.lanes.session(lane);
            return self.open(client, slot, Work::Session { session, resume: false, lane: Some(lane) });
        }
        let identity = self.lanes.number(lane, self.now);
        self.open(client, slot, Work::Write { call, identity, lane: Some(lane) });
    }

    pub(super) fn open(&mut self, client: u64, slot: u64, work: Work) {
        if let Some(entry) = self.outlet.clients.get_mut(&client) {
            entry.open_count += 1;
        }
        let size_bytes = work.size_bytes();
        let arrived = self.now;
        self.ledger.open(Open { client, slot, call: work, arrived, size_bytes, maybe_done: false });
    }

    /// Ends an open call of this node's clients; a second end changes nothing.
    pub(super) fn end(&mut self, seq: u64, outcome: Outcome, seen: Lsn) {
        let Some(open) = self.ledger.close(seq) else { return };
        let client = open.client;
        if let Some(entry) = self.outlet.clients.get_mut(&client) {
            entry.open_count -= 1;
        }
        if open.call.writes() {
            self.setting.metrics.write_time.observe(clock::now().since(open.arrived));
        }
        match open.call {
            Work::Session { lane: Some(lane), .. } => return self.lane_opened(client, lane, &outcome),
            Work::Write { lane: Some(lane), .. } => {
                if outcome == Outcome::Unknown {
                    self.lanes.lose(lane);
                }
                self.lanes.answered(lane);
            }
            Work::Write { lane: None, .. } | Work::Session { lane: None, .. } | Work::Read { .. } => {}
        }
        self.outlet.deliver(client, open.slot, outcome, seen);
    }

    /// The group holds a lane's session open, or it could not be asked in time.
    pub(super) fn lane_opened(&mut self, client: u64, lane: LaneId, outcome: &Outcome) {
        let opened = matches!(outcome, Outcome::Reply(reply) if !reply.is_error());
        if opened {
            self.lanes.opened(lane, self.now);
        }
        let Some(entry) = self.outlet.clients.get_mut(&client) else { return };
        entry.lane_opening = false;
        let behind = std::mem::take(&mut entry.behind_lane);
        if opened {
            return self.calls(client, behind);
        }
        // None of them has been handed to anybody.
        let waited_for = held_too_long(self.setting.board.serves());
        for call in behind {
            self.outlet.deliver(client, call.slot, Outcome::Reply(waited_for.clone()), Lsn::ZERO);
        }
    }

    pub(super) fn closed(&mut self, client: u64) {
        for open in self.ledger.abandon(client) {
            if let Work::Write { lane: Some(lane), .. } = open.call {
                self.lanes.answered(lane);
            }
        }
        if let Some(lane) = self.outlet.clients.remove(&client).and_then(|entry| entry.lane) {
            self.lanes.give_back(lane);
        }
    }

    /// Ends calls that have waited longer than a hold may last.
    pub(super) fn expire(&mut self) {
        while let Some((seq, arrived)) = self.ledger.oldest() {
            if arrived + self.setting.hold.time_max > self.now {
                break;
            }
            self.give_up(seq, held_too_long(self.setting.board.serves()));
        }
        if self.forwarding.resend_at.is_some_and(|at| at <= self.now) {
            self.hold_all();
        }
        self.forwarding.go_on_at.take_if(|at| *at <= self.now);
    }

    /// Ends a call without its reply: with `error` if surely nothing has been carried out, else as unknown (R34).
    pub(super) fn give_up(&mut self, seq: u64, error: Reply) {
        let maybe_done = self.ledger.find(seq).is_some_and(|open| open.maybe_done);
        self.setting.metrics.hold_refused.inc();
        self.end(seq, if maybe_done { Outcome::Unknown } else { Outcome::Reply(error) }, Lsn::ZERO);
    }

    pub(super) fn give_up_all(&mut self) {
        while let Some((seq, _)) = self.ledger.oldest() {
            self.give_up(seq, Reply::error("MASTERDOWN this node has stopped serving; connect to another"));
        }
    }

    /// All open calls are to be handed over again.
    pub(super) fn hold_all(&mut self) {
        self.ledger.hold_all();
        self.forwarding = Forwarding { round: self.forwarding.round + 1, ..Forwarding::default() };
    }
}

/// No hot, and too many calls wait for one already.
fn too_many_held() -> Reply {
    Reply::error("TRYAGAIN no node is hot at the moment, and too many commands wait for one; nothing was executed")
}

/// Longer than a hold may last: there was no hot, or, where this node is the hot and serves, those whose word it needs did
/// not answer (R9, R12).
fn held_too_long(serves: bool) -> Reply {
    Reply::error(if serves {
        "NOREPLICAS nodes in sync do not answer, and cannot be left out: see status for who is missing; the command was not \
         executed"
    } else {
        "TRYAGAIN no node became hot in time; the command was not executed"
    })
}
