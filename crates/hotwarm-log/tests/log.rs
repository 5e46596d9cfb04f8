//! The log as its users see it: what is appended is read, cut, reset, dropped and found again.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use hotwarm_disk::{Call, Crash, Disk, Fault, FaultDisk, FaultError, OsDisk};
use hotwarm_log::{Keep, Log, LogError, LogOptions, OpenError, ReadError, read_cut_file};
use hotwarm_types::{BlockKind, ClusterId, EntryId, Epoch, GroupId, Lsn};
use std::sync::Arc;
use support::{FOLDER, Model, Random, append, contents, create, large, open, options, shared};

fn entry(epoch: u64, lsn: u64) -> EntryId {
    EntryId { epoch: Epoch(epoch), lsn: Lsn(lsn) }
}

/// A log of 60 blocks of two positions each, over about ten segments, in epochs 1 and 2; all durable.
fn filled(disk: &FaultDisk) -> (Log, Model) {
    let (mut log, mut model) = (create(disk), Model::new());
    for n in 0..60u8 {
        append(&mut log, &mut model, 1 + u64::from(n / 40), 2, &vec![n; 500]);
        log.sync().unwrap();
    }
    (log, model)
}

#[test]
fn what_is_appended_is_read_before_and_after_it_is_durable() {
    let disk = FaultDisk::new(1);
    let (mut log, mut model) = (create(&disk), Model::new());
    append(&mut log, &mut model, 1, 1, b"start");
    append(&mut log, &mut model, 1, 3, b"three writes");
    assert_eq!(contents(&log), model);
    assert_eq!(model.blocks[0].kind, BlockKind::EpochStart);
    assert_eq!(log.durable(), entry(0, 0));
    assert_eq!(log.sync().unwrap(), entry(1, 4));
    assert_eq!(contents(&log), model);
    disk.crash(Crash::Lost);
    let (log, recovery) = open(&disk).unwrap();
    assert_eq!(contents(&log), model);
    assert_eq!((recovery.end, recovery.floor, recovery.torn_bytes), (entry(1, 4), entry(0, 0), 0));
    assert_eq!((recovery.stamp_ms, recovery.epochs), (1_002, vec![(Epoch(1), Lsn(1))]));
}

#[test]
fn a_batch_costs_one_write_and_one_sync() {
    let disk = FaultDisk::new(1);
    let options = LogOptions { segment_size_bytes: 1 << 20, ..options() };
    let mut log = Log::create(shared(&disk), FOLDER, options).unwrap();
    let mut model = Model::new();
    let before = (disk.calls_of(Call::WriteAt), disk.calls_of(Call::SyncData), disk.calls());
    for n in 0..200 {
        append(&mut log, &mut model, 1, 1, &[n; 100]);
    }
    log.sync().unwrap();
    // The second write is the durable mark, which is not synced.
    assert_eq!(disk.calls_of(Call::WriteAt) - before.0, 2);
    assert_eq!(disk.calls_of(Call::SyncData) - before.1, 1);
    assert_eq!(disk.calls() - before.2, 3);
    log.sync().unwrap();
    assert_eq!(disk.calls() - before.2, 3, "nothing to sync");
}

