//! Seeded randomness: the same seed draws the same run of faults, on every machine and with every version.
//!
//! SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014): a few lines that will never
//! change under a recorded seed. Not for secrets.

use std::ops::Range;
use std::time::Duration;

/// A stream of random numbers.
#[derive(Clone, Debug)]
pub struct Dice {
    state: u64,
}

impl Dice {
    /// The stream of a seed.
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// A stream of its own for one part of the run, so that parts do not disturb each other's draws.
    pub fn split(&mut self) -> Self {
        Self::new(self.bits())
    }

    /// The next number.
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number of a range, which must not be empty. For ranges far below 2^64 the bias is nothing.
    pub fn within(&mut self, range: Range<u64>) -> u64 {
        range.start + self.bits() % (range.end - range.start).max(1)
    }

    /// One of several things, of which there must be one.
    pub fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.within(0..from.len() as u64) as usize].clone()
    }

    /// A length of time in a range.
    pub fn duration(&mut self, range: Range<Duration>) -> Duration {
        let nanos = |length: Duration| u64::try_from(length.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(self.within(nanos(range.start)..nanos(range.end)))
    }

    /// Yes in so many of a thousand cases.
    pub fn happens(&mut self, per_mille: u16) -> bool {
        self.within(0..1000) < u64::from(per_mille)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_draws_what_it_has_always_drawn() {
        // The first numbers of the reference implementation for the seed 1234567.
        let mut dice = Dice::new(1_234_567);
        assert_eq!([dice.bits(), dice.bits()], [6_457_827_717_110_365_317, 3_203_168_211_198_807_973]);
    }

    #[test]
    fn draws_stay_in_their_range() {
        let mut dice = Dice::new(7);
        assert!((0..1000).all(|_| (3..6).contains(&dice.within(3..6))));
        assert!((0..1000).all(|_| !dice.happens(0) && dice.happens(1000)));
    }
}
