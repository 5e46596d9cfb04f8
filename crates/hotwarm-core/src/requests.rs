//! What operators ask, and what this node wishes of the register on its own account: one wish at a time.

use crate::node::{Role, cause};
use crate::register::{Cause, Change, Denied};
use crate::replication::Phase;
use crate::{Answer, Ask, AskRefused, FenceReason, Input, Node, Output};
use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::string::String;
use core::time::Duration;
use hotwarm_types::limits::REQUESTS_WAITING_MAX;
use hotwarm_types::{Incarnation, Instant, NodeId, Reign, RequestId, StreamId, Token, Version};

/// After this long an operator is told that the outcome is not known yet.
const ASK_WAIT: Duration = Duration::from_secs(10);

/// How long a leaving hot tries to hand over before it just says goodbye.
const LEAVE_WAIT: Duration = Duration::from_millis(1_500);

/// Why the proposer is busy. Kept until the register has spoken, however long that takes (R2).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Purpose {
    Bootstrap,
    Promote {
        started: Instant,
        polled: Duration,
        claimed: Instant,
        cause: Cause,
    },
    Shrink {
        nodes: BTreeSet<NodeId>,
        cause: Cause,
    },
    Grow {
        node: NodeId,
    },
    HandOver,
    Admit,
    EndPause,
    SettleMembers,
    /// An operator's request; `None` once the operator was told that the outcome is not known, or was not to be had.
    Ask {
        id: Option<RequestId>,
        deadline: Instant,
        /// It changes nothing.
        reads: bool,
    },
    Refresh {
        asked_at: Instant,
    },
    VerifyAlone {
        round: u64,
    },
    Discard {
        stream: StreamId,
    },
}

/// An operator's request that waits for the proposer.
#[derive(Clone, Debug, Hash)]
pub(crate) struct WaitingAsk {
    id: RequestId,
    ask: Ask,
    deadline: Instant,
}

impl Node {
    pub(crate) fn asked(&mut self, now: Instant, id: RequestId, ask: Ask) {
        match ask {
            Ask::HandOver { to } => self.hand_over(now, Some(id), to),
            Ask::Leave => {
                self.leaving.get_or_insert(now);
            }
            Ask::ReadState
            | Ask::Pause { .. }
            | Ask::Resume
            | Ask::Apply { .. }
            | Ask::Invite { .. }
            | Ask::Remove { .. }
            | Ask::ForcePromote { .. } => {
                if self.state.is_none() {
                    let why = "this node does not know its group yet".into();
                    self.answer(Some(id), Err(AskRefused::Forbidden { why }));
                } else if self.asks.len() == REQUESTS_WAITING_MAX {
                    let refused = self.not_begun();
                    self.answer(Some(id), Err(refused));
                } else {
                    self.asks.push_back(WaitingAsk { id, ask, deadline: now + ASK_WAIT });
                }
            }
        }
    }

    pub(crate) fn answer(&mut self, id: Option<RequestId>, answer: Result<Answer, AskRefused>) {
        if let Some(id) = id {
            self.emit(Output::Answer { id, answer });
        }
    }

    /// Starts what waits for the proposer, and gives up on waiting where that is due.
    pub(crate) fn requests_on_time(&mut self, now: Instant) {
        self.expire_requests(now);
        if self.is_draining() {
            // A hand-over needs the register next, and clients wait for it.
            return;
        }
        if self.purpose.is_none() {
            self.bootstrap(now);
        }
        if self.purpose.is_none() {
            self.settle_members(now);
        }
        if self.purpose.is_none() {
            self.end_pause(now);
        }
        self.ask_to_discard(now);
        self.verify_by_register(now);
        if self.purpose.is_none() {
            self.next_ask(now);
        }
    }

    fn expire_requests(&mut self, now: Instant) {
        while let Some(late) = self.asks.iter().position(|waiting| now >= waiting.deadline) {
            let Some(WaitingAsk { id, .. }) = self.asks.remove(late) else { break };
            // It never reached the register.
            let refused = self.not_begun();
            self.answer(Some(id), Err(refused));
            self.pardon();
        }
        if let Some(Purpose::Ask { id, deadline, reads }) = &mut self.purpose
            && now >= *deadline
        {
            let (id, reads) = (id.take(), *reads);
            let refused = if reads { self.not_begun() } else { AskRefused::Unknown };
            self.answer(id, Err(refused));
        }
    }

