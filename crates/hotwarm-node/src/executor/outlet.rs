//! Where replies leave the executing thread: to the connections of this node, and to the nodes that sent calls on.
//!
//! Replies are gathered during a batch and handed over at its end, one lock and one wake-up for each connection, one
//! frame for each node. What does not fit the queue to a node waits here for the next turn; while it does, and while
//! very much is gathered, nothing more is executed for that node.

use super::forward::{ForwardedOutcome, ForwardedReply, encode_replies};
use super::lane::LaneId;
use super::work::ClientCall;
use crate::resp::LiveFront;
use crate::resp::outbox::{Delivery, Outbox, Outcome};
use crate::transport::{NotSent, Transport};
use bytes::{Bytes, BytesMut};
use hotwarm_resp::Reply;
use hotwarm_types::limits::FRAME_SIZE_BYTES_MAX;
use hotwarm_types::{Lsn, NodeId};
use hotwarm_wire::Frame;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

/// Replies in one frame, in bytes, past which another is begun.
const FRAME_SIZE_BYTES: usize = 1 << 20;

/// Replies to one node, in bytes, past which nothing more is executed for it in the same turn.
const GATHERED_SIZE_BYTES_MAX: usize = 16 << 20;

/// The largest reply that is passed on: the frame's header and its own take the rest.
const REPLY_SIZE_BYTES_MAX: usize = FRAME_SIZE_BYTES_MAX - 4096;

/// What is passed on in the place of a larger one.
const TOO_LARGE: &str = "ERR the command was executed, but its reply is too large to be passed on by another node";

/// A connection of this node, as the executing thread knows it.
#[derive(Debug)]
pub(super) struct Client {
    outbox: Arc<Outbox>,
    gathered: Vec<Delivery>,
    /// Says who may answer its reads.
    pub(super) front: Arc<LiveFront>,
    /// The lane of its writes, once it has written.
    pub(super) lane: Option<LaneId>,
    /// Calls that wait for the lane's session to be opened; empty unless one is being opened.
    pub(super) behind_lane: Vec<ClientCall>,
    /// The lane's session is being opened.
    pub(super) lane_opening: bool,
    /// How many of its calls are in the ledger.
    pub(super) open_count: usize,
    /// Its reads must include everything up to here: what it wrote, and what it has been shown.
    pub(super) seen: Lsn,
}

impl Client {
    pub(super) fn new(outbox: Arc<Outbox>, front: Arc<LiveFront>) -> Self {
        Self {
            outbox,
            gathered: Vec::new(),
            front,
            lane: None,
            behind_lane: Vec::new(),
            lane_opening: false,
            open_count: 0,
            seen: Lsn::ZERO,
        }
    }
}

/// Replies to calls that one node sent on.
#[derive(Debug, Default)]
struct Replies {
    gathered: Vec<ForwardedReply>,
    gathered_size_bytes: usize,
    /// Frames' worth of replies that were too many for the queue to the node, in order.
    unsent: VecDeque<Vec<ForwardedReply>>,
}

