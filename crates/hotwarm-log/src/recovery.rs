//! Opening a log: what is in it, after whatever happened.
//!
//! Only the last segment can have a torn tail, since a segment is synced before the next one is begun. Its records are
//! walked from the start; the walk ends at the first place where there is none that is intact and follows on the one
//! before. Then one of two things is true:
//!
//! - A write was interrupted there. Nothing from there on was ever reported durable, and it is cut: zeroed, so that
//!   nothing of it can ever be taken for a record again.
//! - What was durable is damaged. Then nothing is touched, and opening is refused with the file and the offset: the
//!   data must come from a peer (C29 of the fault list, INV-9).
//!
//! It is the second if anything proves that the next entry was durable: the head (for all segments but the last), the
//! durable mark (see `mark`), or an intact record further on in the segment that was appended when it was (see
//! `entry`). Where the power failed before any such proof reached the disk, damage of the very last batch cannot be
//! told from a torn write by this node alone; its peers, who remember what it acknowledged, tell it (R5).
//!
//! Everything past the mark is then written again, in place, and synced (R11). Syncing alone would not do: if a sync
//! failed in the process before, the system holds pages that it takes for written and that are not.

use crate::checksum::u32_at;
use crate::entry::{ENTRY_ALIGNMENT_BYTES, ENTRY_HEADER_SIZE_BYTES, ENTRY_VERSION, EntryCodec, entry_size_claimed};
use crate::epochs::Epochs;
use crate::head::{CutBegun, Head};
use crate::mark::Mark;
use crate::segment::{
    HeaderFault, Place, SEGMENT_HEADER_SIZE_BYTES, Segment, SegmentHeader, path_in, segment_number, segment_path,
};
use crate::slot::{SlotFile, SlotPurpose};
use crate::spare::LogAhead;
use crate::state::{NoRecord, PAGE_SIZE_BYTES, Shared, State, Tail, record_at};
use crate::window::Window;
use crate::{DiskError, Log, LogOptions, OpenError, SlotError};
use hotwarm_disk::{Disk, DiskFile, OpenMode, read_exact_at};
use hotwarm_types::{EntryId, Epoch, GroupId, Lsn};
use std::collections::VecDeque;
use std::sync::Arc;

/// Bytes copied at once.
const COPY_SIZE_BYTES: usize = 1 << 20;

/// Bytes searched at once.
const SEARCH_SIZE_BYTES: usize = 256 << 10;

/// The search for intact records behind a damaged one checks at most so many times the segment's size: a hostile
/// payload full of what looks like headers must not hold up a start for ever.
const SEARCH_FACTOR_MAX: u64 = 16;

/// What opening a log found, all of it durable by this process (R11).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// The entry before the first one in the log.
    pub floor: EntryId,
    /// The last entry.
    pub end: EntryId,
    /// First position of each epoch, oldest first; reaches back beyond the floor.
    pub epochs: Vec<(Epoch, Lsn)>,
    /// Stamp of the last entry, in milliseconds since the Unix epoch: group time goes on from there (R35). After a
    /// reset it is that of the log before.
    pub stamp_ms: u64,
    /// Bytes of an interrupted write that were cut; 0 after a clean stop.
    pub torn_bytes: u64,
    /// Bytes past the durable mark that were written and synced again.
    pub rewritten_bytes: u64,
    /// Whether a cut that a crash had interrupted was finished.
    pub cut_finished: bool,
}

/// The last segment, which alone can have a torn tail.
struct Last {
    codec: EntryCodec,
    segment: Segment,
    file: Arc<dyn DiskFile>,
}

/// What a walk through the last segment found.
struct Walk {
    /// The place after the last good record.
    place: Place,
    stamp_ms: u64,
    /// The place after the last entry that the mark covers.
    marked: Place,
    /// Why it went no further.
    why: &'static str,
    /// Whether the header of the segment was there.
    begun: bool,
}

/// What follows the end of the good records.
pub(crate) struct Remains {
    /// Where the last intact record ends; the end of the good ones, if there is none.
    pub(crate) end: u64,
    /// Whether one of them proves that the entry after the good ones was durable.
    proof: bool,
}

