//! What a data folder must hold, in a form that one process writes down and another compares.

use hotwarm_store::StateDigest;
use hotwarm_types::{Block, EntryId, Epoch, Lsn};
use hotwarm_wire::crc32c;
use serde::{Deserialize, Serialize};

/// An entry's epoch and position.
pub type Entry = (u64, u64);

/// A block: its first position, the entry it ends with, and what it holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Print {
    first: u64,
    end: Entry,
    stamp_ms: u64,
    payload: u32,
}

impl Print {
    /// Of a block.
    #[must_use]
    pub fn of(block: &Block) -> Self {
        let payload = crc32c(&block.payload);
        Self { first: block.first.0, end: entry(block.end()), stamp_ms: block.stamp_ms, payload }
    }

    /// The entry with which it ends.
    #[must_use]
    pub fn end(&self) -> Entry {
        self.end
    }
}

/// What a state is at an entry: how many keys, and a hash of everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatePrint {
    /// The entry.
    pub at: Entry,
    keys: u64,
    hash: u64,
}

impl From<StateDigest> for StatePrint {
    fn from(digest: StateDigest) -> Self {
        Self { at: entry(digest.at), keys: digest.key_count, hash: digest.hash }
    }
}

/// A full copy that is under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copy {
    /// Its number; its chunks lie in the file of that number.
    pub id: u64,
    /// Where it ends.
    pub at: Entry,
    /// How many chunks the folder's own account must have, at least.
    pub recorded: u64,
}

/// What a folder must hold after a step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Truth {
    /// The step, for people.
    pub step: String,
    /// Starts that were reported.
    pub starts: u64,
    /// The vote record, in hexadecimal digits.
    pub vote: String,
    /// The entry before the log's first.
    pub floor: Entry,
    /// The log's blocks.
    pub blocks: Vec<Print>,
    /// How many of them were reported durable.
    pub durable: usize,
    /// Whether the group was said to go on without the folder.
    pub is_removed: bool,
    /// The copy under way, if any.
    pub copy: Option<Copy>,
    /// States that were met on the way to this step: what an end of the log must be worth.
    pub states: Vec<StatePrint>,
}

impl Truth {
    /// The log's end.
    #[must_use]
    pub fn end(&self) -> Entry {
        self.blocks.last().map_or(self.floor, Print::end)
    }

    /// Whether a log is this one without some of the blocks that were not reported durable.
    #[must_use]
    pub fn allows(&self, floor: Entry, blocks: &[Print]) -> bool {
        let count = blocks.len();
        floor == self.floor && (self.durable..=self.blocks.len()).contains(&count) && blocks == &self.blocks[..count]
    }
}

/// As two numbers.
#[must_use]
pub fn entry(entry: EntryId) -> Entry {
    (entry.epoch.0, entry.lsn.0)
}

/// Back from two numbers.
#[must_use]
pub fn entry_id((epoch, lsn): Entry) -> EntryId {
    EntryId { epoch: Epoch(epoch), lsn: Lsn(lsn) }
}

/// In hexadecimal digits.
#[must_use]
pub fn digits(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
