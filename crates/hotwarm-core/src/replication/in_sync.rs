//! Who is in the in-sync set: shrinking before a write is acknowledged without a node, growing by a node that holds
//! everything (INV-5, R26, R27).

use crate::node::{Role, cause};
use crate::register::{Cause, Change, Replication};
use crate::replication::hot::Growing;
use crate::replication::{Hot, Phase};
use crate::requests::Purpose;
use crate::{Node, Note};
use alloc::collections::BTreeSet;
use core::time::Duration;
use hotwarm_types::{Instant, Lsn, NodeId};

/// First hold after a second removal in one reign; doubles with each further one (R27).
const FLAP_HOLD: Duration = Duration::from_secs(1);
const FLAP_HOLD_MAX: Duration = Duration::from_secs(60);

/// A follower that is this close is waited for, so that it can enter the set under load: a fraction of a second of writes.
const GROW_SIZE_BYTES_MAX: u64 = 1 << 20;

/// How long it is waited for: far less than a client notices as a failure, far more than a round trip and a sync.
const GROW_WAIT: Duration = Duration::from_millis(200);

/// Between two reads of the register by a hot that is alone in sync (R8).
const ALONE_READ_INTERVAL: Duration = Duration::from_secs(1);

impl Hot {
    /// Since when something after `acked` has been waiting.
    pub(crate) fn unacked_since(&self, acked: Lsn) -> Option<Instant> {
        self.waiting.iter().find(|(lsn, _)| *lsn > acked).map(|(_, since)| *since)
    }
}

impl Node {
    /// Shrinks or grows the in-sync set where that is due and the proposer is free.
    pub(crate) fn tend_in_sync_set(&mut self, now: Instant) {
        if self.purpose.is_some() {
            return self.give_up_growing(now);
        }
        if let Some((nodes, cause)) = self.to_remove(now) {
            self.shrink(now, nodes, cause);
        } else {
            self.tend_growing(now);
        }
    }

    /// The in-sync nodes to remove now, as far as `min_copies` allows, and why the first of them.
    fn to_remove(&self, now: Instant) -> Option<(BTreeSet<NodeId>, Cause)> {
        let (Role::Hot(hot), Some(state)) = (&self.role, &self.state) else { return None };
        let spare = state.in_sync.len().saturating_sub(usize::from(state.settings.min_copies).max(1));
        let mut nodes = BTreeSet::new();
        let mut first: Option<Cause> = None;
        for node in self.in_sync_others() {
            // R12: the set never shrinks below `min_copies`; writes wait instead.
            if nodes.len() == spare {
                break;
            }
            if let Some(cause) = self.reason_to_remove(now, hot, node) {
                nodes.insert(node);
                first.get_or_insert(cause);
            }
        }
        first.map(|cause| (nodes, cause))
    }

    fn reason_to_remove(&self, now: Instant, hot: &Hot, node: NodeId) -> Option<Cause> {
        let link = self.links.get(&node);
        let name = self.name_of(node);
        if link.is_some_and(|link| link.dead == Some(link.incarnation)) {
            return Some(cause("crash_attested", alloc::format!("{name}'s process is dead")));
        }
        if link.is_some_and(|link| link.gone == Some(link.incarnation)) {
            return Some(cause("goodbye", alloc::format!("{name} said goodbye")));
        }
        if hot.expelled.contains(&node) {
            return Some(cause("operator", alloc::format!("{name} is to be removed")));
        }
        let limit = self.timing().shrink_after;
        let progress = hot.followers.get(&node);
        let heard_at = progress.map_or(hot.accession.enthroned_at, |progress| progress.heard_at);
        let silent = now.since(heard_at);
        if silent > limit {
            return Some(cause("silent", alloc::format!("{name} silent for {} ms", silent.as_millis())));
        }
        let acked = progress.map_or(Lsn::ZERO, |progress| progress.acked);
        let waiting = hot.unacked_since(acked).map_or(Duration::ZERO, |since| now.since(since));
        // What this node's own disk has not done yet is not the follower's fault alone, but a write waits all the same.
        if waiting > limit {
            let evidence = alloc::format!("{name} acknowledged {acked}; the next waits for {} ms", waiting.as_millis());
            return Some(cause("behind", evidence));
        }
        self.reason_to_remove_slow(now, hot, node)
    }

