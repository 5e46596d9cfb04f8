//! The admin API: JSON over HTTP/1.1 on loopback. The command line, load balancers and Prometheus use it.
//!
//! A node offers itself through [`NodeControl`]; everything here is a pure view of its [`Facts`] or a request handed
//! on to the core as an [`Ask`]. What a node may be asked depends on its role: `route` holds the table, and what is
//! not in it is denied. Nothing here decides anything about roles.

mod body;
mod change;
mod client;
mod complaints;
mod route;
mod safety;
mod server;
mod status;
#[cfg(test)]
mod tests;

pub use body::{
    AddRequest, ApplyRequest, ClockFollowed, Done, ErrorBody, ErrorKind, NameRequest, Outcome, PauseRequest,
    PromoteRequest, SwitchoverRequest, fence_text,
};
pub use change::Change;
pub(crate) use change::name_of;
pub use client::{CallError, Client, Response};
pub use route::{Gate, Route, gate};
pub use safety::{HandoverPlan, Loss, handover_plan, losses};
pub use server::{Access, PAUSE_LENGTH_MAX, serve, serve_connection};
pub use status::{Facts, LinkFacts, MemberStatus, NodeStatus, PauseStatus, Role, Status, SyncFacts};

use crate::history::Event;
use hotwarm_core::{Answer, Ask, AskRefused};
use std::future::Future;
use std::pin::Pin;

/// A future that the API waits for.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What the API needs of a running node. Its methods are called from many connections at once and must not block.
pub trait NodeControl: Send + Sync {
    /// A consistent picture of the node now.
    fn facts(&self) -> Facts;

    /// The same, judged and named as people read it.
    fn status(&self) -> Status {
        Status::of(&self.facts())
    }

    /// What has happened, oldest first: the register's ring and this node's own file.
    fn history(&self) -> Vec<Event>;

    /// Prometheus' text form of everything that is measured.
    fn metrics_text(&self) -> String;

    /// Whether the event loop has turned lately: false is the one reason for a supervisor to restart the process.
    fn is_alive(&self) -> bool;

    /// Reads the node's file again, as on SIGHUP, and waits until it is in force; `status` says what could not be done.
    fn reload(&self) -> Pending<'_, ()>;

    /// Has group time step onto the wall clock, as an operator wishes (R35), and waits for what comes of it.
    fn follow_clock(&self) -> Pending<'_, Result<ClockFollowed, AskRefused>>;

    /// Puts a request to the core and waits for its answer. The core bounds the wait.
    fn ask(&self, ask: Ask) -> Pending<'_, Result<Answer, AskRefused>>;
}

/// Facts of a healthy group, for the tests of other modules.
#[cfg(test)]
pub(crate) mod tests_support {
    pub(crate) use super::status::tests::healthy;
}
