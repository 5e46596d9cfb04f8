//! The durable mark: up to where the log has been synced, written after each sync and itself never waited for.
//!
//! A log whose last record is damaged looks like one whose last write was torn by a crash. The mark tells them
//! apart: what it covers had been synced, so damage there is corruption, and is refused. Its file is one sector and
//! not synced, since a second sync for each first would halve the write rate: a killed process leaves it in the page
//! cache, a power failure leaves one of the last half minute. It is only ever behind the truth, so an old one, or
//! none, costs some certainty and no safety: the next record that is intact still proves what was durable before
//! it (see `entry`), and a node that lost what it had acknowledged is found out by its peers (R5).
//!
//! | offset | size | field (little-endian) |
//! | --- | --- | --- |
//! | 0 | 4 | CRC-32C, seeded with the cluster, of bytes 4 to 63 |
//! | 4 | 4 | `MARK` |
//! | 8 | 2 | format version: 1 |
//! | 10 | 2 | zero |
//! | 12 | 4 | group |
//! | 16 | 16 | cluster |
//! | 32 | 8 | era of the head for which it holds |
//! | 40 | 16 | the last durable entry (epoch, LSN) |
//! | 56 | 8 | zero |

use crate::DiskError;
use crate::checksum::{put, u16_at, u32_at, u64_at, u128_at};
use crate::entry::EntryCodec;
use hotwarm_disk::{Disk, DiskFile, OpenMode, SECTOR_SIZE_BYTES};
use hotwarm_types::{EntryId, Epoch, Lsn};
use std::sync::Arc;

const SIZE_BYTES: usize = 64;
const MAGIC: [u8; 4] = *b"MARK";
const VERSION: u16 = 1;

/// The file.
#[derive(Debug)]
pub(crate) struct Mark {
    file: Arc<dyn DiskFile>,
    path: String,
}

impl Mark {
    /// Opens the file, or makes it if there is none, and reads the mark, if it holds one of this era.
    pub(crate) fn open(
        disk: &dyn Disk,
        path: String,
        codec: &EntryCodec,
        era: u64,
    ) -> Result<(Self, Option<EntryId>), DiskError> {
        let exists = disk.exists(&path).map_err(DiskError::on("look for", &path))?;
        let mode = if exists { OpenMode::Existing } else { OpenMode::New };
        let file = disk.open(&path, mode).map_err(DiskError::on("open", &path))?;
        let size_bytes = file.size().map_err(DiskError::on("look at", &path))?;
        if size_bytes < SECTOR_SIZE_BYTES as u64 {
            // Its size is durable, so that a mark needs no room: a node starts on a full disk, too.
            file.allocate_zeroed(SECTOR_SIZE_BYTES as u64).map_err(DiskError::on("fill with zeros", &path))?;
            file.sync_data().map_err(DiskError::on("sync", &path))?;
        }
        let mut bytes = [0; SIZE_BYTES];
        let count = file.read_at(&mut bytes, 0).map_err(DiskError::on("read", &path))?;
        let mark = if count == SIZE_BYTES { decode(&bytes, codec, era) } else { None };
        Ok((Self { file, path }, mark))
    }

    /// Notes that everything up to `durable` has been synced.
    pub(crate) fn write(&self, codec: &EntryCodec, era: u64, durable: EntryId) -> Result<(), DiskError> {
        self.file.write_at(&encode(codec, era, durable), 0).map_err(DiskError::on("write", &self.path))
    }

    /// Makes the mark itself durable: for a clean stop, where there is time.
    pub(crate) fn sync(&self) -> Result<(), DiskError> {
        self.file.sync_data().map_err(DiskError::on("sync", &self.path))
    }
}

fn encode(codec: &EntryCodec, era: u64, durable: EntryId) -> [u8; SIZE_BYTES] {
    let mut bytes = [0; SIZE_BYTES];
    put(&mut bytes, 4, &MAGIC);
    put(&mut bytes, 8, &VERSION.to_le_bytes());
    put(&mut bytes, 12, &codec.group.0.to_le_bytes());
    put(&mut bytes, 16, &codec.cluster.0.to_le_bytes());
    put(&mut bytes, 32, &era.to_le_bytes());
    put(&mut bytes, 40, &durable.epoch.0.to_le_bytes());
    put(&mut bytes, 48, &durable.lsn.0.to_le_bytes());
    codec.checksum.seal(&mut bytes);
    bytes
}

fn decode(bytes: &[u8], codec: &EntryCodec, era: u64) -> Option<EntryId> {
    let ours = codec.checksum.holds(bytes)
        && bytes[4..8] == MAGIC
        && u16_at(bytes, 8) == VERSION
        && u32_at(bytes, 12) == codec.group.0
        && u128_at(bytes, 16) == codec.cluster.0
        && u64_at(bytes, 32) == era;
    ours.then(|| EntryId { epoch: Epoch(u64_at(bytes, 40)), lsn: Lsn(u64_at(bytes, 48)) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use hotwarm_types::{ClusterId, GroupId};

    #[test]
    fn the_bytes_are_pinned_and_any_flip_makes_no_mark() {
        let codec = EntryCodec::new(ClusterId(5), GroupId(6));
        let durable = EntryId { epoch: Epoch(8), lsn: Lsn(9) };
        let mut bytes = encode(&codec, 7, durable);
        let mut expected = [0; SIZE_BYTES];
        put(&mut expected, 0, &[0x68, 0xdb, 0x5d, 0x82]);
        put(&mut expected, 4, b"MARK\x01\0\0\0\x06\0\0\0\x05");
        (expected[32], expected[40], expected[48]) = (7, 8, 9);
        assert_eq!(bytes, expected);
        assert_eq!(decode(&bytes, &codec, 7), Some(durable));
        assert_eq!(decode(&bytes, &codec, 8), None, "another era");
        for bit in 0..SIZE_BYTES * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&bytes, &codec, 7), None, "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }
}
