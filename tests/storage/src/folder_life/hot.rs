//! The node that the folder's node follows: it makes the blocks, the full copies, and says what a state must be.

use crate::random::Random;
use hotwarm_node::data_folder::stage_block;
use hotwarm_store::keyspace::{Entry, Keyspace, Value};
use hotwarm_store::tree::MapTree;
use hotwarm_store::{Identity, Options, Snapshot, State, StateDigest};
use hotwarm_types::{Block, BlockKind, Epoch, GroupId, Lsn, Payload, SessionId};
use std::sync::Arc;

/// Keys that come and go.
const KEYS: u64 = 40;
/// A value whose bytes are the same; some of them fill a copy, and take little room once compressed.
const LARGE_SIZE_BYTES: usize = 6 << 20;
const SESSION: SessionId = SessionId(9);

/// See the module.
pub struct Hot {
    state: State,
    /// All blocks since the first.
    blocks: Vec<Block>,
    epoch: u64,
    now_ms: u64,
    sequence: u64,
}

impl std::fmt::Debug for Hot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hot").field("blocks", &self.blocks.len()).field("epoch", &self.epoch).finish_non_exhaustive()
    }
}

fn empty() -> State {
    let options = Options { cache_size_bytes_max: 1 << 20 };
    State::open(Arc::new(MapTree::new()), options).expect("an empty tree is a state")
}

impl Hot {
    /// Before its first reign.
    #[must_use]
    pub fn new() -> Self {
        Self { state: empty(), blocks: Vec::new(), epoch: 0, now_ms: 1_000_000, sequence: 0 }
    }

    /// The position of its last block.
    #[must_use]
    pub fn end(&self) -> Lsn {
        self.blocks.last().map_or(Lsn::ZERO, |block| block.last)
    }

    /// The blocks after a position.
    #[must_use]
    pub fn after(&self, position: Lsn) -> &[Block] {
        &self.blocks[self.blocks.partition_point(|block| block.last <= position)..]
    }

    /// A reign begins.
    ///
    /// # Panics
    /// If its own blocks do not fit its state: so for its siblings.
    pub fn begin_reign(&mut self) {
        self.epoch += 1;
        let first = self.end().next();
        let payload = Payload::new(b"a reign of the loop");
        self.take(Block {
            kind: BlockKind::EpochStart,
            epoch: Epoch(self.epoch),
            first,
            last: first,
            stamp_ms: 0,
            payload,
        });
    }

    /// Another hot takes over that has nothing after a position.
    pub fn cut(&mut self, last: Lsn) {
        let blocks = std::mem::take(&mut self.blocks);
        self.state = empty();
        for block in blocks.into_iter().filter(|block| block.last <= last) {
            self.take(block);
        }
    }

    /// Commands of some clients, as one block.
    pub fn work(&mut self, random: &mut Random) {
        for _ in 0..1 + random.below(4) {
            self.now_ms += random.below(20);
            self.sequence += 1;
            let (now_ms, sequence) = (self.now_ms, self.sequence);
            let mut execution = self.state.begin(now_ms);
            if sequence == 1 {
                execution.open_session(SESSION);
            }
            let key = format!("key-{}", random.below(KEYS));
            match random.below(30) {
                0 => execution.clear(),
                1..8 => {
                    execution.delete(key.as_bytes());
                }
                _ => {
                    let life_ms = random.one_in(4).then(|| now_ms + 1 + random.below(100));
                    let value = random.bytes(8)[..1 + random.below(7) as usize].repeat(20);
                    execution.put(key.as_bytes(), Entry { expires_at_ms: life_ms, ..entry(value) });
                }
            }
            execution.finish(Some(Identity { session: SESSION, sequence }), b"+OK\r\n").expect("a small command");
        }
        self.propose();
    }

    /// Writes so many large values.
    pub fn write_large(&mut self, count: u64) {
        for number in 0..count {
            let mut execution = self.state.begin(self.now_ms);
            execution.put(format!("large-{number}").as_bytes(), entry(vec![number as u8; LARGE_SIZE_BYTES]));
            execution.finish(None, b"").expect("a command of the greatest size at most");
            self.propose();
        }
    }

    /// What the state is now.
    #[must_use]
    pub fn digest(&self) -> StateDigest {
        self.state.feeder().digest().expect("a tree in memory is read")
    }

    /// A full copy of now.
    #[must_use]
    pub fn snapshot(&self, group: GroupId) -> Snapshot {
        self.state.feeder().snapshot(group).expect("a tree in memory is read")
    }

    fn propose(&mut self) {
        while let Some(proposed) = self.state.take_block() {
            self.take(Block {
                kind: BlockKind::Data,
                epoch: Epoch(self.epoch),
                first: proposed.first,
                last: proposed.first.plus(proposed.count - 1),
                stamp_ms: proposed.stamp_ms,
                payload: Payload::new(&proposed.payload),
            });
        }
    }

    fn take(&mut self, block: Block) {
        stage_block(&mut self.state, &block).expect("its own block");
        self.state.commit(block.last).expect("what was staged");
        self.blocks.push(block);
    }
}

impl Default for Hot {
    fn default() -> Self {
        Self::new()
    }
}

fn entry(value: Vec<u8>) -> Entry {
    Entry { value: Value::String(value.into()), expires_at_ms: None, version: Lsn::ZERO }
}
