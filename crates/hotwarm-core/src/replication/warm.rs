//! The node that follows: takes blocks, cuts what diverged, acknowledges what is durable (R10, R30, R31).

use crate::liveness::Candidacy;
use crate::node::{Role, cause};
use crate::register::Change;
use crate::requests::Purpose;
use crate::{FenceReason, Message, Node, Note, Output};
use alloc::vec::Vec;
use core::time::Duration;
use hotwarm_types::{Block, EntryId, Epoch, Instant, Lsn, Reign, StreamId};

/// Epochs named when a stream is opened: enough for the hot to find where the logs part, or to see that they part long ago.
const EPOCHS_NAMED_MAX: usize = 256;

/// A whole copy on the disk of a node that the register counts as in sync waits so long before it asks again.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// The stream that the hot feeds this node by.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Inbound {
    reign: Reign,
    stream: StreamId,
    /// This node's log is proven equal to the hot's up to here, in this stream.
    matched: Lsn,
    /// The commit position heard from the hot.
    heard: Lsn,
    acked: Lsn,
    /// The hot has been told once more where this log stands. Until a block fits, the others on their way are not
    /// worth a word: an answer to each would start the stream anew each time.
    retold: bool,
}

/// How far a snapshot is. The register is read before it is received, and again before it is installed (R31).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Stage {
    Offered,
    Receiving,
    /// All of it is on the disk, beside what the node holds.
    Received,
    /// It replaces state and log. Until the outcome is known this node has no log to speak of: it appends,
    /// acknowledges and commits nothing, and says of no stream where its log stands.
    Installing,
}

/// The snapshot of the present stream, or the one that is being installed.
#[derive(Clone, Debug, Hash)]
struct Copy {
    reign: Reign,
    stream: StreamId,
    at: EntryId,
    epochs: Vec<(Epoch, Lsn)>,
    stage: Stage,
    /// The register is not asked before.
    ask_at: Instant,
}

/// See the module.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Warm {
    pub(crate) inbound: Option<Inbound>,
    pub(crate) candidacy: Option<Candidacy>,
    /// Since when this node has wanted to stand and others still heard the hot (R22).
    pub(crate) deferring_since: Option<Instant>,
    /// It does not stand before.
    pub(crate) not_before: Instant,
    /// When it began to follow the present reign.
    pub(crate) since: Instant,
    copy: Option<Copy>,
}

impl Warm {
    fn is_installing(&self) -> bool {
        self.copy.as_ref().is_some_and(|copy| copy.stage == Stage::Installing)
    }
}

impl Node {
    /// The hot asks where this log stands.
    pub(crate) fn stream_asked(&mut self, now: Instant, reign: Reign, stream: StreamId) {
        self.observe_reign(now, reign);
        if self.observed.reign != Some(reign) || self.has_left() {
            return;
        }
        let Role::Warm(warm) = &mut self.role else { return };
        let (matched, heard, acked) = (Lsn::ZERO, Lsn::ZERO, Lsn::ZERO);
        warm.inbound = Some(Inbound { reign, stream, matched, heard, acked, retold: false });
        if warm.is_installing() {
            // The hot is told where this log stands once that is known.
            return;
        }
        // What has come by an older stream is not installed: the log may have been enough for this one.
        warm.copy = None;
        self.tell_log(reign, stream);
    }

    /// The hot's blocks do not follow on this log: it must look again.
    pub(crate) fn retell_log(&mut self) {
        let Role::Warm(Warm { inbound: Some(inbound), .. }) = &mut self.role else { return };
        if !core::mem::replace(&mut inbound.retold, true) {
            let (reign, stream) = (inbound.reign, inbound.stream);
            self.tell_log(reign, stream);
        }
    }

    fn tell_log(&mut self, reign: Reign, stream: StreamId) {
        let table = self.log.epochs();
        let epochs = table[table.len().saturating_sub(EPOCHS_NAMED_MAX)..].to_vec();
        let (end, committed) = (self.log.end(), self.log.committed());
        let Reign { epoch, node, incarnation } = reign;
        self.send(node, Message::StreamOpened { epoch, incarnation, stream, epochs, end, committed });
    }

