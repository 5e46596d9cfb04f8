//! One file of the log: a header of one sector, then records, then whatever the file held before.
//!
//! A segment has its full size before its first record, so that an append never changes metadata (R38). Its number
//! is in its name, in its header and in each of its records; numbers only grow and are given twice only to a file that
//! was made anew in between, so nothing from an earlier life of a recycled file is ever valid.
//!
//! | offset | size | field (little-endian) |
//! | --- | --- | --- |
//! | 0 | 4 | CRC-32C, seeded with the cluster, of bytes 4 to 63 |
//! | 4 | 4 | `SEGM` |
//! | 8 | 2 | format version: 1 |
//! | 10 | 2 | zero |
//! | 12 | 4 | group |
//! | 16 | 16 | cluster |
//! | 32 | 4 | number |
//! | 36 | 4 | zero |
//! | 40 | 16 | base: the entry before its first (epoch, LSN) |
//! | 56 | 8 | stamp of that entry, in milliseconds since the Unix epoch |
//! | 64 | 448 | zero |

use crate::checksum::{put, u16_at, u32_at, u64_at, u128_at};
use crate::entry::EntryCodec;
use hotwarm_disk::SECTOR_SIZE_BYTES;
use hotwarm_types::{EntryId, Epoch, Lsn};

pub(crate) const SEGMENT_HEADER_SIZE_BYTES: usize = SECTOR_SIZE_BYTES;
const USED_SIZE_BYTES: usize = 64;
const MAGIC: [u8; 4] = *b"SEGM";
pub(crate) const SEGMENT_VERSION: u16 = 1;

/// Records between two entries of a segment's index, in bytes: a read walks at most this far to its first block.
const INDEX_STEP_BYTES: u64 = 64 << 10;

/// What a segment says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) number: u32,
    pub(crate) base: EntryId,
    pub(crate) base_stamp_ms: u64,
}

/// Why the first sector of a file is not the header of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeaderFault {
    /// It is damaged, or was never written.
    Damaged,
    /// It is of a newer format.
    Newer(u16),
    /// It belongs to another cluster or group.
    Foreign,
}

impl SegmentHeader {
    pub(crate) fn encode(&self, codec: &EntryCodec) -> [u8; SEGMENT_HEADER_SIZE_BYTES] {
        let mut bytes = [0; SEGMENT_HEADER_SIZE_BYTES];
        put(&mut bytes, 4, &MAGIC);
        put(&mut bytes, 8, &SEGMENT_VERSION.to_le_bytes());
        put(&mut bytes, 12, &codec.group.0.to_le_bytes());
        put(&mut bytes, 16, &codec.cluster.0.to_le_bytes());
        put(&mut bytes, 32, &self.number.to_le_bytes());
        put(&mut bytes, 40, &self.base.epoch.0.to_le_bytes());
        put(&mut bytes, 48, &self.base.lsn.0.to_le_bytes());
        put(&mut bytes, 56, &self.base_stamp_ms.to_le_bytes());
        codec.checksum.seal(&mut bytes[..USED_SIZE_BYTES]);
        bytes
    }

    pub(crate) fn decode(bytes: &[u8], codec: &EntryCodec) -> Result<Self, HeaderFault> {
        let Some(bytes) = bytes.get(..USED_SIZE_BYTES) else { return Err(HeaderFault::Damaged) };
        if !codec.checksum.holds(bytes) || bytes[4..8] != MAGIC {
            return Err(HeaderFault::Damaged);
        }
        if u16_at(bytes, 8) != SEGMENT_VERSION {
            return Err(HeaderFault::Newer(u16_at(bytes, 8)));
        }
        if u32_at(bytes, 12) != codec.group.0 || u128_at(bytes, 16) != codec.cluster.0 {
            return Err(HeaderFault::Foreign);
        }
        Ok(Self {
            number: u32_at(bytes, 32),
            base: EntryId { epoch: Epoch(u64_at(bytes, 40)), lsn: Lsn(u64_at(bytes, 48)) },
            base_stamp_ms: u64_at(bytes, 56),
        })
    }
}

/// A place between two records of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The entry before it.
    pub(crate) prev: EntryId,
    /// Its offset in the file.
    pub(crate) offset: u64,
}

/// A segment of the log. Only the last one's file is kept open: a long log must not use up the process' handles.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) header: SegmentHeader,
    pub(crate) path: String,
    pub(crate) size_bytes: u64,
    /// Some places, ascending: from where to walk to a position. Filled as the segment is appended to or read.
    index: Vec<Place>,
}

