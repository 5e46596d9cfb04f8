//! Every committed input, and some thousand mutations, of every target: the search's part that needs nothing but
//! `cargo test`.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use hotwarm_fuzz::{INPUT_SIZE_BYTES_MAX, Mutation, TARGETS, Target, committed};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Mutations of each target.
const MUTATIONS: usize = 2_000;
const SEED: u64 = 1;

/// Runs inputs and says by name which one failed first.
fn check<'a>(target: &Target, inputs: impl Iterator<Item = (String, &'a [u8])>) {
    for (name, input) in inputs {
        if catch_unwind(AssertUnwindSafe(|| target.check(input))).is_err() {
            panic!("target {} fails with {name}: {}", target.name, input.escape_ascii());
        }
    }
}

fn replay(name: &str) {
    let target = hotwarm_fuzz::target(name).unwrap();
    let inputs = committed(target).unwrap();
    assert!(!inputs.is_empty(), "{name} has no inputs");
    check(target, inputs.iter().map(|(name, input)| (name.clone(), &input[..])));
    let examples: Vec<Vec<u8>> = inputs.into_iter().map(|(_, input)| input).collect();
    let mut mutation = Mutation::new(SEED);
    for number in 0..MUTATIONS {
        let input = mutation.next(&examples, INPUT_SIZE_BYTES_MAX);
        check(target, std::iter::once((format!("mutation {number} of seed {SEED}"), &input[..])));
    }
}

/// A test for each target, named as it is.
macro_rules! targets {
    ($($name:ident),* $(,)?) => {
        $(#[test]
        fn $name() {
            replay(stringify!($name));
        })*

        #[test]
        fn every_target_has_a_test() {
            let tested = [$(stringify!($name)),*];
            assert_eq!(TARGETS.map(|target| target.name).to_vec(), tested);
        }
    };
}

targets!(
    resp_request,
    resp_reply,
    commands,
    call,
    forwarded,
    frame,
    peer_stream,
    register,
    death,
    guardian_line,
    log_recovery,
    slot,
    folder,
    cut_file,
    effects,
    snapshot,
    incoming_record,
    config,
    settings,
    ticket,
    certificate,
    admin,
    history,
);

#[test]
fn every_folder_of_inputs_is_that_of_a_target() {
    for folder in ["corpus", "regressions"] {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        for entry in std::fs::read_dir(path).into_iter().flatten() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            assert!(hotwarm_fuzz::target(&name).is_some(), "{folder}/{name} belongs to no target");
        }
    }
}
