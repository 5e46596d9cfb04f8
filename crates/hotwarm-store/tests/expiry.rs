//! Keys that nobody touches after their time has come: who removes them, when, and how many at a time.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

mod common;

use common::{Log, open, put, settle, string, text};
use hotwarm_store::State;
use hotwarm_store::keyspace::{Entry, Keyspace};
use hotwarm_store::limits::{EXPIRE_COUNT_MIN, EXPIRE_SIZE_BYTES_MAX, KEY_SIZE_BYTES_MAX};
use hotwarm_store::tree::MapTree;
use hotwarm_types::Lsn;

/// A hot whose tree can be opened again.
fn hot() -> (Log, State, MapTree) {
    let tree = MapTree::new();
    let mut state = open(&tree);
    let mut log = Log::default();
    state.stage(&log.start_epoch()).unwrap();
    state.commit(log.end()).unwrap();
    (log, state, tree)
}

fn put_until(state: &mut State, key: impl AsRef<[u8]>, expires_at_ms: u64) {
    let mut execution = state.begin(1_000);
    execution.put(key.as_ref(), Entry { expires_at_ms: Some(expires_at_ms), ..string("v") });
    execution.finish(None, b"").unwrap();
}

fn feed(log: &mut Log, state: &mut State) {
    settle(log, state);
    state.feeder().feed().unwrap();
}

/// What is there, whatever the time.
fn count(state: &mut State) -> u64 {
    let at = state.end();
    state.view_at_least(0, at).len()
}

#[test]
fn a_key_is_removed_at_its_time_and_not_before_and_once() {
    let (mut log, mut state, _) = hot();
    assert_eq!((state.expire(9_000, EXPIRE_COUNT_MIN).unwrap(), state.next_expiry_ms()), (0, u64::MAX));
    put_until(&mut state, "late", 5_000);
    put_until(&mut state, "early", 1_200);
    put(&mut state, 1_000, "stays", "v");
    settle(&mut log, &mut state);
    assert_eq!(state.next_expiry_ms(), 1_200, "known before it is fed");
    assert_eq!(state.expire(4_000, EXPIRE_COUNT_MIN).unwrap(), 0, "found once it is fed");
    state.feeder().feed().unwrap();
    assert_eq!(state.expire(1_199, EXPIRE_COUNT_MIN).unwrap(), 0);
    assert_eq!(state.next_expiry_ms(), 1_200);
    assert_eq!(state.expire(1_200, EXPIRE_COUNT_MIN).unwrap(), 1);
    assert_eq!((count(&mut state), state.next_expiry_ms()), (2, u64::MAX), "nothing while it is not committed");
    assert_eq!(state.expire(9_000, EXPIRE_COUNT_MIN).unwrap(), 0);
    settle(&mut log, &mut state);
    assert_eq!(state.next_expiry_ms(), 5_000, "the row of the other one is still there, and passed");
    state.feeder().feed().unwrap();
    assert_eq!(state.expire(5_000, EXPIRE_COUNT_MIN).unwrap(), 1);
    feed(&mut log, &mut state);
    assert_eq!((state.expire(9_000, EXPIRE_COUNT_MIN).unwrap(), state.next_expiry_ms()), (0, u64::MAX));
    assert_eq!(state.feeder().digest().unwrap().key_count, 1);
}

#[test]
fn a_key_that_was_renewed_or_written_anew_meanwhile_stays() {
    let (mut log, mut state, _) = hot();
    for key in ["renewed", "kept", "written", "tail"] {
        put_until(&mut state, key, 2_000);
    }
    feed(&mut log, &mut state);
    put_until(&mut state, "renewed", 3_000);
    put(&mut state, 1_500, "kept", "for good");
    settle(&mut log, &mut state);
    // Not even committed.
    put_until(&mut state, "written", 9_000);
    let mut execution = state.begin(1_500);
    execution.delete(b"tail");
    execution.put(b"tail", string("new"));
    execution.finish(None, b"").unwrap();
    assert_eq!(state.expire(2_500, EXPIRE_COUNT_MIN).unwrap(), 0);
    assert_eq!(count(&mut state), 4);
    feed(&mut log, &mut state);
    assert_eq!(state.expire(3_000, EXPIRE_COUNT_MIN).unwrap(), 1, "the renewed one, at its new time");
    feed(&mut log, &mut state);
    let mut view = state.committed_view(3_000);
    let values = ["renewed", "kept", "written", "tail"].map(|key| text(view.get(key.as_bytes())));
    assert_eq!(values.map(|value| value.unwrap_or_default()), ["", "for good", "v", "new"]);
}

