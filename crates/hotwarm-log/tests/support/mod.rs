//! What the tests of the log share: blocks from a seed, a model of the log, and the check of one against the other.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use hotwarm_disk::{Disk, FaultDisk};
use hotwarm_log::{Log, LogOptions, OpenError, Recovery};
use hotwarm_types::{Block, BlockKind, ClusterId, EntryId, Epoch, GroupId, Lsn, Payload};
use std::sync::Arc;

pub const FOLDER: &str = "log";

pub fn options() -> LogOptions {
    LogOptions { segment_size_bytes: 4096, ..LogOptions::new(ClusterId(0xfeed), GroupId(1)) }
}

/// Segments of four pages: what a file held before is not overwritten by its first write.
pub fn large() -> LogOptions {
    LogOptions { segment_size_bytes: 16_384, ..options() }
}

pub fn shared(disk: &FaultDisk) -> Arc<dyn Disk> {
    Arc::new(disk.clone())
}

pub fn create(disk: &FaultDisk) -> Log {
    Log::create(shared(disk), FOLDER, options()).unwrap()
}

pub fn open(disk: &FaultDisk) -> Result<(Log, Recovery), OpenError> {
    Log::open(shared(disk), FOLDER, options())
}

/// SplitMix64.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }
}

/// What a log should hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    pub floor: EntryId,
    pub blocks: Vec<Block>,
    /// Every epoch ever, up to the end.
    pub epochs: Vec<(Epoch, Lsn)>,
}

impl Model {
    pub fn new() -> Self {
        Self { floor: EntryId::default(), blocks: Vec::new(), epochs: Vec::new() }
    }

    pub fn end(&self) -> EntryId {
        self.blocks.last().map_or(self.floor, Block::end)
    }

    /// A block that follows on the end, of `count` positions, in this epoch.
    pub fn next_block(&self, epoch: u64, count: u64, payload: &[u8]) -> Block {
        let first = self.end().lsn.next();
        let starts = self.epochs.last().is_none_or(|(last, _)| last.0 < epoch) && count == 1;
        Block {
            kind: if starts { BlockKind::EpochStart } else { BlockKind::Data },
            epoch: Epoch(epoch),
            first,
            last: Lsn(first.0 + count - 1),
            stamp_ms: 1_000 + first.0,
            payload: Payload::new(payload),
        }
    }

    pub fn append(&mut self, block: &Block) {
        if self.epochs.last().is_none_or(|(last, _)| *last < block.epoch) {
            self.epochs.push((block.epoch, block.first));
        }
        self.blocks.push(block.clone());
    }

    pub fn cut(&mut self, last: Lsn) {
        self.blocks.retain(|block| block.last <= last);
        self.epochs.retain(|(_, first)| *first <= last);
    }

    pub fn reset(&mut self, at: EntryId, epochs: &[(Epoch, Lsn)]) {
        *self = Self { floor: at, blocks: Vec::new(), epochs: epochs.to_vec() };
    }

    /// Forgets the blocks up to a floor that the log chose.
    pub fn drop_front(&mut self, floor: EntryId) {
        self.blocks.retain(|block| block.first > floor.lsn);
        self.floor = floor;
    }

    /// This, without the blocks after the first `count`.
    pub fn prefix(&self, count: usize) -> Self {
        let mut prefix = self.clone();
        prefix.blocks.truncate(count);
        let end = prefix.end().lsn;
        prefix.epochs.retain(|(_, first)| *first <= end);
        prefix
    }
}

/// All that a log holds, read through its reader.
pub fn contents(log: &Log) -> Model {
    let reader = log.reader();
    let mut blocks: Vec<Block> = Vec::new();
    loop {
        let from = blocks.last().map_or(log.floor().lsn, |block| block.last).next();
        let read = reader.read(from, 3_000).unwrap();
        if read.is_empty() {
            break;
        }
        blocks.extend(read);
    }
    assert_eq!(blocks.last().map_or(log.floor(), Block::end), log.end(), "the reader reaches the end");
    Model { floor: log.floor(), blocks, epochs: log.epochs() }
}

/// Appends to both.
pub fn append(log: &mut Log, model: &mut Model, epoch: u64, count: u64, payload: &[u8]) {
    let block = model.next_block(epoch, count, payload);
    log.append(&block).unwrap();
    model.append(&block);
}
