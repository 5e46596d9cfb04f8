//! The thread that owns the data: executes calls while this node reigns, sends them on while another does, holds them
//! while nobody does, and releases their replies.
//!
//! ```text
//!   connections --calls--> ledger --+--> engine --blocks--> core --log, warms--> commit --+
//!   other nodes --calls--> queue ---+        (this node reigns)                           |
//!                             |                                                           v
//!                             +--> frames to the hot (another node reigns)      outlet: replies
//! ```
//!
//! Every write of a client carries an identity before it is handed to anybody, so that it can be handed over again
//! after any change of the hot and is still carried out once (INV-10). Which node reigns is the core's to say
//! (`Serve`, `Hold`, `Follow`); this thread decides nothing about it.
//!
//! One turn of the loop takes everything that waits, then reads the clock, then executes: so whatever a turn answers
//! had arrived before the clock was read, and one look at the lease serves the whole turn (C3).

pub mod forward;
pub mod lane;
pub mod ledger;

mod engine;
mod follow;
mod outlet;
mod serve;
mod work;

pub use ledger::HoldLimits;
pub use work::{ClientCall, Task};

use crate::board::Board;
use crate::clock;
use crate::config::Reads;
use crate::data_folder::stage_block;
use crate::event_loop::{Core, StateOrder};
use crate::feeder::FeedQueue;
use crate::metrics::Metrics;
use crate::queue::Queue;
use crate::resp::outbox::{Outbox, Outcome};
use crate::transport::Transport;
use bytes::Bytes;
use engine::Engine;
use forward::ForwardedOutcome;
use hotwarm_core::Input;
use hotwarm_resp::Reply;
use hotwarm_store::command::Call;
use hotwarm_store::{GroupTime, State};
use hotwarm_types::{Block, Epoch, Instant, Lsn, NodeId, Reign, Token};
use lane::{LaneId, Lanes};
use ledger::{Ledger, Open};
use outlet::{Client, Outlet};
use serve::Serving;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::oneshot;
use work::{Origin, Work};

/// What the thread is told.
#[derive(Debug)]
pub enum Job {
    /// An order of the core.
    Order(StateOrder),
    /// A client has connected.
    Opened {
        /// The connection, numbered once per process.
        client: u64,
        /// Where its replies go.
        outbox: Arc<Outbox>,
        /// Who may answer its reads.
        reads: Reads,
    },
    /// Calls of a client, in order.
    Calls {
        /// The connection.
        client: u64,
        /// The calls.
        calls: Vec<ClientCall>,
    },
    /// A client has gone.
    Closed {
        /// The connection.
        client: u64,
    },
    /// Calls that another node sends on.
    Forwarded {
        /// The node.
        from: NodeId,
        /// The encoded calls.
        payload: Bytes,
    },
    /// Replies to calls that this node sent on.
    ForwardReplies {
        /// Who sends them.
        from: NodeId,
        /// The encoded replies.
        payload: Bytes,
    },
    /// A connection to a member stands.
    LinkUp {
        /// The member.
        peer: NodeId,
    },
    /// The last one broke.
    LinkDown {
        /// The member.
        peer: NodeId,
    },
    /// A full sync has replaced the data.
    Installed {
        /// The new state.
        state: Box<State>,
        /// Told when the thread uses it.
        done: oneshot::Sender<()>,
    },
}

/// Whose commands this node executes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Nobody's.
    Holding,
    /// Its own, in this epoch.
    Serving(Epoch),
    /// Those go to this reign, if one is known.
    Following(Option<Reign>),
}

/// What the thread needs of the rest of the node.
#[derive(Debug)]
pub struct Setting {
    /// The core.
    pub core: Core,
    /// The transport.
    pub transport: Arc<Transport>,
    /// The thread that feeds the tree.
    pub feeder: FeedQueue,
    /// What is published.
    pub board: Arc<Board>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Bounds of what is held.
    pub hold: HoldLimits,
    /// Whether this node holds data at all; a witness only sends calls on.
    pub holds_data: bool,
    /// Drawn at random at each start: where the numbers of this process' sessions begin.
    pub session_base: u128,
}

/// See the module.
#[derive(Debug)]
pub struct Executor {
    setting: Setting,
    engine: Engine,
    time: GroupTime,
    mode: Mode,
    /// The end of the log that the state has been told of.
    log_end: Lsn,
    ledger: Ledger<Work>,
    lanes: Lanes,
    outlet: Outlet,
    serving: Serving,
    /// Members that can be reached.
    links: BTreeSet<NodeId>,
    /// How many calls are with the hot.
    sent_count: usize,
    /// When all open calls are sent again, because some were not served.
    resend_at: Option<Instant>,
    /// Why nothing is served any more.
    fenced: Option<String>,
    /// Read after everything that this turn works on had arrived.
    now: Instant,
}

