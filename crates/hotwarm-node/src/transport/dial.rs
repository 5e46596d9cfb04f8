//! The dialling end: one task for each connection that this node sends on, for as long as the peer is a member.
//!
//! Connects, says hello, sends what is queued, and, when the connection ends for whatever reason, begins anew after a
//! pause; the peer's name is resolved each time. The peer never answers on such a connection after its hello, so that
//! the end of the stream is all there is to read.

use super::handshake::{self, HandshakeError};
use super::link::Direction;
use super::outbox::{Inbox, outbox};
use super::peer::{Opened, Peer};
use super::stream::{Duplex, FrameReader, ReadError, tune};
use super::{Backoff, CONNECT_TIMEOUT, HANDSHAKE_TIMEOUT, Shared};
use hotwarm_types::GroupId;
use hotwarm_wire::{Frame, Purpose, RefusalReason};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

/// A connection that stood this long ends a row of failures.
const STABLE_AFTER: Duration = Duration::from_secs(1);
/// Frames are gathered into one write up to this size.
const WRITE_SIZE_BYTES: usize = 256 << 10;
const BATCH_FRAMES: usize = 64;

/// Keeps one connection to a peer.
pub(super) async fn run(shared: Arc<Shared>, peer: Arc<Peer>, purpose: Purpose) {
    let mut backoff = Backoff::new();
    let mut calls = peer.calls();
    loop {
        let mut reached = true;
        match connect(&shared, &peer, purpose).await {
            Ok((stream, opened, inbox)) => {
                let since = Instant::now();
                let serial = opened.serial;
                serve(stream, opened, inbox, &peer, shared.identity.group).await;
                peer.close(serial);
                if since.elapsed() >= STABLE_AFTER {
                    backoff.reset();
                }
            }
            Err(error) => {
                reached = matches!(error, HandshakeError::RefusedByPeer(_) | HandshakeError::Refused(_));
                if reached {
                    backoff.slow_down();
                }
                let trouble = format!("connect to {}: {error}", peer.address());
                peer.note_trouble(trouble, error.is_to_be_expected());
            }
        }
        if reached {
            calls.mark_unchanged();
            sleep(backoff.pause()).await;
        } else {
            pause_unless_called(&mut backoff, &mut calls).await;
        }
    }
}

/// The pause after an attempt that reached nobody. It ends when the peer connects to this node: that one has just come
/// back, and a rejoin or a takeover may wait for the other direction.
async fn pause_unless_called(backoff: &mut Backoff, calls: &mut watch::Receiver<u64>) {
    tokio::select! {
        () = sleep(backoff.pause()) => {}
        Ok(()) = calls.changed() => backoff.reset(),
    }
}

type Connected = (Box<dyn Duplex>, Opened, Inbox);

async fn connect(shared: &Shared, peer: &Peer, purpose: Purpose) -> Result<Connected, HandshakeError> {
    let stream =
        timeout(CONNECT_TIMEOUT, TcpStream::connect(peer.address())).await.map_err(|_| HandshakeError::TimedOut)??;
    tune(&stream, shared.silence_timeout())?;
    timeout(HANDSHAKE_TIMEOUT, shake_hands(shared, peer, purpose, stream))
        .await
        .map_err(|_| HandshakeError::TimedOut)?
}

