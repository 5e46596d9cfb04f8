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

mod calls;
mod expiry;
mod follow;
mod outlet;
mod remote;
mod serve;
mod work;

pub use ledger::HoldLimits;
pub use work::{ClientCall, Task};

use crate::board::Board;
use crate::clock;
use crate::data_folder::stage_block;
use crate::event_loop::{Core, StateOrder};
use crate::feeder::FeedQueue;
use crate::metrics::Metrics;
use crate::observer::Noted;
use crate::queue::Queue;
use crate::resp::LiveFront;
use crate::resp::outbox::{Outbox, Outcome};
use crate::transport::Transport;
use bytes::Bytes;
use expiry::{ClockStep, ExpiryTimer};
use follow::Forwarding;
use forward::ForwardedOutcome;
use hotwarm_core::{AskRefused, Input};
use hotwarm_store::{Engine, Followed, GroupTime, State};
use hotwarm_types::{Block, Instant, Lsn, NodeId, Reign, Tenure, Token};
use lane::Lanes;
use ledger::Ledger;
use outlet::{Client, Outlet};
use serve::Serving;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::oneshot;
use work::{Origin, Work};

/// Positions that are committed in one turn on a node that does not serve: some milliseconds. After a restart the first
/// commit covers everything that was replayed, and calls that are only passed on need not wait for it.
const COMMIT_COUNT: u64 = 2048;

