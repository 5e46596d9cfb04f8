//! Executes calls on the state, on the node that reigns: writes into the tail, reads of committed state.
//!
//! What may be answered, and when, is decided here and nowhere else; queues, clocks and the network are the node's, or the
//! simulator's. A write sees everything executed before it and is held until its position is committed. A reply that reveals
//! something without writing is held until what it looked at is committed (R33), and like a read it needs proof that
//! this node still reigns, since no acknowledgement proves it (INV-6). A read sees the committed state, but never one
//! from before its own connection's earlier write.

use crate::command::{self, Call, Context};
use crate::tree::TreeError;
use crate::{ExecuteError, Identity, SessionAnswer, State};
use bytes::{Bytes, BytesMut};
use hotwarm_resp::{Reply, ReplyLimits, ReplyParser};
use hotwarm_types::{Lsn, SessionId};

/// Sessions that one opening may expire to make room.
const EXPIRED_WITH_OPENING_MAX: usize = 4;

/// What holds for all work of one pass.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// Group time (R35).
    pub now_ms: u64,
    /// The lease held at a moment after everything in this pass arrived.
    pub lease: bool,
    /// Writes may be taken in.
    pub room: bool,
    /// The disk has room for what clients write.
    pub space: bool,
}

/// What came of executing something.
#[derive(Debug)]
pub enum Ran {
    /// The reply may leave at once.
    Now(Reply),
    /// The reply may leave when this position is committed (R33).
    At(Lsn, Reply),
    /// It is in the log already, under its identity, at this position: its reply is known when that is committed.
    Joined(Lsn, Identity),
    /// It may or may not have been carried out, and nobody can find out.
    Unknown,
    /// Nothing was executed: reads and replies without effects need proof of the reign first.
    NeedsProof,
    /// Nothing was executed: writes wait for room.
    NeedsRoom,
    /// The store failed: the node must be fenced (INV-9).
    Failed(TreeError),
}

/// The state, and what executing on it needs.
#[derive(Debug)]
pub struct Engine {
    /// The state; whoever orders its blocks and commits does so here.
    pub state: State,
    context: Context,
    scratch: BytesMut,
}

impl Engine {
    /// An engine that executes on `state`.
    #[must_use]
    pub fn new(state: State) -> Self {
        Self { state, context: Context::default(), scratch: BytesMut::new() }
    }

    /// A read of the committed view, for a node whose policy allows it whatever the hot does.
    ///
    /// # Errors
    /// [`TreeError`]: the node is to be fenced.
    pub fn read_local(&mut self, call: &Call) -> Result<Reply, TreeError> {
        let now_ms = self.state.committed_stamp_ms();
        let mut view = self.state.committed_view(now_ms);
        let reply = command::run(call, &self.context, &mut view);
        view.finish().map(|_| reply)
    }

    /// A linearizable read for a connection that has seen everything up to `seen`. `proven`: a round of proof began after it
    /// arrived (R19). `verify`: it needs that round, whatever the lease says.
    pub fn read(&mut self, call: &Call, verify: bool, seen: Lsn, proven: bool, terms: Terms) -> Ran {
        let proof = proven || (terms.lease && !verify);
        if !proof {
            return Ran::NeedsProof;
        }
        let committed = self.state.committed().lsn;
        let mut view = if seen > committed {
            self.state.view_at_least(terms.now_ms, seen)
        } else {
            self.state.committed_view(terms.now_ms)
        };
        let reply = command::run(call, &self.context, &mut view);
        match view.finish() {
            // Whoever is shown that a key has expired must be shown so for good: the removal goes into the log.
            Ok(found) if found.judged_expired => self.write(call, None, proof, terms),
            Ok(found) if found.leans_on_time && !terms.room => Ran::NeedsRoom,
            Ok(found) if found.leans_on_time => Ran::At(self.state.log_time(terms.now_ms), reply),
            Ok(found) if found.touched > committed => Ran::At(found.touched, reply),
            Ok(_) => Ran::Now(reply),
            Err(error) => Ran::Failed(error),
        }
    }

