//! What the register holds, and what an acceptor has promised about it.
//!
//! [`GroupState`] is the whole state of a group, some kilobytes. Only `register::transition` makes a new one.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::string::String;
use core::fmt;
use core::time::Duration;
use hotwarm_types::{ClusterId, Epoch, FolderId, GroupId, Incarnation, Lsn, NodeId, Reign, Version};

/// Number of one round of the register. Ordered by counter, then node, then start, so that no two starts of any
/// node ever use the same one: a ballot never carries a second value (R3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ballot {
    /// Grows past every ballot seen; 0 only in the ballot that precedes all.
    pub counter: u64,
    /// Who proposes.
    pub node: NodeId,
    /// Which start of its process.
    pub start: u64,
}

impl fmt::Display for ProposalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.node, self.start, self.counter)
    }
}

impl fmt::Display for Ballot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.counter, self.node.0, self.start)
    }
}

/// Names one wish of one start of one node, so that a proposer recognises its own success when somebody else
/// completes it (R2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProposalId {
    /// Who wished it.
    pub node: NodeId,
    /// Which start of its process.
    pub start: u64,
    /// Which of that start's wishes, from 1.
    pub counter: u64,
}

/// Whether a member holds data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MemberRole {
    /// Holds a copy and may become hot.
    Data,
    /// Votes only.
    Witness,
}

/// A member: (name, folder id). Every member is also an acceptor.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Member {
    /// Its name in the configuration, unique among members.
    pub name: String,
    /// The data folder under which it was admitted (R4).
    pub folder: FolderId,
    /// Where peers reach it: host name and port, resolved at each connect.
    pub address: String,
    /// Whether it holds data.
    pub role: MemberRole,
    /// Among candidates with equal logs the higher one stands first; 0..=1000.
    pub priority: u16,
}

/// Permission for an empty folder to join under a name (R4).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Invitation {
    /// Where peers will reach it.
    pub address: String,
    /// Whether it will hold data.
    pub role: MemberRole,
    /// Its priority as a candidate.
    pub priority: u16,
    /// The member whose place it takes, if its folder was lost; removed in the same transition that admits the new.
    pub replaces: Option<NodeId>,
}

/// When a write is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Replication {
    /// When it is durable on every node of the needed set (R9).
    Sync,
    /// When it is durable on the hot, while the lag behind the slowest in-sync node stays under both bounds (R14).
    Async {
        /// Bound of the lag in bytes.
        lag_bytes_max: u64,
        /// Bound of the lag in time.
        lag_time_max: Duration,
    },
}

/// What "durable" means for an acknowledgement (R13).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Durability {
    /// Synced to the disk.
    Fsync,
    /// Written, and synced at intervals: a node that stopped uncleanly is treated as amnesiac.
    Interval,
}

/// The four timers of liveness. Those that guard safety are fixed; see `check`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Timing {
    /// Time between two beacons of the hot.
    pub beacon: Duration,
    /// Silence, or age of the oldest unacknowledged write, after which the hot removes a warm from the in-sync set.
    pub shrink_after: Duration,
    /// How long after sending a beacon that every other needed node granted, the hot may serve local reads.
    pub lease: Duration,
    /// How long a node waits after the last beacon it granted before it may ask to take over.
    pub grace: Duration,
}

/// Why a set of timers is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TimingError {
    /// `beacon` is zero or more than a quarter of `shrink_after`.
    Beacon,
    /// `shrink_after` is more than 0.6 of `grace` (R22).
    ShrinkAfter,
    /// `grace` is shorter than the lease on the fastest against the slowest clock (R15); the least allowed is given.
    Grace {
        /// The least grace for this lease.
        least: Duration,
    },
    /// A timer is longer than a minute.
    TooLong,
}

impl fmt::Display for TimingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Beacon => f.write_str("beacon must be above zero and at most a quarter of shrink_after"),
            Self::ShrinkAfter => f.write_str("shrink_after must be at most 0.6 of grace"),
            Self::Grace { least } => write!(
                f,
                "grace must be at least {}ms for this lease at a clock-rate error of {}%",
                least.as_millis(),
                Timing::CLOCK_RATE_ERROR_PERCENT
            ),
            Self::TooLong => f.write_str("no timer may be longer than a minute"),
        }
    }
}

impl core::error::Error for TimingError {}

impl Timing {
    /// Quiet machines on one LAN.
    pub const FAST: Self = Self::millis(25, 130, 200, 250);
    /// The default: beacon 50 ms, so 19 in a row may be lost before the grace of 1 s is over.
    pub const LAN: Self = Self::millis(50, 600, 900, 1_000);
    /// Machines in different buildings.
    pub const WAN: Self = Self::millis(100, 1_500, 2_500, 2_800);
    /// Overloaded or oversubscribed machines: prefers staying to moving.
    pub const PATIENT: Self = Self::millis(250, 5_000, 8_000, 9_000);

