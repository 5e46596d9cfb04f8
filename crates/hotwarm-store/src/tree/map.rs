//! The tree in memory: the plainest thing that keeps the contract, for the simulator and as a judge of the others.
//!
//! Every version of a row is kept with its position until a flush makes a newer one durable and no pin can want it, so
//! that [`MapTree::crash`] can answer what a disk would hold.

use super::{Batch, Pin, Rows, Tree, TreeError, check_sorted};
use crate::sync::lock;
use bytes::Bytes;
use hotwarm_types::Lsn;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::{Arc, Mutex};

/// Rows with their versions, oldest first; a version of `None` is a removal.
type Versions = BTreeMap<Bytes, Vec<(Lsn, Option<Bytes>)>>;

#[derive(Debug, Default)]
struct Inner {
    rows: Versions,
    applied: Lsn,
    durable: Lsn,
    unflushed_size_bytes: u64,
    /// Rows that may hold more than what a crash or a pin can bring back.
    untidy: BTreeSet<Bytes>,
    /// How many pins there are at each position.
    pins: BTreeMap<Lsn, usize>,
}

/// A tree in memory. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct MapTree {
    inner: Arc<Mutex<Inner>>,
}

impl MapTree {
    /// An empty tree.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What a reopened tree would be after a crash at this moment: everything that was flushed. This one is left as
    /// it is.
    #[must_use]
    pub fn crash(&self) -> Self {
        let inner = lock(&self.inner);
        let durable = inner.durable;
        let survivors = |versions: &Vec<(Lsn, Option<Bytes>)>| {
            versions.iter().rev().find(|(at, _)| *at <= durable).and_then(|(at, row)| row.clone().map(|row| (*at, row)))
        };
        let rows = inner
            .rows
            .iter()
            .filter_map(|(key, versions)| survivors(versions).map(|(at, row)| (key.clone(), vec![(at, Some(row))])))
            .collect();
        let inner = Inner { rows, applied: durable, durable, ..Inner::default() };
        Self { inner: Arc::new(Mutex::new(inner)) }
    }
}

impl Inner {
    fn scan(&self, from: Bound<&[u8]>, until: Option<&[u8]>, at: Lsn, count: usize) -> Rows {
        if let (Bound::Included(low) | Bound::Excluded(low), Some(high)) = (from, until)
            && low >= high
        {
            return Rows::new();
        }
        self.rows
            .range::<[u8], _>((from, until.map_or(Bound::Unbounded, Bound::Excluded)))
            .filter_map(|(key, versions)| seen(versions, at).map(|row| (key.clone(), row)))
            .take(count)
            .collect()
    }

    /// Drops the versions that neither a crash nor a pin can bring back.
    fn tidy(&mut self) {
        let floor = self.pins.keys().next().copied().unwrap_or(self.durable).min(self.durable);
        let Self { rows, untidy, .. } = self;
        untidy.retain(|key| {
            let Some(versions) = rows.get_mut(key) else { return false };
            let keep_from = versions.iter().rposition(|(at, _)| *at <= floor).unwrap_or(0);
            versions.drain(..keep_from);
            if matches!(versions.as_slice(), [(at, None)] if *at <= floor) {
                rows.remove(key);
                return false;
            }
            versions.len() > 1 || versions.first().is_some_and(|(_, row)| row.is_none())
        });
    }
}

fn seen(versions: &[(Lsn, Option<Bytes>)], at: Lsn) -> Option<Bytes> {
    versions.iter().rev().find(|(version, _)| *version <= at).and_then(|(_, row)| row.clone())
}

impl Tree for MapTree {
    fn apply(&self, at: Lsn, batch: &Batch) -> Result<(), TreeError> {
        let mut inner = lock(&self.inner);
        if at <= inner.applied {
            return Err(TreeError::OutOfOrder { applied: inner.applied, at });
        }
        for (key, value) in batch.iter() {
            inner.unflushed_size_bytes += (key.len() + value.map_or(0, Bytes::len)) as u64;
            inner.rows.entry(key.clone()).or_default().push((at, value.cloned()));
            inner.untidy.insert(key.clone());
        }
        inner.applied = at;
        Ok(())
    }

    fn applied(&self) -> Lsn {
        lock(&self.inner).applied
    }

    fn durable(&self) -> Lsn {
        lock(&self.inner).durable
    }

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, TreeError> {
        let inner = lock(&self.inner);
        Ok(inner.rows.get(key).and_then(|versions| seen(versions, inner.applied)))
    }

    fn scan(&self, from: Bound<&[u8]>, until: Option<&[u8]>, count: usize) -> Result<Rows, TreeError> {
        let inner = lock(&self.inner);
        Ok(inner.scan(from, until, inner.applied, count))
    }

    fn pin(&self) -> Result<Box<dyn Pin>, TreeError> {
        let mut inner = lock(&self.inner);
        let at = inner.applied;
        *inner.pins.entry(at).or_default() += 1;
        Ok(Box::new(MapPin { tree: self.clone(), at }))
    }

    fn flush(&self) -> Result<Lsn, TreeError> {
        let mut inner = lock(&self.inner);
        inner.durable = inner.applied;
        inner.unflushed_size_bytes = 0;
        inner.tidy();
        Ok(inner.durable)
    }

    fn load(&self, rows: &Rows) -> Result<(), TreeError> {
        check_sorted(rows)?;
        let mut inner = lock(&self.inner);
        for (key, row) in rows {
            let at = inner.durable;
            inner.rows.insert(key.clone(), vec![(at, Some(row.clone()))]);
        }
        Ok(())
    }

    fn maintain(&self) -> Result<(), TreeError> {
        Ok(())
    }

    fn unflushed_size_bytes(&self) -> u64 {
        lock(&self.inner).unflushed_size_bytes
    }

    fn size_bytes(&self) -> u64 {
        let inner = lock(&self.inner);
        let newest =
            |versions: &Vec<(Lsn, Option<Bytes>)>| versions.last().and_then(|(_, row)| row.as_ref()).map(Bytes::len);
        inner.rows.iter().filter_map(|(key, versions)| newest(versions).map(|size| (key.len() + size) as u64)).sum()
    }
}

struct MapPin {
    tree: MapTree,
    at: Lsn,
}

impl Pin for MapPin {
    fn at(&self) -> Lsn {
        self.at
    }

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, TreeError> {
        Ok(lock(&self.tree.inner).rows.get(key).and_then(|versions| seen(versions, self.at)))
    }

    fn scan(&self, from: Bound<&[u8]>, until: Option<&[u8]>, count: usize) -> Result<Rows, TreeError> {
        Ok(lock(&self.tree.inner).scan(from, until, self.at, count))
    }
}

impl Drop for MapPin {
    fn drop(&mut self) {
        let mut inner = lock(&self.tree.inner);
        if let Some(count) = inner.pins.get_mut(&self.at) {
            *count -= 1;
            if *count == 0 {
                inner.pins.remove(&self.at);
            }
        }
    }
}
