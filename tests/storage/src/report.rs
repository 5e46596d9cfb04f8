//! What the loops found: counts, and for each failure the line that replays it.

use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Something was silently wrong, or broke.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Failure {
    /// The command that replays it.
    pub replay: String,
    /// What is wrong.
    pub what: String,
}

/// Crashes and what came of them.
#[derive(Clone, Debug, Default)]
pub struct Crashes {
    /// Calls before which there was a crash.
    pub points: u64,
    /// Crashes, each with one way of tearing.
    pub tearings: u64,
    /// How often the folder was recovered, the second and later times included.
    pub recoveries: u64,
    /// What is wrong.
    pub failures: Vec<Failure>,
}

impl Crashes {
    /// Adds what another worker found.
    pub fn add(&mut self, other: Self) {
        self.points += other.points;
        self.tearings += other.tearings;
        self.recoveries += other.recoveries;
        self.failures.extend(other.failures);
    }
}

/// What came of damage to one kind of file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcomes {
    /// The start was refused, with the file and the way out.
    pub refused: u64,
    /// The start went through, and the damage was found by whoever read that place.
    pub detected: u64,
    /// Everything that can be read is what was written.
    pub harmless: u64,
}

impl Outcomes {
    /// How many pieces of damage there were, silent ones aside.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.refused + self.detected + self.harmless
    }
}

/// Damage and what came of it.
#[derive(Clone, Debug, Default)]
pub struct Damage {
    /// Single flipped bits, by kind of file.
    pub flips: BTreeMap<String, Outcomes>,
    /// Whole parts of files cut off, zeroed, moved or exchanged, by kind of file.
    pub other: BTreeMap<String, Outcomes>,
    /// What is wrong.
    pub failures: Vec<Failure>,
}

impl Damage {
    /// Adds what another worker found.
    pub fn add(&mut self, other: Self) {
        for (into, from) in [(&mut self.flips, other.flips), (&mut self.other, other.other)] {
            for (kind, outcomes) in from {
                let sum = into.entry(kind).or_default();
                sum.refused += outcomes.refused;
                sum.detected += outcomes.detected;
                sum.harmless += outcomes.harmless;
            }
        }
        self.failures.extend(other.failures);
    }

    /// How many bits were flipped.
    #[must_use]
    pub fn flip_count(&self) -> u64 {
        self.flips.values().map(Outcomes::count).sum()
    }
}

/// Everything.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Crashes of log, vote record and folder record, in memory.
    pub log: Crashes,
    /// Crashes of a whole data folder with its trees, from a recorded run.
    pub folder: Crashes,
    /// Damage to files.
    pub damage: Damage,
    /// How long it took.
    pub seconds: f64,
}

impl Report {
    /// What is wrong, all parts together.
    pub fn failures(&self) -> impl Iterator<Item = &Failure> {
        self.log.failures.iter().chain(&self.folder.failures).chain(&self.damage.failures)
    }

    /// For machines.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let part = |crashes: &Crashes| json!({"crash_points": crashes.points, "tearings": crashes.tearings, "recoveries": crashes.recoveries});
        let outcomes = |all: &BTreeMap<String, Outcomes>| -> Value {
            let kinds = all.iter().map(|(kind, found)| {
                let Outcomes { refused, detected, harmless } = found;
                (kind.clone(), json!({"detected": detected, "harmless": harmless, "refused": refused}))
            });
            Value::Object(kinds.collect())
        };
        json!({
            "crash_points": self.log.points + self.folder.points,
            "tearings": self.log.tearings + self.folder.tearings,
            "recoveries": self.log.recoveries + self.folder.recoveries,
            "log": part(&self.log),
            "folder": part(&self.folder),
            "flip_count": self.damage.flip_count(),
            "flips": outcomes(&self.damage.flips),
            "other_damage": outcomes(&self.damage.other),
            "silently_wrong": self.failures().count(),
            "failures": self.failures().map(|failure| json!({"replay": failure.replay, "what": failure.what}))
                .collect::<Vec<_>>(),
            "seconds": (self.seconds * 10.0).round() / 10.0,
        })
    }

    /// For people.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        let mut line = |columns: String| {
            text.push_str(columns.trim_end());
            text.push('\n');
        };
        line(format!("{:<24}{:>14}{:>12}{:>12}", "crashes", "points", "tearings", "recoveries"));
        for (name, part) in [("log, votes, record", &self.log), ("whole folder", &self.folder)] {
            line(format!("{name:<24}{:>14}{:>12}{:>12}", part.points, part.tearings, part.recoveries));
        }
        for (title, all) in [("flipped bits", &self.damage.flips), ("other damage", &self.damage.other)] {
            line(format!("{title:<24}{:>14}{:>12}{:>12}{:>12}", "of", "refused", "detected", "harmless"));
            for (kind, found) in all {
                let Outcomes { refused, detected, harmless } = found;
                line(format!("{kind:<24}{:>14}{refused:>12}{detected:>12}{harmless:>12}", found.count()));
            }
        }
        line(format!("{} bits flipped, {:.1} s", self.damage.flip_count(), self.seconds));
        for failure in self.failures() {
            line(format!("WRONG: {}\n       {}", failure.replay, failure.what));
        }
        text
    }
}
