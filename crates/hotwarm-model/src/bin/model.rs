//! `model`: checks every order of what may happen in each scene, or in one, or looks for the planted mistakes.
//!
//! Exit codes: 0 all is well, 2 wrong usage, 4 a rule is broken, 6 a planted mistake was not found.

use hotwarm_model::{Limits, Mistake, Report, Scene};
use std::process::ExitCode;

const USAGE: &str = "usage: model [SCENE ...] [--states N] [--depth D] [--mistake NAME] [--json]
       model --mutants [--only NAME] [--states N] [--json]
       model --list";

/// States that the check of a scene visits at most, unless told otherwise: all scenes in some minutes and 2 GiB.
const STATES: u64 = 1_000_000;
/// The same for one planted mistake: each is found below a third of that.
const MUTANT_STATES: u64 = 1_500_000;

#[derive(Debug)]
struct Flags {
    scenes: Vec<Scene>,
    states: Option<u64>,
    depth: u32,
    mistake: Option<Mistake>,
    only: Option<Mistake>,
    mutants: bool,
    list: bool,
    json: bool,
}

impl Flags {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut flags = Self {
            scenes: Vec::new(),
            states: None,
            depth: u32::MAX,
            mistake: None,
            only: None,
            mutants: false,
            list: false,
            json: false,
        };
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
            match argument.as_str() {
                "--states" => flags.states = Some(number(&value()?)?),
                "--depth" => flags.depth = number(&value()?)?,
                "--mistake" => flags.mistake = Some(mistake(&value()?)?),
                "--only" => flags.only = Some(mistake(&value()?)?),
                "--mutants" => flags.mutants = true,
                "--list" => flags.list = true,
                "--json" => flags.json = true,
                name => {
                    let scene = Scene::named(name).ok_or(format!("no scene is named {name:?}; --list names them"))?;
                    flags.scenes.push(scene);
                }
            }
        }
        Ok(flags)
    }
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.replace('_', "").parse().map_err(|_| format!("{text:?} is no number, or too large"))
}

fn mistake(name: &str) -> Result<Mistake, String> {
    Mistake::named(name).ok_or(format!("no mistake is named {name:?}; --list names them"))
}

fn main() -> ExitCode {
    let flags = match Flags::parse(std::env::args().skip(1)) {
        Ok(flags) => flags,
        Err(error) => {
            eprintln!("model: {error}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    // An assertion of the product that fails is reported as what it is: a violation, with its story.
    std::panic::set_hook(Box::new(|_| {}));
    if flags.list {
        list();
        ExitCode::SUCCESS
    } else if flags.mutants {
        mutants(&flags)
    } else {
        check(&flags)
    }
}

fn list() {
    for scene in Scene::all() {
        println!("{:<8} {:<10} {} ({})", scene.model(), scene.name(), scene.about(), scene.bound());
    }
    for mistake in Mistake::ALL {
        let rules = mistake.caught_by().join(", ");
        println!("mistake  {:<24} {} (in {}, by {rules})", mistake.name(), mistake.about(), mistake.scene());
    }
}

fn check(flags: &Flags) -> ExitCode {
    let scenes = if flags.scenes.is_empty() { Scene::all().collect() } else { flags.scenes.clone() };
    let limits = Limits { states: flags.states.unwrap_or(STATES), depth: flags.depth };
    let (mut states, mut seconds, mut broken) = (0, 0.0, 0);
    for scene in &scenes {
        let report = scene.check(flags.mistake, limits);
        states += report.states;
        seconds += report.seconds;
        broken += usize::from(report.violation.is_some());
        println!("{}", if flags.json { as_json(*scene, &report) } else { as_text(*scene, &report) });
    }
    if !flags.json {
        println!("{} scenes, {states} states, {broken} violations, {seconds:.0} s", scenes.len());
    }
    ExitCode::from(if broken == 0 { 0 } else { 4 })
}

fn as_text(scene: Scene, report: &Report) -> String {
    let whole = if report.complete { "all of them" } else { "not all" };
    let memory = report.peak_memory_bytes.map_or_else(|| "?".to_owned(), |bytes| (bytes >> 20).to_string());
    let mut text = format!(
        "{:<8} {:<8} {:>9} states ({whole}), {:>10} transitions, every order of {:>2} steps, {:>5.1} s, {memory} MiB: {}",
        scene.model(),
        scene.name(),
        report.states,
        report.transitions,
        report.depth,
        report.seconds,
        scene.bound()
    );
    if let Some((violation, story)) = &report.violation {
        text += &format!("\n{} is broken: {}\n", violation.rule, violation.what);
        for (index, step) in story.iter().enumerate() {
            text += &format!("{:>4}  {step}\n", index + 1);
        }
    }
    text
}

fn as_json(scene: Scene, report: &Report) -> String {
    let violations = usize::from(report.violation.is_some());
    let memory = report.peak_memory_bytes.map_or_else(|| "null".to_owned(), |bytes| bytes.to_string());
    let story = report.violation.as_ref().map(|(violation, story)| {
        let steps: Vec<String> = story.iter().map(|step| quoted(step)).collect();
        format!(
            ",\"rule\":{},\"what\":{},\"story\":[{}]",
            quoted(violation.rule),
            quoted(&violation.what),
            steps.join(",")
        )
    });
    format!(
        "{{\"model\":\"{}\",\"scene\":\"{}\",\"states\":{},\"transitions\":{},\"depth\":{},\"complete\":{},\
         \"violations\":{violations},\"seconds\":{:.1},\"peak_memory\":{memory}{}}}",
        scene.model(),
        scene.name(),
        report.states,
        report.transitions,
        report.depth,
        report.complete,
        report.seconds,
        story.unwrap_or_default()
    )
}

/// A text as JSON has it.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            control if control.is_control() => quoted += &format!("\\u{:04x}", u32::from(control)),
            plain => quoted.push(plain),
        }
    }
    quoted + "\""
}

/// Looks for each planted mistake; every one must be found, by a rule that it breaks.
fn mutants(flags: &Flags) -> ExitCode {
    let limits = Limits { states: flags.states.unwrap_or(MUTANT_STATES), depth: flags.depth };
    let mut missed = 0;
    for mistake in Mistake::ALL.into_iter().filter(|mistake| flags.only.is_none_or(|only| only == *mistake)) {
        let Some(scene) = Scene::named(mistake.scene()) else { continue };
        let report = scene.check(Some(mistake), limits);
        let (rule, what, steps) = match &report.violation {
            Some((violation, story)) => (violation.rule, violation.what.as_str(), story.len()),
            None => ("nothing", "not found", 0),
        };
        let found = mistake.caught_by().contains(&rule);
        missed += usize::from(!found);
        let (name, states, seconds) = (mistake.name(), report.states, report.seconds);
        if flags.json {
            println!(
                "{{\"mistake\":\"{name}\",\"found\":{found},\"rule\":{},\"scene\":\"{}\",\"steps\":{steps},\
                 \"states\":{states},\"seconds\":{seconds:.1},\"what\":{}}}",
                quoted(rule),
                scene.name(),
                quoted(what)
            );
        } else {
            let verdict = if found { "found" } else { "MISSED" };
            println!(
                "{verdict:<7} {name:<24} by {rule:<6} after {steps:>2} steps, {states:>7} states of {:<7} {seconds:>5.1} s: {what}",
                scene.name()
            );
        }
        if flags.only.is_some() && !flags.json {
            println!("{}", as_text(scene, &report));
        }
    }
    ExitCode::from(if missed == 0 { 0 } else { 6 })
}
