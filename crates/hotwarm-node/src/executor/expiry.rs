//! Removes keys whose time has come and that nobody touches, behind everything that clients ask for.
//!
//! By group time (R35), and only while this node reigns: a removal is a write like any other, and every other node waits for it. A turn removes
//! one small batch at most, after its replies have left, and then pauses in proportion to what it took. With nothing to
//! remove the thread sleeps until the next expiry that it knows of. An operator may have group time follow the wall clock.

use super::{Executor, Mode};
use crate::clock;
use crate::observer::Noted;
use crate::storage::chain;
use hotwarm_core::AskRefused;
use hotwarm_store::Followed;
use hotwarm_types::Instant;
use std::time::Duration;

/// How much longer than a batch took no other one begins: removals take at most a tenth of the thread.
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
}

impl Executor {
    /// Has group time step onto the wall clock, and records that. A later hot goes on from there as soon as anything has
    /// been written since.
    pub(super) fn follow_clock(&mut self) -> Result<Followed, AskRefused> {
        match self.mode {
            Mode::Serving(_) => {}
            Mode::Following(hot) => return Err(AskRefused::NotHot { hot: hot.map(|hot| hot.node) }),
            Mode::Holding => return Err(AskRefused::NotHot { hot: None }),
        }
        let refused = |why: String| AskRefused::Forbidden { why: format!("{why}; nothing was changed") };
        let followed = self.time.follow(clock::now(), clock::wall_ms()).map_err(|error| refused(error.to_string()))?;
        self.setting.notes.push(Noted::clock_followed(followed));
        Ok(followed)
    }

    /// Removes a batch if one is due, and says in the timer when to come again.
    pub(super) fn expire_keys(&mut self) {
        self.expiry.next = None;
        let Mode::Serving(tenure) = self.mode else { return };
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
            match self.engine.state.expire(now_ms) {
                Ok(removed) => count = removed,
                Err(error) => return self.fail(&chain(&error)),
            }
        }
        self.setting.metrics.expired.add(count as u64);
        let end = clock::now();
        let pause = if count == 0 { RETRY_AFTER } else { (end.since(now) * PAUSE_FACTOR).max(PAUSE_MIN) };
        self.expiry.paused_until = end + pause;
        self.expiry.next = Some(end + pause);
        self.propose(tenure);
    }
}
