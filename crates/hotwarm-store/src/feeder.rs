//! Carries committed changes to the tree, behind the thread that commits.
//!
//! A feed takes everything committed since the last one and writes it as one batch: the last value of each key, the
//! rows of sessions, the index by expiry, the count of keys, and the position. It reads what each key was before,
//! which the committing thread never has to. Nothing waits for a feed but memory: see [`crate::State::lag_size_bytes`].

use crate::census::{Census, KeyCounts};
use crate::key::{self, Meta};
use crate::keyspace::Entry;
use crate::limits::{CENSUS_COUNT_MAX, FLUSH_COUNT, FLUSH_SIZE_BYTES, RECLAIM_COUNT_MAX, TIDY_ROOM_BYTES_MAX};
use crate::pending::{Layer, Reclaimed, Shared};
use crate::session::{self, SessionChange};
use crate::snapshot::Snapshot;
use crate::sync::lock;
use crate::tree::{Batch, Pin, TreeError};
use bytes::Bytes;
use crc_fast::{CrcAlgorithm, Digest as Crc};
use hotwarm_types::{EntryId, GroupId, Lsn, SessionId};
use std::ops::Bound;
use std::sync::Arc;

/// What two nodes that hold the same committed state agree on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateDigest {
    /// The entry whose state it is.
    pub at: EntryId,
    /// How many keys there are, expired and not yet reclaimed ones included.
    pub key_count: u64,
    /// CRC-64/NVME over keys, values, versions, expiries and sessions, in order.
    pub hash: u64,
}

/// What a round of feeding did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Round {
    /// Something was written to the tree: another round may be due at once.
    pub fed: bool,
    /// It flushed, and recovery needs the log only after this position.
    pub flushed: Option<Lsn>,
}

/// A handle on the way from a [`crate::State`] to its tree; clones share it. All methods may block on the disk and
/// none blocks the thread that commits for longer than a small move in memory.
#[derive(Clone, Debug)]
pub struct Feeder {
    shared: Arc<Shared>,
}

impl Feeder {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Bytes that are committed and not yet in the tree, about.
    #[must_use]
    pub fn lag_size_bytes(&self) -> u64 {
        self.shared.lag_size_bytes()
    }

    /// Writes everything committed so far to the tree, in one batch; not yet durable. False: there was nothing to
    /// write.
    ///
    /// # Errors
    /// [`TreeError`]: the node is fenced (INV-9). The state in memory is whole, the tree is what was applied before.
    pub fn feed(&self) -> Result<bool, TreeError> {
        let mut feeding = lock(&self.shared.feed);
        let Some((layer, end, stamp_ms, fed)) = self.take() else { return Ok(false) };
        let mut batch = Batch::new();
        let mut meta = Meta { applied: end, stamp_ms, ..fed };
        if let Some(cleared) = layer.cleared {
            meta = Meta { generation: cleared, key_count: 0, ..meta };
            feeding.census.clear();
        }
        for (key, cell) in &layer.keys {
            let before = if layer.cleared.is_some() { None } else { self.row(meta.generation, key)? };
            feed_key(&mut batch, &mut meta, &mut feeding.census, key, before.as_ref(), cell.entry.as_ref());
        }
        for (id, change) in &layer.sessions {
            self.feed_session(&mut batch, *id, change)?;
        }
        for (epoch, first) in &layer.epochs {
            batch.put(key::epoch(*epoch), first.0.to_le_bytes().to_vec());
        }
        self.reclaim(&mut batch, &mut feeding.reclaimed, fed.generation)?;
        batch.put(key::META_KEY, meta.encode());
        {
            let mut pending = lock(&self.shared.pending);
            pending.feeding_meta = Some(meta);
            pending.steps += 1;
        }
        self.shared.tree.apply(end.lsn, &batch)?;
        let soonest_ms = layer.keys.values().filter_map(|cell| cell.entry.as_ref()?.expires_at_ms).min();
        let soonest_ms = soonest_ms.unwrap_or(u64::MAX);
        let first_ms = self.first_expiry(&meta, &fed, soonest_ms)?;
        let mut pending = lock(&self.shared.pending);
        pending.feeding = None;
        pending.feeding_meta = None;
        pending.fed = meta;
        pending.steps += 1;
        pending.first_expiry_ms = first_ms;
        pending.fed_expiry_ms = pending.fed_expiry_ms.min(soonest_ms);
        Ok(true)
    }