/// Random operations against the model, with restarts and crashes in between.
#[test]
fn random_histories_agree_with_the_model() {
    for seed in 0..40 {
        let disk = FaultDisk::new(seed);
        let mut random = Random(seed);
        let (mut log, mut model, mut epoch) = (create(&disk), Model::new(), 1);
        for _ in 0..120 {
            match random.below(20) {
                0..=9 => {
                    epoch += u64::from(random.below(8) == 0);
                    let (count, size) = (1 + random.below(3), random.below(900) as usize);
                    append(&mut log, &mut model, epoch, count, &random.bytes(size));
                }
                10..=13 => assert_eq!(log.sync().unwrap(), model.end()),
                14 => {
                    let at = random.below(model.blocks.len() as u64 + 1) as usize;
                    let last = model.prefix(at).end().lsn;
                    log.cut(last).unwrap();
                    model.cut(last);
                    epoch += 1;
                }
                15 => {
                    let needed = Lsn(random.below(model.end().lsn.0 + 1));
                    let keep = Keep { size_bytes: 4096 * random.below(5), since_ms: 0 };
                    log.retain_after(needed, keep).unwrap();
                    assert!(log.floor().lsn <= needed.max(model.floor.lsn));
                    model.drop_front(log.floor());
                }
                16 if random.below(4) == 0 => {
                    let at = entry(epoch, model.end().lsn.0 + 5);
                    let table = [(Epoch(epoch), Lsn(at.lsn.0 - 1))];
                    log.reset(at, &table).unwrap();
                    model.reset(at, &table);
                }
                17 | 18 => {
                    if random.below(2) == 0 {
                        log.sync().unwrap();
                        disk.crash(Crash::Lost);
                    } else {
                        log.close().unwrap();
                    }
                    let recovery;
                    (log, recovery) = open(&disk).unwrap();
                    assert_eq!((recovery.end, recovery.torn_bytes), (model.end(), 0));
                }
                _ => drop(log.ahead().prepare().unwrap()),
            }
            assert_eq!(log.end(), model.end());
        }
        assert_eq!(contents(&log), model, "seed {seed}");
    }
}

#[test]
fn reads_start_at_blocks_and_are_bounded() {
    let disk = FaultDisk::new(1);
    let (log, model) = filled(&disk);
    let reader = log.reader();
    for (at, block) in model.blocks.iter().enumerate() {
        assert_eq!(reader.read(block.first, 0).unwrap(), model.blocks[at..=at], "at least one");
        let few = reader.read(block.first, 3 * 564).unwrap();
        assert_eq!(few, model.blocks[at..model.blocks.len().min(at + 3)]);
        let inside = reader.read(block.last, 100).unwrap_err();
        assert!(matches!(inside, ReadError::InsideBlock { block_first, .. } if block_first == block.first), "{inside}");
    }
    assert_eq!(reader.read(Lsn(1), u64::MAX).unwrap(), model.blocks);
    for outside in [0, 121, 122, u64::MAX] {
        assert!(reader.read(Lsn(outside), 100).unwrap().is_empty(), "{outside}");
    }
}

/// A segment is replaced by one of the same name and place whose entries are of another epoch: each record is intact,
/// and they are not what the next segment follows on.
#[test]
fn a_segment_that_the_next_one_does_not_follow_on_is_never_read_to_its_end() {
    let first_segment = |epoch| {
        let disk = FaultDisk::new(1);
        let (mut log, mut model) = (create(&disk), Model::new());
        for n in 0..20u8 {
            append(&mut log, &mut model, epoch, 2, &[n; 500]);
            log.sync().unwrap();
        }
        let names = disk.list(FOLDER).unwrap();
        let name = names.iter().find(|name| name.ends_with(".log")).unwrap();
        (format!("{FOLDER}/{name}"), disk)
    };
    let ((path, disk), (other_path, other)) = (first_segment(1), first_segment(2));
    assert_eq!(path, other_path);
    disk.put(&path, &other.bytes(&path).unwrap());
    let (log, _) = open(&disk).unwrap();
    let reader = log.reader();
    for bytes_max in [1, 600, 1 << 20] {
        let mut from = Lsn(1);
        let error = loop {
            match reader.read(from, bytes_max) {
                Ok(blocks) => from = blocks.last().expect("the log goes on").last.next(),
                Err(error) => break error,
            }
        };
        assert!(error.to_string().contains("not those that the next one follows on"), "{error}");
    }
}

