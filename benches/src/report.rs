//! What is told: the median of the runs of each case, for both sides, as JSON or as a table.

use crate::case::Case;
use crate::failure::Failure;
use crate::load::Measured;
use serde_json::{Map, Value, json};
use std::fmt;
use std::fmt::Write;

/// Whose run it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The group of hotwarm.
    Hotwarm,
    /// The rival.
    Redis,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hotwarm => "hotwarm",
            Self::Redis => "redis",
        })
    }
}

/// All runs of a case.
struct Runs {
    case: Case,
    hotwarm: Vec<Measured>,
    redis: Vec<Measured>,
}

/// All runs of all cases.
pub struct Report {
    cases: Vec<Runs>,
}

impl Report {
    /// Without a run yet.
    pub fn new(cases: &[Case]) -> Self {
        let runs = |case: &Case| Runs { case: *case, hotwarm: Vec::new(), redis: Vec::new() };
        Self { cases: cases.iter().map(runs).collect() }
    }

    /// Takes a run of a case that the report was made for.
    pub fn add(&mut self, case: Case, side: Side, measured: Measured) {
        for runs in self.cases.iter_mut().filter(|runs| runs.case == case) {
            match side {
                Side::Hotwarm => runs.hotwarm.push(measured),
                Side::Redis => runs.redis.push(measured),
            }
        }
    }

    /// One object: case to medians. Rates are operations in a second, latencies those of a batch.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn json(&self) -> Result<String, Failure> {
        let mut cases = Map::new();
        for runs in &self.cases {
            let (hotwarm, redis) = (median(&runs.hotwarm), median(&runs.redis));
            let pair =
                |of: fn(&Measured) -> f64| json!({ "hotwarm": of(&hotwarm).round(), "redis": of(&redis).round() });
            let case = json!({
                "hotwarm": hotwarm.per_second.round(),
                "redis": redis.per_second.round(),
                "ratio": ratio(&hotwarm, &redis),
                "p50_us": pair(|measured| measured.p50_us),
                "p99_us": pair(|measured| measured.p99_us),
            });
            cases.insert(runs.case.name.to_owned(), case);
        }
        Ok(format!("{}\n", serde_json::to_string_pretty(&Value::Object(cases))?))
    }

    /// A table for people.
    pub fn text(&self) -> String {
        let mut text = format!(
            "{:<12} {:>11} {:>11} {:>6} {:>19} {:>19}\n",
            "case", "hotwarm/s", "redis/s", "ratio", "p50 us (h / r)", "p99 us (h / r)"
        );
        for runs in &self.cases {
            let (hotwarm, redis) = (median(&runs.hotwarm), median(&runs.redis));
            let pair = |hotwarm: f64, redis: f64| format!("{hotwarm:.0} / {redis:.0}");
            // Writing to a string does not fail.
            let _ = writeln!(
                text,
                "{:<12} {:>11.0} {:>11.0} {:>6.2} {:>19} {:>19}",
                runs.case.name,
                hotwarm.per_second,
                redis.per_second,
                ratio(&hotwarm, &redis),
                pair(hotwarm.p50_us, redis.p50_us),
                pair(hotwarm.p99_us, redis.p99_us),
            );
        }
        text
    }
}

/// How many times as fast hotwarm is, in hundredths.
fn ratio(hotwarm: &Measured, redis: &Measured) -> f64 {
    (hotwarm.per_second / redis.per_second * 100.0).round() / 100.0
}

/// The median of each figure by itself: they need not be of the same run.
fn median(runs: &[Measured]) -> Measured {
    let of = |figure: fn(&Measured) -> f64| {
        let mut figures: Vec<f64> = runs.iter().map(figure).collect();
        figures.sort_by(f64::total_cmp);
        let middle = figures.len() / 2;
        match figures.len() {
            0 => f64::NAN,
            count if count % 2 == 0 => (figures[middle - 1] + figures[middle]) / 2.0,
            _ => figures[middle],
        }
    };
    Measured {
        per_second: of(|measured| measured.per_second),
        p50_us: of(|measured| measured.p50_us),
        p99_us: of(|measured| measured.p99_us),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::CASES;

    fn measured(per_second: f64) -> Measured {
        Measured { per_second, p50_us: 1e6 / per_second, p99_us: 2e6 / per_second }
    }

    #[test]
    fn one_wild_run_does_not_move_the_median() {
        let case = CASES[0];
        let mut report = Report::new(&[case]);
        for per_second in [100.0, 1.0, 120.0] {
            report.add(case, Side::Hotwarm, measured(per_second));
        }
        for per_second in [40.0, 60.0] {
            report.add(case, Side::Redis, measured(per_second));
        }
        let json: Value = serde_json::from_str(&report.json().unwrap()).unwrap();
        let case = &json["set_c50_p1"];
        assert_eq!((case["hotwarm"].as_f64(), case["redis"].as_f64()), (Some(100.0), Some(50.0)));
        assert_eq!((case["ratio"].as_f64(), case["p50_us"]["hotwarm"].as_f64()), (Some(2.0), Some(10_000.0)));
        assert_eq!(case["p99_us"]["redis"].as_f64(), Some(41_667.0));
        assert!(report.text().lines().nth(1).is_some_and(|line| line.contains(" 2.00 ")), "{}", report.text());
    }
}
