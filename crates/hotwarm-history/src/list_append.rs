//! Lists that are only appended to, and transactions over several of them: strict serializability.
//!
//! Every element is appended once, so a list shows the whole history of its key. First each list by itself: every read is
//! a beginning of the final list, no element is lost, doubled or invented, and none that was acknowledged before a read
//! began is missing from it. Then all transactions together: who appended before whom, who read what, who did not see
//! what, and who had ended before who began; a cycle among these has no order, and the shortest is shown. Source:
//! Kingsbury and Alvaro, "Elle: Inferring Isolation Anomalies from Experimental Observations" (VLDB 2020).
//!
//! What it refuses no correct group can have shown. What it accepts some order explains if every list is read at the end;
//! beyond the last read, unknown transactions that append several elements are not fitted into gaps one by one.
//!
//! Transactions are searched for cycles only if each list is good by itself: without the lists there is no order to trust.

use crate::call::{Call, Outcome};
use crate::finding::{Finding, Harm};
use crate::graph::{Graph, Why};
use core::fmt;
use std::collections::{BTreeMap, HashMap, HashSet};

/// One step of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Appends an element that nobody else appends to this list.
    Append {
        /// Which list.
        key: u32,
        /// The element.
        element: u64,
    },
    /// Reads a list.
    Read {
        /// Which list.
        key: u32,
    },
}

/// Steps that take effect as one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction(pub Vec<Step>);

impl fmt::Display for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, step) in self.0.iter().enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            match step {
                Step::Append { key, element } => write!(f, "{comma}appends {element} to list {key}")?,
                Step::Read { key } => write!(f, "{comma}reads list {key}")?,
            }
        }
        Ok(())
    }
}

/// What one step was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// How many elements the list has after the append.
    Length(u64),
    /// The whole list.
    List(Vec<u64>),
}

/// One answer for each step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answers(pub Vec<Answer>);

impl fmt::Display for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, answer) in self.0.iter().enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            match answer {
                Answer::Length(length) => write!(f, "{comma}length {length}")?,
                Answer::List(list) => match list.as_slice() {
                    [.., a, b, c] if list.len() > 8 => write!(f, "{comma}[{} elements to {a}, {b}, {c}]", list.len())?,
                    short => write!(f, "{comma}{short:?}")?,
                },
            }
        }
        Ok(())
    }
}

/// A call of one transaction.
pub type ListCall = Call<Transaction, Answers>;

/// A read of one list.
struct Read<'a> {
    call: usize,
    /// The last element that the same transaction had appended to the list before.
    own: Option<u64>,
    list: &'a [u64],
}

/// What is known of one list.
#[derive(Default)]
struct List<'a> {
    /// By element: the call that appends it, and the length that it was told.
    appends: HashMap<u64, (usize, Option<u64>)>,
    reads: Vec<Read<'a>>,
    /// The longest list that was read.
    longest: &'a [u64],
    /// Elements by position, from 0: the longest list, and beyond it what lengths tell.
    order: BTreeMap<u64, u64>,
}

/// Judges a whole history.
#[must_use]
pub fn check(calls: &[ListCall]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut lists = gather(calls, &mut findings);
    findings.extend(calls.iter().filter_map(judge_inside));
    for (key, list) in &mut lists {
        put_in_order(*key, list, calls, &mut findings);
        judge_gaps(*key, list, calls, &mut findings);
        judge_reads(*key, list, calls, &mut findings);
        judge_real_time(*key, list, calls, &mut findings);
    }
    if findings.is_empty() {
        findings = judge_transactions(&lists, calls);
    }
    findings
}

