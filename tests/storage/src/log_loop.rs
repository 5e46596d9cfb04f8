//! A crash at each call of a long life of log, vote record and folder record, in each way of tearing; recovered, compared
//! with the truth, recovered again, used, and crashed once more within the recovery.

use crate::log_life::folder::{InUse, start};
use crate::log_life::truth::{Found, RecordTruth, Truth};
use crate::log_life::{Life, Step};
use crate::random::Random;
use crate::report::{Crashes, Failure};
use crate::share::Share;
use crate::watched_disk::{Picture, WatchedDisk};
use hotwarm_disk::{Crash, Disk, FaultDisk};
use hotwarm_types::{Block, BlockKind, Epoch, Payload};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// Calls of a life, at least.
pub const POINTS: u64 = 10_000;

/// At one point in so many the recovery is crashed, too.
const NESTED_ONCE_IN: u64 = 4;

/// The epoch in which a recovered log is appended to: later than any of a life.
const LATER: Epoch = Epoch(1 << 40);

/// Runs the share; `only_crash` restricts it to one way of tearing.
#[must_use]
pub fn run(share: Share, points: u64, only_crash: Option<Crash>) -> Crashes {
    let mut crashes = Crashes::default();
    for found in share.work(|worker| work(share, worker, points, only_crash)) {
        crashes.add(found);
    }
    crashes
}

fn work(share: Share, worker: u64, points: u64, only_crash: Option<Crash>) -> Crashes {
    let mut life = Life::new(share.seed, Box::new(move |point| share.takes(worker, point)));
    let mut crashes = Crashes::default();
    while life.points() < points {
        let step = match life.step() {
            Ok(step) => step,
            Err(what) => {
                let replay = format!("cargo xtask storage --part log --seed {} --points {points}", share.seed);
                let what = format!("at call {} of the undisturbed life: {what}", life.points());
                crashes.failures.push(Failure { replay, what });
                break;
            }
        };
        for picture in &step.pictures {
            crashes.points += 1;
            for crash in Crash::OF_POWER.into_iter().chain([Crash::Process]) {
                if only_crash.is_none_or(|only| only == crash) {
                    check(share.seed, &step, picture, crash, &mut crashes);
                }
            }
        }
    }
    crashes
}

/// One crash, in one way.
fn check(seed: u64, step: &Step, picture: &Picture, crash: Crash, crashes: &mut Crashes) {
    crashes.tearings += 1;
    let checked = catch_unwind(AssertUnwindSafe(|| survive(seed, step, picture, crash)));
    let what = match checked {
        Ok(Ok(recoveries)) => {
            crashes.recoveries += recoveries;
            return;
        }
        Ok(Err(what)) => what,
        Err(panic) => format!("a panic: {}", said(&*panic)),
    };
    let tear = name_of(crash);
    let point = picture.point;
    crashes.failures.push(Failure {
        replay: format!("cargo xtask storage --part log --seed {seed} --point {point} --tear {tear}"),
        what: format!("before {} in step {:?}: {what}", picture.call, step.name),
    });
}

/// Goes through everything that must hold after a crash. Returns how often the folder was recovered.
fn survive(seed: u64, step: &Step, picture: &Picture, crash: Crash) -> Result<u64, String> {
    let mut random = Random::new(seed, picture.point ^ (crash as u64) << 48);
    let disk = picture.disk.freeze(random.next());
    disk.crash(crash);
    let fallen = disk.freeze(random.next());
    let (found, segment_size_bytes) = recover(&disk, &step.before, &step.after, &mut random)?;
    let mut recoveries = 3;
    used_again(&disk, found, segment_size_bytes, step)?;
    if random.one_in(NESTED_ONCE_IN) {
        recoveries += 1;
        crash_again(&fallen, step, &mut random).map_err(|what| format!("crashed again in the recovery: {what}"))?;
    }
    Ok(recoveries)
}

/// The first recovery: it finds what the truth allows.
fn recover(disk: &FaultDisk, before: &Truth, after: &Truth, random: &mut Random) -> Result<(Found, u64), String> {
    let segment_size_bytes = 8192 << random.below(2);
    let (_, found, _) = start(&shared(disk), before.is_born, segment_size_bytes)?;
    found.check(before, after)?;
    Ok((found, segment_size_bytes))
}

