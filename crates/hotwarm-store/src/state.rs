//! The state machine behind the log: what blocks make of the keys and sessions of a group.
//!
//! ```text
//!   commands ──begin/finish──▶ open block ──take_block──▶ the core, the log, the warms
//!                   │                                             │
//!                   ▼                                             ▼ stage (on a warm, and at recovery)
//!                overlay: the uncommitted tail ◀───────────────────
//!                   │ commit
//!                   ▼
//!                cache  +  pending ──feed (another thread)──▶ tree ──flush──▶ disk
//! ```
//!
//! One thread owns the [`State`] and executes, stages and commits; nothing of that touches the disk, save a read that
//! misses the cache. A [`Feeder`], on a thread of its own, carries committed changes to the tree behind it. The tree
//! holds committed state only (R32): after a crash it is the state at the end of some committed block, and the log is
//! replayed from there.
//!
//! Every block that the log appends is staged, in order, the blocks that this state proposed included: for those it
//! checks that they came out as proposed. What it does not do: decide what is committed, who is hot, or when anything
//! is durable.

use crate::cache::Cache;
use crate::effect::{self, DecodeError, Effect, FORMAT_VERSION, Identity, Operation};
use crate::execution::Execution;
use crate::expiring::Cursor;
use crate::feeder::Feeder;
use crate::key::{self, Meta};
use crate::keyspace::Entry;
use crate::limits::SESSIONS_MAX;
use crate::overlay::{Cell, Overlay};
use crate::pending::{Layer, Pending, Shared};
use crate::session::{SessionAnswer, SessionTable};
use crate::sync::lock;
use crate::tree::{Pin, Tree, TreeError};
use crate::view::View;
use bytes::Bytes;
use hotwarm_types::limits::BLOCK_SIZE_BYTES_MAX;
use hotwarm_types::{Block, BlockKind, EntryId, Epoch, Lsn, SessionId};
use std::collections::VecDeque;
use std::fmt;
use std::ops::Bound;
use std::sync::{Arc, Mutex};

/// How much memory a state may use.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Bound of the map of current versions in front of the tree, in bytes.
    pub cache_size_bytes_max: usize,
}

impl Default for Options {
    /// 256 MiB of cached keys: a million small ones.
    fn default() -> Self {
        Self { cache_size_bytes_max: 256 << 20 }
    }
}

/// Why a state cannot be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpenError {
    /// The tree cannot be read.
    Tree(TreeError),
    /// The tree has rows and no position: a full sync into it did not end (R31). Sync it anew.
    Incomplete,
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tree(_) => write!(f, "the state cannot be read from its tree"),
            Self::Incomplete => write!(f, "the tree has rows and no position, since a full sync into it did not end"),
        }
    }
}

impl std::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Tree(error) => Some(error),
            Self::Incomplete => None,
        }
    }
}

impl From<TreeError> for OpenError {
    fn from(error: TreeError) -> Self {
        Self::Tree(error)
    }
}

/// Why a block, a commit or a truncation does not fit the state. Nothing was changed; the node fences itself, since
/// its log and its state no longer agree (R32).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApplyError {
    /// The block does not follow on the last one.
    Gap {
        /// Where it should begin.
        expected: Lsn,
        /// Where it begins.
        got: Lsn,
    },
    /// Its bounds, its epoch or its stamp go back, or it is an epoch start of more than one position.
    Disorder {
        /// Its first position.
        first: Lsn,
    },
    /// Its payload does not read as operations.
    Decode {
        /// Its first position.
        first: Lsn,
        /// Why.
        error: DecodeError,
    },
    /// It is not the block that this state proposed there, or this state has executed writes that it has not proposed.
    NotProposed {
        /// Its first position.
        first: Lsn,
    },
    /// A commit past what was staged.
    NotStaged {
        /// The end of what was staged.
        staged: Lsn,
        /// The commit position.
        upto: Lsn,
    },
    /// A truncation below the commit position, or within a block.
    BadCut {
        /// The commit position.
        committed: Lsn,
        /// What was to stay last.
        last: Lsn,
    },
}

impl fmt::Display for ApplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gap { expected, got } => write!(f, "block at LSN {got} does not follow, expected LSN {expected}"),
            Self::Disorder { first } => write!(f, "block at LSN {first} goes back in epoch, position or time"),
            Self::Decode { first, .. } => write!(f, "block at LSN {first} does not read as operations"),
            Self::NotProposed { first } => write!(f, "block at LSN {first} is not what this node proposed there"),
            Self::NotStaged { staged, upto } => write!(f, "commit of LSN {upto}, but blocks end at LSN {staged}"),
            Self::BadCut { committed, last } => {
                write!(f, "cut after LSN {last} is within a block or below the committed LSN {committed}")
            }
        }
    }
}

