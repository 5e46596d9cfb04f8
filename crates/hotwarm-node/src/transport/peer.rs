//! A member that this node connects to: its link, what is told about it, and the delivery of what it sends.
//!
//! Two tasks dial it, one tells the node of its link, and each connection that it dialled has a task of its own
//! (`accept.rs`). All of them meet in one lock that is never held while anybody waits. An event is put into the
//! node's queue under that lock, in room that was reserved before: so a message can neither precede its `LinkUp` nor
//! follow its `LinkDown`.

use super::link::{Delivery, Direction, Lane, Link, Report, Unwelcome};
use super::outbox::{Outbox, Share};
use super::{NotSent, PeerEvent, PeerStatus, Shared, dial};
use hotwarm_core::register::Member;
use hotwarm_types::{FolderId, Incarnation, NodeId};
use hotwarm_wire::{Frame, Hello, Purpose};
use sha2::{Digest, Sha256};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use subtle::ConstantTimeEq;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::AbortHandle;

/// A member and all that belongs to its connections.
pub(super) struct Peer {
    pub(super) id: NodeId,
    pub(super) name: String,
    pub(super) folder: FolderId,
    state: Mutex<State>,
    /// The link has changed: there may be something to tell.
    changed: Notify,
    /// Counts what has been told.
    told: watch::Sender<u64>,
    /// Counts the connections that the peer has made to this node.
    calls: watch::Sender<u64>,
}

struct State {
    address: String,
    link: Link,
    /// What proves the death of the start that was seen last (R20).
    death: Option<(Incarnation, [u8; 32])>,
    trouble: Option<String>,
    dialling: Vec<AbortHandle>,
    retired: bool,
}

/// What a guardian's proof is worth (R20).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    /// It holds: that start of the peer is over from now on.
    Holds,
    /// That start is known to be over.
    Known,
    /// That start is not the one that was met last, or none was met: there is nothing to judge it by.
    Unmet,
    /// It proves nothing.
    Wrong,
}

/// A connection that has become part of a link.
pub(super) struct Opened {
    /// Its number.
    pub(super) serial: u64,
    /// Ends when the link no longer wants it.
    pub(super) closed: oneshot::Receiver<()>,
}

