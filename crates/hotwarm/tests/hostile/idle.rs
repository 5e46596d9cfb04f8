//! Twenty thousand connections that say nothing: they cost little, shut nobody out, and take nothing that the node needs
//! for its peers, its operator or its log.
//!
//! They are held by processes of their own, since no process may have so many files open where the limit is 20,000.

use super::client::Witness;
use super::support::{Group, PATIENCE};
use hotwarm_node::descriptors;
use hotwarm_node::transport::HANDSHAKE_TIMEOUT;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// In the environment of a process that holds connections: to where, and how many.
const HOLD: &str = "HOTWARM_TEST_HOLD";
/// Before what such a process has to say, beside the words of the test harness.
const MARK: &str = "held: ";
/// How long the admin API waits for a request's headers.
const HEADER_TIME_MAX: Duration = Duration::from_secs(5);
/// What a process holds at most: less than any limit of open files that this runs under.
const EACH_MAX: usize = 10_000;

/// What became of connections that say nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Fates {
    standing: usize,
    /// Told why, then closed.
    refused: usize,
    /// Closed without a word.
    closed: usize,
}

/// A process that holds idle connections until it is dropped.
struct Holder {
    process: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Holder {
    /// Opens the connections, and returns when all are open.
    fn hold(address: SocketAddr, count: usize) -> Self {
        assert!(count <= EACH_MAX);
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "idle::holder", "--nocapture"])
            .env(HOLD, format!("{address} {count}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (orders, answers) = (process.stdin.take().unwrap(), BufReader::new(process.stdout.take().unwrap()));
        let mut holder = Self { process, orders, answers };
        assert_eq!(holder.answer(), "open");
        holder
    }

    fn fates(&mut self) -> Fates {
        self.orders.write_all(b"look\n").unwrap();
        let answer = self.answer();
        let counts: Vec<usize> = answer.split(' ').map(|count| count.parse().unwrap()).collect();
        Fates { standing: counts[0], refused: counts[1], closed: counts[2] }
    }

    fn answer(&mut self) -> String {
        loop {
            let mut line = String::new();
            assert!(self.answers.read_line(&mut line).unwrap() > 0, "the process that holds connections has ended");
            if let Some((_, answer)) = line.trim_end().split_once(MARK) {
                return answer.to_owned();
            }
        }
    }

    /// Waits until so few connections stand, until so long after `began`.
    fn wait_standing_at_most(&mut self, count: usize, began: Instant, within: Duration) {
        while self.fates().standing > count {
            assert!(began.elapsed() < within, "idle connections still stand: {:?}", self.fates());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// Not a test, but what a [`Holder`]'s process runs.
#[test]
fn holder() {
    let Ok(told) = std::env::var(HOLD) else { return };
    let (address, count) = told.split_once(' ').unwrap();
    let address: SocketAddr = address.parse().unwrap();
    let streams: Vec<TcpStream> =
        (0..count.parse::<usize>().unwrap()).map(|_| TcpStream::connect(address).unwrap()).collect();
    let mut held: Vec<(TcpStream, Vec<u8>, bool)> = streams.into_iter().map(|one| (one, Vec::new(), false)).collect();
    held.iter().for_each(|(stream, ..)| stream.set_nonblocking(true).unwrap());
    println!("{MARK}open");
    for _order in std::io::stdin().lines() {
        let mut fates = Fates::default();
        for (stream, said, ended) in &mut held {
            let mut bytes = [0; 256];
            while !*ended {
                match stream.read(&mut bytes) {
                    Ok(0) => *ended = true,
                    Ok(count) => said.extend_from_slice(&bytes[..count]),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(_) => *ended = true,
                }
            }
            match (*ended, said.as_slice()) {
                (false, _) => fates.standing += 1,
                (true, b"-ERR max number of clients reached\r\n") => fates.refused += 1,
                (true, _) => fates.closed += 1,
            }
        }
        println!("{MARK}{} {} {}", fates.standing, fates.refused, fates.closed);
    }
}

/// A figure of a process in `/proc/PID/status`, in bytes.
fn memory_bytes(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// The limit of open files that holds for a process.
fn open_files_max(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap_or(u64::MAX)
}

fn open_files(pid: u32) -> u64 {
    std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count() as u64
}

/// How many connections a front takes, as it says itself.
fn clients_max(front: SocketAddr) -> usize {
    let info = Witness::connect(front).ask("INFO clients");
    let line = info.lines().find_map(|line| line.strip_prefix("maxclients:")).unwrap();
    line.trim().parse().unwrap()
}

/// The middle one of some writes.
fn latency(witness: &mut Witness) -> Duration {
    let mut times: Vec<Duration> = (0..100)
        .map(|_| {
            let began = Instant::now();
            witness.is_served();
            began.elapsed()
        })
        .collect();
    times.sort();
    times[50]
}

/// One connection more than there may be: it is told so and closed, also if it speaks at once. While many are refused at
/// the same time, whoever speaks may hear of a reset instead.
fn assert_refused(front: SocketAddr) {
    let refused = |first: &[u8]| {
        let mut stream = TcpStream::connect(front).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // It may be closed already.
        drop(stream.write_all(first));
        let mut said = String::new();
        stream.read_to_string(&mut said).map(|_| said)
    };
    let words = "-ERR max number of clients reached\r\n";
    assert_eq!(refused(b"").unwrap(), words);
    let began = Instant::now();
    while refused(b"PING\r\n").ok().as_deref() != Some(words) {
        assert!(began.elapsed() < PATIENCE, "{:?}", refused(b"PING\r\n"));
    }
}

/// Guards INV-12; the fronts' limits are one as it is by default, and one above what the limit of open files allows.
#[test]
fn twenty_thousand_idle_connections_cost_little_and_shut_nobody_out() {
    const EACH_BYTES_MAX: u64 = 16 << 10;
    let mut group = Group::start(&["a", "b", "c"]);
    let hot = group.hot();
    let (pid, front, other_front) = (group.pid(hot), group.nodes[hot].front, group.nodes[hot].own_copy);
    let (admin, peer) = (group.nodes[hot].admin, group.nodes[hot].peer);
    let mut witness = Witness::connect(front);
    let usual = latency(&mut witness);
    let before = (group.status(hot).unwrap(), memory_bytes(pid));
    let limit = open_files_max(pid);
    let in_all = descriptors::for_clients(limit) as usize;
    let of_front = clients_max(front).min(in_all - EACH_MAX);
    assert_eq!(clients_max(other_front), EACH_MAX, "the default");

    // All of one front, then 10,000 to the other, of which only as many are taken as there are descriptors for.
    let mut first = Holder::hold(other_front, EACH_MAX);
    let mut second = Holder::hold(front, EACH_MAX);
    assert_eq!(first.fates(), Fates { standing: EACH_MAX, refused: 0, closed: 0 });
    assert_refused(other_front);
    let taken = EACH_MAX.min(of_front - 1);
    let began = Instant::now();
    let wanted = Fates { standing: taken, refused: EACH_MAX - taken, closed: 0 };
    while second.fates() != wanted {
        assert!(began.elapsed() < PATIENCE, "{:?}, where {wanted:?} is due", second.fates());
        std::thread::sleep(Duration::from_millis(20));
    }
    if taken < EACH_MAX {
        assert_refused(front);
        assert!(group.log(hot).contains("connections_clamped"), "{}", group.log(hot));
        let complaints = group.status(hot).unwrap().complaints;
        assert!(complaints.iter().any(|complaint| complaint.contains("LimitNOFILE")), "{complaints:?}");
    }
    // And more than there may be at once to the ports for peers and operators, which both go on to answer.
    // All within the time after which the idle ones would have gone by themselves.
    let began = Instant::now();
    let mut at_peer = Holder::hold(peer, 600);
    at_peer.wait_standing_at_most(256, began, HANDSHAKE_TIMEOUT);
    let began = Instant::now();
    let mut at_admin = Holder::hold(admin, 300);
    at_admin.wait_standing_at_most(64, began, HEADER_TIME_MAX);
    let during = group.status(hot).expect("the admin API answers");
    assert!(began.elapsed() < HEADER_TIME_MAX, "idle connections keep the operator waiting: {:?}", began.elapsed());
    let middle = latency(&mut witness);
    assert!(middle < usual * 5 + Duration::from_millis(20), "{middle:?} {usual:?}");

    let open = open_files(pid);
    let growth = memory_bytes(pid).saturating_sub(before.1);
    let each = growth / (EACH_MAX + taken) as u64;
    println!(
        "{} idle clients: {each} bytes each, {open} files of {limit}; {usual:?}, now {middle:?}",
        EACH_MAX + taken
    );
    assert!(open + 500 <= limit, "{open} files are open, of {limit}");
    assert!(each <= EACH_BYTES_MAX, "each idle connection takes {each} bytes");

    // Who does not say who it is, is not waited for: 3 s among peers, 5 s at the admin API.
    at_peer.wait_standing_at_most(0, Instant::now(), PATIENCE);
    at_admin.wait_standing_at_most(0, Instant::now(), PATIENCE);

    // There are descriptors for a further segment of the log, and for a node that comes back.
    let warm = (hot + 1) % 3;
    group.stop(warm);
    let value = "v".repeat(4 << 20);
    let segments = || {
        let names = std::fs::read_dir(group.data_dir(hot).join("log")).unwrap();
        names.filter(|entry| entry.as_ref().unwrap().path().extension().is_some_and(|kind| kind == "log")).count()
    };
    let segments_before = segments();
    for _ in 0..6 {
        assert_eq!(witness.ask(&format!("SET big {value}")), "OK");
    }
    assert!(segments() > segments_before, "no further segment was needed");
    group.start_node(warm);
    group.wait_in_sync(3);
    witness.is_served();
    assert_eq!(first.fates().standing, EACH_MAX);

    let after = group.status(hot).unwrap();
    assert_eq!((during.epoch, during.register_version), (before.0.epoch, before.0.register_version));
    assert_eq!((after.epoch, group.pid(hot)), (before.0.epoch, pid), "there was a failover");
    drop((first, second));
    let began = Instant::now();
    while open_files(pid) > 1_000 {
        assert!(began.elapsed() < PATIENCE, "{} files stay open", open_files(pid));
        std::thread::sleep(Duration::from_millis(20));
    }
    Witness::connect(other_front).ask("PING");
    let log = group.log(hot);
    assert!(!log.contains("accept_failed") && !log.contains("panicked") && !log.contains("os error 24"), "{log}");
}
