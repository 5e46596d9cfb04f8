//! A group that loses its hot again and again while clients work, and what must be true of all that they were told.
//!
//! A client keeps a record of what it was told ([`Told`]). Each kill is announced to the clients before it happens
//! ([`Outages`]): a connection that breaks without an announcement is an error of the group, as every reply is that
//! says that something failed.

use super::{Group, PATIENCE};
use redis::{Commands, Connection};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// The counter that all clients count up by INCR, whatever they are.
pub const SHARED: &str = "storm:shared";
/// Work between two events: every takeover meets a group at work.
const CALM: Duration = Duration::from_millis(400);

/// How often each node was taken down and brought back: odd while it is down on purpose. Who has read the same number
/// before connecting and after an error had a living node. For scripts it also stands in a file, named by the port of
/// the node's front; a file `stop` ends them.
pub struct Outages {
    counts: Vec<AtomicU64>,
    ports: Vec<u16>,
    folder: PathBuf,
    stop: AtomicBool,
}

impl Outages {
    /// All nodes are up.
    pub fn new(group: &Group, folder: &Path) -> Self {
        let ports: Vec<u16> = group.nodes.iter().map(|node| node.front.port()).collect();
        let counts = ports.iter().map(|_| AtomicU64::new(0)).collect();
        let outages = Self { counts, ports, folder: folder.to_owned(), stop: AtomicBool::new(false) };
        (0..outages.ports.len()).for_each(|node| outages.write(node, 0));
        outages
    }

    /// The number of a node.
    pub fn count(&self, node: usize) -> u64 {
        self.counts[node].load(Ordering::Acquire)
    }

    /// The node to use in place of `home`: itself, or the next one that is up. And its number.
    pub fn living(&self, home: usize) -> (usize, u64) {
        let began = Instant::now();
        loop {
            let nodes = (home..home + self.counts.len()).map(|node| node % self.counts.len());
            if let Some(found) = nodes.map(|node| (node, self.count(node))).find(|(_, count)| count % 2 == 0) {
                return found;
            }
            assert!(began.elapsed() < PATIENCE, "every node is down");
        }
    }

    /// Whether the clients are to finish.
    pub fn is_over(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    fn announce(&self, node: usize) {
        let count = self.counts[node].fetch_add(1, Ordering::AcqRel) + 1;
        self.write(node, count);
    }

    fn write(&self, node: usize, count: u64) {
        // Whoever reads sees the old number or the new one.
        let (path, new) = (self.folder.join(self.ports[node].to_string()), self.folder.join("new"));
        std::fs::write(&new, count.to_string()).unwrap();
        std::fs::rename(new, path).unwrap();
    }

    fn finish(&self) {
        self.stop.store(true, Ordering::Release);
        std::fs::write(self.folder.join("stop"), "").unwrap();
    }
}

/// Tells the clients to finish when it is dropped, also when a round has failed: they are waited for.
struct Finish<'a>(&'a Outages);

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        self.0.finish();
    }
}

/// In each round the hot is killed, a warm takes over, the old hot comes back, and the new one hands over. Then the
/// clients are told to finish.
pub fn rage(group: &mut Group, outages: &Outages, rounds: usize) {
    let _finish = Finish(outages);
    for round in 1..=rounds {
        thread::sleep(CALM);
        let hot = group.hot();
        outages.announce(hot);
        group.kill(hot);
        let new = group.hot();
        thread::sleep(CALM);
        group.start_node(hot);
        group.wait_all_in_sync();
        outages.announce(hot);
        thread::sleep(CALM);
        group.switch_over();
        let names = [hot, new, group.hot()].map(|index| group.nodes[index].name.as_str());
        println!("round {round}: {} was killed, {} took over and handed over to {}", names[0], names[1], names[2]);
    }
    thread::sleep(CALM);
}

/// Replies of a counter.
#[derive(Default, Deserialize)]
pub struct Counted {
    /// In the order in which one client got them.
    pub seen: Vec<u64>,
    /// At most so many steps more were sent, and their replies never came.
    pub unknown: u64,
}

/// What one client was told.
#[derive(Default, Deserialize)]
pub struct Told {
    /// Of counters that others may count up too, by key.
    pub counters: BTreeMap<String, Counted>,
    /// Of its own counter in a session: how often it was counted up, exactly, by key.
    pub exact: BTreeMap<String, u64>,
    /// What it wrote last, by key.
    pub kept: BTreeMap<String, String>,
    /// Connections that broke with their node.
    pub reconnects: u64,
    /// Replies that are wrong or errors, and connections that broke without one.
    pub errors: Vec<String>,
}

impl Told {
    /// The record of a counter.
    pub fn counter(&mut self, key: &str) -> &mut Counted {
        self.counters.entry(key.to_owned()).or_default()
    }
}

/// Holds what all clients were told against what every node holds.
pub fn judge(group: &Group, all: &[Told]) {
    let errors: Vec<&String> = all.iter().flat_map(|told| &told.errors).collect();
    assert!(errors.is_empty(), "{errors:#?}");
    group.wait_all_in_sync();
    group.wait_applied();
    let keys: BTreeSet<&String> = all.iter().flat_map(|told| told.counters.keys()).collect();
    let counts: Vec<(&str, u64, u64)> = keys.into_iter().map(|key| count(key, all)).collect();
    for node in &group.nodes {
        let mut copy = connect(node.own_copy, 3);
        for (key, least, most) in &counts {
            let value: u64 = copy.get(*key).unwrap();
            assert!((*least..=*most).contains(&value), "{}: {key} is {value}, not {least} to {most}", node.name);
        }
        for told in all {
            for (key, wanted) in &told.exact {
                let value: Option<u64> = copy.get(key).unwrap();
                assert_eq!(value.as_ref(), Some(wanted), "{}: {key}", node.name);
            }
            for (key, wanted) in &told.kept {
                let value: Option<String> = copy.get(key).unwrap();
                assert_eq!(value.as_ref(), Some(wanted), "{}: {key}", node.name);
            }
        }
    }
}

/// Between which values a counter must stand: as many as replies, and at most the unknown steps more. Each reply was
/// seen once, and each client's replies grew.
fn count<'a>(key: &'a str, all: &[Told]) -> (&'a str, u64, u64) {
    let (mut seen, mut unknown, mut replies) = (BTreeSet::new(), 0, 0);
    for counted in all.iter().filter_map(|told| told.counters.get(key)) {
        assert!(counted.seen.is_sorted_by(|one, next| one < next), "{key} went back: {:?}", counted.seen);
        unknown += counted.unknown;
        replies += counted.seen.len() as u64;
        let twice: Vec<&u64> = counted.seen.iter().filter(|value| !seen.insert(**value)).collect();
        assert!(twice.is_empty(), "{key}: {twice:?} were replied twice");
    }
    let highest = seen.last().copied().unwrap_or_default();
    println!("{key}: {replies} replies up to {highest}, {unknown} unknown");
    (key, replies.max(highest), replies + unknown)
}

/// A connection in that version of the protocol.
pub fn connect(address: std::net::SocketAddr, protocol: u8) -> Connection {
    open(address, protocol).unwrap_or_else(|error| panic!("{address}: {error}"))
}

/// The same, if there is somebody.
pub fn open(address: std::net::SocketAddr, protocol: u8) -> redis::RedisResult<Connection> {
    let client = redis::Client::open(format!("redis://{address}/?protocol=resp{protocol}"))?;
    let connection = client.get_connection_with_timeout(PATIENCE)?;
    connection.set_read_timeout(Some(PATIENCE))?;
    Ok(connection)
}
