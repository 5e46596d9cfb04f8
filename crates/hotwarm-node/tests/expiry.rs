//! Keys whose time has come vanish from every node, untouched, and not before; and what INFO says of all that.

mod support;

use hotwarm_node::admin::NodeControl;
use hotwarm_node::space::Need;
use std::time::{Duration, Instant};
use support::{Client, Group, PATIENCE};

/// The line of INFO's keyspace section, without the average time to live; empty if there is none.
fn keyspace(client: &mut Client) -> String {
    let info = client.ask("INFO keyspace");
    let line = info.lines().find(|line| line.starts_with("db0:")).unwrap_or_default();
    line.split(",avg_ttl=").next().unwrap_or_default().to_owned()
}

/// Waits until nothing but DBSIZE and INFO, which touch no key, tell on every running node that `keys` are left.
fn wait_for_keys(group: &Group, keys: usize, expires: usize) {
    let began = Instant::now();
    for index in (0..group.nodes.len()).filter(|index| group.nodes[*index].is_some()) {
        let mut client = group.client(index);
        let expected = format!("db0:keys={keys},expires={expires}");
        while client.ask("DBSIZE") != keys.to_string() || keyspace(&mut client) != expected {
            let now = (client.ask("DBSIZE"), client.ask("INFO keyspace"));
            assert!(began.elapsed() < PATIENCE, "node {index}: not {expected} but {now:?}");
            std::thread::yield_now();
        }
    }
}

#[test]
fn untouched_keys_vanish_from_every_node_at_their_time_also_after_a_takeover() {
    let mut group = Group::start(&["a", "b", "c"]);
    let hot = group.hot();
    group.wait_in_sync(hot, 3);
    let mut client = group.client((hot + 1) % 3);
    for number in 0..3 {
        client.send(&format!("SET stays{number} v"));
    }
    for number in 0..300 {
        client.send(&format!("SET soon{number} v PX 500"));
    }
    let later = Instant::now();
    for number in 0..5 {
        client.send(&format!("SET later{number} v PX 4000"));
    }
    for _ in 0..308 {
        assert_eq!(support::shown(&client.receive().unwrap()), "OK");
    }
    wait_for_keys(&group, 8, 5);
    let removed = group.nodes[hot].as_ref().unwrap().control().metrics.expired.value();
    assert_eq!(removed, 300, "by the hot, and once");
    let average = client.ask("INFO keyspace");
    let average: u64 = average.trim_end().rsplit_once('=').unwrap().1.parse().unwrap();
    assert!(average <= 4_000, "{average}");

    group.kill(hot);
    let second = group.hot();
    assert_eq!(client.ask("DBSIZE"), "8", "a new hot's clock goes on from the log: nothing expires early");
    wait_for_keys(&group, 3, 0);
    // Group time may be slewed by 1%.
    assert!(later.elapsed() > Duration::from_millis(3_950), "{:?}", later.elapsed());

    group.start_node(hot);
    group.wait_in_sync(second, 3);
    wait_for_keys(&group, 3, 0);
    assert_eq!(client.ask("SET again v EX 1000"), "OK");
    wait_for_keys(&group, 4, 1);
    let warm = (0..3).find(|index| *index != second).unwrap();
    group.restart(warm);
    wait_for_keys(&group, 4, 1);
}

#[test]
fn a_walk_passes_over_what_has_expired_and_leaves_its_removal_to_those_whose_work_it_is() {
    const COUNT: usize = 3_000;
    let group = Group::start(&["a"]);
    group.hot();
    let mut client = group.client(0);
    let control = group.nodes[0].as_ref().unwrap().control();
    for number in 0..COUNT {
        client.send(&format!("SET gone{number} v PX 1500"));
    }
    client.send("SET stays v");
    for _ in 0..=COUNT {
        assert_eq!(support::shown(&client.receive().unwrap()), "OK");
    }
    // Nothing is removed where the disk is full.
    control.board.space.report(Need::Order, Some("the test says so".to_owned()));
    let lag_seconds = || -> f64 {
        let text = control.metrics_text();
        let line = text.lines().find_map(|line| line.strip_prefix("hotwarm_expiry_lag_seconds "));
        line.unwrap_or_else(|| panic!("{text}")).parse().unwrap()
    };
    let began = Instant::now();
    while client.ask("KEYS *") != "[stays]" || lag_seconds() <= 0.0 {
        assert!(began.elapsed() < PATIENCE, "{}", client.ask("KEYS *"));
        std::thread::yield_now();
    }
    let before = group.status(0).node.visible_lsn;
    assert_eq!(client.ask("KEYS nosuch*"), "[]");
    let mut cursor = "0".to_owned();
    loop {
        let reply = client.ask(&format!("SCAN {cursor} MATCH nosuch* COUNT 100"));
        cursor = reply.trim_start_matches('[').split(',').next().unwrap().to_owned();
        assert!(reply.ends_with("[]]"), "{reply}");
        if cursor == "0" {
            break;
        }
    }
    // What is published may be a turn behind.
    let after = group.status(0).node.visible_lsn;
    assert!(after <= before + 3, "{before} to {after}: what the log says of the time is enough for all of them");
    assert_eq!(client.ask("DBSIZE"), (COUNT + 1).to_string());
    control.board.space.report(Need::Order, None);
    wait_for_keys(&group, 1, 0);
    assert!(lag_seconds().abs() < f64::EPSILON);
}

#[test]
fn info_tells_of_replication_what_is_so() {
    let mut group = Group::start(&["a", "b", "w"]);
    let hot = group.hot();
    group.wait_in_sync(hot, 2);
    let warm = 1 - hot;
    let mut client = group.client(hot);
    assert_eq!(client.ask("SET k v"), "OK");
    let field = |info: &str, name: &str| -> String {
        let line = info.lines().find_map(|line| line.strip_prefix(&format!("{name}:")));
        line.unwrap_or_else(|| panic!("{name} in {info}")).to_owned()
    };
    let info = client.ask("INFO replication");
    assert_eq!((field(&info, "role"), field(&info, "connected_slaves")), ("master".to_owned(), "1".to_owned()));
    let slave = field(&info, "slave0");
    let offset: u64 = field(&info, "master_repl_offset").parse().unwrap();
    let acknowledged = slave.split("offset=").nth(1).and_then(|rest| rest.split(',').next()).unwrap();
    assert!(acknowledged.parse::<u64>().unwrap() <= offset && slave.contains("state=online"), "{info}");
    let mut other = group.client(warm);
    let info = other.ask("INFO replication");
    assert_eq!((field(&info, "role"), field(&info, "master_link_status")), ("slave".to_owned(), "up".to_owned()));
    assert_eq!(field(&info, "master_last_io_seconds_ago"), "0");
    assert_eq!(field(&info, "master_sync_in_progress"), "0", "no full copy is under way");
    assert!(field(&other.ask("INFO memory"), "used_memory").parse::<u64>().unwrap() > 1 << 20);
    // Without a majority nobody takes over, and the link to the old hot is down.
    group.kill(2);
    group.kill(hot);
    let began = Instant::now();
    while field(&other.ask("INFO replication"), "master_link_status") != "down" {
        assert!(began.elapsed() < PATIENCE);
        std::thread::yield_now();
    }
    assert_eq!(field(&other.ask("INFO replication"), "master_last_io_seconds_ago"), "-1");
    assert_eq!(field(&other.ask("INFO stats"), "expired_keys"), "0");
}