    /// Why a request that the register was not asked for has waited in vain.
    fn not_begun(&self) -> AskRefused {
        let members: BTreeSet<NodeId> = self.state.iter().flat_map(|state| state.members.keys().copied()).collect();
        let mut answering: BTreeSet<NodeId> = self.ready_peers().into_iter().collect();
        answering.extend(self.me);
        if self.is_majority_ready() { AskRefused::Busy } else { AskRefused::NoMajority { answering, members } }
    }

    /// Whether this node and those that it is connected to are a majority: else the register cannot be asked.
    fn is_majority_ready(&self) -> bool {
        self.state.as_ref().is_some_and(|state| self.ready_peers().len() + 1 >= state.majority_count())
    }

    /// A fenced node changes nothing any more: whoever waits hears it now.
    pub(crate) fn end_requests(&mut self, now: Instant) {
        self.take_outcome(now);
        if let Some(Purpose::Ask { id, .. }) = &mut self.purpose {
            let id = id.take();
            self.answer(id, Err(AskRefused::Unknown));
        }
        while let Some(WaitingAsk { id, .. }) = self.asks.pop_front() {
            let why = self.fence_words();
            self.answer(Some(id), Err(AskRefused::Forbidden { why }));
        }
    }

    fn next_ask(&mut self, now: Instant) {
        let forces = self.asks.front().is_some_and(|waiting| matches!(waiting.ask, Ask::ForcePromote { .. }));
        if forces && self.is_installing() {
            // Nobody becomes hot while its log is being replaced (R31).
            return;
        }
        // What is begun without a majority might be done at any later time: it waits, and is refused in the end.
        if !self.is_majority_ready() {
            return;
        }
        let Some(WaitingAsk { id, ask, deadline }) = self.asks.pop_front() else { return };
        if let Some(why) = self.forbids_force(now, &ask) {
            return self.answer(Some(id), Err(AskRefused::Forbidden { why }));
        }
        if let Some(name) = self.must_shrink_first(&ask) {
            // Its copy must stop counting before it stops being a member.
            if let (Role::Hot(hot), Some(node)) = (&mut self.role, name) {
                hot.expelled.insert(node);
            }
            self.asks.push_back(WaitingAsk { id, ask, deadline });
            return;
        }
        let Some((expected, change, why)) = self.change_for(ask) else { return };
        let reads = change == Change::Read;
        self.wish(now, Purpose::Ask { id: Some(id), deadline, reads }, expected, change, why);
    }

    /// Why a forced promotion of this node would only lose what it need not: the hot lives, or another node holds everything
    /// (R8). As far as this node sees; what it does not see, the operator's statement answers for.
    fn forbids_force(&self, now: Instant, ask: &Ask) -> Option<String> {
        let (Ask::ForcePromote { .. }, Some(state)) = (ask, &self.state) else { return None };
        if matches!(self.role, Role::Hot(_)) {
            return Some("this node is hot already".into());
        }
        let hot = self.followed_reign();
        let lives = |node: &NodeId| {
            self.links.get(node).is_some_and(|link| link.is_ready() && !link.leaving && !link.is_over(link.incarnation))
        };
        let observed = &self.observed;
        let heard = observed.heard_at.is_some_and(|heard| now.since(heard) < observed.grace);
        if let Some(hot) = hot.filter(|hot| self.me != Some(hot.node) && heard && observed.reign == Some(*hot))
            && lives(&hot.node)
        {
            let name = self.name_of(hot.node);
            return Some(alloc::format!(
                "{name} is hot and answers: a switchover moves its role and loses nothing; where it must not go on, stop it first"
            ));
        }
        let spared = |node: &&NodeId| self.me != Some(**node) && hot.is_none_or(|hot| hot.node != **node);
        let other = state.in_sync.iter().filter(spared).find(|node| lives(node))?;
        let name = self.name_of(*other);
        Some(alloc::format!(
            "{name} is in sync and answers: it holds every acknowledged write and takes over by itself, unless maintenance or \
             min_copies keeps it from it (see its status)"
        ))
    }

    /// A request has ended: whoever was to be removed by it, and by no other, may return to the in-sync set if it is a
    /// member still.
    fn pardon(&mut self) {
        let (Role::Hot(hot), Some(state)) = (&mut self.role, &self.state) else { return };
        let asks = &self.asks;
        hot.expelled.retain(|node| {
            let name = state.members.get(node).map(|member| &member.name);
            asks.iter().any(|waiting| matches!(&waiting.ask, Ask::Remove { name: removed } if Some(removed) == name))
        });
    }

    /// The member that an operator removes and that is still in sync, where this node is the hot.
    fn must_shrink_first(&self, ask: &Ask) -> Option<Option<NodeId>> {
        let (Ask::Remove { name }, Role::Hot(_), Some(state)) = (ask, &self.role, &self.state) else { return None };
        let (node, _) = state.member_named(name)?;
        let spare = state.in_sync.len() > usize::from(state.settings.min_copies);
        (self.me != Some(node) && spare && state.in_sync.contains(&node)).then_some(Some(node))
    }

