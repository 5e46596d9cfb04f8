//! What a node can tell of itself and its group at this moment: for status, metrics and tests. Changes nothing.

use crate::Node;
use crate::node::Role;
use crate::replication::Phase;
use alloc::collections::BTreeMap;
use core::time::Duration;
use hotwarm_types::{EntryId, Epoch, Incarnation, Instant, Lsn, NodeId, Reign};

/// What a node is at present, with how far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoleFact {
    /// Not a member (yet).
    Outsider,
    /// Chosen, and bringing its whole log to the in-sync set: takes no writes yet.
    HotStarting,
    /// Serves.
    HotServing,
    /// Serves no new writes: a hand-over is under way.
    HotHandingOver,
    /// Follows.
    Warm,
    /// Asks to take over.
    WarmStanding,
    /// Votes only.
    Witness,
    /// Stopped for a reason that a person must see to.
    Fenced,
}

/// What a node knows of another member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerFacts {
    /// A connection stands, both ways.
    pub connected: bool,
    /// Both ends have passed each other's memory (R5).
    pub trusted: bool,
    /// The start of its process, as far as known.
    pub incarnation: Incarnation,
    /// Since it was heard last; `None`: never in this connection.
    pub silent: Option<Duration>,
    /// How unlikely that silence is, in tenths of phi.
    pub phi_tenths: u32,
    /// Its process is over: attested death or goodbye.
    pub over: bool,
    /// What it holds durably and proven equal (R10); known to a hot only.
    pub durable: Option<Lsn>,
    /// Bytes it lacks, as far as they are in the hot's memory; known to a hot only.
    pub lag_bytes: Option<u64>,
    /// For how long the oldest write has waited for it; known to a hot only.
    pub lag: Option<Duration>,
    /// The position of the snapshot that it is being given.
    pub snapshot_at: Option<EntryId>,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// This node's number.
    pub id: Option<NodeId>,
    /// Its role.
    pub role: RoleFact,
    /// The reign it holds or follows.
    pub reign: Option<Reign>,
    /// The highest epoch it has seen.
    pub epoch: Epoch,
    /// End of its log.
    pub end: EntryId,
    /// What of it is durable.
    pub durable: Lsn,
    /// What of it is committed.
    pub committed: Lsn,
    /// For how much longer local reads may be answered; `None`: not hot, or no lease.
    pub lease_left: Option<Duration>,
    /// A majority trusts its memory (R5).
    pub trusted: bool,
    /// Acceptors that can be reached, this node included, are a majority.
    pub majority: bool,
    /// Writes wait for room.
    pub throttled: bool,
    /// It has said, or will say, goodbye.
    pub leaving: bool,
    /// How much longer the maintenance lasts.
    pub pause_left: Option<Duration>,
    /// The other members.
    pub peers: BTreeMap<NodeId, PeerFacts>,
}

impl Node {
    /// What it can tell at `now`.
    #[must_use]
    pub fn facts(&self, now: Instant) -> Facts {
        let peers: BTreeMap<NodeId, PeerFacts> =
            self.others().into_iter().map(|peer| (peer, self.peer_facts(now, peer))).collect();
        let reachable = 1 + peers.values().filter(|peer| peer.trusted).count();
        let until = self.lease_until();
        Facts {
            id: self.me,
            role: self.role_fact(),
            reign: self.reign(),
            epoch: self.vote.epoch,
            end: self.log.end(),
            durable: self.log.durable(),
            committed: self.log.committed(),
            lease_left: (now < until).then(|| until.since(now)),
            trusted: self.is_trusted(),
            majority: self.state.as_ref().is_some_and(|state| reachable >= state.majority_count()),
            throttled: matches!(&self.role, Role::Hot(hot) if hot.throttled),
            leaving: self.leaving.is_some(),
            pause_left: self.pause_until.filter(|until| now < *until).map(|until| until.since(now)),
            peers,
        }
    }

    fn role_fact(&self) -> RoleFact {
        if self.fenced.is_some() {
            return RoleFact::Fenced;
        }
        match &self.role {
            Role::Outsider => RoleFact::Outsider,
            Role::Witness => RoleFact::Witness,
            Role::Warm(_) if self.is_standing() => RoleFact::WarmStanding,
            Role::Warm(_) => RoleFact::Warm,
            Role::Hot(hot) => match hot.phase {
                Phase::Enthroned | Phase::Starting => RoleFact::HotStarting,
                Phase::Serving => RoleFact::HotServing,
                Phase::Draining { .. } | Phase::Resuming | Phase::HandingOver { .. } => RoleFact::HotHandingOver,
            },
        }
    }

    fn peer_facts(&self, now: Instant, peer: NodeId) -> PeerFacts {
        let link = self.links.get(&peer);
        let progress = match &self.role {
            Role::Hot(hot) => hot.followers.get(&peer).filter(|_| self.member_holds_data(peer)).map(|p| (hot, p)),
            Role::Outsider | Role::Warm(_) | Role::Witness => None,
        };
        PeerFacts {
            connected: link.is_some_and(|link| link.up),
            trusted: link.is_some_and(crate::identity::Link::is_ready),
            incarnation: link.map_or(Incarnation::default(), |link| link.incarnation),
            silent: link.and_then(|link| link.heard_at).map(|heard| now.since(heard)),
            phi_tenths: link.map_or(0, |link| link.suspicion.phi_tenths(now)),
            over: link.is_some_and(|link| link.is_over(link.incarnation)),
            durable: progress.map(|(_, progress)| progress.acked),
            lag_bytes: progress.map(|(_, progress)| self.log.bytes_after(progress.acked)),
            lag: progress.map(|(hot, progress)| {
                hot.unacked_since(progress.acked).map_or(Duration::ZERO, |since| now.since(since))
            }),
            snapshot_at: progress.and_then(|(_, progress)| progress.snapshot_at()),
        }
    }

    fn member_holds_data(&self, node: NodeId) -> bool {
        self.state.as_ref().is_some_and(|state| state.holds_data(node))
    }
}
