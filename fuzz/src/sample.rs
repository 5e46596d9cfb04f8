//! Examples of what nodes keep and tell each other: a small group with a bit of everything.

use hotwarm_core::register::{
    Ballot, Cause, ChangeKind, ChangeRecord, GroupState, Invitation, Member, MemberRole, Pause, ProposalId,
    Replication, Settings, Vote,
};
use hotwarm_core::{Claims, Grant, Message};
use hotwarm_types::{
    Block, BlockKind, ClusterId, EntryId, Epoch, FolderId, GroupId, Incarnation, Lsn, NodeId, Payload, Reign, StreamId,
    Version,
};
use std::time::Duration;

/// The cluster of every example.
pub(crate) const CLUSTER: ClusterId = ClusterId(0xc1);
/// The group of every example.
pub(crate) const GROUP: GroupId = GroupId(1);

const INCARNATION: Incarnation = Incarnation { start: 3, nonce: 9 };
const BALLOT: Ballot = Ballot { counter: 4, node: NodeId(2), start: 3 };

/// A configuration file that is used to the full.
pub(crate) const CONFIG: &str = r#"[cluster]
name = "shop"
profile = "lan"

[nodes]
a = { address = "10.0.0.1:7400", priority = 200 }
b = { address = "b.lan:7400" }
w = { address = "[::1]:7402", role = "witness" }

[local]
data_dir = "/var/lib/hotwarm"
tls_dir = "/etc/hotwarm/{node}"

[group.main]
replication = "async"
lag_max = { time = "300ms", bytes = "1 MiB" }
min_copies = 2

[front.redis]
protocol = "resp"
listen = "0.0.0.0:6379"
to = "main"
password_file = "/etc/hotwarm/password"
"#;

/// A data member.
pub(crate) fn member(name: &str, folder: u128, role: MemberRole) -> Member {
    Member { name: name.to_owned(), folder: FolderId(folder), address: format!("{name}.lan:7400"), role, priority: 100 }
}

/// A group of a, b and a witness, with an invitation, a pause and a history.
pub(crate) fn state() -> GroupState {
    let members = [
        (NodeId(1), member("a", 0xa, MemberRole::Data)),
        (NodeId(2), member("b", 0xb, MemberRole::Data)),
        (NodeId(3), member("w", 0xf, MemberRole::Witness)),
    ];
    let by = ProposalId { node: NodeId(1), start: 3, counter: 7 };
    let cause = |word: &str| Cause { word: word.to_owned(), evidence: "reaped".to_owned() };
    let change = |kind| ChangeRecord {
        version: Version(30),
        epoch: Epoch(7),
        at_ms: 1_700_000_000_000,
        by,
        kind,
        cause: cause("crash_attested"),
    };
    let invitation =
        Invitation { address: "c.lan:7400".to_owned(), role: MemberRole::Data, priority: 5, replaces: Some(NodeId(2)) };
    let async_replication = Replication::Async { lag_bytes_max: 1 << 20, lag_time_max: Duration::from_millis(300) };
    GroupState {
        cluster: CLUSTER,
        group: GROUP,
        version: Version(31),
        proposal: by,
        reign: Reign { epoch: Epoch(7), node: NodeId(1), incarnation: INCARNATION },
        lossy_epoch: Some(Epoch(2)),
        in_sync: [NodeId(1), NodeId(2)].into(),
        members: members.into(),
        members_version: Version(4),
        invited: [("c".to_owned(), invitation)].into(),
        next_node: NodeId(4),
        settings: Settings { replication: async_replication, text: "[cluster]\n".to_owned(), ..Settings::default() },
        pause: Some(Pause { length: Duration::from_secs(60), reason: "disk".to_owned() }),
        changes: [
            change(ChangeKind::Bootstrap),
            change(ChangeKind::Promote { from: NodeId(2), to: NodeId(1) }),
            change(ChangeKind::Invite { name: "c".to_owned() }),
            change(ChangeKind::Admit { node: NodeId(3), replaces: None }),
        ]
        .into(),
    }
}

/// What a node claims of its own memory.
pub(crate) fn claims() -> Claims {
    let durable = EntryId { epoch: Epoch(7), lsn: Lsn(40) };
    Claims { incarnation: INCARNATION, promised: BALLOT, epoch: Epoch(7), durable }
}

/// A vote record that has accepted a state and remembers a peer.
pub(crate) fn vote() -> Vote {
    Vote {
        promised: BALLOT,
        accepted: Some((BALLOT, state())),
        epoch: Epoch(7),
        grace_granted: Duration::from_millis(600),
        peers: [(NodeId(2), claims())].into(),
        committed: Lsn(40),
        incarnation: INCARNATION,
        settled: true,
    }
}

/// A block of data at one position.
pub(crate) fn block(epoch: u64, first: u64, payload: &[u8]) -> Block {
    let (epoch, first) = (Epoch(epoch), Lsn(first));
    Block { kind: BlockKind::Data, epoch, first, last: first, stamp_ms: 1_000, payload: Payload::new(payload) }
}

/// One message of each kind.
pub(crate) fn messages() -> Vec<(&'static str, Message)> {
    let (epoch, incarnation, stream, version) = (Epoch(7), INCARNATION, StreamId(5), Version(31));
    let (ballot, members_version, round, committed) = (BALLOT, Version(4), 6, Lsn(40));
    let (seq, candidacy, leaving) = (11, 12, false);
    let entry = EntryId { epoch, lsn: Lsn(40) };
    let epochs = vec![(Epoch(1), Lsn(1)), (epoch, Lsn(30))];
    let (lease, stalled, echo) = (Duration::from_millis(450), Duration::ZERO, 10);
    vec![
        ("hello", Message::Hello(claims())),
        ("hello-passed", Message::HelloPassed { version }),
        ("hello-refused", Message::HelloRefused { remembered: claims() }),
        ("prepare", Message::Prepare { ballot, members_version }),
        ("promise", Message::Promise { ballot, accepted: Some((ballot, state())) }),
        ("accept", Message::Accept { ballot, members_version, state: state() }),
        ("accepted", Message::Accepted { ballot }),
        ("refused", Message::Refused { ballot, promised: ballot, newer: Some(state()) }),
        ("announce", Message::Announce { state: state() }),
        ("ask-state", Message::AskState { version }),
        ("beacon", Message::Beacon { epoch, incarnation, seq, lease, version, committed, echo, stalled }),
        ("beacon-answer", Message::BeaconAnswer { epoch, incarnation, seq, grant: Grant::Granted, version, leaving }),
        ("poll", Message::Poll { candidacy, epoch }),
        ("poll-answer", Message::PollAnswer { candidacy, epoch, end: entry, hears_hot: true, version, leaving }),
        ("verify", Message::Verify { epoch, incarnation, round }),
        ("verified", Message::Verified { epoch, incarnation, round }),
        ("goodbye", Message::Goodbye { epoch }),
        ("open-stream", Message::OpenStream { epoch, incarnation, stream }),
        (
            "stream-opened",
            Message::StreamOpened { epoch, incarnation, stream, epochs: epochs.clone(), end: entry, committed },
        ),
        (
            "append",
            Message::Append { epoch, incarnation, stream, prev: entry, block: block(7, 41, b"payload"), committed },
        ),
        ("ack", Message::Ack { epoch, incarnation, stream, durable: Lsn(41) }),
        ("commit", Message::Commit { epoch, incarnation, stream, committed }),
        ("offer-snapshot", Message::OfferSnapshot { epoch, incarnation, stream, at: entry, epochs }),
        ("snapshot-wanted", Message::SnapshotWanted { epoch, incarnation, stream }),
    ]
}
