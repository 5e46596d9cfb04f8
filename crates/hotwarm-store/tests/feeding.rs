//! What is seen while a feed stands still half way: before the tree has taken the batch, and after it has and nobody
//! knows yet.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

mod common;

use common::{Log, open, put, settle, string, text, walk_all};
use hotwarm_store::keyspace::{Entry, Keyspace};
use hotwarm_store::limits::SESSION_REPLIES_MAX;
use hotwarm_store::tree::{Batch, MapTree, Pin, Rows, Tree, TreeError};
use hotwarm_store::{Identity, Options, State};
use hotwarm_types::{Lsn, SessionId};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};

/// A tree that stops in each batch, twice, until it is told to go on.
struct GateTree {
    inner: MapTree,
    stopped: Sender<()>,
    go: Mutex<Receiver<()>>,
}

impl GateTree {
    fn stop(&self) {
        self.stopped.send(()).unwrap();
        self.go.lock().unwrap().recv().unwrap();
    }
}

impl Tree for GateTree {
    fn apply(&self, at: Lsn, batch: &Batch) -> Result<(), TreeError> {
        self.stop();
        self.inner.apply(at, batch)?;
        self.stop();
        Ok(())
    }

    fn applied(&self) -> Lsn {
        self.inner.applied()
    }

    fn durable(&self) -> Lsn {
        self.inner.durable()
    }

    fn get(&self, key: &[u8]) -> Result<Option<bytes::Bytes>, TreeError> {
        self.inner.get(key)
    }

    fn scan(&self, from: Bound<&[u8]>, until: Option<&[u8]>, count: usize) -> Result<Rows, TreeError> {
        self.inner.scan(from, until, count)
    }

    fn pin(&self) -> Result<Box<dyn Pin>, TreeError> {
        self.inner.pin()
    }

    fn flush(&self) -> Result<Lsn, TreeError> {
        self.inner.flush()
    }

    fn load(&self, rows: &Rows) -> Result<(), TreeError> {
        self.inner.load(rows)
    }

    fn maintain(&self) -> Result<(), TreeError> {
        self.inner.maintain()
    }

    fn unflushed_size_bytes(&self) -> u64 {
        self.inner.unflushed_size_bytes()
    }

    fn size_bytes(&self) -> u64 {
        self.inner.size_bytes()
    }
}

/// Feeds on another thread and calls `look` at both stops.
fn feed_and_look(state: &mut State, gate: (&Receiver<()>, &Sender<()>), mut look: impl FnMut(&mut State)) {
    let feeder = state.feeder();
    let thread = std::thread::spawn(move || feeder.feed());
    for _ in 0..2 {
        gate.0.recv().unwrap();
        look(state);
        gate.1.send(()).unwrap();
    }
    assert!(thread.join().unwrap().unwrap());
    look(state);
}

fn gated() -> (State, Receiver<()>, Sender<()>) {
    let (stopped, stops) = channel();
    let (go, gate) = channel();
    let tree = GateTree { inner: MapTree::new(), stopped, go: Mutex::new(gate) };
    // No cache: every look goes all the way.
    let state = State::open(Arc::new(tree), Options { cache_size_bytes_max: 0 }).unwrap();
    (state, stops, go)
}

/// What a state shows of the keys `a` to `f`, and its count.
fn shown(state: &mut State) -> (String, u64) {
    let mut view = state.committed_view(1_000);
    let mut all = String::new();
    for key in ["a", "b", "c", "d", "e", "f"] {
        all.push_str(&text(view.get(key.as_bytes())).unwrap_or("-".into()));
    }
    let walked = walk_all(&mut view).len() as u64;
    let count = view.len();
    assert_eq!(walked, count);
    view.finish().unwrap();
    (all, count)
}

#[test]
fn a_feed_that_stands_still_changes_nothing_that_is_seen() {
    let (mut state, stops, go) = gated();
    let gate = (&stops, &go);
    let mut log = Log::default();
    state.stage(&log.start_epoch()).unwrap();
    for (key, value) in [("a", "1"), ("b", "1"), ("c", "1")] {
        put(&mut state, 1_000, key, value);
    }
    settle(&mut log, &mut state);
    feed_and_look(&mut state, gate, |state| assert_eq!(shown(state), ("111---".into(), 3)));

    put(&mut state, 1_000, "a", "2");
    put(&mut state, 1_000, "d", "2");
    let mut execution = state.begin(1_000);
    execution.delete(b"b");
    execution.finish(None, b"").unwrap();
    settle(&mut log, &mut state);
    feed_and_look(&mut state, gate, |state| assert_eq!(shown(state), ("2-12--".into(), 3)));
}

#[test]
fn commits_during_a_feed_show_over_it() {
    let (mut state, stops, go) = gated();
    let gate = (&stops, &go);
    let mut log = Log::default();
    state.stage(&log.start_epoch()).unwrap();
    for key in ["a", "b", "c"] {
        put(&mut state, 1_000, key, "1");
    }
    settle(&mut log, &mut state);
    let mut stop = 0;
    feed_and_look(&mut state, gate, |state| {
        stop += 1;
        let mut execution = state.begin(1_000);
        match stop {
            1 => {
                execution.delete(b"a");
                execution.put(b"d", string("2"));
            }
            2 => {
                execution.clear();
                execution.put(b"e", string("3"));
            }
            _ => execution.put(b"f", string("4")),
        }
        execution.finish(None, b"").unwrap();
        settle(&mut log, state);
        let expected = [("-112--", 3), ("----3-", 1), ("----34", 2)][stop - 1];
        assert_eq!(shown(state), (expected.0.into(), expected.1), "stop {stop}");
    });
    feed_and_look(&mut state, gate, |state| assert_eq!(shown(state), ("----34".into(), 2)));
    put(&mut state, 1_000, "a", "5");
    settle(&mut log, &mut state);
    feed_and_look(&mut state, gate, |state| assert_eq!(shown(state), ("5---34".into(), 3)));
}

#[test]
fn rows_of_sessions_follow_the_table() {
    let tree = MapTree::new();
    let mut state = open(&tree);
    let mut log = Log::default();
    state.stage(&log.start_epoch()).unwrap();
    let (keeps, expires, returns) = (SessionId(1), SessionId(2), SessionId(3));
    let mut write = |state: &mut State, session: SessionId, sequence: u64, change: fn(&mut dyn FnMut(bool))| {
        let mut execution = state.begin(1_000 + sequence);
        change(&mut |open| if open { execution.open_session(session) } else { execution.expire_session(session) });
        execution.put(b"k", Entry { expires_at_ms: None, ..string("v") });
        execution.finish(Some(Identity { session, sequence }), b"+OK\r\n").unwrap();
        settle(&mut log, state);
    };
    let check = |state: &State| {
        state.feeder().feed().unwrap();
        state.feeder().flush().unwrap();
        assert_eq!(open(&tree.crash()).sessions(), state.sessions());
    };
    for session in [keeps, expires, returns] {
        write(&mut state, session, 1, |change| change(true));
    }
    check(&state);
    for sequence in 2..SESSION_REPLIES_MAX as u64 + 10 {
        write(&mut state, keeps, sequence, |_| {});
        if sequence == 500 {
            check(&state);
        }
    }
    write(&mut state, expires, 2, |change| change(false));
    write(&mut state, returns, 2, |change| {
        change(false);
        change(true);
    });
    check(&state);
    assert_eq!(state.sessions().len(), 2);
    write(&mut state, returns, 3, |_| {});
    check(&state);
}
