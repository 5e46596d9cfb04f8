//! A bounded map in memory of committed keys in front of the tree, removals included.
//!
//! Eviction gives every key that was used since the hand last came by a second chance (CLOCK). A removal that is
//! evicted leaves one trace: [`Cache::forgotten`], a position that no forgotten removal is past. Whoever compares
//! versions of a key that is not there (WATCH) compares that, and may be told "changed" without need, but never
//! "unchanged" wrongly.

use crate::overlay::Cell;
use bytes::Bytes;
use hotwarm_types::Lsn;
use std::collections::{HashMap, VecDeque};

/// What a key costs beside its bytes, about: the map's slot, the ring's slot, the reference counts.
const OVERHEAD_BYTES: usize = 160;

/// What one call of [`Cache::resize`] lets go of at most.
const RESIZE_STEP_BYTES: usize = 1 << 20;

#[derive(Debug)]
struct Slot {
    cell: Cell,
    used: bool,
}

#[derive(Debug)]
pub(crate) struct Cache {
    slots: HashMap<Bytes, Slot>,
    /// Each cached key once, in the order in which the hand will pass.
    ring: VecDeque<Bytes>,
    size_bytes: usize,
    size_bytes_max: usize,
    forgotten: Lsn,
}

fn cost(key: &[u8], cell: &Cell) -> usize {
    let value = cell.entry.as_ref().map_or(0, |entry| crate::key::value_bytes(&entry.value).len());
    OVERHEAD_BYTES + key.len() + value
}

impl Cache {
    /// An empty cache of a state that is complete up to `forgotten`.
    pub(crate) fn new(size_bytes_max: usize, forgotten: Lsn) -> Self {
        Self { slots: HashMap::new(), ring: VecDeque::new(), size_bytes: 0, size_bytes_max, forgotten }
    }

    /// The version of any key that is neither cached nor held anywhere else: no removal of it is later.
    pub(crate) fn forgotten(&self) -> Lsn {
        self.forgotten
    }

    pub(crate) fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    pub(crate) fn get(&mut self, key: &[u8]) -> Option<&Cell> {
        let slot = self.slots.get_mut(key)?;
        slot.used = true;
        Some(&slot.cell)
    }

    /// A cached key, by a number of any size.
    pub(crate) fn nth(&self, number: u64) -> Option<&Bytes> {
        let count = self.ring.len() as u64;
        self.ring.get(number.checked_rem(count)? as usize)
    }

    /// Sets what is known of a key.
    pub(crate) fn insert(&mut self, key: &Bytes, cell: Cell) {
        self.size_bytes += cost(key, &cell);
        match self.slots.get_mut(key) {
            Some(slot) => {
                self.size_bytes -= cost(key, &slot.cell);
                *slot = Slot { cell, used: true };
            }
            None => {
                self.slots.insert(key.clone(), Slot { cell, used: false });
                self.ring.push_back(key.clone());
            }
        }
        while self.size_bytes > self.size_bytes_max && self.evict() {}
    }

    /// Moves the bound towards `size_bytes_max`, down by a step at most; true once it is there.
    pub(crate) fn resize(&mut self, size_bytes_max: usize) -> bool {
        let step = self.size_bytes.min(self.size_bytes_max).saturating_sub(RESIZE_STEP_BYTES);
        self.size_bytes_max = size_bytes_max.max(step);
        while self.size_bytes > self.size_bytes_max && self.evict() {}
        self.size_bytes_max == size_bytes_max
    }

    /// All keys are gone as of `at`.
    pub(crate) fn clear(&mut self, at: Lsn) {
        self.slots.clear();
        self.ring.clear();
        self.size_bytes = 0;
        self.forgotten = self.forgotten.max(at);
    }

    /// Moves the hand to the next key that was not used and drops it; false if there is none at all.
    fn evict(&mut self) -> bool {
        while let Some(key) = self.ring.pop_front() {
            let Some(slot) = self.slots.get_mut(&key) else { continue };
            if slot.used {
                slot.used = false;
                self.ring.push_back(key);
                continue;
            }
            self.size_bytes -= cost(&key, &slot.cell);
            if slot.cell.entry.is_none() {
                self.forgotten = self.forgotten.max(slot.cell.version);
            }
            self.slots.remove(&key);
            return true;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn removal(version: u64) -> Cell {
        Cell { version: Lsn(version), entry: None }
    }

    fn key(number: u32) -> Bytes {
        Bytes::copy_from_slice(&number.to_be_bytes())
    }

    #[test]
    fn it_stays_within_its_bound_and_keeps_what_is_used() {
        let mut cache = Cache::new(10 * (OVERHEAD_BYTES + 4), Lsn(3));
        for number in 0..100 {
            cache.insert(&key(number), removal(u64::from(number) + 10));
            assert!(cache.get(&key(0)).is_some(), "{number}: the first key is used all the time");
        }
        assert_eq!(cache.slots.len(), 10);
        assert_eq!(cache.ring.len(), 10);
        assert!(cache.forgotten() >= Lsn(10 + 89), "removals that were evicted are not past it");
    }

    #[test]
    fn a_lower_bound_is_reached_in_steps_and_a_higher_one_at_once() {
        let cost = OVERHEAD_BYTES + 4;
        let mut cache = Cache::new(8 << 20, Lsn::ZERO);
        let count = (3 << 20) / cost as u32;
        (0..count).for_each(|number| cache.insert(&key(number), removal(1)));
        let mut steps = 0;
        while !cache.resize(cost * 10) {
            steps += 1;
            assert!(cache.size_bytes() >= (3 << 20) - steps * RESIZE_STEP_BYTES - 2 * cost, "step {steps}");
        }
        assert_eq!((steps, cache.slots.len()), (2, 10));
        assert!(cache.resize(1 << 20));
        (0..20).for_each(|number| cache.insert(&key(number), removal(2)));
        assert!(cache.slots.len() >= 20);
    }

    #[test]
    fn replacing_a_key_counts_it_once() {
        let mut cache = Cache::new(1 << 20, Lsn::ZERO);
        for version in 1..5 {
            cache.insert(&key(1), removal(version));
        }
        assert_eq!(cache.size_bytes(), OVERHEAD_BYTES + 4);
        cache.clear(Lsn(9));
        assert_eq!((cache.size_bytes(), cache.forgotten()), (0, Lsn(9)));
        assert_eq!(cache.get(&key(1)), None);
    }
}
