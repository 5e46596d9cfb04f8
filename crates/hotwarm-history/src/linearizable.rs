//! The general judge: is there an order of the calls, true to real time, that one client alone could have seen?
//!
//! A depth-first search after Wing and Gong ("Testing and Verifying Concurrent Objects", 1993) that never enters one
//! (calls ordered so far, state) twice, after Lowe ("Testing for Linearizability", 2017), part by part, after Horn and
//! Kroening ("Faster Linearizability Checking via P-Compositionality", 2015). A call may come next when no other call
//! that is still to come ended before it began. An unknown call may come at any time after it began, or never; it is
//! tried after the calls that were answered.
//!
//! The question is NP-complete, so work is bounded: past the bound the verdict is [`Verdict::Undecided`]. Calls that
//! were answered are kept as "all before this one, and these": so memory grows with what overlaps, not with the whole.

use crate::call::{Call, Outcome, seconds};
use crate::finding::{Finding, Harm};
use crate::model::Model;
use std::collections::{BTreeMap, HashSet};
use std::fmt::Display;

/// States entered before a part is given up: some seconds, and less than a gigabyte.
pub const STEPS_MAX: usize = 4_000_000;

/// What the search came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Some order explains all.
    Linearizable,
    /// No order does.
    Contradiction(Finding),
    /// The bound was reached first.
    Undecided {
        /// States entered.
        steps: usize,
    },
}

/// The call of a model.
type CallOf<M> = Call<<M as Model>::Operation, <M as Model>::Seen>;

/// Judges all calls, part by part; the first contradiction ends it. Each part may enter `steps_max` states.
pub fn check<M: Model>(calls: &[CallOf<M>], steps_max: usize) -> Verdict
where
    M::Operation: Display,
    M::Seen: Display,
{
    let mut parts: BTreeMap<M::Part, Vec<&CallOf<M>>> = BTreeMap::new();
    // A call that failed was never applied (C9): it is no part of any order.
    for call in calls.iter().filter(|call| !matches!(call.outcome, Outcome::Failed)) {
        parts.entry(M::part(&call.operation)).or_default().push(call);
    }
    let mut undecided = None;
    for (part, calls) in parts {
        match Search::<M>::new(calls, steps_max).run(part) {
            Verdict::Linearizable => {}
            Verdict::Undecided { steps } => undecided = Some(Verdict::Undecided { steps }),
            contradiction @ Verdict::Contradiction(_) => return contradiction,
        }
    }
    undecided.unwrap_or(Verdict::Linearizable)
}

/// Which calls have their place in the order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Placed {
    /// All answered calls before this one are placed, and it is not.
    first_open: usize,
    /// Answered calls after it that are placed, ascending.
    beyond: Vec<u32>,
    /// Unknown calls that are placed, ascending.
    unknown: Vec<u32>,
}

impl Placed {
    fn holds(&self, answered: usize) -> bool {
        answered < self.first_open || self.beyond.binary_search(&(answered as u32)).is_ok()
    }

    fn place(&mut self, choice: Choice) {
        match choice {
            Choice::Unknown(call) => insert(&mut self.unknown, call),
            Choice::Answered(call) if call > self.first_open => insert(&mut self.beyond, call),
            Choice::Answered(_) => {
                self.first_open += 1;
                let run = self.beyond.iter().zip(self.first_open..).take_while(|(a, b)| **a as usize == *b).count();
                self.beyond.drain(..run);
                self.first_open += run;
            }
        }
    }

    /// Takes the call back that was placed last.
    fn take_back(&mut self, choice: Choice) {
        match choice {
            Choice::Unknown(call) => remove(&mut self.unknown, call),
            Choice::Answered(call) if call > self.first_open => remove(&mut self.beyond, call),
            Choice::Answered(call) => {
                self.beyond.splice(0..0, (call + 1..self.first_open).map(|call| call as u32));
                self.first_open = call;
            }
        }
    }
}

fn insert(sorted: &mut Vec<u32>, call: usize) {
    let call = call as u32;
    let at = sorted.partition_point(|other| *other < call);
    sorted.insert(at, call);
}

fn remove(sorted: &mut Vec<u32>, call: usize) {
    sorted.retain(|other| *other as usize != call);
}

/// The next call of the order. Answered ones are tried before unknown ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Choice {
    Answered(usize),
    Unknown(usize),
}

