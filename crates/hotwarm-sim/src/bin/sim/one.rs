//! One seed: its outcome, its story, a walk through it, or the fewest faults that it needs to fail.

use crate::flags::{Flags, rerun};
use hotwarm_sim::{Outcome, Run, Summary, replay, shrink};
use std::process::ExitCode;

/// Lines of the story that are told of a failure.
const LINES: usize = 30;

/// Runs one seed, as wanted.
pub fn one(flags: &Flags, seed: u64) -> ExitCode {
    let run = flags.run(seed, flags.course);
    if flags.step {
        let done = replay(&run, &mut std::io::stdin().lock(), &mut std::io::stdout());
        return if done.is_ok() { ExitCode::SUCCESS } else { ExitCode::from(2) };
    }
    let (wants_trace, from) = (flags.trace, flags.from_ms * 1_000_000);
    let (worker, shrinks) = (run.clone(), flags.shrink);
    let ran = on_a_thread(move || {
        let outcome = if wants_trace { worker.printed(from) } else { worker.outcome() };
        if shrinks {
            explain(&worker, &outcome);
        }
        outcome
    });
    let Some(outcome) = ran else { return ExitCode::from(3) };
    let mut summary = Summary::default();
    summary.add(&outcome);
    report(flags, &summary);
    if let Some(violation) = &outcome.violation {
        println!("{violation}\n  rerun: {}", rerun(&run));
    }
    ExitCode::from(summary.exit_code())
}

/// Panics of nodes are kept for the outcome on threads whose name begins with "sim".
fn on_a_thread<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let thread = std::thread::Builder::new().name("sim".to_owned()).spawn(f).ok()?;
    thread.join().ok()
}

/// Tells of a failure: the check, the line that repeats it, the faults that it needs, and how it ended.
pub fn explain(run: &Run, outcome: &Outcome) {
    let Some(violation) = &outcome.violation else { return };
    eprintln!("{violation}\n  rerun:  {}", rerun(run));
    let Some((smaller, least)) = shrink(run, outcome) else { return };
    eprintln!("  shrunk: {}", rerun(&smaller));
    eprintln!("  {} of {} faults are needed:", least.happened.len(), outcome.happened.len());
    for fault in &least.happened {
        let (ms, kind, machine, length) = (fault.at / 1_000_000, fault.kind, &fault.machine, fault.length_ms);
        eprintln!("  {ms:>10} ms  {kind} at {machine}, {length} ms  (number {})", fault.number);
    }
    eprintln!("  how it ends:");
    for line in smaller.told(LINES).1 {
        eprintln!("    {line}");
    }
}

/// Prints what came of some runs.
pub fn report(flags: &Flags, summary: &Summary) {
    if flags.json {
        println!("{}", summary.json());
        return;
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
    let total: u64 = summary.faults.values().sum();
    println!("{total} faults that changed what happened: {:?}\nevents: {:?}", summary.faults, summary.notes);
}
