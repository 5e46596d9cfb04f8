//! The replication log on disk: opening a folder after whatever happened to it, and what a cut put aside.

use super::slot::edit as edit_slots;
use super::{SMALL, led};
use crate::disk::MemoryDisk;
use crate::draw::Draw;
use crate::sample;
use crate::target::{Seed, Target};
use hotwarm_disk::Disk;
use hotwarm_log::{Log, LogOptions, Recovery, read_cut_file};
use hotwarm_types::{Block, BlockKind, ClusterId, EntryId, Epoch, Lsn};
use hotwarm_wire::crc32c;
use std::sync::{Arc, LazyLock};

pub(super) const LOG_RECOVERY: Target = Target { name: "log_recovery", run: recovery, seeds: recovery_seeds, ..FILES };
pub(super) const CUT_FILE: Target = Target { name: "cut_file", run: cut_file, seeds: cut_seeds, ..FILES };

const FILES: Target = Target { memory_base_bytes: 6 << 20, ..SMALL };
const FOLDER: &str = "log";
const MARK: &str = "log/mark";
const HEAD: &str = "log/head";
const HEADER_SIZE_BYTES: usize = 64;
const SEGMENT_HEADER_SIZE_BYTES: usize = 512;
/// Small, so that a few blocks fill several.
const SEGMENT_SIZE_BYTES: u64 = 4096;
/// Flipped bits that the checksum finds for certain.
const FLIPS_MAX: usize = 3;

fn options() -> LogOptions {
    LogOptions { segment_size_bytes: SEGMENT_SIZE_BYTES, ..LogOptions::new(sample::CLUSTER, sample::GROUP) }
}

/// A log of three segments and two epochs that was closed cleanly, and what is in it.
static EXAMPLE: LazyLock<(MemoryDisk, Vec<Block>)> = LazyLock::new(|| {
    let disk = MemoryDisk::default();
    let mut log = Log::create(Arc::new(disk.clone()), FOLDER, options()).expect("a disk in memory takes everything");
    let mut blocks = Vec::new();
    for number in 1..=9_u64 {
        let epoch = 1 + u64::from(number >= 5);
        let mut block = sample::block(epoch, number, &vec![number as u8; 900]);
        if number == 1 || number == 5 {
            block.kind = BlockKind::EpochStart;
        }
        log.append(&block).expect("a disk in memory takes everything");
        log.sync().expect("a disk in memory syncs");
        blocks.push(block);
    }
    log.close().expect("a disk in memory takes everything");
    (disk, blocks)
});

/// Puts the right checksum into the front of what is covered.
fn seal(cluster: ClusterId, covered: &mut [u8]) {
    let seeded = [&cluster.0.to_le_bytes(), &covered[4..]].concat();
    covered[..4].copy_from_slice(&crc32c(&seeded).to_le_bytes());
}

/// What a crafted record follows on.
#[derive(Clone, Copy)]
struct Follows {
    cluster: ClusterId,
    segment: u32,
    end: EntryId,
}

/// A sealed record: each field is right, or drawn, as a first byte says. A short payload is drawn.
fn record(draw: &mut Draw<'_>, follows: &mut Follows) -> Vec<u8> {
    let odd = draw.u8();
    let mut field = |bit: u8, right: u64| if odd >> bit & 1 == 1 { draw.u64() } else { right };
    let first = field(0, follows.end.lsn.0.wrapping_add(1));
    let last = field(1, first);
    let epoch = field(2, follows.end.epoch.0);
    let prev_epoch = field(3, follows.end.epoch.0);
    let segment = field(4, follows.segment.into()) as u32;
    let unsynced = field(5, 0) as u32;
    let stamp_ms = field(6, 1_000);
    let kind = if odd >> 7 == 1 { draw.u8() } else { 2 };
    let payload = draw.bytes();
    let mut bytes = vec![0; 4];
    bytes.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&[1, kind, 0, 0]);
    bytes.extend_from_slice(&sample::GROUP.0.to_le_bytes());
    bytes.extend_from_slice(&segment.to_le_bytes());
    bytes.extend_from_slice(&unsynced.to_le_bytes());
    for number in [epoch, prev_epoch, first, last, stamp_ms] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    bytes.extend_from_slice(payload);
    seal(follows.cluster, &mut bytes);
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    follows.end = EntryId { epoch: Epoch(epoch), lsn: Lsn(last) };
    bytes
}