impl Log {
    /// Opens the log in `folder`. What it reports is durable.
    ///
    /// # Errors
    /// `Missing`, `Corrupt`, `NewerFormat`, `Options`, `Head`, `Disk`. Nothing that was durable has been changed; a
    /// later attempt may succeed if the disk does.
    pub fn open(disk: Arc<dyn Disk>, folder: &str, options: LogOptions) -> Result<(Self, Recovery), OpenError> {
        options.check()?;
        let codec = EntryCodec::new(options.cluster, options.group);
        let (head_file, head) = open_head(&*disk, folder, &options)?;
        let (mark, marked) = Mark::open(&*disk, path_in(folder, "mark"), &codec, head.era)?;
        let names = disk.list(folder).map_err(DiskError::on("list", folder))?;
        let ahead = LogAhead::open(disk.clone(), folder, options.segment_size_bytes, &names)?;
        remove_strangers(&*disk, folder, &names, &head, &ahead)?;
        let mut segments = open_segments(&*disk, folder, &codec, &head)?;
        let segment = segments.pop_back().expect("a head names at least one segment");
        let file = disk.open(&segment.path, OpenMode::Existing).map_err(DiskError::on("open", &segment.path))?;
        let mut last = Last { codec, file, segment };

        let mut epochs = head.epochs.clone();
        let durable = marked.map_or(head.last_base, |marked| later(marked, head.last_base));
        let walk = last.walk(&head, durable, &mut epochs)?;
        let torn_end = match head.cut {
            Some(cut) => last.check_cut(&walk, cut)?,
            None => last.judge(&walk, durable)?,
        };
        let rewritten_bytes = last.settle(&walk, torn_end)?;
        let torn_bytes = if head.cut.is_some() { 0 } else { torn_end - walk.place.offset };
        disk.sync_dir(folder).map_err(DiskError::on("sync folder", folder))?;

        let end = walk.place.prev;
        let Last { segment, file, .. } = last;
        let mut state = State {
            segments,
            file: file.clone(),
            floor: head.floor,
            end,
            end_stamp_ms: walk.stamp_ms,
            written: walk.place,
            epochs,
            tail: Tail::default(),
        };
        if walk.begun {
            state.segments.push_back(segment);
            state.rewind(walk.place, walk.stamp_ms)?;
        } else {
            state.begin(&codec, segment, file);
        }
        let recovery = Recovery {
            floor: state.floor,
            end,
            epochs: state.epochs.as_slice().to_vec(),
            stamp_ms: walk.stamp_ms,
            torn_bytes,
            rewritten_bytes,
            cut_finished: head.cut.is_some(),
        };
        let shared = Arc::new(Shared::new(disk.clone(), codec, state));
        let folder = folder.to_string();
        let mut log = Self { disk, folder, options, shared, head, head_file, mark, ahead, durable: end, failure: None };
        if log.head.cut.is_some() {
            let head = Head { cut: None, ..log.head.clone() };
            log.write_head(head)?;
        }
        log.mark.write(&log.shared.codec, log.head.era, end)?;
        Ok((log, recovery))
    }
}

fn open_head(disk: &dyn Disk, folder: &str, options: &LogOptions) -> Result<(SlotFile, Head), OpenError> {
    let path = path_in(folder, "head");
    let opened = SlotFile::open(disk, &path, SlotPurpose::HEAD, options.cluster, options.group);
    let (file, payload) = opened.map_err(|error| match error {
        SlotError::Missing { .. } => OpenError::Missing { folder: folder.to_string() },
        other => OpenError::Head(other),
    })?;
    let head = Head::decode(&payload).map_err(|why| SlotError::Corrupt { path, why })?;
    Ok((file, head))
}

/// Removes files of segments that the head does not name: dropped, cut off, or never begun.
fn remove_strangers(
    disk: &dyn Disk,
    folder: &str,
    names: &[String],
    head: &Head,
    ahead: &LogAhead,
) -> Result<(), DiskError> {
    for number in names.iter().filter_map(|name| segment_number(name)) {
        let path = segment_path(folder, number);
        if number < head.first {
            ahead.recycle(&path)?;
        } else if number > head.last {
            // Its number will be given again: it must not come back with old records in it (see `segment`).
            disk.remove(&path).map_err(DiskError::on("remove", &path))?;
        }
    }
    Ok(())
}

