//! Full copies: sending pinned snapshots to followers, and receiving one in place of all that is here.
//!
//! ```text
//!   sender                                    receiver
//!   which snapshot -------------------------> has it a part of this very one?
//!          <-- how many chunks it has, and their digest
//!   the chunks after those, a window of them  writes them into a new tree, in a folder of its own;
//!          <-- how many chunks it has, ...    every 32 MiB of rows it notes durably how far it is
//!   last chunk -----------------------------> new tree durable: the core is told
//!          <-- all chunks
//!                                             the core's order -> log reset -> new state in use -> old tree removed
//! ```
//!
//! **The switch is the core's to order.** It belongs to the stream that the copy came by; when that is over, what is
//! here is kept, unused, for a stream that offers the same snapshot again.
//!
//! **A disk without room** ends no node. A copy waits until there is some, before it begins and between chunks, and
//! says what it needs; a tree that could not be written was not in use: it is removed, and the copy begins anew.
//!
//! **A copy that broke off goes on.** The core knows nothing of it: with every stream it orders a snapshot, offers it,
//! and has it sent. What is offered is the snapshot that is still held for that follower ([`Pinned`]), if there is one;
//! the log after it is kept as long. The receiver keeps what it has in memory when the connection breaks, and on the
//! disk ([`crate::data_folder`]) when its process ends. Both sides go on only if snapshot and digest agree, so two
//! snapshots are never mixed; if they do not, or the process that pinned it is hot no more, the copy starts anew.
//!
//! The receiver's switch is the reset of its log, one durable write: before it a crash leaves the old state, after it
//! the new one (R31).

mod pinned;
mod receive;
mod send;

pub use pinned::{HELD_COUNT_MAX, HELD_FOR, Pinned};

use crate::board::Board;
use crate::data_folder::DataFolder;
use crate::event_loop::Core;
use crate::executor::Job;
use crate::feeder::{FeedOrder, FeedQueue};
use crate::metrics::Metrics;
use crate::queue::Queue;
use crate::storage::{LogOrder, chain};
use crate::transport::Transport;
use hotwarm_core::Input;
use hotwarm_core::register::GroupState;
use hotwarm_types::{EntryId, GroupId, Lsn, NodeId, SnapshotId, StreamId};
use hotwarm_wire::Frame;
use receive::{Received, install, receive, tell_failed};
use send::{SendError, send_chunks};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// Received chunks that may wait for the disk; a sender's window is smaller.
const CHUNKS_WAITING_MAX: usize = 64;

/// How far a full copy is, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The node at the other end.
    pub peer: NodeId,
    /// Whether this node sends.
    pub sending: bool,
    /// Bytes that are through.
    pub done_bytes: u64,
    /// Bytes in all, about, where known.
    pub total_bytes: Option<u64>,
    /// Bytes that were through already when this connection's part of the copy began; 0 if the copy began with it.
    pub resumed_from_bytes: u64,
}

/// How much the receiver has.
#[derive(Debug)]
struct Ack {
    count: u64,
    digest: u64,
}

/// What the sender sends.
#[derive(Debug)]
enum FromSender {
    Head { id: SnapshotId, size_bytes: u64 },
    Chunk(Vec<u8>),
}

/// A copy under way.
#[derive(Debug)]
struct Transfer {
    peer: NodeId,
    sending: bool,
    stopped: AtomicBool,
    done_bytes: AtomicU64,
    /// 0 while it is not known.
    total_bytes: AtomicU64,
    resumed_from_bytes: AtomicU64,
    /// Acknowledgements, on the sending side.
    acks: Arc<Queue<Ack>>,
    /// Chunks, on the receiving side.
    chunks: Arc<Queue<FromSender>>,
    chunks_waiting: AtomicU64,
}

