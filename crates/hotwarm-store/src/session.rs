//! Sessions: what makes a retry harmless (R34, INV-10).
//!
//! A session opens and expires by entries of the log, and so does everything that it remembers: on each node the
//! table is the same function of the committed log, and it travels in snapshots. Each session has a floor and, above
//! it, the replies of the operations that were applied. What is above the floor and not among the replies was never
//! applied; what is at or below the floor may have been, so it is "outcome unknown" and is never executed again. The
//! window is bounded by number and bytes; what falls out raises the floor.
//!
//! What this does not decide: when a session expires. The hot does, by [`SessionTable::idle`], and logs it.

use crate::effect::Identity;
use crate::key;
use crate::limits::{
    SESSION_IDLE_MS_MAX, SESSION_REPLIES_MAX, SESSION_REPLY_OVERHEAD_BYTES, SESSION_SIZE_BYTES_MAX, SESSIONS_MAX,
    SESSIONS_SIZE_BYTES_MAX,
};
use crate::tree::TreeError;
use bytes::Bytes;
use hotwarm_types::{Lsn, SessionId};
use std::collections::{BTreeMap, BTreeSet};

/// What is known of an operation that somebody asks for again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionAnswer {
    /// It was never applied: execute it.
    Fresh,
    /// It is applied at a position that is not committed: wait for it with the others, then ask again. If the
    /// position is taken back, ask again too.
    Pending {
        /// The position.
        lsn: Lsn,
    },
    /// It is applied and committed, and this was its reply.
    Done {
        /// The reply.
        reply: Bytes,
    },
    /// It may or may not have been applied; never execute it. The session is not open, or the operation is below its
    /// floor, or its reply was too long to be kept.
    Unknown,
}

/// The reply of an applied operation; `None` if it was too long to be kept.
pub(crate) type Reply = Option<Bytes>;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Session {
    floor: u64,
    last_used_ms: u64,
    replies: BTreeMap<u64, Reply>,
    replies_size_bytes: usize,
}

/// What the rows of one session must become: the part of the table that changed since the last feed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SessionChange {
    /// Rows of before are dropped first: the session expired (and may have been opened again).
    pub dropped: bool,
    /// Floor and time of last use; `None`: the session is not open.
    pub record: Option<(u64, u64)>,
    /// Replies that came, and sequences that fell out of the window.
    pub replies: BTreeMap<u64, Option<Reply>>,
}

/// Changes since the last feed, by session.
pub(crate) type SessionChanges = BTreeMap<SessionId, SessionChange>;

/// The open sessions of a group, as of one position of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionTable {
    sessions: BTreeMap<SessionId, Session>,
    /// Sessions by group time of last use.
    by_use: BTreeSet<(u64, SessionId)>,
    replies_size_bytes: usize,
}

fn cost(reply: &Reply) -> usize {
    SESSION_REPLY_OVERHEAD_BYTES + reply.as_ref().map_or(0, Bytes::len)
}

impl SessionTable {
    /// How many sessions are open.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Whether none is open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// Whether a session is open.
    #[must_use]
    pub fn is_open(&self, session: SessionId) -> bool {
        self.sessions.contains_key(&session)
    }

    /// What the committed log says of an operation; never `Pending`.
    #[must_use]
    pub fn answer(&self, identity: Identity) -> SessionAnswer {
        let Some(session) = self.sessions.get(&identity.session) else { return SessionAnswer::Unknown };
        match session.replies.get(&identity.sequence) {
            Some(Some(reply)) => SessionAnswer::Done { reply: reply.clone() },
            Some(None) => SessionAnswer::Unknown,
            None if identity.sequence <= session.floor => SessionAnswer::Unknown,
            None => SessionAnswer::Fresh,
        }
    }

    /// Up to `count` sessions that should expire at group time `now_ms`, longest idle first: those idle for more than
    /// [`SESSION_IDLE_MS_MAX`], and as many others as are in the way of `opening` more or of the bound on bytes.
    #[must_use]
    pub fn idle(&self, now_ms: u64, opening: usize, count: usize) -> Vec<SessionId> {
        let surplus = (self.len() + opening).saturating_sub(SESSIONS_MAX);
        let mut size_bytes = self.replies_size_bytes;
        let mut chosen = Vec::new();
        for (last_used_ms, session) in &self.by_use {
            let idle = now_ms.saturating_sub(*last_used_ms) > SESSION_IDLE_MS_MAX;
            let needed = chosen.len() < surplus || size_bytes > SESSIONS_SIZE_BYTES_MAX;
            if chosen.len() == count || !(idle || needed) {
                break;
            }
            size_bytes -= self.sessions.get(session).map_or(0, |session| session.replies_size_bytes);
            chosen.push(*session);
        }
        chosen
    }

