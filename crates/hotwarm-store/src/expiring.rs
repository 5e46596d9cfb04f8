//! Keys whose time has come, by group time (R35), and that nobody touches: how the hot finds and removes them, a few at a
//! time.
//!
//! They are found in the tree's index by expiry, which a [`crate::Feeder`] keeps: so a key is found once it is fed. A
//! cursor remembers how far the index is worked through, since rows of keys that are removed stay in it until the next
//! feed, and the engine pays for every removed row that a scan passes again. The removal is an operation of the log
//! like any other (R32): every node carries it out, none removes anything by itself, and a client that saw the key gone
//! was told no more than what the log says (INV-7).

use crate::execution::ExecuteError;
use crate::key;
use crate::limits::EXPIRE_SIZE_BYTES_MAX;
use crate::state::State;
use crate::sync::lock;
use crate::tree::TreeError;
use bytes::Bytes;
use hotwarm_types::Lsn;
use std::ops::Bound;

/// How far the index by expiry is worked through.
#[derive(Debug, Default)]
pub(crate) struct Cursor {
    /// Expiry and key of the next row to look at; no row before it is left, but of keys whose removal is on its way.
    at: Vec<u8>,
    /// The soonest expiry, in group time, of a row from there on: a lower bound.
    soonest_ms: u64,
    /// The last removal, as long as it is not committed: one at a time, so that they never crowd the log.
    open: Option<Lsn>,
}

impl Cursor {
    /// Everything up to here is committed.
    pub(crate) fn committed(&mut self, upto: Lsn) {
        self.open.take_if(|lsn| *lsn <= upto);
    }

    /// Operations were dropped: what they removed is there again.
    pub(crate) fn dropped(&mut self) {
        *self = Self::default();
    }

    /// Takes in what feeds have done since: they added rows from `fed_ms` on, and the first row there is has `first_ms`.
    fn follow(&mut self, fed_ms: u64, first_ms: u64) {
        let back = fed_ms.to_be_bytes();
        if back[..] <= self.at[..] {
            self.at = back.to_vec();
        }
        self.soonest_ms = self.soonest_ms.min(fed_ms);
        let first = first_ms.to_be_bytes();
        if self.at[..] < first[..] {
            self.at = first.to_vec();
            self.soonest_ms = self.soonest_ms.max(first_ms);
        }
    }
}

impl State {
    /// The group time, in milliseconds, before which [`State::expire`] will find nothing; `u64::MAX` if no key has an
    /// expiry. A lower bound: it may find nothing from then on either, for example before the next feed. While a
    /// removal is not committed there is nothing to find, whatever the time.
    #[must_use]
    pub fn next_expiry_ms(&self) -> u64 {
        if self.expiries.open.is_some() {
            return u64::MAX;
        }
        self.expiries.soonest_ms.min(lock(&self.shared.pending).soonest_expiry_ms())
    }

    /// How long the key that [`State::expire`] comes to next is past its time at group time `now_ms`, in milliseconds, as
    /// far as what is fed tells; `None` if nothing is due. It may be past by less.
    #[must_use]
    pub fn overdue_ms(&self, now_ms: u64) -> Option<u64> {
        let passed_ms = self.expiries.at.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
        let pending = lock(&self.shared.pending);
        let next_ms = self.expiries.soonest_ms.max(passed_ms).min(pending.fed_expiry_ms).max(pending.first_expiry_ms);
        now_ms.checked_sub(next_ms)
    }

    /// Removes some keys whose time has come at group time `now_ms`, as one operation for the log; for the hot. Tells how
    /// many. Each key is looked at as it is after everything executed so far, so one that was renewed meanwhile stays.
    /// Bounded by `count_max`, at least 1, and `EXPIRE_SIZE_BYTES_MAX`; zero while the last removal is not committed.
    ///
    /// # Errors
    /// [`ExecuteError::Tree`] if the index or a key cannot be read: the node is fenced.
    pub fn expire(&mut self, now_ms: u64, count_max: usize) -> Result<usize, ExecuteError> {
        if self.expiries.open.is_some() {
            return Ok(0);
        }
        let keys = self.take_expired(now_ms, count_max).map_err(ExecuteError::Tree)?;
        if keys.is_empty() {
            return Ok(0);
        }
        let mut execution = self.begin(now_ms);
        for key in &keys {
            execution.remove_expired(key);
        }
        let count = execution.changed_count();
        let executed = execution.finish(None, b"")?;
        self.expiries.open = executed.lsn;
        Ok(count)
    }

    /// The next keys of the index whose time has come; the cursor moves past them.
    fn take_expired(&mut self, now_ms: u64, count_max: usize) -> Result<Vec<Bytes>, TreeError> {
        let generation = {
            let mut pending = lock(&self.shared.pending);
            self.expiries.follow(std::mem::replace(&mut pending.fed_expiry_ms, u64::MAX), pending.first_expiry_ms);
            pending.visible_generation()
        };
        let Some(generation) = generation.filter(|_| self.overlay.last_clear(Lsn(u64::MAX)).is_none()) else {
            return Ok(Vec::new());
        };
        let mut from = key::generation_start(key::EXPIRY, generation);
        from.extend_from_slice(&self.expiries.at);
        let until = key::generation_end(key::EXPIRY, generation);
        let rows = self.shared.tree.scan(Bound::Included(&from), Some(&until), count_max)?;
        self.expiries.soonest_ms = if rows.len() < count_max { u64::MAX } else { 0 };
        let (mut keys, mut size_bytes) = (Vec::new(), 0);
        for (row_key, _) in &rows {
            let (expires_at_ms, key) = key::parse_expiry(row_key).ok_or(TreeError::Corrupt { what: "an expiry" })?;
            size_bytes += key.len();
            if expires_at_ms > now_ms || (size_bytes > EXPIRE_SIZE_BYTES_MAX && !keys.is_empty()) {
                self.expiries.soonest_ms = expires_at_ms;
                break;
            }
            self.expiries.at = key::after_expiry(row_key);
            keys.push(key);
        }
        Ok(keys)
    }
}
