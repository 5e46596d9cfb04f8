//! What the writer and the readers of a log share.
//!
//! The writer holds the mutex while it encodes a block or writes the buffer to the file, never while it syncs.
//! Readers hold it to look up a place or to copy blocks that are still in the buffer, never while they read a file.
//! What takes entries away (cut, reset, retention) waits at the gate until no read is under way, so that a read
//! never sees a file change under it; appends do not pass the gate.

use crate::entry::{ENTRY_HEADER_SIZE_BYTES, EntryCodec, EntryHeader, entry_size_claimed};
use crate::epochs::Epochs;
use crate::segment::{Place, Segment};
use crate::window::Window;
use crate::{DiskError, ReadError};
use hotwarm_disk::{Disk, DiskFile, OpenMode, read_exact_at};
use hotwarm_types::{Block, EntryId, Lsn};
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Writes are whole pages: the kernel then needs not read the rest of a page first.
pub(crate) const PAGE_SIZE_BYTES: usize = 4096;

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) codec: EntryCodec,
    gate: RwLock<()>,
    state: Mutex<State>,
}

#[derive(Debug)]
pub(crate) struct State {
    /// The live segments, oldest first, never none; the last one is appended to.
    pub(crate) segments: VecDeque<Segment>,
    /// The file of the last segment.
    pub(crate) file: Arc<dyn DiskFile>,
    /// The entry before the first.
    pub(crate) floor: EntryId,
    /// The last entry appended. Range: at least `written`.
    pub(crate) end: EntryId,
    /// Its stamp.
    pub(crate) end_stamp_ms: u64,
    /// Where the last segment's file ends and the buffer alone goes on.
    pub(crate) written: Place,
    /// Every epoch up to `end`.
    pub(crate) epochs: Epochs,
    pub(crate) tail: Tail,
}

/// The end of the last segment in memory: from a page's border to the last record.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    /// Offset in the file of the buffer's first byte; a multiple of the page size.
    offset: u64,
    buffer: Vec<u8>,
}

impl Shared {
    pub(crate) fn new(disk: Arc<dyn Disk>, codec: EntryCodec, state: State) -> Self {
        Self { disk, codec, gate: RwLock::new(()), state: Mutex::new(state) }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("a panic while the log's state was in hand left it in doubt")
    }

    /// For a read: nothing is taken away as long as it is held.
    pub(crate) fn enter(&self) -> RwLockReadGuard<'_, ()> {
        self.gate.read().expect("nothing panics behind the gate")
    }

    /// The file of a segment, which the caller has seen in the list since it entered.
    pub(crate) fn open(&self, path: &str) -> Result<Arc<dyn DiskFile>, DiskError> {
        self.disk.open(path, OpenMode::Existing).map_err(DiskError::on("open", path))
    }

    /// For what takes entries away: waits until no read is under way, and lets none begin.
    pub(crate) fn close(&self) -> RwLockWriteGuard<'_, ()> {
        self.gate.write().expect("nothing panics behind the gate")
    }
}

impl State {
    /// Goes on in a segment that holds nothing yet.
    pub(crate) fn begin(&mut self, codec: &EntryCodec, segment: Segment, file: Arc<dyn DiskFile>) {
        self.file = file;
        self.tail.begin(&segment.header.encode(codec));
        self.written = segment.start();
        self.segments.push_back(segment);
    }

    pub(crate) fn active(&self) -> &Segment {
        self.segments.back().expect("a log has at least one segment")
    }

    /// Bytes that still fit into the last segment.
    pub(crate) fn room_bytes(&self) -> u64 {
        self.active().size_bytes - self.tail.end()
    }

    /// Encodes a block at the end.
    pub(crate) fn append(&mut self, codec: &EntryCodec, block: &Block, durable: Lsn) {
        let place = Place { prev: self.end, offset: self.tail.end() };
        let segment = self.segments.back_mut().expect("a log has at least one segment");
        segment.note(place);
        codec.encode(block, segment.header.number, self.end.epoch, durable, &mut self.tail.buffer);
        self.end = block.end();
        self.end_stamp_ms = block.stamp_ms;
        self.epochs.appended(block.epoch, block.first);
    }

    /// Bytes that are in the buffer only.
    pub(crate) fn unwritten_bytes(&self) -> u64 {
        if self.end == self.written.prev { 0 } else { self.tail.end() - self.written.offset }
    }

    /// Writes the buffer to the file, not synced.
    pub(crate) fn write(&mut self) -> Result<(), DiskError> {
        if self.end == self.written.prev {
            return Ok(());
        }
        let segment = self.segments.back().expect("a log has at least one segment");
        self.tail.write_to(&*self.file).map_err(DiskError::on("write", &segment.path))?;
        self.written = Place { prev: self.end, offset: self.tail.end() };
        Ok(())
    }

    /// Makes `place` the end of the log; it is in the last segment, whose file has all that is before.
    pub(crate) fn rewind(&mut self, place: Place, stamp_ms: u64) -> Result<(), DiskError> {
        let segment = self.segments.back_mut().expect("a log has at least one segment");
        segment.forget_after(place.offset);
        self.tail.load(&*self.file, place.offset).map_err(DiskError::on("read", &segment.path))?;
        self.end = place.prev;
        self.end_stamp_ms = stamp_ms;
        self.written = place;
        self.epochs.cut(place.prev.lsn);
        Ok(())
    }

