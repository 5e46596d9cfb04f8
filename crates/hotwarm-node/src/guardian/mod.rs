//! The guardian: the small parent process that reaps the node and everything it ran, and attests its death (R20).
//!
//! ```text
//!   supervisor (systemd, a container's init)
//!       |  starts, gets the node's exit code
//!   guardian --- socket, as the node's standard input ---+
//!       |   \                                            |   digest of the secret  -->
//!       |    \ one silent TCP connection to each peer    |   <-- who the node is, where its peers are, ticks
//!       |     `----------------------------------------- | --> peer ports
//!       `-- forks --> node (a process group of its own) -+
//!                       `-- managed engine, protected programs, ...
//! ```
//!
//! Before it starts the node, the guardian draws a secret and gives the node its digest; the node gives the digest to
//! its peers on authenticated connections. When the node is dead, and its whole process tree has been killed and
//! reaped, the guardian reveals the secret to the peers: they need not wait for the grace. It reveals it for nothing
//! else: not for a connection that broke, not for what `/proc` says, and not after exit code 0, with which a node
//! ends that has said goodbye (R21).
//!
//! The guardian does not restart the node: the supervisor does. When the guardian dies, the node goes on, says so, and
//! the grace applies to it. Neither dumps core, since that delays the reaping.

mod herald;
mod keeper;
mod link;
mod reaper;
pub mod report;

pub use keeper::{GuardianError, guard};
pub use link::{GuardianLink, LinkError};
