//! The clock of the group: what the hot stamps into the log, and what every node judges expiry by (R35).
//!
//! It never goes backward. It advances with the monotonic clock and is slewed towards wall time by at most 1% of the
//! time that passes, so that a wall clock that is a little off is followed in minutes and never in a jump. A
//! difference of more than ten seconds is not followed at all, only told ([`GroupTime::step_ms`]): an operator's
//! mistake with a wall clock must not make every key expire at once. A node that is not hot lets it run from the
//! stamps that it receives, so that a takeover goes on where the old hot stopped.
//!
//! Pure: both clocks are arguments.

use hotwarm_types::Instant;

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
    /// By how much the wall clock was last ahead (or behind, negative), in milliseconds, if that is too far to follow.
    step_ms: Option<i64>,
}

impl GroupTime {
    /// Goes on from the greatest stamp in the log, in milliseconds since the Unix epoch; 0 for an empty log, whose
    /// first stamp is wall time.
    #[must_use]
    pub fn new(greatest_stamp_ms: u64) -> Self {
        Self { now_ns: greatest_stamp_ms.saturating_mul(NS_PER_MS), at: None, step_ms: None }
    }

    /// Learns a stamp that another node made; for a node that is not hot. An older one changes nothing.
    pub fn observe(&mut self, stamp_ms: u64, monotonic: Instant) {
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
        if gap_ns > STEP_MS_MAX * NS_PER_MS {
            let gap_ms = i64::try_from(gap_ns / NS_PER_MS).unwrap_or(i64::MAX);
            self.step_ms = Some(if ahead { gap_ms } else { -gap_ms });
        } else {
            self.step_ms = None;
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

    /// How far the wall clock was from group time at the last stamp, in milliseconds (positive: ahead), where that is
    /// more than [`STEP_MS_MAX`]: a person must be told. `None` while it is followed.
    #[must_use]
    pub fn step_ms(&self) -> Option<i64> {
        self.step_ms
    }

    /// Follows the wall clock in one step, on an operator's word, if it is ahead: after a stop of the whole group,
    /// say. Keys whose time has then come are gone.
    pub fn follow(&mut self, wall_ms: u64) {
        self.now_ns = self.now_ns.max(wall_ms.saturating_mul(NS_PER_MS));
        self.step_ms = None;
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    fn after(ms: u64) -> Instant {
        Instant(5) + Duration::from_millis(ms)
    }

    #[test]
    fn the_first_stamp_of_a_group_is_wall_time_and_then_both_clocks_agree() {
        let mut time = GroupTime::new(0);
        assert_eq!(time.stamp(after(0), 1_000_000), 1_000_000);
        assert_eq!(time.stamp(after(2_500), 1_002_500), 1_002_500);
        assert_eq!(time.step_ms(), None);
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
        time.stamp(after(0), 1_000_000);
        let year_ms = 31_536_000_000;
        assert_eq!(time.stamp(after(1_000), 1_000_000 + year_ms), 1_001_000);
        assert_eq!(time.step_ms(), Some(i64::try_from(year_ms).unwrap() - 1_000));
        assert_eq!(time.stamp(after(1_000), 0), 1_001_000);
        assert_eq!(time.step_ms(), Some(-1_001_000));
        time.follow(500);
        assert_eq!(time.now_ms(), 1_001_000, "never backward");
        time.follow(2_000_000);
        assert_eq!(time.stamp(after(1_010), 2_000_010), 2_000_010);
    }

    #[test]
    fn a_new_hot_goes_on_from_the_greatest_stamp_it_has_seen() {
        let mut time = GroupTime::new(1_000_000);
        time.observe(1_002_000, after(10));
        time.observe(1_001_000, after(20));
        assert_eq!(time.stamp(after(30), 1_001_000), 1_002_019, "a wall clock a second behind slows it a little");
        let mut time = GroupTime::new(1_000_000);
        assert_eq!(time.stamp(after(30), 7_200_000), 1_000_000, "the whole group was down: told, not followed");
        assert_eq!(time.step_ms(), Some(6_200_000));
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