/// Where the records of a segment lie, by what they claim, and where the last one ends.
fn places(segment: &[u8]) -> Vec<usize> {
    let mut places = vec![SEGMENT_HEADER_SIZE_BYTES];
    let mut at = SEGMENT_HEADER_SIZE_BYTES;
    while let Some(header) = segment.get(at..at + HEADER_SIZE_BYTES)
        && header[8] == 1
    {
        let payload = header.get(4..8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_le_bytes);
        at += (HEADER_SIZE_BYTES + payload as usize).next_multiple_of(8);
        places.push(at);
    }
    places
}

/// Overwrites a part of a segment, from the place of a record or the file's beginning on, and seals what was changed.
fn edit_segment(draw: &mut Draw<'_>, disk: &MemoryDisk, name: &str) {
    let how = draw.u8();
    disk.edit(name, |content| {
        let mut bytes = content.range(0, content.size_bytes as usize);
        let places = places(&bytes);
        let place = if how & 1 == 1 { 0 } else { places[usize::from(how >> 1) % places.len()] };
        let at = place + usize::from(draw.u8());
        let new = draw.bytes();
        let end = (at + new.len()).min(bytes.len());
        if at < end {
            bytes[at..end].copy_from_slice(&new[..end - at]);
        }
        let covered = if place == 0 { HEADER_SIZE_BYTES } else { HEADER_SIZE_BYTES + claimed(&bytes, place) };
        if let Some(covered) = bytes.get_mut(place..place + covered) {
            seal(sample::CLUSTER, covered);
        }
        content.overwrite(0, &bytes);
    });
}

/// The size of payload that the record at a place claims.
fn claimed(bytes: &[u8], place: usize) -> usize {
    let field = bytes.get(place + 4..place + 8).and_then(|bytes| bytes.try_into().ok());
    field.map_or(0, |field| u32::from_le_bytes(field) as usize)
}

/// Writes crafted records at the place of one, where the example's own would be.
fn craft(draw: &mut Draw<'_>, disk: &MemoryDisk, name: &str) {
    let from = draw.u8();
    let number = name.trim_start_matches("log/").trim_end_matches(".log").parse().unwrap_or(0);
    disk.edit(name, |content| {
        let bytes = content.range(0, content.size_bytes as usize);
        let places = places(&bytes);
        let index = usize::from(from) % places.len();
        let before = if index == 0 { base(&bytes) } else { end_of(&bytes, places[index - 1]) };
        let mut follows = Follows { cluster: sample::CLUSTER, segment: number, end: before };
        let mut at = places[index];
        for _ in 0..=draw.below(3) {
            let record = record(draw, &mut follows);
            content.overwrite(at, &record);
            at += record.len();
        }
    });
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes)
}

/// The entry before the first of a segment, by its header.
fn base(segment: &[u8]) -> EntryId {
    EntryId { epoch: Epoch(u64_at(segment, 40)), lsn: Lsn(u64_at(segment, 48)) }
}

/// The last entry of the record at a place.
fn end_of(segment: &[u8], place: usize) -> EntryId {
    EntryId { epoch: Epoch(u64_at(segment, place + 24)), lsn: Lsn(u64_at(segment, place + 48)) }
}

