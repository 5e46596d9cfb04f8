//! Sessions: what one client sees never goes back, whichever node it asks (C19).
//!
//! Keys have versions that grow with every write. Within a session, in its own order of calls, a read shows no older
//! version than the session wrote or read before, and a write makes a newer one.

use crate::call::{Call, Outcome};
use crate::finding::{Finding, Harm};
use core::fmt;
use std::collections::HashMap;

/// What may be asked; the answer is the version that was read, or made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Writes a key.
    Write {
        /// Which key.
        key: u32,
    },
    /// Reads a key.
    Read {
        /// Which key.
        key: u32,
    },
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write { key } => write!(f, "writes key {key}"),
            Self::Read { key } => write!(f, "reads key {key}"),
        }
    }
}

/// A call of a session: the client is the session.
pub type SessionCall = Call<Operation, u64>;

/// Judges a whole history, of any number of sessions. Calls of one session are taken in the order of their beginnings.
#[must_use]
pub fn check(calls: &[SessionCall]) -> Vec<Finding> {
    let mut sorted: Vec<&SessionCall> = calls.iter().collect();
    sorted.sort_by_key(|call| call.invoked_at);
    // The call that showed a session the newest version of a key.
    let mut newest: HashMap<(u32, u32), (u64, &SessionCall)> = HashMap::new();
    let mut findings = Vec::new();
    for call in sorted {
        let Outcome::Returned { seen, .. } = call.outcome else { continue };
        let (key, is_write) = match call.operation {
            Operation::Write { key } => (key, true),
            Operation::Read { key } => (key, false),
        };
        if let Some((version, before)) = newest.get(&(call.client, key)) {
            let promise = match (is_write, before.operation) {
                (false, _) if seen >= *version => None,
                (true, _) if seen > *version => None,
                (false, Operation::Write { .. }) => Some("a session reads what it wrote"),
                (false, Operation::Read { .. }) => Some("the reads of a session never go back"),
                (true, Operation::Write { .. }) => Some("the writes of a session keep their order"),
                (true, Operation::Read { .. }) => Some("a session's write comes after what it read"),
            };
            if let Some(promise) = promise {
                let harm = if is_write { Harm::Disordered } else { Harm::Stale };
                findings.push(Finding::new("C19", harm, format!("{before}, then {call}: {promise}")));
                continue;
            }
        }
        newest.insert((call.client, key), (seen, call));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(client: u32, at: u64, operation: Operation, seen: u64) -> SessionCall {
        Call { client, invoked_at: at, operation, outcome: Outcome::Returned { at: at + 1, seen } }
    }

    const WRITE: Operation = Operation::Write { key: 0 };
    const READ: Operation = Operation::Read { key: 0 };

    fn promise(first: (Operation, u64), second: (Operation, u64)) -> Option<String> {
        let findings = check(&[call(1, 1, first.0, first.1), call(2, 2, READ, 0), call(1, 3, second.0, second.1)]);
        findings.first().map(|finding| finding.what.rsplit(": ").next().unwrap().to_owned())
    }

    #[test]
    fn each_promise_is_named_when_it_is_broken() {
        assert_eq!(promise((WRITE, 5), (READ, 5)), None);
        assert_eq!(promise((WRITE, 5), (READ, 4)).unwrap(), "a session reads what it wrote");
        assert_eq!(promise((READ, 5), (READ, 4)).unwrap(), "the reads of a session never go back");
        assert_eq!(promise((READ, 5), (READ, 9)), None);
        assert_eq!(promise((WRITE, 5), (WRITE, 5)).unwrap(), "the writes of a session keep their order");
        assert_eq!(promise((READ, 5), (WRITE, 5)).unwrap(), "a session's write comes after what it read");
        assert_eq!(promise((READ, 5), (WRITE, 6)), None);
    }

    #[test]
    fn what_was_not_answered_promises_nothing() {
        let open = Call { outcome: Outcome::Unknown, ..call(1, 1, WRITE, 0) };
        assert_eq!(check(&[open, call(1, 5, READ, 0)]), []);
    }
}
