//! The threads that write to the disk on the core's order: the log's writer, the vote file's writer, and readers.
//!
//! **Group commit.** The writer takes all orders that wait, appends all their blocks, syncs once, and reports the
//! tokens in their order. A slow disk thus makes larger batches. Cuts are carried out in their place among the appends.
//! **The vote file** has a thread of its own, behind nothing (R36). Of several records that wait only the newest is
//! written: each is the whole record, so the newest makes all of them durable.
//! **On a full disk** an order that needs room waits, and every later one behind it: nothing is reported, so nothing is
//! acknowledged, and nothing is lost. It goes on by itself when there is room. A hot refuses writes long before, when
//! no segment can be made ahead of need ([`crate::space`]).
//! **After a failure** every order that waits and every one that comes is reported as failed: what a disk has lost
//! once it is never asked for again (INV-9).

use crate::board::Board;
use crate::clock;
use crate::config::History;
use crate::event_loop::Core;
use crate::metrics::Metrics;
use crate::queue::Queue;
use crate::scrub::Scrub;
use crate::space::Need;
use hotwarm_core::Input;
use hotwarm_core::register::Vote;
use hotwarm_log::{Keep, Log, LogAhead, LogError, LogReader, SlotFile};
use hotwarm_types::{Block, EntryId, Epoch, Lsn, Token};
use hotwarm_wire::encode_vote;
use std::collections::VecDeque;
use std::error::Error;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

/// How often the writer looks whether the log has become longer than it needs to be.
const RETAIN_INTERVAL: Duration = Duration::from_secs(1);

/// How often a full disk is looked at again.
const SPACE_INTERVAL: Duration = Duration::from_millis(250);

/// A sync, or other work on the disk, that takes longer is told: every acknowledgement waited for it.
const SLOW_SYNC: Duration = Duration::from_millis(100);

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
    /// Keep what lies further back for so long and up to so much from now on.
    History(History),
    /// Begin anew after a snapshot. The answer says what went wrong, if anything did.
    Reset {
        /// The last entry that the snapshot includes.
        at: EntryId,
        /// First position of each epoch up to it.
        epochs: Vec<(Epoch, Lsn)>,
        /// Who waits, with room for one answer.
        done: SyncSender<Result<(), String>>,
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
    board: Arc<Board>,
    /// An order waits for room on the disk.
    stalled: bool,
    retained_at: Instant,
}

/// An order could not be carried out for want of room; nothing has changed.
struct NoRoom(LogOrder);

impl LogWriter {
    /// A writer that reports to `core`.
    #[must_use]
    pub fn new(
        log: Log,
        history: History,
        core: Core,
        metrics: Arc<Metrics>,
        segments: Arc<Queue<()>>,
        board: Arc<Board>,
    ) -> Self {
        Self {
            log,
            core,
            metrics,
            failure: None,
            unsynced: Vec::new(),
            retain_after: Lsn::ZERO,
            history,
            segments,
            board,
            stalled: false,
            retained_at: Instant::now(),
        }
    }

    /// Carries out orders until the queue is closed; then closes the log, which marks a clean end.
    ///
    /// # Errors
    /// What kept the log from being closed cleanly.
    pub fn run(mut self, orders: &Queue<LogOrder>) -> Result<(), String> {
        let mut batch = Vec::new();
        self.prune_cuts();
        // Bounded by what the protocol may have open, like the queue.
        let mut waiting = VecDeque::new();
        while orders.take(&mut batch, (!waiting.is_empty()).then_some(SPACE_INTERVAL)) {
            waiting.extend(batch.drain(..));
            while let Some(order) = waiting.pop_front() {
                if let Err(NoRoom(order)) = self.carry_out(order) {
                    waiting.push_front(order);
                    break;
                }
            }
            if std::mem::replace(&mut self.stalled, !waiting.is_empty()) && waiting.is_empty() {
                self.board.space.report(Need::Order, None);
            }
            self.sync();
            self.retain();
        }
        match self.failure {
            Some(failure) => Err(failure),
            None => self.log.close().map(drop).map_err(|error| chain(&error)),
        }
    }

    fn carry_out(&mut self, order: LogOrder) -> Result<(), NoRoom> {
        match order {
            LogOrder::Append { token, block } => {
                if self.failure.is_none()
                    && let Err(error) = watched("append", || self.log.append(&block))
                    && self.is_for_want_of_room(&error)
                {
                    return Err(NoRoom(LogOrder::Append { token, block }));
                }
                self.metrics.log_blocks.inc();
                self.metrics.log_bytes.add(block.size_bytes());
                self.unsynced.push(token);
            }
            LogOrder::Cut { token, last } => {
                // What was appended before is synced with the cut, or is cut off itself.
                self.sync();
                if self.failure.is_none()
                    && let Err(error) = watched("cut", || self.log.cut(last))
                    && self.is_for_want_of_room(&error)
                {
                    return Err(NoRoom(LogOrder::Cut { token, last }));
                }
                self.report(token);
                // Only now: a takeover may wait for the cut (R36).
                self.prune_cuts();
            }
            LogOrder::Retain { after } => self.retain_after = after,
            LogOrder::History(history) => self.history = history,
            LogOrder::Reset { at, epochs, done } => {
                self.sync();
                if self.failure.is_none()
                    && let Err(error) = self.log.reset(at, &epochs)
                    && self.is_for_want_of_room(&error)
                {
                    return Err(NoRoom(LogOrder::Reset { at, epochs, done }));
                }
                // Who asked waits for it; if the node stops meanwhile nobody does.
                let _ = done.send(self.failure.clone().map_or(Ok(()), Err));
            }
        }
        Ok(())
    }

