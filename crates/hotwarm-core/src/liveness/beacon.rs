//! The hot's beacons, the lease they earn, and verified reads (R15, R18, R19, R23).

use crate::node::{Role, cause};
use crate::register::Change;
use crate::replication::{Phase, Progress};
use crate::requests::Purpose;
use crate::{Grant, Message, Node, Note, Output};
use hotwarm_types::{Epoch, Incarnation, Instant, Lsn, NodeId, RequestId};

/// Beacons whose time of sending is remembered: more than the longest lease holds.
const BEACONS_KEPT: usize = 512;

impl Node {
    /// Whether local linearizable reads may be answered now: asked with a clock read after the requests arrived (R15,
    /// INV-6). Never remember the answer.
    #[must_use]
    pub fn lease_holds(&self, now: Instant) -> bool {
        now < self.lease_until()
    }

    /// The end of the lease as it stands; `Instant(0)` where there is none. It can only end earlier through a later
    /// step, which must be asked again.
    #[must_use]
    pub fn lease_until(&self) -> Instant {
        let Role::Hot(hot) = &self.role else { return Instant(0) };
        let serves = matches!(hot.phase, Phase::Serving | Phase::Draining { .. } | Phase::Resuming);
        if !serves || hot.parked_since.is_some() || self.fenced.is_some() || self.has_left() {
            return Instant(0);
        }
        let needed = self.needed().into_iter().filter(|node| self.me != Some(*node));
        let granted = needed.map(|node| hot.followers.get(&node).map_or(Instant(0), |p| p.granted_until));
        // Alone in sync, nobody can be made hot but by an operator who has fenced this node (R8).
        granted.min().unwrap_or(Instant(u64::MAX))
    }

    pub(crate) fn send_beacons(&mut self, now: Instant) {
        let timing = self.timing();
        let Role::Hot(hot) = &mut self.role else { return };
        hot.next_beacon_at = now + timing.beacon;
        hot.beacon_seq += 1;
        hot.beacons.push_back((hot.beacon_seq, now, now + timing.lease_usable()));
        if hot.beacons.len() > BEACONS_KEPT {
            hot.beacons.pop_front();
        }
        for peer in self.others() {
            self.send_beacon(now, peer);
        }
        self.ask_to_verify(now);
    }

    /// A beacon to one member whose link has just become ready.
    pub(crate) fn beacon_to(&mut self, now: Instant, peer: NodeId) {
        if matches!(&self.role, Role::Hot(hot) if hot.beacon_seq > 0) {
            self.send_beacons_to_new(now, peer);
        }
    }

    fn send_beacons_to_new(&mut self, now: Instant, peer: NodeId) {
        let usable = self.timing().lease_usable();
        if let Role::Hot(hot) = &mut self.role {
            hot.beacon_seq += 1;
            hot.beacons.push_back((hot.beacon_seq, now, now + usable));
        }
        self.send_beacon(now, peer);
    }

    fn send_beacon(&mut self, now: Instant, peer: NodeId) {
        let (lease, version, stalled) = (self.timing().lease, self.state_version(), self.log.stalled(now));
        let Role::Hot(hot) = &self.role else { return };
        // Before the first commit of a reign its commit position is not the log's: nothing is told of it (R25).
        let committed = if hot.phase == Phase::Starting { Lsn::ZERO } else { self.log.committed() };
        let echo = hot.followers.get(&peer).map_or(0, |progress| progress.echo);
        let (epoch, incarnation, seq) = (hot.reign.epoch, hot.reign.incarnation, hot.beacon_seq);
        self.send(peer, Message::Beacon { epoch, incarnation, seq, lease, version, committed, echo, stalled });
    }

    #[expect(clippy::too_many_arguments, reason = "they are the fields of one message")]
    pub(crate) fn beacon_answered(
        &mut self,
        now: Instant,
        from: NodeId,
        epoch: Epoch,
        incarnation: Incarnation,
        seq: u64,
        grant: Grant,
        leaving: bool,
    ) {
        if epoch > self.vote.epoch {
            // Somebody has seen a later reign, durably: this one is over (INV-2).
            self.see_epoch(now, epoch);
            return;
        }
        if !self.reigns_as(epoch, incarnation) || grant == Grant::Deposed {
            return;
        }
        if let Some(link) = self.links.get_mut(&from) {
            link.suspicion.heard(now);
        }
        let Role::Hot(hot) = &mut self.role else { return };
        let Some((_, sent_at, until)) = hot.beacons.iter().rev().find(|(number, _, _)| *number == seq).copied() else {
            return;
        };
        let progress = hot.followers.entry(from).or_insert_with(|| Progress::new(now));
        progress.heard_at = now;
        progress.echo = progress.echo.max(seq);
        progress.leaving = leaving;
        if grant == Grant::Granted {
            progress.granted_until = progress.granted_until.max(until);
            progress.granted_sent_at = progress.granted_sent_at.max(sent_at);
        }
    }

    /// The process slept longer than the lease: replies wait until the reign has been confirmed (R18).
    pub(crate) fn hot_slept(&mut self, now: Instant) {
        if let Role::Hot(hot) = &mut self.role {
            hot.parked_since = Some(now);
            hot.next_beacon_at = now;
            hot.next_register_read_at = now;
            // Silence during the sleep was this node's own.
            for progress in hot.followers.values_mut() {
                progress.heard_at = now;
            }
            for (_, since) in &mut hot.waiting {
                *since = now;
            }
        }
    }