    /// The change that a request stands for; the transition function judges it.
    fn change_for(&self, ask: Ask) -> Option<(Option<Version>, Change, Cause)> {
        let by = |evidence: String| cause("operator", evidence);
        Some(match ask {
            Ask::ReadState => (None, Change::Read, by(String::new())),
            Ask::Pause { length, reason } => (None, Change::Pause { length, reason: reason.clone() }, by(reason)),
            Ask::Resume => (None, Change::Resume, by(String::new())),
            Ask::Apply { expected, settings, changes } => (Some(expected), Change::Settings(settings), by(changes)),
            Ask::Invite { name, address, role, priority } => {
                let evidence = name.clone();
                (None, Change::Invite { name, address, role, priority }, by(evidence))
            }
            Ask::Remove { name } => {
                let evidence = name.clone();
                (None, Change::Remove { name }, by(evidence))
            }
            Ask::ForcePromote { statement } => {
                let (candidate, incarnation, seen) = (self.me?, self.config.incarnation, self.vote.epoch);
                // What is committed here is committed anywhere; what else was acknowledged this node may lack (R8).
                let evidence = alloc::format!("acknowledged writes after LSN {} may be lost", self.log.committed());
                (None, Change::ForcePromote { candidate, incarnation, seen, statement }, by(evidence))
            }
            Ask::HandOver { .. } | Ask::Leave => return None,
        })
    }

    /// The register has spoken on a wish.
    pub(crate) fn resolved(&mut self, now: Instant, purpose: Purpose, denied: Option<Denied>) {
        let refused = denied.is_some();
        match purpose {
            Purpose::Promote { .. } => {
                if refused {
                    self.promotion_denied(now);
                }
            }
            Purpose::Shrink { nodes, cause } => self.shrink_resolved(now, nodes, cause, refused),
            Purpose::Grow { node } => self.grow_resolved(now, node, refused),
            Purpose::HandOver => {
                let refused = denied.map(|denied| match denied {
                    // R2: it may have been done.
                    Denied::OutcomeForgotten { .. } => AskRefused::Unknown,
                    denied => AskRefused::Forbidden { why: self.explain(&denied) },
                });
                self.hand_over_resolved(now, refused);
            }
            Purpose::Ask { id, .. } => {
                self.ask_resolved(id, denied);
                self.pardon();
            }
            Purpose::Refresh { asked_at } => self.alone_confirmed(now, asked_at),
            Purpose::VerifyAlone { round } => {
                if matches!(&self.role, Role::Hot(hot) if hot.verify_round == round) {
                    self.end_round(now, true);
                }
            }
            Purpose::Discard { stream } => {
                if !refused {
                    self.may_discard(now, stream);
                }
            }
            Purpose::Admit => {
                if let Some(denied) = denied {
                    let why = self.explain(&denied);
                    self.admission_denied(why);
                }
            }
            Purpose::Bootstrap | Purpose::EndPause | Purpose::SettleMembers => {}
        }
    }

    /// The register has spoken on an operator's request.
    pub(crate) fn ask_resolved(&mut self, id: Option<RequestId>, denied: Option<Denied>) {
        let answer = match denied {
            None => self.state.clone().map(Answer::State).ok_or(AskRefused::Unknown),
            Some(Denied::VersionMoved { found, .. }) => Err(AskRefused::Conflict { version: found }),
            // R2: it may have been done.
            Some(Denied::OutcomeForgotten { .. }) => Err(AskRefused::Unknown),
            Some(denied) => Err(AskRefused::Forbidden { why: self.explain(&denied) }),
        };
        self.answer(id, answer);
    }

    /// The first change of a group that has never run: made by the member that its birth names, once every acceptor
    /// is there to say that it is fresh (R4).
    fn bootstrap(&mut self, now: Instant) {
        let Some(birth) = &self.config.birth else { return };
        let named = self.me == Some(birth.reign.node);
        let fresh = !self.state_chosen && self.vote.accepted.is_none();
        if !named || !fresh || self.ready_peers().len() < self.others().len() || self.leaving.is_some() {
            return;
        }
        let mut state = birth.clone();
        let incarnation: Incarnation = self.config.incarnation;
        state.reign = Reign { epoch: birth.reign.epoch.max(hotwarm_types::Epoch(1)), incarnation, ..birth.reign };
        state.in_sync = BTreeSet::from([birth.reign.node]);
        self.wish(now, Purpose::Bootstrap, None, Change::Bootstrap(Box::new(state)), cause("init", "a new group"));
    }

