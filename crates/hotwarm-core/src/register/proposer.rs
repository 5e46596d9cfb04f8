//! The proposer: carries one wish at a time through rounds of the register until its fate is certain.
//!
//! A round has two phases. It learns from a quorum what was accepted last, which also stops every lower ballot; it
//! lets [`apply`] judge the wish by that; and it has a quorum hold what results. Where the wish is denied, the state
//! that denies it is held in its place, so that it is chosen and nothing older of ours can come to life later (R2).
//!
//! ```text
//!            promises of a quorum               accepted by a quorum
//!   Prepare ----------------------> Accept ------------------------> Done | Denied
//!      ^                               |                  (or a change of acceptors completed: once more)
//!      +---- refused: higher ballot ---+
//! ```
//!
//! Three things go beyond the paper. A state that changes the acceptors needs a majority of the old and of the new
//! list, and nothing is built on it before it is known to be chosen (R6): so every list of acceptors in use was
//! introduced by a chosen state, and any two quorums meet. A change of acceptors is tried only when a majority of the
//! new list has answered in the same round. And where promises alone show that the state is chosen, the second phase
//! is spared.
//!
//! It keeps nothing durable: ballots carry the start counter (R3). It needs no acceptor of its own.
//! Source: Rystsov, "CASPaxos: Replicated State Machines without logs", 2018, sections 2.2 and 2.3.

use super::change::{Change, Wish};
use super::denied::Denied;
use super::quorum::Quorum;
use super::round::{End, Phase, Round};
use super::transition::apply;
use super::value::{Ballot, GroupState, ProposalId};
use crate::Message;
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::time::Duration;
use hotwarm_types::{Instant, NodeId, Reign, Version};

/// How often the acceptors that a change would bring are asked again before they count as dead: 0.7 s in all.
const RESENDS_TO_NEW_ACCEPTORS: u32 = 3;
/// Least wait after losing a duel of proposers.
const BACK_OFF_MS_MIN: u64 = 5;
/// Greatest wait after the second refusal; doubled with each further one, six times at most, so that even proposers
/// on slow links come to an end. The first refusal is not waited for at all.
const BACK_OFF_MS_MAX: u64 = 20;
const BACK_OFF_DOUBLINGS_MAX: u32 = 5;

/// How a wish ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The change is in the chosen state, which is given; later changes may be in it too.
    Done(GroupState),
    /// It was not made and never will be, save for [`Denied::OutcomeForgotten`].
    Denied {
        /// Why.
        denied: Denied,
        /// The chosen state that shows it; `None` where the group has never run.
        state: Option<GroupState>,
    },
}

/// Carries wishes of one start of one node, one at a time.
#[derive(Clone, Debug, Hash)]
pub struct Proposer {
    me: NodeId,
    start: u64,
    /// Wishes named so far.
    wishes: u64,
    /// The highest counter of any ballot seen.
    counter: u64,
    /// The newest state known to be chosen, by announcement: its version, and the wish that made it, since a state that
    /// was never chosen may carry the same version.
    chosen: (Version, ProposalId),
    /// State of the jitter's generator; never zero.
    random: u64,
    attempt: Option<Attempt>,
    finished: Option<(Wish, Outcome)>,
}

/// One wish on its way.
#[derive(Clone, Debug, Hash)]
struct Attempt {
    wish: Wish,
    /// The newest state known to be chosen.
    chosen: (Version, ProposalId),
    /// The newest state believed chosen; at first the caller's. Says whom to ask.
    known: GroupState,
    /// A state with a newer member list that some acceptor holds, chosen or not. Says whom to ask besides.
    newer: Option<GroupState>,
    /// The newest member list seen, chosen or not; goes with every message (R6).
    members_version: Version,
    /// The lowest version and the highest ballot that an acceptor was asked to hold with this wish in it.
    proposed: Option<(Version, Ballot)>,
    refusals: u32,
    round: Round,
}

/// What the promises of a round lead to.
enum Verdict {
    /// More answers are needed, these nodes' among them.
    Wait(Vec<NodeId>),
    /// The promises are enough to know the outcome.
    Finish(Outcome),
    /// This state must be held by a quorum.
    Propose(Box<GroupState>, End),
}

