//! Nodes on loopback in one process: what arrives and in which order, and how everything that does not belong is kept
//! out. Guards INV-12, R20, R36.
#![expect(clippy::unwrap_used, reason = "in a test's helper a failure is the test's")]

mod mesh;

use hotwarm_core::Message;
use hotwarm_node::transport::{NotSent, PeerEvent};
use hotwarm_types::{Block, BlockKind, EntryId, Epoch, FolderId, GroupId, Incarnation, Lsn, NodeId, Payload, StreamId};
use hotwarm_wire::{DeathFrame, DeathNotice, Frame};
use mesh::{Group, Member, incarnation};
use sha2::{Digest, Sha256};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

fn poll(candidacy: u64) -> Message {
    Message::Poll { candidacy, epoch: Epoch(1) }
}

fn append(lsn: u64, size: usize) -> Message {
    let block = Block {
        kind: BlockKind::Data,
        epoch: Epoch(1),
        first: Lsn(lsn),
        last: Lsn(lsn),
        stamp_ms: 0,
        payload: Payload::new(&vec![7; size]),
    };
    let (incarnation, stream, prev) = (Incarnation::default(), StreamId(1), EntryId::default());
    Message::Append { epoch: Epoch(1), incarnation, stream, prev, block, committed: Lsn(0) }
}