impl Executor {
    /// A thread's worth of executor around a state in which the log has been staged up to its end.
    #[must_use]
    pub fn new(setting: Setting, state: State) -> Self {
        let outlet = Outlet::new(Arc::clone(&setting.transport));
        let lanes = Lanes::new(setting.session_base);
        let log_end = state.end();
        Self {
            setting,
            time: GroupTime::new(state.greatest_stamp_ms()),
            engine: Engine::new(state),
            mode: Mode::Holding,
            log_end,
            ledger: Ledger::default(),
            lanes,
            outlet,
            serving: Serving::default(),
            links: BTreeSet::new(),
            sent_count: 0,
            resend_at: None,
            fenced: None,
            now: clock::now(),
        }
    }

    /// Works until the queue is closed.
    pub fn run(mut self, jobs: &Queue<Job>) {
        let mut batch = Vec::new();
        while jobs.take(&mut batch, self.timeout()) {
            self.turn(&mut batch);
        }
    }

    /// Takes in what waited, then goes on with everything that can go on.
    fn turn(&mut self, batch: &mut Vec<Job>) {
        self.now = clock::now();
        for job in batch.drain(..) {
            self.take(job);
        }
        self.expire();
        match self.mode {
            Mode::Serving(epoch) => self.serve(epoch),
            Mode::Following(Some(hot)) => self.send_on(hot),
            Mode::Holding | Mode::Following(None) => {}
        }
        self.outlet.flush();
        self.publish();
    }

    /// How long to wait for the next job.
    fn timeout(&self) -> Option<Duration> {
        let expiry = self.ledger.oldest().map(|(_, arrived)| arrived + self.setting.hold.time_max);
        let due = [expiry, self.resend_at].into_iter().flatten().min()?;
        Some(due.since(clock::now()))
    }

    fn take(&mut self, job: Job) {
        match job {
            Job::Order(order) => self.obey(order),
            Job::Opened { client, outbox, reads } => {
                self.outlet.clients.insert(client, Client::new(outbox, reads));
            }
            Job::Calls { client, calls } => self.calls(client, calls),
            Job::Closed { client } => self.closed(client),
            Job::Forwarded { from, payload } => self.forwarded(from, payload),
            Job::ForwardReplies { from, payload } => self.replies(from, payload),
            Job::LinkUp { peer } => {
                self.links.insert(peer);
                if matches!(self.mode, Mode::Following(Some(hot)) if hot.node == peer) {
                    // What was on its way when the connection broke may be lost.
                    self.hold_all();
                }
            }
            Job::LinkDown { peer } => {
                self.links.remove(&peer);
            }
            Job::Installed { state, done } => {
                self.log_end = state.end();
                self.time = GroupTime::new(state.greatest_stamp_ms());
                self.engine = Engine::new(*state);
                // If nobody waits any more the node is stopping.
                let _ = done.send(());
            }
        }
    }

    fn obey(&mut self, order: StateOrder) {
        match order {
            StateOrder::Append(block) => self.append(&block),
            StateOrder::Cut(last) => {
                self.drop_waiting_after(last);
                self.log_end = self.log_end.min(last);
                let cut = self.engine.state.truncate(last);
                self.check(cut);
            }
            StateOrder::Commit(lsn) => {
                let committed = self.engine.state.commit(lsn);
                self.check(committed);
                self.release();
                self.setting.feeder.poke();
            }
            StateOrder::Serve(epoch) => {
                self.leave_reign();
                self.observe_time(self.engine.state.greatest_stamp_ms());
                self.mode = Mode::Serving(epoch);
                self.setting.board.publish_serves(true);
            }
            StateOrder::Hold => self.mode = Mode::Holding,
            StateOrder::Follow(hot) => {
                self.leave_reign();
                self.mode = Mode::Following(hot);
                if hot.is_some() {
                    self.refuse_remote();
                }
            }
            StateOrder::Throttle(on) => self.serving.throttled = on,
            StateOrder::Verified(upto, at) => self.verified(upto, at),
            StateOrder::Fence(reason) => {
                self.mode = Mode::Holding;
                self.setting.board.publish_serves(false);
                self.fenced = Some(reason);
                self.drop_waiting_after(Lsn::ZERO);
                self.refuse_remote();
                self.give_up_all();
            }
        }
        if !matches!(self.mode, Mode::Serving(_)) {
            self.setting.board.publish_serves(false);
        }
    }

    /// Ends what was begun in an earlier reign of this node: what did not get into the log never was, what did is for
    /// the next reign's log to say, and every open call is handed over again under its identity.
    fn leave_reign(&mut self) {
        self.drop_waiting_after(Lsn::ZERO);
        self.serving.forget();
        let dropped = self.engine.state.truncate(self.log_end);
        self.check(dropped);
        self.hold_all();
    }

    fn append(&mut self, block: &Block) {
        let staged = stage_block(&mut self.engine.state, block);
        self.check(staged);
        self.log_end = block.last;
        self.observe_time(block.stamp_ms);
    }

    /// Group time goes on from a stamp in the log; before the first one of a group there is none to go on from.
    fn observe_time(&mut self, stamp_ms: u64) {
        if stamp_ms > 0 {
            self.time.observe(stamp_ms, self.now);
        }
    }

