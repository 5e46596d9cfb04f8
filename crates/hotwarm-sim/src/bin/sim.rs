//! `sim`: runs seeds of the simulator, or one with its story, or the planted bugs.
//!
//! Exit codes: 0 all is well, 2 wrong usage, 3 a node crashed, 4 an invariant is broken, 5 a group did not converge,
//! 6 a planted bug was not found.

use hotwarm_sim::{Bug, Course, Outcome, Summary, Violation, print_trace, run, run_hashed, seed_at};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const USAGE: &str =
    "usage: sim [--seeds N] [--start S] [--minutes M] [--short | --drills] [--jobs J] [--json] [--keep-going]
       sim --seed X [--trace] [--from MS] [--bug NAME] [--short | --drills] [--json]
       sim mutants [--seeds N] [--start S] [--only NAME] [--json]
       sim bugs";

/// One seed in so many runs twice, and must end in the same hash.
const TWICE_EVERY: u64 = 20;

#[derive(Debug)]
struct Flags {
    verb: Option<String>,
    seeds: Option<u64>,
    start: u64,
    seed: Option<u64>,
    minutes: Option<u64>,
    jobs: usize,
    from_ms: u64,
    bug: Option<Bug>,
    only: Option<Bug>,
    course: Course,
    trace: bool,
    json: bool,
    keep_going: bool,
}

impl Flags {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let jobs = std::thread::available_parallelism().map_or(1, usize::from);
        let mut flags = Self {
            verb: None,
            seeds: None,
            start: 1,
            seed: None,
            minutes: None,
            jobs,
            from_ms: 0,
            bug: None,
            only: None,
            course: Course::Usual,
            trace: false,
            json: false,
            keep_going: false,
        };
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
            match argument.as_str() {
                "--seeds" => flags.seeds = Some(number(&value()?)?),
                "--start" => flags.start = number(&value()?)?,
                "--seed" => flags.seed = Some(number(&value()?)?),
                "--minutes" => flags.minutes = Some(number(&value()?)?),
                "--jobs" => flags.jobs = number(&value()?)?.clamp(1, 256) as usize,
                "--from" => flags.from_ms = number(&value()?)?,
                "--bug" => flags.bug = Some(bug(&value()?)?),
                "--only" => flags.only = Some(bug(&value()?)?),
                "--short" => flags.course = Course::Short,
                "--drills" => flags.course = Course::Drills,
                "--trace" => flags.trace = true,
                "--json" => flags.json = true,
                "--keep-going" => flags.keep_going = true,
                "mutants" | "bugs" if flags.verb.is_none() => flags.verb = Some(argument),
                other => return Err(format!("unknown argument {other:?}")),
            }
        }
        Ok(flags)
    }
}

fn number(text: &str) -> Result<u64, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| format!("{text:?} is no number"))
}

fn bug(name: &str) -> Result<Bug, String> {
    Bug::named(name).ok_or(format!("no bug is named {name:?}; `sim bugs` lists them"))
}

fn main() -> ExitCode {
    let flags = match Flags::parse(std::env::args().skip(1)) {
        Ok(flags) => flags,
        Err(error) => {
            eprintln!("sim: {error}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match (flags.verb.as_deref(), flags.seed) {
        (Some("mutants"), _) => mutants(&flags),
        (Some(_), _) => {
            for bug in Bug::ALL {
                println!("{:<24} {} (found by {})", bug.name(), bug.about(), bug.caught_by().join(", "));
            }
            ExitCode::SUCCESS
        }
        (None, Some(seed)) => one(&flags, seed),
        (None, None) => many(&flags),
    }
}

/// Runs one seed, with its story if wanted.
fn one(flags: &Flags, seed: u64) -> ExitCode {
    let (course, bug) = (flags.course, flags.bug);
    let worker = move |trace: bool, from: u64| {
        if trace { print_trace(seed, course, bug, from) } else { run(seed, course, bug) }
    };
    let (trace, from) = (flags.trace, flags.from_ms * 1_000_000);
    let Some(outcome) = on_a_thread(move || worker(trace, from)) else { return ExitCode::from(3) };
    let mut summary = Summary::default();
    summary.add(&outcome);
    report(flags, &summary);
    ExitCode::from(summary.exit_code())
}

/// Panics of nodes are kept for the outcome on threads whose name begins with "sim".
fn on_a_thread<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let thread = std::thread::Builder::new().name("sim".to_owned()).spawn(f).ok()?;
    thread.join().ok()
}

/// Runs many seeds on all cores, until the first failure unless told to keep going.
fn many(flags: &Flags) -> ExitCode {
    let seeds = flags.seeds.unwrap_or(if flags.minutes.is_some() { u64::MAX } else { 500 });
    let until = flags.minutes.map(|minutes| Instant::now() + Duration::from_secs(60 * minutes));
    let next = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    let total = Mutex::new(Summary::default());
    let work = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let late = until.is_some_and(|until| Instant::now() > until);
            if index >= seeds || late || stop.load(Ordering::Relaxed) {
                return;
            }
            let seed = seed_at(flags.start, index);
            let (outcome, mismatch) = run_seed(flags, seed, index);
            let mut total = total.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            total.add(&outcome);
            if mismatch {
                total.trace_hash_mismatches.push(seed);
            }
            if let Some(violation) = &outcome.violation {
                eprintln!("{violation}\n  rerun: cargo xtask sim --seed {seed:#x}{}", short(flags));
                if !flags.keep_going {
                    stop.store(true, Ordering::Relaxed);
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for job in 0..flags.jobs {
            let spawned = std::thread::Builder::new().name(format!("sim{job}")).spawn_scoped(scope, work);
            if let Err(error) = spawned {
                eprintln!("sim: start a thread: {error}");
            }
        }
    });
    let mut total = total.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    total.violations.sort_by_key(|(seed, _)| *seed);
    report(flags, &total);
    ExitCode::from(total.exit_code())
}

fn short(flags: &Flags) -> &'static str {
    match flags.course {
        Course::Short => " --short",
        Course::Usual => "",
        Course::Drills => " --drills",
    }
}

