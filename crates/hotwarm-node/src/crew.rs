//! Hands the core's orders to those who carry them out. No order waits here, and none is decided upon.

use crate::admin::fence_text;
use crate::board::Board;
use crate::event_loop::{Crew, SnapshotOrder, StateOrder};
use crate::executor::Job;
use crate::feeder::{FeedOrder, FeedQueue};
use crate::guardian::GuardianLink;
use crate::observer::{Noted, name_of};
use crate::queue::Queue;
use crate::snapshot_transfer::Transfers;
use crate::storage::{LogOrder, ReadOrder, VoteOrder};
use crate::transport::Transport;
use hotwarm_core::register::{GroupState, Vote};
use hotwarm_core::{FenceReason, Message, Note};
use hotwarm_types::{Block, Lsn, NodeId, Token};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::watch;

/// The queues and handles of all who carry out orders.
#[derive(Debug)]
pub struct NodeCrew {
    /// The connections between nodes.
    pub transport: Arc<Transport>,
    /// The runtime that they live on.
    pub runtime: Handle,
    /// This node's name.
    pub name: String,
    /// The process that attests this one's death, if there is one.
    pub guardian: Option<Arc<GuardianLink>>,
    /// The guardian watches for ticks.
    pub ticking: bool,
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
        if let Some(guardian) = &self.guardian {
            guardian.tell_peers(peer_addresses(state, &self.name));
        }
    }

    fn fence(&mut self, reason: FenceReason) {
        let state = self.board.glance(|view| view.state.clone());
        let why = fence_text(&reason, |node| name_of(state.as_deref(), node));
        tracing::error!(event = "fenced", why, "this node has stopped serving");
        self.board.publish(|view| view.fenced = Some(why.clone()));
        self.jobs.push(Job::Order(StateOrder::Fence(why.clone())));
        self.notes.push(Noted::fenced(why));
    }

    fn alive(&mut self, silent_max: Duration) {
        let Some(guardian) = &self.guardian else { return };
        if self.ticking || !silent_max.is_zero() {
            guardian.tick(silent_max);
            self.ticking = !silent_max.is_zero();
        }
    }

    fn left(&mut self) {
        self.left.send_replace(true);
    }

    fn note(&mut self, note: Note) {
        let state = self.board.glance(|view| view.state.clone());
        self.notes.push(Noted::note(note, state));
    }
}

/// Where the other members are reached, for the guardian.
pub(crate) fn peer_addresses(state: &GroupState, me: &str) -> Vec<String> {
    state.members.values().filter(|member| member.name != me).map(|member| member.address.clone()).collect()
}
