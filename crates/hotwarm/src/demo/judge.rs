//! The end of the demo: is every acknowledged write there, once, on every node that holds data?
//!
//! Each node is read through a front of its own that answers from the node's own copy (`reads = "any"`), so a node
//! cannot borrow another's answer.

use super::client::Connection;
use super::report::Report;
use super::writers::{APPEND_SIZE_BYTES, APPENDS_PER_KEY, Told, append_key, counter_key};
use crate::failure::Failure;
use hotwarm_node::history::Event;
use hotwarm_resp::Reply;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::net::SocketAddr;

/// What was found.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Acknowledged writes that are missing, on the node that lacks most.
    pub lost: u64,
    /// Writes that are there more than once, on the node that has most of them.
    pub duplicated: u64,
    /// Every node was read, and shows the same keys with the same values and expiries.
    pub identical: bool,
    /// Nodes that cannot be read, and why.
    pub unread: Vec<String>,
    /// The first few findings, for people.
    pub findings: Vec<String>,
}

/// What a node holds under one key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Held {
    value: Vec<u8>,
    /// When it goes, milliseconds since the Unix epoch; negative: never.
    expires_at_ms: i64,
}

/// Everything that one node holds.
type Copy = BTreeMap<Vec<u8>, Held>;

/// Reads every node and compares it with what the writers were told, and with the others.
pub fn judge(nodes: &[(&str, SocketAddr)], told: &[Told]) -> Verdict {
    let copies = nodes.iter().map(|(name, address)| (*name, read_all(*address)));
    judge_copies(copies, told)
}

fn judge_copies<'a>(nodes: impl Iterator<Item = (&'a str, Result<Copy, Failure>)>, told: &[Told]) -> Verdict {
    let mut verdict = Verdict { identical: true, ..Verdict::default() };
    let mut first: Option<(&str, Copy)> = None;
    for (name, copy) in nodes {
        let copy = match copy {
            Ok(copy) => copy,
            Err(failure) => {
                verdict.identical = false;
                verdict.unread.push(format!("{name} cannot be read: {failure}"));
                continue;
            }
        };
        let mut found = Verdict::default();
        for writer in told {
            check_writer(name, &copy, writer, &mut found);
        }
        // One write that all nodes lack is one lost write.
        verdict.lost = verdict.lost.max(found.lost);
        verdict.duplicated = verdict.duplicated.max(found.duplicated);
        verdict.findings.append(&mut found.findings);
        match &first {
            None => first = Some((name, copy)),
            Some((other, held)) if *held != copy => {
                verdict.identical = false;
                verdict.findings.push(format!("{other} and {name} differ: {} and {} keys", held.len(), copy.len()));
            }
            Some(_) => {}
        }
    }
    verdict.findings.truncate(20);
    verdict
}

/// Puts into the report the reigns that nobody asked for, by the history that each node told, and the nodes that told
/// none. `asked` are the epochs that are accounted for.
pub fn judge_reigns<'a, E: Display>(
    histories: impl Iterator<Item = (&'a str, Result<Vec<Event>, E>)>,
    asked: &BTreeSet<u64>,
    report: &mut Report,
) {
    for (name, events) in histories {
        let events = match events {
            Ok(events) => events,
            Err(error) => {
                report.failures.push(format!("{name} does not tell its history: {error}"));
                continue;
            }
        };
        for event in events.iter().filter(|event| event.event == "became_hot") {
            let Some(epoch) = event.epoch.filter(|epoch| !asked.contains(epoch)) else { continue };
            let told = format!("{name} became hot in epoch {epoch}, {}: {}", event.cause, event.evidence);
            report.unasked.push(told);
        }
    }
}

/// Appends must be 1, 2, 3 ... without a gap or a repetition, the last at most one past what was acknowledged; the
/// counter likewise.
fn check_writer(node: &str, copy: &Copy, told: &Told, verdict: &mut Verdict) {
    let mut expected = 1;
    let mut key_number = 1;
    while let Some(held) = copy.get(append_key(told.writer, key_number).as_bytes()) {
        for chunk in held.value.chunks(APPEND_SIZE_BYTES) {
            let number =
                std::str::from_utf8(chunk).ok().and_then(|text| text.trim_end_matches(',').parse::<u64>().ok());
            match number {
                Some(number) if number == expected => expected += 1,
                Some(number) if number < expected => {
                    verdict.duplicated += 1;
                    verdict.findings.push(format!("{node}: append {number} of writer {} is there again", told.writer));
                }
                Some(number) => {
                    verdict.lost += number - expected;
                    verdict.findings.push(format!("{node}: writer {}: {expected}..{number} missing", told.writer));
                    expected = number + 1;
                }
                None => verdict.findings.push(format!("{node}: writer {}: an append is torn", told.writer)),
            }
        }
        key_number += APPENDS_PER_KEY;
    }
    let held = expected - 1;
    if held < told.appends {
        verdict.lost += told.appends - held;
        verdict
            .findings
            .push(format!("{node}: writer {} was told {} appends, {held} are there", told.writer, told.appends));
    } else if held > told.appends + 1 {
        verdict.duplicated += held - told.appends - 1;
        verdict.findings.push(format!("{node}: writer {} sent {}, {held} are there", told.writer, told.appends + 1));
    }
    let counter = copy.get(counter_key(told.writer).as_bytes());
    let counter = counter.and_then(|held| std::str::from_utf8(&held.value).ok()?.parse::<u64>().ok()).unwrap_or(0);
    if counter < told.increments {
        verdict.lost += told.increments - counter;
        verdict.findings.push(format!("{node}: counter {} is {counter}, told {}", told.writer, told.increments));
    } else if counter > told.increments + 1 {
        verdict.duplicated += counter - told.increments - 1;
        verdict.findings.push(format!("{node}: counter {} is {counter}, told {}", told.writer, told.increments));
    }
}

