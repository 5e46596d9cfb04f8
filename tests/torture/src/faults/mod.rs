//! What is done to the group.

mod kind;

pub use kind::{Class, Kind};
