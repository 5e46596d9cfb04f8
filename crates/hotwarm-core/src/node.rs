//! One node: what it knows, and the one function that changes it.
//!
//! `step` takes one fact and appends orders. The driver loop of a shell is: wait for a fact or for `deadline`, read
//! the clock, `step`, carry out the orders in order. What a step decides is spread over the modules by topic
//! (`identity`, `liveness`, `replication`, `requests`), each an `impl Node`; the state is here.

use crate::identity::Link;
use crate::liveness::Observed;
use crate::newcomer::Newcomer;
use crate::register::{Cause, Denied, GroupState, Member, MemberRole, ProposalId, Proposer, Vote};
use crate::replication::{Hot, LogView, Warm};
use crate::requests::{Purpose, WaitingAsk};
use crate::vote_book::VoteBook;
use crate::{FenceReason, Input, Message, Note, Output};
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;
use hotwarm_types::{
    ClusterId, EntryId, Epoch, FolderId, GroupId, Incarnation, Instant, Lsn, NodeId, Reign, Token, Version,
};

/// What a node is told at its start and that never changes while it runs.
#[derive(Clone, Debug, Hash)]
pub struct Config {
    /// The cluster of the data folder.
    pub cluster: ClusterId,
    /// The group.
    pub group: GroupId,
    /// This node's name.
    pub name: String,
    /// The data folder's identity. With the name it says which member this is (R4).
    pub folder: FolderId,
    /// This start of the process; its counter is durable already.
    pub incarnation: Incarnation,
    /// Feeds jitter, nothing else.
    pub seed: u64,
    /// The initial state, where this folder was made by `hotwarm init` for a group that has never run; else `None`.
    /// The member that its `reign` names bootstraps the register, once all acceptors have answered that they are fresh.
    pub birth: Option<GroupState>,
}

/// What recovery found in the data folder; all of it synced by this process before it is told (R11).
#[derive(Clone, Debug, Default, Hash)]
pub struct Recovered {
    /// The vote record.
    pub vote: Vote,
    /// The entry before the first one in the log; entries up to it are only in the store.
    pub log_floor: EntryId,
    /// The last entry.
    pub log_end: EntryId,
    /// First position of each epoch, oldest first; reaches back beyond `log_floor` (R30).
    pub epochs: Vec<(Epoch, Lsn)>,
    /// What the store has applied durably: committed, by R32.
    pub applied: Lsn,
}

/// What a node is to its group at present.
#[derive(Clone, Debug, Hash)]
pub(crate) enum Role {
    /// Not a member (yet): holds nothing that counts.
    Outsider,
    /// Reigns: appends, and serves once its whole log is committed.
    Hot(Box<Hot>),
    /// Holds a copy, in sync or not.
    Warm(Warm),
    /// Votes only.
    Witness,
}

/// One member of a group.
///
/// A clone goes on exactly as the original would, and equal hashes are taken for equal nodes: the model check visits each
/// state once by them.
#[derive(Clone, Debug, Hash)]
pub struct Node {
    pub(crate) config: Config,
    /// This node's number, once its (name, folder) is found among the members.
    pub(crate) me: Option<NodeId>,
    pub(crate) role: Role,
    /// The newest state known. Changed only by `learn`.
    pub(crate) state: Option<GroupState>,
    /// Whether that state is known to be chosen; a state from this node's own acceptor or birth may not be.
    pub(crate) state_chosen: bool,
    pub(crate) vote: Vote,
    pub(crate) book: VoteBook,
    pub(crate) log: LogView,
    pub(crate) links: BTreeMap<NodeId, Link>,
    pub(crate) newcomer: Option<Newcomer>,
    /// A newer member list than the state's that some acceptor holds, chosen or not, and its version.
    pub(crate) hearsay: Option<(Version, BTreeMap<NodeId, Member>)>,
    pub(crate) observed: Observed,
    pub(crate) proposer: Option<Proposer>,
    /// Why the proposer is busy.
    pub(crate) purpose: Option<Purpose>,
    pub(crate) asks: VecDeque<WaitingAsk>,
    /// The highest epoch in which this incarnation reigned and stopped: never again in it (R1, R21).
    pub(crate) reign_over: Epoch,
    /// This node has said, or is about to say, goodbye.
    pub(crate) leaving: Option<Instant>,
    pub(crate) left: bool,
    /// What the state machine has applied durably.
    pub(crate) applied: Lsn,
    /// When the maintenance that the state speaks of ends, by this node's clock.
    pub(crate) pause_until: Option<Instant>,
    pub(crate) fenced: Option<FenceReason>,
    /// Whom the shell was told to follow last.
    pub(crate) told_hot: Option<Option<Reign>>,
    pub(crate) next_state_read_at: Instant,
    pub(crate) wall_offset_ms: u64,
    pub(crate) last_step: Instant,
    next_token: u64,
    random: u64,
    loopback: VecDeque<Message>,
    pub(crate) out: Vec<Output>,
}

