//! WATCH and keys whose time comes: before it, they spoil no transaction; after it, they do.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

mod common;

use bytes::Bytes;
use common::{Log, open, put, settle, string};
use hotwarm_resp::Reply;
use hotwarm_store::State;
use hotwarm_store::command::{ClientState, ConfigError, Context, Plan, Server, Topology, plan, run};
use hotwarm_store::keyspace::{Entry, Keyspace};
use hotwarm_store::tree::MapTree;

/// A node of which nothing is asked here.
struct NoServer;

impl Server for NoServer {
    fn password_required(&self) -> bool {
        false
    }

    fn authenticate(&self, _: &[u8], _: &[u8]) -> bool {
        true
    }

    fn is_hot(&self) -> bool {
        true
    }

    fn info(&self, _: &[String]) -> String {
        String::new()
    }

    fn role(&self) -> Reply {
        Reply::Null
    }

    fn client_list(&self) -> String {
        String::new()
    }

    fn config(&self) -> Vec<(String, String)> {
        Vec::new()
    }

    fn set_config(&self, _: &[(String, String)]) -> Result<(), ConfigError> {
        Ok(())
    }

    fn reset_statistics(&self) {}

    fn topology(&self) -> Topology {
        Topology::default()
    }
}

/// A hot and a client of it.
struct Scene {
    log: Log,
    state: State,
    client: ClientState,
    context: Context,
}

impl Scene {
    /// With a key `k` whose time comes at 2000, in the tree.
    fn new() -> Self {
        let mut state = open(&MapTree::new());
        let mut log = Log::default();
        state.stage(&log.start_epoch()).unwrap();
        state.commit(log.end()).unwrap();
        let client = ClientState::new(1, String::new());
        let mut scene = Self { log, state, client, context: Context::default() };
        scene.put_until(1_000, 2_000);
        scene
    }

    fn put_until(&mut self, now_ms: u64, expires_at_ms: u64) {
        let mut execution = self.state.begin(now_ms);
        execution.put(b"k", Entry { expires_at_ms: Some(expires_at_ms), ..string("v") });
        execution.finish(None, b"").unwrap();
        self.settle();
    }

    fn settle(&mut self) {
        settle(&mut self.log, &mut self.state);
        self.state.feeder().feed().unwrap();
    }

    /// What the node removes by itself.
    fn reclaim(&mut self, now_ms: u64) -> usize {
        let count = self.state.expire(now_ms, usize::MAX).unwrap();
        self.settle();
        count
    }

    /// A request as a node executes it: a read that finds a key expired is made a write.
    fn ask(&mut self, now_ms: u64, line: &str) -> Reply {
        let args = line.split(' ').map(|word| Bytes::copy_from_slice(word.as_bytes())).collect();
        let (call, writes, watches) = match plan(&mut self.client, &NoServer, args) {
            Plan::Reply(reply) => return reply,
            Plan::Read(call) => (call, false, false),
            Plan::Write(call) => (call, true, false),
            Plan::Watch(call) => (call, false, true),
            other => panic!("{other:?}"),
        };
        let mut view = self.state.committed_view(now_ms);
        let read = (!writes).then(|| run(&call, &self.context, &mut view));
        let expired = view.finish().unwrap().judged_expired;
        let reply = match read.filter(|_| !expired) {
            Some(reply) => reply,
            None => {
                let mut execution = self.state.begin(now_ms);
                let reply = run(&call, &self.context, &mut execution);
                execution.finish(None, b"").unwrap();
                self.settle();
                reply
            }
        };
        if watches { self.client.watched(&call, &reply) } else { reply }
    }

    /// Whether a transaction goes through.
    fn runs(&mut self, now_ms: u64) -> bool {
        assert_eq!(self.ask(now_ms, "MULTI"), Reply::ok());
        self.ask(now_ms, "SET other v");
        self.ask(now_ms, "EXEC") != Reply::NullArray
    }
}

#[test]
fn a_key_that_had_expired_before_it_was_watched_spoils_nothing() {
    for reclaimed in [false, true] {
        let mut scene = Scene::new();
        assert_eq!(scene.ask(2_500, "WATCH k"), Reply::ok());
        if reclaimed {
            scene.reclaim(2_600);
        }
        assert!(scene.runs(2_700), "reclaimed by the node: {reclaimed}");
    }
}

#[test]
fn such_a_key_that_is_written_again_spoils_it_also_where_it_has_gone_since() {
    let mut scene = Scene::new();
    scene.ask(2_500, "WATCH k");
    put(&mut scene.state, 2_600, "k", "new");
    scene.settle();
    assert!(!scene.runs(2_700));

    let mut scene = Scene::new();
    scene.ask(2_500, "WATCH k");
    scene.put_until(2_600, 2_650);
    assert_eq!(scene.reclaim(2_650), 1);
    assert!(!scene.runs(2_700));
}

#[test]
fn a_key_that_expires_while_it_is_watched_spoils_it() {
    for reclaimed in [false, true] {
        let mut scene = Scene::new();
        scene.ask(1_999, "WATCH k");
        if reclaimed {
            assert_eq!(scene.reclaim(2_000), 1);
        }
        assert!(!scene.runs(2_000), "reclaimed by the node: {reclaimed}");
        scene.ask(2_100, "WATCH k");
        assert!(scene.runs(2_100), "it is gone, and stays so");
    }
}
