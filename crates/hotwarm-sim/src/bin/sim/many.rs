//! Many runs on all cores: seeds drawn one after the other, or every script of small scope.

use crate::flags::Flags;
use crate::on_threads;
use crate::one::{explain, report};
use hotwarm_sim::{Run, Script, Summary, seed_at};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// One run in so many is done twice, and must end in the same hash.
const TWICE_EVERY: u64 = 20;

/// Runs seeds, until the first failure unless told to keep going.
pub fn seeds(flags: &Flags) -> ExitCode {
    let count = flags.seeds.unwrap_or(if flags.minutes.is_some() { u64::MAX } else { 500 });
    all(flags, count, |index| flags.run(seed_at(flags.start, index), flags.course))
}

/// Runs every script of so many steps, or a share of them.
pub fn scripts(flags: &Flags, steps: u32) -> ExitCode {
    let (part, whole) = flags.share;
    let count = (Script::count(steps) + whole - 1 - part) / whole;
    all(flags, count, |index| {
        let number = index * whole + part;
        let course = hotwarm_sim::Course::Small(Script::numbered(steps, number));
        flags.run(seed_at(flags.start, number), course)
    })
}

fn all(flags: &Flags, count: u64, run_at: impl Fn(u64) -> Run + Sync) -> ExitCode {
    let until = flags.minutes.map(|minutes| Instant::now() + Duration::from_secs(60 * minutes));
    let next = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    let total = Mutex::new(Summary::default());
    on_threads(flags.jobs, || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let late = until.is_some_and(|until| Instant::now() > until);
            if index >= count || late || stop.load(Ordering::Relaxed) {
                return;
            }
            let run = run_at(index);
            let twice = index.is_multiple_of(TWICE_EVERY);
            let outcome = if twice { run.hashed() } else { run.outcome() };
            let differs = twice && run.hashed().hash != outcome.hash;
            let mut total = total.lock().unwrap_or_else(PoisonError::into_inner);
            total.add(&outcome);
            if differs {
                total.trace_hash_mismatches.push(run.seed);
            }
            let first = total.violations.len() == 1;
            drop(total);
            if outcome.violation.is_some() {
                if first || flags.keep_going {
                    explain(&run, &outcome);
                }
                if !flags.keep_going {
                    stop.store(true, Ordering::Relaxed);
                }
            }
        }
    });
    let mut total = total.into_inner().unwrap_or_else(PoisonError::into_inner);
    total.violations.sort_by_key(|(seed, _)| *seed);
    report(flags, &total);
    ExitCode::from(total.exit_code())
}
