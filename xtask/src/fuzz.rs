//! The search for inputs that break a decoder: libFuzzer over the targets of the package `hotwarm-fuzz`.
//!
//! The driver is compiled with coverage counters by the stable compiler: the flags are LLVM's own, and no plugin of cargo
//! is needed. libFuzzer is C++ and comes as a crate, so a C++ compiler must be there. What a search finds stays below the
//! target folder: an input that fails as `failure-*`, named in the error, and the inputs that reached something new, from
//! which `--keep` makes the committed corpus anew, as small as it can be.
//!
//! `--coverage` measures what the committed inputs reach of the decoders' lines. It needs the component `llvm-tools`.

use crate::tools::{self, cargo, output, root, succeeds, target_dir};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Counters on edges, tables of comparisons: what libFuzzer is guided by.
const GUIDED: [&str; 5] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];
/// Inputs of each target without `--inputs` and `--seconds`: some seconds each.
const INPUTS: u64 = 100_000;
/// An input that takes so long hangs; the targets themselves allow far less.
const HANG_SECONDS: u32 = 10;
/// The longest input that is tried: as the package's own tests have it.
const INPUT_SIZE_BYTES_MAX: usize = 2048;
const MEMORY_MAX_MIB: u32 = 2048;

/// What was asked for.
struct Asked {
    targets: Vec<String>,
    inputs: Option<u64>,
    seconds: Option<u64>,
    seed: u64,
    json: bool,
    keep: bool,
}

/// What a search of one target came to.
struct Searched {
    inputs: u64,
    edges: u64,
    worst_us: u64,
    worst_bytes: u64,
    took_seconds: f64,
}

/// Searches, or measures coverage.
pub fn fuzz(arguments: &[String]) -> Result<(), String> {
    if arguments.first().is_some_and(|argument| argument == "--coverage") {
        return coverage();
    }
    let mut asked = asked(arguments)?;
    let driver = driver()?;
    let known = known()?;
    if let Some(unknown) = asked.targets.iter().find(|name| !known.contains(name)) {
        return Err(format!("no target is named {unknown:?}; there are {}", known.join(", ")));
    }
    if asked.targets.is_empty() {
        asked.targets = known;
    }
    for name in &asked.targets {
        let searched = search(&driver, name, &asked)?;
        tell(name, &searched, asked.json);
        if asked.keep {
            keep(&driver, name)?;
        }
    }
    Ok(())
}

fn asked(arguments: &[String]) -> Result<Asked, String> {
    let mut asked = Asked { targets: Vec::new(), inputs: None, seconds: None, seed: 1, json: false, keep: false };
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let mut number = || {
            let value = rest.next().ok_or(format!("{argument} needs a number"))?;
            value.parse::<u64>().map_err(|_| format!("{argument} {value} is no number"))
        };
        match argument.as_str() {
            "--inputs" => asked.inputs = Some(number()?),
            "--seconds" => asked.seconds = Some(number()?),
            "--seed" => asked.seed = number()?,
            "--json" => asked.json = true,
            "--keep" => asked.keep = true,
            option if option.starts_with('-') => return Err(format!("fuzz has no option {option}")),
            name => asked.targets.push(name.to_owned()),
        }
    }
    Ok(asked)
}

/// Builds the driver and says where it is.
fn driver() -> Result<PathBuf, String> {
    if !succeeds(Command::new("c++").arg("--version")) {
        return Err("a C++ compiler is missing, which libFuzzer needs (Debian: apt-get install g++)".to_owned());
    }
    let host = host()?;
    let mut command = cargo();
    command.args(["build", "--quiet", "--locked", "--profile", "fuzz", "--target", &host]);
    command.args(["--package", "hotwarm-fuzz", "--features", "libfuzzer", "--bin", "hotwarm-fuzz"]);
    tools::run(command.env("RUSTFLAGS", GUIDED.join(" ")))?;
    Ok(target_dir()?.join(host).join("fuzz").join("hotwarm-fuzz"))
}

