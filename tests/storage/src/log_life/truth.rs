//! What a folder must hold: kept by the life beside what it does, and compared with what is found after a crash.

use hotwarm_log::FolderState;
use hotwarm_types::{Block, EntryId, Epoch, Lsn};

/// What the log must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogTruth {
    /// The entry before the first.
    pub floor: EntryId,
    /// Stamp of that entry; of a log that was found it is known only if there are no blocks.
    pub floor_stamp_ms: u64,
    /// All blocks, durable or not.
    pub blocks: Vec<Block>,
    /// First position of each epoch.
    pub epochs: Vec<(Epoch, Lsn)>,
}

impl LogTruth {
    /// The last entry.
    #[must_use]
    pub fn end(&self) -> EntryId {
        self.blocks.last().map_or(self.floor, Block::end)
    }

    /// Its stamp.
    #[must_use]
    pub fn end_stamp_ms(&self) -> u64 {
        self.blocks.last().map_or(self.floor_stamp_ms, |block| block.stamp_ms)
    }

    /// A block was appended.
    pub fn append(&mut self, block: Block) {
        if self.epochs.last().is_none_or(|(last, _)| *last < block.epoch) {
            self.epochs.push((block.epoch, block.first));
        }
        self.blocks.push(block);
    }

    /// Everything after a position was cut off; returns it.
    pub fn cut(&mut self, last: Lsn) -> Vec<Block> {
        let kept = self.blocks.partition_point(|block| block.last <= last);
        self.epochs.retain(|(_, first)| *first <= last);
        self.blocks.split_off(kept)
    }

    /// Replaced by an empty log after `at`.
    pub fn reset(&mut self, at: EntryId, epochs: &[(Epoch, Lsn)]) {
        let floor_stamp_ms = self.end_stamp_ms();
        *self = Self { floor: at, floor_stamp_ms, blocks: Vec::new(), epochs: epochs.to_vec() };
    }

    /// The front up to `floor` was dropped; `None` if that is not the end of a block.
    #[must_use]
    pub fn drop_front(mut self, floor: EntryId) -> Option<Self> {
        if floor != self.floor {
            let at = self.blocks.iter().position(|block| block.end() == floor)?;
            self.floor_stamp_ms = self.blocks[at].stamp_ms;
            self.blocks.drain(..=at);
            self.floor = floor;
        }
        Some(self)
    }

    /// Whether this is `whole` without some of the blocks past its first `durable`.
    #[must_use]
    pub fn is_left_of(&self, whole: &Self, durable: usize) -> bool {
        let count = self.blocks.len();
        let end = self.end().lsn;
        let known = whole.epochs.partition_point(|(_, first)| *first <= end);
        self.floor == whole.floor
            && (count > 0 || self.floor_stamp_ms == whole.floor_stamp_ms)
            && (durable..=whole.blocks.len()).contains(&count)
            && self.blocks == whole.blocks[..count]
            && self.epochs == whole.epochs[..known]
    }
}

/// What the folder's record must say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordTruth {
    /// Starts that were reported.
    pub starts: u64,
    /// Whether the data is whole.
    pub state: FolderState,
    /// Whether the last stop was clean.
    pub is_clean: bool,
}

/// What was cut off once and put aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aside {
    /// The entry that stayed last.
    pub after: EntryId,
    /// What was cut.
    pub blocks: Vec<Block>,
}

/// What a folder must hold.
#[derive(Clone, Debug)]
pub struct Truth {
    /// Whether the birth was reported.
    pub is_born: bool,
    /// The record.
    pub record: RecordTruth,
    /// The vote record.
    pub vote: Vec<u8>,
    /// The log.
    pub log: LogTruth,
    /// How many of its blocks were reported durable.
    pub durable: usize,
    /// What lies in side files, oldest first.
    pub aside: Vec<Aside>,
}

impl Truth {
    /// Of a folder that is to be born, with the vote record that it is born with.
    #[must_use]
    pub fn unborn(vote: &[u8]) -> Self {
        Self {
            is_born: false,
            record: RecordTruth { starts: 0, state: FolderState::Complete, is_clean: true },
            vote: vote.to_vec(),
            log: LogTruth::default(),
            durable: 0,
            aside: Vec::new(),
        }
    }

    /// What was found after a crash is what there is from now on, all of it durable; `found` was checked.
    pub fn adopt(&mut self, found: &Found) {
        let count = found.log.blocks.len();
        self.log.blocks.truncate(count);
        self.log.epochs.clone_from(&found.log.epochs);
        self.durable = count;
        self.vote.clone_from(&found.vote);
        self.record = found.record;
    }
}

/// What was found in a folder after a crash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// What the record said before this start.
    pub record: RecordTruth,
    /// The vote record.
    pub vote: Vec<u8>,
    /// The log.
    pub log: LogTruth,
    /// The side files.
    pub aside: Vec<Aside>,
}

impl Found {
    /// Whether this may be what a crash left on the way from `before` to `after`; else what is wrong.
    ///
    /// # Errors
    /// What is wrong, for people.
    pub fn check(&self, before: &Truth, after: &Truth) -> Result<(), String> {
        if self.record != before.record && self.record != after.record {
            return Err(format!(
                "the record says {:?}, reported was {:?}, on the way to {:?}",
                self.record, before.record, after.record
            ));
        }
        if self.vote != before.vote && self.vote != after.vote {
            return Err(format!(
                "the vote record is {:?}, reported was {:?}, on the way to {:?}",
                self.vote.escape_ascii().to_string(),
                before.vote.escape_ascii().to_string(),
                after.vote.escape_ascii().to_string()
            ));
        }
        let stays = |aside: &&Aside| after.aside.contains(aside);
        let needed: Vec<&Aside> = if self.log.is_left_of(&before.log, before.durable) {
            before.aside.iter().filter(stays).collect()
        } else if self.log.is_left_of(&after.log, after.durable) {
            after.aside.iter().collect()
        } else {
            return Err(format!(
                "the log holds {}, reported durable were {} of {}, on the way to {} of {}",
                shown(&self.log),
                before.durable,
                shown(&before.log),
                after.durable,
                shown(&after.log)
            ));
        };
        match needed.into_iter().find(|aside| !self.aside.contains(aside)) {
            None => Ok(()),
            Some(lost) => Err(format!("what was cut off after {} lies in no side file", lost.after)),
        }
    }
}

fn shown(log: &LogTruth) -> String {
    format!("{} blocks from {} to {}, epochs {:?}", log.blocks.len(), log.floor, log.end(), log.epochs)
}
