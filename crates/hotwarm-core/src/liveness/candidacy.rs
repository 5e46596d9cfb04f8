//! Standing for hot: poll first, then rank, then ask the register (R16, R22, R24, R25).
//!
//! ```text
//!   following --silent for the grace, or the hot is proven dead--> polling --others hear the hot--> deferring
//!       ^                                                            |                                 |
//!       |                                                     nobody hears it                          |
//!       |                                                            v                                 |
//!       +---<-- refused, or somebody else reigns ------ claiming (the register chooses)  <-------------+
//! ```
//!
//! From its first poll until the register has spoken, a candidate grants nothing to the hot it would replace.

use crate::liveness::observed::STALL_MAX;
use crate::node::{Role, cause};
use crate::register::{Ballot, Cause, Change, ChangeKind};
use crate::replication::Warm;
use crate::requests::Purpose;
use crate::{Message, Node, Note, Output};
use alloc::collections::{BTreeMap, BTreeSet};
use core::time::Duration;
use hotwarm_types::{EntryId, Epoch, Instant, NodeId, Version};

/// How long a poll waits for those who should answer and do not: well above a round trip in a LAN, well below a grace.
const POLL_WAIT: Duration = Duration::from_millis(60);
/// Between the claims of two candidates of neighbouring rank (R24).
const STAGGER: Duration = Duration::from_millis(10);
/// How long a candidate lets another one's round of the register come to its end that its own acceptor has promised to
/// take part in: several round trips and syncs. To begin one of its own meanwhile would undo that one.
const YIELD: Duration = Duration::from_millis(30);
/// Between two polls that led to nothing.
const POLL_AGAIN: Duration = Duration::from_millis(100);
/// First pause after a takeover that wrote nothing (R24); doubles with each further one.
const BACK_OFF: Duration = Duration::from_secs(2);
const BACK_OFF_DOUBLINGS_MAX: u32 = 4;

#[derive(Clone, Debug, Hash)]
struct PollReply {
    end: EntryId,
    hears_hot: bool,
    leaving: bool,
}

/// One attempt to take over.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Candidacy {
    number: u64,
    /// The epoch it would end.
    epoch: Epoch,
    pub(crate) cause: Cause,
    /// The hot is proven dead or gone: nobody needs to confirm the silence.
    released: bool,
    pub(crate) started: Instant,
    answers: BTreeMap<NodeId, PollReply>,
    /// When it asks the register; known once the poll is over.
    claim_at: Option<Instant>,
    /// What this node's acceptor had promised when the candidacy began.
    promised: Ballot,
    /// It has let a rival's round pass once.
    yielded: bool,
    pub(crate) polled: Duration,
}

impl Node {
    /// Whether this node has begun to stand and the register has not spoken yet (R16).
    pub(crate) fn is_standing(&self) -> bool {
        let polling = matches!(&self.role, Role::Warm(warm) if warm.candidacy.is_some());
        polling || matches!(self.purpose, Some(Purpose::Promote { .. }))
    }

    /// When the candidacy needs attention next, or when one may begin.
    pub(crate) fn candidacy_deadline(&self) -> Option<Instant> {
        let Role::Warm(warm) = &self.role else { return None };
        if self.purpose.is_some() {
            return None;
        }
        match &warm.candidacy {
            Some(candidacy) => Some(candidacy.claim_at.unwrap_or(candidacy.started + POLL_WAIT)),
            None => [warm.not_before, self.observed.bound_until].into_iter().filter(|at| *at > self.last_step).min(),
        }
    }

    pub(crate) fn warm_on_time(&mut self, now: Instant) {
        if self.purpose.is_some() {
            return;
        }
        let Role::Warm(warm) = &self.role else { return };
        if warm.candidacy.is_some() {
            self.advance_candidacy(now);
        } else if let Some(cause) = self.may_stand(now) {
            self.stand(now, cause);
            self.advance_candidacy(now);
        } else {
            self.refresh_state(now);
        }
    }

