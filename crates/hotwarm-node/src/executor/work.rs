//! What the executing thread is asked to do, and by whom.

use super::lane::LaneId;
use hotwarm_store::command::Call;
use hotwarm_store::{Engine, Identity, Ran, Terms};
use hotwarm_types::{Lsn, NodeId, SessionId};

/// A request of a connection of this node that needs the data.
#[derive(Clone, Debug)]
pub struct ClientCall {
    /// Which of the connection's replies answers it.
    pub slot: u64,
    /// What is asked.
    pub task: Task,
}

/// What a connection may ask.
#[derive(Clone, Debug)]
pub enum Task {
    /// To read.
    Read {
        /// The call.
        call: Call,
        /// The client has said that any node may answer, as long as it goes never back (READONLY).
        anywhere: bool,
    },
    /// To change something, once: under the client's own identity, or one that this node gives it.
    Write(Call),
    /// To open a session of the client's own, or, with `resume`, to find it open.
    Session {
        /// The session.
        session: SessionId,
        /// Never open it.
        resume: bool,
    },
}

impl Task {
    /// What it weighs in bounds, in bytes.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        match self {
            Self::Read { call, .. } | Self::Write(call) => 128 + call.size_bytes(),
            Self::Session { .. } => 128,
        }
    }
}

/// Something to execute.
#[derive(Clone, Debug)]
pub(super) enum Work {
    /// A call that only reads.
    Read {
        call: Call,
        /// It needs a round of proof, whatever the lease says (R19).
        verify: bool,
    },
    /// A call that may change something.
    Write {
        call: Call,
        /// Under which identity.
        identity: Identity,
        /// The lane that the identity is of, on the node whose client it is; `None` for a client's own session.
        lane: Option<LaneId>,
    },
    /// A session is to be opened, or found open.
    Session {
        session: SessionId,
        resume: bool,
        /// The lane whose session it is; `None` for a client's own.
        lane: Option<LaneId>,
    },
}

impl Work {
    /// Whether a hot that executed it may have changed something that must not be changed twice.
    pub(super) fn writes(&self) -> bool {
        match self {
            Self::Write { .. } => true,
            // Opening twice is opening once: it may be done again at any time.
            Self::Read { .. } | Self::Session { .. } => false,
        }
    }

    /// Executes it for a connection that has seen everything up to `seen`. `proven`: a round of proof began after it
    /// arrived (R19).
    pub(super) fn execute(&self, engine: &mut Engine, seen: Lsn, proven: bool, terms: Terms) -> Ran {
        match self {
            Self::Read { call, verify } => engine.read(call, *verify, seen, proven, terms),
            Self::Write { call, identity, .. } => engine.write_once(call, *identity, proven, terms),
            Self::Session { session, resume, .. } => engine.open_session(*session, *resume, proven, terms),
        }
    }

    /// What it weighs in bounds, in bytes.
    pub(super) fn size_bytes(&self) -> usize {
        match self {
            Self::Read { call, .. } | Self::Write { call, .. } => 128 + call.size_bytes(),
            Self::Session { .. } => 128,
        }
    }
}

/// Who waits for a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// A client of this node: the call's number in the ledger.
    Local { seq: u64 },
    /// A client of another node: that node's number, and the round in which it came.
    Remote { node: NodeId, seq: u64, round: u64 },
}

/// A call that another node sent on.
#[derive(Debug)]
pub(super) struct RemoteCall {
    pub(super) node: NodeId,
    /// Its number there.
    pub(super) seq: u64,
    /// The round of handing over in which it came.
    pub(super) round: u64,
    /// The connection there.
    pub(super) client: u64,
    pub(super) work: Work,
}
