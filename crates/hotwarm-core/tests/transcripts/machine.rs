//! One machine: what its process holds, and what survives that.

use hotwarm_core::Node;
use hotwarm_core::register::Vote;
use hotwarm_types::{Block, EntryId, Epoch, FolderId, Incarnation, Lsn, Tenure};
use std::collections::{BTreeMap, VecDeque};

#[derive(Default)]
pub struct Disk {
    pub vote: Vote,
    pub log: Vec<Block>,
    pub floor: EntryId,
    pub epochs: Vec<(Epoch, Lsn)>,
    pub starts: u64,
}

pub struct Machine {
    pub name: String,
    pub folder: FolderId,
    pub node: Option<Node>,
    pub incarnation: Incarnation,
    pub paused: bool,
    pub disk: Disk,
    /// Writes of its own clients that are not acknowledged yet: position, text.
    pub unacknowledged: VecDeque<(Lsn, String)>,
    pub tenure: Option<Tenure>,
    pub snapshots: BTreeMap<u64, EntryId>,
    /// A snapshot that is here and not installed.
    pub received: Option<(EntryId, Vec<(Epoch, Lsn)>)>,
}

/// What an order to the disk does to it once it is done.
pub enum Change {
    Vote(Box<Vote>),
    Append(Block),
    Cut(Lsn),
}

impl Machine {
    pub fn new(name: &str, folder: FolderId) -> Self {
        Self {
            name: name.into(),
            folder,
            node: None,
            incarnation: Incarnation::default(),
            paused: false,
            disk: Disk::default(),
            unacknowledged: VecDeque::new(),
            tenure: None,
            snapshots: BTreeMap::new(),
            received: None,
        }
    }
}

impl Disk {
    pub fn apply(&mut self, change: Change) {
        match change {
            Change::Vote(vote) => self.vote = *vote,
            Change::Append(block) => {
                if self.epochs.last().is_none_or(|(epoch, _)| *epoch < block.epoch) {
                    self.epochs.push((block.epoch, block.first));
                }
                self.log.push(block);
            }
            Change::Cut(last) => {
                self.log.retain(|block| block.last <= last);
                self.epochs.retain(|(_, first)| *first <= last);
            }
        }
    }

    pub fn epoch_at(&self, lsn: Lsn) -> Epoch {
        self.epochs.iter().rev().find(|(_, first)| *first <= lsn).map_or(Epoch(0), |(epoch, _)| *epoch)
    }
}
