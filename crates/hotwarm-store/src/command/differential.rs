//! The store against a map: the same requests, with transactions and watches among them, get the same replies from the
//! real state machine, whatever of it is committed, cached or cut, as from a few lines over a `BTreeMap`.

use super::client::ClientState;
use super::plan::{Plan, plan};
use super::run::{Context, run};
use super::testing::{MapKeyspace, TestServer, show};
use crate::keyspace::Keyspace;
use crate::tree::MapTree;
use crate::{Options, State};
use bytes::{Bytes, BytesMut};
use hotwarm_resp::{Reply, RequestLimits, RequestParser};
use hotwarm_types::{Block, BlockKind, Epoch, Lsn, Payload};
use std::sync::Arc;

/// splitmix64, to draw words.
struct Dice(u64);

impl Dice {
    fn pick<'a>(&mut self, words: &[&'a str]) -> &'a str {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        words[((mixed ^ (mixed >> 31)) % words.len() as u64) as usize]
    }
}

/// A request: K stands for a key, V for a value, N for a number, T for a time to live in milliseconds.
const REQUESTS: &[&str] = &[
    "set K V",
    "set K V NX",
    "set K V XX GET",
    "set K V PX T",
    "set K V KEEPTTL",
    "set K N",
    "setnx K V",
    "getset K V",
    "get K",
    "get K",
    "getdel K",
    "getex K PX T",
    "getex K PERSIST",
    "mget K K K",
    "mset K V K V",
    "msetnx K V K V",
    "append K V",
    "strlen K",
    "getrange K N N",
    "setrange K N V",
    "incr K",
    "incrby K N",
    "decr K",
    "incrbyfloat K N",
    "del K",
    "del K K",
    "exists K K",
    "type K",
    "rename K K",
    "renamenx K K",
    "keys *",
    "keys K*",
    "scan 0 count 100",
    "pexpire K T",
    "pexpire K T GT",
    "pexpire K T NX",
    "pexpireat K T",
    "pttl K",
    "pexpiretime K",
    "persist K",
    "watch K",
    "watch K K",
    "unwatch",
    "multi",
    "exec",
    "exec",
    "exec",
    "discard",
    "flushall",
];

fn request(dice: &mut Dice) -> Vec<Bytes> {
    let words = dice.pick(REQUESTS).split(' ').map(|word| match word {
        "K" => dice.pick(&["a", "b", "c", "d", "ab"]),
        "V" => dice.pick(&["v", "10", "''", "hello"]),
        "N" => dice.pick(&["0", "1", "-2", "5"]),
        "T" => dice.pick(&["1", "3", "30", "-1", "1000000"]),
        word => word,
    });
    let line = words.collect::<Vec<_>>().join(" ") + "\n";
    let mut buffer = BytesMut::from(line.as_bytes());
    RequestParser::new(RequestLimits::AUTHENTICATED).next(&mut buffer).unwrap().unwrap()
}

/// A client with a keyspace of its own.
struct Side {
    client: ClientState,
    server: TestServer,
    context: Context,
}

impl Side {
    fn new() -> Self {
        let client = ClientState::new(1, String::new());
        Self { client, server: TestServer::default(), context: Context::default() }
    }

    /// Executes a request; `apply` runs something on the keys and keeps what it changes if told that it is a write.
    fn call(
        &mut self,
        args: Vec<Bytes>,
        mut apply: impl FnMut(bool, &mut dyn FnMut(&mut dyn Keyspace) -> Reply) -> Reply,
    ) -> Reply {
        match plan(&mut self.client, &self.server, args) {
            Plan::Reply(reply) | Plan::Close(reply) => reply,
            Plan::Read(call) => apply(false, &mut |keys| run(&call, &self.context, keys)),
            Plan::Write(call) => apply(true, &mut |keys| run(&call, &self.context, keys)),
            Plan::Watch(call) => {
                let reply = apply(false, &mut |keys| run(&call, &self.context, keys));
                self.client.watched(&call, &reply)
            }
            Plan::Session { .. } | Plan::Wait { .. } => panic!("no such request is drawn"),
        }
    }
}

/// Takes what a state has executed as blocks of its log, and commits it.
fn settle(state: &mut State) {
    while let Some(proposed) = state.take_block() {
        let last = Lsn(proposed.first.0 + proposed.count - 1);
        let block = Block {
            kind: BlockKind::Data,
            epoch: Epoch(1),
            first: proposed.first,
            last,
            stamp_ms: proposed.stamp_ms,
            payload: Payload::new(&proposed.payload),
        };
        state.stage(&block).unwrap();
        state.commit(last).unwrap();
    }
}

fn first_reign() -> Block {
    let payload = Payload::new(b"test");
    Block { kind: BlockKind::EpochStart, epoch: Epoch(1), first: Lsn(1), last: Lsn(1), stamp_ms: 0, payload }
}

#[test]
fn the_store_answers_as_a_map_does() {
    let mut parted = 0;
    for seed in 0..40 {
        let mut dice = Dice(seed);
        let (mut map_side, mut store_side) = (Side::new(), Side::new());
        let mut map = MapKeyspace::default();
        let mut state = State::open(Arc::new(MapTree::new()), Options { cache_size_bytes_max: 200 }).unwrap();
        state.stage(&first_reign()).unwrap();
        state.commit(Lsn(1)).unwrap();
        let feeder = state.feeder();
        let mut now_ms: u64 = 1_000;
        for step in 0..400 {
            now_ms += dice.pick(&["0", "0", "1", "5"]).parse::<u64>().unwrap();
            map.now_ms = now_ms;
            let args = request(&mut dice);
            let watches_absent = map_side.client.watches.iter().any(|watched| !watched.live);
            let expect = map_side.call(args.clone(), |_, body| body(&mut map));
            let got = store_side.call(args.clone(), |write, body| {
                if !write {
                    let at = state.end();
                    let mut view = state.view_at_least(now_ms, at);
                    let reply = body(&mut view);
                    view.finish().unwrap();
                    return reply;
                }
                let mut execution = state.begin(now_ms);
                let reply = body(&mut execution);
                execution.finish(None, b"").unwrap();
                reply
            });
            // Whether a key that was not there has been touched is known only as long as its removal is remembered, and an
            // expired key is touched when its removal is logged. Either answer is right; the two sides part here.
            if watches_absent && (got == Reply::NullArray) != (expect == Reply::NullArray) {
                parted += 1;
                break;
            }
            assert_eq!(show(&got), show(&expect), "seed {seed} step {step} at {now_ms}: {args:?}");
            if dice.pick(&["settle", "go on", "go on"]) == "settle" {
                settle(&mut state);
                feeder.feed().unwrap();
            }
        }
    }
    assert!(parted < 20, "{parted} of 40 runs ended early");
}
