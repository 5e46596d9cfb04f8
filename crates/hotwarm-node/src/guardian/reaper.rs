//! Waits for the node to end, kills all it has left behind, and reaps until nothing is left.
//!
//! A thread of its own, since waiting blocks. The guardian is the parent of every descendant whose own parent has
//! ended, so that "no children left", said by the kernel, means that the whole tree is gone. The node's number still
//! belongs to it when its process group is killed: it is reaped last of all that is known to be dead.

use hotwarm_sys::{Exit, await_any_exit, exit_of, kill, kill_group, living_children, reap_any};
use std::io;

/// Waits for `child`, reaping orphans that end meanwhile. It is dead when this returns, and perhaps not yet reaped.
pub(super) fn await_end(child: u32) -> io::Result<Exit> {
    loop {
        if !await_any_exit()? {
            return Err(io::Error::other("the node is no child of the guardian"));
        }
        if let Some(exit) = exit_of(child)? {
            return Ok(exit);
        }
        // Some orphan. Should the node end at this very moment, it may be the one that is reaped.
        if let Some((pid, exit)) = reap_any()?
            && pid == child
        {
            return Ok(exit);
        }
    }
}

/// Kills the node's process group and every other descendant, and reaps them all. Returns when none is left, which
/// may be never: a process that waits for a broken disk cannot be killed.
pub(super) fn bury(child: u32) -> io::Result<()> {
    kill_group(child)?;
    loop {
        while reap_any()?.is_some() {}
        // Those that left the group. Their own children come to this process as they end, and are found next time.
        for pid in living_children() {
            kill(pid)?;
        }
        if !await_any_exit()? {
            return Ok(());
        }
    }
}
