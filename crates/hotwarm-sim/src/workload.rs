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
    pub fn new(target: usize) -> Self {
        Self { seq: 0, open: None, target, timer: 0, acknowledged: 0, acknowledged_at: 0 }
    }
}

/// Draws the next request of a client; `unique` grows with every write of the run.
pub fn draw(rng: &mut Rng, reads_percent: u64, verified_percent: u64, unique: &mut u64) -> What {
    // Few keys, so that requests meet.
    let key = rng.below(KEYS as u64) as u8;
    if rng.percent(reads_percent) {
        return What::Read { key, verified: rng.percent(verified_percent) };
    }
    if key >= COUNTERS_FROM {
        return What::Write(Command::Increment { key });
    }
    *unique += 1;
    What::Write(Command::Set { key, value: *unique })
}

/// How long a client waits for a reply before it asks another machine, nanoseconds.
pub fn timeout(rng: &mut Rng) -> u64 {
    rng.between(150, 900) * MS
}
