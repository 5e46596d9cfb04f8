//! Full copies: sending pinned snapshots to followers, and receiving one in place of all that is here.
//!
//! ```text
//!   sender                                    receiver
//!   chunk 0, 1, 2, ... (a window of them) --> writes them into a new tree, in a folder of its own
//!          <-- how far it has come            ...
//!   last chunk -----------------------------> new tree durable -> log reset -> new state in use -> old tree removed
//! ```
//!
//! The receiver's switch is the reset of its log, one durable write: before it a crash leaves the old state, after it
//! the new one ([`crate::data_folder`] finds out which at the next start). Chunks that were lost with a connection are
//! sent again from the last one acknowledged, as long as the core keeps the stream.

use crate::data_folder::DataFolder;
use crate::event_loop::Core;
use crate::executor::Job;
use crate::feeder::{FeedOrder, FeedQueue};
use crate::queue::Queue;
use crate::storage::{LogOrder, chain};
use crate::transport::Transport;
use hotwarm_core::Input;
use hotwarm_store::{Snapshot, SnapshotError, SnapshotWriter};
use hotwarm_types::{EntryId, GroupId, NodeId, StreamId, Token};
use hotwarm_wire::Frame;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;

/// Chunks that may be on their way: 4 MiB, which keeps a gigabit link of 20 ms busy.
const WINDOW_COUNT: u64 = 16;

/// After this long without an acknowledgement the window is sent again.
const RESEND_AFTER: Duration = Duration::from_secs(1);

/// Received chunks that may wait for the disk; a sender's window is smaller.
const CHUNKS_WAITING_MAX: usize = 64;

/// Snapshots that are pinned for followers, by stream.
#[derive(Clone, Debug, Default)]
pub struct Pinned(Arc<Mutex<BTreeMap<StreamId, Snapshot>>>);

impl Pinned {
    /// Keeps a snapshot for its stream.
    pub fn insert(&self, stream: StreamId, snapshot: Snapshot) {
        lock(&self.0).insert(stream, snapshot);
    }

    /// Takes it out.
    fn take(&self, stream: StreamId) -> Option<Snapshot> {
        lock(&self.0).remove(&stream)
    }
}

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
}

/// A copy under way.
#[derive(Debug)]
struct Transfer {
    peer: NodeId,
    sending: bool,
    stopped: AtomicBool,
    done_bytes: AtomicU64,
    total_bytes: Option<u64>,
    /// Acknowledged numbers on the sending side.
    acks: Arc<Queue<u64>>,
    /// Chunks on the receiving side.
    chunks: Arc<Queue<Vec<u8>>>,
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
}

/// All copies of this node, each on a thread of its own: there are few, and they work on the disk.
#[derive(Clone, Debug)]
pub struct Transfers {
    around: Surroundings,
    pinned: Pinned,
    under_way: Arc<Mutex<BTreeMap<StreamId, Arc<Transfer>>>>,
}

impl Transfers {
    /// None under way.
    #[must_use]
    pub fn new(around: Surroundings, pinned: Pinned) -> Self {
        Self { around, pinned, under_way: Arc::default() }
    }

    /// Sends the snapshot that is pinned for a stream.
    pub fn send(&self, to: NodeId, stream: StreamId) {
        let Some(snapshot) = self.pinned.take(stream) else {
            return self.around.core.tell(Input::SnapshotFailed { stream });
        };
        let transfer = self.begin(stream, to, true, Some(snapshot.size_bytes_estimate()));
        let (around, transfers) = (self.around.clone(), self.clone());
        self.spawn("snapshot-send", stream, move || {
            if let Err(error) = send_chunks(snapshot, stream, &transfer, &around.transport)
                && !transfer.stopped.load(Ordering::Acquire)
            {
                tracing::error!(event = "snapshot_failed", peer = %to, %error, "a snapshot could not be sent");
                around.core.tell(Input::SnapshotFailed { stream });
            }
            transfers.end(stream);
        });
    }

