//! `cargo xtask compat`: unmodified clients against every node of real groups.
//!
//! The tests are `crates/hotwarm/tests/compat.rs` and `clients.rs`; here is only what they need from others, and the words
//! for whoever lacks it. Nothing is skipped: a missing program is a failure.

use crate::tools::{cargo, root, run, succeeds, target_dir};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What of others the Python client's folder holds, below the target folder.
const VENV: &str = "compat-venv";

/// Runs the tests with this program, or with that of the debug build.
///
/// # Errors
/// A program of others is missing, or a test failed.
pub fn compat(program: Option<&Path>) -> Result<(), String> {
    let python = target_dir()?.join(VENV).join("bin/python3");
    let missing: Vec<String> = [redis_cli(), redis_py(&python)].into_iter().filter_map(Result::err).collect();
    if !missing.is_empty() {
        return Err(missing.join("\n       "));
    }
    let mut command = cargo();
    // The whole workspace, so that it is built with the same features as by `cargo xtask test`.
    command.args(["test", "--workspace", "--locked", "--quiet", "--test", "compat", "--test", "clients"]);
    command.env("HOTWARM_COMPAT_PYTHON", python);
    if let Some(program) = program {
        let program = std::path::absolute(program).map_err(|error| format!("{}: {error}", program.display()))?;
        if !program.is_file() {
            return Err(format!("there is no program {}: cargo build --release --package hotwarm", program.display()));
        }
        command.env("HOTWARM_TEST_PROGRAM", program);
    }
    run(command.args(["--", "--include-ignored"]))
}

fn redis_cli() -> Result<(), String> {
    if succeeds(Command::new("redis-cli").arg("--version")) {
        return Ok(());
    }
    Err("redis-cli is missing (Debian: apt-get install redis-tools)".to_owned())
}

fn redis_py(python: &Path) -> Result<(), String> {
    let requirements: PathBuf = root().join("tests/compat/requirements.txt");
    let wanted =
        std::fs::read_to_string(&requirements).map_err(|error| format!("{}: {error}", requirements.display()))?;
    let check = "import importlib.metadata as m, sys; sys.exit(f'redis=={m.version(\"redis\")}' != sys.argv[1])";
    if succeeds(Command::new(python).args(["-c", check, wanted.trim()])) {
        return Ok(());
    }
    let venv = python.ancestors().nth(2).unwrap_or(python).display();
    Err(format!(
        "the Python client {} is missing: python3 -m venv {venv} && {venv}/bin/pip install -r {} \
         (Debian: apt-get install python3-venv before that)",
        wanted.trim(),
        requirements.display()
    ))
}
