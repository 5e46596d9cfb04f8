//! What really happened, as only the simulator can know: who wrote which block first, what was committed, and which
//! states the register has chosen.
//!
//! White-box and append-only; the judges compare what nodes do with it. It takes no part in the run.

use bytes::Bytes;
use hotwarm_core::register::{Ballot, GroupState, ProposalId, Vote};
use hotwarm_store::Identity;
use hotwarm_store::effect::{self, Effect, Operation};
use hotwarm_store::keyspace::Value;
use hotwarm_types::{Block, BlockKind, EntryId, Epoch, Lsn, NodeId, Version};
use std::collections::{BTreeMap, BTreeSet};

/// The first appearance of a block in the world.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The block.
    pub block: Block,
    /// The entry before it in the log where it appeared.
    pub prev: EntryId,
}

/// Two facts that cannot both be true in a correct group.
#[derive(Clone, Debug)]
pub struct Contradiction {
    /// The rule or invariant that forbids it.
    pub rule: &'static str,
    /// What happened.
    pub what: String,
}

/// What a key held from a position on, and when that runs out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The position.
    pub from: Lsn,
    /// What it held; `None`: it was not there.
    pub value: Option<Bytes>,
}

/// The committed log, block by block, and what it makes of each key.
#[derive(Debug, Default)]
pub struct Canon {
    blocks: BTreeMap<Lsn, Block>,
    /// The last committed position.
    pub end: EntryId,
    /// The history of each key.
    keys: BTreeMap<Bytes, Vec<Held>>,
    /// Where each operation of a session was executed, and its reply (INV-10).
    executed: BTreeMap<Identity, (Lsn, Option<Bytes>)>,
}

impl Canon {
    /// The committed block that begins at a position.
    #[must_use]
    pub fn block(&self, first: Lsn) -> Option<&Block> {
        self.blocks.get(&first)
    }

    /// The epoch of a committed position.
    #[must_use]
    pub fn epoch_at(&self, lsn: Lsn) -> Option<Epoch> {
        let (_, block) = self.blocks.range(..=lsn).next_back()?;
        (lsn <= block.last).then_some(block.epoch)
    }

    /// What a key held at a position.
    #[must_use]
    pub fn value_at(&self, key: &[u8], lsn: Lsn) -> Option<&Bytes> {
        let history = self.keys.get(key)?;
        let index = history.partition_point(|held| held.from <= lsn);
        history[..index].last()?.value.as_ref()
    }

    /// All keys that were ever written.
    pub fn keys(&self) -> impl Iterator<Item = &Bytes> {
        self.keys.keys()
    }

    /// What an operation did, if it is committed: its position and its reply.
    #[must_use]
    pub fn executed(&self, identity: Identity) -> Option<&(Lsn, Option<Bytes>)> {
        self.executed.get(&identity)
    }

    /// Adds a committed block, which must follow on the end.
    fn extend(&mut self, block: &Block) -> Result<(), Contradiction> {
        for (lsn, operation) in operations(block)? {
            if let Some(identity) = operation.identity
                && let Some((before, _)) = self.executed.insert(identity, (lsn, operation.reply))
            {
                let what = format!("{identity:?} is committed at {before} and at {lsn}");
                return Err(Contradiction { rule: "INV-10", what });
            }
            for effect in operation.effects {
                let (key, value) = match effect {
                    Effect::Put { key, value: Value::String(value), .. } => (key, Some(value)),
                    Effect::Delete { key } => (key, None),
                    Effect::Clear | Effect::SessionOpened { .. } | Effect::SessionExpired { .. } => continue,
                };
                self.keys.entry(key).or_default().push(Held { from: lsn, value });
            }
        }
        self.end = block.end();
        self.blocks.insert(block.first, block.clone());
        Ok(())
    }
}

/// The operations of a block and their positions; none for the start of an epoch.
///
/// # Errors
/// The payload does not read as operations.
pub fn operations(block: &Block) -> Result<Vec<(Lsn, Operation)>, Contradiction> {
    if block.kind == BlockKind::EpochStart {
        return Ok(Vec::new());
    }
    let operations = effect::decode(&block.payload, block.last.since(block.first) + 1).map_err(|error| {
        Contradiction { rule: "INV-12", what: format!("block {} cannot be read: {error}", block.end()) }
    })?;
    Ok(operations
        .into_iter()
        .enumerate()
        .map(|(index, operation)| (block.first.plus(index as u64), operation))
        .collect())
}

/// Names a state: its version, the wish that made it, and the wish that made the state before. The same wish may be tried
/// on another base, where the first turns out not to have been chosen.
type StateKey = (Version, ProposalId, Option<ProposalId>);

fn key(state: &GroupState) -> StateKey {
    (state.version, state.proposal, maker(state, state.version.0.checked_sub(1)))
}

