//! The group's state: how this node learns it, and what follows from a newer one.
//!
//! `learn` takes states that are known to be chosen. Roles change here and in `dispatch::see_epoch` only: a state that
//! names this incarnation as reigning makes it hot, any other reign ends its own (R1).

use crate::node::{Role, cause};
use crate::register::{Cause, Change, GroupState, Member, MemberRole, Outcome, Proposer, Wish};
use crate::replication::{Phase, Warm};
use crate::requests::Purpose;
use crate::vote_book::After;
use crate::{FenceReason, Message, Node, Note, Output};
use alloc::vec::Vec;
use hotwarm_types::{Instant, NodeId, Reign, Version};

impl Node {
    /// Takes a state that was chosen. Older ones, and the same again, change nothing.
    pub(crate) fn learn(&mut self, now: Instant, state: GroupState) {
        let newer = match &self.state {
            None => true,
            // What this node's acceptor holds may never be chosen: any chosen state, an older one too, takes its place.
            Some(known) => !self.state_chosen || state.version > known.version,
        };
        if state.cluster != self.config.cluster || state.group != self.config.group || !newer {
            return;
        }
        self.adopt(now, state, true);
    }

    /// Makes `state` the newest known and lets everything follow from it.
    pub(crate) fn adopt(&mut self, now: Instant, state: GroupState, chosen: bool) {
        let paused_before = self.state.as_ref().and_then(|known| known.pause.clone());
        if state.pause != paused_before {
            self.pause_until = state.pause.as_ref().map(|pause| now + pause.length);
        }
        self.observed.grace = self.observed.grace.max(state.settings.timing.grace);
        self.state_chosen = chosen;
        let reign = state.reign;
        self.state = Some(state.clone());
        self.find_self();
        if chosen && let Some(proposer) = &mut self.proposer {
            proposer.learned(&state);
        }
        if self.fenced.is_some() {
            return;
        }
        if chosen {
            self.book.dirty |= self.is_settled() && !self.vote.settled;
            self.emit(Output::StateChanged { state });
            self.newcomer_in_state();
            self.remember_new_members();
            self.see_epoch(now, reign.epoch);
            self.reign_chosen(now, reign);
        }
        self.hot_state_changed(now);
        self.tell_followed();
    }

    /// Whether this node's acceptor holds a change of members that is known to be chosen (R6).
    pub(crate) fn is_settled(&self) -> bool {
        let known = self.state.as_ref().filter(|state| self.state_chosen && state.changes_members());
        known.is_some_and(|known| self.vote.accepted.as_ref().is_some_and(|(_, held)| held == known))
    }

    /// Finds this node's (name, folder) among the members (R4).
    fn find_self(&mut self) {
        let Some(state) = &self.state else { return };
        let found = state.members.iter().find(|(_, member)| self.is_own(member));
        // An acceptor may hold its own admission without its being chosen; another folder may get the number then (R4).
        let certain = |id: NodeId| self.state_chosen || !state.admits(id);
        let found = found.filter(|(id, _)| certain(**id)).map(|(id, member)| (*id, member.role));
        match (self.me, found) {
            (None, Some((id, role))) => {
                self.me = Some(id);
                let mut proposer = Proposer::new(id, self.config.incarnation.start, self.config.seed);
                if self.state_chosen {
                    proposer.learned(state);
                }
                self.proposer = Some(proposer);
                self.role = match role {
                    MemberRole::Data => Role::Warm(Warm::default()),
                    MemberRole::Witness => Role::Witness,
                };
            }
            (Some(_), None) if self.state_chosen => self.fence(FenceReason::Removed),
            (Some(_), None | Some(_)) | (None, None) => {}
        }
    }

    /// Whether a member is this node: its (name, folder).
    pub(crate) fn is_own(&self, member: &Member) -> bool {
        member.name == self.config.name && member.folder == self.config.folder
    }

    /// What a chosen reign means for this node.
    fn reign_chosen(&mut self, now: Instant, reign: Reign) {
        if let Role::Hot(hot) = &self.role
            && hot.reign != reign
            && reign.epoch >= hot.reign.epoch
        {
            let evidence = alloc::format!("the register names {} in epoch {}", self.name_of(reign.node), reign.epoch);
            self.stop_being_hot(now, cause("deposed", evidence));
        }
        let ours = self.me == Some(reign.node) && reign.incarnation == self.config.incarnation;
        let fresh = reign.epoch == self.vote.epoch && reign.epoch > self.reign_over;
        if ours && fresh && !matches!(self.role, Role::Hot(_)) {
            self.begin_reign(now, reign);
        } else if !ours {
            self.observe_reign(now, reign);
        }
    }

