//! The thread that carries committed changes to the tree, behind everything that replies or acknowledges.
//!
//! It is poked after commits, waits a moment so that a batch gathers the last value of each key, and feeds. From time to
//! time it makes the tree durable and tells the core how far, since a restart replays the log only from there. It
//! also pins snapshots: what it pins it has just fed.

use crate::board::Board;
use crate::event_loop::Core;
use crate::queue::Queue;
use crate::snapshot_transfer::Pinned;
use crate::storage::chain;
use hotwarm_core::Input;
use hotwarm_store::{Feeder, Round};
use hotwarm_types::{GroupId, Lsn, NodeId, StreamId, Token};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// How long changes gather before they are fed: a counter that is written a thousand times a second costs the tree ten
/// rows a second.
const GATHER: Duration = Duration::from_millis(100);

/// How much more willingly than the others this thread lets others run: nobody waits for it but memory, and on a busy
/// machine it would otherwise take half of what replies need.
const NICENESS: i32 = 5;

/// After this long a fed tree is made durable, where few writes come: many make it so earlier (`FLUSH_COUNT`), so that a restart
/// replays some 65,000 and what gathers once, a fraction of a second. Where the disk is short it waits.
const FLUSH_INTERVAL: Duration = Duration::from_secs(10);

/// Between two pages of a count that nobody waits for.
const COUNT_PAUSE: Duration = Duration::from_millis(5);

/// An order to the thread.
#[derive(Debug)]
pub enum FeedOrder {
    /// There is something to feed.
    Poke,
    /// Pin a snapshot for a follower, to be offered on a stream.
    Pin(NodeId, StreamId),
    /// A full sync has replaced the tree.
    Replace(Feeder, oneshot::Sender<()>),
}

/// The way to the thread.
#[derive(Clone, Debug)]
pub struct FeedQueue {
    /// Orders that wait.
    pub orders: Arc<Queue<FeedOrder>>,
    poked: Arc<AtomicBool>,
}

impl Default for FeedQueue {
    fn default() -> Self {
        Self { orders: Queue::new(), poked: Arc::new(AtomicBool::new(false)) }
    }
}

