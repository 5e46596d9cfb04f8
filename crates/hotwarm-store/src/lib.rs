//! The multi-version key-value store of a group and the Redis commands over it.
//!
//! The tree on disk holds committed state only; the tail that is not committed lives in an overlay in memory
//! (R32). Commands run once, on the hot; the log carries their effects.

pub mod keyspace;
