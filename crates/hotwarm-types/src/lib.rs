//! Identifiers, positions, time and limits that every part of hotwarm shares.
//!
//! No clock, no randomness, no input or output: values only. A bare `u64` never crosses a crate border; it
//! wears one of these names.
#![no_std]

extern crate alloc;

mod block;
mod ids;
pub mod limits;
mod time;

pub use block::{Block, BlockKind, Payload};
pub use ids::{
    ClusterId, EntryId, Epoch, FolderId, GroupId, Incarnation, Lsn, NodeId, Reign, RequestId, SessionId, SnapshotId,
    StreamId, Tenure, Token, Version,
};
pub use time::Instant;
