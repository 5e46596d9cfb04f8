//! Sequential models: what one client alone would see. The general checker searches for an order that fits one.

use crate::{counter, register, unique_set};
use core::fmt;
use core::hash::Hash;

/// A thing with a state, and operations that change it and show parts of it.
pub trait Model {
    /// What may be asked for.
    type Operation;
    /// What an answer says.
    type Seen;
    /// The state of one part.
    type State: Clone + Default + Eq + Hash + fmt::Debug;
    /// Names the parts that do not touch each other: each is judged by itself (P-compositionality).
    type Part: Copy + Ord + fmt::Debug;

    /// The part that an operation touches.
    fn part(operation: &Self::Operation) -> Self::Part;

    /// The state after an operation, or `None` if it could not have been answered so. `seen` is `None` when no answer
    /// is known: then every one would do.
    fn step(state: &Self::State, operation: &Self::Operation, seen: Option<&Self::Seen>) -> Option<Self::State>;
}

/// Registers with reads and writes.
#[derive(Clone, Copy, Debug)]
pub struct Registers;

impl Model for Registers {
    type Operation = register::Operation;
    type Seen = u64;
    type State = u64;
    type Part = u32;

    fn part(operation: &Self::Operation) -> u32 {
        operation.key()
    }

    fn step(state: &u64, operation: &Self::Operation, seen: Option<&u64>) -> Option<u64> {
        match operation {
            register::Operation::Write { value, .. } => Some(*value),
            register::Operation::Read { .. } => seen.is_none_or(|seen| seen == state).then_some(*state),
        }
    }
}

/// Operations on a register that is changed only if it still has a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompareAndSet {
    /// Reads it.
    Read,
    /// Writes it, whatever it was.
    Write(u64),
    /// Writes the second value if it has the first; sees 1 if it did, else 0.
    Change(u64, u64),
}

impl fmt::Display for CompareAndSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read => f.write_str("reads"),
            Self::Write(value) => write!(f, "writes {value}"),
            Self::Change(from, to) => write!(f, "changes {from} to {to}"),
        }
    }
}

/// One register with compare-and-set.
#[derive(Clone, Copy, Debug)]
pub struct ComparingRegister;

impl Model for ComparingRegister {
    type Operation = CompareAndSet;
    type Seen = u64;
    type State = u64;
    type Part = ();

    fn part(_: &CompareAndSet) {}

    fn step(state: &u64, operation: &CompareAndSet, seen: Option<&u64>) -> Option<u64> {
        let (next, answer) = match *operation {
            CompareAndSet::Read => (*state, Some(*state)),
            CompareAndSet::Write(value) => (value, None),
            CompareAndSet::Change(from, to) if from == *state => (to, Some(1)),
            CompareAndSet::Change(..) => (*state, Some(0)),
        };
        let fits = answer.is_none_or(|answer| seen.is_none_or(|seen| *seen == answer));
        fits.then_some(next)
    }
}

/// Counters.
#[derive(Clone, Copy, Debug)]
pub struct Counters;

impl Model for Counters {
    type Operation = counter::Operation;
    type Seen = u64;
    type State = u64;
    type Part = u32;

    fn part(operation: &Self::Operation) -> u32 {
        operation.key()
    }

    fn step(state: &u64, operation: &Self::Operation, seen: Option<&u64>) -> Option<u64> {
        let next = match operation {
            counter::Operation::Increment { .. } => state + 1,
            counter::Operation::Read { .. } => *state,
        };
        seen.is_none_or(|seen| *seen == next).then_some(next)
    }
}

/// Sets, element by element: an element is there or not (`SET key NX`, `EXISTS`).
#[derive(Clone, Copy, Debug)]
pub struct Sets;

impl Model for Sets {
    type Operation = unique_set::Operation;
    type Seen = bool;
    type State = bool;
    type Part = u64;

    fn part(operation: &Self::Operation) -> u64 {
        operation.element()
    }

    fn step(state: &bool, operation: &Self::Operation, seen: Option<&bool>) -> Option<bool> {
        match operation {
            unique_set::Operation::Add { .. } => seen.is_none_or(|added| *added != *state).then_some(true),
            unique_set::Operation::Contains { .. } => seen.is_none_or(|seen| seen == state).then_some(*state),
        }
    }
}
