//! The ordered map on disk that holds committed state, behind a trait.
//!
//! A tree is fed batches, each at an [`Lsn`]; a batch is seen whole or not at all, and so is it after a crash: a
//! crash takes a tree back to what the last flush made durable, which is always the end of some batch, and
//! [`Tree::applied`] says which. The position is stored in the same batch as the writes, so the two cannot part.
//!
//! **Versions.** Every row carries the position that wrote it in its own bytes (see `key.rs`). Old versions are not
//! addressed by position but by [`Pin`]: a pin holds the state of one moment for as long as it lives, at the cost of
//! the files and memory that it alone still needs. The alternative, a read at any past sequence number of the engine,
//! makes the engine keep every table and every memory buffer since the oldest number it must answer, so that a window
//! of hours would grow without bound; and the feed writes only the last value of a key, so that positions
//! between two batches could not be answered truthfully anyway. A window of history is therefore rows of its own, which
//! `key.rs` leaves room for, and not a property of the engine.
//!
//! Two implementations serve: [`lsm`], the real one, and [`map`], for tests and the simulator. A third (redb) exists in
//! tests only, where all three are driven by the same random operations and must answer the same.

pub mod lsm;
pub mod map;

#[cfg(test)]
mod differential;
#[cfg(test)]
mod redb;

pub use lsm::LsmTree;
pub use map::MapTree;

use bytes::Bytes;
use hotwarm_types::Lsn;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;

/// The key under which an implementation keeps its applied position. Keys that begin with this byte belong to the tree.
pub const APPLIED_KEY: &[u8] = &[0];

/// Rows in ascending order of their keys.
pub type Rows = Vec<(Bytes, Bytes)>;

/// Writes that take effect together: at most one a key, the last one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    writes: BTreeMap<Bytes, Option<Bytes>>,
}

impl Batch {
    /// Without writes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a row. Replaces what the batch said of the key before.
    pub fn put(&mut self, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        self.writes.insert(key.into(), Some(value.into()));
    }

    /// Removes a row, if it is there. Replaces what the batch said of the key before.
    pub fn remove(&mut self, key: impl Into<Bytes>) {
        self.writes.insert(key.into(), None);
    }

    /// The writes in key order; `None` removes.
    pub fn iter(&self) -> impl Iterator<Item = (&Bytes, Option<&Bytes>)> {
        self.writes.iter().map(|(key, value)| (key, value.as_ref()))
    }

    /// How many keys are written.
    #[must_use]
    pub fn len(&self) -> usize {
        self.writes.len()
    }

    /// Whether it has no writes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }
}

/// What a tree could not do. After any failed write the tree refuses all further ones (INV-9): its owner fences the
/// node, and a reopened tree is again what was durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TreeError {
    /// The engine, or the disk below it, failed.
    Engine {
        /// What was being done.
        during: &'static str,
        /// What the engine said.
        error: String,
    },
    /// An earlier write failed; nothing is written any more.
    Failed,
    /// A batch does not come after what is applied. Nothing was changed.
    OutOfOrder {
        /// The position up to which the tree holds everything.
        applied: Lsn,
        /// The position of the batch.
        at: Lsn,
    },
    /// Rows to load are not in strictly ascending order. Nothing was changed.
    Unsorted,
    /// A row does not read as what its key says it is.
    Corrupt {
        /// Which kind of row.
        what: &'static str,
    },
}

impl fmt::Display for TreeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Engine { during, error } => write!(f, "{during}: {error}"),
            Self::Failed => write!(f, "the tree takes no more writes, since an earlier one failed"),
            Self::OutOfOrder { applied, at } => {
                write!(f, "batch at LSN {at} does not come after LSN {applied}, which is applied")
            }
            Self::Unsorted => write!(f, "rows to load are not in ascending order"),
            Self::Corrupt { what } => write!(f, "a row does not read as {what}"),
        }
    }
}

impl std::error::Error for TreeError {}