    /// A node that is neither silent nor behind, but slows every write down (R26; see `pace`).
    fn reason_to_remove_slow(&self, now: Instant, hot: &Hot, node: NodeId) -> Option<Cause> {
        let pace = &hot.followers.get(&node).filter(|progress| progress.pace.is_persistently_slow(now))?.pace;
        let (usual, fastest) = (pace.usual()?.as_millis(), self.fastest_but(node)?.as_millis());
        let name = self.name_of(node);
        let evidence = alloc::format!("{name} takes {usual} ms to acknowledge, the fastest other node {fastest} ms");
        Some(cause("slow", evidence))
    }

    fn shrink(&mut self, now: Instant, nodes: BTreeSet<NodeId>, cause: Cause) {
        let Role::Hot(hot) = &self.role else { return };
        let (reign, expected) = (hot.reign, self.state_version());
        let purpose = Purpose::Shrink { nodes: nodes.clone(), cause: cause.clone() };
        self.wish(now, purpose, Some(expected), Change::Shrink { reign, nodes }, cause);
    }

    /// A data member outside the set that is close enough behind, in this stream, and answers (R27).
    fn to_add(&self, now: Instant) -> Option<NodeId> {
        let (Role::Hot(hot), Some(state)) = (&self.role, &self.state) else { return None };
        // A reign that begins with fewer copies than an acknowledgement needs must grow before it can commit (R12).
        let short = state.in_sync.len() < usize::from(state.settings.min_copies);
        if hot.phase != Phase::Serving && !(short && hot.phase == Phase::Starting) {
            return None;
        }
        let outside = state.members.keys().filter(|node| !state.in_sync.contains(node) && state.holds_data(**node));
        outside.copied().find(|node| {
            let ready = self.links.get(node).is_some_and(|link| link.is_ready() && !link.is_over(link.incarnation));
            hot.followers.get(node).filter(|_| ready && !hot.expelled.contains(node)).is_some_and(|progress| {
                progress.is_streaming()
                    && !progress.leaving
                    && progress.acked >= hot.start.lsn
                    && self.log.bytes_after(progress.acked) <= GROW_SIZE_BYTES_MAX
                    && progress.granted_until > now
                    && now >= progress.may_grow_at
            })
        })
    }

    /// Lets `node` into the needed set, and proposes it once it holds everything committed. Under load it would never
    /// hold that while others' acknowledgements suffice: so first it is waited for, which is safe, then it is proposed.
    fn grow(&mut self, now: Instant, node: NodeId) {
        let within_lag = self.is_within_lag(now, node);
        let committed = self.log.committed();
        let (expected, name) = (self.state_version(), self.name_of(node));
        let Role::Hot(hot) = &mut self.role else { return };
        // R9: needed from this very step on; the register's answer may be late.
        let growing = hot.growing.get_or_insert(Growing { node, since: now });
        let Some(progress) = hot.followers.get_mut(&node) else { return };
        let late = now.since(growing.since) > GROW_WAIT;
        if progress.acked < committed && !within_lag {
            if late {
                // Not proposed yet, so it may simply be let go.
                hot.growing = None;
                progress.may_grow_at = now + FLAP_HOLD;
            }
            return;
        }
        let reign = hot.reign;
        let evidence = alloc::format!("{name} holds everything committed");
        let change = Change::Grow { reign, node };
        self.wish(now, Purpose::Grow { node }, Some(expected), change, cause("caught_up", evidence));
    }

