//! A hot and a warm in memory: what the hot executes is logged, staged and committed on both, and they must agree.

use hotwarm_store::tree::{MapTree, Tree};
use hotwarm_store::{Options, State, StateDigest};
use hotwarm_types::{Block, BlockKind, Epoch, Lsn, Payload};
use std::sync::Arc;

/// Both states. The epoch is 1.
pub(crate) struct Pair {
    pub(crate) hot: State,
    warm: State,
    end: Lsn,
}

/// A state over a new, empty tree.
pub(crate) fn empty_state() -> State {
    open(Arc::new(MapTree::new()))
}

/// The state that a tree holds.
pub(crate) fn open(tree: Arc<dyn Tree>) -> State {
    State::open(tree, Options { cache_size_bytes_max: 4096 }).expect("what a state has written opens")
}

impl Pair {
    pub(crate) fn new() -> Self {
        let mut pair = Self { hot: empty_state(), warm: empty_state(), end: Lsn::ZERO };
        let epoch_start = Block {
            kind: BlockKind::EpochStart,
            epoch: Epoch(1),
            first: Lsn(1),
            last: Lsn(1),
            stamp_ms: 0,
            payload: Payload::new(b""),
        };
        pair.carry(&epoch_start);
        pair
    }

    /// Logs, stages and commits what the hot has executed.
    pub(crate) fn settle(&mut self) {
        while let Some(proposed) = self.hot.take_block() {
            let block = Block {
                kind: BlockKind::Data,
                epoch: Epoch(1),
                first: proposed.first,
                last: proposed.first.plus(proposed.count - 1),
                stamp_ms: proposed.stamp_ms,
                payload: Payload::new(&proposed.payload),
            };
            self.carry(&block);
        }
    }

    fn carry(&mut self, block: &Block) {
        for state in [&mut self.hot, &mut self.warm] {
            state.stage(block).expect("what a hot proposes can be staged");
            state.commit(block.last).expect("what is staged can be committed");
        }
        self.end = block.last;
    }

    /// Both hold the same, by their trees.
    pub(crate) fn agree(&mut self) {
        self.settle();
        assert_eq!(digest(&self.hot), digest(&self.warm), "hot and warm differ at {}", self.end);
    }
}

/// What a state holds, all of it in its tree.
pub(crate) fn digest(state: &State) -> StateDigest {
    while state.feeder().feed().expect("a tree in memory takes everything") {}
    state.feeder().digest().expect("a tree in memory can be read")
}
