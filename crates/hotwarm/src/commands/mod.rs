//! One file a family of commands. Each takes its flags, does what they say, and gives the exit code.

mod group;
mod init;
mod local;
mod members;
mod show;

use crate::failure::Failure;
use crate::flags::{Command, Flags};
use std::process::ExitCode;

/// Runs a command.
///
/// # Errors
/// It could not be done: exit code 2.
pub fn run(flags: Flags) -> Result<ExitCode, Failure> {
    let common = &flags.common;
    let verdict = match flags.command {
        Command::Run => return local::run(common),
        Command::Init(init) => init::init(common, &init)?,
        Command::Check => local::check(common)?,
        Command::Completions { shell } => local::completions(shell)?,
        Command::Apply(apply) => group::apply(common, &apply)?,
        Command::Switchover(switchover) => group::switchover(common, &switchover)?,
        Command::Pause(pause) => group::pause(common, &pause)?,
        Command::Resume => group::resume(common)?,
        Command::Promote(promote) => group::promote(common, &promote)?,
        Command::Status(status) => show::status(common, &status)?,
        Command::List => show::list(common)?,
        Command::History(history) => show::history(common, &history)?,
        Command::Node(node) => members::node(common, node.change)?,
    };
    Ok(verdict.into())
}