async fn shake_hands(
    shared: &Shared,
    peer: &Peer,
    purpose: Purpose,
    stream: TcpStream,
) -> Result<Connected, HandshakeError> {
    let me = &shared.identity;
    let (mut stream, certificate) = handshake::secure_dialled(&shared.security(), stream).await?;
    let hello = Frame::Hello(handshake::hello(me, purpose, &peer.name));
    super::stream::write_frame(&mut *stream, me.group, &hello).await?;
    let answer = handshake::read_hello(&mut FrameReader::new(me.group), &mut *stream).await?;
    let mut checked = handshake::check(me, &answer, certificate.as_ref());
    if checked.is_ok() && (answer.name != peer.name || answer.folder != peer.folder) {
        checked = Err(handshake::stranger(me, &answer, answer.name == peer.name));
    }
    let (outbox, inbox) = outbox(purpose);
    let opened = checked.and_then(|()| {
        let answer = hotwarm_wire::Hello { purpose, ..answer.clone() };
        peer.open(Direction::Out, shared.serial(), &answer, Some(outbox))
            .map_err(|why| handshake::unwelcome(me, &answer, why))
    });
    match opened {
        Ok(opened) => Ok((stream, opened, inbox)),
        Err(refusal) if refusal.reason == RefusalReason::NotMember => Err(HandshakeError::Refused(refusal)),
        Err(refusal) => Err(handshake::refuse(me, &mut *stream, refusal).await),
    }
}

/// Sends what is queued until the connection ends or is no longer wanted.
async fn serve(stream: Box<dyn Duplex>, opened: Opened, mut inbox: Inbox, peer: &Peer, group: GroupId) {
    let (mut reading, mut writing) = tokio::io::split(stream);
    let mut reader = FrameReader::new(group);
    tokio::select! {
        biased;
        _ = opened.closed => tracing::debug!(peer = %peer.name, "connection closed here"),
        end = reader.next(&mut reading, hotwarm_wire::Hello::SIZE_BYTES_MAX) => match end {
            Ok(Frame::Refusal(refusal)) => {
                let to_be_expected = handshake::is_to_be_expected(refusal.reason);
                peer.note_trouble(format!("refused by the other end: {}", refusal.text), to_be_expected);
            }
            Ok(_) => peer.note_trouble("the other end spoke where it only listens".to_owned(), false),
            Err(ReadError::Closed) => tracing::debug!(peer = %peer.name, "connection closed by the other end"),
            Err(error) => {
                // If that lasts, the attempts to connect anew say so.
                let broke = matches!(error, ReadError::CutOff | ReadError::Io(_));
                peer.note_trouble(error.to_string(), broke);
            }
        },
        end = send_queued(&mut writing, &mut inbox, group) => if let Err(error) = end {
            tracing::debug!(peer = %peer.name, %error, "sending ended");
        },
    }
}

async fn send_queued(stream: &mut (impl AsyncWrite + Unpin), inbox: &mut Inbox, group: GroupId) -> io::Result<()> {
    let mut batch = Vec::with_capacity(BATCH_FRAMES);
    let mut bytes = Vec::new();
    while inbox.next(&mut batch, BATCH_FRAMES).await {
        for frame in batch.drain(..) {
            frame.encode(group, &mut bytes);
            let weight_bytes = frame.weight_bytes();
            drop(frame);
            if bytes.len() >= WRITE_SIZE_BYTES {
                stream.write_all(&bytes).await?;
                bytes.clear();
                bytes.shrink_to(4 * WRITE_SIZE_BYTES);
            }
            inbox.release(weight_bytes);
        }
        stream.write_all(&bytes).await?;
        stream.flush().await?;
        bytes.clear();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_calls_is_dialled_at_once() {
        let calls = watch::Sender::new(0);
        let mut heard = calls.subscribe();
        let mut backoff = Backoff::new();
        backoff.slow_down();
        let begun = tokio::time::Instant::now();
        // It may call while it is still being dialled in vain, or in the pause after that.
        calls.send_modify(|count| *count += 1);
        pause_unless_called(&mut backoff, &mut heard).await;
        assert_eq!(begun.elapsed(), Duration::ZERO);
        backoff.slow_down();
        tokio::join!(pause_unless_called(&mut backoff, &mut heard), async {
            sleep(Duration::from_millis(1)).await;
            calls.send_modify(|count| *count += 1);
        });
        assert_eq!(begun.elapsed(), Duration::from_millis(1));
        backoff.slow_down();
        pause_unless_called(&mut backoff, &mut heard).await;
        assert!(begun.elapsed() > Duration::from_millis(200), "nobody called, so the pause was whole");
    }
}