#[test]
fn removals_come_in_small_operations_and_every_node_carries_them_out() {
    let (mut log, mut state, _) = hot();
    let warm_tree = MapTree::new();
    let mut warm = open(&warm_tree);
    let total = 3 * EXPIRE_COUNT_MIN + 7;
    for number in 0..total {
        // Many of one millisecond: the cursor goes on within it.
        put_until(&mut state, format!("k{number}"), 2_000 + (number % 2) as u64);
    }
    feed(&mut log, &mut state);
    let (mut removed, mut operations) = (0, 0);
    while removed < total {
        let before = state.end();
        let count = state.expire(2_001, EXPIRE_COUNT_MIN).unwrap();
        assert!(count > 0 && count <= EXPIRE_COUNT_MIN, "{count}");
        assert_eq!(state.end(), before.next(), "one operation");
        (removed, operations) = (removed + count, operations + 1);
        settle(&mut log, &mut state);
    }
    assert_eq!((removed, operations), (total, 4));
    log.replay(&mut warm);
    warm.commit(log.end()).unwrap();
    assert_eq!(warm.feeder().digest().unwrap(), state.feeder().digest().unwrap());
    assert_eq!(warm.feeder().key_counts().keys, 0);
}

#[test]
fn long_names_make_smaller_operations() {
    let (mut log, mut state, _) = hot();
    for number in 0..20_u8 {
        put_until(&mut state, vec![b'a' + number; KEY_SIZE_BYTES_MAX], 2_000);
    }
    feed(&mut log, &mut state);
    let per_operation = EXPIRE_SIZE_BYTES_MAX / KEY_SIZE_BYTES_MAX;
    assert_eq!(state.expire(2_000, EXPIRE_COUNT_MIN).unwrap(), per_operation);
    settle(&mut log, &mut state);
    assert_eq!(state.next_expiry_ms(), 2_000, "more at once");
    assert_eq!(state.expire(2_000, EXPIRE_COUNT_MIN).unwrap(), per_operation);
}

#[test]
fn a_removal_that_did_not_get_into_the_log_is_made_again() {
    let (mut log, mut state, _) = hot();
    put_until(&mut state, "a", 2_000);
    put_until(&mut state, "b", 2_000);
    feed(&mut log, &mut state);
    // A client's removal is dropped with the tail, too.
    let mut execution = state.begin(2_000);
    assert_eq!(execution.get(b"b"), None);
    execution.finish(None, b"").unwrap();
    assert_eq!(state.expire(2_000, EXPIRE_COUNT_MIN).unwrap(), 1);
    assert_eq!(count(&mut state), 0);
    state.truncate(log.end()).unwrap();
    assert_eq!(count(&mut state), 2);
    assert_eq!(state.expire(2_000, EXPIRE_COUNT_MIN).unwrap(), 2);
}

#[test]
fn a_restart_and_a_clear_lose_no_expiry_and_invent_none() {
    let (mut log, mut state, tree) = hot();
    for number in 0..10 {
        put_until(&mut state, format!("k{number}"), 2_000 + number);
    }
    feed(&mut log, &mut state);
    state.feeder().flush().unwrap();
    let mut again = open(&tree.crash());
    assert_eq!(again.feeder().key_counts().keys, 10);
    assert_eq!(again.feeder().key_counts().expiring, 0, "not counted yet");
    while again.feeder().count().unwrap() {}
    assert_eq!(again.feeder().key_counts().expiring, 10);
    assert_eq!(again.feeder().key_counts().ttl_ms_mean, 1_004, "group time is that of the last block");
    assert_eq!(again.expire(2_004, EXPIRE_COUNT_MIN).unwrap(), 5);
    let mut execution = state.begin(1_000);
    execution.clear();
    execution.put(b"new", Entry { expires_at_ms: Some(1_500), ..string("v") });
    execution.finish(None, b"").unwrap();
    assert_eq!(state.expire(9_000, EXPIRE_COUNT_MIN).unwrap(), 0, "the old ones are gone with the clear");
    settle(&mut log, &mut state);
    assert_eq!(state.expire(9_000, EXPIRE_COUNT_MIN).unwrap(), 0);
    state.feeder().feed().unwrap();
    assert_eq!(state.feeder().key_counts().expiring, 1);
    assert_eq!(state.next_expiry_ms(), 1_500);
    assert_eq!(state.expire(1_500, EXPIRE_COUNT_MIN).unwrap(), 1);
    settle(&mut log, &mut state);
    assert_eq!(count(&mut state), 0);
}

