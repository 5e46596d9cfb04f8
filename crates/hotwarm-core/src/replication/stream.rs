//! Bringing one follower in step: where its log stands, what it is sent, what it has acknowledged.
//!
//! ```text
//!   idle --link ready--> opening --its log reaches ours--> streaming
//!                           |                                  ^
//!                           +--it does not--> snapshot: wanted, offered, receiving
//! ```
//!
//! A stream begins anew with every connection and every reign; what was acknowledged on an earlier one no longer
//! counts (R10).

use crate::node::Role;
use crate::register::MemberRole;
use crate::replication::pace::Pace;
use crate::replication::{Phase, last_common};
use crate::{Message, Node, Note, Output};
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;
use hotwarm_types::limits::{BLOCK_SIZE_BYTES_MAX, STREAM_WINDOW_SIZE_BYTES};
use hotwarm_types::{Block, EntryId, Epoch, Instant, Lsn, NodeId, StreamId, Token};

/// After this long without an answer a stream is opened again.
const OPEN_WAIT: Duration = Duration::from_secs(1);
/// After this long without progress, with something to acknowledge, likewise: something was lost on the way.
const PROGRESS_WAIT: Duration = Duration::from_secs(10);

#[derive(Clone, Debug, Hash)]
enum State {
    Idle,
    Opening { since: Instant },
    Streaming { next: Lsn },
    SnapshotWanted,
    SnapshotOffered { at: EntryId, since: Instant },
    SnapshotReceiving { at: EntryId },
}

/// What the hot knows of one other member.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Progress {
    pub(crate) stream: StreamId,
    state: State,
    /// Everything up to here is proven equal and durable there, in this stream (R10).
    pub(crate) acked: Lsn,
    /// The commit position it was told last.
    told: Lsn,
    /// Last position, size in bytes and time of sending of each block that it has not acknowledged, oldest first.
    in_flight: VecDeque<(Lsn, u64, Instant)>,
    in_flight_size_bytes: u64,
    reading: Option<Token>,
    moved_at: Instant,
    /// When it last answered a beacon.
    pub(crate) heard_at: Instant,
    /// The last of this hot's beacons that it answered (R23).
    pub(crate) echo: u64,
    /// The end of the lease that its last grant gives, and when the granted beacon was sent (R15).
    pub(crate) granted_until: Instant,
    pub(crate) granted_sent_at: Instant,
    pub(crate) leaving: bool,
    /// How often it left the in-sync set in this reign, and when it may return (R27).
    pub(crate) flaps: u32,
    pub(crate) may_grow_at: Instant,
    /// How fast it acknowledges while it is in sync (R26).
    pub(crate) pace: Pace,
}

impl Progress {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            stream: StreamId(0),
            state: State::Idle,
            acked: Lsn::ZERO,
            told: Lsn::ZERO,
            in_flight: VecDeque::new(),
            in_flight_size_bytes: 0,
            reading: None,
            moved_at: now,
            heard_at: now,
            echo: 0,
            granted_until: Instant(0),
            granted_sent_at: Instant(0),
            leaving: false,
            flaps: 0,
            may_grow_at: Instant(0),
            pace: Pace::default(),
        }
    }

    pub(crate) fn is_streaming(&self) -> bool {
        matches!(self.state, State::Streaming { .. })
    }

    /// The position of the snapshot it is being given.
    pub(crate) fn snapshot_at(&self) -> Option<EntryId> {
        match self.state {
            State::SnapshotOffered { at, .. } | State::SnapshotReceiving { at } => Some(at),
            State::Idle | State::Opening { .. } | State::Streaming { .. } | State::SnapshotWanted => None,
        }
    }

    fn wants_snapshot(&self) -> bool {
        matches!(self.state, State::SnapshotWanted) || self.snapshot_at().is_some()
    }

    fn begin(&mut self, now: Instant, stream: StreamId, state: State) {
        self.stream = stream;
        self.state = state;
        self.acked = Lsn::ZERO;
        self.told = Lsn::ZERO;
        self.in_flight.clear();
        self.in_flight_size_bytes = 0;
        self.reading = None;
        self.moved_at = now;
    }
}

