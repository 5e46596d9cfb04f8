//! The demo's load: writers on every node, each with unique appends and a counter, one open request at a time.
//!
//! A writer knows what it was told. A reply that is an error, or a failure on a connection to a living node, is an
//! error of the group; a connection that broke because its node was killed is a reconnect.

use super::client::Connection;
use hotwarm_resp::Reply;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Appends to one key before the writer goes on to the next: keys stay small.
pub const APPENDS_PER_KEY: u64 = 64;
/// Length of one append: seven digits and a comma.
pub const APPEND_SIZE_BYTES: usize = 8;

/// What all writers and the director of the demo share.
pub struct Shared {
    /// Where each node's front listens.
    pub fronts: Vec<SocketAddr>,
    /// Whether the director has taken the node down: then a broken connection to it is no error.
    pub down: Vec<AtomicBool>,
    /// Set when the writers are to finish.
    pub stop: AtomicBool,
    /// Writes acknowledged by the group so far.
    pub acked: AtomicU64,
    /// When each round began and what was seen since.
    pub watch: Mutex<Watch>,
    /// Replies that were errors, and failures that no kill explains: the first few, for people.
    pub errors: Mutex<Vec<String>>,
    /// How many there were.
    pub error_count: AtomicU64,
    /// Connections lost with their node and opened elsewhere.
    pub reconnects: AtomicU64,
}

/// What the writers have seen since the director did something.
#[derive(Default)]
pub struct Watch {
    /// Writes begun from then on count: the killed process cannot have answered them.
    pub since: Option<Instant>,
    /// The first acknowledgement of a write begun since.
    pub first_ack: Option<Instant>,
    /// The longest time that a client waited for one reply, begun or ended since.
    pub longest_pause: Duration,
}

/// What one writer was told.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// Number of the writer; part of its keys' names.
    pub writer: usize,
    /// Appends acknowledged: numbers 1 to this, in order.
    pub appends: u64,
    /// Increments acknowledged.
    pub increments: u64,
    /// Replies that show that a write was applied twice or not at all.
    pub surprises: Vec<String>,
}

/// Starts `count` writers, spread over the nodes.
pub fn start(shared: &Arc<Shared>, count: usize) -> Vec<JoinHandle<Told>> {
    (0..count)
        .map(|writer| {
            let shared = Arc::clone(shared);
            thread::spawn(move || Writer::new(shared, writer).run())
        })
        .collect()
}

/// The key that holds the append of that number.
pub fn append_key(writer: usize, number: u64) -> String {
    format!("log:{writer}:{}", (number - 1) / APPENDS_PER_KEY)
}

/// The key of a writer's counter.
pub fn counter_key(writer: usize) -> String {
    format!("counter:{writer}")
}

struct Writer {
    shared: Arc<Shared>,
    told: Told,
    /// Index of the node it prefers.
    home: usize,
    session: u128,
    sequence: u64,
    connection: Option<(usize, Connection)>,
}

impl Writer {
    fn new(shared: Arc<Shared>, writer: usize) -> Self {
        let home = writer % shared.fronts.len();
        // Unique to this run and writer, so that a kept group can be driven again.
        let seed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let session = (seed.as_nanos() << 16) | writer as u128;
        Self { shared, told: Told { writer, ..Told::default() }, home, session, sequence: 0, connection: None }
    }

