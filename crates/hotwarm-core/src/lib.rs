//! The pure protocol of hotwarm: facts in, orders out; no clock, socket, file, thread or entropy.
//!
//! Everything that decides lives here: who is hot, whom a write waits for, when a node may stand, what is cut
//! from a log. The shells (the node's runtime, the simulator) carry out what [`Node::step`] orders and report
//! what happened. A promise of durability leaves the core only in the step that was told that the data is
//! durable, so that no shell can send before it has synced.
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod dispatch;
mod facts;
mod group;
mod identity;
mod input;
mod liveness;
mod message;
mod newcomer;
mod node;
mod output;
pub mod register;
mod replication;
mod requests;
mod vote_book;

pub use facts::{Facts, PeerFacts, RoleFact};
pub use input::{Ask, Claims, Input};
pub use message::{Grant, Message};
pub use node::{Config, Node, Recovered};
pub use output::{Answer, AskRefused, FenceReason, Note, Output};
pub use replication::last_common;