/// Runs a seed; one in twenty twice.
fn run_seed(flags: &Flags, seed: u64, index: u64) -> (Outcome, bool) {
    if !index.is_multiple_of(TWICE_EVERY) {
        return (run(seed, flags.course, flags.bug), false);
    }
    let first = run_hashed(seed, flags.course, flags.bug);
    let second = run_hashed(seed, flags.course, flags.bug);
    let mismatch = first.hash != second.hash;
    (first, mismatch)
}

fn report(flags: &Flags, summary: &Summary) {
    if flags.json {
        println!("{}", summary.json());
        return;
    }
    for (seed, violation) in &summary.violations {
        println!("{violation}\n  rerun: cargo xtask sim --seed {seed:#x}{}", short(flags));
    }
    println!(
        "{} seeds, {:.2} cluster hours, {} steps, {} writes and {} reads; {} failed, {} beyond survival, \
         {} hash mismatches; writes flowed at the latest {} ms after the faults",
        summary.seeds,
        summary.cluster_hours,
        summary.steps,
        summary.acknowledged,
        summary.reads,
        summary.violations.len(),
        summary.beyond,
        summary.trace_hash_mismatches.len(),
        summary.served_after_max / 1_000_000
    );
    for (kind, count, median, longest) in summary.drill_times() {
        let (median, longest) = (median as f64 / 1e6, longest as f64 / 1e6);
        println!("{count} times {kind}: the next hot served after {median:.1} ms (median), {longest:.1} ms (longest)");
    }
    println!("faults: {:?}\nevents: {:?}", summary.faults, summary.notes);
}

/// Plants each bug and looks for it, seed by seed.
fn mutants(flags: &Flags) -> ExitCode {
    let seeds = flags.seeds.unwrap_or(4_000);
    let bugs: Vec<_> = Bug::ALL.into_iter().filter(|bug| flags.only.is_none_or(|only| only == *bug)).collect();
    let next = AtomicU64::new(0);
    let found = Mutex::new(vec![None; bugs.len()]);
    let work = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed) as usize;
            let Some(bug) = bugs.get(index) else { return };
            let hit = (0..seeds).find_map(|attempt| {
                let outcome = run(seed_at(flags.start, attempt), flags.course, Some(*bug));
                // What another check says first is a find as well, but not the one that this bug is planted for.
                let named = |violation: &Violation| bug.caught_by().contains(&violation.rule.as_str());
                outcome.violation.filter(named).map(|violation| (attempt + 1, violation))
            });
            found.lock().unwrap_or_else(std::sync::PoisonError::into_inner)[index] = hit;
        }
    };
    std::thread::scope(|scope| {
        for job in 0..flags.jobs {
            let spawned = std::thread::Builder::new().name(format!("sim{job}")).spawn_scoped(scope, work);
            if let Err(error) = spawned {
                eprintln!("sim: start a thread: {error}");
            }
        }
    });
    let found = found.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut missed = 0;
    let mut lines = Vec::new();
    for (bug, hit) in bugs.iter().zip(found) {
        let name = bug.name();
        let right = hit.as_ref().is_some_and(|(_, violation)| bug.caught_by().contains(&violation.rule.as_str()));
        missed += u64::from(!right);
        let (attempts, rule, what) = match &hit {
            Some((attempts, violation)) => (*attempts, violation.rule.as_str(), violation.what.as_str()),
            None => (seeds, "nothing", "not found"),
        };
        if flags.json {
            lines.push(format!("{{\"bug\":\"{name}\",\"found\":{right},\"seeds\":{attempts},\"rule\":\"{rule}\"}}"));
        } else {
            let verdict = if right { "found" } else { "MISSED" };
            println!("{verdict:<7} {name:<24} by {rule:<8} in {attempts:>3} seeds: {what}");
        }
    }
    if flags.json {
        println!("[{}]", lines.join(","));
    }
    ExitCode::from(if missed == 0 { 0 } else { 6 })
}
