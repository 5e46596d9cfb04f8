//! What a run comes to, and how it is told.

use core::fmt;
use std::collections::BTreeMap;

/// What kind of failure it is; each has an exit code of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A node panicked: an assertion of the core, or a bug of this crate.
    Crash,
    /// An invariant is broken.
    Safety,
    /// The group did not converge.
    Liveness,
}

impl Kind {
    /// The program's exit code.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Crash => 3,
            Self::Safety => 4,
            Self::Liveness => 5,
        }
    }
}

/// A fault that happened in a run.
#[derive(Clone, Debug)]
pub struct Happened {
    /// Its number among those drawn.
    pub number: u32,
    /// When, nanoseconds.
    pub at: u64,
    /// What.
    pub kind: &'static str,
    /// At which machine.
    pub machine: String,
    /// For how long, as drawn, in milliseconds.
    pub length_ms: u64,
}

/// The first thing that went wrong in a run.
#[derive(Clone, Debug)]
pub struct Violation {
    /// What kind.
    pub kind: Kind,
    /// The invariant (`INV-3`), rule (`R7`) or check (`C40`) that is broken.
    pub rule: String,
    /// Facts that nodes had taken.
    pub step: u64,
    /// Virtual time, nanoseconds.
    pub time: u64,
    /// What happened.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.time / 1_000_000;
        write!(f, "{} broken at step {} ({millis} ms): {}", self.rule, self.step, self.what)
    }
}

/// What a run comes to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// The first thing that went wrong.
    pub violation: Option<Violation>,
    /// Virtual time of all machines together, nanoseconds.
    pub machine_time: u64,
    /// Facts that nodes took.
    pub steps: u64,
    /// Faults, by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// Events of nodes, by name.
    pub notes: BTreeMap<&'static str, u64>,
    /// How long each change of hot took, by kind of drill, nanoseconds.
    pub drills: BTreeMap<&'static str, Vec<u64>>,
    /// The faults that happened, in order.
    pub happened: Vec<Happened>,
    /// Writes acknowledged.
    pub acknowledged: u64,
    /// Reads answered.
    pub reads: u64,
    /// From the end of faults to writes that flow, nanoseconds.
    pub served_after: u64,
    /// More was lost than a group must survive; only safety was judged.
    pub beyond: bool,
    /// Hash of everything that happened, where it was taken.
    pub hash: u64,
}

/// Many runs together.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Runs.
    pub seeds: u64,
    /// Virtual time, in hours of one cluster.
    pub cluster_hours: f64,
    /// Facts that nodes took.
    pub steps: u64,
    /// Faults, by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// Events of nodes, by name.
    pub notes: BTreeMap<&'static str, u64>,
    /// How long each change of hot took, by kind of drill, nanoseconds.
    pub drills: BTreeMap<&'static str, Vec<u64>>,
    /// Writes acknowledged.
    pub acknowledged: u64,
    /// Reads answered.
    pub reads: u64,
    /// Runs in which more was lost than a group must survive.
    pub beyond: u64,
    /// Longest time from the end of faults to writes that flow, nanoseconds.
    pub served_after_max: u64,
    /// What went wrong, with the seed.
    pub violations: Vec<(u64, Violation)>,
    /// Seeds that did not end twice in the same hash.
    pub trace_hash_mismatches: Vec<u64>,
}

impl Summary {
    /// Adds a run.
    pub fn add(&mut self, outcome: &Outcome) {
        self.seeds += 1;
        self.cluster_hours += outcome.machine_time as f64 / 3.6e12;
        self.steps += outcome.steps;
        self.acknowledged += outcome.acknowledged;
        self.reads += outcome.reads;
        self.beyond += u64::from(outcome.beyond);
        self.served_after_max = self.served_after_max.max(outcome.served_after);
        for (kind, count) in &outcome.faults {
            *self.faults.entry(kind).or_default() += count;
        }
        for (name, count) in &outcome.notes {
            *self.notes.entry(name).or_default() += count;
        }
        for (kind, times) in &outcome.drills {
            self.drills.entry(kind).or_default().extend(times);
        }
        if let Some(violation) = &outcome.violation {
            self.violations.push((outcome.seed, violation.clone()));
        }
    }

    /// Of each kind of drill: its name, how many there were, and the median and the longest, nanoseconds.
    pub fn drill_times(&self) -> impl Iterator<Item = (&'static str, usize, u64, u64)> {
        self.drills.iter().filter_map(|(kind, times)| {
            let mut times = times.clone();
            times.sort_unstable();
            Some((*kind, times.len(), times[times.len() / 2], *times.last()?))
        })
    }

    /// As one JSON object on one line.
    #[must_use]
    pub fn json(&self) -> String {
        let map = |counts: &BTreeMap<&str, u64>| {
            let pairs: Vec<_> = counts.iter().map(|(name, count)| format!("\"{name}\":{count}")).collect();
            format!("{{{}}}", pairs.join(","))
        };
        let drills: Vec<_> = self
            .drill_times()
            .map(|(kind, count, median, longest)| {
                format!(
                    "\"{kind}\":{{\"count\":{count},\"median_us\":{},\"max_us\":{}}}",
                    median / 1_000,
                    longest / 1_000
                )
            })
            .collect();
        let violations: Vec<_> = self
            .violations
            .iter()
            .map(|(seed, violation)| {
                let what = violation.what.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', " ");
                format!(
                    "{{\"seed\":\"{seed:#x}\",\"kind\":\"{:?}\",\"rule\":\"{}\",\"step\":{},\"what\":\"{what}\"}}",
                    violation.kind, violation.rule, violation.step
                )
            })
            .collect();
        format!(
            "{{\"seeds\":{},\"cluster_hours\":{:.3},\"steps\":{},\"acked\":{},\"reads\":{},\"faults\":{},\"events\":{},\"drills\":{{{}}},\
             \"beyond_survival\":{},\"served_after_ms_max\":{},\"violations\":[{}],\"trace_hash_mismatches\":{}}}",
            self.seeds,
            self.cluster_hours,
            self.steps,
            self.acknowledged,
            self.reads,
            map(&self.faults),
            map(&self.notes),
            drills.join(","),
            self.beyond,
            self.served_after_max / 1_000_000,
            violations.join(","),
            self.trace_hash_mismatches.len()
        )
    }

    /// The exit code: 0 if all is well, else that of the worst kind of failure.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        let worst = self.violations.iter().map(|(_, violation)| violation.kind).min();
        match worst {
            Some(kind) => kind.exit_code(),
            None if self.trace_hash_mismatches.is_empty() => 0,
            None => Kind::Crash.exit_code(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_is_one_json_object_and_its_exit_code_the_worst() {
        let mut summary = Summary::default();
        assert_eq!(summary.exit_code(), 0);
        for kind in [Kind::Liveness, Kind::Safety] {
            let violation =
                Violation { kind, rule: "INV-3".to_owned(), step: 7, time: 9_000_000, what: "a \"b\"".to_owned() };
            assert_eq!(violation.to_string(), "INV-3 broken at step 7 (9 ms): a \"b\"");
            summary.violations.push((255, violation));
        }
        assert_eq!(summary.exit_code(), 4);
        assert!(summary.json().contains(r#""seed":"0xff","kind":"Safety","rule":"INV-3","step":7,"what":"a \"b\"""#));
    }
}
