//! Sessions, held replies and refusals: R33, R34, R35 and R32 as seen by the node.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

mod common;

use bytes::Bytes;
use common::{Log, open, put, settle, string, text};
use hotwarm_store::keyspace::{Entry, Keyspace};
use hotwarm_store::limits::{KEY_SIZE_BYTES_MAX, REPLY_SIZE_BYTES_MAX, SESSION_IDLE_MS_MAX, VALUE_SIZE_BYTES_MAX};
use hotwarm_store::tree::MapTree;
use hotwarm_store::{ApplyError, ExecuteError, Executed, Identity, SessionAnswer, State};
use hotwarm_types::limits::BLOCK_SIZE_BYTES_MAX;
use hotwarm_types::{Block, BlockKind, Epoch, Lsn, Payload, SessionId};

const SESSION: SessionId = SessionId(0x5e55);

fn identity(sequence: u64) -> Identity {
    Identity { session: SESSION, sequence }
}

fn hot() -> (Log, State) {
    let mut state = open(&MapTree::new());
    let mut log = Log::default();
    state.stage(&log.start_epoch()).unwrap();
    state.commit(log.end()).unwrap();
    (log, state)
}

fn open_session(state: &mut State) {
    let mut execution = state.begin(1_000);
    execution.open_session(SESSION);
    execution.finish(None, b"").unwrap();
}

fn increment(state: &mut State, sequence: u64) -> Executed {
    let mut execution = state.begin(1_000);
    let count = text(execution.get(b"count")).map_or(0, |text| text.parse::<u64>().unwrap()) + 1;
    execution.put(b"count", string(count.to_string()));
    execution.finish(Some(identity(sequence)), format!(":{count}\r\n").as_bytes()).unwrap()
}

#[test]
fn a_retry_waits_for_the_first_and_then_gets_its_reply_on_any_node() {
    let (mut log, mut state) = hot();
    assert_eq!(state.session(identity(1)), SessionAnswer::Unknown, "the session is not open");
    open_session(&mut state);
    assert_eq!(state.session(identity(1)), SessionAnswer::Fresh, "open, if not committed yet");
    let executed = increment(&mut state, 1);
    let lsn = executed.lsn.unwrap();
    assert_eq!(state.session(identity(1)), SessionAnswer::Pending { lsn });
    let mut warm = open(&MapTree::new());
    settle(&mut log, &mut state);
    let done = SessionAnswer::Done { reply: Bytes::from_static(b":1\r\n") };
    assert_eq!(state.session(identity(1)), done);
    log.replay(&mut warm);
    assert_eq!(warm.session(identity(1)), SessionAnswer::Pending { lsn });
    warm.commit(log.end()).unwrap();
    assert_eq!(warm.session(identity(1)), done);
}

#[test]
fn what_a_cut_took_back_is_fresh_again_and_applied_once() {
    let (mut log, mut state) = hot();
    open_session(&mut state);
    increment(&mut state, 1);
    settle(&mut log, &mut state);
    increment(&mut state, 2);
    let end = log.end();
    assert!(matches!(state.session(identity(2)), SessionAnswer::Pending { .. }));
    state.truncate(end).unwrap();
    assert_eq!(state.session(identity(2)), SessionAnswer::Fresh);
    increment(&mut state, 2);
    settle(&mut log, &mut state);
    assert_eq!(text(state.committed_view(1_000).get(b"count")).as_deref(), Some("2"));
}

#[test]
fn an_expired_session_is_unknown_from_the_moment_its_expiry_is_executed() {
    let (mut log, mut state) = hot();
    open_session(&mut state);
    increment(&mut state, 1);
    settle(&mut log, &mut state);
    let later_ms = 1_001 + SESSION_IDLE_MS_MAX;
    assert_eq!(state.idle_sessions(later_ms, 0, 10), [SESSION]);
    let mut execution = state.begin(later_ms);
    execution.expire_session(SESSION);
    execution.finish(None, b"").unwrap();
    assert_eq!(state.session(identity(1)), SessionAnswer::Unknown);
    assert!(!state.session_is_open(SESSION));
    assert!(state.idle_sessions(later_ms, 0, 10).is_empty(), "once is enough");
    settle(&mut log, &mut state);
    assert_eq!(state.session(identity(1)), SessionAnswer::Unknown);
    assert_eq!(state.sessions().len(), 0);
}

#[test]
fn sessions_survive_a_restart_with_their_replies() {
    let tree = MapTree::new();
    let mut state = open(&tree);
    let mut log = Log::default();
    state.stage(&log.start_epoch()).unwrap();
    open_session(&mut state);
    increment(&mut state, 1);
    increment(&mut state, 2);
    settle(&mut log, &mut state);
    state.feeder().feed().unwrap();
    state.feeder().flush().unwrap();
    let reopened = open(&tree.crash());
    assert_eq!(reopened.sessions(), state.sessions());
    assert_eq!(reopened.session(identity(2)), SessionAnswer::Done { reply: Bytes::from_static(b":2\r\n") });
    assert_eq!(reopened.epochs(), [(Epoch(1), Lsn(1))]);
}

