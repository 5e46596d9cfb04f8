//! A read of the state as of one position.

use crate::keyspace::{Entry, Keyspace};
use crate::reading::is_expired;
use crate::state::State;
use crate::tree::TreeError;
use bytes::Bytes;
use hotwarm_types::Lsn;

/// What a finished read leaned on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The highest position of anything it looked at. If that is past the commit position, the answer waits for it
    /// (R33).
    pub touched: Lsn,
    /// It took a key for gone by the time it was told although nothing in the log says so yet. A hot whose clock runs
    /// ahead of the log executes the command again as a write ([`State::begin`]), which logs the removal: else a
    /// takeover could show the key again.
    pub judged_expired: bool,
    /// A walk over keys passed some over by the time it was told, which nothing in the log has reached yet. There may be any
    /// number of them: instead of their removals a hot logs the time ([`State::log_time`]), and its answer waits for that.
    pub leans_on_time: bool,
}

/// A read-only [`Keyspace`].
///
/// Nothing can be written through it: the writing methods panic, which only a command that is marked as reading and
/// writes can reach, a bug of the command table.
#[derive(Debug)]
pub struct View<'a> {
    state: &'a mut State,
    now_ms: u64,
    at: Lsn,
    touched: Lsn,
    judged_expired: bool,
    leans_on_time: bool,
}

impl<'a> View<'a> {
    pub(crate) fn new(state: &'a mut State, now_ms: u64, at: Lsn) -> Self {
        Self { state, now_ms, at, touched: Lsn::ZERO, judged_expired: false, leans_on_time: false }
    }

    /// Ends the read.
    ///
    /// # Errors
    /// [`TreeError`] if something could not be read: then nothing that was answered may be used, and the node is
    /// fenced.
    pub fn finish(self) -> Result<Seen, TreeError> {
        match &self.state.failure {
            Some(error) => Err(error.clone()),
            None => Ok(Seen {
                touched: self.touched,
                judged_expired: self.judged_expired,
                leans_on_time: self.leans_on_time,
            }),
        }
    }

    /// Whether a walk shows a key.
    fn is_there(&mut self, key: &[u8]) -> bool {
        let cell = self.state.latest(key, self.at);
        self.touched = self.touched.max(cell.version);
        let Some(entry) = cell.entry else { return false };
        let expired = is_expired(entry.expires_at_ms, self.now_ms);
        // Group time never goes back behind what is committed: by that the key is gone for good.
        self.leans_on_time |= expired && !is_expired(entry.expires_at_ms, self.state.committed_stamp_ms());
        !expired
    }

    fn touch_all(&mut self) {
        if self.at > self.state.committed().lsn {
            self.touched = self.touched.max(self.at.min(self.state.end()));
        }
    }
}

impl Keyspace for View<'_> {
    fn now_ms(&self) -> u64 {
        self.now_ms
    }

    fn get(&mut self, key: &[u8]) -> Option<Entry> {
        let cell = self.state.latest(key, self.at);
        self.touched = self.touched.max(cell.version);
        let expired = cell.entry.as_ref().is_some_and(|entry| is_expired(entry.expires_at_ms, self.now_ms));
        self.judged_expired |= expired;
        cell.entry.filter(|_| !expired)
    }

    fn put(&mut self, _key: &[u8], _entry: Entry) {
        panic!("a command that is marked as reading writes a key");
    }

    fn delete(&mut self, _key: &[u8]) -> bool {
        panic!("a command that is marked as reading deletes a key");
    }

    fn clear(&mut self) {
        panic!("a command that is marked as reading clears the keys");
    }

    fn len(&mut self) -> u64 {
        self.touch_all();
        self.state.count_at(self.at)
    }

    fn version(&mut self, key: &[u8]) -> Lsn {
        let cell = self.state.latest(key, self.at);
        self.touched = self.touched.max(cell.version);
        cell.version
    }

    fn walk(&mut self, after: Option<&[u8]>, count: usize) -> (Vec<Bytes>, Option<Bytes>) {
        self.touch_all();
        let (mut keys, next) = self.state.candidates(self.at, after, count);
        keys.retain(|key| self.is_there(key));
        (keys.into_iter().collect(), next)
    }

    fn any_key(&mut self) -> Option<Bytes> {
        self.touch_all();
        self.state.draw(self.at, self.now_ms, |_| false)
    }
}
