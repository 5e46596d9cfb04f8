//! One client: a connection that is opened again, calls that end in one of three ways, and a session if it has one.
//!
//! Refused (an error that says that nothing was executed), answered, or unknown (C9). A client with a session asks again
//! under the same number until it is told: only "outcome unknown", a session that is gone, or the end of its patience
//! leaves a call open.

use super::{Enter, Target};
use crate::clock::RunClock;
use crate::resp::Connection;
use hotwarm_history::Outcome;
use hotwarm_resp::Reply;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Past it a connection says nothing, and is given up.
const REPLY_WAIT: Duration = Duration::from_millis(3_000);
/// How long a client with a session asks again: longer than the group may need to be whole.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two tries to connect.
const RECONNECT_PAUSE: Duration = Duration::from_millis(20);
/// Errors that are kept in words.
const ERRORS_MAX: usize = 50;

/// What all clients of a load share.
pub struct Shared {
    pub targets: Vec<Target>,
    pub clock: RunClock,
    pub stop: AtomicBool,
    pub acknowledged: AtomicU64,
    pub errors: Mutex<Vec<String>>,
    pub enter: Enter,
    /// Numbers of tellers handed out.
    pub tellers: AtomicU32,
    /// Appends to lists so far: they decide which lists are in use.
    pub appends: AtomicU64,
    seed: u64,
    clients: AtomicU32,
}

impl Shared {
    pub fn new(targets: Vec<Target>, seed: u64, clock: RunClock, enter: Enter) -> Self {
        Self {
            targets,
            clock,
            stop: AtomicBool::new(false),
            acknowledged: AtomicU64::new(0),
            errors: Mutex::default(),
            enter,
            tellers: AtomicU32::new(0),
            appends: AtomicU64::new(0),
            seed,
            clients: AtomicU32::new(0),
        }
    }

    pub fn stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// A number that no other client has.
    pub fn next_client(&self) -> u32 {
        self.clients.fetch_add(1, Ordering::Relaxed)
    }

    /// What each workload and node draws from: the order in which threads start has no part in it.
    pub fn dice(&self, workload: u64, home: usize) -> Dice {
        Dice(self.seed ^ (workload << 32) ^ ((home as u64) << 48))
    }

    pub fn error(&self, text: String) {
        let mut errors = self.errors.lock().unwrap_or_else(PoisonError::into_inner);
        if errors.len() < ERRORS_MAX {
            errors.push(text);
        }
    }
}

/// splitmix64 (Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", 2014).
pub struct Dice(u64);

impl Dice {
    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((u128::from(word ^ (word >> 31)) * u128::from(bound)) >> 64) as u64
    }

    /// A client thinks before its next call.
    pub fn think(&mut self) {
        thread::sleep(Duration::from_micros(4_000 + self.below(12_000)));
    }
}

/// What became of a call.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// The reply, which is no error.
    Reply(Reply),
    /// An error: nothing was executed.
    Refused,
    /// It may have been executed, or may yet be.
    Unknown,
}

struct Session {
    id: u128,
    is_open: bool,
    sequence: u64,
}

/// A client.
pub struct Client<'a> {
    shared: &'a Shared,
    addresses: Vec<SocketAddr>,
    /// Whether it asks READONLY of every connection.
    read_only: bool,
    connection: Option<Connection>,
    session: Option<Session>,
    /// Connections opened so far.
    pub connections: u64,
}

impl<'a> Client<'a> {
    /// One that knows only these addresses, the first one first, and tries no call twice.
    pub fn plain(shared: &'a Shared, addresses: Vec<SocketAddr>) -> Self {
        Self { shared, addresses, read_only: false, connection: None, session: None, connections: 0 }
    }

    /// One that reads from warms.
    pub fn read_only(shared: &'a Shared, address: SocketAddr) -> Self {
        Self { read_only: true, ..Self::plain(shared, vec![address]) }
    }

