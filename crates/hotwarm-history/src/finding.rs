//! What a checker found, and the sums of it for a report.

use core::fmt;

/// What a contradiction means to the one who trusted the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Harm {
    /// An acknowledged write is not there.
    Lost,
    /// A write took effect more than once.
    Duplicated,
    /// A read missed what it should have seen.
    Stale,
    /// A write took effect of which it was said that it has not.
    Revived,
    /// A value was seen that nobody wrote.
    Invented,
    /// No order of the calls explains them.
    Disordered,
}

impl Harm {
    /// In a word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Duplicated => "duplicated",
            Self::Stale => "stale",
            Self::Revived => "revived",
            Self::Invented => "invented",
            Self::Disordered => "disordered",
        }
    }
}

/// Calls that contradict each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The check that is broken: `C18`.
    pub check: &'static str,
    /// What it means.
    pub harm: Harm,
    /// How many writes or reads it is about, at least 1.
    pub count: u64,
    /// The calls, in words.
    pub what: String,
}

impl Finding {
    /// A finding about one write or read.
    pub fn new(check: &'static str, harm: Harm, what: impl Into<String>) -> Self {
        Self { check, harm, count: 1, what: what.into() }
    }

    /// The same about so many.
    #[must_use]
    pub fn times(self, count: u64) -> Self {
        Self { count, ..self }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.check, self.harm.name(), self.what)
    }
}

/// What a whole history comes to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Calls made.
    pub calls: u64,
    /// Calls answered.
    pub acknowledged: u64,
    /// Calls refused, never applied.
    pub failed: u64,
    /// Calls of which nobody knows.
    pub unknown: u64,
    /// Acknowledged writes that are missing.
    pub lost: u64,
    /// Writes that took effect more than once.
    pub duplicated: u64,
    /// Reads that missed what they should have seen.
    pub stale: u64,
    /// Contradictions of other kinds: see [`Harm`].
    pub other: u64,
    /// What could not be decided within its bound of work: neither good nor bad.
    pub undecided: Vec<String>,
    /// The first [`Summary::FINDINGS_MAX`] findings of each check and harm, in the order of the checkers.
    pub findings: Vec<Finding>,
}

impl Summary {
    /// How many findings of one check and harm are kept in words; all are counted.
    pub const FINDINGS_MAX: usize = 10;

    /// Counts findings, and keeps the first ones.
    pub fn add(&mut self, findings: impl IntoIterator<Item = Finding>) {
        for finding in findings {
            match finding.harm {
                Harm::Lost => self.lost += finding.count,
                Harm::Duplicated => self.duplicated += finding.count,
                Harm::Stale => self.stale += finding.count,
                Harm::Revived | Harm::Invented | Harm::Disordered => self.other += finding.count,
            }
            let alike = |other: &&Finding| (other.check, other.harm) == (finding.check, finding.harm);
            if self.findings.iter().filter(alike).count() < Self::FINDINGS_MAX {
                self.findings.push(finding);
            }
        }
    }

    /// Whether nothing was found and nothing is undecided.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.lost + self.duplicated + self.stale + self.other == 0 && self.undecided.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_findings_are_counted_and_the_first_are_kept() {
        let mut summary = Summary::default();
        assert!(summary.is_clean());
        summary.add((0..80).map(|number| Finding::new("C12", Harm::Lost, format!("element {number}"))));
        summary.add([Finding::new("C9", Harm::Revived, "failed writes").times(3)]);
        assert_eq!((summary.lost, summary.other, summary.findings.len()), (80, 3, Summary::FINDINGS_MAX + 1));
        assert_eq!(summary.findings[0].to_string(), "C12 lost: element 0");
        assert!(!summary.is_clean());
        assert!(!Summary { undecided: vec!["too much".to_owned()], ..Summary::default() }.is_clean());
    }
}
