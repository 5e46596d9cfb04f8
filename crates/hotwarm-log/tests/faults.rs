//! Every call to the disk fails in turn, every write is torn, every bit is flipped: nothing that was reported durable
//! is lost, nothing is invented, and damage is never taken for a torn tail. Guards INV-8, INV-9, R11, R30.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use hotwarm_disk::{Call, Crash, Disk, Fault, FaultDisk, FaultError, SECTOR_SIZE_BYTES};
use hotwarm_log::{Keep, Log, LogError, OpenError, read_cut_file};
use hotwarm_types::{Block, EntryId, Epoch, Lsn};
use support::{FOLDER, Model, Random, append, contents, create, large, open, options, shared};

#[derive(Clone, Debug)]
enum Operation {
    Append(Block),
    Sync,
    Cut(Lsn),
    Reset(EntryId),
    Retain(Lsn),
    Prepare,
}

/// Needs no more than the segment at the end.
const KEEP: Keep = Keep { size_bytes: 0, since_ms: 0 };

/// A log, and what it should hold.
struct Run {
    log: Log,
    model: Model,
}

impl Run {
    fn carry_out(&mut self, operation: &Operation) -> Result<(), LogError> {
        match operation {
            Operation::Append(block) => {
                self.log.append(block)?;
                self.model.append(block);
            }
            Operation::Sync => {
                let end = self.log.sync()?;
                assert_eq!(end, self.model.end());
            }
            Operation::Cut(last) => {
                self.log.cut(*last)?;
                self.model.cut(*last);
            }
            Operation::Reset(at) => {
                self.log.reset(*at, &[(at.epoch, at.lsn)])?;
                self.model.reset(*at, &[(at.epoch, at.lsn)]);
            }
            Operation::Retain(needed) => {
                self.log.retain_after(*needed, KEEP)?;
                self.model.drop_front(self.log.floor());
            }
            // Never the end of the log, whatever it says.
            Operation::Prepare => {
                let prepared = self.log.ahead().prepare();
                prepared.map_err(|failure| LogError::NoSpace {
                    file: failure.to_string(),
                    needed_bytes: 4096,
                    error: std::sync::Arc::new(std::io::ErrorKind::StorageFull.into()),
                })?;
            }
        }
        Ok(())
    }

    /// What a crash may leave: all that is durable, and any first part of the rest.
    fn survivors(&self) -> Vec<Model> {
        let durable = self.log.durable().lsn;
        let least = self.model.blocks.iter().filter(|block| block.last <= durable).count();
        (least..=self.model.blocks.len()).map(|count| self.model.prefix(count)).collect()
    }
}

/// A log of several segments in two epochs, all durable.
fn base(seed: u64) -> (FaultDisk, Model) {
    let disk = FaultDisk::new(seed);
    let (mut log, mut model) = (create(&disk), Model::new());
    for n in 0..16u8 {
        append(&mut log, &mut model, 1 + u64::from(n / 10), 2, &[n; 650]);
        log.sync().unwrap();
    }
    log.close().unwrap();
    (disk, model)
}

/// Starts on a copy of the base, with three blocks appended and not synced.
fn start(disk: &FaultDisk, model: &Model) -> Run {
    let mut run = Run { log: open(disk).unwrap().0, model: model.clone() };
    for n in 0..3 {
        append(&mut run.log, &mut run.model, 2, 1, &[n; 40]);
    }
    run
}

