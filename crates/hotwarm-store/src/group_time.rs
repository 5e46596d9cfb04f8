//! The clock of the group: what the hot stamps into the log, and what every node judges expiry by (R35).
//!
//! It never goes backward. It advances with the monotonic clock and is slewed towards wall time by at most 1% of the
//! time that passes, so that a wall clock that is a little off is followed in minutes and never in a jump. A
//! difference of more than ten seconds is not followed at all, only told ([`GroupTime::offset_ms`]): an operator's
//! mistake with a wall clock must not make every key expire at once. On an operator's word it is ([`GroupTime::follow`]).
//! A node that is not hot lets it run from the stamps that it receives, so that a takeover goes on where the old hot
//! stopped.
//!
//! Pure: both clocks are arguments.

use hotwarm_types::Instant;
use std::fmt;

/// By how much of the time that passes the clock is slewed: one part in this many (1%, which puts a second right in
/// 100 s).
const SLEW_DIVISOR: u64 = 100;

/// A difference from wall time that is no longer followed, in milliseconds.
pub const STEP_MS_MAX: u64 = 10_000;

const NS_PER_MS: u64 = 1_000_000;

/// A clock that all nodes agree on by way of the log.
#[derive(Clone, Copy, Debug, Default)]
pub struct GroupTime {
    /// Group time in nanoseconds since the Unix epoch; 0 before the first stamp of a group. Never decreases.
    now_ns: u64,
    /// When this node's monotonic clock showed that time.
    at: Option<Instant>,
}

/// A step of group time onto the wall clock, both in milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Followed {
    /// Group time before.
    pub from_ms: u64,
    /// Group time since: later by more than [`STEP_MS_MAX`].
    pub to_ms: u64,
}

/// Why group time does not step onto the wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FollowError {
    /// The difference is at most [`STEP_MS_MAX`], and is followed without a word.
    Near,
    /// The wall clock is behind, and group time never goes back.
    Behind {
        /// By how much, in milliseconds.
        by_ms: u64,
    },
}

impl fmt::Display for FollowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Near => write!(
                f,
                "group time is at most {} s from the wall clock of this node and follows it by itself",
                STEP_MS_MAX / 1_000
            ),
            Self::Behind { by_ms } => write!(
                f,
                "the wall clock of this node is {} s behind group time, which never goes back: set the wall clock right \
                 if it is wrong",
                by_ms / 1_000
            ),
        }
    }
}

impl std::error::Error for FollowError {}

impl GroupTime {
    /// Goes on from the greatest stamp in the log, in milliseconds since the Unix epoch; 0 for an empty log, whose
    /// first stamp is wall time.
    #[must_use]
    pub fn new(greatest_stamp_ms: u64) -> Self {
        Self { now_ns: greatest_stamp_ms.saturating_mul(NS_PER_MS), at: None }
    }

    /// Learns a stamp that another node made; for a node that is not hot. An older one changes nothing, and 0 is none: an
    /// epoch that starts before anybody has stamped anything. A clock must not run from there, since the first stamp of a
    /// group is wall time.
    pub fn observe(&mut self, stamp_ms: u64, monotonic: Instant) {
        if stamp_ms == 0 {
            return;
        }
        self.advance(monotonic);
        self.now_ns = self.now_ns.max(stamp_ms.saturating_mul(NS_PER_MS));
    }

    /// The next stamp, in milliseconds since the Unix epoch: at least the last one.
    ///
    /// # Panics
    /// Never; a monotonic clock that goes back counts as standing still.
    pub fn stamp(&mut self, monotonic: Instant, wall_ms: u64) -> u64 {
        let wall_ns = wall_ms.saturating_mul(NS_PER_MS);
        if self.now_ns == 0 {
            self.now_ns = wall_ns;
            self.at = Some(monotonic);
        }
        let passed_ns = self.advance(monotonic);
        let ahead = wall_ns >= self.now_ns;
        let gap_ns = wall_ns.abs_diff(self.now_ns);
        if gap_ns <= STEP_MS_MAX * NS_PER_MS {
            let slew_ns = gap_ns.min(passed_ns / SLEW_DIVISOR);
            // Slewing back takes at most 1% of what `advance` has just added: the sum never decreases.
            self.now_ns = if ahead { self.now_ns.saturating_add(slew_ns) } else { self.now_ns - slew_ns };
        }
        self.now_ms()
    }

