//! What the executing thread is asked to do, and what came of it.

use super::lane::LaneId;
use hotwarm_resp::Reply;
use hotwarm_store::command::Call;
use hotwarm_store::Identity;
use hotwarm_types::{Lsn, NodeId, SessionId};

/// A call of a connection of this node.
#[derive(Clone, Debug)]
pub struct ClientCall {
    /// Which of the connection's replies answers it.
    pub slot: u64,
    /// The call.
    pub call: Call,
    /// Under which identity, where the client brought its own session.
    pub identity: Option<Identity>,
}

/// Something to execute.
#[derive(Clone, Debug)]
pub(super) enum Work {
    /// A client's call.
    Call {
        call: Call,
        /// Under which identity it writes.
        identity: Option<Identity>,
        /// The lane that the identity is of, on the node whose client it is.
        lane: Option<LaneId>,
        /// A read that needs a round of proof, whatever the lease says (R19).
        verify: bool,
    },
    /// A lane's session is to be opened.
    OpenSession { session: SessionId, lane: Option<LaneId> },
}

impl Work {
    /// Whether a hot that executed it may have changed something.
    pub(super) fn writes(&self) -> bool {
        match self {
            Self::Call { call, .. } => call.writes(),
            // Opening twice is opening once: it may be done again at any time.
            Self::OpenSession { .. } => false,
        }
    }

    /// What it weighs in bounds, in bytes.
    pub(super) fn size_bytes(&self) -> usize {
        match self {
            Self::Call { call, .. } => 128 + call.size_bytes(),
            Self::OpenSession { .. } => 128,
        }
    }
}

/// Who waits for a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// A client of this node: the call's number in the ledger.
    Local { seq: u64 },
    /// A client of another node: that node's number.
    Remote { node: NodeId, seq: u64 },
}

/// A call that another node sent on.
#[derive(Debug)]
pub(super) struct RemoteCall {
    pub(super) node: NodeId,
    pub(super) seq: u64,
    pub(super) client: u64,
    pub(super) work: Work,
}

/// What came of executing something.
#[derive(Debug)]
pub(super) enum Ran {
    /// The reply may leave at once.
    Now(Reply),
    /// The reply may leave when this position is committed (R33).
    At(Lsn, Reply),
    /// It is in the log already, under its identity, at this position: its reply is known when that is committed.
    Joined(Lsn, Identity),
    /// It may or may not have been carried out, and nobody can find out.
    Unknown,
    /// Nothing was executed: reads and replies without effects need proof of the reign first.
    NeedsProof,
    /// Nothing was executed: writes wait for room.
    NeedsRoom,
    /// The store failed: the node must be fenced (INV-9).
    Failed(String),
}
