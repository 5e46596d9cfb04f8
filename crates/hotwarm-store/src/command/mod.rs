//! The Redis commands over a [`Keyspace`](crate::keyspace::Keyspace).
//!
//! A command passes through two pure functions. [`plan()`] looks at one request in the light of its connection: it refuses
//! it, answers it at once, queues it for EXEC, or makes a [`Call`] of it. A call is complete in itself: it can be
//! encoded and sent to the hot. [`run()`] executes a call against keys: the same keys and the same call give the same reply
//! and the same effects. Between the two lies everything that needs a clock, a network or a disk, and none of it is here.
//!
//! ```text
//! request --plan--> Reply | Close                  answered on the spot
//!                   Read(Call)  --run--> Reply      on whichever node the read policy says
//!                   Write(Call) --run--> Reply      on the hot; the reply goes out when its effects are committed (R33)
//!                   Watch(Call) --run--> Reply --ClientState::watched--> Reply
//!                   Session | Wait                 carried out by the node
//! ```
//!
//! Replies are those of Redis 7.0; [`CommandError`] holds the texts. What differs is written where it differs:
//! INCRBYFLOAT in `decimal`, cursors in `cursor`, transactions in `transaction`, bounds in [`limits`].

mod args;
mod call;
mod client;
mod connection;
mod cursor;
mod decimal;
#[cfg(test)]
mod differential;
mod error;
mod expiry;
mod glob;
mod keys;
mod known;
pub mod limits;
mod plan;
mod run;
mod scan;
mod sentinel;
mod server;
mod session;
mod strings;
mod table;
#[cfg(test)]
mod testing;
mod transaction;

pub use call::{Call, DecodeError, Invocation, Watched};
pub use client::ClientState;
pub use error::CommandError;
pub use plan::{Plan, plan};
pub use run::{Context, run};
pub use sentinel::{Instance, Topology};
pub use server::{COMPATIBLE_VERSION, ConfigError, Server};
pub use table::{COMMANDS, Command, lookup};
