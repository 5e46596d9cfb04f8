//! The end of a run: what the clients saw is judged, and every node's own copy is compared with the others'.
//!
//! Nodes are read through fronts that answer from the node's own copy, so that none can borrow another's answer. By then
//! nothing is written any more; a copy may be a moment behind, so they are read again until they agree or time is up.

use crate::resp::Connection;
use crate::workload::{Observed, Target};
use hotwarm_history::Summary;
use hotwarm_resp::Reply;
use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::thread;
use std::time::{Duration, Instant};

/// How long copies may differ after the last write.
const AGREE_WAIT: Duration = Duration::from_secs(20);
/// Between two readings.
const LOOK: Duration = Duration::from_millis(500);
const REPLY_WAIT: Duration = Duration::from_secs(5);
/// Keys asked for at once.
const BATCH: &str = "250";
/// Keys on which two nodes differ that are named.
const KEYS_NAMED: usize = 5;

/// What was found.
#[derive(Debug, Default)]
pub struct Verdict {
    /// What the clients' histories come to.
    pub summary: Summary,
    /// Every node was read, and holds the same keys with the same values and expiries.
    pub identical: bool,
    /// Keys that every node holds.
    pub keys: usize,
    /// How nodes differ, and which could not be read.
    pub differences: Vec<String>,
    /// Answers that made no sense to a client.
    pub errors: Vec<String>,
}

impl Verdict {
    /// Whether every promise was kept.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.summary.is_clean() && self.identical && self.errors.is_empty()
    }
}

/// Judges what the clients saw, and reads every node. The calling thread must be where the clients are.
#[must_use]
pub fn judge(targets: &[Target], observed: &Observed) -> Verdict {
    let (keys, differences) = compare(targets);
    Verdict {
        summary: observed.history.judge(),
        identical: differences.is_empty(),
        keys,
        differences,
        errors: observed.errors.clone(),
    }
}

/// Everything that one node holds: value, and when it goes in milliseconds since the epoch (negative: never).
type Copy = BTreeMap<Vec<u8>, (Vec<u8>, i64)>;

/// Reads all nodes until they agree. Gives the number of keys, and how the nodes differ.
fn compare(targets: &[Target]) -> (usize, Vec<String>) {
    let begun = Instant::now();
    loop {
        let copies: Vec<(&str, io::Result<Copy>)> =
            targets.iter().map(|target| (target.name.as_str(), read_all(target))).collect();
        let keys = copies.iter().filter_map(|(_, copy)| copy.as_ref().ok().map(BTreeMap::len)).max().unwrap_or(0);
        let differences = differences(&copies);
        if differences.is_empty() || begun.elapsed() > AGREE_WAIT {
            return (keys, differences);
        }
        thread::sleep(LOOK);
    }
}

/// How each node differs from the first that could be read.
fn differences(copies: &[(&str, io::Result<Copy>)]) -> Vec<String> {
    let mut differences = Vec::new();
    let mut first: Option<(&str, &Copy)> = None;
    for (name, copy) in copies {
        match (copy, first) {
            (Err(error), _) => differences.push(format!("{name} cannot be read: {error}")),
            (Ok(copy), None) => first = Some((name, copy)),
            (Ok(copy), Some((other, held))) if copy != held => {
                let keys = held.keys().chain(copy.keys().filter(|key| !held.contains_key(*key)));
                let unlike: Vec<&Vec<u8>> = keys.filter(|key| held.get(*key) != copy.get(*key)).collect();
                let named: Vec<String> = unlike.iter().take(KEYS_NAMED).map(|key| describe(key, held, copy)).collect();
                differences.push(format!("{other} and {name} differ in {} keys: {}", unlike.len(), named.join("; ")));
            }
            (Ok(_), Some(_)) => {}
        }
    }
    differences
}

