//! The guardian's connections to the peers: silent until there is a death to tell.
//!
//! One task for each address: connects, says whom it watches, and waits. What comes then is the secret, or the end of
//! the connection; then it connects anew. After a death it tries again every 10 ms, for as long as it is given, until
//! the peer has answered that it knows: a peer may have started a moment ago, and be about to meet the dead.

use crate::transport::{Backoff, CONNECT_TIMEOUT, tune};
use hotwarm_wire::{DeathFrame, DeathNotice};
use std::collections::BTreeMap;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout, timeout_at};

/// How long bytes may stay unacknowledged before a connection to a peer counts as broken.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(1);

/// A connection that stood this long ends a row of failures.
const STABLE_AFTER: Duration = Duration::from_secs(1);

/// Between two attempts to reveal the secret.
const PROCLAIM_PAUSE: Duration = Duration::from_millis(10);

/// What there is to say; `None` while the node lives.
type Secret = Option<[u8; 32]>;

/// The connections to all peers.
pub(super) struct Herald {
    notice: Option<DeathNotice>,
    addresses: Vec<String>,
    secret: watch::Sender<Secret>,
    tasks: BTreeMap<String, JoinHandle<()>>,
}

impl Herald {
    pub(super) fn new() -> Self {
        Self { notice: None, addresses: Vec::new(), secret: watch::Sender::new(None), tasks: BTreeMap::new() }
    }

    /// Says whom it watches. A process has one identity: another than the first is not taken.
    pub(super) fn set_notice(&mut self, notice: DeathNotice) {
        self.notice.get_or_insert(notice);
        self.connect();
    }

    /// Keeps connections to these addresses and no others.
    pub(super) fn set_peers(&mut self, addresses: Vec<String>) {
        self.addresses = addresses;
        self.connect();
    }

    fn connect(&mut self) {
        let Some(notice) = self.notice else { return };
        let wanted = &self.addresses;
        self.tasks.retain(|address, task| {
            let stays = wanted.contains(address);
            if !stays {
                task.abort();
            }
            stays
        });
        for address in wanted {
            let task = || tokio::spawn(keep(address.clone(), notice, self.secret.subscribe()));
            self.tasks.entry(address.clone()).or_insert_with(task);
        }
    }

    /// Reveals the secret to every peer, for as long as `limit`.
    pub(super) async fn proclaim(self, secret: [u8; 32], limit: Duration) -> Told {
        let until = Instant::now() + limit;
        self.secret.send_replace(Some(secret));
        let mut told = Told { count: 0, of: self.tasks.len() };
        for mut task in self.tasks.into_values() {
            match timeout_at(until, &mut task).await {
                Ok(Ok(())) => told.count += 1,
                Ok(Err(_)) | Err(_) => task.abort(),
            }
        }
        told
    }
}

/// How many peers have answered that they know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) count: usize,
    /// How many there are to tell.
    pub(super) of: usize,
}

/// Keeps a connection to one address until the secret has been taken there.
async fn keep(address: String, notice: DeathNotice, mut secret: watch::Receiver<Secret>) {
    let mut backoff = Backoff::new();
    while !is_told(&address, &notice, &mut secret, &mut backoff).await.unwrap_or(false) {
        let is_known = secret.borrow().is_some();
        let pause = if is_known { PROCLAIM_PAUSE } else { backoff.pause() };
        tokio::select! {
            () = sleep(pause) => {}
            Ok(_) = secret.wait_for(Option::is_some), if !is_known => {}
        }
    }
}

/// One connection, to its end. `true`: the peer has answered that it knows of the death.
async fn is_told(
    address: &str,
    notice: &DeathNotice,
    secret: &mut watch::Receiver<Secret>,
    backoff: &mut Backoff,
) -> io::Result<bool> {
    let mut stream = timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await??;
    let since = Instant::now();
    let told = tell(&mut stream, notice, secret).await;
    if since.elapsed() >= STABLE_AFTER {
        backoff.reset();
    }
    told
}