/// The machine's own target: naming it keeps the flags from what runs while the program is built.
fn host() -> Result<String, String> {
    let version = output(Command::new("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).ok_or("rustc -vV names no host".to_owned())
}

/// The names of all targets: each has a test of its name.
fn known() -> Result<Vec<String>, String> {
    let path = root().join("fuzz/tests/corpus.rs");
    let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let list = text.split_once("\ntargets!(").and_then(|(_, rest)| rest.split_once(");")).map(|(list, _)| list);
    let list = list.ok_or(format!("{} lists no targets", path.display()))?;
    Ok(list.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect())
}

/// Where a search of a target keeps what it has found.
fn folder(name: &str) -> Result<PathBuf, String> {
    let folder = target_dir()?.join("fuzz").join(name);
    for part in ["found", "examples"] {
        let path = folder.join(part);
        fs::create_dir_all(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(folder)
}

fn committed(name: &str) -> PathBuf {
    root().join("fuzz/corpus").join(name)
}

/// The driver for a target, told where to write; inputs and options are the caller's.
fn guided(driver: &Path, name: &str, folder: &Path) -> Command {
    let mut command = Command::new(driver);
    command.env("HOTWARM_FUZZ_TARGET", name).env("HOTWARM_FUZZ_FOLDER", folder);
    command.arg(format!("-timeout={HANG_SECONDS}")).arg(format!("-rss_limit_mb={MEMORY_MAX_MIB}"));
    command.arg(format!("-artifact_prefix={}/failure-", folder.display()));
    command.stdout(Stdio::null());
    command
}

fn search(driver: &Path, name: &str, asked: &Asked) -> Result<Searched, String> {
    let folder = folder(name)?;
    let mut command = guided(driver, name, &folder);
    if let Some(seconds) = asked.seconds {
        command.arg(format!("-max_total_time={seconds}"));
    }
    if let Some(inputs) = asked.inputs.or(asked.seconds.is_none().then_some(INPUTS)) {
        command.arg(format!("-runs={inputs}"));
    }
    command.arg("-print_final_stats=1").arg(format!("-seed={}", asked.seed));
    command.arg(format!("-max_len={INPUT_SIZE_BYTES_MAX}"));
    command.arg(format!("-dict={}", folder.join("words").display()));
    command.args([folder.join("found"), folder.join("examples")]);
    if committed(name).is_dir() {
        command.arg(committed(name));
    }
    let began = std::time::Instant::now();
    let ended = command.output().map_err(|error| format!("the driver: {error}"))?;
    let told = String::from_utf8_lossy(&ended.stderr).into_owned();
    if !ended.status.success() {
        let from =
            told.find("panicked at").map_or(told.len().saturating_sub(2000), |at| told[..at].rfind('\n').unwrap_or(0));
        let shown: String = told[from..].lines().take(12).map(|line| format!("\n  {line}")).collect();
        let file = told.lines().rev().find_map(|line| line.split_once("Test unit written to ")).map(|(_, file)| file);
        let again = file.map_or_else(String::new, |file| {
            format!("\nsee it again: cargo run --package hotwarm-fuzz --bin replay -- {name} {file}")
        });
        return Err(format!("target {name} has failed:{shown}{again}"));
    }
    Ok(searched(&told, began.elapsed().as_secs_f64()))
}

/// Reads what libFuzzer and the driver have told.
fn searched(told: &str, took_seconds: f64) -> Searched {
    let number = |word: &str, after: &str| {
        let line = told.lines().rev().find(|line| line.contains(word))?;
        line.split_once(after)?.1.split_whitespace().next()?.parse().ok()
    };
    Searched {
        inputs: number("number_of_executed_units", "number_of_executed_units:").unwrap_or(0),
        edges: number(" cov: ", " cov: ").unwrap_or(0),
        worst_us: number("worst: ", "worst: ").unwrap_or(0),
        worst_bytes: number("worst: ", " us, ").unwrap_or(0),
        took_seconds,
    }
}

fn tell(name: &str, searched: &Searched, json: bool) {
    let Searched { inputs, edges, worst_us, worst_bytes, took_seconds } = searched;
    if json {
        let line = serde_json::json!({
            "target": name, "inputs": inputs, "edges": edges, "worst_us": worst_us, "worst_bytes": worst_bytes,
            "seconds": took_seconds,
        });
        println!("{line}");
    } else {
        println!(
            "{name:<16} {inputs:>9} inputs in {took_seconds:>6.1} s, {edges:>6} edges, at most {:>6.2} ms and {:>6} KiB",
            *worst_us as f64 / 1000.0,
            worst_bytes >> 10
        );
    }
}

/// Makes the committed corpus of a target anew: the fewest inputs that reach all that any known one reaches.
fn keep(driver: &Path, name: &str) -> Result<(), String> {
    let folder = folder(name)?;
    let fewest = folder.join("fewest");
    let wrong = |path: &Path, error: std::io::Error| format!("{}: {error}", path.display());
    if fewest.is_dir() {
        fs::remove_dir_all(&fewest).map_err(|error| wrong(&fewest, error))?;
    }
    fs::create_dir_all(&fewest).map_err(|error| wrong(&fewest, error))?;
    let mut command = guided(driver, name, &folder);
    // One input for each edge is enough: how often it was passed is for a search only.
    command.args(["-set_cover_merge=1", "-use_counters=0"]).arg(&fewest);
    command.arg(folder.join("found"));
    if committed(name).is_dir() {
        command.arg(committed(name));
    }
    let ended = command.stderr(Stdio::null()).status().map_err(|error| format!("the driver: {error}"))?;
    if !ended.success() {
        return Err(format!("the corpus of {name} could not be made: the driver ended with {ended}"));
    }
    let corpus = committed(name);
    if corpus.is_dir() {
        fs::remove_dir_all(&corpus).map_err(|error| wrong(&corpus, error))?;
    }
    fs::create_dir_all(&corpus).map_err(|error| wrong(&corpus, error))?;
    for entry in fs::read_dir(&fewest).map_err(|error| wrong(&fewest, error))? {
        let path = entry.map_err(|error| wrong(&fewest, error))?.path();
        let digest = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let kept = corpus.join(digest.get(..12).unwrap_or(&digest));
        fs::copy(&path, &kept).map_err(|error| wrong(&kept, error))?;
    }
    Ok(())
}

/// Replays what is committed with counted lines, and says for each decoder how many it reaches.
fn coverage() -> Result<(), String> {
    let host = host()?;
    let sysroot = output(Command::new("rustc").args(["--print", "sysroot"]))?;
    let tool = |name: &str| Path::new(sysroot.trim()).join("lib/rustlib").join(&host).join("bin").join(name);
    if !succeeds(Command::new(tool("llvm-cov")).arg("--version")) {
        return Err("llvm-cov is missing (rustup component add llvm-tools)".to_owned());
    }
    let folder = target_dir()?.join("fuzz");
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut command = cargo();
    command.args(["build", "--quiet", "--locked", "--target", &host, "--package", "hotwarm-fuzz", "--bin", "replay"]);
    command.args(["--target-dir"]).arg(target_dir()?.join("coverage"));
    tools::run(
        command.env("RUSTFLAGS", "-Cinstrument-coverage").env("LLVM_PROFILE_FILE", folder.join("build.profraw")),
    )?;
    let program = target_dir()?.join("coverage").join(&host).join("debug/replay");
    let (raw, merged) = (folder.join("replay.profraw"), folder.join("replay.profdata"));
    let mut replay = Command::new(&program);
    tools::run(replay.arg("all").env("LLVM_PROFILE_FILE", &raw).stdout(Stdio::null()))?;
    tools::run(Command::new(tool("llvm-profdata")).args(["merge", "-sparse"]).arg(&raw).arg("-o").arg(&merged))?;
    let report = output(
        Command::new(tool("llvm-cov"))
            .args(["export", "-summary-only", "-ignore-filename-regex", "registry|rustc"])
            .arg(format!("-instr-profile={}", merged.display()))
            .arg(&program),
    )?;
    let lines = lines(&report)?;
    let (mut all, mut reached) = (0, 0);
    for decoder in DECODERS {
        let (count, covered) = *lines.get(decoder).ok_or(format!("{decoder} is not in the report"))?;
        println!("{decoder:<55} {covered:>5} of {count:>5} lines, {:>5.1} %", percent(covered, count));
        (all, reached) = (all + count, reached + covered);
    }
    println!("{:<55} {reached:>5} of {all:>5} lines, {:>5.1} %", "all decoders", percent(reached, all));
    Ok(())
}

fn percent(part: u64, whole: u64) -> f64 {
    part as f64 * 100.0 / whole.max(1) as f64
}

/// Lines and covered lines by file, relative to the root.
fn lines(report: &str) -> Result<BTreeMap<String, (u64, u64)>, String> {
    let report: serde_json::Value = serde_json::from_str(report).map_err(|error| error.to_string())?;
    let files = report["data"][0]["files"].as_array().ok_or("llvm-cov lists no files")?;
    let number = |value: &serde_json::Value| value.as_u64().unwrap_or(0);
    let entry = |file: &serde_json::Value| {
        let name = Path::new(file["filename"].as_str()?).strip_prefix(root()).ok()?.display().to_string();
        let lines = &file["summary"]["lines"];
        Some((name, (number(&lines["count"]), number(&lines["covered"]))))
    };
    Ok(files.iter().filter_map(entry).collect())
}

/// The files that hold decoders: encoders and errors that stand beside them are counted too, tests are not. Where a file
/// only lists fields (`message.rs` of the wire), the lines counted are those of the macros in `codec.rs`.
const DECODERS: [&str; 35] = [
    "crates/hotwarm-resp/src/request.rs",
    "crates/hotwarm-resp/src/inline.rs",
    "crates/hotwarm-resp/src/line.rs",
    "crates/hotwarm-resp/src/number.rs",
    "crates/hotwarm-resp/src/reply_parser.rs",
    "crates/hotwarm-store/src/command/plan.rs",
    "crates/hotwarm-store/src/command/call.rs",
    "crates/hotwarm-store/src/command/strings.rs",
    "crates/hotwarm-store/src/command/keys.rs",
    "crates/hotwarm-store/src/command/expiry.rs",
    "crates/hotwarm-store/src/command/scan.rs",
    "crates/hotwarm-store/src/command/glob.rs",
    "crates/hotwarm-store/src/command/decimal.rs",
    "crates/hotwarm-store/src/codec.rs",
    "crates/hotwarm-store/src/effect.rs",
    "crates/hotwarm-store/src/key.rs",
    "crates/hotwarm-store/src/snapshot.rs",
    "crates/hotwarm-wire/src/codec.rs",
    "crates/hotwarm-wire/src/frame.rs",
    "crates/hotwarm-wire/src/record.rs",
    "crates/hotwarm-wire/src/death.rs",
    "crates/hotwarm-wire/src/stored.rs",
    "crates/hotwarm-log/src/entry.rs",
    "crates/hotwarm-log/src/segment.rs",
    "crates/hotwarm-log/src/head.rs",
    "crates/hotwarm-log/src/mark.rs",
    "crates/hotwarm-log/src/recovery.rs",
    "crates/hotwarm-log/src/slot/sector.rs",
    "crates/hotwarm-log/src/folder.rs",
    "crates/hotwarm-log/src/cut.rs",
    "crates/hotwarm-node/src/config/read.rs",
    "crates/hotwarm-node/src/config/section.rs",
    "crates/hotwarm-node/src/birth/ticket.rs",
    "crates/hotwarm-node/src/admin/server.rs",
    "crates/hotwarm-node/src/executor/forward.rs",
];