/// Looks at all segments, and reads the headers of all but the last.
fn open_segments(
    disk: &dyn Disk,
    folder: &str,
    codec: &EntryCodec,
    head: &Head,
) -> Result<VecDeque<Segment>, OpenError> {
    let mut segments: VecDeque<Segment> = VecDeque::new();
    for number in head.first..=head.last {
        let path = segment_path(folder, number);
        let end = segments.back().map_or(head.floor, |before| before.header.base);
        let corrupt = |why| OpenError::Corrupt { file: path.clone(), offset: 0, why, end };
        if !disk.exists(&path).map_err(DiskError::on("look for", &path))? {
            return Err(corrupt("the file is missing"));
        }
        let file = disk.open(&path, OpenMode::Existing).map_err(DiskError::on("open", &path))?;
        let size_bytes = file.size().map_err(DiskError::on("look at", &path))?;
        if size_bytes < SEGMENT_HEADER_SIZE_BYTES as u64 || !size_bytes.is_multiple_of(PAGE_SIZE_BYTES as u64) {
            return Err(corrupt("the file has not the size of a segment"));
        }
        let header = if number == head.last {
            SegmentHeader { number, base: head.last_base, base_stamp_ms: head.last_base_stamp_ms }
        } else {
            read_header(&*file, codec, &path)?.map_err(|()| corrupt("its header is damaged"))?
        };
        let follows = match segments.back() {
            None => header.base == head.floor,
            Some(before) => header.base.lsn > before.header.base.lsn && header.base.epoch >= before.header.base.epoch,
        };
        if header.number != number || !follows {
            return Err(corrupt("it does not follow on the segment before it"));
        }
        segments.push_back(Segment::new(header, path, size_bytes));
    }
    Ok(segments)
}

/// The header of a segment; `Err(())` inside if it is damaged or was never written.
fn read_header(file: &dyn DiskFile, codec: &EntryCodec, path: &str) -> Result<Result<SegmentHeader, ()>, OpenError> {
    let mut bytes = [0; SEGMENT_HEADER_SIZE_BYTES];
    read_exact_at(file, &mut bytes, 0).map_err(DiskError::on("read", path))?;
    match SegmentHeader::decode(&bytes, codec) {
        Ok(header) => Ok(Ok(header)),
        Err(HeaderFault::Damaged | HeaderFault::Foreign) => Ok(Err(())),
        Err(HeaderFault::Newer(version)) => Err(OpenError::NewerFormat { file: path.to_string(), version }),
    }
}

impl Last {
    /// Walks the records, up to a cut that was begun, the first fault, or the end of the file.
    fn walk(&mut self, head: &Head, durable: EntryId, epochs: &mut Epochs) -> Result<Walk, OpenError> {
        let (path, number) = (self.segment.path.clone(), self.segment.header.number);
        let start = Place { prev: self.segment.header.base, offset: 0 };
        let stamp_ms = self.segment.header.base_stamp_ms;
        let mut walk = Walk { place: start, stamp_ms, marked: start, why: "its header is damaged", begun: false };
        match read_header(&*self.file, &self.codec, &path)? {
            Ok(header) if header.number == number => {
                if header.base != self.segment.header.base {
                    walk.why = "its header and the head disagree about the entry before it";
                    return Err(self.corrupt(&walk));
                }
            }
            // Of the file's earlier life, or none at all: nothing of this segment was written yet.
            Ok(_) | Err(()) => return Ok(walk),
        }
        walk.begun = true;
        walk.place = self.segment.start();
        walk.marked = walk.place;
        let mut window = Window::new(&*self.file, &path, self.segment.size_bytes);
        loop {
            if walk.place.prev == durable {
                walk.marked = walk.place;
            }
            if head.cut.is_some_and(|cut| walk.place.prev.lsn >= cut.last.lsn) {
                return Ok(walk);
            }
            match record_at(&self.codec, &mut window, number, walk.place) {
                Ok(record) => {
                    self.segment.note(walk.place);
                    epochs.appended(record.header.epoch, record.header.first);
                    walk.stamp_ms = record.header.stamp_ms;
                    walk.place = record.next;
                }
                Err(NoRecord::Disk(error)) => return Err(error.into()),
                Err(NoRecord::Fault(why)) => {
                    walk.why = why;
                    return Ok(walk);
                }
            }
        }
    }

    /// Where what a cut takes ends. It was decided and stays so: the entries up to it are durable and must be there.
    fn check_cut(&self, walk: &Walk, cut: CutBegun) -> Result<u64, OpenError> {
        let offset = walk.place.offset.max(SEGMENT_HEADER_SIZE_BYTES as u64);
        let there = walk.place.prev == cut.last && offset == cut.offset;
        if !there {
            return Err(self.corrupt(walk));
        }
        Ok(remains(&self.codec, &self.segment, &*self.file, walk.place)?.end)
    }

    /// Where what remains of an interrupted write ends, if that is what follows the good records.
    fn judge(&self, walk: &Walk, durable: EntryId) -> Result<u64, OpenError> {
        if durable.lsn > walk.place.prev.lsn {
            return Err(self.corrupt(walk));
        }
        let remains = remains(&self.codec, &self.segment, &*self.file, walk.place)?;
        if remains.proof { Err(self.corrupt(walk)) } else { Ok(remains.end) }
    }

