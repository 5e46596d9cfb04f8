//! Whole groups: nodes with their sockets, disks and threads, and clients that know nothing of them.

mod support;

use support::{Group, shown};

/// Any node takes any command; what was acknowledged survives the hot; the old hot comes back by itself.
#[test]
fn an_acknowledged_write_outlives_the_hot_and_the_old_hot_rejoins() {
    let mut group = Group::start(&["a", "b", "c"]);
    let hot = group.hot();
    group.wait_in_sync(hot, 3);
    let warm = (hot + 1) % 3;
    let mut client = group.client(warm);
    assert_eq!(client.ask("SET k 1"), "OK");
    assert_eq!(client.ask("INCR n"), "1");
    assert_eq!(client.ask("GET k"), "1");
    assert_eq!(group.client(hot).ask("GET k"), "1");

    // Group time began as wall time (R35).
    let time = client.ask("TIME");
    let seconds: u64 = time.trim_start_matches('[').split(',').next().unwrap().parse().unwrap();
    assert!(hotwarm_node::clock::wall_ms().abs_diff(seconds * 1000) < 60_000, "{time}");

    group.kill(hot);
    // Held until a new hot serves, then answered once.
    assert_eq!(client.ask("INCR n"), "2");
    assert_eq!(client.ask("GET k"), "1");
    let second = group.hot();
    assert_ne!(second, hot);

    group.start_node(hot);
    group.wait_in_sync(second, 3);
    assert_eq!(group.client(hot).ask("INCR n"), "3");
}

/// A planned stop hands over; commands under way are held and carried out once.
#[test]
fn a_stopped_hot_hands_over_without_an_error() {
    let mut group = Group::start(&["a", "b", "w"]);
    let hot = group.hot();
    group.wait_in_sync(hot, 2);
    let warm = 1 - hot;
    let mut client = group.client(warm);
    assert_eq!(client.ask("INCR n"), "1");
    for _ in 0..20 {
        client.send("INCR n");
    }
    group.stop(hot);
    let replies: Vec<String> = (0..20).map(|_| shown(&client.receive().expect("the connection stands"))).collect();
    let expected: Vec<String> = (2..22).map(|number: i32| number.to_string()).collect();
    assert_eq!(replies, expected);
    assert_eq!(group.hot(), warm);
    assert_eq!(client.ask("GET n"), "21");
}

/// Pipelined requests of all kinds are answered in their order, on the hot and on a warm node.
#[test]
fn replies_keep_the_order_of_their_requests() {
    let group = Group::start(&["a", "b", "w"]);
    let hot = group.hot();
    group.wait_in_sync(hot, 2);
    for (round, index) in [hot, 1 - hot].into_iter().enumerate() {
        let mut client = group.client(index);
        let lines =
            ["PING", "SET k x", "GET k", "ECHO e", "DEL k", "GET k", "SET k y", "GET k", "MULTI", "INCR n", "EXEC"];
        for line in lines {
            client.send(line);
        }
        let replies: Vec<String> = lines.iter().map(|_| shown(&client.receive().unwrap())).collect();
        let count = round + 1;
        assert_eq!(
            replies.join(" "),
            format!("PONG OK x e 1 nil OK y OK QUEUED [{count}]"),
            "on node {index}, the hot is {hot}"
        );
        assert_eq!(client.ask("WAIT 1 5000"), "1");
    }
}

/// A watched key that another client changes aborts the transaction, also through a warm node.
#[test]
fn a_transaction_on_a_watched_key_is_aborted_by_another_client() {
    let group = Group::start(&["a", "b", "w"]);
    let hot = group.hot();
    group.wait_in_sync(hot, 2);
    let mut one = group.client(1 - hot);
    let mut other = group.client(hot);
    assert_eq!(one.ask("WATCH k"), "OK");
    assert_eq!(other.ask("SET k 1"), "OK");
    assert_eq!(one.ask("MULTI"), "OK");
    assert_eq!(one.ask("SET k 2"), "QUEUED");
    assert_eq!(one.ask("EXEC"), "nil");
    assert_eq!(one.ask("GET k"), "1");
}

/// A client's own session repeats the first reply on whichever node it comes back to.
#[test]
fn a_numbered_retry_on_another_node_gets_the_first_reply_again() {
    let group = Group::start(&["a", "b", "w"]);
    let hot = group.hot();
    group.wait_in_sync(hot, 2);
    let session = "0123456789abcdef0123456789abcdef";
    let mut one = group.client(1 - hot);
    assert_eq!(one.ask(&format!("HOTWARM SESSION {session}")), "OK");
    assert_eq!(one.ask("HOTWARM SEQ 1 INCR n"), "1");
    let mut other = group.client(hot);
    assert_eq!(other.ask(&format!("HOTWARM SESSION {session} RESUME")), "OK");
    assert_eq!(other.ask("HOTWARM SEQ 1 INCR n"), "1");
    assert_eq!(other.ask("HOTWARM SEQ 2 INCR n"), "2");
    assert_eq!(one.ask("GET n"), "2");
}

