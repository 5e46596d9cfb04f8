//! Sets of members that are each added once: every acknowledged one is there, every refused one is not.
//!
//! Unknown ones may be there. An element once seen stays, and nothing is there that nobody added. Adding answers whether
//! the element was new: "no" for one that is added by one call only means that it took effect twice.

use crate::call::{Call, Outcome};
use crate::finding::{Finding, Harm};
use core::fmt;
use std::collections::HashMap;

/// What may be asked of the set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Adds an element that no other call adds; the answer is whether it was new.
    Add {
        /// The element.
        element: u64,
    },
    /// The answer is whether the element is there.
    Contains {
        /// The element.
        element: u64,
    },
}

impl Operation {
    /// The element.
    #[must_use]
    pub fn element(&self) -> u64 {
        match self {
            Self::Add { element } | Self::Contains { element } => *element,
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Add { element } => write!(f, "adds element {element}"),
            Self::Contains { element } => write!(f, "asks for element {element}"),
        }
    }
}

/// A call to the set.
pub type SetCall = Call<Operation, bool>;

/// What the calls on one element said.
struct Element<'a> {
    added: Option<&'a SetCall>,
    /// The first end of a call that showed it.
    seen_at: u64,
    /// The last beginning of a call that did not show it, though it was answered.
    missed: Option<&'a SetCall>,
}

/// Judges a whole history. Elements that are asked for at the end are judged as lost, those before as stale: an element
/// that a later call shows was only missed.
#[must_use]
pub fn check(calls: &[SetCall]) -> Vec<Finding> {
    let mut elements: HashMap<u64, Element<'_>> = HashMap::new();
    let mut findings = Vec::new();
    for call in calls {
        let name = call.operation.element();
        let element = elements.entry(name).or_insert(Element { added: None, seen_at: u64::MAX, missed: None });
        match (call.operation, call.seen()) {
            (Operation::Add { .. }, seen) => {
                if element.added.is_some() {
                    let what = format!("element {name} is added by two calls: they must have elements of their own");
                    findings.push(Finding::new("C10", Harm::Disordered, what));
                }
                element.added = Some(call);
                if seen == Some(&false) {
                    findings.push(Finding::new("C10", Harm::Duplicated, format!("{call}: it was there already")));
                }
            }
            (Operation::Contains { .. }, Some(true)) => element.seen_at = element.seen_at.min(call.ended_at()),
            (Operation::Contains { .. }, Some(false)) => {
                if element.missed.is_none_or(|missed| missed.invoked_at < call.invoked_at) {
                    element.missed = Some(call);
                }
            }
            (Operation::Contains { .. }, None) => {}
        }
    }
    let last_shown = last_shown(calls);
    let mut judged: Vec<(u64, Element<'_>)> = elements.into_iter().collect();
    judged.sort_by_key(|(name, _)| *name);
    for (name, element) in &judged {
        judge(*name, element, last_shown.get(name).copied(), &mut findings);
    }
    findings
}

/// The last beginning of a call that showed the element.
fn last_shown(calls: &[SetCall]) -> HashMap<u64, u64> {
    let mut last = HashMap::new();
    for call in calls {
        if let (Operation::Contains { element }, Some(true)) = (call.operation, call.seen()) {
            let at = last.entry(element).or_insert(0);
            *at = call.invoked_at.max(*at);
        }
    }
    last
}

fn judge(name: u64, element: &Element<'_>, last_shown: Option<u64>, findings: &mut Vec<Finding>) {
    let Some(added) = element.added else {
        if element.seen_at < u64::MAX {
            let what = format!("element {name} was seen, and nobody had added it");
            findings.push(Finding::new("C17", Harm::Invented, what));
        }
        return;
    };
    if element.seen_at < added.invoked_at {
        let what = format!("element {name} was seen before {added}");
        findings.push(Finding::new("C17", Harm::Invented, what));
    }
    if matches!(added.outcome, Outcome::Failed) && element.seen_at < u64::MAX {
        findings.push(Finding::new("C9", Harm::Revived, format!("{added}, and the element was seen")));
    }
    // From here on it must be there.
    let there_from = added.ended_at().min(element.seen_at);
    let Some(missed) = element.missed.filter(|missed| there_from < missed.invoked_at) else { return };
    let returned = last_shown.is_some_and(|shown| shown > missed.invoked_at);
    findings.push(if returned {
        Finding::new("C18", Harm::Stale, format!("{missed}; yet {added}"))
    } else {
        Finding::new("C12", Harm::Lost, format!("{missed}; yet {added}"))
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(from: u64, outcome: Outcome<bool>) -> SetCall {
        Call { client: 0, invoked_at: from, operation: Operation::Add { element: 5 }, outcome }
    }

    fn ask(from: u64, seen: bool) -> SetCall {
        let outcome = Outcome::Returned { at: from + 1, seen };
        Call { client: 1, invoked_at: from, operation: Operation::Contains { element: 5 }, outcome }
    }

    fn harms(calls: &[SetCall]) -> Vec<Harm> {
        check(calls).into_iter().map(|finding| finding.harm).collect()
    }

    #[test]
    fn what_was_acknowledged_is_there_and_what_was_refused_is_not() {
        let added = add(1, Outcome::Returned { at: 2, seen: true });
        assert_eq!(harms(&[added.clone(), ask(3, true)]), []);
        assert_eq!(harms(&[added.clone(), ask(3, false)]), [Harm::Lost]);
        assert_eq!(harms(&[added.clone(), ask(3, false), ask(5, true)]), [Harm::Stale]);
        assert_eq!(harms(&[added, ask(2, false), ask(9, true)]), []);
        assert_eq!(harms(&[add(1, Outcome::Failed), ask(3, false)]), []);
        assert_eq!(harms(&[add(1, Outcome::Failed), ask(3, true)]), [Harm::Revived]);
    }

    #[test]
    fn an_unknown_one_may_come_late_and_stays() {
        let unknown = add(1, Outcome::Unknown);
        assert_eq!(harms(&[unknown.clone(), ask(3, false), ask(5, true)]), []);
        assert_eq!(harms(&[unknown, ask(3, true), ask(5, false)]), [Harm::Lost]);
    }

    #[test]
    fn nothing_is_there_by_itself_or_twice() {
        assert_eq!(harms(&[ask(3, true)]), [Harm::Invented]);
        assert_eq!(harms(&[ask(1, true), add(3, Outcome::Unknown)]), [Harm::Invented]);
        assert_eq!(harms(&[add(1, Outcome::Returned { at: 2, seen: false })]), [Harm::Duplicated]);
        let twice = [add(1, Outcome::Unknown), add(2, Outcome::Unknown)];
        assert_eq!(harms(&twice), [Harm::Disordered]);
    }
}