impl Segment {
    pub(crate) fn new(header: SegmentHeader, path: String, size_bytes: u64) -> Self {
        Self { header, path, size_bytes, index: Vec::new() }
    }

    /// The place of its first record.
    pub(crate) fn start(&self) -> Place {
        Place { prev: self.header.base, offset: SEGMENT_HEADER_SIZE_BYTES as u64 }
    }

    /// The last known place from which a walk forward meets the record that holds `position`.
    pub(crate) fn nearest(&self, position: Lsn) -> Place {
        let before = self.index.partition_point(|place| place.prev.lsn < position);
        before.checked_sub(1).map_or(self.start(), |at| self.index[at])
    }

    /// Takes note of a place, if it is far enough from the last one noted.
    pub(crate) fn note(&mut self, place: Place) {
        let last = self.index.last().map_or(SEGMENT_HEADER_SIZE_BYTES as u64, |last| last.offset);
        if place.offset >= last + INDEX_STEP_BYTES {
            self.index.push(place);
        }
    }

    /// Forgets the places after an offset.
    pub(crate) fn forget_after(&mut self, offset: u64) {
        self.index.retain(|place| place.offset <= offset);
    }
}

/// The path of a file in a folder, which may be the root.
pub(crate) fn path_in(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_string() } else { format!("{folder}/{name}") }
}

/// The path of the segment of that number.
pub(crate) fn segment_path(folder: &str, number: u32) -> String {
    path_in(folder, &format!("{number:010}.log"))
}

/// The number of the segment of that file name.
pub(crate) fn segment_number(name: &str) -> Option<u32> {
    let digits = name.strip_suffix(".log")?;
    let plain = digits.len() == 10 && digits.bytes().all(|byte| byte.is_ascii_digit());
    if plain { digits.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hotwarm_types::{ClusterId, GroupId};

    fn header() -> SegmentHeader {
        SegmentHeader { number: 7, base: EntryId { epoch: Epoch(8), lsn: Lsn(9) }, base_stamp_ms: 10 }
    }

    #[test]
    fn the_bytes_are_pinned_and_any_flip_is_found() {
        let codec = EntryCodec::new(ClusterId(5), GroupId(6));
        let mut bytes = header().encode(&codec);
        let mut expected = [0; SEGMENT_HEADER_SIZE_BYTES];
        put(&mut expected, 0, &[0x15, 0xf2, 0xd0, 0x54]);
        put(&mut expected, 4, b"SEGM\x01\0\0\0\x06\0\0\0\x05");
        (expected[32], expected[40], expected[48], expected[56]) = (7, 8, 9, 10);
        assert_eq!(bytes, expected);
        assert_eq!(SegmentHeader::decode(&bytes, &codec), Ok(header()));
        for bit in 0..USED_SIZE_BYTES * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(SegmentHeader::decode(&bytes, &codec), Err(HeaderFault::Damaged), "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        bytes[8] = 2;
        codec.checksum.seal(&mut bytes[..USED_SIZE_BYTES]);
        assert_eq!(SegmentHeader::decode(&bytes, &codec), Err(HeaderFault::Newer(2)));
    }

    #[test]
    fn names_tell_numbers_and_nothing_else_does() {
        assert_eq!(segment_path("log", 42), "log/0000000042.log");
        assert_eq!(segment_path("", 42), "0000000042.log");
        assert_eq!(segment_number("0000000042.log"), Some(42));
        for other in ["42.log", "0000000042.tmp", "+000000042.log", "9999999999.log", "00000000042.log"] {
            assert_eq!(segment_number(other), None, "{other}");
        }
    }

    #[test]
    fn the_index_finds_the_last_place_before_a_position() {
        let mut segment = Segment::new(header(), "a".to_string(), 1 << 20);
        let place = |lsn, offset| Place { prev: EntryId { epoch: Epoch(8), lsn: Lsn(lsn) }, offset };
        for (lsn, offset) in [(10, 600), (20, 70_000), (30, 71_000), (40, 140_000)] {
            segment.note(place(lsn, offset));
        }
        assert_eq!(segment.nearest(Lsn(20)), segment.start());
        assert_eq!(segment.nearest(Lsn(21)), place(20, 70_000));
        assert_eq!(segment.nearest(Lsn(99)), place(40, 140_000));
        segment.forget_after(139_999);
        assert_eq!(segment.nearest(Lsn(99)), place(20, 70_000));
    }
}
