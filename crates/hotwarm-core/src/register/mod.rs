//! The register: the small linearizable compare-and-swap cell that holds a group's state.
//!
//! Single-value Paxos over the members' acceptors (CASPaxos, Rystsov 2018): two round trips to a majority, no
//! leader, no log, nothing to compact. Losing it demotes nobody; only changes of role must wait.
//!
//! A [`Wish`] goes through the [`Proposer`]: it learns from a quorum what was accepted last, lets [`apply`] judge
//! the wish by that, and has the [`acceptor`]s hold the state that results. [`Quorum`] says who must answer.

pub mod acceptor;
mod change;
mod denied;
mod proposer;
mod quorum;
mod round;
mod table;
mod transition;
mod value;

pub use acceptor::Response;
pub use change::{Change, Wish};
pub use denied::Denied;
pub use proposer::{Outcome, Proposer};
pub use quorum::Quorum;
pub use table::{TABLE, Transition, markdown};
pub use transition::apply;
pub use value::{
    Ballot, Cause, ChangeKind, ChangeRecord, Durability, GroupState, Invitation, Member, MemberRole, Pause, ProposalId,
    Replication, Settings, Timing, TimingError, Vote,
};
