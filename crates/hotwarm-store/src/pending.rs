//! Committed changes on their way to the tree: the last value of each key since the last feed.
//!
//! The committing thread adds to the active layer; the feeding thread takes the whole layer away, writes it to the
//! tree as one batch, and then lets go of it. A reader looks in the active layer, then in the one that is being fed,
//! then in the tree, so a change is never in none of them. The lock around this is held for one look or one small
//! addition only.

use crate::census::Census;
use crate::key::Meta;
use crate::keyspace::Entry;
use crate::overlay::Cell;
use crate::session::SessionChanges;
use crate::sync::lock;
use crate::tree::Tree;
use bytes::Bytes;
use hotwarm_types::{EntryId, Epoch, Lsn};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Bound;
use std::sync::{Arc, Mutex};

/// Changes of a run of whole blocks.
#[derive(Debug, Default)]
pub(crate) struct Layer {
    /// The last change of each key since the clear, if there was one.
    pub keys: BTreeMap<Bytes, Cell>,
    /// The last clear: what the tree holds no longer shows.
    pub cleared: Option<Lsn>,
    pub sessions: SessionChanges,
    /// Epochs that began, with their first positions.
    pub epochs: Vec<(Epoch, Lsn)>,
    /// The last entry, and its group time; `None` while there is no block.
    pub end: Option<(EntryId, u64)>,
    /// The soonest expiry among all that were set; `None`: none was.
    pub soonest_expiry_ms: Option<u64>,
    /// What the changes weigh, about; of replaced ones too, until the layer is fed.
    pub size_bytes: u64,
}

impl Layer {
    pub(crate) fn set(&mut self, key: &Bytes, version: Lsn, entry: Option<Entry>) {
        let value = entry.as_ref().map_or(0, |entry| crate::key::value_bytes(&entry.value).len());
        self.size_bytes += (96 + key.len() + value) as u64;
        let expiry = entry.as_ref().and_then(|entry| entry.expires_at_ms);
        self.soonest_expiry_ms = [self.soonest_expiry_ms, expiry].into_iter().flatten().min();
        self.keys.insert(key.clone(), Cell { version, entry });
    }

