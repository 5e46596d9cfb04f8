//! The receiving side of a full copy: writes chunks as they come, remembers how far, reports when all is there, and
//! switches to the new state when the core orders it.

use super::{FromSender, Surroundings, Transfer};
use crate::data_folder::Incoming;
use crate::executor::Job;
use crate::feeder::FeedOrder;
use crate::storage::{LogOrder, chain};
use hotwarm_core::Input;
use hotwarm_store::{SnapshotError, SnapshotWriter, State};
use hotwarm_types::{EntryId, SnapshotId, StreamId, Token};
use hotwarm_wire::Frame;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Room that a copy leaves: its tree writes rows some 32 MiB at a time, and the log needs a segment now and then.
const ROOM_LEFT_BYTES: u64 = 64 << 20;

/// How often a disk that is full, and a transfer that may be stopped, are looked at again.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// After a failure the sender is asked to begin anew no sooner: the disk may still be as it was.
const BEGIN_ANEW_AFTER: Duration = Duration::from_secs(5);

/// What has come of copies since this process started.
#[derive(Debug, Default)]
pub(super) struct Received {
    /// What is there of a copy that is not whole.
    pub(super) part: Option<Part>,
    /// A copy that is whole, and not in use.
    pub(super) whole: Option<Whole>,
    /// The snapshot that was put to use last.
    in_use: Option<SnapshotId>,
}

/// See [`Received`].
#[derive(Debug)]
pub(super) struct Part {
    id: SnapshotId,
    at: EntryId,
    writer: SnapshotWriter,
    incoming: Incoming,
}

/// See [`Received`].
#[derive(Debug)]
pub(super) struct Whole {
    id: SnapshotId,
    at: EntryId,
    /// How many chunks it came in, and the digest of them.
    count: u64,
    digest: u64,
    state: State,
    incoming: Incoming,
}

impl Received {
    /// Lets go of all that is not in use; whether there was something.
    pub(super) fn drop_unused(&mut self) -> bool {
        self.part.take().is_some() | self.whole.take().is_some()
    }

    /// Whether there is something that is not in use.
    pub(super) fn has_unused(&self) -> bool {
        self.part.is_some() || self.whole.is_some()
    }
}

/// Receives one copy and tells the core. What is there when the transfer is stopped stays in `received`, for the next
/// stream.
pub(super) fn receive(
    stream: StreamId,
    at: EntryId,
    transfer: &Transfer,
    around: &Surroundings,
    received: &mut Received,
) {
    let space = &around.board.space;
    match fill(stream, at, transfer, around, received) {
        Ok(whole) => {
            space.report_copy(None);
            if whole {
                around.core.tell(Input::SnapshotReceived { stream });
            }
        }
        // Nothing of this is in use: the node goes on with what it holds, and the copy begins anew, as nothing is built
        // on what failed once (INV-9).
        Err(error) => {
            let peer = transfer.peer;
            tracing::error!(event = "snapshot_failed", %peer, %error, "a full copy could not be received");
            received.drop_unused();
            if let Err(error) = around.folder.discard_incoming() {
                tracing::warn!(event = "snapshot_failed", %peer, %error, "what is left of a full copy is in the way");
            }
            let needed = transfer.total_bytes.load(Ordering::Relaxed).saturating_add(ROOM_LEFT_BYTES);
            let folder = around.folder.root().display();
            space.report_copy(Some(format!(
                "a full copy could not be written in {folder}, which takes {needed} free bytes there; it is begun \
                 anew ({error})"
            )));
            around.core.tell(Input::SnapshotFailed { stream });
            let failed_at = Instant::now();
            while failed_at.elapsed() < BEGIN_ANEW_AFTER && !transfer.stopped.load(Ordering::Acquire) {
                std::thread::sleep(LOOK_INTERVAL);
            }
            tell_failed(stream, transfer, around);
        }
    }
}

/// Asks the sender to begin anew. If the connection is broken the next one begins with a stream of its own.
pub(super) fn tell_failed(stream: StreamId, transfer: &Transfer, around: &Surroundings) {
    let frame = Frame::SnapshotAck { stream, count: Frame::SNAPSHOT_FAILED, digest: 0 };
    let _ = around.transport.send_frame(transfer.peer, frame);
}