#[test]
fn a_cut_puts_the_suffix_aside() {
    let disk = FaultDisk::new(1);
    let (mut log, mut model) = filled(&disk);
    let whole = model.clone();
    assert!(matches!(
        log.cut(Lsn(11)),
        Err(LogError::CutInsideBlock { block_first: Lsn(11), block_last: Lsn(12), .. })
    ));
    assert!(matches!(log.cut(Lsn(121)), Err(LogError::CutOutside { end: Lsn(120), .. })));
    for last in [120, 90, 40, 10, 0] {
        let before = model.clone();
        log.cut(Lsn(last)).unwrap();
        model.cut(Lsn(last));
        assert_eq!(contents(&log), model, "cut to {last}");
        if last < 120 {
            let end = before.end();
            let path = format!("{FOLDER}/cut/{}-{}-{}-1.cut", end.epoch, last + 1, end.lsn);
            let aside = read_cut_file(&disk, &path).unwrap();
            assert_eq!(aside.blocks, before.blocks[model.blocks.len()..]);
            assert_eq!((aside.after, aside.cluster, aside.group), (model.end(), ClusterId(0xfeed), GroupId(1)));
        }
    }
    // The same positions written and cut once more: a file of its own.
    for block in &whole.blocks {
        log.append(block).unwrap();
    }
    log.cut(Lsn(90)).unwrap();
    assert!(disk.exists(&format!("{FOLDER}/cut/2-91-120-1.cut")).unwrap());
    log.cut(Lsn(40)).unwrap();
    assert!(disk.exists(&format!("{FOLDER}/cut/2-41-90-2.cut")).unwrap());
    assert_eq!(open(&disk).unwrap().1.end, entry(1, 40));
}

#[test]
fn every_damage_of_a_side_file_is_found() {
    let disk = FaultDisk::new(1);
    let (mut log, _) = filled(&disk);
    log.cut(Lsn(118)).unwrap();
    let path = format!("{FOLDER}/cut/2-119-120-1.cut");
    let bytes = disk.bytes(&path).unwrap();
    let used = 64 + 64 + 500;
    for length in 0..used {
        disk.put(&path, &bytes[..length]);
        assert!(read_cut_file(&disk, &path).is_err(), "length {length}");
    }
    disk.put(&path, &bytes);
    for bit in 0..used * 8 {
        disk.flip_bit(&path, bit as u64 / 8, (bit % 8) as u8);
        assert!(read_cut_file(&disk, &path).is_err(), "bit {bit}");
        disk.flip_bit(&path, bit as u64 / 8, (bit % 8) as u8);
    }
}

#[test]
fn a_reset_begins_after_the_snapshot() {
    let disk = FaultDisk::new(1);
    let (mut log, mut model) = filled(&disk);
    let table = [(Epoch(1), Lsn(1)), (Epoch(5), Lsn(400))];
    let wrong = log.reset(entry(4, 500), &table);
    assert!(matches!(wrong, Err(LogError::ResetInvalid { .. })));
    log.reset(entry(5, 500), &table).unwrap();
    model.reset(entry(5, 500), &table);
    assert_eq!(contents(&log), model);
    append(&mut log, &mut model, 6, 1, b"on");
    log.sync().unwrap();
    disk.crash(Crash::Lost);
    let (log, recovery) = open(&disk).unwrap();
    assert_eq!(contents(&log), model);
    assert_eq!(recovery.epochs, [(Epoch(1), Lsn(1)), (Epoch(5), Lsn(400)), (Epoch(6), Lsn(501))]);
    assert!(log.reader().read(Lsn(500), 100).unwrap().is_empty());
}

#[test]
fn retention_keeps_what_is_needed_and_what_is_asked_for() {
    let all = Keep { size_bytes: 0, since_ms: 0 };
    let disk = FaultDisk::new(1);
    let (mut log, mut model) = filled(&disk);
    let size_bytes = log.size_bytes();
    assert_eq!(log.retain_after(Lsn(0), all).unwrap(), 0, "everything is needed");
    assert_eq!(log.retain_after(Lsn(120), Keep { size_bytes, since_ms: 0 }).unwrap(), 0, "all of it is to be kept");
    let two_less = Keep { size_bytes: size_bytes - 2 * 4096, since_ms: 0 };
    assert_eq!(log.retain_after(Lsn(120), two_less).unwrap(), 2);
    assert_eq!(log.size_bytes(), two_less.size_bytes);
    let old = Keep { size_bytes, since_ms: 1_000 + 60 };
    assert!(log.retain_after(Lsn(120), old).unwrap() > 0, "older than asked for");
    assert!(log.floor().lsn <= Lsn(60) && log.floor().lsn > Lsn(40));
    log.retain_after(Lsn(80), all).unwrap();
    assert!(log.floor().lsn <= Lsn(80) && log.floor().lsn > Lsn(60));
    model.drop_front(log.floor());
    assert_eq!(contents(&log), model, "epochs reach back beyond the floor");
    disk.crash(Crash::Lost);
    assert_eq!(contents(&open(&disk).unwrap().0), model);
    log = open(&disk).unwrap().0;
    log.retain_after(Lsn(120), all).unwrap();
    assert_eq!(log.size_bytes(), 4096, "the last segment stays");
}

