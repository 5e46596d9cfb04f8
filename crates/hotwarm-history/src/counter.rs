//! Counters that grow by one: each acknowledged increment counts once, each unknown one at most once.
//!
//! Every answer is unique, above whatever was seen before its increment began, and a read is never below that. And a
//! counter cannot be seen at 5 unless five increments had begun whose answers are not above 5: for each new height that
//! is seen, `room` is how many of them are to spare. Answers that come later take room from heights seen while they were
//! under way. The two conditions together are exact: deadlines for the values nobody was told are nested, so counting
//! is enough (Hall's condition).

use crate::call::{Call, Outcome, seconds};
use crate::finding::{Finding, Harm};
use core::fmt;
use std::collections::{HashMap, HashSet};

/// What may be asked of a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Adds one; the answer is the new value.
    Increment {
        /// Which counter.
        key: u32,
    },
    /// Reads; the answer is the value.
    Read {
        /// Which counter.
        key: u32,
    },
}

impl Operation {
    /// Which counter.
    #[must_use]
    pub fn key(&self) -> u32 {
        match self {
            Self::Increment { key } | Self::Read { key } => *key,
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Increment { key } => write!(f, "increments counter {key}"),
            Self::Read { key } => write!(f, "reads counter {key}"),
        }
    }
}

/// A call to a counter.
pub type CounterCall = Call<Operation, u64>;

/// A value higher than all seen before it.
#[derive(Clone, Copy, Debug)]
struct Height {
    at: u64,
    value: u64,
    /// Increments begun by then that may have made it, beyond those that it needs.
    room: i64,
}

#[derive(Clone, Debug, Default)]
struct Counter {
    /// Increments begun and not refused.
    begun: u64,
    /// Increments that were refused.
    refused: u64,
    answers: HashSet<u64>,
    /// Grows along time, and along value.
    heights: Vec<Height>,
}

impl Counter {
    fn seen_before(&self, time: u64) -> u64 {
        let index = self.heights.partition_point(|height| height.at < time);
        index.checked_sub(1).map_or(0, |index| self.heights[index].value)
    }

    fn see(&mut self, value: u64, at: u64) {
        if self.heights.last().is_none_or(|last| last.value < value) {
            self.heights.push(Height { at, value, room: self.begun as i64 - value as i64 });
        }
    }

    /// An increment that began at `invoked_at` did not make the values below `bound`: the height that this leaves without
    /// an explanation, if it leaves one.
    fn take_room(&mut self, invoked_at: u64, bound: u64) -> Option<Height> {
        let from = self.heights.partition_point(|height| height.at < invoked_at);
        let mut unexplained = None;
        for height in self.heights[from..].iter_mut().take_while(|height| height.value < bound) {
            height.room -= 1;
            if height.room < 0 && unexplained.is_none() {
                unexplained = Some(*height);
            }
        }
        unexplained
    }
}

/// All counters. Tell it what happens in the order of time.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    counters: HashMap<u32, Counter>,
}

impl Counters {
    /// An increment begins.
    pub fn increment_invoked(&mut self, key: u32) {
        self.counters.entry(key).or_default().begun += 1;
    }

    /// An increment that began at `invoked_at` is answered with `value`.
    ///
    /// # Errors
    /// No order of the calls explains it.
    pub fn increment_acknowledged(&mut self, key: u32, value: u64, invoked_at: u64, at: u64) -> Result<(), Finding> {
        let counter = self.counters.entry(key).or_default();
        if !counter.answers.insert(value) {
            let what = format!("two increments of counter {key} were answered with {value}, one at {}", seconds(at));
            return Err(Finding::new("C12", Harm::Lost, what));
        }
        let before = counter.seen_before(invoked_at);
        if value <= before {
            let what = format!(
                "counter {key} was incremented to {value}, from {} to {}, after it had been seen at {before}",
                seconds(invoked_at),
                seconds(at)
            );
            return Err(Finding::new("C12", Harm::Lost, what).times(before - value + 1));
        }
        if let Some(finding) = too_high(key, counter, value, at) {
            return Err(finding);
        }
        counter.see(value, at);
        match counter.take_room(invoked_at, value) {
            None => Ok(()),
            Some(height) => {
                let what = format!(
                    "counter {key} was seen at {} at {}; since the increment that began at {} was answered with {value}, \
                     too few had begun for that",
                    height.value,
                    seconds(height.at),
                    seconds(invoked_at)
                );
                Err(Finding::new("C10", Harm::Duplicated, what))
            }
        }
    }