/// Opens after a crash and checks that one of the allowed logs is found; that it stays, whatever the page cache said;
/// and that it can be appended to.
fn check_survivor(disk: &FaultDisk, allowed: &[Model], context: &str) -> usize {
    let (log, recovery) = open(disk).unwrap_or_else(|error| panic!("{context}: {error}"));
    let found = contents(&log);
    assert_eq!((recovery.end, recovery.floor), (found.end(), found.floor), "{context}");
    assert_eq!(recovery.epochs, found.epochs, "{context}");
    let which = allowed.iter().position(|model| *model == found).unwrap_or_else(|| {
        panic!("{context}: found {}..{}, which nobody wrote so", found.floor, found.end());
    });
    disk.crash(Crash::Lost);
    let (mut log, again) = open(disk).unwrap();
    assert_eq!(contents(&log), found, "{context}: what opening reports is durable (R11)");
    assert!(!again.cut_finished && again.torn_bytes == 0, "{context}: settled the first time");
    let mut model = found;
    for n in 0..8 {
        append(&mut log, &mut model, 9, 1, &[n; 600]);
    }
    log.sync().unwrap();
    disk.crash(Crash::Lost);
    assert_eq!(contents(&open(disk).unwrap().0), model, "{context}: it goes on");
    which
}

/// Where the log was cut, what was durable of the suffix is in a side file, durably (INV-8).
fn check_aside(disk: &FaultDisk, durable: &Model, last: Lsn, context: &str) {
    let (log, _) = open(disk).unwrap_or_else(|error| panic!("{context}: {error}"));
    if log.end().lsn > last {
        return;
    }
    disk.crash(Crash::Lost);
    let folder = format!("{FOLDER}/cut");
    let names = disk.list(&folder).unwrap();
    let cut: Vec<&Block> = durable.blocks.iter().filter(|block| block.first > last).collect();
    let aside = names.iter().filter(|name| name.ends_with(".cut")).any(|name| {
        let file = read_cut_file(disk, &format!("{folder}/{name}")).unwrap();
        file.after.lsn == last && cut.iter().all(|block| file.blocks.contains(block))
    });
    assert!(aside, "{context}: the suffix is gone, and not put aside");
}

/// Lets the nth call of an operation fail until it gets through, crashes, and looks at what is left.
fn fail_every_call(operation: &Operation) -> (u64, u64) {
    let (disk, model) = base(1);
    let mut after = start(&disk.fork(1), &model);
    after.carry_out(operation).unwrap();
    let (mut runs, mut changed) = (0, 0);
    for nth in 1.. {
        let mut through = true;
        for (lasting, error) in [(false, FaultError::Io), (true, FaultError::Io), (false, FaultError::NoSpace)] {
            for crash in [Crash::Process, Crash::Lost, Crash::Torn, Crash::Torn] {
                runs += 1;
                let disk = disk.fork(runs);
                let mut run = start(&disk, &model);
                let fault = Fault::nth(nth, error);
                disk.fail(if lasting { fault.lasting() } else { fault });
                let context = format!("{operation:?} call {nth} {error:?} lasting {lasting} {crash:?}");
                let mut allowed = run.survivors();
                let done = run.carry_out(operation);
                through &= disk.faults_shown() == 0;
                disk.heal();
                match done {
                    Ok(()) => allowed = run.survivors(),
                    Err(error) if error.is_final() => {
                        let again = run.log.sync().unwrap_err().to_string();
                        assert_eq!(again, error.to_string(), "{context}: INV-9");
                        allowed.extend(after.survivors());
                    }
                    Err(_) => {
                        assert_eq!(contents(&run.log), run.model, "{context}: nothing has changed");
                        run.carry_out(operation).unwrap_or_else(|error| panic!("{context}: {error}"));
                        allowed = run.survivors();
                    }
                }
                disk.crash(crash);
                if let Operation::Cut(last) = operation {
                    check_aside(&disk, &model, *last, &context);
                }
                changed += u64::from(check_survivor(&disk, &allowed, &context) > 0);
            }
        }
        if through {
            break;
        }
    }
    (runs, changed)
}

#[test]
fn a_failing_append_loses_nothing_durable() {
    let model = {
        let (disk, model) = base(1);
        start(&disk, &model).model
    };
    // It fits into no segment that is begun: one must be made.
    let block = model.next_block(2, 1, &[5; 3_000]);
    let (runs, changed) = fail_every_call(&Operation::Append(block));
    println!("append: {runs} runs, in {changed} more than the durable part survived");
    assert!(runs > 100 && changed > 0 && changed < runs);
}