    /// Size of the live segments on disk.
    pub(crate) fn size_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.size_bytes).sum()
    }

    /// The file of the segment at `index`, if it is the one that is kept open.
    pub(crate) fn open_file(&self, index: usize) -> Option<Arc<dyn DiskFile>> {
        (index + 1 == self.segments.len()).then(|| self.file.clone())
    }

    /// The index of the segment that holds `position`, which is after the floor and not after the end.
    pub(crate) fn segment_of(&self, position: Lsn) -> usize {
        self.segments.partition_point(|segment| segment.header.base.lsn < position) - 1
    }

    /// The entry with which a segment's file ends.
    pub(crate) fn segment_end(&self, index: usize) -> EntryId {
        self.segments.get(index + 1).map_or(self.written.prev, |next| next.header.base)
    }

    /// The records that are in the buffer only; the first one follows on `written.prev`.
    pub(crate) fn unwritten(&self) -> &[u8] {
        &self.tail.buffer[(self.written.offset - self.tail.offset) as usize..]
    }
}

impl Tail {
    fn begin(&mut self, header: &[u8]) {
        self.offset = 0;
        self.buffer.clear();
        self.buffer.extend_from_slice(header);
    }

    /// Offset in the file of the end of the last record.
    pub(crate) fn end(&self) -> u64 {
        self.offset + self.buffer.len() as u64
    }

    /// One write of whole pages; what follows the last record in its page is zeroed.
    fn write_to(&mut self, file: &dyn DiskFile) -> io::Result<()> {
        let length = self.buffer.len();
        self.buffer.resize(length.next_multiple_of(PAGE_SIZE_BYTES), 0);
        let written = file.write_at(&self.buffer, self.offset);
        self.buffer.truncate(length);
        written?;
        let whole = length / PAGE_SIZE_BYTES * PAGE_SIZE_BYTES;
        self.buffer.copy_within(whole.., 0);
        self.buffer.truncate(length - whole);
        self.offset += whole as u64;
        Ok(())
    }

    fn load(&mut self, file: &dyn DiskFile, end: u64) -> io::Result<()> {
        let length = end as usize % PAGE_SIZE_BYTES;
        self.offset = end - length as u64;
        self.buffer.clear();
        self.buffer.resize(length, 0);
        read_exact_at(file, &mut self.buffer, self.offset)
    }
}

/// One record of a segment, verified: it belongs to this place.
pub(crate) struct Record<'w> {
    pub(crate) header: EntryHeader,
    pub(crate) payload: &'w [u8],
    /// The place after it.
    pub(crate) next: Place,
}

/// Why there is no record at a place.
#[derive(Debug)]
pub(crate) enum NoRecord {
    Disk(DiskError),
    Fault(&'static str),
}

impl NoRecord {
    pub(crate) fn in_file(self, path: &str, offset: u64) -> ReadError {
        match self {
            Self::Disk(error) => ReadError::Disk(error),
            Self::Fault(why) => ReadError::Corrupt { file: path.to_string(), offset, why },
        }
    }
}

/// The record at a place of segment `number`.
pub(crate) fn record_at<'w>(
    codec: &EntryCodec,
    window: &'w mut Window<'_>,
    number: u32,
    place: Place,
) -> Result<Record<'w>, NoRecord> {
    let header = window.get(place.offset, ENTRY_HEADER_SIZE_BYTES).map_err(NoRecord::Disk)?;
    let size = entry_size_claimed(header).ok_or(NoRecord::Fault("there is no record"))?;
    let bytes = window.get(place.offset, size).map_err(NoRecord::Disk)?;
    verified(codec, bytes, number, place)
}

/// The record at the front of `bytes`, which begin at a place of segment `number`.
pub(crate) fn verified<'w>(
    codec: &EntryCodec,
    bytes: &'w [u8],
    number: u32,
    place: Place,
) -> Result<Record<'w>, NoRecord> {
    let (header, payload) = codec.decode(bytes).map_err(NoRecord::Fault)?;
    if header.segment != number {
        return Err(NoRecord::Fault("a record belongs to another segment"));
    }
    if header.prev() != place.prev {
        return Err(NoRecord::Fault("a record does not follow on the one before it"));
    }
    let size = crate::entry::entry_size(payload.len()) as u64;
    Ok(Record { header, payload, next: Place { prev: header.end(), offset: place.offset + size } })
}

#[cfg(test)]
mod tests {
    use super::*;
    use hotwarm_types::{BlockKind, ClusterId, Epoch, GroupId, Payload};

    #[test]
    fn a_record_is_valid_in_its_own_place_only() {
        let codec = EntryCodec::new(ClusterId(1), GroupId(2));
        let (kind, epoch, payload) = (BlockKind::Data, Epoch(4), Payload::new(b"abc"));
        let block = Block { kind, epoch, first: Lsn(11), last: Lsn(12), stamp_ms: 5, payload };
        let mut bytes = Vec::new();
        codec.encode(&block, 7, Epoch(3), Lsn(10), &mut bytes);
        let place = |epoch, lsn| Place { prev: EntryId { epoch: Epoch(epoch), lsn: Lsn(lsn) }, offset: 512 };
        let record = verified(&codec, &bytes, 7, place(3, 10)).map_err(|_| "no record").unwrap();
        assert_eq!(record.header.block(record.payload), block);
        assert_eq!(record.next, Place { prev: block.end(), offset: 512 + 72 });
        for (number, place) in
            [(6, place(3, 10)), (8, place(3, 10)), (7, place(2, 10)), (7, place(3, 9)), (7, place(3, 12))]
        {
            assert!(matches!(verified(&codec, &bytes, number, place), Err(NoRecord::Fault(_))), "{number} {place:?}");
        }
    }
}
