//! What nodes say to each other.
//!
//! Each message carries the identities that its receiver must check (R40): who reigns (epoch and incarnation) on
//! everything of a reign, the stream on everything of a stream, the ballot and the version of the member list on
//! everything of the register. The sender's own number and incarnation come with every message from the
//! authenticated connection it arrived on.

use crate::Claims;
use crate::register::{Ballot, GroupState};
use alloc::vec::Vec;
use core::time::Duration;
use hotwarm_types::{Block, EntryId, Epoch, Incarnation, Lsn, StreamId, Version};

/// How a node answers a beacon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Grant {
    /// "I shall not stand for the length of the grace from now." Counts for the lease.
    Granted,
    /// "I heard you", and no more: the node is standing, or the hot does not seem to hear it or to make progress.
    Heard,
    /// The beacon's epoch is over: a higher one has been seen (INV-2).
    Deposed,
}

/// A message between two nodes of a group.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Message {
    // --- Identity (R5). Sent first on every connection, in both directions.
    /// "This is what I remember." Judged against what the receiver remembers of the sender.
    Hello(Claims),
    /// "Your memory is at least what I remember of you", with the version of the group's state that the sender
    /// knows.
    HelloPassed {
        /// The sender's version.
        version: Version,
    },
    /// "You have forgotten something": the peer must be replaced.
    HelloRefused {
        /// What was remembered of the peer.
        remembered: Claims,
    },

    // --- Register (CASPaxos). Every one names its ballot and the member list it was computed from (R6).
    /// Phase one.
    Prepare {
        /// The round.
        ballot: Ballot,
        /// The proposer's member list.
        members_version: Version,
    },
    /// The acceptor will answer no lower ballot.
    Promise {
        /// The round.
        ballot: Ballot,
        /// What it accepted last.
        accepted: Option<(Ballot, GroupState)>,
    },
    /// Phase two.
    Accept {
        /// The round.
        ballot: Ballot,
        /// The proposer's member list.
        members_version: Version,
        /// The value.
        state: GroupState,
    },
    /// The acceptor holds the value durably.
    Accepted {
        /// The round.
        ballot: Ballot,
    },
    /// A higher ballot was promised, or the proposer's member list is old.
    Refused {
        /// The round that is refused.
        ballot: Ballot,
        /// What was promised instead.
        promised: Ballot,
        /// The acceptor's state, where its member list is newer than the proposer's.
        newer: Option<GroupState>,
    },
    /// A state that was chosen. Sent by whoever saw it chosen, and to whoever is behind.
    Announce {
        /// The state.
        state: GroupState,
    },
    /// "I know only this version; send yours if it is newer."
    AskState {
        /// The sender's version.
        version: Version,
    },
    // --- Liveness.
    /// The hot's numbered heartbeat.
    Beacon {
        /// The reign.
        epoch: Epoch,
        /// The reign.
        incarnation: Incarnation,
        /// Grows by one with every beacon of this incarnation.
        seq: u64,
        /// The lease that a grant of this beacon gives (R15).
        lease: Duration,
        /// Version of the state that the hot knows.
        version: Version,
        /// The hot's commit position.
        committed: Lsn,
        /// The last beacon that the hot has heard this receiver answer; 0 for none (R23).
        echo: u64,
        /// For how long the hot's disk has made no progress with a write that waits for it (R23).
        stalled: Duration,
    },
    /// The answer to a beacon (R23: each one is answered).
    BeaconAnswer {
        /// The highest epoch the sender has seen.
        epoch: Epoch,
        /// The incarnation whose beacon is answered.
        incarnation: Incarnation,
        /// Which beacon.
        seq: u64,
        /// The answer.
        grant: Grant,
        /// Version of the state that the sender knows.
        version: Version,
        /// The sender is about to stop: never a target (R21).
        leaving: bool,
    },
    /// A node about to stand asks who hears the hot (R22). Asking changes nothing at the receiver.
    Poll {
        /// Numbers the candidacies of this incarnation.
        candidacy: u64,
        /// The epoch it would end.
        epoch: Epoch,
    },
    /// The answer to a poll.
    PollAnswer {
        /// Which candidacy.
        candidacy: u64,
        /// The highest epoch the sender has seen.
        epoch: Epoch,
        /// End of the sender's log.
        end: EntryId,
        /// The sender is hot itself, or granted a beacon within the grace with the hot hearing it too.
        hears_hot: bool,
        /// Version of the state that the sender knows.
        version: Version,
        /// The sender is about to stop.
        leaving: bool,
    },
    /// "Do you still follow this reign, and are you not standing?" (R19)
    Verify {
        /// The reign.
        epoch: Epoch,
        /// The reign.
        incarnation: Incarnation,
        /// Numbers the rounds of this incarnation.
        round: u64,
    },
    /// The answer: yes. (A no is a `BeaconAnswer` with `Deposed`, or silence.)
    Verified {
        /// The reign.
        epoch: Epoch,
        /// The reign.
        incarnation: Incarnation,
        /// Which round.
        round: u64,
    },
    /// "This incarnation of mine stops for good; it neither serves nor acknowledges any more" (R21).
    Goodbye {
        /// The highest epoch the sender has seen.
        epoch: Epoch,
    },

    // --- Replication.
    /// The hot begins to bring a follower in step and asks where its log stands.
    OpenStream {
        /// The reign.
        epoch: Epoch,
        /// The reign.
        incarnation: Incarnation,
        /// The stream.
        stream: StreamId,
    },
    /// Where the follower's log stands.
    StreamOpened {
        /// The reign.
        epoch: Epoch,
        /// The reign.
        incarnation: Incarnation,
        /// The stream.
        stream: StreamId,
        /// First position of each epoch that the follower's log holds, oldest first.
        epochs: Vec<(Epoch, Lsn)>,
        /// End of its log.
        end: EntryId,
        /// The follower's committed position: nothing below may be cut.
        committed: Lsn,
    },
    /// The next block, which follows directly on `prev`.
    Append {
        /// The reign.
        epoch: Epoch,
        /// The reign.
        incarnation: Incarnation,
        /// The stream.
        stream: StreamId,
        /// The entry before the block.
        prev: EntryId,
        /// The block.
        block: Block,
        /// The hot's commit position.
        committed: Lsn,
    },
    /// How far the follower's log is proven equal to the hot's and durable (R10).
    Ack {
        /// The reign.
        epoch: Epoch,
        /// The reign.
        incarnation: Incarnation,
        /// The stream.
        stream: StreamId,
        /// The lower of matched and durable.
        durable: Lsn,
    },
    /// The hot's commit position, when no block carries it (R37).
    Commit {
        /// The reign.
        epoch: Epoch,
        /// The reign.
        incarnation: Incarnation,
        /// The stream.
        stream: StreamId,
        /// The position.
        committed: Lsn,
    },
    /// The follower's log does not reach the hot's: a snapshot is ready.
    OfferSnapshot {
        /// The reign.
        epoch: Epoch,
        /// The reign.
        incarnation: Incarnation,
        /// The stream.
        stream: StreamId,
        /// The entry that the snapshot includes last.
        at: EntryId,
        /// First position of each epoch up to `at` (R32).
        epochs: Vec<(Epoch, Lsn)>,
    },
    /// The follower has made sure that it is not in sync (R31) and is ready to receive.
    SnapshotWanted {
        /// The reign.
        epoch: Epoch,
        /// The reign.
        incarnation: Incarnation,
        /// The stream.
        stream: StreamId,
    },
}

