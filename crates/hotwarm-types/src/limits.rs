//! Every bound of the system, and why it is where it is.

/// Members of a group, witnesses included. The design is for 2 to 5 machines; 9 leaves room for a change of
/// machines while both sets are in use.
pub const MEMBERS_MAX: usize = 9;

/// Length of a node's name in bytes: fits a DNS label.
pub const NAME_SIZE_BYTES_MAX: usize = 63;

/// Payload of one block. Larger blocks would delay beacons on slow links and grow the memory that a frame may cost.
pub const BLOCK_SIZE_BYTES_MAX: usize = 8 << 20;

/// One frame between nodes: a full block and its header.
pub const FRAME_SIZE_BYTES_MAX: usize = BLOCK_SIZE_BYTES_MAX + (64 << 10);

/// The group's state as the register holds it, encoded, its agreed settings included.
pub const STATE_SIZE_BYTES_MAX: usize = 128 << 10;

/// Changes that the register remembers, so that a crash cannot lose the history (R39).
pub const CHANGES_KEPT: usize = 32;

/// Bytes appended and not yet committed. Past it the hot holds writes: a slow warm must not grow its memory.
pub const UNCOMMITTED_SIZE_BYTES_MAX: u64 = 64 << 20;

/// Bytes sent to one follower and not yet acknowledged by it.
pub const STREAM_WINDOW_SIZE_BYTES: u64 = 16 << 20;

/// Bytes of recent blocks kept in memory for followers that are close behind.
pub const TAIL_SIZE_BYTES_MAX: u64 = 32 << 20;

/// Operator's requests that may wait for the register at once.
pub const REQUESTS_WAITING_MAX: usize = 16;

/// Verified reads that may wait for one round.
pub const VERIFIED_READS_WAITING_MAX: usize = 65_536;

const _: () = assert!(FRAME_SIZE_BYTES_MAX > BLOCK_SIZE_BYTES_MAX);
const _: () = assert!(STREAM_WINDOW_SIZE_BYTES > BLOCK_SIZE_BYTES_MAX as u64);
const _: () = assert!(TAIL_SIZE_BYTES_MAX >= STREAM_WINDOW_SIZE_BYTES);