/// Does to a folder what the input says. True if all it did was to flip a few single bits, of anything but the mark.
fn damage(draw: &mut Draw<'_>, disk: &MemoryDisk) -> bool {
    let (mut flips, mut else_than_flips) = (0, false);
    for _ in 0..draw.below(8) {
        let names = disk.names();
        let Some(name) = names.get(draw.below(names.len().max(1))) else { break };
        let how = draw.below(8);
        match how {
            0 => {
                let at = usize::from(draw.u16());
                disk.edit(name, |content| {
                    let at = at % content.bytes.len().max(1);
                    let byte = content.range(at, 1)[0];
                    content.overwrite(at, &[byte ^ 1 << (at & 7)]);
                });
                flips += 1;
                else_than_flips |= name == MARK;
            }
            1 => edit_segment(draw, disk, name),
            2 => craft(draw, disk, name),
            3 => drop(edit_slots(draw, disk, HEAD)),
            4 => disk.edit(name, |content| {
                let new = draw.bytes();
                content.overwrite(usize::from(draw.u16()), new);
            }),
            5 => {
                let size_bytes = u64::from(draw.u16()) * 8;
                disk.edit(name, |content| {
                    content.bytes.truncate(size_bytes as usize);
                    content.size_bytes = size_bytes;
                });
            }
            6 => drop(disk.remove(name)),
            _ => {
                let bytes = disk.edit(name, |content| content.range(0, content.size_bytes as usize));
                disk.put(&format!("log/{:010}.log", draw.below(6)), &bytes);
            }
        }
        else_than_flips |= how != 0;
        if !disk.names().iter().any(|name| name == HEAD) {
            return false;
        }
    }
    !else_than_flips && flips <= FLIPS_MAX
}

fn open(disk: &MemoryDisk) -> Result<(Log, Recovery), hotwarm_log::OpenError> {
    Log::open(Arc::new(disk.clone()), FOLDER, options())
}

/// The blocks that can be read, from the first on; damage of an older segment shows only here.
fn read_all(log: &Log) -> Vec<Block> {
    let reader = log.reader();
    let (mut at, end) = (log.floor(), log.end());
    let mut all = Vec::new();
    while at.lsn < end.lsn {
        match reader.read(at.lsn.next(), 1 << 20) {
            Ok(blocks) => {
                assert!(!blocks.is_empty(), "nothing is read after {at}, the log ends at {end}");
                for block in blocks {
                    assert_eq!(block.first.0, at.lsn.0 + 1, "blocks follow on each other");
                    assert!(block.last >= block.first && block.epoch >= at.epoch);
                    at = block.end();
                    all.push(block);
                }
            }
            Err(error) => {
                assert!(!error.to_string().is_empty());
                break;
            }
        }
    }
    all
}