#[tokio::test]
async fn three_nodes_meet_and_their_messages_keep_their_order() {
    let group = Group::new(&["a", "b", "c"]);
    let mut nodes = [group.start("a", 1).await, group.start("b", 1).await, group.start("c", 1).await];
    group.introduce(&nodes);
    for node in &mut nodes {
        let mut up = [node.next_link_up().await.0, node.next_link_up().await.0];
        up.sort();
        assert!(!up.contains(&node.id) && up[0] != up[1]);
    }
    let to = nodes[1].id;
    for number in 0..200 {
        nodes[0].transport.send(to, poll(number));
        nodes[0].transport.send(to, append(number + 1, 10_000));
        nodes[2].transport.send(to, poll(number));
    }
    let (mut polls, mut appends) = ([0, 0], 0);
    while polls != [200, 200] || appends < 200 {
        let (from, message) = nodes[1].next_message().await;
        let from_a = from == nodes[0].id;
        match message {
            Message::Poll { candidacy, .. } => {
                let count = &mut polls[usize::from(!from_a)];
                assert_eq!(candidacy, *count);
                *count += 1;
            }
            Message::Append { block, .. } => {
                appends += 1;
                assert!(from_a && block.first == Lsn(appends), "{} after {}", block.first, appends - 1);
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_member_can_speak_plaintext_where_all_do() {
    let group = Group::plaintext(&["a", "b"]);
    let (mut a, mut b) = group.pair().await;
    a.transport.send(b.id, poll(1));
    assert_eq!(b.next_message().await, (a.id, poll(1)));
    b.transport.send_frame(a.id, Frame::Forward { round: 7, payload: vec![1, 2] }).unwrap();
    assert_eq!(
        a.next().await,
        PeerEvent::Frame { from: b.id, frame: Frame::Forward { round: 7, payload: vec![1, 2] } }
    );
}

#[tokio::test]
async fn a_node_that_starts_anew_is_met_anew() {
    let group = Group::new(&["a", "b"]);
    let (mut a, b) = group.pair().await;
    let (id, address) = (b.id, b.transport.local_address());
    drop(b);
    assert_eq!(a.next().await, PeerEvent::LinkDown { peer: id });
    assert_eq!(a.transport.send_frame(id, Frame::Forward { round: 1, payload: vec![] }), Err(NotSent::NoLink));
    let mut b = group.start_at("b", 2, address).await;
    group.introduce_to(&b, &[&a]);
    assert_eq!(a.next_link_up().await, (id, incarnation("b", 2)));
    assert_eq!(b.next_link_up().await, (a.id, incarnation("a", 1)));
    a.transport.send(id, poll(5));
    assert_eq!(b.next_message().await, (a.id, poll(5)));
}

#[tokio::test]
async fn a_link_that_is_broken_at_one_end_is_told_at_both_and_made_anew() {
    let group = Group::new(&["a", "b"]);
    let (mut a, mut b) = group.pair().await;
    // More than the queue holds: the core's windows forbid it, so the link is closed.
    for lsn in 1..=12 {
        a.transport.send(b.id, append(lsn, 7 << 20));
    }
    assert_eq!(a.next().await, PeerEvent::LinkDown { peer: b.id });
    b.until(&PeerEvent::LinkDown { peer: a.id }).await;
    a.next_link_up().await;
    b.next_link_up().await;
    a.transport.send(b.id, poll(5));
    assert_eq!(b.next_message().await, (a.id, poll(5)));
}

#[tokio::test]
async fn the_shells_are_told_when_there_is_no_room() {
    let group = Group::new(&["a", "b"]);
    let (mut a, mut b) = group.pair().await;
    let chunk = || Frame::SnapshotChunk { stream: StreamId(1), index: 0, last: false, payload: vec![0; 4 << 20] };
    let mut queued = 0;
    let full = loop {
        match a.transport.send_frame(b.id, chunk()) {
            Ok(()) => queued += 1,
            Err(error) => break error,
        }
    };
    assert_eq!((full, queued), (NotSent::Full, 8 - 1));
    let too_large = Frame::Forward { round: 1, payload: vec![0; 9 << 20] };
    assert!(matches!(a.transport.send_frame(b.id, too_large), Err(NotSent::TooLarge { .. })));
    // The link stands, and the core's messages still find room.
    a.transport.send(b.id, append(1, 100));
    for _ in 0..queued {
        assert_eq!(b.next().await, PeerEvent::Frame { from: a.id, frame: chunk() });
    }
    assert_eq!(b.next_message().await, (a.id, append(1, 100)));
    assert_eq!(a.try_next(), None);
}

#[tokio::test]
async fn a_member_that_is_removed_is_dropped() {
    let group = Group::new(&["a", "b"]);
    let (mut a, mut b) = group.pair().await;
    a.transport.set_members(Some(a.id), &[].into());
    assert_eq!(a.next().await, PeerEvent::LinkDown { peer: b.id });
    assert_eq!(b.next().await, PeerEvent::LinkDown { peer: a.id });
    assert!(a.transport.peers().is_empty());
    let join = a.next().await;
    assert!(matches!(&join, PeerEvent::JoinAsked { name, .. } if name == "b"), "{join:?}");
    b.trouble_with(a.id, "is no member of the group, as node \"a\" knows it").await;
}

#[tokio::test]
async fn a_stranger_of_the_cluster_asks_to_join_and_is_met_once_it_is_a_member() {
    let group = Group::new(&["a", "b"]);
    let mut a = group.start("a", 1).await;
    let mut b = group.start("b", 1).await;
    a.transport.set_members(Some(a.id), &[].into());
    // b knows a and is not known to it: it has no number yet.
    b.transport.set_members(None, &group.members(&[&a]));
    let join = a.next().await;
    let folder = group.folder("b");
    assert!(matches!(&join, PeerEvent::JoinAsked { name, folder: asked, .. } if name == "b" && *asked == folder));
    b.trouble_with(a.id, "hotwarm node add b").await;
    a.transport.set_members(Some(a.id), &group.members(&[&a, &b]));
    a.until_link_up().await;
    b.next_link_up().await;
    a.transport.send(b.id, poll(1));
    assert_eq!(b.next_message().await, (a.id, poll(1)));
}

#[tokio::test]
async fn another_folder_under_a_members_name_is_a_stranger_and_hears_how_to_replace() {
    let group = Group::new(&["a", "b"]);
    let mut a = group.start("a", 1).await;
    let b = group.start("b", 1).await;
    a.transport.set_members(Some(a.id), &group.members(&[&a, &b]));
    drop(b);
    let wiped = group.start_folder("b", FolderId(0xdead), 1).await;
    wiped.transport.set_members(None, &group.members(&[&a]));
    let join = a.next().await;
    assert!(matches!(&join, PeerEvent::JoinAsked { folder, .. } if *folder == FolderId(0xdead)), "{join:?}");
    wiped.trouble_with(a.id, "hotwarm node replace b").await;
}

/// A node that takes the place of a lost one knows that one as a member, at its own address.
#[tokio::test]
async fn a_node_does_not_call_the_member_that_it_replaces() {
    let group = Group::new(&["a", "b"]);
    let a = group.start("a", 1).await;
    let new = group.start_folder("b", FolderId(0xdead), 1).await;
    let members = group.members(&[&a, &new]);
    assert_ne!(members[&new.id].folder, FolderId(0xdead));
    new.transport.set_members(None, &members);
    let called: Vec<NodeId> = new.transport.peers().iter().map(|peer| peer.node).collect();
    assert_eq!(called, [a.id]);
}

#[tokio::test]
async fn a_copied_folder_is_refused_in_words() {
    let group = Group::new(&["a", "b"]);
    let (mut a, b) = group.pair().await;
    let twin = group.start_twin("b", 1).await;
    group.introduce_to(&twin, &[&a]);
    twin.trouble_with(a.id, "two processes run with the data folder of node \"b\"").await;
    twin.trouble_with(a.id, "hotwarm node replace b").await;
    a.transport.send(b.id, poll(1));
    assert_eq!(a.try_next(), None, "the original keeps its link");
}

#[tokio::test]
async fn an_older_start_of_a_folder_is_refused_in_words() {
    let group = Group::new(&["a", "b"]);
    let mut a = group.start("a", 1).await;
    let b = group.start("b", 7).await;
    group.introduce_to(&a, &[&b]);
    group.introduce_to(&b, &[&a]);
    a.next_link_up().await;
    drop(b);
    a.until(&PeerEvent::LinkDown { peer: group.id("b") }).await;
    let restored = group.start("b", 6).await;
    group.introduce_to(&restored, &[&a]);
    restored.trouble_with(a.id, "comes with start 6 of its data folder, but node \"a\" has seen start 7").await;
}

#[tokio::test]
async fn a_node_that_calls_itself_is_told_that_its_folder_was_copied() {
    let group = Group::new(&["a"]);
    let a = group.start("a", 1).await;
    // The copy takes a for another member, reached at a's address.
    let copy = group.start_twin("a", 1).await;
    let mut members = group.members(&[&a]);
    let mut other = members.remove(&a.id).unwrap();
    other.name = "b".into();
    copy.transport.set_members(Some(a.id), &[(NodeId(9), other)].into());
    copy.trouble_with(NodeId(9), "wanted to reach \"b\", but this is node \"a\"").await;
}

#[tokio::test]
async fn another_cluster_is_refused_in_words_by_its_certificates() {
    let (ours, theirs) = (Group::new(&["a", "b"]), Group::new(&["a", "b"]));
    let mut a = ours.start("a", 1).await;
    let b = theirs.start("b", 1).await;
    ours.introduce_to(&a, &[&b]);
    theirs.introduce_to(&b, &[&a]);
    b.trouble_with(a.id, "certificate").await;
    a.trouble_with(b.id, "certificate").await;
    assert_eq!(a.try_next(), None);
}

#[tokio::test]
async fn another_cluster_without_tls_is_refused_in_words() {
    let (ours, theirs) = (Group::plaintext(&["a", "b"]), Group::plaintext(&["a", "b"]));
    let a = ours.start("a", 1).await;
    let b = theirs.start("b", 1).await;
    theirs.introduce_to(&b, &[&a]);
    b.trouble_with(a.id, "node \"b\" belongs to cluster").await;
}

#[tokio::test]
async fn a_name_that_is_not_in_the_certificate_is_refused_in_words() {
    let group = Group::new(&["a", "b", "c"]);
    let (a, c) = (group.start("a", 1).await, group.start("c", 1).await);
    let liar = group.start_with_certificate_of("b", "c").await;
    group.introduce_to(&a, &[&c, &liar]);
    group.introduce_to(&liar, &[&a]);
    liar.trouble_with(a.id, "a node calls itself \"b\", but its certificate is for \"c\"").await;
}

#[tokio::test]
async fn one_end_without_tls_is_told() {
    let group = Group::new(&["a", "b"]);
    let a = group.start("a", 1).await;
    let plain = group.start_plaintext("b").await;
    group.introduce_to(&plain, &[&a]);
    plain.trouble_with(a.id, "speaks TLS only").await;
}

/// Waits until the node has closed the connection, and returns what it said.
async fn rest_of(stream: &mut TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    // A reset is as good an end as any.
    let _ = stream.read_to_end(&mut rest).await;
    rest
}

#[tokio::test]
async fn garbage_is_dropped_and_disturbs_nobody() {
    let group = Group::new(&["a", "b"]);
    let (mut a, mut b) = group.pair().await;
    let address = a.transport.local_address();
    let mut tls_like = vec![0x16, 3, 1, 0xff, 0xff];
    tls_like.extend([0; 2000]);
    let mut notice_like = DeathNotice::MAGIC.to_vec();
    notice_like.extend([0xff; 400]);
    let random: Vec<u8> = (0..4096).map(|_| rand::random()).collect();
    for garbage in [b"GET / HTTP/1.1\r\n\r\n".to_vec(), b"HWFgarbage".to_vec(), tls_like, notice_like, random] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let _ = stream.write_all(&garbage).await;
        rest_of(&mut stream).await;
    }
    a.transport.send(b.id, poll(1));
    assert_eq!(b.next_message().await, (a.id, poll(1)));
    assert_eq!(a.try_next(), None);
}

#[tokio::test]
async fn too_many_unknown_connections_push_out_the_oldest_and_let_members_in() {
    let group = Group::new(&["a", "b"]);
    let mut a = group.start("a", 1).await;
    let address = a.transport.local_address();
    let mut idle = Vec::new();
    for _ in 0..600 {
        idle.push(TcpStream::connect(address).await.unwrap());
    }
    let mut b = group.start("b", 1).await;
    group.introduce_to(&a, &[&b]);
    group.introduce_to(&b, &[&a]);
    a.next_link_up().await;
    b.next_link_up().await;
    for stream in &mut idle[..300] {
        assert!(rest_of(stream).await.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_does_not_go_on_is_ended() {
    let group = Group::new(&["a"]);
    let a = group.start("a", 1).await;
    let begun = tokio::time::Instant::now();
    for first in [&b""[..], &[0x16], &[0x16, 3, 1], b"D", b"DEADHW01"] {
        let mut stream = TcpStream::connect(a.transport.local_address()).await.unwrap();
        stream.write_all(first).await.unwrap();
        rest_of(&mut stream).await;
    }
    assert!(begun.elapsed() >= Duration::from_secs(3));
}

/// What a member with good certificates can do wrong once it is known.
#[tokio::test]
async fn a_known_member_that_sends_nonsense_loses_its_link() {
    let group = Group::plaintext(&["a", "b"]);
    for nonsense in [
        b"garbage in the place of a frame".to_vec(),
        {
            let mut bytes = Vec::new();
            Frame::Core(poll(1)).encode(GroupId(2), &mut bytes);
            bytes
        },
        {
            let mut bytes = Vec::new();
            Frame::Forward { round: 1, payload: vec![0; 9 << 20] }.encode(GroupId(1), &mut bytes);
            bytes
        },
    ] {
        let a = group.start("a", 1).await;
        let b = group.start("b", 1).await;
        a.transport.set_members(Some(a.id), &group.members(&[&a, &b]));
        let mut stream = b.shake_hands_with(&a).await;
        let _ = stream.write_all(&nonsense).await;
        assert!(rest_of(&mut stream).await.is_empty());
    }
}

fn notice_of(group: &Group, b: &Member) -> DeathNotice {
    let incarnation = b.identity.incarnation;
    DeathNotice { cluster: group.cluster, group: GroupId(1), folder: b.identity.folder, incarnation }
}

#[tokio::test]
async fn a_guardian_proves_the_death_of_its_node_and_of_no_other() {
    let secret = [0x5e; 32];
    let group = Group::new(&["a", "b"]);
    let mut a = group.start("a", 1).await;
    let mut b = group.start_guarded("b", Sha256::digest(secret).into()).await;
    group.introduce_to(&a, &[&b]);
    group.introduce_to(&b, &[&a]);
    a.next_link_up().await;
    b.next_link_up().await;
    let notice = notice_of(&group, &b);
    let address = a.transport.local_address();

    let other_start = Incarnation { start: 9, ..notice.incarnation };
    for refused in [
        DeathFrame { notice, secret: [0; 32] },
        DeathFrame { notice: DeathNotice { incarnation: other_start, ..notice }, secret },
        DeathFrame { notice: DeathNotice { folder: FolderId(1), ..notice }, secret },
        DeathFrame { notice: DeathNotice { group: GroupId(8), ..notice }, secret },
    ] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(&refused.encode()).await.unwrap();
        assert!(rest_of(&mut stream).await.is_empty(), "what is not believed is not answered");
    }
    assert_eq!(a.try_next(), None, "nothing but the right secret for the right start counts");

    let mut stream = TcpStream::connect(address).await.unwrap();
    let bytes = DeathFrame { notice, secret }.encode();
    let (head, proof) = bytes.split_at(DeathNotice::SIZE_BYTES);
    stream.write_all(head).await.unwrap();
    stream.write_all(proof).await.unwrap();
    let attested = PeerEvent::DeathAttested { peer: b.id, incarnation: notice.incarnation };
    let mut events = [a.next().await, a.next().await];
    events.sort_by_key(|event| *event != attested);
    assert_eq!(events, [attested, PeerEvent::LinkDown { peer: b.id }]);
    assert_eq!(rest_of(&mut stream).await, [DeathFrame::TAKEN]);
    b.trouble_with(a.id, "attested dead").await;

    // Another connection of the same guardian hears the same, and nothing is told twice.
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(&bytes).await.unwrap();
    assert_eq!(rest_of(&mut stream).await, [DeathFrame::TAKEN]);
    assert_eq!(a.try_next(), None);
}

#[tokio::test]
async fn a_proof_of_a_start_that_was_not_met_is_not_taken_until_it_is() {
    let secret = [0x5e; 32];
    let group = Group::new(&["a", "b"]);
    let mut a = group.start("a", 1).await;
    let b = group.start_guarded("b", Sha256::digest(secret).into()).await;
    // a knows the member, and has seen nothing of this start of it.
    group.introduce_to(&a, &[&b]);
    let notice = notice_of(&group, &b);
    let tell = async |stream: &mut TcpStream| {
        stream.write_all(&DeathFrame { notice, secret }.encode()).await.unwrap();
        rest_of(stream).await
    };
    let address = a.transport.local_address();
    let other_start = Incarnation { start: 9, ..notice.incarnation };
    let unmet = DeathFrame { notice: DeathNotice { incarnation: other_start, ..notice }, secret };
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(&unmet.encode()).await.unwrap();
    assert!(rest_of(&mut stream).await.is_empty());
    group.introduce_to(&b, &[&a]);
    a.next_link_up().await;
    assert_eq!(tell(&mut TcpStream::connect(address).await.unwrap()).await, [DeathFrame::TAKEN]);
}

#[tokio::test]
async fn a_node_without_a_guardian_cannot_be_attested() {
    let group = Group::new(&["a", "b"]);
    let (mut a, b) = group.pair().await;
    let frame = DeathFrame { notice: notice_of(&group, &b), secret: [0; 32] };
    let mut stream = TcpStream::connect(a.transport.local_address()).await.unwrap();
    stream.write_all(&frame.encode()).await.unwrap();
    rest_of(&mut stream).await;
    assert_eq!(a.try_next(), None);
}
