//! The node's two clocks, read in one place.
//!
//! Everything that decides uses [`now`], the clock that counts suspend (CLOCK_BOOTTIME): a lease must not outlive a
//! closed lid (R15, C3). The wall clock only labels records that people read, and feeds the group time (R35).
//! Callers read the clock after the request has arrived and never remember the answer.

use hotwarm_types::Instant;
use rustix::time::{ClockId, Timespec, clock_gettime};

/// This moment on the clock that counts suspend.
#[must_use]
pub fn now() -> Instant {
    Instant(nanos(clock_gettime(ClockId::Boottime)))
}

/// Milliseconds since the Unix epoch, as the machine's wall clock has them.
#[must_use]
pub fn wall_ms() -> u64 {
    nanos(clock_gettime(ClockId::Realtime)) / 1_000_000
}

/// What must be added to [`now`], in milliseconds, to get [`wall_ms`]: how the core labels its records.
#[must_use]
pub fn wall_offset_ms() -> u64 {
    wall_ms().saturating_sub(now().0 / 1_000_000)
}

fn nanos(time: Timespec) -> u64 {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_goes_forward_and_the_offset_joins_both_clocks() {
        let first = now();
        let second = now();
        assert!(second >= first);
        let joined = second.0 / 1_000_000 + wall_offset_ms();
        assert!(wall_ms().abs_diff(joined) < 1_000);
    }
}
