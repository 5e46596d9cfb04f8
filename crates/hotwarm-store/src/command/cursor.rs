//! Where a SCAN goes on.
//!
//! Keys are walked in the order of their bytes, so the place of a walk is a key; a cursor is a number. The number is a
//! hash of the key, and a bounded table on each node remembers which key it stands for. A cursor that the table does
//! not know (it was given by another node, before a takeover, or long ago) is looked for among the first keys in order;
//! if that fails too, the walk starts again: SCAN may return a key twice and never leaves out one that was there all
//! the time. So a walk survives a change of the node and of the hot, and no failover turns into an error.
//!
//! The alternative, keys ordered by hash on disk so that the cursor is the place itself, needs no table; it would cost
//! every other walk (delta sync, export, reads of neighbouring keys) the order of the keys.
//!
//! Cursors stay below 2^52: some clients keep them in a floating-point number.

use crate::keyspace::Keyspace;
use bytes::Bytes;
use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};

const CURSOR_BITS: u32 = 52;
/// Walks that may be under way; the oldest cursor is forgotten first.
const CURSORS_MAX: usize = 16_384;
/// Bytes of the keys remembered.
const KEYS_SIZE_BYTES_MAX: usize = 8 << 20;
/// Keys looked at in search of one that a forgotten cursor stands for, and how many at a time.
const SEARCHED_MAX: usize = 65_536;
const SEARCHED_AT_ONCE: usize = 4_096;

/// The cursors that this node has given out.
#[derive(Debug, Default)]
pub(crate) struct Cursors(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    keys: HashMap<u64, Bytes>,
    /// The cursors, oldest first.
    order: VecDeque<u64>,
    size_bytes: usize,
}

impl Cursors {
    /// The number that stands for going on after `key`; never 0.
    pub(crate) fn remember(&self, key: &[u8]) -> u64 {
        let mut table = self.table();
        let mut cursor = hash(key);
        // Another key may have the number: then take the next one, so that a collision cannot misplace a walk.
        loop {
            match table.keys.get(&cursor) {
                Some(known) if known == key => return cursor,
                Some(_) => cursor = (cursor + 1) % (1 << CURSOR_BITS),
                None if cursor == 0 => cursor = 1,
                None => break,
            }
        }
        table.insert(cursor, key);
        cursor
    }

    /// The key after which a walk goes on; `None` means from the start.
    pub(crate) fn resolve(&self, cursor: u64, keys: &mut dyn Keyspace) -> Option<Bytes> {
        let known = self.table().keys.get(&cursor).cloned();
        known.or_else(|| search(cursor, keys))
    }

    /// The table is whole between any two calls, so a panic elsewhere while it was locked does no harm.
    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn insert(&mut self, cursor: u64, key: &[u8]) {
        self.keys.insert(cursor, Bytes::copy_from_slice(key));
        self.order.push_back(cursor);
        self.size_bytes += key.len();
        while self.order.len() > CURSORS_MAX || self.size_bytes > KEYS_SIZE_BYTES_MAX {
            let Some(oldest) = self.order.pop_front() else { break };
            if let Some(key) = self.keys.remove(&oldest) {
                self.size_bytes -= key.len();
            }
        }
    }
}

fn search(cursor: u64, keys: &mut dyn Keyspace) -> Option<Bytes> {
    let mut after: Option<Bytes> = None;
    let mut searched = 0;
    while searched < SEARCHED_MAX {
        let (found, next) = keys.walk(after.as_deref(), SEARCHED_AT_ONCE);
        searched += SEARCHED_AT_ONCE;
        if let Some(key) = found.into_iter().find(|key| hash(key) == cursor) {
            return Some(key);
        }
        after = Some(next?);
    }
    None
}

/// The same on every node of one version; across versions it may change, and then a walk starts again.
fn hash(key: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(key);
    (hasher.finish() >> (64 - CURSOR_BITS)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::testing::MapKeyspace;

    #[test]
    fn a_forgotten_cursor_is_found_again_or_starts_over() {
        let mut keys = MapKeyspace::default();
        for index in 0..10_000 {
            keys.set(&format!("key:{index:05}"), "v");
        }
        let cursor = Cursors::default().remember(b"key:08000");
        let other_node = Cursors::default();
        assert_eq!(other_node.resolve(cursor, &mut keys).as_deref(), Some(&b"key:08000"[..]));
        keys.delete(b"key:08000");
        assert_eq!(other_node.resolve(cursor, &mut keys), None);
    }

    #[test]
    fn the_table_is_bounded() {
        let cursors = Cursors::default();
        let first = cursors.remember(b"first");
        for index in 0..CURSORS_MAX {
            assert_ne!(cursors.remember(format!("key:{index}").as_bytes()), 0);
        }
        let table = cursors.table();
        assert_eq!((table.keys.len(), table.order.len()), (CURSORS_MAX, CURSORS_MAX));
        assert!(!table.keys.contains_key(&first));
    }

    #[test]
    fn a_collision_gets_a_number_of_its_own() {
        let cursors = Cursors::default();
        let taken = hash(b"mine");
        cursors.table().insert(taken, b"other");
        let mine = cursors.remember(b"mine");
        assert_eq!(mine, (taken + 1) % (1 << CURSOR_BITS));
        let mut keys = MapKeyspace::default();
        assert_eq!(cursors.resolve(mine, &mut keys).as_deref(), Some(&b"mine"[..]));
        assert_eq!(cursors.resolve(taken, &mut keys).as_deref(), Some(&b"other"[..]));
    }
}
