//! A full copy as the receiver takes it: chunks, and the records from which it goes on after a crash.

use super::{SMALL, led};
use crate::draw::Draw;
use crate::pair::empty_state;
use crate::sample;
use crate::target::{Seed, Target};
use bytes::Bytes;
use hotwarm_node::incoming_record::IncomingRecord;
use hotwarm_store::keyspace::{Entry, Keyspace, Value};
use hotwarm_store::tree::{MapTree, Tree};
use hotwarm_store::{Options, SnapshotError, SnapshotWriter, State};
use hotwarm_types::{Block, BlockKind, EntryId, Epoch, Lsn, Payload, SessionId, SnapshotId};
use hotwarm_wire::crc32c;
use std::sync::Arc;

pub(super) const SNAPSHOT: Target =
    Target { name: "snapshot", run: snapshot, seeds: snapshot_seeds, memory_base_bytes: 4 << 20, ..SMALL };
pub(super) const INCOMING_RECORD: Target =
    Target { name: "incoming_record", run: incoming_record, seeds: record_seeds, ..SMALL };

/// Where the example's snapshot ends.
const AT: EntryId = EntryId { epoch: Epoch(1), lsn: Lsn(4) };
const HEADER_SIZE_BYTES: usize = 40;

/// A sealed chunk. Bits of `odd` make a field of the header wrong.
fn chunk(draw: &mut Draw<'_>, number: u64, last: bool, body: &[u8], odd: u8) -> Vec<u8> {
    let mut field = |bit: u8, right: u64| if odd >> bit & 1 == 1 { draw.u64() } else { right };
    let mut out = b"HWSC".to_vec();
    out.extend_from_slice(&[field(0, 1) as u8, field(1, last.into()) as u8, 0, 0]);
    out.extend_from_slice(&(field(2, sample::GROUP.0.into()) as u32).to_le_bytes());
    out.extend_from_slice(&(field(3, body.len() as u64) as u32).to_le_bytes());
    for number in [field(4, AT.epoch.0), field(5, AT.lsn.0), field(6, number)] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    out.extend_from_slice(body);
    let crc = crc32c(&out) ^ u32::from(odd >> 7);
    out.extend_from_slice(&crc.to_le_bytes());
    out
}

/// Chunks with these bodies: for each a byte that says what is wrong, one that says how long it is, the body. The first
/// bytes choose how many there are, and whether the copy goes on from a record that the rest of the input is.
fn snapshot(input: &[u8]) {
    let mut draw = Draw::new(input);
    let count = draw.below(6) as u64;
    let resumed = draw.below(4) == 3;
    let tree: Arc<dyn Tree> = Arc::new(MapTree::new());
    let mut writer = SnapshotWriter::new(tree.clone(), sample::GROUP, AT);
    if resumed {
        let record = draw.bytes();
        match SnapshotWriter::resume(tree.clone(), sample::GROUP, AT, record) {
            Ok(resumed) => writer = resumed,
            Err(error) => return assert_eq!(error, SnapshotError::Record),
        }
    }
    for number in 0..count {
        let (odd, size) = (draw.u8(), usize::from(draw.u16()));
        let body = draw.take(size);
        let bytes = chunk(&mut draw, writer.next(), number + 1 == count, body, odd);
        let before = (writer.next(), writer.mark());
        match writer.push(&bytes) {
            Ok(()) => assert_eq!(Some(writer.next()), before.0.checked_add(1)),
            Err(SnapshotError::Checksum | SnapshotError::Foreign | SnapshotError::OutOfOrder { .. }) => {
                assert_eq!((writer.next(), writer.mark()), before, "a chunk that was refused has changed something");
            }
            Err(error) => return assert!(!error.to_string().is_empty()),
        }
        let _ = writer.take_record();
    }
    let ended = writer.ended();
    match writer.finish() {
        Ok(at) => {
            assert!(ended && at == AT);
            opens(&tree);
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            assert!(tree.applied() < AT.lsn, "a copy that is to be thrown away looks whole");
        }
    }
}