    /// An increment that began at `invoked_at` was refused.
    ///
    /// # Errors
    /// The counter has been seen at a value that needs it (C9).
    pub fn increment_failed(&mut self, key: u32, invoked_at: u64) -> Result<(), Finding> {
        let counter = self.counters.entry(key).or_default();
        counter.begun = counter.begun.saturating_sub(1);
        counter.refused += 1;
        match counter.take_room(invoked_at, u64::MAX) {
            None => Ok(()),
            Some(height) => {
                let what = format!(
                    "counter {key} was seen at {} at {}, which needs the increment of {} that was refused",
                    height.value,
                    seconds(height.at),
                    seconds(invoked_at)
                );
                Err(Finding::new("C9", Harm::Revived, what))
            }
        }
    }

    /// A read that began at `invoked_at` is answered with `value`.
    ///
    /// # Errors
    /// No order of the calls explains it.
    pub fn read(&mut self, key: u32, value: u64, invoked_at: u64, at: u64) -> Result<(), Finding> {
        let counter = self.counters.entry(key).or_default();
        let before = counter.seen_before(invoked_at);
        if value < before {
            let what = format!(
                "counter {key} was read as {value}, from {} to {}, after it had been seen at {before}",
                seconds(invoked_at),
                seconds(at)
            );
            return Err(Finding::new("C18", Harm::Stale, what));
        }
        if let Some(finding) = too_high(key, counter, value, at) {
            return Err(finding);
        }
        counter.see(value, at);
        Ok(())
    }

    /// A read that began at `invoked_at`, when every increment had been answered or given up, is answered with `value`.
    ///
    /// # Errors
    /// Increments were lost, or counted twice.
    pub fn close(&mut self, key: u32, value: u64, invoked_at: u64, at: u64) -> Result<(), Finding> {
        let seen = self.counters.entry(key).or_default().seen_before(invoked_at);
        if value < seen {
            let what = format!("counter {key} ends at {value}, and had been seen at {seen}");
            return Err(Finding::new("C12", Harm::Lost, what).times(seen - value));
        }
        self.read(key, value, invoked_at, at)
    }
}

/// What is above all that was begun is reported once, and taken as given from then on.
fn too_high(key: u32, counter: &mut Counter, value: u64, at: u64) -> Option<Finding> {
    let (begun, refused) = (counter.begun, counter.refused);
    if value <= begun {
        return None;
    }
    let what = format!(
        "counter {key} was {value} at {}, when {begun} increments had begun and {refused} more were refused",
        seconds(at)
    );
    counter.begun = value;
    let revived = value <= begun + refused;
    let (check, harm) = if revived { ("C9", Harm::Revived) } else { ("C10", Harm::Duplicated) };
    Some(Finding::new(check, harm, what).times(value - begun))
}

