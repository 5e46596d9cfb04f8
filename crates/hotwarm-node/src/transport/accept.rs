//! The accepting end: sorts what connects by its first byte, finds out who it is, and receives.
//!
//! | first byte | who |
//! | --- | --- |
//! | 0x16 | a TLS handshake: a node |
//! | `H` | a frame without TLS: a node, where that is allowed; else it is told why not |
//! | `D` | a guardian (`watch.rs`) |
//! | other | refused at once |
//!
//! Until the other end is known, the connection is one of at most [`super::UNKNOWN_CONNECTIONS_MAX`]; when one more
//! comes, the oldest is closed, so that idle ones cannot keep a member out.

use super::handshake::{self, HandshakeError};
use super::link::Direction;
use super::peer::{Opened, Peer};
use super::stream::{Duplex, FrameReader, ReadError, tune, write_frame};
use super::{HANDSHAKE_TIMEOUT, PeerEvent, Security, Shared, watch};
use hotwarm_wire::{DeathNotice, Frame, Hello};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

const TLS_HANDSHAKE: u8 = 0x16;
const FRAME: u8 = b'H';
const DEATH: u8 = DeathNotice::MAGIC[0];

/// Accepting failed, most likely for want of file descriptors: those that are open come first.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// Accepts for as long as the node runs.
pub(super) async fn run(shared: Arc<Shared>, listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((stream, address)) => {
                let number = shared.serial();
                let task = || tokio::spawn(serve(Arc::clone(&shared), number, stream, address)).abort_handle();
                shared.unknown.enter(number, task);
            }
            Err(error) => {
                tracing::warn!(%error, "accepting a peer failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// What a new connection turned out to be.
enum Known {
    Member(Box<Receiving>),
    Guardian(DeathNotice, TcpStream),
}

/// A connection that a member sends on.
struct Receiving {
    peer: Arc<Peer>,
    hello: Hello,
    opened: Opened,
    stream: Box<dyn Duplex>,
    reader: FrameReader,
}

async fn serve(shared: Arc<Shared>, number: u64, stream: TcpStream, address: SocketAddr) {
    let known = timeout(HANDSHAKE_TIMEOUT, recognise(&shared, number, stream, address)).await;
    shared.unknown.leave(number);
    match known.unwrap_or(Err(HandshakeError::TimedOut)) {
        Ok(Known::Member(receiving)) => {
            let (peer, serial) = (Arc::clone(&receiving.peer), receiving.opened.serial);
            receive(&shared, *receiving).await;
            peer.close(serial);
        }
        Ok(Known::Guardian(notice, stream)) => watch::keep(&shared, notice, stream),
        Err(HandshakeError::Refused(refusal)) => {
            let text = &refusal.text;
            if !shared.refusals.is_news(text, Instant::now()) {
                tracing::debug!(%address, reason = ?refusal.reason, "peer refused: {text}");
            } else if handshake::is_to_be_expected(refusal.reason) {
                tracing::info!(%address, reason = ?refusal.reason, "peer refused: {text}");
            } else {
                tracing::warn!(%address, reason = ?refusal.reason, "peer refused: {text}");
            }
        }
        Err(error) => tracing::debug!(%address, %error, "connection dropped before it was known"),
    }
}

async fn recognise(
    shared: &Arc<Shared>,
    number: u64,
    stream: TcpStream,
    address: SocketAddr,
) -> Result<Known, HandshakeError> {
    tune(&stream, shared.silence_timeout())?;
    let mut first = [0];
    if stream.peek(&mut first).await? == 0 {
        return Err(ReadError::Closed.into());
    }
    let security = shared.security();
    match (first[0], &security) {
        (DEATH, _) => {
            let mut stream = stream;
            let notice = watch::read_notice(&mut stream).await?;
            Ok(Known::Guardian(notice, stream))
        }
        (TLS_HANDSHAKE, Security::Tls(_)) | (FRAME, Security::Plaintext) => {
            let secured = handshake::secure_accepted(&security, stream).await?;
            meet(shared, number, secured, address).await.map(|receiving| Known::Member(Box::new(receiving)))
        }
        (FRAME, Security::Tls(_)) => {
            let mut stream = stream;
            let refusal = handshake::plaintext(&shared.identity);
            Err(handshake::refuse(&shared.identity, &mut stream, refusal).await)
        }
        (_other_byte, _) => Err(HandshakeError::Unexpected),
    }
}

/// Hears who it is, and answers.
async fn meet(
    shared: &Shared,
    serial: u64,
    (mut stream, certificate): handshake::Secured,
    address: SocketAddr,
) -> Result<Receiving, HandshakeError> {
    let me = &shared.identity;
    let mut reader = FrameReader::new(me.group);
    let hello = handshake::read_hello(&mut reader, &mut *stream).await?;
    let known = handshake::check(me, &hello, certificate.as_ref()).and_then(|()| member(shared, &hello));
    let peer = match known {
        Ok(Some(peer)) => peer,
        Ok(None) => {
            let name_taken = shared.find(|peer| peer.name == hello.name).is_some();
            let refusal = handshake::stranger(me, &hello, name_taken);
            ask_to_join(shared, &hello, address).await;
            return Err(handshake::refuse(me, &mut *stream, refusal).await);
        }
        Err(refusal) => return Err(handshake::refuse(me, &mut *stream, refusal).await),
    };
    // Part of the link before the answer: the other end may send as soon as it has it.
    let opened = peer.open(Direction::In, serial, &hello, None);
    let opened = match opened {
        Ok(opened) => opened,
        Err(why) => return Err(handshake::refuse(me, &mut *stream, handshake::unwelcome(me, &hello, why)).await),
    };
    let answer = Frame::Hello(handshake::hello(me, hello.purpose, &hello.name));
    if let Err(error) = write_frame(&mut *stream, me.group, &answer).await {
        peer.close(serial);
        return Err(error.into());
    }
    Ok(Receiving { peer, hello, opened, stream, reader })
}

/// The member that a hello is from; `None`: a stranger.
fn member(shared: &Shared, hello: &Hello) -> Result<Option<Arc<Peer>>, hotwarm_wire::Refusal> {
    let me = &shared.identity;
    if hello.name == me.name && hello.folder == me.folder {
        return Err(handshake::double(me, hello.incarnation));
    }
    let Some(peer) = shared.find(|peer| peer.name == hello.name && peer.folder == hello.folder) else {
        return Ok(None);
    };
    match peer.judge(hello.incarnation) {
        Ok(()) => Ok(Some(peer)),
        Err(why) => Err(handshake::unwelcome(me, hello, why)),
    }
}

/// A stranger with a certificate of the cluster dials twice; one of the two asks.
async fn ask_to_join(shared: &Shared, hello: &Hello, address: SocketAddr) {
    if hello.purpose == hotwarm_wire::Purpose::Control {
        let asked = PeerEvent::JoinAsked { name: hello.name.clone(), folder: hello.folder, address };
        let _ = shared.events.send(asked).await;
    }
}

/// Receives until the connection ends or is no longer wanted.
async fn receive(shared: &Shared, receiving: Receiving) {
    let Receiving { peer, hello, opened, mut stream, mut reader } = receiving;
    let incarnation = hello.incarnation;
    let work = async {
        loop {
            let frame = reader.next(&mut *stream, Frame::PAYLOAD_SIZE_BYTES_MAX).await?;
            let event = match frame {
                Frame::Core(message) => PeerEvent::Message { from: peer.id, incarnation, message },
                Frame::Forward { .. }
                | Frame::ForwardReply { .. }
                | Frame::SnapshotChunk { .. }
                | Frame::SnapshotAck { .. }
                | Frame::SnapshotHead { .. }
                | Frame::Fronts(_) => PeerEvent::Frame { from: peer.id, frame },
                Frame::Refusal(refusal) => return Err(HandshakeError::RefusedByPeer(refusal)),
                Frame::Hello(_) => return Err(HandshakeError::Unexpected),
            };
            if !peer.deliver(opened.serial, event, &shared.events).await {
                return Ok(());
            }
        }
    };
    tokio::select! {
        biased;
        _ = opened.closed => {}
        end = work => match end {
            Ok(()) => {}
            Err(HandshakeError::Read(why @ (ReadError::Closed | ReadError::CutOff | ReadError::Io(_)))) => {
                tracing::debug!(peer = %peer.name, %why, "connection from the peer ended");
            }
            Err(error) => peer.note_trouble(error.to_string(), error.is_to_be_expected()),
        },
    }
}