/// What copies need of the rest of the node.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// The core.
    pub core: Core,
    /// The transport.
    pub transport: Arc<Transport>,
    /// The group.
    pub group: GroupId,
    /// The data folder.
    pub folder: Arc<DataFolder>,
    /// The log's writer.
    pub log: Arc<Queue<LogOrder>>,
    /// The executing thread.
    pub jobs: Arc<Queue<Job>>,
    /// The feeding thread.
    pub feeder: FeedQueue,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// What is published.
    pub board: Arc<Board>,
}

/// The copies under way and their threads; `None` once the node stops.
type UnderWay = Option<BTreeMap<StreamId, Arc<Transfer>>>;

/// All copies of this node, each on a thread of its own: there are few, and they work on the disk.
#[derive(Clone, Debug)]
pub struct Transfers {
    around: Surroundings,
    pinned: Pinned,
    under_way: Arc<Mutex<UnderWay>>,
    threads: Arc<Mutex<Vec<JoinHandle<()>>>>,
    /// What has come of a copy. Held by the thread that receives, so that there is one at a time.
    received: Arc<Mutex<Received>>,
}

impl Transfers {
    /// None under way.
    #[must_use]
    pub fn new(around: Surroundings, pinned: Pinned) -> Self {
        let under_way = Arc::new(Mutex::new(Some(BTreeMap::new())));
        Self { around, pinned, under_way, threads: Arc::default(), received: Arc::default() }
    }

    /// Has a snapshot ready for a stream: that which is held for the follower, else a new one.
    pub fn make(&self, to: NodeId, stream: StreamId) {
        match self.pinned.offer_again(to, stream) {
            Some(at) => self.around.core.tell(Input::SnapshotMade { stream, at }),
            None => self.around.feeder.orders.push(FeedOrder::Pin(to, stream)),
        }
    }

    /// Sends the snapshot that is pinned for a stream.
    pub fn send(&self, to: NodeId, stream: StreamId) {
        let Some(held) = self.pinned.held(to, stream) else {
            return self.around.core.tell(Input::SnapshotFailed { stream });
        };
        let Some(transfer) = self.begin(stream, to, true, held.size_bytes) else { return };
        let transfers = self.clone();
        self.spawn("snapshot-send", stream, move || {
            let around = &transfers.around;
            let sent = send_chunks(&held, stream, &transfer, &around.transport, &around.metrics);
            if let Err(error) = sent
                && !transfer.stopped.load(Ordering::Acquire)
            {
                match error {
                    // The next stream finds the follower's log where the snapshot ends.
                    SendError::InUse => tracing::info!(event = "full_sync_done", peer = %to, "a full copy is in use"),
                    SendError::Chunk(_) | SendError::Differs { .. } | SendError::Refused | SendError::Silent => {
                        let error = chain(&error);
                        tracing::error!(event = "snapshot_failed", peer = %to, error, "a snapshot could not be sent");
                    }
                }
                // The same would only fail again.
                transfers.pinned.release(to, held.id);
                around.core.tell(Input::SnapshotFailed { stream });
            }
            transfers.end(stream);
        });
    }

    /// A stream is over: its sending ends, and its snapshot waits for the follower's next one.
    pub fn drop_snapshot(&self, stream: StreamId) {
        self.end(stream);
        self.pinned.stream_ended(stream);
    }

    /// Receives a snapshot in place of all data of this node.
    pub fn receive(&self, from: NodeId, stream: StreamId, at: EntryId) {
        // One copy at a time: a new stream replaces an older one.
        self.end_all(|transfer| !transfer.sending);
        let Some(transfer) = self.begin(stream, from, false, 0) else { return };
        let transfers = self.clone();
        self.spawn("snapshot-receive", stream, move || {
            let mut received = lock(&transfers.received);
            receive(stream, at, &transfer, &transfers.around, &mut received);
            let waits = received.whole.is_some();
            drop(received);
            // One that is whole is under way until it is in use.
            if !waits {
                transfers.end(stream);
            }
        });
    }

