//! A folder as a node holds it, with what the log's crate makes of it: birth, start, and all that can be read.

use super::truth::{Aside, Found, LogTruth, RecordTruth};
use hotwarm_disk::Disk;
use hotwarm_log::{
    Folder, FolderExpected, FolderIdentity, FolderState, Log, LogOptions, OpenError, Recovery, SlotError, SlotFile,
    SlotPurpose, read_cut_file,
};
use hotwarm_types::{Block, ClusterId, FolderId, GroupId, Lsn};
use std::error::Error;
use std::sync::Arc;

/// Whose folder it is.
pub const CLUSTER: ClusterId = ClusterId(0x5704_a6e0);
/// See [`CLUSTER`].
pub const GROUP: GroupId = GroupId(7);
/// Where the log lies.
pub const LOG: &str = "log";
/// Where the vote record lies.
pub const VOTE: &str = "vote";
/// The vote record that a folder is born with.
pub const FIRST_VOTE: &[u8] = b"no vote yet";

const NAME: &str = "a";
const READ_SIZE_BYTES: u64 = 64 << 10;
/// Files that a log may have beside its segments: head, mark, side files' folder, spares, and one that is being made.
const FILES_BESIDE_MAX: usize = 7;

/// A folder in use.
#[derive(Debug)]
pub struct InUse {
    /// The record.
    pub record: Folder,
    /// The vote record.
    pub votes: SlotFile,
    /// The log.
    pub log: Log,
}

/// What kept a folder from being used, with all causes.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// The log's options with segments of this size.
#[must_use]
pub fn options(segment_size_bytes: u64) -> LogOptions {
    LogOptions { segment_size_bytes, ..LogOptions::new(CLUSTER, GROUP) }
}

/// Whose folder a start expects.
#[must_use]
pub fn expected() -> FolderExpected {
    FolderExpected { cluster: Some(CLUSTER), group: GROUP, name: NAME.to_owned(), copy_allowed: false }
}

/// Makes what a folder does not have yet, as a node's first start does: the record last.
///
/// # Errors
/// What cannot be made, or is there and cannot be used.
pub fn bear(disk: &Arc<dyn Disk>, segment_size_bytes: u64) -> Result<(), String> {
    match SlotFile::create(&**disk, VOTE, SlotPurpose::VOTE, CLUSTER, GROUP, FIRST_VOTE) {
        Ok(_) => {}
        Err(SlotError::Exists { .. }) => {
            let opened = SlotFile::open(&**disk, VOTE, SlotPurpose::VOTE, CLUSTER, GROUP);
            let (_, vote) = opened.map_err(|error| chain(&error))?;
            if vote != FIRST_VOTE {
                return Err("a folder without its record holds a vote".to_owned());
            }
        }
        Err(error) => return Err(chain(&error)),
    }
    match Log::create(disk.clone(), LOG, options(segment_size_bytes)) {
        Ok(_) => {}
        Err(OpenError::Exists { .. }) => {
            let opened = Log::open(disk.clone(), LOG, options(segment_size_bytes));
            let (_, recovery) = opened.map_err(|error| chain(&error))?;
            if recovery.end.lsn > Lsn::ZERO {
                return Err("a folder without its record holds a log that was used".to_owned());
            }
        }
        Err(error) => return Err(chain(&error)),
    }
    let identity = FolderIdentity { cluster: CLUSTER, group: GROUP, name: NAME.to_owned(), folder: FolderId(0xf01d) };
    Folder::create(&**disk, identity, FolderState::Complete).map_err(|error| chain(&error))
}

/// Starts on a folder and reads everything. One whose birth was never reported is born first.
///
/// # Errors
/// Why it cannot be used, or what contradicts itself.
pub fn start(disk: &Arc<dyn Disk>, is_born: bool, segment_size_bytes: u64) -> Result<(InUse, Found, Recovery), String> {
    let look = Folder::look(&**disk).map_err(|error| chain(&error))?;
    if look.is_none() && !is_born {
        bear(disk, segment_size_bytes)?;
    }
    let (record, opened) = Folder::open(&**disk, &expected(), 1).map_err(|error| chain(&error))?;
    let (votes, vote) =
        SlotFile::open(&**disk, VOTE, SlotPurpose::VOTE, CLUSTER, GROUP).map_err(|error| chain(&error))?;
    let (log, recovery) = Log::open(disk.clone(), LOG, options(segment_size_bytes)).map_err(|error| chain(&error))?;
    let record_before =
        RecordTruth { starts: opened.incarnation.start - 1, state: record.state(), is_clean: opened.was_clean };
    let held = read_log(&log, &recovery)?;
    check_files(&**disk, &log)?;
    let found = Found { record: record_before, vote, log: held, aside: read_aside(&**disk)? };
    Ok((InUse { record, votes, log }, found, recovery))
}

/// All that the log holds, which must be what recovery has reported.
///
/// # Errors
/// It cannot be read, or is not what was reported.
pub fn read_log(log: &Log, recovery: &Recovery) -> Result<LogTruth, String> {
    let reader = log.reader();
    let mut blocks: Vec<Block> = Vec::new();
    loop {
        let from = blocks.last().map_or(log.floor().lsn, |block| block.last).next();
        let read = reader.read(from, READ_SIZE_BYTES).map_err(|error| chain(&error))?;
        if read.is_empty() {
            break;
        }
        blocks.extend(read);
    }
    let floor_stamp_ms = if blocks.is_empty() { recovery.stamp_ms } else { 0 };
    let held = LogTruth { floor: log.floor(), floor_stamp_ms, blocks, epochs: log.epochs() };
    let reported = (recovery.floor, recovery.end, recovery.stamp_ms, &recovery.epochs);
    if reported != (held.floor, held.end(), held.end_stamp_ms(), &held.epochs) || log.durable() != held.end() {
        return Err(format!("recovery reports {recovery:?}, but the log holds {} to {}", held.floor, held.end()));
    }
    Ok(held)
}

/// All side files, in the order of their names.
fn read_aside(disk: &dyn Disk) -> Result<Vec<Aside>, String> {
    let folder = format!("{LOG}/cut");
    if !disk.exists(&folder).map_err(|error| error.to_string())? {
        return Ok(Vec::new());
    }
    let names = disk.list(&folder).map_err(|error| error.to_string())?;
    let files = names.iter().filter(|name| name.ends_with(".cut")).map(|name| {
        let file = read_cut_file(disk, &format!("{folder}/{name}")).map_err(|error| chain(&error))?;
        Ok(Aside { after: file.after, blocks: file.blocks })
    });
    files.collect()
}

/// Sees that nothing piles up in the log's folder.
fn check_files(disk: &dyn Disk, log: &Log) -> Result<(), String> {
    let names = disk.list(LOG).map_err(|error| error.to_string())?;
    let segments = names.iter().filter(|name| name.ends_with(".log")).count();
    let held = log.size_bytes();
    if segments == 0 || names.len() - segments > FILES_BESIDE_MAX {
        return Err(format!("for {held} bytes of log its folder holds {names:?}"));
    }
    Ok(())
}