    /// One with a session, at home on a node and willing to go to any.
    pub fn with_session(shared: &'a Shared, home: usize) -> Self {
        let count = shared.targets.len();
        let addresses = (0..count).map(|step| shared.targets[(home + step) % count].front).collect();
        let mut client = Self::plain(shared, addresses);
        client.session = Some(client.new_session());
        client
    }

    /// Unique to this run and client, also where a group is driven again by another run.
    fn new_session(&self) -> Session {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let id = (now.as_nanos() << 20) | u128::from(self.shared.next_client());
        Session { id, is_open: false, sequence: 0 }
    }

    /// Has a connection, or waits for one as long as the load runs and `until` has not come.
    pub fn connect(&mut self, until: Option<Instant>) -> bool {
        let mut place = 0;
        while self.connection.is_none() {
            let over = until.map_or_else(|| self.shared.stopped(), |until| Instant::now() > until);
            if over {
                return false;
            }
            if let Err(error) = self.open(self.addresses[place % self.addresses.len()]) {
                if error.kind() == std::io::ErrorKind::InvalidData {
                    self.refused_connection(&error.to_string());
                }
                place += 1;
                thread::sleep(RECONNECT_PAUSE);
            }
        }
        true
    }

    fn open(&mut self, address: SocketAddr) -> std::io::Result<()> {
        let mut connection = Connection::open(address, REPLY_WAIT)?;
        if let Some(session) = &mut self.session {
            connection.attach(session.id, session.is_open)?;
            session.is_open = true;
        }
        if self.read_only {
            connection.call(&["READONLY"])?;
        }
        self.connections += 1;
        self.connection = Some(connection);
        Ok(())
    }

    /// What a node says to a new connection, if not welcome: a node that does not serve says so, and another is tried.
    fn refused_connection(&mut self, text: &str) {
        if text.contains("session is not open") {
            self.session = Some(self.new_session());
        }
    }

    /// One command.
    pub fn call(&mut self, command: &[&str]) -> Answer {
        match self.session.is_some() {
            true => self.numbered(&[], command),
            false => self.once(&[command]),
        }
    }

    /// Commands that take effect as one; the reply is that of EXEC.
    pub fn transaction(&mut self, commands: &[Vec<String>]) -> Answer {
        let queued: Vec<Vec<&str>> =
            commands.iter().map(|command| command.iter().map(String::as_str).collect()).collect();
        let mut before: Vec<&[&str]> = vec![&["MULTI"]];
        before.extend(queued.iter().map(Vec::as_slice));
        if self.session.is_some() {
            return self.numbered(&before, &["EXEC"]);
        }
        before.push(&["EXEC"]);
        self.once(&before)
    }

    /// Sends once. The caller has a connection.
    fn once(&mut self, commands: &[&[&str]]) -> Answer {
        let Some(connection) = &mut self.connection else { return Answer::Refused };
        let Ok(mut replies) = connection.pipeline(commands) else {
            self.connection = None;
            return Answer::Unknown;
        };
        let last = replies.pop().unwrap_or(Reply::Null);
        let Reply::Error(text) = &last else { return Answer::Reply(last) };
        let text = String::from_utf8_lossy(text).into_owned();
        // A node that does not serve is left, for another or for its successor.
        if text.starts_with("MASTERDOWN") {
            self.connection = None;
        }
        if text.starts_with("OUTCOMEUNKNOWN") {
            return Answer::Unknown;
        }
        if ["ERR ", "WRONGTYPE", "NOPERM", "NOAUTH"].iter().any(|word| text.starts_with(word)) {
            self.shared.error(format!("{}: {text}", commands.last().map(|words| words.join(" ")).unwrap_or_default()));
        }
        Answer::Refused
    }

