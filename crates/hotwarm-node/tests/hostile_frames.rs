//! Frames that are wrong, on links that are right: from a member's own folder and certificates, after a handshake that the
//! node has taken. The link ends with its reason in the log; the node and the group go on. Guards INV-12.
#![expect(clippy::unwrap_used, reason = "in a test's helper a failure is the test's")]
#![allow(dead_code, reason = "of the support, each test program uses its part")]

mod support;

use hotwarm_core::Message;
use hotwarm_core::register::{Member, MemberRole};
use hotwarm_node::birth::{Birth, open_folder};
use hotwarm_node::config::PeerSecurity;
use hotwarm_node::tls::Tls;
use hotwarm_node::transport::{Identity, PeerEvent, Security, Transport};
use hotwarm_types::{Epoch, GroupId, Incarnation, NodeId, StreamId};
use hotwarm_wire::{Frame, FrameHeader, Hello, Purpose, Refusal, RefusalReason, crc32c};
use std::io::Write;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use support::{Group, PATIENCE};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

type Link = tokio_rustls::client::TlsStream<TcpStream>;

/// What the nodes of this process have logged.
#[derive(Clone, Default)]
struct Logged(Arc<Mutex<Vec<u8>>>);

impl Write for Logged {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Logged {
    /// Logs of everything in this process, by the first test that asks.
    fn of_this_process() -> Self {
        static LOGGED: std::sync::LazyLock<Logged> = std::sync::LazyLock::new(|| {
            let logged = Logged::default();
            let writer = logged.clone();
            let filter = tracing_subscriber::EnvFilter::new("warn,hotwarm_node::transport=debug");
            tracing_subscriber::fmt()
                .with_env_filter(filter)
                .with_ansi(false)
                .with_writer(move || writer.clone())
                .init();
            logged
        });
        LOGGED.clone()
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }
}

/// What a stopped node of a group would say it is at its next start.
struct Impostor {
    birth: Birth,
    tls: Arc<Tls>,
    listen: SocketAddr,
    incarnation: Incarnation,
}

impl Impostor {
    /// Of a node that has been stopped, in a start that its peers have not seen yet.
    fn of(group: &Group, index: usize) -> Self {
        let config = group.config_of(index);
        let PeerSecurity::Tls { dir } = &config.local.peers else { panic!("the group uses TLS") };
        let birth = open_folder(dir, &config.local.data_dir).unwrap();
        let incarnation = Incarnation { start: 1_000, nonce: 1 };
        Self { birth, tls: Arc::new(Tls::load(dir).unwrap()), listen: config.peer_listen(), incarnation }
    }

    /// Shakes hands with a node, as far as a good member would.
    async fn dial(&self, address: SocketAddr, to_name: &str, purpose: Purpose) -> Link {
        let stream = TcpStream::connect(address).await.unwrap();
        let mut link = self.tls.connector().connect(Tls::server_name(), stream).await.unwrap();
        let hello = Hello {
            protocol: Hello::PROTOCOL,
            cluster: self.birth.cluster,
            group: self.birth.group,
            name: self.birth.name.clone(),
            folder: self.birth.folder,
            incarnation: self.incarnation,
            purpose,
            death_digest: [0; 32],
            to_name: to_name.to_owned(),
        };
        link.write_all(&encoded(self.birth.group, &Frame::Hello(hello))).await.unwrap();
        let mut header = [0; FrameHeader::SIZE_BYTES];
        link.read_exact(&mut header).await.unwrap();
        let header = FrameHeader::decode(&header, Hello::SIZE_BYTES_MAX).unwrap();
        let mut payload = vec![0; header.payload_size_bytes];
        link.read_exact(&mut payload).await.unwrap();
        let answer = Frame::decode(&header, &payload).unwrap();
        assert!(matches!(answer, Frame::Hello(_)), "{answer:?}");
        link
    }
}

fn encoded(group: GroupId, frame: &Frame) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame.encode(group, &mut bytes);
    bytes
}

/// A good frame with one field of its header replaced, and the header's own checksum right again.
fn with_header(frame: &[u8], at: usize, field: &[u8]) -> Vec<u8> {
    let mut bytes = frame.to_vec();
    bytes[at..at + field.len()].copy_from_slice(field);
    let sum = crc32c(&bytes[..20]);
    bytes[20..24].copy_from_slice(&sum.to_le_bytes());
    bytes
}