/// Files are used over and over; nothing of an earlier life is ever read, after crashes at any point either.
#[test]
fn recycled_segments_never_show_their_past() {
    for seed in 0..30 {
        let disk = FaultDisk::new(seed);
        let (mut log, mut model) = (Log::create(shared(&disk), FOLDER, large()).unwrap(), Model::new());
        let mut random = Random(seed);
        for round in 0..40 {
            for _ in 0..9 {
                append(&mut log, &mut model, 1, 1, &vec![round; 448]);
            }
            log.sync().unwrap();
            log.retain_after(Lsn(model.end().lsn.0 - 2), Keep { size_bytes: 0, since_ms: 0 }).unwrap();
            model.drop_front(log.floor());
            if random.below(4) == 0 {
                let unsynced = model.next_block(1, 1, b"never synced");
                log.append(&unsynced).unwrap();
                disk.crash(Crash::Torn);
                log = Log::open(shared(&disk), FOLDER, large()).unwrap().0;
                if log.end() != model.end() {
                    model.append(&unsynced);
                }
                assert_eq!(contents(&log), model, "seed {seed} round {round}");
            }
        }
        assert!(disk.calls_of(Call::AllocateZeroed) < 12, "a log in balance makes no files");
    }
}

#[test]
fn a_full_disk_refuses_writes_and_goes_on_when_there_is_room() {
    let disk = FaultDisk::new(1);
    let (mut log, mut model) = filled(&disk);
    disk.set_capacity(0);
    let mut refused = None;
    for _ in 0..20 {
        let block = model.next_block(2, 1, &[7; 500]);
        match log.append(&block) {
            Ok(()) => model.append(&block),
            Err(error) => {
                refused = Some(error);
                break;
            }
        }
    }
    let refused = refused.unwrap();
    assert!(matches!(refused, LogError::NoSpace { .. }) && !refused.is_final(), "{refused}");
    assert!(log.room_bytes() < 600 + 256);
    let ends = log.room_bytes() - 256;
    assert!(ends < 600, "data leaves the reserve and no more: {ends}");
    // Takeovers go on, one after the other.
    for epoch in 3..5 {
        append(&mut log, &mut model, epoch, 1, b"who and why");
    }
    assert!(matches!(log.append(&model.next_block(4, 1, &[7; 300])), Err(LogError::NoSpace { .. })));
    assert_eq!(log.sync().unwrap(), model.end());
    assert!(matches!(log.cut(Lsn(100)), Err(LogError::NoSpace { .. })), "no room to put it aside");
    assert!(matches!(log.reset(entry(9, 900), &[]), Err(LogError::NoSpace { .. })));
    assert_eq!(contents(&log), model, "reads go on");
    disk.set_capacity(1 << 30);
    append(&mut log, &mut model, 4, 1, &[7; 500]);
    log.sync().unwrap();
    assert_eq!(contents(&log), model);
    log.ahead().prepare().unwrap();
    assert!(log.room_bytes() > 4096);
}

#[test]
fn a_failed_sync_ends_the_log_and_proves_nothing() {
    for seed in 0..20 {
        let disk = FaultDisk::new(seed);
        let (mut log, mut model) = (create(&disk), Model::new());
        append(&mut log, &mut model, 1, 1, b"durable");
        log.sync().unwrap();
        let durable = model.clone();
        append(&mut log, &mut model, 1, 1, &[1; 2_000]);
        disk.fail(Fault::nth(1, FaultError::Io).of(Call::SyncData));
        let first = log.sync().unwrap_err();
        assert!(first.is_final() && first.to_string().contains("sync"), "{first}");
        let next = model.next_block(1, 1, b"next");
        for again in [log.sync().map(drop), log.append(&next), log.cut(Lsn(1)), log.reset(entry(1, 9), &[])] {
            assert_eq!(again.unwrap_err().to_string(), first.to_string(), "INV-9");
        }
        // The next process reads the record from a page cache that lies. What it reports must survive (R11).
        disk.crash(Crash::Process);
        let found = contents(&open(&disk).unwrap().0);
        assert!(found == durable || found == model);
        disk.crash(Crash::Lost);
        assert_eq!(contents(&open(&disk).unwrap().0), found, "seed {seed}");
    }
}

