//! The thread that owns the core: takes a fact, steps, carries out the orders, in order.
//!
//! It contains no decision. A fact is stepped with a clock read after it was taken from the queue, one fact at a
//! time; the bound of the lease is published after each step and before its orders are carried out, so that it
//! only ever ends earlier than a reader thinks when a later step says so (R15, C3). Facts from outside pass a
//! gate, so that peers cannot grow the queue; facts that answer orders are bounded by the orders.

use crate::board::Board;
use crate::clock;
use crate::queue::{Gate, Queue};
use hotwarm_core::register::{GroupState, Member, Vote};
use hotwarm_core::{Answer, Ask, AskRefused, FenceReason, Input, Message, Node, Note, Output, RoleFact};
use hotwarm_types::{Block, EntryId, Instant, Lsn, NodeId, Reign, RequestId, StreamId, Tenure, Token};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// How many facts from outside may wait for a step.
const OUTSIDE_FACTS_MAX: usize = 4_096;

/// How often the node's facts are published at most, while its role stays. Where nothing happens the thread
/// turns every half beacon, and publishes then.
const PUBLISH_INTERVAL: Duration = Duration::from_millis(20);

/// A wall clock that has moved by more than this against the other is told to the core anew, in milliseconds.
const WALL_JUMP_MS: u64 = 50;

/// What arrives at the thread.
enum Event {
    /// A fact of this node's own parts.
    Fact(Input),
    /// A fact from outside, that entered by the gate.
    Outside(Input),
    /// A request, and who waits for the answer.
    Asked { ask: Ask, waiter: oneshot::Sender<Result<Answer, AskRefused>> },
}

/// The way to the core for every other part of the node.
#[derive(Clone)]
pub struct Core {
    queue: Arc<Queue<Event>>,
    gate: Arc<Gate>,
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core").finish_non_exhaustive()
    }
}

impl Default for Core {
    fn default() -> Self {
        Self { queue: Queue::new(), gate: Gate::new(OUTSIDE_FACTS_MAX) }
    }
}

impl Core {
    /// Tells a fact of this node's own parts. Never waits.
    pub fn tell(&self, fact: Input) {
        self.queue.push(Event::Fact(fact));
    }

    /// Tells facts in order.
    pub fn tell_all(&self, facts: impl IntoIterator<Item = Input>) {
        self.queue.push_all(facts.into_iter().map(Event::Fact));
    }

    /// Tells a fact from outside; waits while too many wait already.
    pub async fn tell_from_outside(&self, fact: Input) {
        self.gate.enter().await;
        self.queue.push(Event::Outside(fact));
    }

    /// Puts a request to the core and waits for its answer.
    ///
    /// # Errors
    /// Why it was not carried out; `Unknown` too when the node stops meanwhile.
    pub async fn ask(&self, ask: Ask) -> Result<Answer, AskRefused> {
        let (waiter, answer) = oneshot::channel();
        self.queue.push(Event::Asked { ask, waiter });
        answer.await.unwrap_or(Err(AskRefused::Unknown))
    }

    /// Puts a request to the core without waiting for an answer.
    pub fn tell_request(&self, ask: Ask) {
        let (waiter, _) = oneshot::channel();
        self.queue.push(Event::Asked { ask, waiter });
    }

    /// The facts that wait, for tests of who tells them.
    #[cfg(test)]
    pub(crate) fn told(&self) -> Vec<Input> {
        let mut events = Vec::new();
        self.queue.take(&mut events, Some(Duration::ZERO));
        let fact = |event| match event {
            Event::Fact(input) | Event::Outside(input) => Some(input),
            Event::Asked { .. } => None,
        };
        events.into_iter().filter_map(fact).collect()
    }

    /// Ends the thread once it has stepped what waits.
    pub fn stop(&self) {
        self.queue.close();
    }
}