/// The wish that made an earlier version, by the record that a state carries of it.
fn maker(state: &GroupState, version: Option<u64>) -> Option<ProposalId> {
    let version = Version(version?);
    state.changes.iter().rev().find(|record| record.version == version).map(|record| record.by)
}

/// The register as an omniscient observer sees it.
#[derive(Debug, Default)]
pub struct Choices {
    /// Every state that was ever proposed.
    proposed: BTreeMap<StateKey, GroupState>,
    /// Which acceptors held which ballot durably, and its value.
    accepted: BTreeMap<Ballot, (StateKey, BTreeSet<NodeId>)>,
    /// The states known to be chosen or to precede a chosen one, by version.
    chosen: BTreeMap<Version, GroupState>,
}

impl Choices {
    /// The newest chosen state.
    #[must_use]
    pub fn latest(&self) -> Option<&GroupState> {
        self.chosen.last_key_value().map(|(_, state)| state)
    }

    /// The chosen state of a version.
    #[must_use]
    pub fn at(&self, version: Version) -> Option<&GroupState> {
        self.chosen.get(&version)
    }

    /// The state of the first version of a reign, if it was chosen.
    #[must_use]
    pub fn reign(&self, epoch: Epoch) -> Option<&GroupState> {
        self.chosen.values().find(|state| state.reign.epoch == epoch)
    }

    /// Notes a state that a node proposes or accepts.
    fn note(&mut self, state: &GroupState) -> Result<(), Contradiction> {
        let key = key(state);
        match self.proposed.get(&key) {
            None => {
                self.proposed.insert(key, state.clone());
                Ok(())
            }
            Some(before) if before == state => Ok(()),
            Some(_) => {
                let what = format!("two states of {} carry the same proposal {:?}", state.version, state.proposal);
                Err(Contradiction { rule: "R2", what })
            }
        }
    }

    /// Notes that an acceptor holds a vote durably. Returns the versions that this made chosen, oldest first.
    fn accept(&mut self, acceptor: NodeId, vote: &Vote) -> Result<Vec<Version>, Contradiction> {
        let Some((ballot, state)) = &vote.accepted else { return Ok(Vec::new()) };
        let key = key(state);
        let (held, voters) = self.accepted.entry(*ballot).or_insert_with(|| (key, BTreeSet::new()));
        if *held != key {
            let what = format!("ballot {ballot} carries two values, of {} and of {}", held.0, state.version);
            return Err(Contradiction { rule: "R3", what });
        }
        if !voters.insert(acceptor) {
            return Ok(Vec::new());
        }
        let voters = voters.clone();
        self.note(state)?;
        if self.chosen.get(&state.version).is_some_and(|chosen| chosen == state) {
            return Ok(Vec::new());
        }
        let votes = |of: &GroupState| of.members.keys().filter(|id| voters.contains(id)).count();
        let mut enough = votes(state) >= state.majority_count();
        if state.members_version == state.version {
            // A change of the acceptors needs a majority of the old ones too (R6); the first state needs all (R4).
            enough = match self.parent(state) {
                Some(parent) => enough && votes(&parent) >= parent.majority_count(),
                None => enough,
            };
        }
        if enough { self.choose(state.clone()) } else { Ok(Vec::new()) }
    }

    /// The state that a state was made from, by the record that it carries of it.
    fn parent(&self, state: &GroupState) -> Option<GroupState> {
        let version = state.version.0.checked_sub(1)?;
        match maker(state, Some(version)) {
            Some(by) => {
                let parent = (Version(version), by, maker(state, version.checked_sub(1)));
                self.proposed.get(&parent).cloned()
            }
            None => self.chosen.get(&Version(version)).cloned(),
        }
    }

    /// Makes a state and its ancestors chosen.
    fn choose(&mut self, state: GroupState) -> Result<Vec<Version>, Contradiction> {
        let mut line = vec![state];
        while let Some(parent) = self.parent(&line[line.len() - 1]) {
            if self.chosen.get(&parent.version).is_some_and(|chosen| *chosen == parent) {
                break;
            }
            line.push(parent);
        }
        let mut versions = Vec::new();
        for state in line.into_iter().rev() {
            let version = state.version;
            match self.chosen.get(&version) {
                Some(before) if *before == state => {}
                Some(before) => {
                    let what = format!(
                        "two states of {version} are chosen: reign {} in sync {:?}, and reign {} in sync {:?}",
                        before.reign, before.in_sync, state.reign, state.in_sync
                    );
                    return Err(Contradiction { rule: "R2", what });
                }
                None => {
                    versions.push(version);
                    self.chosen.insert(version, state);
                }
            }
        }
        Ok(versions)
    }
}

/// The whole of it.
#[derive(Debug, Default)]
pub struct Ledger {
    origins: BTreeMap<(Epoch, Lsn), Origin>,
    /// Where each epoch began: its first position, and the entry before it.
    starts: BTreeMap<Epoch, (Lsn, EntryId)>,
    /// The committed log.
    pub canon: Canon,
    /// The register.
    pub choices: Choices,
}

