//! Unmodified programs against every node of a group, in calm and while hots die and hand over: `redis-cli` by the
//! transcripts in `tests/compat/redis_cli`, and the Python client by `tests/compat/redis_py.py`.
//!
//! `cargo xtask compat` runs these tests; it sees to the programs that they need.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use support::storm::{self, Outages, SHARED, Told};
use support::transcript::{Played, Transcript, is_broken, redis_cli};
use support::{Group, WITNESS};

/// The Python that has the client `redis`.
const PYTHON: &str = "HOTWARM_COMPAT_PYTHON";
const NODES: [&str; 4] = ["a", "b", "c", WITNESS];
/// Sessions that leave nothing behind.
const SESSIONS: [&str; 4] = ["strings", "set_options", "transactions", "connection"];

#[test]
#[ignore = "needs redis-cli: cargo xtask compat"]
fn redis_cli_shows_on_every_node_what_the_transcripts_show() {
    let group = Group::start(&NODES);
    for node in &group.nodes {
        for (protocol, name) in [("-2", "resp2"), ("-3", "resp3")] {
            for session in SESSIONS.into_iter().chain([name, "kept"]) {
                let own = format!("{}:{name}:{session}", node.name);
                match Transcript::read(session).play(node.front.port(), protocol, &own) {
                    Played::AsWritten => {}
                    Played::Broken => panic!("{}: the connection broke", node.name),
                    Played::Otherwise(line) => panic!("{}, {name}: {line}", node.name),
                }
            }
        }
    }
    group.wait_applied();
    let after = Transcript::read("kept.after");
    for (node, writer) in group.nodes.iter().flat_map(|node| group.nodes.iter().map(move |writer| (node, writer))) {
        let played = after.play(node.own_copy.port(), "-3", &format!("{}:resp3:kept", writer.name));
        assert!(matches!(played, Played::AsWritten), "{} misses what {} took", node.name, writer.name);
    }
}

#[test]
#[ignore = "needs redis-cli: cargo xtask compat"]
fn what_redis_cli_does_by_itself_works_on_every_node() {
    let group = Group::start(&NODES);
    for node in &group.nodes {
        let (port, own) = (node.front.port(), node.name.as_str());
        let shown = |arguments: &[&str], input: &str| redis_cli(port, arguments, input.as_bytes());
        let key = |number: u32| format!("{own}:many:{number}");

        let many: String = (0..5000).map(|number| format!("SET {} {number}\r\n", key(number))).collect();
        let piped = shown(&["--pipe"], &many);
        assert!(piped.ends_with("errors: 0, replies: 5000\n"), "{own}: {piped}");
        let faulty = shown(&["--pipe"], &format!("INCR {}\r\nGET\r\nINCR {0}\r\n", key(1)));
        assert!(faulty.ends_with("errors: 1, replies: 3\n"), "{own}: {faulty}");
        assert_eq!(shown(&["GET", &key(1)], ""), "3\n");

        let wanted: BTreeSet<String> = (0..5000).map(key).collect();
        for protocol in ["-2", "-3"] {
            let scanned = shown(&[protocol, "--scan", "--pattern", &format!("{own}:many:*")], "");
            assert_eq!(scanned.lines().count(), 5000, "{own}: a key is named twice, or not at all");
            assert_eq!(scanned.lines().map(ToOwned::to_owned).collect::<BTreeSet<_>>(), wanted, "{own}");
        }

        assert_eq!(shown(&["-x", "SET", &key(1)], "from a file\n"), "OK\n");
        assert_eq!(shown(&["--no-raw", "GET", &key(1)], ""), "\"from a file\\n\"\n");
        assert_eq!(shown(&["-r", "3", "INCR", &key(2)], ""), "3\n4\n5\n");
        assert_eq!(shown(&["--csv", "MGET", &key(2), "nothing", &key(3)], ""), "\"5\",NULL,\"3\"\n");
        assert_eq!(shown(&["--json", "MGET", &key(2), "nothing"], ""), "[\"5\",null]\n");
        assert_eq!(shown(&["-e", "-u", &format!("redis://127.0.0.1:{port}/0"), "STRLEN", &key(2)], ""), "1\n");

        let big = format!("{own}:big");
        shown(&["-x", "SET", &big], &"x".repeat(100 << 10));
        let found = shown(&["--bigkeys"], "");
        assert!(found.contains(&format!("Biggest string found '\"{big}\"' has 102400 bytes")), "{own}: {found}");
        assert_eq!(shown(&["DEL", &big], ""), "1\n");
    }
}

