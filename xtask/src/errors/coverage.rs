//! What the tests execute, place by place: they are built with the compiler's own counters, and llvm-cov reads these.
//!
//! A place is a line and a column, since most error branches share their line with what succeeds. Only our own packages
//! are instrumented (`instrument.sh` stands between cargo and the compiler), so all others are those of any build. The
//! tools must be of the compiler's own LLVM, or of a later one: `llvm-tools` of rustup where it is installed, else
//! Debian's `llvm-N`.

use crate::tools::{cargo, output, root, run, target_dir};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// From here on, up to where the next begins, everything was executed equally often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Segment {
    line: usize,
    column: usize,
    /// `None` where nothing is counted.
    count: Option<u64>,
}

/// What was executed of a source file.
#[derive(Debug, Default)]
pub struct Executed {
    segments: Vec<Segment>,
}

impl Executed {
    /// How often the place was reached; `None` where no test's program holds it.
    pub fn at(&self, line: usize, column: usize) -> Option<u64> {
        let after = self.segments.partition_point(|segment| (segment.line, segment.column) <= (line, column));
        self.segments[..after].last().and_then(|segment| segment.count)
    }
}

/// The programs that count, and what they have counted.
#[derive(Debug)]
pub struct Coverage {
    folder: PathBuf,
    tools: PathBuf,
    programs: Vec<PathBuf>,
}

impl Coverage {
    /// Builds the tests of these packages.
    ///
    /// # Errors
    /// They do not build, or the tools that read the counters are missing.
    pub fn build(packages: &[&str]) -> Result<Self, String> {
        let tools = tools()?;
        let folder = target_dir()?.join("errors");
        let mut command = instrumented(&["test", "--no-run", "--message-format", "json-render-diagnostics"]);
        command.args(packages.iter().flat_map(|package| ["--package", *package]));
        let messages = output(&mut command)?;
        let programs: Vec<PathBuf> = messages.lines().filter_map(program).collect();
        if programs.is_empty() {
            return Err("cargo built no test".to_owned());
        }
        Ok(Self { folder, tools, programs })
    }

    /// Runs the tests of a package: `arguments` go to `cargo test`.
    ///
    /// # Errors
    /// A test fails.
    pub fn run(&self, package: &str, arguments: &[&str]) -> Result<(), String> {
        let mut command = instrumented(&["test", "--quiet", "--package", package]);
        // One file for each program, into which its processes merge what they have counted.
        run(command.args(arguments).env("LLVM_PROFILE_FILE", self.folder.join("%m.profraw")))
    }

    /// Forgets what was counted before.
    ///
    /// # Errors
    /// The folder cannot be made empty.
    pub fn begin(&self) -> Result<(), String> {
        let failed = |error: std::io::Error| format!("{}: {error}", self.folder.display());
        fs::create_dir_all(&self.folder).map_err(failed)?;
        for entry in fs::read_dir(&self.folder).map_err(failed)? {
            fs::remove_file(entry.map_err(failed)?.path()).map_err(failed)?;
        }
        Ok(())
    }

    /// What was executed of each source file, by its path from the root.
    ///
    /// # Errors
    /// The counters cannot be read.
    pub fn read(&self) -> Result<BTreeMap<PathBuf, Executed>, String> {
        let counted = fs::read_dir(&self.folder).map_err(|error| format!("{}: {error}", self.folder.display()))?;
        let counted: Vec<PathBuf> = counted.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
        let merged = self.folder.join("merged.profdata");
        let mut merge = Command::new(self.tools.join("llvm-profdata"));
        run(merge.args(["merge", "--sparse", "--output"]).arg(&merged).args(counted))?;
        let mut export = Command::new(self.tools.join("llvm-cov"));
        export.args(["export", "--format=text", "--skip-functions", "--instr-profile"]).arg(&merged);
        for program in &self.programs {
            export.arg("--object").arg(program);
        }
        let report: Value = serde_json::from_str(&output(&mut export)?).map_err(|error| error.to_string())?;
        files(&report, &root())
    }
}

/// Cargo, with our own packages instrumented.
fn instrumented(arguments: &[&str]) -> Command {
    let mut command = cargo();
    command.args(arguments).arg("--locked");
    command.env("RUSTC_WORKSPACE_WRAPPER", root().join("xtask/src/errors/instrument.sh"));
    command
}

/// The test program that a line of cargo's messages tells of.
fn program(message: &str) -> Option<PathBuf> {
    let message: Value = serde_json::from_str(message).ok()?;
    let is_test = message["profile"]["test"].as_bool()?;
    Some(PathBuf::from(message["executable"].as_str()?)).filter(|_| is_test)
}

fn files(report: &Value, root: &Path) -> Result<BTreeMap<PathBuf, Executed>, String> {
    let strange = || "llvm-cov answers otherwise than is known".to_owned();
    let mut files = BTreeMap::new();
    for file in report["data"][0]["files"].as_array().ok_or_else(strange)? {
        let path = PathBuf::from(file["filename"].as_str().ok_or_else(strange)?);
        let segments = file["segments"].as_array().ok_or_else(strange)?;
        let segments = segments.iter().map(segment).collect::<Option<Vec<_>>>().ok_or_else(strange)?;
        files.insert(path.strip_prefix(root).unwrap_or(&path).to_owned(), Executed { segments });
    }
    Ok(files)
}

/// `[line, column, count, counts, begins, gap]`.
fn segment(value: &Value) -> Option<Segment> {
    let number = |index: usize| value[index].as_u64();
    let count = number(2).filter(|_| value[3] == Value::Bool(true));
    Some(Segment { line: number(0)? as usize, column: number(1)? as usize, count })
}

/// The folder with llvm-cov and llvm-profdata.
fn tools() -> Result<PathBuf, String> {
    let told = output(Command::new("rustc").arg("-vV"))?;
    let line = |name: &str| told.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let (host, version) = (line("host:").unwrap_or_default(), line("LLVM version:").unwrap_or_default());
    let major: u32 = version.split('.').next().and_then(|major| major.parse().ok()).unwrap_or_default();
    let sysroot = output(Command::new("rustc").args(["--print", "sysroot"]))?;
    let of_rustup = Path::new(sysroot.trim()).join("lib/rustlib").join(host).join("bin");
    let of_debian = (major..major + 4).map(|major| PathBuf::from(format!("/usr/lib/llvm-{major}/bin")));
    std::iter::once(of_rustup).chain(of_debian).find(|folder| folder.join("llvm-cov").exists()).ok_or_else(|| {
        format!(
            "llvm-cov of LLVM {major} is missing: rustup component add llvm-tools, or Debian's apt-get install llvm-{major}"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_was_executed_as_often_as_the_segment_says_that_holds_it() {
        let report = serde_json::json!({"data": [{"files": [{"filename": "/there/a.rs", "segments": [
            [3, 5, 2, true, true, false], [4, 20, 0, true, true, false], [4, 21, 2, true, false, false],
            [6, 2, 0, false, false, false],
        ]}]}]});
        let files = files(&report, Path::new("/there")).unwrap();
        let file = &files[Path::new("a.rs")];
        assert_eq!((file.at(3, 4), file.at(3, 5), file.at(4, 19)), (None, Some(2), Some(2)));
        assert_eq!((file.at(4, 20), file.at(4, 21), file.at(6, 2)), (Some(0), Some(2), None));
        assert!(super::files(&serde_json::json!({}), Path::new("/")).is_err());
    }
}