    /// Whether this node may begin to stand now, and why.
    fn may_stand(&self, now: Instant) -> Option<Cause> {
        let (Some(me), Some(state), Role::Warm(warm)) = (self.me, &self.state, &self.role) else { return None };
        let reign = self.followed_reign()?;
        let paused = self.pause_until.is_some_and(|until| now < until) && reign.node != me;
        if !state.in_sync.contains(&me) || self.leaving.is_some() || paused || now < warm.not_before {
            return None;
        }
        if !self.is_trusted() || reign.epoch < self.vote.epoch {
            return None;
        }
        if now < self.backed_off_until(warm.since) {
            return None;
        }
        if let Some(word) = self.reign_released() {
            return Some(cause(word, alloc::format!("{}'s process is over", self.name_of(reign.node))));
        }
        let alone = reign.node == me && state.in_sync.len() == 1;
        if alone {
            return Some(cause("restart", "this node is the only one in sync"));
        }
        (now >= self.observed.bound_until).then(|| {
            let name = self.name_of(reign.node);
            let evidence = match (self.observed.granted_at, self.observed.heard_at) {
                (_, Some(heard)) if now.since(heard) < self.timing().shrink_after => {
                    alloc::format!("{name} is heard, but does not hear this node or does not get on with its work")
                }
                (Some(granted), _) => alloc::format!("{name} silent for {} ms", now.since(granted).as_millis()),
                (None, _) => alloc::format!("{name} never heard"),
            };
            cause("grace_over", evidence)
        })
    }

    /// Takeovers that wrote nothing are not repeated at once: the same entry may have killed them (R24). Nobody else in
    /// sync: no reason to wait for better.
    fn backed_off_until(&self, since: Instant) -> Instant {
        let Some(state) = &self.state else { return since };
        let mut repeated = 0;
        let mut before = self.log.end().lsn;
        for (epoch, first) in self.log.epochs().iter().rev() {
            let taken_over = state.changes.iter().any(|change| {
                change.epoch == *epoch
                    && matches!(change.kind, ChangeKind::Promote { .. })
                    && change.cause.word != "released"
            });
            if *first != before || !taken_over {
                break;
            }
            before = first.prev();
            repeated += 1;
        }
        // The first takeover with nothing written is as good as any; an idle group fails over too.
        if repeated < 2 || state.in_sync.len() < 2 {
            return Instant(0);
        }
        since + BACK_OFF * (1 << (repeated - 2).min(BACK_OFF_DOUBLINGS_MAX))
    }

    fn stand(&mut self, now: Instant, cause: Cause) {
        let Some(reign) = self.followed_reign() else { return };
        let released = self.reign_released().is_some();
        self.observed.candidacies += 1;
        let number = self.observed.candidacies;
        let (epoch, promised) = (reign.epoch, self.vote.promised);
        if let Role::Warm(warm) = &mut self.role {
            warm.deferring_since.get_or_insert(now);
            warm.candidacy = Some(Candidacy {
                number,
                epoch,
                cause: cause.clone(),
                released,
                started: now,
                answers: BTreeMap::new(),
                claim_at: None,
                promised,
                yielded: false,
                polled: Duration::ZERO,
            });
        }
        self.note(Note::Stands { epoch, cause });
        if self.told_hot != Some(None) {
            self.told_hot = Some(None);
            self.emit(Output::Follow { hot: None });
        }
        for peer in self.ready_peers() {
            self.send(peer, Message::Poll { candidacy: number, epoch });
        }
    }

    /// A peer whose link stands only now is asked too: what it holds may decide (R22).
    pub(crate) fn poll_also(&mut self, peer: NodeId) {
        let Role::Warm(Warm { candidacy: Some(candidacy), .. }) = &self.role else { return };
        if candidacy.claim_at.is_none() {
            let (number, epoch) = (candidacy.number, candidacy.epoch);
            self.send(peer, Message::Poll { candidacy: number, epoch });
        }
    }