/// Takes chunks until all is there, durable, in `received.whole`; `false` if the transfer was stopped before, or nothing
/// is to come.
fn fill(
    stream: StreamId,
    at: EntryId,
    transfer: &Transfer,
    around: &Surroundings,
    Received { part, whole, in_use }: &mut Received,
) -> Result<bool, String> {
    let mut named = false;
    let mut batch = Vec::new();
    loop {
        if !transfer.chunks.take(&mut batch, None) {
            return Ok(false);
        }
        transfer.chunks_waiting.fetch_sub(batch.len() as u64, Ordering::AcqRel);
        for frame in batch.drain(..) {
            match frame {
                FromSender::Head { id, .. } if *in_use == Some(id) => {
                    // The stream before this one ended while the switch was made. The core has told the log's end
                    // before it; on another stream it tells where the log stands now.
                    let frame = Frame::SnapshotAck { stream, count: Frame::SNAPSHOT_IN_USE, digest: 0 };
                    if around.transport.send_frame(transfer.peer, frame).is_ok() {
                        return Ok(false);
                    }
                }
                FromSender::Head { id, .. } if whole.as_ref().is_some_and(|whole| (whole.id, whole.at) == (id, at)) => {
                    // It came by a stream that ended before the switch.
                    let Some(Whole { count, digest, .. }) = *whole else { continue };
                    if acknowledge(stream, count, digest, transfer, around) {
                        return Ok(true);
                    }
                }
                FromSender::Head { id, size_bytes } => {
                    // Another snapshot takes its place, and its tree is closed first.
                    let is_stale = whole.take().is_some();
                    if is_stale {
                        around.folder.discard_incoming()?;
                    }
                    if part.as_ref().is_none_or(|part| (part.id, part.at) != (id, at)) {
                        *part = Some(Part::begin(id, at, transfer, around, part.take())?);
                    }
                    transfer.total_bytes.store(size_bytes, Ordering::Relaxed);
                    let there = part.as_ref().map_or(0, |part| part.writer.mark().size_bytes);
                    if !named && !has_room(size_bytes.saturating_sub(there), around) {
                        // The head comes again, every second.
                        continue;
                    }
                    if let Some(part) = part.as_ref().filter(|_| !named) {
                        let there = part.writer.mark().size_bytes;
                        transfer.resumed_from_bytes.store(there, Ordering::Relaxed);
                        transfer.done_bytes.store(there, Ordering::Relaxed);
                    }
                    named = true;
                }
                FromSender::Chunk(payload) => {
                    let Some(part) = part.as_mut().filter(|_| named) else { continue };
                    while !has_room(payload.len() as u64, around) {
                        if transfer.stopped.load(Ordering::Acquire) {
                            return Ok(false);
                        }
                        // The sender sees that somebody is there.
                        let mark = part.writer.mark();
                        acknowledge(stream, part.writer.next(), mark.digest, transfer, around);
                        std::thread::sleep(LOOK_INTERVAL);
                    }
                    part.push(&payload, transfer, around)?;
                }
            }
        }
        let Some(there) = part.as_ref().filter(|_| named) else { continue };
        let (count, digest) = (there.writer.next(), there.writer.mark().digest);
        if let Some(there) = part.take_if(|part| part.writer.ended()) {
            *whole = Some(there.finish(around)?);
        }
        // An acknowledgement that is lost is repeated with the next chunk, which then comes again. The last one says that
        // all is durable.
        acknowledge(stream, count, digest, transfer, around);
        if whole.is_some() {
            return Ok(true);
        }
    }
}

/// Tells the sender how much is here; whether that was on its way.
fn acknowledge(stream: StreamId, count: u64, digest: u64, transfer: &Transfer, around: &Surroundings) -> bool {
    around.transport.send_frame(transfer.peer, Frame::SnapshotAck { stream, count, digest }).is_ok()
}

/// Whether the disk has room for so much more of a copy; says so if it has not.
fn has_room(size_bytes: u64, around: &Surroundings) -> bool {
    let needed = size_bytes.saturating_add(ROOM_LEFT_BYTES);
    let has_room = around.board.space.has_room_for(needed);
    let folder = around.folder.root().display();
    let lack = || format!("a full copy waits for room on the disk of {folder}: it needs {needed} free bytes to go on");
    around.board.space.report_copy((!has_room).then(lack));
    has_room
}

impl Part {
    /// What the disk has of this very snapshot, else nothing: then whatever else is there is thrown away.
    fn begin(
        id: SnapshotId,
        at: EntryId,
        transfer: &Transfer,
        around: &Surroundings,
        older: Option<Self>,
    ) -> Result<Self, String> {
        let peer = transfer.peer;
        let is_anew = older.is_some() || around.folder.has_incoming();
        // Its tree is closed before the folder is opened again or removed.
        drop(older);
        if let Some((incoming, record)) = around.folder.resume_incoming(id, at) {
            match SnapshotWriter::resume(incoming.tree(), around.group, at, &record) {
                Ok(writer) => {
                    tracing::info!(event = "full_sync_resumed", %peer, snapshot = %id,
                        done_bytes = writer.mark().size_bytes, "a full copy that broke off goes on");
                    return Ok(Self { id, at, writer, incoming });
                }
                Err(error) => tracing::warn!(event = "full_sync_restarted", %peer, error = %chain(&error),
                    "what is there of a full copy cannot be used"),
            }
        }
        if is_anew {
            tracing::warn!(event = "full_sync_restarted", %peer, snapshot = %id,
                "the full copy that broke off is of a snapshot that is held no more: it starts anew");
        }
        let incoming = around.folder.begin_incoming()?;
        Ok(Self { id, at, writer: SnapshotWriter::new(incoming.tree(), around.group, at), incoming })
    }

