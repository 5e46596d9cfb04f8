//! How a state is read: the tail down to a position, then the cache, then what is on its way to the tree, then the
//! tree.

use crate::key;
use crate::keyspace::Entry;
use crate::overlay::Cell;
use crate::pending::{Base, Found};
use crate::state::State;
use crate::sync::lock;
use bytes::Bytes;
use hotwarm_types::Lsn;
use std::collections::BTreeSet;
use std::ops::Bound;

impl State {
    /// What is known of a key at `at`, which is at or past the commit position. A key that is not there, and of which
    /// nothing is known, has the version of the last thing that was forgotten.
    ///
    /// If the tree cannot be read, the key seems not to be there and `failure` is set: no answer may be made of it.
    pub(crate) fn latest(&mut self, key: &[u8], at: Lsn) -> Cell {
        if let Some(cell) = self.overlay.get(key, at) {
            return cell;
        }
        self.committed_cell(key)
    }

    fn committed_cell(&mut self, key: &[u8]) -> Cell {
        if let Some(cell) = self.cache.get(key) {
            return cell.clone();
        }
        let found = lock(&self.shared.pending).find(key);
        let generation = match found {
            Found::Cell(cell) => return cell,
            Found::Tree { generation } => generation,
        };
        let row = self.shared.tree.get(&key::data(generation, key));
        match row.and_then(|row| row.map(|row| key::decode_entry(&row)).transpose()) {
            Ok(Some(entry)) => {
                let cell = Cell { version: entry.version, entry: Some(entry) };
                self.cache.insert(&crate::codec::owned(key), cell.clone());
                cell
            }
            Ok(None) => Cell { version: self.cache.forgotten(), entry: None },
            Err(error) => {
                self.failure.get_or_insert(error);
                Cell { version: self.cache.forgotten(), entry: None }
            }
        }
    }

    /// Whether the tree, below everything in memory, has a key.
    fn tree_has(&mut self, generation: Lsn, key: &[u8]) -> bool {
        match self.shared.tree.get(&key::data(generation, key)) {
            Ok(row) => row.is_some(),
            Err(error) => {
                self.failure.get_or_insert(error);
                false
            }
        }
    }

    /// How many keys there are at `at`, expired and not yet reclaimed ones included. Costs a look into the tree for
    /// every key that has changed and is not fed yet.
    pub(crate) fn count_at(&mut self, at: Lsn) -> u64 {
        let uncommitted: BTreeSet<Bytes> = self.overlay.keys_after(Bound::Unbounded, usize::MAX).cloned().collect();
        if self.overlay.last_clear(at).is_some() {
            return uncommitted.iter().filter(|key| self.latest(key, at).entry.is_some()).count() as u64;
        }
        // A feed that goes on meanwhile moves keys to the tree; then the count is made again. That happens a few
        // times at most, since nothing is committed before this returns and so there is soon nothing to feed.
        loop {
            let mut base = lock(&self.shared.pending).base();
            base.changed.extend(uncommitted.iter().cloned());
            let mut count = base.count;
            for key in &base.changed {
                count += u64::from(self.latest(key, at).entry.is_some());
                count -= u64::from(self.base_has(&base, key)).min(count);
            }
            if lock(&self.shared.pending).steps == base.steps {
                return count;
            }
        }
    }

    /// Whether a key is among those that a base counts.
    fn base_has(&mut self, base: &Base, key: &[u8]) -> bool {
        if let Some(cell) = base.settled.as_ref().and_then(|layer| layer.get(key)) {
            return cell.entry.is_some();
        }
        base.generation.is_some_and(|generation| self.tree_has(generation, key))
    }

    /// Keys past `after` that may be there at `at`, about `count` of them, in order; and where to go on: `None` at
    /// the end. Every key between `after` and there that exists is among them.
    pub(crate) fn candidates(
        &mut self,
        at: Lsn,
        after: Option<&[u8]>,
        count: usize,
    ) -> (BTreeSet<Bytes>, Option<Bytes>) {
        let count = count.max(1);
        let bound = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut keys: BTreeSet<Bytes> = self.overlay.keys_after(bound, count).cloned().collect();
        if self.overlay.last_clear(at).is_none() {
            let generation = {
                let pending = lock(&self.shared.pending);
                keys.extend(pending.keys_after(bound, count).cloned());
                pending.visible_generation()
            };
            if let Some(generation) = generation {
                keys.extend(self.tree_keys(generation, after, count));
            }
        }
        // Each source gave its first `count` keys: the first `count` of them all are complete, what lies past them is
        // not.
        let next = if keys.len() >= count { keys.iter().nth(count - 1).cloned() } else { None };
        if let Some(last) = &next {
            keys.retain(|key| key <= last);
        }
        (keys, next)
    }

    fn tree_keys(&mut self, generation: Lsn, after: Option<&[u8]>, count: usize) -> Vec<Bytes> {
        let from = match after {
            Some(after) => Bound::Excluded(key::data(generation, after)),
            None => Bound::Included(key::generation_start(key::KEY, generation)),
        };
        let until = key::generation_end(key::KEY, generation);
        match self.shared.tree.scan(from.as_ref().map(|key| &key[..]), Some(&until), count) {
            Ok(rows) => rows.iter().map(|(row_key, _)| key::data_key(row_key)).collect(),
            Err(error) => {
                self.failure.get_or_insert(error);
                Vec::new()
            }
        }
    }

    /// A key that is there at `at` and `now_ms` and is not `hidden`: drawn at random from those in memory, or one of
    /// the first of all. `None` if none was found among the first thousands.
    pub(crate) fn draw(&mut self, at: Lsn, now_ms: u64, hidden: impl Fn(&[u8]) -> bool) -> Option<Bytes> {
        const TRIES: usize = 64;
        let shows = |state: &mut Self, key: &Bytes| {
            let live = |entry: Entry| !is_expired(entry.expires_at_ms, now_ms);
            !hidden(key) && state.latest(key, at).entry.is_some_and(live)
        };
        for _ in 0..TRIES {
            let index = self.roll();
            let Some(key) = self.cache.nth(index).cloned() else { break };
            if shows(self, &key) {
                return Some(key);
            }
        }
        let mut after = None::<Bytes>;
        for _ in 0..TRIES {
            let (keys, next) = self.candidates(at, after.as_deref(), TRIES);
            let start = self.roll() as usize % keys.len().max(1);
            let drawn = keys.iter().cycle().skip(start).take(keys.len()).find(|key| shows(self, key));
            if drawn.is_some() || next.is_none() {
                return drawn.cloned();
            }
            after = next;
        }
        None
    }

    /// The next number of a xorshift generator: good enough to draw a key, and the same on every machine.
    fn roll(&mut self) -> u64 {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        self.dice
    }
}

/// Whether a key with this expiry is gone at `now_ms`.
pub(crate) fn is_expired(expires_at_ms: Option<u64>, now_ms: u64) -> bool {
    expires_at_ms.is_some_and(|at| at <= now_ms)
}
