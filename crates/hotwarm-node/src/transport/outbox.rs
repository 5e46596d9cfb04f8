//! What waits to be sent on one connection: bounded in frames and in bytes.

use hotwarm_types::limits::STREAM_WINDOW_SIZE_BYTES;
use hotwarm_wire::{Frame, Purpose};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::mpsc;

/// How much may wait.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    frames: usize,
    bytes: usize,
}

/// Some hundred beacons' worth, and room for the register's states of up to 128 KiB.
const CONTROL: Bounds = Bounds { frames: 1024, bytes: 8 << 20 };
/// The core's whole window to a follower fits twice, beside half of it for the shells.
const BULK: Bounds = Bounds { frames: 8192, bytes: 64 << 20 };

const _: () = assert!(BULK.bytes / 2 >= 2 * STREAM_WINDOW_SIZE_BYTES as usize);

impl Bounds {
    fn of(purpose: Purpose) -> Self {
        match purpose {
            Purpose::Control => CONTROL,
            Purpose::Bulk => BULK,
        }
    }
}

/// Which part of a queue a sender may fill.
#[derive(Clone, Copy, Debug)]
pub(super) enum Share {
    /// All of it: the core, whose windows bound what it sends.
    Whole,
    /// Half of it: the shells.
    Half,
}

/// There is no room.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

/// The end that is filled.
#[derive(Debug)]
pub(super) struct Outbox {
    bounds: Bounds,
    bytes: Arc<AtomicUsize>,
    frames: mpsc::Sender<Frame>,
}

/// The end that is emptied.
#[derive(Debug)]
pub(super) struct Inbox {
    bytes: Arc<AtomicUsize>,
    frames: mpsc::Receiver<Frame>,
}

pub(super) fn outbox(purpose: Purpose) -> (Outbox, Inbox) {
    let bounds = Bounds::of(purpose);
    let (sender, receiver) = mpsc::channel(bounds.frames);
    let bytes = Arc::new(AtomicUsize::new(0));
    (Outbox { bounds, bytes: Arc::clone(&bytes), frames: sender }, Inbox { bytes, frames: receiver })
}

impl Outbox {
    /// Puts a frame into the queue.
    pub(super) fn push(&self, frame: Frame, share: Share) -> Result<(), Full> {
        let part = match share {
            Share::Whole => 1,
            Share::Half => 2,
        };
        let weight = frame.weight_bytes();
        if self.frames() >= self.bounds.frames / part || self.bytes() + weight > self.bounds.bytes / part {
            return Err(Full);
        }
        self.bytes.fetch_add(weight, Ordering::Relaxed);
        // A queue whose other end is gone takes nothing; the connection is about to be reported as broken.
        self.frames.try_send(frame).map_err(|_| Full)
    }

    /// How many frames wait.
    pub(super) fn frames(&self) -> usize {
        self.frames.max_capacity() - self.frames.capacity()
    }

    /// About how many bytes wait.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }
}

impl Inbox {
    /// Waits for frames and moves at most `count_max` of them to `batch`. `false`: nobody can send any more.
    pub(super) async fn next(&mut self, batch: &mut Vec<Frame>, count_max: usize) -> bool {
        self.frames.recv_many(batch, count_max).await > 0
    }

    /// Makes room for what was taken and is about to be written: what is gathered into one write is bounded by its writer.
    pub(super) fn release(&self, weight_bytes: usize) {
        self.bytes.fetch_sub(weight_bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forward(size: usize) -> Frame {
        Frame::Forward { round: 1, payload: vec![0; size] }
    }

    #[test]
    fn the_shells_leave_half_of_the_room_to_the_core() {
        let (outbox, _inbox) = outbox(Purpose::Bulk);
        while outbox.push(forward(1 << 20), Share::Half).is_ok() {}
        assert!(outbox.bytes() <= BULK.bytes / 2);
        assert_eq!(outbox.push(forward(1 << 20), Share::Whole), Ok(()));
        while outbox.push(forward(1 << 20), Share::Whole).is_ok() {}
        assert!(outbox.bytes() <= BULK.bytes && outbox.bytes() > BULK.bytes - (2 << 20));
    }

    #[test]
    fn small_frames_are_bounded_by_their_number() {
        let (outbox, _inbox) = outbox(Purpose::Control);
        for _ in 0..CONTROL.frames {
            outbox.push(forward(0), Share::Whole).unwrap();
        }
        assert_eq!(outbox.push(forward(0), Share::Whole), Err(Full));
    }

    #[tokio::test]
    async fn room_comes_back_with_what_was_sent() {
        let (outbox, mut inbox) = outbox(Purpose::Control);
        outbox.push(forward(10), Share::Whole).unwrap();
        let mut batch = Vec::new();
        assert!(inbox.next(&mut batch, 8).await);
        assert_eq!((outbox.frames(), outbox.bytes()), (0, batch[0].weight_bytes()));
        inbox.release(batch[0].weight_bytes());
        assert_eq!(outbox.bytes(), 0);
    }
}