    pub(crate) fn clear(&mut self, at: Lsn) {
        self.keys.clear();
        self.cleared = Some(at);
        self.size_bytes += 32;
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<Cell> {
        match (self.keys.get(key), self.cleared) {
            (Some(cell), _) => Some(cell.clone()),
            (None, Some(version)) => Some(Cell { version, entry: None }),
            (None, None) => None,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Pending {
    pub active: Layer,
    pub feeding: Option<Arc<Layer>>,
    /// What the tree will hold with the layer that is being fed; set before any of it is written.
    pub feeding_meta: Option<Meta>,
    /// What the tree holds without these.
    pub fed: Meta,
    /// Grows whenever a layer begins to be fed, is about to be written, or is written.
    pub steps: u64,
    /// The first expiry in the tree's index, as of the last feed; `u64::MAX`: it is empty.
    pub first_expiry_ms: u64,
    /// The soonest expiry that feeds have put into the index since the executing thread asked last; `u64::MAX`: none.
    pub fed_expiry_ms: u64,
}

/// A count of keys that is known, and the keys that have changed since. True for as long as `steps` stays.
#[derive(Debug)]
pub(crate) struct Base {
    pub count: u64,
    /// Where the tree has the keys that are counted; `None`: it has none of them.
    pub generation: Option<Lsn>,
    /// Changes that are counted already, whether the tree has them yet or not.
    pub settled: Option<Arc<Layer>>,
    pub changed: BTreeSet<Bytes>,
    pub steps: u64,
}

/// Where a committed key is to be found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Here.
    Cell(Cell),
    /// In the tree, under this generation, if it exists.
    Tree { generation: Lsn },
}

impl Pending {
    /// Nothing is pending over a tree that holds `fed`.
    pub(crate) fn new(fed: Meta, first_expiry_ms: u64) -> Self {
        Self {
            active: Layer::default(),
            feeding: None,
            feeding_meta: None,
            fed,
            steps: 0,
            first_expiry_ms,
            fed_expiry_ms: u64::MAX,
        }
    }

    pub(crate) fn find(&self, key: &[u8]) -> Found {
        let cell = self.active.get(key).or_else(|| self.feeding.as_ref()?.get(key));
        cell.map_or(Found::Tree { generation: self.fed.generation }, Found::Cell)
    }

    /// The generation of the tree that still shows; `None` if a clear is on its way.
    pub(crate) fn visible_generation(&self) -> Option<Lsn> {
        let cleared = self.layers().any(|layer| layer.cleared.is_some());
        (!cleared).then_some(self.fed.generation)
    }

    /// The layers whose keys show, newest first.
    pub(crate) fn layers(&self) -> impl Iterator<Item = &Layer> {
        let older = self.feeding.as_deref().filter(|_| self.active.cleared.is_none());
        [Some(&self.active), older].into_iter().flatten()
    }

    /// Up to `count` changed keys of each layer past `after`.
    pub(crate) fn keys_after(&self, after: Bound<&[u8]>, count: usize) -> impl Iterator<Item = &Bytes> {
        self.layers().flat_map(move |layer| {
            layer.keys.range::<[u8], _>((after, Bound::Unbounded)).map(|(key, _)| key).take(count)
        })
    }

    /// What a count of keys can start from.
    pub(crate) fn base(&self) -> Base {
        let keys = |layer: &Layer| layer.keys.keys().cloned().collect::<BTreeSet<_>>();
        let (count, generation, settled) = match (&self.feeding, self.feeding_meta) {
            _ if self.active.cleared.is_some() => (0, None, None),
            (Some(feeding), Some(meta)) => (meta.key_count, Some(meta.generation), Some(feeding.clone())),
            (Some(feeding), None) if feeding.cleared.is_some() => (0, None, None),
            (Some(_), None) | (None, _) => (self.fed.key_count, Some(self.fed.generation), None),
        };
        let mut changed = keys(&self.active);
        if let Some(feeding) = &self.feeding
            && settled.is_none()
            && self.active.cleared.is_none()
        {
            changed.append(&mut keys(feeding));
        }
        Base { count, generation, settled, changed, steps: self.steps }
    }

    /// The soonest expiry that is not in the index yet, or has come into it since the executing thread asked last.
    pub(crate) fn soonest_expiry_ms(&self) -> u64 {
        let layers = [Some(&self.active), self.feeding.as_deref()].into_iter().flatten();
        layers.filter_map(|layer| layer.soonest_expiry_ms).fold(self.fed_expiry_ms, u64::min)
    }

    pub(crate) fn size_bytes(&self) -> u64 {
        self.active.size_bytes + self.feeding.as_ref().map_or(0, |layer| layer.size_bytes)
    }
}

/// What the executing and the feeding thread share.
pub(crate) struct Shared {
    pub tree: Arc<dyn Tree>,
    pub pending: Mutex<Pending>,
    /// Held during a feed, so that there is one at a time.
    pub feed: Mutex<Feeding>,
}

/// What feeds remember from one to the next.
#[derive(Debug, Default)]
pub(crate) struct Feeding {
    pub reclaimed: Reclaimed,
    pub census: Census,
}

/// How far the rows of dropped generations are removed.
#[derive(Debug, Default)]
pub(crate) struct Reclaimed {
    /// Generations below this one have no rows.
    pub below: Lsn,
    /// The last row of a key that was removed of the others; empty: none yet.
    pub keys: Vec<u8>,
    /// The last row of the index that was removed of the others; empty: none yet.
    pub expiries: Vec<u8>,
}

impl Shared {
    pub(crate) fn lag_size_bytes(&self) -> u64 {
        lock(&self.pending).size_bytes()
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("applied", &self.tree.applied()).finish_non_exhaustive()
    }
}