    /// Whether an error only says that the disk is full; any other one ends the log.
    fn is_for_want_of_room(&mut self, error: &LogError) -> bool {
        if matches!(error, LogError::NoSpace { .. }) {
            self.board.space.report(Need::Order, Some(chain(error)));
            self.segments.push(());
            return true;
        }
        self.failure = Some(chain(error));
        false
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

    /// Side files of cuts are not kept for ever. That one stays too long harms nothing.
    fn prune_cuts(&self) {
        match self.log.prune_cuts(clock::wall_ms()) {
            Ok(removed) if removed.is_empty() => {}
            Ok(removed) => {
                tracing::info!(
                    event = "cut_files_removed",
                    files = removed.join(" "),
                    "old side files of cuts are gone"
                );
            }
            Err(error) => {
                let error = chain(&error);
                tracing::warn!(event = "cut_files_kept", %error, "old side files of cuts could not be removed");
            }
        }
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
        let keep = if self.board.space.is_short() {
            // What is kept for nodes that come back costs more than it is worth: they can have a full copy.
            Keep { size_bytes: 0, since_ms: u64::MAX }
        } else {
            Keep { size_bytes: self.history.size_max_bytes, since_ms: clock::wall_ms().saturating_sub(kept_ms) }
        };
        if let Err(error) = watched("retain", || self.log.retain_after(self.retain_after, keep)) {
            self.failure = Some(chain(&error));
        }
    }
}

/// Does a piece of work on the disk that acknowledgements or a takeover may wait for, and tells if it was slow.
fn watched<T>(work: &'static str, doing: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let done = doing();
    let took = began.elapsed();
    if took > SLOW_SYNC {
        tracing::warn!(event = "disk_slow", work, took_ms = took.as_millis(), "the disk was slow");
    }
    done
}

/// Writes vote records until the queue is closed.
pub fn write_votes(mut file: SlotFile, orders: &Queue<VoteOrder>, core: &Core) {
    let mut batch: Vec<VoteOrder> = Vec::new();
    let mut failure = None;
    while orders.take(&mut batch, None) {
        if let Some(newest) = batch.last().filter(|_| failure.is_none()) {
            let written = watched("vote", || file.write(&encode_vote(&newest.vote)));
            failure = written.err().map(|error| chain(&error));
        }
        core.tell_all(batch.drain(..).map(|order| outcome(order.token, &failure)));
    }
}

/// Reads blocks until the queue is closed, and between orders looks after what lies there. A damaged entry is never
/// shipped: the node fences itself (C30).
pub fn read_log(reader: &LogReader, orders: &Queue<ReadOrder>, core: &Core) {
    let mut batch: Vec<ReadOrder> = Vec::new();
    let mut scrub = Some(Scrub::new(Instant::now()));
    while orders.take(&mut batch, scrub.as_ref().map(|scrub| scrub.pause(Instant::now()))) {
        for ReadOrder { token, from, size_bytes_max } in batch.drain(..) {
            core.tell(match reader.read(from, size_bytes_max) {
                Ok(blocks) => Input::LogRead { token, blocks },
                Err(error) => Input::PersistFailed { token, error: chain(&error) },
            });
        }
        if let Some(Err(error)) = scrub.as_mut().map(|scrub| scrub.step(reader, Instant::now())) {
            let error = chain(&error);
            tracing::error!(event = "log_damaged", error, "the log is damaged on the disk");
            core.tell(Input::PersistFailed { token: Token(0), error });
            // Once is enough: the node is fenced.
            scrub = None;
        }
    }
}

/// Makes segments ahead of need until the queue, which only ever wakes it, is closed. Where there is no room for one it
/// says so, and looks again until there is, whatever else goes wrong meanwhile: writes are refused until then.
pub fn prepare_segments(ahead: &LogAhead, wake: &Queue<()>, board: &Board) {
    let mut batch = Vec::new();
    let (mut is_short, mut told) = (false, None);
    loop {
        match ahead.prepare() {
            Ok(_) => {
                board.space.report(Need::Segment, None);
                (is_short, told) = (false, None);
            }
            Err(error @ LogError::NoSpace { .. }) => {
                board.space.report(Need::Segment, Some(chain(&error)));
                is_short = true;
            }
            // The log itself will meet it, or it has passed by then.
            Err(error) => {
                let error = chain(&error);
                if told.as_ref() != Some(&error) {
                    tracing::warn!(event = "log_segment_failed", %error, "no log segment could be made ahead of need");
                    told = Some(error);
                }
            }
        }
        batch.clear();
        if !wake.take(&mut batch, is_short.then_some(SPACE_INTERVAL)) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use hotwarm_disk::{Disk, Fault, FaultDisk, FaultError};
    use hotwarm_log::LogOptions;
    use hotwarm_types::{BlockKind, ClusterId, GroupId, Payload};

    const PATIENCE: Duration = Duration::from_secs(20);

    fn wait_until(what: &str, is_so: impl Fn() -> bool) {
        let began = Instant::now();
        while !is_so() {
            assert!(began.elapsed() < PATIENCE, "{what}");
            std::thread::yield_now();
        }
    }

    fn append(lsn: u64) -> LogOrder {
        let kind = if lsn == 1 { BlockKind::EpochStart } else { BlockKind::Data };
        let payload = Payload::new(&[7; 600]);
        let block = Block { kind, epoch: Epoch(1), first: Lsn(lsn), last: Lsn(lsn), stamp_ms: 1, payload };
        LogOrder::Append { token: Token(lsn), block }
    }

    /// Nothing is reported that is not durable, nothing fails, and everything is carried out in the end, in order.
    #[test]
    fn a_full_disk_holds_orders_up_and_they_go_on_when_there_is_room() {
        let disk = FaultDisk::new(1);
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        let options = LogOptions { segment_size_bytes: 4096, ..LogOptions::new(ClusterId(1), GroupId(1)) };
        let log = Log::create(Arc::clone(&shared), "log", options.clone()).unwrap();
        let (core, board, orders, wake) = (Core::default(), Arc::new(Board::default()), Queue::new(), Queue::new());
        let (reader, ahead) = (log.reader(), log.ahead());
        let history = History { time_max: Duration::from_secs(3600), size_max_bytes: 1 << 30 };
        let (to, metrics, segments, at) = (core.clone(), Arc::default(), Arc::clone(&wake), Arc::clone(&board));
        let writer = LogWriter::new(log, history, to, metrics, segments, at);
        let (mine, maker, at) = (Arc::clone(&orders), Arc::clone(&wake), Arc::clone(&board));
        let writer = std::thread::spawn(move || writer.run(&mine));
        let maker = std::thread::spawn(move || prepare_segments(&ahead, &maker, &at));

        let told = std::cell::RefCell::new(Vec::new());
        let reported = |count: usize| {
            told.borrow_mut().extend(core.told());
            told.borrow().len() >= count
        };
        orders.push_all((1..4).map(append));
        wait_until("the first are durable", || reported(3));
        wait_until("spares are made", || !wake_is_wanted(&shared));
        disk.set_capacity(0);
        orders.push_all((4..60).map(append));
        // A cut waits its turn behind what waits for room.
        orders.push(LogOrder::Cut { token: Token(60), last: Lsn(58) });
        wait_until("the hot refuses writes", || board.space.is_short());
        wait_until("an order waits", || board.space.complaint().is_some_and(|said| said.contains("needs")));
        assert!(!reported(57), "{:?}", told.borrow());
        let end = reader.read(Lsn(1), 1 << 20).unwrap().last().unwrap().last;
        assert!(end < Lsn(59), "{end}");

        disk.set_capacity(1 << 30);
        wait_until("all are carried out", || reported(60));
        wait_until("the complaint is over", || !board.space.is_short());
        let tokens: Vec<Token> = told
            .borrow()
            .iter()
            .map(|fact| match fact {
                Input::Persisted { token } => *token,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(tokens, (1..=60).map(Token).collect::<Vec<_>>());
        orders.close();
        wake.close();
        writer.join().unwrap().unwrap();
        maker.join().unwrap();
        disk.crash(hotwarm_disk::Crash::Lost);
        let (log, _) = Log::open(shared, "log", options).unwrap();
        assert_eq!(log.end().lsn, Lsn(58));
    }

    /// Nobody wakes the maker in between: a hot that refuses writes needs no segment.
    #[test]
    fn a_failure_on_a_full_disk_does_not_end_the_search_for_room() {
        let disk = FaultDisk::new(1);
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        let options = LogOptions { segment_size_bytes: 4096, ..LogOptions::new(ClusterId(1), GroupId(1)) };
        let log = Log::create(shared, "log", options).unwrap();
        let (ahead, board, wake) = (log.ahead(), Arc::new(Board::default()), Queue::new());
        disk.set_capacity(0);
        let (maker, at) = (Arc::clone(&wake), Arc::clone(&board));
        let maker = std::thread::spawn(move || prepare_segments(&ahead, &maker, &at));
        wait_until("the disk is full", || board.space.is_short());
        let shown = disk.faults_shown();
        disk.fail(Fault::nth(1, FaultError::Io).on("spare-"));
        disk.set_capacity(1 << 30);
        wait_until("making a segment fails", || disk.faults_shown() > shown);
        wait_until("the complaint is over", || !board.space.is_short());
        wake.close();
        maker.join().unwrap();
    }

    /// Whether fewer spares than may be lie in the folder.
    fn wake_is_wanted(disk: &Arc<dyn Disk>) -> bool {
        disk.list("log").unwrap().iter().filter(|name| name.ends_with(".seg")).count() < 1
    }
}