    /// Ends the parking once every needed node has granted a beacon sent since; tells of a lease lost and held again.
    pub(crate) fn watch_lease(&mut self, now: Instant) {
        let needed = self.needed();
        let me = self.me;
        let Role::Hot(hot) = &mut self.role else { return };
        if let Some(since) = hot.parked_since {
            let mut others = needed.iter().filter(|node| me != Some(**node)).peekable();
            // Alone, the register must confirm it: see `alone_confirmed`.
            let confirmed = others.peek().is_some()
                && others.all(|node| hot.followers.get(node).is_some_and(|p| p.granted_sent_at >= since));
            if confirmed {
                hot.parked_since = None;
            }
        }
        let held = self.lease_holds(now);
        let Role::Hot(hot) = &mut self.role else { return };
        if held != hot.lease_was_held && hot.phase == Phase::Serving {
            hot.lease_was_held = held;
            self.note(if held { Note::LeaseHeld } else { Note::LeaseLost });
        }
    }

    /// The register was read and names this reign: a hot that is alone in sync is confirmed.
    pub(crate) fn alone_confirmed(&mut self, now: Instant, asked_at: Instant) {
        let alone = self.needed().len() == 1;
        if let Role::Hot(hot) = &mut self.role
            && alone
            && hot.parked_since.is_some_and(|since| since <= asked_at)
        {
            hot.parked_since = None;
        }
        self.advance_commit(now);
    }

    /// Reads wait for proof that nobody else has become hot.
    pub(crate) fn verify_asked(&mut self, now: Instant, id: RequestId) {
        let Role::Hot(hot) = &mut self.role else {
            self.emit(Output::Verified { upto: id, at: None });
            return;
        };
        if hot.verify_upto.is_some() {
            hot.verify_next = Some(id);
            return;
        }
        self.begin_round(now, id);
    }

    fn begin_round(&mut self, now: Instant, id: RequestId) {
        let alone = self.needed().len() == 1;
        let Role::Hot(hot) = &mut self.role else { return };
        hot.verify_round += 1;
        hot.verify_upto = Some(id);
        hot.verified_by.clear();
        if alone {
            self.verify_by_register(now);
        } else {
            self.ask_to_verify(now);
        }
    }

    /// Alone in sync, only the register can tell of a forced promotion (R19).
    pub(crate) fn verify_by_register(&mut self, now: Instant) {
        let alone = self.needed().len() == 1;
        let Role::Hot(hot) = &self.role else { return };
        if hot.verify_upto.is_some() && alone && self.purpose.is_none() {
            let purpose = Purpose::VerifyAlone { round: hot.verify_round };
            self.wish(now, purpose, None, Change::Read, cause("verify", ""));
        }
    }

    /// Asks those who have not answered. Where nobody is missing any more, since the needed set has changed, the round
    /// is over.
    fn ask_to_verify(&mut self, now: Instant) {
        self.end_round(now, false);
        let needed = self.needed();
        let Role::Hot(hot) = &self.role else { return };
        if hot.verify_upto.is_none() {
            return;
        }
        let (epoch, incarnation, round) = (hot.reign.epoch, hot.reign.incarnation, hot.verify_round);
        let missing: alloc::vec::Vec<NodeId> =
            needed.into_iter().filter(|node| self.me != Some(*node) && !hot.verified_by.contains(node)).collect();
        for peer in missing {
            self.send(peer, Message::Verify { epoch, incarnation, round });
        }
    }

    pub(crate) fn verified(&mut self, now: Instant, from: NodeId, epoch: Epoch, incarnation: Incarnation, round: u64) {
        if !self.reigns_as(epoch, incarnation) {
            return;
        }
        let Role::Hot(hot) = &mut self.role else { return };
        if hot.verify_round == round && hot.verify_upto.is_some() {
            hot.verified_by.insert(from);
            self.end_round(now, false);
        }
    }

    /// Ends the round if everyone needed has confirmed, or the register has; begins the next for those who came later.
    pub(crate) fn end_round(&mut self, now: Instant, by_register: bool) {
        let needed = self.needed();
        let me = self.me;
        let Role::Hot(hot) = &mut self.role else { return };
        let alone = needed.len() == 1;
        let all = needed.iter().all(|node| me == Some(*node) || hot.verified_by.contains(node));
        // R19: at a position that includes the epoch's start: only a serving hot has one.
        let serves = matches!(hot.phase, Phase::Serving | Phase::Draining { .. } | Phase::Resuming);
        if !serves || (alone && !by_register) || (!alone && !all) {
            return;
        }
        if let Some(upto) = hot.verify_upto.take() {
            let next = hot.verify_next.take();
            self.emit(Output::Verified { upto, at: Some(self.log.committed()) });
            if let Some(next) = next {
                self.begin_round(now, next);
            }
        }
    }

    /// Not hot any more: reads that wait are sent on.
    pub(crate) fn drop_reads(&mut self) {
        if let Role::Hot(hot) = &mut self.role {
            let waiting = hot.verify_next.take().or(hot.verify_upto);
            hot.verify_upto = None;
            if let Some(upto) = waiting {
                self.emit(Output::Verified { upto, at: None });
            }
        }
    }
}
