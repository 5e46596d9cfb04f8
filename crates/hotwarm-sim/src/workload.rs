//! What clients do: unique writes, counters, reads; each with one request open, retried under its session (R34).

use crate::clock::{MS, SECOND};
use crate::rng::Rng;
use crate::store::{COUNTERS_FROM, Command, KEYS};

/// A client gives a request up, as "unknown", after this long.
pub const PATIENCE: u64 = 12 * SECOND;

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A write.
    Write(Command),
    /// A linearizable read.
    Read {
        /// The key.
        key: u8,
        /// Whether proof by a round is wanted even where the lease holds.
        verified: bool,
    },
}

/// A request on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Whose.
    pub client: usize,
    /// Its number in the client's session, from 1.
    pub seq: u32,
    /// What is asked.
    pub what: What,
}

/// What a node answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Done: the value read or written.
    Done(u64),
    /// Ask another machine.
    Moved(Option<usize>),
    /// Nobody will ever know.
    Unknown,
}

/// A request that a client waits for.
#[derive(Clone, Copy, Debug)]
pub struct Open {
    /// What it asked.
    pub what: What,
    /// When it asked first, nanoseconds.
    pub invoked_at: u64,
}

/// One client: a session.
#[derive(Clone, Debug)]
pub struct Client {
    /// The number of its last request.
    pub seq: u32,
    /// The request that it waits for.
    pub open: Option<Open>,
    /// Whom it asks.
    pub target: usize,
    /// A client that only reads, and begins every request at this machine, whoever is hot: it sees what a hot that was cut
    /// off still says.
    pub pinned: Option<usize>,
    /// Counts its timers: an old one that goes off is ignored.
    pub timer: u64,
    /// Writes acknowledged.
    pub acknowledged: u64,
    /// When its last write was acknowledged, nanoseconds.
    pub acknowledged_at: u64,
}

impl Client {
    /// A client that has asked nothing yet.
    #[must_use]
    pub fn new(target: usize, pinned: bool) -> Self {
        let pinned = pinned.then_some(target);
        Self { seq: 0, open: None, target, pinned, timer: 0, acknowledged: 0, acknowledged_at: 0 }
    }
}

/// What kind of requests a run's clients make.
#[derive(Clone, Copy, Debug)]
pub struct Mix {
    /// Registers, and counters, that are used: the fewer, the more requests meet. At least 1, at most the counters.
    pub keys: u8,
    /// Reads per hundred requests.
    pub reads_percent: u64,
    /// Of the reads, verified ones per hundred.
    pub verified_percent: u64,
}

impl Mix {
    /// Draws the next request of a client; `unique` grows with every write of the run.
    pub fn draw(&self, rng: &mut Rng, only_reads: bool, unique: &mut u64) -> What {
        let number = rng.below(u64::from(self.keys)) as u8;
        let counter = rng.percent(40);
        let key = if counter { COUNTERS_FROM + number % (KEYS as u8 - COUNTERS_FROM) } else { number };
        if only_reads || rng.percent(self.reads_percent) {
            return What::Read { key, verified: rng.percent(self.verified_percent) };
        }
        if counter {
            return What::Write(Command::Increment { key });
        }
        *unique += 1;
        What::Write(Command::Set { key, value: *unique })
    }
}

/// How long a client waits for a reply before it asks another machine, nanoseconds.
pub fn timeout(rng: &mut Rng) -> u64 {
    rng.between(100, 500) * MS
}
