//! Mistakes planted one at a time, to check the check: each must be found, by the shortest story that leads to it.
//!
//! They are made by what surrounds the core here, or forged into what goes in and out of it; the core has no switches for
//! them.

/// A planted mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant is described by `about`")]
pub enum Mistake {
    AnswerBeforeSync,
    VoteForgotten,
    PromiseIgnored,
    StartReused,
    UnknownToldAsFailed,
    HalfIsEnough,
    OldMajorityPresumed,
    LogReportedEarly,
    VoteReportedEarly,
    EpochForgotten,
    IncarnationReused,
    TailDropped,
    CutSkipped,
    AcknowledgedForOthers,
    GrownUnmatched,
    PromotedOutOfSync,
    LeaseKept,
    GrantedWhileStanding,
    DeathMisattested,
}

impl Mistake {
    /// All of them: those of the register, then those of the group.
    pub const ALL: [Self; 19] = [
        Self::AnswerBeforeSync,
        Self::VoteForgotten,
        Self::PromiseIgnored,
        Self::StartReused,
        Self::UnknownToldAsFailed,
        Self::HalfIsEnough,
        Self::OldMajorityPresumed,
        Self::LogReportedEarly,
        Self::VoteReportedEarly,
        Self::EpochForgotten,
        Self::IncarnationReused,
        Self::TailDropped,
        Self::CutSkipped,
        Self::AcknowledgedForOthers,
        Self::GrownUnmatched,
        Self::PromotedOutOfSync,
        Self::LeaseKept,
        Self::GrantedWhileStanding,
        Self::DeathMisattested,
    ];

    /// What is wrong with it.
    #[must_use]
    pub fn about(self) -> &'static str {
        match self {
            Self::AnswerBeforeSync => "an acceptor answers before its vote is on the disk",
            Self::VoteForgotten => "an acceptor that crashes comes back with an empty vote",
            Self::PromiseIgnored => "an acceptor accepts below what it has promised",
            Self::StartReused => "a restarted proposer uses its old start, and so its old ballots",
            Self::UnknownToldAsFailed => "a wish whose reply was lost is told as refused",
            Self::HalfIsEnough => "a quorum of less than a majority: an answer also counts as its neighbour's",
            Self::OldMajorityPresumed => "whoever leaves by a change of acceptors is taken to agree",
            Self::LogReportedEarly => "the log reports blocks as durable before they are synced",
            Self::VoteReportedEarly => "the vote record is reported as durable before it is synced",
            Self::EpochForgotten => "the epoch in the vote record is not written",
            Self::IncarnationReused => "a restarted process goes on under its old incarnation",
            Self::TailDropped => "recovery drops the last durable block as if it were torn",
            Self::CutSkipped => "a cut of the log is reported and not done",
            Self::AcknowledgedForOthers => "the hot's shell acknowledges for a follower, which is not removed",
            Self::GrownUnmatched => "a joining follower counts as caught up when it acknowledges anything",
            Self::PromotedOutOfSync => "a node takes itself for a member of the in-sync set",
            Self::LeaseKept => "a lease is kept for a second after its end, longer than the grace",
            Self::GrantedWhileStanding => "a node that only heard a beacon grants it",
            Self::DeathMisattested => "the guardian attests the death of a process that is only stopped",
        }
    }

    /// The scene in which it is looked for.
    #[must_use]
    pub fn scene(self) -> &'static str {
        match self {
            Self::AnswerBeforeSync | Self::VoteForgotten | Self::StartReused => "rivals",
            Self::PromiseIgnored | Self::HalfIsEnough => "duel",
            Self::UnknownToldAsFailed => "lost",
            Self::OldMajorityPresumed => "replace",
            Self::LogReportedEarly | Self::VoteReportedEarly | Self::IncarnationReused | Self::TailDropped => "crash",
            Self::EpochForgotten | Self::CutSkipped => "return",
            Self::AcknowledgedForOthers | Self::GrownUnmatched | Self::PromotedOutOfSync => "left",
            Self::LeaseKept | Self::GrantedWhileStanding | Self::DeathMisattested => "frozen",
        }
    }

    /// The rules by which it may be found.
    #[must_use]
    pub fn caught_by(self) -> &'static [&'static str] {
        match self {
            Self::AnswerBeforeSync => &["R2", "R3", "C23"],
            Self::VoteForgotten | Self::PromiseIgnored => &["R3"],
            Self::StartReused | Self::HalfIsEnough => &["R2", "R3", "C23"],
            Self::UnknownToldAsFailed => &["C9"],
            Self::OldMajorityPresumed => &["R2", "R6"],
            Self::LogReportedEarly | Self::TailDropped | Self::AcknowledgedForOthers => &["INV-3"],
            Self::VoteReportedEarly => &["R11"],
            Self::EpochForgotten => &["INV-2"],
            Self::IncarnationReused => &["INV-1", "R3", "R5"],
            Self::CutSkipped => &["INV-8"],
            Self::GrownUnmatched => &["INV-3", "INV-5"],
            Self::PromotedOutOfSync => &["INV-4", "INV-3", "R3"],
            Self::LeaseKept | Self::GrantedWhileStanding | Self::DeathMisattested => &["INV-6"],
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

    /// The mistake of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mistake| mistake.name() == name)
    }
}
