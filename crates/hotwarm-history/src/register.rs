//! Registers whose writes have values of their own: linearizability, exactly, and step by step.
//!
//! The write of a value and the reads that returned it form a cluster; from its first end to its last start runs its
//! zone. A history is linearizable exactly if no two forward zones (first end before last start) overlap, no backward
//! zone lies within a forward one, and no read ends before its write begins. Source: Gibbons and Korach, "Testing Shared
//! Memories" (1997).
//!
//! Told in the order of time, a zone only ever grows to the right, and what was good is kept in order: each call costs
//! the logarithm of their number. A call that contradicts is reported and left out, so that it is counted once.

use crate::call::{Call, Outcome, seconds};
use crate::finding::{Finding, Harm};
use core::fmt;
use std::collections::{BTreeMap, HashMap};

/// The value of a register that was never written.
pub const INITIAL: u64 = 0;

/// What may be asked of a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Writes a value that nobody else writes to this key, and that is not [`INITIAL`].
    Write {
        /// Which register.
        key: u32,
        /// The value.
        value: u64,
    },
    /// Reads; the answer is the value.
    Read {
        /// Which register.
        key: u32,
    },
}

impl Operation {
    /// Which register.
    #[must_use]
    pub fn key(&self) -> u32 {
        match self {
            Self::Write { key, .. } | Self::Read { key } => *key,
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write { key, value } => write!(f, "writes {value} to register {key}"),
            Self::Read { key } => write!(f, "reads register {key}"),
        }
    }
}

/// A call to a register; a write sees what it wrote.
pub type RegisterCall = Call<Operation, u64>;

/// The write of one value, and the reads that returned it.
#[derive(Clone, Copy, Debug)]
struct Cluster {
    /// The first end; `None` while nothing of it has ended.
    first_end: Option<u64>,
    last_start: u64,
    failed: bool,
}

/// One register.
#[derive(Clone, Debug, Default)]
struct Register {
    clusters: HashMap<u64, Cluster>,
    /// Forward zones, which do not overlap: first end to (last start, value).
    forward: BTreeMap<u64, (u64, u64)>,
    /// Backward zones: (first end, value) to last start.
    backward: BTreeMap<(u64, u64), u64>,
}

impl Register {
    /// The value whose zone leaves no room for this one, if there is such a value. `grown_from`: up to where a forward
    /// zone has been compared with the backward ones already.
    fn clash(&self, value: u64, first_end: u64, last_start: u64, grown_from: u64) -> Option<u64> {
        if last_start <= first_end {
            // Backward: the only forward zone that can hold it is the last that begins before it.
            let (_, (end, holder)) = self.forward.range(..last_start).next_back()?;
            return (first_end < *end && *holder != value).then_some(*holder);
        }
        let before = self.forward.range(..first_end).next_back().filter(|(_, (end, _))| first_end < *end);
        let after = self.forward.range(first_end..last_start).find(|(_, (_, other))| *other != value);
        let beside = before.or(after).map(|(_, (_, other))| *other);
        beside.or_else(|| {
            let ended = self.backward.range((grown_from, 0)..(last_start, 0));
            ended
                .filter(|((_, other), _)| *other != value)
                .find(|(_, start)| first_end < **start)
                .map(|(zone, _)| zone.1)
        })
    }

    /// Puts the zone of a cluster where it now belongs.
    fn settle(&mut self, value: u64, cluster: Cluster) {
        let Some(first_end) = cluster.first_end else { return };
        if cluster.last_start <= first_end {
            self.backward.insert((first_end, value), cluster.last_start);
        } else {
            self.backward.remove(&(first_end, value));
            self.forward.insert(first_end, (cluster.last_start, value));
        }
        self.clusters.insert(value, cluster);
    }
}

/// All registers. Tell it what happens in the order of time.
#[derive(Clone, Debug, Default)]
pub struct Registers {
    registers: HashMap<u32, Register>,
}

impl Registers {
    /// A write begins.
    ///
    /// # Errors
    /// The value was written to this key before: then nothing can be told apart.
    pub fn write_invoked(&mut self, key: u32, value: u64, at: u64) -> Result<(), Finding> {
        let cluster = Cluster { first_end: None, last_start: at, failed: false };
        let register = self.registers.entry(key).or_default();
        if value == INITIAL || register.clusters.contains_key(&value) {
            let what =
                format!("value {value} is written to register {key} again: writes must have values of their own");
            return Err(Finding::new("C18", Harm::Disordered, what));
        }
        register.clusters.insert(value, cluster);
        Ok(())
    }

    /// A write is acknowledged.
    ///
    /// # Errors
    /// No order of the calls explains it.
    pub fn write_acknowledged(&mut self, key: u32, value: u64, invoked_at: u64, at: u64) -> Result<(), Finding> {
        self.ended(key, value, invoked_at, at, "written")
    }

    /// A write was refused: it has not been applied, and never will be.
    ///
    /// # Errors
    /// Its value was read (C9).
    pub fn write_failed(&mut self, key: u32, value: u64) -> Result<(), Finding> {
        let Some(cluster) = self.registers.entry(key).or_default().clusters.get_mut(&value) else { return Ok(()) };
        cluster.failed = true;
        if cluster.first_end.is_none() { Ok(()) } else { Err(revived(key, value)) }
    }

    /// A read is answered with `value`.
    ///
    /// # Errors
    /// No order of the calls explains it.
    pub fn read(&mut self, key: u32, value: u64, invoked_at: u64, at: u64) -> Result<(), Finding> {
        self.ended(key, value, invoked_at, at, "read")
    }

