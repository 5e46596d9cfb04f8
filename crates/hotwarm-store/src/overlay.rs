//! The uncommitted tail in memory (R32): operations that are in this node's log, or on their way there, and not
//! committed.
//!
//! Each operation is kept whole, for its commit, and each key's uncommitted versions are kept by position, so that a
//! read can see everything (a write command on the hot), nothing, or its own writes up to a position. Commit takes
//! from the front, demotion and truncation from the back; both cost what the operations that leave cost.

use crate::effect::{Effect, Identity, Operation};
use crate::keyspace::Entry;
use bytes::Bytes;
use hotwarm_types::{Lsn, SessionId};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Bound;

/// What is known of a key: the position that changed it last, and what it holds since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cell {
    pub version: Lsn,
    /// `None`: it is gone.
    pub entry: Option<Entry>,
}

/// The tail.
#[derive(Debug, Default)]
pub(crate) struct Overlay {
    operations: VecDeque<(Lsn, Operation)>,
    /// Uncommitted versions of each key, oldest first.
    keys: BTreeMap<Bytes, VecDeque<Cell>>,
    /// Positions of the uncommitted clears, oldest first.
    clears: VecDeque<Lsn>,
    /// Uncommitted openings (true) and expiries (false) of sessions, oldest first.
    sessions: HashMap<SessionId, VecDeque<(Lsn, bool)>>,
    identities: HashMap<Identity, Lsn>,
    size_bytes: u64,
}

/// From which end an operation leaves.
#[derive(Clone, Copy)]
enum End {
    Front,
    Back,
}

impl End {
    fn pop<T>(self, items: &mut VecDeque<T>) {
        match self {
            Self::Front => items.pop_front(),
            Self::Back => items.pop_back(),
        };
    }
}

/// What an operation weighs in memory, about.
fn weight(operation: &Operation) -> u64 {
    let effects: usize = operation.effects.iter().map(effect_weight).sum();
    (64 + effects + operation.reply.as_ref().map_or(0, Bytes::len)) as u64
}

fn effect_weight(effect: &Effect) -> usize {
    match effect {
        Effect::Put { key, value, .. } => 96 + key.len() + crate::key::value_bytes(value).len(),
        Effect::Delete { key } => 96 + key.len(),
        Effect::Clear | Effect::SessionOpened { .. } | Effect::SessionExpired { .. } => 32,
    }
}

impl Overlay {
    /// Bytes held, about.
    pub(crate) fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Adds the operation at `lsn`, which is past all others.
    pub(crate) fn push(&mut self, lsn: Lsn, operation: Operation) {
        self.size_bytes += weight(&operation);
        for (index, effect) in operation.effects.iter().enumerate() {
            match effect {
                Effect::Put { key, value, expires_at_ms } => {
                    let entry = Entry { value: value.clone(), expires_at_ms: *expires_at_ms, version: lsn };
                    self.push_cell(key, Cell { version: lsn, entry: Some(entry) });
                }
                Effect::Delete { key } => self.push_cell(key, Cell { version: lsn, entry: None }),
                Effect::Clear => self.push_clear(lsn, &operation.effects[..index]),
                Effect::SessionOpened { session } => self.sessions.entry(*session).or_default().push_back((lsn, true)),
                Effect::SessionExpired { session } => {
                    self.sessions.entry(*session).or_default().push_back((lsn, false));
                }
            }
        }
        if let Some(identity) = operation.identity {
            self.identities.insert(identity, lsn);
        }
        self.operations.push_back((lsn, operation));
    }

    fn push_cell(&mut self, key: &Bytes, cell: Cell) {
        let cells = self.keys.entry(key.clone()).or_default();
        // Within one operation the later effect counts.
        cells.pop_back_if(|last| last.version == cell.version);
        cells.push_back(cell);
    }

    /// Adds a clear; `before` are the effects of the same operation that it undoes, too.
    fn push_clear(&mut self, lsn: Lsn, before: &[Effect]) {
        for effect in before {
            let (Effect::Put { key, .. } | Effect::Delete { key }) = effect else { continue };
            if let Some(cells) = self.keys.get_mut(key) {
                cells.pop_back_if(|last| last.version == lsn);
                if cells.is_empty() {
                    self.keys.remove(key);
                }
            }
        }
        if self.clears.back() != Some(&lsn) {
            self.clears.push_back(lsn);
        }
    }

    /// The newest uncommitted version of a key at or below `at`; `None`: the committed state decides.
    pub(crate) fn get(&self, key: &[u8], at: Lsn) -> Option<Cell> {
        if self.operations.is_empty() {
            return None;
        }
        let clear = self.last_clear(at);
        let cell = self.keys.get(key).and_then(|cells| cells.iter().rev().find(|cell| cell.version <= at));
        match (cell, clear) {
            (Some(cell), None) => Some(cell.clone()),
            (Some(cell), Some(clear)) if cell.version >= clear => Some(cell.clone()),
            (_, Some(clear)) => Some(Cell { version: clear, entry: None }),
            (None, None) => None,
        }
    }

    /// The last clear at or below `at`: past it the committed state no longer shows.
    pub(crate) fn last_clear(&self, at: Lsn) -> Option<Lsn> {
        self.clears.iter().rev().find(|clear| **clear <= at).copied()
    }

    /// Up to `count` keys past `after` that have uncommitted versions, in order.
    pub(crate) fn keys_after(&self, after: Bound<&[u8]>, count: usize) -> impl Iterator<Item = &Bytes> {
        self.keys.range::<[u8], _>((after, Bound::Unbounded)).map(|(key, _)| key).take(count)
    }

