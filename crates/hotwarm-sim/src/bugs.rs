//! Bugs planted one at a time, to test the judges: each must be found, by a named check, within a number of seeds.
//!
//! They live in the simulated shell, or rewrite what goes in and out of the core, so that the core carries no switches
//! for them. Each stands for a mistake that a real system has made.

use crate::clock::MS;
use crate::disk::Disk;
use crate::world::{Event, World};
use hotwarm_core::{Claims, Grant, Input, Message, Output};
use hotwarm_types::{Block, NodeId};

/// A planted bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant is described by `about`")]
pub enum Bug {
    AckBeforeSync,
    VoteNotSynced,
    EpochForgotten,
    IncarnationReused,
    TruncationSkipped,
    TailDropped,
    CommitWithoutShrink,
    GrownTooEarly,
    PromotedOutOfSync,
    WipedNodeVotes,
    LeaseCached,
    LeaseLongerThanGrace,
    GrantWhileStanding,
    DeathMisattested,
    VerifiedUnasked,
    UncommittedRead,
    ReplyBeforeCommit,
    CommitUnclamped,
    SessionsNotReplicated,
    SnapshotHalf,
    SnapshotUnordered,
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 21] = [
        Self::AckBeforeSync,
        Self::VoteNotSynced,
        Self::EpochForgotten,
        Self::IncarnationReused,
        Self::TruncationSkipped,
        Self::TailDropped,
        Self::CommitWithoutShrink,
        Self::GrownTooEarly,
        Self::PromotedOutOfSync,
        Self::WipedNodeVotes,
        Self::LeaseCached,
        Self::LeaseLongerThanGrace,
        Self::GrantWhileStanding,
        Self::DeathMisattested,
        Self::VerifiedUnasked,
        Self::UncommittedRead,
        Self::ReplyBeforeCommit,
        Self::CommitUnclamped,
        Self::SessionsNotReplicated,
        Self::SnapshotHalf,
        Self::SnapshotUnordered,
    ];

    /// What is wrong with it.
    #[must_use]
    pub fn about(self) -> &'static str {
        match self {
            Self::AckBeforeSync => "the log reports blocks as durable before they are synced",
            Self::VoteNotSynced => "the vote record is reported as durable before it is synced",
            Self::EpochForgotten => "the epoch in the vote record is not written",
            Self::IncarnationReused => "a restarted process goes on under its old incarnation",
            Self::TruncationSkipped => "a cut of the log is reported and not done",
            Self::TailDropped => "recovery drops the last durable block as if it were torn",
            Self::CommitWithoutShrink => "a silent follower counts as having acknowledged after a while",
            Self::GrownTooEarly => "a joining follower counts as caught up when it acknowledges anything",
            Self::PromotedOutOfSync => "a node takes itself for a member of the in-sync set",
            Self::WipedNodeVotes => "a wiped folder keeps its identity, and its amnesia is not noticed",
            Self::LeaseCached => "a lease once seen good is taken for good for five seconds",
            Self::LeaseLongerThanGrace => "clocks run 40 % fast or slow, so that leases outlive graces",
            Self::GrantWhileStanding => "a node that only heard a beacon grants it",
            Self::DeathMisattested => "the guardian attests the death of a process that is only stopped",
            Self::VerifiedUnasked => "verified reads are answered without a round",
            Self::UncommittedRead => "reads show what is executed and not committed",
            Self::ReplyBeforeCommit => "writes are answered when they are proposed",
            Self::CommitUnclamped => "a follower applies what the hot has committed before its log is proven equal",
            Self::SessionsNotReplicated => "followers do not keep the session table",
            Self::SnapshotHalf => "a whole copy replaces the log and not the state",
            Self::SnapshotUnordered => "a whole copy is installed as soon as it is there, without the core's order",
        }
    }

    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> String {
        let mut name = String::new();
        for letter in format!("{self:?}").chars() {
            if letter.is_uppercase() && !name.is_empty() {
                name.push('_');
            }
            name.push(letter.to_ascii_lowercase());
        }
        name
    }

    /// The checks that may find it.
    #[must_use]
    pub fn caught_by(self) -> &'static [&'static str] {
        match self {
            Self::AckBeforeSync | Self::TailDropped | Self::CommitWithoutShrink => &["INV-3", "INV-5", "R11"],
            Self::VoteNotSynced => &["R3", "INV-2", "R11"],
            Self::WipedNodeVotes => &["R3", "INV-2", "INV-3"],
            Self::EpochForgotten => &["INV-2"],
            Self::IncarnationReused => &["INV-1", "INV-3", "INV-8", "R2", "R3"],
            Self::TruncationSkipped => &["INV-8"],
            Self::GrownTooEarly => &["INV-5", "INV-3"],
            Self::PromotedOutOfSync => &["INV-4", "INV-3", "R2"],
            Self::LeaseCached | Self::LeaseLongerThanGrace | Self::DeathMisattested | Self::GrantWhileStanding => {
                &["INV-6", "INV-7"]
            }
            Self::VerifiedUnasked => &["INV-6"],
            Self::UncommittedRead | Self::ReplyBeforeCommit | Self::CommitUnclamped | Self::SnapshotHalf => &["INV-7"],
            Self::SessionsNotReplicated => &["INV-10", "INV-7"],
            Self::SnapshotUnordered => &["INV-3", "INV-5", "INV-8"],
        }
    }

    /// The bug of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|bug| bug.name() == name)
    }
}

