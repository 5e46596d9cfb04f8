//! The planted bugs: each is looked for, seed by seed, until a check that is to find it does.

use crate::flags::Flags;
use crate::on_threads;
use hotwarm_sim::{Bug, Course, Run, Violation, seed_at};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Seeds that are tried for a bug.
const SEEDS_MAX: u64 = 4_000;

/// Plants each bug and looks for it.
pub fn find_all(flags: &Flags) -> ExitCode {
    let bugs: Vec<_> = Bug::all().filter(|bug| flags.only.is_none_or(|only| only == *bug)).collect();
    let next = AtomicUsize::new(0);
    let found = Mutex::new(vec![None; bugs.len()]);
    on_threads(flags.jobs, || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(bug) = bugs.get(index) else { return };
            let hit = find(flags, *bug);
            found.lock().unwrap_or_else(PoisonError::into_inner)[index] = hit;
        }
    });
    let found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    let lines: Vec<_> = bugs.iter().zip(&found).map(|(bug, hit)| line(flags, *bug, hit.as_ref())).collect();
    if flags.json {
        println!("[{}]", lines.join(","));
    } else {
        lines.iter().for_each(|line| println!("{line}"));
        let mut seeds: Vec<_> = found.iter().flatten().map(|(seeds, _)| *seeds).collect();
        seeds.sort_unstable();
        let median = seeds.get(seeds.len() / 2).copied().unwrap_or_default();
        println!("{} of {} bugs found; seeds needed: {median} (median)", seeds.len(), bugs.len());
    }
    ExitCode::from(if found.iter().all(Option::is_some) { 0 } else { 6 })
}

/// How many seeds it took, and what was said. What another check says first is a find as well, but not the one that the
/// bug is planted for.
fn find(flags: &Flags, bug: Bug) -> Option<(u64, Violation)> {
    (0..flags.seeds.unwrap_or(SEEDS_MAX)).find_map(|attempt| {
        let run = Run { bug: Some(bug), ..Run::new(seed_at(flags.start, attempt), Course::Dense) };
        let named = |violation: &Violation| bug.caught_by().contains(&violation.rule.as_str());
        run.outcome().violation.filter(named).map(|violation| (attempt + 1, violation))
    })
}

fn line(flags: &Flags, bug: Bug, hit: Option<&(u64, Violation)>) -> String {
    let name = bug.name();
    let tried = flags.seeds.unwrap_or(SEEDS_MAX);
    let (seeds, check, what) = match hit {
        Some((seeds, violation)) => (*seeds, violation.rule.as_str(), violation.what.as_str()),
        None => (tried, "nothing", "not found"),
    };
    if flags.json {
        let found = hit.is_some();
        return format!("{{\"bug\":\"{name}\",\"found\":{found},\"seeds\":{seeds},\"check\":\"{check}\"}}");
    }
    let verdict = if hit.is_some() { "found" } else { "MISSED" };
    format!("{verdict:<7} {name:<24} by {check:<8} in {seeds:>4} seeds: {what}")
}
