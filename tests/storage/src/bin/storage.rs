//! `storage`: breaks log, votes, folder and trees at each call and in each bit, and says what recovery made of it.
//!
//! Exit codes: 0 all is well, 1 something was silently wrong or broke, 2 wrong usage, 3 the loops could not be run.

use hotwarm_disk::Crash;
use hotwarm_storage_loops::folder_life::{Places, live};
use hotwarm_storage_loops::report::Report;
use hotwarm_storage_loops::share::Share;
use hotwarm_storage_loops::{damage, folder_loop, log_loop};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

const USAGE: &str = "\
usage: storage [--share N] [--seed S] [--part log|folder|damage] [--points N] [--jobs J] [--json]
       storage --part log|folder --seed S --point N [--tear lost|torn|kept|last|names|data|process]
       storage --part damage --seed S --point N

  --share N   one case in N; all of them without it
  --seed S    draws everything; 1 without it
  --points N  calls of the log's life, at least; 10000 without it
  --point N   only this case, as a failure names it";

/// What the command line asks for.
#[derive(Debug)]
struct Flags {
    share: Share,
    part: Option<Part>,
    points: u64,
    tear: Option<Crash>,
    json: bool,
    /// Lives the life that is recorded, and nothing else.
    live_in: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Log,
    Folder,
    Damage,
}

impl Flags {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let workers = std::thread::available_parallelism().map_or(1, usize::from) as u64;
        let share = Share { one_in: 1, seed: 1, only: None, workers };
        let mut flags = Self { share, part: None, points: log_loop::POINTS, tear: None, json: false, live_in: None };
        let mut lives = false;
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
            match argument.as_str() {
                "live" => lives = true,
                "--folder" if lives => flags.live_in = Some(value()?.into()),
                "--share" => flags.share.one_in = number(&value()?)?.max(1),
                "--seed" => flags.share.seed = number(&value()?)?,
                "--point" => flags.share.only = Some(number(&value()?)?),
                "--points" => flags.points = number(&value()?)?,
                "--jobs" => flags.share.workers = number(&value()?)?.clamp(1, 64),
                "--part" => flags.part = Some(part(&value()?)?),
                "--tear" => flags.tear = Some(tear(&value()?)?),
                "--json" => flags.json = true,
                other => return Err(format!("unknown argument {other:?}")),
            }
        }
        if flags.share.only.is_some() {
            // Where one case is replayed the part that has it is the log's, if none is named.
            flags.part.get_or_insert(Part::Log);
            flags.share.workers = 1;
        }
        Ok(flags)
    }

    fn has(&self, part: Part) -> bool {
        self.part.is_none_or(|only| only == part)
    }
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("{text:?} is not a whole number"))
}

fn part(text: &str) -> Result<Part, String> {
    match text {
        "log" => Ok(Part::Log),
        "folder" => Ok(Part::Folder),
        "damage" => Ok(Part::Damage),
        other => Err(format!("no part is named {other:?}; there are log, folder and damage")),
    }
}

fn tear(text: &str) -> Result<Crash, String> {
    let all = Crash::OF_POWER.into_iter().chain([Crash::Process]);
    all.into_iter().find(|crash| log_loop::name_of(*crash) == text).ok_or(format!(
        "no way of tearing is named {text:?}; there are lost, torn, kept, last, names, data and process"
    ))
}

fn run(flags: &Flags) -> Result<Report, String> {
    let began = Instant::now();
    let mut report = Report::default();
    if flags.has(Part::Log) {
        report.log = log_loop::run(flags.share, flags.points, flags.tear);
    }
    if flags.has(Part::Folder) {
        let program = std::env::current_exe().map_err(|error| format!("this program's own path: {error}"))?;
        report.folder = folder_loop::run(flags.share, &program, flags.tear)?;
    }
    if flags.has(Part::Damage) {
        report.damage = damage::run(flags.share)?;
    }
    report.seconds = began.elapsed().as_secs_f64();
    Ok(report)
}

fn main() -> ExitCode {
    let flags = match Flags::parse(std::env::args().skip(1)) {
        Ok(flags) => flags,
        Err(wrong) => {
            eprintln!("storage: {wrong}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    if let Some(folder) = &flags.live_in {
        return match live(&Places::below(folder), flags.share.seed) {
            Ok(()) => ExitCode::SUCCESS,
            Err(what) => {
                eprintln!("storage: a life that nothing disturbs went wrong: {what}");
                ExitCode::FAILURE
            }
        };
    }
    // A panic of what is tested is reported with its case, and not by itself.
    std::panic::set_hook(Box::new(|_| {}));
    match run(&flags) {
        Ok(report) => {
            if flags.json {
                println!("{}", report.to_json());
            } else {
                print!("{}", report.to_text());
            }
            if report.failures().next().is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
        }
        Err(failed) => {
            eprintln!("storage: {failed}");
            ExitCode::from(3)
        }
    }
}
