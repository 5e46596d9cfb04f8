//! What a node must survive, and refuse in words that help. Guards INV-12; a row for each thing that is thrown at it.
//!
//! | thrown | at | where |
//! | --- | --- | --- |
//! | random, mutated, oversized and cut-off bytes | each port of a process | `bytes.rs` |
//! | HTTP that is wrong, endless or slow | the admin API of a process | `http.rs` |
//! | 20,000 idle connections | the fronts of a node in a group, with some at its other ports | `idle.rs` |
//! | each key of the configuration wrong in turn | `check`, `apply`, and the API behind it | `config.rs` |
//! | folders of others, of yesterday, or of nobody; damaged ones | a start of the process | `folders.rs` |
//! | each byte of a small data folder flipped in turn | recovery, in one process | `hotwarm-node/tests/damage.rs` |
//! | each bit of a log flipped, each prefix of it, each disk call failed | the log | `hotwarm-log/tests/faults.rs` |
//! | frames that are wrong, from members with good certificates | links of a node | `hotwarm-node/tests/hostile_frames.rs` |
//! | each byte of every frame changed, each prefix of it | the codec | `hotwarm-wire/tests/round_trip.rs` |
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod bytes;
mod client;
mod config;
mod folders;
mod http;
mod idle;
#[path = "../support/mod.rs"]
mod support;
