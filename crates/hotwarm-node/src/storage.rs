//! The threads that write to the disk on the core's order: the log's writer, the vote file's writer, and readers.
//!
//! **Group commit.** The writer takes all orders that wait, appends all their blocks, syncs once, and reports the
//! tokens in their order. A slow disk thus makes larger batches. Cuts are carried out in their place among the appends.
//! **The vote file** has a thread of its own, behind nothing (R36). Of several records that wait only the newest is
//! written: each is the whole record, so the newest makes all of them durable.
//! **After a failure** every order that waits and every one that comes is reported as failed: what a disk has lost
//! once it is never asked for again (INV-9).

use crate::clock;
use crate::config::History;
use crate::event_loop::Core;
use crate::metrics::Metrics;
use crate::queue::Queue;
use hotwarm_core::Input;
use hotwarm_core::register::Vote;
use hotwarm_log::{Keep, Log, LogAhead, LogReader, SlotFile};
use hotwarm_types::{Block, EntryId, Epoch, Lsn, Token};
use hotwarm_wire::encode_vote;
use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// How often the writer looks whether the log has become longer than it needs to be.
const RETAIN_INTERVAL: Duration = Duration::from_secs(1);

/// A sync that takes longer is told: every acknowledgement waited for it.
const SLOW_SYNC: Duration = Duration::from_millis(200);

/// An order to the log's writer.
#[derive(Debug)]
pub enum LogOrder {
    /// Append, sync, report.
    Append {
        /// Names the order.
        token: Token,
        /// The block.
        block: Block,
    },
    /// Put the rest aside, cut, sync, report.
    Cut {
        /// Names the order.
        token: Token,
        /// The last position that stays.
        last: Lsn,
    },
    /// Nobody needs what lies at or before this position: neither a restart nor a follower.
    Retain {
        /// The position.
        after: Lsn,
    },
    /// Begin anew after a snapshot. The answer says what went wrong, if anything did.
    Reset {
        /// The last entry that the snapshot includes.
        at: EntryId,
        /// First position of each epoch up to it.
        epochs: Vec<(Epoch, Lsn)>,
        /// Who waits.
        done: oneshot::Sender<Result<(), String>>,
    },
}

/// An order to the vote file's writer.
#[derive(Debug)]
pub struct VoteOrder {
    /// Names the order.
    pub token: Token,
    /// The record.
    pub vote: Vote,
}

/// An order to a reader.
#[derive(Debug)]
pub struct ReadOrder {
    /// Names the order.
    pub token: Token,
    /// First position of the first block.
    pub from: Lsn,
    /// Bound of the answer.
    pub size_bytes_max: u64,
}

/// The log's writer; owns the log until its queue is closed.
#[derive(Debug)]
pub struct LogWriter {
    log: Log,
    core: Core,
    metrics: Arc<Metrics>,
    failure: Option<String>,
    /// Appended and not yet synced, oldest first.
    unsynced: Vec<Token>,
    /// Nobody needs anything at or before this position.
    retain_after: Lsn,
    /// What is kept all the same: for nodes that come back after a while, and need no full copy then.
    history: History,
    /// Wakes the maker of segments.
    segments: Arc<Queue<()>>,
    retained_at: Instant,
}

impl LogWriter {
    /// A writer that reports to `core`.
    #[must_use]
    pub fn new(log: Log, history: History, core: Core, metrics: Arc<Metrics>, segments: Arc<Queue<()>>) -> Self {
        Self {
            log,
            core,
            metrics,
            failure: None,
            unsynced: Vec::new(),
            retain_after: Lsn::ZERO,
            history,
            segments,
            retained_at: Instant::now(),
        }
    }

    /// Carries out orders until the queue is closed; then closes the log, which marks a clean end.
    ///
    /// # Errors
    /// What kept the log from being closed cleanly.
    pub fn run(mut self, orders: &Queue<LogOrder>) -> Result<(), String> {
        let mut batch = Vec::new();
        while orders.take(&mut batch, None) {
            for order in batch.drain(..) {
                self.carry_out(order);
            }
            self.sync();
            self.retain();
        }
        match self.failure {
            Some(failure) => Err(failure),
            None => self.log.close().map(drop).map_err(|error| chain(&error)),
        }
    }

