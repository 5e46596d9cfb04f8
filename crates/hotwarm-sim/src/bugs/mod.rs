//! Bugs planted one at a time, to test the judges: each must be found, by a named check, within a number of seeds.
//!
//! They live in the simulated shell and disk, or rewrite what goes in and out of the core, so that the product carries no
//! switches for them; and no judge may look at the switch. Each breaks a rule of the protocol or a check of the fault
//! list, and stands for a mistake that a real system has made.

mod distort;

pub use distort::{distort_recovered, memory_of};

/// A planted bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant is described by `about`")]
pub enum Bug {
    AckBeforeSync,
    VoteNotSynced,
    VoteOutOfOrder,
    PromiseForgotten,
    AcceptedForgotten,
    EpochForgotten,
    IncarnationReused,
    WipedNodeVotes,
    AmnesiaUnnoticed,
    CachedStateRead,
    CommitWithoutShrink,
    AckUnmatched,
    CommitUnclamped,
    RecoveryUnsynced,
    FailedSyncTrusted,
    TailDropped,
    MinCopiesIgnored,
    LeaseCached,
    LeaseLongerThanGrace,
    GrantWhileStanding,
    ClockStopsInPause,
    VerifiedUnasked,
    DeathMisattested,
    DeathAttestedLate,
    GoodbyeTakenBack,
    PromotedOutOfSync,
    EpochStartUncommitted,
    GrownTooEarly,
    MaintenanceIgnored,
    TruncationSkipped,
    CutOffByOne,
    CutNotKept,
    SnapshotHalf,
    SnapshotUnordered,
    CopySwitchedEarly,
    UncommittedApplied,
    StateNotTruncated,
    UncommittedRead,
    ReplyBeforeCommit,
    SessionsNotReplicated,
    RetriesRenumbered,
    UnknownToldFailed,
    ReadAtWarm,
    ConfigBlindWrite,
}

/// What is known of a bug.
struct Planted {
    bug: Bug,
    /// The rule, invariant or check that it breaks.
    rule: &'static str,
    /// The checks that may find it.
    checks: &'static [&'static str],
    about: &'static str,
}

