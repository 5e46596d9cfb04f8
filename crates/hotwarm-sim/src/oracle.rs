//! The judge that knows only what clients saw.
//!
//! Registers: every write has a value of its own, so linearizability can be decided exactly and step by step
//! (Gibbons and Korach, "Testing Shared Memories", 1997): the operations on one value form a cluster; from the first end
//! to the last start of a cluster runs its zone; no two forward zones may overlap, and no backward zone may lie within
//! a forward one. Counters: every reply is unique and above whatever was replied before the request began, and a read
//! is never below that. A request given up stays unknown: its effect may show, and need not.

use crate::workload::{COUNTERS_FROM, Command, KEYS, What, name_of};
use std::collections::{BTreeMap, BTreeSet};

/// What clients saw that no correct group shows.
#[derive(Clone, Debug)]
pub struct Complaint {
    /// The invariant, or the property, that is broken.
    pub rule: &'static str,
    /// What was seen.
    pub what: String,
}

/// The write of one value to one register, and the reads that returned it.
#[derive(Clone, Copy, Debug)]
struct Cluster {
    /// When the write was invoked.
    invoked: u64,
    /// The least end of an operation of the cluster; `u64::MAX` while none has ended.
    first_end: u64,
    /// The greatest start of an operation of the cluster.
    last_start: u64,
}

impl Cluster {
    fn is_forward(&self) -> bool {
        self.first_end < self.last_start
    }

    /// The zone: from the lower to the higher of both bounds.
    fn zone(&self) -> (u64, u64) {
        (self.first_end.min(self.last_start), self.first_end.max(self.last_start))
    }
}

/// One register: its values, and their zones in order of time.
#[derive(Clone, Debug, Default)]
struct Register {
    clusters: BTreeMap<u64, Cluster>,
    /// Forward zones by (start, value), each with its end. No two overlap.
    forward: BTreeMap<(u64, u64), u64>,
    /// Backward zones, likewise. None lies within a forward one.
    backward: BTreeMap<(u64, u64), u64>,
}

impl Register {
    /// A cluster has changed: puts its zone where it belongs, unless it clashes with another; says with which.
    fn place(&mut self, value: u64, before: Cluster, after: Cluster) -> Result<(), u64> {
        let (start, _) = before.zone();
        self.forward.remove(&(start, value));
        self.backward.remove(&(start, value));
        self.clusters.insert(value, after);
        let (start, end) = after.zone();
        if after.first_end == u64::MAX {
            return Ok(());
        }
        let last_before = self.forward.range(..=(start, u64::MAX)).next_back();
        if let Some(((other_start, other), other_end)) = last_before {
            let clash = if after.is_forward() {
                *other_end > start && *other_start < end
            } else {
                *other_start < start && end < *other_end
            };
            if clash {
                return Err(*other);
            }
        }
        if !after.is_forward() {
            self.backward.insert((start, value), end);
            return Ok(());
        }
        let first_after = self.forward.range((start, u64::MAX)..).next();
        if let Some(((_, other), _)) = first_after.filter(|((other_start, _), _)| *other_start < end) {
            return Err(*other);
        }
        let mut inside = self.backward.range((start + 1, 0)..(end, 0));
        if let Some(((_, other), _)) = inside.find(|(_, other_end)| **other_end < end) {
            return Err(*other);
        }
        self.forward.insert((start, value), end);
        Ok(())
    }
}

/// What was seen of one counter.
#[derive(Clone, Debug, Default)]
struct Counter {
    invoked: u64,
    replies: BTreeSet<u64>,
    /// Greatest value seen, by the time at which it was seen; grows along both.
    seen: Vec<(u64, u64)>,
}

impl Counter {
    /// The greatest value that somebody had seen before `time`.
    fn seen_before(&self, time: u64) -> u64 {
        let index = self.seen.partition_point(|(at, _)| *at < time);
        index.checked_sub(1).map_or(0, |index| self.seen[index].1)
    }

    fn see(&mut self, now: u64, value: u64) {
        if self.seen.last().is_none_or(|(_, greatest)| *greatest < value) {
            self.seen.push((now, value));
        }
    }
}

/// What was seen of one name that is claimed.
#[derive(Clone, Debug, Default)]
struct Name {
    /// Who was told to have it.
    holder: Option<u64>,
    /// Who was told that it is taken.
    turned_away: BTreeSet<u64>,
}

/// All that clients saw.
#[derive(Debug, Default)]
pub struct Oracle {
    registers: [Register; KEYS],
    counters: BTreeMap<u8, Counter>,
    names: BTreeMap<u64, Name>,
    /// Writes acknowledged.
    pub acknowledged: u64,
    /// Reads answered.
    pub reads: u64,
    /// Requests given up.
    pub unknown: u64,
}

impl Oracle {
    /// A client asks for something, at `now` nanoseconds.
    pub fn invoke(&mut self, now: u64, what: What) {
        match what {
            What::Write(Command::Set { key, value }) => {
                let cluster = Cluster { invoked: now, first_end: u64::MAX, last_start: now };
                self.registers[usize::from(key)].clusters.insert(value, cluster);
            }
            What::Write(Command::Increment { key }) => self.counters.entry(key).or_default().invoked += 1,
            What::Write(Command::Claim { name, .. }) => drop(self.names.entry(name).or_default()),
            What::Open | What::Read { .. } => {}
        }
    }