    fn carry_out(&mut self, order: LogOrder) {
        match order {
            LogOrder::Append { token, block } => {
                self.metrics.log_blocks.inc();
                self.metrics.log_bytes.add(block.size_bytes());
                self.unsynced.push(token);
                if self.failure.is_none()
                    && let Err(error) = self.log.append(&block)
                {
                    self.failure = Some(chain(&error));
                }
            }
            LogOrder::Cut { token, last } => {
                // What was appended before is synced with the cut, or is cut off itself.
                self.sync();
                if self.failure.is_none()
                    && let Err(error) = self.log.cut(last)
                {
                    self.failure = Some(chain(&error));
                }
                self.report(token);
            }
            LogOrder::Retain { after } => self.retain_after = after,
            LogOrder::Reset { at, epochs, done } => {
                self.sync();
                if self.failure.is_none()
                    && let Err(error) = self.log.reset(at, &epochs)
                {
                    self.failure = Some(chain(&error));
                }
                // Who asked waits for it; if the node stops meanwhile nobody does.
                let _ = done.send(self.failure.clone().map_or(Ok(()), Err));
            }
        }
    }

    /// One sync for all that was appended since the last.
    fn sync(&mut self) {
        if self.unsynced.is_empty() {
            return;
        }
        if self.failure.is_none() {
            let began = Instant::now();
            if let Err(error) = self.log.sync() {
                self.failure = Some(chain(&error));
            }
            let took = began.elapsed();
            self.metrics.log_sync_time.observe(took);
            if took > SLOW_SYNC {
                let (took_ms, blocks) = (took.as_millis(), self.unsynced.len());
                tracing::warn!(event = "log_sync_slow", took_ms, blocks, "the disk was slow to sync the log");
            }
        }
        if self.log.ahead().is_wanted() {
            self.segments.push(());
        }
        let tokens = std::mem::take(&mut self.unsynced);
        let failure = &self.failure;
        self.core.tell_all(tokens.into_iter().map(|token| outcome(token, failure)));
    }

    fn report(&self, token: Token) {
        self.core.tell(outcome(token, &self.failure));
    }

    /// Gives back what nobody needs, at most once a second: it costs a write of the log's head.
    fn retain(&mut self) {
        let due = self.retained_at.elapsed() >= RETAIN_INTERVAL;
        if !due || self.failure.is_some() || self.retain_after <= self.log.floor().lsn {
            return;
        }
        self.retained_at = Instant::now();
        let kept_ms = u64::try_from(self.history.time_max.as_millis()).unwrap_or(u64::MAX);
        let keep = Keep { size_bytes: self.history.size_max_bytes, since_ms: clock::wall_ms().saturating_sub(kept_ms) };
        if let Err(error) = self.log.retain_after(self.retain_after, keep) {
            self.failure = Some(chain(&error));
        }
    }
}

/// Writes vote records until the queue is closed.
pub fn write_votes(mut file: SlotFile, orders: &Queue<VoteOrder>, core: &Core) {
    let mut batch: Vec<VoteOrder> = Vec::new();
    let mut failure = None;
    while orders.take(&mut batch, None) {
        if let Some(newest) = batch.last().filter(|_| failure.is_none()) {
            failure = file.write(&encode_vote(&newest.vote)).err().map(|error| chain(&error));
        }
        core.tell_all(batch.drain(..).map(|order| outcome(order.token, &failure)));
    }
}

/// Reads blocks until the queue is closed. A damaged entry is never shipped: the node fences itself (C30).
pub fn read_log(reader: &LogReader, orders: &Queue<ReadOrder>, core: &Core) {
    let mut batch: Vec<ReadOrder> = Vec::new();
    while orders.take(&mut batch, None) {
        for ReadOrder { token, from, size_bytes_max } in batch.drain(..) {
            core.tell(match reader.read(from, size_bytes_max) {
                Ok(blocks) => Input::LogRead { token, blocks },
                Err(error) => Input::PersistFailed { token, error: chain(&error) },
            });
        }
    }
}

/// Makes segments ahead of need until the queue, which only ever wakes it, is closed.
pub fn prepare_segments(ahead: &LogAhead, wake: &Queue<()>) {
    let mut batch = Vec::new();
    loop {
        // A full disk shows when the log itself needs a segment; until then this is only a warning.
        if let Err(error) = ahead.prepare() {
            tracing::warn!(event = "log_segment_failed", %error, "no log segment could be made ahead of need");
        }
        batch.clear();
        if !wake.take(&mut batch, None) {
            return;
        }
    }
}

fn outcome(token: Token, failure: &Option<String>) -> Input {
    match failure {
        None => Input::Persisted { token },
        Some(error) => Input::PersistFailed { token, error: error.clone() },
    }
}

/// An error and its causes in one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
