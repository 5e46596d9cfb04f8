//! Why a change of the register is not allowed: one variant for each guard, each saying what would be allowed.

use super::value::{ProposalId, TimingError};
use alloc::collections::BTreeSet;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;
use hotwarm_types::limits::{MEMBERS_MAX, NAME_SIZE_BYTES_MAX};
use hotwarm_types::{FolderId, NodeId, Reign, Version};

/// Why a wish was refused. Nothing was changed by it, save for what [`Denied::OutcomeForgotten`] leaves open.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Denied {
    /// Nothing was ever accepted: only a bootstrap may come first (R4).
    NotBootstrapped,
    /// A bootstrap where there is a state already (R4).
    AlreadyBootstrapped {
        /// Version of the state.
        version: Version,
    },
    /// The first state contradicts itself.
    BirthInvalid {
        /// How.
        why: &'static str,
    },
    /// The state is not the one that the wish was made for (R2).
    VersionMoved {
        /// The version the wish was made for.
        expected: Version,
        /// The present one.
        found: Version,
    },
    /// Only the hot may do this, in its own reign, and this is not it (R1, R26).
    NotTheReign {
        /// The reign that the wish claims.
        claimed: Reign,
        /// Who wishes it.
        by: ProposalId,
        /// The reign of the state.
        found: Reign,
    },
    /// A node stands for itself only, in its present start (R1).
    NotTheCandidate {
        /// The candidate named.
        candidate: NodeId,
        /// Who wishes it.
        by: ProposalId,
    },
    /// The node may lack acknowledged writes (INV-4).
    NotInSync {
        /// The node.
        node: NodeId,
        /// Who is in sync.
        in_sync: BTreeSet<NodeId>,
    },
    /// The node is no member that holds data.
    NotADataMember {
        /// The node.
        node: NodeId,
    },
    /// The wished in-sync set lacks the node that would be hot (R25).
    CandidateLeftOut {
        /// The candidate.
        candidate: NodeId,
    },
    /// Fewer nodes than `min_copies` would be in sync (R12).
    TooFewCopies {
        /// How many would be left.
        left: usize,
        /// How many must be.
        min_copies: u8,
    },
    /// Maintenance: no other node is promoted automatically (R29).
    Paused {
        /// Why it is on.
        reason: String,
    },
    /// There is no maintenance to end.
    NotPaused,
    /// The node is hot and must not be for this change.
    IsHot {
        /// The node.
        node: NodeId,
    },
    /// The node is in the in-sync set already.
    AlreadyInSync {
        /// The node.
        node: NodeId,
    },
    /// A shrink of nobody.
    NobodyNamed,
    /// A member in the in-sync set cannot be removed (INV-5).
    StillInSync {
        /// Its name.
        name: String,
    },
    /// The member is the only one in sync: replacing it would lose the data (R4).
    OnlyInSync {
        /// The member.
        node: NodeId,
    },
    /// Neither a member nor an invitation has this name.
    UnknownName {
        /// The name.
        name: String,
    },
    /// The folder was not invited under this name (R4).
    NotInvited {
        /// The name.
        name: String,
    },
    /// Not a name: letters, digits, hyphen and underscore.
    NameInvalid {
        /// The name.
        name: String,
    },
    /// Another member has the name.
    NameTaken {
        /// The name.
        name: String,
        /// The member.
        by: NodeId,
    },
    /// The folder is a member's already, under another number (R4).
    FolderTaken {
        /// The folder.
        folder: FolderId,
        /// The member.
        by: NodeId,
    },
    /// Not an address: host name or number, colon, port.
    AddressInvalid {
        /// The address.
        address: String,
    },
    /// Another member, or another invitation, has that address.
    AddressTaken {
        /// The address.
        address: String,
        /// The name of who has it.
        by: String,
    },
    /// The priority is out of range.
    PriorityInvalid {
        /// The priority.
        priority: u16,
    },
    /// The group is full, invitations included.
    MembersMax,
    /// Every member number has been used.
    NumbersExhausted,
    /// `min_copies` does not fit the members.
    MinCopiesInvalid {
        /// The wished number.
        min_copies: u8,
        /// How many members hold data.
        data_members: usize,
    },
    /// The timers do not keep each other's promises.
    TimingInvalid(TimingError),
    /// A bound of the lag in async mode is zero (R14).
    LagUnbounded,
    /// A text is too long for the register.
    TextTooLarge {
        /// What it is.
        what: &'static str,
        /// Its size.
        size_bytes: usize,
        /// The largest allowed.
        size_bytes_max: usize,
    },
    /// A pause of no time, or of too long.
    PauseLengthInvalid {
        /// The wished length.
        length: Duration,
        /// The longest allowed.
        length_max: Duration,
    },
    /// A forced promotion without a statement that the old hot is fenced (R8).
    StatementMissing,
    /// Too few of the acceptors that the change would leave have answered: made, it might stop the register (R6).
    NoLivingMajority {
        /// The acceptors after the change.
        acceptors: BTreeSet<NodeId>,
        /// Those of them that answered.
        answered: BTreeSet<NodeId>,
    },
    /// So many changes have followed an attempt to make this one that the history no longer tells whether it was
    /// made: its outcome is unknown.
    OutcomeForgotten {
        /// The version that it may have made.
        attempted: Version,
        /// The present version.
        found: Version,
    },
}

