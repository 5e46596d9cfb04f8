//! The sessions under which calls of unmodified clients are executed once (R34, INV-10).
//!
//! A session remembers a bounded number of replies, so calls of many connections must not share one. Each
//! connection that writes gets a lane: a session with numbers of its own. A lane outlives its connection: when
//! nothing of it is open any more, the next connection takes it over and goes on counting, so that a group holds
//! about as many sessions as there are connections at once, however often clients reconnect.
//!
//! A session must be open before anything is executed under it. Opening is idempotent and is asked for and answered
//! before the lane's first write is handed to a hot; so a write whose session is found closed was forgotten by the
//! group, and its outcome is unknown. A lane that was idle for long is opened again first, since the group expires
//! idle sessions after an hour.
//!
//! A lane with a write whose outcome is unknown is lost: its session may be gone, and must not be opened again, since a
//! write that comes late could then be carried out twice. Whoever takes the lane next gets it with a fresh session.

use hotwarm_store::Identity;
use hotwarm_types::{Instant, SessionId};
use std::time::Duration;

/// After this long without a write a lane is opened again before the next: half of what the group grants.
const IDLE_MAX: Duration = Duration::from_secs(1_800);

/// Names a lane of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneId(usize);

#[derive(Debug)]
struct Lane {
    session: SessionId,
    next_sequence: u64,
    /// Calls numbered and not answered.
    open_count: usize,
    /// When it was opened or used last; `None`: not opened yet.
    used_at: Option<Instant>,
    /// A connection has it.
    taken: bool,
    /// Its session is not to be used by another connection.
    lost: bool,
}

impl Lane {
    fn new(session: SessionId) -> Self {
        Self { session, next_sequence: 1, open_count: 0, used_at: None, taken: false, lost: false }
    }
}

/// All lanes of this process.
#[derive(Debug)]
pub struct Lanes {
    next_session: u128,
    lanes: Vec<Lane>,
    free: Vec<usize>,
}

impl Lanes {
    /// No lanes yet. Sessions are numbered from `base`, which is drawn at random at each start, so that no two
    /// processes share one.
    #[must_use]
    pub fn new(base: u128) -> Self {
        Self { next_session: base, lanes: Vec::new(), free: Vec::new() }
    }

    /// A lane for a connection: a used one if there is one.
    pub fn take(&mut self) -> LaneId {
        let index = self.free.pop().unwrap_or_else(|| {
            let session = self.fresh_session();
            self.lanes.push(Lane::new(session));
            self.lanes.len() - 1
        });
        self.lanes[index].taken = true;
        LaneId(index)
    }

    fn fresh_session(&mut self) -> SessionId {
        let session = SessionId(self.next_session);
        self.next_session = self.next_session.wrapping_add(1);
        session
    }

    /// A write of the lane ended, and nobody knows how.
    pub fn lose(&mut self, lane: LaneId) {
        self.lanes[lane.0].lost = true;
    }

    /// The connection is gone. The lane is free for another once nothing of it is open.
    pub fn give_back(&mut self, lane: LaneId) {
        self.lanes[lane.0].taken = false;
        self.free_if_idle(lane);
    }

    /// The lane's session.
    #[must_use]
    pub fn session(&self, lane: LaneId) -> SessionId {
        self.lanes[lane.0].session
    }

    /// Whether the session must be opened (again) before the next write.
    #[must_use]
    pub fn needs_opening(&self, lane: LaneId, now: Instant) -> bool {
        let lane = &self.lanes[lane.0];
        lane.open_count == 0 && lane.used_at.is_none_or(|used| now.since(used) > IDLE_MAX)
    }

    /// The group holds the session open.
    pub fn opened(&mut self, lane: LaneId, now: Instant) {
        self.lanes[lane.0].used_at = Some(now);
    }

    /// Numbers the lane's next write.
    pub fn number(&mut self, lane: LaneId, now: Instant) -> Identity {
        let lane = &mut self.lanes[lane.0];
        let sequence = lane.next_sequence;
        lane.next_sequence += 1;
        lane.open_count += 1;
        lane.used_at = Some(now);
        Identity { session: lane.session, sequence }
    }

    /// A write of the lane has been answered, or given up.
    pub fn answered(&mut self, lane: LaneId) {
        self.lanes[lane.0].open_count -= 1;
        self.free_if_idle(lane);
    }

    fn free_if_idle(&mut self, lane: LaneId) {
        let index = lane.0;
        if self.lanes[index].taken || self.lanes[index].open_count > 0 {
            return;
        }
        if self.lanes[index].lost {
            self.lanes[index] = Lane::new(self.fresh_session());
        }
        self.free.push(index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Instant = Instant(1);

    #[test]
    fn a_lane_is_handed_on_only_when_nothing_of_it_is_open_and_never_repeats_a_number() {
        let mut lanes = Lanes::new(100);
        let first = lanes.take();
        lanes.opened(first, NOW);
        let open = lanes.number(first, NOW);
        lanes.give_back(first);
        let second = lanes.take();
        assert_ne!(lanes.session(first), lanes.session(second), "a write of the first is still open");
        lanes.answered(first);
        let third = lanes.take();
        assert_eq!(lanes.session(third), open.session);
        assert!(!lanes.needs_opening(third, NOW));
        assert!(lanes.number(third, NOW).sequence > open.sequence);
    }

    #[test]
    fn a_lane_whose_session_may_be_gone_is_handed_on_with_a_fresh_one() {
        let mut lanes = Lanes::new(100);
        let lane = lanes.take();
        lanes.opened(lane, NOW);
        let unknown = lanes.number(lane, NOW);
        lanes.lose(lane);
        lanes.answered(lane);
        lanes.give_back(lane);
        let next = lanes.take();
        assert_eq!(next, lane, "lanes that are lost do not pile up");
        assert_ne!(lanes.session(next), unknown.session);
        assert!(lanes.needs_opening(next, NOW));
        let other = lanes.take();
        assert_ne!(lanes.session(other), lanes.session(next));
    }

    #[test]
    fn a_lane_is_opened_before_its_first_write_and_after_a_long_rest() {
        let mut lanes = Lanes::new(0);
        let lane = lanes.take();
        assert!(lanes.needs_opening(lane, NOW));
        lanes.opened(lane, NOW);
        assert!(!lanes.needs_opening(lane, NOW));
        let later = NOW + IDLE_MAX + Duration::from_secs(1);
        assert!(lanes.needs_opening(lane, later));
        lanes.number(lane, NOW);
        assert!(!lanes.needs_opening(lane, later), "never under an open write: it might be executed twice");
    }
}