#[test]
fn too_large_a_block_is_refused_and_a_gap_is_a_bug() {
    let disk = FaultDisk::new(1);
    let (mut log, mut model) = (create(&disk), Model::new());
    let large = model.next_block(1, 1, &[0; 3_521]);
    assert!(matches!(log.append(&large), Err(LogError::BlockTooLarge { size_bytes: 3_592, size_bytes_max: 3_584 })));
    append(&mut log, &mut model, 1, 1, &[0; 3_520]);
    append(&mut log, &mut model, 1, 1, &[0; 3_520]);
    log.sync().unwrap();
    assert_eq!(contents(&open(&disk).unwrap().0), model);
    let gap = hotwarm_types::Block { first: Lsn(4), last: Lsn(4), ..model.blocks[1].clone() };
    let bug = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| log.append(&gap)));
    assert!(bug.is_err(), "INV-1");
}

#[test]
fn logs_are_made_once_and_opened_by_their_owner_only() {
    let disk = FaultDisk::new(1);
    assert!(matches!(open(&disk), Err(OpenError::Missing { .. })));
    drop(create(&disk));
    let again = Log::create(shared(&disk), FOLDER, options());
    assert!(matches!(again, Err(OpenError::Exists { .. })));
    for other in [
        LogOptions { cluster: ClusterId(1), ..options() },
        LogOptions { group: GroupId(2), ..options() },
        LogOptions { segment_size_bytes: 4097, ..options() },
    ] {
        let error = Log::open(shared(&disk), FOLDER, other).unwrap_err();
        assert!(matches!(error, OpenError::Head(_) | OpenError::Options { .. }), "{error}");
    }
    // A log that lost its head is no place for a new one.
    let (mut log, mut model) = (open(&disk).unwrap().0, Model::new());
    append(&mut log, &mut model, 1, 1, b"x");
    log.sync().unwrap();
    disk.remove("log/head").unwrap();
    assert!(matches!(open(&disk), Err(OpenError::Missing { .. })));
    assert!(matches!(Log::create(shared(&disk), FOLDER, options()), Err(OpenError::Exists { .. })));
}

#[test]
fn segments_of_another_size_go_on() {
    let disk = FaultDisk::new(1);
    let (log, mut model) = filled(&disk);
    drop(log);
    let larger = LogOptions { segment_size_bytes: 8192, ..options() };
    let mut log = Log::open(shared(&disk), FOLDER, larger).unwrap().0;
    for _ in 0..20 {
        append(&mut log, &mut model, 2, 1, &[3; 700]);
    }
    log.sync().unwrap();
    assert_eq!(contents(&log), model);
    assert_eq!(contents(&open(&disk).unwrap().0), model);
}

/// One thread appends and drops, others read: no read fails, misses a block or sees a stranger. On the real disk.
/// The block does not fit into the segment that was begun at the earlier start and holds nothing yet.
#[test]
fn an_empty_segment_that_is_too_small_is_replaced_and_not_sealed() {
    let larger = LogOptions { segment_size_bytes: 8192, ..options() };
    for (blocks_before, crash) in [(0, Crash::Lost), (0, Crash::Process), (7, Crash::Lost), (7, Crash::Process)] {
        let disk = FaultDisk::new(1);
        let (mut log, mut model) = (create(&disk), Model::new());
        for n in 0..blocks_before {
            append(&mut log, &mut model, 1, 1, &vec![n; 500]);
        }
        log.sync().unwrap();
        if blocks_before > 0 {
            // The next segment is begun, and its only block is not written.
            append(&mut log, &mut model, 1, 1, &[9; 500]);
            model = model.prefix(usize::from(blocks_before));
        }
        disk.crash(Crash::Lost);
        let (mut log, recovery) = Log::open(shared(&disk), FOLDER, larger.clone()).unwrap();
        assert_eq!(recovery.end, model.end());
        for n in 0..3 {
            append(&mut log, &mut model, 1, 1, &vec![n; 5_000]);
            log.sync().unwrap();
        }
        disk.crash(crash);
        let (log, _) = Log::open(shared(&disk), FOLDER, larger.clone()).unwrap();
        assert_eq!(contents(&log), model, "{blocks_before} blocks before, {crash:?}");
    }
}