async fn tell(stream: &mut TcpStream, notice: &DeathNotice, secret: &mut watch::Receiver<Secret>) -> io::Result<bool> {
    tune(stream, SILENCE_TIMEOUT)?;
    stream.write_all(&notice.encode()).await?;
    let mut answer = [0];
    let secret = tokio::select! {
        // The secret comes first: a peer that has closed meanwhile is told on a new connection.
        biased;
        known = secret.wait_for(Option::is_some) => match known.ok().and_then(|known| *known) {
            Some(secret) => secret,
            None => return Ok(false),
        },
        end = stream.read(&mut answer) => return end.map(|_| false),
    };
    let frame = DeathFrame { notice: *notice, secret }.encode();
    stream.write_all(&frame[DeathNotice::SIZE_BYTES..]).await?;
    // A connection that only ends has told nobody: the peer may have turned it away, or not have believed it.
    stream.read_exact(&mut answer).await?;
    Ok(answer == [DeathFrame::TAKEN])
}

#[cfg(test)]
mod tests {
    use super::*;
    use hotwarm_types::{ClusterId, FolderId, GroupId, Incarnation};
    use tokio::net::TcpListener;

    const SECRET: [u8; 32] = [0x5e; 32];
    const NOTICE: DeathNotice = DeathNotice {
        cluster: ClusterId(1),
        group: GroupId(1),
        folder: FolderId(2),
        incarnation: Incarnation { start: 3, nonce: 4 },
    };
    const TIMEOUT: Duration = Duration::from_secs(20);

    /// A peer's port, and a herald that has connected to it.
    async fn heralded() -> (TcpListener, Herald, TcpStream) {
        let peer = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut herald = Herald::new();
        herald.set_notice(NOTICE);
        herald.set_peers(vec![peer.local_addr().unwrap().to_string()]);
        let stream = timeout(TIMEOUT, peer.accept()).await.unwrap().unwrap().0;
        (peer, herald, stream)
    }

    /// Reads a whole proof.
    async fn read_proof(stream: &mut TcpStream) {
        let mut bytes = [0; DeathFrame::SIZE_BYTES];
        timeout(TIMEOUT, stream.read_exact(&mut bytes)).await.unwrap().unwrap();
        assert_eq!(DeathFrame::decode(&bytes), Ok(DeathFrame { notice: NOTICE, secret: SECRET }));
    }

    #[tokio::test]
    async fn a_peer_that_does_not_take_the_proof_is_asked_again_at_once_until_it_does() {
        const REFUSED: usize = 20;
        let (peer, herald, mut stream) = heralded().await;
        // With the pauses of a lost connection so many attempts would take 6 s at the least.
        let told = tokio::spawn(herald.proclaim(SECRET, Duration::from_secs(5)));
        for _ in 0..REFUSED {
            read_proof(&mut stream).await;
            drop(stream);
            stream = timeout(TIMEOUT, peer.accept()).await.unwrap().unwrap().0;
        }
        read_proof(&mut stream).await;
        stream.write_all(&[DeathFrame::TAKEN]).await.unwrap();
        assert_eq!(told.await.unwrap(), Told { count: 1, of: 1 });
    }

    #[tokio::test]
    async fn a_peer_that_only_closes_the_connection_was_not_told() {
        let (peer, herald, mut stream) = heralded().await;
        let told = tokio::spawn(herald.proclaim(SECRET, Duration::from_millis(100)));
        let refusing = tokio::spawn(async move {
            loop {
                read_proof(&mut stream).await;
                drop(stream);
                stream = peer.accept().await.unwrap().0;
            }
        });
        assert_eq!(told.await.unwrap(), Told { count: 0, of: 1 });
        refusing.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_stood_ends_the_row_of_failures() {
        let (peer, _herald, mut stream) = heralded().await;
        for _ in 0..8 {
            sleep(STABLE_AFTER).await;
            drop(stream);
            let lost = Instant::now();
            stream = peer.accept().await.unwrap().0;
            assert!(lost.elapsed() < Duration::from_millis(50), "{:?}", lost.elapsed());
        }
    }
}
