//! Bytes, connections, files and folders that a node must survive, and refuse in words that help.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;
use support::{Group, PATIENCE, hotwarm, text_of};

/// How long an answer to bytes that need none is waited for.
const SILENCE: Duration = Duration::from_millis(200);

/// Numbers that look random and are the same in each run (SplitMix64).
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count.div_ceil(8)).flat_map(|_| self.next().to_le_bytes()).take(count).collect()
    }
}

/// Sends bytes and nothing after them; gives what came back until the end, or until nothing comes any more.
fn throw(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(SILENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    // A node that has seen enough closes while bytes are still on their way: the rest cannot be sent then.
    if stream.write_all(bytes).is_ok() {
        drop(stream.shutdown(Shutdown::Write));
    }
    received(&mut stream)
}

fn received(stream: &mut TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    let mut some = [0; 4096];
    loop {
        match stream.read(&mut some) {
            Ok(0) => return all,
            Ok(count) => all.extend_from_slice(&some[..count]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return all,
        }
    }
}

/// A client that must be served whatever others do.
struct Witness {
    stream: TcpStream,
    asked: u64,
}

impl Witness {
    fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { stream, asked: 0 }
    }

    fn is_served(&mut self) {
        self.asked += 1;
        self.stream.write_all(b"INCR served\r\n").unwrap();
        let wanted = format!(":{}\r\n", self.asked);
        let mut got = vec![0; wanted.len()];
        self.stream.read_exact(&mut got).unwrap();
        assert_eq!(String::from_utf8_lossy(&got), wanted);
    }
}

#[test]
fn no_bytes_on_any_port_end_a_node_or_disturb_its_clients() {
    let group = Group::start(&["a"]);
    let (pid, node) = (group.pid(0), &group.nodes[0]);
    let mut witness = Witness::connect(node.front);
    witness.is_served();
    let mut noise = Noise(7);
    for address in [node.front, node.peer, node.admin] {
        for count in [0, 1, 7, 64, 1_000, 70_000] {
            throw(address, &noise.bytes(count));
            witness.is_served();
        }
        // A TLS record, and a frame, that announce more than anybody may send; an HTTP header without end.
        throw(address, &[&[0x16, 3, 1, 0xff, 0xff][..], &noise.bytes(300)].concat());
        throw(address, &[&[0xff; 8][..], &noise.bytes(300)].concat());
        throw(address, &[b"GET /".to_vec(), vec![b'a'; 1 << 20]].concat());
        throw(address, b"POST /apply HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999\r\n\r\n{");
        witness.is_served();
    }
    assert_eq!(group.pid(0), pid, "the node was started anew");
    assert!(!group.log(0).contains("panicked"), "{}", group.log(0));
}

#[test]
fn faulty_requests_are_refused_by_name_and_cut_ones_are_forgotten() {
    let group = Group::start(&["a"]);
    let front = group.nodes[0].front;
    let mut witness = Witness::connect(front);
    let long_line = [&b"GET "[..], &vec![b'a'; 100 << 10]].concat();
    let faulty: [(&[u8], &str); 8] = [
        (b"*1048577\r\n", "invalid multibulk length"),
        (b"*99999999999999999999\r\n", "invalid multibulk length"),
        (b"*x\r\n", "invalid multibulk length"),
        (b"*1\r\n:5\r\n", "expected '$', got ':'"),
        (b"*1\r\n$-7\r\n", "invalid bulk length"),
        (b"*1\r\n$999999999\r\n", "invalid bulk length"),
        (b"GET \"open\r\n", "unbalanced quotes in request"),
        (&long_line, "too big inline request"),
    ];
    for (bytes, wanted) in faulty {
        let reply = throw(front, bytes);
        let reply = String::from_utf8_lossy(&reply);
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(40)]).into_owned();
        assert_eq!(reply, format!("-ERR Protocol error: {wanted}\r\n"), "to {shown:?}");
        witness.is_served();
    }
    let whole = b"*3\r\n$3\r\nSET\r\n$3\r\ncut\r\n$5\r\nvalue\r\n";
    for end in 0..whole.len() {
        let mut stream = TcpStream::connect(front).unwrap();
        stream.write_all(&whole[..end]).unwrap();
    }
    witness.is_served();
    assert_eq!(throw(front, b"EXISTS cut\r\n"), b":0\r\n", "a request that was cut off was executed");
    assert!(!group.log(0).contains("panicked"), "{}", group.log(0));
}

