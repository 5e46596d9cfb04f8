//! One write command, or one transaction, while it runs on the hot.

use crate::codec::owned;
use crate::effect::{Effect, Identity, Operation};
use crate::keyspace::{Entry, Keyspace};
use crate::limits::{KEY_SIZE_BYTES_MAX, REPLY_SIZE_BYTES_MAX, VALUE_SIZE_BYTES_MAX};
use crate::overlay::Cell;
use crate::reading::is_expired;
use crate::state::State;
use crate::tree::TreeError;
use bytes::Bytes;
use hotwarm_types::limits::BLOCK_SIZE_BYTES_MAX;
use hotwarm_types::{Lsn, SessionId};
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;

/// What came of an execution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Executed {
    /// The position that holds its effects; `None`: it changed nothing, and nothing was logged.
    pub lsn: Option<Lsn>,
    /// The highest position of anything it looked at: a reply without effects waits until that is committed in the same
    /// epoch (R33). A reply with effects waits for `lsn`, which is past it.
    pub touched: Lsn,
}

/// Why an execution had to be dropped. Nothing of it is left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExecuteError {
    /// A key is longer than the limit.
    KeyTooLong {
        /// Its length in bytes.
        size_bytes: usize,
    },
    /// A value is longer than the limit.
    ValueTooLong {
        /// Its length in bytes.
        size_bytes: usize,
    },
    /// Its effects do not fit one block.
    TooLarge {
        /// Their size in bytes.
        size_bytes: usize,
    },
    /// The tree could not be read: the node is fenced.
    Tree(TreeError),
}

impl fmt::Display for ExecuteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KeyTooLong { size_bytes } => {
                write!(f, "a key of {size_bytes} bytes is longer than the {KEY_SIZE_BYTES_MAX} that are allowed")
            }
            Self::ValueTooLong { size_bytes } => {
                write!(f, "a value of {size_bytes} bytes is longer than the {VALUE_SIZE_BYTES_MAX} that are allowed")
            }
            Self::TooLarge { size_bytes } => write!(
                f,
                "the changes of one command or transaction take {size_bytes} bytes, more than the {BLOCK_SIZE_BYTES_MAX} \
                 that are allowed"
            ),
            Self::Tree(_) => write!(f, "the data could not be read"),
        }
    }
}

impl std::error::Error for ExecuteError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Tree(error) => Some(error),
            Self::KeyTooLong { .. } | Self::ValueTooLong { .. } | Self::TooLarge { .. } => None,
        }
    }
}

impl State {
    /// Logs an operation that changes nothing and carries group time `now_ms` (R35), or the greatest stamp seen if that is
    /// later; for the hot. Once it is committed no node's group time is ever before it again.
    pub fn log_time(&mut self, now_ms: u64) -> Lsn {
        let operation = Operation::default();
        let mut encoded = Vec::new();
        operation.encode(&mut encoded);
        self.append(operation, &encoded, now_ms.max(self.greatest_stamp_ms()))
    }
}

/// What this execution has made of a key.
#[derive(Debug)]
struct Local {
    entry: Option<Entry>,
    /// Whether the key was there before; `None` until somebody has looked.
    before: Option<bool>,
}

/// A [`Keyspace`] that sees everything executed so far and collects effects of its own. They become an operation of
/// the log with [`Execution::finish`]; dropped without it, the execution never was.
#[derive(Debug)]
pub struct Execution<'a> {
    state: &'a mut State,
    now_ms: u64,
    touched: Lsn,
    cleared: bool,
    keys: BTreeMap<Bytes, Local>,
    sessions: Vec<Effect>,
    refused: Option<ExecuteError>,
    /// A walk passed over keys by a time that is not committed yet (see [`crate::Seen::leans_on_time`]).
    leans_on_time: bool,
}

impl<'a> Execution<'a> {
    pub(crate) fn new(state: &'a mut State, now_ms: u64) -> Self {
        Self {
            state,
            now_ms,
            touched: Lsn::ZERO,
            cleared: false,
            keys: BTreeMap::new(),
            sessions: Vec::new(),
            refused: None,
            leans_on_time: false,
        }
    }

