//! While this node reigns: executing what waits, in order; proposing blocks; releasing replies by commit.
//!
//! Calls of this node's clients and calls sent on by others are executed in the order of their arrival on each way, so
//! that each connection's calls keep theirs. What needs proof of the reign, or room, stops its way until it has it.

use super::forward::ForwardedOutcome;
use super::remote::{Numbered, RemoteCalls};
use super::work::{Origin, RemoteCall};
use super::{Executor, Mode};
use crate::clock;
use crate::resp::outbox::Outcome;
use hotwarm_core::Input;
use hotwarm_resp::Reply;
use hotwarm_store::{Identity, Ran, Terms};
use hotwarm_types::{Instant, Lsn, NodeId, Payload, RequestId, Tenure};
use std::collections::{HashMap, VecDeque};
use std::time::Duration;

/// Blocks proposed and not yet committed. Two keep the log busy while the warms answer; what waits behind them makes
/// the next block larger.
const PROPOSALS_MAX: usize = 2;

/// Committed bytes that may wait for the tree; past it writes wait, so that a slow disk cannot fill the memory.
const FEED_LAG_SIZE_BYTES_MAX: u64 = 256 << 20;

/// Connections of other nodes of which positions are remembered before those that are committed are forgotten.
const REMOTE_SEEN_MAX: usize = 20_000;

/// How soon it is looked again whether the tree has caught up so far that writes may go on.
const ROOM_LOOK: Duration = Duration::from_millis(20);

/// A reply that waits for a commit.
#[derive(Debug)]
struct Waiting {
    lsn: Lsn,
    origin: Origin,
    then: Then,
}

/// What happens at the commit.
#[derive(Debug)]
enum Then {
    /// The reply leaves.
    Tell(Reply),
    /// The reply is what the session remembers by then.
    Recall(Identity),
}

/// A round of proof under way: for everything that had arrived when it was asked for.
#[derive(Clone, Copy, Debug)]
struct Round {
    id: RequestId,
    local_before: u64,
    remote_before: u64,
}

/// What the thread keeps of the node's own reign.
#[derive(Debug, Default)]
pub(super) struct Serving {
    /// Writes wait for room, by the core's word.
    pub(super) throttled: bool,
    /// Replies, by ascending position: one that needs a lower position than the one before waits with it.
    waiting: VecDeque<Waiting>,
    /// The last positions of blocks that were proposed and are not committed, and when they were.
    in_flight: VecDeque<(Lsn, Instant)>,
    /// Calls of other nodes that are not executed yet.
    pub(super) remote: RemoteCalls,
    /// Some of them wait until the replies of this turn have left.
    pub(super) waits_for_replies: bool,
    /// What connections of other nodes must not be answered from before; only what is not committed.
    remote_seen: HashMap<(NodeId, u64), Lsn>,
    round: Option<Round>,
    last_round: u64,
    /// Calls that arrived before these numbers are proven.
    proven_local: u64,
    proven_remote: u64,
}

impl Serving {
    /// Whether replies wait for a commit.
    pub(super) fn waits(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// The link to a node is down. It hands its open calls over again when it is back, and they join what they have begun;
    /// if it comes back as another process, that one counts its calls anew, and must not get replies to these (INV-10).
    pub(super) fn forget_node(&mut self, peer: NodeId) {
        self.remote.forget(peer);
        self.waiting.retain(|waiting| !matches!(waiting.origin, Origin::Remote { node, .. } if node == peer));
        self.remote_seen.retain(|(node, _), _| *node != peer);
    }

    /// Forgets what belongs to one reign. Calls of other nodes stay.
    pub(super) fn forget(&mut self) {
        self.throttled = false;
        self.in_flight.clear();
        self.remote_seen.clear();
        self.round = None;
        self.proven_local = 0;
        self.proven_remote = 0;
    }
}

impl Executor {
    /// Executes what waits, then proposes what came of it.
    pub(super) fn serve(&mut self, tenure: Tenure) {
        if self.ledger.holds() || !self.serving.remote.is_empty() {
            let terms = self.terms();
            self.serve_local(terms);
            self.serve_remote(terms);
        }
        if self.mode == Mode::Serving(tenure) {
            self.propose(tenure);
        }
    }

    /// What holds for this turn. The lease is looked at with a clock read after everything had arrived.
    fn terms(&mut self) -> Terms {
        let now = clock::now();
        Terms {
            now_ms: self.time.stamp(now, clock::wall_ms()),
            lease: self.setting.board.lease_holds(now),
            room: self.has_room(),
            space: !self.setting.board.space.is_short(),
        }
    }

