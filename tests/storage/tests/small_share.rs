//! A small share of each loop, with every test run: the whole is `cargo xtask storage`.

use hotwarm_storage_loops::report::Failure;
use hotwarm_storage_loops::share::Share;
use hotwarm_storage_loops::{damage, folder_loop, log_loop};
use std::path::Path;

fn share(one_in: u64) -> Share {
    Share { one_in, seed: 1, only: None, workers: 2 }
}

fn assert_none(failures: &[Failure]) {
    let lines: Vec<String> = failures.iter().map(|failure| format!("{}: {}", failure.replay, failure.what)).collect();
    assert!(lines.is_empty(), "{}", lines.join("\n"));
}

#[test]
fn log_votes_and_record_survive_a_crash_at_some_calls_of_a_life() {
    let found = log_loop::run(share(25), 1_500, None);
    assert_none(&found.failures);
    assert!(found.points >= 60 && found.tearings == found.points * 7, "{found:?}");
    assert!(found.recoveries > found.tearings * 3, "{found:?}");
}

#[test]
fn a_whole_folder_survives_a_crash_at_some_recorded_calls() {
    let program = Path::new(env!("CARGO_BIN_EXE_storage"));
    let found = folder_loop::run(share(150), program, None).unwrap();
    assert_none(&found.failures);
    assert!(found.points >= 8 && found.tearings == found.points * 6, "{found:?}");
}

#[test]
fn damage_to_every_kind_of_file_is_found_or_harmless() {
    let found = damage::run(share(400)).unwrap();
    assert_none(&found.failures);
    for kind in ["log segment, sealed", "log segment, open", "log head", "vote record", "folder record", "tree, table"]
    {
        let outcomes = found.flips.get(kind).copied().unwrap_or_default();
        assert!(outcomes.count() > 0, "no bit was flipped of {kind}: {:?}", found.flips);
    }
    assert!(found.flip_count() > 500, "{:?}", found.flips);
}