    /// Where an operation is pending.
    pub(crate) fn pending(&self, identity: &Identity) -> Option<Lsn> {
        self.identities.get(identity).copied()
    }

    /// Whether a session is open after the whole tail; `None`: the tail does not say.
    pub(crate) fn session_open(&self, session: SessionId) -> Option<bool> {
        self.sessions.get(&session).and_then(|changes| changes.back()).map(|(_, open)| *open)
    }

    /// By how many sessions the tail may grow the table, at most.
    pub(crate) fn sessions_opening_max(&self) -> usize {
        self.sessions.len()
    }

    /// Takes the first operation out, if it is at or below `upto`.
    pub(crate) fn pop_front(&mut self, upto: Lsn) -> Option<(Lsn, Operation)> {
        if self.operations.front()?.0 > upto {
            return None;
        }
        let (lsn, operation) = self.operations.pop_front()?;
        self.forget(lsn, &operation, End::Front);
        if self.clears.front() == Some(&lsn) {
            self.clears.pop_front();
        }
        Some((lsn, operation))
    }

    /// Drops every operation past `last`.
    pub(crate) fn truncate(&mut self, last: Lsn) {
        while self.operations.back().is_some_and(|(lsn, _)| *lsn > last) {
            let Some((lsn, operation)) = self.operations.pop_back() else { return };
            self.forget(lsn, &operation, End::Back);
            if self.clears.back() == Some(&lsn) {
                self.clears.pop_back();
            }
        }
    }

    /// Removes what the operation added to the indexes; it is the first, or the last, of each that it is in.
    fn forget(&mut self, lsn: Lsn, operation: &Operation, end: End) {
        self.size_bytes -= weight(operation);
        for effect in &operation.effects {
            match effect {
                Effect::Put { key, .. } | Effect::Delete { key } => {
                    let Some(cells) = self.keys.get_mut(key) else { continue };
                    // An effect that a later one of the same operation replaced has left nothing to remove.
                    let own = [cells.front(), cells.back()].into_iter().flatten().any(|cell| cell.version == lsn);
                    if own {
                        end.pop(cells);
                    }
                    if cells.is_empty() {
                        self.keys.remove(key);
                    }
                }
                Effect::Clear => {}
                Effect::SessionOpened { session } | Effect::SessionExpired { session } => {
                    let Some(changes) = self.sessions.get_mut(session) else { continue };
                    end.pop(changes);
                    if changes.is_empty() {
                        self.sessions.remove(session);
                    }
                }
            }
        }
        if let Some(identity) = &operation.identity
            && self.identities.get(identity) == Some(&lsn)
        {
            self.identities.remove(identity);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyspace::Value;
    use proptest::prelude::*;

    fn effect(choice: u8) -> Effect {
        let key = Bytes::copy_from_slice(&[choice % 4]);
        match choice {
            0..12 => Effect::Put { key, value: Value::String(Bytes::copy_from_slice(&[choice])), expires_at_ms: None },
            12..18 => Effect::Delete { key },
            _ => Effect::Clear,
        }
    }

    /// What the operations up to `at` leave of a key: the plain way.
    fn model(operations: &[(Lsn, Operation)], key: &[u8], at: Lsn) -> Option<Cell> {
        let mut cell = None;
        for (lsn, operation) in operations.iter().filter(|(lsn, _)| *lsn <= at) {
            for effect in &operation.effects {
                match effect {
                    Effect::Put { key: of, value, expires_at_ms } if of == key => {
                        let entry = Entry { value: value.clone(), expires_at_ms: *expires_at_ms, version: *lsn };
                        cell = Some(Cell { version: *lsn, entry: Some(entry) });
                    }
                    Effect::Delete { key: of } if of == key => cell = Some(Cell { version: *lsn, entry: None }),
                    Effect::Clear => cell = Some(Cell { version: *lsn, entry: None }),
                    _ => {}
                }
            }
        }
        cell
    }

    proptest! {
        #[test]
        fn it_answers_like_the_operations_played_one_by_one(
            steps in proptest::collection::vec((proptest::collection::vec(0_u8..19, 0..4), 0_u8..8), 1..40),
        ) {
            let mut overlay = Overlay::default();
            let mut operations: Vec<(Lsn, Operation)> = Vec::new();
            let mut end = Lsn(10);
            for (choices, then) in steps {
                end = end.next();
                let operation = Operation { effects: choices.into_iter().map(effect).collect(), ..Operation::default() };
                overlay.push(end, operation.clone());
                operations.push((end, operation));
                if then == 0 {
                    let upto = operations[operations.len() / 2].0;
                    while let Some(popped) = overlay.pop_front(upto) {
                        prop_assert_eq!(popped, operations.remove(0));
                    }
                } else if then == 1 {
                    end = operations[operations.len() / 2].0;
                    overlay.truncate(end);
                    operations.retain(|(lsn, _)| *lsn <= end);
                }
                for at in [Lsn(0), Lsn(end.0 - 1), end, Lsn(u64::MAX)] {
                    for key in 0..4_u8 {
                        prop_assert_eq!(overlay.get(&[key], at), model(&operations, &[key], at));
                    }
                }
            }
            overlay.truncate(Lsn::ZERO);
            prop_assert!(overlay.keys.is_empty() && overlay.clears.is_empty() && overlay.size_bytes() == 0);
        }
    }
}
