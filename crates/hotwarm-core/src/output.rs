//! Everything a node can order its shell to do. Carried out in the order given.

use crate::Message;
use crate::register::{Cause, GroupState, Member, Vote};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use core::time::Duration;
use hotwarm_types::{
    Block, EntryId, Epoch, Incarnation, Lsn, NodeId, Reign, RequestId, StreamId, Tenure, Token, Version,
};

/// An order to the shell.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Output {
    /// Send a message to a member; drop it if there is no connection. Messages of one kind of connection (control,
    /// bulk) to one member keep their order.
    Send {
        /// The receiver.
        to: NodeId,
        /// The message.
        message: Message,
    },
    /// Make the whole vote record durable, replacing the one before, then report the token.
    PersistVote {
        /// Names the order.
        token: Token,
        /// The record.
        vote: Vote,
    },
    /// Append a block to the log, sync, then report the token. Many may share one sync (group commit); they are
    /// reported in order.
    AppendLog {
        /// Names the order.
        token: Token,
        /// The block.
        block: Block,
    },
    /// Put everything after `last` aside in a side file, sync it, then cut the log there, sync, and report (R30).
    CutLog {
        /// Names the order.
        token: Token,
        /// The last position that stays.
        last: Lsn,
    },
    /// Read consecutive blocks, starting with the one whose first position is `from`, at least one if there is one, and
    /// past that at most `bytes_max`.
    ReadLog {
        /// Names the order.
        token: Token,
        /// First position of the first block.
        from: Lsn,
        /// Bound of the answer.
        bytes_max: u64,
    },
    /// Everything up to here is committed in the log that this node holds: apply it, and release the replies that
    /// waited for it.
    Commit {
        /// The position.
        lsn: Lsn,
    },
    /// This node is hot and everything in its log is committed: apply it all, drop whatever was executed beyond it,
    /// execute the held commands again, and from now on propose writes under this tenure.
    Serve {
        /// The epoch, and which stretch of serving in it this is.
        tenure: Tenure,
    },
    /// Execute no command until the next `Serve` or `Follow`: hold them. Replies that wait for a commit go on waiting.
    Hold,
    /// This node is not hot. Replies that waited in an earlier epoch of this node are discarded, their commands held
    /// or sent on. `hot` is whom commands go to, if one is known.
    Follow {
        /// Who reigns, as far as known; the shell must still be able to reach it.
        hot: Option<Reign>,
    },
    /// Writes wait (or no longer wait) for room: too many bytes are not committed.
    Throttle {
        /// Whether they wait.
        on: bool,
    },
    /// Pin a snapshot of the committed state for a follower and report `SnapshotMade`.
    MakeSnapshot {
        /// The follower.
        to: NodeId,
        /// The stream.
        stream: StreamId,
    },
    /// Send the pinned snapshot.
    SendSnapshot {
        /// The follower.
        to: NodeId,
        /// The stream.
        stream: StreamId,
    },
    /// Release the pinned snapshot, and end its sending.
    DropSnapshot {
        /// The stream.
        stream: StreamId,
    },
    /// Receive the snapshot of this stream, durably, into a place of its own, and report `SnapshotReceived` or
    /// `SnapshotFailed`. Replaces any such order before it, as long as that was not followed by `InstallSnapshot`.
    ReceiveSnapshot {
        /// The sender.
        from: NodeId,
        /// The stream.
        stream: StreamId,
        /// The last entry that it includes.
        at: EntryId,
    },
    /// Mark the folder incomplete, durably; then replace state and log by the snapshot that was received, in one step,
    /// and report `SnapshotInstalled`, or `SnapshotFailed` if all is as before (R31). No order to the log follows
    /// before that report.
    InstallSnapshot {
        /// The stream.
        stream: StreamId,
        /// The last entry that it includes.
        at: EntryId,
    },
    /// The reads named by these requests may be answered at the commit position (R19), or must be refused.
    Verified {
        /// The last request of the round; it answers all up to it.
        upto: RequestId,
        /// The commit position at which they may be answered; `None`: not hot any more, send them on.
        at: Option<Lsn>,
    },
    /// The answer to an operator's request.
    Answer {
        /// The request.
        id: RequestId,
        /// The answer.
        answer: Result<Answer, AskRefused>,
    },
    /// The group's state, as known to be chosen, has changed: connect to its members, follow its settings.
    StateChanged {
        /// The state.
        state: GroupState,
    },
    /// Connect, besides the members, to these newcomers and no others, under the numbers that they would have as members
    /// (R6). Holds until the next `Meet`; from the `StateChanged` that shows one as a member it is one of them, and its
    /// link stands.
    Meet {
        /// Who they are.
        newcomers: BTreeMap<NodeId, Member>,
    },
    /// Stop serving, for the given reason, until a person or a resync helps. Nothing else follows.
    Fence {
        /// Why.
        reason: FenceReason,
    },
    /// This node has said goodbye and may exit.
    Left,
    /// An event for logs, metrics and history.
    Note(Note),
}