impl std::error::Error for ApplyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Decode { error, .. } => Some(error),
            Self::Gap { .. }
            | Self::Disorder { .. }
            | Self::NotProposed { .. }
            | Self::NotStaged { .. }
            | Self::BadCut { .. } => None,
        }
    }
}

/// Writes that are executed and not yet in the log: what the node proposes to the core.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProposedBlock {
    /// The position that the first of them must get.
    pub first: Lsn,
    /// How many positions they take.
    pub count: u64,
    /// Group time of the last of them, in milliseconds (R35).
    pub stamp_ms: u64,
    /// The encoded operations; at most `BLOCK_SIZE_BYTES_MAX`.
    pub payload: Vec<u8>,
}

impl ProposedBlock {
    fn last(&self) -> Lsn {
        self.first.plus(self.count).prev()
    }
}

/// A block that is staged and not committed.
#[derive(Clone, Copy, Debug)]
struct Staged {
    first: Lsn,
    end: EntryId,
    stamp_ms: u64,
}

/// Keys and sessions of a group, as one node knows them.
#[derive(Debug)]
pub struct State {
    pub(crate) shared: Arc<Shared>,
    pub(crate) cache: Cache,
    pub(crate) overlay: Overlay,
    sessions: SessionTable,
    /// The end of the last committed block.
    committed: EntryId,
    committed_stamp_ms: u64,
    staged: VecDeque<Staged>,
    /// Bounds of the blocks that were taken and have not been staged yet, oldest first.
    proposed: VecDeque<(Lsn, Lsn)>,
    /// Full blocks that were not taken yet, oldest first.
    sealed: VecDeque<ProposedBlock>,
    /// The block that the next operation goes into, if it has one already.
    open: Option<ProposedBlock>,
    /// The last position that is staged or executed.
    end: Lsn,
    /// The greatest group time seen.
    stamp_ms: u64,
    epochs: Vec<(Epoch, Lsn)>,
    pub(crate) expiries: Cursor,
    /// A read of the tree failed: what it answered must not be used (INV-9).
    pub(crate) failure: Option<TreeError>,
    /// Draws random keys.
    pub(crate) dice: u64,
}

impl State {
    /// Opens the state that a tree holds. The log must be staged from the position after [`State::committed`] on.
    ///
    /// # Errors
    /// [`OpenError`]; nothing was changed.
    pub fn open(tree: Arc<dyn Tree>, options: Options) -> Result<Self, OpenError> {
        let pin = tree.pin()?;
        let fed = match pin.get(key::META_KEY)? {
            Some(row) => Meta::decode(&row)?,
            None if pin.scan(Bound::Excluded(crate::tree::APPLIED_KEY), None, 1)?.is_empty() => Meta::default(),
            None => return Err(OpenError::Incomplete),
        };
        let mut epochs = Vec::new();
        each_row(pin.as_ref(), key::EPOCH, |row| key::parse_epoch(row).map(|epoch| epochs.push(epoch)))?;
        let mut sessions = SessionTable::default();
        each_row(pin.as_ref(), key::SESSION, |(key, row)| sessions.restore(key, row))?;
        each_row(pin.as_ref(), key::REPLY, |(key, row)| sessions.restore_reply(key, row))?;
        let pending = Pending::new(fed, first_expiry(pin.as_ref(), fed.generation)?);
        Ok(Self {
            shared: Arc::new(Shared { tree, pending: Mutex::new(pending), feed: Mutex::default() }),
            cache: Cache::new(options.cache_size_bytes_max, fed.applied.lsn),
            overlay: Overlay::default(),
            sessions,
            committed: fed.applied,
            committed_stamp_ms: fed.stamp_ms,
            staged: VecDeque::new(),
            proposed: VecDeque::new(),
            sealed: VecDeque::new(),
            open: None,
            end: fed.applied.lsn,
            stamp_ms: fed.stamp_ms,
            epochs,
            expiries: Cursor::default(),
            failure: None,
            dice: fed.stamp_ms | 1,
        })
    }

    /// A handle for the thread that carries committed changes to the tree.
    #[must_use]
    pub fn feeder(&self) -> Feeder {
        Feeder::new(self.shared.clone())
    }

    /// The position up to which the tree holds everything durably: recovery needs the log after it.
    #[must_use]
    pub fn applied(&self) -> Lsn {
        self.shared.tree.durable()
    }