    /// The last stamp, or what was observed since.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        self.now_ns / NS_PER_MS
    }

    /// What must be added to the monotonic clock for group time, in milliseconds; `None` before the first stamp. It stays
    /// the same while nobody stamps, so that whoever knows it can tell at any time how far the wall clock is off
    /// ([`step_ms`]).
    #[must_use]
    pub fn offset_ms(&self) -> Option<i64> {
        let at = self.at.filter(|_| self.now_ns > 0)?;
        let offset_ns = i128::from(self.now_ns) - i128::from(at.0);
        let ns_per_ms = i128::from(NS_PER_MS);
        i64::try_from((offset_ns + ns_per_ms / 2).div_euclid(ns_per_ms)).ok()
    }

    /// Follows the wall clock in one step, on an operator's word: after a stop of the whole group, say. Keys whose time
    /// has then come are gone.
    ///
    /// # Errors
    /// [`FollowError`]: it has not stepped, and has gone on as by [`GroupTime::stamp`].
    pub fn follow(&mut self, monotonic: Instant, wall_ms: u64) -> Result<Followed, FollowError> {
        let from_ms = self.stamp(monotonic, wall_ms);
        match wall_ms.abs_diff(from_ms) {
            ..=STEP_MS_MAX => Err(FollowError::Near),
            by_ms if wall_ms < from_ms => Err(FollowError::Behind { by_ms }),
            _ => {
                self.now_ns = self.now_ns.max(wall_ms.saturating_mul(NS_PER_MS));
                Ok(Followed { from_ms, to_ms: self.now_ms() })
            }
        }
    }

    /// Adds what has passed since the last call, and tells it in nanoseconds.
    fn advance(&mut self, monotonic: Instant) -> u64 {
        let before = *self.at.get_or_insert(monotonic);
        let passed = monotonic.since(before);
        let passed_ns = u64::try_from(passed.as_nanos()).unwrap_or(u64::MAX);
        self.now_ns = self.now_ns.saturating_add(passed_ns);
        self.at = Some(monotonic.max(before));
        passed_ns
    }
}