    pub(crate) fn open(&mut self, id: SessionId, stamp_ms: u64, changes: &mut SessionChanges) {
        if self.is_open(id) {
            return;
        }
        self.sessions.insert(id, Session { last_used_ms: stamp_ms, ..Session::default() });
        self.by_use.insert((stamp_ms, id));
        changes.entry(id).or_default().record = Some((0, stamp_ms));
    }

    pub(crate) fn expire(&mut self, id: SessionId, changes: &mut SessionChanges) {
        let Some(session) = self.sessions.remove(&id) else { return };
        self.by_use.remove(&(session.last_used_ms, id));
        self.replies_size_bytes -= session.replies_size_bytes;
        changes.insert(id, SessionChange { dropped: true, ..SessionChange::default() });
    }

    /// Remembers the reply of an applied operation. Without an open session there is nothing to remember it in.
    pub(crate) fn record(&mut self, identity: Identity, reply: Reply, stamp_ms: u64, changes: &mut SessionChanges) {
        let id = identity.session;
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let change = changes.entry(id).or_default();
        let before = session.replies_size_bytes;
        if identity.sequence > session.floor {
            session.replies_size_bytes += cost(&reply);
            change.replies.insert(identity.sequence, Some(reply.clone()));
            if let Some(old) = session.replies.insert(identity.sequence, reply) {
                session.replies_size_bytes -= cost(&old);
            }
        }
        while session.replies.len() > SESSION_REPLIES_MAX || session.replies_size_bytes > SESSION_SIZE_BYTES_MAX {
            let Some((sequence, reply)) = session.replies.pop_first() else { break };
            session.replies_size_bytes -= cost(&reply);
            session.floor = sequence;
            change.replies.insert(sequence, None);
        }
        self.replies_size_bytes = self.replies_size_bytes - before + session.replies_size_bytes;
        if session.last_used_ms != stamp_ms {
            self.by_use.remove(&(session.last_used_ms, id));
            self.by_use.insert((stamp_ms, id));
            session.last_used_ms = stamp_ms;
        }
        change.record = Some((session.floor, stamp_ms));
    }

    /// Takes up a session from its row.
    pub(crate) fn restore(&mut self, row_key: &[u8], row: &[u8]) -> Result<(), TreeError> {
        let corrupt = TreeError::Corrupt { what: "a session" };
        let id = key::parse_session(row_key).ok_or(corrupt.clone())?;
        let (floor, last_used_ms) = parse_record(row).ok_or(corrupt)?;
        self.sessions.insert(id, Session { floor, last_used_ms, ..Session::default() });
        self.by_use.insert((last_used_ms, id));
        Ok(())
    }

    /// Takes up a reply from its row, after its session.
    pub(crate) fn restore_reply(&mut self, row_key: &[u8], row: &Bytes) -> Result<(), TreeError> {
        let corrupt = TreeError::Corrupt { what: "a session's reply" };
        let (id, sequence) = key::parse_reply(row_key).ok_or(corrupt.clone())?;
        let reply = parse_reply_row(row).ok_or(corrupt.clone())?;
        let session = self.sessions.get_mut(&id).ok_or(corrupt)?;
        session.replies_size_bytes += cost(&reply);
        self.replies_size_bytes += cost(&reply);
        session.replies.insert(sequence, reply);
        Ok(())
    }
}

pub(crate) fn record_row(floor: u64, last_used_ms: u64) -> Vec<u8> {
    let mut out = floor.to_le_bytes().to_vec();
    out.extend_from_slice(&last_used_ms.to_le_bytes());
    out
}

fn parse_record(row: &[u8]) -> Option<(u64, u64)> {
    let (floor, last_used_ms) = row.split_at_checked(8)?;
    Some((u64::from_le_bytes(floor.try_into().ok()?), u64::from_le_bytes(last_used_ms.try_into().ok()?)))
}

pub(crate) fn reply_row(reply: &Reply) -> Vec<u8> {
    let mut out = vec![u8::from(reply.is_some())];
    out.extend_from_slice(reply.as_deref().unwrap_or_default());
    out
}