    /// A log and a state that no longer agree are of no use: the core fences the node.
    fn check(&mut self, result: Result<(), hotwarm_store::ApplyError>) {
        if let Err(error) = result {
            self.fail(&crate::storage::chain(&error));
        }
    }

    fn fail(&mut self, error: &str) {
        tracing::error!(event = "store_failed", %error, "the store failed");
        self.mode = Mode::Holding;
        self.setting.core.tell(Input::PersistFailed { token: Token(0), error: error.to_owned() });
    }

    /// Takes in calls of a client: numbers its writes, and puts them in the ledger.
    fn calls(&mut self, client: u64, calls: Vec<ClientCall>) {
        for call in calls {
            self.call(client, call);
        }
    }

    fn call(&mut self, client: u64, call: ClientCall) {
        let Some(entry) = self.outlet.clients.get_mut(&client) else { return };
        if let Some(reason) = &self.fenced {
            let reply = Reply::error(format!("MASTERDOWN this node has stopped serving: {reason}"));
            return self.outlet.deliver(client, call.slot, Outcome::Reply(reply), Lsn::ZERO);
        }
        if entry.lane_opening {
            entry.behind_lane.push(call);
            return;
        }
        let held = matches!(self.mode, Mode::Holding | Mode::Following(None));
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
                    let verify = self.outlet.clients.get(&client).is_some_and(|entry| entry.reads == Reads::Verified);
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
    fn write(&mut self, client: u64, slot: u64, call: Call) {
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

    fn open(&mut self, client: u64, slot: u64, work: Work) {
        if let Some(entry) = self.outlet.clients.get_mut(&client) {
            entry.open_count += 1;
        }
        let size_bytes = work.size_bytes();
        let arrived = self.now;
        self.ledger.open(Open { client, slot, call: work, arrived, size_bytes, maybe_done: false });
    }

    /// Ends an open call of this node's clients; a second end changes nothing.
    fn end(&mut self, seq: u64, outcome: Outcome, seen: Lsn) {
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
            Work::Write { lane: Some(lane), .. } => self.lanes.answered(lane),
            Work::Write { lane: None, .. } | Work::Session { lane: None, .. } | Work::Read { .. } => {}
        }
        self.outlet.deliver(client, open.slot, outcome, seen);
    }

    /// The group holds a lane's session open, or it could not be asked in time.
    fn lane_opened(&mut self, client: u64, lane: LaneId, outcome: &Outcome) {
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
        for call in behind {
            self.outlet.deliver(client, call.slot, Outcome::Reply(held_too_long()), Lsn::ZERO);
        }
    }

    fn closed(&mut self, client: u64) {
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
    fn expire(&mut self) {
        while let Some((seq, arrived)) = self.ledger.oldest() {
            if arrived + self.setting.hold.time_max > self.now {
                break;
            }
            self.give_up(seq, held_too_long());
        }
        if self.resend_at.is_some_and(|at| at <= self.now) {
            self.hold_all();
        }
    }

    /// Ends a call without its reply: with `error` if surely nothing has been carried out, else as unknown (R34).
    fn give_up(&mut self, seq: u64, error: Reply) {
        let maybe_done = self.ledger.find(seq).is_some_and(|open| open.maybe_done);
        self.setting.metrics.hold_refused.inc();
        self.end(seq, if maybe_done { Outcome::Unknown } else { Outcome::Reply(error) }, Lsn::ZERO);
    }

    fn give_up_all(&mut self) {
        while let Some((seq, _)) = self.ledger.oldest() {
            self.give_up(seq, Reply::error("MASTERDOWN this node has stopped serving; connect to another"));
        }
    }

    /// All open calls are to be handed over again.
    fn hold_all(&mut self) {
        self.ledger.hold_all();
        self.sent_count = 0;
        self.resend_at = None;
    }

    /// Ends a call of whoever asked.
    fn tell(&mut self, origin: Origin, outcome: Outcome, seen: Lsn) {
        match (origin, outcome) {
            (Origin::Local { seq }, outcome) => self.end(seq, outcome, seen),
            (Origin::Remote { node, seq }, Outcome::Reply(reply)) => self.outlet.reply(node, seq, &reply, seen),
            (Origin::Remote { node, seq }, Outcome::Unknown) => {
                self.outlet.answer(node, seq, ForwardedOutcome::Unknown);
            }
        }
    }

    fn publish(&self) {
        let counts = &self.setting.board.counts;
        let open = self.ledger.count() as u64;
        let held = if matches!(self.mode, Mode::Holding | Mode::Following(None)) { open } else { 0 };
        counts.open_calls.store(open, Ordering::Relaxed);
        counts.held_calls.store(held, Ordering::Relaxed);
    }
}

/// No hot, and too many calls wait for one already.
fn too_many_held() -> Reply {
    Reply::error("TRYAGAIN no node is hot at the moment, and too many commands wait for one; nothing was executed")
}

/// No hot for longer than a hold may last.
fn held_too_long() -> Reply {
    Reply::error("TRYAGAIN no node became hot in time; the command was not executed")
}