impl Replies {
    fn push(&mut self, reply: ForwardedReply) {
        self.gathered_size_bytes += size_bytes(&reply);
        self.gathered.push(reply);
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Outlet {
    transport: Arc<Transport>,
    pub(super) clients: HashMap<u64, Client>,
    /// Connections for which something was gathered.
    dirty: Vec<u64>,
    peers: BTreeMap<NodeId, Replies>,
    scratch: BytesMut,
    next_frame: u64,
}

impl Outlet {
    pub(super) fn new(transport: Arc<Transport>) -> Self {
        Self {
            transport,
            clients: HashMap::new(),
            dirty: Vec::new(),
            peers: BTreeMap::new(),
            scratch: BytesMut::new(),
            next_frame: 0,
        }
    }

    /// Gathers the end of a request of a connection; one that is gone hears nothing.
    pub(super) fn deliver(&mut self, client: u64, slot: u64, outcome: Outcome, seen: Lsn) {
        let Some(entry) = self.clients.get_mut(&client) else { return };
        if entry.gathered.is_empty() {
            self.dirty.push(client);
        }
        entry.seen = entry.seen.max(seen);
        entry.gathered.push(Delivery { slot, outcome, seen });
    }

    /// Gathers the reply to a call that another node sent on.
    pub(super) fn reply(&mut self, node: NodeId, seq: u64, reply: &Reply, seen: Lsn) {
        let mut bytes = self.encode(reply);
        if bytes.len() > REPLY_SIZE_BYTES_MAX {
            bytes = self.encode(&Reply::error(TOO_LARGE));
        }
        self.peers.entry(node).or_default().push(ForwardedReply { seq, seen, outcome: ForwardedOutcome::Done(bytes) });
    }

    /// Whether nothing more is to be executed for a node for now.
    pub(super) fn is_full(&self, node: NodeId) -> bool {
        let full = |peer: &Replies| !peer.unsent.is_empty() || peer.gathered_size_bytes >= GATHERED_SIZE_BYTES_MAX;
        self.peers.get(&node).is_some_and(full)
    }

    /// Whether replies wait for room in the queue to a node.
    pub(super) fn has_unsent(&self) -> bool {
        self.peers.values().any(|peer| !peer.unsent.is_empty())
    }

    /// The link to a node is down: it hands its calls over again when it is back.
    pub(super) fn forget(&mut self, node: NodeId) {
        self.peers.remove(&node);
    }

    /// Gathers another end of a call that another node sent on.
    pub(super) fn answer(&mut self, node: NodeId, seq: u64, outcome: ForwardedOutcome) {
        self.peers.entry(node).or_default().push(ForwardedReply { seq, seen: Lsn::ZERO, outcome });
    }

    /// A reply in the form that sessions remember and peers are sent.
    pub(super) fn encode(&mut self, reply: &Reply) -> Bytes {
        reply.encode(&mut self.scratch);
        self.scratch.split().freeze()
    }

    /// Hands over what was gathered.
    pub(super) fn flush(&mut self) {
        for client in self.dirty.drain(..) {
            if let Some(entry) = self.clients.get_mut(&client) {
                entry.outbox.deliver(&mut entry.gathered);
            }
        }
        let transport = &self.transport;
        let next_frame = &mut self.next_frame;
        self.peers.retain(|node, peer| {
            peer.gathered_size_bytes = 0;
            peer.unsent.extend(frames(std::mem::take(&mut peer.gathered)));
            while let Some(replies) = peer.unsent.front() {
                *next_frame += 1;
                let frame = Frame::ForwardReply { id: *next_frame, payload: encode_replies(replies) };
                match transport.send_frame(*node, frame) {
                    Ok(()) => drop(peer.unsent.pop_front()),
                    Err(NotSent::Full) => return true,
                    Err(error @ (NotSent::NoLink | NotSent::TooLarge { .. })) => {
                        // The node sends the calls again, under their identities, when the link is back.
                        tracing::debug!(peer = %node, %error, "replies to a peer were not sent");
                        return false;
                    }
                }
            }
            false
        });
    }
}

/// What a reply takes in a frame, about.
fn size_bytes(reply: &ForwardedReply) -> usize {
    match &reply.outcome {
        ForwardedOutcome::Done(bytes) => 32 + bytes.len(),
        ForwardedOutcome::NotServed | ForwardedOutcome::Unknown => 32,
    }
}

/// Cuts replies into frames of bounded size.
fn frames(replies: Vec<ForwardedReply>) -> Vec<Vec<ForwardedReply>> {
    let mut cut = Vec::new();
    let mut frame = Vec::new();
    let mut frame_bytes = 0;
    for reply in replies {
        let own_bytes = size_bytes(&reply);
        if !frame.is_empty() && frame_bytes + own_bytes > FRAME_SIZE_BYTES {
            cut.push(std::mem::take(&mut frame));
            frame_bytes = 0;
        }
        frame_bytes += own_bytes;
        frame.push(reply);
    }
    if !frame.is_empty() {
        cut.push(frame);
    }
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(size_bytes: usize) -> ForwardedReply {
        let outcome = ForwardedOutcome::Done(Bytes::from(vec![0; size_bytes]));
        ForwardedReply { seq: 1, seen: Lsn::ZERO, outcome }
    }

    #[test]
    fn frames_hold_all_replies_in_order_and_none_is_larger_than_a_frame_may_be() {
        let sizes = [10, FRAME_SIZE_BYTES, 20, REPLY_SIZE_BYTES_MAX, REPLY_SIZE_BYTES_MAX, 30];
        let cut = frames(sizes.iter().map(|size| reply(*size)).collect());
        assert_eq!(cut.concat(), sizes.iter().map(|size| reply(*size)).collect::<Vec<_>>());
        assert!(cut.iter().all(|frame| encode_replies(frame).len() <= FRAME_SIZE_BYTES_MAX));
    }
}
