//! A node from its start to its end.
//!
//! ```text
//!   folder, certificates --> log, votes, state recovered --> transport --> threads --> fronts, admin API
//!   SIGTERM --> goodbye (at most 5 s) --> executor, core, disk threads, each when nobody gives it work any more --> 0
//! ```
//!
//! `run` is called twice for a node: by the operator's command, where it becomes the guardian, and by the guardian's child,
//! where it becomes the node (R20). The order of the end is the order of who gives work to whom, so that nothing that was
//! promised is dropped; what was not promised may be.

mod admin_port;
mod follower;
mod fronts;
mod node;
mod route;
mod start;
mod threads;

pub use node::RunningNode;
pub use start::StartError;

use crate::config::Config;
use crate::guardian::{GuardianLink, guard};
use crate::log_setup;
use crate::storage::chain;
use std::process::{Command, ExitCode};

/// Set in the environment of the guardian's child.
pub(crate) const GUARDED: &str = "HOTWARM_GUARDED";

/// What `hotwarm run` is given.
#[derive(Debug)]
pub struct RunOptions {
    /// The configuration, read for this node.
    pub config: Config,
}

/// Runs a node until it is told to stop; to be called by a program's `main`, whose arguments it starts the node with
/// once more, under its guardian. 0 after a goodbye; 2 if it could not start; 3 if it ended without a goodbye.
#[must_use]
pub fn run(options: RunOptions) -> ExitCode {
    let _end = log_setup::init(options.config.local.log);
    if std::env::var_os(GUARDED).is_none() {
        return become_guardian();
    }
    let guardian = match GuardianLink::from_stdin() {
        Ok(guardian) => guardian,
        Err(error) => return refuse(&chain(&error)),
    };
    match RunningNode::start(options.config, Some(guardian)) {
        Ok(node) => node.run_until_told(),
        Err(error) => refuse(&error.to_string()),
    }
}

fn become_guardian() -> ExitCode {
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => return refuse(&format!("find this program: {error}")),
    };
    let mut command = Command::new(program);
    command.args(std::env::args_os().skip(1)).env(GUARDED, "1");
    match guard(command) {
        Ok(code) => ExitCode::from(u8::try_from(code).unwrap_or(3)),
        Err(error) => refuse(&chain(&error)),
    }
}

fn refuse(why: &str) -> ExitCode {
    tracing::error!(event = "not_started", "the node was not started: {why}");
    ExitCode::from(2)
}

#[cfg(test)]
mod tests;