    /// A node about to stand asks. Answering changes nothing here (R22).
    pub(crate) fn polled(&mut self, now: Instant, from: NodeId, candidacy: u64, epoch: Epoch) {
        let hears_hot = match &self.role {
            // A hot that cannot write is heard, but does not work (R23).
            Role::Hot(hot) => hot.reign.epoch >= epoch && self.log.stalled(now) < STALL_MAX,
            Role::Outsider => false,
            Role::Warm(_) | Role::Witness => self.reign_released().is_none() && self.observed.hears_hot(now, epoch),
        };
        let (version, leaving) = (self.state_version(), self.leaving.is_some());
        let answer =
            Message::PollAnswer { candidacy, epoch: self.vote.epoch, end: self.log.end(), hears_hot, version, leaving };
        self.send(from, answer);
    }

    #[expect(clippy::too_many_arguments, reason = "they are the fields of one message")]
    pub(crate) fn poll_answered(
        &mut self,
        now: Instant,
        from: NodeId,
        number: u64,
        epoch: Epoch,
        end: EntryId,
        hears_hot: bool,
        leaving: bool,
    ) {
        let Role::Warm(warm) = &mut self.role else { return };
        let Some(candidacy) = warm.candidacy.as_mut().filter(|candidacy| candidacy.number == number) else { return };
        if epoch > candidacy.epoch {
            // Somebody reigns already; its beacon or state is on the way.
            warm.candidacy = None;
            warm.not_before = now + POLL_AGAIN;
            return;
        }
        candidacy.answers.insert(from, PollReply { end, hears_hot, leaving });
    }

    fn advance_candidacy(&mut self, now: Instant) {
        let mut waited_for = self.ready_peers();
        waited_for.retain(|peer| !self.links.get(peer).is_some_and(|link| link.is_over(link.incarnation)));
        let Role::Warm(warm) = &mut self.role else { return };
        let Some(candidacy) = &mut warm.candidacy else { return };
        if candidacy.claim_at.is_none() {
            let complete = waited_for.iter().all(|peer| candidacy.answers.contains_key(peer));
            if !complete && now < candidacy.started + POLL_WAIT {
                return;
            }
            candidacy.polled = now.since(candidacy.started);
            if !self.poll_over(now) {
                return;
            }
        }
        self.claim(now);
    }

    /// Judges the poll: `false` if the candidacy ends here for now.
    fn poll_over(&mut self, now: Instant) -> bool {
        let (grace, wait) = (self.observed.grace, self.observed.grace / 4);
        let Role::Warm(warm) = &mut self.role else { return false };
        let Some(candidacy) = &mut warm.candidacy else { return false };
        let heard_by = candidacy.answers.iter().find(|(_, answer)| answer.hears_hot).map(|(peer, _)| *peer);
        let since = warm.deferring_since.unwrap_or(now);
        // Bounded: a hot that others hear removes this node within `shrink_after`, or does not work (R22, R26).
        if let Some(heard_by) = heard_by.filter(|_| !candidacy.released && now.since(since) < grace * 2) {
            warm.candidacy = None;
            warm.not_before = now + wait;
            self.note(Note::Defers { heard_by });
            self.tell_followed();
            return false;
        }
        let rank = self.rank();
        let delay = if rank == 0 { Duration::ZERO } else { STAGGER * rank + self.jitter(STAGGER / 4) };
        if let Role::Warm(Warm { candidacy: Some(candidacy), .. }) = &mut self.role {
            candidacy.claim_at = Some(now + delay);
        }
        true
    }