impl Node {
    /// A node just started, following nobody. Its first step may be at once.
    #[must_use]
    pub fn new(config: Config, recovered: Recovered, now: Instant) -> Self {
        let Recovered { mut vote, log_floor, log_end, epochs, applied } = recovered;
        vote.epoch = vote.epoch.max(log_end.epoch);
        vote.incarnation = config.incarnation;
        let committed = applied.max(vote.committed);
        let state = vote.accepted.as_ref().map(|(_, state)| state.clone()).or_else(|| config.birth.clone());
        let grace = vote.grace_granted.max(state.as_ref().map_or(Duration::ZERO, |s| s.settings.timing.grace));
        let mut node = Self {
            me: None,
            role: Role::Outsider,
            state_chosen: false,
            book: VoteBook::new(&vote),
            log: LogView::new(log_floor, log_end, epochs, committed),
            links: BTreeMap::new(),
            newcomer: None,
            hearsay: None,
            observed: Observed::new(now, grace, vote.epoch),
            proposer: None,
            purpose: None,
            asks: VecDeque::new(),
            reign_over: Epoch(0),
            leaving: None,
            left: false,
            applied,
            pause_until: None,
            fenced: None,
            told_hot: None,
            next_state_read_at: now,
            wall_offset_ms: 0,
            last_step: now,
            next_token: 0,
            random: config.seed | 1,
            loopback: VecDeque::new(),
            out: Vec::new(),
            state: None,
            vote,
            config,
        };
        if node.log.committed() > applied {
            node.emit(Output::Commit { lsn: node.log.committed() });
        }
        if let Some(state) = state {
            let chosen = node.vote.settled;
            node.adopt(now, state, chosen);
        }
        node
    }

    /// Takes one fact, appends what must be done to `out`, in order. Same state, same `now`, same input: same output,
    /// on every machine.
    pub fn step(&mut self, now: Instant, input: Input, out: &mut Vec<Output>) {
        if self.fenced.is_some() {
            self.answer_while_fenced(input);
        } else {
            self.notice_gap(now);
            self.take(now, input);
            self.take_loopback(now);
            if self.fenced.is_none() {
                self.on_time(now);
                self.take_loopback(now);
            }
            if self.fenced.is_some() {
                self.end_requests(now);
            }
            self.flush_vote();
        }
        out.append(&mut self.out);
    }

