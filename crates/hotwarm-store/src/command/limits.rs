//! What one command may cost beyond its key and value, and why each bound is where it is.

use crate::limits::{KEY_SIZE_BYTES_MAX, VALUE_SIZE_BYTES_MAX};
use hotwarm_types::limits::BLOCK_SIZE_BYTES_MAX;

/// A call as it is forwarded, in bytes: it fits into one frame between nodes, and a plain write of it into one block.
pub const CALL_SIZE_BYTES_MAX: usize = BLOCK_SIZE_BYTES_MAX - (64 << 10);

/// Commands in one transaction. They run in one go, and nothing else runs meanwhile.
pub const QUEUED_MAX: usize = 65_536;

/// Keys that one connection may watch.
pub const WATCHED_MAX: usize = 16_384;

/// An answer, in bytes. KEYS and MGET could otherwise ask for all the data at once.
pub const REPLY_SIZE_BYTES_MAX: usize = 64 << 20;

/// A pattern, in bytes. The cost of a match is at most the product of pattern and key.
pub const PATTERN_SIZE_BYTES_MAX: usize = 1 << 10;

/// Keys that one SCAN looks at, whatever COUNT says: it is a hint, and other clients wait meanwhile.
pub const SCAN_COUNT_MAX: usize = 10_000;

/// A client's name, or the name or version of its library, in bytes.
pub const CLIENT_NAME_SIZE_BYTES_MAX: usize = 256;

const _: () = assert!(VALUE_SIZE_BYTES_MAX + KEY_SIZE_BYTES_MAX + 1024 < CALL_SIZE_BYTES_MAX);