/// Those who carry out the core's orders.
pub trait Crew {
    /// Sends to a member; drops the message if there is no connection.
    fn send(&mut self, to: NodeId, message: Message);
    /// Makes the vote record durable.
    fn persist_vote(&mut self, token: Token, vote: Vote);
    /// Appends a block to the log.
    fn append_log(&mut self, token: Token, block: Block);
    /// Cuts the log.
    fn cut_log(&mut self, token: Token, last: Lsn);
    /// Reads from the log.
    fn read_log(&mut self, token: Token, from: Lsn, size_bytes_max: u64);
    /// Tells how far the log is needed by followers; told after each batch of steps.
    fn retain_log(&mut self, after: Lsn);
    /// The state machine's orders.
    fn order_state(&mut self, order: StateOrder);
    /// Orders about snapshots.
    fn order_snapshot(&mut self, order: SnapshotOrder);
    /// The group's state has changed.
    fn follow_state(&mut self, state: &Arc<GroupState>);
    /// These who may become members are to be connected to, and no others besides the members.
    fn meet(&mut self, newcomers: BTreeMap<NodeId, Member>);
    /// The node serves no more.
    fn fence(&mut self, reason: FenceReason);
    /// The thread turns: it may be taken for frozen after `silent_max` without another word, or, if that is zero, never.
    fn alive(&mut self, silent_max: Duration);
    /// The node has said goodbye.
    fn left(&mut self);
    /// Something to record.
    fn note(&mut self, note: Note);
}

/// An order to the thread that owns the data.
#[derive(Clone, Debug)]
pub enum StateOrder {
    /// The block is in the log (not yet durable): what it writes is now the uncommitted tail.
    Append(Block),
    /// The log was cut: so is the tail.
    Cut(Lsn),
    /// Apply up to here, release the replies.
    Commit(Lsn),
    /// Execute and propose under this epoch.
    Serve(Tenure),
    /// Execute nothing.
    Hold,
    /// Send commands to the hot.
    Follow(Option<Reign>),
    /// Writes wait, or no longer.
    Throttle(bool),
    /// Reads may be answered, or must be sent on.
    Verified(RequestId, Option<Lsn>),
    /// The node serves no more; the text says why.
    Fence(String),
}

/// An order about a snapshot.
#[derive(Clone, Debug)]
pub enum SnapshotOrder {
    /// Pin one.
    Make(NodeId, StreamId),
    /// Send the pinned one.
    Send(NodeId, StreamId),
    /// Release it.
    Drop(StreamId),
    /// Receive one, beside all that is here.
    Receive(NodeId, StreamId, EntryId),
    /// Put the one received in place of all that is here.
    Install(StreamId, EntryId),
}

/// The loop's own state.
pub struct EventLoop<C> {
    node: Node,
    core: Core,
    crew: C,
    board: Arc<Board>,
    published_at: Instant,
    /// What the core was told of the wall clock.
    wall_offset_ms: u64,
    /// Something happened since that people wait to see.
    changed: bool,
    waiters: BTreeMap<RequestId, oneshot::Sender<Result<Answer, AskRefused>>>,
    next_request: u64,
    orders: Vec<Output>,
}

impl<C> std::fmt::Debug for EventLoop<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventLoop").finish_non_exhaustive()
    }
}

impl<C: Crew> EventLoop<C> {
    /// A loop around a node that has not been stepped yet.
    #[must_use]
    pub fn new(node: Node, core: Core, crew: C, board: Arc<Board>) -> Self {
        Self {
            node,
            core,
            crew,
            board,
            published_at: Instant(0),
            wall_offset_ms: 0,
            changed: true,
            waiters: BTreeMap::new(),
            next_request: 0,
            orders: Vec::new(),
        }
    }

    /// Steps until [`Core::stop`].
    pub fn run(mut self) {
        let mut batch = Vec::new();
        self.publish();
        loop {
            let timeout = self.node.deadline().map(|deadline| deadline.since(clock::now()));
            if !self.core.queue.take(&mut batch, timeout) {
                return;
            }
            let mut entered = 0;
            for event in batch.drain(..) {
                match event {
                    Event::Fact(fact) => self.step(fact),
                    Event::Outside(fact) => {
                        entered += 1;
                        self.step(fact);
                    }
                    Event::Asked { ask, waiter } => self.ask(ask, waiter),
                }
            }
            self.core.gate.leave(entered);
            if self.node.deadline().is_some_and(|deadline| deadline <= clock::now()) {
                self.step(Input::Elapsed);
            }
            self.crew.retain_log(self.node.retain_after());
            self.publish();
        }
    }

    fn ask(&mut self, ask: Ask, waiter: oneshot::Sender<Result<Answer, AskRefused>>) {
        self.next_request += 1;
        let id = RequestId(self.next_request);
        self.waiters.retain(|_, waiter| !waiter.is_closed());
        self.waiters.insert(id, waiter);
        self.step(Input::Asked { id, ask });
    }

