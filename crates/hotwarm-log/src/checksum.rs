//! The checksum of everything in this crate: CRC-32C (Castagnoli), seeded with the cluster's identity.
//!
//! The seed makes bytes of another cluster's files invalid here, and keeps clients, who choose payloads but do not
//! know the identity, from writing values that look like records. CRC-32C finds every error of one to three bits and
//! every burst of up to 32 bits in records of our sizes; it is no defence against somebody who can write the files.

use crc_fast::{CrcAlgorithm, Digest};
use hotwarm_types::ClusterId;

/// A digest that has eaten the cluster's identity.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Checksum(Digest);

impl Checksum {
    pub(crate) fn new(cluster: ClusterId) -> Self {
        let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
        digest.update(&cluster.0.to_le_bytes());
        Self(digest)
    }

    /// The checksum of some bytes.
    pub(crate) fn of(&self, bytes: &[u8]) -> u32 {
        let mut digest = self.0;
        digest.update(bytes);
        digest.finalize() as u32
    }

    /// Writes into the first four bytes the checksum of the others.
    pub(crate) fn seal(&self, bytes: &mut [u8]) {
        let sum = self.of(&bytes[4..]);
        bytes[..4].copy_from_slice(&sum.to_le_bytes());
    }

    /// Whether the first four bytes are the checksum of the others.
    pub(crate) fn holds(&self, bytes: &[u8]) -> bool {
        bytes.len() >= 4 && u32_at(bytes, 0) == self.of(&bytes[4..])
    }
}

/// The little-endian number at an offset.
///
/// # Panics
/// If the bytes end before; callers check sizes first. So for its siblings.
pub(crate) fn u16_at(bytes: &[u8], offset: usize) -> u16 {
    u16::from_le_bytes(array_at(bytes, offset))
}

pub(crate) fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(array_at(bytes, offset))
}

pub(crate) fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(array_at(bytes, offset))
}

pub(crate) fn u128_at(bytes: &[u8], offset: usize) -> u128 {
    u128::from_le_bytes(array_at(bytes, offset))
}

fn array_at<const N: usize>(bytes: &[u8], offset: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[offset..offset + N]);
    array
}

/// Copies a field to its offset.
pub(crate) fn put(bytes: &mut [u8], offset: usize, field: &[u8]) {
    bytes[offset..offset + field.len()].copy_from_slice(field);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_crc_32c_continued_from_the_cluster_identity() {
        let mut whole = 7u128.to_le_bytes().to_vec();
        whole.extend_from_slice(b"123456789");
        let expected = crc_fast::crc32_iscsi(&whole);
        assert_eq!(Checksum::new(ClusterId(7)).of(b"123456789"), expected);
        assert_ne!(Checksum::new(ClusterId(8)).of(b"123456789"), expected);
        // The check value of CRC-32C, so that no other polynomial slips in.
        assert_eq!(crc_fast::crc32_iscsi(b"123456789"), 0xe306_9283);
    }
}