    /// Writes again what the mark does not cover, zeroes what follows the good records up to `torn_end`, and syncs.
    /// Returns how many bytes were written again.
    fn settle(&self, walk: &Walk, torn_end: u64) -> Result<u64, DiskError> {
        let (file, path) = (&*self.file, self.segment.path.as_str());
        let start = walk.marked.offset / PAGE_SIZE_BYTES as u64 * PAGE_SIZE_BYTES as u64;
        let mut buffer = Vec::new();
        let mut offset = start;
        while offset < walk.place.offset {
            let count = (walk.place.offset - offset).min(COPY_SIZE_BYTES as u64);
            buffer.resize(count as usize, 0);
            read_exact_at(file, &mut buffer, offset).map_err(DiskError::on("read", path))?;
            file.write_at(&buffer, offset).map_err(DiskError::on("write", path))?;
            offset += count;
        }
        wipe(&self.segment, file, walk.place, torn_end)?;
        file.sync_data().map_err(DiskError::on("sync", path))?;
        Ok(walk.place.offset - start)
    }

    fn corrupt(&self, walk: &Walk) -> OpenError {
        let (file, offset) = (self.segment.path.clone(), walk.place.offset);
        OpenError::Corrupt { file, offset, why: walk.why, end: walk.place.prev }
    }
}

/// Looks for intact records of a segment from a place on, at every offset where one could begin.
pub(crate) fn remains(
    codec: &EntryCodec,
    segment: &Segment,
    file: &dyn DiskFile,
    from: Place,
) -> Result<Remains, DiskError> {
    let mut window = Window::new(file, &segment.path, segment.size_bytes);
    let mut budget = segment.size_bytes * SEARCH_FACTOR_MAX;
    let mut offset = from.offset.max(SEGMENT_HEADER_SIZE_BYTES as u64);
    let mut remains = Remains { end: from.offset, proof: false };
    while budget > 0 {
        let chunk = window.get(offset, SEARCH_SIZE_BYTES)?;
        if chunk.len() < ENTRY_HEADER_SIZE_BYTES {
            break;
        }
        let Some((skipped, size)) = plausible(chunk, codec.group, segment.header.number) else {
            // The last header of the chunk may be cut short by its end.
            offset += (chunk.len() - ENTRY_HEADER_SIZE_BYTES) as u64 / ENTRY_ALIGNMENT_BYTES * ENTRY_ALIGNMENT_BYTES;
            offset += ENTRY_ALIGNMENT_BYTES;
            continue;
        };
        offset += skipped as u64;
        budget = budget.saturating_sub(size as u64);
        match codec.decode(window.get(offset, size)?) {
            Ok((header, _)) if header.first > from.prev.lsn => {
                offset += size as u64;
                remains.end = offset;
                remains.proof |= header.durable() > from.prev.lsn;
            }
            Ok(_) | Err(_) => offset += ENTRY_ALIGNMENT_BYTES,
        }
    }
    Ok(remains)
}

/// The first place in some bytes that looks like a header of the segment, and the size that the record would have.
fn plausible(bytes: &[u8], group: GroupId, number: u32) -> Option<(usize, usize)> {
    let last = bytes.len().checked_sub(ENTRY_HEADER_SIZE_BYTES)?;
    (0..=last).step_by(ENTRY_ALIGNMENT_BYTES as usize).find_map(|at| {
        let header = &bytes[at..at + ENTRY_HEADER_SIZE_BYTES];
        if header[8] != ENTRY_VERSION || u32_at(header, 16) != number || u32_at(header, 12) != group.0 {
            return None;
        }
        entry_size_claimed(header).map(|size| (at, size))
    })
}

/// Overwrites with zeros, not synced, everything from a place to `end`, and at least the header of a record.
pub(crate) fn wipe(segment: &Segment, file: &dyn DiskFile, from: Place, end: u64) -> Result<(), DiskError> {
    let least = from.offset + ENTRY_HEADER_SIZE_BYTES as u64;
    let end = end.max(least).next_multiple_of(PAGE_SIZE_BYTES as u64).min(segment.size_bytes);
    let mut offset = from.offset;
    let zeros = vec![0; COPY_SIZE_BYTES.min((end - offset) as usize)];
    while offset < end {
        let count = (end - offset).min(COPY_SIZE_BYTES as u64);
        file.write_at(&zeros[..count as usize], offset).map_err(DiskError::on("write", &segment.path))?;
        offset += count;
    }
    Ok(())
}

fn later(a: EntryId, b: EntryId) -> EntryId {
    if a.lsn >= b.lsn { a } else { b }
}
