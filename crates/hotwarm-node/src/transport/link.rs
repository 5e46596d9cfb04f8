//! The four connections to a peer as a state machine: no socket, no clock of its own, no waiting.
//!
//! ```text
//!              fourth lane of one incarnation                    told: LinkUp
//!   lanes < 4 ------------------------------> session, not told -------------> session, told
//!       ^                                            |                              |
//!       |        a lane of the session ends or is replaced: its other lanes close   |
//!       +------ told: LinkDown, if LinkUp was told <----------------------------------+
//! ```
//!
//! A lane is one connection in one direction. A session is the time from the fourth lane on until one of its four is
//! gone; both ends see the same sessions begin and end, if not at the same moment. What arrives is delivered only
//! within a session that has been told.

use super::outbox::{Full, Outbox, Share};
use hotwarm_types::Incarnation;
use hotwarm_wire::{Frame, Purpose};
use std::time::Instant;
use tokio::sync::oneshot;

/// Which of the four.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    /// Dialled by this node; carries what it sends.
    Out,
    /// Accepted by this node; carries what it receives.
    In,
}

const LANES: usize = 4;

fn slot(direction: Direction, purpose: Purpose) -> usize {
    let direction = match direction {
        Direction::Out => 0,
        Direction::In => 1,
    };
    let purpose = match purpose {
        Purpose::Control => 0,
        Purpose::Bulk => 1,
    };
    direction * 2 + purpose
}

/// One connection. Dropped, it makes the task that serves it close it.
#[derive(Debug)]
pub(super) struct Lane {
    serial: u64,
    incarnation: Incarnation,
    outbox: Option<Outbox>,
    _open: oneshot::Sender<()>,
}

impl Lane {
    /// A lane, and what its task waits for beside its work: the end of the lane.
    pub(super) fn new(serial: u64, incarnation: Incarnation, outbox: Option<Outbox>) -> (Self, oneshot::Receiver<()>) {
        let (open, closed) = oneshot::channel();
        (Self { serial, incarnation, outbox, _open: open }, closed)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Session {
    number: u64,
    incarnation: Incarnation,
    serials: [u64; LANES],
    since: Instant,
}

/// Why a start of the peer's process is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unwelcome {
    /// A later start of the same folder has been seen: this one is over, or a copy.
    Older {
        /// The later one.
        seen: Incarnation,
    },
    /// The same start of the same folder with another nonce: two copies of one folder run.
    Twin {
        /// The other one.
        seen: Incarnation,
    },
    /// Its guardian has attested its death.
    Dead,
}

/// What is to be told to the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Report {
    Up(Incarnation),
    Down,
}

/// Whether what arrived on a lane is delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delivery {
    Now,
    /// The other end was first to see the session: wait until it has been told here.
    Later,
    /// The lane is over.
    Never,
}

/// Which connections to a peer stand.
#[derive(Clone, Debug)]
pub struct LinkStatus {
    /// Since when all four stand; `None`: the link is down.
    pub up_since: Option<Instant>,
    /// The start of the peer's process that was seen last.
    pub incarnation: Option<Incarnation>,
    /// Control and bulk connection to the peer.
    pub sending: [bool; 2],
    /// Control and bulk connection from the peer.
    pub receiving: [bool; 2],
    /// Frames that wait to be sent.
    pub queued_frames: usize,
    /// About how many bytes they take.
    pub queued_bytes: usize,
}

/// The connections to one peer.
#[derive(Debug, Default)]
pub(super) struct Link {
    lanes: [Option<Lane>; LANES],
    /// The latest start of the peer's process that has been at the other end.
    latest: Option<Incarnation>,
    dead: Option<Incarnation>,
    sessions: u64,
    session: Option<Session>,
    told: Option<Session>,
}

