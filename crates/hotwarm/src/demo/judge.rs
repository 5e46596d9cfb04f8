//! The end of the demo: is every acknowledged write there, once, on every node that holds data?
//!
//! Each node is read through a front of its own that answers from the node's own copy (`reads = "any"`), so a node
//! cannot borrow another's answer.

use super::client::Connection;
use super::writers::{APPEND_SIZE_BYTES, APPENDS_PER_KEY, Told, append_key, counter_key};
use crate::failure::Failure;
use hotwarm_resp::Reply;
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// What was found.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Acknowledged writes that are missing somewhere.
    pub lost: u64,
    /// Writes that are there more than once.
    pub duplicated: u64,
    /// Every node holds the same keys and values.
    pub identical: bool,
    /// The first few findings, for people.
    pub findings: Vec<String>,
}

/// Everything that one node holds.
type Copy = BTreeMap<Vec<u8>, Vec<u8>>;

/// Reads every node and compares it with what the writers were told.
///
/// # Errors
/// A node cannot be read.
pub fn judge(nodes: &[(String, SocketAddr)], told: &[Told]) -> Result<Verdict, Failure> {
    let mut verdict = Verdict { identical: true, ..Verdict::default() };
    let mut first: Option<(&str, Copy)> = None;
    for (name, address) in nodes {
        let copy = read_all(*address)?;
        for writer in told {
            check_writer(name, &copy, writer, &mut verdict);
        }
        match &first {
            None => first = Some((name, copy)),
            Some((other, held)) if *held != copy => {
                verdict.identical = false;
                verdict.findings.push(format!("{other} and {name} differ: {} and {} keys", held.len(), copy.len()));
            }
            Some(_) => {}
        }
    }
    for writer in told {
        // A reply that skipped or repeated a number tells of a lost or doubled write while the demo ran.
        verdict.duplicated += writer.surprises.len() as u64;
        verdict.findings.extend(writer.surprises.iter().map(|text| format!("writer {}: {text}", writer.writer)));
    }
    verdict.findings.truncate(20);
    Ok(verdict)
}

/// Appends must be 1, 2, 3 ... without a gap or a repetition, the last at most one past what was acknowledged; the
/// counter likewise.
fn check_writer(node: &str, copy: &Copy, told: &Told, verdict: &mut Verdict) {
    let mut expected = 1;
    let mut key_number = 1;
    while let Some(value) = copy.get(append_key(told.writer, key_number).as_bytes()) {
        for chunk in value.chunks(APPEND_SIZE_BYTES) {
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
    let counter = counter.and_then(|text| std::str::from_utf8(text).ok()?.parse::<u64>().ok()).unwrap_or(0);
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
            return Err(Failure::new(format!("{address}: SCAN gave no array")));
        };
        let [Reply::Bulk(next), Reply::Array(keys)] = scan.as_slice() else {
            return Err(Failure::new(format!("{address}: SCAN gave no cursor and keys")));
        };
        for key in keys {
            let Reply::Bulk(key) = key else { continue };
            if let Reply::Bulk(value) = connection.call(&[b"GET", key])? {
                copy.insert(key.to_vec(), value.to_vec());
            }
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

    fn copy(appends: &[u64], counter: u64) -> Copy {
        let mut copy = Copy::new();
        for (index, number) in appends.iter().enumerate() {
            let key = append_key(3, index as u64 + 1).into_bytes();
            copy.entry(key).or_default().extend(format!("{number:07},").into_bytes());
        }
        copy.insert(counter_key(3).into_bytes(), counter.to_string().into_bytes());
        copy
    }

    fn verdict(appends: &[u64], counter: u64, told_appends: u64, told_increments: u64) -> (u64, u64) {
        let told = Told { writer: 3, appends: told_appends, increments: told_increments, surprises: Vec::new() };
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
}
