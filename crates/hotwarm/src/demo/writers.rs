//! The demo's load: writers on every node, each with unique appends and a counter, one open request at a time.
//!
//! A writer knows what it was told. A reply that is an error or tells of a write applied twice or not at all, a time-out, or a failure on a connection to a living node is
//! an error of the group; a connection that broke because its node was killed is a reconnect.

use super::client::Connection;
use hotwarm_resp::Reply;
use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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
    /// When the last change began, what was seen since, and who waits.
    pub watch: Mutex<Watch>,
    /// Replies that were errors, and failures that no kill explains: the first few, for people.
    pub errors: Mutex<Vec<String>>,
    /// How many there were.
    pub error_count: AtomicU64,
    /// Connections lost with their node and opened elsewhere.
    pub reconnects: AtomicU64,
}

impl Shared {
    /// Everything at its beginning, for nodes whose fronts listen there.
    pub fn new(fronts: Vec<SocketAddr>) -> Self {
        Self {
            down: fronts.iter().map(|_| AtomicBool::new(false)).collect(),
            fronts,
            stop: AtomicBool::new(false),
            acked: AtomicU64::new(0),
            watch: Mutex::default(),
            errors: Mutex::default(),
            error_count: AtomicU64::new(0),
            reconnects: AtomicU64::new(0),
        }
    }
}

/// What the writers have seen since the director did something.
#[derive(Default)]
pub struct Watch {
    /// Writes begun from then on count: the killed process cannot have answered them.
    since: Option<Instant>,
    first_ack: Option<Instant>,
    /// The longest wait that has ended since.
    longest_ended: Duration,
    /// When the open request of each writer was begun.
    open: BTreeMap<usize, Instant>,
}

impl Watch {
    /// Forgets what was seen, but not who waits. `None`: sees nothing until the next restart.
    pub fn restart(&mut self, since: Option<Instant>) {
        (self.since, self.first_ack, self.longest_ended) = (since, None, Duration::ZERO);
    }

    /// The first acknowledgement is that of a write begun from then on. Waits count as before.
    pub fn acks_from(&mut self, since: Instant) {
        (self.since, self.first_ack) = (Some(since), None);
    }

    /// The first acknowledgement of a write begun since.
    pub fn first_ack(&self) -> Option<Instant> {
        self.first_ack
    }

    /// The longest time that a client has waited for one reply, up to now or to a reply since the restart.
    pub fn longest_pause(&self, now: Instant) -> Duration {
        let open = self.open.values().map(|begun| now.saturating_duration_since(*begun)).max();
        self.longest_ended.max(open.unwrap_or_default())
    }

    fn begin(&mut self, writer: usize, now: Instant) {
        self.open.insert(writer, now);
    }

    /// The open request of the writer was answered, or given up.
    fn end(&mut self, writer: usize, acknowledged: bool, now: Instant) {
        let (Some(begun), Some(since)) = (self.open.remove(&writer), self.since) else { return };
        self.longest_ended = self.longest_ended.max(now.saturating_duration_since(begun));
        if acknowledged && begun >= since && self.first_ack.is_none() {
            self.first_ack = Some(now);
        }
    }
}

