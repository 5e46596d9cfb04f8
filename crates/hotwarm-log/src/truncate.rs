//! What takes entries away: the cut of a suffix that diverged, the reset after a snapshot, and retention.
//!
//! Each is decided by one durable write of the head. Before it a crash leaves the log as it was; after it, opening
//! the log finishes what is left to do. Numbers of segments that a cut removes are given again, so their files are
//! removed and not recycled (see `segment`).

use crate::cut::put_aside;
use crate::epochs::Epochs;
use crate::head::{CutBegun, Head};
use crate::recovery::{remains, wipe};
use crate::segment::{Place, Segment, SegmentHeader};
use crate::state::{State, record_at};
use crate::window::Window;
use crate::writer::begin_segment;
use crate::{DiskError, Log, LogError, ReadError};
use hotwarm_disk::DiskFile;
use hotwarm_types::{EntryId, Epoch, Lsn};

/// How much of the log is kept beyond what is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// The log is not made smaller than this, in bytes on disk, save by `since_ms`.
    pub size_bytes: u64,
    /// What was stamped before is not kept for its sake, in milliseconds since the Unix epoch; 0 keeps all that
    /// `size_bytes` keeps.
    pub since_ms: u64,
}

/// Where a cut goes through the log.
struct CutPlace {
    /// Index of the segment that holds it.
    index: usize,
    place: Place,
    stamp_ms: u64,
}

impl Log {
    /// Puts everything after `last` aside in a side file, durably, and then cuts it off, durably (R30). The side file
    /// is `cut/<epoch>-<first>-<last>-<n>.cut` in the log's folder, with the epoch, first and last position of what was
    /// cut; [`crate::read_cut_file`] reads it. A crash at any point leaves the log as before or as after.
    ///
    /// # Errors
    /// `CutOutside`, `CutInsideBlock` or `NoSpace`, and nothing has changed; or one that is final.
    pub fn cut(&mut self, last: Lsn) -> Result<(), LogError> {
        self.check()?;
        let (floor, end) = (self.floor().lsn, self.end().lsn);
        if last < floor || last > end {
            return Err(LogError::CutOutside { last, floor, end });
        }
        if last == end {
            return self.guard(Self::sync_all);
        }
        self.guard(|log| {
            log.sync_all()?;
            let cut = log.find_cut(last)?;
            put_aside(log, cut.index, cut.place)?;
            log.cut_at(&cut)
        })
    }

    /// Replaces the log by an empty one that begins after `at`, as a snapshot that ends there demands; `epochs` is
    /// the snapshot's table. Durable on return; a crash leaves the old log or the new one (R31). The side files stay.
    ///
    /// # Errors
    /// `ResetInvalid` or `NoSpace`, and nothing has changed; or one that is final.
    pub fn reset(&mut self, at: EntryId, epochs: &[(Epoch, Lsn)]) -> Result<(), LogError> {
        self.check()?;
        let epochs = Epochs::of_snapshot(epochs, at).map_err(|why| LogError::ResetInvalid { why })?;
        self.guard(|log| log.reset_to(at, epochs))
    }

    /// Drops segments from the front that hold nothing after `needed`, as long as the log is larger than `keep`
    /// allows or they are older than it asks for. Their files become spares, or are removed. Says how many.
    ///
    /// # Errors
    /// One that is final.
    pub fn retain_after(&mut self, needed: Lsn, keep: Keep) -> Result<usize, LogError> {
        self.check()?;
        let (count, first, floor) = {
            let state = self.shared.lock();
            let count = droppable(&state, needed, keep);
            let header = state.segments[count].header;
            (count, header.number, header.base)
        };
        if count > 0 {
            self.guard(|log| log.drop_front(count, first, floor))?;
        }
        Ok(count)
    }

    /// Walks to the end of the block that ends with `last`.
    fn find_cut(&self, last: Lsn) -> Result<CutPlace, LogError> {
        let (index, segment) = {
            let state = self.shared.lock();
            // A cut between two segments goes to the end of the earlier one, so that the later one can be removed;
            // before the first one there is none.
            let index = if last == state.floor.lsn { 0 } else { state.segment_of(last) };
            (index, state.segments[index].clone())
        };
        let file = self.shared.open(&segment.path)?;
        let mut place = segment.nearest(last);
        let mut stamp_ms = segment.header.base_stamp_ms;
        let mut window = Window::new(&*file, &segment.path, segment.size_bytes);
        while place.prev.lsn < last {
            let record = record_at(&self.shared.codec, &mut window, segment.header.number, place)
                .map_err(|fault| fault.in_file(&segment.path, place.offset))?;
            if record.header.last > last {
                return Err(ReadError::InsideBlock {
                    from: last.next(),
                    block_first: record.header.first,
                    block_last: record.header.last,
                }
                .into());
            }
            stamp_ms = record.header.stamp_ms;
            place = record.next;
        }
        Ok(CutPlace { index, place, stamp_ms })
    }

