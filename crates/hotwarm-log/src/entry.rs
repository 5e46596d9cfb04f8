//! A block as a record of the log: 64 bytes of header, the payload, zeros up to a multiple of 8.
//!
//! All numbers are little-endian.
//!
//! | offset | size | field |
//! | --- | --- | --- |
//! | 0 | 4 | CRC-32C, seeded with the cluster, of everything that follows up to the payload's end |
//! | 4 | 4 | size of the payload in bytes |
//! | 8 | 1 | format version: 1 |
//! | 9 | 1 | kind: 1 epoch start, 2 data |
//! | 10 | 2 | zero |
//! | 12 | 4 | group |
//! | 16 | 4 | number of the segment it was written to |
//! | 20 | 4 | how many positions directly before `first` were not durable yet when it was appended; 2^32 - 1 is "unknown" |
//! | 24 | 8 | epoch |
//! | 32 | 8 | epoch of the entry before it |
//! | 40 | 8 | first position |
//! | 48 | 8 | last position |
//! | 56 | 8 | stamp in milliseconds since the Unix epoch |
//! | 64 | n | payload |
//!
//! The segment number makes what an earlier life of a recycled file left invalid; it is unique, so a record can
//! never be taken for one of another place. The epoch of the entry before chains records: one that does not follow
//! on its predecessor is no record. The count at 20 lets a record that is intact prove that damage before it hit
//! durable entries, and is no torn tail (see `recovery`).

use crate::checksum::{Checksum, put, u32_at, u64_at};
use hotwarm_types::limits::BLOCK_SIZE_BYTES_MAX;
use hotwarm_types::{Block, BlockKind, ClusterId, EntryId, Epoch, GroupId, Lsn, Payload};

pub(crate) const ENTRY_VERSION: u8 = 1;
pub(crate) const ENTRY_HEADER_SIZE_BYTES: usize = Block::HEADER_SIZE_BYTES;
pub(crate) const ENTRY_ALIGNMENT_BYTES: u64 = 8;
const KIND_EPOCH_START: u8 = 1;
const KIND_DATA: u8 = 2;

/// What a record says beside its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EntryHeader {
    pub(crate) kind: BlockKind,
    pub(crate) segment: u32,
    /// `u32::MAX`: unknown.
    pub(crate) unsynced: u32,
    pub(crate) epoch: Epoch,
    pub(crate) prev_epoch: Epoch,
    pub(crate) first: Lsn,
    pub(crate) last: Lsn,
    pub(crate) stamp_ms: u64,
}

impl EntryHeader {
    /// The entry that it follows on.
    pub(crate) fn prev(&self) -> EntryId {
        EntryId { epoch: self.prev_epoch, lsn: self.first.prev() }
    }

    pub(crate) fn end(&self) -> EntryId {
        EntryId { epoch: self.epoch, lsn: self.last }
    }

    /// The position up to which the log was durable when this was appended, as far as it says.
    pub(crate) fn durable(&self) -> Lsn {
        if self.unsynced == u32::MAX {
            Lsn::ZERO
        } else {
            Lsn(self.first.prev().0.saturating_sub(self.unsynced.into()))
        }
    }

    pub(crate) fn block(&self, payload: &[u8]) -> Block {
        Block {
            kind: self.kind,
            epoch: self.epoch,
            first: self.first,
            last: self.last,
            stamp_ms: self.stamp_ms,
            payload: Payload::new(payload),
        }
    }
}

/// Bytes that a record with such a payload takes.
pub(crate) fn entry_size(payload_size_bytes: usize) -> usize {
    (ENTRY_HEADER_SIZE_BYTES + payload_size_bytes).next_multiple_of(ENTRY_ALIGNMENT_BYTES as usize)
}

/// Bytes that the record whose header this may be takes; `None` if it cannot be one. Nothing is verified.
pub(crate) fn entry_size_claimed(header: &[u8]) -> Option<usize> {
    if header.len() < ENTRY_HEADER_SIZE_BYTES || header[8] != ENTRY_VERSION {
        return None;
    }
    let payload = u32_at(header, 4) as usize;
    (payload <= BLOCK_SIZE_BYTES_MAX).then(|| entry_size(payload))
}

/// Writes and reads the records of one group.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EntryCodec {
    pub(crate) cluster: ClusterId,
    pub(crate) group: GroupId,
    pub(crate) checksum: Checksum,
}

impl EntryCodec {
    pub(crate) fn new(cluster: ClusterId, group: GroupId) -> Self {
        Self { cluster, group, checksum: Checksum::new(cluster) }
    }

    /// Appends the record of a block to `out`. `durable`: the position up to which the log is known to be durable.
    pub(crate) fn encode(&self, block: &Block, segment: u32, prev_epoch: Epoch, durable: Lsn, out: &mut Vec<u8>) {
        let start = out.len();
        let payload_end = start + ENTRY_HEADER_SIZE_BYTES + block.payload.len();
        let unsynced = u32::try_from(block.first.prev().since(durable)).unwrap_or(u32::MAX);
        let mut header = [0; ENTRY_HEADER_SIZE_BYTES];
        put(&mut header, 4, &(block.payload.len() as u32).to_le_bytes());
        header[8] = ENTRY_VERSION;
        header[9] = match block.kind {
            BlockKind::EpochStart => KIND_EPOCH_START,
            BlockKind::Data => KIND_DATA,
        };
        put(&mut header, 12, &self.group.0.to_le_bytes());
        put(&mut header, 16, &segment.to_le_bytes());
        put(&mut header, 20, &unsynced.to_le_bytes());
        put(&mut header, 24, &block.epoch.0.to_le_bytes());
        put(&mut header, 32, &prev_epoch.0.to_le_bytes());
        put(&mut header, 40, &block.first.0.to_le_bytes());
        put(&mut header, 48, &block.last.0.to_le_bytes());
        put(&mut header, 56, &block.stamp_ms.to_le_bytes());
        out.extend_from_slice(&header);
        out.extend_from_slice(&block.payload);
        self.checksum.seal(&mut out[start..payload_end]);
        out.resize(start + entry_size(block.payload.len()), 0);
    }