    /// Opens a session, before any identity of this operation is remembered in it.
    pub fn open_session(&mut self, session: SessionId) {
        self.sessions.push(Effect::SessionOpened { session });
    }

    /// Forgets a session (see [`State::idle_sessions`]).
    pub fn expire_session(&mut self, session: SessionId) {
        self.sessions.push(Effect::SessionExpired { session });
    }

    /// Removes a key if its time has come.
    pub(crate) fn remove_expired(&mut self, key: &[u8]) {
        // Looking is enough: whoever finds a key expired logs its removal.
        let _ = self.get(key);
    }

    /// How many keys it has changed.
    pub(crate) fn changed_count(&self) -> usize {
        self.keys.len()
    }

    /// Ends the execution: its effects, if there are any, take the next position and will be part of the next block.
    /// With an `identity`, its session remembers `reply`; an operation without effects has nothing that a retry could
    /// double and is not remembered. It is logged only for the time, where it has leaned on that.
    ///
    /// # Errors
    /// [`ExecuteError`]; nothing of the execution is left.
    pub fn finish(mut self, identity: Option<Identity>, reply: &[u8]) -> Result<Executed, ExecuteError> {
        let effects = self.effects();
        if let Some(error) = self.refused {
            return Err(error);
        }
        if let Some(error) = &self.state.failure {
            return Err(ExecuteError::Tree(error.clone()));
        }
        if effects.is_empty() {
            let lsn = self.leans_on_time.then(|| self.state.log_time(self.now_ms));
            return Ok(Executed { lsn, touched: self.touched });
        }
        let kept = identity.is_some() && reply.len() <= REPLY_SIZE_BYTES_MAX;
        let operation = Operation { identity, effects, reply: kept.then(|| owned(reply)) };
        let mut encoded = Vec::new();
        operation.encode(&mut encoded);
        if encoded.len() >= BLOCK_SIZE_BYTES_MAX {
            return Err(ExecuteError::TooLarge { size_bytes: encoded.len() });
        }
        let lsn = self.state.append(operation, &encoded, self.now_ms);
        Ok(Executed { lsn: Some(lsn), touched: self.touched })
    }

    /// The effects in the order in which they apply: sessions, the clear, then each key once.
    fn effects(&mut self) -> Vec<Effect> {
        let mut effects = std::mem::take(&mut self.sessions);
        if self.cleared {
            effects.push(Effect::Clear);
        }
        for (key, local) in std::mem::take(&mut self.keys) {
            match local.entry {
                Some(Entry { value, expires_at_ms, .. }) => effects.push(Effect::Put { key, value, expires_at_ms }),
                None if self.was_there(&key, local.before) => effects.push(Effect::Delete { key }),
                None => {}
            }
        }
        effects
    }

    /// Whether a walk shows a key. The removal of one that has expired is not logged with the rest, as with
    /// [`Keyspace::get`]: there may be any number of them.
    fn is_there(&mut self, key: &[u8]) -> bool {
        if let Some(local) = self.keys.get(key) {
            return local.entry.as_ref().is_some_and(|entry| !is_expired(entry.expires_at_ms, self.now_ms));
        }
        let Some(entry) = (if self.cleared { None } else { self.base(key).entry }) else { return false };
        let expired = is_expired(entry.expires_at_ms, self.now_ms);
        self.leans_on_time |= expired && !is_expired(entry.expires_at_ms, self.state.committed_stamp_ms());
        !expired
    }

    fn was_there(&mut self, key: &[u8], known: Option<bool>) -> bool {
        !self.cleared && known.unwrap_or_else(|| self.base(key).entry.is_some())
    }

    /// What was there before this execution.
    fn base(&mut self, key: &[u8]) -> Cell {
        let at = self.state.end();
        let cell = self.state.latest(key, at);
        self.touched = self.touched.max(cell.version);
        cell
    }

    fn touch_all(&mut self) {
        let end = self.state.end();
        if end > self.state.committed().lsn {
            self.touched = self.touched.max(end);
        }
    }
}

