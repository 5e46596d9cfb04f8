//! The head of a log: which segments it consists of, and what their entries no longer tell.
//!
//! A [`SlotFile`] named `head`, written when a segment is begun, dropped or replaced: never on the way of an append.
//! Every change of the log that takes more than one file is decided by one write of it: before, a crash recovers to
//! the old log; after, to the new one.
//!
//! Payload, little-endian:
//!
//! | offset | size | field |
//! | --- | --- | --- |
//! | 0 | 8 | era: grows with each cut and reset; marks of an earlier era no longer count |
//! | 8 | 4 | number of the first segment |
//! | 12 | 4 | number of the last segment |
//! | 16 | 16 | floor: the entry before the first (epoch, LSN) |
//! | 32 | 16 | the entry before the last segment: everything up to it is durable |
//! | 48 | 8 | stamp of that entry, in milliseconds since the Unix epoch |
//! | 56 | 4 | 1 if a cut was begun and may not be finished, else 0 |
//! | 60 | 4 | count of epochs |
//! | 64 | 16 | the cut: the entry that stays last |
//! | 80 | 8 | the cut: offset in the last segment at which that entry ends |
//! | 88 | 16 n | first position of each epoch up to the last segment (epoch, LSN) |

use crate::checksum::{u32_at, u64_at};
use crate::epochs::{EPOCHS_KEPT, Epochs};
use crate::slot::SLOT_SIZE_BYTES_MAX;
use hotwarm_types::{EntryId, Epoch, Lsn};

const FIXED_SIZE_BYTES: usize = 88;
const EPOCH_SIZE_BYTES: usize = 16;

const _: () = assert!(FIXED_SIZE_BYTES + EPOCHS_KEPT * EPOCH_SIZE_BYTES <= SLOT_SIZE_BYTES_MAX);

/// A cut that was decided: everything after `last` goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CutBegun {
    pub(crate) last: EntryId,
    pub(crate) offset: u64,
}

/// See the table above.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) era: u64,
    pub(crate) first: u32,
    pub(crate) last: u32,
    pub(crate) floor: EntryId,
    pub(crate) last_base: EntryId,
    pub(crate) last_base_stamp_ms: u64,
    pub(crate) cut: Option<CutBegun>,
    pub(crate) epochs: Epochs,
}

impl Head {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let epochs = self.epochs.as_slice();
        let mut bytes = Vec::with_capacity(FIXED_SIZE_BYTES + epochs.len() * EPOCH_SIZE_BYTES);
        let cut = self.cut.unwrap_or(CutBegun { last: EntryId::default(), offset: 0 });
        bytes.extend_from_slice(&self.era.to_le_bytes());
        bytes.extend_from_slice(&self.first.to_le_bytes());
        bytes.extend_from_slice(&self.last.to_le_bytes());
        put_entry(&mut bytes, self.floor);
        put_entry(&mut bytes, self.last_base);
        bytes.extend_from_slice(&self.last_base_stamp_ms.to_le_bytes());
        bytes.extend_from_slice(&u32::from(self.cut.is_some()).to_le_bytes());
        bytes.extend_from_slice(&(epochs.len() as u32).to_le_bytes());
        put_entry(&mut bytes, cut.last);
        bytes.extend_from_slice(&cut.offset.to_le_bytes());
        for (epoch, first) in epochs {
            put_entry(&mut bytes, EntryId { epoch: *epoch, lsn: *first });
        }
        bytes
    }

    /// # Errors
    /// What is wrong: the checksum held, so this was never written by this version.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, &'static str> {
        if bytes.len() < FIXED_SIZE_BYTES {
            return Err("the head is too short");
        }
        let count = u32_at(bytes, 60) as usize;
        if bytes.len() != FIXED_SIZE_BYTES + count * EPOCH_SIZE_BYTES {
            return Err("the head's size contradicts its count of epochs");
        }
        let head = Self {
            era: u64_at(bytes, 0),
            first: u32_at(bytes, 8),
            last: u32_at(bytes, 12),
            floor: entry_at(bytes, 16),
            last_base: entry_at(bytes, 32),
            last_base_stamp_ms: u64_at(bytes, 48),
            cut: (u32_at(bytes, 56) == 1).then(|| CutBegun { last: entry_at(bytes, 64), offset: u64_at(bytes, 80) }),
            epochs: Epochs::stored(
                bytes[FIXED_SIZE_BYTES..]
                    .chunks_exact(EPOCH_SIZE_BYTES)
                    .map(|pair| (Epoch(u64_at(pair, 0)), Lsn(u64_at(pair, 8))))
                    .collect(),
            ),
        };
        if head.first > head.last || head.floor.lsn > head.last_base.lsn {
            return Err("the head contradicts itself");
        }
        Ok(head)
    }
}

fn put_entry(bytes: &mut Vec<u8>, entry: EntryId) {
    bytes.extend_from_slice(&entry.epoch.0.to_le_bytes());
    bytes.extend_from_slice(&entry.lsn.0.to_le_bytes());
}

fn entry_at(bytes: &[u8], offset: usize) -> EntryId {
    EntryId { epoch: Epoch(u64_at(bytes, offset)), lsn: Lsn(u64_at(bytes, offset + 8)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> Head {
        let mut epochs = Epochs::default();
        epochs.appended(Epoch(2), Lsn(1));
        epochs.appended(Epoch(3), Lsn(8));
        Head {
            era: 5,
            first: 6,
            last: 7,
            floor: EntryId { epoch: Epoch(2), lsn: Lsn(4) },
            last_base: EntryId { epoch: Epoch(3), lsn: Lsn(9) },
            last_base_stamp_ms: 10,
            cut: Some(CutBegun { last: EntryId { epoch: Epoch(3), lsn: Lsn(11) }, offset: 12 }),
            epochs,
        }
    }

    #[test]
    fn the_bytes_are_pinned() {
        let numbers = [5, 6 | 7 << 32, 2, 4, 3, 9, 10, 1 | 2 << 32, 3, 11, 12, 2, 1, 3, 8];
        let expected: Vec<u8> = numbers.iter().flat_map(|number: &u64| number.to_le_bytes()).collect();
        assert_eq!(head().encode(), expected);
    }

    #[test]
    fn what_is_written_is_read_and_no_prefix_is() {
        for head in [head(), Head { cut: None, ..head() }] {
            let bytes = head.encode();
            assert_eq!(Head::decode(&bytes), Ok(head));
            for length in 0..bytes.len() {
                assert!(Head::decode(&bytes[..length]).is_err(), "{length}");
            }
        }
        assert!(Head::decode(&Head { first: 8, ..head() }.encode()).is_err());
    }
}
