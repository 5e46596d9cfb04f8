//! What blocks of the log carry: operations, decoded, applied, and found again after a restart.

use super::{SMALL, led};
use crate::draw::Draw;
use crate::pair::{digest, empty_state, open};
use crate::target::{Seed, Target};
use bytes::Bytes;
use hotwarm_store::effect::{Effect, FORMAT_VERSION, Identity, Operation, decode};
use hotwarm_store::keyspace::{Keyspace, Value};
use hotwarm_store::tree::MapTree;
use hotwarm_store::{Options, State};
use hotwarm_types::{Block, BlockKind, Epoch, Lsn, Payload, SessionId};
use std::sync::Arc;

pub(super) const EFFECTS: Target = Target { name: "effects", run, seeds, memory_base_bytes: 4 << 20, ..SMALL };

fn run(input: &[u8]) {
    let mut draw = Draw::new(input);
    let count = u64::from(draw.u8());
    let stamp_ms = u64::from(draw.u8());
    let payload = draw.rest();
    let operations = match decode(payload, count) {
        Ok(operations) => operations,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    assert_eq!(operations.len() as u64, count);
    assert_eq!(encode(&operations), payload, "operations have one encoding");
    if count == 0 {
        return;
    }
    let tree = MapTree::new();
    let options = Options { cache_size_bytes_max: 512 };
    let mut state = State::open(Arc::new(tree.clone()), options).expect("an empty tree opens");
    let block = Block {
        kind: BlockKind::Data,
        epoch: Epoch(1),
        first: Lsn(1),
        last: Lsn(count),
        stamp_ms,
        payload: Payload::new(payload),
    };
    state.stage(&block).expect("operations that decode can be staged");
    state.commit(block.last).expect("what is staged can be committed");
    for operation in &operations {
        if let Some(identity) = operation.identity {
            let _ = state.session(identity);
        }
    }
    let keys = state.committed_view(stamp_ms).walk(None, usize::MAX).0;
    let expected = digest(&state);
    state.feeder().flush().expect("a tree in memory can be flushed");
    drop(state);
    let mut restarted = open(Arc::new(tree));
    assert_eq!(restarted.applied(), block.last);
    assert_eq!(digest(&restarted), expected, "a restart has changed the state");
    assert_eq!(restarted.committed_view(stamp_ms).walk(None, usize::MAX).0, keys);
    let mut other = empty_state();
    other.stage(&block).expect("operations that decode can be staged");
    other.commit(block.last).expect("what is staged can be committed");
    assert_eq!(digest(&other), expected, "the same block makes the same state");
}

fn encode(operations: &[Operation]) -> Vec<u8> {
    let mut out = vec![FORMAT_VERSION];
    operations.iter().for_each(|operation| operation.encode(&mut out));
    out
}

fn seeds() -> Vec<Seed> {
    let put = |key: &'static [u8], value: &'static [u8], expires_at_ms| Effect::Put {
        key: Bytes::from_static(key),
        value: Value::String(Bytes::from_static(value)),
        expires_at_ms,
    };
    let plain = |effects: Vec<Effect>| Operation { identity: None, effects, reply: None };
    let session = SessionId(7);
    let identified = |sequence, effects, reply: Option<&'static [u8]>| Operation {
        identity: Some(Identity { session, sequence }),
        effects,
        reply: reply.map(Bytes::from_static),
    };
    let delete = Effect::Delete { key: Bytes::from_static(b"k") };
    let seed = |name, operations: &[Operation]| (name, led(&[operations.len() as u8, 50], &encode(operations)));
    vec![
        seed("put and delete", &[plain(vec![put(b"k", b"v", None)]), plain(vec![put(b"l", b"", Some(9)), delete])]),
        seed("expiry", &[plain(vec![put(b"k", b"v", Some(60)), put(b"l", b"w", Some(u64::MAX - 1))])]),
        seed("clear", &[plain(vec![put(b"k", b"v", None)]), plain(vec![Effect::Clear, put(b"l", b"w", None)])]),
        seed(
            "session",
            &[
                plain(vec![Effect::SessionOpened { session }]),
                identified(1, vec![put(b"k", b"v", None)], Some(b"+OK\r\n")),
                identified(2, vec![put(b"k", b"w", None)], None),
                plain(vec![Effect::SessionExpired { session }]),
            ],
        ),
        ("nothing", vec![1, 0, FORMAT_VERSION, 0, 0]),
        ("a newer format", vec![1, 0, FORMAT_VERSION + 1]),
        ("a lying count", vec![1, 0, FORMAT_VERSION, 0, 0xff, 0xff, 0xff, 0xff, 0x0f]),
    ]
}