fn memory_bytes(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

fn open_files_max() -> u64 {
    let text = std::fs::read_to_string("/proc/self/limits").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap_or(u64::MAX)
}

#[test]
fn idle_connections_cost_little_and_shut_nobody_out() {
    const EACH_BYTES_MAX: u64 = 64 << 10;
    let count: u64 = if open_files_max() > 21_000 { 20_000 } else { 2_000 };
    let group = Group::start(&["a"]);
    let front = group.nodes[0].front;
    let mut witness = Witness::connect(front);
    witness.is_served();
    let before = memory_bytes(group.pid(0));
    let mut idle: Vec<TcpStream> = (0..count).map(|_| TcpStream::connect(front).unwrap()).collect();
    // The answer shows that the node has taken the last one, and with it all.
    idle.last_mut().unwrap().write_all(b"PING\r\n").unwrap();
    let mut pong = [0; 7];
    idle.last_mut().unwrap().read_exact(&mut pong).unwrap();
    let growth = memory_bytes(group.pid(0)).saturating_sub(before);
    println!("{count} idle connections: {} bytes each", growth / count);
    assert!(growth <= EACH_BYTES_MAX * count, "{count} idle connections take {growth} bytes");
    witness.is_served();
    Witness { stream: TcpStream::connect(front).unwrap(), asked: 2 }.is_served();
}

/// A configuration with one value a line.
const CONFIG: &str = r#"[cluster]
name = "shop"
profile = "lan"
beacon = "50ms"
shrink_after = "600ms"
lease = "900ms"
grace = "1s"
[nodes.a]
address = "127.0.0.1:7400"
role = "data"
priority = 100
[nodes.b]
address = "127.0.0.1:7401"
[local]
data_dir = "/var/lib/hotwarm"
tls_dir = "/etc/hotwarm/tls"
admin = "127.0.0.1:7480"
listen = "127.0.0.1:7400"
[local.log]
format = "text"
level = "info"
[local.on_change]
command = ["/bin/true"]
webhook = "http://127.0.0.1:9000/hotwarm"
[group.main]
engine = "store"
replication = "sync"
durability = "fsync"
min_copies = 1
memory_max = "1GiB"
[group.main.history]
time_max = "24h"
size_max = "10GiB"
[front.redis]
protocol = "resp"
listen = "127.0.0.1:6379"
to = "main"
reads = "hot"
allow_insecure = false
connections_max = 10000
[front.redis.hold]
time_max = "10s"
requests_max = 10000
bytes_max = "64MiB"
"#;

/// Keys without which a file means nothing, where they stand alone in `CONFIG`.
const NEEDED: [&str; 5] = ["name", "address", "data_dir", "tls_dir", "to"];

fn check(path: &Path, text: &str) -> (i32, String) {
    std::fs::write(path, text).unwrap();
    let output = hotwarm(&["check", "--config", path.to_str().unwrap()]);
    let said = text_of(&output);
    assert!(!said.contains("panicked"), "{said}");
    (output.status.code().expect("the check was killed"), said)
}

#[test]
fn each_wrong_value_of_a_configuration_is_named_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hotwarm.toml");
    assert_eq!(check(&path, CONFIG).0, 0, "{}", check(&path, CONFIG).1);
    let lines: Vec<&str> = CONFIG.lines().collect();
    for (index, line) in lines.iter().enumerate() {
        let Some((key, value)) = line.split_once(" = ") else { continue };
        let with = |changed: &str| {
            let mut lines = lines.clone();
            lines[index] = changed;
            check(&path, &lines.join("\n"))
        };
        let wrong_type = if value.starts_with('"') { "[1, 2]" } else { "\"no such value\"" };
        let faulty = [
            format!("{key} = {wrong_type}"),
            format!("{key} = -1"),
            format!("{key} = 1.5"),
            format!("{key} = {{}}"),
            format!("{key} = 99999999999999999999999"),
            format!("{key} = "),
            format!("{key}_x = {value}"),
        ];
        for changed in &faulty {
            let (code, said) = with(changed);
            assert_eq!(code, 1, "{changed:?} of line {}: {said}", index + 1);
            assert!(
                said.contains(&format!("hotwarm.toml:{}: ", index + 1)),
                "{changed:?} of line {}: {said}",
                index + 1
            );
        }
        let (code, said) = with("");
        assert!(code == 0 || (code == 1 && said.contains(key)), "without {line:?}: {code}, {said}");
        if NEEDED.contains(&key) {
            assert_eq!(code, 1, "without {line:?}: {said}");
        }
    }
    let mut begin = 0;
    for line in CONFIG.split_inclusive('\n') {
        let cut = &CONFIG[..begin + line.len() / 2];
        let (code, said) = check(&path, cut);
        assert_eq!(code, 1, "a file that is cut inside {line:?}: {said}");
        begin += line.len();
    }
}

#[test]
fn a_folder_that_is_not_this_nodes_is_refused_with_the_way_out() {
    let mut group = Group::start(&["a", "b", "c"]);
    group.stop(1);
    group.stop(2);
    let (own, aside, other) = (group.data_dir(1), group.data_dir(1).with_extension("aside"), group.data_dir(2));

    std::fs::rename(&own, &aside).unwrap();
    let wiped = group.refusal(1);
    assert!(wiped.contains("its ticket") && wiped.contains("hotwarm node replace"), "{wiped}");

    std::fs::create_dir(&own).unwrap();
    let emptied = group.refusal(1);
    assert!(emptied.contains("hotwarm node replace"), "{emptied}");
    std::fs::remove_dir(&own).unwrap();

    copy(&aside, &own);
    let copied = group.refusal(1);
    assert!(copied.contains("copy of folder") && copied.contains("hotwarm node replace"), "{copied}");
    std::fs::remove_dir_all(&own).unwrap();

    std::fs::rename(&other, &own).unwrap();
    let of_other = group.refusal(1);
    assert!(of_other.contains("belongs to node \"c\"") && of_other.contains("data_dir"), "{of_other}");
    std::fs::rename(&own, &other).unwrap();

    std::fs::rename(&aside, &own).unwrap();
    group.start_node(1);
    group.start_node(2);
    group.wait_in_sync(3);
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
