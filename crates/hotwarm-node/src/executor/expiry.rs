//! Removes keys whose time has come and that nobody touches, behind everything that clients ask for.
//!
//! By group time (R35), and only while this node reigns: a removal is a write like any other, and every other node waits for it.
//! A turn removes one small batch at most, after its replies have left, and then pauses in proportion to what it took; batches
//! grow while keys come faster than that. With nothing to remove the thread sleeps until the next expiry that it knows of. An
//! operator may have group time follow the wall clock.

use super::{Executor, Mode};
use crate::clock;
use crate::observer::Noted;
use crate::storage::chain;
use hotwarm_core::AskRefused;
use hotwarm_store::Followed;
use hotwarm_store::limits::{EXPIRE_COUNT_MAX, EXPIRE_COUNT_MIN};
use hotwarm_types::{Instant, Lsn};
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::oneshot;

/// How much longer than a smallest batch took no other one begins: removals take at most a tenth of the thread.
const PAUSE_FACTOR: u32 = 9;

/// The shortest pause.
const PAUSE_MIN: Duration = Duration::from_millis(1);

/// The pause where something is due and cannot be removed yet: it is not fed, or there is no room for writes.
const RETRY_AFTER: Duration = Duration::from_millis(20);

/// When keys are looked at.
#[derive(Debug, Default)]
pub(super) struct ExpiryTimer {
    /// Not before this moment.
    paused_until: Instant,
    /// What the thread must wake up for.
    pub(super) next: Option<Instant>,
    pace: Pace,
}

/// How many keys a batch may have. It doubles while a batch leaves some that are due, and the pause after it keeps its length:
/// so removals keep up with keys that come faster, for which they may take up to half of the thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pace {
    count_max: usize,
}

impl Default for Pace {
    fn default() -> Self {
        Self { count_max: EXPIRE_COUNT_MIN }
    }
}

impl Pace {
    /// After a batch.
    fn next(self, is_behind: bool) -> Self {
        let count_max = if is_behind { self.count_max * 2 } else { self.count_max / 2 };
        Self { count_max: count_max.clamp(EXPIRE_COUNT_MIN, EXPIRE_COUNT_MAX) }
    }

    /// How long to pause after a batch that took `cost`.
    fn pause(self, cost: Duration) -> Duration {
        let factor = PAUSE_FACTOR * EXPIRE_COUNT_MIN as u32 / self.count_max as u32;
        (cost * factor.max(1)).max(PAUSE_MIN)
    }
}

/// A step of group time that is on its way into the log. Until it is committed nothing is judged by it: after a takeover it
/// may never have been.
#[derive(Debug)]
pub(super) struct ClockStep {
    /// The entry that carries it.
    pub(super) lsn: Lsn,
    followed: Followed,
    done: oneshot::Sender<Result<Followed, AskRefused>>,
}

impl Executor {
    /// Has group time step onto the wall clock, by an entry of the log, so that every later hot goes on from there (R35). Whoever
    /// asked is answered when it is committed; not at all if this reign ends before, since nobody knows.
    pub(super) fn follow_clock(&mut self, done: oneshot::Sender<Result<Followed, AskRefused>>) {
        match self.log_step() {
            Ok((lsn, followed)) => self.clock_step = Some(ClockStep { lsn, followed, done }),
            // Whoever asked may be gone.
            Err(refused) => drop(done.send(Err(refused))),
        }
    }

    fn log_step(&mut self) -> Result<(Lsn, Followed), AskRefused> {
        match self.mode {
            Mode::Serving(_) if self.clock_step.is_some() => return Err(AskRefused::Busy),
            Mode::Serving(_) => {}
            Mode::Following(hot) => return Err(AskRefused::NotHot { hot: hot.map(|hot| hot.node) }),
            Mode::Holding => return Err(AskRefused::NotHot { hot: None }),
        }
        let refused = |why: String| AskRefused::Forbidden { why: format!("{why}; nothing was changed") };
        let mut stepped = self.time;
        let followed = stepped.follow(clock::now(), clock::wall_ms()).map_err(|error| refused(error.to_string()))?;
        Ok((self.engine.state.log_time(followed.to_ms), followed))
    }

    /// Makes the step once it is committed, and records it.
    pub(super) fn step_clock(&mut self, committed: Lsn) {
        if let Some(ClockStep { followed, done, .. }) = self.clock_step.take_if(|step| step.lsn <= committed) {
            self.time.observe(followed.to_ms, self.now);
            self.setting.notes.push(Noted::clock_followed(followed));
            // Whoever asked may be gone; what was done is in the history.
            let _ = done.send(Ok(followed));
        }
    }

    /// Removes a batch if one is due, and says in the timer when to come again.
    pub(super) fn expire_keys(&mut self) {
        self.expiry.next = None;
        let Mode::Serving(tenure) = self.mode else {
            self.publish_lag(None);
            return;
        };
        let soonest_ms = self.engine.state.next_expiry_ms();
        if soonest_ms == u64::MAX {
            return;
        }
        let now = clock::now();
        let now_ms = self.time.stamp(now, clock::wall_ms());
        if soonest_ms > now_ms {
            self.expiry.next = Some(now + Duration::from_millis(soonest_ms - now_ms));
            return;
        }
        if now < self.expiry.paused_until {
            self.expiry.next = Some(self.expiry.paused_until);
            return;
        }
        let mut count = 0;
        if self.has_room() && !self.setting.board.space.is_short() {
            match self.engine.state.expire(now_ms, self.expiry.pace.count_max) {
                Ok(removed) => count = removed,
                Err(error) => return self.fail(&chain(&error)),
            }
        }
        self.setting.metrics.expired.add(count as u64);
        let overdue_ms = self.engine.state.overdue_ms(now_ms);
        self.publish_lag(overdue_ms);
        let end = clock::now();
        let pause = if count == 0 { RETRY_AFTER } else { self.expiry.pace.pause(end.since(now)) };
        self.expiry.pace = self.expiry.pace.next(count > 0 && overdue_ms.is_some());
        self.expiry.paused_until = end + pause;
        self.expiry.next = Some(end + pause);
        self.propose(tenure);
    }

    fn publish_lag(&self, overdue_ms: Option<u64>) {
        self.setting.metrics.expiry_lag_ms.store(overdue_ms.unwrap_or(0), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_grow_while_keys_stay_behind_and_their_pauses_do_not() {
        let smallest = Pace::default();
        assert_eq!(smallest.next(false), smallest);
        let per_key = Duration::from_micros(4);
        let cost = |pace: Pace| per_key * pace.count_max as u32;
        let per_second = |pace: Pace| pace.count_max as f64 / (cost(pace) + pace.pause(cost(pace))).as_secs_f64();
        assert_eq!(smallest.pause(cost(smallest)), cost(smallest) * PAUSE_FACTOR, "a tenth of the thread");
        let (mut pace, mut steps) = (smallest, 0);
        while pace.count_max < EXPIRE_COUNT_MAX {
            let grown = pace.next(true);
            assert!(per_second(grown) > 1.4 * per_second(pace), "{pace:?}");
            assert!(grown.pause(cost(grown)) <= smallest.pause(cost(smallest)), "{grown:?}");
            (pace, steps) = (grown, steps + 1);
        }
        assert!(steps < 5 && pace.next(true) == pace);
        assert_eq!(pace.pause(cost(pace)), cost(pace), "half of the thread");
        for _ in 0..steps {
            pace = pace.next(false);
        }
        assert_eq!(pace, smallest);
        assert_eq!(smallest.pause(Duration::ZERO), PAUSE_MIN);
    }
}
