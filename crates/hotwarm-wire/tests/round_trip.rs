//! What is encoded is decoded to the same; what is cut short, damaged or made up is refused with an error. Guards INV-12.

use hotwarm_core::register::{
    Ballot, Cause, ChangeKind, ChangeRecord, Durability, GroupState, Invitation, Member, MemberRole, Pause, ProposalId,
    Replication, Settings, Timing, Vote,
};
use hotwarm_core::{Claims, Grant, Message};
use hotwarm_types::limits::{CHANGES_KEPT, MEMBERS_MAX, NAME_SIZE_BYTES_MAX, STATE_SIZE_BYTES_MAX};
use hotwarm_types::{
    Block, BlockKind, ClusterId, EntryId, Epoch, FolderId, GroupId, Incarnation, Lsn, NodeId, Payload, Reign,
    SnapshotId, StreamId, Version,
};
use hotwarm_wire::{
    DecodeError, Frame, FrameHeader, FrontAddress, Hello, Purpose, Refusal, RefusalReason, decode_state, decode_vote,
    encode_state, encode_vote,
};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use std::time::Duration;

fn epoch() -> impl Strategy<Value = Epoch> {
    any::<u64>().prop_map(Epoch)
}

fn lsn() -> impl Strategy<Value = Lsn> {
    any::<u64>().prop_map(Lsn)
}

fn version() -> impl Strategy<Value = Version> {
    any::<u64>().prop_map(Version)
}

fn node() -> impl Strategy<Value = NodeId> {
    any::<u16>().prop_map(NodeId)
}

fn stream() -> impl Strategy<Value = StreamId> {
    any::<u64>().prop_map(StreamId)
}

fn length() -> impl Strategy<Value = Duration> {
    any::<u64>().prop_map(Duration::from_nanos)
}

fn incarnation() -> impl Strategy<Value = Incarnation> {
    any::<(u64, u64)>().prop_map(|(start, nonce)| Incarnation { start, nonce })
}

fn entry() -> impl Strategy<Value = EntryId> {
    (epoch(), lsn()).prop_map(|(epoch, lsn)| EntryId { epoch, lsn })
}

fn ballot() -> impl Strategy<Value = Ballot> {
    (any::<u64>(), node(), any::<u64>()).prop_map(|(counter, node, start)| Ballot { counter, node, start })
}

fn proposal() -> impl Strategy<Value = ProposalId> {
    (node(), any::<u64>(), any::<u64>()).prop_map(|(node, start, counter)| ProposalId { node, start, counter })
}

fn claims() -> impl Strategy<Value = Claims> {
    (incarnation(), ballot(), epoch(), entry()).prop_map(|(incarnation, promised, epoch, durable)| Claims {
        incarnation,
        promised,
        epoch,
        durable,
    })
}

fn role() -> impl Strategy<Value = MemberRole> {
    prop_oneof![Just(MemberRole::Data), Just(MemberRole::Witness)]
}

fn member() -> impl Strategy<Value = Member> {
    (".{0,20}", any::<u128>(), ".{0,20}", role(), any::<u16>()).prop_map(|(name, folder, address, role, priority)| {
        Member { name, folder: FolderId(folder), address, role, priority }
    })
}

fn invitation() -> impl Strategy<Value = Invitation> {
    (".{0,20}", role(), any::<u16>(), option::of(node())).prop_map(|(address, role, priority, replaces)| Invitation {
        address,
        role,
        priority,
        replaces,
    })
}

fn settings() -> impl Strategy<Value = Settings> {
    let replication = prop_oneof![
        Just(Replication::Sync),
        (any::<u64>(), length())
            .prop_map(|(lag_bytes_max, lag_time_max)| Replication::Async { lag_bytes_max, lag_time_max }),
    ];
    let durability = prop_oneof![Just(Durability::Fsync), Just(Durability::Interval)];
    let timing = (length(), length(), length(), length()).prop_map(|(beacon, shrink_after, lease, grace)| Timing {
        beacon,
        shrink_after,
        lease,
        grace,
    });
    (replication, durability, any::<u8>(), timing, ".{0,200}").prop_map(
        |(replication, durability, min_copies, timing, text)| Settings {
            replication,
            durability,
            min_copies,
            timing,
            text,
        },
    )
}

