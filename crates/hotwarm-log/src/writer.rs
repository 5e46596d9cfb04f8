//! The one writer of a log: append many, sync once.

use crate::entry::{EntryCodec, entry_size};
use crate::epochs::Epochs;
use crate::head::Head;
use crate::mark::Mark;
use crate::segment::{Place, path_in};
use crate::segment::{SEGMENT_HEADER_SIZE_BYTES, Segment, SegmentHeader, segment_number, segment_path};
use crate::slot::{SlotFile, SlotPurpose};
use crate::spare::LogAhead;
use crate::state::{PAGE_SIZE_BYTES, Shared, State, Tail};
use crate::{DiskError, LogError, LogReader, OpenError};
use hotwarm_disk::{Disk, DiskFile, OpenMode, parent};
use hotwarm_types::{Block, BlockKind, ClusterId, EntryId, Epoch, GroupId, Lsn};
use std::collections::VecDeque;
use std::sync::Arc;

/// Size of a segment by default. Holds at least one block of the largest size; at 50 MB/s a new one is begun three
/// times a second, which costs three syncs more.
pub const SEGMENT_SIZE_BYTES: u64 = 16 << 20;

/// Segments are at most this large: a restart reads the last one.
const SEGMENT_SIZE_BYTES_MAX: u64 = 1 << 30;

/// What data leaves of the room that is certain, in bytes: a takeover appends some hundred, and must find them on a full
/// disk, too (R39).
const RESERVE_SIZE_BYTES: u64 = 64 << 10;

/// Bytes that wait in memory for a sync before they are written without one, so that a large batch is not held up by
/// one large write at its end.
const BUFFER_SIZE_BYTES_MAX: u64 = 1 << 20;

/// Whose log it is, and how it is cut into files.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// The cluster. Files of another one are refused.
    pub cluster: ClusterId,
    /// The group. Files of another one are refused.
    pub group: GroupId,
    /// Size of new segments in bytes: a multiple of 4096, at most 1 GiB. A block larger than this is refused, so
    /// outside tests it should be at least `SEGMENT_SIZE_BYTES`. May differ from one start to the next.
    pub segment_size_bytes: u64,
}

impl LogOptions {
    /// Segments of the default size.
    #[must_use]
    pub fn new(cluster: ClusterId, group: GroupId) -> Self {
        Self { cluster, group, segment_size_bytes: SEGMENT_SIZE_BYTES }
    }

    pub(crate) fn check(&self) -> Result<(), OpenError> {
        let size = self.segment_size_bytes;
        if size == 0 || !size.is_multiple_of(PAGE_SIZE_BYTES as u64) || size > SEGMENT_SIZE_BYTES_MAX {
            return Err(OpenError::Options { why: "a segment's size must be a multiple of 4096, at most 1 GiB" });
        }
        Ok(())
    }
}

/// The replication log, and the right to change it: there is one of it for a folder (see `hotwarm_disk::FolderLock`).
///
/// Every method that changes the log may block on the disk. After an error for which [`LogError::is_final`] holds,
/// all later ones return the same error, and only opening the log anew tells what is in it (INV-9).
#[derive(Debug)]
pub struct Log {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) folder: String,
    pub(crate) options: LogOptions,
    pub(crate) shared: Arc<Shared>,
    /// What the head file holds.
    pub(crate) head: Head,
    pub(crate) head_file: SlotFile,
    pub(crate) mark: Mark,
    pub(crate) ahead: LogAhead,
    /// Everything up to here has been synced by this process. Range: floor to end.
    pub(crate) durable: EntryId,
    pub(crate) failure: Option<LogError>,
}

impl Log {
    /// Makes an empty log in `folder`, which may exist and must hold none. Durable on return. A crash on the way
    /// leaves nothing that `open` takes for a log, and that a second `create` does not replace.
    ///
    /// # Errors
    /// `Exists`, `Options`, `Head`, `Disk`, or `Log` with `NoSpace`.
    pub fn create(disk: Arc<dyn Disk>, folder: &str, options: LogOptions) -> Result<Self, OpenError> {
        options.check()?;
        let codec = EntryCodec::new(options.cluster, options.group);
        disk.create_dir(folder).map_err(DiskError::on("create folder", folder))?;
        disk.sync_dir(parent(folder)).map_err(DiskError::on("sync folder", parent(folder)))?;
        let names = disk.list(folder).map_err(DiskError::on("list", folder))?;
        remove_drafts(&*disk, folder, &names)?;
        let ahead = LogAhead::open(disk.clone(), folder, options.segment_size_bytes, &names)?;
        let number = 1;
        let (segment, file) = begin_segment(
            &*disk,
            folder,
            &ahead,
            SegmentHeader { number, base: EntryId::default(), base_stamp_ms: 0 },
        )?;
        let head = Head {
            era: 1,
            first: number,
            last: number,
            floor: EntryId::default(),
            last_base: EntryId::default(),
            last_base_stamp_ms: 0,
            cut: None,
            epochs: Epochs::default(),
        };
        let (mark, _) = Mark::open(&*disk, path_in(folder, "mark"), &codec, head.era)?;
        // From here on there is a log.
        let path = path_in(folder, "head");
        let head_file =
            SlotFile::create(&*disk, &path, SlotPurpose::HEAD, options.cluster, options.group, &head.encode())?;
        let state = State {
            segments: VecDeque::new(),
            file: file.clone(),
            floor: head.floor,
            end: head.floor,
            end_stamp_ms: 0,
            written: Place { prev: head.floor, offset: 0 },
            epochs: Epochs::default(),
            tail: Tail::default(),
        };
        let shared = Arc::new(Shared::new(disk.clone(), codec, state));
        shared.lock().begin(&codec, segment, file);
        let durable = head.floor;
        let folder = folder.to_string();
        Ok(Self { disk, folder, options, shared, head, head_file, mark, ahead, durable, failure: None })
    }

