//! The guardian's connections to the peers: silent until there is a death to tell.
//!
//! One task for each address: connects, says whom it watches, and waits. What comes then is the secret, or the end of
//! the connection; then it connects anew. After a death it goes on trying, without a pause, for as long as it is
//! given.

use crate::transport::{Backoff, CONNECT_TIMEOUT, tune};
use hotwarm_wire::{DeathFrame, DeathNotice};
use std::collections::BTreeMap;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout, timeout_at};

/// How long bytes may stay unacknowledged before a connection to a peer counts as broken.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(1);

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

    /// Reveals the secret to every peer, for as long as `limit`; returns how many have taken it.
    pub(super) async fn proclaim(self, secret: [u8; 32], limit: Duration) -> usize {
        let until = tokio::time::Instant::now() + limit;
        self.secret.send_replace(Some(secret));
        let mut told_count = 0;
        for mut task in self.tasks.into_values() {
            match timeout_at(until, &mut task).await {
                Ok(Ok(())) => told_count += 1,
                Ok(Err(_)) | Err(_) => task.abort(),
            }
        }
        told_count
    }
}

/// Keeps a connection to one address until the secret has been taken there.
async fn keep(address: String, notice: DeathNotice, mut secret: watch::Receiver<Secret>) {
    let mut backoff = Backoff::new();
    while !is_told(&address, &notice, &mut secret).await.unwrap_or(false) {
        tokio::select! {
            () = sleep(backoff.pause()) => {}
            Ok(_) = secret.wait_for(Option::is_some), if secret.borrow().is_none() => {}
        }
    }
}

/// One connection, to its end. `true`: the peer has read the secret.
async fn is_told(address: &str, notice: &DeathNotice, secret: &mut watch::Receiver<Secret>) -> io::Result<bool> {
    let mut stream = timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await??;
    tune(&stream, SILENCE_TIMEOUT)?;
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
    // The peer answers nothing and closes once it has read the frame.
    stream.read(&mut answer).await.map(|count| count == 0)
}