#[test]
fn a_reply_that_is_too_long_to_keep_is_unknown_and_not_executed_again() {
    let (mut log, mut state) = hot();
    open_session(&mut state);
    let mut execution = state.begin(1_000);
    execution.put(b"k", string("v"));
    execution.finish(Some(identity(1)), &vec![b'x'; REPLY_SIZE_BYTES_MAX + 1]).unwrap();
    settle(&mut log, &mut state);
    assert_eq!(state.session(identity(1)), SessionAnswer::Unknown);
}

#[test]
fn a_reply_without_effects_names_the_position_it_leaned_on() {
    let (mut log, mut state) = hot();
    put(&mut state, 1_000, "k", "v");
    settle(&mut log, &mut state);
    let lsn = put(&mut state, 1_000, "k", "w").lsn.unwrap();
    let mut execution = state.begin(1_000);
    assert_eq!(text(execution.get(b"k")).as_deref(), Some("w"));
    assert_eq!(execution.finish(None, b"").unwrap(), Executed { lsn: None, touched: lsn });
    let gone = {
        let mut execution = state.begin(1_000);
        assert!(execution.delete(b"k"));
        execution.finish(None, b"").unwrap().lsn.unwrap()
    };
    let mut execution = state.begin(1_000);
    assert!(!execution.delete(b"k"), "DEL answers 0, and so reveals the removal");
    assert_eq!(execution.finish(None, b"").unwrap(), Executed { lsn: None, touched: gone });
    let mut execution = state.begin(1_000);
    assert_eq!(execution.len(), 0);
    assert_eq!(execution.finish(None, b"").unwrap().touched, gone, "counting looks at everything");
    let mut view = state.committed_view(1_000);
    assert_eq!(text(view.get(b"k")).as_deref(), Some("v"), "a plain read waits for nothing");
    assert!(view.finish().unwrap().touched < lsn);
    let mut view = state.view_at_least(1_000, lsn);
    assert_eq!(text(view.get(b"k")).as_deref(), Some("w"), "its own earlier write");
    assert_eq!(view.finish().unwrap().touched, lsn);
}

#[test]
fn who_finds_a_key_expired_logs_its_removal() {
    let (mut log, mut state) = hot();
    let mut execution = state.begin(1_000);
    execution.put(b"k", Entry { expires_at_ms: Some(1_500), ..string("v") });
    execution.finish(None, b"").unwrap();
    settle(&mut log, &mut state);
    let mut view = state.committed_view(1_499);
    assert!(view.get(b"k").is_some());
    assert!(!view.finish().unwrap().judged_expired);
    let mut view = state.committed_view(1_500);
    assert_eq!(view.get(b"k"), None);
    assert!(view.finish().unwrap().judged_expired, "the log does not say so yet");
    let mut execution = state.begin(1_500);
    assert_eq!(execution.get(b"k"), None);
    let executed = execution.finish(None, b"").unwrap();
    assert!(executed.lsn.is_some());
    settle(&mut log, &mut state);
    let mut view = state.committed_view(1_000);
    assert_eq!(view.get(b"k"), None, "gone at any time");
    assert!(!view.finish().unwrap().judged_expired);
    state.feeder().feed().unwrap();
    assert_eq!(state.feeder().digest().unwrap().key_count, 0);
}

#[test]
fn a_key_that_came_and_went_has_another_version_than_before() {
    let (mut log, mut state) = hot();
    put(&mut state, 1_000, "other", "x");
    settle(&mut log, &mut state);
    let watched = state.committed_view(1_000).version(b"k");
    put(&mut state, 1_000, "k", "v");
    let mut execution = state.begin(1_000);
    execution.delete(b"k");
    execution.finish(None, b"").unwrap();
    settle(&mut log, &mut state);
    assert_ne!(state.committed_view(1_000).version(b"k"), watched);
    state.feeder().feed().unwrap();
    // The cache is small: this pushes the memory of the removal out of it.
    for number in 0..100 {
        put(&mut state, 1_000, format!("k{number}"), "v");
        settle(&mut log, &mut state);
    }
    state.feeder().feed().unwrap();
    assert_ne!(state.committed_view(1_000).version(b"k"), watched);
    let reopened = state.feeder().digest().unwrap();
    assert_eq!(reopened.key_count, 101);
}

#[test]
fn an_execution_that_is_too_large_leaves_nothing_behind() {
    let (_, mut state) = hot();
    let end = state.end();
    let mut execution = state.begin(1_000);
    execution.put(&vec![b'k'; KEY_SIZE_BYTES_MAX + 1], string("v"));
    let error = execution.finish(None, b"").unwrap_err();
    assert_eq!(error, ExecuteError::KeyTooLong { size_bytes: KEY_SIZE_BYTES_MAX + 1 });
    let mut execution = state.begin(1_000);
    execution.put(b"k", string(vec![b'v'; VALUE_SIZE_BYTES_MAX + 1]));
    assert!(matches!(execution.finish(None, b""), Err(ExecuteError::ValueTooLong { .. })));
    let mut execution = state.begin(1_000);
    execution.put(b"a", string(vec![b'v'; VALUE_SIZE_BYTES_MAX]));
    execution.put(b"b", string(vec![b'v'; VALUE_SIZE_BYTES_MAX]));
    assert!(matches!(execution.finish(None, b""), Err(ExecuteError::TooLarge { .. })));
    let mut execution = state.begin(1_000);
    execution.put(b"c", string("dropped"));
    drop(execution);
    assert_eq!((state.end(), state.take_block()), (end, None));
    assert_eq!(state.begin(1_000).len(), 0);
}

