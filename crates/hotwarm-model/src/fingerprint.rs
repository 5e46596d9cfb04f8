//! Fingerprints: 128 bits that stand for a value.
//!
//! Two different values with one fingerprint would be taken for one, and what follows from the second never looked at.
//! By the birthday bound that happens among 10^7 values with a probability below 2 x 10^-6 for the 64 bits by which states
//! are told apart, and below 10^-24 for the 128 bits by which their parts are. The same value has the same fingerprint in
//! every run, so a run can be repeated.

use core::hash::{Hash, Hasher};

/// The parts of the two multipliers: odd, with bits spread evenly (from the fractions of the golden ratio and of the square
/// root of 3).
const MULTIPLIERS: [u64; 2] = [0x9e37_79b9_7f4a_7c15, 0xbb67_ae85_84ca_a73b];

/// Takes a value apart by its `Hash` and mixes it into two lanes.
#[derive(Clone, Copy, Debug)]
pub struct Fingerprinter {
    lanes: [u64; 2],
}

impl Default for Fingerprinter {
    fn default() -> Self {
        Self { lanes: [0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7344] }
    }
}

/// The two halves of a product of 128 bits, folded: every bit of both factors moves every bit of the result.
fn fold(left: u64, right: u64) -> u64 {
    let product = u128::from(left) * u128::from(right);
    (product as u64) ^ ((product >> 64) as u64)
}

impl Fingerprinter {
    fn take(&mut self, word: u64) {
        let [first, second] = self.lanes;
        self.lanes = [
            fold(first ^ word, MULTIPLIERS[0]).wrapping_add(second),
            fold(second.rotate_left(29) ^ word, MULTIPLIERS[1]).wrapping_add(first),
        ];
    }

    /// All 128 bits.
    #[must_use]
    pub fn whole(mut self) -> u128 {
        self.take(0);
        self.take(1);
        (u128::from(self.lanes[0]) << 64) | u128::from(self.lanes[1])
    }
}

impl Hasher for Fingerprinter {
    fn finish(&self) -> u64 {
        (self.whole() >> 64) as u64
    }

    fn write(&mut self, bytes: &[u8]) {
        let mut chunks = bytes.chunks_exact(8);
        for chunk in &mut chunks {
            self.take(u64::from_le_bytes(chunk.try_into().unwrap_or_default()));
        }
        let rest = chunks.remainder();
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        // The length of the rest goes with it: trailing zeros count.
        self.take(u64::from_le_bytes(last) ^ ((rest.len() as u64 + 1) << 59));
    }

    fn write_u8(&mut self, value: u8) {
        self.take(u64::from(value));
    }

    fn write_u16(&mut self, value: u16) {
        self.take(u64::from(value));
    }

    fn write_u32(&mut self, value: u32) {
        self.take(u64::from(value));
    }

    fn write_u64(&mut self, value: u64) {
        self.take(value);
    }

    fn write_usize(&mut self, value: usize) {
        self.take(value as u64);
    }
}

/// The fingerprint of a value.
#[must_use]
pub fn of<T: Hash + ?Sized>(value: &T) -> u128 {
    let mut fingerprinter = Fingerprinter::default();
    value.hash(&mut fingerprinter);
    fingerprinter.whole()
}

/// For maps whose keys are fingerprints already: nothing is mixed again.
#[derive(Clone, Copy, Debug, Default)]
pub struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 << 8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }

    fn write_u128(&mut self, value: u128) {
        self.0 = value as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn values_that_differ_little_have_fingerprints_of_their_own() {
        let mut whole = HashSet::new();
        let mut halves = HashSet::new();
        for length in 0..40_usize {
            for place in 0..=length {
                for value in [1_u8, 2, 128] {
                    let mut bytes = vec![0_u8; length];
                    if let Some(byte) = bytes.get_mut(place) {
                        *byte = value;
                    }
                    let print = of(bytes.as_slice());
                    if whole.insert(print) {
                        assert!(halves.insert((print >> 64) as u64), "two values share 64 bits");
                    }
                }
            }
        }
        assert_eq!(whole.len(), (0..40).map(|length| 3 * length + 1).sum::<usize>());
    }

    #[test]
    fn order_and_grouping_count() {
        assert_ne!(of(&[1_u64, 2]), of(&[2_u64, 1]));
        assert_ne!(of(&(vec![1_u8], vec![2_u8, 3])), of(&(vec![1_u8, 2], vec![3_u8])));
        assert_eq!(of(&"the same"), of(&"the same"));
    }
}
