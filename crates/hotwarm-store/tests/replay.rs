//! What a node replays after a restart: in steps, and never more than a bound.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

mod common;

use common::{Log, open, put, settle};
use hotwarm_store::limits::FLUSH_COUNT;
use hotwarm_store::tree::MapTree;
use hotwarm_store::{ApplyError, State};
use hotwarm_types::Lsn;

/// A state and a log of an epoch start and `blocks` blocks of `count` puts.
fn filled(blocks: u64, count: u64) -> (Log, State) {
    let mut state = open(&MapTree::new());
    let mut log = Log::default();
    state.stage(&log.start_epoch()).unwrap();
    for block in 0..blocks {
        for number in 0..count {
            put(&mut state, 1_000, format!("key {}", number % 7), format!("{block}:{number}"));
        }
        settle(&mut log, &mut state);
    }
    (log, state)
}

#[test]
fn a_long_tail_is_committed_in_steps_of_whole_blocks() {
    let (log, original) = filled(10, 100);
    let mut state = open(&MapTree::new());
    log.replay(&mut state);
    let mut steps = Vec::new();
    let mut whole = false;
    while !whole {
        whole = state.commit_some(log.end(), 150).unwrap();
        steps.push(state.committed().lsn.0);
    }
    assert_eq!(steps, [201, 401, 601, 801, 1001], "the epoch start is the first position");
    assert_eq!(state.feeder().digest().unwrap(), original.feeder().digest().unwrap());
    assert_eq!(state.commit_some(log.end(), 1), Ok(true), "nothing is left");
    let past = log.end().next();
    assert_eq!(state.commit_some(past, 1), Err(ApplyError::NotStaged { staged: log.end(), upto: past }));
}

#[test]
fn the_tree_is_flushed_before_a_restart_would_replay_more_than_the_bound() {
    let (mut log, mut state) = filled(1, 1);
    let feeder = state.feeder();
    assert_eq!(feeder.round().unwrap().flushed, None);
    while log.end() < Lsn(FLUSH_COUNT) {
        put(&mut state, 1_000, "one small key", "x");
        settle(&mut log, &mut state);
    }
    let flushed = feeder.round().unwrap().flushed;
    assert_eq!(flushed, Some(log.end()), "few bytes, many positions");
    assert_eq!(state.applied(), log.end());
    put(&mut state, 1_000, "one small key", "y");
    settle(&mut log, &mut state);
    assert_eq!(feeder.round().unwrap().flushed, None, "the count begins anew");
}