impl Proposer {
    /// A proposer for the `start`-th start of node `me`. `seed` feeds the jitter, nothing else.
    #[must_use]
    pub fn new(me: NodeId, start: u64, seed: u64) -> Self {
        let random = (seed ^ (u64::from(me.0) << 48) ^ start.rotate_left(32)) | 1;
        Self {
            me,
            start,
            wishes: 0,
            counter: 0,
            chosen: (Version(0), ProposalId::default()),
            random,
            attempt: None,
            finished: None,
        }
    }

    /// A name for the next wish.
    pub fn next_id(&mut self) -> ProposalId {
        self.wishes += 1;
        ProposalId { node: self.me, start: self.start, counter: self.wishes }
    }

    /// Remembers a ballot seen elsewhere, such as the one its node's own acceptor promised: the next round begins above
    /// it, which spares a refusal.
    pub fn observe(&mut self, ballot: Ballot) {
        self.counter = self.counter.max(ballot.counter);
    }

    /// Whether a wish is on its way, or its outcome has not been taken.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.wish().is_some()
    }

    /// The wish that is on its way, or whose outcome has not been taken.
    #[must_use]
    pub fn wish(&self) -> Option<&Wish> {
        let running = self.attempt.as_ref().map(|attempt| &attempt.wish);
        running.or(self.finished.as_ref().map(|(wish, _)| wish))
    }

    /// The outcome, once.
    pub fn take_outcome(&mut self) -> Option<Outcome> {
        self.finished.take().map(|(_, outcome)| outcome)
    }

    /// When `elapsed` must be called next.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let round = &self.attempt.as_ref()?.round;
        Some(round.restart_at.map_or(round.resend_at, |restart_at| restart_at.min(round.resend_at)))
    }

    /// Gives up the wish, or its outcome that was not taken. Sound where its being done later is harmless, or where the
    /// caller keeps in mind that it may yet be done.
    pub fn abandon(&mut self) {
        self.attempt = None;
        self.finished = None;
    }

    /// Begins to carry `wish`. `known` tells whom to ask: the newest state that the caller believes chosen, or the
    /// birth state. Messages to the node itself are in `send` like any others.
    ///
    /// # Panics
    /// While another wish is on its way or its outcome has not been taken.
    pub fn begin(&mut self, now: Instant, known: &GroupState, wish: Wish, send: &mut Vec<(NodeId, Message)>) {
        assert!(!self.is_busy(), "a proposer carries one wish at a time");
        self.attempt = Some(Attempt {
            wish,
            known: known.clone(),
            chosen: self.chosen,
            newer: None,
            members_version: known.members_version,
            proposed: None,
            refusals: 0,
            round: Round::new(now, Ballot::default()),
        });
        self.next_round(now, send);
    }

    /// Takes an acceptor's answer. Answers of other rounds, from nodes that were not asked, and other messages change
    /// nothing.
    pub fn received(&mut self, now: Instant, from: NodeId, message: &Message, send: &mut Vec<(NodeId, Message)>) {
        if let Message::Promise { ballot, accepted } = message {
            self.promised(now, from, *ballot, accepted.as_ref(), send);
        } else if let Message::Accepted { ballot } = message {
            self.accepted(now, from, *ballot, send);
        } else if let Message::Refused { ballot, promised, newer } = message {
            self.refused(now, from, *ballot, *promised, newer.as_ref(), send);
        }
    }

    /// Takes a state that is known to be chosen, heard of by announcement. It may settle the wish, and it may have a
    /// newer member list, with which the next round begins at once (see `deadline`).
    pub fn learned(&mut self, state: &GroupState) {
        if state.version > self.chosen.0 {
            self.chosen = (state.version, state.proposal);
        }
        let Some(attempt) = &mut self.attempt else { return };
        attempt.chosen = self.chosen;
        if state.version <= attempt.known.version {
            return;
        }
        if let Some(outcome) = attempt.settled_by(state) {
            self.finish(outcome);
            return;
        }
        let newer_list = state.members_version > attempt.known.members_version;
        attempt.known = state.clone();
        attempt.members_version = attempt.members_version.max(state.members_version);
        if newer_list && matches!(attempt.round.phase, Phase::Prepare { .. }) {
            attempt.round.restart_at = Some(Instant::default());
        }
    }

    /// `node` can be reached from now on: what it was asked before may have been lost, and is asked again at once.
    pub fn connected(&self, node: NodeId, send: &mut Vec<(NodeId, Message)>) {
        let Some(attempt) = &self.attempt else { return };
        if attempt.round.silent().any(|silent| silent == node) {
            send.push((node, attempt.question()));
        }
    }

    /// Does what is due: the next round, or the present phase's messages once more to those who have not answered.
    pub fn elapsed(&mut self, now: Instant, send: &mut Vec<(NodeId, Message)>) {
        let Some(attempt) = &mut self.attempt else { return };
        if attempt.round.restart_at.is_some_and(|restart_at| restart_at <= now) {
            self.next_round(now, send);
            return;
        }
        if attempt.round.resend_at > now {
            return;
        }
        attempt.round.repeat(now);
        let silent: Vec<NodeId> = attempt.round.silent().collect();
        attempt.ask(&silent, send);
        self.judge(now, send);
    }

    /// Begins a round above every ballot seen.
    fn next_round(&mut self, now: Instant, send: &mut Vec<(NodeId, Message)>) {
        let Some(attempt) = &mut self.attempt else { return };
        self.counter = self.counter.saturating_add(1);
        attempt.round = Round::new(now, Ballot { counter: self.counter, node: self.me, start: self.start });
        let nodes: BTreeSet<NodeId> =
            [Some(&attempt.known), attempt.newer.as_ref()].into_iter().flatten().flat_map(everybody).collect();
        attempt.ask(&nodes.into_iter().collect::<Vec<_>>(), send);
    }

    fn promised(
        &mut self,
        now: Instant,
        from: NodeId,
        ballot: Ballot,
        accepted: Option<&(Ballot, GroupState)>,
        send: &mut Vec<(NodeId, Message)>,
    ) {
        let Some(attempt) = &mut self.attempt else { return };
        if attempt.round.ballot != ballot || !attempt.round.asked.contains(&from) {
            return;
        }
        let Phase::Prepare { promises, held } = &mut attempt.round.phase else { return };
        promises.insert(from, accepted.map(|(held_in, _)| *held_in));
        if let Some((held_in, state)) = accepted
            && held.as_ref().is_none_or(|(highest, _)| held_in > highest)
        {
            *held = Some((*held_in, state.clone()));
            attempt.members_version = attempt.members_version.max(state.members_version);
        }
        self.judge(now, send);
    }

    fn accepted(&mut self, now: Instant, from: NodeId, ballot: Ballot, send: &mut Vec<(NodeId, Message)>) {
        let Some(attempt) = &mut self.attempt else { return };
        if attempt.round.ballot != ballot || !attempt.round.asked.contains(&from) {
            return;
        }
        let Phase::Accept { state, accepted, end } = &mut attempt.round.phase else { return };
        accepted.insert(from);
        let needs_all = attempt.wish.begins_with(state);
        let by_all = everybody(state).all(|node| accepted.contains(&node));
        if !Quorum::of(state).is_met(|node| accepted.contains(&node)) || (needs_all && !by_all) {
            return;
        }
        let chosen = (**state).clone();
        match end.clone() {
            End::Done => self.finish(Outcome::Done(chosen)),
            End::Denied(denied) => self.finish(Outcome::Denied { denied, state: Some(chosen) }),
            End::Again => {
                attempt.known = chosen;
                self.next_round(now, send);
            }
        }
    }

    /// A refusal for an unseen member list is answered at once by a round that knows it. So is the first one for a
    /// higher ballot; after that two proposers may be chasing each other, and each waits for a random time, in which the
    /// refused round may still succeed with the others.
    fn refused(
        &mut self,
        now: Instant,
        from: NodeId,
        ballot: Ballot,
        promised: Ballot,
        newer: Option<&GroupState>,
        send: &mut Vec<(NodeId, Message)>,
    ) {
        self.observe(promised);
        let Some(attempt) = &mut self.attempt else { return };
        if attempt.round.ballot != ballot || !attempt.round.asked.contains(&from) {
            return;
        }
        if let Some(newer) = newer
            && newer.members_version > attempt.members_version
        {
            attempt.members_version = newer.members_version;
            attempt.newer = Some(newer.clone());
            self.next_round(now, send);
            return;
        }
        if promised <= ballot || attempt.round.restart_at.is_some() {
            return;
        }
        attempt.refusals = attempt.refusals.saturating_add(1);
        if attempt.refusals == 1 {
            self.next_round(now, send);
            return;
        }
        let doublings = (attempt.refusals - 2).min(BACK_OFF_DOUBLINGS_MAX);
        let span_ms = (BACK_OFF_MS_MAX << doublings) - BACK_OFF_MS_MIN + 1;
        let wait_ms = BACK_OFF_MS_MIN + next_random(&mut self.random) % span_ms;
        attempt.round.restart_at = Some(now + Duration::from_millis(wait_ms));
    }

    /// Looks at the promises of this round and goes on if they are enough.
    fn judge(&mut self, now: Instant, send: &mut Vec<(NodeId, Message)>) {
        let Some(attempt) = &mut self.attempt else { return };
        let Phase::Prepare { promises, held } = &attempt.round.phase else { return };
        let verdict = match held {
            None => attempt.judge_empty(promises),
            Some((held_in, state)) => attempt.judge_state(promises, *held_in, state),
        };
        match verdict {
            Verdict::Wait(nodes) => {
                let unasked: Vec<NodeId> =
                    nodes.into_iter().filter(|node| !attempt.round.asked.contains(node)).collect();
                attempt.ask(&unasked, send);
            }
            Verdict::Finish(outcome) => self.finish(outcome),
            Verdict::Propose(state, end) => attempt.propose(now, state, end, send),
        }
    }

    fn finish(&mut self, outcome: Outcome) {
        if let Some(attempt) = self.attempt.take() {
            self.finished = Some((attempt.wish, outcome));
        }
    }
}

