//! The connections between nodes: who is at the other end, what arrives, what can be sent.
//!
//! Each node dials every other member, twice, and sends only on what it dialled; it receives on what it accepted. A
//! pair of nodes so has four connections, and nobody has to agree which of two is kept:
//!
//! ```text
//!            control ----------------->          small and urgent: beacons, register, polls
//!   node a   bulk    ----------------->  node b  blocks, acknowledgements, snapshots, forwarded commands
//!            <----------------- control
//!            <-----------------    bulk
//! ```
//!
//! All four belong to one start of the peer's process, or the link is not up. `LinkUp` is reported when the last of
//! them stands; when any of them breaks, `LinkDown` is reported and the other three are closed and dialled anew, so
//! that what is received between the two events was sent between the same two events of the peer.
//!
//! What the other end claims to be must be what its certificate says (`tls.rs`); before that it is believed nothing
//! and costs little: [`HANDSHAKE_TIMEOUT`], [`UNKNOWN_CONNECTIONS_MAX`]. Nothing that is sent ever waits: queues are
//! bounded in frames and bytes, and a peer that does not keep up loses its link.
//!
//! | file | what is in it |
//! | --- | --- |
//! | `link.rs` | the four connections of a peer as a state machine: up, down, which start of the process |
//! | `peer.rs` | a member and its link; delivers what arrives, in order |
//! | `dial.rs` / `accept.rs` | the two ends of a connection |
//! | `handshake.rs` | who is at the other end, and the words of each refusal |
//! | `watch.rs` | guardians' connections: the proof of a death (R20) |
//! | `outbox.rs`, `stream.rs`, `backoff.rs` | bounded queue; frames on a stream; pauses between attempts |
//! | `repeats.rs` | what was said already and is not logged again |

mod accept;
mod backoff;
mod dial;
mod handshake;
mod link;
mod outbox;
mod peer;
mod repeats;
mod stream;
mod watch;

pub(crate) use backoff::Backoff;
pub use link::LinkStatus;
pub(crate) use stream::tune;
pub use stream::{FrameReader, ReadError};

use crate::newcomers::Newcomers;
use crate::tls::Tls;
use hotwarm_core::Message;
use hotwarm_core::register::Member;
use hotwarm_types::{ClusterId, FolderId, GroupId, Incarnation, NodeId};
use hotwarm_wire::Frame;
use outbox::Share;
use peer::Peer;
use repeats::Repeats;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use watch::Watches;

/// How long a new connection may take from its first byte until both ends know each other.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a name may take to resolve and the peer to accept: then a fresh attempt is better than waiting for TCP's
/// own, whose second packet comes after 1 s and the third after 3.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Connections whose other end is not known yet. One more pushes out the oldest: 256 of at most 64 KiB each are
/// 16 MiB, and 20,000 idle ones harm nobody.
pub const UNKNOWN_CONNECTIONS_MAX: usize = 256;
/// How long bytes that were sent may stay unacknowledged by the peer's kernel before the connection counts as broken.
const SILENCE_TIMEOUT_DEFAULT: Duration = Duration::from_secs(1);

/// Who this node is to its peers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its cluster.
    pub cluster: ClusterId,
    /// Its group.
    pub group: GroupId,
    /// Its name.
    pub name: String,
    /// Its data folder.
    pub folder: FolderId,
    /// This start of its process.
    pub incarnation: Incarnation,
    /// SHA-256 of the guardian's secret; all zero without a guardian.
    pub death_digest: [u8; 32],
}

/// How the peer port is protected.
#[derive(Clone, Debug)]
pub enum Security {
    /// Mutual TLS 1.3.
    Tls(Arc<Tls>),
    /// Nothing: whoever reaches the port is who he says he is. Only by an explicit setting.
    Plaintext,
}