struct Search<'a, M: Model> {
    /// In the order of their beginnings.
    answered: Vec<&'a CallOf<M>>,
    unknown: Vec<&'a CallOf<M>>,
    steps_max: usize,
    placed: Placed,
    state: M::State,
    /// Each choice, and the state before it.
    chosen: Vec<(Choice, M::State)>,
    entered: HashSet<(Placed, M::State)>,
    /// The most answered calls that some order explained, the call that could not be placed then, and the state.
    furthest: (usize, usize, M::State),
}

impl<'a, M: Model> Search<'a, M>
where
    M::Operation: Display,
    M::Seen: Display,
{
    fn new(mut calls: Vec<&'a CallOf<M>>, steps_max: usize) -> Self {
        calls.sort_by_key(|call| (call.invoked_at, call.ended_at()));
        let (answered, unknown) = calls.into_iter().partition(|call| call.is_acknowledged());
        Self {
            answered,
            unknown,
            steps_max,
            placed: Placed::default(),
            state: M::State::default(),
            chosen: Vec::new(),
            entered: HashSet::new(),
            furthest: (0, 0, M::State::default()),
        }
    }

    fn run(mut self, part: M::Part) -> Verdict {
        let mut after = None;
        loop {
            if self.placed.first_open == self.answered.len() {
                return Verdict::Linearizable;
            }
            if self.entered.len() > self.steps_max {
                return Verdict::Undecided { steps: self.entered.len() };
            }
            if self.advance(after) {
                after = None;
            } else {
                let Some((choice, state)) = self.chosen.pop() else { return self.contradiction(part) };
                self.placed.take_back(choice);
                self.state = state;
                after = Some(choice);
            }
        }
    }

    /// Places the first possible call that comes after `after` among the choices here. False: there is none.
    fn advance(&mut self, after: Option<Choice>) -> bool {
        let horizon = self.horizon();
        let answered = (self.placed.first_open..self.answered.len())
            .take_while(|call| self.answered[*call].invoked_at <= horizon)
            .map(Choice::Answered);
        let unknown =
            (0..self.unknown.len()).take_while(|call| self.unknown[*call].invoked_at <= horizon).map(Choice::Unknown);
        let choices: Vec<Choice> = answered.chain(unknown).filter(|choice| after.is_none_or(|a| *choice > a)).collect();
        for choice in choices {
            let call = match choice {
                Choice::Answered(call) if self.placed.holds(call) => continue,
                Choice::Answered(call) => self.answered[call],
                Choice::Unknown(call) if self.placed.unknown.binary_search(&(call as u32)).is_ok() => continue,
                Choice::Unknown(call) => self.unknown[call],
            };
            let Some(next) = M::step(&self.state, &call.operation, call.seen()) else { continue };
            // An unknown call that changes nothing need not be placed.
            if matches!(choice, Choice::Unknown(_)) && next == self.state {
                continue;
            }
            self.placed.place(choice);
            if !self.entered.insert((self.placed.clone(), next.clone())) {
                self.placed.take_back(choice);
                continue;
            }
            self.chosen.push((choice, std::mem::replace(&mut self.state, next)));
            self.remember();
            return true;
        }
        false
    }

    /// The earliest end of an answered call that has no place: what began later must come after that call.
    fn horizon(&self) -> u64 {
        let mut horizon = u64::MAX;
        for call in self.placed.first_open..self.answered.len() {
            if self.answered[call].invoked_at > horizon {
                break;
            }
            if !self.placed.holds(call) {
                horizon = horizon.min(self.answered[call].ended_at());
            }
        }
        horizon
    }

    fn remember(&mut self) {
        let count = self.placed.first_open + self.placed.beyond.len();
        if count > self.furthest.0 {
            self.furthest = (count, self.placed.first_open, self.state.clone());
        }
    }

    fn contradiction(self, part: M::Part) -> Verdict {
        let (count, first_open, state) = &self.furthest;
        let open: Vec<String> = self.answered[*first_open..]
            .iter()
            .take_while(|call| call.invoked_at <= self.answered[*first_open].ended_at())
            .take(8)
            .map(ToString::to_string)
            .collect();
        let what = format!(
            "part {part:?} is not linearizable: {count} of {} answered calls fit, up to {}; then the state is {state:?} and \
             none of these fits: {}",
            self.answered.len(),
            seconds(self.answered[*first_open].ended_at()),
            open.join("; ")
        );
        Verdict::Contradiction(Finding::new("C18", Harm::Disordered, what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{CompareAndSet, ComparingRegister};
    use CompareAndSet::{Change, Read, Write};

    fn call(from: u64, to: u64, operation: CompareAndSet, seen: u64) -> Call<CompareAndSet, u64> {
        Call { client: 0, invoked_at: from, operation, outcome: Outcome::Returned { at: to, seen } }
    }

    fn unknown(from: u64, operation: CompareAndSet) -> Call<CompareAndSet, u64> {
        Call { client: 1, invoked_at: from, operation, outcome: Outcome::Unknown }
    }

    fn verdict(calls: &[Call<CompareAndSet, u64>]) -> Verdict {
        check::<ComparingRegister>(calls, STEPS_MAX)
    }

    #[test]
    fn what_overlaps_may_go_either_way_and_what_does_not_may_not() {
        assert_eq!(
            verdict(&[call(1, 5, Write(1), 0), call(2, 3, Read, 0), call(4, 6, Read, 1)]),
            Verdict::Linearizable
        );
        let stale = verdict(&[call(1, 2, Write(1), 0), call(3, 4, Read, 0)]);
        let Verdict::Contradiction(finding) = stale else { panic!("{stale:?}") };
        assert!(finding.what.contains("client 0 reads (from 0.000000 s to 0.000000 s: 0)"), "{finding}");
        assert!(matches!(
            verdict(&[call(1, 9, Write(1), 0), call(2, 3, Read, 1), call(4, 5, Read, 0)]),
            Verdict::Contradiction(_)
        ));
    }

    #[test]
    fn an_unknown_call_may_come_late_once_or_never() {
        let set = [call(0, 1, Write(1), 0), unknown(2, Change(1, 2)), call(3, 4, Read, 1)];
        assert_eq!(verdict(&set), Verdict::Linearizable);
        let late: Vec<_> = set.iter().cloned().chain([call(8, 9, Read, 2)]).collect();
        assert_eq!(verdict(&late), Verdict::Linearizable);
        let twice: Vec<_> = late.into_iter().chain([call(10, 11, Write(1), 0), call(12, 13, Read, 2)]).collect();
        assert!(matches!(verdict(&twice), Verdict::Contradiction(_)));
    }

    #[test]
    fn one_of_two_rivals_wins() {
        let won = |first, second| {
            verdict(&[call(0, 1, Write(1), 0), call(2, 9, Change(1, 2), first), call(2, 9, Change(1, 3), second)])
        };
        assert_eq!(won(1, 0), Verdict::Linearizable);
        assert!(matches!(won(1, 1), Verdict::Contradiction(_)));
        assert!(matches!(won(0, 0), Verdict::Contradiction(_)));
    }

    #[test]
    fn a_failed_call_was_never_applied() {
        let failed = Call { outcome: Outcome::Failed, ..unknown(0, Write(7)) };
        assert!(matches!(verdict(&[failed, call(5, 6, Read, 7)]), Verdict::Contradiction(_)));
    }

    #[test]
    fn past_the_bound_nothing_is_said() {
        let open: Vec<_> = (0..20).map(|value| unknown(0, Change(value, value + 1))).collect();
        let calls: Vec<_> = open.into_iter().chain([call(100, 101, Read, 99)]).collect();
        assert!(matches!(check::<ComparingRegister>(&calls, 10), Verdict::Undecided { steps: 11 }));
        assert!(matches!(verdict(&calls), Verdict::Contradiction(_)));
    }

    #[test]
    fn taking_back_restores_what_was_placed() {
        let mut placed = Placed::default();
        let order =
            [Choice::Answered(2), Choice::Answered(1), Choice::Answered(4), Choice::Answered(0), Choice::Unknown(3)];
        let mut before = Vec::new();
        for choice in order {
            before.push(placed.clone());
            placed.place(choice);
        }
        assert_eq!(placed, Placed { first_open: 3, beyond: vec![4], unknown: vec![3] });
        for (choice, before) in order.into_iter().zip(before).rev() {
            placed.take_back(choice);
            assert_eq!(placed, before);
        }
    }
}