/// The state of a tree at one moment, unchanged by anything that happens to the tree afterwards. Costs what it alone
/// keeps alive; drop it soon.
pub trait Pin: Send + Sync {
    /// The position of the last batch it includes.
    fn at(&self) -> Lsn;

    /// The value of a row.
    ///
    /// # Errors
    /// [`TreeError::Engine`] if it cannot be read or its checksum is wrong; a broken row is never answered.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, TreeError>;

    /// Up to `count` rows from `from` on, below `until` if given.
    ///
    /// # Errors
    /// As [`Pin::get`].
    fn scan(&self, from: Bound<&[u8]>, until: Option<&[u8]>, count: usize) -> Result<Rows, TreeError>;
}

/// An ordered map on disk. All methods may be called from any thread; batches come from one at a time.
pub trait Tree: Send + Sync {
    /// Applies a batch: visible to everybody when the call returns, durable after the next flush.
    ///
    /// # Errors
    /// [`TreeError::OutOfOrder`] unless `at` is past [`Tree::applied`]; [`TreeError::Failed`]; [`TreeError::Engine`].
    fn apply(&self, at: Lsn, batch: &Batch) -> Result<(), TreeError>;

    /// The position of the last batch applied; after reopening, of the last durable one.
    fn applied(&self) -> Lsn;

    /// The position that a crash would take the tree back to.
    fn durable(&self) -> Lsn;

    /// The newest value of a row. A batch that is being applied at the same time may or may not be seen.
    ///
    /// # Errors
    /// As [`Pin::get`].
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, TreeError>;

    /// Up to `count` newest rows from `from` on, below `until` if given. A batch that is being applied at the same
    /// time may be seen in part; who needs one moment pins.
    ///
    /// # Errors
    /// As [`Pin::get`].
    fn scan(&self, from: Bound<&[u8]>, until: Option<&[u8]>, count: usize) -> Result<Rows, TreeError>;

    /// Holds the present state.
    ///
    /// # Errors
    /// [`TreeError::Engine`].
    fn pin(&self) -> Result<Box<dyn Pin>, TreeError>;

    /// Makes everything applied so far durable. Returns the position that now survives a crash.
    ///
    /// # Errors
    /// [`TreeError::Failed`], [`TreeError::Engine`]; what was durable before still is.
    fn flush(&self) -> Result<Lsn, TreeError>;

    /// Adds many rows at once, past the way of batches: for a tree that is being filled by a full sync. Durable on
    /// return, but [`Tree::applied`] does not move: a batch that ends the sync moves it.
    ///
    /// # Errors
    /// [`TreeError::Unsorted`] unless the keys ascend strictly; [`TreeError::Failed`], [`TreeError::Engine`].
    fn load(&self, rows: &Rows) -> Result<(), TreeError>;

    /// One bounded piece of tidying (compaction), if there is any to do. Readers and batches go on meanwhile.
    ///
    /// # Errors
    /// [`TreeError::Failed`], [`TreeError::Engine`].
    fn maintain(&self) -> Result<(), TreeError>;

    /// Bytes applied and not yet flushed, about.
    fn unflushed_size_bytes(&self) -> u64;

    /// Bytes of all rows, about: for progress, not for decisions.
    fn size_bytes(&self) -> u64;
}

/// Whether the keys of rows ascend strictly and none belongs to the tree.
pub(crate) fn check_sorted(rows: &Rows) -> Result<(), TreeError> {
    let ascending = rows.windows(2).all(|pair| pair[0].0 < pair[1].0);
    let free = rows.first().is_none_or(|(key, _)| key.first().is_some_and(|byte| *byte != APPLIED_KEY[0]));
    if ascending && free { Ok(()) } else { Err(TreeError::Unsorted) }
}

/// Reads the row under [`APPLIED_KEY`].
pub(crate) fn decode_applied(row: Option<&[u8]>) -> Result<Lsn, TreeError> {
    let Some(row) = row else { return Ok(Lsn::ZERO) };
    let bytes = row.try_into().map_err(|_| TreeError::Corrupt { what: "the applied position" })?;
    Ok(Lsn(u64::from_le_bytes(bytes)))
}