    /// Appends a block. It can be read at once; it is not durable before `sync`. Blocks only where a new segment
    /// must be begun, or more than 1 MiB waits in memory. Data leaves a little room on a full disk for the starts of
    /// epochs (R39).
    ///
    /// # Errors
    /// `BlockTooLarge` or `NoSpace`, and the block is not appended; or one that is final.
    ///
    /// # Panics
    /// If the block does not follow directly on `end`, or its epoch is lower (INV-1): a bug of the caller.
    pub fn append(&mut self, block: &Block) -> Result<(), LogError> {
        self.check()?;
        let size_bytes = entry_size(block.payload.len()) as u64;
        let size_bytes_max = self.options.segment_size_bytes - SEGMENT_HEADER_SIZE_BYTES as u64;
        if size_bytes > size_bytes_max {
            return Err(LogError::BlockTooLarge { size_bytes, size_bytes_max });
        }
        let (end, room_bytes) = {
            let state = self.shared.lock();
            (state.end, state.room_bytes())
        };
        assert!(
            block.first == end.lsn.next() && block.last >= block.first && block.epoch >= end.epoch,
            "INV-1: block {}..={}@{} does not follow on {end}",
            block.first,
            block.last,
            block.epoch
        );
        if block.kind == BlockKind::Data {
            self.guard(|log| log.keep_reserve(size_bytes, room_bytes))?;
        }
        if room_bytes < size_bytes {
            self.guard(Self::begin_next_segment)?;
        }
        let mut state = self.shared.lock();
        state.append(&self.shared.codec, block, self.durable.lsn);
        if state.unwritten_bytes() >= BUFFER_SIZE_BYTES_MAX {
            let written = state.write();
            drop(state);
            self.guard(|_| Ok(written?))?;
        }
        Ok(())
    }

    /// Makes spares until a data block leaves the reserve, if the disk has room for them.
    fn keep_reserve(&self, size_bytes: u64, room_bytes: u64) -> Result<(), LogError> {
        let segment_size_bytes = self.options.segment_size_bytes;
        let reserve = RESERVE_SIZE_BYTES.min(segment_size_bytes / 16);
        loop {
            let spares = self.ahead.count();
            let left = if size_bytes <= room_bytes {
                Some((spares, room_bytes - size_bytes))
            } else {
                let room_bytes = segment_size_bytes - SEGMENT_HEADER_SIZE_BYTES as u64;
                spares.checked_sub(1).map(|spares| (spares, room_bytes - size_bytes))
            };
            let enough = left.is_some_and(|(spares, room_bytes)| spares > 0 || room_bytes >= reserve);
            if enough || !self.ahead.prepare()? {
                return Ok(());
            }
        }
    }

    /// Makes all that was appended durable, and says up to where the log now is.
    ///
    /// # Errors
    /// One that is final: then what was appended since the last `sync` may or may not survive.
    pub fn sync(&mut self) -> Result<EntryId, LogError> {
        self.check()?;
        self.guard(Self::sync_all)?;
        Ok(self.durable)
    }

    /// Syncs, and makes the durable mark itself durable, so that the next start is certain of everything.
    ///
    /// # Errors
    /// As `sync`.
    pub fn close(mut self) -> Result<EntryId, LogError> {
        let end = self.sync()?;
        self.mark.write(&self.shared.codec, self.head.era, end)?;
        self.mark.sync()?;
        Ok(end)
    }

    /// A reader, for any thread.
    #[must_use]
    pub fn reader(&self) -> LogReader {
        LogReader::new(self.shared.clone())
    }

    /// The maker of segments ahead of need, for any thread.
    #[must_use]
    pub fn ahead(&self) -> LogAhead {
        self.ahead.clone()
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

    /// The last entry that this process has made durable.
    #[must_use]
    pub fn durable(&self) -> EntryId {
        self.durable
    }

    /// First position of each epoch, oldest first; reaches back beyond the floor (R30).
    #[must_use]
    pub fn epochs(&self) -> Vec<(Epoch, Lsn)> {
        self.shared.lock().epochs.as_slice().to_vec()
    }

    /// Bytes that the log takes on disk, spares and side files not counted.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.shared.lock().size_bytes()
    }

