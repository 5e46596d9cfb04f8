//! While another node reigns: sending calls on to it, and passing its replies back.
//!
//! Calls are sent in their order, many to a frame, within a window (R37). A call is open until its reply is here, so
//! whatever was under way when the hot changed, or when the connection to it broke, is sent again under its identity.
//! Reads that the front's policy lets any node answer are answered here.

use super::forward::{ForwardedCall, ForwardedOutcome, ForwardedWork, decode_calls, decode_replies, encode_calls};
use super::work::{RemoteCall, Work};
use super::{Executor, Mode};
use crate::config::Reads;
use crate::resp::outbox::Outcome;
use bytes::Bytes;
use hotwarm_resp::Reply;
use hotwarm_store::command::{Call, DecodeError};
use hotwarm_store::decode_reply;
use hotwarm_types::limits::FRAME_SIZE_BYTES_MAX;
use hotwarm_types::{Instant, Lsn, NodeId, Reign};
use hotwarm_wire::Frame;
use std::time::Duration;

/// Calls that may be with the hot at once.
const WINDOW_COUNT: usize = 8_192;

/// Calls in one frame, in bytes, past which another is begun.
const FRAME_SIZE_BYTES: usize = 1 << 20;

/// The largest call that is sent on: the frame's header and its own take the rest.
const CALL_SIZE_BYTES_MAX: usize = FRAME_SIZE_BYTES_MAX - 4096;

/// After calls were not served, or could not be sent, for how long before they are sent again. A new hot needs some
/// milliseconds between its election and its first command.
const RESEND_AFTER: Duration = Duration::from_millis(5);

/// How this node's calls are with the hot.
#[derive(Debug, Default)]
pub(super) struct Forwarding {
    /// Grows whenever all open calls are handed over again, so that the hot can tell what it has refused.
    pub(super) round: u64,
    /// When all open calls are sent again, because some were not served.
    pub(super) resend_at: Option<Instant>,
    /// When sending goes on, because the queue to the hot was full.
    pub(super) go_on_at: Option<Instant>,
}

impl Executor {
    /// Sends held calls on, as far as the window allows.
    pub(super) fn send_on(&mut self, hot: Reign) {
        let paused = self.forwarding.resend_at.is_some() || self.forwarding.go_on_at.is_some();
        while self.links.contains(&hot.node) && !paused && self.ledger.handed_count() < WINDOW_COUNT {
            let (first, calls, too_large) = self.next_frame();
            for seq in too_large {
                self.end(
                    seq,
                    Outcome::Reply(Reply::error("ERR the command is too large to be passed on to the hot")),
                    Lsn::ZERO,
                );
            }
            let Some(first) = first else { return };
            let frame = Frame::Forward { round: self.forwarding.round, payload: encode_calls(&calls) };
            if self.setting.transport.send_frame(hot.node, frame).is_err() {
                // What is before it is on its way and stays there.
                self.ledger.hold_from(first);
                self.forwarding.go_on_at = Some(self.now + RESEND_AFTER);
                return;
            }
            self.setting.metrics.forwarded.add(calls.len() as u64);
            for call in calls {
                if let Some(open) = self.ledger.find(call.seq) {
                    open.maybe_done |= open.call.writes();
                }
            }
        }
    }

    /// The next calls that fit one frame, the number of the first one, and the calls that fit none.
    fn next_frame(&mut self) -> (Option<u64>, Vec<ForwardedCall>, Vec<u64>) {
        let mut calls: Vec<ForwardedCall> = Vec::new();
        let mut too_large = Vec::new();
        let mut size_bytes = 0;
        let room = WINDOW_COUNT - self.ledger.handed_count();
        while calls.len() < room && size_bytes < FRAME_SIZE_BYTES {
            let Some((seq, open)) = self.ledger.advance() else { break };
            if open.size_bytes > CALL_SIZE_BYTES_MAX {
                too_large.push(seq);
                continue;
            }
            if size_bytes > 0 && size_bytes + open.size_bytes > CALL_SIZE_BYTES_MAX {
                self.ledger.hold_from(seq);
                break;
            }
            size_bytes += open.size_bytes;
            let work = match &open.call {
                Work::Read { call, verify } => ForwardedWork::Read { verify: *verify, call: call.encode() },
                Work::Write { call, identity, .. } => ForwardedWork::Write { identity: *identity, call: call.encode() },
                Work::Session { session, resume, .. } => ForwardedWork::Session { session: *session, resume: *resume },
            };
            calls.push(ForwardedCall { seq, client: open.client, work });
        }
        (calls.first().map(|call| call.seq), calls, too_large)
    }

