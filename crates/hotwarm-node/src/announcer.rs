//! Tells the other nodes where clients reach this one, so that whoever is asked for the hot names the hot's own address.
//!
//! A node tells each other one when their link comes up, and all of them when something changes. What is lost with a link
//! is told again with the next. It is for clients only: no decision leans on it.

use crate::transport::{NotSent, Transport};
use hotwarm_types::NodeId;
use hotwarm_wire::{Frame, FrontAddress};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// See the module.
#[derive(Debug)]
pub struct Announcer {
    transport: Arc<Transport>,
    own: Mutex<BTreeMap<String, FrontAddress>>,
}

impl Announcer {
    /// One that has nothing to tell yet.
    #[must_use]
    pub fn new(transport: Arc<Transport>) -> Self {
        Self { transport, own: Mutex::default() }
    }

    /// Tells a node whose link has come up.
    pub fn tell(&self, peer: NodeId) {
        // Sent under the lock, so that what is told last is what was set last.
        let own = self.own();
        self.send(peer, &own);
    }

    /// Tells all, if anything has changed.
    pub fn announce(&self, fronts: BTreeMap<String, FrontAddress>) {
        let mut own = self.own();
        if *own != fronts {
            *own = fronts;
            for peer in self.transport.peers() {
                self.send(peer.node, &own);
            }
        }
    }

    fn send(&self, peer: NodeId, fronts: &BTreeMap<String, FrontAddress>) {
        match self.transport.send_frame(peer, Frame::Fronts(fronts.clone())) {
            Ok(()) | Err(NotSent::NoLink) => {}
            Err(error @ (NotSent::Full | NotSent::TooLarge { .. })) => {
                tracing::warn!(event = "fronts_not_told", %peer, %error, "a node was not told where clients reach this one");
            }
        }
    }

    fn own(&self) -> MutexGuard<'_, BTreeMap<String, FrontAddress>> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