#[test]
fn what_feeds_add_behind_the_cursor_is_found() {
    let (mut log, mut state, _) = hot();
    put_until(&mut state, "far", 9_000);
    feed(&mut log, &mut state);
    assert_eq!(state.expire(5_000, EXPIRE_COUNT_MIN).unwrap(), 0);
    assert_eq!(state.next_expiry_ms(), 9_000);
    for (number, at_ms) in [4_000, 3_000, 3_000, 4_500].into_iter().enumerate() {
        // Names that sort before the row that the cursor has passed.
        put_until(&mut state, format!("{}", 9 - number), at_ms);
        feed(&mut log, &mut state);
        assert_eq!(state.next_expiry_ms(), at_ms);
        assert_eq!(state.expire(5_000, EXPIRE_COUNT_MIN).unwrap(), 1, "{at_ms}");
        feed(&mut log, &mut state);
    }
    assert_eq!(state.committed_view(0).len(), 1);
    assert_eq!(state.end(), Lsn(1 + 1 + 8));
}

#[test]
fn how_far_removals_are_behind_is_told() {
    let (mut log, mut state, tree) = hot();
    assert_eq!(state.overdue_ms(9_000), None, "there is none");
    for number in 0..10 {
        put_until(&mut state, format!("k{number}"), 2_000 + number);
    }
    feed(&mut log, &mut state);
    assert_eq!(state.overdue_ms(1_999), None);
    assert_eq!(state.overdue_ms(2_500), Some(500));
    assert_eq!(state.expire(2_500, 4).unwrap(), 4);
    assert_eq!(state.overdue_ms(2_500), Some(497), "past the last one that was removed, at most");
    settle(&mut log, &mut state);
    assert_eq!(state.expire(2_500, 100).unwrap(), 6);
    assert_eq!(state.overdue_ms(2_500), None);
    put_until(&mut state, "behind", 1_500);
    feed(&mut log, &mut state);
    assert_eq!(state.overdue_ms(2_500), Some(1_000), "although nobody has asked for it yet");
    assert_eq!(state.expire(2_500, 100).unwrap(), 1);
    assert_eq!(state.overdue_ms(2_500), None);
    // That removal was not fed, and a restart finds what the tree has.
    state.feeder().flush().unwrap();
    assert_eq!(open(&tree.crash()).overdue_ms(2_500), Some(1_000));
}

/// Group time of the commit position, and how many operations it took.
fn logged(log: &mut Log, state: &mut State, before: Lsn) -> (u64, u64) {
    settle(log, state);
    (state.committed_stamp_ms(), state.end().since(before))
}

#[test]
fn a_walk_over_any_number_of_expired_keys_logs_nothing_but_the_time() {
    let (mut log, mut state, _) = hot();
    for number in 0..1_000 {
        put_until(&mut state, format!("gone{number}"), 2_000);
    }
    put(&mut state, 1_000, "stays", "v");
    feed(&mut log, &mut state);
    let end = state.end();

    let mut view = state.committed_view(2_000);
    assert_eq!(view.walk(None, 2_000).0, ["stays"]);
    let seen = view.finish().unwrap();
    assert!(seen.leans_on_time && !seen.judged_expired);
    let mut execution = state.begin(2_000);
    assert_eq!(execution.walk(None, 2_000).0, ["stays"], "within a transaction, too");
    assert_eq!(execution.finish(None, b"").unwrap().lsn, Some(end.next()));
    assert_eq!(logged(&mut log, &mut state, end), (2_000, 1));
    assert_eq!(count(&mut state), 1_001, "none of them is removed");

    // What the log says needs no entry again.
    let mut view = state.committed_view(2_001);
    assert_eq!(view.walk(None, 2_000).0, ["stays"]);
    assert!(!view.finish().unwrap().leans_on_time);
    let mut execution = state.begin(2_001);
    assert_eq!(execution.walk(None, 2_000).0, ["stays"]);
    assert_eq!(execution.finish(None, b"").unwrap().lsn, None);
    // Nor does it hold up what has effects of its own.
    let mut execution = state.begin(2_001);
    execution.walk(None, 2_000);
    execution.delete(b"stays");
    execution.finish(None, b"").unwrap();
    assert_eq!(logged(&mut log, &mut state, end.next()), (2_001, 1));
}

#[test]
fn the_time_is_logged_for_every_node_without_a_change() {
    let (mut log, mut state, _) = hot();
    put(&mut state, 1_000, "k", "v");
    let digest = |state: &mut State| state.feeder().digest().unwrap();
    settle(&mut log, &mut state);
    let end = state.end();
    assert_eq!(state.log_time(3_600_000), end.next());
    assert_eq!(state.log_time(5_000), end.plus(2), "never back");
    assert_eq!(logged(&mut log, &mut state, end), (3_600_000, 2));
    let mut warm = open(&MapTree::new());
    log.replay(&mut warm);
    assert_eq!(warm.greatest_stamp_ms(), 3_600_000, "where a new hot goes on");
    warm.commit(log.end()).unwrap();
    assert_eq!((warm.committed_stamp_ms(), digest(&mut warm)), (3_600_000, digest(&mut state)));
}
