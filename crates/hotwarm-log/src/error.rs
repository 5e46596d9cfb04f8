//! What can go wrong with the log: one type for opening, one for reading, one for everything that changes it.

use crate::SlotError;
use hotwarm_types::{EntryId, Lsn};
use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;

/// A call to the disk that failed. Clones share the cause.
#[derive(Clone, Debug)]
pub struct DiskError {
    /// What was tried, as a verb: `write`, `sync`, ...
    pub action: &'static str,
    /// The file or folder, relative to the disk's root.
    pub path: String,
    /// What the system said.
    pub error: Arc<io::Error>,
}

impl DiskError {
    /// Turns an error of the system into one that says what was tried, on what.
    pub(crate) fn on<'a>(action: &'static str, path: &'a str) -> impl FnOnce(io::Error) -> Self + use<'a> {
        move |error| Self { action, path: path.to_string(), error: Arc::new(error) }
    }
}

impl fmt::Display for DiskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.action, self.path)
    }
}

impl Error for DiskError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.error)
    }
}

/// Why a log was not opened or created. Opening changes nothing that was reported durable, whatever it answers.
#[derive(Clone, Debug)]
pub enum OpenError {
    /// There is no log in the folder. An empty log is made by `Log::create` only, never because one is missing.
    Missing {
        /// The folder.
        folder: String,
    },
    /// There is a log in the folder, or what is left of one.
    Exists {
        /// The folder.
        folder: String,
        /// What was found.
        file: String,
    },
    /// Entries that were durable are damaged. They must come from a peer: nothing was cut.
    Corrupt {
        /// The file.
        file: String,
        /// Where in it, in bytes.
        offset: u64,
        /// What is wrong.
        why: &'static str,
        /// The last entry before the damage.
        end: EntryId,
    },
    /// A file was written by a newer version of the program.
    NewerFormat {
        /// The file.
        file: String,
        /// Its format.
        version: u16,
    },
    /// The options contradict themselves.
    Options {
        /// What is wrong.
        why: &'static str,
    },
    /// The head file.
    Head(SlotError),
    /// The disk failed.
    Disk(DiskError),
    /// Changing the log, to finish what a crash interrupted, failed.
    Log(LogError),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { folder } => write!(f, "no log in {folder:?}"),
            Self::Exists { folder, file } => write!(f, "folder {folder:?} holds a log already: found {file:?}"),
            Self::Corrupt { file, offset, why, end } => write!(
                f,
                "log file {file:?} is corrupt at byte {offset}, after entry {end}: {why}; nothing was cut; replace this \
                 node's data from a peer"
            ),
            Self::NewerFormat { file, version } => {
                write!(f, "log file {file:?} has format {version}, this program knows 1; start the newer version again")
            }
            Self::Options { why } => write!(f, "log options: {why}"),
            Self::Head(error) => error.fmt(f),
            Self::Disk(error) => error.fmt(f),
            Self::Log(error) => error.fmt(f),
        }
    }
}

impl Error for OpenError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Head(error) => error.source(),
            Self::Disk(error) => error.source(),
            Self::Log(error) => error.source(),
            Self::Missing { .. }
            | Self::Exists { .. }
            | Self::Corrupt { .. }
            | Self::NewerFormat { .. }
            | Self::Options { .. } => None,
        }
    }
}

impl From<DiskError> for OpenError {
    fn from(error: DiskError) -> Self {
        Self::Disk(error)
    }
}

impl From<SlotError> for OpenError {
    fn from(error: SlotError) -> Self {
        Self::Head(error)
    }
}

impl From<LogError> for OpenError {
    fn from(error: LogError) -> Self {
        Self::Log(error)
    }
}

/// Why a change of the log failed. [`LogError::is_final`] says whether the log can still be used.
#[derive(Clone, Debug)]
pub enum LogError {
    /// The disk failed. Final: what was appended and not reported durable may or may not be there (INV-9).
    Disk(DiskError),
    /// The head file could not be written. Final.
    Head(SlotError),
    /// There is no room for another segment or side file. Nothing has changed; try again when there is.
    NoSpace {
        /// The file that was to be made.
        file: String,
        /// Its size.
        needed_bytes: u64,
        /// What the system said.
        error: Arc<io::Error>,
    },
    /// A block does not fit into a segment. Nothing has changed.
    BlockTooLarge {
        /// Bytes that it would take.
        size_bytes: u64,
        /// Bytes that there can be.
        size_bytes_max: u64,
    },
    /// A cut was asked for outside the log. Nothing has changed.
    CutOutside {
        /// Where.
        last: Lsn,
        /// The log begins after this position.
        floor: Lsn,
        /// And ends here.
        end: Lsn,
    },
    /// A cut was asked for within a block. Nothing has changed.
    CutInsideBlock {
        /// Where.
        last: Lsn,
        /// First position of the block.
        block_first: Lsn,
        /// Its last.
        block_last: Lsn,
    },
    /// The epochs given for a reset do not fit its position. Nothing has changed.
    ResetInvalid {
        /// What is wrong.
        why: &'static str,
    },
    /// Entries that are to be copied aside are damaged. Final.
    Corrupt {
        /// The file.
        file: String,
        /// Where in it, in bytes.
        offset: u64,
        /// What is wrong.
        why: &'static str,
    },
}