    fn ended(&mut self, key: u32, value: u64, invoked_at: u64, at: u64, how: &str) -> Result<(), Finding> {
        let register = self.registers.entry(key).or_default();
        if value == INITIAL {
            // Written before everything.
            let initial = Cluster { first_end: Some(0), last_start: 0, failed: false };
            register.clusters.entry(INITIAL).or_insert(initial);
        }
        let Some(mut cluster) = register.clusters.get(&value).copied() else {
            let what = format!("register {key} was read as {value} at {}; nobody had begun to write it", seconds(at));
            return Err(Finding::new("C17", Harm::Invented, what));
        };
        if cluster.failed {
            return Err(revived(key, value));
        }
        let grown_from = cluster.first_end.map_or(0, |first_end| first_end.max(cluster.last_start));
        cluster.first_end = Some(cluster.first_end.map_or(at, |first_end| first_end.min(at)));
        cluster.last_start = cluster.last_start.max(invoked_at);
        let first_end = cluster.first_end.unwrap_or(at);
        let clash = register.clash(value, first_end, cluster.last_start, grown_from);
        let Some(other) = clash else {
            register.settle(value, cluster);
            return Ok(());
        };
        let current = |cluster: &Cluster| {
            let (a, b) = (cluster.first_end.unwrap_or(at), cluster.last_start);
            format!("from {} to {}", seconds(a.min(b)), seconds(a.max(b)))
        };
        let what = format!(
            "register {key}, {how} as {value} from {} to {}: {value} must have been current at some time {}, {other} \
             {}, and no order of the two fits",
            seconds(invoked_at),
            seconds(at),
            current(&cluster),
            register.clusters.get(&other).map(current).unwrap_or_default(),
        );
        Err(Finding::new("C18", Harm::Stale, what))
    }
}

fn revived(key: u32, value: u64) -> Finding {
    let what = format!("register {key} was read as {value}, and the write of it had been refused");
    Finding::new("C9", Harm::Revived, what)
}

/// Judges a whole history.
#[must_use]
pub fn check(calls: &[RegisterCall]) -> Vec<Finding> {
    // At one time, beginnings come before ends: what touches overlaps.
    let mut events: Vec<(u64, bool, &RegisterCall)> = Vec::with_capacity(2 * calls.len());
    for call in calls {
        if matches!(call.operation, Operation::Write { .. }) {
            events.push((call.invoked_at, false, call));
        }
        match call.outcome {
            Outcome::Returned { at, .. } => events.push((at, true, call)),
            Outcome::Failed => events.push((u64::MAX, true, call)),
            Outcome::Unknown => {}
        }
    }
    events.sort_by_key(|(at, is_end, _)| (*at, *is_end));
    let mut registers = Registers::default();
    let judged = events.into_iter().map(|(at, is_end, call)| match (call.operation, &call.outcome) {
        (Operation::Write { key, value }, _) if !is_end => registers.write_invoked(key, value, at),
        (Operation::Write { key, value }, Outcome::Returned { .. }) => {
            registers.write_acknowledged(key, value, call.invoked_at, at)
        }
        (Operation::Read { key }, Outcome::Returned { seen, .. }) => registers.read(key, *seen, call.invoked_at, at),
        (Operation::Write { key, value }, Outcome::Failed) => registers.write_failed(key, value),
        (_, Outcome::Failed | Outcome::Unknown) => Ok(()),
    });
    judged.filter_map(Result::err).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_read_is_seen() {
        let mut registers = Registers::default();
        for value in 1..=2 {
            registers.write_invoked(0, value, value * 2 - 1).unwrap();
            registers.write_acknowledged(0, value, value * 2 - 1, value * 2).unwrap();
        }
        assert_eq!(registers.clone().read(0, 1, 5, 6).unwrap_err().harm, Harm::Stale);
        // This read began before the second write ended.
        registers.read(0, 1, 3, 6).unwrap();
    }

    #[test]
    fn overlapping_operations_may_go_either_way_but_not_both() {
        let mut registers = Registers::default();
        registers.write_invoked(0, 1, 1).unwrap();
        registers.write_invoked(0, 2, 1).unwrap();
        registers.write_acknowledged(0, 1, 1, 9).unwrap();
        registers.write_acknowledged(0, 2, 1, 9).unwrap();
        registers.read(0, 2, 10, 11).unwrap();
        registers.read(0, 2, 12, 13).unwrap();
        let finding = registers.read(0, 1, 14, 15).unwrap_err();
        assert!(finding.what.contains("no order of the two fits"), "{finding}");
    }

    #[test]
    fn an_unknown_write_may_appear_late_and_never_vanishes() {
        let mut registers = Registers::default();
        registers.write_invoked(0, 1, 1).unwrap();
        registers.read(0, INITIAL, 5, 6).unwrap();
        registers.read(0, 1, 7, 8).unwrap();
        registers.read(0, INITIAL, 9, 10).unwrap_err();
        registers.read(0, 3, 11, 12).unwrap_err();
    }

    #[test]
    fn a_refused_write_never_shows_before_or_after() {
        let mut registers = Registers::default();
        registers.write_invoked(0, 1, 1).unwrap();
        registers.write_failed(0, 1).unwrap();
        assert_eq!(registers.read(0, 1, 5, 6).unwrap_err().check, "C9");
        registers.write_invoked(0, 2, 7).unwrap();
        registers.read(0, 2, 8, 9).unwrap();
        assert_eq!(registers.write_failed(0, 2).unwrap_err().check, "C9");
        assert_eq!(registers.write_invoked(0, 2, 10).unwrap_err().harm, Harm::Disordered);
    }
}
