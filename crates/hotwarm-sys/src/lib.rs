//! What the guardian asks of the kernel: to reap and to kill, to adopt orphans, to dump no core; and ports that are free.
//!
//! Thin, named wrappers over system calls of Linux, so that the guardian reads as what it does. This is the one crate
//! that may say `unsafe`; so far nothing needs it: a child's process group and its standard input are set through
//! `std::process::Command`, the rest through `rustix`.

mod ports;
mod process;
mod stdin;

pub use ports::free_loopback_ports;
pub use process::{
    Exit, adopt_orphans, await_any_exit, exit_of, forbid_core_dumps, kill, kill_group, living_children, reap_any,
};
pub use process::{Signal, signal, signal_group};
pub use stdin::take_stdin;
