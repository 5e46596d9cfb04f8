//! The project's own scripts: `cargo xtask ci | test | compat | sim | model | storage | fuzz | busy | bench | deps | errors | tidy | fix`.
//!
//! `ci` is the gate, the same on every machine; the others are its parts. None but `fix` writes to the source tree.
//! Everything is done with the tools that come with Rust; cargo-nextest is used where it is installed. Only `compat`,
//! `bench` and `errors` need programs of others, and say which.

mod bench;
mod busy;
mod ci;
mod compat;
mod deps;
mod errors;
mod fuzz;
mod licence;
mod tidy;
mod tools;

use std::path::Path;
use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask COMMAND

  ci [PHASE ...]   the whole gate, or only these phases of it
  test [ARGS]      all tests; ARGS go to cargo-nextest or cargo test
  compat [PROGRAM] redis-cli, redis-py and a Rust client against every node, while hots die and hand over;
                   PROGRAM is the hotwarm to test, otherwise that of the debug build
  sim [ARGS]       the simulator, in release; --seeds N, --drills, --seed X --trace | --step, pairs,
                   triples, mutants, bugs, faults
  storage [ARGS]   log, votes, folder and trees broken at every call and in every bit, in release; --share N, --seed S, --json
  mutants [ARGS]   the planted bugs, each looked for by the simulator; --json, --only NAME
  model [ARGS]     every order of what may happen in a small group, in release; [SCENE ...], --states N, --depth D,
                   --mutants, --list, --json
  busy             a group at default timers on fully used cores, for 10 minutes or --seconds N: nothing fails over
  bench [ARGS]     measures, in release, beside a real Redis; store --runs N --seconds N --json
  fuzz [TARGET]    a search for bytes that break a decoder; --inputs N, --seconds N, --seed N, --json, --keep, --coverage
  deps             layers, licences and bans of dependencies
  errors           each error path of log, replication, register and storage is reached by a test; needs llvm-cov
  tidy             what every source file must keep
  fix              format, and let clippy repair what it can";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let command = arguments.next().unwrap_or_default();
    let rest: Vec<String> = arguments.collect();
    let done = match command.as_str() {
        "ci" => ci::run(&rest),
        "test" => ci::test(&rest),
        "compat" => compat::compat(rest.first().map(Path::new)),
        "sim" => ci::sim(&rest),
        "mutants" => ci::sim(&[vec![command.clone()], rest].concat()),
        "storage" => ci::storage(&rest),
        "model" => ci::model(&rest),
        "busy" => busy::busy(&rest),
        "bench" => bench::bench(&rest),
        "deps" => deps::check(),
        "errors" => errors::check(),
        "tidy" => tidy::check(),
        "fuzz" => fuzz::fuzz(&rest),
        "fix" => ci::fix(),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failed) => {
            eprintln!("xtask: {failed}");
            ExitCode::FAILURE
        }
    }
}