/// What a wiped folder would have had to remember, for the bug that forges it.
#[must_use]
pub fn memory_of(disk: &Disk) -> Claims {
    Claims { promised: disk.vote.promised, epoch: disk.vote.epoch, durable: disk.log.end(), ..Claims::default() }
}

impl World {
    /// What a planted bug makes of a fact on its way to the core; `None`: the core never hears of it.
    pub(crate) fn distort_input(&mut self, machine: usize, input: Input) -> Option<Input> {
        let Some(bug) = self.bug else { return Some(input) };
        match (bug, input) {
            (Bug::GrownTooEarly, Input::Received { from, incarnation, message }) => {
                let message = self.raise_ack(machine, from, message);
                Some(Input::Received { from, incarnation, message })
            }
            (Bug::PromotedOutOfSync, Input::Received { from, incarnation, mut message }) => {
                let me = self.id_of(machine);
                if let (Some(me), Message::Promise { accepted: Some((_, state)), .. } | Message::Announce { state }) =
                    (me, &mut message)
                    && state.holds_data(me)
                {
                    state.in_sync.insert(me);
                }
                Some(Input::Received { from, incarnation, message })
            }
            (Bug::WipedNodeVotes, Input::Received { from, incarnation, message: Message::HelloRefused { .. } }) => {
                let message = Message::HelloPassed { version: hotwarm_types::Version(0) };
                Some(Input::Received { from, incarnation, message })
            }
            (
                Bug::CommitUnclamped,
                Input::Received { from, incarnation, message: message @ Message::Beacon { committed, .. } },
            ) => {
                let end = self.machines[machine].process.as_ref().map(|process| process.log.end().lsn);
                self.commit(machine, end.unwrap_or_default().min(committed));
                Some(Input::Received { from, incarnation, message })
            }
            (Bug::VerifiedUnasked, Input::VerifyAsked { id }) => {
                let at = self.machines[machine].process.as_ref().map(|process| process.committed());
                self.verified(machine, id, at);
                None
            }
            (_, input) => Some(input),
        }
    }

    /// An acknowledgement of a node outside the in-sync set is raised to the end of the hot's log.
    fn raise_ack(&self, machine: usize, from: NodeId, mut message: Message) -> Message {
        let Some(process) = &self.machines[machine].process else { return message };
        let joining = process.known.as_ref().is_some_and(|state| !state.in_sync.contains(&from));
        if let Message::Ack { durable, .. } = &mut message
            && joining
        {
            *durable = process.log.end().lsn;
        }
        message
    }

    /// What a planted bug makes of an order on its way from the core; `None`: it is not carried out.
    pub(crate) fn distort_output(&mut self, machine: usize, output: Output) -> Option<Output> {
        let Some(bug) = self.bug else { return Some(output) };
        match (bug, output) {
            (Bug::GrantWhileStanding, Output::Send { to, mut message }) => {
                if let Message::BeaconAnswer { grant, .. } = &mut message
                    && *grant == Grant::Heard
                    && !self.machines[machine].amnesiac
                {
                    *grant = Grant::Granted;
                }
                Some(Output::Send { to, message })
            }
            (Bug::CommitWithoutShrink, Output::Send { to, message }) => {
                self.forge_ack(machine, to, &message);
                Some(Output::Send { to, message })
            }
            (Bug::WipedNodeVotes, Output::Send { to, message: Message::Hello(claims) }) => {
                let forged = self.machines[machine].forged.unwrap_or_default();
                let claims = Claims {
                    promised: claims.promised.max(forged.promised),
                    epoch: claims.epoch.max(forged.epoch),
                    durable: claims.durable.max(forged.durable),
                    ..claims
                };
                Some(Output::Send { to, message: Message::Hello(claims) })
            }
            (_, output) => Some(output),
        }
    }

    /// The hot's own shell answers for a follower that takes long.
    fn forge_ack(&mut self, machine: usize, to: NodeId, message: &Message) {
        let Message::Append { epoch, incarnation, stream, block, .. } = message else { return };
        let Block { last, .. } = block;
        let ack = Message::Ack { epoch: *epoch, incarnation: *incarnation, stream: *stream, durable: *last };
        let peer = self.machine_of(to);
        let told = self.machines[machine].process.as_ref().and_then(|process| {
            let told = process.told.get(&peer?)?;
            Some((process.boot, told.incarnation))
        });
        if let Some((boot, incarnation)) = told {
            let fact = Box::new(Input::Received { from: to, incarnation, message: ack });
            self.after(100 * MS, Event::Tell { machine, boot, fact });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bug_has_a_name_of_its_own() {
        for bug in Bug::ALL {
            assert_eq!(Bug::named(&bug.name()), Some(bug));
            assert!(!bug.caught_by().is_empty() && !bug.about().is_empty());
        }
        assert_eq!(Bug::AckBeforeSync.name(), "ack_before_sync");
    }
}
