//! How fast a follower acknowledges, held against the others (R26).
//!
//! A node that is never silent and never far behind can still slow every write down. An acknowledgement counts as slow
//! when it takes more than [`SLOWER_TIMES`] times what the fastest other node in the in-sync set usually takes, and
//! more than a quarter of `shrink_after` too, so that a node is not removed for milliseconds. A tenth of a second
//! ([`MOMENT`]) in which more than half of the acknowledgements were slow is slow, however many there were: so one hiccup
//! under load is one slow moment. A window is [`WINDOW`] long; where more than half of at least [`MOMENTS_MIN`] moments in
//! which anything was acknowledged are slow, the node is persistently slow. Jitter is not: it makes some late and leaves
//! the median alone. With only one other node in sync there is nobody to compare with, and the rule says nothing.

use core::time::Duration;
use hotwarm_types::Instant;

/// How long a node is watched before it is judged.
const WINDOW: Duration = Duration::from_secs(5);
/// What is acknowledged so soon after each other is judged together.
const MOMENT: Duration = Duration::from_millis(100);
/// Fewer moments in a window are too few to judge by: three a second.
const MOMENTS_MIN: u32 = 16;
/// How much slower than the fastest is far slower. Two machine rooms differ by less than two continents.
const SLOWER_TIMES: u32 = 5;
/// The floor, as a part of `shrink_after`.
const FLOOR_PARTS: u32 = 4;
/// An acknowledgement moves what is usual by an eighth of the difference.
const USUAL_PARTS: u32 = 8;

/// The acknowledgements of one follower while it is in sync.
#[derive(Clone, Copy, Debug, Default, Hash)]
pub(crate) struct Pace {
    /// What it usually takes from sending a block until it is acknowledged: a moving average.
    usual: Option<Duration>,
    /// When the window began.
    since: Option<Instant>,
    /// Moments of the window that are over.
    moments: u32,
    slow_moments: u32,
    /// When the present moment began, and what was acknowledged in it.
    moment_since: Option<Instant>,
    acks: u32,
    slow_acks: u32,
    /// The last whole window was slow.
    persistently_slow: bool,
}

impl Pace {
    /// What it usually takes; `None`: nothing was acknowledged yet.
    pub(crate) fn usual(&self) -> Option<Duration> {
        self.usual
    }

    /// Whether the last window found it far slower than the others. A window that ended long ago says nothing.
    pub(crate) fn is_persistently_slow(&self, now: Instant) -> bool {
        self.persistently_slow && self.since.is_some_and(|since| now.since(since) <= WINDOW)
    }

    /// Takes the time that one acknowledgement took. `fastest` is what is usual for the fastest other node in sync.
    pub(crate) fn took(&mut self, now: Instant, delay: Duration, fastest: Option<Duration>, shrink_after: Duration) {
        let usual = self.usual.unwrap_or(delay);
        self.usual = Some((usual * (USUAL_PARTS - 1) + delay) / USUAL_PARTS);
        if self.since.is_some_and(|since| now.since(since) >= 2 * WINDOW) {
            // Nothing was written for long: what was before says nothing.
            self.watch_anew();
        }
        let since = *self.since.get_or_insert(now);
        let moment_since = *self.moment_since.get_or_insert(now);
        if now.since(moment_since) >= MOMENT {
            self.end_moment();
            self.moment_since = Some(now);
        }
        self.acks = self.acks.saturating_add(1);
        let bound = fastest.map(|fastest| (fastest * SLOWER_TIMES).max(shrink_after / FLOOR_PARTS));
        self.slow_acks += u32::from(bound.is_some_and(|bound| delay > bound));
        if now.since(since) >= WINDOW {
            self.end_moment();
            self.persistently_slow = self.moments >= MOMENTS_MIN && self.slow_moments > self.moments / 2;
            (self.since, self.moments, self.slow_moments) = (Some(now), 0, 0);
        }
    }

    fn end_moment(&mut self) {
        self.moments += u32::from(self.acks > 0);
        self.slow_moments += u32::from(self.slow_acks > self.acks / 2);
        (self.moment_since, self.acks, self.slow_acks) = (None, 0, 0);
    }

    /// Begins to watch anew: it was not needed before, or not compared.
    pub(crate) fn watch_anew(&mut self) {
        *self = Self { usual: self.usual, ..Self::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHRINK_AFTER: Duration = Duration::from_millis(600);
    const FAST: Option<Duration> = Some(Duration::from_millis(2));

    /// A node whose acknowledgements take these times over and over, one every 20 ms for 30 s.
    fn judged(delays_ms: &[u64], fastest: Option<Duration>) -> bool {
        let mut pace = Pace::default();
        (0..1_500).any(|index| {
            let now = Instant(0) + Duration::from_millis(20 * index as u64);
            pace.took(now, Duration::from_millis(delays_ms[index % delays_ms.len()]), fastest, SHRINK_AFTER);
            pace.is_persistently_slow(now)
        })
    }

    #[test]
    fn only_a_node_that_is_slow_more_often_than_not_is_judged_slow() {
        assert!(judged(&[200], FAST), "always");
        assert!(judged(&[200, 1, 200], FAST), "two times in three");
        assert!(!judged(&[1, 1, 1, 580], FAST), "jitter, however wild");
        assert!(!judged(&[580, 1, 580, 1, 1], FAST), "two times in five");
        assert!(!judged(&[149], FAST), "below the floor nobody is hurt much");
        assert!(!judged(&[200], Some(Duration::from_millis(40))), "five times the fastest is not exceeded");
        assert!(judged(&[201], Some(Duration::from_millis(40))));
        assert!(!judged(&[590], None), "nobody to compare with");
    }

    #[test]
    fn too_few_acknowledgements_are_not_judged() {
        let mut pace = Pace::default();
        for second in 0..60 {
            let now = Instant(second * 1_000_000_000);
            pace.took(now, Duration::from_millis(500), FAST, SHRINK_AFTER);
            assert!(!pace.is_persistently_slow(now), "one a second");
        }
    }

    #[test]
    fn one_hiccup_under_load_is_not_judged_however_many_acknowledgements_it_delayed() {
        for pause_s in [6, 3_600] {
            let mut pace = Pace::default();
            for block in 0..200 {
                let now = Instant(0) + Duration::from_millis(200 + block / 10);
                pace.took(now, Duration::from_millis(200), FAST, SHRINK_AFTER);
            }
            let now = Instant(0) + Duration::from_secs(pause_s);
            pace.took(now, Duration::from_millis(1), FAST, SHRINK_AFTER);
            assert!(!pace.is_persistently_slow(now), "after {pause_s} s");
        }
    }

    #[test]
    fn a_window_that_is_over_says_nothing_of_the_next() {
        let mut pace = Pace::default();
        let at = |ms: u64| Instant(0) + Duration::from_millis(ms);
        let took = |pace: &mut Pace, at_ms: u64, delay_ms: u64| {
            pace.took(at(at_ms), Duration::from_millis(delay_ms), FAST, SHRINK_AFTER);
        };
        (0..=50).for_each(|index| took(&mut pace, index * 100, 300));
        assert!(pace.is_persistently_slow(at(5_000)));
        assert!(!pace.is_persistently_slow(at(10_001)), "what was slow an hour ago need not be now");
        (51..=101).for_each(|index| took(&mut pace, index * 100, 1));
        assert!(!pace.is_persistently_slow(at(10_100)), "it has recovered");
        (102..=152).for_each(|index| took(&mut pace, index * 100, 300));
        pace.watch_anew();
        assert!(!pace.is_persistently_slow(at(15_200)));
    }
}
