//! Full sync: a copy of one moment while writes go on, resumed, broken and abused.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

mod common;

use bytes::Bytes;
use common::{Dice, Log, open, put, settle, string, text};
use hotwarm_store::keyspace::{Entry, Keyspace};
use hotwarm_store::limits::{CHUNK_SIZE_BYTES_MAX, LOAD_SIZE_BYTES, VALUE_SIZE_BYTES_MAX};
use hotwarm_store::tree::{LsmTree, MapTree, Tree};
use hotwarm_store::{Identity, OpenError, Options, SessionAnswer, Snapshot, SnapshotError, SnapshotWriter, State};
use hotwarm_types::{EntryId, Epoch, GroupId, Lsn, SessionId};
use std::sync::Arc;

const GROUP: GroupId = GroupId(3);
const SESSION: SessionId = SessionId(9);

/// A state with a bit of everything.
fn filled(count: u64) -> (Log, State) {
    let mut state = open(&MapTree::new());
    let mut log = Log::default();
    state.stage(&log.start_epoch()).unwrap();
    put(&mut state, 1_000, "before the clear", "x");
    let mut execution = state.begin(1_000);
    execution.clear();
    execution.open_session(SESSION);
    execution.finish(None, b"").unwrap();
    for number in 0..count {
        put(&mut state, 1_000, format!("key {number:06}"), format!("value {number}"));
    }
    let mut execution = state.begin(1_000);
    execution.put(b"soon gone", Entry { expires_at_ms: Some(2_000), ..string("v") });
    execution.finish(Some(Identity { session: SESSION, sequence: 1 }), b"+OK\r\n").unwrap();
    settle(&mut log, &mut state);
    state.stage(&log.start_epoch()).unwrap();
    state.commit(log.end()).unwrap();
    (log, state)
}

/// A state of more than one load: most chunks of it end within a row, and most rows lie in many chunks.
fn filled_large(count: u8) -> (Log, State) {
    let (mut log, mut state) = filled(1_000);
    for number in 0..count {
        put(&mut state, 1_000, format!("large {number:02}"), vec![number; (4 << 20) + usize::from(number)]);
    }
    settle(&mut log, &mut state);
    (log, state)
}

fn chunks(snapshot: &mut Snapshot) -> Vec<Vec<u8>> {
    (0..).map_while(|number| snapshot.chunk(number).unwrap()).collect()
}

fn receive(tree: &Arc<dyn Tree>, at: EntryId, chunks: &[Vec<u8>]) -> Result<EntryId, SnapshotError> {
    let mut writer = SnapshotWriter::new(tree.clone(), GROUP, at);
    for chunk in chunks {
        writer.push(chunk)?;
    }
    writer.finish()
}

#[test]
fn a_copy_is_one_moment_however_much_is_written_meanwhile() {
    let (mut log, mut state) = filled(20_000);
    let digest = state.feeder().digest().unwrap();
    let mut snapshot = state.feeder().snapshot(GROUP).unwrap();
    assert_eq!(snapshot.at(), state.committed());
    assert_eq!(snapshot.epochs(), state.epochs());
    let folder = tempfile::tempdir().unwrap();
    let tree: Arc<dyn Tree> = Arc::new(LsmTree::open(folder.path(), 1 << 20).unwrap());
    let mut writer = SnapshotWriter::new(tree.clone(), GROUP, snapshot.at());
    let mut dice = Dice(1);
    let mut number = 0;
    while let Some(chunk) = snapshot.chunk(number).unwrap() {
        assert!(chunk.len() <= CHUNK_SIZE_BYTES_MAX);
        writer.push(&chunk).unwrap();
        for _ in 0..100 {
            let key = format!("key {:06}", dice.roll(40_000));
            put(&mut state, 1_500, key, "written meanwhile");
        }
        if number == 1 {
            let mut execution = state.begin(1_500);
            execution.clear();
            execution.finish(None, b"").unwrap();
        }
        settle(&mut log, &mut state);
        state.feeder().feed().unwrap();
        state.feeder().flush().unwrap();
        state.feeder().maintain().unwrap();
        number += 1;
    }
    assert!(number > 2 && writer.ended());
    let at = writer.finish().unwrap();
    let mut copy = State::open(tree, Options::default()).unwrap();
    assert_eq!(copy.applied(), at.lsn);
    assert_eq!(copy.feeder().digest().unwrap(), digest);
    assert_eq!(copy.committed_view(1_000).len(), 20_001);
    assert_eq!(copy.next_expiry_ms(), 0, "it has not looked yet");
    while copy.feeder().count().unwrap() {}
    assert_eq!((copy.feeder().key_counts().keys, copy.feeder().key_counts().expiring), (20_001, 1));
    let done = SessionAnswer::Done { reply: Bytes::from_static(b"+OK\r\n") };
    assert_eq!(copy.session(Identity { session: SESSION, sequence: 1 }), done);
    log.replay(&mut copy);
    copy.commit(log.end()).unwrap();
    assert_eq!(copy.feeder().digest().unwrap(), state.feeder().digest().unwrap());
    assert_eq!(copy.epochs(), state.epochs());
}

