//! The node that reigns: how a reign begins, takes writes, and hands over.
//!
//! ```text
//!   enthroned --epoch durable--> starting --its whole log committed--> serving <--> handing over --> warm
//! ```
//!
//! A new hot commits, reads, acknowledges and applies nothing until the first entry of its epoch is durable and
//! matched on the whole new in-sync set; then everything before it is committed at once (R25).

use crate::node::{Role, cause};
use crate::register::{Cause, Change, GroupState, MemberRole};
use crate::replication::Progress;
use crate::requests::Purpose;
use crate::{Answer, AskRefused, Node, Note, Output};
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;
use core::time::Duration;
use hotwarm_types::limits::{BLOCK_SIZE_BYTES_MAX, UNCOMMITTED_SIZE_BYTES_MAX};
use hotwarm_types::{Block, BlockKind, EntryId, Epoch, Instant, Lsn, NodeId, Payload, Reign, RequestId, Tenure};

/// How long a hand-over may wait for its target to have everything.
const DRAIN_MAX: Duration = Duration::from_secs(1);

/// How far a reign is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Phase {
    /// The register has chosen it; its epoch is not durable here yet.
    Enthroned,
    /// Its first entry is on its way to the in-sync set.
    Starting,
    /// It takes writes and answers reads.
    Serving,
    /// It takes no new writes, until the target has everything (R21).
    Draining { target: NodeId, request: Option<RequestId>, since: Instant },
    /// A hand-over came to nothing: it serves again once everything before is committed.
    Resuming,
    /// The register is asked to make the target hot: nothing is answered until it has spoken.
    HandingOver { target: NodeId, request: Option<RequestId>, drained: Duration, asked_at: Instant },
}

/// How the reign came about, for the history.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Accession {
    pub(crate) cause: Cause,
    pub(crate) polled: Duration,
    pub(crate) chosen: Duration,
    pub(crate) enthroned_at: Instant,
}

/// A node on its way into the in-sync set.
#[derive(Clone, Copy, Debug, Hash)]
pub(crate) struct Growing {
    pub(crate) node: NodeId,
    pub(crate) since: Instant,
}

/// See the module.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Hot {
    pub(crate) reign: Reign,
    pub(crate) phase: Phase,
    /// How often it has begun to serve.
    pub(crate) tenures: u64,
    /// The first entry of the epoch; position 0 until it is appended.
    pub(crate) start: EntryId,
    pub(crate) accession: Accession,
    pub(crate) followers: BTreeMap<NodeId, Progress>,
    /// Proposed to be in sync and not yet known to be: it counts as needed from the step that proposes it (R9).
    pub(crate) growing: Option<Growing>,
    pub(crate) next_stream: u64,
    pub(crate) next_beacon_at: Instant,
    pub(crate) beacon_seq: u64,
    /// Number, time of sending, and the end of the lease that a grant of it gives: newest last.
    pub(crate) beacons: VecDeque<(u64, Instant, Instant)>,
    /// Replies wait since then: the process slept longer than a lease, and has not been confirmed since (R18).
    pub(crate) parked_since: Option<Instant>,
    pub(crate) lease_was_held: bool,
    pub(crate) throttled: bool,
    /// Position and time of appends not yet committed, oldest first: how long the oldest has waited.
    pub(crate) waiting: VecDeque<(Lsn, Instant)>,
    /// The round of verified reads under way (R19).
    pub(crate) verify_round: u64,
    pub(crate) verify_upto: Option<RequestId>,
    pub(crate) verified_by: BTreeSet<NodeId>,
    /// Reads that came during the round.
    pub(crate) verify_next: Option<RequestId>,
    /// Members that an operator removes: out of the in-sync set first, and never back.
    pub(crate) expelled: BTreeSet<NodeId>,
    pub(crate) next_register_read_at: Instant,
}

impl Hot {
    /// The present stretch of serving.
    fn tenure(&self) -> Tenure {
        Tenure { epoch: self.reign.epoch, number: self.tenures }
    }
}