impl Node {
    fn progress(&mut self, peer: NodeId) -> Option<&mut Progress> {
        match &mut self.role {
            Role::Hot(hot) => hot.followers.get_mut(&peer),
            Role::Outsider | Role::Warm(_) | Role::Witness => None,
        }
    }

    /// Begins a stream to a data member whose link is ready.
    pub(crate) fn open_stream(&mut self, now: Instant, peer: NodeId) {
        let ready = self.links.get(&peer).is_some_and(crate::identity::Link::is_ready);
        let data = self.member_role(peer) == Some(MemberRole::Data);
        self.drop_snapshot(peer);
        let Role::Hot(hot) = &mut self.role else { return };
        let progress = hot.followers.entry(peer).or_insert_with(|| Progress::new(now));
        if !ready || !data || hot.phase == Phase::Enthroned {
            return;
        }
        hot.next_stream += 1;
        let stream = StreamId(hot.next_stream);
        progress.begin(now, stream, State::Opening { since: now });
        let (epoch, incarnation) = (hot.reign.epoch, hot.reign.incarnation);
        self.send(peer, Message::OpenStream { epoch, incarnation, stream });
    }

    /// The connection is gone: what the follower acknowledged on it no longer counts.
    pub(crate) fn follower_lost(&mut self, now: Instant, peer: NodeId) {
        self.drop_snapshot(peer);
        if let Some(progress) = self.progress(peer) {
            let stream = progress.stream;
            progress.begin(now, stream, State::Idle);
            progress.leaving = false;
        }
    }

    /// The reign is over: nothing is sent on its streams any more.
    pub(crate) fn end_streams(&mut self) {
        for peer in self.others() {
            self.drop_snapshot(peer);
        }
    }

    fn drop_snapshot(&mut self, peer: NodeId) {
        if let Some(progress) = self.progress(peer).filter(|progress| progress.wants_snapshot()) {
            let stream = progress.stream;
            progress.state = State::Idle;
            self.emit(Output::DropSnapshot { stream });
        }
    }

    pub(crate) fn stream_opened(
        &mut self,
        now: Instant,
        from: NodeId,
        stream: StreamId,
        epochs: &[(Epoch, Lsn)],
        end: EntryId,
        committed: Lsn,
    ) {
        let common = last_common(self.log.epochs(), self.log.end().lsn, epochs, end.lsn);
        let floor = self.log.floor().lsn;
        let lossy = self.state.as_ref().is_some_and(|state| state.lossy_epoch.is_some());
        // Where there is nothing to send, the last block goes once more: only a block proves to the follower that its log
        // is ours (R10). A hot has its last block in memory, since it appended one itself.
        let again = self.log.last_first().filter(|_| common.lsn == self.log.end().lsn);
        let next = again.unwrap_or(common.lsn.next());
        let Some(progress) = self.progress(from) else { return };
        if progress.stream != stream || progress.wants_snapshot() {
            return;
        }
        // R30: a cut below the follower's own commit is for it to refuse, except where a reign began with a possible loss.
        if common.lsn < floor || (lossy && common.lsn < committed) {
            self.need_snapshot(from);
            return;
        }
        progress.begin(now, stream, State::Streaming { next });
        self.pump(now, from);
    }

    fn need_snapshot(&mut self, to: NodeId) {
        let Some(progress) = self.progress(to) else { return };
        progress.state = State::SnapshotWanted;
        let stream = progress.stream;
        self.note(Note::FullSync { to });
        self.emit(Output::MakeSnapshot { to, stream });
    }

    pub(crate) fn pump_all(&mut self, now: Instant) {
        let Role::Hot(hot) = &self.role else { return };
        let streaming: Vec<NodeId> =
            hot.followers.iter().filter(|(_, progress)| progress.is_streaming()).map(|(peer, _)| *peer).collect();
        for peer in streaming {
            self.pump(now, peer);
        }
    }