    /// Calls of another node.
    pub(super) fn forwarded(&mut self, from: NodeId, round: u64, payload: Bytes) {
        let calls = match decode_calls(payload) {
            Ok(calls) => calls,
            Err(error) => {
                tracing::warn!(event = "forward_malformed", peer = %from, %error, "calls of a peer cannot be read");
                return;
            }
        };
        for ForwardedCall { seq, client, work } in calls {
            match read_work(work) {
                Ok(work) => self.take_remote(RemoteCall { node: from, seq, round, client, work }),
                Err(error) => {
                    // Nothing was executed: a command that this program does not know.
                    let reply = Reply::error(format!("ERR the hot cannot read the command: {error}"));
                    self.outlet.reply(from, seq, &reply, Lsn::ZERO);
                }
            }
        }
    }

    /// Replies of a hot to calls that were sent on to it. Whoever sends them, and when: a reply to a call that is still open
    /// is true, since a hot lets none go before it is.
    pub(super) fn replies(&mut self, from: NodeId, payload: Bytes) {
        let replies = match decode_replies(payload) {
            Ok(replies) => replies,
            Err(error) => {
                tracing::warn!(event = "forward_malformed", peer = %from, %error, "replies of a peer cannot be read");
                return;
            }
        };
        for reply in replies {
            match reply.outcome {
                ForwardedOutcome::Done(bytes) => {
                    let outcome = decode_reply(&bytes).map_or(Outcome::Unknown, Outcome::Reply);
                    self.answered(reply.seq, outcome, reply.seen);
                }
                ForwardedOutcome::Unknown => self.answered(reply.seq, Outcome::Unknown, Lsn::ZERO),
                ForwardedOutcome::NotServed => {
                    if matches!(self.mode, Mode::Following(Some(hot)) if hot.node == from) {
                        self.forwarding.resend_at.get_or_insert(self.now + RESEND_AFTER);
                    }
                }
            }
        }
    }

    fn answered(&mut self, seq: u64, outcome: Outcome, seen: Lsn) {
        if self.ledger.find(seq).is_some() {
            self.end(seq, outcome, seen);
        }
    }

    /// Answers a read here, if the front's policy allows it and nothing of the connection is under way that it must come
    /// after. True if it was answered.
    pub(super) fn read_here(&mut self, client: u64, slot: u64, call: &Call, anywhere: bool) -> bool {
        let Some(entry) = self.outlet.clients.get(&client) else { return false };
        let current = self.engine.state.committed().lsn >= entry.seen;
        let allowed = match entry.front.reads() {
            Reads::Any => true,
            Reads::Session => current,
            Reads::Hot | Reads::Verified => anywhere && current,
        };
        let serving = matches!(self.mode, Mode::Serving(_));
        if !allowed || serving || entry.open_count > 0 || !self.setting.holds_data {
            return false;
        }
        let seen = self.engine.state.committed().lsn;
        match self.engine.read_local(call) {
            Ok(reply) => self.outlet.deliver(client, slot, Outcome::Reply(reply), seen),
            Err(error) => {
                self.fail(&crate::storage::chain(&error));
                return false;
            }
        }
        true
    }
}

/// What another node asks, read back.
fn read_work(work: ForwardedWork) -> Result<Work, DecodeError> {
    Ok(match work {
        ForwardedWork::Session { session, resume } => Work::Session { session, resume, lane: None },
        ForwardedWork::Read { verify, call } => Work::Read { call: Call::decode(&call)?, verify },
        ForwardedWork::Write { identity, call } => Work::Write { call: Call::decode(&call)?, identity, lane: None },
    })
}