    /// A write that is carried out at most once under its identity (INV-10).
    pub fn write_once(&mut self, call: &Call, identity: Identity, proven: bool, terms: Terms) -> Ran {
        let proof = proven || terms.lease;
        match self.state.session(identity) {
            // Surely nothing of it has been carried out.
            SessionAnswer::Fresh if !terms.space => Ran::Now(disk_full()),
            SessionAnswer::Fresh => self.write(call, Some(identity), proof, terms),
            SessionAnswer::Pending { lsn } => Ran::Joined(lsn, identity),
            SessionAnswer::Done { reply } => decode_reply(&reply).map_or(Ran::Unknown, Ran::Now),
            SessionAnswer::Unknown => Ran::Unknown,
        }
    }

    fn write(&mut self, call: &Call, identity: Option<Identity>, proof: bool, terms: Terms) -> Ran {
        if !terms.room {
            return Ran::NeedsRoom;
        }
        let committed = self.state.committed().lsn;
        let mut execution = self.state.begin(terms.now_ms);
        let reply = command::run(call, &self.context, &mut execution);
        self.scratch.clear();
        reply.encode(&mut self.scratch);
        match execution.finish(identity, &self.scratch) {
            Ok(executed) => match executed.lsn {
                Some(lsn) => Ran::At(lsn, reply),
                None if !proof => Ran::NeedsProof,
                None if executed.touched > committed => Ran::At(executed.touched, reply),
                None => Ran::Now(reply),
            },
            Err(ExecuteError::Tree(error)) => Ran::Failed(error),
            Err(
                refused @ (ExecuteError::KeyTooLong { .. }
                | ExecuteError::ValueTooLong { .. }
                | ExecuteError::TooLarge { .. }),
            ) => Ran::Now(Reply::error(format!("ERR {refused}"))),
        }
    }

    /// Opens a session by an entry of the log, or finds it open; with `resume` it is never opened.
    pub fn open_session(&mut self, session: SessionId, resume: bool, proven: bool, terms: Terms) -> Ran {
        let proof = proven || terms.lease;
        if self.state.session_is_open(session) || resume {
            if !proof {
                return Ran::NeedsProof;
            }
            let open = self.state.session_is_open(session);
            let refusal = || Reply::error("ERR hotwarm session is not open: it has expired, or never was");
            // Perhaps by an entry that is not committed yet.
            return Ran::At(self.state.end(), if open { Reply::ok() } else { refusal() });
        }
        if !terms.room {
            return Ran::NeedsRoom;
        }
        let idle = self.state.idle_sessions(terms.now_ms, 1, EXPIRED_WITH_OPENING_MAX);
        let mut execution = self.state.begin(terms.now_ms);
        for session in idle {
            execution.expire_session(session);
        }
        execution.open_session(session);
        match execution.finish(None, b"") {
            Ok(executed) => Ran::At(executed.lsn.unwrap_or(executed.touched), Reply::ok()),
            Err(ExecuteError::Tree(error)) => Ran::Failed(error),
            Err(
                refused @ (ExecuteError::KeyTooLong { .. }
                | ExecuteError::ValueTooLong { .. }
                | ExecuteError::TooLarge { .. }),
            ) => Ran::Now(Reply::error(format!("ERR {refused}"))),
        }
    }

    /// The reply that a session remembers of a committed write; `None` if it remembers none.
    #[must_use]
    pub fn remembered(&self, identity: Identity) -> Option<Reply> {
        match self.state.session(identity) {
            SessionAnswer::Done { reply } => decode_reply(&reply),
            SessionAnswer::Fresh | SessionAnswer::Pending { .. } | SessionAnswer::Unknown => None,
        }
    }
}

/// The word that clients know from Redis for a disk that takes no writes.
fn disk_full() -> Reply {
    Reply::error(
        "MISCONF the hot node's disk is full: writes are refused and reads go on; free space under its data_dir, and \
         writes go on by themselves (\"hotwarm status\" names the node and the folder)",
    )
}

/// A reply back from the form that sessions and peers keep.
#[must_use]
pub fn decode_reply(bytes: &Bytes) -> Option<Reply> {
    let mut buffer = BytesMut::from(&bytes[..]);
    let reply = ReplyParser::new(ReplyLimits::default()).next(&mut buffer).ok().flatten();
    reply.filter(|_| buffer.is_empty())
}