#[test]
fn any_chunk_can_be_sent_again_and_values_may_be_longer_than_one() {
    let (mut log, mut state) = filled(10);
    for (key, size) in [("large", VALUE_SIZE_BYTES_MAX), ("larger than a chunk", CHUNK_SIZE_BYTES_MAX), ("empty", 0)] {
        put(&mut state, 1_000, key, vec![b'x'; size]);
    }
    settle(&mut log, &mut state);
    let mut snapshot = state.feeder().snapshot(GROUP).unwrap();
    assert_eq!(snapshot.chunk(1), Err(SnapshotError::NotMade { number: 1 }));
    let first = chunks(&mut snapshot);
    assert!(first.len() > VALUE_SIZE_BYTES_MAX / CHUNK_SIZE_BYTES_MAX);
    for number in [3, 0, first.len() as u64 - 1, 7] {
        assert_eq!(snapshot.chunk(number).unwrap().as_ref(), Some(&first[number as usize]), "chunk {number}");
    }
    let tree: Arc<dyn Tree> = Arc::new(MapTree::new());
    receive(&tree, snapshot.at(), &first).unwrap();
    let mut copy = State::open(tree, Options::default()).unwrap();
    assert_eq!(copy.feeder().digest().unwrap(), state.feeder().digest().unwrap());
    let size = text(copy.committed_view(1_000).get(b"large")).map(|text| text.len());
    assert_eq!(size, Some(VALUE_SIZE_BYTES_MAX));
}

/// Takes a copy through crashes after these chunks: each loses what was not loaded, and goes on where the last record
/// says. The pushes that it took in all.
fn receive_with_crashes(
    mut tree: Arc<dyn Tree>,
    reopen: impl Fn(Arc<dyn Tree>) -> Arc<dyn Tree>,
    snapshot: &Snapshot,
    sent: &[Vec<u8>],
    mut crashes: Vec<u64>,
) -> (State, u64) {
    let begin = |tree: &Arc<dyn Tree>, record: Option<&Vec<u8>>| match record {
        Some(record) => SnapshotWriter::resume(tree.clone(), GROUP, snapshot.at(), record).unwrap(),
        None => SnapshotWriter::new(tree.clone(), GROUP, snapshot.at()),
    };
    let mut record: Option<Vec<u8>> = None;
    let mut pushes = 0;
    let mut writer = begin(&tree, None);
    while !writer.ended() {
        assert_eq!(snapshot.mark(writer.next()), Some(writer.mark()), "what both sides hold to be sent");
        writer.push(&sent[usize::try_from(writer.next()).unwrap()]).unwrap();
        record = writer.take_record().or(record);
        pushes += 1;
        if crashes.contains(&writer.next()) {
            crashes.retain(|at| *at != writer.next());
            let was = writer.next();
            drop(writer);
            tree = reopen(tree);
            assert_eq!(State::open(tree.clone(), Options::default()).unwrap_err(), OpenError::Incomplete);
            writer = begin(&tree, record.as_ref());
            let lost = was - writer.next();
            assert!(lost * CHUNK_SIZE_BYTES_MAX as u64 <= (LOAD_SIZE_BYTES + VALUE_SIZE_BYTES_MAX) as u64, "{lost}");
        }
    }
    assert_eq!(writer.finish(), Ok(snapshot.at()));
    (State::open(tree, Options::default()).unwrap(), pushes)
}

#[test]
fn a_copy_goes_on_after_a_crash_from_what_was_loaded() {
    let (log, state) = filled_large(24);
    let mut snapshot = state.feeder().snapshot(GROUP).unwrap();
    let sent = chunks(&mut snapshot);
    let total = sent.len() as u64;
    assert_eq!(snapshot.mark(total).unwrap().size_bytes, sent.iter().map(|chunk| chunk.len() as u64).sum::<u64>());
    assert_eq!(snapshot.mark(total + 1), None);
    let digest = state.feeder().digest().unwrap();
    // Before and after each load, which takes 128 chunks or a row more, and near the end.
    let crashes = vec![140, 141, 148, 200, 281, 295, total - 1];
    let folder = tempfile::tempdir().unwrap();
    let open_lsm = || -> Arc<dyn Tree> { Arc::new(LsmTree::open(folder.path(), 1 << 20).unwrap()) };
    let reopen = |tree: Arc<dyn Tree>| {
        assert_eq!(Arc::strong_count(&tree), 1, "the folder is not open twice");
        drop(tree);
        open_lsm()
    };
    let (mut copy, pushes) = receive_with_crashes(open_lsm(), reopen, &snapshot, &sent, crashes.clone());
    assert_eq!(copy.feeder().digest().unwrap(), digest);
    assert!(pushes > total && pushes < total + 7 * 150, "{pushes} of {total}");
    log.replay(&mut copy);
    assert_eq!(copy.epochs(), state.epochs());
}