    /// The end of the last committed block.
    #[must_use]
    pub fn committed(&self) -> EntryId {
        self.committed
    }

    /// The last position that is staged or executed: where the next operation comes after.
    #[must_use]
    pub fn end(&self) -> Lsn {
        self.end
    }

    /// Group time of the commit position, in milliseconds: what a read on a node that is not hot judges expiry by
    /// (R35).
    #[must_use]
    pub fn committed_stamp_ms(&self) -> u64 {
        self.committed_stamp_ms
    }

    /// The greatest stamp in the log that this node holds: where a new hot starts from (R35).
    #[must_use]
    pub fn greatest_stamp_ms(&self) -> u64 {
        self.stamp_ms
    }

    /// The first position of each committed epoch, oldest first; reaches back to the first epoch of the group (R30).
    #[must_use]
    pub fn epochs(&self) -> &[(Epoch, Lsn)] {
        &self.epochs
    }

    /// The open sessions, as committed.
    #[must_use]
    pub fn sessions(&self) -> &SessionTable {
        &self.sessions
    }

    /// Bytes of the uncommitted tail in memory, about.
    #[must_use]
    pub fn uncommitted_size_bytes(&self) -> u64 {
        self.overlay.size_bytes()
    }

    /// Bytes that are committed and not yet in the tree, about. A node that lets this grow without bound runs out of
    /// memory: past some bound it holds writes.
    #[must_use]
    pub fn lag_size_bytes(&self) -> u64 {
        self.shared.lag_size_bytes()
    }

    /// Moves the bound of cached keys a step towards `size_bytes_max`; true once it is there. A step down lets go of at
    /// most a MiB, so that whoever executes is not kept for long.
    pub fn resize_cache(&mut self, size_bytes_max: usize) -> bool {
        self.cache.resize(size_bytes_max)
    }

    /// Bytes of cached keys, about.
    #[must_use]
    pub fn cache_size_bytes(&self) -> u64 {
        self.cache.size_bytes() as u64
    }

    /// Why the tree could not be read, if it once could not: the node is fenced, and no answer given since is to be
    /// used (INV-9).
    #[must_use]
    pub fn failure(&self) -> Option<&TreeError> {
        self.failure.as_ref()
    }

    /// Takes up a block that the log has appended, whoever formed it. Nothing of it is visible to views of committed
    /// state.
    ///
    /// # Errors
    /// [`ApplyError`]; nothing was changed.
    pub fn stage(&mut self, block: &Block) -> Result<(), ApplyError> {
        let before = self.staged.back().map_or(self.committed, |block| block.end);
        let before_stamp_ms = self.staged.back().map_or(self.committed_stamp_ms, |block| block.stamp_ms);
        let stamp_ms = match block.kind {
            // The core, which has no clock, stamps nothing: an epoch starts at the time of what precedes it.
            BlockKind::EpochStart => block.stamp_ms.max(before_stamp_ms),
            BlockKind::Data => block.stamp_ms,
        };
        if block.first != before.lsn.next() {
            return Err(ApplyError::Gap { expected: before.lsn.next(), got: block.first });
        }
        let single = block.kind == BlockKind::Data || block.first == block.last;
        if block.last < block.first || block.epoch < before.epoch || stamp_ms < before_stamp_ms || !single {
            return Err(ApplyError::Disorder { first: block.first });
        }
        if self.end > before.lsn {
            self.confirm(block)?;
        } else {
            let operations = match block.kind {
                BlockKind::EpochStart => Vec::new(),
                BlockKind::Data => effect::decode(&block.payload, block.last.since(block.first) + 1)
                    .map_err(|error| ApplyError::Decode { first: block.first, error })?,
            };
            for (index, operation) in operations.into_iter().enumerate() {
                self.overlay.push(block.first.plus(index as u64), operation);
            }
            self.end = block.last;
        }
        self.stamp_ms = self.stamp_ms.max(stamp_ms);
        self.staged.push_back(Staged { first: block.first, end: block.end(), stamp_ms });
        Ok(())
    }

    /// Checks a block against the oldest one that this state proposed.
    fn confirm(&mut self, block: &Block) -> Result<(), ApplyError> {
        match self.proposed.front() {
            Some(&(first, last)) if block.kind == BlockKind::Data && (first, last) == (block.first, block.last) => {
                self.proposed.pop_front();
                Ok(())
            }
            Some(_) | None => Err(ApplyError::NotProposed { first: block.first }),
        }
    }