impl Denied {
    /// In words for people, with the names of nodes in place of their numbers.
    #[must_use]
    pub fn told(&self, name: impl Fn(NodeId) -> String) -> String {
        Told { denied: self, name: &name }.to_string()
    }
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Told { denied: self, name: &|node| node.to_string() }.fmt(f)
    }
}

/// The words, with whatever nodes are called.
struct Told<'a> {
    denied: &'a Denied,
    name: &'a dyn Fn(NodeId) -> String,
}

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |node: &NodeId| (self.name)(*node);
        match self.denied {
            Denied::NotBootstrapped => f.write_str("the group has never run: it must be bootstrapped first"),
            Denied::AlreadyBootstrapped { version } => {
                write!(f, "the group has run already and stands at {version}: it is bootstrapped only once")
            }
            Denied::BirthInvalid { why } => write!(f, "the initial state is invalid: {why}"),
            Denied::VersionMoved { expected, found } => {
                write!(f, "the change was made for {expected}, the state is at {found}: compute it again from there")
            }
            Denied::NotTheReign { claimed, by, found } => {
                write!(f, "only the hot {found} may do this in its reign, not {by} in the reign {claimed}")
            }
            Denied::NotTheCandidate { candidate, by } => {
                write!(f, "{by} cannot stand for {}: a node stands only for its own present start", name(candidate))
            }
            Denied::NotInSync { node, in_sync } => {
                let node = name(node);
                write!(f, "{node} may lack acknowledged writes: allowed are the in-sync nodes {}", self.list(in_sync))
            }
            Denied::NotADataMember { node } => write!(f, "{} is no member that holds data", name(node)),
            Denied::CandidateLeftOut { candidate } => {
                write!(f, "the new in-sync set lacks {}, which would be hot: it must be in it", name(candidate))
            }
            Denied::TooFewCopies { left, min_copies } => {
                write!(f, "{left} nodes would be in sync, min_copies demands {min_copies}: grow first or lower it")
            }
            Denied::Paused { reason } => {
                write!(f, "maintenance is on ({reason:?}): resume first, or hand over")
            }
            Denied::NotPaused => f.write_str("maintenance is not on: there is nothing to resume"),
            Denied::IsHot { node } => write!(f, "{} is hot: hand over to another node first", name(node)),
            Denied::AlreadyInSync { node } => write!(f, "{} is in the in-sync set already", name(node)),
            Denied::NobodyNamed => f.write_str("a shrink must name at least one node"),
            Denied::StillInSync { name } => {
                write!(f, "{name:?} is in the in-sync set: stop it and let the hot shrink it away first")
            }
            Denied::OnlyInSync { node } => {
                write!(f, "{} is the only node in sync: its data would be lost; force a promotion first", name(node))
            }
            Denied::UnknownName { name } => write!(f, "neither a member nor an invitation is named {name:?}"),
            Denied::NotInvited { name } => write!(f, "no folder is invited to join as {name:?}: invite it first"),
            Denied::NameInvalid { name } => write!(
                f,
                "{name:?} is not a node name: 1 to {NAME_SIZE_BYTES_MAX} letters, digits, hyphens or underscores"
            ),
            Denied::NameTaken { name: taken, by } => {
                write!(f, "{taken:?} is the name of {}: invite to that name to replace it", name(by))
            }
            Denied::FolderTaken { folder, by } => {
                write!(f, "folder {folder} belongs to {} already: join with an empty folder", name(by))
            }
            Denied::AddressInvalid { address } => write!(f, "{address:?} is not an address: write host:port"),
            Denied::AddressTaken { address, by } => {
                write!(f, "{address:?} is the address of {by:?} already: each node needs one of its own")
            }
            Denied::PriorityInvalid { priority } => write!(f, "priority {priority} must be 0 to 1000"),
            Denied::MembersMax => {
                write!(f, "the group is full: {MEMBERS_MAX} members and invitations; remove one first")
            }
            Denied::NumbersExhausted => f.write_str("every member number of this group has been used"),
            Denied::MinCopiesInvalid { min_copies, data_members } => {
                write!(f, "min_copies {min_copies} must be 1 to {data_members}, the members that hold data")
            }
            Denied::TimingInvalid(error) => error.fmt(f),
            Denied::LagUnbounded => f.write_str("lag_max must be above zero in bytes and in time"),
            Denied::TextTooLarge { what, size_bytes, size_bytes_max } => {
                write!(f, "{what} is {size_bytes} bytes long: at most {size_bytes_max} are allowed")
            }
            Denied::PauseLengthInvalid { length, length_max } => write!(
                f,
                "a pause of {}s must be longer than nothing and at most {}s",
                length.as_secs(),
                length_max.as_secs()
            ),
            Denied::StatementMissing => {
                f.write_str("a forced promotion needs a statement of how the old hot is known to be fenced")
            }
            Denied::NoLivingMajority { acceptors, answered } => write!(
                f,
                "of the acceptors {} that the change would leave, only {} answered: a majority must be alive",
                self.list(acceptors),
                self.list(answered)
            ),
            Denied::OutcomeForgotten { attempted, found } => write!(
                f,
                "whether the change was made as {attempted} is unknown: the history at {found} no longer reaches back"
            ),
        }
    }
}

impl core::error::Error for Denied {}

impl Told<'_> {
    /// Nodes with commas between them, or "none".
    fn list(&self, nodes: &BTreeSet<NodeId>) -> String {
        let names: Vec<String> = nodes.iter().map(|node| (self.name)(*node)).collect();
        if names.is_empty() { "none".into() } else { names.join(", ") }
    }
}