fn change_kind() -> impl Strategy<Value = ChangeKind> {
    prop_oneof![
        Just(ChangeKind::Bootstrap),
        (node(), node()).prop_map(|(from, to)| ChangeKind::Promote { from, to }),
        (node(), node()).prop_map(|(from, to)| ChangeKind::HandOver { from, to }),
        (node(), node()).prop_map(|(from, to)| ChangeKind::ForcePromote { from, to }),
        node().prop_map(|node| ChangeKind::Shrink { node }),
        node().prop_map(|node| ChangeKind::Grow { node }),
        Just(ChangeKind::Bump),
        ".{0,20}".prop_map(|name| ChangeKind::Invite { name }),
        ".{0,20}".prop_map(|name| ChangeKind::Uninvite { name }),
        (node(), option::of(node())).prop_map(|(node, replaces)| ChangeKind::Admit { node, replaces }),
        node().prop_map(|node| ChangeKind::Remove { node }),
        Just(ChangeKind::Settings),
        Just(ChangeKind::Pause),
        Just(ChangeKind::Resume),
    ]
}

fn change() -> impl Strategy<Value = ChangeRecord> {
    let cause = (".{0,20}", ".{0,60}").prop_map(|(word, evidence)| Cause { word, evidence });
    (version(), epoch(), any::<u64>(), proposal(), change_kind(), cause)
        .prop_map(|(version, epoch, at_ms, by, kind, cause)| ChangeRecord { version, epoch, at_ms, by, kind, cause })
}

fn state() -> impl Strategy<Value = GroupState> {
    let reign =
        (epoch(), node(), incarnation()).prop_map(|(epoch, node, incarnation)| Reign { epoch, node, incarnation });
    let pause = (length(), ".{0,20}").prop_map(|(length, reason)| Pause { length, reason });
    (
        (any::<u128>(), any::<u32>(), version(), proposal(), reign, option::of(epoch())),
        (btree_set(node(), 0..5), btree_map(node(), member(), 0..5), version()),
        (btree_map(".{0,20}", invitation(), 0..3), node(), settings(), option::of(pause)),
        vec(change(), 0..6),
    )
        .prop_map(|(identity, members, rest, changes)| GroupState {
            cluster: ClusterId(identity.0),
            group: GroupId(identity.1),
            version: identity.2,
            proposal: identity.3,
            reign: identity.4,
            lossy_epoch: identity.5,
            in_sync: members.0,
            members: members.1,
            members_version: members.2,
            invited: rest.0,
            next_node: rest.1,
            settings: rest.2,
            pause: rest.3,
            changes: changes.into(),
        })
}

fn block() -> impl Strategy<Value = Block> {
    let kind = prop_oneof![Just(BlockKind::EpochStart), Just(BlockKind::Data)];
    (kind, epoch(), 1..u64::MAX / 2, 0..1000_u64, any::<u64>(), vec(any::<u8>(), 0..300)).prop_map(
        |(kind, epoch, first, more, stamp_ms, payload)| Block {
            kind,
            epoch,
            first: Lsn(first),
            last: Lsn(first + more),
            stamp_ms,
            payload: Payload::new(&payload),
        },
    )
}

fn identity_messages() -> impl Strategy<Value = Message> {
    prop_oneof![
        claims().prop_map(Message::Hello),
        version().prop_map(|version| Message::HelloPassed { version }),
        claims().prop_map(|remembered| Message::HelloRefused { remembered }),
    ]
}