    /// Whether writes may be taken in.
    pub(super) fn has_room(&self) -> bool {
        !self.serving.throttled && self.engine.state.lag_size_bytes() < FEED_LAG_SIZE_BYTES_MAX
    }

    fn serve_local(&mut self, terms: Terms) {
        while let Some((seq, open)) = self.ledger.advance() {
            let client = open.client;
            let seen = self.outlet.clients.get(&client).map_or(Lsn::ZERO, |entry| entry.seen);
            let writes = open.call.writes();
            let ran = open.call.execute(&mut self.engine, seen, seq < self.serving.proven_local, terms);
            if let Ran::At(lsn, _) | Ran::Joined(lsn, _) = ran {
                open.maybe_done |= writes;
                if let Some(entry) = self.outlet.clients.get_mut(&client) {
                    entry.seen = entry.seen.max(lsn);
                }
            }
            if matches!(ran, Ran::NeedsProof | Ran::NeedsRoom) {
                self.ledger.hold_from(seq);
            }
            if !self.settle(Origin::Local { seq }, ran) {
                return;
            }
        }
    }

    fn serve_remote(&mut self, terms: Terms) {
        for node in self.serving.remote.nodes() {
            self.serve_node(node, terms);
        }
    }

    /// Executes what waits of another node, for as long as there is room for the replies to it.
    fn serve_node(&mut self, node: NodeId, terms: Terms) {
        while let Some(Numbered { number, call }) = self.serving.remote.pop(node) {
            if self.outlet.is_full(node) {
                self.serving.remote.put_back(Numbered { number, call });
                self.serving.waits_for_replies = true;
                return;
            }
            let key = (node, call.client);
            let origin = Origin::Remote { node, seq: call.seq, round: call.round };
            let seen = self.serving.remote_seen.get(&key).copied().unwrap_or_default();
            let ran = call.work.execute(&mut self.engine, seen, number < self.serving.proven_remote, terms);
            if let Ran::At(lsn, _) | Ran::Joined(lsn, _) = ran {
                self.serving.remote_seen.insert(key, seen.max(lsn));
            }
            if matches!(ran, Ran::NeedsProof | Ran::NeedsRoom) {
                self.serving.remote.put_back(Numbered { number, call });
            }
            if !self.settle(origin, ran) {
                return;
            }
        }
    }

    /// Acts on what came of an execution; false if this way cannot go on in this turn.
    fn settle(&mut self, origin: Origin, ran: Ran) -> bool {
        let committed = self.engine.state.committed().lsn;
        match ran {
            Ran::Now(reply) => self.tell(origin, Outcome::Reply(reply), committed),
            Ran::At(lsn, reply) if lsn <= committed => self.tell(origin, Outcome::Reply(reply), committed),
            Ran::At(lsn, reply) => self.wait(Waiting { lsn, origin, then: Then::Tell(reply) }),
            Ran::Joined(lsn, identity) => {
                self.setting.metrics.duplicates.inc();
                self.wait(Waiting { lsn, origin, then: Then::Recall(identity) });
            }
            Ran::Unknown => self.tell(origin, Outcome::Unknown, committed),
            Ran::NeedsProof => {
                self.ask_for_proof();
                return false;
            }
            Ran::NeedsRoom => {
                // A commit, or the core's word, comes by itself; that the tree has caught up does not.
                self.look_again(self.now + ROOM_LOOK);
                return false;
            }
            Ran::Failed(error) => {
                self.fail(&crate::storage::chain(&error));
                return false;
            }
        }
        true
    }

    fn wait(&mut self, waiting: Waiting) {
        let lsn = self.serving.waiting.back().map_or(waiting.lsn, |last| last.lsn.max(waiting.lsn));
        self.serving.waiting.push_back(Waiting { lsn, ..waiting });
    }

    /// One round at a time, for everything that has arrived by now.
    fn ask_for_proof(&mut self) {
        if self.serving.round.is_some() {
            return;
        }
        self.serving.last_round += 1;
        let id = RequestId(self.serving.last_round);
        self.serving.round = Some(Round {
            id,
            local_before: self.ledger.next_number(),
            remote_before: self.serving.remote.next_number(),
        });
        self.setting.core.tell(Input::VerifyAsked { id });
    }

