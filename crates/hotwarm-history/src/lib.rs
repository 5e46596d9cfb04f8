//! What clients saw, and whether a correct group could have shown it.
//!
//! A [`History`] is a list of calls by workload; each call was answered, has failed for certain, or stays unknown (C9). The
//! checkers know nothing of nodes, logs or epochs: they judge a black box by what it told its clients.
//!
//! | checker | judges | check |
//! | --- | --- | --- |
//! | [`linearizable`] | any [`Model`](model::Model), by search; says "undecided" rather than to pass in silence | C18 |
//! | [`register`] | registers with unique values, exactly and step by step | C18 |
//! | [`counter`] | counters whose increments each count once, exactly and step by step | C10 |
//! | [`list_append`] | lists and transactions over several of them: strict serializability | C17, C18 |
//! | [`unique_set`] | unique members: nothing lost, nothing invented | C12, C9 |
//! | [`bank`] | transfers: money is neither made nor lost | C12, C20 |
//! | [`session`] | what one client sees never goes back | C19 |
//! | [`bounded`] | reads that may be stale, but not more than so much | C21 |
//! | [`snapshot_order`] | snapshots of several nodes fit into one order (no long fork) | C20 |
//!
//! All are pure functions of the calls: no clock, no randomness, no input or output. Times are nanoseconds on one
//! monotonic clock that all clients share. "Before" is strict: calls that touch in one nanosecond overlap.

pub mod bank;
pub mod bounded;
mod call;
pub mod counter;
mod finding;
mod graph;
mod history;
pub mod linearizable;
pub mod list_append;
pub mod model;
pub mod register;
pub mod session;
pub mod snapshot_order;
pub mod unique_set;

pub use call::{Call, Outcome, UNENDED, seconds};
pub use finding::{Finding, Harm, Summary};
pub use history::History;
