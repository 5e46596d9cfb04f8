//! One round of the register: whom a proposer has asked in it, who has answered, and when it asks again.

use super::denied::Denied;
use super::value::{Ballot, GroupState};
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use core::time::Duration;
use hotwarm_types::{Instant, NodeId};

/// How long answers are waited for before a message is sent again; doubled each time in a round. A round trip and two
/// fsyncs on a slow disk fit in it.
const RESEND_AFTER: Duration = Duration::from_millis(100);
/// Where the doubling ends.
const RESEND_AFTER_MAX: Duration = Duration::from_secs(1);

/// One ballot.
#[derive(Clone, Debug, Hash)]
pub(super) struct Round {
    pub(super) ballot: Ballot,
    /// Whom the present phase has asked.
    pub(super) asked: BTreeSet<NodeId>,
    pub(super) phase: Phase,
    pub(super) resends: u32,
    resend_after: Duration,
    pub(super) resend_at: Instant,
    /// When the next round begins, if this one does not succeed before.
    pub(super) restart_at: Option<Instant>,
}

#[derive(Clone, Debug, Hash)]
pub(super) enum Phase {
    Prepare {
        /// Who has promised, and the ballot of what it holds.
        promises: BTreeMap<NodeId, Option<Ballot>>,
        /// What was accepted in the highest ballot among them.
        held: Option<(Ballot, GroupState)>,
    },
    Accept {
        state: Box<GroupState>,
        accepted: BTreeSet<NodeId>,
        end: End,
    },
}

/// What it means when the state of an accept phase is chosen.
#[derive(Clone, Debug, Hash)]
pub(super) enum End {
    /// The wish is in it.
    Done,
    /// It shows that the wish cannot be done.
    Denied(Denied),
    /// A change of acceptors is complete; the wish goes on from there.
    Again,
}

impl Round {
    /// A round that asks for promises.
    pub(super) fn new(now: Instant, ballot: Ballot) -> Self {
        Self {
            ballot,
            asked: BTreeSet::new(),
            phase: Phase::Prepare { promises: BTreeMap::new(), held: None },
            resends: 0,
            resend_after: RESEND_AFTER,
            resend_at: now + RESEND_AFTER,
            restart_at: None,
        }
    }

    /// Begins to wait for answers anew.
    pub(super) fn wait_anew(&mut self, now: Instant) {
        self.restart_at = None;
        self.resends = 0;
        self.resend_after = RESEND_AFTER;
        self.resend_at = now + RESEND_AFTER;
    }

    /// What was asked is asked again: the next time after twice the wait.
    pub(super) fn repeat(&mut self, now: Instant) {
        self.resend_after = (self.resend_after * 2).min(RESEND_AFTER_MAX);
        self.resend_at = now + self.resend_after;
        self.resends += 1;
    }

    /// Who was asked in this phase and has not answered.
    pub(super) fn silent(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.asked.iter().copied().filter(|node| match &self.phase {
            Phase::Prepare { promises, .. } => !promises.contains_key(node),
            Phase::Accept { accepted, .. } => !accepted.contains(node),
        })
    }
}
