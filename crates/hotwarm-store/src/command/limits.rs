//! What one command may cost, and why each bound is where it is.

use hotwarm_types::limits::BLOCK_SIZE_BYTES_MAX;

/// A key. The tree on disk keeps the length of a key in 16 bits and adds some bytes of its own.
pub const KEY_SIZE_BYTES_MAX: usize = 32 << 10;

/// A value: with the longest key and the headers around both it fits into one block of the log.
pub const VALUE_SIZE_BYTES_MAX: usize = BLOCK_SIZE_BYTES_MAX - (128 << 10);

/// A call as it is forwarded: it fits into one frame between nodes.
pub const CALL_SIZE_BYTES_MAX: usize = BLOCK_SIZE_BYTES_MAX - (32 << 10);

/// Commands in one transaction. They run in one go, and nothing else runs meanwhile.
pub const QUEUED_MAX: usize = 65_536;

/// Keys that one connection may watch.
pub const WATCHED_MAX: usize = 16_384;

/// An answer. KEYS and MGET could otherwise ask for all the data at once.
pub const REPLY_SIZE_BYTES_MAX: usize = 64 << 20;

/// A pattern. The cost of a match is at most the product of pattern and key.
pub const PATTERN_SIZE_BYTES_MAX: usize = 1 << 10;

/// Keys that one SCAN looks at, whatever COUNT says: it is a hint, and other clients wait meanwhile.
pub const SCAN_COUNT_MAX: usize = 10_000;

/// A client's name, or the name or version of its library.
pub const CLIENT_NAME_SIZE_BYTES_MAX: usize = 256;

const _: () = assert!(VALUE_SIZE_BYTES_MAX + KEY_SIZE_BYTES_MAX < CALL_SIZE_BYTES_MAX);