    /// Begins one command, or one transaction, on the hot: it sees everything executed before it and writes after it.
    /// `now_ms` is group time; the greatest stamp seen counts if that is later.
    pub fn begin(&mut self, now_ms: u64) -> Execution<'_> {
        let now_ms = now_ms.max(self.stamp_ms);
        Execution::new(self, now_ms)
    }

    /// Begins a read of committed state. `now_ms` is group time: on a node that is not hot, that of the commit position
    /// ([`State::committed_stamp_ms`]).
    pub fn committed_view(&mut self, now_ms: u64) -> View<'_> {
        let at = self.committed.lsn;
        View::new(self, now_ms, at)
    }

    /// Begins a read that sees committed state and the tail up to `at` (its own connection's earlier write, say). Its
    /// answer is held until what it touched is committed (R33).
    pub fn view_at_least(&mut self, now_ms: u64, at: Lsn) -> View<'_> {
        let at = at.max(self.committed.lsn);
        View::new(self, now_ms, at)
    }

    /// Appends an executed operation to the open block; `encoded` is its encoding.
    pub(crate) fn append(&mut self, operation: Operation, encoded: &[u8], now_ms: u64) -> Lsn {
        let lsn = self.end.next();
        let full = |block: &mut ProposedBlock| block.payload.len() + encoded.len() > BLOCK_SIZE_BYTES_MAX;
        if let Some(block) = self.open.take_if(full) {
            self.sealed.push_back(block);
        }
        let fresh = || ProposedBlock { first: lsn, count: 0, stamp_ms: 0, payload: vec![FORMAT_VERSION] };
        let block = self.open.get_or_insert_with(fresh);
        block.payload.extend_from_slice(encoded);
        block.count += 1;
        block.stamp_ms = now_ms;
        self.stamp_ms = now_ms;
        self.end = lsn;
        self.overlay.push(lsn, operation);
        lsn
    }

    /// What to propose next, if anything was executed since.
    pub fn take_block(&mut self) -> Option<ProposedBlock> {
        let block = self.sealed.pop_front().or_else(|| self.open.take())?;
        self.proposed.push_back((block.first, block.last()));
        Some(block)
    }

    /// Makes everything up to the end of the last staged block at or below `upto` committed: visible to all views.
    ///
    /// # Errors
    /// [`ApplyError::NotStaged`] if `upto` is past what was staged; nothing was changed.
    pub fn commit(&mut self, upto: Lsn) -> Result<(), ApplyError> {
        self.commit_some(upto, u64::MAX).map(|_whole| ())
    }

    /// As [`State::commit`], but stops after the block with which `count_max` positions are committed. False: there is
    /// more up to `upto`.
    ///
    /// # Errors
    /// As for [`State::commit`].
    pub fn commit_some(&mut self, upto: Lsn, count_max: u64) -> Result<bool, ApplyError> {
        let staged = self.staged.back().map_or(self.committed, |block| block.end).lsn;
        if upto > staged {
            return Err(ApplyError::NotStaged { staged, upto });
        }
        let before = self.committed.lsn;
        while self.committed.lsn.since(before) < count_max
            && let Some(block) = self.staged.pop_front_if(|block| block.end.lsn <= upto)
        {
            self.commit_block(&block);
        }
        self.expiries.committed(self.committed.lsn);
        Ok(self.staged.front().is_none_or(|block| block.end.lsn > upto))
    }

    fn commit_block(&mut self, block: &Staged) {
        let shared = self.shared.clone();
        let layer = &mut lock(&shared.pending).active;
        while let Some((lsn, operation)) = self.overlay.pop_front(block.end.lsn) {
            self.commit_operation(lsn, operation, block.stamp_ms, layer);
        }
        if self.epochs.last().is_none_or(|(epoch, _)| *epoch < block.end.epoch) {
            self.epochs.push((block.end.epoch, block.first));
            layer.epochs.push((block.end.epoch, block.first));
        }
        layer.end = Some((block.end, block.stamp_ms));
        self.committed = block.end;
        self.committed_stamp_ms = block.stamp_ms;
    }

    fn commit_operation(&mut self, lsn: Lsn, operation: Operation, stamp_ms: u64, layer: &mut Layer) {
        for effect in operation.effects {
            match effect {
                Effect::Put { key, value, expires_at_ms } => {
                    let entry = Some(Entry { value, expires_at_ms, version: lsn });
                    self.cache.insert(&key, Cell { version: lsn, entry: entry.clone() });
                    layer.set(&key, lsn, entry);
                }
                Effect::Delete { key } => {
                    self.cache.insert(&key, Cell { version: lsn, entry: None });
                    layer.set(&key, lsn, None);
                }
                Effect::Clear => {
                    self.cache.clear(lsn);
                    layer.clear(lsn);
                }
                Effect::SessionOpened { session } => self.sessions.open(session, stamp_ms, &mut layer.sessions),
                Effect::SessionExpired { session } => self.sessions.expire(session, &mut layer.sessions),
            }
        }
        if let Some(identity) = operation.identity {
            layer.size_bytes += 64 + operation.reply.as_ref().map_or(0, Bytes::len) as u64;
            self.sessions.record(identity, operation.reply, stamp_ms, &mut layer.sessions);
        }
    }

    /// Drops everything past `last`: writes that were executed and did not get into the log, and blocks that the log
    /// has cut (R30). `last` is the end of the log that stays.
    ///
    /// # Errors
    /// [`ApplyError::BadCut`] if `last` is below the commit position or within a block; nothing was changed.
    pub fn truncate(&mut self, last: Lsn) -> Result<(), ApplyError> {
        let bad_cut = ApplyError::BadCut { committed: self.committed.lsn, last };
        let within = self.staged.iter().any(|block| block.first <= last && last < block.end.lsn);
        if last < self.committed.lsn || within {
            return Err(bad_cut);
        }
        while self.staged.pop_back_if(|block| block.first > last).is_some() {}
        let newest = self.staged.back();
        self.end = newest.map_or(self.committed.lsn, |block| block.end.lsn);
        self.stamp_ms = newest.map_or(self.committed_stamp_ms, |block| block.stamp_ms);
        self.overlay.truncate(self.end);
        self.proposed.clear();
        self.sealed.clear();
        self.open = None;
        self.expiries.dropped();
        Ok(())
    }

    /// Drops the whole uncommitted tail. The log after [`State::committed`], if it stays, must then be staged again.
    pub fn drop_uncommitted(&mut self) {
        let committed = self.committed.lsn;
        self.staged.clear();
        self.truncate(committed).expect("the commit position is the end of a block");
    }

    /// Whether an operation with this identity is to be executed (R34).
    #[must_use]
    pub fn session(&self, identity: Identity) -> SessionAnswer {
        if let Some(lsn) = self.overlay.pending(&identity) {
            return SessionAnswer::Pending { lsn };
        }
        match (self.overlay.session_open(identity.session), self.sessions.is_open(identity.session)) {
            (Some(false), _) | (None, false) => SessionAnswer::Unknown,
            (Some(true), false) => SessionAnswer::Fresh,
            (Some(true) | None, true) => self.sessions.answer(identity),
        }
    }

    /// Whether a session is open, by everything executed so far.
    #[must_use]
    pub fn session_is_open(&self, session: SessionId) -> bool {
        self.overlay.session_open(session).unwrap_or_else(|| self.sessions.is_open(session))
    }

    /// Up to `count` sessions for which the hot should log an expiry at group time `now_ms`; `opening` says how many
    /// it is about to open, for which there must be room.
    #[must_use]
    pub fn idle_sessions(&self, now_ms: u64, opening: usize, count: usize) -> Vec<SessionId> {
        let opening = (self.overlay.sessions_opening_max() + opening).min(SESSIONS_MAX);
        let idle = self.sessions.idle(now_ms, opening, count);
        idle.into_iter().filter(|session| self.overlay.session_open(*session) != Some(false)).collect()
    }
}

/// The first expiry in the index; `u64::MAX`: it is empty.
fn first_expiry(pin: &dyn Pin, generation: Lsn) -> Result<u64, TreeError> {
    let (from, until) = (key::generation_start(key::EXPIRY, generation), key::generation_end(key::EXPIRY, generation));
    let rows = pin.scan(Bound::Included(&from), Some(&until), 1)?;
    key::first_expiry(&rows)
}

/// Passes each row of a kind.
fn each_row(
    pin: &dyn Pin,
    kind: u8,
    mut pass: impl FnMut(&(Bytes, Bytes)) -> Result<(), TreeError>,
) -> Result<(), TreeError> {
    const PAGE_COUNT: usize = 1024;
    let mut from = Bound::Included(Bytes::copy_from_slice(&[kind]));
    loop {
        let rows = pin.scan(from.as_ref().map(|key| &key[..]), Some(&[kind + 1]), PAGE_COUNT)?;
        rows.iter().try_for_each(&mut pass)?;
        match rows.into_iter().next_back() {
            Some((key, _)) => from = Bound::Excluded(key),
            None => return Ok(()),
        }
    }
}