    /// The record at the front of `bytes`, which may be longer.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn decode<'a>(&self, bytes: &'a [u8]) -> Result<(EntryHeader, &'a [u8]), &'static str> {
        if bytes.len() < ENTRY_HEADER_SIZE_BYTES {
            return Err("the file ends within a record's header");
        }
        if entry_size_claimed(bytes).is_none() {
            return Err("there is no record");
        }
        let payload_end = ENTRY_HEADER_SIZE_BYTES + u32_at(bytes, 4) as usize;
        if bytes.len() < payload_end {
            return Err("the file ends within a record");
        }
        if !self.checksum.holds(&bytes[..payload_end]) {
            return Err("a record's checksum does not match");
        }
        let kind = match bytes[9] {
            KIND_EPOCH_START => BlockKind::EpochStart,
            KIND_DATA => BlockKind::Data,
            _ => return Err("a record is of an unknown kind"),
        };
        if u32_at(bytes, 12) != self.group.0 {
            return Err("a record belongs to another group");
        }
        let header = EntryHeader {
            kind,
            segment: u32_at(bytes, 16),
            unsynced: u32_at(bytes, 20),
            epoch: Epoch(u64_at(bytes, 24)),
            prev_epoch: Epoch(u64_at(bytes, 32)),
            first: Lsn(u64_at(bytes, 40)),
            last: Lsn(u64_at(bytes, 48)),
            stamp_ms: u64_at(bytes, 56),
        };
        // Every position that is believed has one after it: nobody behind has to count past the end of numbers.
        let countable = header.first > Lsn::ZERO && header.last >= header.first && header.last < Lsn(u64::MAX);
        if !countable || header.epoch < header.prev_epoch {
            return Err("a record contradicts itself");
        }
        Ok((header, &bytes[ENTRY_HEADER_SIZE_BYTES..payload_end]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codec() -> EntryCodec {
        EntryCodec::new(ClusterId(0x1122), GroupId(3))
    }

    fn block() -> Block {
        Block {
            kind: BlockKind::Data,
            epoch: Epoch(7),
            first: Lsn(41),
            last: Lsn(42),
            stamp_ms: 1_000,
            payload: Payload::new(b"abc"),
        }
    }

    #[test]
    fn the_bytes_are_pinned() {
        let mut bytes = Vec::new();
        codec().encode(&block(), 9, Epoch(6), Lsn(38), &mut bytes);
        let mut expected = vec![0; 72];
        put(&mut expected, 0, &[0x09, 0xb4, 0x66, 0xf0]);
        put(&mut expected, 4, &[3, 0, 0, 0, 1, 2, 0, 0, 3, 0, 0, 0, 9, 0, 0, 0, 2, 0, 0, 0]);
        expected[24] = 7;
        expected[32] = 6;
        expected[40] = 41;
        expected[48] = 42;
        put(&mut expected, 56, &[0xe8, 0x03]);
        put(&mut expected, 64, b"abc");
        assert_eq!(bytes, expected);
    }

    #[test]
    fn what_is_written_is_read() {
        let mut bytes = Vec::new();
        codec().encode(&block(), 9, Epoch(6), Lsn(38), &mut bytes);
        assert_eq!(entry_size_claimed(&bytes), Some(bytes.len()));
        let (header, payload) = codec().decode(&bytes).unwrap();
        assert_eq!(header.block(payload), block());
        assert_eq!(header.durable(), Lsn(38));
        assert_eq!(header.prev(), EntryId { epoch: Epoch(6), lsn: Lsn(40) });
        bytes.clear();
        codec().encode(&Block { first: Lsn(1 << 40), last: Lsn(1 << 40), ..block() }, 9, Epoch(6), Lsn(38), &mut bytes);
        assert_eq!(codec().decode(&bytes).unwrap().0.durable(), Lsn::ZERO, "too far to say");
    }

    #[test]
    fn positions_that_cannot_be_counted_are_refused() {
        for (first, last) in [(0, 0), (5, 4), (41, u64::MAX)] {
            let mut bytes = Vec::new();
            codec().encode(&Block { first: Lsn(first), last: Lsn(last), ..block() }, 9, Epoch(6), Lsn(0), &mut bytes);
            assert_eq!(codec().decode(&bytes).err(), Some("a record contradicts itself"), "{first} to {last}");
        }
    }

    #[test]
    fn every_flipped_bit_and_every_prefix_is_found() {
        let mut bytes = Vec::new();
        codec().encode(&block(), 9, Epoch(6), Lsn(38), &mut bytes);
        let used = ENTRY_HEADER_SIZE_BYTES + 3;
        for bit in 0..used * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(codec().decode(&bytes).is_err(), "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        for length in 0..used {
            assert!(codec().decode(&bytes[..length]).is_err(), "length {length}");
        }
        assert!(EntryCodec::new(ClusterId(0x1123), GroupId(3)).decode(&bytes).is_err(), "another cluster");
        assert!(EntryCodec::new(ClusterId(0x1122), GroupId(4)).decode(&bytes).is_err(), "another group");
    }
}
