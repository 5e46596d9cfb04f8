//! Signals, and what `/proc` says of processes. Nothing here proves a death: it is for whom to strike, not for judging.

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use std::fs;

/// Sends a signal to a process. One that is gone already needs none.
pub fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = number(pid) {
        _ = kill_process(pid, signal);
    }
}

/// Sends a signal to a process group. One that is gone already needs none.
pub fn signal_group(leader: u32, signal: Signal) {
    if let Some(leader) = number(leader) {
        _ = kill_process_group(leader, signal);
    }
}

/// The first child of a process.
pub fn child(pid: u32) -> Option<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    text.split_whitespace().next()?.parse().ok()
}

/// 0 and the negative numbers mean groups to the kernel, and 1 is never ours to signal.
fn number(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().filter(|raw| *raw > 1).and_then(Pid::from_raw)
}
