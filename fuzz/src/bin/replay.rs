//! Runs a target on single files, to see an input fail again, or on whole folders of them.
//!
//! `replay TARGET [FILE|FOLDER ...]`; without files, all that is committed for the target, or for `all` of them. It
//! ends with the first input that fails; what each target took at most is printed.

use hotwarm_fuzz::{Cost, TARGETS, Target, committed, target};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().unwrap_or_default();
    let paths: Vec<PathBuf> = arguments.map(PathBuf::from).collect();
    let targets: Vec<&Target> = match target(&name) {
        Some(target) => vec![target],
        None if name == "all" => TARGETS.iter().collect(),
        None => {
            let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
            eprintln!("usage: replay TARGET [FILE|FOLDER ...]\ntargets: all {}", names.join(" "));
            return ExitCode::from(2);
        }
    };
    for target in targets {
        match inputs(target, &paths) {
            Ok(inputs) => replay(target, &inputs),
            Err(error) => {
                eprintln!("replay: {error}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}

fn inputs(target: &Target, paths: &[PathBuf]) -> Result<Vec<(String, Vec<u8>)>, String> {
    if paths.is_empty() {
        return committed(target);
    }
    let mut all = Vec::new();
    for path in paths {
        all.extend(hotwarm_fuzz::read_inputs(Path::new(path))?);
    }
    Ok(all)
}

fn replay(target: &Target, inputs: &[(String, Vec<u8>)]) {
    let mut worst = Cost::ZERO;
    for (name, input) in inputs {
        if inputs.len() <= 10 {
            println!("{}: {name}, {} bytes", target.name, input.len());
        }
        worst.raise(target.check(input));
    }
    let (count, time) = (inputs.len(), worst.time.as_micros());
    println!("{}: {count} inputs, at most {time} us and {} bytes allocated", target.name, worst.memory_bytes);
}
