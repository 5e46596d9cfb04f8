//! What the core knows of this node's log: where it begins and ends, which epoch wrote what, what is durable, and
//! the last blocks themselves for followers that are close behind.
//!
//! `end >= durable`, `end >= committed >= floor`. The bytes on disk are the shell's; this is the picture that
//! decisions are made from, changed in the step that orders the disk to follow.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;
use hotwarm_types::limits::TAIL_SIZE_BYTES_MAX;
use hotwarm_types::{Block, EntryId, Epoch, Instant, Lsn, Token};

/// A write to the log that was ordered and not yet reported.
#[derive(Clone, Debug, Hash)]
struct PendingWrite {
    token: Token,
    /// Position that is durable once it is done.
    durable: Lsn,
    since: Instant,
}

/// See the module.
#[derive(Clone, Debug, Hash)]
pub(crate) struct LogView {
    floor: EntryId,
    end: EntryId,
    durable: Lsn,
    /// Highest position known to be committed. Grows only in `commit_upto`. Guards INV-3, INV-7.
    committed: Lsn,
    /// First position of each epoch, oldest first; both grow strictly.
    epochs: Vec<(Epoch, Lsn)>,
    tail: VecDeque<Block>,
    tail_size_bytes: u64,
    pending: VecDeque<PendingWrite>,
}

impl LogView {
    pub(crate) fn new(floor: EntryId, end: EntryId, epochs: Vec<(Epoch, Lsn)>, committed: Lsn) -> Self {
        Self {
            floor,
            end,
            durable: end.lsn,
            committed: committed.min(end.lsn),
            epochs,
            tail: VecDeque::new(),
            tail_size_bytes: 0,
            pending: VecDeque::new(),
        }
    }

    pub(crate) fn floor(&self) -> EntryId {
        self.floor
    }

    pub(crate) fn end(&self) -> EntryId {
        self.end
    }

    pub(crate) fn durable(&self) -> Lsn {
        self.durable
    }

    /// The last durable entry, with its epoch.
    pub(crate) fn durable_end(&self) -> EntryId {
        EntryId { epoch: self.epoch_at(self.durable).unwrap_or_default(), lsn: self.durable }
    }

    pub(crate) fn committed(&self) -> Lsn {
        self.committed
    }

    pub(crate) fn epochs(&self) -> &[(Epoch, Lsn)] {
        &self.epochs
    }

    /// The epoch that wrote the entry at `lsn`; epoch 0 at position 0; `None` past the end or before all that is known.
    pub(crate) fn epoch_at(&self, lsn: Lsn) -> Option<Epoch> {
        if lsn == Lsn::ZERO {
            return Some(Epoch(0));
        }
        if lsn > self.end.lsn {
            return None;
        }
        let after = self.epochs.partition_point(|(_, first)| *first <= lsn);
        after.checked_sub(1).map(|index| self.epochs[index].0)
    }

    /// How long the oldest unreported write has been waiting for the disk (R23).
    pub(crate) fn stalled(&self, now: Instant) -> Duration {
        self.pending.front().map_or(Duration::ZERO, |oldest| now.since(oldest.since))
    }

    /// Takes a block that the disk is ordered to append under `token`.
    pub(crate) fn push(&mut self, now: Instant, token: Token, block: Block) {
        assert_eq!(block.first, self.end.lsn.next(), "INV-1: a block follows directly on the log's end");
        assert!(block.last >= block.first && block.epoch >= self.end.epoch, "INV-1: positions and epochs only grow");
        if self.epochs.last().is_none_or(|(epoch, _)| *epoch < block.epoch) {
            self.epochs.push((block.epoch, block.first));
        }
        self.end = block.end();
        self.pending.push_back(PendingWrite { token, durable: block.last, since: now });
        self.tail_size_bytes += block.size_bytes();
        self.tail.push_back(block);
        self.trim();
    }

    /// Whether a block of the tail goes on past `lsn`.
    pub(crate) fn is_inside_block(&self, lsn: Lsn) -> bool {
        self.tail.iter().rev().any(|block| block.first <= lsn && lsn < block.last)
    }

