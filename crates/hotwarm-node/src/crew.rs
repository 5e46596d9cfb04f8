//! Hands the core's orders to those who carry them out. No order waits here, and none is decided upon.

use crate::admin::fence_text;
use crate::board::Board;
use crate::data_folder::DataFolder;
use crate::event_loop::{Crew, SnapshotOrder, StateOrder};
use crate::executor::Job;
use crate::guardian::GuardianLink;
use crate::observer::{Noted, name_of};
use crate::queue::Queue;
use crate::snapshot_transfer::Transfers;
use crate::storage::{LogOrder, ReadOrder, VoteOrder};
use crate::transport::Transport;
use hotwarm_core::register::{GroupState, Member, Vote};
use hotwarm_core::{FenceReason, Message, Note};
use hotwarm_types::{Block, Lsn, NodeId, Token};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};

/// The queues and handles of all who carry out orders.
#[derive(Debug)]
pub struct NodeCrew {
    /// The connections between nodes.
    pub transport: Arc<Transport>,
    /// The runtime that they live on.
    pub runtime: Handle,
    /// This node's name.
    pub name: String,
    /// The data folder.
    pub folder: Arc<DataFolder>,
    /// The process that attests this one's death, if there is one.
    pub guardian: Option<Arc<GuardianLink>>,
    /// The log's writer.
    pub log: Arc<Queue<LogOrder>>,
    /// The vote file's writer.
    pub votes: Arc<Queue<VoteOrder>>,
    /// The log's readers.
    pub reads: Arc<Queue<ReadOrder>>,
    /// The executing thread.
    pub jobs: Arc<Queue<Job>>,
    /// Full copies.
    pub transfers: Transfers,
    /// The recording thread.
    pub notes: Arc<Queue<Noted>>,
    /// What is published.
    pub board: Arc<Board>,
    /// Notified when the group's state has changed.
    pub state_changed: Arc<Notify>,
    /// True once the node has said goodbye.
    pub left: watch::Sender<bool>,
    /// How far the log's writer was told that the log is needed.
    pub retained: Lsn,
    /// The group as the folder knew it: whose names are used until a state is known to be chosen.
    pub remembered: Arc<GroupState>,
    /// The members, as the newest state names them.
    pub members: BTreeMap<NodeId, Member>,
    /// Who is connected to besides.
    pub newcomers: BTreeMap<NodeId, Member>,
}

impl NodeCrew {
    /// The newest state that is known to be chosen, else what the folder knew.
    fn newest_state(&self) -> Arc<GroupState> {
        self.board.glance(|view| view.state.clone()).unwrap_or_else(|| Arc::clone(&self.remembered))
    }

    /// Lets the transport connect to the members and to the newcomers.
    fn connect(&self) {
        let mut wanted = self.newcomers.clone();
        wanted.extend(self.members.iter().map(|(node, member)| (*node, member.clone())));
        let _entered = self.runtime.enter();
        self.transport.set_members(None, &wanted);
    }
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
        let after = self.transfers.retain_after(after);
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
            SnapshotOrder::Make(to, stream) => self.transfers.make(to, stream),
            SnapshotOrder::Send(to, stream) => self.transfers.send(to, stream),
            SnapshotOrder::Drop(stream) => self.transfers.drop_snapshot(stream),
            SnapshotOrder::Receive(from, stream, at) => self.transfers.receive(from, stream, at),
            SnapshotOrder::Install(stream, at) => self.transfers.install(stream, at),
        }
    }

    fn follow_state(&mut self, state: &Arc<GroupState>) {
        let _entered = self.runtime.enter();
        self.transport.set_silence_timeout(state.settings.timing.grace);
        self.members.clone_from(&state.members);
        self.connect();
        self.transfers.follow_state(state, state.member_named(&self.name).map(|(id, _)| id));
        if let Some(guardian) = &self.guardian {
            guardian.tell_peers(peer_addresses(state, &self.name));
        }
        self.state_changed.notify_one();
    }

    fn meet(&mut self, newcomers: BTreeMap<NodeId, Member>) {
        for (node, Member { name, address, .. }) in newcomers.iter().filter(|(id, _)| !self.newcomers.contains_key(id))
        {
            tracing::info!(event = "newcomer", %node, name, address, "connecting to a node that may become a member");
        }
        self.newcomers = newcomers;
        self.connect();
    }

    fn fence(&mut self, reason: FenceReason) {
        if reason == FenceReason::Removed
            && let Err(error) = self.folder.mark_removed()
        {
            tracing::warn!(event = "removal_not_noted", %error, "the next start will not know of the removal");
        }
        let state = self.newest_state();
        let why = fence_text(&reason, |node| name_of(Some(&state), node));
        tracing::error!(event = "fenced", why, "this node has stopped serving");
        self.board.publish(|view| view.fenced = Some(why.clone()));
        self.jobs.push(Job::Order(StateOrder::Fence(why.clone())));
        self.notes.push(Noted::fenced(why));
    }

    fn alive(&mut self, silent_max: Duration) {
        if let Some(guardian) = &self.guardian {
            guardian.tick(silent_max);
        }
    }

    fn left(&mut self) {
        self.left.send_replace(true);
    }

    fn note(&mut self, note: Note) {
        self.notes.push(Noted::note(note, Some(self.newest_state())));
    }
}

/// Where the other members are reached, for the guardian.
pub(crate) fn peer_addresses(state: &GroupState, me: &str) -> Vec<String> {
    state.members.values().filter(|member| member.name != me).map(|member| member.address.clone()).collect()
}