    pub(crate) fn append(
        &mut self,
        now: Instant,
        reign: Reign,
        stream: StreamId,
        prev: EntryId,
        block: Block,
        committed: Lsn,
    ) {
        if !self.is_stream(reign, stream) || !self.is_trusted() || self.has_left() || self.is_installing() {
            return;
        }
        let follows = block.first == prev.lsn.next() && block.last >= block.first && block.epoch >= prev.epoch;
        if !follows || block.epoch > reign.epoch || self.log.epoch_at(prev.lsn) != Some(prev.epoch) {
            // The logs part before this block.
            self.retell_log();
            return;
        }
        let last = block.last;
        if self.log.epoch_at(block.first) == Some(block.epoch) {
            // Already here: in one epoch there is one sequence (INV-1).
            if last > self.log.end().lsn {
                self.retell_log();
                return;
            }
        } else {
            if self.log.is_inside_block(prev.lsn) {
                // No hot that follows the protocol asks for that.
                self.retell_log();
                return;
            }
            if self.log.end().lsn > prev.lsn && !self.cut_suffix(now, prev.lsn) {
                return;
            }
            let token = self.token();
            self.log.push(now, token, block.clone());
            self.emit(Output::AppendLog { token, block });
        }
        if let Role::Warm(Warm { inbound: Some(inbound), .. }) = &mut self.role {
            inbound.matched = inbound.matched.max(last);
            inbound.heard = inbound.heard.max(committed);
            inbound.retold = false;
        }
        self.acknowledge();
    }

    /// Cuts everything after `last`: the hot's entry there has another epoch, so ours never was, and never will be,
    /// committed (R30). `false` if the node fenced itself instead.
    fn cut_suffix(&mut self, now: Instant, last: Lsn) -> bool {
        let committed = self.log.committed();
        if last < committed {
            self.fence(FenceReason::DivergedBelowCommit { last, committed });
            return false;
        }
        let end = self.log.end();
        let token = self.token();
        self.log.cut(now, token, last);
        self.emit(Output::CutLog { token, last });
        self.note(Note::Cut { last, end });
        true
    }

    fn is_stream(&self, reign: Reign, stream: StreamId) -> bool {
        matches!(&self.role, Role::Warm(Warm { inbound: Some(i), .. }) if i.reign == reign && i.stream == stream)
    }

    /// Whether a snapshot is about to replace this node's log, or has done so and not been reported yet.
    pub(crate) fn is_installing(&self) -> bool {
        matches!(&self.role, Role::Warm(warm) if warm.is_installing())
    }

    /// Acknowledges min(matched, durable), and commits as far as that and the hot allow (R10).
    pub(crate) fn acknowledge(&mut self) {
        if self.is_installing() {
            // R10: what is durable now will be gone in a moment.
            return;
        }
        let (durable, seen) = (self.log.durable(), self.vote.epoch);
        let Role::Warm(Warm { inbound: Some(inbound), .. }) = &mut self.role else { return };
        if inbound.reign.epoch < seen {
            // INV-2: what comes from the disk late, too, is no longer owed to a reign that is over.
            return;
        }
        let reached = inbound.matched.min(durable);
        let committed = inbound.heard.min(reached);
        let Inbound { reign, stream, .. } = *inbound;
        let news = reached > inbound.acked;
        inbound.acked = inbound.acked.max(reached);
        if news && self.leaving.is_none() {
            let Reign { epoch, node, incarnation } = reign;
            self.send(node, Message::Ack { epoch, incarnation, stream, durable: reached });
        }
        if self.log.commit_upto(committed.max(self.log.committed())) {
            self.emit(Output::Commit { lsn: committed });
        }
    }

    /// The hot's commit position, told alone.
    pub(crate) fn commit_heard(&mut self, reign: Reign, stream: StreamId, committed: Lsn) {
        if self.is_stream(reign, stream) {
            self.heard_committed(reign, committed);
        }
    }

    /// The hot's commit position, from a beacon.
    pub(crate) fn heard_committed(&mut self, reign: Reign, committed: Lsn) {
        if let Role::Warm(Warm { inbound: Some(inbound), .. }) = &mut self.role
            && inbound.reign == reign
        {
            inbound.heard = inbound.heard.max(committed);
            self.acknowledge();
        }
    }

    /// This log does not reach the hot's. Before anything is discarded, the register says whether it may be (R31).
    pub(crate) fn snapshot_offered(
        &mut self,
        now: Instant,
        reign: Reign,
        stream: StreamId,
        at: EntryId,
        epochs: Vec<(Epoch, Lsn)>,
    ) {
        if !self.is_stream(reign, stream) || self.is_installing() {
            return;
        }
        let Role::Warm(warm) = &mut self.role else { return };
        warm.copy = Some(Copy { reign, stream, at, epochs, stage: Stage::Offered, ask_at: now });
        self.ask_to_discard(now);
    }