#[test]
fn a_copy_that_was_whole_and_not_in_use_yet_can_be_ended_again() {
    let (_, state) = filled_large(9);
    let mut snapshot = state.feeder().snapshot(GROUP).unwrap();
    let sent = chunks(&mut snapshot);
    let map = MapTree::new();
    let tree: Arc<dyn Tree> = Arc::new(map.clone());
    let mut writer = SnapshotWriter::new(tree, GROUP, snapshot.at());
    let mut record = None;
    for chunk in &sent {
        writer.push(chunk).unwrap();
        record = writer.take_record().or(record);
    }
    writer.finish().unwrap();
    let tree: Arc<dyn Tree> = Arc::new(map.crash());
    let mut writer = SnapshotWriter::resume(tree.clone(), GROUP, snapshot.at(), &record.unwrap()).unwrap();
    assert!(writer.next() > 0 && !writer.ended());
    while !writer.ended() {
        writer.push(&sent[usize::try_from(writer.next()).unwrap()]).unwrap();
    }
    writer.finish().unwrap();
    let copy = State::open(tree, Options::default()).unwrap();
    assert_eq!(copy.feeder().digest().unwrap(), state.feeder().digest().unwrap());
}

/// The last chunk here is also the one with which enough rows have come for a load.
#[test]
fn a_record_always_leaves_a_chunk_to_ask_for() {
    let (_, state) = filled_large(16);
    let mut snapshot = state.feeder().snapshot(GROUP).unwrap();
    let sent = chunks(&mut snapshot);
    let map = MapTree::new();
    let mut writer = SnapshotWriter::new(Arc::new(map.clone()), GROUP, snapshot.at());
    let (mut record, mut loaded) = (None, Vec::new());
    for chunk in &sent {
        let before = map.size_bytes();
        writer.push(chunk).unwrap();
        record = writer.take_record().or(record);
        if map.size_bytes() > before {
            loaded.push(writer.next());
        }
    }
    assert_eq!(loaded.last(), Some(&(sent.len() as u64)), "the last chunk brought a load");
    drop(writer);
    let tree: Arc<dyn Tree> = Arc::new(map.crash());
    let mut writer = SnapshotWriter::resume(tree.clone(), GROUP, snapshot.at(), &record.unwrap()).unwrap();
    assert_eq!(Some(&writer.next()), loaded.first());
    while !writer.ended() {
        writer.push(&sent[usize::try_from(writer.next()).unwrap()]).unwrap();
    }
    writer.finish().unwrap();
    let copy = State::open(tree, Options::default()).unwrap();
    assert_eq!(copy.feeder().digest().unwrap(), state.feeder().digest().unwrap());
}

#[test]
fn a_record_that_is_cut_or_longer_is_refused() {
    let (_, state) = filled_large(9);
    let mut snapshot = state.feeder().snapshot(GROUP).unwrap();
    let sent = chunks(&mut snapshot);
    let mut writer = SnapshotWriter::new(Arc::new(MapTree::new()), GROUP, snapshot.at());
    assert_eq!(writer.take_record(), None, "nothing is durable yet");
    let record = sent.iter().find_map(|chunk| {
        writer.push(chunk).unwrap();
        writer.take_record()
    });
    let record = record.expect("more than one load");
    assert_eq!(writer.take_record(), None, "nothing more is durable");
    let resume = |record: &[u8]| {
        SnapshotWriter::resume(Arc::new(MapTree::new()), GROUP, snapshot.at(), record).map(|writer| writer.next())
    };
    assert_eq!(resume(&record), Ok(writer.next()));
    for size in (0..record.len()).step_by(1 + record.len() / 500) {
        assert_eq!(resume(&record[..size]), Err(SnapshotError::Record), "cut at {size}");
    }
    assert_eq!(resume(&[&record[..], b"x"].concat()), Err(SnapshotError::Record));
}

#[test]
fn the_state_before_the_first_entry_can_be_copied_too() {
    let state = open(&MapTree::new());
    let mut snapshot = state.feeder().snapshot(GROUP).unwrap();
    let sent = chunks(&mut snapshot);
    assert_eq!(sent.len(), 1);
    let tree: Arc<dyn Tree> = Arc::new(MapTree::new());
    assert_eq!(receive(&tree, snapshot.at(), &sent), Ok(EntryId::default()));
    assert_eq!(State::open(tree, Options::default()).unwrap().committed(), EntryId::default());
}