    /// A client got a reply at `now` to what it asked at `invoked_at`.
    ///
    /// # Errors
    /// No order of the operations explains it.
    pub fn respond(&mut self, now: u64, invoked_at: u64, what: What, value: u64) -> Result<(), Complaint> {
        match what {
            What::Open => {}
            What::Write(_) => self.acknowledged += 1,
            What::Read { .. } => self.reads += 1,
        }
        match what {
            What::Open => Ok(()),
            What::Write(Command::Set { key, value: written }) if written != value => Err(Complaint {
                rule: "INV-10",
                what: format!("a write of {written} to key {key} was answered with {value}"),
            }),
            What::Write(Command::Claim { name, value: claimed }) => self.claimed(name, claimed, value),
            What::Write(Command::Set { key, .. }) => self.end_of_cluster(key, value, now, invoked_at),
            What::Read { key, .. } if key < COUNTERS_FROM => self.end_of_cluster(key, value, now, invoked_at),
            What::Write(Command::Increment { key }) => self.incremented(key, now, invoked_at, value),
            What::Read { key, .. } => self.counter_read(key, now, invoked_at, value),
        }
    }

    /// A client is told that nothing was done, nor will be.
    pub fn refuse(&mut self, what: What) {
        match what {
            What::Write(Command::Set { key, value }) => {
                self.registers[usize::from(key)].clusters.remove(&value);
            }
            What::Write(Command::Increment { key }) => {
                let counter = self.counters.entry(key).or_default();
                counter.invoked = counter.invoked.saturating_sub(1);
            }
            What::Open | What::Read { .. } | What::Write(Command::Claim { .. }) => {}
        }
    }

    /// A client gives up.
    pub fn abandon(&mut self) {
        self.unknown += 1;
    }

    /// An operation on a value of a register has ended.
    fn end_of_cluster(&mut self, key: u8, value: u64, now: u64, invoked_at: u64) -> Result<(), Complaint> {
        let register = &mut self.registers[usize::from(key)];
        if value == 0 {
            // The initial value: written before everything.
            let first = Cluster { invoked: 0, first_end: 0, last_start: 0 };
            register.clusters.entry(0).or_insert(first);
        }
        let Some(before) = register.clusters.get(&value).copied() else {
            let what = format!("key {key} was read as {value}, which nobody wrote to it");
            return Err(Complaint { rule: "INV-7", what });
        };
        if now < before.invoked {
            let what = format!("key {key} was read as {value} before that was written");
            return Err(Complaint { rule: "INV-7", what });
        }
        let after =
            Cluster { first_end: before.first_end.min(now), last_start: before.last_start.max(invoked_at), ..before };
        let Err(other) = register.place(value, before, after) else { return Ok(()) };
        let zone = register.clusters.get(&other).map_or((0, 0), Cluster::zone);
        Err(Complaint {
            rule: "INV-6",
            what: format!(
                "key {key} is not linearizable: {value} was current over {:?} ms and {other} over {:?} ms",
                millis(after.zone()),
                millis(zone)
            ),
        })
    }

    fn claimed(&mut self, name: u64, claimed: u64, value: u64) -> Result<(), Complaint> {
        let seen = self.names.entry(name).or_default();
        if value == 0 {
            seen.turned_away.insert(claimed);
            return Ok(());
        }
        match seen.holder.replace(claimed) {
            Some(before) if before != claimed => {
                Err(Complaint { rule: "INV-10", what: format!("name {name} was given to {before} and to {claimed}") })
            }
            Some(_) | None => Ok(()),
        }
    }

    fn incremented(&mut self, key: u8, now: u64, invoked_at: u64, value: u64) -> Result<(), Complaint> {
        let counter = self.counters.entry(key).or_default();
        if !counter.replies.insert(value) {
            let what = format!("two increments of counter {key} were answered with {value}");
            return Err(Complaint { rule: "INV-3", what });
        }
        let before = counter.seen_before(invoked_at);
        if value <= before {
            let what = format!("counter {key} was incremented to {value} after it had been seen at {before}");
            return Err(Complaint { rule: "INV-3", what });
        }
        if value > counter.invoked {
            let what = format!("counter {key} is {value} after {} increments were asked for", counter.invoked);
            return Err(Complaint { rule: "INV-10", what });
        }
        counter.see(now, value);
        Ok(())
    }

    fn counter_read(&mut self, key: u8, now: u64, invoked_at: u64, value: u64) -> Result<(), Complaint> {
        let counter = self.counters.entry(key).or_default();
        let before = counter.seen_before(invoked_at);
        if value < before {
            let what = format!("counter {key} was read as {value} after it had been seen at {before}");
            return Err(Complaint { rule: "INV-6", what });
        }
        if value > counter.invoked {
            let what = format!("counter {key} was read as {value} after {} increments were asked for", counter.invoked);
            return Err(Complaint { rule: "INV-10", what });
        }
        counter.see(now, value);
        Ok(())
    }

