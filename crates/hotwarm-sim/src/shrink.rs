//! From a run that fails to the fewest faults that it needs: delta debugging (Zeller and Hildebrandt, 2002).
//!
//! Faults are drawn apart from everything else, so that one can be left out and the others come as before. What the group
//! does in between changes, and with it what fails: a smaller set counts if the same rule is broken.

use crate::outcome::Outcome;
use crate::run::Run;
use std::collections::BTreeSet;

/// Runs spent at most.
const RUNS_MAX: usize = 400;

/// The same run with as few faults as still break the rule that `outcome` broke; and its outcome. `None` if nothing is
/// broken.
#[must_use]
pub fn shrink(run: &Run, outcome: &Outcome) -> Option<(Run, Outcome)> {
    let rule = &outcome.violation.as_ref()?.rule;
    let mut runs = 0;
    let mut attempt = |kept: &BTreeSet<u32>| {
        runs += 1;
        let smaller = Run { only: Some(kept.clone()), ..run.clone() };
        let outcome = smaller.outcome();
        let same = outcome.violation.as_ref().is_some_and(|violation| violation.rule == *rule);
        (runs <= RUNS_MAX, same.then_some((smaller, outcome)))
    };
    let mut kept: BTreeSet<u32> = outcome.happened.iter().map(|fault| fault.number).collect();
    let mut best = attempt(&kept).1?;
    let mut parts = 2;
    while kept.len() > 1 && parts <= kept.len() {
        let numbers: Vec<u32> = kept.iter().copied().collect();
        let size = numbers.len().div_ceil(parts);
        let mut smaller = None;
        for part in numbers.chunks(size) {
            let without: BTreeSet<u32> = kept.iter().copied().filter(|number| !part.contains(number)).collect();
            let (goes_on, found) = attempt(&without);
            if !goes_on {
                return Some(best);
            }
            if let Some(found) = found {
                smaller = Some((without, found));
                break;
            }
        }
        match smaller {
            Some((without, found)) => {
                (kept, best) = (without, found);
                parts = (parts - 1).max(2);
            }
            None if parts == kept.len() => break,
            None => parts = (parts * 2).min(kept.len()),
        }
    }
    if let (true, Some(none)) = attempt(&BTreeSet::new()) {
        best = none;
    }
    Some(best)
}
