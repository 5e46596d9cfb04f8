//! A hot that is cut off from its peers, while clients that are pinned to it still reach it.
//!
//! They go on writing and reading through its front. Nothing that they are told may be missing or told again afterwards
//! (INV-3, INV-6, INV-10), and no read may be older than what a client of the new hot was told before it (R15, R16).
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use hotwarm_node::admin::Role;
use redis::Commands;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use support::network::Network;
use support::{Group, PATIENCE, storm};

/// How long the new hot reigns before the cut heals: longer than the old one's lease.
const REIGN: Duration = Duration::from_millis(1500);

/// What all clients have been told. Whoever has read a number here asks after the replies that it counts.
#[derive(Debug, Default)]
struct Known {
    /// They are to finish.
    stop: AtomicBool,
    /// Held for reading by whoever has a write under way.
    under_way: RwLock<()>,
    /// The highest value of the key `free` in a reply. Only the clients that are not pinned count it up.
    free: AtomicU64,
    /// The highest value of the key `shared` in a reply. All clients count it up.
    shared: AtomicU64,
    /// Writes of pinned clients.
    pinned_writes: AtomicU64,
    /// Reads of pinned clients.
    pinned_reads: AtomicU64,
}

impl Known {
    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::SeqCst)
    }
}

#[test]
fn clients_of_a_cut_off_hot_are_told_nothing_that_is_not_so() {
    let network = Network::new();
    let mut group = Group::start_on(&["a", "b", "c"], Some(network.clone()));
    for between_writes in [false, true] {
        let hot = group.hot();
        let known = Known::default();
        let () = storm::connect(group.nodes[hot].front, 2).del(&["free", "shared"]).unwrap();
        let fronts: Vec<SocketAddr> = group.nodes.iter().map(|node| node.front).collect();
        let (outcome, replies) = thread::scope(|scope| {
            let known = &known;
            let (mut writers, mut readers) = (Vec::new(), Vec::new());
            for node in [0, 1, 2, 0, 1, 2] {
                let (front, pinned) = (fronts[node], node == hot);
                writers.push(scope.spawn(move || write(front, pinned, known)));
                if pinned {
                    readers.push(scope.spawn(move || read(front, known)));
                }
            }
            let outcome = cut_and_heal(&group, &network, hot, known, between_writes);
            network.heal();
            known.stop.store(true, Ordering::SeqCst);
            let readers_end = readers.into_iter().all(|reader| reader.join().is_ok());
            let replies: Option<Vec<Vec<u64>>> = writers.into_iter().map(|writer| writer.join().ok()).collect();
            (outcome, replies.filter(|_| readers_end))
        });
        let logs = || (0..fronts.len()).map(|node| group.log(node)).collect::<String>();
        outcome.unwrap_or_else(|what| panic!("{what}: {known:?}\n{}", logs()));
        println!("{known:?}");
        group.wait_all_in_sync();
        group.wait_applied();
        judge(&group, &replies.unwrap_or_else(|| panic!("a client was told an error\n{}", logs())));
        let aside = cut_files(&group.data_dir(hot));
        assert!(aside > 0 || !between_writes, "the old hot has put no suffix aside: {}", group.log(hot));
    }
    // What the old hot has cut stays cut when it starts again.
    let hot = group.hot();
    group.kill(hot);
    group.start_node(hot);
    group.wait_all_in_sync();
}

/// Cuts the hot off while all clients work, lets another node reign, and heals the cut. Says what went wrong, and does
/// not panic: the clients must be told to finish.
///
/// What is under way at the cut may have reached the others or not. A cut between writes leaves the hot with a suffix of
/// its own: the first write of a pinned client after it.
fn cut_and_heal(
    group: &Group,
    network: &Network,
    hot: usize,
    known: &Known,
    between_writes: bool,
) -> Result<(), &'static str> {
    progress("the clients do not get to work", &[&known.free, &known.pinned_writes, &known.pinned_reads])?;
    let alone = between_writes.then(|| known.under_way.write().unwrap());
    let cut = network.cut_off(hot);
    drop(alone);
    if cut < 8 {
        return Err("the nodes have fewer wires to the hot than four each");
    }
    let others = || (0..group.nodes.len()).filter(|node| *node != hot);
    let reigns =
        |node: usize| group.status(node).is_some_and(|status| status.node.role == Role::Hot && status.node.serves);
    until("no node takes over", || others().any(reigns))?;
    progress("the new hot does no work", &[&known.free])?;
    let pinned_writes = known.pinned_writes.load(Ordering::SeqCst);
    thread::sleep(REIGN);
    progress("the new hot does no more work", &[&known.free])?;
    if known.pinned_writes.load(Ordering::SeqCst) != pinned_writes {
        return Err("the cut-off hot has acknowledged writes in the reign of another");
    }
    network.heal();
    progress("the clients do not get to work again", &[&known.free, &known.pinned_writes, &known.pinned_reads])
}

