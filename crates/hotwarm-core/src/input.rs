//! Everything that can happen to a node: facts, in the past tense.

use crate::Message;
use crate::register::{Ballot, MemberRole, Settings};
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;
use hotwarm_types::{
    Block, EntryId, Epoch, FolderId, Incarnation, Lsn, NodeId, Payload, RequestId, StreamId, Tenure, Token, Version,
};

/// What a node says of its own memory when it meets a peer (R5). A peer that remembers more of it than it does
/// itself has met an amnesiac.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Claims {
    /// Its present start.
    pub incarnation: Incarnation,
    /// Its acceptor's promise.
    pub promised: Ballot,
    /// The highest epoch it has seen.
    pub epoch: Epoch,
    /// End of its durable log.
    pub durable: EntryId,
}

/// What an operator, or the node's own shell, asks of the node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Ask {
    /// Read the group's state from a majority of the register (R7).
    ReadState,
    /// Hand over to a node, or to the best one.
    HandOver {
        /// The wished target.
        to: Option<NodeId>,
    },
    /// Say goodbye: hand over if hot, then stop for good (R21).
    Leave,
    /// Forbid automatic promotion of another node for a while (R29).
    Pause {
        /// How long.
        length: Duration,
        /// Why.
        reason: String,
    },
    /// End the maintenance.
    Resume,
    /// Replace the settings, if the state is still at this version.
    Apply {
        /// The version that the operator's difference was computed from.
        expected: Version,
        /// The new settings.
        settings: Settings,
        /// What differs, for the history: cut off after 256 bytes.
        changes: String,
    },
    /// Let an empty folder join under a name, in the place of the member of that name if there is one.
    Invite {
        /// The name.
        name: String,
        /// Where peers will reach it.
        address: String,
        /// Whether it will hold data.
        role: MemberRole,
        /// Its priority as a candidate.
        priority: u16,
    },
    /// Remove a member, or an invitation.
    Remove {
        /// Its name.
        name: String,
    },
    /// Make this node hot although it may not hold every acknowledged write (R8).
    ForcePromote {
        /// How the operator knows that the old hot is fenced.
        statement: String,
    },
}

/// A fact. `step` takes one at a time.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// Time has passed; nothing else.
    Elapsed,
    /// The wall clock, as what must be added to this node's `Instant` (in milliseconds) to get the milliseconds
    /// since the Unix epoch. Used for records that people read, never for a decision. Told at the start and when it jumps.
    WallClock {
        /// The sum.
        offset_ms: u64,
    },
    /// A connection to a member, or to the newcomer that `Output::Meet` named, stands, both ways, authenticated as this
    /// incarnation.
    LinkUp {
        /// The member.
        peer: NodeId,
        /// The start of its process at the other end.
        incarnation: Incarnation,
    },
    /// The last connection to a member broke. A hint, never a proof.
    LinkDown {
        /// The member.
        peer: NodeId,
    },
    /// A message arrived from a member, on a connection authenticated as this incarnation.
    Received {
        /// The sender.
        from: NodeId,
        /// The start of its process.
        incarnation: Incarnation,
        /// The message.
        message: Message,
    },
    /// An empty folder, authenticated by certificate as `name`, asks to be admitted (R4). It asks every member that it
    /// reaches, again and again while it is refused; what follows, if it is invited, is `Output::Meet`.
    JoinAsked {
        /// The name in its certificate.
        name: String,
        /// Its folder.
        folder: FolderId,
    },
    /// The parent of that process has reaped it and all it ran (R20), and proved it.
    DeathAttested {
        /// The member.
        peer: NodeId,
        /// The start that is over.
        incarnation: Incarnation,
    },
    /// What the order with this token asked for is on the disk.
    Persisted {
        /// The order.
        token: Token,
    },
    /// It could not be made durable and never will be (INV-9).
    PersistFailed {
        /// The order.
        token: Token,
        /// What the system said.
        error: String,
    },
    /// Blocks read from the log, consecutive.
    LogRead {
        /// The order.
        token: Token,
        /// The blocks; empty if the log no longer reaches back that far.
        blocks: Vec<Block>,
    },
    /// The state machine has writes for the log. Ignored unless this node serves in `epoch` and its log ends just
    /// before `first`: then the next `Serve` or `Follow` tells the state machine to drop what it executed.
    Proposed {
        /// In which they were executed: dropped if it is not the present one.
        tenure: Tenure,
        /// The position at which the state machine numbered the first of them.
        first: Lsn,
        /// How many positions they take; at least 1.
        count: u64,
        /// Group time in milliseconds since the Unix epoch, at least the greatest stamp in the log (R35).
        stamp_ms: u64,
        /// The writes.
        payload: Payload,
    },
    /// A snapshot of the committed state is pinned for a follower.
    SnapshotMade {
        /// The stream it was asked for.
        stream: StreamId,
        /// The last entry it includes.
        at: EntryId,
    },
    /// A snapshot could not be made or sent; the stream starts anew. At the receiver: it could not be received or
    /// installed, and the node holds what it held before.
    SnapshotFailed {
        /// The stream.
        stream: StreamId,
    },
    /// The snapshot of a stream has been received whole and is durable, in a place of its own. Nothing is replaced
    /// before `Output::InstallSnapshot`, which need not follow.
    SnapshotReceived {
        /// The stream.
        stream: StreamId,
    },
    /// The snapshot is installed as ordered, durably and whole: the log is empty and begins after `at`.
    SnapshotInstalled {
        /// The stream.
        stream: StreamId,
        /// The last entry that it includes.
        at: EntryId,
    },
    /// Reads wait for proof that no other node has become hot (R19).
    VerifyAsked {
        /// Names the reads.
        id: RequestId,
    },
    /// An operator's request.
    Asked {
        /// Names the request.
        id: RequestId,
        /// The request.
        ask: Ask,
    },
    /// The state machine has applied everything up to here, durably: recovery will not need the log below.
    Applied {
        /// The position.
        lsn: Lsn,
    },
}
