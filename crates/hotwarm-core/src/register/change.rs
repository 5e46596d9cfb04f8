//! What may be wished of the register: the changes by name, and a wish that carries one.
//!
//! Nothing is decided here: `transition` says which change is allowed from which state.

use super::value::{Cause, GroupState, MemberRole, ProposalId, Settings};
use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::string::String;
use core::time::Duration;
use hotwarm_types::{Epoch, FolderId, Incarnation, NodeId, Reign, Version};

/// One change of a group's state. The guards of each stand in `transition::TABLE`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    /// No change at all: a linearizable read.
    Read,
    /// Nothing but a new version, which settles what an earlier attempt may have left behind (R2).
    Bump,
    /// The first state, where nothing was ever accepted (R4).
    Bootstrap(Box<GroupState>),
    /// An in-sync node takes over without the hot's help (R25, R29).
    Promote {
        /// The node; the wish is its own.
        candidate: NodeId,
        /// The start of its process.
        incarnation: Incarnation,
        /// The new in-sync set: the candidate, and the in-sync members that answered its poll.
        in_sync: BTreeSet<NodeId>,
        /// The highest epoch the candidate has heard of; the new one is above it.
        seen: Epoch,
    },
    /// The hot gives its place to another in-sync node (R21).
    HandOver {
        /// The reign that gives.
        reign: Reign,
        /// Who becomes hot.
        target: NodeId,
        /// The start of its process.
        incarnation: Incarnation,
    },
    /// The hot removes nodes from the in-sync set (R26).
    Shrink {
        /// The reign that shrinks.
        reign: Reign,
        /// Who leaves the set; at least one, never the hot.
        nodes: BTreeSet<NodeId>,
    },
    /// The hot takes a node that has caught up into the in-sync set (R27).
    Grow {
        /// The reign that grows.
        reign: Reign,
        /// Who enters the set.
        node: NodeId,
    },
    /// Lets an empty folder join under a name; if a member has that name, in its place (R4).
    Invite {
        /// The name.
        name: String,
        /// Where peers will reach it: host name and port.
        address: String,
        /// Whether it will hold data.
        role: MemberRole,
        /// Its priority as a candidate, 0..=1000.
        priority: u16,
    },
    /// An invited folder becomes a member, outside the in-sync set; what it replaces stops being one (R4, R6).
    Admit {
        /// The name it was invited under.
        name: String,
        /// Its folder.
        folder: FolderId,
    },
    /// Drops an invitation, or else removes the member of that name (R6).
    Remove {
        /// The name.
        name: String,
    },
    /// Replaces the agreed settings.
    Settings(Settings),
    /// Begins maintenance, or changes its length (R29).
    Pause {
        /// How long it counts from when a node learns of it.
        length: Duration,
        /// Why.
        reason: String,
    },
    /// Ends maintenance. A pause that has expired is ended by whoever needs it ended.
    Resume,
    /// An operator makes a node hot that may lack acknowledged writes (R8).
    ForcePromote {
        /// The node.
        candidate: NodeId,
        /// The start of its process.
        incarnation: Incarnation,
        /// The highest epoch the candidate has heard of.
        seen: Epoch,
        /// How the operator knows that the old hot is fenced; kept in the history.
        statement: String,
    },
}

impl Change {
    /// Its name: the row of `transition::TABLE` that tells its guards.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Bump => "bump",
            Self::Bootstrap(_) => "bootstrap",
            Self::Promote { .. } => "promote",
            Self::HandOver { .. } => "hand over",
            Self::Shrink { .. } => "shrink",
            Self::Grow { .. } => "grow",
            Self::Invite { .. } => "invite",
            Self::Admit { .. } => "admit",
            Self::Remove { .. } => "remove",
            Self::Settings(_) => "settings",
            Self::Pause { .. } => "pause",
            Self::Resume => "resume",
            Self::ForcePromote { .. } => "force promote",
        }
    }
}

/// A change that one node wants made, once.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Wish {
    /// Names it, so that its own success is recognised when somebody else completes it (R2).
    pub id: ProposalId,
    /// The only version from which it may be made; `None` for any.
    pub expected: Option<Version>,
    /// The change.
    pub change: Change,
    /// Why; goes into the history (INV-11).
    pub cause: Cause,
    /// Wall clock of the wisher, milliseconds since the Unix epoch; for people only.
    pub at_ms: u64,
}
