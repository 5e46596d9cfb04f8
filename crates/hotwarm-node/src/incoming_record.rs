//! The record of a full copy that is not whole yet: from it a node that was started anew goes on with the copy.
//!
//! | offset | size | what |
//! | --- | --- | --- |
//! | 0 | 4 | `HWIN` |
//! | 4 | 1 | format version, 1 |
//! | 5 | 3 | 0 |
//! | 8 | 8 | number of the tree that is being filled |
//! | 16 | 16 | the snapshot |
//! | 32 | 8 | epoch of the last entry that it includes |
//! | 40 | 8 | LSN of the last entry that it includes |
//! | 48 | n | what the store's writer needs to go on |
//! | 48 + n | 4 | CRC-32C of all before |
//!
//! Fixed numbers are little-endian. It is written whole under another name, synced and renamed, each time the tree has
//! taken further rows durably: so it never tells of more than the tree holds. A record that cannot be read costs the
//! part of the copy, nothing else.

use hotwarm_types::{EntryId, Epoch, Lsn, SnapshotId};
use hotwarm_wire::crc32c;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// What a data folder holds of it: the record, and what an interrupted write may have left.
pub(crate) const NAMES: [&str; 2] = [NAME, NAME_NEW];
const NAME: &str = "incoming";
const NAME_NEW: &str = "incoming.new";
const MAGIC: &[u8; 4] = b"HWIN";
const FORMAT_VERSION: u8 = 1;
const HEADER_SIZE_BYTES: usize = 48;
const CRC_SIZE_BYTES: usize = 4;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IncomingRecord {
    /// The number of the tree that is being filled.
    pub number: u64,
    /// The snapshot that it is filled with.
    pub snapshot: SnapshotId,
    /// Where that ends.
    pub at: EntryId,
    /// What the store's writer needs to go on.
    pub writer: Vec<u8>,
}

impl IncomingRecord {
    /// The record in a data folder; `None` where there is none that can be read.
    pub(crate) fn read(root: &Path) -> Option<Self> {
        let bytes = fs::read(root.join(NAME)).ok()?;
        let record = Self::decode(&bytes);
        if record.is_none() {
            tracing::warn!(event = "full_sync_restarted", "the record of a full copy is damaged: it starts anew");
        }
        record
    }

    /// Replaces the record. Durable on return; a crash leaves the old one or the new one.
    pub(crate) fn write(&self, root: &Path) -> io::Result<()> {
        let path = root.join(NAME_NEW);
        let mut file = File::create(&path)?;
        file.write_all(&self.encode())?;
        file.sync_all()?;
        fs::rename(&path, root.join(NAME))?;
        File::open(root)?.sync_all()
    }

    /// Removes the record, if there is one. Durable on return.
    pub(crate) fn remove(root: &Path) -> io::Result<()> {
        match fs::remove_file(root.join(NAME)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => File::open(root)?.sync_all(),
        }
    }

    /// The record as bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let Self { number, snapshot, at, writer } = self;
        let mut out = Vec::with_capacity(HEADER_SIZE_BYTES + writer.len() + CRC_SIZE_BYTES);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&[FORMAT_VERSION, 0, 0, 0]);
        out.extend_from_slice(&number.to_le_bytes());
        out.extend_from_slice(&snapshot.0.to_le_bytes());
        out.extend_from_slice(&at.epoch.0.to_le_bytes());
        out.extend_from_slice(&at.lsn.0.to_le_bytes());
        out.extend_from_slice(writer);
        let crc = crc32c(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    /// The record back from its bytes; `None` where they are damaged, or of another version.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (covered, crc) = bytes.split_last_chunk::<CRC_SIZE_BYTES>()?;
        let (header, writer) = covered.split_first_chunk::<HEADER_SIZE_BYTES>()?;
        let known = header.starts_with(MAGIC) && header[4..8] == [FORMAT_VERSION, 0, 0, 0];
        if !known || crc32c(covered) != u32::from_le_bytes(*crc) {
            return None;
        }
        let number = |at: usize| header[at..].first_chunk().copied().map(u64::from_le_bytes);
        let snapshot = header[16..].first_chunk().copied().map(u128::from_le_bytes)?;
        Some(Self {
            number: number(8)?,
            snapshot: SnapshotId(snapshot),
            at: EntryId { epoch: Epoch(number(32)?), lsn: Lsn(number(40)?) },
            writer: writer.to_vec(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(writer: &[u8]) -> IncomingRecord {
        let at = EntryId { epoch: Epoch(5), lsn: Lsn(0x0412) };
        IncomingRecord { number: 2, snapshot: SnapshotId(0xfe), at, writer: writer.to_vec() }
    }

    #[test]
    fn the_bytes_of_a_record_are_pinned() {
        let mut expected = b"HWIN\x01\0\0\0".to_vec();
        expected.extend(2_u64.to_le_bytes());
        expected.extend(0xfe_u128.to_le_bytes());
        expected.extend(5_u64.to_le_bytes());
        expected.extend(0x0412_u64.to_le_bytes());
        expected.extend(b"writer");
        let bytes = record(b"writer").encode();
        assert_eq!(bytes[..bytes.len() - CRC_SIZE_BYTES], expected);
    }

    #[test]
    fn a_record_is_read_as_it_was_written_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        assert_eq!(IncomingRecord::read(root), None);
        record(b"first").write(root).unwrap();
        record(b"second").write(root).unwrap();
        assert_eq!(IncomingRecord::read(root), Some(record(b"second")));
        let bytes = record(b"second").encode();
        for index in 0..bytes.len() {
            let mut broken = bytes.clone();
            broken[index] ^= 0x20;
            assert_eq!(IncomingRecord::decode(&broken), None, "byte {index}");
            assert_eq!(IncomingRecord::decode(&bytes[..index]), None, "cut at {index}");
        }
        IncomingRecord::remove(root).unwrap();
        IncomingRecord::remove(root).unwrap();
        assert_eq!(IncomingRecord::read(root), None);
    }
}
