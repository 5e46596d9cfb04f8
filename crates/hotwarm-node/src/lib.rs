//! One running node: event loop, transport, fronts, guardian, configuration.

pub mod admin;
pub mod birth;
pub mod board;
pub mod clock;
pub mod config;
mod crew;
pub mod data_folder;
pub mod event_loop;
pub mod executor;
pub mod feeder;
pub mod guardian;
pub mod history;
pub mod hooks;
pub mod log_setup;
pub mod metrics;
pub mod observer;
pub mod queue;
pub mod recover;
pub mod resp;
pub mod run;
pub mod snapshot_transfer;
pub mod status;
pub mod storage;
pub mod tls;
pub mod transport;