    fn run(mut self) -> Told {
        while !self.shared.stop.load(Ordering::Relaxed) {
            let number = self.told.appends + 1;
            let key = append_key(self.told.writer, number);
            let text = format!("{number:07},");
            match self.write(&["APPEND", &key, &text]) {
                Some(Reply::Integer(length)) => {
                    self.told.appends = number;
                    let expected = ((number - 1) % APPENDS_PER_KEY + 1) * APPEND_SIZE_BYTES as u64;
                    if u64::try_from(length) != Ok(expected) {
                        self.surprise(format!("append {number}: length {length} instead of {expected}"));
                    }
                }
                Some(reply) => self.error(format!("append {number}: {reply:?}")),
                None => break,
            }
            let number = self.told.increments + 1;
            let key = counter_key(self.told.writer);
            match self.write(&["INCR", &key]) {
                Some(Reply::Integer(value)) => {
                    self.told.increments = number;
                    if u64::try_from(value) != Ok(number) {
                        self.surprise(format!("increment {number}: the counter is {value}"));
                        self.told.increments = u64::try_from(value).unwrap_or(number);
                    }
                }
                Some(reply) => self.error(format!("increment {number}: {reply:?}")),
                None => break,
            }
        }
        self.told
    }

    /// Writes once, however often it must be sent. `None`: told to stop while there was nobody to send it to.
    fn write(&mut self, command: &[&str]) -> Option<Reply> {
        self.sequence += 1;
        let sequence = self.sequence.to_string();
        let mut args: Vec<&[u8]> = vec![b"HOTWARM", b"SEQ", sequence.as_bytes()];
        args.extend(command.iter().map(|arg| arg.as_bytes()));
        let begun = Instant::now();
        loop {
            let (node, connection) = self.connected()?;
            match connection.call(&args) {
                Ok(reply) => {
                    if !reply.is_error() {
                        self.acknowledged(begun);
                    }
                    self.return_home(node);
                    return Some(reply);
                }
                Err(error) => {
                    self.connection = None;
                    self.lost(node, &error.to_string());
                }
            }
        }
    }

    fn acknowledged(&self, begun: Instant) {
        let now = Instant::now();
        self.shared.acked.fetch_add(1, Ordering::Relaxed);
        let mut watch = self.shared.watch.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(since) = watch.since {
            watch.longest_pause = watch.longest_pause.max(now - begun);
            if begun >= since && watch.first_ack.is_none() {
                watch.first_ack = Some(now);
            }
        }
    }

    /// The connection, opened where it must be: at home first, then at the other nodes in turn.
    fn connected(&mut self) -> Option<(usize, &mut Connection)> {
        while self.connection.is_none() {
            let count = self.shared.fronts.len();
            for step in 0..count {
                let node = (self.home + step) % count;
                if self.shared.down[node].load(Ordering::Acquire) {
                    continue;
                }
                match Connection::open(self.shared.fronts[node], Some(self.session)) {
                    Ok(connection) => {
                        self.connection = Some((node, connection));
                        break;
                    }
                    Err(error) => self.lost(node, &error.to_string()),
                }
            }
            if self.connection.is_none() {
                if self.shared.stop.load(Ordering::Relaxed) {
                    return None;
                }
                // Every node is down or restarting; the next look is soon enough.
                thread::sleep(Duration::from_millis(5));
            }
        }
        self.connection.as_mut().map(|(node, connection)| (*node, connection))
    }

    /// A writer whose node is back returns to it, so that every node goes on serving clients.
    fn return_home(&mut self, node: usize) {
        if node != self.home && !self.shared.down[self.home].load(Ordering::Acquire) {
            self.connection = None;
        }
    }

    fn lost(&self, node: usize, error: &str) {
        // The kill is announced before it happens, but a connection may break a moment before the flag is seen.
        if self.shared.down[node].load(Ordering::Acquire) {
            self.shared.reconnects.fetch_add(1, Ordering::Relaxed);
        } else {
            self.error(format!("connection to living node {node}: {error}"));
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn error(&self, text: String) {
        self.shared.error_count.fetch_add(1, Ordering::Relaxed);
        let mut errors = self.shared.errors.lock().unwrap_or_else(PoisonError::into_inner);
        if errors.len() < 20 {
            errors.push(format!("writer {}: {text}", self.told.writer));
        }
    }

    fn surprise(&mut self, text: String) {
        if self.told.surprises.len() < 20 {
            self.told.surprises.push(text);
        }
    }
}