    /// Makes the active layer the one that is fed, unless one is already (an earlier feed of it failed).
    fn take(&self) -> Option<(Arc<Layer>, EntryId, u64, Meta)> {
        let mut pending = lock(&self.shared.pending);
        if pending.feeding.is_none() {
            pending.active.end?;
            pending.feeding = Some(Arc::new(std::mem::take(&mut pending.active)));
            pending.steps += 1;
        }
        let layer = pending.feeding.clone()?;
        let (end, stamp_ms) = layer.end?;
        Some((layer, end, stamp_ms, pending.fed))
    }

    /// What the tree has of a key.
    fn row(&self, generation: Lsn, key: &[u8]) -> Result<Option<Entry>, TreeError> {
        self.shared.tree.get(&key::data(generation, key))?.as_ref().map(key::decode_entry).transpose()
    }

    /// The first expiry in the index after a feed whose soonest one is `soonest_ms`. Goes on where it was before: the
    /// engine pays for every removed row that it passes again.
    fn first_expiry(&self, meta: &Meta, before: &Meta, soonest_ms: u64) -> Result<u64, TreeError> {
        let same = meta.generation == before.generation;
        let first_ms = if same { lock(&self.shared.pending).first_expiry_ms } else { u64::MAX };
        let from = key::expiry(meta.generation, first_ms.min(soonest_ms), b"");
        let until = key::generation_end(key::EXPIRY, meta.generation);
        key::first_expiry(&self.shared.tree.scan(Bound::Included(&from), Some(&until), 1)?)
    }

    fn feed_session(&self, batch: &mut Batch, id: SessionId, change: &SessionChange) -> Result<(), TreeError> {
        if change.dropped {
            let start = key::reply_start(id);
            let until = key::prefix_end(&start);
            let rows = self.shared.tree.scan(Bound::Included(&start), until.as_deref(), usize::MAX)?;
            for (row_key, _) in rows {
                batch.remove(row_key);
            }
            batch.remove(key::session(id));
        }
        if let Some((floor, last_used_ms)) = change.record {
            batch.put(key::session(id), session::record_row(floor, last_used_ms));
        }
        for (sequence, reply) in &change.replies {
            match reply {
                Some(reply) => batch.put(key::reply(id, *sequence), session::reply_row(reply)),
                None => batch.remove(key::reply(id, *sequence)),
            }
        }
        Ok(())
    }

    /// Removes some rows of generations before `generation`, which was visible before this feed. Goes on where the
    /// last feed stopped, since the engine pays for every removed row that it passes again.
    fn reclaim(&self, batch: &mut Batch, reclaimed: &mut Reclaimed, generation: Lsn) -> Result<(), TreeError> {
        if generation <= reclaimed.below {
            return Ok(());
        }
        let mut finished = true;
        for (kind, from) in [(key::KEY, &mut reclaimed.keys), (key::EXPIRY, &mut reclaimed.expiries)] {
            let until = key::generation_start(kind, generation);
            let start = if from.is_empty() { vec![kind] } else { std::mem::take(from) };
            let rows = self.shared.tree.scan(Bound::Excluded(&start), Some(&until), RECLAIM_COUNT_MAX)?;
            finished &= rows.len() < RECLAIM_COUNT_MAX;
            *from = rows.last().map_or(start, |(last, _)| last.to_vec());
            for (row_key, _) in rows {
                batch.remove(row_key);
            }
        }
        if finished {
            *reclaimed = Reclaimed { below: generation, ..Reclaimed::default() };
        }
        Ok(())
    }

    /// Makes everything fed so far durable. Returns the position from which recovery needs the log, exclusive.
    ///
    /// # Errors
    /// [`TreeError`]: the node is fenced; what was durable before still is.
    pub fn flush(&self) -> Result<Lsn, TreeError> {
        self.shared.tree.flush()
    }

    /// One round of the feeding thread: feeds, and where enough has gathered since the last flush, in bytes or in
    /// positions, flushes and tidies. A node also flushes from time to time on its own, so that little data does not keep the log long.
    ///
    /// # Errors
    /// [`TreeError`]: the node is fenced.
    pub fn round(&self) -> Result<Round, TreeError> {
        let fed = self.feed()?;
        let tree = &self.shared.tree;
        let replay_count = tree.applied().since(tree.durable());
        let flush = tree.unflushed_size_bytes() >= FLUSH_SIZE_BYTES || replay_count >= FLUSH_COUNT;
        if flush {
            self.flush()?;
            self.maintain()?;
        }
        Ok(Round { fed, flushed: flush.then(|| self.shared.tree.durable()) })
    }

    /// Bytes of disk that a flush may need, with some to spare.
    #[must_use]
    pub fn flush_room_bytes(&self) -> u64 {
        FLUSH_SIZE_BYTES / 2 + 2 * self.shared.tree.unflushed_size_bytes()
    }

