//! What the node's threads publish for others to look at without asking them: the lease's bound, the group's state,
//! positions, counts.
//!
//! The bound of the lease is the one value that a decision leans on, and not a cached "yes": whoever uses it compares it
//! with a clock read after the request arrived, and the core's thread stores it anew after each step and before it
//! carries out what the step ordered (R15, C3). Everything else here is for people, for `INFO`, and for metrics.

use crate::space::DiskSpace;
use crate::{clock, config};
use hotwarm_core::Facts;
use hotwarm_core::register::GroupState;
use hotwarm_store::step_ms;
use hotwarm_types::{Instant, NodeId};
use hotwarm_wire::FrontAddress;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What the core's thread saw of the node when it looked last.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// When; the thread looks every half beacon at the least, as long as it turns and the node is not fenced.
    pub at: Instant,
    /// What the node told.
    pub facts: Option<Facts>,
    /// The newest state known to be chosen.
    pub state: Option<Arc<GroupState>>,
    /// Why it is fenced.
    pub fenced: Option<String>,
}

/// What the threads that hold data count.
#[derive(Debug, Default)]
pub struct Counts {
    /// Calls of this node's clients that are open.
    pub open_calls: AtomicU64,
    /// Those of them that wait for a hot.
    pub held_calls: AtomicU64,
    /// Connections of clients.
    pub clients: AtomicU64,
    /// What the store has applied durably.
    pub applied: AtomicU64,
    /// Up to where reads on this node see.
    pub visible: AtomicU64,
    /// Keys, as of the last feed of the tree.
    pub keys: AtomicU64,
    /// Those of them that have an expiry.
    pub expiring_keys: AtomicU64,
    /// How long those have left on average, in milliseconds.
    pub ttl_ms_mean: AtomicU64,
    /// Full copies that this node receives.
    pub copies_received: AtomicU64,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Board {
    lease_until_ns: AtomicU64,
    /// The executing thread executes commands of clients under the node's own reign.
    serves: AtomicBool,
    /// What must be added to the monotonic clock for group time, in milliseconds; `None` where this node does not stamp it.
    group_time: Mutex<Option<i64>>,
    view: Mutex<View>,
    /// Where clients reach the fronts of the other nodes, as those have told last.
    fronts: Mutex<BTreeMap<NodeId, BTreeMap<String, FrontAddress>>>,
    /// What the threads that hold data count.
    pub counts: Counts,
    /// Whether the disk has room for data.
    pub space: DiskSpace,
}

impl Board {
    /// Stores the end of the lease; only the core's thread does.
    pub fn publish_lease(&self, until: Instant) {
        self.lease_until_ns.store(until.0, Ordering::SeqCst);
    }

    /// Whether the lease holds at a moment read after the requests arrived.
    #[must_use]
    pub fn lease_holds(&self, now: Instant) -> bool {
        now.0 < self.lease_until_ns.load(Ordering::SeqCst)
    }

    /// Stores whether commands are executed here.
    pub fn publish_serves(&self, serves: bool) {
        self.serves.store(serves, Ordering::Relaxed);
    }

    /// Whether commands are executed here.
    #[must_use]
    pub fn serves(&self) -> bool {
        self.serves.load(Ordering::Relaxed)
    }

    /// Stores where group time is against the monotonic clock; only the executing thread does, while it stamps.
    pub fn publish_group_time(&self, offset_ms: Option<i64>) {
        *self.group_time.lock().unwrap_or_else(PoisonError::into_inner) = offset_ms;
    }

    /// How far the wall clock is at this moment from the group time that this node stamps, in milliseconds (positive:
    /// ahead), where that is too far to be followed (R35).
    #[must_use]
    pub fn clock_step_ms(&self) -> Option<i64> {
        let offset_ms = *self.group_time.lock().unwrap_or_else(PoisonError::into_inner);
        step_ms(offset_ms?, i64::try_from(clock::wall_offset_ms()).unwrap_or(i64::MAX))
    }

    /// Changes the view; for the core's thread.
    pub fn publish(&self, change: impl FnOnce(&mut View)) {
        let mut view = self.lock();
        change(&mut view);
        view.at = clock::now();
    }

    /// The view as it is now.
    #[must_use]
    pub fn view(&self) -> View {
        self.lock().clone()
    }

    /// Something of the view, without a copy of the rest.
    pub fn glance<T>(&self, look: impl FnOnce(&View) -> T) -> T {
        look(&self.lock())
    }

    /// Takes what a node tells of its fronts in the place of what it said before. What cannot be an address is left out.
    pub fn publish_fronts(&self, node: NodeId, mut fronts: BTreeMap<String, FrontAddress>) {
        fronts.retain(|name, front| {
            let host = if front.host.is_empty() { "localhost" } else { &front.host };
            let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
            config::is_name(name) && config::is_address(&format!("{host}:{}", front.port))
        });
        let state = self.glance(|view| view.state.clone());
        let mut known = self.fronts.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(node, fronts);
        if let Some(state) = state {
            // Those who have gone for good; numbers are never used again, and higher ones may become members yet.
            known.retain(|id, _| *id == node || *id >= state.next_node || state.members.contains_key(id));
        }
    }

    /// Where clients reach a front of another node, if that node has told.
    #[must_use]
    pub fn front_of(&self, node: NodeId, name: &str) -> Option<FrontAddress> {
        self.fronts.lock().unwrap_or_else(PoisonError::into_inner).get(&node)?.get(name).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, View> {
        // A writer that panicked left whole values behind: each field is assigned at once.
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_node_tells_of_its_fronts_is_taken_only_if_it_can_be_an_address() {
        let board = Board::default();
        let front = |host: &str, port| FrontAddress { host: host.to_owned(), port };
        let told = [
            ("named", front("shop.example", 6379)),
            ("numbered", front("2001:db8::1", 6379)),
            ("own-host", front("", 6380)),
            ("no-port", front("a", 0)),
            ("two-lines", front("a\r\nrole:master", 1)),
            ("Not a name", front("a", 1)),
        ];
        board.publish_fronts(NodeId(2), told.into_iter().map(|(name, front)| (name.to_owned(), front)).collect());
        let known = |name| board.front_of(NodeId(2), name).is_some();
        assert!(known("named") && known("numbered") && known("own-host"));
        assert!(!known("no-port") && !known("two-lines") && !known("Not a name"));
        board.publish_fronts(NodeId(2), BTreeMap::new());
        assert!(!known("named"), "the last word counts");
    }

    #[test]
    fn a_lease_that_was_never_published_does_not_hold_and_one_that_is_taken_back_ends_at_once() {
        let board = Board::default();
        assert!(!board.lease_holds(Instant(0)));
        board.publish_lease(Instant(10));
        assert!(board.lease_holds(Instant(9)));
        assert!(!board.lease_holds(Instant(10)));
        board.publish_lease(Instant(0));
        assert!(!board.lease_holds(Instant(9)));
    }
}