    /// Bytes that can be appended for certain, however full the disk is: the rest of the last segment, and the
    /// spares.
    #[must_use]
    pub fn room_bytes(&self) -> u64 {
        self.shared.lock().room_bytes() + self.ahead.size_bytes()
    }

    /// The failure that ended this log, if one did.
    pub(crate) fn check(&self) -> Result<(), LogError> {
        self.failure.clone().map_or(Ok(()), Err)
    }

    /// Does something that may fail for good.
    pub(crate) fn guard<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T, LogError>) -> Result<T, LogError> {
        let done = work(self);
        if let Err(error) = &done
            && error.is_final()
        {
            self.failure = Some(error.clone());
        }
        done
    }

    pub(crate) fn sync_all(&mut self) -> Result<(), LogError> {
        let (file, path, end) = {
            let mut state = self.shared.lock();
            if state.end == self.durable {
                return Ok(());
            }
            state.write()?;
            let active = state.active();
            (state.file.clone(), active.path.clone(), state.end)
        };
        file.sync_data().map_err(DiskError::on("sync", &path))?;
        self.durable = end;
        Ok(self.mark.write(&self.shared.codec, self.head.era, end)?)
    }

    pub(crate) fn write_head(&mut self, head: Head) -> Result<(), LogError> {
        self.head_file.write(&head.encode())?;
        self.head = head;
        Ok(())
    }

    /// Seals the last segment and begins another. Everything before is durable then, so that a damaged record in
    /// any segment but the last is always corruption.
    fn begin_next_segment(&mut self) -> Result<(), LogError> {
        self.sync_all()?;
        let (base, base_stamp_ms, epochs) = {
            let state = self.shared.lock();
            (state.end, state.end_stamp_ms, state.epochs.clone())
        };
        let last = self.shared.lock().active().header;
        if last.base == base {
            return self.replace_empty_segment(last);
        }
        let number = self.next_number();
        let header = SegmentHeader { number, base, base_stamp_ms };
        let (segment, file) = begin_segment(&*self.disk, &self.folder, &self.ahead, header)?;
        let head =
            Head { last: number, last_base: base, last_base_stamp_ms: base_stamp_ms, epochs, ..self.head.clone() };
        self.write_head(head)?;
        self.shared.lock().begin(&self.shared.codec, segment, file);
        Ok(())
    }

    /// Puts a segment of the present size in the place of the last one, which holds nothing and is too small for a
    /// block: segments were smaller at an earlier start. Sealed it would be one whose header was never written.
    /// The head stays as it is, and a crash leaves either file.
    fn replace_empty_segment(&mut self, header: SegmentHeader) -> Result<(), LogError> {
        let (segment, file) = begin_segment(&*self.disk, &self.folder, &self.ahead, header)?;
        let mut state = self.shared.lock();
        state.segments.pop_back();
        state.begin(&self.shared.codec, segment, file);
        Ok(())
    }

    pub(crate) fn next_number(&self) -> u32 {
        self.head.last.checked_add(1).expect("segment numbers are exhausted after 2^32 segments")
    }
}

/// Gives a spare the name of a segment, durably. It counts once the head says so.
pub(crate) fn begin_segment(
    disk: &dyn Disk,
    folder: &str,
    ahead: &LogAhead,
    header: SegmentHeader,
) -> Result<(Segment, Arc<dyn DiskFile>), LogError> {
    let path = segment_path(folder, header.number);
    let spare = ahead.take()?;
    let file = disk.open(&spare, OpenMode::Existing).map_err(DiskError::on("open", &spare))?;
    let size_bytes = file.size().map_err(DiskError::on("look at", &spare))?;
    disk.rename(&spare, &path).map_err(DiskError::on("rename", &spare))?;
    disk.sync_dir(folder).map_err(DiskError::on("sync folder", folder))?;
    Ok((Segment::new(header, path, size_bytes), file))
}

/// Removes what a creation that was cut short left behind; refuses what may be a log.
fn remove_drafts(disk: &dyn Disk, folder: &str, names: &[String]) -> Result<(), OpenError> {
    let exists = |path: String| OpenError::Exists { folder: folder.to_string(), file: path };
    if names.iter().any(|name| name == "head") {
        return Err(exists(path_in(folder, "head")));
    }
    let segments = names.iter().filter(|name| segment_number(name).is_some());
    let paths: Vec<String> = segments.map(|name| path_in(folder, name)).collect();
    for path in &paths {
        let file = disk.open(path, OpenMode::Existing).map_err(DiskError::on("open", path))?;
        let mut bytes = [0; SEGMENT_HEADER_SIZE_BYTES];
        file.read_at(&mut bytes, 0).map_err(DiskError::on("read", path))?;
        // What a creation leaves never held a record, since the header is written with the first one.
        if bytes.iter().any(|byte| *byte != 0) {
            return Err(exists(path.clone()));
        }
    }
    for path in &paths {
        disk.remove(path).map_err(DiskError::on("remove", path))?;
    }
    Ok(())
}