impl LogError {
    /// Whether each later change of the log will fail with this same error.
    #[must_use]
    pub fn is_final(&self) -> bool {
        match self {
            Self::Disk(_) | Self::Head(_) | Self::Corrupt { .. } => true,
            Self::NoSpace { .. }
            | Self::BlockTooLarge { .. }
            | Self::CutOutside { .. }
            | Self::CutInsideBlock { .. }
            | Self::ResetInvalid { .. } => false,
        }
    }
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disk(error) => error.fmt(f),
            Self::Head(error) => error.fmt(f),
            Self::NoSpace { file, needed_bytes, .. } => write!(
                f,
                "log file {file:?} needs {needed_bytes} bytes of free disk; nothing is lost, and writes can go on when there is \
                 room"
            ),
            Self::BlockTooLarge { size_bytes, size_bytes_max } => {
                write!(f, "a block of {size_bytes} bytes does not fit into a log segment, which holds {size_bytes_max}")
            }
            Self::CutOutside { last, floor, end } => {
                write!(f, "cannot cut the log after {last}: it holds what follows {floor} up to {end}")
            }
            Self::CutInsideBlock { last, block_first, block_last } => {
                write!(f, "cannot cut the log after {last}: that is inside the block {block_first} to {block_last}")
            }
            Self::ResetInvalid { why } => write!(f, "cannot reset the log: {why}"),
            Self::Corrupt { file, offset, why } => write!(f, "log file {file:?} is corrupt at byte {offset}: {why}"),
        }
    }
}

impl Error for LogError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Disk(error) => error.source(),
            Self::Head(error) => error.source(),
            Self::NoSpace { error, .. } => Some(&**error),
            Self::BlockTooLarge { .. }
            | Self::CutOutside { .. }
            | Self::CutInsideBlock { .. }
            | Self::ResetInvalid { .. }
            | Self::Corrupt { .. } => None,
        }
    }
}

impl From<DiskError> for LogError {
    fn from(error: DiskError) -> Self {
        Self::Disk(error)
    }
}

impl From<SlotError> for LogError {
    fn from(error: SlotError) -> Self {
        Self::Head(error)
    }
}

impl From<ReadError> for LogError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Disk(error) => Self::Disk(error),
            ReadError::Corrupt { file, offset, why } => Self::Corrupt { file, offset, why },
            ReadError::InsideBlock { from, block_first, block_last } => {
                Self::CutInsideBlock { last: from.prev(), block_first, block_last }
            }
        }
    }
}

/// Why blocks could not be read. Nothing has changed.
#[derive(Clone, Debug)]
pub enum ReadError {
    /// The disk failed.
    Disk(DiskError),
    /// Entries are damaged: they must come from a peer, and are never served (INV-9).
    Corrupt {
        /// The file.
        file: String,
        /// Where in it, in bytes.
        offset: u64,
        /// What is wrong.
        why: &'static str,
    },
    /// The position asked for is not the first of a block.
    InsideBlock {
        /// The position.
        from: Lsn,
        /// First position of the block that holds it.
        block_first: Lsn,
        /// Its last.
        block_last: Lsn,
    },
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disk(error) => error.fmt(f),
            Self::Corrupt { file, offset, why } => {
                write!(f, "log file {file:?} is corrupt at byte {offset}: {why}; replace this node's data from a peer")
            }
            Self::InsideBlock { from, block_first, block_last } => {
                write!(f, "cannot read the log from {from}: that is inside the block {block_first} to {block_last}")
            }
        }
    }
}

impl Error for ReadError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Disk(error) => error.source(),
            Self::Corrupt { .. } | Self::InsideBlock { .. } => None,
        }
    }
}

impl From<DiskError> for ReadError {
    fn from(error: DiskError) -> Self {
        Self::Disk(error)
    }
}