    /// Bytes of disk that a flush and the tidying after it may need: old files go when the new ones are whole.
    #[must_use]
    pub fn tidy_room_bytes(&self) -> u64 {
        self.flush_room_bytes() + self.shared.tree.size_bytes().min(TIDY_ROOM_BYTES_MAX)
    }

    /// Counts some more of the keys that have an expiry; after a start only, since feeds keep the count then. False: all
    /// are counted.
    ///
    /// # Errors
    /// [`TreeError`]: the node is fenced.
    pub fn count(&self) -> Result<bool, TreeError> {
        let mut feeding = lock(&self.shared.feed);
        let generation = lock(&self.shared.pending).fed.generation;
        let Some(from) = feeding.census.next(generation) else { return Ok(false) };
        let until = key::generation_end(key::EXPIRY, generation);
        let rows = self.shared.tree.scan(from.as_ref().map(|key| &key[..]), Some(&until), CENSUS_COUNT_MAX)?;
        feeding.census.count(&rows)
    }

    /// How many keys there were at the last feed.
    #[must_use]
    pub fn key_counts(&self) -> KeyCounts {
        let feeding = lock(&self.shared.feed);
        let fed = lock(&self.shared.pending).fed;
        feeding.census.key_counts(fed.key_count, fed.stamp_ms)
    }

    /// One bounded piece of tidying of the tree (compaction).
    ///
    /// # Errors
    /// [`TreeError`]: the node is fenced.
    pub fn maintain(&self) -> Result<(), TreeError> {
        self.shared.tree.maintain()
    }

    /// Pins the committed state, everything committed so far included, for a full sync.
    ///
    /// # Errors
    /// [`TreeError`].
    pub fn snapshot(&self, group: GroupId) -> Result<Snapshot, TreeError> {
        self.feed()?;
        Snapshot::new(self.shared.tree.pin()?, group, self.shared.tree.size_bytes())
    }

    /// Hashes the committed state, everything committed so far included. Reads all of it.
    ///
    /// # Errors
    /// [`TreeError`].
    pub fn digest(&self) -> Result<StateDigest, TreeError> {
        self.feed()?;
        digest(self.shared.tree.pin()?.as_ref())
    }
}

fn feed_key(
    batch: &mut Batch,
    meta: &mut Meta,
    census: &mut Census,
    key: &Bytes,
    before: Option<&Entry>,
    entry: Option<&Entry>,
) {
    let expiry_before = before.and_then(|entry| entry.expires_at_ms);
    let expiry = entry.and_then(|entry| entry.expires_at_ms);
    if let Some(at) = expiry_before.filter(|_| expiry != expiry_before) {
        let row_key = key::expiry(meta.generation, at, key);
        census.removed(at, &row_key);
        batch.remove(row_key);
    }
    if let Some(at) = expiry.filter(|_| expiry != expiry_before) {
        let row_key = key::expiry(meta.generation, at, key);
        census.added(at, &row_key);
        batch.put(row_key, Bytes::new());
    }
    meta.key_count = (meta.key_count + u64::from(entry.is_some())).saturating_sub(u64::from(before.is_some()));
    match entry {
        Some(entry) => batch.put(key::data(meta.generation, key), key::encode_entry(entry)),
        None if before.is_some() => batch.remove(key::data(meta.generation, key)),
        None => {}
    }
}

/// Hashes the state that a pin holds.
pub(crate) fn digest(pin: &dyn Pin) -> Result<StateDigest, TreeError> {
    let meta = pin.get(key::META_KEY)?.map_or(Ok(Meta::default()), |row| Meta::decode(&row))?;
    let mut crc = Crc::new(CrcAlgorithm::Crc64Nvme);
    for (kind, start) in [
        (key::KEY, key::generation_start(key::KEY, meta.generation)),
        (key::SESSION, vec![key::SESSION]),
        (key::REPLY, vec![key::REPLY]),
    ] {
        let until = if kind == key::KEY { key::generation_end(kind, meta.generation) } else { vec![kind + 1] };
        let mut from = Bound::Included(Bytes::from(start));
        loop {
            let rows = pin.scan(from.as_ref().map(|key| &key[..]), Some(&until), 1024)?;
            for (row_key, row) in &rows {
                crc.update(&(row_key.len() as u64).to_le_bytes());
                crc.update(row_key);
                crc.update(&(row.len() as u64).to_le_bytes());
                crc.update(row);
            }
            match rows.into_iter().next_back() {
                Some((last, _)) => from = Bound::Excluded(last),
                None => break,
            }
        }
    }
    Ok(StateDigest { at: meta.applied, key_count: meta.key_count, hash: crc.finalize() })
}