/// Waits until each of the numbers has grown by some.
fn progress(what: &'static str, numbers: &[&AtomicU64]) -> Result<(), &'static str> {
    let from: Vec<u64> = numbers.iter().map(|number| number.load(Ordering::SeqCst)).collect();
    until(what, || numbers.iter().zip(&from).all(|(number, from)| number.load(Ordering::SeqCst) > from + 20))
}

fn until(what: &'static str, mut is_so: impl FnMut() -> bool) -> Result<(), &'static str> {
    let began = Instant::now();
    while !is_so() {
        if began.elapsed() > PATIENCE {
            return Err(what);
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Counts up until told to finish; gives the replies of `shared`. A connection to a living node neither breaks nor
/// answers with an error.
fn write(front: SocketAddr, pinned: bool, known: &Known) -> Vec<u64> {
    let mut client = storm::connect(front, 2);
    let mut replies = Vec::new();
    while known.goes_on() {
        let _under_way = known.under_way.read().unwrap();
        let value = client.incr("shared", 1).unwrap();
        known.shared.fetch_max(value, Ordering::SeqCst);
        replies.push(value);
        if pinned {
            known.pinned_writes.fetch_add(1, Ordering::SeqCst);
        } else {
            known.free.fetch_max(client.incr("free", 1).unwrap(), Ordering::SeqCst);
        }
    }
    replies
}

/// Reads until told to finish, on one connection and on new ones in turn: nothing may be older than what anybody was
/// told before.
fn read(front: SocketAddr, known: &Known) {
    let mut lasting = storm::connect(front, 3);
    for number in 0.. {
        if !known.goes_on() {
            return;
        }
        let mut new = (number % 8 == 0).then(|| storm::connect(front, 3));
        let client = new.as_mut().unwrap_or(&mut lasting);
        let floors = [&known.shared, &known.free].map(|number| number.load(Ordering::SeqCst));
        let values: (Option<u64>, Option<u64>) = client.mget(&["shared", "free"]).unwrap();
        let values = [values.0, values.1].map(Option::unwrap_or_default);
        assert!(values[0] >= floors[0] && values[1] >= floors[1], "{values:?} was read after {floors:?} was told");
        // Whoever reads after this, wherever, must not see less.
        known.shared.fetch_max(values[0], Ordering::SeqCst);
        known.free.fetch_max(values[1], Ordering::SeqCst);
        known.pinned_reads.fetch_add(1, Ordering::SeqCst);
    }
}

/// Every reply is there, on every node, and none was given twice.
fn judge(group: &Group, replies: &[Vec<u64>]) {
    assert!(replies.iter().all(|replies| replies.is_sorted_by(|one, next| one < next)), "a counter went back");
    let seen: BTreeSet<u64> = replies.iter().flatten().copied().collect();
    assert_eq!(seen.len(), replies.iter().map(Vec::len).sum::<usize>(), "a number was replied twice");
    for node in &group.nodes {
        let value: u64 = storm::connect(node.own_copy, 2).get("shared").unwrap();
        assert_eq!(value, seen.len() as u64, "{} does not hold what was acknowledged", node.name);
    }
}

/// How many cut suffixes are kept below a folder.
fn cut_files(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .map(|path| {
            if path.is_dir() { cut_files(&path) } else { usize::from(path.extension().is_some_and(|end| end == "cut")) }
        })
        .sum()
}
