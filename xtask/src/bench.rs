//! `cargo xtask bench store`: measures, beside the programs that people use today.

use crate::tools::{cargo, run};

/// Builds the program that is measured, then measures; the arguments go to `hotwarm-bench`.
pub fn bench(arguments: &[String]) -> Result<(), String> {
    run(cargo().args(["build", "--release", "--locked", "--quiet", "--package", "hotwarm"]))?;
    let mut command = cargo();
    command.args(["run", "--release", "--locked", "--quiet", "--package", "hotwarm-bench", "--"]);
    run(command.args(arguments))
}