impl Ledger {
    /// The first appearance of the block of an epoch that begins at a position.
    #[must_use]
    pub fn origin(&self, epoch: Epoch, first: Lsn) -> Option<&Origin> {
        self.origins.get(&(epoch, first))
    }

    /// Notes a block that a node appends after `prev`; whether it is the block's first appearance.
    pub fn appended(&mut self, prev: EntryId, block: &Block) -> bool {
        let key = (block.epoch, block.first);
        if self.origins.contains_key(&key) {
            return false;
        }
        self.starts.entry(block.epoch).or_insert((block.first, prev));
        self.origins.insert(key, Origin { block: block.clone(), prev });
        true
    }

    /// The epoch of position `lsn` in the log of the hot of `reign`; `None` before the first write.
    #[must_use]
    pub fn lineage(&self, reign: Epoch, lsn: Lsn) -> Option<Epoch> {
        let mut epoch = reign;
        loop {
            let (first, prev) = self.starts.get(&epoch)?;
            if lsn >= *first {
                return Some(epoch);
            }
            epoch = prev.epoch;
        }
    }

    /// A hot commits this block.
    ///
    /// # Errors
    /// It contradicts what was committed before.
    pub fn commit(&mut self, block: &Block) -> Result<bool, Contradiction> {
        if let Some(before) = self.canon.block(block.first) {
            if before == block {
                return Ok(false);
            }
            let what = format!("{} was committed, and now {} is, in its place", before.end(), block.end());
            return Err(Contradiction { rule: "INV-7", what });
        }
        if block.first != self.canon.end.lsn.next() {
            let what = format!("{} is committed after {}", block.end(), self.canon.end);
            return Err(Contradiction { rule: "INV-7", what });
        }
        self.canon.extend(block).map(|()| true)
    }

    /// A node proposes a state.
    ///
    /// # Errors
    /// A different state carries the same proposal.
    pub fn proposed(&mut self, state: &GroupState) -> Result<(), Contradiction> {
        self.choices.note(state)
    }

    /// An acceptor's vote is durable. Returns the versions that this made chosen, oldest first.
    ///
    /// # Errors
    /// It contradicts what was chosen before.
    pub fn voted(&mut self, acceptor: NodeId, vote: &Vote) -> Result<Vec<Version>, Contradiction> {
        self.choices.accept(acceptor, vote)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hotwarm_types::{Payload, SessionId};

    fn block(epoch: u64, lsn: u64) -> Block {
        let put = Effect::Put {
            key: Bytes::from_static(b"k"),
            value: Value::String(Bytes::from(lsn.to_string())),
            expires_at_ms: None,
        };
        let identity = Some(Identity { session: SessionId(1), sequence: lsn });
        let mut payload = vec![effect::FORMAT_VERSION];
        Operation { identity, effects: vec![put], reply: None }.encode(&mut payload);
        let payload = Payload::new(&payload);
        let lsn = Lsn(lsn);
        Block { kind: BlockKind::Data, epoch: Epoch(epoch), first: lsn, last: lsn, stamp_ms: 0, payload }
    }

    #[test]
    fn a_committed_block_is_never_replaced() {
        let mut ledger = Ledger::default();
        assert!(ledger.commit(&block(1, 1)).unwrap());
        assert!(!ledger.commit(&block(1, 1)).unwrap());
        assert_eq!(ledger.commit(&block(2, 1)).unwrap_err().rule, "INV-7");
        assert_eq!(ledger.commit(&block(1, 3)).unwrap_err().rule, "INV-7");
    }

    #[test]
    fn a_sequence_number_is_executed_once() {
        let mut ledger = Ledger::default();
        ledger.commit(&block(1, 1)).unwrap();
        let twice = Block { first: Lsn(2), last: Lsn(2), ..block(1, 1) };
        assert_eq!(ledger.commit(&twice).unwrap_err().rule, "INV-10");
    }

    #[test]
    fn the_line_of_a_reign_goes_back_through_the_epochs_it_continued() {
        let mut ledger = Ledger::default();
        let empty = Block { payload: Payload::new(&[]), ..block(1, 1) };
        ledger.appended(EntryId::default(), &empty);
        ledger.appended(empty.end(), &block(1, 2));
        ledger.appended(empty.end(), &block(2, 2));
        assert_eq!(ledger.lineage(Epoch(2), Lsn(2)), Some(Epoch(2)));
        assert_eq!(ledger.lineage(Epoch(2), Lsn(1)), Some(Epoch(1)));
        assert_eq!(ledger.lineage(Epoch(1), Lsn(2)), Some(Epoch(1)));
        assert_eq!(ledger.lineage(Epoch(3), Lsn(2)), None);
    }
}