    /// Tells the shell whom commands go to, where that has changed.
    pub(crate) fn tell_followed(&mut self) {
        if matches!(self.role, Role::Hot(_)) {
            self.told_hot = None;
            return;
        }
        let mut hot = self.followed_reign();
        let ended = hot.is_some_and(|reign| {
            // A reign of this node that is over, or of a process that is dead or gone, is nobody to send to.
            self.me == Some(reign.node) || self.links.get(&reign.node).is_some_and(|l| l.is_over(reign.incarnation))
        });
        if ended {
            hot = None;
        }
        if self.told_hot != Some(hot) {
            self.told_hot = Some(hot);
            self.emit(Output::Follow { hot });
        }
    }

    /// Wishes a change of the state. The proposer must be free.
    pub(crate) fn wish(
        &mut self,
        now: Instant,
        purpose: Purpose,
        expected: Option<Version>,
        change: Change,
        cause: Cause,
    ) {
        assert!(self.purpose.is_none(), "one wish at a time");
        let (Some(state), Some(id)) = (self.state.clone(), self.next_proposal()) else { return };
        let at_ms = self.wall_ms(now);
        let wish = Wish { id, expected, change, cause, at_ms };
        self.purpose = Some(purpose);
        let mut send = Vec::new();
        if let Some(proposer) = &mut self.proposer {
            // What this node's own acceptor has promised spares a refused first round.
            proposer.observe(self.vote.promised);
            proposer.begin(now, &state, wish, &mut send);
        }
        self.send_all(send);
    }

    /// Takes the proposer's result, if there is one.
    pub(crate) fn take_outcome(&mut self, now: Instant) {
        let Some(outcome) = self.proposer.as_mut().and_then(Proposer::take_outcome) else { return };
        let (state, denied) = match outcome {
            Outcome::Done(state) => (Some(state), None),
            Outcome::Denied { denied, state } => (state, Some(denied)),
        };
        if let Some(state) = state {
            // Even a reading or a refusal can be news: the state that comes with it is chosen.
            let newer = state.version > self.state_version();
            self.learn(now, state.clone());
            if newer {
                self.announce(&state);
            }
        }
        // Only now: what is learnt above may be what the wish was for.
        let Some(purpose) = self.purpose.take() else { return };
        match purpose {
            // The wish itself may be what ended its membership.
            Purpose::Ask { id, .. } if self.fenced.is_some() => self.ask_resolved(id, denied),
            _of_a_fenced_node if self.fenced.is_some() => {}
            purpose => self.resolved(now, purpose, denied),
        }
    }

    /// Tells all members, so that nobody has to ask (R7).
    fn announce(&mut self, state: &GroupState) {
        for peer in self.others() {
            self.send(peer, Message::Announce { state: state.clone() });
        }
    }

    /// Begins a reign that the register has chosen: first its epoch must be durable (R16).
    fn begin_reign(&mut self, now: Instant, reign: Reign) {
        if !matches!(self.role, Role::Warm(_)) || self.leaving.is_some() {
            return;
        }
        self.enthrone(now, reign);
        // The incarnation is on record with the epoch.
        self.book.dirty = true;
        self.once_durable(now, After::Reign { epoch: reign.epoch });
    }

    /// Goes back to following. What is in its log stays; whether it counts is for the next hot's log to say.
    pub(crate) fn stop_being_hot(&mut self, now: Instant, cause: Cause) {
        let Role::Hot(hot) = &self.role else { return };
        let epoch = hot.reign.epoch;
        self.reign_over = self.reign_over.max(epoch);
        let successor = self.state.as_ref().map(|state| state.reign).filter(|reign| reign.epoch > epoch);
        let over = match hot.phase {
            Phase::HandingOver { target, drained, asked_at, .. } if successor.is_some_and(|to| to.node == target) => {
                Note::HandedOver { epoch, to: target, drained, chosen: now.since(asked_at) }
            }
            _ => Note::StoppedBeingHot { epoch, cause },
        };
        self.answer_hand_over(successor);
        self.drop_reads();
        self.end_streams();
        self.role = Role::Warm(Warm::default());
        self.observed.restart(now);
        self.emit(Output::Hold);
        self.note(over);
        self.told_hot = None;
        self.tell_followed();
    }

    pub(crate) fn in_sync_others(&self) -> Vec<NodeId> {
        let Some(state) = &self.state else { return Vec::new() };
        state.in_sync.iter().copied().filter(|node| self.me != Some(*node)).collect()
    }
}
