//! One file a family of commands. Each takes its flags, does what they say, and gives the exit code.

mod group;
mod init;
mod local;
mod members;
mod show;

use crate::failure::Failure;
use crate::flags::{ClockChange, Command, Flags, With};
use std::process::ExitCode;

/// Runs a command.
///
/// # Errors
/// It could not be done: exit code 2.
pub fn run(flags: Flags) -> Result<ExitCode, Failure> {
    let verdict = match flags.command {
        Command::Run(file) => return local::run(&file),
        Command::Demo(demo) => crate::demo::run(&demo)?,
        Command::Init(init) => init::init(&init)?,
        Command::Check(check) => local::check(&check)?,
        Command::Recover(recover) => local::recover(&recover)?,
        Command::Completions { shell } => local::completions(shell)?,
        Command::Apply(With { common, own }) => group::apply(&common, &own)?,
        Command::Switchover(With { common, own }) => group::switchover(&common, &own)?,
        Command::Pause(With { common, own }) => group::pause(&common, &own)?,
        Command::Resume(common) => group::resume(&common)?,
        Command::Clock(ClockChange::Follow(common)) => group::follow_clock(&common)?,
        Command::Promote(With { common, own }) => group::promote(&common, &own)?,
        Command::Status(With { common, own }) => show::status(&common, &own)?,
        Command::List(common) => show::list(&common)?,
        Command::History(With { common, own }) => show::history(&common, &own)?,
        Command::Node(change) => members::node(change)?,
    };
    Ok(verdict.into())
}