impl Node {
    /// The register has made this incarnation hot.
    pub(crate) fn enthrone(&mut self, now: Instant, reign: Reign) {
        let mut accession = Accession { enthroned_at: now, ..Accession::default() };
        if let Some(Purpose::Promote { started, polled, claimed, cause }) = &self.purpose {
            accession.cause = cause.clone();
            accession.polled = *polled;
            accession.chosen = now.since(*claimed);
            debug_assert!(now >= *started);
        } else if let Some(change) = self.state.as_ref().and_then(|state| state.changes.back()) {
            accession.cause = change.cause.clone();
        }
        self.told_hot = None;
        // What others send on from now on is held for the first `Serve`, not sent back.
        self.emit(Output::Hold);
        self.role = Role::Hot(Box::new(Hot {
            reign,
            phase: Phase::Enthroned,
            tenures: 0,
            start: EntryId::default(),
            accession,
            followers: BTreeMap::new(),
            growing: None,
            // No two streams of a group have the same number: what comes late of one is never taken for another's.
            next_stream: reign.epoch.0 << 32,
            next_beacon_at: now,
            beacon_seq: 0,
            beacons: VecDeque::new(),
            parked_since: None,
            lease_was_held: false,
            throttled: false,
            waiting: VecDeque::new(),
            verify_round: 0,
            verify_upto: None,
            verified_by: BTreeSet::new(),
            verify_next: None,
            expelled: BTreeSet::new(),
            next_register_read_at: now,
        }));
    }

    /// The epoch is durable: the reign's first entry may be appended and sent (R16).
    pub(crate) fn reign_durable(&mut self, now: Instant, epoch: Epoch) {
        let Role::Hot(hot) = &mut self.role else { return };
        if hot.reign.epoch != epoch || hot.phase != Phase::Enthroned {
            return;
        }
        hot.phase = Phase::Starting;
        let Cause { word, evidence } = &hot.accession.cause;
        let text = alloc::format!("{word}: {evidence}");
        let first = self.log.end().lsn.next();
        hot.start = EntryId { epoch, lsn: first };
        // No stamp: the state machine stamps the writes, from the greatest in the log on, and takes that for this entry
        // too (R35).
        let block = Block {
            kind: BlockKind::EpochStart,
            epoch,
            first,
            last: first,
            stamp_ms: 0,
            payload: Payload::new(text.as_bytes()),
        };
        self.append_own(now, block);
        for peer in self.others() {
            self.open_stream(now, peer);
        }
        self.send_beacons(now);
        self.advance_commit(now);
    }

    /// The state machine's writes become the next block.
    pub(crate) fn proposed(
        &mut self,
        now: Instant,
        tenure: Tenure,
        first: Lsn,
        count: u64,
        stamp_ms: u64,
        payload: Payload,
    ) {
        assert!(count > 0 && payload.len() <= BLOCK_SIZE_BYTES_MAX, "the state machine keeps to the block's limits");
        let Role::Hot(hot) = &self.role else { return };
        let takes = matches!(hot.phase, Phase::Serving | Phase::Draining { .. });
        let epoch = hot.reign.epoch;
        // What was executed before a hand-over that came to nothing is dropped by the state machine, and executed again.
        if !takes || hot.tenure() != tenure || first != self.log.end().lsn.next() {
            return;
        }
        let last = first.plus(count - 1);
        self.append_own(now, Block { kind: BlockKind::Data, epoch, first, last, stamp_ms, payload });
        self.pump_all(now);
        self.throttle();
    }

    fn append_own(&mut self, now: Instant, block: Block) {
        let Role::Hot(hot) = &mut self.role else { return };
        hot.waiting.push_back((block.last, now));
        let token = self.token();
        self.log.push(now, token, block.clone());
        self.emit(Output::AppendLog { token, block });
    }

    /// Bounds what is appended and not committed.
    pub(crate) fn throttle(&mut self) {
        let waiting = self.log.bytes_after(self.log.committed());
        let Role::Hot(hot) = &mut self.role else { return };
        let limit = if hot.throttled { UNCOMMITTED_SIZE_BYTES_MAX / 2 } else { UNCOMMITTED_SIZE_BYTES_MAX };
        let on = waiting > limit;
        if on != hot.throttled {
            hot.throttled = on;
            self.emit(Output::Throttle { on });
        }
    }