/// What was reported is there after the power fails again, the log can be appended to and the vote changed, and that is
/// there after one more failure.
fn used_again(disk: &FaultDisk, mut found: Found, segment_size_bytes: u64, step: &Step) -> Result<(), String> {
    disk.crash(Crash::Lost);
    let (in_use, again, recovery) =
        start(&shared(disk), true, segment_size_bytes).map_err(|what| format!("the second recovery: {what}"))?;
    // Recovery says nothing of side files: one whose cut was not decided yet may go, and one that is to go may come back.
    let aside = again.aside.clone();
    let needed = Found { record: found.record, ..again.clone() };
    needed.check(&step.before, &step.after).map_err(|what| format!("the second recovery: {what}"))?;
    found.record.starts += 1;
    found.record.is_clean = false;
    found.aside = aside;
    if again != found {
        return Err(format!("recovered once: {}; twice: {}", shown(&found), shown(&again)));
    }
    if recovery.torn_bytes > 0 || recovery.cut_finished {
        return Err(format!("the first recovery left something to the second: {recovery:?}"));
    }
    let InUse { mut votes, mut log, .. } = in_use;
    for size in [10, 3_000, 4_000] {
        let end = found.log.end();
        let first = end.lsn.next();
        let kind = if end.epoch < LATER { BlockKind::EpochStart } else { BlockKind::Data };
        let block =
            Block { kind, epoch: LATER, first, last: first, stamp_ms: 1, payload: Payload::new(&vec![7; size]) };
        log.append(&block).map_err(|error| format!("the recovered log takes no block: {error}"))?;
        found.log.append(block);
    }
    log.sync().map_err(|error| format!("the recovered log does not sync: {error}"))?;
    found.vote = b"a vote after all".to_vec();
    votes.write(&found.vote).map_err(|error| format!("the recovered vote record takes no vote: {error}"))?;
    disk.crash(Crash::Lost);
    let (_, last, _) =
        start(&shared(disk), true, segment_size_bytes).map_err(|what| format!("the third recovery: {what}"))?;
    found.record.starts += 1;
    if !found.log.blocks.is_empty() {
        // Known only while there is no block.
        found.log.floor_stamp_ms = 0;
    }
    if last != found {
        return Err(format!("written after the recovery: {}; found: {}", shown(&found), shown(&last)));
    }
    Ok(())
}

/// A crash at some call of the recovery leaves what the first one left, or more of the way to the end of it.
fn crash_again(fallen: &FaultDisk, step: &Step, random: &mut Random) -> Result<(), String> {
    let watched = WatchedDisk::new(fallen.clone(), Box::new(|_| true));
    let whole: Arc<dyn Disk> = Arc::new(watched.clone());
    start(&whole, step.before.is_born, 8192)?;
    let pictures = watched.take_pictures();
    let picture = &pictures[random.below(pictures.len() as u64) as usize];
    let crash = Crash::OF_POWER[random.below(Crash::OF_POWER.len() as u64) as usize];
    let disk = picture.disk.freeze(random.next());
    disk.crash(crash);
    let (_, mut found, _) = start(&shared(&disk), step.before.is_born, 8192)
        .map_err(|what| format!("before {}, {}: {what}", picture.call, name_of(crash)))?;
    // The start that was interrupted may be counted.
    let reported = [step.before.record, step.after.record];
    let counted = reported.map(|record| RecordTruth { starts: record.starts + 1, is_clean: false, ..record });
    if counted.contains(&found.record) {
        found.record = step.before.record;
    }
    found
        .check(&step.before, &step.after)
        .map_err(|what| format!("before {}, {}: {what}", picture.call, name_of(crash)))
}

fn shared(disk: &FaultDisk) -> Arc<dyn Disk> {
    Arc::new(disk.clone())
}

fn shown(found: &Found) -> String {
    let Found { record, vote, log, aside } = found;
    format!(
        "{record:?}, a vote of {} bytes, {} blocks from {} to {}, {} side files",
        vote.len(),
        log.blocks.len(),
        log.floor,
        log.end(),
        aside.len()
    )
}

/// The message of a panic.
#[must_use]
pub fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}

/// The name of a way of tearing, as the command line takes it.
#[must_use]
pub fn name_of(crash: Crash) -> String {
    format!("{crash:?}").to_lowercase()
}
