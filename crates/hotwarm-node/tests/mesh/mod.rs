//! A group on loopback: certificates in a folder of its own, nodes with their events, and ways to start them wrong.

use hotwarm_core::Message;
use hotwarm_core::register::{self, MemberRole};
use hotwarm_node::birth::Authority;
use hotwarm_node::tls::Tls;
use hotwarm_node::transport::{Identity, PeerEvent, Security, Transport};
use hotwarm_types::{ClusterId, FolderId, GroupId, Incarnation, NodeId};
use hotwarm_wire::{Frame, FrameHeader, Hello, Purpose};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

const TIMEOUT: Duration = Duration::from_secs(20);
const LOOPBACK: ([u8; 4], u16) = ([127, 0, 0, 1], 0);

/// A cluster's identities and certificates.
pub struct Group {
    pub cluster: ClusterId,
    names: Vec<&'static str>,
    security: BTreeMap<&'static str, Security>,
}

/// The start that tests give a node's process.
pub fn incarnation(name: &str, start: u64) -> Incarnation {
    Incarnation { start, nonce: u64::from(name.as_bytes()[0]) << 8 | start }
}

impl Group {
    pub fn new(names: &[&'static str]) -> Self {
        let cluster = ClusterId(rand::random());
        let authority = Authority::create(cluster, "test").unwrap();
        let security = |name: &&'static str| {
            let folder = tempfile::tempdir().unwrap();
            authority.issue(name).unwrap().write(folder.path()).unwrap();
            (*name, Security::Tls(Arc::new(Tls::load(folder.path()).unwrap())))
        };
        Self { cluster, names: names.to_vec(), security: names.iter().map(security).collect() }
    }

    pub fn plaintext(names: &[&'static str]) -> Self {
        let security = names.iter().map(|name| (*name, Security::Plaintext)).collect();
        Self { cluster: ClusterId(rand::random()), names: names.to_vec(), security }
    }

    pub fn id(&self, name: &str) -> NodeId {
        let index = self.names.iter().position(|known| *known == name).unwrap();
        NodeId(u16::try_from(index + 1).unwrap())
    }

    pub fn folder(&self, name: &str) -> FolderId {
        FolderId(0xf0 + u128::from(self.id(name).0))
    }

    fn identity(&self, name: &str, start: u64) -> Identity {
        Identity {
            cluster: self.cluster,
            group: GroupId(1),
            name: name.into(),
            folder: self.folder(name),
            incarnation: incarnation(name, start),
            death_digest: [0; 32],
        }
    }

    pub async fn start(&self, name: &str, start: u64) -> Member {
        self.start_at(name, start, LOOPBACK.into()).await
    }

    pub async fn start_at(&self, name: &str, start: u64, listen: SocketAddr) -> Member {
        self.start_as(self.identity(name, start), listen, self.security[name].clone()).await
    }

    /// A second process with the same folder, which was started as often.
    pub async fn start_twin(&self, name: &str, start: u64) -> Member {
        let mut identity = self.identity(name, start);
        identity.incarnation.nonce ^= 1 << 40;
        self.start_as(identity, LOOPBACK.into(), self.security[name].clone()).await
    }

    pub async fn start_folder(&self, name: &str, folder: FolderId, start: u64) -> Member {
        let identity = Identity { folder, ..self.identity(name, start) };
        self.start_as(identity, LOOPBACK.into(), self.security[name].clone()).await
    }

    pub async fn start_guarded(&self, name: &str, death_digest: [u8; 32]) -> Member {
        let identity = Identity { death_digest, ..self.identity(name, 1) };
        self.start_as(identity, LOOPBACK.into(), self.security[name].clone()).await
    }

    pub async fn start_with_certificate_of(&self, name: &str, other: &str) -> Member {
        self.start_as(self.identity(name, 1), LOOPBACK.into(), self.security[other].clone()).await
    }

    pub async fn start_plaintext(&self, name: &str) -> Member {
        self.start_as(self.identity(name, 1), LOOPBACK.into(), Security::Plaintext).await
    }

    async fn start_as(&self, identity: Identity, listen: SocketAddr, security: Security) -> Member {
        let (sender, events) = mpsc::channel(256);
        let transport = Transport::start(identity.clone(), listen, security, sender).await.unwrap();
        Member { id: self.id(&identity.name), identity, transport, events }
    }

    /// The members as the group's state would list them.
    pub fn members(&self, nodes: &[&Member]) -> BTreeMap<NodeId, register::Member> {
        let member = |node: &&Member| {
            let member = register::Member {
                name: node.identity.name.clone(),
                folder: self.folder(&node.identity.name),
                address: node.transport.local_address().to_string(),
                role: MemberRole::Data,
                priority: 1,
            };
            (node.id, member)
        };
        nodes.iter().map(member).collect()
    }

    /// Tells a node of others, which need not know it.
    pub fn introduce_to(&self, node: &Member, others: &[&Member]) {
        node.transport.set_members(Some(node.id), &self.members(others));
    }

    /// Tells all nodes of each other, themselves included.
    pub fn introduce(&self, nodes: &[Member]) {
        let all: Vec<&Member> = nodes.iter().collect();
        nodes.iter().for_each(|node| self.introduce_to(node, &all));
    }

    /// The first two nodes, linked.
    pub async fn pair(&self) -> (Member, Member) {
        let nodes = [self.start(self.names[0], 1).await, self.start(self.names[1], 1).await];
        self.introduce(&nodes);
        let [mut first, mut second] = nodes;
        assert_eq!(first.next_link_up().await, (second.id, second.identity.incarnation));
        assert_eq!(second.next_link_up().await, (first.id, first.identity.incarnation));
        (first, second)
    }
}

/// A node and what it is told.
pub struct Member {
    pub id: NodeId,
    pub identity: Identity,
    pub transport: Transport,
    events: mpsc::Receiver<PeerEvent>,
}

impl Member {
    pub async fn next(&mut self) -> PeerEvent {
        timeout(TIMEOUT, self.events.recv()).await.expect("an event was due").expect("the transport lives")
    }