/// How far the wall clock is from group time, in milliseconds (positive: ahead), where that is more than
/// [`STEP_MS_MAX`]: a person must be told. `None` while it is followed. Both arguments are what must be added to the
/// monotonic clock, in milliseconds: for group time ([`GroupTime::offset_ms`]), and for wall time.
#[must_use]
pub fn step_ms(group_offset_ms: i64, wall_offset_ms: i64) -> Option<i64> {
    Some(wall_offset_ms.saturating_sub(group_offset_ms)).filter(|step_ms| step_ms.unsigned_abs() > STEP_MS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    fn after(ms: u64) -> Instant {
        Instant(5) + Duration::from_millis(ms)
    }

    fn step(time: &GroupTime, at: Instant, wall_ms: u64) -> Option<i64> {
        let now_ms = i64::try_from(at.0 / NS_PER_MS).unwrap();
        step_ms(time.offset_ms().unwrap(), i64::try_from(wall_ms).unwrap() - now_ms)
    }

    #[test]
    fn the_first_stamp_of_a_group_is_wall_time_and_then_both_clocks_agree() {
        let mut time = GroupTime::new(0);
        assert_eq!(time.stamp(after(0), 1_000_000), 1_000_000);
        assert_eq!(time.stamp(after(2_500), 1_002_500), 1_002_500);
        assert_eq!(step(&time, after(2_500), 1_002_500), None);
    }

    #[test]
    fn a_small_difference_is_slewed_at_one_percent_in_both_directions() {
        let mut time = GroupTime::new(0);
        time.stamp(after(0), 1_000_000);
        assert_eq!(time.stamp(after(1_000), 1_003_000), 1_001_010, "2 s behind");
        let mut time = GroupTime::new(0);
        time.stamp(after(0), 1_000_000);
        assert_eq!(time.stamp(after(1_000), 999_000), 1_000_990, "2 s ahead");
        assert_eq!(time.stamp(after(1_000), 999_000), 1_000_990, "no time, no slew");
    }

    #[test]
    fn a_large_step_is_told_and_not_followed_until_an_operator_says_so() {
        let mut time = GroupTime::new(0);
        assert_eq!(time.offset_ms(), None);
        time.stamp(after(0), 1_000_000);
        let year_ms = 31_536_000_000;
        assert_eq!(time.stamp(after(1_000), 1_000_000 + year_ms), 1_001_000);
        assert_eq!(step(&time, after(1_000), 1_000_000 + year_ms), Some(31_536_000_000 - 1_000));
        assert_eq!(step(&time, after(9_000), 1_030_000), Some(21_000), "also while nobody stamps");
        assert_eq!(time.stamp(after(1_000), 0), 1_001_000);
        assert_eq!(step(&time, after(1_000), 0), Some(-1_001_000));
        assert_eq!(time.follow(after(1_000), 500), Err(FollowError::Behind { by_ms: 1_000_500 }));
        assert_eq!(time.follow(after(1_000), 1_011_000), Err(FollowError::Near));
        assert_eq!(time.now_ms(), 1_001_000, "never backward");
        let followed = Followed { from_ms: 1_003_000, to_ms: 2_000_000 };
        assert_eq!(time.follow(after(3_000), 2_000_000), Ok(followed));
        assert_eq!(step(&time, after(3_000), 2_000_000), None);
        assert_eq!(time.stamp(after(3_010), 2_000_010), 2_000_010);
    }

    #[test]
    fn a_stamp_of_nothing_starts_no_clock_and_turns_none_back() {
        let mut time = GroupTime::new(0);
        time.observe(0, after(0));
        time.observe(0, after(1_000));
        assert_eq!(time.now_ms(), 0);
        assert_eq!(time.stamp(after(2_000), 1_000_000), 1_000_000, "wall time, not two seconds after 1970");
        time.observe(0, after(3_000));
        assert_eq!(time.stamp(after(3_000), 1_001_000), 1_001_000);
    }

    #[test]
    fn a_new_hot_goes_on_from_the_greatest_stamp_it_has_seen() {
        let mut time = GroupTime::new(1_000_000);
        time.observe(1_002_000, after(10));
        time.observe(1_001_000, after(20));
        assert_eq!(time.stamp(after(30), 1_001_000), 1_002_019, "a wall clock a second behind slows it a little");
        let mut time = GroupTime::new(1_000_000);
        assert_eq!(time.stamp(after(30), 7_200_000), 1_000_000, "the whole group was down: told, not followed");
        assert_eq!(step(&time, after(30), 7_200_000), Some(6_200_000));
    }

    proptest! {
        #[test]
        fn no_pair_of_clocks_makes_it_go_back_or_run_wild(steps in proptest::collection::vec((0..u64::MAX / 4, any::<u64>()), 1..40)) {
            let mut time = GroupTime::new(3);
            let mut last = time.now_ms();
            let mut at = 0;
            for (monotonic, wall_ms) in steps {
                let passed_ms = monotonic.saturating_sub(at) / NS_PER_MS;
                at = at.max(monotonic);
                let stamp = time.stamp(Instant(monotonic), wall_ms);
                prop_assert!(stamp >= last);
                prop_assert!(stamp - last <= passed_ms + passed_ms / SLEW_DIVISOR + 2 || last <= 3);
                last = stamp;
            }
        }
    }
}