#[test]
fn readers_keep_up_with_a_writer() {
    let folder = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(OsDisk::new(folder.path()).unwrap());
    let options = LogOptions { segment_size_bytes: 64 << 10, ..options() };
    let mut log = Log::create(disk.clone(), FOLDER, options.clone()).unwrap();
    let blocks = 3_000;
    std::thread::scope(|scope| {
        let ahead = log.ahead();
        for reader in [log.reader(), log.reader()] {
            let ahead = ahead.clone();
            scope.spawn(move || {
                let mut next = Lsn(1);
                while next.0 <= blocks {
                    let read = reader.read(next, 20_000).unwrap();
                    for block in &read {
                        assert_eq!(block.first, next);
                        assert_eq!(&block.payload[..8], next.0.to_le_bytes());
                        next = block.last.next();
                    }
                    if read.is_empty() {
                        // Dropped meanwhile, or not there yet.
                        next = next.max(reader.floor().lsn.next());
                        ahead.prepare().unwrap();
                        std::thread::yield_now();
                    }
                }
            });
        }
        let mut model = Model::new();
        for lsn in 1..=blocks {
            let mut payload = vec![lsn as u8; 200];
            payload[..8].copy_from_slice(&lsn.to_le_bytes());
            let block = model.next_block(1, 1, &payload);
            log.append(&block).unwrap();
            model.append(&block);
            if lsn % 100 == 0 {
                log.sync().unwrap();
                log.retain_after(Lsn(lsn), Keep { size_bytes: 128 << 10, since_ms: 0 }).unwrap();
            }
        }
    });
    let end = log.close().unwrap();
    let (log, recovery) = Log::open(disk, FOLDER, options).unwrap();
    assert_eq!((recovery.end, recovery.torn_bytes), (end, 0));
    assert!(log.floor().lsn > Lsn(1_000));
}

#[test]
fn side_files_of_cuts_are_kept_a_week_and_the_newest_for_ever() {
    const DAY_MS: u64 = 24 * 3_600_000;
    let disk = FaultDisk::new(1);
    let (mut log, mut model) = (create(&disk), Model::new());
    assert_eq!(log.prune_cuts(u64::MAX).unwrap(), Vec::<String>::new(), "there never was a cut");
    append(&mut log, &mut model, 1, 1, b"stays");
    // One cut a day.
    for day in 1..=30 {
        disk.set_wall_ms(day * DAY_MS);
        let mut tail = model.clone();
        append(&mut log, &mut tail, 1 + day, 1, b"goes");
        log.cut(model.end().lsn).unwrap();
    }
    let names = |disk: &FaultDisk| disk.list("log/cut").unwrap();
    assert_eq!(names(&disk).len(), 30);
    assert_eq!(log.prune_cuts(8 * DAY_MS).unwrap(), Vec::<String>::new(), "all are young, or of the future");
    // Of the 14 that are too many, those of the first three days are old enough.
    let removed = log.prune_cuts(10 * DAY_MS + DAY_MS / 2).unwrap();
    assert_eq!(
        removed.iter().map(|path| &path[..]).collect::<Vec<_>>(),
        ["log/cut/4-2-2-1.cut", "log/cut/3-2-2-1.cut", "log/cut/2-2-2-1.cut",]
    );
    assert_eq!(log.prune_cuts(400 * DAY_MS).unwrap().len(), 11);
    let left = names(&disk);
    assert_eq!(left.len(), hotwarm_log::CUT_FILES_KEPT);
    assert!(left.contains(&"31-2-2-1.cut".to_owned()) && left.contains(&"16-2-2-1.cut".to_owned()), "{left:?}");
    disk.crash(Crash::Lost);
    assert_eq!(names(&disk), left, "durably");
    let (log, _) = open(&disk).unwrap();
    assert_eq!(contents(&log), model);
}
