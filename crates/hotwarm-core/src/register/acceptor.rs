//! The acceptor: what one member does with a round of the register.
//!
//! Pure functions over the durable [`Vote`]. A promise or an acceptance leans on the changed vote: the caller makes
//! it durable before the response leaves. Guards R3 and R6. Source: Rystsov, "CASPaxos: Replicated State Machines
//! without logs", 2018, section 2.2.

use super::value::{Ballot, GroupState, Vote};
use crate::Message;
use hotwarm_types::Version;

/// What an acceptor answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// No lower ballot will be answered any more. Leans on the vote.
    Promise {
        /// The round.
        ballot: Ballot,
        /// What was accepted last.
        accepted: Option<(Ballot, GroupState)>,
    },
    /// The state is held. Leans on the vote.
    Accepted {
        /// The round.
        ballot: Ballot,
    },
    /// Nothing was changed.
    Refused {
        /// The round that is refused.
        ballot: Ballot,
        /// The highest ballot promised.
        promised: Ballot,
        /// The accepted state, where its member list is newer than any the proposer has seen.
        newer: Option<GroupState>,
    },
}

impl Response {
    /// Whether the vote must be durable before this is sent.
    #[must_use]
    pub fn leans_on_vote(&self) -> bool {
        match self {
            Self::Promise { .. } | Self::Accepted { .. } => true,
            Self::Refused { .. } => false,
        }
    }
}

impl From<Response> for Message {
    fn from(response: Response) -> Self {
        match response {
            Response::Promise { ballot, accepted } => Self::Promise { ballot, accepted },
            Response::Accepted { ballot } => Self::Accepted { ballot },
            Response::Refused { ballot, promised, newer } => Self::Refused { ballot, promised, newer },
        }
    }
}

/// Phase one: promises to answer no lower ballot. Asked again in the same ballot, it promises again: the first
/// answer may have been lost. `members_version` is the newest member list that the proposer has seen.
pub fn prepare(vote: &mut Vote, ballot: Ballot, members_version: Version) -> Response {
    if let Some(refusal) = refusal(vote, ballot, members_version) {
        return refusal;
    }
    vote.promised = ballot;
    Response::Promise { ballot, accepted: vote.accepted.clone() }
}

/// Phase two: holds `state`, unless a higher ballot was promised. Asked again in the same ballot, it accepts again.
/// A second value in one ballot, a foreign group's state, or one whose member list is newer than the message admits
/// can only come from a broken peer, and is refused.
pub fn accept(vote: &mut Vote, ballot: Ballot, members_version: Version, state: GroupState) -> Response {
    if let Some(refusal) = refusal(vote, ballot, members_version) {
        return refusal;
    }
    let broken = state.members_version > members_version
        || vote.accepted.as_ref().is_some_and(|(held_in, held)| {
            (held.cluster, held.group) != (state.cluster, state.group) || (*held_in == ballot && *held != state)
        });
    if broken {
        return Response::Refused { ballot, promised: vote.promised, newer: None };
    }
    vote.promised = ballot;
    vote.accepted = Some((ballot, state));
    Response::Accepted { ballot }
}

/// What both phases refuse: a proposer that has not seen this acceptor's member list (R6), and a lower ballot (R3).
/// Counter 0 precedes every round.
fn refusal(vote: &Vote, ballot: Ballot, members_version: Version) -> Option<Response> {
    let newer = vote.accepted.as_ref().map(|(_, state)| state).filter(|state| state.members_version > members_version);
    if newer.is_none() && ballot >= vote.promised && ballot.counter > 0 {
        return None;
    }
    Some(Response::Refused { ballot, promised: vote.promised, newer: newer.cloned() })
}
