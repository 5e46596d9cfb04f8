//! Load and judge against a group that is honest, and against ones that are broken on purpose.

use super::fake_group::{Bug, FakeGroup};
use super::{Observed, Target, start};
use crate::clock::RunClock;
use crate::judge::{Verdict, judge};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

fn run(bug: Bug) -> (Observed, Verdict) {
    let group = FakeGroup::start(bug);
    let targets: Vec<Target> = ["a", "b", "c"]
        .iter()
        .zip(&group.fronts)
        .map(|(name, front)| Target {
            name: (*name).to_owned(),
            front: *front,
            own_copy: *front,
            verified: Some(*front),
        })
        .collect();
    let load = start(targets.clone(), 7, RunClock::start(), Arc::new(|| Ok(())));
    // Until there is enough to judge, however slow the machine is.
    while load.acknowledged() < 1_500 {
        thread::sleep(Duration::from_millis(20));
    }
    let observed = load.stop();
    let verdict = judge(&targets, &observed);
    (observed, verdict)
}

#[test]
fn an_honest_group_whose_connections_break_is_good() {
    let (observed, verdict) = run(Bug::None);
    assert!(verdict.is_good(), "{verdict:?}");
    assert!(verdict.summary.unknown > 0 && verdict.keys > 100, "{:?}", verdict.summary);
    let history = &observed.history;
    let calls = [history.counters.len(), history.registers.len(), history.set.len(), history.lists.len()];
    assert!(calls.iter().chain([&history.bank.len(), &history.sessions.len()]).all(|calls| *calls > 50), "{calls:?}");
}

#[test]
fn forgotten_writes_are_lost_ones() {
    let (_, verdict) = run(Bug::Forgets);
    assert!(verdict.summary.lost > 0, "{verdict:?}");
}

#[test]
fn retries_that_are_done_again_are_seen() {
    let (_, verdict) = run(Bug::DoesTwice);
    assert!(verdict.summary.duplicated > 0, "{verdict:?}");
}

#[test]
fn old_reads_are_stale() {
    let (_, verdict) = run(Bug::ReadsOld);
    assert!(verdict.summary.stale > 0, "{verdict:?}");
}

#[test]
fn half_transactions_are_seen() {
    let (_, verdict) = run(Bug::Halves);
    let torn = verdict.summary.findings.iter().any(|finding| finding.check == "C20");
    assert!(torn, "{verdict:?}");
}

#[test]
fn nodes_that_differ_are_told_apart() {
    let (_, verdict) = run(Bug::Differs);
    assert!(!verdict.identical && verdict.differences[0].contains("differ in 1 keys"), "{verdict:?}");
}
