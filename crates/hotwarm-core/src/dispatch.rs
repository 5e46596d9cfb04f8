//! Which part of the node takes which message, and the check that stands before everything of a reign.

use crate::node::Role;
use crate::register::{Ballot, acceptor};
use crate::vote_book::After;
use crate::{Grant, Message, Node};
use alloc::vec::Vec;
use hotwarm_types::{Epoch, Incarnation, Instant, NodeId, Reign, Version};

impl Node {
    pub(crate) fn dispatch(&mut self, now: Instant, from: NodeId, incarnation: Incarnation, message: Message) {
        if let Some((epoch, reigning)) = reign_of(&message) {
            // Only the process that reigns speaks for its reign; the connection says which process this is.
            if reigning != incarnation || !self.admits_epoch(now, from, incarnation, epoch, &message) {
                return;
            }
        }
        match message {
            Message::Hello(claims) => self.hello(now, from, claims),
            Message::HelloPassed { version } => {
                self.hello_passed(now, from);
                self.heard_version(from, version);
            }
            Message::HelloRefused { remembered } => self.hello_refused(from, &remembered),
            Message::Prepare { ballot, members_version } => {
                self.heard_members_version(from, members_version);
                if self.is_trusted() {
                    let before = self.vote.promised;
                    let response = acceptor::prepare(&mut self.vote, ballot, members_version);
                    self.book.dirty |= self.vote.promised != before;
                    self.once_durable(now, After::Send { to: from, message: response.into() });
                }
            }
            Message::Accept { ballot, members_version, state } => {
                if self.is_trusted() {
                    let before = self.vote.accepted.as_ref().map(|(ballot, _)| *ballot);
                    let response = acceptor::accept(&mut self.vote, ballot, members_version, state);
                    self.book.dirty |= self.vote.accepted.as_ref().map(|(ballot, _)| *ballot) != before;
                    self.once_durable(now, After::Send { to: from, message: response.into() });
                }
            }
            Message::Promise { .. } | Message::Accepted { .. } | Message::Refused { .. } => {
                if let Message::Refused { newer: Some(newer), .. } = &message {
                    self.heard_of_members(newer);
                }
                if let Some(proposer) = &mut self.proposer {
                    let mut send = Vec::new();
                    proposer.received(now, from, &message, &mut send);
                    self.send_all(send);
                }
            }
            Message::Announce { state } => self.learn(now, state),
            Message::AskState { version } => self.tell_state(from, version),
            Message::Beacon { epoch, seq, lease, version, committed, echo, stalled, .. } => {
                self.heard_version(from, version);
                self.beacon(now, Reign { epoch, node: from, incarnation }, seq, lease, committed, echo, stalled);
            }
            Message::BeaconAnswer { epoch, incarnation: answered, seq, grant, version, leaving } => {
                self.heard_version(from, version);
                self.beacon_answered(now, from, epoch, answered, seq, grant, leaving);
            }
            Message::Poll { candidacy, epoch } => self.polled(now, from, candidacy, epoch),
            Message::PollAnswer { candidacy, epoch, end, hears_hot, version, leaving } => {
                self.heard_version(from, version);
                self.poll_answered(now, from, candidacy, epoch, end, hears_hot, leaving);
            }
            Message::Verify { epoch, round, .. } => self.verify(from, Reign { epoch, node: from, incarnation }, round),
            Message::Verified { epoch, incarnation: reigning, round } => {
                self.verified(now, from, epoch, reigning, round);
            }
            Message::Goodbye { .. } => self.goodbye(now, from, incarnation),
            Message::OpenStream { epoch, stream, .. } => {
                self.stream_asked(now, Reign { epoch, node: from, incarnation }, stream);
            }
            Message::StreamOpened { epoch, incarnation: reigning, stream, epochs, end, committed } => {
                if self.reigns_as(epoch, reigning) {
                    self.stream_opened(now, from, stream, &epochs, end, committed);
                }
            }
            Message::Append { epoch, stream, prev, block, committed, .. } => {
                self.append(now, Reign { epoch, node: from, incarnation }, stream, prev, block, committed);
            }
            Message::Ack { epoch, incarnation: reigning, stream, durable } => {
                if self.reigns_as(epoch, reigning) {
                    self.acked(now, from, stream, durable);
                }
            }
            Message::Commit { epoch, stream, committed, .. } => {
                self.commit_heard(Reign { epoch, node: from, incarnation }, stream, committed);
            }
            Message::OfferSnapshot { epoch, stream, at, epochs, .. } => {
                self.snapshot_offered(now, Reign { epoch, node: from, incarnation }, stream, at, epochs);
            }
            Message::SnapshotWanted { epoch, incarnation: reigning, stream } => {
                if self.reigns_as(epoch, reigning) {
                    self.snapshot_wanted(from, stream);
                }
            }
        }
    }