#[test]
fn blocks_never_exceed_their_bound_and_keep_their_order() {
    let (mut log, mut state) = hot();
    for number in 0..12 {
        put(&mut state, 1_000 + number, format!("k{number}"), vec![b'v'; 2 << 20]);
    }
    let blocks = log.take(&mut state);
    assert!(blocks.len() > 2);
    for block in &blocks {
        assert!(block.payload.len() <= BLOCK_SIZE_BYTES_MAX);
        state.stage(block).unwrap();
    }
    state.commit(log.end()).unwrap();
    assert_eq!(state.committed_view(1_000).len(), 12);
    assert_eq!(state.committed_stamp_ms(), 1_011);
}

fn block(first: u64, last: u64, payload: &[u8]) -> Block {
    Block {
        kind: BlockKind::Data,
        epoch: Epoch(1),
        first: Lsn(first),
        last: Lsn(last),
        stamp_ms: 2_000,
        payload: Payload::new(payload),
    }
}

#[test]
fn a_block_that_does_not_fit_is_refused_whole() {
    let (_, mut state) = hot();
    let good = [1, 0, 1, 2, 1, b'k'];
    assert_eq!(state.stage(&block(3, 3, &good)), Err(ApplyError::Gap { expected: Lsn(2), got: Lsn(3) }));
    assert!(matches!(state.stage(&block(2, 3, &good)), Err(ApplyError::Decode { .. })));
    assert!(matches!(state.stage(&block(2, 2, &[1, 0, 1, 99])), Err(ApplyError::Decode { .. })));
    assert!(matches!(state.stage(&block(2, 1, &good)), Err(ApplyError::Disorder { .. })));
    let old = Block { epoch: Epoch(0), ..block(2, 2, &good) };
    assert_eq!(state.stage(&old), Err(ApplyError::Disorder { first: Lsn(2) }));
    assert_eq!((state.end(), state.uncommitted_size_bytes()), (Lsn(1), 0));
    state.stage(&block(2, 2, &good)).unwrap();
    let back = Block { stamp_ms: 1_999, ..block(3, 3, &good) };
    assert_eq!(state.stage(&back), Err(ApplyError::Disorder { first: Lsn(3) }));
    assert_eq!(state.commit(Lsn(3)), Err(ApplyError::NotStaged { staged: Lsn(2), upto: Lsn(3) }));
    state.commit(Lsn(2)).unwrap();
    assert_eq!(state.truncate(Lsn(1)), Err(ApplyError::BadCut { committed: Lsn(2), last: Lsn(1) }));
    assert_eq!(state.begin(0).now_ms(), 2_000, "time never goes back behind the log");
}

#[test]
fn somebody_elses_block_is_refused_while_own_writes_are_open() {
    let (_, mut state) = hot();
    put(&mut state, 2_000, "k", "v");
    let foreign = block(2, 2, &[1, 0, 1, 2, 1, b'k']);
    assert_eq!(state.stage(&foreign), Err(ApplyError::NotProposed { first: Lsn(2) }));
    state.take_block().unwrap();
    assert_eq!(state.stage(&Block { last: Lsn(3), ..foreign.clone() }), Err(ApplyError::NotProposed { first: Lsn(2) }));
    state.drop_uncommitted();
    state.stage(&foreign).unwrap();
}

#[test]
fn what_the_log_never_took_is_forgotten_with_its_bounds() {
    let (mut log, mut state) = hot();
    put(&mut state, 2_000, "k", "lost");
    assert!(state.take_block().is_some(), "taken, and refused by the core");
    put(&mut state, 2_000, "k", "lost too");
    state.truncate(log.end()).unwrap();
    assert_eq!((state.end(), state.take_block()), (log.end(), None));
    put(&mut state, 2_000, "a", "1");
    put(&mut state, 2_000, "b", "2");
    settle(&mut log, &mut state);
    let mut view = state.committed_view(2_000);
    assert_eq!((view.get(b"k"), view.len()), (None, 2));
}

#[test]
fn two_hundred_thousand_writes_cost_what_each_costs() {
    let tree = MapTree::new();
    let mut state = State::open(std::sync::Arc::new(tree), hotwarm_store::Options::default()).unwrap();
    let mut log = Log::default();
    state.stage(&log.start_epoch()).unwrap();
    for number in 0..200_000_u64 {
        put(&mut state, 1_000, (number % 50_000).to_be_bytes(), "a small value");
        if number % 100 == 99 {
            settle(&mut log, &mut state);
        }
    }
    assert_eq!(state.committed().lsn, Lsn(200_001));
    state.feeder().feed().unwrap();
    assert_eq!(state.committed_view(1_000).len(), 50_000);
}