fn parse_reply_row(row: &Bytes) -> Option<Reply> {
    match row.split_first()? {
        (0, []) => Some(None),
        (1, _) => Some(Some(crate::codec::owned(&row[1..]))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: SessionId = SessionId(7);

    fn identity(sequence: u64) -> Identity {
        Identity { session: ID, sequence }
    }

    fn ok() -> Reply {
        Some(Bytes::from_static(b"+OK\r\n"))
    }

    fn open() -> (SessionTable, SessionChanges) {
        let (mut table, mut changes) = (SessionTable::default(), SessionChanges::new());
        table.open(ID, 100, &mut changes);
        (table, changes)
    }

    #[test]
    fn a_session_that_is_not_open_never_executes() {
        let (mut table, mut changes) = open();
        assert_eq!(table.answer(identity(1)), SessionAnswer::Fresh);
        table.expire(ID, &mut changes);
        assert_eq!(table.answer(identity(1)), SessionAnswer::Unknown);
        table.record(identity(1), ok(), 200, &mut changes);
        assert_eq!(table, SessionTable::default(), "nothing is remembered for it");
        assert_eq!(changes[&ID], SessionChange { dropped: true, ..SessionChange::default() });
    }

    #[test]
    fn replies_are_repeated_in_any_order_of_sequences() {
        let (mut table, mut changes) = open();
        table.record(identity(5), ok(), 110, &mut changes);
        assert_eq!(table.answer(identity(4)), SessionAnswer::Fresh, "a gap was never applied");
        table.record(identity(4), None, 120, &mut changes);
        assert_eq!(table.answer(identity(4)), SessionAnswer::Unknown, "too long to be kept");
        assert_eq!(table.answer(identity(5)), SessionAnswer::Done { reply: Bytes::from_static(b"+OK\r\n") });
        table.open(ID, 130, &mut changes);
        assert!(matches!(table.answer(identity(5)), SessionAnswer::Done { .. }), "opening it again changes nothing");
    }

    #[test]
    fn what_falls_out_of_the_window_is_unknown_and_never_fresh() {
        let (mut table, mut changes) = open();
        let count = SESSION_REPLIES_MAX as u64 + 3;
        for sequence in 1..=count {
            table.record(identity(sequence), ok(), 100, &mut changes);
        }
        for sequence in 0..=3 {
            assert_eq!(table.answer(identity(sequence)), SessionAnswer::Unknown, "{sequence}");
        }
        assert!(matches!(table.answer(identity(4)), SessionAnswer::Done { .. }));
        assert_eq!(table.answer(identity(count + 1)), SessionAnswer::Fresh);
        table.record(identity(2), ok(), 100, &mut changes);
        assert_eq!(table.answer(identity(2)), SessionAnswer::Unknown, "a reply below the floor does not lower it");
        assert_eq!(changes[&ID].replies[&2], None);
    }

    #[test]
    fn the_window_is_bounded_in_bytes_too() {
        let (mut table, mut changes) = open();
        let long = Some(Bytes::from(vec![b'x'; 30 << 10]));
        for sequence in 1..=3 {
            table.record(identity(sequence), long.clone(), 100, &mut changes);
        }
        assert_eq!(table.answer(identity(1)), SessionAnswer::Unknown);
        assert!(matches!(table.answer(identity(2)), SessionAnswer::Done { .. }));
        assert!(table.replies_size_bytes <= SESSION_SIZE_BYTES_MAX);
    }

    #[test]
    fn the_longest_idle_expire_first_and_only_when_it_is_time_or_room_is_needed() {
        let (mut table, mut changes) = open();
        table.open(SessionId(1), 300, &mut changes);
        table.open(SessionId(2), 200, &mut changes);
        assert!(table.idle(300, 1, 10).is_empty());
        assert_eq!(table.idle(201 + SESSION_IDLE_MS_MAX, 0, 10), [ID, SessionId(2)]);
        assert_eq!(table.idle(201 + SESSION_IDLE_MS_MAX, 0, 1), [ID]);
        assert_eq!(table.idle(300, SESSIONS_MAX - 2, 10), [ID], "room for one more");
        table.record(identity(1), ok(), 400, &mut changes);
        assert_eq!(table.idle(300, SESSIONS_MAX - 2, 10), [SessionId(2)]);
    }

    #[test]
    fn rows_bring_the_same_table_back() {
        let (mut table, mut changes) = open();
        table.record(identity(1), ok(), 110, &mut changes);
        table.record(identity(9), None, 120, &mut changes);
        let mut restored = SessionTable::default();
        let change = &changes[&ID];
        let (floor, used) = change.record.unwrap();
        restored.restore(&key::session(ID), &record_row(floor, used)).unwrap();
        for (sequence, reply) in &change.replies {
            let row = Bytes::from(reply_row(reply.as_ref().unwrap()));
            restored.restore_reply(&key::reply(ID, *sequence), &row).unwrap();
        }
        assert_eq!(restored, table);
        assert!(restored.restore(&key::session(ID), b"short").is_err());
        assert!(restored.restore_reply(&key::reply(SessionId(1), 1), &Bytes::from_static(&[0])).is_err());
    }
}