/// What one writer was told.
#[derive(Clone, Copy, Debug, Default)]
pub struct Told {
    /// Number of the writer; part of its keys' names.
    pub writer: usize,
    /// Appends acknowledged: numbers 1 to this, in order.
    pub appends: u64,
    /// Increments acknowledged.
    pub increments: u64,
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

/// What the writers were told, once they have ended, and how many of them panicked.
pub fn join(writers: Vec<JoinHandle<Told>>) -> (Vec<Told>, usize) {
    let count = writers.len();
    let told: Vec<Told> = writers.into_iter().filter_map(|writer| writer.join().ok()).collect();
    let panicked = count - told.len();
    (told, panicked)
}

/// The key that holds the append of that number.
pub fn append_key(writer: usize, number: u64) -> String {
    format!("log:{writer}:{}", (number - 1) / APPENDS_PER_KEY)
}

/// The key of a writer's counter.
pub fn counter_key(writer: usize) -> String {
    format!("counter:{writer}")
}

/// Whether the group itself does not know what became of the command (INV-10).
fn leaves_open(reply: &Reply) -> bool {
    matches!(reply, Reply::Error(text) if text.starts_with(b"OUTCOMEUNKNOWN "))
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
                        self.error(format!("append {number}: length {length} instead of {expected}"));
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
                        self.error(format!("increment {number}: the counter is {value}"));
                    }
                }
                Some(reply) => self.error(format!("increment {number}: {reply:?}")),
                None => break,
            }
        }
        self.told
    }

    /// Writes once, however often it must be sent. `None`: the writer ends, told to stop before a reply came, or since it is
    /// not known whether this write was executed: any further one might repeat it under another number.
    fn write(&mut self, command: &[&str]) -> Option<Reply> {
        self.watch().begin(self.told.writer, Instant::now());
        let reply = self.send(command);
        let acknowledged = reply.as_ref().is_some_and(|reply| !reply.is_error());
        if acknowledged {
            self.shared.acked.fetch_add(1, Ordering::Relaxed);
        }
        self.watch().end(self.told.writer, acknowledged, Instant::now());
        let reply = reply?;
        if leaves_open(&reply) {
            self.error(format!("{}: {reply:?}", command.join(" ")));
            return None;
        }
        Some(reply)
    }

    fn watch(&self) -> MutexGuard<'_, Watch> {
        self.shared.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&mut self, command: &[&str]) -> Option<Reply> {
        self.sequence += 1;
        let sequence = self.sequence.to_string();
        let mut args: Vec<&[u8]> = vec![b"HOTWARM", b"SEQ", sequence.as_bytes()];
        args.extend(command.iter().map(|arg| arg.as_bytes()));
        loop {
            let (node, connection) = self.connected()?;
            match connection.call(&args) {
                Ok(reply) => {
                    self.return_home(node);
                    return Some(reply);
                }
                Err(error) => {
                    self.connection = None;
                    self.lost(node, &error);
                    // A group that no longer answers would be asked for ever.
                    if self.shared.stop.load(Ordering::Relaxed) {
                        return None;
                    }
                }
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
                    Err(error) => self.lost(node, &error),
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

    fn lost(&self, node: usize, error: &io::Error) {
        // No node is down for so long that waiting for it is explained.
        let timed_out = matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock);
        // The kill is announced before it happens.
        if self.shared.down[node].load(Ordering::Acquire) && !timed_out {
            self.shared.reconnects.fetch_add(1, Ordering::Relaxed);
        } else {
            self.error(format!("connection to node {node}: {error}"));
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpListener;

    #[test]
    fn who_still_waits_is_in_the_longest_pause() {
        let begun = Instant::now();
        let after = |ms| begun + Duration::from_millis(ms);
        let mut watch = Watch::default();
        watch.begin(0, begun);
        watch.begin(1, begun);
        watch.restart(Some(after(10)));
        watch.end(1, true, after(20));
        assert_eq!(watch.first_ack(), None, "it was begun before");
        watch.begin(1, after(30));
        watch.end(1, true, after(35));
        assert_eq!(watch.first_ack(), Some(after(35)));
        assert_eq!(watch.longest_pause(after(40)), Duration::from_millis(40), "writer 0 waits");
        watch.end(0, false, after(500));
        assert_eq!(watch.longest_pause(after(900)), Duration::from_millis(500));
        watch.begin(2, after(900));
        watch.acks_from(after(1000));
        assert_eq!((watch.first_ack(), watch.longest_pause(after(1000))), (None, Duration::from_millis(500)));
        watch.restart(Some(after(1000)));
        assert_eq!(watch.longest_pause(after(1100)), Duration::from_millis(200), "writer 2 waits on");
    }

    #[test]
    fn a_writer_that_panicked_is_counted() {
        let writers = vec![thread::spawn(Told::default), thread::spawn(|| panic!("as this test wants it"))];
        let (told, panicked) = join(writers);
        assert_eq!((told.len(), panicked), (1, 1));
    }

    #[test]
    fn a_writer_ends_where_its_next_write_might_repeat_one() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let shared = Arc::new(Shared::new(vec![listener.local_addr().unwrap()]));
        let writers = start(&shared, 1);
        let (mut stream, _) = listener.accept().unwrap();
        let mut bytes = [0; 1024];
        // The session, the first append, and nothing after it.
        for reply in ["+OK\r\n", "-OUTCOMEUNKNOWN it cannot be found out\r\n"] {
            assert!(stream.read(&mut bytes).unwrap() > 0);
            stream.write_all(reply.as_bytes()).unwrap();
        }
        assert_eq!(stream.read(&mut bytes).unwrap(), 0, "{}", String::from_utf8_lossy(&bytes));
        let (told, _) = join(writers);
        assert_eq!((told[0].appends, shared.error_count.load(Ordering::Relaxed)), (0, 1));
    }

    #[test]
    fn a_broken_connection_is_an_error_of_a_living_node_and_a_time_out_is_one_of_any() {
        let shared = Arc::new(Shared::new(vec![SocketAddr::from(([127, 0, 0, 1], 1))]));
        let writer = Writer::new(Arc::clone(&shared), 0);
        let counts = || (shared.reconnects.load(Ordering::Relaxed), shared.error_count.load(Ordering::Relaxed));
        writer.lost(0, &ErrorKind::UnexpectedEof.into());
        assert_eq!(counts(), (0, 1));
        shared.down[0].store(true, Ordering::Release);
        writer.lost(0, &ErrorKind::UnexpectedEof.into());
        assert_eq!(counts(), (1, 1));
        writer.lost(0, &ErrorKind::WouldBlock.into());
        assert_eq!(counts(), (1, 2));
    }
}
