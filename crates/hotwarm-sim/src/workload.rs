//! What clients do: unique writes, counters, reads; each with one request open, retried under its session (R34).
//!
//! Requests are commands of Redis, planned as the front of a node plans them.

use crate::clock::{MS, SECOND};
use crate::rng::Rng;
use bytes::Bytes;
use hotwarm_resp::Reply as Resp;
use hotwarm_store::Identity;
use hotwarm_store::command::{Call, ClientState, ConfigError, Plan, Server, Topology, plan};
use hotwarm_types::SessionId;

/// Keys. The lower half are registers (each write has a value of its own), the upper half are counters.
pub const KEYS: usize = 12;

/// First key that is a counter.
pub const COUNTERS_FROM: u8 = 8;

/// A client gives a request up, as "unknown", after this long.
pub const PATIENCE: u64 = 12 * SECOND;

/// The name of a key.
#[must_use]
pub fn name_of(key: u8) -> String {
    if key < COUNTERS_FROM { format!("r{key}") } else { format!("c{}", key - COUNTERS_FROM) }
}

/// What a client wants written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Set a register to a value that no other write uses.
    Set {
        /// The register.
        key: u8,
        /// The value.
        value: u64,
    },
    /// Add one to a counter; the reply is the sum.
    Increment {
        /// The counter.
        key: u8,
    },
    /// Take a name that nobody has: one of those who ask for it gets it, the others learn that it is taken.
    Claim {
        /// The name.
        name: u64,
        /// Who asks; no other claim has it.
        value: u64,
    },
}

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// To open its session.
    Open,
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

impl What {
    /// The call that it is; `None` for the opening of a session.
    ///
    /// # Panics
    /// If the planner refuses it: a bug of this file.
    #[must_use]
    pub fn call(self) -> Option<Call> {
        let args = match self {
            Self::Open => return None,
            Self::Write(Command::Set { key, value }) => vec!["SET".to_owned(), name_of(key), value.to_string()],
            Self::Write(Command::Increment { key }) => vec!["INCR".to_owned(), name_of(key)],
            Self::Write(Command::Claim { name, value }) => {
                vec!["SET".to_owned(), format!("n{name}"), value.to_string(), "NX".to_owned()]
            }
            Self::Read { key, .. } => vec!["GET".to_owned(), name_of(key)],
        };
        let args = args.into_iter().map(Bytes::from).collect();
        match plan(&mut ClientState::new(1, String::new()), &OpenServer, args) {
            Plan::Read(call) | Plan::Write(call) => Some(call),
            other => panic!("{self:?} is planned as {other:?}"),
        }
    }

    /// The number in a reply: of a SET, that which was set; 0 for nothing.
    #[must_use]
    pub fn number(self, reply: &Resp) -> Option<u64> {
        match (self, reply) {
            (Self::Write(Command::Set { value, .. } | Command::Claim { value, .. }), Resp::Simple(_)) => Some(value),
            (Self::Open, Resp::Simple(_)) => Some(0),
            (Self::Read { .. } | Self::Write(Command::Claim { .. }), Resp::Null) => Some(0),
            (_, Resp::Integer(number)) => u64::try_from(*number).ok(),
            (_, Resp::Bulk(text)) => std::str::from_utf8(text).ok()?.parse().ok(),
            _ => None,
        }
    }
}

/// A request on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Whose.
    pub client: usize,
    /// Its session.
    pub session: SessionId,
    /// Its number in the client's session, from 1.
    pub seq: u32,
    /// What is asked.
    pub what: What,
}

impl Request {
    /// Under which identity a write is carried out once.
    #[must_use]
    pub fn identity(&self) -> Identity {
        Identity { session: self.session, sequence: u64::from(self.seq) }
    }
}

/// What a node answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Done: the value read or written.
    Done(u64),
    /// Ask another machine.
    Moved(Option<usize>),
    /// Surely not done, and it will not be (C9).
    Refused,
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
    /// Its session.
    pub session: SessionId,
    /// Whether it has been told that the session is open.
    pub is_open: bool,
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
    pub fn new(index: usize, target: usize, pinned: bool) -> Self {
        let pinned = pinned.then_some(target);
        Self {
            session: SessionId(1 + ((index as u128) << 64)),
            is_open: false,
            seq: 0,
            open: None,
            target,
            pinned,
            timer: 0,
            acknowledged: 0,
            acknowledged_at: 0,
        }
    }

    /// Begins anew under another session: what became of the last request nobody knows.
    pub fn forget_session(&mut self) {
        self.session = SessionId(self.session.0 + 1);
        (self.is_open, self.seq) = (false, 0);
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
        if rng.percent(20) {
            return What::Write(Command::Claim { name: *unique / 6, value: *unique });
        }
        What::Write(Command::Set { key, value: *unique })
    }
}

/// How long a client waits for a reply before it asks another machine, nanoseconds.
pub fn timeout(rng: &mut Rng) -> u64 {
    rng.between(100, 500) * MS
}

/// A node to which everybody may say everything.
struct OpenServer;

impl Server for OpenServer {
    fn password_required(&self) -> bool {
        false
    }
    fn authenticate(&self, _: &[u8], _: &[u8]) -> bool {
        true
    }
    fn is_hot(&self) -> bool {
        true
    }
    fn info(&self, _: &[String]) -> String {
        String::new()
    }
    fn role(&self) -> Resp {
        Resp::Null
    }
    fn client_list(&self) -> String {
        String::new()
    }
    fn config(&self) -> Vec<(String, String)> {
        Vec::new()
    }
    fn set_config(&self, _: &[(String, String)]) -> Result<(), ConfigError> {
        Ok(())
    }
    fn reset_statistics(&self) {}
    fn topology(&self) -> Topology {
        Topology::default()
    }
}