    /// A change of the acceptors is followed by one of nothing. Whoever restarts with the former as the last thing it
    /// holds needs a majority of the old acceptors, too, to be sure of it (R6), and those may be switched off by then.
    fn settle_members(&mut self, now: Instant) {
        let Some(state) = self.state.as_ref().filter(|state| self.state_chosen && state.changes_members()) else {
            return;
        };
        if matches!(self.role, Role::Hot(_)) && state.version > Version(1) {
            let expected = Some(state.version);
            self.wish(
                now,
                Purpose::SettleMembers,
                expected,
                Change::Bump,
                cause("members", "the new acceptors suffice"),
            );
        }
    }

    /// Maintenance that is over is taken out of the state, so that it shows nowhere (R29).
    fn end_pause(&mut self, now: Instant) {
        let over = self.pause_until.is_some_and(|until| now >= until);
        if over && matches!(&self.role, Role::Hot(hot) if hot.phase == Phase::Serving) {
            self.wish(now, Purpose::EndPause, None, Change::Resume, cause("expired", "the maintenance is over"));
        }
    }

    /// A leaving hot hands over first; everyone else just says goodbye. Goodbye is for good (R21).
    pub(crate) fn leaving_on_time(&mut self, now: Instant) {
        let Some(since) = self.leaving.filter(|_| !self.left) else { return };
        if let Role::Hot(hot) = &self.role {
            match hot.phase {
                // Past that the register has no majority left to ask: this node serves nothing, and the last one just stops.
                Phase::Draining { .. } | Phase::HandingOver { .. } if now.since(since) < LEAVE_WAIT => return,
                Phase::Serving if self.choose_target(now, None).is_ok() && now.since(since) < LEAVE_WAIT => {
                    return self.hand_over(now, None, None);
                }
                Phase::Enthroned | Phase::Starting | Phase::Resuming if now.since(since) < LEAVE_WAIT => return,
                Phase::Serving
                | Phase::Enthroned
                | Phase::Starting
                | Phase::Resuming
                | Phase::Draining { .. }
                | Phase::HandingOver { .. } => {}
            }
        }
        self.drop_reads();
        self.emit(Output::Hold);
        self.say_goodbye();
        self.left = true;
        self.emit(Output::Left);
    }

    /// Whether this node has said goodbye: it grants, confirms, acknowledges and serves nothing any more.
    pub(crate) fn has_left(&self) -> bool {
        self.left
    }

    /// An order to the disk is done.
    pub(crate) fn persisted(&mut self, now: Instant, token: Token) {
        if self.log.persisted(token) {
            self.acknowledge();
            self.advance_commit(now);
        } else {
            self.vote_persisted(now, token);
        }
    }

    /// Why nothing can be asked of this node, which is fenced.
    fn fence_words(&self) -> String {
        match &self.fenced {
            Some(FenceReason::Disk { error }) => {
                alloc::format!("this node is fenced: its disk failed: {error}")
            }
            Some(FenceReason::DivergedBelowCommit { last, committed }) => {
                alloc::format!("this node is fenced: its log differs after {last}, below its commit {committed}")
            }
            Some(FenceReason::Amnesia { by }) => {
                let by = self.name_of(*by);
                alloc::format!("this node is fenced: {by} remembers more of it than its folder does")
            }
            Some(FenceReason::Removed) => "this node is no longer a member".into(),
            None => "this node is fenced".into(),
        }
    }

    pub(crate) fn answer_while_fenced(&mut self, input: Input) {
        match input {
            Input::Asked { ask: Ask::Leave, .. } => self.emit(Output::Left),
            Input::Asked { id, .. } => {
                let why = self.fence_words();
                self.answer(Some(id), Err(AskRefused::Forbidden { why }));
            }
            Input::VerifyAsked { id } => self.emit(Output::Verified { upto: id, at: None }),
            Input::Elapsed
            | Input::WallClock { .. }
            | Input::LinkUp { .. }
            | Input::LinkDown { .. }
            | Input::Received { .. }
            | Input::JoinAsked { .. }
            | Input::DeathAttested { .. }
            | Input::Persisted { .. }
            | Input::PersistFailed { .. }
            | Input::LogRead { .. }
            | Input::Proposed { .. }
            | Input::SnapshotMade { .. }
            | Input::SnapshotFailed { .. }
            | Input::SnapshotReceived { .. }
            | Input::SnapshotInstalled { .. }
            | Input::Applied { .. } => {}
        }
    }
}