fn describe(key: &[u8], one: &Copy, other: &Copy) -> String {
    let side = |copy: &Copy| match copy.get(key) {
        None => "absent".to_owned(),
        Some((value, expires)) => {
            let text = String::from_utf8_lossy(value);
            let shown: String = text.chars().take(40).collect();
            format!("{shown:?} of {} bytes, expiry {expires}", value.len())
        }
    };
    format!("{}: {} and {}", String::from_utf8_lossy(key), side(one), side(other))
}

fn read_all(target: &Target) -> io::Result<Copy> {
    let mut connection = Connection::open(target.own_copy, REPLY_WAIT)?;
    let mut copy = Copy::new();
    let mut cursor = "0".to_owned();
    loop {
        let reply = connection.call(&["SCAN", &cursor, "COUNT", BATCH])?;
        let Reply::Array(scan) = &reply else { return Err(nonsense("SCAN", &reply)) };
        let [Reply::Bulk(next), Reply::Array(found)] = scan.as_slice() else { return Err(nonsense("SCAN", &reply)) };
        read_batch(&mut connection, found, &mut copy)?;
        cursor = String::from_utf8_lossy(next).into_owned();
        if cursor == "0" {
            return Ok(copy);
        }
    }
}

/// Reads value and expiry of some keys, in one go.
fn read_batch(connection: &mut Connection, found: &[Reply], copy: &mut Copy) -> io::Result<()> {
    let mut keys = Vec::new();
    for key in found {
        let Reply::Bulk(key) = key else { return Err(nonsense("SCAN", key)) };
        keys.push(std::str::from_utf8(key).map_err(|_| nonsense("SCAN", &Reply::Bulk(key.clone())))?);
    }
    let commands: Vec<[&str; 2]> = keys.iter().flat_map(|key| [["GET", *key], ["PEXPIRETIME", *key]]).collect();
    let commands: Vec<&[&str]> = commands.iter().map(<[&str; 2]>::as_slice).collect();
    let replies = connection.pipeline(&commands)?;
    for (key, pair) in keys.iter().zip(replies.chunks(2)) {
        match pair {
            [Reply::Bulk(value), Reply::Integer(at)] => {
                copy.insert(key.as_bytes().to_vec(), (value.to_vec(), *at));
            }
            // It has gone since the scan.
            [Reply::Null, Reply::Integer(-2)] => {}
            _ => return Err(nonsense(&format!("GET and PEXPIRETIME of {key}"), &Reply::Array(pair.to_vec()))),
        }
    }
    Ok(())
}

fn nonsense(command: &str, reply: &Reply) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("{command} was answered with {reply:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copy(pairs: &[(&str, &str, i64)]) -> io::Result<Copy> {
        let held = |value: &str, expires| (value.as_bytes().to_vec(), expires);
        Ok(pairs.iter().map(|(key, value, expires)| (key.as_bytes().to_vec(), held(value, *expires))).collect())
    }

    #[test]
    fn nodes_are_identical_to_the_byte_and_the_expiry() {
        let same = [("a", copy(&[("k", "1", -1)])), ("b", copy(&[("k", "1", -1)]))];
        assert!(differences(&same).is_empty());
        let other = [("a", copy(&[("k", "1", -1), ("l", "2", -1)])), ("b", copy(&[("k", "1", 9), ("m", "2", -1)]))];
        let told = differences(&other);
        assert_eq!(told.len(), 1);
        assert!(told[0].starts_with("a and b differ in 3 keys: k: \"1\" of 1 bytes, expiry -1 and "), "{}", told[0]);
        assert!(told[0].contains("l: \"2\" of 1 bytes, expiry -1 and absent"), "{}", told[0]);
    }

    #[test]
    fn a_node_that_cannot_be_read_is_told() {
        let copies = [("a", copy(&[])), ("b", Err(ErrorKind::ConnectionRefused.into()))];
        assert_eq!(differences(&copies), ["b cannot be read: connection refused"]);
    }
}