    /// Reads the register for a copy that waits for it; called again while the proposer is busy.
    pub(crate) fn ask_to_discard(&mut self, now: Instant) {
        if self.purpose.is_some() {
            return;
        }
        let Role::Warm(Warm { copy: Some(copy), .. }) = &self.role else { return };
        let waits = matches!(copy.stage, Stage::Offered | Stage::Received) && now >= copy.ask_at;
        if waits {
            let purpose = Purpose::Discard { stream: copy.stream };
            self.wish(now, purpose, None, Change::Read, cause("full_sync", ""));
        }
    }

    /// The register has been read: a node in sync keeps what it has; any other may be replaced.
    pub(crate) fn may_discard(&mut self, now: Instant, stream: StreamId) {
        let in_sync = match (&self.state, self.me) {
            (Some(state), Some(me)) => state.in_sync.contains(&me),
            _ => true,
        };
        let Role::Warm(warm) = &mut self.role else { return };
        let present = warm.inbound.as_ref().is_some_and(|inbound| inbound.stream == stream);
        let Some(copy) = warm.copy.as_mut().filter(|copy| copy.stream == stream) else { return };
        let (Reign { epoch, node, incarnation }, at) = (copy.reign, copy.at);
        match copy.stage {
            Stage::Receiving | Stage::Installing => {}
            Stage::Offered | Stage::Received if !present => warm.copy = None,
            // The hot offers again.
            Stage::Offered if in_sync => warm.copy = None,
            // The hot waits for the outcome, and removes this node from the set if it acknowledges nothing.
            Stage::Received if in_sync => copy.ask_at = now + ASK_AGAIN_AFTER,
            Stage::Offered => {
                copy.stage = Stage::Receiving;
                self.emit(Output::ReceiveSnapshot { from: node, stream, at });
                self.send(node, Message::SnapshotWanted { epoch, incarnation, stream });
            }
            Stage::Received => {
                copy.stage = Stage::Installing;
                self.emit(Output::InstallSnapshot { stream, at });
            }
        }
    }

    /// All of a snapshot is here. Only that of the present stream is of use, and only after another look (R31): since
    /// the first one this node may have caught up by another stream, and be counted on.
    pub(crate) fn snapshot_received(&mut self, now: Instant, stream: StreamId) {
        let Role::Warm(Warm { copy: Some(copy), .. }) = &mut self.role else { return };
        if copy.stream == stream && copy.stage == Stage::Receiving {
            copy.stage = Stage::Received;
            self.ask_to_discard(now);
        }
    }

    pub(crate) fn snapshot_installed(&mut self, stream: StreamId, at: EntryId) {
        let Some(copy) = self.end_installing(stream) else { return };
        assert!(copy.at == at, "R31: what was ordered is what was installed");
        self.log.reset(at, copy.epochs);
        self.applied = at.lsn;
        let Role::Warm(Warm { inbound: Some(inbound), .. }) = &mut self.role else { return };
        if inbound.stream == stream {
            inbound.matched = at.lsn;
            inbound.heard = at.lsn;
            inbound.acked = Lsn::ZERO;
            self.acknowledge();
        } else {
            let (reign, stream) = (inbound.reign, inbound.stream);
            self.tell_log(reign, stream);
        }
    }

    /// A snapshot could not be received or installed: what this node holds is what it held.
    pub(crate) fn snapshot_not_installed(&mut self, stream: StreamId) {
        if self.end_installing(stream).is_some() {
            let Role::Warm(Warm { inbound: Some(inbound), .. }) = &self.role else { return };
            let (reign, stream) = (inbound.reign, inbound.stream);
            self.tell_log(reign, stream);
            return;
        }
        if let Role::Warm(warm) = &mut self.role
            && warm.copy.as_ref().is_some_and(|copy| copy.stream == stream)
        {
            warm.copy = None;
        }
    }

    /// Takes the copy whose installation is over.
    fn end_installing(&mut self, stream: StreamId) -> Option<Copy> {
        let Role::Warm(warm) = &mut self.role else { return None };
        warm.copy.take_if(|copy| copy.stream == stream && copy.stage == Stage::Installing)
    }
}