    /// Those who would form the in-sync set under this candidate (R25): itself, and each in-sync member that answered,
    /// other than the process that is to be replaced.
    fn new_in_sync(&self) -> BTreeSet<NodeId> {
        let (Some(me), Some(state), Role::Warm(warm)) = (self.me, &self.state, &self.role) else {
            return BTreeSet::new();
        };
        let Some(candidacy) = &warm.candidacy else { return BTreeSet::new() };
        let reign = self.followed_reign();
        let answered = candidacy.answers.iter().filter(|(peer, answer)| {
            let reigns = self.links.get(peer).is_some_and(|link| {
                reign.is_some_and(|reign| reign.node == **peer && reign.incarnation == link.incarnation)
            });
            state.in_sync.contains(peer) && !answer.leaving && !reigns
        });
        answered.map(|(peer, _)| *peer).chain([me]).collect()
    }

    /// How many candidates that answered are better: by last epoch, last position, priority, and the lower number.
    fn rank(&self) -> u32 {
        let (Some(me), Some(state), Role::Warm(warm)) = (self.me, &self.state, &self.role) else { return 0 };
        let Some(candidacy) = &warm.candidacy else { return 0 };
        let priority = |node: NodeId| state.members.get(&node).map_or(0, |member| member.priority);
        let own = (self.log.end(), priority(me), core::cmp::Reverse(me));
        let rivals = self.new_in_sync().into_iter().filter(|node| *node != me);
        let better = rivals.filter(|node| {
            let end = candidacy.answers.get(node).map_or(EntryId::default(), |answer| answer.end);
            (end, priority(*node), core::cmp::Reverse(*node)) > own
        });
        u32::try_from(better.count()).unwrap_or(u32::MAX)
    }

    /// Asks the register, once the stagger is over.
    fn claim(&mut self, now: Instant) {
        let in_sync = self.new_in_sync();
        let promised = self.vote.promised;
        let (Some(me), Some(state), Role::Warm(warm)) = (self.me, &self.state, &mut self.role) else { return };
        let Some(candidacy) = warm.candidacy.as_mut().filter(|c| c.claim_at.is_some_and(|at| now >= at)) else {
            return;
        };
        if promised > candidacy.promised && promised.node != me && !candidacy.yielded {
            candidacy.yielded = true;
            candidacy.claim_at = Some(now + YIELD);
            return;
        }
        if in_sync.len() < usize::from(state.settings.min_copies).min(state.in_sync.len()) {
            // R12: fewer copies than an acknowledgement needs; wait for the absent ones.
            warm.candidacy = None;
            warm.not_before = now + POLL_AGAIN;
            return;
        }
        let paused = state.pause.is_some() && state.reign.node != me;
        if paused {
            // It is over by this node's clock, or it would not stand; the register must hear of it first (R29).
            self.wish(now, Purpose::EndPause, None, Change::Resume, cause("expired", "the maintenance is over"));
            return;
        }
        let (cause, started, polled) = (candidacy.cause.clone(), candidacy.started, candidacy.polled);
        let (expected, seen) = (state.version, self.vote.epoch);
        let incarnation = self.config.incarnation;
        let change = Change::Promote { candidate: me, incarnation, in_sync, seen };
        let purpose = Purpose::Promote { started, polled, claimed: now, cause: cause.clone() };
        self.wish(now, purpose, Some(expected), change, cause);
    }

    /// The register refused: somebody else was faster, or the state has moved on.
    pub(crate) fn promotion_denied(&mut self, now: Instant) {
        let again = self.jitter(STAGGER);
        if let Role::Warm(warm) = &mut self.role {
            warm.candidacy = None;
            warm.not_before = now + again;
        }
        self.tell_followed();
    }

    /// A warm node that hears no hot, or does not know whether its state was chosen, reads the register now and then.
    fn refresh_state(&mut self, now: Instant) {
        let silent = now >= self.observed.bound_until;
        // Before the bootstrap there is nothing to read, and asking would only disturb it.
        let born = self.state.as_ref().is_some_and(|state| state.version > Version(0));
        if now < self.next_state_read_at || !born || !self.is_trusted() || (self.state_chosen && !silent) {
            return;
        }
        self.next_state_read_at = now + self.timing().grace;
        self.wish(now, Purpose::Refresh { asked_at: now }, None, Change::Read, cause("refresh", ""));
    }
}