    /// Sends what fits into the follower's window.
    fn pump(&mut self, now: Instant, peer: NodeId) {
        loop {
            let (end, floor) = (self.log.end().lsn, self.log.floor().lsn);
            let Some(progress) = self.progress(peer) else { return };
            let State::Streaming { next } = progress.state else { return };
            let full = progress.in_flight_size_bytes >= STREAM_WINDOW_SIZE_BYTES;
            if next > end || full || progress.reading.is_some() {
                return;
            }
            if let Some(block) = self.log.tail_block(next).cloned() {
                self.send_block(now, peer, block);
            } else if next <= floor {
                self.need_snapshot(peer);
                return;
            } else {
                let token = self.token();
                if let Some(progress) = self.progress(peer) {
                    progress.reading = Some(token);
                }
                self.emit(Output::ReadLog { token, from: next, bytes_max: BLOCK_SIZE_BYTES_MAX as u64 });
                return;
            }
        }
    }

    fn send_block(&mut self, now: Instant, peer: NodeId, block: Block) {
        let before = block.first.prev();
        let prev = EntryId { epoch: self.log.epoch_at(before).unwrap_or_default(), lsn: before };
        let committed = self.log.committed();
        let Role::Hot(hot) = &mut self.role else { return };
        let Some(progress) = hot.followers.get_mut(&peer) else { return };
        if progress.in_flight.is_empty() {
            progress.moved_at = now;
        }
        progress.state = State::Streaming { next: block.last.next() };
        progress.in_flight.push_back((block.last, block.size_bytes(), now));
        progress.in_flight_size_bytes += block.size_bytes();
        progress.told = progress.told.max(committed);
        let (epoch, incarnation, stream) = (hot.reign.epoch, hot.reign.incarnation, progress.stream);
        self.send(peer, Message::Append { epoch, incarnation, stream, prev, block, committed });
    }

    /// Blocks for a follower that is too far behind for what is in memory.
    pub(crate) fn log_read(&mut self, now: Instant, token: Token, blocks: &[Block]) {
        let Role::Hot(hot) = &mut self.role else { return };
        let reader = hot.followers.iter_mut().find(|(_, progress)| progress.reading == Some(token));
        let Some((peer, progress)) = reader else { return };
        let peer = *peer;
        progress.reading = None;
        if blocks.is_empty() {
            self.need_snapshot(peer);
            return;
        }
        for block in blocks {
            let next = match self.progress(peer).map(|progress| &progress.state) {
                Some(State::Streaming { next }) => *next,
                _ => return,
            };
            if block.first == next && self.log.epoch_at(block.last) == Some(block.epoch) {
                self.send_block(now, peer, block.clone());
            }
        }
        self.pump(now, peer);
    }

    pub(crate) fn acked(&mut self, now: Instant, from: NodeId, stream: StreamId, durable: Lsn) {
        let end = self.log.end().lsn;
        let (compared, fastest, shrink_after) =
            (self.is_in_sync(from), self.fastest_but(from), self.timing().shrink_after);
        let Some(progress) = self.progress(from).filter(|progress| progress.stream == stream) else { return };
        if let State::SnapshotReceiving { at } = progress.state
            && durable == at.lsn
        {
            progress.state = State::Streaming { next: at.lsn.next() };
            self.emit(Output::DropSnapshot { stream });
        }
        let Some(progress) = self.progress(from).filter(|progress| progress.is_streaming()) else { return };
        if durable <= progress.acked || durable > end {
            return;
        }
        progress.acked = durable;
        progress.moved_at = now;
        while let Some((last, size_bytes, sent_at)) = progress.in_flight.front().copied() {
            if last > durable {
                break;
            }
            if compared {
                progress.pace.took(now, now.since(sent_at), fastest, shrink_after);
            }
            progress.in_flight.pop_front();
            progress.in_flight_size_bytes -= size_bytes;
        }
        self.advance_commit(now);
        self.pump(now, from);
        self.tell_commit();
    }

    fn is_in_sync(&self, node: NodeId) -> bool {
        self.state.as_ref().is_some_and(|state| state.in_sync.contains(&node))
    }

    /// What is usual for the fastest follower in sync other than `node`; `None`: there is none, or nothing is known.
    pub(crate) fn fastest_but(&self, node: NodeId) -> Option<Duration> {
        let Role::Hot(hot) = &self.role else { return None };
        let others = self.in_sync_others().into_iter().filter(|other| *other != node);
        others.filter_map(|other| hot.followers.get(&other)?.pace.usual()).min()
    }