fn register_messages() -> impl Strategy<Value = Message> {
    prop_oneof![
        (ballot(), version()).prop_map(|(ballot, members_version)| Message::Prepare { ballot, members_version }),
        (ballot(), option::of((ballot(), state())))
            .prop_map(|(ballot, accepted)| Message::Promise { ballot, accepted }),
        (ballot(), version(), state()).prop_map(|(ballot, members_version, state)| Message::Accept {
            ballot,
            members_version,
            state
        }),
        ballot().prop_map(|ballot| Message::Accepted { ballot }),
        (ballot(), ballot(), option::of(state())).prop_map(|(ballot, promised, newer)| Message::Refused {
            ballot,
            promised,
            newer
        }),
        state().prop_map(|state| Message::Announce { state }),
        version().prop_map(|version| Message::AskState { version }),
    ]
}

fn liveness_messages() -> impl Strategy<Value = Message> {
    let grant = prop_oneof![Just(Grant::Granted), Just(Grant::Heard), Just(Grant::Deposed)];
    prop_oneof![
        ((epoch(), incarnation(), any::<u64>(), length()), (version(), lsn(), any::<u64>(), length())).prop_map(
            |((epoch, incarnation, seq, lease), (version, committed, echo, stalled))| Message::Beacon {
                epoch,
                incarnation,
                seq,
                lease,
                version,
                committed,
                echo,
                stalled,
            }
        ),
        (epoch(), incarnation(), any::<u64>(), grant, version(), any::<bool>()).prop_map(
            |(epoch, incarnation, seq, grant, version, leaving)| Message::BeaconAnswer {
                epoch,
                incarnation,
                seq,
                grant,
                version,
                leaving,
            }
        ),
        (any::<u64>(), epoch()).prop_map(|(candidacy, epoch)| Message::Poll { candidacy, epoch }),
        (any::<u64>(), epoch(), entry(), any::<bool>(), version(), any::<bool>()).prop_map(
            |(candidacy, epoch, end, hears_hot, version, leaving)| Message::PollAnswer {
                candidacy,
                epoch,
                end,
                hears_hot,
                version,
                leaving,
            }
        ),
        (epoch(), incarnation(), any::<u64>()).prop_map(|(epoch, incarnation, round)| Message::Verify {
            epoch,
            incarnation,
            round
        }),
        (epoch(), incarnation(), any::<u64>()).prop_map(|(epoch, incarnation, round)| Message::Verified {
            epoch,
            incarnation,
            round
        }),
        epoch().prop_map(|epoch| Message::Goodbye { epoch }),
    ]
}

fn replication_messages() -> impl Strategy<Value = Message> {
    let epochs = || vec((epoch(), lsn()), 0..5);
    let of_stream = || (epoch(), incarnation(), stream());
    prop_oneof![
        of_stream().prop_map(|(epoch, incarnation, stream)| Message::OpenStream { epoch, incarnation, stream }),
        (of_stream(), epochs(), entry(), lsn()).prop_map(|((epoch, incarnation, stream), epochs, end, committed)| {
            Message::StreamOpened { epoch, incarnation, stream, epochs, end, committed }
        }),
        (of_stream(), entry(), block(), lsn()).prop_map(|((epoch, incarnation, stream), prev, block, committed)| {
            Message::Append { epoch, incarnation, stream, prev, block, committed }
        }),
        (of_stream(), lsn()).prop_map(|((epoch, incarnation, stream), durable)| Message::Ack {
            epoch,
            incarnation,
            stream,
            durable
        }),
        (of_stream(), lsn()).prop_map(|((epoch, incarnation, stream), committed)| Message::Commit {
            epoch,
            incarnation,
            stream,
            committed
        }),
        (of_stream(), entry(), epochs()).prop_map(|((epoch, incarnation, stream), at, epochs)| {
            Message::OfferSnapshot { epoch, incarnation, stream, at, epochs }
        }),
        of_stream().prop_map(|(epoch, incarnation, stream)| Message::SnapshotWanted { epoch, incarnation, stream }),
    ]
}