#[test]
#[ignore = "needs Python with redis: cargo xtask compat"]
fn redis_py_is_served_by_every_node() {
    let group = Group::start(&NODES);
    let fronts = group.nodes.iter().map(|node| node.front.to_string());
    let output = redis_py("session").args(fronts).output().unwrap();
    let said = support::text_of(&output);
    assert!(output.status.success(), "{said}");
    assert_eq!(said.matches("session is sound").count(), 2 * NODES.len(), "{said}");
}

#[test]
#[ignore = "needs redis-cli and Python with redis: cargo xtask compat"]
fn no_program_is_told_anything_wrong_while_hots_die_and_hand_over() {
    let mut group = Group::start(&NODES);
    let folder = tempfile::tempdir().unwrap();
    let outages = Outages::new(&group, folder.path());
    let ports: Vec<u16> = group.nodes.iter().map(|node| node.front.port()).collect();
    let python: Vec<Child> = (0..ports.len()).map(|home| redis_py_storm(folder.path(), home, &ports)).collect();
    let (mut told, kept): (Vec<Told>, Vec<Vec<String>>) = thread::scope(|scope| {
        let (ports, outages) = (&ports, &outages);
        let sessions = (0..ports.len()).map(|home| scope.spawn(move || redis_cli_storm(home, ports, outages)));
        let sessions: Vec<_> = sessions.collect();
        storm::rage(&mut group, outages, 4);
        sessions.into_iter().map(|session| session.join().unwrap()).unzip()
    });
    for child in python {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "redis_py.py: {:?}", output.status);
        told.extend(serde_json::from_slice::<Vec<Told>>(&output.stdout).unwrap());
    }
    for (number, told) in told.iter().enumerate() {
        assert!(told.errors.len() + told.counters[SHARED].seen.len() > 5, "client {number} has stood still");
    }
    assert!(told.iter().any(|told| told.reconnects > 0), "no client has lost its node");
    assert!(kept.iter().all(|kept| !kept.is_empty()), "few sessions have left something: {kept:?}");
    storm::judge(&group, &told);
    let after = Transcript::read("kept.after");
    for node in &group.nodes {
        for own in kept.iter().flatten() {
            match after.play(node.own_copy.port(), "-2", own) {
                Played::AsWritten => {}
                Played::Broken => panic!("{}: the connection broke", node.name),
                Played::Otherwise(line) => panic!("{}, {own}: {line}", node.name),
            }
        }
    }
}

/// Plays transcripts to its own node while that is up, and to another one meanwhile; gives what it was told, and the
/// sessions that have left something behind.
fn redis_cli_storm(home: usize, ports: &[u16], outages: &Outages) -> (Told, Vec<String>) {
    let sessions = SESSIONS.map(Transcript::read);
    let keeper = Transcript::read("kept");
    let (mut told, mut kept) = (Told::default(), Vec::new());
    for run in 0.. {
        if outages.is_over() || told.errors.len() >= 10 {
            break;
        }
        let (node, count) = outages.living(home);
        let own = format!("cli:{home}:{run}");
        let protocol = if run % 2 == 0 { "-2" } else { "-3" };
        let session = if run % 3 == 0 { &keeper } else { &sessions[run % sessions.len()] };
        let died = || outages.count(node) != count;
        match session.play(ports[node], protocol, &own) {
            Played::AsWritten if session.name == keeper.name => kept.push(own),
            Played::AsWritten => {}
            Played::Broken if died() => told.reconnects += 1,
            Played::Broken => told.errors.push(format!("{own}: a living node's connection broke")),
            Played::Otherwise(line) => told.errors.push(format!("{own}: {line}")),
        }
        let (node, count) = outages.living(home);
        let shown = redis_cli(ports[node], &["INCR", SHARED], b"");
        let broken = is_broken(shown.lines().next().unwrap_or_default());
        match shown.trim().parse() {
            Ok(value) => told.counter(SHARED).seen.push(value),
            Err(_) if broken && outages.count(node) != count => {
                told.reconnects += 1;
                // It has asked once, and once more after the connection broke.
                told.counter(SHARED).unknown += 2;
            }
            Err(_) => told.errors.push(format!("redis-cli INCR shows {shown:?}")),
        }
    }
    (told, kept)
}

fn redis_py(what: &str) -> Command {
    let python: OsString =
        std::env::var_os(PYTHON).unwrap_or_else(|| panic!("{PYTHON} is not set: cargo xtask compat"));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/compat/redis_py.py");
    let mut command = Command::new(python);
    command.arg(script).arg(what).stdin(Stdio::null());
    command
}

fn redis_py_storm(folder: &Path, home: usize, ports: &[u16]) -> Child {
    let mut command = redis_py("storm");
    command.arg(folder).arg(home.to_string()).args(ports.iter().map(ToString::to_string));
    command.stdout(Stdio::piped()).spawn().unwrap()
}