#[test]
fn a_failing_sync_loses_nothing_durable() {
    let (runs, changed) = fail_every_call(&Operation::Sync);
    println!("sync: {runs} runs, in {changed} more than the durable part survived");
    assert!(runs > 40 && changed > 0 && changed < runs);
}

#[test]
fn a_failing_cut_leaves_before_or_after() {
    for last in [0, 16, 30] {
        let (runs, changed) = fail_every_call(&Operation::Cut(Lsn(last)));
        println!("cut to {last}: {runs} runs, in {changed} it was done or more survived");
        assert!(runs > 200 && changed > 0 && changed < runs);
    }
}

#[test]
fn a_failing_reset_leaves_before_or_after() {
    let (runs, changed) = fail_every_call(&Operation::Reset(EntryId { epoch: Epoch(7), lsn: Lsn(500) }));
    println!("reset: {runs} runs, in {changed} it was done or more survived");
    assert!(runs > 100 && changed > 0 && changed < runs);
}

#[test]
fn failing_retention_and_preparation_lose_nothing_needed() {
    for operation in [Operation::Retain(Lsn(30)), Operation::Prepare] {
        let (runs, changed) = fail_every_call(&operation);
        println!("{operation:?}: {runs} runs, in {changed} it was done or more survived");
        assert!(runs >= 60);
    }
}

#[test]
fn a_failing_creation_leaves_no_log_or_an_empty_one() {
    for crash in [Crash::Process, Crash::Lost, Crash::Torn] {
        for nth in 1.. {
            let disk = FaultDisk::new(nth);
            disk.fail(Fault::nth(nth, FaultError::Io));
            let created = Log::create(shared(&disk), FOLDER, options());
            let through = disk.faults_shown() == 0;
            disk.heal();
            disk.crash(crash);
            match open(&disk) {
                Ok((log, _)) => assert_eq!(contents(&log), Model::new()),
                Err(OpenError::Missing { .. }) => {
                    assert!(created.is_err(), "call {nth}");
                    drop(create(&disk));
                    disk.crash(Crash::Lost);
                }
                Err(error) => panic!("call {nth}: {error}"),
            }
            check_survivor(&disk, &[Model::new()], &format!("create {nth} {crash:?}"));
            if through {
                break;
            }
        }
    }
}

/// Opening fails at every call, after every kind of interruption, and the next opening finds the same.
#[test]
fn a_failing_opening_changes_nothing_that_counts() {
    let (disk, model) = base(1);
    let mut runs = 0;
    for seed in 0..12 {
        let disk = disk.fork(seed);
        let mut run = start(&disk, &model);
        let mut allowed = run.survivors();
        match seed % 3 {
            0 => disk.fail(Fault::nth(1, FaultError::Io).of(Call::SyncData)),
            1 => disk.fail(Fault::nth(1, FaultError::Io).of(Call::Remove).lasting()),
            _ => disk.fail(Fault::nth(9, FaultError::Io).lasting()),
        }
        if seed % 3 == 0 {
            run.log.sync().unwrap_err();
        } else {
            run.log.cut(Lsn(16)).unwrap_err();
            allowed.push(run.model.prefix(8));
        }
        disk.heal();
        disk.crash(Crash::Torn);
        for nth in 1.. {
            let disk = disk.fork(nth);
            disk.fail(Fault::nth(nth, FaultError::Io));
            let opened = open(&disk);
            let through = disk.faults_shown() == 0;
            assert!(through || opened.is_ok() || !matches!(opened, Err(OpenError::Corrupt { .. })));
            disk.heal();
            disk.crash(if nth % 2 == 0 { Crash::Torn } else { Crash::Process });
            check_survivor(&disk, &allowed, &format!("open after {seed} call {nth}"));
            runs += 1;
            if through {
                break;
            }
        }
    }
    println!("open: {runs} runs");
}