    /// Bound on the relative error of a clock's rate, in percent (rho).
    pub const CLOCK_RATE_ERROR_PERCENT: u64 = 5;
    /// Taken off the lease and added to the grace: scheduling between reading the clock and using the answer.
    pub const MARGIN: Duration = Duration::from_millis(2);

    const fn millis(beacon: u64, shrink_after: u64, lease: u64, grace: u64) -> Self {
        Self {
            beacon: Duration::from_millis(beacon),
            shrink_after: Duration::from_millis(shrink_after),
            lease: Duration::from_millis(lease),
            grace: Duration::from_millis(grace),
        }
    }

    /// The least grace that outlives `lease` granted to a slow clock and counted by a fast one (R15):
    /// `L (1 + rho) / (1 - rho)` and a margin.
    #[must_use]
    pub const fn grace_least(lease: Duration) -> Duration {
        let ns = lease.as_nanos() as u64;
        let rho = Self::CLOCK_RATE_ERROR_PERCENT;
        Duration::from_nanos((ns / (100 - rho)) * (100 + rho) + Self::MARGIN.as_nanos() as u64)
    }

    /// How long after sending a granted beacon the hot may still use the lease: `L (1 - rho)` less a margin (R15).
    #[must_use]
    pub const fn lease_usable(&self) -> Duration {
        let ns = self.lease.as_nanos() as u64;
        let usable = (ns / 100) * (100 - Self::CLOCK_RATE_ERROR_PERCENT);
        Duration::from_nanos(usable.saturating_sub(Self::MARGIN.as_nanos() as u64))
    }

    /// Whether the timers keep each other's promises.
    ///
    /// # Errors
    /// The first relation that is broken.
    pub fn check(&self) -> Result<(), TimingError> {
        if self.beacon.is_zero() || self.beacon * 4 > self.shrink_after {
            return Err(TimingError::Beacon);
        }
        if self.shrink_after * 10 > self.grace * 6 {
            return Err(TimingError::ShrinkAfter);
        }
        let least = Self::grace_least(self.lease);
        if self.grace < least {
            return Err(TimingError::Grace { least });
        }
        if self.grace > Duration::from_secs(60) {
            return Err(TimingError::TooLong);
        }
        Ok(())
    }
}

/// What the group has agreed on; changed by `hotwarm apply`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Settings {
    /// When a write is acknowledged.
    pub replication: Replication,
    /// What durable means.
    pub durability: Durability,
    /// Copies an acknowledgement needs, the hot included; at least 1, at most the number of data nodes (R12).
    pub min_copies: u8,
    /// The timers.
    pub timing: Timing,
    /// The group's part of the configuration file, normalized: what `status` compares a node's file with. The core
    /// does not look into it. At most `STATE_SIZE_BYTES_MAX / 2`.
    pub text: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            replication: Replication::Sync,
            durability: Durability::Fsync,
            min_copies: 1,
            timing: Timing::LAN,
            text: String::new(),
        }
    }
}

/// Maintenance: no automatic promotion of another node (R29).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pause {
    /// How long it lasts from when a node learns of it; then it no longer counts.
    pub length: Duration,
    /// Why, as the operator put it.
    pub reason: String,
}

/// Why a change was made: a stable word and the evidence for it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Cause {
    /// A stable word: `init`, `crash_attested`, `released`, `grace_over`, `operator`, `behind`, `silent`, `goodbye`,
    /// `caught_up`, `settings`, ...
    pub word: String,
    /// What was seen, for a person; at most 256 bytes.
    pub evidence: String,
}

/// What kind of change a record tells of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each variant is the change of that name in `transition`")]
pub enum ChangeKind {
    Bootstrap,
    Promote { from: NodeId, to: NodeId },
    HandOver { from: NodeId, to: NodeId },
    ForcePromote { from: NodeId, to: NodeId },
    Shrink { node: NodeId },
    Grow { node: NodeId },
    Bump,
    Invite { name: String },
    Uninvite { name: String },
    Admit { node: NodeId, replaces: Option<NodeId> },
    Remove { node: NodeId },
    Settings,
    Pause,
    Resume,
}

/// One entry of the history that the register carries (R39, INV-11).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ChangeRecord {
    /// Version of the state that the change made.
    pub version: Version,
    /// Epoch after the change.
    pub epoch: Epoch,
    /// Wall clock of the node that made it, milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// Who made it.
    pub by: ProposalId,
    /// What was changed.
    pub kind: ChangeKind,
    /// Why.
    pub cause: Cause,
}

