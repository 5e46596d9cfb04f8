//! The run's clock: nanoseconds since its start, monotonic, the same for the director, the clients and the records.

use std::time::{Duration, Instant};

/// When the run began.
#[derive(Clone, Copy, Debug)]
pub struct RunClock(Instant);

impl RunClock {
    /// The run begins now.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Nanoseconds since the run began.
    pub fn now_ns(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// Milliseconds of nanoseconds, to the microsecond.
pub fn millis(ns: u64) -> f64 {
    (ns / 1_000) as f64 / 1_000.0
}

/// Nanoseconds of a length.
pub fn nanos(length: Duration) -> u64 {
    u64::try_from(length.as_nanos()).unwrap_or(u64::MAX)
}