/// A node whose log ends before the others' begins gets a full copy, while writes go on, and can then take over.
#[test]
fn a_node_that_missed_too_much_gets_a_full_copy_and_can_take_over() {
    let mut group = Group::start_with(&["a", "b", "c"], "history = { time_max = \"1m\", size_max = \"64MiB\" }\n", "");
    let hot = group.hot();
    group.wait_in_sync(hot, 3);
    let (warm, late) = ((hot + 1) % 3, (hot + 2) % 3);
    let mut client = group.client(warm);
    assert_eq!(client.ask("SET first 1"), "OK");
    group.stop(late);
    let value = "v".repeat(4 << 20);
    for index in 0..28 {
        // 112 MiB, more than the log keeps once the store holds it.
        assert_eq!(client.ask(&format!("SET large{} {value}", index % 4)), "OK");
    }
    group.wait_for(hot, "the log is shortened", |status| status.node.applied_lsn + 8 > status.node.committed_lsn);
    group.restart(hot);
    let hot = group.hot();
    group.start_node(late);
    group.wait_in_sync(hot, 3);
    let copies = group.nodes[hot].as_ref().unwrap().control().metrics.full_syncs.value();
    assert!(copies > 0, "the log alone cannot have been enough");
    let mut own = group.client(late);
    assert_eq!(own.ask("GET first"), "1");
    assert_eq!(own.ask("STRLEN large3"), value.len().to_string());
    group.switch_over(hot, Some(late));
    group.kill(hot);
    assert_eq!(own.ask("GET first"), "1");
    assert_eq!(own.ask("SET last 2"), "OK");
    assert_eq!(group.hot(), late);
}

/// Hots come and go under writers on every node; each counter ends at what its writer was told, exactly.
#[test]
fn counters_end_where_their_writers_were_told_however_often_the_hot_changes() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let mut group = Group::start(&["a", "b", "c"]);
    let hot = group.hot();
    group.wait_in_sync(hot, 3);
    let stop = AtomicBool::new(false);
    // One node is never ended, and takes all the writers.
    let steady = (hot + 1) % 3;
    let told: Vec<i64> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                let mut client = group.client(steady);
                let stop = &stop;
                scope.spawn(move || {
                    let mut told = 0;
                    while !stop.load(Ordering::Relaxed) {
                        for _ in 0..8 {
                            client.send(&format!("INCR n{writer}"));
                        }
                        for _ in 0..8 {
                            let reply = shown(&client.receive().expect("the connection stands"));
                            told += 1;
                            assert_eq!(reply, told.to_string(), "writer {writer}");
                        }
                    }
                    told
                })
            })
            .collect();
        for round in 0..4 {
            let hot = group.hot();
            group.wait_in_sync(hot, 3);
            if hot == steady {
                // A planned change, so that its clients keep their connections.
                group.switch_over(steady, None);
                continue;
            }
            if round % 2 == 0 {
                group.kill(hot)
            } else {
                group.stop(hot)
            }
            group.start_node(hot);
        }
        stop.store(true, Ordering::Relaxed);
        writers.into_iter().map(|writer| writer.join().unwrap()).collect()
    });
    for index in 0..3 {
        let mut client = group.client(index);
        for (writer, told) in told.iter().enumerate() {
            assert_eq!(client.ask(&format!("GET n{writer}")), told.to_string());
        }
    }
}

/// Garbage on the clients' port is answered or cut off, and harms nobody else; what is unauthenticated costs little.
#[test]
fn garbage_and_strangers_get_an_error_and_nothing_else() {
    use std::io::{Read, Write};
    let group = Group::start_with(&["a"], "", "password_file = \"PASSWORD\"\nconnections_max = 3\n");
    let hot = group.hot();
    let mut client = group.client(hot);
    assert_eq!(client.ask("GET k"), "error: NOAUTH Authentication required.");
    assert_eq!(client.ask("AUTH wrong"), "error: WRONGPASS invalid username-password pair or user is disabled.");
    assert_eq!(client.ask("AUTH secret"), "OK");
    assert_eq!(client.ask("SET k 1"), "OK");
    for garbage in
        [&b"*9999999\r\n"[..], b"*1\r\n$99999999\r\n", b"POST / HTTP/1.1\r\n", &[0xff; 70_000], b"*-3\r\n*x\r\n"]
    {
        let mut stream = std::net::TcpStream::connect(group.front(hot)).unwrap();
        stream.set_read_timeout(Some(support::PATIENCE)).unwrap();
        // The node may close before all of it is written.
        let _ = stream.write_all(garbage);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.is_empty() || answer.starts_with(b"-ERR"), "{}", String::from_utf8_lossy(&answer));
    }
    let mut others = Vec::new();
    let refused = (0..100).any(|_| {
        let mut other = group.client(hot);
        let reply = other.ask("PING");
        others.push(other);
        reply == "error: ERR max number of clients reached"
    });
    assert!(refused, "the fourth connection is refused");
    assert_eq!(client.ask("GET k"), "1");
}

/// While nobody reigns, what waits is bounded in time, and what was certainly not executed is answered so.
#[test]
fn without_a_hot_a_command_is_held_and_then_refused_in_time() {
    let mut group = Group::start_with(&["a", "b", "w"], "", "hold = { time_max = \"300ms\" }\n");
    let hot = group.hot();
    group.wait_in_sync(hot, 2);
    let warm = 1 - hot;
    let mut client = group.client(warm);
    assert_eq!(client.ask("SET k 1"), "OK");
    // Two of three acceptors gone: no majority, so nobody can take over.
    group.kill(2);
    group.kill(hot);
    let reply = client.ask("GET k");
    assert!(reply.starts_with("error: TRYAGAIN"), "{reply}");
    group.start_node(2);
    group.hot();
    assert_eq!(client.ask("GET k"), "1");
}