/// Within a transaction nobody else appends: each list grows by its own steps only.
fn judge_inside(call: &ListCall) -> Option<Finding> {
    let mut lengths: HashMap<u32, u64> = HashMap::new();
    for (step, answer) in call.operation.0.iter().zip(&call.seen()?.0) {
        let (key, before, after) = match (step, answer) {
            (Step::Append { key, .. }, Answer::Length(length)) => (*key, length.wrapping_sub(1), *length),
            (Step::Read { key }, Answer::List(list)) => (*key, list.len() as u64, list.len() as u64),
            _ => continue,
        };
        if lengths.insert(key, after).is_some_and(|expected| expected != before) {
            let what = format!("{call}: list {key} was changed by somebody else in between");
            return Some(Finding::new("C17", Harm::Disordered, what));
        }
    }
    None
}

fn gather<'a>(calls: &'a [ListCall], findings: &mut Vec<Finding>) -> BTreeMap<u32, List<'a>> {
    let mut lists: BTreeMap<u32, List<'a>> = BTreeMap::new();
    for (index, call) in calls.iter().enumerate() {
        let mut own: HashMap<u32, u64> = HashMap::new();
        for (step_index, step) in call.operation.0.iter().enumerate() {
            let answer = call.seen().and_then(|answers| answers.0.get(step_index));
            match (*step, answer) {
                (Step::Append { key, element }, answer) => {
                    let length = if let Some(Answer::Length(length)) = answer { Some(*length) } else { None };
                    let appends = &mut lists.entry(key).or_default().appends;
                    if let Some((other, _)) = appends.insert(element, (index, length)) {
                        let what = format!("{}; {call}: elements must be appended by one step only", calls[other]);
                        findings.push(Finding::new("C10", Harm::Disordered, what));
                    }
                    own.insert(key, element);
                }
                (Step::Read { key }, Some(Answer::List(read))) => {
                    let list = lists.entry(key).or_default();
                    if read.len() > list.longest.len() {
                        list.longest = read;
                    }
                    list.reads.push(Read { call: index, own: own.get(&key).copied(), list: read });
                }
                (Step::Read { .. }, _) => {}
            }
        }
    }
    lists
}

/// Finds the position of each element: by the longest list, and past its end by the lengths that appends were told.
fn put_in_order(key: u32, list: &mut List<'_>, calls: &[ListCall], findings: &mut Vec<Finding>) {
    let mut positions: HashMap<u64, u64> = HashMap::new();
    for (position, element) in (0..).zip(list.longest) {
        if positions.contains_key(element) {
            let what = format!("list {key} holds element {element} twice");
            findings.push(Finding::new("C10", Harm::Duplicated, what));
        }
        positions.entry(*element).or_insert(position);
        match list.appends.get(element).map(|(call, _)| &calls[*call]) {
            None => {
                let what = format!("list {key} holds element {element}, which nobody appended to it");
                findings.push(Finding::new("C17", Harm::Invented, what));
            }
            Some(call) if call.outcome == Outcome::Failed => {
                findings.push(Finding::new("C9", Harm::Revived, format!("{call}; yet list {key} holds {element}")));
            }
            Some(_) => {}
        }
        list.order.insert(position, *element);
    }
    let mut told: Vec<(u64, u64, usize)> =
        list.appends.iter().filter_map(|(element, (call, length))| Some(((*length)?, *element, *call))).collect();
    told.sort_unstable();
    for (length, element, call) in told {
        let position = length.saturating_sub(1);
        match (positions.get(&element), list.order.get(&position)) {
            (Some(known), _) if *known == position => {}
            (Some(known), _) => {
                let what = format!("{}; yet the element is number {} of the list", calls[call], known + 1);
                findings.push(Finding::new("C18", Harm::Disordered, what));
            }
            (None, Some(other)) => {
                let what = format!("{}; yet number {length} of the list is {other}", calls[call]);
                findings.push(Finding::new("C12", Harm::Lost, what));
            }
            (None, None) => {
                list.order.insert(position, element);
            }
        }
    }
}

