//! What every node says of itself, looked at all the time, and the epochs that were seen.
//!
//! One thread a node, in the node's namespace, asks `GET /status` on loopback: no fault of the network hides a node from
//! the harness, and a frozen one is seen as silent.

use super::admin::Admin;
use crate::clock::RunClock;
use crate::lab::Door;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Between two looks at a node.
const LOOK: Duration = Duration::from_millis(15);

/// What a node said, as far as the harness looks at it.
#[derive(Clone, Debug, Deserialize)]
pub struct Told {
    /// About itself.
    pub node: Own,
    /// Number of the reign that it knows.
    pub epoch: u64,
    /// Who reigns.
    pub hot: Option<String>,
    /// The members as it sees them.
    pub members: Vec<Member>,
    /// A full copy to or from it.
    pub full_sync: Option<serde_json::Value>,
    /// What an operator should look at.
    pub complaints: Vec<String>,
}

/// A node about itself.
#[derive(Clone, Debug, Deserialize)]
pub struct Own {
    /// `hot`, `warm`, `joining`, `fenced`.
    pub role: String,
    /// What it does in that role.
    pub phase: String,
    /// Whether commands can be answered through it.
    pub serves: bool,
    /// Why it is fenced.
    pub fence: Option<String>,
    /// Its commit position.
    pub committed_lsn: u64,
    /// Up to where its reads see.
    pub visible_lsn: u64,
    /// Whether its guardian watches it.
    pub guardian: bool,
}

/// A member as a node sees it.
#[derive(Clone, Debug, Deserialize)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Whether it is in the in-sync set.
    pub in_sync: bool,
    /// Whether a connection to it stands.
    pub connected: bool,
}

impl Told {
    /// Whether it reigns and answers commands.
    pub fn reigns(&self) -> bool {
        self.node.role == "hot" && self.node.serves
    }
}

/// A reign, as it was first seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reign {
    /// Its number.
    pub epoch: u64,
    /// The node that serves in it.
    pub node: usize,
    /// When it was first seen to serve.
    pub seen_ns: u64,
}

/// All that was seen.
pub struct Observer {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    clock: RunClock,
    /// What each node said last, and when.
    told: Vec<Mutex<Option<(u64, Told)>>>,
    reigns: Mutex<BTreeMap<u64, Reign>>,
    stop: AtomicBool,
}

impl Observer {
    /// Begins to look.
    pub fn start(doors: Vec<Door>, clock: RunClock) -> Self {
        let told = doors.iter().map(|_| Mutex::default()).collect();
        let shared = Arc::new(Shared { clock, told, reigns: Mutex::default(), stop: AtomicBool::new(false) });
        let threads = doors.into_iter().enumerate().map(|(node, door)| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || shared.look(node, &door))
        });
        Self { threads: threads.collect(), shared }
    }

    /// What a node said, if it said it in the last half second.
    pub fn told(&self, node: usize) -> Option<Told> {
        let (at_ns, told) = lock(&self.shared.told[node]).clone()?;
        (self.shared.clock.now_ns() - at_ns < 500_000_000).then_some(told)
    }

    /// What every node says.
    pub fn all(&self) -> Vec<Option<Told>> {
        (0..self.shared.told.len()).map(|node| self.told(node)).collect()
    }

    /// Who reigns: of several that say so, the one of the highest epoch.
    pub fn hot(&self) -> Option<usize> {
        let all = self.all();
        let reigning = all.iter().enumerate().filter_map(|(node, told)| Some((node, told.as_ref()?)));
        reigning.filter(|(_, told)| told.reigns()).max_by_key(|(_, told)| told.epoch).map(|(node, _)| node)
    }

    /// The highest epoch in which a node was seen to serve.
    pub fn epoch(&self) -> u64 {
        lock(&self.shared.reigns).last_key_value().map_or(0, |(epoch, _)| *epoch)
    }

    /// The reigns of epochs above this one.
    pub fn reigns_after(&self, epoch: u64) -> Vec<Reign> {
        lock(&self.shared.reigns).range(epoch + 1..).map(|(_, reign)| *reign).collect()
    }

    /// Ends the looking.
    pub fn stop(self) {
        self.shared.stop.store(true, Ordering::Release);
        for thread in self.threads {
            if thread.join().is_err() {
                eprintln!("torture: a thread that looks at a node has panicked");
            }
        }
    }
}

impl Shared {
    fn look(&self, node: usize, door: &Door) {
        if let Err(error) = door.enter() {
            eprintln!("torture: the namespace of node {node} cannot be entered: {error}");
            return;
        }
        let mut connection: Option<Admin> = None;
        while !self.stop.load(Ordering::Acquire) {
            let asked = match connection.take() {
                Some(connection) => Ok(connection),
                None => Admin::connect(),
            };
            if let Ok(mut admin) = asked
                && let Ok(value) = admin.get("/status")
            {
                connection = Some(admin);
                match serde_json::from_value::<Told>(value) {
                    Ok(told) => self.note(node, told),
                    Err(error) => eprintln!("torture: node {node} has a status that is not as documented: {error}"),
                }
            }
            thread::sleep(LOOK);
        }
    }

    fn note(&self, node: usize, told: Told) {
        let now_ns = self.clock.now_ns();
        if told.reigns() {
            let reign = Reign { epoch: told.epoch, node, seen_ns: now_ns };
            lock(&self.reigns).entry(told.epoch).or_insert(reign);
        }
        *lock(&self.told[node]) = Some((now_ns, told));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