fn hello() -> impl Strategy<Value = Hello> {
    let purpose = prop_oneof![Just(Purpose::Control), Just(Purpose::Bulk)];
    (
        (any::<u16>(), any::<u128>(), any::<u32>(), ".{0,20}", any::<u128>()),
        incarnation(),
        purpose,
        any::<[u8; 32]>(),
        ".{0,20}",
    )
        .prop_map(|((protocol, cluster, group, name, folder), incarnation, purpose, death_digest, to_name)| {
            Hello {
                protocol,
                cluster: ClusterId(cluster),
                group: GroupId(group),
                name,
                folder: FolderId(folder),
                incarnation,
                purpose,
                death_digest,
                to_name,
            }
        })
}

fn refusal() -> impl Strategy<Value = Refusal> {
    let reason = prop_oneof![
        Just(RefusalReason::NotMember),
        Just(RefusalReason::Protocol),
        Just(RefusalReason::Cluster),
        Just(RefusalReason::Name),
        Just(RefusalReason::Folder),
        Just(RefusalReason::Security),
    ];
    (reason, ".{0,60}").prop_map(|(reason, text)| Refusal { reason, text })
}

fn front_address() -> impl Strategy<Value = FrontAddress> {
    (".{0,20}", any::<u16>()).prop_map(|(host, port)| FrontAddress { host, port })
}

fn frame() -> impl Strategy<Value = Frame> {
    let bytes = || vec(any::<u8>(), 0..300);
    prop_oneof![
        identity_messages().prop_map(Frame::Core),
        register_messages().prop_map(Frame::Core),
        liveness_messages().prop_map(Frame::Core),
        replication_messages().prop_map(Frame::Core),
        (any::<u64>(), bytes()).prop_map(|(round, payload)| Frame::Forward { round, payload }),
        (any::<u64>(), bytes()).prop_map(|(id, payload)| Frame::ForwardReply { id, payload }),
        (stream(), any::<u64>(), any::<bool>(), bytes())
            .prop_map(|(stream, index, last, payload)| Frame::SnapshotChunk { stream, index, last, payload }),
        (stream(), any::<u64>(), any::<u64>()).prop_map(|(stream, count, digest)| Frame::SnapshotAck {
            stream,
            count,
            digest
        }),
        (stream(), any::<u128>(), any::<u64>()).prop_map(|(stream, snapshot, size_bytes)| Frame::SnapshotHead {
            stream,
            snapshot: SnapshotId(snapshot),
            size_bytes
        }),
        hello().prop_map(Frame::Hello),
        refusal().prop_map(Frame::Refusal),
        btree_map("[a-z]{1,9}", front_address(), 0..5).prop_map(Frame::Fronts),
    ]
}

fn vote() -> impl Strategy<Value = Vote> {
    (
        (ballot(), option::of((ballot(), state())), epoch(), length()),
        (btree_map(node(), claims(), 0..5), lsn(), incarnation(), any::<bool>()),
    )
        .prop_map(|((promised, accepted, epoch, grace_granted), (peers, committed, incarnation, settled))| Vote {
            promised,
            accepted,
            epoch,
            grace_granted,
            peers,
            committed,
            incarnation,
            settled,
        })
}

fn encoded(frame: &Frame) -> Vec<u8> {
    let mut out = Vec::new();
    frame.encode(GroupId(1), &mut out);
    out
}

