//! The load and its judge alone: `hotwarm-torture SECONDS SEED NAME=FRONT,OWN_COPY ...` drives a group that somebody else has
//! started and breaks, judges it, and leaves the plot in `timeline.svg`.

use hotwarm_torture::workload::{self, Target};
use hotwarm_torture::{clock, judge, timeline};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

fn target(text: &str) -> Option<Target> {
    let (name, addresses) = text.split_once('=')?;
    let (front, own_copy) = addresses.split_once(',')?;
    Some(Target { name: name.to_owned(), front: front.parse().ok()?, own_copy: own_copy.parse().ok()?, verified: None })
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let parsed = arguments.split_at_checked(2).and_then(|(numbers, targets)| {
        let targets: Vec<Target> = targets.iter().map(|text| target(text)).collect::<Option<_>>()?;
        Some((numbers[0].parse::<u64>().ok()?, numbers[1].parse::<u64>().ok()?, targets))
    });
    let Some((seconds, seed, targets)) = parsed.filter(|(_, _, targets)| !targets.is_empty()) else {
        eprintln!("usage: hotwarm-torture SECONDS SEED NAME=FRONT,OWN_COPY ...");
        return ExitCode::from(2);
    };
    let load = workload::start(targets.clone(), seed, clock::RunClock::start(), Arc::new(|| Ok(())));
    std::thread::sleep(Duration::from_secs(seconds));
    println!("{} writes acknowledged; now everything is read", load.acknowledged());
    let observed = load.stop();
    let verdict = judge::judge(&targets, &observed);
    for finding in &verdict.summary.findings {
        println!("{finding}");
    }
    verdict
        .summary
        .undecided
        .iter()
        .chain(&verdict.differences)
        .chain(&verdict.errors)
        .for_each(|line| println!("{line}"));
    println!("{} keys, {}", verdict.keys, if verdict.identical { "identical on all nodes" } else { "nodes differ" });
    let summary = &verdict.summary;
    let picture = timeline::Picture {
        title: format!("hotwarm under load: seed {seed}, {} nodes, {seconds} s", targets.len()),
        totals: format!(
            "{} calls: {} acknowledged, {} refused, {} unknown; {} lost, {} duplicated, {} stale, {} other contradictions",
            summary.calls,
            summary.acknowledged,
            summary.failed,
            summary.unknown,
            summary.lost,
            summary.duplicated,
            summary.stale,
            summary.other
        ),
        length_ns: seconds * 1_000_000_000,
        nodes: targets.iter().map(|target| target.name.clone()).collect(),
        pauses: observed.pauses,
        acknowledged_per_second: observed.acknowledged_per_second,
        ..timeline::Picture::default()
    };
    println!("{}", picture.totals);
    if let Err(error) = std::fs::write("timeline.svg", timeline::draw(&picture)) {
        eprintln!("timeline.svg: {error}");
    }
    if verdict.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
