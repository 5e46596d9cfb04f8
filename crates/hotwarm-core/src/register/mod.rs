//! The register: the small linearizable compare-and-swap cell that holds a group's state.
//!
//! Single-value Paxos over the members' acceptors (CASPaxos, Rystsov 2018): two round trips to a majority, no
//! leader, no log, nothing to compact. Losing it demotes nobody; only changes of role must wait.

mod value;

pub use value::{
    Ballot, Cause, ChangeKind, ChangeRecord, Durability, GroupState, Invitation, Member, MemberRole, Pause, ProposalId,
    Replication, Settings, Timing, TimingError, Vote,
};
