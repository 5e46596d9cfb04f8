//! Executes work on the state, on the node that reigns: writes into the tail, reads of committed state.
//!
//! A write sees everything executed before it and is held until its position is committed. A reply that reveals
//! something without writing is held until what it looked at is committed (R33), and like a read it needs proof that
//! this node still reigns, since no acknowledgement proves it (INV-6). A read sees the committed state, but never one
//! from before its own connection's earlier write.

use super::work::{Ran, Work};
use crate::storage::chain;
use bytes::{Bytes, BytesMut};
use hotwarm_resp::{Reply, ReplyLimits, ReplyParser};
use hotwarm_store::command::{self, Call, Context};
use hotwarm_store::{ExecuteError, Identity, SessionAnswer, State};
use hotwarm_types::{Lsn, SessionId};

/// Sessions that one opening may expire to make room.
const EXPIRED_WITH_OPENING_MAX: usize = 4;

/// What holds for all work of one pass.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// Group time (R35).
    pub(super) now_ms: u64,
    /// The lease held at a moment after everything in this pass arrived.
    pub(super) lease: bool,
    /// Writes may be taken in.
    pub(super) room: bool,
    /// The disk has room for what clients write.
    pub(super) space: bool,
}

/// The state, and what executing on it needs.
#[derive(Debug)]
pub(super) struct Engine {
    pub(super) state: State,
    context: Context,
    scratch: BytesMut,
}

impl Engine {
    pub(super) fn new(state: State) -> Self {
        Self { state, context: Context::default(), scratch: BytesMut::new() }
    }

    /// Executes `work` for a connection that has seen everything up to `seen`. `proven`: a round of proof began after it
    /// arrived (R19).
    pub(super) fn execute(&mut self, work: &Work, seen: Lsn, proven: bool, terms: Terms) -> Ran {
        let proof = proven || terms.lease;
        match work {
            Work::Read { call, verify } => self.read(call, seen, proven || (proof && !verify), terms),
            Work::Write { call, identity, .. } => self.write_once(call, *identity, proof, terms),
            Work::Session { session, resume, .. } => self.open_session(*session, *resume, proof, terms),
        }
    }

    /// A read of the committed view, for a node whose policy allows it whatever the hot does.
    pub(super) fn read_local(&mut self, call: &Call) -> Result<Reply, String> {
        let now_ms = self.state.committed_stamp_ms();
        let mut view = self.state.committed_view(now_ms);
        let reply = command::run(call, &self.context, &mut view);
        view.finish().map(|_| reply).map_err(|error| chain(&error))
    }

    fn read(&mut self, call: &Call, seen: Lsn, proof: bool, terms: Terms) -> Ran {
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
            Err(error) => Ran::Failed(chain(&error)),
        }
    }

    /// A write that is carried out at most once under its identity (INV-10).
    fn write_once(&mut self, call: &Call, identity: Identity, proof: bool, terms: Terms) -> Ran {
        match self.state.session(identity) {
            // Surely nothing of it has been carried out.
            SessionAnswer::Fresh if !terms.space => Ran::Now(disk_full()),
            SessionAnswer::Fresh => self.write(call, Some(identity), proof, terms),
            SessionAnswer::Pending { lsn } => Ran::Joined(lsn, identity),
            SessionAnswer::Done { reply } => decode(&reply).map_or(Ran::Unknown, Ran::Now),
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
            Err(ExecuteError::Tree(error)) => Ran::Failed(chain(&error)),
            Err(
                refused @ (ExecuteError::KeyTooLong { .. }
                | ExecuteError::ValueTooLong { .. }
                | ExecuteError::TooLarge { .. }),
            ) => Ran::Now(Reply::error(format!("ERR {refused}"))),
        }
    }

    fn open_session(&mut self, session: SessionId, resume: bool, proof: bool, terms: Terms) -> Ran {
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
            Err(error) => Ran::Failed(chain(&error)),
        }
    }

    /// The reply that a session remembers of a committed write; `None` if it remembers none.
    pub(super) fn remembered(&self, identity: Identity) -> Option<Reply> {
        match self.state.session(identity) {
            SessionAnswer::Done { reply } => decode(&reply),
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
pub(super) fn decode(bytes: &Bytes) -> Option<Reply> {
    let mut buffer = BytesMut::from(&bytes[..]);
    let reply = ReplyParser::new(ReplyLimits::default()).next(&mut buffer).ok().flatten();
    reply.filter(|_| buffer.is_empty())
}