impl Attempt {
    /// Nobody who answered holds anything. All initial members must say so before there is a first version (R4).
    fn judge_empty(&self, promises: &BTreeMap<NodeId, Option<Ballot>>) -> Verdict {
        let all: Vec<NodeId> = everybody(&self.known).collect();
        let fresh = all.iter().all(|node| promises.contains_key(node));
        let by_quorum = Quorum::of(&self.known).is_met(|node| promises.contains_key(&node));
        match apply(None, &self.wish) {
            Ok(first) if fresh => Verdict::Propose(Box::new(first), End::Done),
            Ok(_) => Verdict::Wait(all),
            Err(denied) if by_quorum && self.proposed.is_none() => {
                Verdict::Finish(Outcome::Denied { denied, state: None })
            }
            Err(_) => Verdict::Wait(all),
        }
    }

    /// `state`, accepted in `held_in`, is the last that anybody who answered holds.
    fn judge_state(&self, promises: &BTreeMap<NodeId, Option<Ballot>>, held_in: Ballot, state: &GroupState) -> Verdict {
        // Once a change of acceptors is known to be chosen, the new list alone decides: those who went need not answer.
        let is_chosen = self.chosen == (state.version, state.proposal);
        let quorum = if is_chosen { Quorum::settled(state) } else { Quorum::of(state) };
        if !quorum.is_met(|node| promises.contains_key(&node)) {
            return Verdict::Wait(quorum.nodes().collect());
        }
        let chosen = is_chosen || quorum.is_met(|node| promises.get(&node) == Some(&Some(held_in)));
        if state.includes(self.wish.id) {
            return if chosen && !self.wish.begins_with(state) {
                Verdict::Finish(Outcome::Done(state.clone()))
            } else {
                Verdict::Propose(Box::new(state.clone()), End::Done)
            };
        }
        if let Some(attempted) = self.forgotten_by(state) {
            return self.deny(Denied::OutcomeForgotten { attempted, found: state.version }, chosen, held_in, state);
        }
        let next = match apply(Some(state), &self.wish) {
            Ok(next) => next,
            Err(denied) => return self.deny(denied, chosen, held_in, state),
        };
        if next.version == state.version {
            return if chosen {
                Verdict::Finish(Outcome::Done(next))
            } else {
                Verdict::Propose(Box::new(next), End::Done)
            };
        }
        if state.changes_members() && !chosen {
            return Verdict::Propose(Box::new(state.clone()), End::Again);
        }
        if next.changes_members() {
            let quorum = Quorum::of(&next);
            if !quorum.is_met(|node| promises.contains_key(&node)) {
                if self.round.resends < RESENDS_TO_NEW_ACCEPTORS {
                    return Verdict::Wait(quorum.nodes().collect());
                }
                let acceptors: BTreeSet<NodeId> = next.members.keys().copied().collect();
                let answered = acceptors.iter().filter(|node| promises.contains_key(node)).copied().collect();
                return self.deny(Denied::NoLivingMajority { acceptors, answered }, chosen, held_in, state);
            }
        }
        Verdict::Propose(Box::new(next), End::Done)
    }

