//! The bounds of the store, and why they are where they are.

use hotwarm_types::limits::BLOCK_SIZE_BYTES_MAX;

/// Longest key, in bytes. The tree allows 64 KiB, of which a key of a collection's part or of an index needs some.
pub const KEY_SIZE_BYTES_MAX: usize = 32 << 10;

/// Longest value, in bytes: it must fit one block together with its key, since an operation is never split.
pub const VALUE_SIZE_BYTES_MAX: usize = 7 << 20;

/// Longest reply that a session remembers, in bytes. A longer one is not kept: its retry is told "outcome unknown".
pub const REPLY_SIZE_BYTES_MAX: usize = 32 << 10;

/// Replies that one session remembers. A client may have this many requests open at once and still learn the outcome
/// of each after a failover.
pub const SESSION_REPLIES_MAX: usize = 1024;

/// Bytes of replies that one session remembers, each counted with `SESSION_REPLY_OVERHEAD_BYTES`.
pub const SESSION_SIZE_BYTES_MAX: usize = 64 << 10;

/// What a remembered reply costs beside its bytes.
pub const SESSION_REPLY_OVERHEAD_BYTES: usize = 48;

/// Sessions that a group holds open. Opening one more expires the one that has been idle longest.
pub const SESSIONS_MAX: usize = 100_000;

/// Bytes of replies of all sessions together; past it the sessions that have been idle longest expire.
pub const SESSIONS_SIZE_BYTES_MAX: usize = 256 << 20;

/// Group time in milliseconds after which an idle session may expire: an hour outlives any client's patience.
pub const SESSION_IDLE_MS_MAX: u64 = 3_600_000;

/// Whole size of one chunk of a snapshot, its header included: small enough to retry, to checksum and to interleave
/// with the stream of new writes.
pub const CHUNK_SIZE_BYTES_MAX: usize = 256 << 10;

/// Rows that a receiver of a snapshot collects before it hands them to the tree, in bytes: one sorted run on disk.
pub const LOAD_SIZE_BYTES: usize = 32 << 20;

/// Rows of dropped generations that one feed reclaims beside its own writes.
pub const RECLAIM_COUNT_MAX: usize = 1024;

/// Keys whose time has come that the hot removes in one operation at least, if there are so many: a fraction of a millisecond of
/// the thread that replies.
pub const EXPIRE_COUNT_MIN: usize = 128;

/// As many at most, where they come faster than small operations can remove them: some milliseconds.
pub const EXPIRE_COUNT_MAX: usize = 1024;

/// Bytes of their names.
pub const EXPIRE_SIZE_BYTES_MAX: usize = 256 << 10;

/// Rows of the index by expiry that are counted at a time after a start.
pub const CENSUS_COUNT_MAX: usize = 4096;

/// Bytes in the tree's memory after which a feeder flushes it to disk. Every version of a key that is rewritten often
/// counts.
pub const FLUSH_SIZE_BYTES: u64 = 32 << 20;

/// Bytes that one piece of tidying rewrites at most, about: some tables of 64 MiB of two levels.
pub const TIDY_ROOM_BYTES_MAX: u64 = 512 << 20;

/// Positions after which a feeder flushes however few bytes they are, where the disk has room for it: what a restart stages and
/// commits again, beside what gathers until the next feed; some tenths of a second.
pub const FLUSH_COUNT: u64 = 1 << 16;

const _: () = assert!(KEY_SIZE_BYTES_MAX + VALUE_SIZE_BYTES_MAX + REPLY_SIZE_BYTES_MAX + 4096 < BLOCK_SIZE_BYTES_MAX);
