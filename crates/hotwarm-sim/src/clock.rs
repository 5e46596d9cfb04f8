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
    /// What it shows at time zero.
    pub offset: u64,
    /// How fast it runs, in parts per million of true time: 1,000,000 is exact.
    pub rate_ppm: u64,
}

impl Clock {
    /// What the clock shows at a time.
    #[must_use]
    pub fn at(&self, time: u64) -> Instant {
        Instant(self.offset + (u128::from(time) * u128::from(self.rate_ppm) / MILLION) as u64)
    }

    /// The first time at which the clock shows `instant` or more.
    #[must_use]
    pub fn when(&self, instant: Instant) -> u64 {
        let local = u128::from(instant.0.saturating_sub(self.offset));
        let time = (local * MILLION).div_ceil(u128::from(self.rate_ppm));
        u64::try_from(time).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waking_when_told_is_never_early() {
        for rate_ppm in [950_000, 999_983, 1_000_000, 1_050_000] {
            let clock = Clock { offset: 77, rate_ppm };
            for instant in [77, 78, 1_000, 123_456_789, 98_765_432_109] {
                let time = clock.when(Instant(instant));
                assert!(clock.at(time) >= Instant(instant));
                assert!(time == 0 || clock.at(time - 1) < Instant(instant));
            }
        }
    }
}
