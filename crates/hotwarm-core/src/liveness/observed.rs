//! The hot as a node that is not hot sees it, and what that node owes it.

use crate::node::Role;
use crate::register::Timing;
use crate::{Grant, Message, Node, Note};
use alloc::collections::VecDeque;
use core::time::Duration;
use hotwarm_types::{Epoch, Instant, Lsn, NodeId, Reign};

/// A hot whose disk has not finished a write for this long gets no grant (R23): it is heard, but it does not work.
pub(crate) const STALL_MAX: Duration = Duration::from_secs(3);

/// Answers remembered, to tell how old the hot's echo is: at 25 ms between beacons more than the longest lease needs.
const ANSWERS_KEPT: usize = 512;

/// Beacons that a reign which this node never granted may miss before this node may stand (R21).
const BEACONS_MISSED_MAX: u32 = 5;

/// See the module.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Observed {
    /// The highest reign that this node has heard a beacon of, or learnt from the register.
    pub(crate) reign: Option<Reign>,
    /// Until when this node may not stand without proof: a grace after each grant, whatever lease that gave (R15), and
    /// at the start the longest grace it ever granted (R17).
    pub(crate) bound_until: Instant,
    /// When it granted last in this reign.
    pub(crate) granted_at: Option<Instant>,
    /// The grace that goes with a grant.
    pub(crate) grace: Duration,
    pub(crate) heard_at: Option<Instant>,
    /// Numbers this incarnation's candidacies.
    pub(crate) candidacies: u64,
    /// The epoch on record when this incarnation began: in a later one it has granted nothing it does not know of.
    epoch_at_start: Epoch,
    answered: VecDeque<(u64, Instant)>,
    /// When this node sent the last answer that the hot is known to have heard (R23).
    echo_at: Instant,
}

impl Observed {
    pub(crate) fn new(now: Instant, grace: Duration, epoch: Epoch) -> Self {
        Self {
            reign: None,
            bound_until: now + grace,
            granted_at: None,
            grace,
            heard_at: None,
            candidacies: 0,
            epoch_at_start: epoch,
            answered: VecDeque::new(),
            echo_at: now,
        }
    }

    /// Begins to follow after having reigned.
    pub(crate) fn restart(&mut self, now: Instant) {
        self.reign = None;
        self.granted_at = None;
        self.bound_until = self.bound_until.max(now + self.grace);
    }

    /// Whether a beacon was granted within the grace: the hot was heard, and heard this node (R22).
    pub(crate) fn hears_hot(&self, now: Instant, epoch: Epoch) -> bool {
        self.reign.is_some_and(|reign| reign.epoch == epoch)
            && self.granted_at.is_some_and(|granted| now.since(granted) < self.grace)
    }
}

impl Node {
    /// Takes note of a reign that is not this node's.
    pub(crate) fn observe_reign(&mut self, now: Instant, reign: Reign) {
        let known = self.observed.reign.map_or(Epoch(0), |known| known.epoch);
        if reign.epoch <= known || reign.epoch < self.vote.epoch {
            return;
        }
        let observed = &mut self.observed;
        observed.reign = Some(reign);
        observed.granted_at = None;
        observed.answered.clear();
        observed.echo_at = now;
        if reign.epoch > observed.epoch_at_start {
            let beacon = self.state.as_ref().map_or(Timing::LAN, |state| state.settings.timing).beacon;
            observed.bound_until = now + beacon * BEACONS_MISSED_MAX;
        }
        if let Role::Warm(warm) = &mut self.role {
            warm.inbound = None;
            warm.candidacy = None;
            warm.deferring_since = None;
            warm.since = now;
        }
        if self.me != Some(reign.node) {
            self.note(Note::Follows { reign });
        }
        self.tell_followed();
    }

    /// A beacon of a reign whose epoch is this node's and durable. Each one is answered (R23).
    #[expect(clippy::too_many_arguments, reason = "they are the fields of one message")]
    pub(crate) fn beacon(
        &mut self,
        now: Instant,
        reign: Reign,
        seq: u64,
        lease: Duration,
        committed: Lsn,
        echo: u64,
        stalled: Duration,
    ) {
        self.observe_reign(now, reign);
        if self.observed.reign != Some(reign) || matches!(self.role, Role::Outsider | Role::Hot(_)) {
            return;
        }
        self.observed.heard_at = Some(now);
        if let Some(link) = self.links.get_mut(&reign.node) {
            link.suspicion.heard(now);
        }
        let grant = self.grant(now, lease, echo, stalled);
        let incarnation = reign.incarnation;
        let (epoch, version, leaving) = (self.vote.epoch, self.state_version(), self.leaving.is_some());
        self.observed.answered.push_back((seq, now));
        if self.observed.answered.len() > ANSWERS_KEPT {
            self.observed.answered.pop_front();
        }
        self.send(reign.node, Message::BeaconAnswer { epoch, incarnation, seq, grant, version, leaving });
        self.heard_committed(reign, committed);
    }

    /// Decides on a beacon, and remembers what a grant binds this node to.
    fn grant(&mut self, now: Instant, lease: Duration, echo: u64, stalled: Duration) -> Grant {
        let grace = self.timing().grace.max(Timing::grace_least(lease));
        if self.vote.grace_granted < grace {
            self.vote.grace_granted = grace;
            self.book.dirty = true;
        }
        let observed = &mut self.observed;
        while observed.answered.front().is_some_and(|(seq, _)| *seq <= echo) {
            if let Some((_, at)) = observed.answered.pop_front() {
                observed.echo_at = observed.echo_at.max(at);
            }
        }
        let is_heard = now.since(observed.echo_at) < lease;
        // R16: whoever stands grants nothing. R17: no grant is longer than what a restart would wait out. R21: a node
        // that said goodbye acknowledges nothing.
        let refused = self.is_standing() || !self.is_trusted() || self.book.durable_grace() < grace;
        if refused || self.has_left() || !is_heard || stalled >= STALL_MAX {
            return Grant::Heard;
        }
        let observed = &mut self.observed;
        observed.granted_at = Some(now);
        observed.grace = grace;
        observed.bound_until = observed.bound_until.max(now + grace);
        if let Role::Warm(warm) = &mut self.role {
            warm.deferring_since = None;
        }
        Grant::Granted
    }

    /// "Do you still follow this reign, and are you not standing?" Silence is no (R19, R16).
    pub(crate) fn verify(&mut self, from: NodeId, reign: Reign, round: u64) {
        let follows = self.observed.reign.is_none_or(|observed| observed == reign);
        let warm = matches!(self.role, Role::Warm(_));
        if warm && follows && !self.is_standing() && self.is_trusted() && !self.has_left() {
            let Reign { epoch, incarnation, .. } = reign;
            self.send(from, Message::Verified { epoch, incarnation, round });
        }
    }
}
