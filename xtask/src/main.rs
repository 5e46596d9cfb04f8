//! The project's own scripts: `cargo xtask ci | test | sim | bench | deps | tidy | fix`.
//!
//! `ci` is the gate, the same on every machine; the others are its parts. None but `fix` writes to the source tree.
//! Everything is done with the tools that come with Rust; cargo-nextest is used where it is installed.

mod bench;
mod ci;
mod deps;
mod licence;
mod tidy;
mod tools;

use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask COMMAND

  ci [PHASE ...]   the whole gate, or only these phases of it
  test [ARGS]      all tests; ARGS go to cargo-nextest or cargo test
  sim [ARGS]       the simulator, in release; --seeds N, --seed X --trace, mutants, bugs
  bench [ARGS]     measures, in release, beside a real Redis; store --runs N --seconds N --json
  deps             layers, licences and bans of dependencies
  tidy             what every source file must keep
  fix              format, and let clippy repair what it can";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let command = arguments.next().unwrap_or_default();
    let rest: Vec<String> = arguments.collect();
    let done = match command.as_str() {
        "ci" => ci::run(&rest),
        "test" => ci::test(&rest),
        "sim" => ci::sim(&rest),
        "bench" => bench::bench(&rest),
        "deps" => deps::check(),
        "tidy" => tidy::check(),
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
