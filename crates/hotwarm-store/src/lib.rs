//! The multi-version key-value store of a group and the Redis commands over it.
//!
//! The tree on disk holds committed state only; the tail that is not committed lives in an overlay in memory
//! (R32). Commands run once, on the hot; the log carries their effects.
//!
//! [`State`] is the state machine behind the log; [`Feeder`] carries what is committed to the [`tree`]; [`Snapshot`]
//! and [`SnapshotWriter`] copy a state to another node; [`GroupTime`] is the clock that expiry is judged by.

mod cache;
mod census;
mod codec;
pub mod command;
pub mod effect;
mod engine;
mod execution;
mod expiring;
mod feeder;
mod group_time;
mod key;
pub mod keyspace;
pub mod limits;
mod overlay;
mod pending;
mod reading;
mod session;
mod snapshot;
mod state;
mod sync;
pub mod tree;
mod view;

pub use census::KeyCounts;
pub use effect::Identity;
pub use engine::{Engine, Ran, Terms, decode_reply};
pub use execution::{ExecuteError, Executed, Execution};
pub use feeder::{Feeder, Round, StateDigest};
pub use group_time::{FollowError, Followed, GroupTime, STEP_MS_MAX, step_ms};
pub use session::{SessionAnswer, SessionTable};
pub use snapshot::{Snapshot, SnapshotError, SnapshotMark, SnapshotWriter};
pub use state::{ApplyError, OpenError, Options, ProposedBlock, State};
pub use view::{Seen, View};
