//! The encoding of what messages and files are made of: identities, positions, and the group's state.
//!
//! The order of the fields is the format. Changing it, or a number of a variant, is a new version of the format; the
//! tests of `frame.rs` and `stored.rs` pin the bytes.

use crate::codec::{DecodeError, Reader, Wire, choice, record};
use hotwarm_core::Claims;
use hotwarm_core::register::{
    Ballot, Cause, ChangeKind, ChangeRecord, Durability, GroupState, Invitation, Member, MemberRole, Pause, ProposalId,
    Replication, Settings, Timing, Vote,
};
use hotwarm_types::{
    Block, BlockKind, ClusterId, EntryId, Epoch, FolderId, GroupId, Incarnation, Lsn, NodeId, Reign, SnapshotId,
    StreamId, Version,
};

record! {
    NodeId { 0 }
    Epoch { 0 }
    Lsn { 0 }
    Version { 0 }
    GroupId { 0 }
    StreamId { 0 }
    ClusterId { 0 }
    SnapshotId { 0 }
    FolderId { 0 }
    EntryId { epoch, lsn }
    Incarnation { start, nonce }
    Reign { epoch, node, incarnation }
    Ballot { counter, node, start }
    ProposalId { node, start, counter }
    Claims { incarnation, promised, epoch, durable }
}

choice!(BlockKind, "block" { 1 = EpochStart, 2 = Data });

impl Wire for Block {
    fn put(&self, out: &mut Vec<u8>) {
        self.kind.put(out);
        self.epoch.put(out);
        self.first.put(out);
        self.last.put(out);
        self.stamp_ms.put(out);
        self.payload.put(out);
    }

    /// A block's positions are checked here, so that nobody behind has to count from a first that follows its last.
    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let block = Self {
            kind: Wire::take(reader)?,
            epoch: Wire::take(reader)?,
            first: Wire::take(reader)?,
            last: Wire::take(reader)?,
            stamp_ms: Wire::take(reader)?,
            payload: Wire::take(reader)?,
        };
        if block.first == Lsn::ZERO || block.first > block.last {
            return Err(DecodeError::Value { what: "a block's first position is 0 or after its last" });
        }
        if block.last == Lsn(u64::MAX) {
            return Err(DecodeError::Value { what: "a block's last position has none after it" });
        }
        Ok(block)
    }
}

choice!(MemberRole, "member" { 1 = Data, 2 = Witness });
choice!(Replication, "replication" { 1 = Sync, 2 = Async { lag_bytes_max, lag_time_max } });
choice!(Durability, "durability" { 1 = Fsync, 2 = Interval });
choice!(ChangeKind, "change" {
    1 = Bootstrap,
    2 = Promote { from, to },
    3 = HandOver { from, to },
    4 = ForcePromote { from, to },
    5 = Shrink { node },
    6 = Grow { node },
    7 = Bump,
    8 = Invite { name },
    9 = Uninvite { name },
    10 = Admit { node, replaces },
    11 = Remove { node },
    12 = Settings,
    13 = Pause,
    14 = Resume,
});

record! {
    Member { name, folder, address, role, priority }
    Invitation { address, role, priority, replaces }
    Timing { beacon, shrink_after, lease, grace }
    Settings { replication, durability, min_copies, timing, text }
    Pause { length, reason }
    Cause { word, evidence }
    ChangeRecord { version, epoch, at_ms, by, kind, cause }
    GroupState {
        cluster, group, version, proposal, reign, lossy_epoch, in_sync, members, members_version, invited, next_node,
        settings, pause, changes,
    }
    Vote { promised, accepted, epoch, grace_granted, peers, committed, incarnation, settled }
}