    /// Releases a pinned snapshot and ends its sending.
    pub fn drop_snapshot(&self, stream: StreamId) {
        self.pinned.take(stream);
        self.end(stream);
    }

    /// Receives a snapshot in place of all data of this node.
    pub fn receive(&self, from: NodeId, stream: StreamId, at: EntryId) {
        // One copy at a time: a new stream replaces an older one.
        let older: Vec<StreamId> =
            lock(&self.under_way).iter().filter(|(_, transfer)| !transfer.sending).map(|(id, _)| *id).collect();
        older.into_iter().for_each(|stream| self.end(stream));
        let transfer = self.begin(stream, from, false, None);
        let (around, transfers) = (self.around.clone(), self.clone());
        self.spawn("snapshot-receive", stream, move || {
            match receive_chunks(stream, at, &transfer, &around) {
                Ok(true) => around.core.tell(Input::SnapshotInstalled { stream, at }),
                Ok(false) => {}
                Err(error) => {
                    tracing::error!(event = "snapshot_failed", peer = %from, %error, "a snapshot could not be installed");
                    around.core.tell(Input::PersistFailed { token: Token(0), error });
                }
            }
            transfers.end(stream);
        });
    }

    /// A chunk arrived.
    pub fn chunk(&self, from: NodeId, stream: StreamId, payload: Vec<u8>) {
        let Some(transfer) = self.find(stream, from, false) else { return };
        let waiting = transfer.chunks_waiting.fetch_add(1, Ordering::AcqRel);
        if waiting as usize >= CHUNKS_WAITING_MAX {
            // It will be sent again.
            transfer.chunks_waiting.fetch_sub(1, Ordering::AcqRel);
            return;
        }
        transfer.chunks.push(payload);
    }

    /// The other end has received everything up to this chunk.
    pub fn acknowledged(&self, from: NodeId, stream: StreamId, index: u64) {
        if let Some(transfer) = self.find(stream, from, true) {
            transfer.acks.push(index);
        }
    }

    /// The copies under way.
    #[must_use]
    pub fn progress(&self) -> Vec<Progress> {
        let of = |transfer: &Arc<Transfer>| Progress {
            peer: transfer.peer,
            sending: transfer.sending,
            done_bytes: transfer.done_bytes.load(Ordering::Relaxed),
            total_bytes: transfer.total_bytes,
        };
        lock(&self.under_way).values().map(of).collect()
    }

    /// Ends all copies.
    pub fn stop(&self) {
        let streams: Vec<StreamId> = lock(&self.under_way).keys().copied().collect();
        streams.into_iter().for_each(|stream| self.end(stream));
    }

    fn begin(&self, stream: StreamId, peer: NodeId, sending: bool, total_bytes: Option<u64>) -> Arc<Transfer> {
        let transfer = Arc::new(Transfer {
            peer,
            sending,
            stopped: AtomicBool::new(false),
            done_bytes: AtomicU64::new(0),
            total_bytes,
            acks: Queue::new(),
            chunks: Queue::new(),
            chunks_waiting: AtomicU64::new(0),
        });
        lock(&self.under_way).insert(stream, Arc::clone(&transfer));
        transfer
    }

    fn end(&self, stream: StreamId) {
        if let Some(transfer) = lock(&self.under_way).remove(&stream) {
            transfer.stopped.store(true, Ordering::Release);
            transfer.acks.close();
            transfer.chunks.close();
        }
    }

    fn find(&self, stream: StreamId, peer: NodeId, sending: bool) -> Option<Arc<Transfer>> {
        let under_way = lock(&self.under_way);
        under_way.get(&stream).filter(|transfer| transfer.peer == peer && transfer.sending == sending).cloned()
    }

    fn spawn(&self, name: &str, stream: StreamId, work: impl FnOnce() + Send + 'static) {
        if let Err(error) = std::thread::Builder::new().name(name.to_owned()).spawn(work) {
            tracing::error!(event = "snapshot_failed", %error, "no thread could be started for a snapshot");
            self.end(stream);
            self.around.core.tell(Input::SnapshotFailed { stream });
        }
    }
}

