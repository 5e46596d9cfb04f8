//! What the register's tests share: a small group at its birth and after its bootstrap.

use hotwarm_core::register::{Cause, Change, GroupState, Member, MemberRole, ProposalId, Settings, Wish, apply};
use hotwarm_types::{ClusterId, Epoch, FolderId, GroupId, Incarnation, NodeId, Reign, Version};
use std::collections::{BTreeMap, VecDeque};

pub fn incarnation(start: u64) -> Incarnation {
    Incarnation { start, nonce: 7 }
}

fn member(name: &str, folder: u128) -> Member {
    Member {
        name: name.into(),
        folder: FolderId(folder),
        address: format!("{name}:7400"),
        role: MemberRole::Data,
        priority: 100,
    }
}

/// Members n1 a, n2 b, n3 c, all in sync, n1 hot in its first start.
pub fn birth() -> GroupState {
    let members: BTreeMap<NodeId, Member> =
        [(1, "a"), (2, "b"), (3, "c")].map(|(node, name)| (NodeId(node), member(name, u128::from(node)))).into();
    GroupState {
        cluster: ClusterId(1),
        group: GroupId(1),
        version: Version(0),
        proposal: ProposalId::default(),
        reign: Reign { epoch: Epoch(1), node: NodeId(1), incarnation: incarnation(1) },
        lossy_epoch: None,
        in_sync: members.keys().copied().collect(),
        members,
        members_version: Version(0),
        invited: BTreeMap::new(),
        next_node: NodeId(4),
        settings: Settings::default(),
        pause: None,
        changes: VecDeque::new(),
    }
}

/// A wish of a node's first start for any version.
pub fn wish(node: u16, counter: u64, change: Change) -> Wish {
    let id = ProposalId { node: NodeId(node), start: 1, counter };
    Wish { id, expected: None, change, cause: Cause::default(), at_ms: 0 }
}

/// The first version of the group.
pub fn bootstrapped() -> GroupState {
    apply(None, &wish(1, 1, Change::Bootstrap(Box::new(birth())))).expect("the birth state is whole")
}