    fn push(&mut self, payload: &[u8], transfer: &Transfer, around: &Surroundings) -> Result<(), String> {
        match self.writer.push(payload) {
            Ok(()) => {
                transfer.done_bytes.store(self.writer.mark().size_bytes, Ordering::Relaxed);
                match self.writer.take_record() {
                    Some(record) => around.folder.keep_incoming(&self.incoming, self.id, self.at, record),
                    None => Ok(()),
                }
            }
            // Sent twice, or damaged on its way: it comes again from where the acknowledgement says.
            Err(SnapshotError::OutOfOrder { .. } | SnapshotError::Checksum | SnapshotError::Foreign) => Ok(()),
            Err(error) => Err(chain(&error)),
        }
    }

    /// Makes all of it durable, and sees that it is a state.
    fn finish(self, around: &Surroundings) -> Result<Whole, String> {
        let Self { id, at, writer, incoming } = self;
        let (count, digest) = (writer.next(), writer.mark().digest);
        writer.finish().map_err(|error| chain(&error))?;
        let state = around.folder.open_state(incoming.tree())?;
        Ok(Whole { id, at, count, digest, state, incoming })
    }
}

/// Puts the copy that ends at `at` in use, as the core has ordered, and tells it. `false` if that copy is not here any
/// more: then all is as before.
pub(super) fn install(
    stream: StreamId,
    at: EntryId,
    around: &Surroundings,
    is_stopping: impl Fn() -> bool,
    received: &mut Received,
) -> bool {
    let Some(whole) = received.whole.take_if(|whole| whole.at == at) else {
        around.core.tell(Input::SnapshotFailed { stream });
        return false;
    };
    let id = whole.id;
    match switch(whole, around, is_stopping) {
        Ok(true) => {
            received.in_use = Some(id);
            around.core.tell(Input::SnapshotInstalled { stream, at });
        }
        // The node stops. Its next start sees which state is in use.
        Ok(false) => {}
        Err(error) => {
            // The tree stays until the next start, which knows whether it is in use.
            if let Err(error) = around.folder.forget_incoming() {
                tracing::error!(event = "snapshot_failed", %error, "a part of a copy is left over");
            }
            tracing::error!(event = "snapshot_failed", %error, "a snapshot could not be installed");
            around.core.tell(Input::PersistFailed { token: Token(0), error });
        }
    }
    true
}

/// The switch: from here on the node holds the new state. `false` if the node stops while the log's writer waits for
/// room.
fn switch(whole: Whole, around: &Surroundings, is_stopping: impl Fn() -> bool) -> Result<bool, String> {
    let Whole { at, state, incoming, .. } = whole;
    around.folder.mark_incomplete()?;
    let (done, reset) = mpsc::sync_channel(1);
    around.log.push(LogOrder::Reset { at, epochs: state.epochs().to_vec(), done });
    if !is_done(&reset, is_stopping)? {
        return Ok(false);
    }
    let feeder = state.feeder();
    let (done, replaced) = oneshot::channel();
    around.feeder.orders.push(FeedOrder::Replace(feeder, done));
    let (used, in_use) = oneshot::channel();
    around.jobs.push(Job::Installed { state: Box::new(state), done: used });
    let stopped = |_| "the node is stopping".to_owned();
    replaced.blocking_recv().map_err(stopped)?;
    in_use.blocking_recv().map_err(stopped)?;
    around.folder.finish_incoming(incoming)?;
    Ok(true)
}

/// Waits until the log's writer has answered; `false` if the node stops before.
fn is_done(answer: &Receiver<Result<(), String>>, is_stopping: impl Fn() -> bool) -> Result<bool, String> {
    loop {
        match answer.recv_timeout(LOOK_INTERVAL) {
            Ok(answer) => return answer.map(|()| true),
            Err(RecvTimeoutError::Timeout) if is_stopping() => return Ok(false),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Err("the log's writer has stopped".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    /// A log's writer that waits for room does not keep the node from stopping.
    #[test]
    fn the_switch_gives_up_when_the_node_stops() {
        let (done, answer) = mpsc::sync_channel(1);
        let looks = Cell::new(0);
        let is_stopping = || looks.replace(looks.get() + 1) == 1;
        assert_eq!(is_done(&answer, is_stopping), Ok(false));
        assert_eq!(looks.get(), 2);
        done.send(Ok(())).unwrap();
        assert_eq!(is_done(&answer, || true), Ok(true), "an answer that is there counts");
        drop(done);
        assert!(is_done(&answer, || false).is_err());
    }
}
