//! Standard input as the way by which a parent hands one open file to its child.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// Takes what is open as standard input, closed on exec, and puts `/dev/null` in its place, so that no process that
/// this one starts inherits it.
///
/// # Errors
/// When standard input is closed, or `/dev/null` cannot be opened.
pub fn take_stdin() -> io::Result<OwnedFd> {
    let taken = io::stdin().as_fd().try_clone_to_owned()?;
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    Ok(taken)
}
