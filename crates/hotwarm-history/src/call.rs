//! One call of a client: what it asked for, when, and how that ended.

use core::fmt;

/// The end of a call that has none: later than everything.
pub const UNENDED: u64 = u64::MAX;

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome<S> {
    /// It was answered.
    Returned {
        /// When, in nanoseconds.
        at: u64,
        /// What the answer said.
        seen: S,
    },
    /// It was refused: it has not been applied, and never will be (C9).
    Failed,
    /// Nobody knows: it may take effect at any later time, or never.
    Unknown,
}

/// A call: `O` is what was asked for, `S` what was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call<O, S> {
    /// Whose. A client has one call open at a time.
    pub client: u32,
    /// When it was first sent, in nanoseconds.
    pub invoked_at: u64,
    /// What was asked for.
    pub operation: O,
    /// How it ended.
    pub outcome: Outcome<S>,
}

impl<O, S> Call<O, S> {
    /// When it was answered, in nanoseconds; [`UNENDED`] if it was not.
    pub fn ended_at(&self) -> u64 {
        match self.outcome {
            Outcome::Returned { at, .. } => at,
            Outcome::Failed | Outcome::Unknown => UNENDED,
        }
    }

    /// What the answer said, if there was one.
    pub fn seen(&self) -> Option<&S> {
        match &self.outcome {
            Outcome::Returned { seen, .. } => Some(seen),
            Outcome::Failed | Outcome::Unknown => None,
        }
    }

    /// Whether it was answered.
    pub fn is_acknowledged(&self) -> bool {
        matches!(self.outcome, Outcome::Returned { .. })
    }
}

/// As a person reads it: who, when, what, and what came of it.
impl<O: fmt::Display, S: fmt::Display> fmt::Display for Call<O, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "client {} {} (from {}", self.client, self.operation, seconds(self.invoked_at))?;
        match &self.outcome {
            Outcome::Returned { at, seen } => write!(f, " to {}: {seen})", seconds(*at)),
            Outcome::Failed => f.write_str(": failed)"),
            Outcome::Unknown => f.write_str(": unknown)"),
        }
    }
}

/// Nanoseconds as seconds with microseconds: `12.000345 s`.
#[must_use]
pub fn seconds(nanoseconds: u64) -> String {
    if nanoseconds == UNENDED {
        return "never".to_owned();
    }
    format!("{}.{:06} s", nanoseconds / 1_000_000_000, nanoseconds % 1_000_000_000 / 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_reads_as_a_sentence() {
        let outcome = Outcome::Returned { at: 12_000_345_000, seen: "ok" };
        let call = Call { client: 3, invoked_at: 1_500_000_000, operation: "writes 7", outcome };
        assert_eq!(call.to_string(), "client 3 writes 7 (from 1.500000 s to 12.000345 s: ok)");
        let open = Call { outcome: Outcome::Unknown, ..call };
        assert_eq!(open.to_string(), "client 3 writes 7 (from 1.500000 s: unknown)");
        assert_eq!((open.ended_at(), seconds(UNENDED).as_str()), (UNENDED, "never"));
    }
}