const PLANTED: [Planted; 44] = [
    Planted {
        bug: Bug::AckBeforeSync,
        rule: "R11",
        checks: &["INV-3", "INV-5", "R11"],
        about: "the log reports blocks as durable before they are synced",
    },
    Planted {
        bug: Bug::VoteNotSynced,
        rule: "R3",
        checks: &["R3", "INV-2", "R11"],
        about: "the vote record is reported as durable before it is synced",
    },
    Planted {
        bug: Bug::VoteOutOfOrder,
        rule: "R3",
        checks: &["R11", "R3", "INV-2"],
        about: "of several vote records that wait the oldest is written, and all are reported",
    },
    Planted {
        bug: Bug::PromiseForgotten,
        rule: "R3",
        checks: &["R3", "INV-2", "R2"],
        about: "a restart forgets what the acceptor has promised",
    },
    Planted {
        bug: Bug::AcceptedForgotten,
        rule: "R3",
        checks: &["R3", "R2"],
        about: "a restart forgets what the acceptor has accepted",
    },
    Planted {
        bug: Bug::EpochForgotten,
        rule: "INV-2",
        checks: &["INV-2"],
        about: "the epoch in the vote record is not written",
    },
    Planted {
        bug: Bug::IncarnationReused,
        rule: "R1",
        checks: &["INV-1", "INV-3", "INV-8", "R2", "R3", "R11"],
        about: "a restarted process goes on under its old incarnation",
    },
    Planted {
        bug: Bug::WipedNodeVotes,
        rule: "R4",
        checks: &["R3", "INV-2", "INV-3", "R5"],
        about: "a wiped folder keeps its identity, and its amnesia is not noticed",
    },
    Planted {
        bug: Bug::AmnesiaUnnoticed,
        rule: "R5",
        checks: &["R5"],
        about: "a folder that was put back claims to remember what it has forgotten",
    },
    Planted {
        bug: Bug::CachedStateRead,
        rule: "R7",
        checks: &["R7"],
        about: "an operator's linearizable read of the state is answered from memory",
    },
    Planted {
        bug: Bug::CommitWithoutShrink,
        rule: "R9",
        checks: &["INV-3", "INV-5"],
        about: "a silent follower counts as having acknowledged after a while",
    },
    Planted {
        bug: Bug::AckUnmatched,
        rule: "R10",
        checks: &["INV-8"],
        about: "a follower acknowledges all that is durable, proven equal to the hot's log or not",
    },
    Planted {
        bug: Bug::CommitUnclamped,
        rule: "R10",
        checks: &["INV-7"],
        about: "a follower applies what the hot has committed before its log is proven equal",
    },
    Planted {
        bug: Bug::RecoveryUnsynced,
        rule: "R11",
        checks: &["R11", "INV-3", "R3"],
        about: "recovery reports what a page cache holds, without a sync",
    },
    Planted {
        bug: Bug::FailedSyncTrusted,
        rule: "INV-9",
        checks: &["R11", "INV-3", "INV-8"],
        about: "a write or a sync that failed counts as done",
    },
    Planted {
        bug: Bug::TailDropped,
        rule: "C29",
        checks: &["INV-3", "INV-5", "R11"],
        about: "recovery drops the last durable block as if it were torn",
    },
    Planted {
        bug: Bug::MinCopiesIgnored,
        rule: "R12",
        checks: &["INV-11", "R12", "INV-3", "INV-5"],
        about: "a node takes min_copies for 1, whatever was agreed",
    },
    Planted {
        bug: Bug::LeaseCached,
        rule: "R15",
        checks: &["INV-6", "INV-7"],
        about: "a lease once seen good is taken for good for five seconds",
    },
    Planted {
        bug: Bug::LeaseLongerThanGrace,
        rule: "R15",
        checks: &["INV-6", "INV-7"],
        about: "clocks run 40 % fast or slow, so that leases outlive graces",
    },
    Planted {
        bug: Bug::GrantWhileStanding,
        rule: "R16",
        checks: &["INV-6", "INV-7"],
        about: "a node that only heard a beacon grants it",
    },
    Planted {
        bug: Bug::ClockStopsInPause,
        rule: "R18",
        checks: &["INV-6", "INV-7"],
        about: "the clock of a lease does not count the time for which the process was stopped",
    },
    Planted {
        bug: Bug::VerifiedUnasked,
        rule: "R19",
        checks: &["INV-6"],
        about: "verified reads are answered without a round",
    },
    Planted {
        bug: Bug::DeathMisattested,
        rule: "R20",
        checks: &["INV-6", "INV-7"],
        about: "the guardian attests the death of a process that is only stopped",
    },
    Planted {
        bug: Bug::DeathAttestedLate,
        rule: "R20",
        checks: &["INV-6", "INV-7"],
        about: "a death is attested late, and of whichever process runs by then",
    },
    Planted {
        bug: Bug::GoodbyeTakenBack,
        rule: "R21",
        checks: &["INV-6", "INV-7"],
        about: "a hot says goodbye and stays",
    },
    Planted {
        bug: Bug::PromotedOutOfSync,
        rule: "INV-4",
        checks: &["INV-4", "INV-3", "R2"],
        about: "a node takes itself for a member of the in-sync set",
    },
    Planted {
        bug: Bug::EpochStartUncommitted,
        rule: "R25",
        checks: &["INV-3", "INV-7", "INV-5"],
        about: "the start of an epoch counts as acknowledged when it is sent",
    },
    Planted {
        bug: Bug::GrownTooEarly,
        rule: "R27",
        checks: &["INV-5", "INV-3"],
        about: "a joining follower counts as caught up when it acknowledges anything",
    },
    Planted {
        bug: Bug::MaintenanceIgnored,
        rule: "R29",
        checks: &["R29"],
        about: "a node does not see that the group is under maintenance",
    },
    Planted {
        bug: Bug::TruncationSkipped,
        rule: "R30",
        checks: &["INV-8", "R32"],
        about: "a cut of the log is reported and not done",
    },
    Planted {
        bug: Bug::CutOffByOne,
        rule: "R30",
        checks: &["INV-8", "R32"],
        about: "a cut of the log takes one block more than it should",
    },
    Planted { bug: Bug::CutNotKept, rule: "R30", checks: &["INV-8"], about: "what a cut takes away is not put aside" },
    Planted { bug: Bug::SnapshotHalf, rule: "R31", checks: &["INV-7"], about: "a whole copy lacks a key" },
    Planted {
        bug: Bug::SnapshotUnordered,
        rule: "R31",
        checks: &["INV-3", "INV-5", "INV-8", "R32"],
        about: "a whole copy is installed as soon as it is there, without the core's order",
    },
    Planted {
        bug: Bug::CopySwitchedEarly,
        rule: "R31",
        checks: &["R11", "INV-7", "C29"],
        about: "a whole copy's tree is in use before the log begins after it",
    },
    Planted {
        bug: Bug::UncommittedApplied,
        rule: "R32",
        checks: &["R32", "INV-7"],
        about: "a follower applies what it has appended, committed or not",
    },
    Planted {
        bug: Bug::StateNotTruncated,
        rule: "R32",
        checks: &["R32", "INV-7"],
        about: "the log is cut and the state keeps what was cut",
    },
    Planted {
        bug: Bug::UncommittedRead,
        rule: "INV-7",
        checks: &["INV-7"],
        about: "reads show what is executed and not committed",
    },
    Planted {
        bug: Bug::ReplyBeforeCommit,
        rule: "INV-3",
        checks: &["INV-7"],
        about: "writes are answered when they are proposed",
    },
    Planted {
        bug: Bug::SessionsNotReplicated,
        rule: "R34",
        checks: &["INV-10", "INV-7"],
        about: "followers do not keep the session table",
    },
    Planted {
        bug: Bug::RetriesRenumbered,
        rule: "R34",
        checks: &["INV-10", "INV-7"],
        about: "a retry is executed under another number",
    },
    Planted {
        bug: Bug::UnknownToldFailed,
        rule: "C9",
        checks: &["INV-7", "INV-10", "C9"],
        about: "whoever waits when a reign ends is told that nothing was done",
    },
    Planted {
        bug: Bug::ReadAtWarm,
        rule: "C18",
        checks: &["INV-6", "INV-7"],
        about: "a node that is not hot answers linearizable reads",
    },
    Planted {
        bug: Bug::ConfigBlindWrite,
        rule: "C23",
        checks: &["C23"],
        about: "settings are replaced whatever they were computed from",
    },
];

impl Bug {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        PLANTED.iter().map(|planted| planted.bug)
    }

    fn planted(self) -> &'static Planted {
        PLANTED.iter().find(|planted| planted.bug == self).expect("every bug is in the table")
    }

    /// What is wrong with it.
    #[must_use]
    pub fn about(self) -> &'static str {
        self.planted().about
    }

    /// The rule, invariant or check that it breaks.
    #[must_use]
    pub fn rule(self) -> &'static str {
        self.planted().rule
    }

    /// The checks that may find it.
    #[must_use]
    pub fn caught_by(self) -> &'static [&'static str] {
        self.planted().checks
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

    /// The bug of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::all().find(|bug| bug.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bug_has_a_name_of_its_own() {
        for bug in Bug::all() {
            assert_eq!(Bug::named(&bug.name()), Some(bug));
            assert!(!bug.caught_by().is_empty() && !bug.about().is_empty() && !bug.rule().is_empty());
        }
        assert_eq!(Bug::AckBeforeSync.name(), "ack_before_sync");
        assert!(Bug::all().count() >= 40);
    }
}