fn read_all(address: SocketAddr) -> Result<Copy, Failure> {
    let mut connection = Connection::open(address, None)?;
    let mut copy = Copy::new();
    let mut cursor = b"0".to_vec();
    loop {
        let Reply::Array(scan) = connection.call(&[b"SCAN", &cursor, b"COUNT", b"1000"])? else {
            return Err(Failure::new("SCAN gave no array"));
        };
        let [Reply::Bulk(next), Reply::Array(keys)] = scan.as_slice() else {
            return Err(Failure::new("SCAN gave no cursor and keys"));
        };
        for key in keys {
            let Reply::Bulk(key) = key else {
                return Err(Failure::new(format!("SCAN gave a key that is {key:?}")));
            };
            // Nothing is written any more, and nothing that the writers wrote expires.
            let (value, expires) = (connection.call(&[b"GET", key])?, connection.call(&[b"PEXPIRETIME", key])?);
            let (Reply::Bulk(value), Reply::Integer(expires_at_ms)) = (&value, &expires) else {
                let key = String::from_utf8_lossy(key);
                return Err(Failure::new(format!("GET and PEXPIRETIME of {key} gave {value:?} and {expires:?}")));
            };
            copy.insert(key.to_vec(), Held { value: value.to_vec(), expires_at_ms: *expires_at_ms });
        }
        cursor = next.to_vec();
        if cursor == b"0" {
            return Ok(copy);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hotwarm_node::history::Source;

    fn copy(appends: &[u64], counter: u64) -> Copy {
        let mut copy = Copy::new();
        for (index, number) in appends.iter().enumerate() {
            let key = append_key(3, index as u64 + 1).into_bytes();
            copy.entry(key).or_default().value.extend(format!("{number:07},").into_bytes());
        }
        copy.insert(counter_key(3).into_bytes(), Held { value: counter.to_string().into_bytes(), expires_at_ms: -1 });
        copy
    }

    fn verdict(appends: &[u64], counter: u64, told_appends: u64, told_increments: u64) -> (u64, u64) {
        let told = Told { writer: 3, appends: told_appends, increments: told_increments };
        let mut verdict = Verdict::default();
        check_writer("a", &copy(appends, counter), &told, &mut verdict);
        (verdict.lost, verdict.duplicated)
    }

    #[test]
    fn what_is_lost_or_doubled_is_counted_and_the_open_request_is_neither() {
        let all: Vec<u64> = (1..=100).collect();
        assert_eq!(verdict(&all, 50, 100, 50), (0, 0));
        assert_eq!(verdict(&all, 50, 99, 49), (0, 0), "the last request was open");
        assert_eq!(verdict(&all, 50, 101, 50), (1, 0));
        assert_eq!(verdict(&all, 50, 100, 52), (2, 0));
        assert_eq!(verdict(&all, 52, 100, 50), (0, 1));
        let gap: Vec<u64> = (1..=100).filter(|number| *number != 70).collect();
        assert_eq!(verdict(&gap, 50, 100, 50), (1, 0));
        let twice = [1, 2, 2, 3];
        assert_eq!(verdict(&twice, 0, 3, 0), (0, 1));
    }

    #[test]
    fn a_write_that_every_node_lacks_is_one_and_a_node_that_cannot_be_read_is_told() {
        let told = [Told { writer: 3, appends: 3, increments: 5 }];
        let judge = |copies: Vec<Result<Copy, Failure>>| judge_copies(["a", "b", "c"].into_iter().zip(copies), &told);
        let verdict = judge(vec![Ok(copy(&[1, 2], 5)), Ok(copy(&[1, 2], 5)), Ok(copy(&[1, 2], 5))]);
        assert_eq!((verdict.lost, verdict.duplicated, verdict.identical), (1, 0, true));
        let verdict = judge(vec![Ok(copy(&[1, 2, 3], 5)), Err(Failure::new("refused")), Ok(copy(&[1, 2, 3], 5))]);
        assert_eq!((verdict.lost, verdict.identical), (0, false));
        assert_eq!(verdict.unread, ["b cannot be read: refused"]);
    }

    #[test]
    fn keys_that_expire_at_different_times_are_not_identical() {
        let mut other = copy(&[1], 1);
        other.entry(counter_key(3).into_bytes()).or_default().expires_at_ms = 1_000;
        let copies = [("a", Ok(copy(&[1], 1))), ("b", Ok(other))];
        assert!(!judge_copies(copies.into_iter(), &[]).identical);
    }

    #[test]
    fn a_reign_that_nobody_asked_for_is_told_and_so_is_a_history_that_is_not() {
        let reign = |epoch| Event {
            at_ms: 0,
            source: Source::Node,
            event: "became_hot".to_owned(),
            node: "a".to_owned(),
            epoch: Some(epoch),
            what: String::new(),
            cause: "grace_over".to_owned(),
            evidence: "silent".to_owned(),
            phases_ms: BTreeMap::new(),
        };
        let histories = [("a", Ok(vec![reign(1), reign(3)])), ("b", Err("refused")), ("c", Ok(vec![reign(2)]))];
        let mut report = Report { nodes_identical: true, ..Report::default() };
        judge_reigns(histories.into_iter(), &BTreeSet::from([1, 2]), &mut report);
        assert_eq!(report.unasked, ["a became hot in epoch 3, grace_over: silent"]);
        assert_eq!(report.failures, ["b does not tell its history: refused"]);
        assert!(!report.is_good());
    }
}