/// Positions past the longest read that no answer explains must be those of unknown appends, begun before the list was seen
/// to be that long. The deadlines of such gaps are nested, so it is enough to count.
fn judge_gaps(key: u32, list: &List<'_>, calls: &[ListCall], findings: &mut Vec<Finding>) {
    let Some((last, _)) = list.order.last_key_value() else { return };
    let placed: HashSet<u64> = list.order.values().copied().collect();
    let mut open: Vec<u64> = list
        .appends
        .iter()
        .filter(|(element, (call, _))| !placed.contains(*element) && calls[*call].outcome == Outcome::Unknown)
        .map(|(_, (call, _))| calls[*call].invoked_at)
        .collect();
    open.sort_unstable();
    // From the far end: by when somebody had seen the list reach at least that far.
    let mut seen_by = u64::MAX;
    let mut gaps = Vec::new();
    for position in (list.longest.len() as u64..=*last).rev() {
        match list.order.get(&position).and_then(|element| list.appends.get(element)) {
            Some((call, _)) => seen_by = seen_by.min(calls[*call].ended_at()),
            None => gaps.push((position, seen_by)),
        }
    }
    for ((position, seen_by), begun) in gaps.iter().rev().zip(open.into_iter().map(Some).chain(std::iter::repeat(None)))
    {
        if begun.is_none_or(|begun| begun > *seen_by) {
            let what = format!(
                "list {key} was seen to be longer than {position} by {}, and nobody can have appended number {}",
                crate::call::seconds(*seen_by),
                position + 1
            );
            findings.push(Finding::new("C10", Harm::Duplicated, what));
        }
    }
}

/// Every read is a beginning of the longest, and holds what its own transaction appended before, at its end.
fn judge_reads(key: u32, list: &List<'_>, calls: &[ListCall], findings: &mut Vec<Finding>) {
    for read in &list.reads {
        let call = &calls[read.call];
        if !list.longest.starts_with(read.list) {
            let at = read.list.iter().zip(list.longest).position(|(a, b)| a != b).unwrap_or(0);
            let what = format!(
                "{call}: number {} of list {key} is {}, and {} in the longest read of it",
                at + 1,
                read.list[at],
                list.longest[at]
            );
            findings.push(Finding::new("C17", Harm::Disordered, what));
        }
        if read.own.is_some() && read.own.as_ref() != read.list.last() {
            findings.push(Finding::new("C17", Harm::Stale, format!("{call}: it does not read its own append last")));
        }
    }
}

/// What was acknowledged before a read began is in it.
fn judge_real_time(key: u32, list: &List<'_>, calls: &[ListCall], findings: &mut Vec<Finding>) {
    let positions: HashMap<u64, u64> =
        (0..).zip(list.longest).map(|(position, element)| (*element, position)).collect();
    let last_read = list.reads.iter().max_by_key(|read| calls[read.call].invoked_at);
    let mut acknowledged: Vec<(u64, u64, u64)> = Vec::new();
    for (element, (append, _)) in &list.appends {
        let call = &calls[*append];
        match (positions.get(element), last_read) {
            _ if !call.is_acknowledged() => {}
            (Some(position), _) => acknowledged.push((call.ended_at(), *position, *element)),
            (None, Some(read)) if call.ended_at() < calls[read.call].invoked_at => {
                let what = format!("{call}; yet list {key} has no element {element}: {}", calls[read.call]);
                findings.push(Finding::new("C12", Harm::Lost, what));
            }
            (None, _) => {}
        }
    }
    acknowledged.sort_unstable();
    // Up to each end: the element that is furthest in the list.
    for index in 1..acknowledged.len() {
        if acknowledged[index].1 < acknowledged[index - 1].1 {
            (acknowledged[index].1, acknowledged[index].2) = (acknowledged[index - 1].1, acknowledged[index - 1].2);
        }
    }
    for read in &list.reads {
        let call = &calls[read.call];
        let count = acknowledged.partition_point(|(ended_at, _, _)| *ended_at < call.invoked_at);
        let Some((_, position, element)) = count.checked_sub(1).map(|index| acknowledged[index]) else { continue };
        if position >= read.list.len() as u64 {
            let append = list.appends.get(&element).map(|(append, _)| calls[*append].to_string()).unwrap_or_default();
            findings.push(Finding::new("C18", Harm::Stale, format!("{append}; yet then {call}")));
        }
    }
}

