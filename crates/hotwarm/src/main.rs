//! The hotwarm program: command line, rendering, demo.
//!
//! Exit codes: 0 yes, 1 a true answer that is "no" (a faulty file, a group without a hot, a difference that a dry run
//! found), 2 it could not be done. Errors go to standard error as `hotwarm: ...`, with `--json` to standard output as
//! `{"error": ...}`. A reader that closes the pipe early has what it wanted: that is 0.

mod commands;
mod demo;
mod failure;
mod flags;
mod init_file;
mod nodes;
mod render;

use clap::Parser;
use failure::Failure;
use flags::Flags;
use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

/// A true answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// Yes, or done.
    Yes,
    /// No.
    No,
}

fn main() -> ExitCode {
    let flags = Flags::parse();
    let json = flags.command.json();
    match commands::run(flags) {
        Ok(code) => code,
        Err(failure) if failure.is_closed_pipe() => ExitCode::SUCCESS,
        Err(failure) => {
            // Nothing is left to tell it to if these are closed too.
            let _ = if json {
                print(&render::json::error(&failure.to_string())).map_err(|_| ())
            } else {
                writeln!(io::stderr(), "hotwarm: {failure}").map_err(|_| ())
            };
            ExitCode::from(2)
        }
    }
}

impl From<Verdict> for ExitCode {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Yes => Self::SUCCESS,
            Verdict::No => Self::from(1),
        }
    }
}

/// Writes to standard output. `println!` would panic on a closed pipe.
///
/// # Errors
/// The output cannot be written; a closed pipe is told apart by [`Failure::is_closed_pipe`].
fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|error| match error.kind() {
        ErrorKind::BrokenPipe => Failure::closed_pipe(),
        _ => Failure::because("write to standard output", &error),
    })
}