    /// Compares what was acknowledged with the state in the end.
    ///
    /// # Errors
    /// A counter lost an increment, or counted one twice; a name is not whose it was said to be.
    pub fn close(&self, value_of: impl Fn(&str) -> Option<u64>) -> Result<(), Complaint> {
        for (name, seen) in &self.names {
            let holder = value_of(&format!("n{name}"));
            if seen.holder.is_some() && holder != seen.holder {
                let what = format!("name {name} was given to {:?} and is {holder:?}'s", seen.holder);
                return Err(Complaint { rule: "INV-3", what });
            }
            let taken = holder.is_some_and(|holder| !seen.turned_away.contains(&holder));
            if !seen.turned_away.is_empty() && !taken {
                let what = format!("name {name} was taken when {:?} asked, and is {holder:?}'s", seen.turned_away);
                return Err(Complaint { rule: "R33", what });
            }
        }
        for (key, counter) in &self.counters {
            let value = value_of(&name_of(*key)).unwrap_or(0);
            let least = counter.replies.len() as u64;
            if value < least || value > counter.invoked {
                let what = format!(
                    "counter {key} ends at {value}, with {least} increments acknowledged and {} asked for",
                    counter.invoked
                );
                return Err(Complaint { rule: if value < least { "INV-3" } else { "INV-10" }, what });
            }
        }
        Ok(())
    }
}

fn millis((from, to): (u64, u64)) -> (u64, u64) {
    (from / 1_000_000, to / 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SET: fn(u64) -> What = |value| What::Write(Command::Set { key: 0, value });
    const GET: What = What::Read { key: 0, verified: false };
    const ADD: What = What::Write(Command::Increment { key: 9 });

    #[test]
    fn a_stale_read_is_seen() {
        let mut oracle = Oracle::default();
        oracle.invoke(1, SET(1));
        oracle.respond(2, 1, SET(1), 1).unwrap();
        oracle.invoke(3, SET(2));
        oracle.respond(4, 3, SET(2), 2).unwrap();
        assert_eq!(oracle.clone_read(6, 5, 1).unwrap_err().rule, "INV-6");
        // This read began before the second write ended.
        oracle.respond(6, 3, GET, 1).unwrap();
    }

    #[test]
    fn overlapping_operations_may_go_either_way_but_not_both() {
        let mut oracle = Oracle::default();
        oracle.invoke(1, SET(1));
        oracle.invoke(1, SET(2));
        oracle.respond(9, 1, SET(1), 1).unwrap();
        oracle.respond(9, 1, SET(2), 2).unwrap();
        oracle.respond(11, 10, GET, 2).unwrap();
        oracle.respond(13, 12, GET, 2).unwrap();
        oracle.respond(15, 14, GET, 1).unwrap_err();
    }

    #[test]
    fn an_unknown_write_may_appear_late_and_never_vanishes() {
        let mut oracle = Oracle::default();
        oracle.invoke(1, SET(1));
        oracle.abandon();
        oracle.respond(6, 5, GET, 0).unwrap();
        oracle.respond(8, 7, GET, 1).unwrap();
        oracle.respond(10, 9, GET, 0).unwrap_err();
    }

    #[test]
    fn counters_count_each_increment_once() {
        let mut oracle = Oracle::default();
        oracle.invoke(1, ADD);
        oracle.invoke(1, ADD);
        oracle.respond(2, 1, ADD, 1).unwrap();
        assert_eq!(oracle.respond(2, 1, ADD, 1).unwrap_err().rule, "INV-3");
        assert_eq!(oracle.respond(2, 1, ADD, 3).unwrap_err().rule, "INV-10");
        assert_eq!(oracle.close(|_| None).unwrap_err().rule, "INV-3");
        oracle.close(|name| (name == "c1").then_some(2)).unwrap();
    }

    #[test]
    fn a_name_that_was_taken_stays_taken() {
        let claim = |value| What::Write(Command::Claim { name: 3, value });
        let mut oracle = Oracle::default();
        oracle.invoke(1, claim(7));
        oracle.invoke(1, claim(8));
        oracle.respond(2, 1, claim(8), 0).unwrap();
        assert_eq!(oracle.close(|_| None).unwrap_err().rule, "R33");
        assert_eq!(oracle.close(|_| Some(8)).unwrap_err().rule, "R33");
        oracle.close(|_| Some(7)).unwrap();
        oracle.respond(3, 1, claim(7), 7).unwrap();
        assert_eq!(oracle.close(|_| Some(9)).unwrap_err().rule, "INV-3");
        assert_eq!(oracle.respond(3, 1, claim(9), 9).unwrap_err().rule, "INV-10");
    }

    impl Oracle {
        fn clone_read(&self, now: u64, from: u64, value: u64) -> Result<(), Complaint> {
            let mut copy =
                Oracle { registers: self.registers.clone(), counters: self.counters.clone(), ..Oracle::default() };
            copy.respond(now, from, GET, value)
        }
    }
}