/// Looks for a cycle among everything that must come before something else.
fn judge_transactions(lists: &BTreeMap<u32, List<'_>>, calls: &[ListCall]) -> Vec<Finding> {
    let answered = calls.iter().enumerate().filter(|(_, call)| call.is_acknowledged()).map(|(index, _)| index);
    let happened: HashSet<usize> = lists
        .values()
        .flat_map(|list| list.order.values().filter_map(|element| list.appends.get(element)))
        .map(|(call, _)| *call)
        .chain(answered)
        .collect();
    // An unknown transaction that nobody saw need not have happened: its time says nothing, and it has no edge.
    let spans: Vec<(u64, u64)> = calls
        .iter()
        .enumerate()
        .map(|(index, call)| if happened.contains(&index) { (call.invoked_at, call.ended_at()) } else { (0, u64::MAX) })
        .collect();
    let mut graph = Graph::new(&spans);
    for (key, list) in lists {
        let append = |element: &u64| list.appends.get(element).map(|(call, _)| *call);
        for (earlier, later) in list.order.values().zip(list.order.values().skip(1)) {
            if let (Some(earlier), Some(later)) = (append(earlier), append(later)) {
                graph.add(earlier, later, Why::AppendedBefore(*key));
            }
        }
        for read in &list.reads {
            if let Some(writer) = read.list.last().and_then(append) {
                graph.add(writer, read.call, Why::WasRead(*key));
            }
            let next = list.order.range(read.list.len() as u64..).next();
            if let Some(writer) = next.and_then(|(_, element)| append(element)) {
                graph.add(read.call, writer, Why::DidNotSee(*key));
            }
        }
        // What happened, and stands beyond all that was read, comes after whoever read all that was read.
        let positioned: HashSet<u64> = list.order.values().copied().collect();
        let beyond = list.appends.iter().filter(|(element, _)| !positioned.contains(*element));
        let beyond: Vec<usize> = beyond.map(|(_, (call, _))| *call).filter(|call| happened.contains(call)).collect();
        for writer in beyond {
            if let Some(earlier) = list.longest.last().and_then(append) {
                graph.add(earlier, writer, Why::AppendedBefore(*key));
            }
            for read in list.reads.iter().filter(|read| read.list.len() == list.longest.len()) {
                graph.add(read.call, writer, Why::DidNotSee(*key));
            }
        }
    }
    graph.cycles().iter().map(|cycle| Finding::new("C18", Harm::Disordered, describe(cycle, calls))).collect()
}

