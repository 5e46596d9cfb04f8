//! When a write is committed: the rule that no acknowledged write is lost by (INV-3, R9, R12, R14).

use crate::node::Role;
use crate::register::Replication;
use crate::replication::Phase;
use crate::{Node, Output};
use alloc::collections::BTreeSet;
use hotwarm_types::{Instant, Lsn, NodeId};

impl Node {
    /// Whom an acknowledgement, a lease and a verified read need: the in-sync set last known committed, and the node
    /// that is proposed to enter it. A shrink narrows it only when it is known to be committed (R9).
    pub(crate) fn needed(&self) -> BTreeSet<NodeId> {
        let (Role::Hot(hot), Some(state)) = (&self.role, &self.state) else { return BTreeSet::new() };
        state.in_sync.iter().copied().chain(hot.growing.map(|growing| growing.node)).chain(self.me).collect()
    }

    /// Moves the commit position as far as the needed set allows.
    pub(crate) fn advance_commit(&mut self, now: Instant) {
        let Some(position) = self.committable(now) else { return };
        if position <= self.log.committed() {
            return;
        }
        let Role::Hot(hot) = &mut self.role else { return };
        // R25: the first commit of a reign is that of its first entry, and with it of everything before.
        if position < hot.start.lsn {
            return;
        }
        while hot.waiting.front().is_some_and(|(lsn, _)| *lsn <= position) {
            hot.waiting.pop_front();
        }
        let starting = hot.phase == Phase::Starting;
        self.log.commit_upto(position);
        self.emit(Output::Commit { lsn: position });
        if starting {
            self.begin_to_serve(now);
        }
        self.serve_again();
        self.tell_commit();
        self.throttle();
    }

    /// The position that may be committed now, if any.
    fn committable(&self, now: Instant) -> Option<Lsn> {
        let (Role::Hot(hot), Some(state)) = (&self.role, &self.state) else { return None };
        // R18: after a long sleep nothing is told to anybody before this reign has been confirmed.
        if hot.phase == Phase::Enthroned || hot.parked_since.is_some() {
            return None;
        }
        let needed = self.needed();
        let acked = |node: &NodeId| {
            if self.me == Some(*node) {
                self.log.durable()
            } else {
                hot.followers.get(node).map_or(Lsn::ZERO, |progress| progress.acked)
            }
        };
        // R12: fewer nodes than `min_copies` acknowledge nothing.
        let enough = needed.len() >= usize::from(state.settings.min_copies);
        let on_all = needed.iter().map(acked).min().filter(|_| enough);
        match state.settings.replication {
            Replication::Sync => on_all,
            // A reign begins by the strict rule in either mode (R25).
            Replication::Async { .. } if hot.phase == Phase::Starting => on_all,
            Replication::Async { lag_bytes_max, lag_time_max } => {
                let slowest = needed.iter().map(acked).min().unwrap_or_default();
                let oldest = hot.unacked_since(slowest);
                let within = self.log.bytes_after(slowest) <= lag_bytes_max
                    && oldest.is_none_or(|since| now.since(since) <= lag_time_max);
                // R14: only while the lease holds, and only while the lag is within its bounds.
                if within && self.lease_holds(now) { Some(self.log.durable()) } else { on_all }
            }
        }
    }
}
