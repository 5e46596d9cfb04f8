//! Snapshots that this node holds for followers, so that a copy that broke off can go on.
//!
//! A snapshot is pinned for one follower. When the stream that it was pinned for ends, it is kept: the next stream to
//! that follower is offered the same one. It holds space back in the store's folder, and the log after it, which the
//! follower needs next; so it is let go, whatever comes first, when
//!
//! - the follower is in sync, or no member any more;
//! - the reign ends: another hot has snapshots of its own, and what is pinned is of this reign's log;
//! - nothing was acknowledged for [`HELD_FOR`] after the stream has ended;
//! - more than [`HELD_COUNT_MAX`] copies are broken off: the one that has moved least recently goes.

use super::lock;
use hotwarm_core::register::GroupState;
use hotwarm_store::{Snapshot, SnapshotError, SnapshotMark};
use hotwarm_types::{EntryId, Lsn, NodeId, Reign, SnapshotId, StreamId};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long a snapshot is held after the last acknowledgement: longer than a machine takes to start again, short
/// enough that the log and the files that it holds back do not fill a disk.
pub const HELD_FOR: Duration = Duration::from_secs(600);

/// How many copies may be broken off at once; those under way are not counted.
pub const HELD_COUNT_MAX: usize = 2;

/// A snapshot that is held for a follower.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) id: SnapshotId,
    pub(super) at: EntryId,
    pub(super) size_bytes: u64,
    snapshot: Mutex<Snapshot>,
    /// When it was pinned, or last acknowledged.
    moved_at: Mutex<Instant>,
}

impl Held {
    pub(super) fn chunk(&self, number: u64) -> Result<Option<Vec<u8>>, SnapshotError> {
        lock(&self.snapshot).chunk(number)
    }

    pub(super) fn mark(&self, count: u64) -> Option<SnapshotMark> {
        lock(&self.snapshot).mark(count)
    }

    pub(super) fn moved(&self) {
        *lock(&self.moved_at) = Instant::now();
    }

    fn moved_at(&self) -> Instant {
        *lock(&self.moved_at)
    }
}

#[derive(Debug)]
struct Slot {
    held: Arc<Held>,
    /// The stream that it is offered or sent on; none while the copy is broken off.
    stream: Option<StreamId>,
}

#[derive(Debug, Default)]
struct Inner {
    slots: BTreeMap<NodeId, Slot>,
    /// The last reign that was heard of.
    reign: Reign,
}

/// The snapshots of this node, one a follower at most.
#[derive(Clone, Debug, Default)]
pub struct Pinned(Arc<Mutex<Inner>>);

impl Pinned {
    /// Holds a snapshot that was pinned for a stream, in the place of an older one for that follower.
    pub fn insert(&self, to: NodeId, stream: StreamId, snapshot: Snapshot) {
        let held = Held {
            id: SnapshotId(rand::random()),
            at: snapshot.at(),
            size_bytes: snapshot.size_bytes_estimate(),
            snapshot: Mutex::new(snapshot),
            moved_at: Mutex::new(Instant::now()),
        };
        let slot = Slot { held: Arc::new(held), stream: Some(stream) };
        let older = lock(&self.0).slots.insert(to, slot);
        let_go(older.into_iter().collect());
    }

    /// Offers what is held for a follower on another stream; where it ends, if anything is held.
    pub(super) fn offer_again(&self, to: NodeId, stream: StreamId) -> Option<EntryId> {
        let mut inner = lock(&self.0);
        let slot = inner.slots.get_mut(&to)?;
        slot.stream = Some(stream);
        Some(slot.held.at)
    }

    /// What is held for a stream.
    pub(super) fn held(&self, to: NodeId, stream: StreamId) -> Option<Arc<Held>> {
        let inner = lock(&self.0);
        inner.slots.get(&to).filter(|slot| slot.stream == Some(stream)).map(|slot| Arc::clone(&slot.held))
    }

