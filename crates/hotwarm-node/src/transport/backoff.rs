//! Pauses between attempts to connect: 20 ms, doubled up to 500 ms, each drawn from its upper half.
//!
//! Short, since a rejoin waits for it; drawn, so that nodes that lost each other at once do not dial in step.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(20);
const LAST: Duration = Duration::from_millis(500);

/// The pauses of one place that is dialled.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
}

impl Backoff {
    pub(crate) fn new() -> Self {
        Self { next: FIRST }
    }

    /// The next pause is the shortest again.
    pub(crate) fn reset(&mut self) {
        self.next = FIRST;
    }

    /// The next pause is the longest: the other end has said no, and an operator has to act.
    pub(crate) fn slow_down(&mut self) {
        self.next = LAST;
    }

    /// How long to wait before the next attempt.
    pub(crate) fn pause(&mut self) -> Duration {
        let longest = self.next;
        self.next = (self.next * 2).min(LAST);
        rand::random_range(longest / 2..=longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_and_stay_within_bounds() {
        let mut backoff = Backoff::new();
        let mut longest = FIRST;
        for _ in 0..10 {
            let pause = backoff.pause();
            assert!(pause >= longest / 2 && pause <= longest, "{pause:?} of {longest:?}");
            longest = (longest * 2).min(LAST);
        }
        backoff.reset();
        assert!(backoff.pause() <= FIRST);
        backoff.slow_down();
        assert!(backoff.pause() >= LAST / 2);
    }
}
