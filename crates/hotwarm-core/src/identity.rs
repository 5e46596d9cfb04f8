//! Who is at the other end, and whether its memory can be trusted: hellos, amnesia, deaths, goodbyes, admissions.
//!
//! A peer's messages count only after its claims have been held against what is remembered of it, durably (R5); this
//! node votes, acknowledges and stands only after a majority has passed its own claims.

use crate::liveness::Suspicion;
use crate::node::Role;
use crate::vote_book::After;
use crate::{Claims, FenceReason, Message, Node, Note};
use alloc::vec::Vec;
use hotwarm_types::{Epoch, Incarnation, Instant, NodeId, Version};

/// What is known of a member and the connection to it.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Link {
    pub(crate) up: bool,
    /// The start of its process that the connection belongs to.
    pub(crate) incarnation: Incarnation,
    /// What it said of its memory, while it is not known as a member: a number that it does not get in the end may be
    /// another's.
    pub(crate) claims: Option<Claims>,
    /// Its claims were held against what is remembered, and passed.
    pub(crate) trusted: bool,
    /// It has passed this node's claims.
    pub(crate) trusts_us: bool,
    /// It has passed them at some time in this node's present start.
    pub(crate) has_trusted_us: bool,
    /// The start whose death its parent attested (R20).
    pub(crate) dead: Option<Incarnation>,
    /// The start that said goodbye (R21).
    pub(crate) gone: Option<Incarnation>,
    /// It will soon say goodbye.
    pub(crate) leaving: bool,
    pub(crate) heard_at: Option<Instant>,
    pub(crate) suspicion: Suspicion,
}

impl Link {
    /// Both ends trust each other's memory.
    pub(crate) fn is_ready(&self) -> bool {
        self.up && self.trusted && self.trusts_us
    }

    /// That start of the process can never act again: reaped, or gone for good.
    pub(crate) fn is_over(&self, incarnation: Incarnation) -> bool {
        self.dead == Some(incarnation) || self.gone == Some(incarnation)
    }
}

impl Node {
    pub(crate) fn link_up(&mut self, now: Instant, peer: NodeId, incarnation: Incarnation) {
        if self.me == Some(peer) {
            return;
        }
        let link = self.links.entry(peer).or_default();
        let Link { dead, gone, has_trusted_us, .. } = *link;
        *link = Link { up: true, incarnation, dead, gone, has_trusted_us, ..Link::default() };
        self.follower_lost(now, peer);
        let claims = self.claims();
        self.send(peer, Message::Hello(claims));
    }

    pub(crate) fn link_down(&mut self, now: Instant, peer: NodeId) {
        if let Some(link) = self.links.get_mut(&peer) {
            link.up = false;
            link.trusted = false;
            link.trusts_us = false;
        }
        self.follower_lost(now, peer);
    }

    /// Takes a message of a member, on a connection of its present incarnation.
    pub(crate) fn received(&mut self, now: Instant, from: NodeId, incarnation: Incarnation, message: Message) {
        if self.me != Some(from) {
            let Some(link) = self.links.get_mut(&from) else { return };
            if !link.up || link.incarnation != incarnation {
                return;
            }
            link.heard_at = Some(now);
            let introduces =
                matches!(message, Message::Hello(_) | Message::HelloPassed { .. } | Message::HelloRefused { .. });
            // What was chosen is chosen, whoever tells it: a stranger's word is taken for this alone.
            let tells = matches!(message, Message::Announce { .. } | Message::AskState { .. });
            if !link.trusted && !introduces && !tells {
                return;
            }
        }
        self.dispatch(now, from, incarnation, message);
    }

    /// Whether a majority of the members, this node included, trusts its memory (R5).
    pub(crate) fn is_trusted(&self) -> bool {
        let Some(state) = &self.state else { return false };
        // Once passed, passed for this incarnation: losing a peer takes no trust away (C26).
        let trusts = |id: &NodeId| self.links.get(id).is_some_and(|link| link.has_trusted_us);
        let trusting = state.members.iter().filter(|(id, member)| self.is_own(member) || trusts(id));
        trusting.count() >= state.majority_count()
    }

    pub(crate) fn hello(&mut self, now: Instant, from: NodeId, claims: Claims) {
        let remembered = self.vote.peers.get(&from).copied().unwrap_or_default();
        let honest = self.links.get(&from).is_some_and(|link| link.incarnation == claims.incarnation);
        if !honest || has_forgotten(&claims, &remembered) {
            if let Some(link) = self.links.get_mut(&from) {
                link.trusted = false;
            }
            self.note(Note::RefusedAmnesiac { peer: from });
            self.send(from, Message::HelloRefused { remembered });
            return;
        }
        if self.member_role(from).is_none() {
            if let Some(link) = self.links.get_mut(&from) {
                link.claims = Some(claims);
            }
        } else if claims != remembered {
            self.vote.peers.insert(from, claims);
            self.book.dirty = true;
        }
        if let Some(link) = self.links.get_mut(&from) {
            link.trusted = true;
        }
        let version = self.state_version();
        self.once_durable(now, After::Send { to: from, message: Message::HelloPassed { version } });
        self.peer_ready(now, from);
    }

    pub(crate) fn hello_passed(&mut self, now: Instant, from: NodeId) {
        let trusted_before = self.is_trusted();
        if let Some(link) = self.links.get_mut(&from) {
            link.trusts_us = true;
            link.has_trusted_us = true;
        }
        if !trusted_before && self.is_trusted() {
            // Blocks that came before were not taken.
            self.retell_log();
        }
        self.peer_ready(now, from);
    }