/// Reads one frame that is the whole of `bytes`, as a connection would.
fn decoded(bytes: &[u8]) -> Result<Frame, DecodeError> {
    let short = DecodeError::Truncated { needed: FrameHeader::SIZE_BYTES, left: bytes.len() };
    let (header, payload) = bytes.split_first_chunk().ok_or(short)?;
    Frame::decode(&FrameHeader::decode(header, Frame::PAYLOAD_SIZE_BYTES_MAX)?, payload)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn every_frame_survives_the_trip(frame in frame()) {
        prop_assert_eq!(decoded(&encoded(&frame)), Ok(frame));
    }

    #[test]
    fn every_state_and_vote_survives_the_trip(state in state(), vote in vote()) {
        prop_assert_eq!(decode_state(&encode_state(&state)), Ok(state));
        prop_assert_eq!(decode_vote(&encode_vote(&vote)), Ok(vote));
    }

    #[test]
    fn no_bytes_make_a_decoder_panic(bytes in vec(any::<u8>(), 0..200)) {
        let mut versioned = vec![1, 0];
        versioned.extend_from_slice(&bytes);
        let _ = (decoded(&bytes), decode_state(&versioned), decode_vote(&versioned));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn a_frame_that_is_cut_short_is_refused(frame in frame()) {
        let bytes = encoded(&frame);
        for end in 0..bytes.len() {
            prop_assert!(decoded(&bytes[..end]).is_err(), "the first {} bytes were taken for a frame", end);
        }
    }

    #[test]
    fn every_flipped_bit_of_a_frame_is_found(frame in frame()) {
        let mut bytes = encoded(&frame);
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(decoded(&bytes).is_err(), "bit {} was flipped unnoticed", bit);
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }

    /// Files carry their own checksum; without it a flipped bit may give another valid value, but never a panic, and
    /// what is taken encodes to the same bytes: a value has one encoding.
    #[test]
    fn a_damaged_vote_is_refused_or_has_one_encoding(vote in vote()) {
        let mut bytes = encode_vote(&vote);
        for end in 0..bytes.len() {
            prop_assert!(decode_vote(&bytes[..end]).is_err());
        }
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            if let Ok(other) = decode_vote(&bytes) {
                prop_assert_eq!(&encode_vote(&other), &bytes);
            }
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

#[test]
fn the_largest_state_that_the_limits_allow_fits_its_own_limit() {
    let long = |size: usize| "x".repeat(size);
    let member = Member {
        name: long(NAME_SIZE_BYTES_MAX),
        folder: FolderId(1),
        address: long(261),
        role: MemberRole::Data,
        priority: 1000,
    };
    let invitation = Invitation { address: long(261), role: MemberRole::Data, priority: 1, replaces: Some(NodeId(1)) };
    let change = ChangeRecord {
        version: Version(1),
        epoch: Epoch(1),
        at_ms: 1,
        by: ProposalId::default(),
        kind: ChangeKind::Invite { name: long(NAME_SIZE_BYTES_MAX) },
        cause: Cause { word: long(32), evidence: long(256) },
    };
    let ids = || (0..MEMBERS_MAX).map(|id| NodeId(u16::try_from(id).unwrap()));
    let state = GroupState {
        cluster: ClusterId(1),
        group: GroupId(1),
        version: Version(1),
        proposal: ProposalId::default(),
        reign: Reign::default(),
        lossy_epoch: Some(Epoch(1)),
        in_sync: ids().collect(),
        members: ids().map(|id| (id, member.clone())).collect(),
        members_version: Version(1),
        invited: (0..MEMBERS_MAX).map(|index| (format!("{index}{}", long(62)), invitation.clone())).collect(),
        next_node: NodeId(1),
        settings: Settings { text: long(STATE_SIZE_BYTES_MAX / 2), ..Settings::default() },
        pause: Some(Pause { length: Duration::ZERO, reason: long(1024) }),
        changes: (0..CHANGES_KEPT).map(|_| change.clone()).collect(),
    };
    assert_eq!(decode_state(&encode_state(&state)), Ok(state));
}

#[test]
fn a_block_whose_positions_cannot_be_counted_is_refused() {
    let refused = |first, last| decoded(&encoded(&Frame::Core(append(Lsn(first), Lsn(last))))).unwrap_err().to_string();
    assert_eq!(refused(5, 4), "a block's first position is 0 or after its last");
    assert_eq!(refused(0, 4), "a block's first position is 0 or after its last");
    assert_eq!(refused(5, u64::MAX), "a block's last position has none after it");
}

fn append(first: Lsn, last: Lsn) -> Message {
    let block = Block { kind: BlockKind::Data, epoch: Epoch(1), first, last, stamp_ms: 0, payload: Payload::new(b"") };
    Message::Append {
        epoch: Epoch(1),
        incarnation: Incarnation::default(),
        stream: StreamId(1),
        prev: EntryId::default(),
        block,
        committed: Lsn(0),
    }
}