    /// One fact, stepped with a clock read after it was taken.
    fn step(&mut self, fact: Input) {
        let mut orders = std::mem::take(&mut self.orders);
        self.node.step(clock::now(), fact, &mut orders);
        self.board.publish_lease(self.node.lease_until());
        for order in orders.drain(..) {
            self.carry_out(order);
        }
        self.orders = orders;
    }

    /// Shows the node as it is between two batches, at once when its role has changed; the state is published where it
    /// changes.
    fn publish(&mut self) {
        let now = clock::now();
        if !self.changed && now.since(self.published_at) < PUBLISH_INTERVAL {
            return;
        }
        self.changed = false;
        self.published_at = now;
        let facts = self.node.facts(now);
        // A frozen hot must die before its lease ends elsewhere: its guardian sees to it (R20).
        let hot = match facts.role {
            RoleFact::HotStarting | RoleFact::HotServing | RoleFact::HotHandingOver => true,
            RoleFact::Outsider | RoleFact::Warm | RoleFact::WarmStanding | RoleFact::Witness | RoleFact::Fenced => {
                false
            }
        };
        let lease = self.node.state().map_or(Duration::ZERO, |(state, _)| state.settings.timing.lease);
        self.crew.alive(if hot { lease } else { Duration::ZERO });
        self.board.publish(|view| view.facts = Some(facts));
        let offset_ms = clock::wall_offset_ms();
        if offset_ms.abs_diff(self.wall_offset_ms) > WALL_JUMP_MS {
            self.wall_offset_ms = offset_ms;
            self.step(Input::WallClock { offset_ms });
        }
    }

    fn carry_out(&mut self, order: Output) {
        match order {
            Output::Send { to, message } => self.crew.send(to, message),
            Output::PersistVote { token, vote } => self.crew.persist_vote(token, vote),
            Output::AppendLog { token, block } => {
                self.crew.order_state(StateOrder::Append(block.clone()));
                self.crew.append_log(token, block);
            }
            Output::CutLog { token, last } => {
                self.crew.order_state(StateOrder::Cut(last));
                self.crew.cut_log(token, last);
            }
            Output::ReadLog { token, from, bytes_max } => self.crew.read_log(token, from, bytes_max),
            Output::Commit { lsn } => self.crew.order_state(StateOrder::Commit(lsn)),
            Output::Serve { tenure } => self.crew.order_state(StateOrder::Serve(tenure)),
            Output::Hold => self.crew.order_state(StateOrder::Hold),
            Output::Follow { hot } => self.crew.order_state(StateOrder::Follow(hot)),
            Output::Throttle { on } => self.crew.order_state(StateOrder::Throttle(on)),
            Output::MakeSnapshot { to, stream } => self.crew.order_snapshot(SnapshotOrder::Make(to, stream)),
            Output::SendSnapshot { to, stream } => self.crew.order_snapshot(SnapshotOrder::Send(to, stream)),
            Output::DropSnapshot { stream } => self.crew.order_snapshot(SnapshotOrder::Drop(stream)),
            Output::ReceiveSnapshot { from, stream, at } => {
                self.crew.order_snapshot(SnapshotOrder::Receive(from, stream, at));
            }
            Output::InstallSnapshot { stream, at } => {
                self.crew.order_snapshot(SnapshotOrder::Install(stream, at));
            }
            Output::Verified { upto, at } => self.crew.order_state(StateOrder::Verified(upto, at)),
            Output::Answer { id, answer } => {
                if let Some(waiter) = self.waiters.remove(&id) {
                    // Who asked may have given up: the answer stands in the history all the same.
                    let _ = waiter.send(answer);
                }
            }
            Output::StateChanged { state } => {
                let state = Arc::new(state);
                self.board.publish(|view| view.state = Some(Arc::clone(&state)));
                self.crew.follow_state(&state);
            }
            Output::Meet { newcomers } => self.crew.meet(newcomers),
            Output::Fence { reason } => {
                self.changed = true;
                self.crew.fence(reason);
            }
            Output::Left => self.crew.left(),
            Output::Note(note) => {
                self.changed = true;
                self.crew.note(note);
            }
        }
    }
}