/// The files that an interrupted cut leaves behind are never begun again with their old records in them, under the
/// numbers that they had: a batch of such records, each following on the one before, would look like the log.
#[test]
fn what_an_interrupted_cut_leaves_never_comes_back() {
    let disk = FaultDisk::new(1);
    let (mut log, mut model) = (Log::create(shared(&disk), FOLDER, large()).unwrap(), Model::new());
    // Records of 512 bytes: some end with their page, so that what follows is not zeroed by the same write.
    for n in 0..100 {
        append(&mut log, &mut model, 1, 2, &[n; 448]);
    }
    log.sync().unwrap();
    disk.fail(Fault::nth(1, FaultError::Io).of(Call::Remove));
    log.cut(Lsn(4)).unwrap_err();
    disk.crash(Crash::Process);
    let reopen = |disk: &FaultDisk| Log::open(shared(disk), FOLDER, large()).unwrap();
    assert!(reopen(&disk).1.cut_finished);
    model.cut(Lsn(4));
    for count in 30..70 {
        let (disk, mut model) = (disk.fork(count), model.clone());
        (log, _) = reopen(&disk);
        for n in 0..count as u8 {
            // The same positions, sizes and epoch as before; other bytes.
            append(&mut log, &mut model, 1, 2, &[100 + n; 448]);
        }
        log.sync().unwrap();
        disk.crash(Crash::Lost);
        assert_eq!(reopen(&disk).1.end, model.end(), "after {count} more");
    }
}

/// A crash at every call of a random history.
#[test]
fn a_crash_anywhere_in_a_history_recovers() {
    let mut crashes = 0;
    for seed in 0..6 {
        for nth in (1 + seed..).step_by(11) {
            let disk = FaultDisk::new(seed * 1_000 + nth);
            let mut random = Random(seed);
            let mut run = Run { log: create(&disk), model: Model::new() };
            disk.fail(Fault::nth(nth, FaultError::Io).lasting());
            let mut epoch = 1;
            let mut allowed = None;
            for _ in 0..60 {
                let model = &run.model;
                let operation = match random.below(14) {
                    0..=6 => {
                        let size = random.below(1_500) as usize;
                        Operation::Append(model.next_block(epoch, 1 + random.below(2), &random.bytes(size)))
                    }
                    7..=9 => Operation::Sync,
                    10 => {
                        epoch += 1;
                        let at = random.below(model.blocks.len() as u64 + 1) as usize;
                        Operation::Cut(model.prefix(at).end().lsn)
                    }
                    11 => Operation::Retain(Lsn(model.end().lsn.0 / 2)),
                    12 => Operation::Prepare,
                    _ => Operation::Reset(EntryId { epoch: Epoch(epoch), lsn: Lsn(model.end().lsn.0 + 3) }),
                };
                let before = run.survivors();
                if run.carry_out(&operation).is_err() {
                    allowed = Some(with_outcome(before, &run, &operation));
                    break;
                }
            }
            let through = disk.faults_shown() == 0;
            disk.heal();
            disk.crash(if random.below(2) == 0 { Crash::Torn } else { Crash::Lost });
            check_survivor(&disk, &allowed.unwrap_or_else(|| run.survivors()), &format!("seed {seed} call {nth}"));
            crashes += 1;
            if through {
                break;
            }
        }
    }
    println!("{crashes} crashes recovered");
    assert!(crashes > 60);
}