impl Message {
    /// Whether the message belongs on the bulk connection: large, and never needed to keep a lease or to take over.
    #[must_use]
    pub fn is_bulk(&self) -> bool {
        matches!(self, Self::Append { .. } | Self::Ack { .. } | Self::Commit { .. })
    }

    /// Its name, as transcripts and traces show it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Hello(_) => "hello",
            Self::HelloPassed { .. } => "hello-passed",
            Self::HelloRefused { .. } => "hello-refused",
            Self::Prepare { .. } => "prepare",
            Self::Promise { .. } => "promise",
            Self::Accept { .. } => "accept",
            Self::Accepted { .. } => "accepted",
            Self::Refused { .. } => "refused",
            Self::Announce { .. } => "announce",
            Self::AskState { .. } => "ask-state",
            Self::Beacon { .. } => "beacon",
            Self::BeaconAnswer { .. } => "beacon-answer",
            Self::Poll { .. } => "poll",
            Self::PollAnswer { .. } => "poll-answer",
            Self::Verify { .. } => "verify",
            Self::Verified { .. } => "verified",
            Self::Goodbye { .. } => "goodbye",
            Self::OpenStream { .. } => "open-stream",
            Self::StreamOpened { .. } => "stream-opened",
            Self::Append { .. } => "append",
            Self::Ack { .. } => "ack",
            Self::Commit { .. } => "commit",
            Self::OfferSnapshot { .. } => "offer-snapshot",
            Self::SnapshotWanted { .. } => "snapshot-wanted",
        }
    }
}