/// Judges a whole history. Reads that began after every increment had been answered or given up are the end.
#[must_use]
pub fn check(calls: &[CounterCall]) -> Vec<Finding> {
    let mut events: Vec<(u64, bool, &CounterCall)> = Vec::with_capacity(2 * calls.len());
    let mut quiet_from: HashMap<u32, u64> = HashMap::new();
    for call in calls {
        if let Operation::Increment { key } = call.operation {
            events.push((call.invoked_at, false, call));
            let last = if call.is_acknowledged() { call.ended_at() } else { call.invoked_at };
            let quiet = quiet_from.entry(key).or_default();
            *quiet = (*quiet).max(last);
        }
        match call.outcome {
            Outcome::Returned { at, .. } => events.push((at, true, call)),
            // It never counts, so it may as well be refused at once.
            Outcome::Failed => events.push((call.invoked_at, true, call)),
            Outcome::Unknown => {}
        }
    }
    events.sort_by_key(|(at, is_end, _)| (*at, *is_end));
    let mut counters = Counters::default();
    let mut findings = Vec::new();
    for (at, is_end, call) in events {
        let judged = match (call.operation, &call.outcome) {
            (Operation::Increment { key }, _) if !is_end => {
                counters.increment_invoked(key);
                Ok(())
            }
            (Operation::Increment { key }, Outcome::Returned { seen, .. }) => {
                counters.increment_acknowledged(key, *seen, call.invoked_at, at)
            }
            (Operation::Read { key }, Outcome::Returned { seen, .. }) => {
                if quiet_from.get(&key).is_some_and(|quiet| *quiet < call.invoked_at) {
                    counters.close(key, *seen, call.invoked_at, at)
                } else {
                    counters.read(key, *seen, call.invoked_at, at)
                }
            }
            (Operation::Increment { key }, Outcome::Failed) => counters.increment_failed(key, call.invoked_at),
            (_, Outcome::Failed | Outcome::Unknown) => Ok(()),
        };
        findings.extend(judged.err());
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn increment(from: u64, to: u64, value: u64) -> CounterCall {
        let outcome = Outcome::Returned { at: to, seen: value };
        Call { client: 0, invoked_at: from, operation: Operation::Increment { key: 0 }, outcome }
    }

    fn open(from: u64, outcome: Outcome<u64>) -> CounterCall {
        Call { client: 1, invoked_at: from, operation: Operation::Increment { key: 0 }, outcome }
    }

    fn read(from: u64, to: u64, value: u64) -> CounterCall {
        Call { operation: Operation::Read { key: 0 }, ..increment(from, to, value) }
    }

    fn harms(calls: &[CounterCall]) -> Vec<(Harm, u64)> {
        check(calls).into_iter().map(|finding| (finding.harm, finding.count)).collect()
    }

    #[test]
    fn each_increment_counts_once() {
        assert_eq!(harms(&[increment(1, 2, 1), increment(3, 4, 2), read(5, 6, 2)]), []);
        assert_eq!(harms(&[increment(1, 2, 1), increment(1, 3, 1)]), [(Harm::Lost, 1)]);
        assert_eq!(
            harms(&[increment(1, 2, 1), increment(3, 4, 2), increment(5, 6, 3), read(7, 8, 1)]),
            [(Harm::Lost, 2)]
        );
        assert_eq!(harms(&[increment(1, 2, 1), read(3, 4, 0), increment(5, 6, 2)]), [(Harm::Stale, 1)]);
        assert_eq!(harms(&[increment(1, 2, 3)]), [(Harm::Duplicated, 2)]);
    }

    #[test]
    fn an_unknown_increment_counts_at_most_once_and_a_refused_one_never() {
        let unknown = open(1, Outcome::Unknown);
        assert_eq!(harms(&[unknown.clone(), increment(2, 3, 1), read(9, 10, 2)]), []);
        assert_eq!(harms(&[unknown.clone(), increment(2, 3, 1), read(9, 10, 1), read(11, 12, 2)]), []);
        assert_eq!(harms(&[unknown, increment(2, 3, 1), read(9, 10, 3)]), [(Harm::Duplicated, 1)]);
        assert_eq!(harms(&[open(1, Outcome::Failed), increment(2, 3, 2)]), [(Harm::Revived, 1)]);
    }

    #[test]
    fn a_height_that_later_answers_leave_unexplained_is_seen() {
        // At time 4 the counter was at 3, made by the first, the second and, as it seemed, the third.
        let calls = [increment(1, 2, 1), increment(1, 4, 3), increment(1, 9, 4), increment(5, 8, 5)];
        assert_eq!(harms(&calls), [(Harm::Duplicated, 1), (Harm::Duplicated, 1)]);
        let calls = [increment(1, 2, 1), increment(1, 4, 3), increment(1, 9, 4), open(1, Outcome::Unknown)];
        assert_eq!(harms(&calls), []);
    }
}
