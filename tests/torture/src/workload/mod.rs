//! The judged load: clients on real connections, each of which writes down what it asked and what it was told.
//!
//! | workload | clients | promise that it tries |
//! | --- | --- | --- |
//! | counters | one at home on each node, with a session and retries | each increment counts once (C10) |
//! | registers | one pinned to each node's linearizable front | no read is stale (C18) |
//! | set | one pinned to each node, as an unmodified client | nothing acknowledged is lost (C12), nothing refused comes (C9) |
//! | lists | one at home on each node, transactions with a session | strict serializability (C17, C18) |
//! | bank | tellers with transactions; audits at the front, and of each node's own copy | money stays (C10), no long fork (C20) |
//! | sessions | one on each node, READONLY | what a connection sees never goes back (C19) |
//!
//! A client has one call open at a time. One without a session gives a call up when its connection breaks: it is
//! unknown. One with a session sends it again, to any node, under its number. When the load ends, every workload reads
//! everything that it wrote.

#[cfg(test)]
mod against_fakes;
mod bank;
mod client;
mod counters;
#[cfg(test)]
mod fake_group;
mod lists;
mod pause;
mod registers;
mod sessions;
mod set;

use crate::clock::RunClock;
use client::Shared;
use hotwarm_history::History;
pub use pause::{Pause, acknowledged_per_second};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::thread::{self, JoinHandle};

/// One node, as clients know it.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its name.
    pub name: String,
    /// Its front: writes, and linearizable reads.
    pub front: SocketAddr,
    /// A front that answers reads from the node's own copy.
    pub own_copy: SocketAddr,
    /// A front whose reads are proven by a round, if there is one.
    pub verified: Option<SocketAddr>,
}

/// What a client thread does before anything else: it enters the clients' namespace.
pub type Enter = Arc<dyn Fn() -> io::Result<()> + Send + Sync>;

/// Everything that clients saw.
#[derive(Debug, Default)]
pub struct Observed {
    /// All calls.
    pub history: History,
    /// Times without an acknowledged write, by workload.
    pub pauses: Vec<Pause>,
    /// Writes acknowledged in each second of the run.
    pub acknowledged_per_second: Vec<u64>,
    /// Answers that no client can make sense of, and what could not be read in the end: each breaks a promise.
    pub errors: Vec<String>,
}

/// A load under way.
pub struct Load {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<History>>,
}

/// Starts all clients. `seed` draws what each of them asks for; when they ask is the machine's doing.
#[must_use]
pub fn start(targets: Vec<Target>, seed: u64, clock: RunClock, enter: Enter) -> Load {
    let shared = Arc::new(Shared::new(targets, seed, clock, enter));
    let mut clients = Vec::new();
    for home in 0..shared.targets.len() {
        for work in [
            counters::run,
            registers::run,
            set::run,
            lists::run,
            bank::tell,
            bank::audit,
            bank::audit_own_copy,
            sessions::run,
        ] {
            let shared = Arc::clone(&shared);
            clients.push(thread::spawn(move || {
                if let Err(error) = (shared.enter)() {
                    shared.error(format!("a client cannot enter the clients' namespace: {error}"));
                    return History::default();
                }
                work(&shared, home)
            }));
        }
    }
    Load { shared, clients }
}

impl Load {
    /// Writes acknowledged so far.
    #[must_use]
    pub fn acknowledged(&self) -> u64 {
        self.shared.acknowledged.load(Ordering::Relaxed)
    }

    /// Ends the load, and reads everything that was written. The group must be whole by now.
    #[must_use]
    pub fn stop(self) -> Observed {
        self.shared.stop.store(true, Ordering::Release);
        let mut observed = Observed::default();
        observed.history.bank_accounts = bank::ACCOUNTS;
        for client in self.clients {
            match client.join() {
                Ok(history) => observed.history.merge(history),
                Err(_) => self.shared.error("a client has panicked".to_owned()),
            }
        }
        observed.history.merge(last_reads(&self.shared, &observed.history));
        observed.pauses = pause::pauses(&observed.history);
        observed.acknowledged_per_second = acknowledged_per_second(&observed.history);
        observed.errors = self.shared.errors.lock().unwrap_or_else(PoisonError::into_inner).clone();
        observed
    }
}

/// One thread of its own reads all, since it has to be where the clients are.
fn last_reads(shared: &Shared, history: &History) -> History {
    let reads = || -> History {
        let mut last = History::default();
        if let Err(error) = (shared.enter)() {
            shared.error(format!("the last reads cannot enter the clients' namespace: {error}"));
            return last;
        }
        for read in [counters::read_all, registers::read_all, set::read_all, lists::read_all, bank::read_all] {
            last.merge(read(shared, history));
        }
        last
    };
    thread::scope(|scope| scope.spawn(reads).join()).unwrap_or_else(|_| {
        shared.error("the last reads have panicked".to_owned());
        History::default()
    })
}
