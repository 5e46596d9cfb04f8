//! Reading a log, from any thread, while it is appended to.

use crate::ReadError;
use crate::entry::EntryHeader;
use crate::segment::Place;
use crate::state::{Shared, State, record_at, verified};
use crate::window::Window;
use hotwarm_disk::DiskFile;
use hotwarm_types::{Block, EntryId, Epoch, Lsn};
use std::sync::Arc;

/// Reads blocks. Sees all that was appended, durable or not. Clones are cheap.
#[derive(Clone, Debug)]
pub struct LogReader {
    shared: Arc<Shared>,
}

/// What a segment's file holds from the next block on.
struct Part {
    number: u32,
    path: String,
    /// The file, if it is the one that is kept open.
    file: Option<Arc<dyn DiskFile>>,
    size_bytes: u64,
    /// At or before the next block.
    place: Place,
    /// The entry with which the file's part of the log ends.
    end: EntryId,
}

/// Blocks that were read, up to the bound of the answer.
struct Batch {
    blocks: Vec<Block>,
    /// First position of the next block.
    next: Lsn,
    size_bytes: u64,
    bytes_max: u64,
}

impl LogReader {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Consecutive blocks, starting with the one whose first position is `from`: at least one if there is one, and
    /// past that at most `bytes_max` (by `Block::size_bytes`). None if `from` is not in the log: at or below its
    /// floor, or after its end.
    ///
    /// # Errors
    /// `InsideBlock`, `Corrupt` or `Disk`. Blocks before a damaged one are returned first: the error comes when it is
    /// asked for.
    pub fn read(&self, from: Lsn, bytes_max: u64) -> Result<Vec<Block>, ReadError> {
        let _entered = self.shared.enter();
        let mut batch = Batch { blocks: Vec::new(), next: from, size_bytes: 0, bytes_max };
        loop {
            let Some(part) = self.find(&mut batch)? else { break };
            match self.read_part(&part, &mut batch) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) if batch.blocks.is_empty() => return Err(error),
                Err(_) => break,
            }
        }
        Ok(batch.blocks)
    }

    /// The entry before the first one in the log.
    #[must_use]
    pub fn floor(&self) -> EntryId {
        self.shared.lock().floor
    }

    /// The last entry appended.
    #[must_use]
    pub fn end(&self) -> EntryId {
        self.shared.lock().end
    }

    /// The last entry that is not in the segment that is appended to: up to here nothing is written any more.
    #[must_use]
    pub fn sealed(&self) -> EntryId {
        self.shared.lock().active().header.base
    }

    /// First position of each epoch, oldest first; reaches back beyond the floor (R30).
    #[must_use]
    pub fn epochs(&self) -> Vec<(Epoch, Lsn)> {
        self.shared.lock().epochs.as_slice().to_vec()
    }

    /// Finds the file that holds the next block. If it is in memory only, reads it and what follows: then, and if
    /// it is not in the log, there is no file.
    fn find(&self, batch: &mut Batch) -> Result<Option<Part>, ReadError> {
        let state = self.shared.lock();
        if batch.next <= state.floor.lsn || batch.next > state.end.lsn {
            return Ok(None);
        }
        if batch.next > state.written.prev.lsn {
            self.read_memory(&state, batch)?;
            return Ok(None);
        }
        let index = state.segment_of(batch.next);
        let segment = &state.segments[index];
        Ok(Some(Part {
            number: segment.header.number,
            path: segment.path.clone(),
            file: state.open_file(index),
            size_bytes: segment.size_bytes,
            place: segment.nearest(batch.next),
            end: state.segment_end(index),
        }))
    }

    fn read_memory(&self, state: &State, batch: &mut Batch) -> Result<(), ReadError> {
        let segment = state.active();
        let mut place = state.written;
        let mut bytes = state.unwritten();
        while place.prev != state.end {
            let record = verified(&self.shared.codec, bytes, segment.header.number, place)
                .map_err(|fault| fault.in_file(&segment.path, place.offset))?;
            if !batch.take(&record.header, record.payload)? {
                break;
            }
            bytes = &bytes[(record.next.offset - place.offset) as usize..];
            place = record.next;
        }
        Ok(())
    }

    /// Reads from a file; whether there is room for more.
    fn read_part(&self, part: &Part, batch: &mut Batch) -> Result<bool, ReadError> {
        let file = match &part.file {
            Some(file) => file.clone(),
            None => self.shared.open(&part.path)?,
        };
        let mut window = Window::new(&*file, &part.path, part.size_bytes);
        let mut place = part.place;
        let mut passed = Vec::new();
        let mut more = true;
        let taken = batch.blocks.len();
        while more && place.prev.lsn < part.end.lsn {
            let record = record_at(&self.shared.codec, &mut window, part.number, place)
                .map_err(|fault| fault.in_file(&part.path, place.offset))?;
            more = batch.take(&record.header, record.payload)?;
            passed.push(place);
            place = record.next;
        }
        if place.prev.lsn >= part.end.lsn && place.prev != part.end {
            // Nothing of such a segment is believed, so that the error comes when its entries are asked for: the next
            // read would begin after them.
            batch.blocks.truncate(taken);
            let why = "a segment's entries are not those that the next one follows on";
            return Err(ReadError::Corrupt { file: part.path.clone(), offset: place.offset, why });
        }
        self.note(part.number, &passed);
        Ok(more)
    }

    /// Keeps the places that were passed for later reads.
    fn note(&self, number: u32, passed: &[Place]) {
        let mut state = self.shared.lock();
        if let Some(segment) = state.segments.iter_mut().find(|segment| segment.header.number == number) {
            for place in passed {
                segment.note(*place);
            }
        }
    }
}

impl Batch {
    /// Takes a record's block, if it is not before the next one; whether there is room for more.
    fn take(&mut self, header: &EntryHeader, payload: &[u8]) -> Result<bool, ReadError> {
        if header.last < self.next {
            return Ok(true);
        }
        if header.first != self.next {
            return Err(ReadError::InsideBlock { from: self.next, block_first: header.first, block_last: header.last });
        }
        let size_bytes = (payload.len() + Block::HEADER_SIZE_BYTES) as u64;
        if !self.blocks.is_empty() && self.size_bytes + size_bytes > self.bytes_max {
            return Ok(false);
        }
        self.blocks.push(header.block(payload));
        self.size_bytes += size_bytes;
        self.next = header.last.next();
        Ok(self.size_bytes < self.bytes_max)
    }
}