    /// The commit position goes out alone to followers that no block is on its way to (R37).
    pub(crate) fn tell_commit(&mut self) {
        let committed = self.log.committed();
        let Role::Hot(hot) = &mut self.role else { return };
        let (epoch, incarnation) = (hot.reign.epoch, hot.reign.incarnation);
        let mut told = Vec::new();
        for (peer, progress) in &mut hot.followers {
            if progress.is_streaming() && progress.in_flight.is_empty() && progress.told < committed {
                progress.told = committed;
                told.push((*peer, progress.stream));
            }
        }
        for (peer, stream) in told {
            self.send(peer, Message::Commit { epoch, incarnation, stream, committed });
        }
    }

    /// Opens again what did not answer or does not move.
    pub(crate) fn tend_streams(&mut self, now: Instant) {
        for peer in self.ready_peers() {
            let Some(progress) = self.progress(peer) else {
                self.open_stream(now, peer);
                continue;
            };
            let stuck = match progress.state {
                State::Idle => true,
                State::Opening { since } => now.since(since) > OPEN_WAIT,
                State::Streaming { .. } => {
                    !progress.in_flight.is_empty() && now.since(progress.moved_at) > PROGRESS_WAIT
                }
                State::SnapshotWanted | State::SnapshotReceiving { .. } => false,
                State::SnapshotOffered { since, .. } => now.since(since) > PROGRESS_WAIT,
            };
            if stuck {
                self.open_stream(now, peer);
            }
        }
    }

    pub(crate) fn snapshot_made(&mut self, now: Instant, stream: StreamId, at: EntryId) {
        let epochs: Vec<(Epoch, Lsn)> =
            self.log.epochs().iter().copied().filter(|(_, first)| *first <= at.lsn).collect();
        let genuine = self.log.epoch_at(at.lsn) == Some(at.epoch) && at.lsn <= self.log.committed();
        let Role::Hot(hot) = &mut self.role else { return };
        let (epoch, incarnation) = (hot.reign.epoch, hot.reign.incarnation);
        let wanted = hot.followers.iter_mut().find(|(_, progress)| progress.stream == stream);
        let Some((peer, progress)) = wanted.filter(|(_, p)| matches!(p.state, State::SnapshotWanted)) else {
            self.emit(Output::DropSnapshot { stream });
            return;
        };
        assert!(genuine, "R32: a snapshot is of committed state of this log");
        progress.state = State::SnapshotOffered { at, since: now };
        let peer = *peer;
        self.send(peer, Message::OfferSnapshot { epoch, incarnation, stream, at, epochs });
    }

    pub(crate) fn snapshot_wanted(&mut self, from: NodeId, stream: StreamId) {
        let Some(progress) = self.progress(from).filter(|progress| progress.stream == stream) else { return };
        if let State::SnapshotOffered { at, .. } = progress.state {
            progress.state = State::SnapshotReceiving { at };
            self.emit(Output::SendSnapshot { to: from, stream });
        }
    }

    pub(crate) fn snapshot_failed(&mut self, now: Instant, stream: StreamId) {
        let Role::Hot(hot) = &self.role else { return };
        let failed = hot.followers.iter().find(|(_, progress)| progress.stream == stream && progress.wants_snapshot());
        if let Some(peer) = failed.map(|(peer, _)| *peer) {
            self.follower_lost(now, peer);
        }
    }

    /// The log must be kept after this position: the state machine has not applied it durably, or a follower that is
    /// being fed still needs it.
    #[must_use]
    pub fn retain_after(&self) -> Lsn {
        let mut after = self.applied.min(self.log.committed());
        if let Role::Hot(hot) = &self.role {
            for progress in hot.followers.values() {
                match progress.state {
                    State::Streaming { .. } => after = after.min(progress.acked),
                    State::SnapshotOffered { at, .. } | State::SnapshotReceiving { at } => after = after.min(at.lsn),
                    State::Idle | State::Opening { .. } | State::SnapshotWanted => {}
                }
            }
        }
        after
    }
}