    pub fn try_next(&mut self) -> Option<PeerEvent> {
        self.events.try_recv().ok()
    }

    pub async fn next_link_up(&mut self) -> (NodeId, Incarnation) {
        match self.next().await {
            PeerEvent::LinkUp { peer, incarnation } => (peer, incarnation),
            other => panic!("{other:?} in the place of a link"),
        }
    }

    /// Like `next_link_up`, but a stranger may ask again before.
    pub async fn until_link_up(&mut self) {
        loop {
            match self.next().await {
                PeerEvent::LinkUp { .. } => return,
                PeerEvent::JoinAsked { .. } => {}
                other => panic!("{other:?} in the place of a link"),
            }
        }
    }

    pub async fn next_message(&mut self) -> (NodeId, Message) {
        match self.next().await {
            PeerEvent::Message { from, message, .. } => (from, message),
            other => panic!("{other:?} in the place of a message"),
        }
    }

    /// Skips messages until an event comes.
    pub async fn until(&mut self, wanted: &PeerEvent) {
        loop {
            match self.next().await {
                event if event == *wanted => return,
                PeerEvent::Message { .. } | PeerEvent::LinkUp { .. } => {}
                other => panic!("{other:?} in the place of {wanted:?}"),
            }
        }
    }

    /// Waits until this node's trouble with a peer is told in these words.
    pub async fn trouble_with(&self, peer: NodeId, words: &str) {
        let trouble = || self.transport.peers().into_iter().find(|status| status.node == peer)?.trouble;
        let wait = async {
            while !trouble().is_some_and(|text| text.contains(words)) {
                tokio::task::yield_now().await;
            }
        };
        assert!(timeout(TIMEOUT, wait).await.is_ok(), "{words:?} was not said, but {:?}", trouble());
    }

    /// Connects to another node without TLS, as this node, for sending.
    pub async fn shake_hands_with(&self, other: &Member) -> TcpStream {
        let me = &self.identity;
        let hello = Hello {
            protocol: Hello::PROTOCOL,
            cluster: me.cluster,
            group: me.group,
            name: me.name.clone(),
            folder: me.folder,
            incarnation: me.incarnation,
            purpose: Purpose::Bulk,
            death_digest: me.death_digest,
            to_name: other.identity.name.clone(),
        };
        let mut bytes = Vec::new();
        Frame::Hello(hello).encode(me.group, &mut bytes);
        let mut stream = TcpStream::connect(other.transport.local_address()).await.unwrap();
        stream.write_all(&bytes).await.unwrap();
        let mut header = [0; FrameHeader::SIZE_BYTES];
        stream.read_exact(&mut header).await.unwrap();
        let header = FrameHeader::decode(&header, Hello::SIZE_BYTES_MAX).unwrap();
        let mut payload = vec![0; header.payload_size_bytes];
        stream.read_exact(&mut payload).await.unwrap();
        assert!(matches!(Frame::decode(&header, &payload), Ok(Frame::Hello(_))));
        stream
    }
}
