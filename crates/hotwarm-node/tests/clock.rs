//! Group time after the whole group was down: told, not followed, until an operator says so.

mod support;

use hotwarm_core::AskRefused;
use hotwarm_node::admin::{ClockFollowed, NodeControl};
use hotwarm_node::clock::wall_ms;
use std::time::{Duration, Instant};
use support::{Group, PATIENCE};

/// A difference of more than ten seconds is none that is followed.
const OUTAGE_MS: u64 = 10_500;

fn follow_clock(group: &Group, index: usize) -> Result<ClockFollowed, AskRefused> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(group.nodes[index].as_ref().expect("the node runs").control().follow_clock())
}

fn complains(group: &Group) -> bool {
    group.status(0).complaints.iter().any(|complaint| complaint.contains("hotwarm clock follow"))
}

fn step_seconds(group: &Group) -> f64 {
    let metrics = group.nodes[0].as_ref().expect("the node runs").control().metrics_text();
    let line = metrics.lines().find_map(|line| line.strip_prefix("hotwarm_clock_step_seconds "));
    line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("{metrics}"))
}

#[test]
fn group_time_follows_the_wall_clock_after_an_outage_of_the_whole_group_once_it_is_told_to() {
    let mut group = Group::start(&["a"]);
    group.hot();
    let mut client = group.client(0);
    let written_ms = wall_ms();
    assert_eq!(client.ask(&format!("SET dated v PXAT {}", written_ms + OUTAGE_MS - 500)), "OK");
    assert_eq!(client.ask("SET lasting v EX 1000"), "OK");
    assert!(!complains(&group));
    let Err(AskRefused::Forbidden { why }) = follow_clock(&group, 0) else { panic!("nothing is off") };
    assert!(why.contains("follows it by itself"), "{why}");
    group.stop(0);
    while wall_ms() < written_ms + OUTAGE_MS + 500 {
        std::thread::sleep(Duration::from_millis(50));
    }

    group.start_node(0);
    group.hot();
    group.wait_for(0, "it says so although nobody asked for anything", |status| {
        status.node.clock_step_ms.is_some_and(|step_ms| step_ms > 10_000)
    });
    assert!(complains(&group), "{:#?}", group.status(0).complaints);
    assert!(step_seconds(&group) > 10.0);
    let mut client = group.client(0);
    assert_eq!(client.ask("GET dated"), "v", "group time stood still");

    let before_ms = wall_ms();
    let ClockFollowed { from_ms, to_ms } = follow_clock(&group, 0).expect("it is far behind");
    assert!(from_ms < written_ms + OUTAGE_MS && (before_ms..=wall_ms()).contains(&to_ms), "{from_ms} {to_ms}");
    assert_eq!(client.ask("GET dated"), "nil");
    assert_eq!(client.ask("GET lasting"), "v");
    group.wait_for(0, "nothing is off", |status| status.node.clock_step_ms.is_none());
    assert!(!complains(&group));
    assert!(step_seconds(&group).abs() < f64::EPSILON);
    assert!(matches!(follow_clock(&group, 0), Err(AskRefused::Forbidden { .. })));

    let began = Instant::now();
    let told = || {
        let history = group.nodes[0].as_ref().expect("the node runs").control().history();
        history.into_iter().find(|event| event.event == "clock_followed")
    };
    let event = loop {
        match told() {
            Some(event) => break event,
            None => assert!(began.elapsed() < PATIENCE, "the history says nothing"),
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    assert_eq!(
        (event.cause.as_str(), event.evidence),
        ("operator", format!("from {from_ms} to {to_ms} ms since 1970"))
    );

    group.restart(0);
    group.hot();
    assert_eq!(group.client(0).ask("GET lasting"), "v");
    assert!(!complains(&group), "the next start goes on from there");
}

/// What an operator was told is done stays so, although nothing was written since.
#[test]
fn a_step_of_group_time_outlives_the_hot_that_made_it() {
    let mut group = Group::start(&["a", "b", "c"]);
    let hot = group.hot();
    group.wait_in_sync(hot, 3);
    let written_ms = wall_ms();
    assert_eq!(group.client(hot).ask("SET k v"), "OK");
    for index in 0..3 {
        group.stop(index);
    }
    while wall_ms() < written_ms + OUTAGE_MS + 500 {
        std::thread::sleep(Duration::from_millis(50));
    }
    for index in 0..3 {
        group.start_node(index);
    }
    let hot = group.hot();
    group.wait_in_sync(hot, 3);
    group.wait_for(hot, "its clock is behind", |status| status.node.clock_step_ms.is_some());
    let ClockFollowed { to_ms, .. } = follow_clock(&group, hot).expect("it is far behind");
    group.kill(hot);
    let second = group.hot();
    group.wait_for(second, "nothing is off", |status| status.node.serves && status.node.clock_step_ms.is_none());
    let mut client = group.client(second);
    assert_eq!(client.ask(&format!("SET k v PXAT {to_ms}")), "OK");
    assert_eq!(client.ask("EXISTS k"), "0", "that moment has passed");
}