    /// Goes on with the node that is waited for, or lets it go if it no longer qualifies.
    fn tend_growing(&mut self, now: Instant) {
        let Role::Hot(hot) = &self.role else { return };
        let next = self.to_add(now);
        match (&hot.growing, next) {
            (Some(growing), Some(next)) if growing.node == next => self.grow(now, next),
            (Some(_), _) => {
                if let Role::Hot(hot) = &mut self.role {
                    hot.growing = None;
                }
                self.advance_commit(now);
            }
            (None, Some(next)) => self.grow(now, next),
            (None, None) => {}
        }
    }

    /// A node that is waited for and not proposed yet is let go in time, even while the register is busy: no write may wait
    /// for what may never be asked.
    fn give_up_growing(&mut self, now: Instant) {
        let proposed = matches!(self.purpose, Some(Purpose::Grow { .. }));
        let Role::Hot(hot) = &mut self.role else { return };
        if let Some(growing) = hot.growing.take_if(|growing| !proposed && now.since(growing.since) > GROW_WAIT) {
            if let Some(progress) = hot.followers.get_mut(&growing.node) {
                progress.may_grow_at = now + FLAP_HOLD;
            }
            self.advance_commit(now);
        }
    }

    /// In asynchronous mode "in sync" means within the lag that promotion is allowed by (R14).
    fn is_within_lag(&self, now: Instant, node: NodeId) -> bool {
        let (Role::Hot(hot), Some(state)) = (&self.role, &self.state) else { return false };
        let Replication::Async { lag_bytes_max, lag_time_max } = state.settings.replication else { return false };
        hot.followers.get(&node).is_some_and(|progress| {
            self.log.bytes_after(progress.acked) <= lag_bytes_max
                && hot.unacked_since(progress.acked).is_none_or(|since| now.since(since) <= lag_time_max)
        })
    }

    pub(crate) fn shrink_resolved(&mut self, now: Instant, nodes: BTreeSet<NodeId>, cause: Cause, denied: bool) {
        if denied {
            return;
        }
        if let Role::Hot(hot) = &mut self.role {
            for node in &nodes {
                if let Some(progress) = hot.followers.get_mut(node) {
                    progress.pace.watch_anew();
                    if cause.word == "slow" {
                        // It never went away: it would be back at once, and slow all writes again.
                        progress.flaps = progress.flaps.max(1);
                    }
                    // The first return is immediate; each further one waits twice as long (R27).
                    let doublings = progress.flaps.saturating_sub(1).min(6);
                    let hold = if progress.flaps == 0 { Duration::ZERO } else { FLAP_HOLD * (1 << doublings) };
                    progress.may_grow_at = now + hold.min(FLAP_HOLD_MAX);
                    progress.flaps += 1;
                }
            }
        }
        self.note(Note::Shrunk { nodes, cause });
        self.advance_commit(now);
    }

    pub(crate) fn grow_resolved(&mut self, now: Instant, node: NodeId, denied: bool) {
        if let Role::Hot(hot) = &mut self.role {
            hot.growing = None;
        }
        if !denied {
            self.note(Note::Grown { node });
        }
        self.advance_commit(now);
    }

    /// The state has changed under a reign: members may have gone, the needed set is another.
    pub(crate) fn hot_state_changed(&mut self, now: Instant) {
        let (Role::Hot(hot), Some(state)) = (&mut self.role, &self.state) else { return };
        hot.followers.retain(|node, _| state.members.contains_key(node));
        self.advance_commit(now);
    }

    /// Nobody else would tell a hot that is alone in sync of a forced promotion: it asks the register (R8). The only
    /// member of a group has nobody to fear, but after a long sleep the register alone can confirm its reign (R18).
    pub(crate) fn read_register_when_alone(&mut self, now: Instant) {
        let (alone, only) = (self.needed().len() == 1, self.others().is_empty());
        let Role::Hot(hot) = &mut self.role else { return };
        let wanted = alone && (!only || hot.parked_since.is_some());
        if !wanted || self.purpose.is_some() || now < hot.next_register_read_at {
            return;
        }
        hot.next_register_read_at = now + ALONE_READ_INTERVAL;
        self.wish(now, Purpose::Refresh { asked_at: now }, None, Change::Read, cause("refresh", ""));
    }
}
