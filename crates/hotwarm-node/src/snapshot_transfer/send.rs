//! The sending side of a full copy: names the snapshot, learns how much of it is there, sends the rest in a window.

use super::pinned::{HELD_FOR, Held};
use super::{Ack, Transfer};
use crate::metrics::Metrics;
use crate::transport::Transport;
use hotwarm_store::SnapshotError;
use hotwarm_types::StreamId;
use hotwarm_wire::Frame;
use std::fmt;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Chunks that may be on their way: 4 MiB, which keeps a gigabit link of 20 ms busy.
const WINDOW_COUNT: u64 = 16;

/// How often what found no room, or no answer yet, is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// After this long without an acknowledgement the window is sent again. A connection loses nothing while it stands, and
/// one that broke ends the stream: so this is for a receiver that threw something away, and not for a slow link.
const RESEND_AFTER: Duration = Duration::from_secs(30);

/// Why a snapshot is not sent to its end.
#[derive(Debug)]
pub(super) enum SendError {
    /// A chunk cannot be made.
    Chunk(SnapshotError),
    /// The receiver has installed it, and the connection broke before its log said so.
    InUse,
    /// What the receiver has is not the beginning of this snapshot.
    Differs { count: u64 },
    /// The receiver could not write it.
    Refused,
    /// The receiver has not answered for [`HELD_FOR`].
    Silent,
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Chunk(_) => write!(f, "a chunk cannot be made"),
            Self::InUse => write!(f, "the follower has it in use already"),
            Self::Differs { count } => {
                write!(f, "the first {count} chunks that the follower has are not those of the snapshot")
            }
            Self::Refused => write!(f, "the follower could not write it; its own log says why"),
            Self::Silent => write!(f, "nothing was acknowledged for {} s", HELD_FOR.as_secs()),
        }
    }
}

impl std::error::Error for SendError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Chunk(error) => Some(error),
            Self::InUse | Self::Differs { .. } | Self::Refused | Self::Silent => None,
        }
    }
}

/// Sends what the receiver does not have yet, until all of it is acknowledged or the transfer is stopped.
pub(super) fn send_chunks(
    held: &Held,
    stream: StreamId,
    transfer: &Transfer,
    transport: &Transport,
    metrics: &Metrics,
) -> Result<(), SendError> {
    // How many chunks are through; unknown until the receiver has said what it has.
    let mut through: Option<u64> = None;
    let mut next = 0;
    let mut count = None;
    let mut acks = Vec::new();
    let mut heard_at = Instant::now();
    let mut sent_again_at = heard_at;
    loop {
        match through {
            None => {
                let head = Frame::SnapshotHead { stream, snapshot: held.id, size_bytes: held.size_bytes };
                // What finds no room is sent again.
                let _ = transport.send_frame(transfer.peer, head);
            }
            Some(through) => {
                while next < through + WINDOW_COUNT && count.is_none_or(|count| next < count) {
                    let Some(payload) = held.chunk(next).map_err(SendError::Chunk)? else {
                        count = Some(next);
                        break;
                    };
                    let size_bytes = payload.len() as u64;
                    let frame = Frame::SnapshotChunk { stream, index: next, last: false, payload };
                    if transport.send_frame(transfer.peer, frame).is_err() {
                        break;
                    }
                    metrics.full_sync_sent_bytes.add(size_bytes);
                    next += 1;
                }
                if count == Some(through) {
                    return Ok(());
                }
            }
        }
        if !transfer.acks.take(&mut acks, Some(RETRY_AFTER)) {
            return Ok(());
        }
        for Ack { count, digest } in acks.drain(..) {
            if count == Frame::SNAPSHOT_IN_USE {
                return Err(SendError::InUse);
            }
            if count == Frame::SNAPSHOT_FAILED {
                return Err(SendError::Refused);
            }
            let mark = held.mark(count).filter(|mark| mark.digest == digest).ok_or(SendError::Differs { count })?;
            if through.is_none() && count > 0 {
                metrics.full_syncs_resumed.inc();
                transfer.resumed_from_bytes.store(mark.size_bytes, Ordering::Relaxed);
                tracing::info!(event = "full_sync_resumed", peer = %transfer.peer, snapshot = %held.id,
                    done_bytes = mark.size_bytes, "a full copy that broke off goes on");
            }
            through = through.max(Some(count));
            next = next.max(count);
            transfer.done_bytes.fetch_max(mark.size_bytes, Ordering::Relaxed);
            heard_at = Instant::now();
            held.moved();
        }
        if heard_at.elapsed() > HELD_FOR {
            return Err(SendError::Silent);
        }
        if let Some(through) = through
            && heard_at.max(sent_again_at).elapsed() > RESEND_AFTER
        {
            next = through;
            sent_again_at = Instant::now();
        }
    }
}