    /// Sends `before`, and `command` under its number, until it is answered.
    fn numbered(&mut self, before: &[&[&str]], command: &[&str]) -> Answer {
        let Some(session) = &mut self.session else { return Answer::Refused };
        session.sequence += 1;
        let (id, number) = (session.id, session.sequence.to_string());
        let mut words = vec!["HOTWARM", "SEQ", &number];
        words.extend(command);
        let mut commands = before.to_vec();
        commands.push(&words);
        let until = Instant::now() + PATIENCE;
        let mut tries = 0;
        loop {
            if !self.connect(Some(until)) || self.session.as_ref().is_none_or(|session| session.id != id) {
                return if tries == 0 { Answer::Refused } else { Answer::Unknown };
            }
            tries += 1;
            let answer = self.once(&commands);
            match answer {
                // What an earlier try did is not said by a later one's refusal.
                Answer::Refused if tries > 1 => thread::sleep(RECONNECT_PAUSE),
                Answer::Unknown if self.connection.is_none() => {}
                answer => {
                    if answer == Answer::Unknown {
                        // The session may be gone, and then every number of it is unknown.
                        self.session = Some(self.new_session());
                        self.connection = None;
                    }
                    return answer;
                }
            }
            if Instant::now() > until {
                return Answer::Unknown;
            }
        }
    }

    /// The outcome of a write. `read` makes sense of the reply; a reply without sense is an error of the group.
    pub fn write_outcome<S>(&self, answer: Answer, read: impl Fn(&Reply) -> Option<S>) -> Outcome<S> {
        let at = self.shared.clock.now_ns();
        match answer {
            Answer::Refused => Outcome::Failed,
            Answer::Unknown => Outcome::Unknown,
            Answer::Reply(reply) => match read(&reply) {
                Some(seen) => {
                    self.shared.acknowledged.fetch_add(1, Ordering::Relaxed);
                    Outcome::Returned { at, seen }
                }
                None => {
                    self.shared.error(format!("a write was answered with {reply:?}"));
                    Outcome::Unknown
                }
            },
        }
    }

    /// What a read saw and when it ended, if it was answered.
    pub fn read_outcome<S>(&self, answer: Answer, read: impl Fn(&Reply) -> Option<S>) -> Option<Outcome<S>> {
        let at = self.shared.clock.now_ns();
        let Answer::Reply(reply) = answer else { return None };
        match read(&reply) {
            Some(seen) => Some(Outcome::Returned { at, seen }),
            None => {
                self.shared.error(format!("a read was answered with {reply:?}"));
                None
            }
        }
    }
}

/// Asks until it is answered: for the reads at the end, when the group is whole. `None`, with an error, if it is not.
pub fn insist<T>(shared: &Shared, what: &str, mut ask: impl FnMut(&mut Client<'_>) -> Option<T>) -> Option<T> {
    let until = Instant::now() + PATIENCE;
    let mut client = Client::plain(shared, shared.targets.iter().map(|target| target.front).collect());
    while client.connect(Some(until)) {
        if let Some(seen) = ask(&mut client) {
            return Some(seen);
        }
        client.connection = None;
        thread::sleep(RECONNECT_PAUSE);
    }
    shared.error(format!("{what} cannot be read in the end: no node has answered for {} s", PATIENCE.as_secs()));
    None
}

/// The number that a reply is or holds; 0 for a key that is not there.
pub fn number(reply: &Reply) -> Option<u64> {
    match reply {
        Reply::Null => Some(0),
        reply => crate::resp::number(reply),
    }
}

/// As [`number`], with a sign.
pub fn signed(reply: &Reply) -> Option<i64> {
    match reply {
        Reply::Null => Some(0),
        Reply::Integer(number) => Some(*number),
        Reply::Bulk(text) => std::str::from_utf8(text).ok()?.parse().ok(),
        _ => None,
    }
}

/// The replies in an array.
pub fn items(reply: &Reply) -> Option<&[Reply]> {
    if let Reply::Array(items) = reply { Some(items) } else { None }
}
