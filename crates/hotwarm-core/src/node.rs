//! One node: what it knows, and the one function that changes it.

use crate::register::Vote;
use crate::{Input, Output};
use alloc::vec::Vec;
use hotwarm_types::{ClusterId, EntryId, Epoch, FolderId, GroupId, Incarnation, Instant, Lsn, NodeId, Reign};

/// What a node is told at its start and that never changes while it runs.
#[derive(Clone, Debug)]
pub struct Config {
    /// The cluster of the data folder.
    pub cluster: ClusterId,
    /// The group.
    pub group: GroupId,
    /// This node's name.
    pub name: alloc::string::String,
    /// The data folder's identity. With the name it says which member this is (R4).
    pub folder: FolderId,
    /// This start of the process; its counter is durable already.
    pub incarnation: Incarnation,
    /// Feeds jitter, nothing else.
    pub seed: u64,
    /// The initial state, where this folder was made by `hotwarm init` for a group that has never run; else `None`.
    /// The member that its `reign` names bootstraps the register, once all acceptors have answered that they are fresh.
    pub birth: Option<crate::register::GroupState>,
}

/// What recovery found in the data folder; all of it synced by this process before it is told (R11).
#[derive(Clone, Debug, Default)]
pub struct Recovered {
    /// The vote record.
    pub vote: Vote,
    /// The entry before the first one in the log; entries up to it are only in the store.
    pub log_floor: EntryId,
    /// The last entry.
    pub log_end: EntryId,
    /// First position of each epoch, oldest first; reaches back beyond `log_floor` (R30).
    pub epochs: Vec<(Epoch, Lsn)>,
    /// What the store has applied durably: committed, by R32.
    pub applied: Lsn,
}

/// One member of a group.
#[derive(Debug)]
pub struct Node {
    config: Config,
}

impl Node {
    /// A node just started, following nobody.
    #[must_use]
    pub fn new(config: Config, recovered: Recovered, now: Instant) -> Self {
        let _ = (recovered, now);
        Self { config }
    }

    /// Takes one fact, appends what must be done to `out`, in order. Same state, same `now`, same input: same output,
    /// on every machine.
    pub fn step(&mut self, now: Instant, input: Input, out: &mut Vec<Output>) {
        let _ = (now, input, out);
    }

    /// When `step` must next be called with `Input::Elapsed`, if nothing else happens.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        None
    }

    /// Whether local linearizable reads may be answered now: asked with a clock read after the requests arrived (R15,
    /// INV-6). Never remember the answer.
    #[must_use]
    pub fn lease_holds(&self, now: Instant) -> bool {
        let _ = now;
        false
    }

    /// This node's number, if its (name, folder) is a member.
    #[must_use]
    pub fn id(&self) -> Option<NodeId> {
        let _ = &self.config;
        None
    }

    /// The reign this node follows or holds.
    #[must_use]
    pub fn reign(&self) -> Option<Reign> {
        None
    }

    /// The end of its log.
    #[must_use]
    pub fn end(&self) -> EntryId {
        EntryId::default()
    }

    /// Its commit position.
    #[must_use]
    pub fn committed(&self) -> Lsn {
        Lsn::ZERO
    }

    /// The log must be kept after this position: a follower still needs it.
    #[must_use]
    pub fn retain_after(&self) -> Lsn {
        Lsn::ZERO
    }
}