/// What was received opens as a state, or is refused; if it opens, it can be read.
fn opens(tree: &Arc<dyn Tree>) {
    let Ok(mut state) = State::open(tree.clone(), Options { cache_size_bytes_max: 4096 }) else { return };
    let mut view = state.committed_view(50);
    let keys = view.walk(None, 1000).0;
    for key in &keys {
        let _ = view.get(key);
    }
    let _ = view.finish();
    let feeder = state.feeder();
    while feeder.count().unwrap_or(false) {}
    let _ = (feeder.digest(), state.idle_sessions(u64::MAX, 0, 10));
}

/// The first byte chooses whether the record is sealed.
fn incoming_record(input: &[u8]) {
    let mut draw = Draw::new(input);
    let sealed = draw.coin();
    let mut bytes = draw.rest().to_vec();
    if sealed {
        let crc = crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
    }
    let Some(record) = IncomingRecord::decode(&bytes) else { return };
    assert_eq!(record.encode(), bytes, "a record has one encoding");
    let tree: Arc<dyn Tree> = Arc::new(MapTree::new());
    let resumed = SnapshotWriter::resume(tree, sample::GROUP, record.at, &record.writer);
    assert!(resumed.is_ok() || matches!(resumed, Err(SnapshotError::Record)));
}

/// The bodies of a snapshot that the program makes itself.
fn example() -> Vec<u8> {
    let mut state = empty_state();
    let start = Block {
        kind: BlockKind::EpochStart,
        epoch: Epoch(1),
        first: Lsn(1),
        last: Lsn(1),
        stamp_ms: 0,
        payload: Payload::new(b""),
    };
    state.stage(&start).expect("a first block can be staged");
    let entry =
        |expires_at_ms| Entry { value: Value::String(Bytes::from_static(b"value")), expires_at_ms, version: Lsn::ZERO };
    for (key, expires_at_ms) in [("a", None), ("b", Some(900)), ("c", None)] {
        let mut execution = state.begin(10);
        execution.open_session(SessionId(7));
        execution.put(key.as_bytes(), entry(expires_at_ms));
        execution.finish(None, b"").expect("a small write can be executed");
    }
    let proposed = state.take_block().expect("something was executed");
    let last = proposed.first.plus(proposed.count - 1);
    let (kind, payload) = (BlockKind::Data, Payload::new(&proposed.payload));
    let (first, stamp_ms) = (proposed.first, proposed.stamp_ms);
    state.stage(&Block { kind, epoch: Epoch(1), first, last, stamp_ms, payload }).expect("what was proposed is staged");
    state.commit(last).expect("what is staged can be committed");
    while state.feeder().feed().expect("a tree in memory takes everything") {}
    let mut snapshot = state.feeder().snapshot(sample::GROUP).expect("a tree in memory can be pinned");
    assert_eq!(snapshot.at(), AT, "the example ends where its chunks say");
    let chunk = snapshot.chunk(0).ok().flatten().expect("a snapshot has a first chunk");
    chunk[HEADER_SIZE_BYTES..chunk.len() - 4].to_vec()
}

fn snapshot_seeds() -> Vec<Seed> {
    let body = example();
    let sized = |odd: u8, body: &[u8]| {
        let size = (body.len() as u16).to_le_bytes();
        [&[odd], &size[..], body].concat()
    };
    let (first, second) = body.split_at(body.len() / 2);
    vec![
        ("whole", led(&[1, 0], &sized(0, &body))),
        ("in two chunks", led(&[2, 0], &[sized(0, first), sized(0, second)].concat())),
        ("cut off", led(&[1, 0], &sized(0, first))),
        ("a damaged chunk", led(&[1, 0], &sized(0x80, &body))),
        ("a foreign chunk", led(&[1, 0], &sized(0x04, &body))),
        ("empty", led(&[1, 0], &sized(0, b""))),
        ("resumed", led(&[1, 3, 31], &led(&resumable(), &sized(0, &body)))),
    ]
}

/// A record of a writer that has taken nothing yet.
fn resumable() -> [u8; 29] {
    let mut record = [0; 29];
    record[0] = 1;
    record
}

fn record_seeds() -> Vec<Seed> {
    let record = IncomingRecord { number: 2, snapshot: SnapshotId(0xfe), at: AT, writer: resumable().to_vec() };
    let bytes = record.encode();
    vec![("as it is", led(&[0], &bytes)), ("sealed", led(&[1], &bytes[..bytes.len() - 4]))]
}
