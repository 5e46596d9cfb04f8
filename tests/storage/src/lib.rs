//! Breaks the files of a node on purpose, in every call and in every bit, and looks at what recovery makes of them.
//!
//! Three loops, each from a seed, each in a share of its cases or in all of them:
//!
//! - [`log_loop`]: log, vote record and folder record live on a disk in memory. At each call that changes something the
//!   power fails, in each way in which it may take what was not synced. The real recovery then has to find what was
//!   reported, and nothing that was never written.
//!
//! - [`folder_loop`]: a whole data folder, its trees included, whose engine does its own I/O. One life of it is recorded
//!   with strace(1), and the power fails at each call of the recording.
//!
//! - [`damage`]: every kind of file that a folder holds, with a bit flipped, cut short, or with pages lost or misplaced. It
//!   is refused by name, found by who reads that place, or reads as it was written.
//!
//! What may be found is said by a model that is kept beside the life ([`log_life::truth`]), not by the code under test.
//! The loops end with counts and with a command for each failure that replays it; they repair nothing.

pub mod damage;
pub mod folder_life;
pub mod folder_loop;
pub mod log_life;
pub mod log_loop;
mod random;
mod recording;
pub mod report;
pub mod share;
mod strace;
mod watched_disk;
