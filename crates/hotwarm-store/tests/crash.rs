//! A crash at every flush of a state on its real tree: what a copy of the folder opens as, brought up by the log, is
//! the state.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

mod common;

use common::{Dice, Log, put, string};
use hotwarm_store::keyspace::{Entry, Keyspace};
use hotwarm_store::tree::LsmTree;
use hotwarm_store::{Feeder, Identity, Options, State, StateDigest};
use hotwarm_types::{Lsn, SessionId};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn open(folder: &Path) -> State {
    let tree = LsmTree::open(folder, 1 << 20).unwrap();
    State::open(Arc::new(tree), Options { cache_size_bytes_max: 5_000 }).unwrap()
}

fn write_something(dice: &mut Dice, state: &mut State, session: SessionId, sequence: u64) {
    let now_ms = state.greatest_stamp_ms() + dice.roll(20);
    let mut execution = state.begin(now_ms);
    if sequence == 1 {
        execution.open_session(session);
    }
    match dice.roll(60) {
        0 => execution.clear(),
        1..15 => {
            execution.delete(&[b'k', dice.roll(50) as u8]);
        }
        _ => {
            let life_ms = (dice.roll(4) == 0).then(|| now_ms + 1 + dice.roll(100));
            let key = [b'k', dice.roll(50) as u8];
            execution.put(&key, Entry { expires_at_ms: life_ms, ..string([dice.roll(256) as u8; 30]) });
        }
    }
    execution.finish(Some(Identity { session, sequence }), b"+OK\r\n").unwrap();
}

fn digest_of_log(log: &Log, folder: &Path) -> (Lsn, StateDigest) {
    let mut state = open(folder);
    let applied = state.applied();
    log.replay(&mut state);
    state.commit(log.end()).unwrap();
    (applied, state.feeder().digest().unwrap())
}

#[test]
fn a_crash_at_every_flush_leaves_a_state_that_the_log_completes() {
    let folder = tempfile::tempdir().unwrap();
    let mut state = open(folder.path());
    let (mut dice, mut log) = (Dice(5), Log::default());
    state.stage(&log.start_epoch()).unwrap();
    let mut sequence = 0;
    for round in 0..25 {
        for _ in 0..1 + dice.roll(30) {
            sequence += 1;
            write_something(&mut dice, &mut state, SessionId(77), sequence);
        }
        for block in log.take(&mut state) {
            state.stage(&block).unwrap();
        }
        state.commit(log.end()).unwrap();
        if dice.roll(4) == 0 {
            state.stage(&log.start_epoch()).unwrap();
            state.commit(log.end()).unwrap();
        }
        if dice.roll(3) > 0 {
            state.feeder().feed().unwrap();
        }
        let flushed = (dice.roll(3) > 0).then(|| state.feeder().flush().unwrap());
        state.feeder().maintain().unwrap();
        let crashed = tempfile::tempdir().unwrap();
        copy_folder(folder.path(), crashed.path());
        let (applied, digest) = digest_of_log(&log, crashed.path());
        assert_eq!(applied, state.applied(), "round {round}");
        assert!(flushed.is_none_or(|flushed| flushed == applied), "round {round}");
        let fresh = tempfile::tempdir().unwrap();
        assert_eq!(digest_of_log(&log, fresh.path()), (Lsn::ZERO, digest), "round {round}: as replayed from nothing");
    }
}

/// Ends the feeding thread, also when the test fails.
struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

fn feed_until(feeder: &Feeder, stop: &AtomicBool) -> u64 {
    let mut feeds = 0;
    loop {
        let last = stop.load(Ordering::Acquire);
        let fed = feeder.feed().unwrap();
        feeds += u64::from(fed);
        if feeds % 16 == 1 {
            feeder.flush().unwrap();
            feeder.maintain().unwrap();
        }
        if last && !fed {
            return feeds;
        }
        std::thread::yield_now();
    }
}

#[test]
fn a_feeder_on_its_own_thread_is_never_seen_half_way() {
    let folder = tempfile::tempdir().unwrap();
    let mut state = open(folder.path());
    let mut log = Log::default();
    state.stage(&log.start_epoch()).unwrap();
    let (feeder, stop) = (state.feeder(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| feed_until(&feeder, &stop));
        let stop_at_end = StopAtEnd(&stop);
        // Each transaction moves a count from one key to another: in sum nothing may ever be missing, wherever keys
        // are.
        for number in 0..200_u64 {
            put(&mut state, 1_000, number.to_be_bytes(), number.to_be_bytes());
        }
        for round in 0..1_500_u64 {
            let mut execution = state.begin(1_000 + round);
            let (from, to) = ((round * 7) % 200, (round * 13 + 1) % 200);
            let (a, b) = (execution.get(&from.to_be_bytes()), execution.get(&to.to_be_bytes()));
            if let (Some(a), Some(b)) = (a, b) {
                execution.put(&from.to_be_bytes(), b);
                execution.put(&to.to_be_bytes(), a);
            }
            execution.finish(None, b"").unwrap();
            for block in log.take(&mut state) {
                state.stage(&block).unwrap();
            }
            state.commit(log.end()).unwrap();
            let mut view = state.committed_view(0);
            assert!(view.get(&(round % 200).to_be_bytes()).is_some(), "round {round}");
            if round % 10 == 0 {
                assert_eq!(view.len(), 200, "round {round}");
                assert_eq!(common::walk_all(&mut view).len(), 200, "round {round}");
            }
            view.finish().unwrap();
        }
        drop(stop_at_end);
        assert!(thread.join().unwrap() > 1, "it was fed while it was written");
    });
    let mut values: Vec<_> =
        (0..200_u64).map(|key| state.committed_view(0).get(&key.to_be_bytes()).unwrap().value).collect();
    values.dedup();
    assert_eq!(values.len(), 200);
    assert_eq!(state.lag_size_bytes(), 0);
    let fresh = tempfile::tempdir().unwrap();
    assert_eq!(digest_of_log(&log, fresh.path()).1, state.feeder().digest().unwrap());
}

#[test]
fn rows_of_dropped_generations_are_reclaimed_behind_the_clear() {
    let folder = tempfile::tempdir().unwrap();
    let mut state = open(folder.path());
    let mut log = Log::default();
    state.stage(&log.start_epoch()).unwrap();
    for number in 0..3_000_u64 {
        put(&mut state, 1_000, number.to_be_bytes(), "v");
    }
    common::settle(&mut log, &mut state);
    state.feeder().feed().unwrap();
    let mut execution = state.begin(1_000);
    execution.clear();
    execution.put(b"new", string("v"));
    execution.finish(None, b"").unwrap();
    common::settle(&mut log, &mut state);
    assert_eq!(state.committed_view(1_000).len(), 1);
    for round in 0..6 {
        state.feeder().feed().unwrap();
        assert_eq!(state.committed_view(1_000).len(), 1 + round);
        put(&mut state, 1_000, format!("round {round}"), "v");
        common::settle(&mut log, &mut state);
    }
    state.feeder().feed().unwrap();
    state.feeder().flush().unwrap();
    drop(state);
    let tree = LsmTree::open(folder.path(), 1 << 20).unwrap();
    let rows = hotwarm_store::tree::Tree::scan(&tree, std::ops::Bound::Included(b"k"), Some(b"l"), 10_000).unwrap();
    assert_eq!(rows.len(), 7, "only what shows is left");
}
