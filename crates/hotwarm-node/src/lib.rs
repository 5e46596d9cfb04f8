//! One running node: event loop, transport, fronts, guardian, configuration.

pub mod config;
pub mod admin;
pub mod history;
pub mod hooks;
pub mod log_setup;
pub mod metrics;
pub mod birth;
pub mod tls;
pub mod transport;
