//! One running node: event loop, transport, fronts, guardian, configuration.

pub mod config;
