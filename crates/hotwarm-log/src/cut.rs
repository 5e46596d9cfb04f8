//! The side file of a cut: what was cut off, kept for inspection (INV-8, R30).
//!
//! A header of 64 bytes, then the records as they were in the log, each with its own checksum. Numbers are
//! little-endian.
//!
//! | offset | size | field |
//! | --- | --- | --- |
//! | 0 | 4 | CRC-32C of bytes 4 to 63 |
//! | 4 | 4 | `CUTS` |
//! | 8 | 2 | format version: 1 |
//! | 10 | 2 | zero |
//! | 12 | 4 | group |
//! | 16 | 16 | cluster |
//! | 32 | 16 | the entry that stayed last (epoch, LSN) |
//! | 48 | 16 | the last entry that was cut (epoch, LSN) |
//!
//! They may be all that is left of a write that nobody was told about, so they are kept for a long while: see
//! [`Log::prune_cuts`].

use crate::checksum::{Checksum, put, u16_at, u32_at, u64_at, u128_at};
use crate::entry::{ENTRY_HEADER_SIZE_BYTES, EntryCodec, entry_size, entry_size_claimed};
use crate::segment::{Place, path_in};
use crate::state::record_at;
use crate::window::Window;
use crate::{DiskError, Log, LogError, OpenError};
use hotwarm_disk::{Disk, DiskFile, OpenMode};
use hotwarm_types::{Block, ClusterId, EntryId, Epoch, GroupId, Lsn};
use std::io::ErrorKind;

const HEADER_SIZE_BYTES: usize = 64;
const MAGIC: [u8; 4] = *b"CUTS";
const VERSION: u16 = 1;
pub(crate) const FOLDER: &str = "cut";

/// What a side file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CutFile {
    /// The cluster.
    pub cluster: ClusterId,
    /// The group.
    pub group: GroupId,
    /// The entry that stayed last.
    pub after: EntryId,
    /// What was cut, oldest first.
    pub blocks: Vec<Block>,
}

/// Reads a side file whole.
///
/// # Errors
/// `Corrupt`, `NewerFormat` or `Disk`.
pub fn read_cut_file(disk: &dyn Disk, path: &str) -> Result<CutFile, OpenError> {
    let file = disk.open(path, OpenMode::Existing).map_err(DiskError::on("open", path))?;
    let size_bytes = file.size().map_err(DiskError::on("look at", path))?;
    let mut window = Window::new(&*file, path, size_bytes);
    let corrupt = |offset, why, end| OpenError::Corrupt { file: path.to_string(), offset, why, end };
    let bytes = window.get(0, HEADER_SIZE_BYTES)?;
    let intact = bytes.len() == HEADER_SIZE_BYTES && Checksum::new(ClusterId(0)).holds(bytes) && bytes[4..8] == MAGIC;
    if !intact {
        return Err(corrupt(0, "its header is damaged", EntryId::default()));
    }
    if u16_at(bytes, 8) != VERSION {
        return Err(OpenError::NewerFormat { file: path.to_string(), version: u16_at(bytes, 8) });
    }
    let codec = EntryCodec::new(ClusterId(u128_at(bytes, 16)), GroupId(u32_at(bytes, 12)));
    let after = EntryId { epoch: Epoch(u64_at(bytes, 32)), lsn: Lsn(u64_at(bytes, 40)) };
    let last = EntryId { epoch: Epoch(u64_at(bytes, 48)), lsn: Lsn(u64_at(bytes, 56)) };
    let mut end = after;
    let mut offset = HEADER_SIZE_BYTES as u64;
    let mut blocks = Vec::new();
    while end != last {
        let size = entry_size_claimed(window.get(offset, ENTRY_HEADER_SIZE_BYTES)?);
        let bytes = window.get(offset, size.ok_or_else(|| corrupt(offset, "there is no record", end))?)?;
        let (header, payload) = codec.decode(bytes).map_err(|why| corrupt(offset, why, end))?;
        if header.prev() != end {
            return Err(corrupt(offset, "a record does not follow on the one before it", end));
        }
        blocks.push(header.block(payload));
        end = header.end();
        offset += entry_size(payload.len()) as u64;
    }
    Ok(CutFile { cluster: codec.cluster, group: codec.group, after, blocks })
}