/// What the operation that failed may have left, beside what was there before.
fn with_outcome(mut allowed: Vec<Model>, run: &Run, operation: &Operation) -> Vec<Model> {
    let mut model = run.model.clone();
    match operation {
        Operation::Append(block) => model.append(block),
        Operation::Sync | Operation::Prepare => {}
        Operation::Cut(last) => model.cut(*last),
        Operation::Reset(at) => model.reset(*at, &[(at.epoch, at.lsn)]),
        Operation::Retain(needed) => {
            // Any of its segments may be the first one now; what was not synced may be gone.
            for at in (0..=model.blocks.len()).filter(|at| model.prefix(*at).end().lsn <= *needed) {
                for survivor in run.survivors() {
                    let mut dropped = survivor;
                    let floor = model.prefix(at).end();
                    if dropped.end().lsn >= floor.lsn {
                        dropped.drop_front(floor);
                        allowed.push(dropped);
                    }
                }
            }
        }
    }
    allowed.push(model);
    allowed
}

/// Any first part of an interrupted write recovers to the whole blocks in it; with whole sectors of it missing, too.
#[test]
fn every_prefix_of_an_unsynced_write_recovers() {
    let disk = FaultDisk::new(1);
    let (mut log, mut model) = (create(&disk), Model::new());
    append(&mut log, &mut model, 1, 1, &[1; 300]);
    log.sync().unwrap();
    let path = format!("{FOLDER}/0000000001.log");
    let old = disk.bytes(&path).unwrap();
    for n in 0..4u8 {
        append(&mut log, &mut model, 1, 1, &[n + 1; 500]);
    }
    // Written, never reported: the mark is put back to where it was.
    let mark = disk.bytes("log/mark").unwrap();
    log.sync().unwrap();
    let new = disk.bytes(&path).unwrap();
    drop(log);
    let record = |size: usize| (64 + size).next_multiple_of(8);
    let ends: Vec<usize> = (0..=4).map(|n| SECTOR_SIZE_BYTES + record(300) + n * record(500)).collect();
    for length in (ends[0]..ends[4] + 8).chain([4096]) {
        let disk = disk.fork(1);
        disk.put("log/mark", &mark);
        let mut torn = new.clone();
        torn[length..].copy_from_slice(&old[length..]);
        disk.put(&path, &torn);
        let (log, recovery) = open(&disk).unwrap();
        // The padding behind a payload is no part of it.
        let whole = ends[1..].iter().filter(|end| **end - 4 <= length).count();
        assert_eq!(contents(&log), model.prefix(1 + whole), "length {length}");
        assert_eq!(recovery.torn_bytes, 0);
    }
    for missing in 0..128u32 {
        let disk = disk.fork(1);
        disk.put("log/mark", &mark);
        let mut torn = new.clone();
        for sector in (0..8).filter(|sector| missing >> sector & 1 == 1) {
            let range = sector * SECTOR_SIZE_BYTES..(sector + 1) * SECTOR_SIZE_BYTES;
            torn[range.clone()].copy_from_slice(&old[range]);
        }
        disk.put(&path, &torn);
        let found = contents(&open(&disk).unwrap().0);
        assert!((1..=5).any(|count| found == model.prefix(count)), "missing {missing:b}");
    }
}

/// Any file cut short is refused, or does not matter.
#[test]
fn every_prefix_of_every_file_is_found_or_harmless() {
    let (disk, model) = base(1);
    let (mut found, mut harmless) = (0, 0);
    for name in disk.list(FOLDER).unwrap() {
        let path = format!("{FOLDER}/{name}");
        let Ok(bytes) = disk.bytes(&path) else { continue };
        let step = bytes.len().div_ceil(300);
        for length in (0..bytes.len()).step_by(step) {
            let disk = disk.fork(1);
            disk.put(&path, &bytes[..length]);
            match open(&disk) {
                Ok((log, _)) => {
                    assert_eq!(contents(&log), model, "{path} of length {length}");
                    harmless += 1;
                }
                Err(OpenError::Disk(error)) => panic!("{path} of length {length}: {error}"),
                Err(_) => found += 1,
            }
        }
        disk.fork(1).remove(&path).unwrap();
    }
    println!("prefixes: {found} found, {harmless} harmless");
    assert!(found > 600);
}