/// What happens between this node and others.
#[derive(Debug, PartialEq, Eq)]
pub enum PeerEvent {
    /// All four connections to a member stand.
    LinkUp {
        /// The member.
        peer: NodeId,
        /// The start of its process at the other end.
        incarnation: Incarnation,
    },
    /// One of them broke. Nothing more arrives from that member until the next `LinkUp`.
    LinkDown {
        /// The member.
        peer: NodeId,
    },
    /// A message of the core arrived. Those of one kind of connection keep their order.
    Message {
        /// The sender.
        from: NodeId,
        /// The start of its process.
        incarnation: Incarnation,
        /// The message.
        message: Message,
    },
    /// Something between the shells arrived: forwarded commands, a part of a snapshot. Never `Core`, `Hello` or
    /// `Refusal`.
    Frame {
        /// The sender.
        from: NodeId,
        /// What arrived.
        frame: Frame,
    },
    /// Somebody with a certificate of the cluster is no member and would like to be. Comes again every half second
    /// while it waits.
    JoinAsked {
        /// The name in its certificate.
        name: String,
        /// Its data folder.
        folder: FolderId,
        /// Where the connection came from.
        address: SocketAddr,
    },
    /// A member's guardian has proved that this start of its process is over (R20).
    DeathAttested {
        /// The member.
        peer: NodeId,
        /// The start that is over.
        incarnation: Incarnation,
    },
}

/// Why a frame was not sent. It will not be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotSent {
    /// The link to that member is not up, or there is no such member.
    NoLink,
    /// The peer does not keep up: wait for its acknowledgements.
    Full,
    /// No frame may be that long.
    TooLarge {
        /// Its length in bytes.
        size_bytes: usize,
    },
}

impl fmt::Display for NotSent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoLink => f.write_str("no link to that node"),
            Self::Full => f.write_str("the queue to that node is full"),
            Self::TooLarge { size_bytes } => {
                write!(f, "a frame of {size_bytes} bytes is over the limit of {} bytes", Frame::PAYLOAD_SIZE_BYTES_MAX)
            }
        }
    }
}

impl std::error::Error for NotSent {}

/// A member as the transport sees it, for `status`.
#[derive(Clone, Debug)]
pub struct PeerStatus {
    /// Its number.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// Where it is dialled.
    pub address: String,
    /// Which connections stand, since when, to which start of its process, and what waits to be sent.
    pub link: LinkStatus,
    /// Why the last attempt to connect failed, while the link is down.
    pub trouble: Option<String>,
}

/// Why the transport did not start.
#[derive(Debug)]
pub enum TransportError {
    /// The peer port cannot be opened.
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        error: io::Error,
    },
}

impl fmt::Display for TransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listen { address, .. } => write!(
                f,
                "listen for peers on {address}: the port is taken or the address is not this machine's; \
                 check the node's address and [local] listen"
            ),
        }
    }
}

impl std::error::Error for TransportError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Listen { error, .. } => Some(error),
        }
    }
}

/// What all connections of a node share.
struct Shared {
    identity: Identity,
    security: RwLock<Security>,
    silence_timeout: Mutex<Duration>,
    events: mpsc::Sender<PeerEvent>,
    peers: RwLock<BTreeMap<NodeId, Arc<Peer>>>,
    unknown: Newcomers,
    watches: Watches,
    /// Refusals that were logged.
    refusals: Repeats,
    serials: AtomicU64,
}