    /// The stream has ended. What was pinned for it waits for another one.
    pub(super) fn stream_ended(&self, stream: StreamId) {
        let mut inner = lock(&self.0);
        inner.slots.values_mut().filter(|slot| slot.stream == Some(stream)).for_each(|slot| slot.stream = None);
        let mut broken_off: Vec<(Instant, NodeId)> = Vec::new();
        broken_off.extend(inner.waiting().map(|(to, held)| (held.moved_at(), to)));
        broken_off.sort();
        let excess = broken_off.len().saturating_sub(HELD_COUNT_MAX);
        let gone = broken_off.iter().take(excess).filter_map(|(_, to)| inner.slots.remove(to)).collect();
        drop(inner);
        let_go(gone);
    }

    /// Lets a snapshot go if it is still this one: it cannot be continued.
    pub(super) fn release(&self, to: NodeId, id: SnapshotId) {
        let mut inner = lock(&self.0);
        let gone = inner.slots.get(&to).is_some_and(|slot| slot.held.id == id).then(|| inner.slots.remove(&to));
        drop(inner);
        let_go(gone.flatten().into_iter().collect());
    }

    /// The group's state has changed: lets go what nobody will ask for.
    pub(super) fn follow_state(&self, state: &GroupState) {
        self.follow(state.reign, |to| state.members.contains_key(&to) && !state.in_sync.contains(&to));
    }

    fn follow(&self, reign: Reign, may_need: impl Fn(NodeId) -> bool) {
        let mut inner = lock(&self.0);
        let same_reign = std::mem::replace(&mut inner.reign, reign) == reign;
        let gone = inner.remove_unless(|to, _| same_reign && may_need(to));
        drop(inner);
        let_go(gone);
    }

    /// The position after which the log must be kept, if it may go up to `after` for all others. Lets go what has been
    /// held for too long.
    #[must_use]
    pub fn retain_after(&self, after: Lsn) -> Lsn {
        let mut inner = lock(&self.0);
        let gone = inner.remove_unless(|_, slot| slot.stream.is_some() || slot.held.moved_at().elapsed() < HELD_FOR);
        let first = inner.slots.values().map(|slot| slot.held.at.lsn).min();
        drop(inner);
        let_go(gone);
        first.map_or(after, |first| first.min(after))
    }
}

impl Inner {
    /// What is held for copies that are broken off.
    fn waiting(&self) -> impl Iterator<Item = (NodeId, &Held)> {
        self.slots.iter().filter(|(_, slot)| slot.stream.is_none()).map(|(to, slot)| (*to, &*slot.held))
    }

    fn remove_unless(&mut self, stays: impl Fn(NodeId, &Slot) -> bool) -> Vec<Slot> {
        let gone: Vec<NodeId> = self.slots.iter().filter(|(to, slot)| !stays(**to, slot)).map(|(to, _)| *to).collect();
        gone.iter().filter_map(|to| self.slots.remove(to)).collect()
    }
}

/// Drops what is held: on a thread of its own, since the files that it alone kept are deleted then, and whoever asks
/// must not wait for a disk.
fn let_go(slots: Vec<Slot>) {
    if slots.is_empty() {
        return;
    }
    for slot in &slots {
        tracing::info!(event = "snapshot_released", snapshot = %slot.held.id, at = %slot.held.at.lsn,
            "a snapshot is not held for a follower any more");
    }
    // If there is no thread for it, the closure is dropped here, and what it holds with it.
    let _ = std::thread::Builder::new().name("snapshot-drop".to_owned()).spawn(move || drop(slots));
}

#[cfg(test)]
mod tests {
    use super::*;
    use hotwarm_store::tree::MapTree;
    use hotwarm_store::{Options, State};
    use hotwarm_types::{Block, BlockKind, Epoch, GroupId, Incarnation, Payload};

    const REIGN: Reign = Reign { epoch: Epoch(1), node: NodeId(9), incarnation: Incarnation { start: 1, nonce: 1 } };
    const STREAM: StreamId = StreamId(1);