/// A frame of a kind with any payload, its checksums right.
fn of_kind(group: GroupId, kind: u8, payload: &[u8]) -> Vec<u8> {
    let head = encoded(group, &Frame::Forward { round: 1, payload: vec![] });
    let mut bytes = head[..FrameHeader::SIZE_BYTES].to_vec();
    bytes[4] = kind;
    bytes[12..16].copy_from_slice(&u32::try_from(payload.len()).unwrap().to_le_bytes());
    let bytes = with_header(&bytes, 16, &crc32c(payload).to_le_bytes());
    [bytes.as_slice(), payload].concat()
}

/// Each with the words that must be in the log afterwards.
fn wrong_frames(group: GroupId) -> Vec<(Vec<u8>, &'static str)> {
    let poll = encoded(group, &Frame::Core(Message::Poll { candidacy: 1, epoch: Epoch(1) }));
    let changed = |at: usize| {
        let mut bytes = poll.clone();
        bytes[at] ^= 1;
        bytes
    };
    let too_long = u32::try_from(Frame::PAYLOAD_SIZE_BYTES_MAX + 1).unwrap().to_le_bytes();
    let refusal = Refusal { reason: RefusalReason::Folder, text: "by an impostor".into() };
    vec![
        (b"garbage in the place of a frame".to_vec(), "not a hotwarm frame"),
        (vec![0xff; 100_000], "not a hotwarm frame"),
        (poll[..10].to_vec(), "in the middle of a frame"),
        (poll[..poll.len() - 1].to_vec(), "in the middle of a frame"),
        (with_header(&poll, 3, &[9]), "frame has format version 9"),
        (with_header(&poll, 4, &[99]), "99 is no kind of frame"),
        (with_header(&poll, 5, &[1]), "flags that this program does not know"),
        (with_header(&poll, 8, &7_u32.to_le_bytes()), "a frame for group g7"),
        (with_header(&poll, 12, &too_long), "is over the limit of"),
        (with_header(&poll, 12, &u32::MAX.to_le_bytes()), "is over the limit of"),
        (changed(13), "checksum of a frame's header does not match"),
        (changed(poll.len() - 1), "checksum of"),
        (of_kind(group, 1, &[]), "what arrived is no frame"),
        (of_kind(group, 1, &[0xff; 64]), "what arrived is no frame"),
        (of_kind(group, 1, &[&poll[24..], &[0; 8]].concat()), "are left over"),
        (of_kind(group, 4, &[1, 2, 3]), "what arrived is no frame"),
        (of_kind(group, 6, &[0; 40]), "what arrived is no frame"),
        (encoded(group, &Frame::Refusal(refusal)), "by an impostor"),
    ]
}

/// On each kind of connection, each wrong frame, after a good one.
#[test]
fn each_wrong_frame_of_a_member_ends_its_link_by_name_and_nothing_else() {
    let logged = Logged::of_this_process();
    let mut group = Group::start(&["a", "b", "c"]);
    let hot = group.hot();
    group.wait_in_sync(hot, 3);
    let stopped = (hot + 1) % 3;
    group.stop(stopped);
    group.wait_in_sync(hot, 2);
    let impostor = Impostor::of(&group, stopped);
    let address = group.config_of(hot).peer_listen();
    let name = group.config_of(hot).this.name;
    let mut client = group.client(hot);
    let before = group.status(hot);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for purpose in [Purpose::Control, Purpose::Bulk] {
        for (bytes, words) in wrong_frames(impostor.birth.group) {
            let seen_before = logged.text().len();
            let ended = runtime.block_on(async {
                let mut link = impostor.dial(address, &name, purpose).await;
                // The node may close while the rest is on its way.
                let _ = link.write_all(&bytes).await;
                let _ = link.shutdown().await;
                let mut rest = Vec::new();
                // A reset is as good an end as any.
                tokio::time::timeout(PATIENCE, link.read_to_end(&mut rest)).await.is_ok() && rest.is_empty()
            });
            assert!(ended, "the link stands after {words:?} on {purpose:?}");
            let began = Instant::now();
            while !logged.text()[seen_before..].contains(words) {
                assert!(began.elapsed() < PATIENCE, "{words:?} on {purpose:?}: {}", &logged.text()[seen_before..]);
                std::thread::sleep(Duration::from_millis(1));
            }
            assert_eq!(client.ask("SET k v"), "OK", "after {words:?} on {purpose:?}");
        }
    }
    // A machine that is busy with this test may be slow for a moment: the hot then leaves the third node out, and takes it
    // in again. A change of the hot would be the impostor's doing.
    group.wait_in_sync(hot, 2);
    assert_eq!((group.status(hot).epoch, group.hot()), (before.epoch, hot));
    assert_eq!(group.client((hot + 2) % 3).ask("GET k"), "v");
    assert!(!logged.text().contains("panicked"), "{}", logged.text());
}