    /// The whole log is committed for the first time in this reign.
    pub(crate) fn begin_to_serve(&mut self, now: Instant) {
        let Role::Hot(hot) = &mut self.role else { return };
        hot.phase = Phase::Serving;
        hot.tenures += 1;
        let tenure = hot.tenure();
        let (epoch, accession) = (hot.reign.epoch, hot.accession.clone());
        let Accession { cause, polled, chosen, enthroned_at } = accession;
        self.emit(Output::Serve { tenure });
        self.note(Note::BecameHot { epoch, cause, polled, chosen, started: now.since(enthroned_at) });
    }

    pub(crate) fn hot_on_time(&mut self, now: Instant) {
        let Role::Hot(hot) = &self.role else { return };
        if hot.phase == Phase::Enthroned {
            return;
        }
        if now >= hot.next_beacon_at {
            self.send_beacons(now);
            self.tend_streams(now);
        }
        self.watch_lease(now);
        self.advance_commit(now);
        self.tend_in_sync_set(now);
        self.read_register_when_alone(now);
        // Last: what these have just decided may be all that it waited for.
        self.advance_hand_over(now);
    }

    /// Whether clients wait until a hand-over can be asked for.
    pub(crate) fn is_draining(&self) -> bool {
        matches!(&self.role, Role::Hot(hot) if matches!(hot.phase, Phase::Draining { .. }))
    }

    /// Begins a planned hand-over. The answer goes to `request` when it is done, or at once when it cannot be.
    pub(crate) fn hand_over(&mut self, now: Instant, request: Option<RequestId>, to: Option<NodeId>) {
        let target = match self.choose_target(now, to) {
            Ok(target) => target,
            Err(refused) => return self.answer(request, Err(refused)),
        };
        if let Role::Hot(hot) = &mut self.role {
            hot.phase = Phase::Draining { target, request, since: now };
        }
        self.emit(Output::Hold);
        self.advance_hand_over(now);
    }

    /// The best node to hand over to: in sync, answering, not leaving; the furthest log, then priority (R21).
    pub(crate) fn choose_target(&self, now: Instant, to: Option<NodeId>) -> Result<NodeId, AskRefused> {
        let (Role::Hot(hot), Some(state)) = (&self.role, &self.state) else {
            return Err(AskRefused::NotHot { hot: self.followed_reign().map(|reign| reign.node) });
        };
        if hot.phase != Phase::Serving {
            return Err(AskRefused::Busy);
        }
        if let Some(why) = to.and_then(|wished| never_a_target(state, wished)) {
            return Err(AskRefused::NoTarget { why });
        }
        let mut why = Vec::new();
        let mut best: Option<(Lsn, u16, core::cmp::Reverse<NodeId>)> = None;
        for node in self.in_sync_others() {
            let Some(member) = state.members.get(&node) else { continue };
            if to.is_some_and(|wished| wished != node) {
                continue;
            }
            match self.unfit(now, node) {
                Some(reason) => why.push(alloc::format!("{} {reason}", member.name)),
                None => {
                    let acked = hot.followers.get(&node).map_or(Lsn::ZERO, |progress| progress.acked);
                    best = best.max(Some((acked, member.priority, core::cmp::Reverse(node))));
                }
            }
        }
        best.map(|(_, _, node)| node.0).ok_or_else(|| {
            let wished = to.and_then(|wished| state.members.get(&wished));
            let none = wished.map_or_else(
                || "no other node is in sync".into(),
                |wished| alloc::format!("{} is not in sync", wished.name),
            );
            AskRefused::NoTarget { why: if why.is_empty() { none } else { why.join("; ") } }
        })
    }