    /// The snapshot of a state that ends at `lsn`.
    fn snapshot(lsn: u64) -> Snapshot {
        let mut state = State::open(Arc::new(MapTree::new()), Options::default()).unwrap();
        for number in 1..=lsn {
            let (epoch, first) = (Epoch(number), Lsn(number));
            let payload = Payload::new(b"");
            let block = Block { kind: BlockKind::EpochStart, epoch, first, last: first, stamp_ms: 1, payload };
            state.stage(&block).unwrap();
        }
        state.commit(Lsn(lsn)).unwrap();
        state.feeder().snapshot(GroupId(1)).unwrap()
    }

    /// What is pinned for these followers, each at its own number, in one reign.
    fn pinned(followers: &[u16]) -> Pinned {
        let pinned = Pinned::default();
        pinned.follow(REIGN, |_| true);
        followers.iter().for_each(|to| pinned.insert(NodeId(*to), StreamId((*to).into()), snapshot((*to).into())));
        pinned
    }

    fn held(pinned: &Pinned) -> Vec<u16> {
        lock(&pinned.0).slots.keys().map(|to| to.0).collect()
    }

    /// As if nothing had been acknowledged for that long.
    fn age(pinned: &Pinned, to: u16, length: Duration) {
        let then = Instant::now().checked_sub(length).unwrap();
        *lock(&lock(&pinned.0).slots[&NodeId(to)].held.moved_at) = then;
    }

    #[test]
    fn the_next_stream_is_offered_what_the_last_one_left() {
        let pinned = pinned(&[3]);
        let first = pinned.held(NodeId(3), StreamId(3)).unwrap();
        assert_eq!(pinned.offer_again(NodeId(2), StreamId(8)), None, "it is another follower's");
        pinned.stream_ended(StreamId(3));
        assert!(pinned.held(NodeId(3), StreamId(3)).is_none());
        assert_eq!(pinned.offer_again(NodeId(3), StreamId(8)), Some(EntryId { epoch: Epoch(3), lsn: Lsn(3) }));
        let again = pinned.held(NodeId(3), StreamId(8)).unwrap();
        assert_eq!(again.id, first.id);
        pinned.release(NodeId(3), SnapshotId(0));
        assert_eq!(held(&pinned), [3], "another one was meant");
        pinned.release(NodeId(3), first.id);
        assert_eq!(held(&pinned), [0; 0]);
    }

    #[test]
    fn the_log_is_kept_after_the_oldest_that_is_held() {
        let pinned = pinned(&[4, 2]);
        pinned.stream_ended(StreamId(2));
        assert_eq!(pinned.retain_after(Lsn(9)), Lsn(2));
        assert_eq!(pinned.retain_after(Lsn(1)), Lsn(1), "somebody else needs more");
        age(&pinned, 2, HELD_FOR);
        assert_eq!(pinned.retain_after(Lsn(9)), Lsn(4), "the other was held long enough");
        age(&pinned, 4, HELD_FOR);
        assert_eq!(pinned.retain_after(Lsn(9)), Lsn(4), "it is under way");
        assert_eq!(held(&pinned), [4]);
    }

    #[test]
    fn of_many_copies_that_are_broken_off_the_latest_are_kept() {
        let pinned = pinned(&[1, 2, 3, 4]);
        age(&pinned, 2, Duration::from_secs(9));
        (1..=3).for_each(|stream| pinned.stream_ended(StreamId(stream)));
        assert_eq!(held(&pinned), [1, 3, 4]);
        assert_eq!(HELD_COUNT_MAX, 2);
    }

    #[test]
    fn what_nobody_will_ask_for_is_let_go() {
        let pinned = pinned(&[1, 2]);
        pinned.follow(REIGN, |_| true);
        assert_eq!(held(&pinned), [1, 2]);
        pinned.follow(REIGN, |to| to == NodeId(2));
        assert_eq!(held(&pinned), [2]);
        pinned.follow(Reign { epoch: Epoch(3), ..REIGN }, |_| true);
        assert_eq!(held(&pinned), [0; 0], "another reign has another log");
        assert_eq!(pinned.retain_after(Lsn(9)), Lsn(9));
        assert_eq!(pinned.offer_again(NodeId(2), STREAM), None);
    }
}