/// A member whose link stands, and whose frames are whole: what they carry between the shells is nonsense.
#[test]
fn nonsense_in_whole_frames_of_a_linked_member_harms_nobody() {
    let logged = Logged::of_this_process();
    let mut group = Group::start(&["a", "b", "c"]);
    let hot = group.hot();
    group.wait_in_sync(hot, 3);
    let stopped = (hot + 1) % 3;
    let id_of = |index: usize| NodeId(group.status(index).node.id.unwrap());
    let (target_id, own_id) = (id_of(hot), id_of(stopped));
    group.stop(stopped);
    group.wait_in_sync(hot, 2);
    let mut client = group.client(hot);
    assert_eq!(client.ask("SET k v"), "OK");
    let before = group.status(hot);
    let impostor = Impostor::of(&group, stopped);
    let target = group.config_of(hot);
    let PeerSecurity::Tls { dir } = &target.local.peers else { panic!("the group uses TLS") };
    let member = Member {
        name: target.this.name.clone(),
        folder: open_folder(dir, &target.local.data_dir).unwrap().folder,
        address: target.this.address.clone(),
        role: MemberRole::Data,
        priority: 100,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let identity = Identity {
            cluster: impostor.birth.cluster,
            group: impostor.birth.group,
            name: impostor.birth.name.clone(),
            folder: impostor.birth.folder,
            incarnation: impostor.incarnation,
            death_digest: [0; 32],
        };
        let (sender, mut events) = mpsc::channel(4_096);
        let security = Security::Tls(Arc::clone(&impostor.tls));
        let transport = Transport::start(identity, impostor.listen, security, sender).await.unwrap();
        transport.set_members(Some(own_id), &[(target_id, member)].into());
        let up = |event: &PeerEvent| matches!(event, PeerEvent::LinkUp { .. });
        let linked = async { while !up(&events.recv().await.unwrap()) {} };
        tokio::time::timeout(PATIENCE, linked).await.expect("the node links with the member");
        for number in 0_u64..200 {
            let payload: Vec<u8> = (0..number * 7).map(|index| ((index * number * 131) >> 3) as u8).collect();
            let stream = StreamId(number % 3);
            for frame in [
                Frame::Forward { round: number, payload: payload.clone() },
                Frame::ForwardReply { id: number, payload: payload.clone() },
                Frame::SnapshotChunk { stream, index: number, last: number % 5 == 0, payload },
            ] {
                // A node that has had enough ends the link; then the rest has nobody to harm.
                let _ = transport.send_frame(target_id, frame);
            }
            transport.send(target_id, Message::Poll { candidacy: number, epoch: Epoch(0) });
            tokio::task::yield_now().await;
        }
        // Answers to the last question show that all before it was taken, if the link still stands.
        let drained =
            async { while events.recv().await.is_some_and(|event| !matches!(event, PeerEvent::LinkDown { .. })) {} };
        let _ = tokio::time::timeout(Duration::from_secs(1), drained).await;
    });
    assert_eq!(client.ask("GET k"), "v");
    assert_eq!(client.ask("SET k w"), "OK");
    let after = group.status(hot);
    assert_eq!((after.epoch, group.hot()), (before.epoch, hot));
    assert_eq!(group.client((hot + 2) % 3).ask("GET k"), "w");
    assert!(!logged.text().contains("panicked"), "{}", logged.text());
}