impl Peer {
    /// Begins to connect to a member.
    pub(super) fn start(shared: &Arc<Shared>, id: NodeId, member: &Member) -> Arc<Self> {
        let state = State {
            address: member.address.clone(),
            link: Link::default(),
            death: None,
            trouble: None,
            dialling: Vec::new(),
            retired: false,
        };
        let peer = Arc::new(Self {
            id,
            name: member.name.clone(),
            folder: member.folder,
            state: Mutex::new(state),
            changed: Notify::new(),
            told: watch::Sender::new(0),
            calls: watch::Sender::new(0),
        });
        tokio::spawn(Arc::clone(&peer).tell(shared.events.clone()));
        let dial = |purpose| tokio::spawn(dial::run(Arc::clone(shared), Arc::clone(&peer), purpose)).abort_handle();
        peer.lock().dialling = vec![dial(Purpose::Control), dial(Purpose::Bulk)];
        peer
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the member is this one, wherever it is reached.
    pub(super) fn is(&self, member: &Member) -> bool {
        self.name == member.name && self.folder == member.folder
    }

    pub(super) fn address(&self) -> String {
        self.lock().address.clone()
    }

    pub(super) fn set_address(&self, address: &str) {
        let mut state = self.lock();
        if state.address != address {
            address.clone_into(&mut state.address);
        }
    }

    /// Changes with each connection that the peer makes to this node.
    pub(super) fn calls(&self) -> watch::Receiver<u64> {
        self.calls.subscribe()
    }

    /// Stops dialling, closes all connections, and tells that the link is down if it was up.
    pub(super) fn retire(&self) {
        let mut state = self.lock();
        state.retired = true;
        state.dialling.drain(..).for_each(|task| task.abort());
        state.link.close_all();
        self.changed.notify_one();
    }

    /// Whether that start of the peer may connect.
    pub(super) fn judge(&self, incarnation: Incarnation) -> Result<(), Unwelcome> {
        self.lock().link.judge(incarnation)
    }

    /// Makes a connection, whose other end has said hello, part of the link.
    pub(super) fn open(
        &self,
        direction: Direction,
        serial: u64,
        hello: &Hello,
        outbox: Option<Outbox>,
    ) -> Result<Opened, Unwelcome> {
        let (lane, closed) = Lane::new(serial, hello.incarnation, outbox);
        let mut state = self.lock();
        if !state.retired {
            state.link.open(direction, hello.purpose, lane)?;
            state.death = Some((hello.incarnation, hello.death_digest));
            self.changed.notify_one();
        }
        drop(state);
        if direction == Direction::In {
            self.calls.send_modify(|count| *count += 1);
        }
        Ok(Opened { serial, closed })
    }

    /// A connection has ended, or must.
    pub(super) fn close(&self, serial: u64) {
        self.lock().link.close(serial);
        self.changed.notify_one();
    }

    /// Closes all connections; they are made anew.
    pub(super) fn break_link(&self) {
        self.lock().link.close_all();
        self.changed.notify_one();
    }

    /// Queues a frame for sending.
    pub(super) fn push(&self, frame: Frame, share: Share) -> Result<(), NotSent> {
        let size_bytes = frame.weight_bytes();
        if size_bytes > Frame::PAYLOAD_SIZE_BYTES_MAX {
            return Err(NotSent::TooLarge { size_bytes });
        }
        match self.lock().link.push(frame, share) {
            None => Err(NotSent::NoLink),
            Some(Ok(())) => Ok(()),
            Some(Err(_full)) => Err(NotSent::Full),
        }
    }

    /// Remembers why connecting fails, and logs it when it is news: as a warning, unless it is `to_be_expected`.
    pub(super) fn note_trouble(&self, trouble: String, to_be_expected: bool) {
        let is_news = self.lock().trouble.replace(trouble.clone()).as_ref() != Some(&trouble);
        // Not under the lock, which the core takes to send.
        match (is_news, to_be_expected) {
            (false, _) => tracing::debug!(peer = %self.name, %trouble, "not connected"),
            (true, true) => tracing::info!(peer = %self.name, %trouble, "not connected"),
            (true, false) => tracing::warn!(peer = %self.name, %trouble, "not connected"),
        }
    }

    /// Tells the node of each change of the link, until the peer is retired or nobody listens.
    async fn tell(self: Arc<Self>, events: mpsc::Sender<PeerEvent>) {
        loop {
            self.changed.notified().await;
            while self.lock().link.has_report() {
                let Ok(room) = events.reserve().await else { return };
                let mut state = self.lock();
                match state.link.next_report() {
                    None => {}
                    Some(Report::Down) => room.send(PeerEvent::LinkDown { peer: self.id }),
                    Some(Report::Up(incarnation)) => {
                        state.trouble = None;
                        room.send(PeerEvent::LinkUp { peer: self.id, incarnation });
                    }
                }
                self.told.send_modify(|count| *count += 1);
            }
            if self.lock().retired {
                return;
            }
        }
    }

    /// Delivers what arrived on a connection, once the link is told to be up. `false`: the connection is over.
    pub(super) async fn deliver(&self, serial: u64, event: PeerEvent, events: &mpsc::Sender<PeerEvent>) -> bool {
        let mut told = self.told.subscribe();
        loop {
            let Ok(room) = events.reserve().await else { return false };
            match self.lock().link.delivery(serial) {
                Delivery::Never => return false,
                Delivery::Now => {
                    room.send(event);
                    return true;
                }
                Delivery::Later => {}
            }
            drop(room);
            if told.changed().await.is_err() {
                return false;
            }
        }
    }

    /// Judges a guardian's proof for one start of the peer (R20). Where it holds, that start is over: its connections
    /// are closed and no more are taken from it.
    pub(super) fn prove_death(&self, incarnation: Incarnation, secret: &[u8; 32]) -> Proof {
        let mut state = self.lock();
        if state.link.judge(incarnation) == Err(Unwelcome::Dead) {
            return Proof::Known;
        }
        let Some((_, digest)) = state.death.filter(|(met, _)| *met == incarnation) else { return Proof::Unmet };
        let shown: [u8; 32] = Sha256::digest(secret).into();
        if digest == [0; 32] || !bool::from(shown.ct_eq(&digest)) {
            return Proof::Wrong;
        }
        state.death = None;
        state.link.bury(incarnation);
        self.changed.notify_one();
        Proof::Holds
    }

    pub(super) fn status(&self) -> PeerStatus {
        let state = self.lock();
        PeerStatus {
            node: self.id,
            name: self.name.clone(),
            address: state.address.clone(),
            link: state.link.status(),
            trouble: state.trouble.clone(),
        }
    }
}