/// How soon replies are tried again that did not fit the queue to their node.
const UNSENT_LOOK: Duration = Duration::from_millis(5);

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
        /// Says who may answer its reads.
        front: Arc<LiveFront>,
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
        /// Its round of handing over.
        round: u64,
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
    /// Other bounds of what is held; calls that wait already are judged by them too.
    Hold(HoldLimits),
    /// Another bound of the values in memory, in bytes.
    CacheSize(usize),
    /// An operator says that the wall clock is right: group time follows it (R35).
    FollowClock {
        /// Told what came of it.
        done: oneshot::Sender<Result<Followed, AskRefused>>,
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
    /// Its own, in this tenure.
    Serving(Tenure),
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
    /// What is recorded.
    pub notes: Arc<Queue<Noted>>,
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
    /// How far the state is still to commit: it may be behind while this node does not serve. Else zero.
    commit_to: Lsn,
    ledger: Ledger<Work>,
    lanes: Lanes,
    outlet: Outlet,
    serving: Serving,
    expiry: ExpiryTimer,
    clock_step: Option<ClockStep>,
    /// Members that can be reached.
    links: BTreeSet<NodeId>,
    forwarding: Forwarding,
    /// When something that nobody will report may have changed.
    look_again_at: Option<Instant>,
    /// Why nothing is served any more.
    fenced: Option<String>,
    /// The store has failed, and the core has been told.
    failed: bool,
    /// Where the bound of the values in memory is going, if it is moving.
    cache_size_to: Option<usize>,
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
            commit_to: Lsn::ZERO,
            ledger: Ledger::default(),
            lanes,
            outlet,
            serving: Serving::default(),
            expiry: ExpiryTimer::default(),
            clock_step: None,
            links: BTreeSet::new(),
            forwarding: Forwarding::default(),
            look_again_at: None,
            fenced: None,
            failed: false,
            cache_size_to: None,
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
        self.look_again_at = None;
        for job in batch.drain(..) {
            self.take(job);
        }
        self.commit(COMMIT_COUNT);
        self.expire();
        match self.mode {
            Mode::Serving(tenure) => self.serve(tenure),
            Mode::Following(Some(hot)) => self.send_on(hot),
            Mode::Holding | Mode::Following(None) => {}
        }
        self.outlet.flush();
        let waits = std::mem::take(&mut self.serving.waits_for_replies);
        if self.outlet.has_unsent() {
            self.look_again(self.now + UNSENT_LOOK);
        } else if waits {
            self.look_again(self.now);
        }
        self.expire_keys();
        self.resize_cache();
        self.publish();
    }

    /// How long to wait for the next job.
    fn timeout(&self) -> Option<Duration> {
        if self.commits() || self.cache_size_to.is_some() {
            return Some(Duration::ZERO);
        }
        let expiry = self.ledger.oldest().map(|(_, arrived)| arrived + self.setting.hold.time_max);
        let Forwarding { resend_at, go_on_at, .. } = self.forwarding;
        let due = [expiry, resend_at, go_on_at, self.look_again_at, self.expiry.next];
        Some(due.into_iter().flatten().min()?.since(clock::now()))
    }

    /// Has the thread come back at that moment at the latest.
    fn look_again(&mut self, at: Instant) {
        self.look_again_at = Some(self.look_again_at.map_or(at, |before| before.min(at)));
    }

    fn take(&mut self, job: Job) {
        match job {
            Job::Order(order) => self.obey(order),
            Job::Opened { client, outbox, front } => {
                self.outlet.clients.insert(client, Client::new(outbox, front));
            }
            Job::Calls { client, calls } => self.calls(client, calls),
            Job::Closed { client } => self.closed(client),
            Job::Forwarded { from, round, payload } => self.forwarded(from, round, payload),
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
                self.serving.forget_node(peer);
                self.outlet.forget(peer);
            }
            Job::Hold(limits) => self.setting.hold = limits,
            Job::CacheSize(size_bytes_max) => self.cache_size_to = Some(size_bytes_max),
            Job::FollowClock { done } => self.follow_clock(done),
            Job::Installed { state, done } => {
                self.log_end = state.end();
                self.commit_to = Lsn::ZERO;
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
                self.commit_to = lsn;
                // Where replies wait for it, before anything else is obeyed that might end their reign.
                if self.serving.waits() {
                    self.commit(u64::MAX);
                }
            }
            StateOrder::Serve(tenure) => {
                // The whole tail first (R25).
                self.commit(u64::MAX);
                self.leave_reign();
                self.time.observe(self.engine.state.greatest_stamp_ms(), self.now);
                // A store that failed, perhaps just now, serves nothing until the core fences the node (INV-9).
                if !self.failed {
                    self.mode = Mode::Serving(tenure);
                    self.setting.board.publish_serves(true);
                }
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
        // On a node that reigns, only a step is ahead of its clock, and waits for its commit.
        if self.clock_step.is_none() {
            self.time.observe(block.stamp_ms, self.now);
        }
    }

    /// Whether the state is behind what is committed.
    fn commits(&self) -> bool {
        self.fenced.is_none() && self.engine.state.committed().lsn < self.commit_to
    }

    /// Commits on, about `count_max` positions of what is committed, and lets go of what waited for it.
    fn commit(&mut self, count_max: u64) {
        if !self.commits() {
            return;
        }
        let whole = self.engine.state.commit_some(self.commit_to, count_max);
        if !matches!(whole, Ok(false)) {
            self.commit_to = Lsn::ZERO;
        }
        self.check(whole.map(|_| ()));
        self.release();
        self.setting.feeder.poke();
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
        self.failed = true;
        // Until the core has fenced the node, which takes a turn of it.
        self.setting.board.publish_serves(false);
        self.setting.core.tell(Input::PersistFailed { token: Token(0), error: error.to_owned() });
    }

    /// Ends a call of whoever asked.
    fn tell(&mut self, origin: Origin, outcome: Outcome, seen: Lsn) {
        match (origin, outcome) {
            (Origin::Local { seq }, outcome) => self.end(seq, outcome, seen),
            (Origin::Remote { node, seq, .. }, Outcome::Reply(reply)) => self.outlet.reply(node, seq, &reply, seen),
            (Origin::Remote { node, seq, .. }, Outcome::Unknown) => {
                self.outlet.answer(node, seq, ForwardedOutcome::Unknown);
            }
        }
    }

    /// Lets the cache grow or shrink a step towards its new bound: many small values are not let go of in one turn.
    fn resize_cache(&mut self) {
        if let Some(to) = self.cache_size_to
            && self.engine.state.resize_cache(to)
        {
            self.cache_size_to = None;
        }
    }

    fn publish(&self) {
        let stamps = matches!(self.mode, Mode::Serving(_));
        self.setting.board.publish_group_time(self.time.offset_ms().filter(|_| stamps));
        let counts = &self.setting.board.counts;
        let open = self.ledger.count() as u64;
        let held = if matches!(self.mode, Mode::Holding | Mode::Following(None)) { open } else { 0 };
        counts.open_calls.store(open, Ordering::Relaxed);
        counts.held_calls.store(held, Ordering::Relaxed);
        counts.visible.store(self.engine.state.committed().lsn.0, Ordering::Relaxed);
    }
}