/// The state of a group. Equal versions are equal states.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GroupState {
    /// The cluster that this state belongs to; never changes, save by `recover`.
    pub cluster: ClusterId,
    /// The group.
    pub group: GroupId,
    /// Grows by one with every change.
    pub version: Version,
    /// The wish that made this version.
    pub proposal: ProposalId,
    /// Who is hot.
    pub reign: Reign,
    /// Where the log of the reign before a forced promotion may have held acknowledged writes that are lost (R8):
    /// the epoch that began so.
    pub lossy_epoch: Option<Epoch>,
    /// The data members that hold every acknowledged synchronous write, the hot included (INV-3).
    pub in_sync: BTreeSet<NodeId>,
    /// The members, all of them acceptors. At most `MEMBERS_MAX`.
    pub members: BTreeMap<NodeId, Member>,
    /// The version in which `members` last changed; register messages carry it (R6).
    pub members_version: Version,
    /// Names under which an empty folder may join.
    pub invited: BTreeMap<String, Invitation>,
    /// The number that the next admitted member gets.
    pub next_node: NodeId,
    /// What the group has agreed on.
    pub settings: Settings,
    /// Maintenance, if on.
    pub pause: Option<Pause>,
    /// The last `CHANGES_KEPT` changes, oldest first.
    pub changes: VecDeque<ChangeRecord>,
}

impl GroupState {
    /// How many acceptors are a majority.
    #[must_use]
    pub fn majority_count(&self) -> usize {
        self.members.len() / 2 + 1
    }

    /// The member of that name, with its number.
    #[must_use]
    pub fn member_named(&self, name: &str) -> Option<(NodeId, &Member)> {
        self.members.iter().find(|(_, member)| member.name == name).map(|(id, member)| (*id, member))
    }

    /// How many members hold data.
    #[must_use]
    pub fn data_count(&self) -> usize {
        self.members.values().filter(|member| member.role == MemberRole::Data).count()
    }

    /// Whether the change that `id` names is in this state, as far back as the history it carries reaches (R2).
    #[must_use]
    pub fn includes(&self, id: ProposalId) -> bool {
        self.proposal == id || self.changes.iter().any(|record| record.by == id)
    }

    /// Whether this very version changed who the acceptors are (R6).
    #[must_use]
    pub fn changes_members(&self) -> bool {
        self.version == self.members_version
    }

    /// Whether this very version admitted `node`.
    #[must_use]
    pub fn admits(&self, node: NodeId) -> bool {
        let last = self.changes.back().filter(|record| record.version == self.version);
        last.is_some_and(|record| matches!(record.kind, ChangeKind::Admit { node: admitted, .. } if admitted == node))
    }

    /// Whether `node` is a member that holds data.
    #[must_use]
    pub fn holds_data(&self, node: NodeId) -> bool {
        self.members.get(&node).is_some_and(|member| member.role == MemberRole::Data)
    }
}

/// Everything a node must not forget, in one small record that is written whole and synced before anything that
/// leans on it is sent: the acceptor's promise (R3), the highest epoch (INV-2), the longest grace granted (R17),
/// and what the peers have claimed (R5).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Vote {
    /// No ballot below this one is answered any more.
    pub promised: Ballot,
    /// The state accepted last, with its ballot; it may or may not have been chosen.
    pub accepted: Option<(Ballot, GroupState)>,
    /// The highest epoch seen (INV-2).
    pub epoch: Epoch,
    /// The longest grace this node has granted or may yet be bound by.
    pub grace_granted: Duration,
    /// The highest claims heard from each peer (R5).
    pub peers: BTreeMap<NodeId, crate::Claims>,
    /// Position up to which this node knows its log to be committed when the record was written; a hint for
    /// recovery, never ahead of the truth.
    pub committed: Lsn,
    /// This node's own start, for which the record was last written.
    pub incarnation: Incarnation,
    /// The accepted state has changed the members and is known to be chosen: those who went need not answer for it any
    /// more, after a restart either (R6).
    pub settled: bool,
}

const _: () = {
    assert!(Timing::LAN.grace.as_nanos() >= Timing::grace_least(Timing::LAN.lease).as_nanos());
    assert!(Timing::FAST.grace.as_nanos() >= Timing::grace_least(Timing::FAST.lease).as_nanos());
    assert!(Timing::WAN.grace.as_nanos() >= Timing::grace_least(Timing::WAN.lease).as_nanos());
    assert!(Timing::PATIENT.grace.as_nanos() >= Timing::grace_least(Timing::PATIENT.lease).as_nanos());
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_profile_keeps_the_relations_between_timers() {
        for timing in [Timing::FAST, Timing::LAN, Timing::WAN, Timing::PATIENT] {
            assert_eq!(timing.check(), Ok(()), "{timing:?}");
        }
    }

    #[test]
    fn a_grace_shorter_than_the_lease_on_bad_clocks_is_refused() {
        let timing =
            Timing { grace: Duration::from_millis(990), shrink_after: Duration::from_millis(500), ..Timing::LAN };
        assert!(matches!(timing.check(), Err(TimingError::Grace { .. })));
    }
}