    /// Puts the snapshot that was received by a stream in the place of all data of this node.
    pub fn install(&self, stream: StreamId, at: EntryId) {
        let transfers = self.clone();
        self.spawn("snapshot-install", stream, move || {
            let mut received = lock(&transfers.received);
            let is_stopping = || lock(&transfers.under_way).is_none();
            let was_there = install(stream, at, &transfers.around, is_stopping, &mut received);
            drop(received);
            let transfer = lock(&transfers.under_way).as_ref().and_then(|under_way| under_way.get(&stream).cloned());
            if let Some(transfer) = transfer.filter(|_| !was_there) {
                tell_failed(stream, &transfer, &transfers.around);
            }
            transfers.end(stream);
        });
    }

    /// A snapshot is named that is about to be sent.
    pub fn head(&self, from: NodeId, stream: StreamId, id: SnapshotId, size_bytes: u64) {
        self.take_in(from, stream, FromSender::Head { id, size_bytes });
    }

    /// A chunk arrived.
    pub fn chunk(&self, from: NodeId, stream: StreamId, payload: Vec<u8>) {
        self.take_in(from, stream, FromSender::Chunk(payload));
    }

    fn take_in(&self, from: NodeId, stream: StreamId, frame: FromSender) {
        let Some(transfer) = self.find(stream, from, false) else { return };
        let waiting = transfer.chunks_waiting.fetch_add(1, Ordering::AcqRel);
        if waiting as usize >= CHUNKS_WAITING_MAX {
            // It will be sent again.
            transfer.chunks_waiting.fetch_sub(1, Ordering::AcqRel);
            return;
        }
        transfer.chunks.push(frame);
    }

    /// The other end has received so many chunks.
    pub fn acknowledged(&self, from: NodeId, stream: StreamId, count: u64, digest: u64) {
        match self.find(stream, from, true) {
            Some(transfer) => transfer.acks.push(Ack { count, digest }),
            // All of it is sent, and then it was lost.
            None if count == Frame::SNAPSHOT_FAILED && self.pinned.held(from, stream).is_some() => {
                self.around.core.tell(Input::SnapshotFailed { stream });
            }
            None => {}
        }
    }

    /// A connection broke: what was being received on it comes on another stream, or not at all.
    pub fn link_down(&self, peer: NodeId) {
        self.end_all(|transfer| !transfer.sending && transfer.peer == peer);
    }

    /// The group's state has changed: what is kept for copies that nobody will go on with is let go.
    pub fn follow_state(&self, state: &GroupState, me: Option<NodeId>) {
        self.pinned.follow_state(state);
        let in_sync = me.is_some_and(|me| state.in_sync.contains(&me));
        if !in_sync {
            return;
        }
        self.end_all(|transfer| !transfer.sending);
        self.around.board.space.report_copy(None);
        let waits = || self.received.try_lock().is_ok_and(|received| received.has_unused());
        if !(self.around.folder.has_incoming() || waits()) {
            return;
        }
        // The log was enough after all. The disk is not waited for here.
        let transfers = self.clone();
        self.spawn_thread("snapshot-discard", move || {
            let mut received = lock(&transfers.received);
            received.drop_unused();
            if let Err(error) = transfers.around.folder.discard_incoming() {
                tracing::warn!(event = "snapshot_failed", %error, "what is left of a full copy could not be removed");
            }
        });
    }

    /// See [`Pinned::retain_after`].
    #[must_use]
    pub fn retain_after(&self, after: Lsn) -> Lsn {
        self.pinned.retain_after(after)
    }

