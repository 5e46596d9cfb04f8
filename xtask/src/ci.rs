//! The gate: phases in the order of what fails soonest, each timed, the first failure ends it.

use crate::tools::{self, cargo, output, release_dir, succeeds};
use crate::{bench, busy, compat, deps, tidy};
use std::process::Command;
use std::time::Instant;

/// A phase of the gate.
struct Phase {
    name: &'static str,
    about: &'static str,
    run: fn() -> Result<(), String>,
}

/// Seeds of the simulator that the gate runs.
const SEEDS: &str = "1000";

/// One case in so many of the storage loops: about three minutes on two cores. Another share of them with each seed.
const STORAGE_SHARE: &str = "4";

/// States of each scene of the model check that the gate visits: less than a minute in all.
const MODEL_STATES: &str = "60000";

const PHASES: [Phase; 14] = [
    Phase { name: "fmt", about: "the source is formatted", run: fmt },
    Phase { name: "deps", about: "layers, licences and bans of dependencies", run: deps::check },
    Phase { name: "tidy", about: "what every source file must keep", run: tidy::check },
    Phase { name: "clippy", about: "no warnings", run: clippy },
    Phase { name: "test", about: "all tests", run: || test(&[]) },
    Phase { name: "doc", about: "the documentation builds without warnings", run: doc },
    Phase { name: "build", about: "the release binaries", run: build },
    Phase { name: "compat", about: "unmodified clients on every node, while hots die and hand over", run: compat },
    Phase { name: "sim", about: "seeds, drills, every pair of faults, and every planted bug is found", run: simulate },
    Phase { name: "storage", about: "a share of all crashes and flipped bits of the files", run: break_storage },
    Phase {
        name: "model",
        about: "every order of a small group, and every planted mistake is found",
        run: check_models,
    },
    Phase { name: "demo", about: "a real group under load, killed and frozen", run: demo },
    Phase { name: "busy", about: "no takeover while every core is taken", run: || busy::under_load(30) },
    Phase { name: "bench", about: "the measures beside Redis still run; their figures here say nothing", run: measure },
];

/// Runs the named phases, or all.
pub fn run(names: &[String]) -> Result<(), String> {
    if let Some(unknown) = names.iter().find(|name| PHASES.iter().all(|phase| phase.name != **name)) {
        let known: Vec<&str> = PHASES.iter().map(|phase| phase.name).collect();
        return Err(format!("no phase is named {unknown:?}; there are {}", known.join(", ")));
    }
    let mut took = Vec::new();
    for phase in PHASES.iter().filter(|phase| names.is_empty() || names.iter().any(|name| name == phase.name)) {
        println!("==> {}: {}", phase.name, phase.about);
        let began = Instant::now();
        let done = (phase.run)();
        took.push((phase.name, began.elapsed()));
        if let Err(failed) = done {
            return Err(format!("phase {} failed: {failed}", phase.name));
        }
    }
    println!("==> all is well");
    for (name, took) in took {
        println!("    {name:<8}{:>8.1} s", took.as_secs_f64());
    }
    Ok(())
}

fn fmt() -> Result<(), String> {
    tools::run(cargo().args(["fmt", "--all", "--check"]))
}

fn clippy() -> Result<(), String> {
    tools::run(cargo().args(["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]))
}

fn doc() -> Result<(), String> {
    let mut command = cargo();
    command.args(["doc", "--workspace", "--no-deps", "--locked"]);
    tools::run(command.env("RUSTDOCFLAGS", "-D warnings"))
}

/// All tests, documentation tests included, which cargo-nextest does not run.
pub fn test(arguments: &[String]) -> Result<(), String> {
    if succeeds(cargo().args(["nextest", "--version"])) {
        tools::run(cargo().args(["nextest", "run", "--workspace", "--locked"]).args(arguments))?;
        return tools::run(cargo().args(["test", "--workspace", "--locked", "--doc", "--quiet"]));
    }
    tools::run(cargo().args(["test", "--workspace", "--locked", "--quiet"]).args(arguments))
}

fn build() -> Result<(), String> {
    tools::run(cargo().args(["build", "--release", "--locked", "--package", "hotwarm"]).args([
        "--package",
        "hotwarm-sim",
        "--package",
        "hotwarm-model",
    ]))
}

/// The simulator with these arguments.
pub fn sim(arguments: &[String]) -> Result<(), String> {
    let mut command = cargo();
    command.args(["run", "--release", "--locked", "--quiet", "--package", "hotwarm-sim", "--bin", "sim", "--"]);
    tools::run(command.args(arguments))
}

/// The storage loops with these arguments.
pub fn storage(arguments: &[String]) -> Result<(), String> {
    let mut command = cargo();
    command.args(["run", "--release", "--locked", "--quiet", "--package", "hotwarm-storage-loops", "--"]);
    tools::run(command.args(arguments))
}

fn simulate() -> Result<(), String> {
    let seeds = [&["--seeds", SEEDS][..], &["--drills", "--seeds", "100"], &["pairs"], &["mutants"]];
    for arguments in seeds {
        sim(&arguments.iter().map(|argument| (*argument).to_owned()).collect::<Vec<_>>())?;
    }
    Ok(())
}

fn break_storage() -> Result<(), String> {
    storage(&["--share", STORAGE_SHARE].map(str::to_owned))
}

/// The model check with these arguments.
pub fn model(arguments: &[String]) -> Result<(), String> {
    let mut command = cargo();
    command.args(["run", "--release", "--locked", "--quiet", "--package", "hotwarm-model", "--bin", "model", "--"]);
    tools::run(command.args(arguments))
}

/// The gate's share: a part of each scene, the nearest orders first, and the mistakes.
fn check_models() -> Result<(), String> {
    for arguments in [&["--states", MODEL_STATES][..], &["--mutants"]] {
        model(&arguments.iter().map(|argument| (*argument).to_owned()).collect::<Vec<_>>())?;
    }
    Ok(())
}

fn compat() -> Result<(), String> {
    compat::compat(Some(&release_dir()?.join("hotwarm")))
}

/// Crashes with two warm nodes, then frozen hots with a witness.
fn demo() -> Result<(), String> {
    let program = release_dir()?.join("hotwarm");
    for arguments in [&["--rounds", "3"][..], &["--rounds", "1", "--kind", "pause", "--witness"]] {
        println!("{}", output(Command::new(&program).arg("demo").args(arguments).arg("--json"))?);
    }
    Ok(())
}

fn measure() -> Result<(), String> {
    bench::bench(&["store", "--runs", "1", "--seconds", "1"].map(str::to_owned))
}

/// Formats, and lets clippy repair what it can.
pub fn fix() -> Result<(), String> {
    tools::run(cargo().args(["clippy", "--workspace", "--all-targets", "--fix", "--allow-dirty", "--allow-staged"]))?;
    tools::run(cargo().args(["fmt", "--all"]))
}
