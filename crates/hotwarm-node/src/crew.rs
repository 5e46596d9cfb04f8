//! Hands the core's orders to those who carry them out. No order waits here, and none is decided upon.

use crate::board::Board;
use crate::event_loop::{Crew, SnapshotOrder, StateOrder};
use crate::executor::Job;
use crate::feeder::{FeedOrder, FeedQueue};
use crate::observer::{Noted, name_of};
use crate::queue::Queue;
use crate::snapshot_transfer::Transfers;
use crate::storage::{LogOrder, ReadOrder, VoteOrder};
use crate::transport::Transport;
use hotwarm_core::register::{GroupState, Vote};
use hotwarm_core::{FenceReason, Message, Note};
use hotwarm_types::{Block, Lsn, NodeId, Token};
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::sync::watch;

/// The queues and handles of all who carry out orders.
#[derive(Debug)]
pub struct NodeCrew {
    /// The connections between nodes.
    pub transport: Arc<Transport>,
    /// The runtime that they live on.
    pub runtime: Handle,
    /// The log's writer.
    pub log: Arc<Queue<LogOrder>>,
    /// The vote file's writer.
    pub votes: Arc<Queue<VoteOrder>>,
    /// The log's readers.
    pub reads: Arc<Queue<ReadOrder>>,
    /// The executing thread.
    pub jobs: Arc<Queue<Job>>,
    /// The feeding thread.
    pub feeder: FeedQueue,
    /// Full copies.
    pub transfers: Transfers,
    /// The recording thread.
    pub notes: Arc<Queue<Noted>>,
    /// What is published.
    pub board: Arc<Board>,
    /// True once the node has said goodbye.
    pub left: watch::Sender<bool>,
    /// How far the log's writer was told that the log is needed.
    pub retained: Lsn,
}

impl Crew for NodeCrew {
    fn send(&mut self, to: NodeId, message: Message) {
        self.transport.send(to, message);
    }

    fn persist_vote(&mut self, token: Token, vote: Vote) {
        self.votes.push(VoteOrder { token, vote });
    }

    fn append_log(&mut self, token: Token, block: Block) {
        self.log.push(LogOrder::Append { token, block });
    }

    fn cut_log(&mut self, token: Token, last: Lsn) {
        self.log.push(LogOrder::Cut { token, last });
    }

    fn read_log(&mut self, token: Token, from: Lsn, size_bytes_max: u64) {
        self.reads.push(ReadOrder { token, from, size_bytes_max });
    }

    fn retain_log(&mut self, after: Lsn) {
        if after > self.retained {
            self.retained = after;
            self.log.push(LogOrder::Retain { after });
        }
    }

    fn order_state(&mut self, order: StateOrder) {
        self.jobs.push(Job::Order(order));
    }

    fn order_snapshot(&mut self, order: SnapshotOrder) {
        match order {
            SnapshotOrder::Make(_, stream) => self.feeder.orders.push(FeedOrder::Pin(stream)),
            SnapshotOrder::Send(to, stream) => self.transfers.send(to, stream),
            SnapshotOrder::Drop(stream) => self.transfers.drop_snapshot(stream),
            SnapshotOrder::Receive(from, stream, at) => self.transfers.receive(from, stream, at),
        }
    }

    fn follow_state(&mut self, state: &Arc<GroupState>) {
        let _entered = self.runtime.enter();
        self.transport.set_silence_timeout(state.settings.timing.grace);
        self.transport.set_members(None, &state.members);
    }

    fn fence(&mut self, reason: FenceReason) {
        let state = self.board.glance(|view| view.state.clone());
        let why = fence_text(&reason, state.as_deref());
        tracing::error!(event = "fenced", why, "this node has stopped serving");
        self.board.publish(|view| view.fenced = Some(why.clone()));
        self.jobs.push(Job::Order(StateOrder::Fence(why.clone())));
        self.notes.push(Noted::fenced(why));
    }

    fn left(&mut self) {
        self.left.send_replace(true);
    }

    fn note(&mut self, note: Note) {
        let state = self.board.glance(|view| view.state.clone());
        self.notes.push(Noted::note(note, state));
    }
}

/// Why a node is fenced, and what to do about it.
fn fence_text(reason: &FenceReason, state: Option<&GroupState>) -> String {
    match reason {
        FenceReason::Disk { error } => format!(
            "its disk or store failed ({error}); check the disk, then restart this node, or replace it by an empty one \
             (\"hotwarm node replace\")"
        ),
        FenceReason::DivergedBelowCommit { last, committed } => format!(
            "its log differs from the hot's after LSN {last}, below its own commit position {committed}; keep its folder \
             and replace it by an empty one (\"hotwarm node replace\")"
        ),
        FenceReason::Amnesia { by } => format!(
            "{} remembers more of it than its folder does: the folder was restored or rolled back; replace it by an empty \
             one (\"hotwarm node replace\")",
            name_of(state, *by)
        ),
        FenceReason::Removed => "it is no longer a member of the group".to_owned(),
    }
}
