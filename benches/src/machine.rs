//! What the figures depend on: told on standard error, so that no figure is quoted without it.

use crate::failure::Failure;
use crate::process::Folder;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

/// How long the calm machine is looked at.
const SAMPLE: Duration = Duration::from_secs(1);

/// What a program prints for `--version`, on one line.
///
/// # Errors
/// It cannot be run.
pub fn version(program: &Path) -> Result<String, Failure> {
    let output = Command::new(program).arg("--version").output();
    let output = output.map_err(|error| Failure::because(&format!("run {}", program.display()), &error))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Tells versions, machine, and where the data is.
///
/// # Errors
/// The system does not say on which file system the folder is.
pub fn tell(versions: &[String], folder: &Folder) -> Result<(), Failure> {
    for version in versions {
        eprintln!("{version}");
    }
    let cores = std::thread::available_parallelism()?;
    let kernel = first_line("/proc/sys/kernel/osrelease", "");
    let processor = first_line("/proc/cpuinfo", "model name");
    let memory = first_line("/proc/meminfo", "MemTotal");
    eprintln!("{cores} cores ({processor}), memory {memory}, Linux {kernel}");
    eprintln!("data in {} ({})", folder.path().display(), hotwarm_disk::filesystem(folder.path())?);
    Ok(())
}

/// Tells how busy the processors are while nothing is measured: what else runs here takes its share of the figures.
pub fn tell_calm(when: &str) {
    let begin = processor_time();
    thread::sleep(SAMPLE);
    let share = begin.zip(processor_time()).map(|(begin, end)| {
        let (busy, all) = (end.0.saturating_sub(begin.0), end.1.saturating_sub(begin.1));
        busy * 100 / all.max(1)
    });
    match share {
        Some(percent) => eprintln!("{when}: others keep the processors {percent}% busy"),
        None => eprintln!("{when}: the system does not say how busy the processors are"),
    }
}

/// Busy time and all time of all processors since the start, in ticks. Source: proc_stat(5).
fn processor_time() -> Option<(u64, u64)> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    // user nice system idle iowait irq softirq steal; guest time is part of the first two.
    let ticks: Vec<u64> =
        text.lines().next()?.split_whitespace().skip(1).take(8).map_while(|tick| tick.parse().ok()).collect();
    let all = ticks.iter().sum::<u64>();
    Some((all - ticks.get(3)? - ticks.get(4)?, all))
}

/// What follows the colon in the first line that begins with `start`; the whole line where nothing has to.
fn first_line(path: &str, start: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with(start)).unwrap_or("unknown");
    let value = if start.is_empty() { line } else { line.split_once(':').map_or(line, |(_, value)| value) };
    value.trim().to_owned()
}
