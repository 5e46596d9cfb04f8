//! What a replication log should hold: blocks after a floor.
//!
//! The real log of a machine is held against two of them: what its process wrote, and what was reported durable.

use hotwarm_types::{Block, EntryId, Epoch, Lsn};
use std::collections::VecDeque;

/// Consecutive blocks.
#[derive(Clone, Debug, Default)]
pub struct Log {
    /// The entry before the first block.
    pub floor: EntryId,
    blocks: VecDeque<Block>,
    /// What was cut off and put aside (INV-8), counted in positions.
    pub aside: u64,
    /// The last block that the last cut took away; `None` if it took none.
    pub cut_last: Option<Block>,
}

/// An order that does not fit the log: the core asked for something that a real log would refuse.
#[derive(Clone, Debug)]
pub struct Misfit(pub String);

impl Log {
    /// What a real log holds.
    ///
    /// # Panics
    /// If its blocks do not follow on each other.
    #[must_use]
    pub fn of(floor: EntryId, blocks: &[Block]) -> Self {
        let mut log = Self::after(floor);
        for block in blocks {
            log.append(block.clone()).expect("a log returns consecutive blocks");
        }
        log
    }

    /// An empty log that begins after `floor`.
    #[must_use]
    pub fn after(floor: EntryId) -> Self {
        Self { floor, ..Self::default() }
    }

    /// Its last entry.
    #[must_use]
    pub fn end(&self) -> EntryId {
        self.blocks.back().map_or(self.floor, Block::end)
    }

    /// Appends a block that follows on the end.
    ///
    /// # Errors
    /// The block does not follow.
    pub fn append(&mut self, block: Block) -> Result<(), Misfit> {
        if block.first != self.end().lsn.next() || block.last < block.first {
            return Err(Misfit(format!("append of {}..{} after {}", block.first, block.last, self.end())));
        }
        self.blocks.push_back(block);
        Ok(())
    }

    /// Puts everything after `last` aside.
    ///
    /// # Errors
    /// `last` lies outside the log or inside a block.
    pub fn cut(&mut self, last: Lsn) -> Result<(), Misfit> {
        if last < self.floor.lsn || last > self.end().lsn {
            return Err(Misfit(format!("cut after {last} of a log {}..{}", self.floor, self.end())));
        }
        self.cut_last = self.blocks.back().filter(|block| block.first > last).cloned();
        while self.blocks.back().is_some_and(|block| block.first > last) {
            self.aside += self.blocks.pop_back().map_or(0, |block| block.last.since(block.first) + 1);
        }
        if self.end().lsn != last {
            return Err(Misfit(format!("cut after {last}, inside a block that ends at {}", self.end())));
        }
        Ok(())
    }

    /// Drops whole blocks up to `lsn`, which then is about the floor.
    pub fn trim(&mut self, lsn: Lsn) {
        while self.blocks.front().is_some_and(|block| block.last <= lsn) {
            let Some(block) = self.blocks.pop_front() else { return };
            self.floor = block.end();
        }
    }

    /// The block that holds a position.
    #[must_use]
    pub fn block_at(&self, lsn: Lsn) -> Option<&Block> {
        let index = self.blocks.partition_point(|block| block.last < lsn);
        self.blocks.get(index).filter(|block| block.first <= lsn)
    }

    /// The epoch of a position; `None` outside the log, the floor included.
    #[must_use]
    pub fn epoch_at(&self, lsn: Lsn) -> Option<Epoch> {
        if lsn == self.floor.lsn {
            return Some(self.floor.epoch);
        }
        self.block_at(lsn).map(|block| block.epoch)
    }

    /// Whether position `lsn` is held as an entry of `epoch`, in the log or (unproven here) below its floor.
    #[must_use]
    pub fn holds(&self, epoch: Epoch, lsn: Lsn) -> bool {
        lsn < self.floor.lsn || self.epoch_at(lsn) == Some(epoch)
    }

    /// Blocks after `lsn`, up to the one that ends at or before `upto`.
    pub fn blocks_between(&self, lsn: Lsn, upto: Lsn) -> impl Iterator<Item = &Block> {
        let index = self.blocks.partition_point(|block| block.last <= lsn);
        self.blocks.iter().skip(index).take_while(move |block| block.last <= upto)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hotwarm_types::{BlockKind, Payload};

    fn block(epoch: u64, first: u64, last: u64) -> Block {
        let payload = Payload::new(&[]);
        Block { kind: BlockKind::Data, epoch: Epoch(epoch), first: Lsn(first), last: Lsn(last), stamp_ms: 0, payload }
    }

    fn log() -> Log {
        let mut log = Log::default();
        for (epoch, first, last) in [(1, 1, 1), (1, 2, 4), (2, 5, 5), (2, 6, 9)] {
            log.append(block(epoch, first, last)).unwrap();
        }
        log
    }

    #[test]
    fn cuts_fall_between_blocks_only() {
        let mut log = log();
        assert!(log.clone().cut(Lsn(3)).is_err());
        log.cut(Lsn(5)).unwrap();
        assert_eq!((log.end().lsn, log.aside), (Lsn(5), 4));
        assert!(log.append(block(3, 7, 7)).is_err());
    }

    #[test]
    fn a_floor_keeps_its_epoch() {
        let mut log = log();
        log.trim(Lsn(8));
        assert_eq!(log.floor, EntryId { epoch: Epoch(2), lsn: Lsn(5) });
        assert_eq!(log.epoch_at(Lsn(5)), Some(Epoch(2)));
        assert_eq!(log.epoch_at(Lsn(4)), None);
    }
}