/// Writes everything after a place, which is in segment `index`, to a new side file; durable on return.
pub(crate) fn put_aside(log: &Log, index: usize, from: Place) -> Result<(), LogError> {
    let folder = path_in(&log.folder, FOLDER);
    log.disk.create_dir(&folder).map_err(DiskError::on("create folder", &folder))?;
    log.disk.sync_dir(&log.folder).map_err(DiskError::on("sync folder", &log.folder))?;
    let names = log.disk.list(&folder).map_err(DiskError::on("list", &folder))?;
    for name in names.iter().filter(|name| name.ends_with(".tmp")) {
        let path = path_in(&folder, name);
        log.disk.remove(&path).map_err(DiskError::on("remove", &path))?;
    }
    let end = log.end();
    let stem = format!("{}-{}-{}", end.epoch, from.prev.lsn.next(), end.lsn);
    let name = (1..)
        .map(|number: u64| format!("{stem}-{number}.cut"))
        .find(|name| !names.contains(name))
        .expect("a folder does not hold 2^64 files");
    let path = path_in(&folder, &name);
    let draft = path_in(&folder, &format!("{name}.tmp"));
    let written = write(log, index, from, end, &draft);
    if let Err(LogError::NoSpace { .. }) = &written {
        // What is left of it is removed by the next cut, if not now.
        let _ = log.disk.remove(&draft);
    }
    written?;
    log.disk.rename(&draft, &path).map_err(DiskError::on("rename", &draft))?;
    log.disk.sync_dir(&folder).map_err(DiskError::on("sync folder", &folder))?;
    Ok(())
}

fn write(log: &Log, index: usize, from: Place, end: EntryId, path: &str) -> Result<(), LogError> {
    let file = log.disk.open(path, OpenMode::New).map_err(|error| failed("create", path, 0, error))?;
    let mut header = [0; HEADER_SIZE_BYTES];
    put(&mut header, 4, &MAGIC);
    put(&mut header, 8, &VERSION.to_le_bytes());
    put(&mut header, 12, &log.options.group.0.to_le_bytes());
    put(&mut header, 16, &log.options.cluster.0.to_le_bytes());
    put(&mut header, 32, &from.prev.epoch.0.to_le_bytes());
    put(&mut header, 40, &from.prev.lsn.0.to_le_bytes());
    put(&mut header, 48, &end.epoch.0.to_le_bytes());
    put(&mut header, 56, &end.lsn.0.to_le_bytes());
    Checksum::new(ClusterId(0)).seal(&mut header);
    file.write_at(&header, 0).map_err(|error| failed("write", path, HEADER_SIZE_BYTES as u64, error))?;
    let mut offset = HEADER_SIZE_BYTES as u64;
    let parts: Vec<_> = {
        let state = log.shared.lock();
        let parts = (index..state.segments.len()).map(|at| {
            let segment = state.segments[at].clone();
            let start = if at == index { from } else { segment.start() };
            (segment, start, state.segment_end(at))
        });
        parts.collect()
    };
    for (segment, start, end) in parts {
        let source = log.shared.open(&segment.path)?;
        let mut window = Window::new(&*source, &segment.path, segment.size_bytes);
        let mut place = start;
        while place.prev.lsn < end.lsn {
            let record = record_at(&log.shared.codec, &mut window, segment.header.number, place)
                .map_err(|fault| fault.in_file(&segment.path, place.offset))?;
            place = record.next;
        }
        offset = copy(&*source, &segment.path, start.offset, place.offset, &*file, path, offset)?;
    }
    file.sync_data().map_err(|error| failed("sync", path, offset, error))
}

/// Copies bytes `start..end` of one file to an offset of another, and says where they end.
fn copy(
    source: &dyn DiskFile,
    source_path: &str,
    start: u64,
    end: u64,
    target: &dyn DiskFile,
    target_path: &str,
    offset: u64,
) -> Result<u64, LogError> {
    let mut window = Window::new(source, source_path, end);
    let mut from = start;
    while from < end {
        let bytes = window.get(from, (end - from).min(256 << 10) as usize)?;
        let at = offset + from - start;
        target.write_at(bytes, at).map_err(|error| failed("write", target_path, at, error))?;
        from += bytes.len() as u64;
    }
    Ok(offset + end - start)
}

fn failed(action: &'static str, path: &str, needed_bytes: u64, error: std::io::Error) -> LogError {
    if matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) {
        LogError::NoSpace { file: path.to_string(), needed_bytes, error: error.into() }
    } else {
        LogError::Disk(DiskError::on(action, path)(error))
    }
}
