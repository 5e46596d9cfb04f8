//! What a node keeps of one client's connection between two requests.

use super::call::{Body, Call, Invocation, Watched};
use super::error::CommandError;
use super::limits::{CALL_SIZE_BYTES_MAX, QUEUED_MAX, WATCHED_MAX};
use super::server::Server;
use bytes::Bytes;
use hotwarm_resp::{Protocol, Reply, RequestLimits};
use hotwarm_types::{Lsn, SessionId};

/// Commands queued since MULTI.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    pub invocations: Vec<Invocation>,
    /// Bytes they take in a call.
    size_bytes: usize,
    /// A command was refused, so EXEC will do nothing.
    pub spoiled: bool,
}

/// The state of one connection. Only [`plan()`](super::plan()) and [`ClientState::watched`] change it.
#[derive(Debug)]
pub struct ClientState {
    /// Its number on this node, never used twice while the node runs.
    pub id: u64,
    /// Where it comes from: address and port.
    pub address: String,
    pub(crate) name: Bytes,
    pub(crate) library_name: Bytes,
    pub(crate) library_version: Bytes,
    pub(crate) protocol: Protocol,
    pub(crate) authenticated: bool,
    pub(crate) reads_warm: bool,
    pub(crate) session: Option<SessionId>,
    pub(crate) queue: Option<Queue>,
    pub(crate) watches: Vec<Watched>,
    /// The last command, for CLIENT LIST.
    pub(crate) last_command: &'static str,
}

impl ClientState {
    /// A connection that has just been accepted.
    #[must_use]
    pub fn new(id: u64, address: String) -> Self {
        Self {
            id,
            address,
            name: Bytes::new(),
            library_name: Bytes::new(),
            library_version: Bytes::new(),
            protocol: Protocol::Resp2,
            authenticated: false,
            reads_warm: false,
            session: None,
            queue: None,
            watches: Vec::new(),
            last_command: "NULL",
        }
    }

    /// The version in which the reply to the request planned last is to be written.
    #[must_use]
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Whether the client has said READONLY: its reads may be served by a warm node.
    #[must_use]
    pub fn reads_warm(&self) -> bool {
        self.reads_warm
    }

    /// The session that it has opened with HOTWARM SESSION.
    #[must_use]
    pub fn session(&self) -> Option<SessionId> {
        self.session
    }

    /// Whether it may call commands: it has authenticated, or nobody has to.
    #[must_use]
    pub fn is_admitted(&self, server: &dyn Server) -> bool {
        self.authenticated || !server.password_required()
    }

    /// What its next request may cost.
    #[must_use]
    pub fn limits(&self, server: &dyn Server) -> RequestLimits {
        if self.is_admitted(server) { RequestLimits::AUTHENTICATED } else { RequestLimits::UNAUTHENTICATED }
    }

    /// Takes the reply to a [`Plan::Watch`](super::Plan::Watch) and gives the one for the client. Between the plan and
    /// this, no other request of the client may be planned: it could be the EXEC that depends on it.
    pub fn watched(&mut self, call: &Call, reply: &Reply) -> Reply {
        let (Body::Watch(keys), Reply::Array(found)) = (&call.body, reply) else { return reply.clone() };
        let mut found = found.iter();
        for key in keys {
            if let (Some(Reply::Integer(version)), Some(Reply::Integer(live))) = (found.next(), found.next()) {
                let version = Lsn(version.cast_unsigned());
                self.watches.push(Watched { key: Bytes::copy_from_slice(key), version, live: *live != 0 });
            }
        }
        Reply::ok()
    }

    /// Describes the connection in one line, as CLIENT LIST and CLIENT INFO show it, without a line end.
    #[must_use]
    pub fn line(&self) -> String {
        let queued = self.queue.as_ref().map_or(-1, |queue| queue.invocations.len() as i64);
        let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
        format!(
            "id={} addr={} name={} db=0 sub=0 psub=0 multi={queued} watch={} cmd={} user=default resp={} lib-name={} \
             lib-ver={}",
            self.id,
            self.address,
            text(&self.name),
            self.watches.len(),
            self.last_command,
            self.protocol.number(),
            text(&self.library_name),
            text(&self.library_version),
        )
    }

    /// Queues a command for EXEC.
    pub(crate) fn enqueue(&mut self, invocation: Invocation) -> Result<(), CommandError> {
        let watched: usize = self.watches.iter().map(|watched| 13 + watched.key.len()).sum();
        let Some(queue) = &mut self.queue else { return Ok(()) };
        if queue.invocations.len() >= QUEUED_MAX {
            return Err(CommandError::TooManyQueued { limit: QUEUED_MAX });
        }
        let size_bytes = queue.size_bytes + invocation.size_bytes();
        if size_bytes + watched + 64 > CALL_SIZE_BYTES_MAX {
            return Err(CommandError::CallTooLarge { limit_bytes: CALL_SIZE_BYTES_MAX });
        }
        queue.size_bytes = size_bytes;
        queue.invocations.push(invocation);
        Ok(())
    }

    /// Makes EXEC do nothing, because a command of its transaction was refused.
    pub(crate) fn spoil(&mut self) {
        if let Some(queue) = &mut self.queue {
            queue.spoiled = true;
            // What can no longer run need not be kept.
            queue.invocations.clear();
            queue.size_bytes = 0;
        }
    }

    /// Makes sure that so many more keys may be watched.
    pub(crate) fn check_watches(&self, keys: &[Bytes]) -> Result<(), CommandError> {
        let size_bytes: usize =
            self.watches.iter().map(|watched| &watched.key).chain(keys).map(|key| 13 + key.len()).sum();
        if self.watches.len() + keys.len() > WATCHED_MAX {
            return Err(CommandError::TooManyWatched { limit: WATCHED_MAX });
        }
        if size_bytes > CALL_SIZE_BYTES_MAX / 2 {
            return Err(CommandError::CallTooLarge { limit_bytes: CALL_SIZE_BYTES_MAX / 2 });
        }
        Ok(())
    }

    /// Makes it as new, as RESET does; the description of its library stays.
    pub(crate) fn reset(&mut self) {
        let fresh = Self::new(self.id, std::mem::take(&mut self.address));
        *self = Self {
            library_name: std::mem::take(&mut self.library_name),
            library_version: std::mem::take(&mut self.library_version),
            ..fresh
        };
    }
}