    fn cut_at(&mut self, cut: &CutPlace) -> Result<(), LogError> {
        let shared = self.shared.clone();
        let _alone = shared.close();
        let (segment, gone, epochs) = {
            let state = shared.lock();
            let gone: Vec<String> = state.segments.iter().skip(cut.index + 1).map(|gone| gone.path.clone()).collect();
            let mut epochs = state.epochs.clone();
            epochs.cut(cut.place.prev.lsn);
            (state.segments[cut.index].clone(), gone, epochs)
        };
        let mut sealed_epochs = epochs.clone();
        sealed_epochs.cut(segment.header.base.lsn);
        // The decision.
        self.write_head(Head {
            era: self.head.era + 1,
            last: segment.header.number,
            last_base: segment.header.base,
            last_base_stamp_ms: segment.header.base_stamp_ms,
            cut: Some(CutBegun { last: cut.place.prev, offset: cut.place.offset }),
            epochs: sealed_epochs,
            ..self.head.clone()
        })?;
        let file = shared.open(&segment.path)?;
        self.remove_cut_off(&segment, &*file, cut.place, &gone)?;
        let mut state = shared.lock();
        state.segments.truncate(cut.index + 1);
        state.file = file;
        state.rewind(cut.place, cut.stamp_ms)?;
        drop(state);
        self.durable = cut.place.prev;
        let head = Head { cut: None, ..self.head.clone() };
        self.write_head(head)
    }

    fn remove_cut_off(
        &self,
        segment: &Segment,
        file: &dyn DiskFile,
        place: Place,
        gone: &[String],
    ) -> Result<(), DiskError> {
        for path in gone {
            self.disk.remove(path).map_err(DiskError::on("remove", path))?;
        }
        let end = remains(&self.shared.codec, segment, file, place)?.end;
        wipe(segment, file, place, end)?;
        file.sync_data().map_err(DiskError::on("sync", &segment.path))?;
        self.disk.sync_dir(&self.folder).map_err(DiskError::on("sync folder", &self.folder))
    }

    fn reset_to(&mut self, at: EntryId, epochs: Epochs) -> Result<(), LogError> {
        let shared = self.shared.clone();
        let number = self.next_number();
        let stamp_ms = shared.lock().end_stamp_ms;
        let header = SegmentHeader { number, base: at, base_stamp_ms: stamp_ms };
        let (segment, file) = begin_segment(&*self.disk, &self.folder, &self.ahead, header)?;
        let _alone = shared.close();
        // The decision.
        self.write_head(Head {
            era: self.head.era + 1,
            first: number,
            last: number,
            floor: at,
            last_base: at,
            last_base_stamp_ms: stamp_ms,
            cut: None,
            epochs: epochs.clone(),
        })?;
        let gone = {
            let mut state = shared.lock();
            let gone = std::mem::take(&mut state.segments);
            (state.floor, state.end, state.epochs) = (at, at, epochs);
            state.begin(&shared.codec, segment, file);
            gone
        };
        self.durable = at;
        for segment in gone {
            self.ahead.recycle(&segment.path)?;
        }
        Ok(())
    }

    fn drop_front(&mut self, count: usize, first: u32, floor: EntryId) -> Result<(), LogError> {
        let shared = self.shared.clone();
        let _alone = shared.close();
        // The decision.
        self.write_head(Head { first, floor, ..self.head.clone() })?;
        let gone: Vec<Segment> = {
            let mut state = shared.lock();
            state.floor = floor;
            state.segments.drain(..count).collect()
        };
        for segment in gone {
            self.ahead.recycle(&segment.path)?;
        }
        Ok(())
    }
}

/// How many segments at the front may go.
fn droppable(state: &State, needed: Lsn, keep: Keep) -> usize {
    let mut size_bytes = state.size_bytes();
    let mut count = 0;
    for (segment, next) in state.segments.iter().zip(state.segments.iter().skip(1)) {
        let unneeded = next.header.base.lsn <= needed;
        let surplus = size_bytes - segment.size_bytes >= keep.size_bytes;
        let old = next.header.base_stamp_ms < keep.since_ms;
        if !(unneeded && (surplus || old)) {
            break;
        }
        size_bytes -= segment.size_bytes;
        count += 1;
    }
    count
}