fn describe(cycle: &[(usize, Why)], calls: &[ListCall]) -> String {
    let mut text = format!("{} transactions have no order:", cycle.len());
    for (index, (call, why)) in cycle.iter().enumerate() {
        let next = (index + 1) % cycle.len() + 1;
        let reason = match why {
            Why::AppendedBefore(key) => format!("appended to list {key} before T{next} did"),
            Why::WasRead(key) => format!("appended to list {key} what T{next} read"),
            Why::DidNotSee(key) => format!("did not see what T{next} appended to list {key}"),
            Why::RealTime => format!("had ended when T{next} began"),
        };
        text.push_str(&format!("\n  T{} = {}; T{} {reason}", index + 1, calls[*call], index + 1));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn append(key: u32, element: u64) -> Step {
        Step::Append { key, element }
    }

    fn transaction(from: u64, to: u64, steps: &[(Step, Answer)]) -> ListCall {
        let operation = Transaction(steps.iter().map(|(step, _)| *step).collect());
        let seen = Answers(steps.iter().map(|(_, answer)| answer.clone()).collect());
        Call { client: 0, invoked_at: from, operation, outcome: Outcome::Returned { at: to, seen } }
    }

    fn wrote(from: u64, to: u64, element: u64, length: u64) -> ListCall {
        transaction(from, to, &[(append(0, element), Answer::Length(length))])
    }

    fn read(from: u64, to: u64, list: &[u64]) -> ListCall {
        transaction(from, to, &[(Step::Read { key: 0 }, Answer::List(list.to_vec()))])
    }

    fn harms(calls: &[ListCall]) -> Vec<Harm> {
        check(calls).into_iter().map(|finding| finding.harm).collect()
    }

    #[test]
    fn a_list_by_itself() {
        let good = [wrote(1, 2, 7, 1), read(1, 3, &[]), wrote(3, 9, 8, 2), read(4, 5, &[7, 8]), read(10, 11, &[7, 8])];
        assert_eq!(harms(&good), []);
        assert_eq!(harms(&[wrote(1, 2, 7, 1), wrote(3, 4, 8, 2), read(5, 6, &[7])]), [Harm::Lost]);
        assert_eq!(
            harms(&[wrote(1, 2, 7, 1), wrote(3, 4, 8, 2), read(5, 6, &[7]), read(7, 8, &[7, 8])]),
            [Harm::Stale]
        );
        let doubled = [wrote(1, 2, 7, 1), read(3, 4, &[7, 7])];
        assert_eq!(harms(&doubled), [Harm::Duplicated]);
        assert_eq!(harms(&[read(3, 4, &[7])]), [Harm::Invented]);
        assert_eq!(harms(&[wrote(1, 2, 7, 1), wrote(1, 2, 8, 1)]), [Harm::Lost]);
        let fork = [wrote(1, 9, 7, 1), wrote(1, 9, 8, 2), read(2, 3, &[8]), read(4, 5, &[7, 8])];
        assert_eq!(harms(&fork), [Harm::Disordered]);
        let failed = Call { outcome: Outcome::Failed, ..wrote(1, 2, 7, 1) };
        assert_eq!(harms(&[failed, read(3, 4, &[7])]), [Harm::Revived]);
        let unknown = Call { outcome: Outcome::Unknown, ..wrote(1, 2, 7, 1) };
        assert_eq!(harms(&[unknown.clone(), read(3, 4, &[])]), []);
        assert_eq!(harms(&[unknown, read(3, 4, &[]), read(5, 6, &[7])]), []);
    }

    #[test]
    fn a_read_from_the_future_is_a_cycle() {
        let findings = check(&[read(1, 2, &[7]), wrote(3, 4, 7, 1)]);
        assert_eq!(findings.len(), 1);
        assert!(findings[0].what.contains("had ended when T2 began"), "{}", findings[0]);
    }

    #[test]
    fn two_transactions_that_each_miss_the_other_are_shown() {
        let skew = |key: u32, other: u32| {
            let steps = [(append(key, 1), Answer::Length(1)), (Step::Read { key: other }, Answer::List(Vec::new()))];
            transaction(1, 9, &steps)
        };
        let findings = check(&[skew(0, 1), skew(1, 0)]);
        assert_eq!(findings.len(), 1);
        let text = &findings[0].what;
        assert!(text.starts_with("2 transactions have no order"), "{text}");
        assert!(
            text.contains("did not see what T2 appended") && text.contains("did not see what T1 appended"),
            "{text}"
        );
    }

    #[test]
    fn half_a_transaction_is_never_seen() {
        let both = [(append(0, 1), Answer::Length(1)), (append(1, 1), Answer::Length(1))];
        let half = [(Step::Read { key: 0 }, Answer::List(vec![1])), (Step::Read { key: 1 }, Answer::List(Vec::new()))];
        assert_eq!(harms(&[transaction(1, 9, &both), transaction(1, 9, &half)]), [Harm::Disordered]);
        let own = [(append(0, 1), Answer::Length(1)), (Step::Read { key: 0 }, Answer::List(Vec::new()))];
        assert!(harms(&[transaction(1, 9, &own)]).contains(&Harm::Stale));
    }
}