#[test]
fn a_missing_file_is_refused_or_harmless() {
    let (disk, model) = base(1);
    for name in disk.list(FOLDER).unwrap() {
        let disk = disk.fork(1);
        disk.remove(&format!("{FOLDER}/{name}")).unwrap();
        match open(&disk) {
            Ok((log, _)) => {
                assert_eq!(contents(&log), model);
                assert_eq!(name, "mark");
            }
            Err(OpenError::Missing { .. }) => assert_eq!(name, "head"),
            Err(OpenError::Corrupt { file, .. }) => assert!(file.ends_with(&name)),
            Err(error) => panic!("{error}"),
        }
    }
}

/// Opens and reads everything; `None` if the damage was found on the way.
fn read_all(disk: &FaultDisk) -> Option<Model> {
    let (log, _) = match open(disk) {
        Ok(opened) => opened,
        Err(OpenError::Disk(error)) => panic!("{error}"),
        Err(_) => return None,
    };
    let mut blocks: Vec<Block> = Vec::new();
    loop {
        let from = blocks.last().map_or(log.floor().lsn, |block| block.last).next();
        match log.reader().read(from, u64::MAX) {
            Ok(read) if read.is_empty() => break,
            Ok(read) => blocks.extend(read),
            Err(_) => return None,
        }
    }
    let found = Model { floor: log.floor(), blocks, epochs: log.epochs() };
    assert_eq!(found.end(), log.end(), "silently less is never an answer");
    Some(found)
}

/// Every single flipped bit of a small log is found, or does not matter. With `marked` false the power failed and the
/// durable mark is gone: then damage of the last batch alone may pass for a torn write, and only of that.
fn flip_every_bit(marked: bool) -> (u32, u32, u32) {
    let (disk, model) = base(1);
    let unmarked = disk.bytes("log/mark").unwrap().len();
    if !marked {
        disk.put("log/mark", &vec![0; unmarked]);
    }
    let paths: Vec<String> = disk.list(FOLDER).unwrap().iter().map(|name| format!("{FOLDER}/{name}")).collect();
    let (mut found, mut harmless, mut torn) = (0, 0, 0);
    for path in paths {
        let Ok(bytes) = disk.bytes(&path) else { continue };
        for offset in (0..bytes.len()).filter(|offset| bytes[*offset] != 0 || offset % 64 == 0) {
            // All bits of headers, one in eight of what repeats.
            let repeats = offset > 0 && bytes[offset - 1] == bytes[offset];
            for bit in (0..8).filter(|bit| !repeats || *bit == offset % 8) {
                if repeats && offset % 16 != 0 {
                    continue;
                }
                disk.flip_bit(&path, offset as u64, bit as u8);
                match read_all(&disk) {
                    None => found += 1,
                    Some(read) if read == model => harmless += 1,
                    Some(read) => {
                        assert!(
                            !marked && read == model.prefix(model.blocks.len() - 1),
                            "{path} byte {offset} bit {bit}"
                        );
                        torn += 1;
                    }
                }
                disk.put(&path, &bytes);
                if !marked {
                    disk.put("log/mark", &vec![0; unmarked]);
                }
            }
        }
    }
    (found, harmless, torn)
}

#[test]
fn every_flipped_bit_is_found_or_harmless() {
    let (found, harmless, torn) = flip_every_bit(true);
    println!("log: {found} flipped bits found, {harmless} harmless, {torn} taken for a torn write");
    assert!(found > 1_500 && torn == 0);
}

#[test]
fn after_a_power_failure_only_the_last_batch_can_pass_for_torn() {
    let (found, harmless, torn) = flip_every_bit(false);
    println!("log without mark: {found} flipped bits found, {harmless} harmless, {torn} taken for a torn write");
    assert!(found > 1_500 && torn > 0);
}