impl Keyspace for Execution<'_> {
    fn now_ms(&self) -> u64 {
        self.now_ms
    }

    fn get(&mut self, key: &[u8]) -> Option<Entry> {
        if let Some(local) = self.keys.get(key) {
            return local.entry.clone().filter(|entry| !is_expired(entry.expires_at_ms, self.now_ms));
        }
        if self.cleared {
            return None;
        }
        let entry = self.base(key).entry?;
        if is_expired(entry.expires_at_ms, self.now_ms) {
            // Whoever sees that a key is gone sees it for good: the removal is logged with what was done upon it.
            self.keys.insert(owned(key), Local { entry: None, before: Some(true) });
            return None;
        }
        Some(entry)
    }

    fn put(&mut self, key: &[u8], entry: Entry) {
        let value_size_bytes = crate::key::value_bytes(&entry.value).len();
        if key.len() > KEY_SIZE_BYTES_MAX {
            self.refused.get_or_insert(ExecuteError::KeyTooLong { size_bytes: key.len() });
        } else if value_size_bytes > VALUE_SIZE_BYTES_MAX {
            self.refused.get_or_insert(ExecuteError::ValueTooLong { size_bytes: value_size_bytes });
        }
        let entry = Some(Entry { value: compact(entry.value), version: self.state.end().next(), ..entry });
        match self.keys.get_mut(key) {
            Some(local) => local.entry = entry,
            None => {
                self.keys.insert(owned(key), Local { entry, before: None });
            }
        }
    }

    fn delete(&mut self, key: &[u8]) -> bool {
        let there = self.get(key).is_some();
        if there {
            match self.keys.get_mut(key) {
                Some(local) => local.entry = None,
                None => {
                    self.keys.insert(owned(key), Local { entry: None, before: Some(true) });
                }
            }
        }
        there
    }

    fn clear(&mut self) {
        self.cleared = true;
        self.keys.clear();
    }

    fn len(&mut self) -> u64 {
        self.touch_all();
        let at = self.state.end();
        let mut count = if self.cleared { 0 } else { self.state.count_at(at) };
        for (key, local) in &self.keys {
            let before = !self.cleared && self.state.latest(key, at).entry.is_some();
            count = count + u64::from(local.entry.is_some()) - u64::from(before && count > 0);
        }
        count
    }

    fn version(&mut self, key: &[u8]) -> Lsn {
        if self.cleared || self.keys.contains_key(key) { self.state.end().next() } else { self.base(key).version }
    }

    fn walk(&mut self, after: Option<&[u8]>, count: usize) -> (Vec<Bytes>, Option<Bytes>) {
        self.touch_all();
        let at = self.state.end();
        let (mut keys, next) =
            if self.cleared { (Default::default(), None) } else { self.state.candidates(at, after, count) };
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let until = next.as_ref().map_or(Bound::Unbounded, |next| Bound::Included(&next[..]));
        keys.extend(self.keys.range::<[u8], _>((from, until)).map(|(key, _)| key.clone()));
        keys.retain(|key| self.is_there(key));
        (keys.into_iter().collect(), next)
    }

    fn any_key(&mut self) -> Option<Bytes> {
        self.touch_all();
        let at = self.state.end();
        let drawn =
            if self.cleared { None } else { self.state.draw(at, self.now_ms, |key| self.keys.contains_key(key)) };
        let live =
            |local: &Local| local.entry.as_ref().is_some_and(|entry| !is_expired(entry.expires_at_ms, self.now_ms));
        drawn.or_else(|| self.keys.iter().find(|(_, local)| live(local)).map(|(key, _)| key.clone()))
    }
}

/// A value that does not keep a much larger buffer alive, such as the one that a request was read into.
fn compact(value: crate::keyspace::Value) -> crate::keyspace::Value {
    const COPIED_SIZE_BYTES_MAX: usize = 16 << 10;
    match value {
        crate::keyspace::Value::String(bytes) if bytes.len() <= COPIED_SIZE_BYTES_MAX => {
            crate::keyspace::Value::String(owned(&bytes))
        }
        large @ crate::keyspace::Value::String(_) => large,
    }
}
