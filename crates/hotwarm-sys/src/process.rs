//! Children: waiting for them, killing them, adopting theirs.
//!
//! A process that waits for its own child learns of its death from the kernel, for certain, and the kernel gives the
//! child's number to nobody else before it is reaped: the only proof of death that R20 accepts. `/proc` is read here
//! to find whom to kill, never to prove that somebody is dead.

use rustix::io::Errno;
use rustix::process::{
    Pid, Resource, Rlimit, WaitId, WaitIdOptions, WaitOptions, getpid, kill_process, kill_process_group,
    set_child_subreaper, setrlimit, wait, waitid,
};
use std::io;

pub use rustix::process::Signal;

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It returned this code.
    Code(i32),
    /// This signal killed it.
    Signal(i32),
}

impl Exit {
    /// The code that a shell would report: 128 and the number of the signal.
    #[must_use]
    pub fn code(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal(number) => 128 + number,
        }
    }
}

/// Makes this process the parent of every descendant whose own parent ends, so that it can wait for all of them.
///
/// # Errors
/// When the kernel is older than 3.4.
pub fn adopt_orphans() -> io::Result<()> {
    Ok(set_child_subreaper(Some(getpid()))?)
}

/// Forbids core dumps of this process and its future children: writing one delays the reaping by seconds.
///
/// The limit is 1 byte, not 0: the kernel ignores a limit of 0 where dumps are piped to a program, and refuses to
/// dump at all where it is 1.
///
/// # Errors
/// When the limit may not be lowered, which the kernel always allows.
pub fn forbid_core_dumps() -> io::Result<()> {
    Ok(setrlimit(Resource::Core, Rlimit { current: Some(1), maximum: Some(1) })?)
}

/// Blocks until some child has ended, and leaves it to be reaped. `false`: there are no children.
///
/// # Errors
/// When the system call fails for another reason.
pub fn await_any_exit() -> io::Result<bool> {
    loop {
        match waitid(WaitId::All, WaitIdOptions::EXITED | WaitIdOptions::NOWAIT) {
            Ok(_) => return Ok(true),
            Err(Errno::CHILD) => return Ok(false),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// How the child `pid` ended, if it has; it is left to be reaped, so its number still means it and nobody else.
///
/// # Errors
/// When it is no child of this process, or has been reaped already.
pub fn exit_of(pid: u32) -> io::Result<Option<Exit>> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
    let Some(status) = waitid(WaitId::Pid(number(pid)?), options)? else { return Ok(None) };
    let code = status.exit_status().map(Exit::Code);
    Ok(code.or_else(|| status.terminating_signal().map(Exit::Signal)))
}

/// Reaps one child that has ended, whichever, and says which. `None`: none has ended, or there are none.
///
/// # Errors
/// When the system call fails for another reason.
pub fn reap_any() -> io::Result<Option<(u32, Exit)>> {
    match wait(WaitOptions::NOHANG) {
        Ok(None) | Err(Errno::CHILD | Errno::INTR) => Ok(None),
        Ok(Some((pid, status))) => {
            let exit = match status.terminating_signal() {
                Some(number) => Exit::Signal(number),
                None => Exit::Code(status.exit_status().unwrap_or_default()),
            };
            Ok(Some((pid.as_raw_nonzero().get().unsigned_abs(), exit)))
        }
        Err(error) => Err(error.into()),
    }
}

/// The numbers of this process's children, as `/proc` lists them; those that cannot be read are left out.
#[must_use]
pub fn living_children() -> Vec<u32> {
    let Ok(threads) = std::fs::read_dir("/proc/self/task") else { return Vec::new() };
    let lists = threads.flatten().filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
    lists.flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>()).collect()
}

/// Kills a process. One that is gone already is fine.
///
/// # Errors
/// When it may not be killed.
pub fn kill(pid: u32) -> io::Result<()> {
    signal(pid, Signal::KILL)
}

/// Kills a process group. One that is gone already is fine.
///
/// # Errors
/// When none of it may be killed.
pub fn kill_group(leader: u32) -> io::Result<()> {
    signal_group(leader, Signal::KILL)
}

/// Sends a signal to a process. One that is gone already is fine.
///
/// # Errors
/// When it may not be sent.
pub fn signal(pid: u32, signal: Signal) -> io::Result<()> {
    sent(kill_process(number(pid)?, signal))
}

/// Sends a signal to a process group. One that is gone already is fine.
///
/// # Errors
/// When it may not be sent to any of it.
pub fn signal_group(leader: u32, signal: Signal) -> io::Result<()> {
    sent(kill_process_group(number(leader)?, signal))
}

fn sent(result: Result<(), Errno>) -> io::Result<()> {
    match result {
        Ok(()) | Err(Errno::SRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// A number that names a process: 0 and the negative ones mean groups to the kernel, and 1 is never ours to signal.
fn number(pid: u32) -> io::Result<Pid> {
    let raw = i32::try_from(pid).ok().filter(|raw| *raw > 1);
    raw.and_then(Pid::from_raw).ok_or_else(|| io::Error::other(format!("{pid} is no number of a child process")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_killed_child_is_seen_before_it_is_reaped() {
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        assert_eq!(exit_of(child.id()).unwrap(), None);
        assert!(living_children().contains(&child.id()));
        kill(child.id()).unwrap();
        assert!(await_any_exit().unwrap());
        while exit_of(child.id()).unwrap().is_none() {
            std::thread::yield_now();
        }
        assert_eq!(exit_of(child.id()).unwrap(), Some(Exit::Signal(9)));
        assert_eq!(Exit::Signal(9).code(), 137);
        child.wait().unwrap();
        assert!(exit_of(child.id()).is_err(), "a reaped child is no child any more");
        kill(child.id()).unwrap();
    }

    #[test]
    fn numbers_that_mean_everybody_are_refused() {
        for pid in [0, 1, u32::MAX] {
            assert!(kill(pid).is_err(), "{pid}");
            assert!(kill_group(pid).is_err(), "{pid}");
        }
    }
}
