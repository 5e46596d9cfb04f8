//! The two threads that write to a machine's disk, in virtual time: the log's writer and the vote record's (R36).
//!
//! Each takes what waits, works for a while, and reports: the log's writer syncs once for many blocks (group commit), of
//! several vote records only the newest is written. The work itself is that of the real log and vote record. A process
//! that dies in the middle has done a first part of it, which may have reached the disk before anybody was told (R11).
//! After a failure everything that waits and all that comes fails too (INV-9).

use crate::disk::chain;
use crate::rng::Rng;
use hotwarm_core::register::Vote;
use hotwarm_disk::FaultDisk;
use hotwarm_log::{LogError, SlotFile};
use hotwarm_types::{Block, EntryId, Epoch, Lsn, StreamId, Token};
use hotwarm_wire::encode_vote;
use std::collections::VecDeque;

/// Changes of the disk within one piece of work, at most about.
const CHANGES_MAX: u64 = 9;

/// Which of a machine's devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceKind {
    /// The log's.
    Log,
    /// The vote record's.
    Vote,
}

/// A whole copy that is to be put in the place of log and state (R31).
#[derive(Clone, Debug)]
pub struct Install {
    /// The stream it came by.
    pub stream: StreamId,
    /// The last entry it includes.
    pub at: EntryId,
    /// First position of each epoch up to there.
    pub epochs: Vec<(Epoch, Lsn)>,
}

/// An order to the log's writer.
#[derive(Clone, Debug)]
pub enum LogOrder {
    /// Append and sync.
    Append { token: Token, block: Block },
    /// Put aside and cut.
    Cut { token: Token, last: Lsn },
    /// Begin anew after a whole copy.
    Reset(Install),
}

impl LogOrder {
    /// What to report; none for what the shell orders itself.
    #[must_use]
    pub fn token(&self) -> Option<Token> {
        match self {
            Self::Append { token, .. } | Self::Cut { token, .. } => Some(*token),
            Self::Reset(_) => None,
        }
    }

    /// The position after which it takes entries away, if it does.
    #[must_use]
    pub fn takes_away_after(&self) -> Option<Lsn> {
        match self {
            Self::Append { .. } => None,
            Self::Cut { last, .. } => Some(*last),
            Self::Reset(install) => Some(install.at.lsn),
        }
    }
}

/// What came of a piece of work.
#[derive(Debug)]
pub struct Done<T> {
    /// What was ordered, in order.
    pub orders: Vec<T>,
    /// Why it failed, if it did.
    pub failure: Option<String>,
}

/// Whether a device works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Nothing waits.
    Idle,
    /// Something has been begun.
    Begun,
    /// An order waits for room on the disk.
    NoRoom,
}

/// The log's writer.
#[derive(Debug)]
pub struct LogDevice {
    /// The log.
    pub log: hotwarm_log::Log,
    waiting: VecDeque<LogOrder>,
    batch: Vec<LogOrder>,
    failure: Option<String>,
    /// It will be looked at.
    pub awaited: bool,
}

impl LogDevice {
    /// A writer of a log.
    #[must_use]
    pub fn new(log: hotwarm_log::Log) -> Self {
        Self { log, waiting: VecDeque::new(), batch: Vec::new(), failure: None, awaited: false }
    }

    /// Takes in an order.
    pub fn order(&mut self, order: LogOrder) {
        self.waiting.push_back(order);
    }

    /// The planted bug: nothing has failed.
    pub fn forget_failure(&mut self) {
        self.failure = None;
    }

    /// Takes what can be done together: blocks, appended now and synced in the end; or one of the others.
    pub fn begin(&mut self) -> Work {
        if self.failure.is_some() {
            self.batch.extend(self.waiting.drain(..));
        }
        while let Some(order) = self.waiting.pop_front() {
            let LogOrder::Append { block, .. } = &order else {
                if self.batch.is_empty() {
                    self.batch.push(order);
                } else {
                    self.waiting.push_front(order);
                }
                break;
            };
            match self.log.append(block) {
                Ok(()) => self.batch.push(order),
                Err(LogError::NoSpace { .. }) => {
                    self.waiting.push_front(order);
                    break;
                }
                Err(error) => {
                    self.failure = Some(chain(&error));
                    self.batch.push(order);
                    self.batch.extend(self.waiting.drain(..));
                }
            }
        }
        match (self.batch.is_empty(), self.waiting.is_empty()) {
            (false, _) => Work::Begun,
            (true, true) => Work::Idle,
            (true, false) => Work::NoRoom,
        }
    }

    /// The tokens of the blocks that have been begun.
    pub fn begun(&self) -> impl Iterator<Item = Token> + '_ {
        self.batch.iter().filter(|order| order.takes_away_after().is_none()).filter_map(LogOrder::token)
    }

    /// Does what was begun.
    pub fn finish(&mut self) -> Done<LogOrder> {
        if self.failure.is_none() && !self.batch.is_empty() {
            let done = match &self.batch[0] {
                LogOrder::Append { .. } => self.log.sync().map(|_| ()),
                LogOrder::Cut { last, .. } => self.log.cut(*last),
                LogOrder::Reset(install) => self.log.reset(install.at, &install.epochs),
            };
            match done {
                Ok(()) => {}
                Err(LogError::NoSpace { .. }) => {
                    let batch = core::mem::take(&mut self.batch);
                    batch.into_iter().rev().for_each(|order| self.waiting.push_front(order));
                }
                Err(error) => self.failure = Some(chain(&error)),
            }
        }
        Done { orders: core::mem::take(&mut self.batch), failure: self.failure.clone() }
    }

    /// The process dies: of what was begun, a first part is done. Returns the position after which entries may be gone,
    /// since that was what had been begun.
    pub fn die(&mut self, files: &FaultDisk, rng: &mut Rng) -> Option<Lsn> {
        let last = self.batch.first().and_then(LogOrder::takes_away_after);
        files.die_after(rng.below(CHANGES_MAX));
        self.finish();
        last
    }
}

/// The vote record's writer.
#[derive(Debug)]
pub struct VoteDevice {
    file: SlotFile,
    waiting: Vec<(Token, Vote)>,
    batch: Vec<(Token, Vote)>,
    failure: Option<String>,
    /// It will be looked at.
    pub awaited: bool,
}

impl VoteDevice {
    /// A writer of a vote record.
    #[must_use]
    pub fn new(file: SlotFile) -> Self {
        Self { file, waiting: Vec::new(), batch: Vec::new(), failure: None, awaited: false }
    }

    /// Takes in an order.
    pub fn order(&mut self, token: Token, vote: Vote) {
        self.waiting.push((token, vote));
    }

    /// Takes what waits.
    pub fn begin(&mut self) -> Work {
        self.batch.append(&mut self.waiting);
        if self.batch.is_empty() { Work::Idle } else { Work::Begun }
    }

    /// Writes the newest record of those that were taken; the oldest, for the planted bug.
    pub fn finish(&mut self, oldest: bool) -> Done<(Token, Vote)> {
        let record = if oldest { self.batch.first() } else { self.batch.last() };
        if let (None, Some((_, vote))) = (&self.failure, record) {
            self.failure = self.file.write(&encode_vote(vote)).err().map(|error| chain(&error));
        }
        Done { orders: core::mem::take(&mut self.batch), failure: self.failure.clone() }
    }

    /// The process dies: of what was begun, a first part is done.
    pub fn die(&mut self, files: &FaultDisk, rng: &mut Rng) {
        files.die_after(rng.below(3));
        self.finish(false);
    }
}