    pub(crate) fn hello_refused(&mut self, from: NodeId, remembered: &Claims) {
        // Only a memory that really is behind what the peer speaks of is a reason to stop.
        if has_forgotten(&self.claims(), remembered) {
            self.fence(FenceReason::Amnesia { by: from });
        }
    }

    fn peer_ready(&mut self, now: Instant, peer: NodeId) {
        if !self.links.get(&peer).is_some_and(Link::is_ready) {
            return;
        }
        if let Some(proposer) = &self.proposer {
            let mut send = Vec::new();
            proposer.connected(peer, &mut send);
            self.send_all(send);
        }
        if self.member_role(peer).is_none() {
            // A newcomer must know whose majority it needs, before it is asked to vote.
            self.tell_state(peer, Version(0));
        } else {
            self.poll_also(peer);
            self.open_stream(now, peer);
            self.beacon_to(now, peer);
        }
    }

    pub(crate) fn death_attested(&mut self, now: Instant, peer: NodeId, incarnation: Incarnation) {
        if self.me == Some(peer) {
            return;
        }
        let link = self.links.entry(peer).or_default();
        if link.dead == Some(incarnation) {
            return;
        }
        link.dead = Some(incarnation);
        if link.incarnation == incarnation {
            link.up = false;
            self.follower_lost(now, peer);
        }
        self.note(Note::DeathAttested { peer, incarnation });
    }

    pub(crate) fn goodbye(&mut self, now: Instant, from: NodeId, incarnation: Incarnation) {
        if let Some(link) = self.links.get_mut(&from) {
            link.gone = Some(incarnation);
            link.leaving = true;
        }
        self.follower_lost(now, from);
    }

    /// This node neither serves nor acknowledges any more, and says so (R21).
    pub(crate) fn say_goodbye(&mut self) {
        if let Role::Hot(hot) = &self.role {
            self.reign_over = self.reign_over.max(hot.reign.epoch);
        }
        let epoch = self.vote.epoch;
        for peer in self.others() {
            self.send(peer, Message::Goodbye { epoch });
        }
    }

    /// Whether the process that reigns, as far as known, can never act again; and the word for why.
    pub(crate) fn reign_released(&self) -> Option<&'static str> {
        let reign = self.followed_reign()?;
        let link = self.links.get(&reign.node)?;
        if link.dead == Some(reign.incarnation) {
            Some("crash_attested")
        } else if link.gone == Some(reign.incarnation) {
            Some("released")
        } else {
            None
        }
    }

    /// Members whose link is ready.
    pub(crate) fn ready_peers(&self) -> Vec<NodeId> {
        let ready = self.others().into_iter();
        ready.filter(|peer| self.links.get(peer).is_some_and(Link::is_ready)).collect()
    }
}

/// Whether a node that claims this has lost something that it is remembered to have had (R5).
///
/// A shorter log is no loss where an epoch later than its lost entries has been seen: a suffix that diverged is cut
/// (R30). What stays undetectable: losing only what was never claimed to anybody.
fn has_forgotten(claims: &Claims, remembered: &Claims) -> bool {
    let (now, then) = (claims.incarnation, remembered.incarnation);
    let older = now.start < then.start || (now.start == then.start && then != Incarnation::default() && now != then);
    let shorter = claims.durable < remembered.durable && claims.epoch <= remembered.durable.epoch;
    older || claims.promised < remembered.promised || claims.epoch < remembered.epoch || shorter
}

impl Node {
    /// Epoch 0 has no reign: nobody has been hot yet.
    pub(crate) fn followed_reign(&self) -> Option<hotwarm_types::Reign> {
        let known = self.state.as_ref().filter(|_| self.state_chosen || self.observed.reign.is_none());
        // A birth state, version 0, names who is to bootstrap; nobody has reigned yet.
        let known = known.filter(|state| state.version > Version(0)).map(|state| state.reign);
        let known = known.filter(|reign| reign.epoch > Epoch(0));
        match (known, self.observed.reign) {
            (Some(known), Some(heard)) => Some(if heard.epoch > known.epoch { heard } else { known }),
            (known, heard) => known.or(heard),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::register::Ballot;
    use hotwarm_types::{EntryId, Lsn};

    fn claims(start: u64, nonce: u64, ballot: u64, epoch: u64, end: (u64, u64)) -> Claims {
        Claims {
            incarnation: Incarnation { start, nonce },
            promised: Ballot { counter: ballot, ..Ballot::default() },
            epoch: Epoch(epoch),
            durable: EntryId { epoch: Epoch(end.0), lsn: Lsn(end.1) },
        }
    }

    #[test]
    fn each_loss_is_noticed_and_a_cut_suffix_is_none() {
        let then = claims(4, 7, 10, 5, (5, 100));
        assert!(!has_forgotten(&claims(5, 9, 10, 5, (5, 100)), &then), "a plain restart");
        assert!(!has_forgotten(&claims(4, 7, 11, 6, (5, 120)), &then), "the same start, later");
        assert!(has_forgotten(&claims(3, 7, 10, 5, (5, 100)), &then), "an older start");
        assert!(has_forgotten(&claims(4, 8, 10, 5, (5, 100)), &then), "a copy of the folder");
        assert!(has_forgotten(&claims(5, 9, 9, 5, (5, 100)), &then), "a lost promise");
        assert!(has_forgotten(&claims(5, 9, 10, 4, (4, 90)), &then), "a lost epoch");
        assert!(has_forgotten(&claims(5, 9, 10, 5, (5, 99)), &then), "a lost entry");
        assert!(!has_forgotten(&claims(5, 9, 12, 6, (4, 90)), &then), "a suffix cut under a later epoch");
    }
}