    /// Whether this node holds that reign now.
    pub(crate) fn reigns_as(&self, epoch: Epoch, incarnation: Incarnation) -> bool {
        matches!(&self.role, Role::Hot(hot) if hot.reign.epoch == epoch && hot.reign.incarnation == incarnation)
    }

    /// INV-2: a message of an older epoch is refused; one of a newer epoch is taken only once that epoch is durable.
    fn admits_epoch(
        &mut self,
        now: Instant,
        from: NodeId,
        incarnation: Incarnation,
        epoch: Epoch,
        message: &Message,
    ) -> bool {
        if epoch < self.vote.epoch {
            let (seq, version) = (0, self.state_version());
            let (epoch, leaving) = (self.vote.epoch, self.leaving.is_some());
            let answer = Message::BeaconAnswer { epoch, incarnation, seq, grant: Grant::Deposed, version, leaving };
            self.send(from, answer);
            return false;
        }
        self.see_epoch(now, epoch);
        if self.book.durable_epoch() < epoch {
            self.once_durable(now, After::Take { from, incarnation, message: message.clone() });
            return false;
        }
        true
    }

    /// Takes note of an epoch: from now on no lower one is followed, and no lower reign of this node goes on.
    pub(crate) fn see_epoch(&mut self, now: Instant, epoch: Epoch) {
        if epoch <= self.vote.epoch {
            return;
        }
        self.vote.epoch = epoch;
        self.book.dirty = true;
        if let Role::Hot(hot) = &self.role {
            let (ours, evidence) = (hot.reign.epoch, alloc::format!("epoch {epoch} was seen"));
            assert!(ours < epoch, "INV-1: an epoch above our own is another reign");
            self.stop_being_hot(now, crate::node::cause("deposed", evidence));
        }
    }

    pub(crate) fn state_version(&self) -> Version {
        self.state.as_ref().filter(|_| self.state_chosen).map_or(Version(0), |state| state.version)
    }

    /// A peer knows a newer state: ask for it (R7).
    fn heard_version(&mut self, from: NodeId, version: Version) {
        let ours = self.state_version();
        if version > ours {
            self.send(from, Message::AskState { version: ours });
        }
    }

    pub(crate) fn tell_state(&mut self, to: NodeId, version: Version) {
        let Some(state) = self.state.clone().filter(|state| state.version > version) else { return };
        if self.state_chosen {
            self.send(to, Message::Announce { state });
        } else if let Some((_, held)) = self.vote.accepted.clone() {
            // It may never be chosen; but whoever is to vote on it must be known to the others (see `newcomer`).
            let (ballot, promised) = (Ballot::default(), self.vote.promised);
            self.send(to, Message::Refused { ballot, promised, newer: Some(held) });
        }
    }
}

/// The reign that a message claims to come from, for those that only its holder may send.
fn reign_of(message: &Message) -> Option<(Epoch, Incarnation)> {
    match message {
        Message::Beacon { epoch, incarnation, .. }
        | Message::Verify { epoch, incarnation, .. }
        | Message::OpenStream { epoch, incarnation, .. }
        | Message::Append { epoch, incarnation, .. }
        | Message::Commit { epoch, incarnation, .. }
        | Message::OfferSnapshot { epoch, incarnation, .. } => Some((*epoch, *incarnation)),
        Message::Hello(_)
        | Message::HelloPassed { .. }
        | Message::HelloRefused { .. }
        | Message::Prepare { .. }
        | Message::Promise { .. }
        | Message::Accept { .. }
        | Message::Accepted { .. }
        | Message::Refused { .. }
        | Message::Announce { .. }
        | Message::AskState { .. }
        | Message::BeaconAnswer { .. }
        | Message::Poll { .. }
        | Message::PollAnswer { .. }
        | Message::Verified { .. }
        | Message::Goodbye { .. }
        | Message::StreamOpened { .. }
        | Message::Ack { .. }
        | Message::SnapshotWanted { .. } => None,
    }
}