/// The good answers to an `Ask`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// The state, read from a majority, or made by the request.
    State(GroupState),
    /// The hot is now this reign.
    HandedOver(Reign),
}

/// Why a request was not carried out. Nothing was changed unless it says "unknown".
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum AskRefused {
    /// Only the hot can do it.
    NotHot {
        /// Who is, if known.
        hot: Option<NodeId>,
    },
    /// The state has moved on: compute the difference again.
    Conflict {
        /// The present version.
        version: Version,
    },
    /// The change is not allowed; the text says why and what would be.
    Forbidden {
        /// Why.
        why: String,
    },
    /// No node could take over.
    NoTarget {
        /// Why each does not qualify.
        why: String,
    },
    /// Too many requests wait.
    Busy,
    /// No majority of the members answers, so nothing was begun.
    NoMajority {
        /// The members that answer this node, itself included.
        answering: BTreeSet<NodeId>,
        /// All that there are.
        members: BTreeSet<NodeId>,
    },
    /// No majority answered in time. Whether it was done will be known when one does.
    Unknown,
}

/// Why a node stopped serving.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum FenceReason {
    /// A write or sync failed (INV-9).
    Disk {
        /// What the system said.
        error: String,
    },
    /// Its log differs from the hot's below its own commit position (R30).
    DivergedBelowCommit {
        /// Where the logs part.
        last: Lsn,
        /// This node's commit position.
        committed: Lsn,
    },
    /// A majority remembers more of this node than its folder does (R5).
    Amnesia {
        /// Who said so.
        by: NodeId,
    },
    /// The folder is no longer a member's.
    Removed,
}

/// An event. Names are stable: logs, metrics and history use them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Note {
    /// This node reigns and serves.
    BecameHot {
        /// The epoch.
        epoch: Epoch,
        /// Why.
        cause: Cause,
        /// From suspicion (or request) to the poll's end.
        polled: Duration,
        /// From there to the register's choice.
        chosen: Duration,
        /// From there to serving.
        started: Duration,
    },
    /// This node's reign ended as planned: another one has it.
    HandedOver {
        /// The epoch that ended.
        epoch: Epoch,
        /// Who reigns now.
        to: NodeId,
        /// From the request until the target had everything and all of it was committed.
        drained: Duration,
        /// From there to the register's choice.
        chosen: Duration,
    },
    /// This node no longer reigns.
    StoppedBeingHot {
        /// The epoch that ended.
        epoch: Epoch,
        /// Why.
        cause: Cause,
    },
    /// This node follows a reign.
    Follows {
        /// The reign.
        reign: Reign,
    },
    /// This node asks to take over.
    Stands {
        /// The epoch it would end.
        epoch: Epoch,
        /// Why.
        cause: Cause,
    },
    /// Others still hear the hot: this node waits.
    Defers {
        /// Who hears it.
        heard_by: NodeId,
    },
    /// A node left the in-sync set.
    Shrunk {
        /// The nodes.
        nodes: BTreeSet<NodeId>,
        /// Why.
        cause: Cause,
    },
    /// A node entered the in-sync set.
    Grown {
        /// The node.
        node: NodeId,
    },
    /// A suffix that differs from the hot's was put aside.
    Cut {
        /// The last position that stays.
        last: Lsn,
        /// The end before.
        end: EntryId,
    },
    /// A peer was refused: its folder has forgotten something (R5).
    RefusedAmnesiac {
        /// The peer.
        peer: NodeId,
    },
    /// The register has refused an invited folder for now.
    NotAdmitted {
        /// The name it was invited under.
        name: String,
        /// Why.
        why: String,
    },
    /// The lease was lost; local reads wait.
    LeaseLost,
    /// The lease holds again.
    LeaseHeld,
    /// A member's process is dead, attested by its parent.
    DeathAttested {
        /// The member.
        peer: NodeId,
        /// The start that is over.
        incarnation: Incarnation,
    },
    /// A follower needs a full copy.
    FullSync {
        /// The follower.
        to: NodeId,
    },
}
