//! A client library that knows nothing of the group, against every node of one, and through the loss of the hot.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use redis::{Commands, Connection, Value};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use support::{Group, PATIENCE};

fn connect(group: &Group, index: usize) -> Connection {
    let address = group.nodes[index].front;
    let client = redis::Client::open(format!("redis://{address}/")).unwrap();
    let connection = client.get_connection_with_timeout(PATIENCE).unwrap();
    connection.set_read_timeout(Some(PATIENCE)).unwrap();
    connection
}

fn words(line: &str) -> redis::Cmd {
    let mut words = line.split(' ');
    let mut command = redis::cmd(words.next().unwrap());
    command.arg(words.collect::<Vec<_>>());
    command
}

/// What an application does in an ordinary session, with keys of its own.
fn session(client: &mut Connection, own: &str) {
    let key = |name: &str| format!("{own}:{name}");
    let () = client.set(key("text"), "a value\r\nwith \0 bytes").unwrap();
    assert_eq!(client.get::<_, String>(key("text")).unwrap(), "a value\r\nwith \0 bytes");
    assert_eq!(client.get::<_, Option<String>>(key("nothing")).unwrap(), None);
    assert_eq!(client.incr::<_, _, i64>(key("count"), 41).unwrap(), 41);
    let error = client.incr::<_, _, i64>(key("text"), 1).unwrap_err();
    assert!(error.to_string().contains("not an integer"), "{error}");

    let (first, second): (i64, i64) =
        redis::pipe().atomic().incr(key("count"), 1).incr(key("count"), 1).query(client).unwrap();
    assert_eq!((first, second), (42, 43));

    let mut pipeline = redis::pipe();
    for number in 0..200 {
        pipeline.set(key(&format!("many:{number}")), number).ignore();
    }
    pipeline.get(key("many:199"));
    assert_eq!(pipeline.query::<(i64,)>(client).unwrap(), (199,));

    let found: BTreeSet<String> = client.scan_match::<_, String>(key("many:*")).unwrap().map(Result::unwrap).collect();
    assert_eq!(found.len(), 200);

    let () = client.pset_ex(key("brief"), "gone soon", 60).unwrap();
    let () = client.set_ex(key("lasting"), "stays", 100).unwrap();
    assert!((1..=100).contains(&client.ttl::<_, i64>(key("lasting")).unwrap()));
    let began = Instant::now();
    while client.exists::<_, bool>(key("brief")).unwrap() {
        assert!(began.elapsed() < PATIENCE, "the key does not expire");
    }
    assert_eq!(client.del::<_, i64>(vec![key("lasting"), key("brief"), key("count")]).unwrap(), 2);
}

#[test]
fn every_node_serves_an_unmodified_client() {
    let group = Group::start(&["a", "b", "c"]);
    for index in 0..group.nodes.len() {
        session(&mut connect(&group, index), &group.nodes[index].name);
    }
    let mut other = connect(&group, 0);
    for node in &group.nodes {
        let value: String = other.get(format!("{}:text", node.name)).unwrap();
        assert_eq!(value, "a value\r\nwith \0 bytes", "what was written through {} is missing", node.name);
    }
}

#[test]
fn a_watched_key_that_another_node_changed_undoes_the_transaction() {
    let group = Group::start(&["a", "b", "c"]);
    let (mut one, mut two) = (connect(&group, 1), connect(&group, 2));
    let () = one.set("stock", 5).unwrap();
    let () = redis::cmd("WATCH").arg("stock").query(&mut one).unwrap();
    let () = two.set("stock", 4).unwrap();
    let outcome: Value = redis::pipe().atomic().set("stock", 9).query(&mut one).unwrap();
    assert_eq!(outcome, Value::Nil);
    assert_eq!(one.get::<_, i64>("stock").unwrap(), 4);
}

#[test]
fn writes_through_the_survivors_outlast_a_kill_of_the_hot() {
    let mut group = Group::start(&["a", "b", "c"]);
    let hot = group.hot();
    let done = AtomicBool::new(false);
    let survivors = (0..group.nodes.len()).filter(|index| *index != hot);
    let mut connections: Vec<Connection> = survivors.map(|index| connect(&group, index)).collect();
    let counts: Vec<AtomicU64> = connections.iter().map(|_| AtomicU64::new(0)).collect();
    thread::scope(|scope| {
        for (writer, client) in connections.iter_mut().enumerate() {
            let (count, done) = (&counts[writer], &done);
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    let wanted = count.load(Ordering::Relaxed) + 1;
                    let got: u64 = client.incr(format!("writer:{writer}"), 1).unwrap();
                    assert_eq!(got, wanted, "a write was lost, or was done twice");
                    count.store(wanted, Ordering::Relaxed);
                }
            });
        }
        let progress = |more: u64| {
            let from: Vec<u64> = counts.iter().map(|count| count.load(Ordering::Relaxed)).collect();
            let began = Instant::now();
            while counts.iter().zip(&from).any(|(count, from)| count.load(Ordering::Relaxed) < from + more) {
                if began.elapsed() > PATIENCE {
                    return false;
                }
                thread::sleep(Duration::from_millis(1));
            }
            true
        };
        let before = progress(20);
        group.kill(hot);
        let after = progress(20);
        done.store(true, Ordering::Relaxed);
        assert!(before && after, "the writers stand still");
    });
    let new = group.hot();
    assert_ne!(new, hot);
    let mut client = connect(&group, new);
    for (writer, count) in counts.iter().enumerate() {
        assert_eq!(client.get::<_, u64>(format!("writer:{writer}")).unwrap(), count.load(Ordering::Relaxed));
    }
    group.start_node(hot);
    group.wait_in_sync(3);
    assert_eq!(
        connect(&group, hot).get::<_, u64>("writer:0").unwrap(),
        counts[0].load(Ordering::Relaxed),
        "the node that came back does not serve what it missed"
    );
}

#[test]
fn a_numbered_write_that_is_sent_again_gets_its_first_reply() {
    let mut group = Group::start(&["a", "b", "c"]);
    let hot = group.hot();
    let others: Vec<usize> = (0..3).filter(|index| *index != hot).collect();
    let session = "HOTWARM SESSION 0123456789abcdef0123456789abcdef";
    let mut client = connect(&group, others[0]);
    let () = words(session).query(&mut client).unwrap();
    assert_eq!(words("HOTWARM SEQ 1 INCR visits").query::<i64>(&mut client).unwrap(), 1);
    assert_eq!(words("HOTWARM SEQ 2 INCR visits").query::<i64>(&mut client).unwrap(), 2);
    assert_eq!(words("HOTWARM SEQ 2 INCR visits").query::<i64>(&mut client).unwrap(), 2);
    group.kill(hot);
    let mut again = connect(&group, others[1]);
    let () = words(&format!("{session} RESUME")).query(&mut again).unwrap();
    assert_eq!(words("HOTWARM SEQ 2 INCR visits").query::<i64>(&mut again).unwrap(), 2);
    assert_eq!(words("HOTWARM SEQ 3 INCR visits").query::<i64>(&mut again).unwrap(), 3);
    assert_eq!(again.get::<_, i64>("visits").unwrap(), 3);
}
