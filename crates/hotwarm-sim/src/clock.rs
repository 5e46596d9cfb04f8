//! A node's clock: real (virtual) time seen through a rate error and an offset.
//!
//! Counts suspend, as CLOCK_BOOTTIME does: it goes on while a node is paused or down. R15 bounds the rate error by
//! 5 %; within that bound nothing may go wrong.

use hotwarm_types::Instant;

/// One millisecond in nanoseconds, the unit of simulated time.
pub const MS: u64 = 1_000_000;

/// One second in nanoseconds.
pub const SECOND: u64 = 1_000 * MS;

const MILLION: u128 = 1_000_000;

/// Translates simulated time to what one machine's clock shows.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// A time, and what it showed then.
    since: u64,
    shown: u64,
    /// How fast it runs, in parts per million of true time: 1,000,000 is exact.
    rate_ppm: u64,
}

impl Clock {
    /// A clock that shows `shown` at time `since`.
    #[must_use]
    pub fn new(since: u64, shown: u64, rate_ppm: u64) -> Self {
        Self { since, shown, rate_ppm }
    }

    /// The same clock, which shows `shown` at time `since`: its machine starts anew.
    #[must_use]
    pub fn set(self, since: u64, shown: u64) -> Self {
        Self { since, shown, ..self }
    }

    /// The same clock, which goes on at another rate from a time on.
    #[must_use]
    pub fn at_rate(self, since: u64, rate_ppm: u64) -> Self {
        Self { since, shown: self.at(since).0, rate_ppm }
    }

    /// What the clock shows at a time.
    #[must_use]
    pub fn at(&self, time: u64) -> Instant {
        let passed = u128::from(time.saturating_sub(self.since));
        Instant(self.shown + (passed * u128::from(self.rate_ppm) / MILLION) as u64)
    }

    /// The first time at which the clock shows `instant` or more.
    #[must_use]
    pub fn when(&self, instant: Instant) -> u64 {
        let local = u128::from(instant.0.saturating_sub(self.shown));
        let passed = (local * MILLION).div_ceil(u128::from(self.rate_ppm));
        self.since.saturating_add(u64::try_from(passed).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waking_when_told_is_never_early() {
        for rate_ppm in [950_000, 999_983, 1_000_000, 1_050_000] {
            let clock = Clock::new(0, 77, rate_ppm);
            for instant in [77, 78, 1_000, 123_456_789, 98_765_432_109] {
                let time = clock.when(Instant(instant));
                assert!(clock.at(time) >= Instant(instant));
                assert!(time == 0 || clock.at(time - 1) < Instant(instant));
            }
        }
    }

    #[test]
    fn another_rate_goes_on_from_what_the_clock_shows() {
        let clock = Clock::new(0, 500, 1_050_000);
        let slower = clock.at_rate(1_000_000, 950_000);
        assert_eq!(slower.at(1_000_000), clock.at(1_000_000));
        assert_eq!(slower.at(2_000_000).0 - slower.at(1_000_000).0, 950_000);
        assert_eq!(slower.when(slower.at(1_500_000)), 1_500_000);
    }
}