    fn unfit(&self, now: Instant, node: NodeId) -> Option<&'static str> {
        let Role::Hot(hot) = &self.role else { return Some("is not followed") };
        let ready = self.links.get(&node).is_some_and(crate::identity::Link::is_ready);
        let Some(progress) = hot.followers.get(&node).filter(|_| ready) else { return Some("is not connected") };
        if progress.leaving {
            Some("is leaving")
        } else if now.since(progress.heard_at) > self.timing().shrink_after {
            Some("does not answer")
        } else {
            None
        }
    }

    /// Draining: once the target has everything and all of it is committed, the register is asked.
    pub(crate) fn advance_hand_over(&mut self, now: Instant) {
        let (end, committed) = (self.log.end().lsn, self.log.committed());
        let Role::Hot(hot) = &mut self.role else { return };
        let Phase::Draining { target, request, since } = hot.phase.clone() else { return };
        let acked = hot.followers.get(&target).map_or(Lsn::ZERO, |progress| progress.acked);
        let reign = hot.reign;
        if acked == end && committed == end {
            if self.purpose.is_some() {
                return;
            }
            let Some(incarnation) = self.links.get(&target).map(|link| link.incarnation) else { return };
            hot.phase = Phase::HandingOver { target, request, drained: now.since(since), asked_at: now };
            let change = Change::HandOver { reign, target, incarnation };
            let expected = self.state_version();
            let why = if self.leaving.is_some() { "released" } else { "operator" };
            let evidence = alloc::format!("{} holds everything up to {end}", self.name_of(target));
            self.wish(now, Purpose::HandOver, Some(expected), change, cause(why, evidence));
        } else if !self.in_sync_others().contains(&target) {
            let why = alloc::format!("{} left the in-sync set before it had everything", self.name_of(target));
            self.resume_serving(now);
            self.answer(request, Err(AskRefused::NoTarget { why }));
        } else if now.since(since) > DRAIN_MAX {
            let why =
                alloc::format!("{} did not reach {end} within {} ms", self.name_of(target), DRAIN_MAX.as_millis());
            self.resume_serving(now);
            self.answer(request, Err(AskRefused::NoTarget { why }));
        }
    }

    /// The register has spoken on a hand-over; if it was done, this node follows already.
    pub(crate) fn hand_over_resolved(&mut self, now: Instant, refused: Option<AskRefused>) {
        if let Role::Hot(hot) = &self.role {
            let Phase::HandingOver { request, .. } = hot.phase.clone() else { return };
            self.resume_serving(now);
            let otherwise = || AskRefused::Forbidden { why: "the register chose otherwise".into() };
            self.answer(request, Err(refused.unwrap_or_else(otherwise)));
        }
    }

    fn resume_serving(&mut self, now: Instant) {
        let Role::Hot(hot) = &mut self.role else { return };
        hot.phase = Phase::Resuming;
        self.serve_again();
        self.advance_commit(now);
    }

    /// Ends `Resuming`: `Serve` promises that the whole log is committed.
    pub(crate) fn serve_again(&mut self) {
        let all = self.log.committed() == self.log.end().lsn;
        if let Role::Hot(hot) = &mut self.role
            && hot.phase == Phase::Resuming
            && all
        {
            hot.phase = Phase::Serving;
            hot.tenures += 1;
            let tenure = hot.tenure();
            self.emit(Output::Serve { tenure });
        }
    }

    /// What a reign owes an operator when it ends: the answer to a hand-over.
    pub(crate) fn answer_hand_over(&mut self, reign: Option<Reign>) {
        let Role::Hot(hot) = &self.role else { return };
        let (Phase::Draining { request, .. } | Phase::HandingOver { request, .. }) = hot.phase.clone() else { return };
        let done = reign.map(Answer::HandedOver).ok_or(AskRefused::Unknown);
        self.answer(request, done);
    }
}

/// Why a node cannot be handed over to, whatever becomes of it.
fn never_a_target(state: &GroupState, wished: NodeId) -> Option<alloc::string::String> {
    let member = state.members.get(&wished)?;
    if state.reign.node == wished {
        Some(alloc::format!("{} is hot already", member.name))
    } else if member.role == MemberRole::Witness {
        Some(alloc::format!("{} is a witness and holds no data", member.name))
    } else {
        None
    }
}