    /// Ends the wish with the state that denies it. That state must be chosen in a ballot above every one in which an
    /// acceptor may still hold this wish, or a later round could find and complete it (R2).
    fn deny(&self, denied: Denied, chosen: bool, held_in: Ballot, state: &GroupState) -> Verdict {
        let settled = self.proposed.is_none_or(|(_, last)| last < held_in);
        if chosen && settled {
            return Verdict::Finish(Outcome::Denied { denied, state: Some(state.clone()) });
        }
        Verdict::Propose(Box::new(state.clone()), End::Denied(denied))
    }

    /// The version that this wish may have made, where the history of `state` no longer tells whether it did.
    fn forgotten_by(&self, state: &GroupState) -> Option<Version> {
        let (attempted, _) = self.proposed?;
        let oldest = state.changes.front()?.version;
        (oldest > attempted).then_some(attempted)
    }

    /// What a chosen state says of the wish, if it says anything for ever: that it is done, or that its version or its
    /// reign is over. Any other denial might be one of a state that was old when the wish was made.
    fn settled_by(&self, state: &GroupState) -> Option<Outcome> {
        if state.includes(self.wish.id) {
            return (!self.wish.begins_with(state)).then(|| Outcome::Done(state.clone()));
        }
        if self.forgotten_by(state).is_some() {
            return None;
        }
        let version_over = self.wish.expected.is_some_and(|expected| expected < state.version);
        let reign_over = self.wish.change.reign().is_some_and(|reign| reign.epoch < state.reign.epoch);
        if !version_over && !reign_over {
            return None;
        }
        let denied = apply(Some(state), &self.wish).err()?;
        Some(Outcome::Denied { denied, state: Some(state.clone()) })
    }