    /// A round is over.
    pub(super) fn verified(&mut self, upto: RequestId, at: Option<Lsn>) {
        let Some(round) = self.serving.round.take_if(|round| round.id <= upto) else { return };
        if at.is_some() {
            self.serving.proven_local = round.local_before;
            self.serving.proven_remote = round.remote_before;
        }
    }

    pub(super) fn propose(&mut self, tenure: Tenure) {
        while self.serving.in_flight.len() < PROPOSALS_MAX {
            let Some(block) = self.engine.state.take_block() else { return };
            self.serving.in_flight.push_back((block.first.plus(block.count).prev(), clock::now()));
            self.setting.core.tell(Input::Proposed {
                tenure,
                first: block.first,
                count: block.count,
                stamp_ms: block.stamp_ms,
                payload: Payload::new(&block.payload),
            });
        }
    }

    /// Lets go of the replies that a commit has freed.
    pub(super) fn release(&mut self) {
        let committed = self.engine.state.committed().lsn;
        self.step_clock(committed);
        while let Some((_, proposed_at)) = self.serving.in_flight.pop_front_if(|(lsn, _)| *lsn <= committed) {
            self.setting.metrics.commit_time.observe(clock::now().since(proposed_at));
        }
        while let Some(waiting) = self.serving.waiting.pop_front_if(|waiting| waiting.lsn <= committed) {
            let outcome = match waiting.then {
                Then::Tell(reply) => Outcome::Reply(reply),
                Then::Recall(identity) => self.engine.remembered(identity).map_or(Outcome::Unknown, Outcome::Reply),
            };
            self.tell(waiting.origin, outcome, waiting.lsn);
        }
        if self.serving.remote_seen.len() > REMOTE_SEEN_MAX {
            self.serving.remote_seen.retain(|_, seen| *seen > committed);
        }
    }

    /// Discards replies that wait for positions after `last`: their calls are executed again, here or elsewhere. Calls of
    /// this node's clients are still in the ledger; other nodes are told to send theirs again.
    pub(super) fn drop_waiting_after(&mut self, last: Lsn) {
        self.clock_step.take_if(|step| step.lsn > last);
        let kept = self.serving.waiting.partition_point(|waiting| waiting.lsn <= last);
        for waiting in self.serving.waiting.split_off(kept) {
            if let Origin::Remote { node, seq, round } = waiting.origin {
                self.outlet.answer(node, seq, ForwardedOutcome::NotServed);
                let behind = self.serving.remote.refuse(node, round);
                self.not_served(behind);
            }
        }
    }

    fn not_served(&mut self, calls: Vec<RemoteCall>) {
        for call in calls {
            self.outlet.answer(call.node, call.seq, ForwardedOutcome::NotServed);
        }
    }

    /// Takes in a call of another node: to execute it, or to hold it while nobody reigns.
    pub(super) fn take_remote(&mut self, call: RemoteCall) {
        let elsewhere = matches!(self.mode, Mode::Following(Some(_))) || self.fenced.is_some();
        let mut refused = Vec::new();
        if elsewhere {
            refused = self.serving.remote.refuse(call.node, call.round);
        }
        refused.extend(self.serving.remote.push(call));
        self.not_served(refused);
    }

    /// Another node reigns: calls that were sent here are sent there instead.
    pub(super) fn refuse_remote(&mut self) {
        let refused = self.serving.remote.refuse_all();
        self.not_served(refused);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_comes_back_is_told_no_replies_to_what_it_passed_on_before() {
        let origin = |node| Origin::Remote { node: NodeId(node), seq: 5, round: 1 };
        let waiting = |origin| Waiting { lsn: Lsn(9), origin, then: Then::Tell(Reply::ok()) };
        let mut serving = Serving::default();
        serving.waiting.extend([origin(2), Origin::Local { seq: 5 }, origin(3), origin(2)].map(waiting));
        serving.remote_seen.extend([((NodeId(2), 1), Lsn(9)), ((NodeId(3), 1), Lsn(9))]);
        serving.forget_node(NodeId(2));
        let kept: Vec<Origin> = serving.waiting.iter().map(|waiting| waiting.origin).collect();
        assert_eq!(kept, [Origin::Local { seq: 5 }, origin(3)], "its next process counts from the first again");
        assert_eq!(serving.remote_seen.keys().collect::<Vec<_>>(), [&(NodeId(3), 1)]);
    }
}