    /// The copies under way.
    #[must_use]
    pub fn progress(&self) -> Vec<Progress> {
        let of = |transfer: &Arc<Transfer>| Progress {
            peer: transfer.peer,
            sending: transfer.sending,
            done_bytes: transfer.done_bytes.load(Ordering::Relaxed),
            total_bytes: Some(transfer.total_bytes.load(Ordering::Relaxed)).filter(|total| *total > 0),
            resumed_from_bytes: transfer.resumed_from_bytes.load(Ordering::Relaxed),
        };
        lock(&self.under_way).iter().flat_map(BTreeMap::values).map(of).collect()
    }

    /// Ends all copies for good, and waits until nothing works on the data folder any more.
    pub fn stop(&self) {
        let under_way = lock(&self.under_way).take();
        under_way.iter().flat_map(BTreeMap::values).for_each(|transfer| transfer.stop());
        let threads = std::mem::take(&mut *lock(&self.threads));
        for thread in threads {
            // One that panicked has ended too.
            let _ = thread.join();
        }
        lock(&self.received).drop_unused();
    }

    /// Makes a copy known; `None` if the node stops.
    fn begin(&self, stream: StreamId, peer: NodeId, sending: bool, total_bytes: u64) -> Option<Arc<Transfer>> {
        let transfer = Arc::new(Transfer {
            peer,
            sending,
            stopped: AtomicBool::new(false),
            done_bytes: AtomicU64::new(0),
            total_bytes: AtomicU64::new(total_bytes),
            resumed_from_bytes: AtomicU64::new(0),
            acks: Queue::new(),
            chunks: Queue::new(),
            chunks_waiting: AtomicU64::new(0),
        });
        let mut under_way = lock(&self.under_way);
        under_way.as_mut()?.insert(stream, Arc::clone(&transfer));
        self.publish(&under_way);
        Some(transfer)
    }

    fn end(&self, stream: StreamId) {
        let mut under_way = lock(&self.under_way);
        let transfer = under_way.as_mut().and_then(|under_way| under_way.remove(&stream));
        self.publish(&under_way);
        drop(under_way);
        transfer.iter().for_each(|transfer| transfer.stop());
    }

    /// Tells how many copies are received; with the lock held, so that the last word is right.
    fn publish(&self, under_way: &UnderWay) {
        let count = under_way.iter().flat_map(BTreeMap::values).filter(|transfer| !transfer.sending).count();
        self.around.board.counts.copies_received.store(count as u64, Ordering::Relaxed);
    }

    fn end_all(&self, ends: impl Fn(&Transfer) -> bool) {
        let mut under_way = lock(&self.under_way);
        if let Some(under_way) = under_way.as_mut() {
            under_way.retain(|_, transfer| {
                let ends = ends(transfer);
                if ends {
                    transfer.stop();
                }
                !ends
            });
        }
        self.publish(&under_way);
    }

    fn find(&self, stream: StreamId, peer: NodeId, sending: bool) -> Option<Arc<Transfer>> {
        let under_way = lock(&self.under_way);
        let transfer = under_way.as_ref()?.get(&stream)?;
        Some(transfer).filter(|transfer| transfer.peer == peer && transfer.sending == sending).cloned()
    }

    fn spawn(&self, name: &str, stream: StreamId, work: impl FnOnce() + Send + 'static) {
        if !self.spawn_thread(name, work) {
            self.end(stream);
            self.around.core.tell(Input::SnapshotFailed { stream });
        }
    }

    fn spawn_thread(&self, name: &str, work: impl FnOnce() + Send + 'static) -> bool {
        let mut threads = lock(&self.threads);
        threads.retain(|thread| !thread.is_finished());
        if lock(&self.under_way).is_none() {
            return false;
        }
        match std::thread::Builder::new().name(name.to_owned()).spawn(work) {
            Ok(thread) => {
                threads.push(thread);
                true
            }
            Err(error) => {
                tracing::error!(event = "snapshot_failed", %error, "no thread could be started for a snapshot");
                false
            }
        }
    }
}

impl Transfer {
    fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.acks.close();
        self.chunks.close();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whole entries are inserted and removed: a panic elsewhere leaves none half-way.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