impl FeedQueue {
    /// Says that there is something to feed; cheap, and at most one such order waits.
    pub fn poke(&self) {
        if !self.poked.swap(true, Ordering::AcqRel) {
            self.orders.push(FeedOrder::Poke);
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct FeedLoop {
    feeder: Feeder,
    group: GroupId,
    core: Core,
    board: Arc<Board>,
    pinned: Pinned,
    /// Something was fed since the last flush, the first time at this moment.
    unflushed_since: Option<Instant>,
    failed: bool,
}

impl FeedLoop {
    /// A loop that feeds through `feeder`.
    #[must_use]
    pub fn new(feeder: Feeder, group: GroupId, core: Core, board: Arc<Board>, pinned: Pinned) -> Self {
        Self { feeder, group, core, board, pinned, unflushed_since: None, failed: false }
    }

    /// Works until the queue is closed; then feeds and flushes what is left, so that a clean restart replays nothing.
    pub fn run(mut self, queue: &FeedQueue) {
        // Linux applies it to the calling thread alone; where it is refused, all run as equals.
        let _ = rustix::process::setpriority_process(None, NICENESS);
        let mut batch = Vec::new();
        self.publish();
        loop {
            let flush = self.unflushed_since.map(|since| FLUSH_INTERVAL.saturating_sub(since.elapsed()));
            let count = self.count().then_some(COUNT_PAUSE);
            let timeout = [flush, count].into_iter().flatten().min();
            let more = queue.orders.take(&mut batch, timeout);
            let mut feed = false;
            for order in batch.drain(..) {
                match order {
                    FeedOrder::Poke => feed = true,
                    FeedOrder::Pin(to, stream) => self.pin(to, stream),
                    FeedOrder::Replace(feeder, done) => {
                        self.feeder = feeder;
                        self.unflushed_since = None;
                        self.publish();
                        // If nobody waits any more the node is stopping.
                        let _ = done.send(());
                    }
                }
            }
            if !more {
                break;
            }
            if feed {
                std::thread::sleep(GATHER);
                queue.poked.store(false, Ordering::Release);
                self.feed();
            }
            self.flush_if_due();
        }
        self.feed();
        self.flush();
    }

    fn feed(&mut self) {
        if self.failed {
            return;
        }
        let round = if self.has_room_for(self.feeder.tidy_room_bytes()) {
            self.feeder.round()
        } else {
            // What is flushed in the end is flushed at the end of the interval.
            self.feeder.feed().map(|fed| Round { fed, flushed: None })
        };
        match round {
            Ok(Round { flushed: Some(lsn), .. }) => self.flushed(lsn),
            Ok(Round { fed: true, flushed: None }) => {
                self.unflushed_since.get_or_insert_with(Instant::now);
            }
            Ok(Round { fed: false, flushed: None }) => {}
            Err(error) => self.fail("feed", chain(&error)),
        }
        self.publish();
    }

    /// Counts a page of the keys that have an expiry; false if there is nothing left to count.
    fn count(&mut self) -> bool {
        if self.failed {
            return false;
        }
        match self.feeder.count() {
            Ok(more) => {
                self.publish();
                more
            }
            Err(error) => {
                self.fail("count", chain(&error));
                false
            }
        }
    }

    fn publish(&self) {
        let (counts, found) = (&self.board.counts, self.feeder.key_counts());
        counts.keys.store(found.keys, Ordering::Relaxed);
        counts.expiring_keys.store(found.expiring, Ordering::Relaxed);
        counts.ttl_ms_mean.store(found.ttl_ms_mean, Ordering::Relaxed);
    }

    fn flush_if_due(&mut self) {
        if self.unflushed_since.is_some_and(|since| since.elapsed() >= FLUSH_INTERVAL) {
            self.flush();
            if !self.failed
                && self.has_room_for(self.feeder.tidy_room_bytes())
                && let Err(error) = self.feeder.maintain()
            {
                self.fail("compact", chain(&error));
            }
        }
    }

    fn flush(&mut self) {
        if self.failed || self.unflushed_since.is_none() {
            return;
        }
        if !self.has_room_for(self.feeder.flush_room_bytes()) {
            // A flush that fails for want of space would fence the node; the log keeps what is not flushed.
            self.unflushed_since = Some(Instant::now());
            return;
        }
        match self.feeder.flush() {
            Ok(lsn) => self.flushed(lsn),
            Err(error) => self.fail("flush", chain(&error)),
        }
    }

    fn has_room_for(&self, size_bytes: u64) -> bool {
        self.board.space.has_room_for(size_bytes)
    }

    /// The tree holds everything up to here durably.
    fn flushed(&mut self, lsn: Lsn) {
        self.unflushed_since = None;
        self.board.counts.applied.store(lsn.0, Ordering::Relaxed);
        self.core.tell(Input::Applied { lsn });
    }

    fn pin(&mut self, to: NodeId, stream: StreamId) {
        if self.failed {
            return self.core.tell(Input::SnapshotFailed { stream });
        }
        match self.feeder.snapshot(self.group) {
            Ok(snapshot) => {
                let at = snapshot.at();
                self.pinned.insert(to, stream, snapshot);
                self.core.tell(Input::SnapshotMade { stream, at });
            }
            Err(error) => {
                tracing::error!(event = "snapshot_failed", error = %chain(&error), "a snapshot could not be pinned");
                self.core.tell(Input::SnapshotFailed { stream });
            }
        }
    }

    /// What a tree has lost once it is never asked for again (INV-9): the core fences the node.
    fn fail(&mut self, during: &str, error: String) {
        tracing::error!(event = "store_failed", during, %error, "the store failed");
        self.failed = true;
        self.core.tell(Input::PersistFailed { token: Token(0), error });
    }
}
