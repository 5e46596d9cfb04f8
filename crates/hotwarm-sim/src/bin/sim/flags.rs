//! What the command line says.

use hotwarm_sim::{Bug, Course, FaultKind, Run, Script};
use std::collections::BTreeSet;
use std::process::ExitCode;

pub const USAGE: &str = "\
usage: sim [--seeds N] [--start S] [--minutes M] [--short | --dense | --drills] [--jobs J] [--json] [--keep-going]
       sim pairs | triples [--share K/N] [--start S] [--jobs J] [--json] [--keep-going]
       sim --seed X [--trace [--from MS] | --step | --shrink] [--keep N,N,..] [--bug NAME] [--short | --drills | --script FAULT@ROLE,..] [--json]
       sim mutants [--seeds N] [--start S] [--only NAME] [--json]
       sim bugs | faults";

#[derive(Debug)]
pub struct Flags {
    pub verb: Option<String>,
    pub seeds: Option<u64>,
    pub start: u64,
    pub seed: Option<u64>,
    pub minutes: Option<u64>,
    pub jobs: usize,
    pub from_ms: u64,
    pub bug: Option<Bug>,
    pub only: Option<Bug>,
    pub kept: Option<BTreeSet<u32>>,
    pub share: (u64, u64),
    pub course: Course,
    pub trace: bool,
    pub step: bool,
    pub shrink: bool,
    pub json: bool,
    pub keep_going: bool,
}

impl Flags {
    pub fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let jobs = std::thread::available_parallelism().map_or(1, usize::from);
        let mut flags = Self {
            verb: None,
            seeds: None,
            start: 1,
            seed: None,
            minutes: None,
            jobs,
            from_ms: 0,
            bug: None,
            only: None,
            kept: None,
            share: (0, 1),
            course: Course::Usual,
            trace: false,
            step: false,
            shrink: false,
            json: false,
            keep_going: false,
        };
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
            match argument.as_str() {
                "--seeds" => flags.seeds = Some(number(&value()?)?),
                "--start" => flags.start = number(&value()?)?,
                "--seed" => flags.seed = Some(number(&value()?)?),
                "--minutes" => flags.minutes = Some(number(&value()?)?),
                "--jobs" => flags.jobs = number(&value()?)?.clamp(1, 256) as usize,
                "--from" => flags.from_ms = number(&value()?)?,
                "--bug" => flags.bug = Some(bug(&value()?)?),
                "--only" => flags.only = Some(bug(&value()?)?),
                "--keep" => flags.kept = Some(numbers(&value()?)?),
                "--share" => flags.share = share(&value()?)?,
                "--script" => flags.course = Course::Small(script(&value()?)?),
                "--dense" => flags.course = Course::Dense,
                "--short" => flags.course = Course::Short,
                "--drills" => flags.course = Course::Drills,
                "--trace" => flags.trace = true,
                "--step" => flags.step = true,
                "--shrink" => flags.shrink = true,
                "--json" => flags.json = true,
                "--keep-going" => flags.keep_going = true,
                "mutants" | "bugs" | "faults" | "pairs" | "triples" if flags.verb.is_none() => {
                    flags.verb = Some(argument);
                }
                other => return Err(format!("unknown argument {other:?}")),
            }
        }
        Ok(flags)
    }

    /// What these flags make of a seed.
    pub fn run(&self, seed: u64, course: Course) -> Run {
        Run { bug: self.bug, only: self.kept.clone(), ..Run::new(seed, course) }
    }
}

/// The command that repeats a run.
pub fn rerun(run: &Run) -> String {
    let course = match run.course {
        Course::Short => " --short".to_owned(),
        Course::Dense => " --dense".to_owned(),
        Course::Usual => String::new(),
        Course::Drills => " --drills".to_owned(),
        Course::Small(script) => format!(" --script {}", script.name()),
    };
    let bug = run.bug.map_or(String::new(), |bug| format!(" --bug {}", bug.name()));
    let kept = run.only.as_ref().map_or(String::new(), |only| {
        let numbers: Vec<_> = only.iter().map(u32::to_string).collect();
        format!(" --keep {}", if numbers.is_empty() { "none".to_owned() } else { numbers.join(",") })
    });
    format!("cargo xtask sim --seed {:#x}{course}{bug}{kept}", run.seed)
}

fn number(text: &str) -> Result<u64, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| format!("{text:?} is no number"))
}

fn numbers(text: &str) -> Result<BTreeSet<u32>, String> {
    if text == "none" {
        return Ok(BTreeSet::new());
    }
    let numbers = text.split(',').map(|number| number.parse().map_err(|_| format!("{number:?} is no number")));
    numbers.collect()
}

fn share(text: &str) -> Result<(u64, u64), String> {
    let parts = text.split_once('/').and_then(|(part, whole)| Some((part.parse().ok()?, whole.parse().ok()?)));
    let valid = parts.filter(|(part, whole): &(u64, u64)| part < whole);
    valid.ok_or(format!("{text:?} is no share: K/N with K from 0 and below N"))
}

fn bug(name: &str) -> Result<Bug, String> {
    Bug::named(name).ok_or(format!("no bug is named {name:?}; `sim bugs` lists them"))
}

fn script(name: &str) -> Result<Script, String> {
    Script::named(name).ok_or(format!("{name:?} is no script: FAULT@hot|warm|witness, up to three, by commas"))
}

pub fn list_bugs() -> ExitCode {
    for bug in Bug::all() {
        println!("{:<24} {:<6} {} (found by {})", bug.name(), bug.rule(), bug.about(), bug.caught_by().join(", "));
    }
    ExitCode::SUCCESS
}

pub fn list_faults() -> ExitCode {
    for kind in FaultKind::ALL {
        println!("{:<18} {}", kind.name(), kind.about());
    }
    ExitCode::SUCCESS
}