    /// Forgets everything after `last`, which the disk is ordered to cut under `token`.
    pub(crate) fn cut(&mut self, now: Instant, token: Token, last: Lsn) {
        assert!(last >= self.committed, "R30: nothing committed is cut");
        assert!(last >= self.floor.lsn && last < self.end.lsn, "a cut falls inside the log");
        while let Some(block) = self.tail.back() {
            if block.first <= last {
                assert!(block.last <= last, "a cut falls between blocks");
                break;
            }
            self.tail_size_bytes -= block.size_bytes();
            self.tail.pop_back();
        }
        while self.epochs.last().is_some_and(|(_, first)| *first > last) {
            self.epochs.pop();
        }
        let epoch = self.epochs.last().map_or(Epoch(0), |(epoch, _)| *epoch);
        self.end = EntryId { epoch, lsn: last };
        self.durable = self.durable.min(last);
        self.pending.push_back(PendingWrite { token, durable: last, since: now });
    }

    /// Begins anew after a snapshot whose last entry is `at`.
    pub(crate) fn reset(&mut self, at: EntryId, epochs: Vec<(Epoch, Lsn)>) {
        *self = Self::new(at, at, epochs, at.lsn);
    }

    /// The disk has done what `token` ordered, and all before it. `true` if it was one of this log's orders.
    pub(crate) fn persisted(&mut self, token: Token) -> bool {
        if self.pending.binary_search_by_key(&token, |write| write.token).is_err() {
            return false;
        }
        let mut done = self.durable;
        while self.pending.front().is_some_and(|oldest| oldest.token <= token) {
            done = self.pending.pop_front().map_or(done, |write| write.durable);
        }
        // What a later cut takes back is not durable past that cut.
        let least = self.pending.iter().map(|later| later.durable).min().unwrap_or(self.end.lsn);
        self.durable = done.min(least).min(self.end.lsn);
        self.trim();
        true
    }

    /// Moves the commit position; never backward. `true` if it moved.
    pub(crate) fn commit_upto(&mut self, lsn: Lsn) -> bool {
        assert!(lsn <= self.end.lsn, "INV-7: nothing past the log's end is committed");
        let moved = lsn > self.committed;
        self.committed = self.committed.max(lsn);
        moved
    }

    /// The block in memory whose first position is `first`.
    pub(crate) fn tail_block(&self, first: Lsn) -> Option<&Block> {
        let index = self.tail.partition_point(|block| block.first < first);
        self.tail.get(index).filter(|block| block.first == first)
    }

    /// First position of the last block, if that is in memory.
    pub(crate) fn last_first(&self) -> Option<Lsn> {
        self.tail.back().map(|block| block.first)
    }

    /// Bytes appended after `lsn`, as far as they are in memory.
    pub(crate) fn bytes_after(&self, lsn: Lsn) -> u64 {
        self.tail.iter().rev().take_while(|block| block.last > lsn).map(Block::size_bytes).sum()
    }

    fn trim(&mut self) {
        while self.tail_size_bytes > TAIL_SIZE_BYTES_MAX {
            match self.tail.front() {
                // What is not durable or not committed cannot be read back from the disk yet, or will be wanted at once.
                Some(block) if block.last <= self.durable && block.last <= self.committed => {
                    self.tail_size_bytes -= block.size_bytes();
                    self.tail.pop_front();
                }
                _ => break,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hotwarm_types::{BlockKind, Payload};

    fn block(epoch: u64, first: u64, last: u64) -> Block {
        Block {
            kind: BlockKind::Data,
            epoch: Epoch(epoch),
            first: Lsn(first),
            last: Lsn(last),
            stamp_ms: 0,
            payload: Payload::new(b"x"),
        }
    }

    #[test]
    fn a_write_taken_back_by_a_cut_is_never_durable() {
        let mut log = LogView::new(EntryId::default(), EntryId::default(), Vec::new(), Lsn::ZERO);
        let now = Instant(0);
        log.push(now, Token(1), block(1, 1, 1));
        log.push(now, Token(2), block(1, 2, 5));
        log.cut(now, Token(3), Lsn(1));
        log.push(now, Token(4), block(2, 2, 3));
        assert!(log.persisted(Token(2)));
        assert_eq!(log.durable(), Lsn(1), "the second write is cut away by the third order");
        assert!(log.persisted(Token(4)));
        assert_eq!(log.durable(), Lsn(3));
        assert_eq!(log.epochs(), &[(Epoch(1), Lsn(1)), (Epoch(2), Lsn(2))]);
        assert_eq!(log.epoch_at(Lsn(2)), Some(Epoch(2)));
        assert_eq!(log.epoch_at(Lsn(4)), None);
    }
}
