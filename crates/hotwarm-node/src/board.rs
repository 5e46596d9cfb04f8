//! What the node's threads publish for others to look at without asking them: the lease's bound, the group's state,
//! positions, counts.
//!
//! The bound of the lease is the one value that a decision leans on, and not a cached "yes": whoever uses it compares it
//! with a clock read after the request arrived, and the core's thread stores it anew after each step and before it
//! carries out what the step ordered (R15, C3). Everything else here is for people, for `INFO`, and for metrics.

use crate::clock;
use hotwarm_core::Facts;
use hotwarm_core::register::GroupState;
use hotwarm_types::Instant;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What the core's thread saw of the node when it looked last.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// When; the thread looks every few milliseconds as long as it turns.
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
}

/// See the module.
#[derive(Debug, Default)]
pub struct Board {
    lease_until_ns: AtomicU64,
    /// The executing thread executes commands of clients under the node's own reign.
    serves: AtomicBool,
    view: Mutex<View>,
    /// What the threads that hold data count.
    pub counts: Counts,
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

    fn lock(&self) -> MutexGuard<'_, View> {
        // A writer that panicked left whole values behind: each field is assigned at once.
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
