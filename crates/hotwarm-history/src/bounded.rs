//! Bounded staleness: a read misses nothing that was acknowledged longer ago than its bound (C21).
//!
//! Keys have versions that grow with every write. A read that cannot prove its bound must be refused, so one that was
//! answered is held to it. Nor does a read show a version that nobody had begun to write.

use crate::call::{Call, seconds};
use crate::finding::{Finding, Harm};
use core::fmt;
use std::collections::HashMap;

/// What may be asked; the answer is the version that was read, or made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Writes a key, in this version.
    Write {
        /// Which key.
        key: u32,
        /// The version, higher than all before it.
        version: u64,
    },
    /// Reads a key.
    Read {
        /// Which key.
        key: u32,
        /// How old the answer may be, in nanoseconds, counted back from the beginning of the read.
        bound: u64,
    },
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write { key, version } => write!(f, "writes key {key} in version {version}"),
            Self::Read { key, bound } => write!(f, "reads key {key} with a bound of {}", seconds(*bound)),
        }
    }
}

/// A call: a write sees the version that it made.
pub type BoundedCall = Call<Operation, u64>;

/// The writes of one key.
#[derive(Default)]
struct Writes {
    /// When each version was acknowledged: along time, the greatest so far.
    acknowledged: Vec<(u64, u64)>,
    /// When each version was begun: along time, the greatest so far.
    begun: Vec<(u64, u64)>,
}

/// Keeps the greatest version up to each time.
fn raise(pairs: &mut Vec<(u64, u64)>) {
    pairs.sort_unstable();
    let mut greatest = 0;
    for (_, version) in pairs {
        greatest = greatest.max(*version);
        *version = greatest;
    }
}

/// The greatest version before `time`.
fn greatest_before(pairs: &[(u64, u64)], time: u64) -> u64 {
    let count = pairs.partition_point(|(at, _)| *at < time);
    count.checked_sub(1).map_or(0, |index| pairs[index].1)
}

/// Judges a whole history.
#[must_use]
pub fn check(calls: &[BoundedCall]) -> Vec<Finding> {
    let mut keys: HashMap<u32, Writes> = HashMap::new();
    for call in calls {
        let Operation::Write { key, version } = call.operation else { continue };
        let writes = keys.entry(key).or_default();
        writes.begun.push((call.invoked_at, version));
        if call.is_acknowledged() {
            writes.acknowledged.push((call.ended_at(), version));
        }
    }
    for writes in keys.values_mut() {
        raise(&mut writes.acknowledged);
        raise(&mut writes.begun);
    }
    let none = Writes::default();
    let mut findings = Vec::new();
    for call in calls {
        let (Operation::Read { key, bound }, Some(seen)) = (call.operation, call.seen()) else { continue };
        let writes = keys.get(&key).unwrap_or(&none);
        let least = greatest_before(&writes.acknowledged, call.invoked_at.saturating_sub(bound));
        if *seen < least {
            let what = format!("{call}; version {least} was acknowledged longer ago than that");
            findings.push(Finding::new("C21", Harm::Stale, what));
        } else if *seen > greatest_before(&writes.begun, call.ended_at().saturating_add(1)) {
            let what = format!("{call}; nobody had begun to write that version");
            findings.push(Finding::new("C17", Harm::Invented, what));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(from: u64, to: u64, version: u64) -> BoundedCall {
        let outcome = Outcome::Returned { at: to, seen: version };
        Call { client: 0, invoked_at: from, operation: Operation::Write { key: 0, version }, outcome }
    }

    fn read(from: u64, bound: u64, seen: u64) -> BoundedCall {
        let outcome = Outcome::Returned { at: from + 1, seen };
        Call { client: 1, invoked_at: from, operation: Operation::Read { key: 0, bound }, outcome }
    }

    use crate::call::Outcome;

    #[test]
    fn a_read_is_no_older_than_its_bound() {
        let writes = [write(10, 20, 1), write(30, 40, 2)];
        let harms = |read: BoundedCall| {
            let calls = [writes[0].clone(), read, writes[1].clone()];
            check(&calls).into_iter().map(|finding| finding.harm).collect::<Vec<_>>()
        };
        assert_eq!(harms(read(100, 60, 1)), [], "acknowledged exactly the bound ago");
        assert_eq!(harms(read(101, 60, 1)), [Harm::Stale]);
        assert_eq!(harms(read(101, 60, 2)), []);
        assert_eq!(harms(read(101, 200, 0)), []);
        assert_eq!(harms(read(25, 5, 2)), [Harm::Invented]);
    }
}