fn recovery(input: &[u8]) {
    let (example, blocks) = &*EXAMPLE;
    let disk = example.fork();
    let mut draw = Draw::new(input);
    let only_flips = damage(&mut draw, &disk);
    let (log, recovery) = match open(&disk) {
        Ok(opened) => opened,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    assert_eq!((log.floor(), log.end(), log.durable()), (recovery.floor, recovery.end, recovery.end));
    let read = read_all(&log);
    if only_flips {
        assert_eq!(Some(recovery.end), blocks.last().map(Block::end), "flipped bits took away what was durable");
        assert!(read.iter().eq(blocks.iter().take(read.len())), "flipped bits changed what was durable");
    }
    drop(log);
    let (mut log, again) = open(&disk).expect("what has opened opens again");
    let settled = Recovery { torn_bytes: 0, cut_finished: false, rewritten_bytes: again.rewritten_bytes, ..recovery };
    assert_eq!(again, settled, "the second opening finds something else");
    assert_eq!(read_all(&log), read);
    goes_on(&disk, &mut log, settled.end);
}

/// The log can be appended to, and what was appended is there when it is opened again.
fn goes_on(disk: &MemoryDisk, log: &mut Log, end: EntryId) {
    // Only some inputs, since opening takes most of the time.
    if end.lsn.0 == u64::MAX || end.lsn.0 & 1 == 0 {
        return;
    }
    let block = sample::block(end.epoch.0, end.lsn.0 + 1, b"next");
    if log.append(&block).is_err() {
        return;
    }
    let Ok(durable) = log.sync() else { return };
    assert_eq!(durable, block.end());
    let (log, again) = open(disk).expect("what was appended to opens");
    assert_eq!(again.end, durable, "what was reported durable is not there");
    let last = log.reader().read(durable.lsn, 1 << 20).expect("what was appended is read");
    assert_eq!(last, [block]);
}

/// A header whose fields are drawn, or follow on what is crafted after it; then crafted records; then bytes as they are.
fn cut_file(input: &[u8]) {
    let mut draw = Draw::new(input);
    let lead = draw.u8();
    let mut follows = Follows {
        cluster: sample::CLUSTER,
        segment: 1,
        end: EntryId { epoch: Epoch(draw.u8().into()), lsn: Lsn(draw.u8().into()) },
    };
    let after = follows.end;
    let mut records = Vec::new();
    for _ in 0..lead & 7 {
        records.extend_from_slice(&record(&mut draw, &mut follows));
    }
    let last = if lead & 8 == 0 { follows.end } else { EntryId { epoch: Epoch(draw.u64()), lsn: Lsn(draw.u64()) } };
    let mut bytes = vec![0; 4];
    bytes.extend_from_slice(b"CUTS");
    bytes.extend_from_slice(&[if lead & 16 == 0 { 1 } else { draw.u8() }, 0, 0, 0]);
    bytes.extend_from_slice(&sample::GROUP.0.to_le_bytes());
    bytes.extend_from_slice(&sample::CLUSTER.0.to_le_bytes());
    for entry in [after, last] {
        bytes.extend_from_slice(&entry.epoch.0.to_le_bytes());
        bytes.extend_from_slice(&entry.lsn.0.to_le_bytes());
    }
    if lead & 32 == 0 {
        seal(ClusterId(0), &mut bytes);
    }
    bytes.extend_from_slice(&records);
    bytes.extend_from_slice(draw.rest());
    let disk = MemoryDisk::default();
    disk.put("cut", &bytes);
    match read_cut_file(&disk, "cut") {
        Ok(cut) => {
            assert_eq!((cut.cluster, cut.group, cut.after), (sample::CLUSTER, sample::GROUP, after));
            let end = cut.blocks.iter().fold(after, |end, block| {
                assert_eq!(Some(block.first.0), end.lsn.0.checked_add(1), "blocks follow on each other");
                block.end()
            });
            assert_eq!(end, last);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// Names are in this order: the segments 1 to 3, the head, the mark.
fn recovery_seeds() -> Vec<Seed> {
    let names = EXAMPLE.0.names();
    let index = |name: &str| names.iter().position(|known| known == name).unwrap_or(0) as u8;
    let last = names.iter().rposition(|name| name.ends_with(".log")).unwrap_or(0) as u8;
    vec![
        ("untouched", vec![0]),
        ("a flip in a record", vec![1, last, 0, 0x50, 2]),
        ("a flip in an older segment", vec![1, 0, 0, 0x50, 2]),
        ("a flip in the head", vec![1, index(HEAD), 0, 0x50, 0]),
        ("no mark, a flip in the last record", vec![2, index(MARK), 6, last, 0, 0x50, 2]),
        ("sealed: a record's last position", led(&[1, last, 1, 0, 48, 8], &u64::MAX.to_le_bytes())),
        ("sealed: a segment's base", led(&[1, last, 1, 1, 48, 8], &5_u64.to_le_bytes())),
        ("sealed: the head", led(&[1, 0, 3, 1, 0b001, 56, 0, 4], &9_u32.to_le_bytes())),
        ("crafted records", vec![1, last, 2, 1, 2, 0, 3, 1, 2, 3, 0, 0, 0, 0]),
        ("a segment is gone", vec![1, 0, 6]),
        ("a segment is cut short", vec![1, last, 5, 64, 0]),
        ("a segment takes another's place", vec![1, 0, 7, 3]),
    ]
}

fn cut_seeds() -> Vec<Seed> {
    vec![
        ("empty", vec![0, 2, 5]),
        ("two blocks", vec![2, 2, 5, 0, 3, 1, 2, 3, 0, 2, 4, 5]),
        ("another end", vec![9, 2, 5, 0, 1, 7, 2, 0, 0, 0, 0, 0, 0, 0, 6]),
        ("a newer format", vec![16, 2, 5, 9]),
        ("a broken chain", led(&[2, 2, 5, 0, 1, 7, 1], &9_u64.to_le_bytes())),
        ("bytes as they are", led(&[8, 2, 5], b"garbage")),
    ]
}