    /// Sends the present phase's message to `nodes`.
    fn ask(&mut self, nodes: &[NodeId], send: &mut Vec<(NodeId, Message)>) {
        for node in nodes {
            self.round.asked.insert(*node);
            send.push((*node, self.question()));
        }
    }

    /// What the present phase asks.
    fn question(&self) -> Message {
        let (ballot, members_version) = (self.round.ballot, self.members_version);
        match &self.round.phase {
            Phase::Prepare { .. } => Message::Prepare { ballot, members_version },
            Phase::Accept { state, .. } => Message::Accept { ballot, members_version, state: (**state).clone() },
        }
    }

    /// Begins the accept phase.
    fn propose(&mut self, now: Instant, state: Box<GroupState>, end: End, send: &mut Vec<(NodeId, Message)>) {
        if state.proposal == self.wish.id {
            let lowest = self.proposed.map_or(state.version, |(lowest, _)| lowest.min(state.version));
            self.proposed = Some((lowest, self.round.ballot));
        }
        self.members_version = self.members_version.max(state.members_version);
        let nodes: BTreeSet<NodeId> = everybody(&state).collect();
        self.round.phase = Phase::Accept { state, accepted: BTreeSet::new(), end };
        self.round.asked = BTreeSet::new();
        self.round.wait_anew(now);
        self.ask(&nodes.into_iter().collect::<Vec<_>>(), send);
    }
}

impl Wish {
    /// Whether this is a bootstrap and `state` the version it made: every acceptor must hold that one (R4).
    fn begins_with(&self, state: &GroupState) -> bool {
        matches!(self.change, Change::Bootstrap(_)) && state.proposal == self.id
    }
}

impl Change {
    /// The reign on which the change depends, if it is a hot's.
    fn reign(&self) -> Option<Reign> {
        match self {
            Self::HandOver { reign, .. } | Self::Shrink { reign, .. } | Self::Grow { reign, .. } => Some(*reign),
            Self::Read
            | Self::Bump
            | Self::Bootstrap(_)
            | Self::Promote { .. }
            | Self::Invite { .. }
            | Self::Admit { .. }
            | Self::Remove { .. }
            | Self::Settings(_)
            | Self::Pause { .. }
            | Self::Resume
            | Self::ForcePromote { .. } => None,
        }
    }
}

/// Every acceptor that counts for `state`, some perhaps twice.
fn everybody(state: &GroupState) -> impl Iterator<Item = NodeId> {
    let nodes: Vec<NodeId> = Quorum::of(state).nodes().collect();
    nodes.into_iter()
}

/// xorshift64: enough for jitter.
fn next_random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}
