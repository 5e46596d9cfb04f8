//! What the tests of the state share: dice, a log, and values.
#![allow(dead_code, reason = "each test file uses a part")]

use bytes::Bytes;
use hotwarm_store::keyspace::{Entry, Keyspace, Value};
use hotwarm_store::tree::Tree;
use hotwarm_store::{Executed, Options, State};
use hotwarm_types::{Block, BlockKind, Epoch, Lsn, Payload};
use std::sync::Arc;

/// splitmix64.
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % sides
    }
}

pub fn string(bytes: impl AsRef<[u8]>) -> Entry {
    Entry { value: Value::String(Bytes::copy_from_slice(bytes.as_ref())), expires_at_ms: None, version: Lsn::ZERO }
}

pub fn text(entry: Option<Entry>) -> Option<String> {
    entry.map(|Entry { value: Value::String(bytes), .. }| String::from_utf8_lossy(&bytes).into_owned())
}

pub fn open(tree: &(impl Tree + Clone + 'static)) -> State {
    State::open(Arc::new(tree.clone()), Options { cache_size_bytes_max: 2_000 }).unwrap()
}

/// Executes one put.
pub fn put(state: &mut State, now_ms: u64, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Executed {
    let mut execution = state.begin(now_ms);
    execution.put(key.as_ref(), string(value));
    execution.finish(None, b"").unwrap()
}

/// What nodes share: blocks in order.
#[derive(Default)]
pub struct Log {
    pub blocks: Vec<Block>,
    pub epoch: Epoch,
}

impl Log {
    pub fn end(&self) -> Lsn {
        self.blocks.last().map_or(Lsn::ZERO, |block| block.last)
    }

    /// A new reign begins: its first block, for every state to stage.
    pub fn start_epoch(&mut self) -> Block {
        self.epoch = self.epoch.next();
        let lsn = self.end().next();
        let block = Block {
            kind: BlockKind::EpochStart,
            epoch: self.epoch,
            first: lsn,
            last: lsn,
            stamp_ms: 0,
            payload: Payload::new(b"test"),
        };
        self.blocks.push(block.clone());
        block
    }

    /// Appends what a state has executed; each block for every state to stage, the one it came from included.
    pub fn take(&mut self, hot: &mut State) -> Vec<Block> {
        let mut blocks = Vec::new();
        while let Some(proposed) = hot.take_block() {
            assert_eq!(proposed.first, self.end().next());
            let block = Block {
                kind: BlockKind::Data,
                epoch: self.epoch,
                first: proposed.first,
                last: proposed.first.plus(proposed.count - 1),
                stamp_ms: proposed.stamp_ms,
                payload: Payload::new(&proposed.payload),
            };
            self.blocks.push(block.clone());
            blocks.push(block);
        }
        blocks
    }

    pub fn cut(&mut self, last: Lsn) {
        self.blocks.retain(|block| block.last <= last);
    }

    /// Brings a state that was just opened up to the end of the log.
    pub fn replay(&self, state: &mut State) {
        let committed = state.committed().lsn;
        for block in self.blocks.iter().filter(|block| block.first > committed) {
            state.stage(block).unwrap();
        }
    }
}

/// Executes, logs and commits: the life of a hot that is alone.
pub fn settle(log: &mut Log, state: &mut State) {
    for block in log.take(state) {
        state.stage(&block).unwrap();
    }
    state.commit(log.end()).unwrap();
}

/// Every key of a keyspace, by pages of three.
pub fn walk_all(keyspace: &mut dyn Keyspace) -> Vec<Bytes> {
    let (mut all, mut after) = (Vec::new(), None::<Bytes>);
    loop {
        let (keys, next) = keyspace.walk(after.as_deref(), 3);
        all.extend(keys);
        match next {
            Some(next) => after = Some(next),
            None => return all,
        }
    }
}