    /// When `step` must next be called with `Input::Elapsed`, if nothing else happens. `None` once it is fenced.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        if self.fenced.is_some() {
            return None;
        }
        // Everything that is watched by time is looked at in every beacon interval; what needs more says so.
        let routine = self.last_step + self.timing().beacon / 2;
        let wishes = [self.proposer.as_ref().and_then(Proposer::deadline), self.candidacy_deadline()];
        Some(wishes.into_iter().flatten().fold(routine, Instant::min))
    }

    /// This node's number, if its (name, folder) is a member.
    #[must_use]
    pub fn id(&self) -> Option<NodeId> {
        self.me
    }

    /// The reign this node follows or holds.
    #[must_use]
    pub fn reign(&self) -> Option<Reign> {
        match &self.role {
            Role::Hot(hot) => Some(hot.reign),
            Role::Outsider | Role::Warm(_) | Role::Witness => self.observed.reign,
        }
    }

    /// The end of its log.
    #[must_use]
    pub fn end(&self) -> EntryId {
        self.log.end()
    }

    /// Its commit position.
    #[must_use]
    pub fn committed(&self) -> Lsn {
        self.log.committed()
    }

    /// The newest state known, and whether it is known to be chosen.
    #[must_use]
    pub fn state(&self) -> Option<(&GroupState, bool)> {
        self.state.as_ref().map(|state| (state, self.state_chosen))
    }

    /// Why this node is fenced, if it is.
    #[must_use]
    pub fn fenced(&self) -> Option<&FenceReason> {
        self.fenced.as_ref()
    }

    fn take(&mut self, now: Instant, input: Input) {
        match input {
            Input::Elapsed => {}
            Input::WallClock { offset_ms } => self.wall_offset_ms = offset_ms,
            Input::LinkUp { peer, incarnation } => self.link_up(now, peer, incarnation),
            Input::LinkDown { peer } => self.link_down(now, peer),
            Input::Received { from, incarnation, message } => self.received(now, from, incarnation, message),
            Input::JoinAsked { name, folder } => self.join_asked(now, name, folder),
            Input::DeathAttested { peer, incarnation } => self.death_attested(now, peer, incarnation),
            Input::Persisted { token } => self.persisted(now, token),
            Input::PersistFailed { token: _, error } => self.fence(FenceReason::Disk { error }),
            Input::LogRead { token, blocks } => self.log_read(now, token, &blocks),
            Input::Proposed { tenure, first, count, stamp_ms, payload } => {
                self.proposed(now, tenure, first, count, stamp_ms, payload);
            }
            Input::SnapshotMade { stream, at } => self.snapshot_made(now, stream, at),
            Input::SnapshotFailed { stream } => {
                self.snapshot_failed(now, stream);
                self.snapshot_not_installed(stream);
            }
            Input::SnapshotReceived { stream } => self.snapshot_received(now, stream),
            Input::SnapshotInstalled { stream, at } => self.snapshot_installed(stream, at),
            Input::VerifyAsked { id } => self.verify_asked(now, id),
            Input::Asked { id, ask } => self.asked(now, id, ask),
            Input::Applied { lsn } => self.applied = self.applied.max(lsn),
        }
    }

    /// Everything that is due by time, and every wish that waits for the proposer. Called at the end of each step, so
    /// that a condition that a fact has just met acts in the same step.
    fn on_time(&mut self, now: Instant) {
        if let Some(proposer) = &mut self.proposer {
            let mut send = Vec::new();
            proposer.elapsed(now, &mut send);
            self.send_all(send);
        }
        self.take_outcome(now);
        match self.role {
            Role::Hot(_) => self.hot_on_time(now),
            Role::Warm(_) => self.warm_on_time(now),
            Role::Outsider | Role::Witness => {}
        }
        self.requests_on_time(now);
        self.newcomer_on_time(now);
        self.leaving_on_time(now);
    }

    fn take_loopback(&mut self, now: Instant) {
        while let Some(message) = self.loopback.pop_front() {
            if let Some(me) = self.me {
                self.received(now, me, self.config.incarnation, message);
            }
            self.take_outcome(now);
        }
    }

    /// After a gap longer than the lease nothing that was known before it counts for replies (R18).
    fn notice_gap(&mut self, now: Instant) {
        let gap = now.since(self.last_step);
        self.last_step = now;
        if gap > self.timing().lease {
            self.hot_slept(now);
        }
    }

    /// Stops serving for good, and says so to the others so that they need not wait (R21).
    pub(crate) fn fence(&mut self, reason: FenceReason) {
        if matches!(reason, FenceReason::Disk { .. } | FenceReason::DivergedBelowCommit { .. }) {
            self.say_goodbye();
        }
        self.drop_reads();
        self.answer_hand_over(None);
        self.out.push(Output::Hold);
        self.out.push(Output::Fence { reason: reason.clone() });
        self.fenced = Some(reason);
        self.role = Role::Outsider;
    }

    pub(crate) fn emit(&mut self, output: Output) {
        self.out.push(output);
    }

    pub(crate) fn note(&mut self, note: Note) {
        self.out.push(Output::Note(note));
    }

    /// Sends a message to a member; to itself it arrives in this same step.
    pub(crate) fn send(&mut self, to: NodeId, message: Message) {
        if self.me == Some(to) {
            self.loopback.push_back(message);
        } else {
            self.out.push(Output::Send { to, message });
        }
    }

    pub(crate) fn send_all(&mut self, messages: Vec<(NodeId, Message)>) {
        for (to, message) in messages {
            self.send(to, message);
        }
    }

    /// All members but this one.
    pub(crate) fn others(&self) -> Vec<NodeId> {
        let members = self.state.iter().flat_map(|state| state.members.keys());
        members.copied().filter(|member| self.me != Some(*member)).collect()
    }

    /// A node's name, for texts that people read.
    pub(crate) fn name_of(&self, node: NodeId) -> String {
        let member = self.state.as_ref().and_then(|state| state.members.get(&node)).map(|member| &member.name);
        let newcomer = self.newcomer.as_ref().filter(|newcomer| newcomer.node == node);
        let newcomer = newcomer.map(|newcomer| &newcomer.member.name);
        member.or(newcomer).map_or_else(|| alloc::format!("{node}"), String::clone)
    }

    /// Why the register refused something, in words for people.
    pub(crate) fn explain(&self, denied: &Denied) -> String {
        denied.told(|node| self.name_of(node))
    }

    pub(crate) fn member_role(&self, node: NodeId) -> Option<MemberRole> {
        self.state.as_ref().and_then(|state| state.members.get(&node)).map(|member| member.role)
    }

    pub(crate) fn timing(&self) -> crate::register::Timing {
        self.state.as_ref().map_or(crate::register::Timing::LAN, |state| state.settings.timing)
    }

    pub(crate) fn wall_ms(&self, now: Instant) -> u64 {
        self.wall_offset_ms.saturating_add(now.0 / 1_000_000)
    }

    pub(crate) fn token(&mut self) -> Token {
        self.next_token += 1;
        Token(self.next_token)
    }

    /// A delay drawn from `0..length`. xorshift64: for jitter, where nobody tries to guess it.
    pub(crate) fn jitter(&mut self, length: Duration) -> Duration {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let ns = u64::try_from(length.as_nanos()).unwrap_or(u64::MAX).max(1);
        Duration::from_nanos(self.random % ns)
    }

    pub(crate) fn next_proposal(&mut self) -> Option<ProposalId> {
        self.proposer.as_mut().map(Proposer::next_id)
    }
}

/// A cause, as the history shows it.
pub(crate) fn cause(word: &str, evidence: impl Into<String>) -> Cause {
    Cause { word: word.into(), evidence: evidence.into() }
}