impl Shared {
    fn security(&self) -> Security {
        self.security.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn silence_timeout(&self) -> Duration {
        *self.silence_timeout.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn peer(&self, node: NodeId) -> Option<Arc<Peer>> {
        self.peers.read().unwrap_or_else(PoisonError::into_inner).get(&node).cloned()
    }

    fn find(&self, wanted: impl Fn(&Peer) -> bool) -> Option<Arc<Peer>> {
        self.peers.read().unwrap_or_else(PoisonError::into_inner).values().find(|peer| wanted(peer)).cloned()
    }

    /// Numbers connections, from 1.
    fn serial(&self) -> u64 {
        self.serials.fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// The node's connections. Dropped, it closes them all.
pub struct Transport {
    shared: Arc<Shared>,
    local_address: SocketAddr,
    accepting: AbortHandle,
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport").field("local_address", &self.local_address).finish_non_exhaustive()
    }
}

impl Transport {
    /// Opens the peer port. Connections live on the runtime that this is called on.
    ///
    /// `events` should be read without delay: while it is full, nothing is received.
    ///
    /// # Errors
    /// When the port cannot be opened.
    pub async fn start(
        identity: Identity,
        listen: SocketAddr,
        security: Security,
        events: mpsc::Sender<PeerEvent>,
    ) -> Result<Self, TransportError> {
        let error = |error| TransportError::Listen { address: listen, error };
        let listener = TcpListener::bind(listen).await.map_err(error)?;
        let local_address = listener.local_addr().map_err(error)?;
        let shared = Arc::new(Shared {
            identity,
            security: RwLock::new(security),
            silence_timeout: Mutex::new(SILENCE_TIMEOUT_DEFAULT),
            events,
            peers: RwLock::default(),
            unknown: Newcomers::new(UNKNOWN_CONNECTIONS_MAX),
            watches: Watches::default(),
            refusals: Repeats::default(),
            serials: AtomicU64::new(0),
        });
        let accepting = tokio::spawn(accept::run(Arc::clone(&shared), listener)).abort_handle();
        Ok(Self { shared, local_address, accepting })
    }

    /// Where the peer port listens.
    #[must_use]
    pub fn local_address(&self) -> SocketAddr {
        self.local_address
    }

    /// Connects to members that are new, drops those that are gone, dials changed addresses from the next attempt on.
    /// This node itself may be among them, as `me` or by name. Must be called on a runtime.
    pub fn set_members(&self, me: Option<NodeId>, members: &BTreeMap<NodeId, Member>) {
        // A member of this node's name and with another folder is what it replaces, or what has replaced it: nobody to
        // call, and where it is dialled this node itself may answer.
        let own = &self.shared.identity.name;
        let is_other = |id: NodeId, member: &Member| Some(id) != me && member.name != *own;
        let mut peers = self.shared.peers.write().unwrap_or_else(PoisonError::into_inner);
        peers.retain(|id, peer| {
            let stays = members.get(id).is_some_and(|member| is_other(*id, member) && peer.is(member));
            if !stays {
                peer.retire();
            }
            stays
        });
        for (id, member) in members.iter().filter(|(id, member)| is_other(**id, member)) {
            match peers.get(id) {
                Some(peer) => peer.set_address(&member.address),
                None => {
                    peers.insert(*id, Peer::start(&self.shared, *id, member));
                }
            }
        }
    }

    /// For how long sent bytes may stay unacknowledged before a connection counts as broken: about the group's grace.
    /// Applies to connections made from now on.
    pub fn set_silence_timeout(&self, timeout: Duration) {
        *self.shared.silence_timeout.lock().unwrap_or_else(PoisonError::into_inner) = timeout;
    }

    /// Uses other certificates for connections made from now on; those that stand go on.
    pub fn set_security(&self, security: Security) {
        *self.shared.security.write().unwrap_or_else(PoisonError::into_inner) = security;
    }

    /// Sends a message of the core, or drops it when the link is not up. Never waits: where the queue is full, the
    /// link is closed and made anew, since the core counts on what it sends while a link is up.
    pub fn send(&self, to: NodeId, message: Message) {
        let Some(peer) = self.shared.peer(to) else { return };
        match peer.push(Frame::Core(message), Share::Whole) {
            Ok(()) | Err(NotSent::NoLink) => {}
            Err(error @ (NotSent::Full | NotSent::TooLarge { .. })) => {
                tracing::warn!(peer = %peer.name, %error, "link closed: a message could not be queued");
                peer.break_link();
            }
        }
    }

    /// Sends something between the shells. Never waits; may fill half of the queue, so that it cannot push out the
    /// core's messages.
    ///
    /// # Errors
    /// When it was not queued, and why. A frame that was queued may still be lost with the link.
    pub fn send_frame(&self, to: NodeId, frame: Frame) -> Result<(), NotSent> {
        self.shared.peer(to).ok_or(NotSent::NoLink)?.push(frame, Share::Half)
    }

    /// The members that this node connects to, for `status`.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerStatus> {
        self.shared.peers.read().unwrap_or_else(PoisonError::into_inner).values().map(|peer| peer.status()).collect()
    }
}

impl Drop for Transport {
    fn drop(&mut self) {
        self.accepting.abort();
        self.shared.unknown.close();
        self.shared.watches.close();
        let peers = std::mem::take(&mut *self.shared.peers.write().unwrap_or_else(PoisonError::into_inner));
        peers.values().for_each(|peer| peer.retire());
    }
}