impl Link {
    /// Whether a connection of that start of the peer may be used. A copied folder has the start counter of its
    /// original, or falls behind it.
    pub(super) fn judge(&self, incarnation: Incarnation) -> Result<(), Unwelcome> {
        if self.dead == Some(incarnation) {
            return Err(Unwelcome::Dead);
        }
        match self.latest {
            Some(seen) if incarnation.start < seen.start => Err(Unwelcome::Older { seen }),
            Some(seen) if incarnation.start == seen.start && incarnation.nonce != seen.nonce => {
                Err(Unwelcome::Twin { seen })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Takes a connection whose other end is known, in place of the one that was there.
    pub(super) fn open(&mut self, direction: Direction, purpose: Purpose, lane: Lane) -> Result<(), Unwelcome> {
        self.judge(lane.incarnation)?;
        if self.latest != Some(lane.incarnation) {
            self.latest = Some(lane.incarnation);
            self.lanes = Default::default();
        }
        self.lanes[slot(direction, purpose)] = Some(lane);
        self.settle();
        Ok(())
    }

    /// The connection has ended.
    pub(super) fn close(&mut self, serial: u64) {
        for lane in &mut self.lanes {
            lane.take_if(|lane| lane.serial == serial);
        }
        self.settle();
    }

    /// Closes all connections.
    pub(super) fn close_all(&mut self) {
        self.lanes = Default::default();
        self.settle();
    }

    /// That start of the peer is over: its connections are closed and no more are taken from it.
    pub(super) fn bury(&mut self, incarnation: Incarnation) {
        self.dead = Some(incarnation);
        if self.latest == Some(incarnation) {
            self.close_all();
        }
    }

    /// Ends a session that has lost a lane, with its other lanes; begins one when all four stand.
    fn settle(&mut self) {
        if let Some(session) = self.session
            && self.serials() != Some(session.serials)
        {
            self.session = None;
            for lane in &mut self.lanes {
                lane.take_if(|lane| session.serials.contains(&lane.serial));
            }
        }
        if self.session.is_none()
            && let (Some(serials), Some(incarnation)) = (self.serials(), self.latest)
        {
            self.sessions += 1;
            self.session = Some(Session { number: self.sessions, incarnation, serials, since: Instant::now() });
        }
    }

    fn serials(&self) -> Option<[u64; LANES]> {
        let mut serials = [0; LANES];
        for (serial, lane) in serials.iter_mut().zip(&self.lanes) {
            *serial = lane.as_ref()?.serial;
        }
        Some(serials)
    }

    /// The next thing to tell the node; it counts as told.
    pub(super) fn next_report(&mut self) -> Option<Report> {
        if self.told == self.session {
            return None;
        }
        if self.told.take().is_some() {
            return Some(Report::Down);
        }
        self.told = self.session;
        self.told.map(|session| Report::Up(session.incarnation))
    }

    /// Whether there is something to tell.
    pub(super) fn has_report(&self) -> bool {
        self.told != self.session
    }

    /// Whether what arrived on the connection is delivered now.
    pub(super) fn delivery(&self, serial: u64) -> Delivery {
        if !self.lanes.iter().flatten().any(|lane| lane.serial == serial) {
            return Delivery::Never;
        }
        match self.told {
            Some(session) if session.serials.contains(&serial) => Delivery::Now,
            Some(_) | None => Delivery::Later,
        }
    }

    /// Queues a frame for sending, within a session that has been told. `None`: there is none.
    pub(super) fn push(&self, frame: Frame, share: Share) -> Option<Result<(), Full>> {
        if self.told.is_none() || self.told != self.session {
            return None;
        }
        let purpose = if frame.is_bulk() { Purpose::Bulk } else { Purpose::Control };
        let lane = self.lanes[slot(Direction::Out, purpose)].as_ref()?;
        Some(lane.outbox.as_ref()?.push(frame, share))
    }

    pub(super) fn status(&self) -> LinkStatus {
        let stands =
            |direction| [Purpose::Control, Purpose::Bulk].map(|purpose| self.lanes[slot(direction, purpose)].is_some());
        let outboxes = || self.lanes.iter().flatten().filter_map(|lane| lane.outbox.as_ref());
        LinkStatus {
            up_since: self.session.map(|session| session.since),
            incarnation: self.latest,
            sending: stands(Direction::Out),
            receiving: stands(Direction::In),
            queued_frames: outboxes().map(Outbox::frames).sum(),
            queued_bytes: outboxes().map(Outbox::bytes).sum(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::outbox::outbox;
    use super::*;

    const FIRST: Incarnation = Incarnation { start: 1, nonce: 11 };
    const SECOND: Incarnation = Incarnation { start: 2, nonce: 22 };
    const ALL: [(Direction, Purpose); 4] = [
        (Direction::Out, Purpose::Control),
        (Direction::Out, Purpose::Bulk),
        (Direction::In, Purpose::Control),
        (Direction::In, Purpose::Bulk),
    ];

    /// Opens a lane; the receiver tells when it is closed.
    fn open(link: &mut Link, which: usize, serial: u64, incarnation: Incarnation) -> oneshot::Receiver<()> {
        let (direction, purpose) = ALL[which];
        let outbox = (direction == Direction::Out).then(|| outbox(purpose).0);
        let (lane, closed) = Lane::new(serial, incarnation, outbox);
        link.open(direction, purpose, lane).unwrap();
        closed
    }

    fn is_closed(closed: &mut oneshot::Receiver<()>) -> bool {
        closed.try_recv() == Err(oneshot::error::TryRecvError::Closed)
    }

    #[test]
    fn a_link_is_up_with_its_fourth_lane_in_whatever_order() {
        for last in 0..4 {
            let mut link = Link::default();
            let _open: Vec<_> = (0..4)
                .filter(|which| *which != last)
                .map(|which| open(&mut link, which, which as u64, FIRST))
                .collect();
            assert_eq!(link.next_report(), None);
            let _last = open(&mut link, last, 9, FIRST);
            assert_eq!(link.next_report(), Some(Report::Up(FIRST)));
            assert_eq!(link.next_report(), None);
        }
    }

    #[test]
    fn a_session_that_loses_a_lane_closes_its_others() {
        for lost in 0..4 {
            let mut link = Link::default();
            let mut lanes: Vec<_> = (0..4).map(|which| open(&mut link, which, which as u64, FIRST)).collect();
            assert_eq!(link.next_report(), Some(Report::Up(FIRST)));
            link.close(lost as u64);
            assert!(lanes.iter_mut().all(is_closed));
            assert_eq!((link.next_report(), link.next_report()), (Some(Report::Down), None));
        }
    }

    #[test]
    fn a_lane_that_is_replaced_ends_the_session_and_stays_for_the_next() {
        let mut link = Link::default();
        let mut old: Vec<_> = (0..4).map(|which| open(&mut link, which, which as u64, FIRST)).collect();
        assert_eq!(link.next_report(), Some(Report::Up(FIRST)));
        let mut new = vec![open(&mut link, 2, 12, FIRST)];
        assert!(old.iter_mut().all(is_closed));
        for which in [0, 1, 3] {
            new.push(open(&mut link, which, 10 + which as u64, FIRST));
        }
        assert!(!new.iter_mut().any(is_closed));
        assert_eq!(link.next_report(), Some(Report::Down));
        assert_eq!(link.next_report(), Some(Report::Up(FIRST)));
    }

    #[test]
    fn lanes_of_two_starts_make_no_session() {
        let mut link = Link::default();
        let mut old: Vec<_> = (0..3).map(|which| open(&mut link, which, which as u64, FIRST)).collect();
        let _new = open(&mut link, 3, 3, SECOND);
        assert!(old.iter_mut().all(is_closed));
        assert_eq!(link.next_report(), None);
    }

    #[test]
    fn older_starts_and_twins_are_unwelcome() {
        let mut link = Link::default();
        let _lane = open(&mut link, 0, 1, SECOND);
        assert_eq!(link.judge(SECOND), Ok(()));
        assert_eq!(link.judge(FIRST), Err(Unwelcome::Older { seen: SECOND }));
        let twin = Incarnation { nonce: 23, ..SECOND };
        assert_eq!(link.judge(twin), Err(Unwelcome::Twin { seen: SECOND }));
        assert_eq!(link.judge(Incarnation { start: 3, nonce: 1 }), Ok(()));
        link.bury(SECOND);
        assert_eq!(link.judge(SECOND), Err(Unwelcome::Dead));
    }

    #[test]
    fn nothing_is_delivered_or_sent_before_the_session_is_told_or_after_it_ended() {
        let frame = || Frame::Forward { round: 1, payload: Vec::new() };
        let mut link = Link::default();
        // The other ends of the queues must live, or nothing can be pushed.
        let mut inboxes = Vec::new();
        let mut lanes = Vec::new();
        for (serial, (direction, purpose)) in ALL.into_iter().enumerate() {
            let (outbox, inbox) = outbox(purpose);
            let (lane, closed) = Lane::new(serial as u64, FIRST, (direction == Direction::Out).then_some(outbox));
            link.open(direction, purpose, lane).unwrap();
            inboxes.push(inbox);
            lanes.push(closed);
        }
        assert_eq!((link.delivery(2), link.push(frame(), Share::Whole)), (Delivery::Later, None));
        link.next_report();
        assert_eq!((link.delivery(2), link.push(frame(), Share::Whole)), (Delivery::Now, Some(Ok(()))));
        link.close(0);
        assert_eq!((link.delivery(2), link.push(frame(), Share::Whole)), (Delivery::Never, None));
        assert_eq!(link.next_report(), Some(Report::Down));
    }
}
