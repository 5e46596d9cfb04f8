//! The unit of the replication log.

use crate::{EntryId, Epoch, Lsn};
use alloc::sync::Arc;
use core::fmt;
use core::ops::Deref;

/// Bytes that the protocol carries and never looks into. Cheap to clone: all clones share one allocation.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Payload(Arc<[u8]>);

impl Payload {
    /// Copies `bytes` into a payload.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Self {
        Self(Arc::from(bytes))
    }
}

impl Deref for Payload {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match core::str::from_utf8(&self.0) {
            Ok(text) if text.len() <= 64 => write!(f, "{text:?}"),
            _ => write!(f, "[{} bytes]", self.0.len()),
        }
    }
}

/// What a block holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BlockKind {
    /// The first entry of a reign; exactly one position. Its payload is UTF-8: the cause and the evidence (R39).
    EpochStart,
    /// Writes, encoded by the state machine; one or more positions.
    Data,
}

/// A run of consecutive positions that one hot appended at once in one epoch: what is written, sent, acknowledged
/// and cut as a whole. All nodes hold the same blocks, never a part of one, since in an epoch only one process
/// forms blocks and it forms each once (INV-1).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Block {
    /// What it holds.
    pub kind: BlockKind,
    /// The epoch in which it was appended.
    pub epoch: Epoch,
    /// Its first position.
    pub first: Lsn,
    /// Its last position, at least `first`.
    pub last: Lsn,
    /// Group time in milliseconds since the Unix epoch, stamped by the hot's state machine; never decreases from one data
    /// block to the next (R35). An epoch start carries 0, "no stamp": the core forms it and knows no time. A reader takes
    /// the greatest stamp before it in its place; a new hot goes on from the greatest in its log.
    pub stamp_ms: u64,
    /// The encoded writes.
    pub payload: Payload,
}

impl Block {
    /// Bytes that a block occupies beside its payload, on disk and on the wire.
    pub const HEADER_SIZE_BYTES: usize = 64;

    /// The position of its last entry, with the epoch.
    #[must_use]
    pub fn end(&self) -> EntryId {
        EntryId { epoch: self.epoch, lsn: self.last }
    }

    /// What it counts for in windows and retention: payload and header, in bytes.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        (self.payload.len() + Self::HEADER_SIZE_BYTES) as u64
    }
}