/// Sends chunks within the window until the last one is acknowledged, or the transfer is stopped.
fn send_chunks(
    mut snapshot: Snapshot,
    stream: StreamId,
    transfer: &Transfer,
    transport: &Transport,
) -> Result<(), SnapshotError> {
    let mut acked = 0_u64;
    let mut next = 0_u64;
    let mut count = None;
    let mut acks = Vec::new();
    loop {
        while next < acked + WINDOW_COUNT && count.is_none_or(|count| next < count) {
            let Some(payload) = snapshot.chunk(next)? else {
                count = Some(next);
                break;
            };
            let size_bytes = payload.len() as u64;
            let frame = Frame::SnapshotChunk { stream, index: next, last: false, payload };
            if transport.send_frame(transfer.peer, frame).is_err() {
                break;
            }
            next += 1;
            transfer.done_bytes.fetch_add(size_bytes, Ordering::Relaxed);
        }
        if count == Some(acked) {
            return Ok(());
        }
        if !transfer.acks.take(&mut acks, Some(RESEND_AFTER)) {
            return Ok(());
        }
        if acks.is_empty() {
            next = acked;
        }
        for index in acks.drain(..) {
            acked = acked.max(index + 1);
            next = next.max(acked);
        }
    }
}

/// Writes chunks as they come, then switches to the new state. False: the transfer was stopped.
fn receive_chunks(stream: StreamId, at: EntryId, transfer: &Transfer, around: &Surroundings) -> Result<bool, String> {
    let incoming = around.folder.begin_incoming()?;
    let mut writer = SnapshotWriter::new(incoming.tree(), around.group, at);
    let mut batch = Vec::new();
    while !writer.ended() {
        if !transfer.chunks.take(&mut batch, None) {
            return Ok(false);
        }
        transfer.chunks_waiting.fetch_sub(batch.len() as u64, Ordering::AcqRel);
        for payload in batch.drain(..) {
            match writer.push(&payload) {
                Ok(()) => {
                    transfer.done_bytes.store(writer.received_size_bytes(), Ordering::Relaxed);
                }
                // Sent twice, or damaged on its way: it comes again from where the acknowledgement says.
                Err(SnapshotError::OutOfOrder { .. } | SnapshotError::Checksum | SnapshotError::Foreign) => {}
                Err(error) => return Err(chain(&error)),
            }
        }
        if let Some(index) = writer.next().checked_sub(1) {
            let frame = Frame::SnapshotAck { stream, index };
            // An acknowledgement that is lost is repeated with the next chunk, which then comes again.
            let _ = around.transport.send_frame(transfer.peer, frame);
        }
    }
    writer.finish().map_err(|error| chain(&error))?;
    install(incoming, at, around)?;
    Ok(true)
}

/// The switch: from here on the node holds the new state.
fn install(incoming: crate::data_folder::Incoming, at: EntryId, around: &Surroundings) -> Result<(), String> {
    let state = around.folder.open_state(incoming.tree())?;
    around.folder.mark_incomplete()?;
    let (done, reset) = oneshot::channel();
    around.log.push(LogOrder::Reset { at, epochs: state.epochs().to_vec(), done });
    reset.blocking_recv().map_err(|_| "the log's writer has stopped".to_owned())??;
    let feeder = state.feeder();
    let (done, replaced) = oneshot::channel();
    around.feeder.orders.push(FeedOrder::Replace(feeder, done));
    let (used, in_use) = oneshot::channel();
    around.jobs.push(Job::Installed { state: Box::new(state), done: used });
    let stopped = |_| "the node is stopping".to_owned();
    replaced.blocking_recv().map_err(stopped)?;
    in_use.blocking_recv().map_err(stopped)?;
    around.folder.finish_incoming(incoming)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whole entries are inserted and removed: a panic elsewhere leaves none half-way.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