#[test]
fn a_copy_that_did_not_end_is_no_state() {
    let (_, state) = filled(10_000);
    let mut snapshot = state.feeder().snapshot(GROUP).unwrap();
    let sent = chunks(&mut snapshot);
    let tree: Arc<dyn Tree> = Arc::new(MapTree::new());
    assert_eq!(receive(&tree, snapshot.at(), &sent[..sent.len() - 1]), Err(SnapshotError::Incomplete));
    // As if it had stopped after some rows were loaded.
    let rows = vec![(Bytes::from_static(b"k12345678x"), Bytes::from_static(b"y"))];
    tree.load(&rows).unwrap();
    assert_eq!(State::open(tree, Options::default()).unwrap_err(), OpenError::Incomplete);
}

#[test]
fn chunks_out_of_order_or_of_another_snapshot_change_nothing() {
    let (_, state) = filled(10_000);
    let mut snapshot = state.feeder().snapshot(GROUP).unwrap();
    let at = snapshot.at();
    let sent = chunks(&mut snapshot);
    let tree: Arc<dyn Tree> = Arc::new(MapTree::new());
    let mut writer = SnapshotWriter::new(tree.clone(), GROUP, at);
    assert_eq!(writer.push(&sent[1]), Err(SnapshotError::OutOfOrder { expected: 0, got: 1 }));
    writer.push(&sent[0]).unwrap();
    assert_eq!(writer.push(&sent[0]), Err(SnapshotError::OutOfOrder { expected: 1, got: 0 }));
    let mut broken = sent[1].clone();
    broken[100] ^= 1;
    assert_eq!(writer.push(&broken), Err(SnapshotError::Checksum));
    let mut other = state.feeder().snapshot(GroupId(4)).unwrap();
    other.chunk(0).unwrap();
    assert_eq!(writer.push(&other.chunk(1).unwrap().unwrap()), Err(SnapshotError::Foreign));
    for chunk in &sent[1..] {
        writer.push(chunk).unwrap();
    }
    assert_eq!(writer.next(), sent.len() as u64);
    writer.finish().unwrap();
    let later = EntryId { epoch: at.epoch, lsn: at.lsn.next() };
    let mut writer = SnapshotWriter::new(tree, GROUP, later);
    assert_eq!(writer.push(&sent[0]), Err(SnapshotError::Foreign));
}

#[test]
fn no_flipped_or_missing_byte_is_taken_for_a_chunk() {
    let (_, state) = filled(3);
    let mut snapshot = state.feeder().snapshot(GROUP).unwrap();
    let whole = snapshot.chunk(0).unwrap().unwrap();
    let push = |bytes: &[u8]| {
        let tree: Arc<dyn Tree> = Arc::new(MapTree::new());
        SnapshotWriter::new(tree, GROUP, snapshot.at()).push(bytes)
    };
    assert_eq!(push(&whole), Ok(()));
    for index in 0..whole.len() {
        let mut broken = whole.clone();
        broken[index] ^= 0x20;
        assert!(push(&broken).is_err(), "byte {index}");
        assert!(push(&whole[..index]).is_err(), "cut at {index}");
    }
    assert!(push(&vec![0; CHUNK_SIZE_BYTES_MAX + 1]).is_err());
}

#[test]
fn the_bytes_of_a_chunk_are_pinned() {
    let mut state = open(&MapTree::new());
    let mut log = Log::default();
    state.stage(&log.start_epoch()).unwrap();
    put(&mut state, 1_000, "k", "v");
    settle(&mut log, &mut state);
    let mut snapshot = state.feeder().snapshot(GROUP).unwrap();
    let chunk = snapshot.chunk(0).unwrap().unwrap();
    let mut expected = b"HWSC\x01\x01\0\0\x03\0\0\0".to_vec();
    expected.extend(93_u32.to_le_bytes());
    for number in [1_u64, 2, 0] {
        expected.extend(number.to_le_bytes());
    }
    expected.extend(b"\x09\x08e\0\0\0\0\0\0\0\x01\x01\0\0\0\0\0\0\0");
    expected.extend(b"\x0a\x12k\0\0\0\0\0\0\0\0k\x01\x02\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0v");
    expected.extend(b"\x01\x29m\x01");
    for number in [1_u64, 2, 1_000, 0, 1] {
        expected.extend(number.to_le_bytes());
    }
    assert_eq!(&chunk[..chunk.len() - 4], expected);
    assert_eq!(snapshot.chunk(1).unwrap(), None);
    assert_eq!(snapshot.at(), EntryId { epoch: Epoch(1), lsn: Lsn(2) });
}
