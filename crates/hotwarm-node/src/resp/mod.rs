//! The front that Redis clients talk to: a listener, and a task for each connection.
//!
//! Connections are counted and bounded, by the front's own setting and by the file descriptors that all fronts may
//! take; one more than allowed is told so and closed. A connection that has not said who it is costs little and is
//! closed after a while (C35).

mod connection;
pub mod live;
pub mod outbox;
mod server;

pub use live::{FrontSettings, LiveFront};
pub use server::FrontServer;

use crate::executor::Job;
use crate::metrics::Metrics;
use crate::queue::Queue;
use connection::Connection;
use live::Place;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How long a client may take to say who it is.
pub(crate) const AUTH_TIME_MAX: Duration = Duration::from_secs(10);

/// Connections that the system keeps ready for `accept`: a burst of clients that reconnect after a failover.
const BACKLOG: u32 = 4_096;

/// After `accept` has failed: out of file descriptors, most likely, and trying at once would only spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long a refused client may take to read why.
const REFUSAL_TIME_MAX: Duration = Duration::from_millis(100);

/// Refused clients that are waited for at once; further ones are told and closed without a wait.
const REFUSALS_MAX: usize = 64;

/// What all connections of a front share.
#[derive(Debug)]
pub struct FrontShared {
    /// The executing thread.
    pub jobs: Arc<Queue<Job>>,
    /// What commands ask of the node.
    pub server: Arc<FrontServer>,
    /// What may change.
    pub live: Arc<LiveFront>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Numbers connections of this process; shared by all fronts.
    pub next_client: Arc<AtomicU64>,
    /// A permit for each file descriptor that clients may take; shared by all fronts.
    pub descriptors: Arc<Semaphore>,
}

/// A front that listens.
#[derive(Debug)]
pub struct Listening {
    listener: TcpListener,
    shared: Arc<FrontShared>,
    refusals: Arc<Semaphore>,
}

impl Listening {
    /// Opens a front's port. Clients that connect wait until it [runs](Self::run).
    ///
    /// # Errors
    /// What the system says.
    pub fn open(listen: SocketAddr, shared: Arc<FrontShared>) -> io::Result<Self> {
        let socket = if listen.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        socket.bind(listen)?;
        let listener = socket.listen(BACKLOG)?;
        Ok(Self { listener, shared, refusals: Arc::new(Semaphore::new(REFUSALS_MAX)) })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// What the system says.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Accepts connections until it is dropped; those that stand go on.
    pub async fn run(self) {
        loop {
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(event = "accept_failed", %error, "a client could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            match self.admit() {
                Some(places) => {
                    self.shared.metrics.connections.inc();
                    let shared = Arc::clone(&self.shared);
                    tokio::spawn(async move {
                        Connection::serve(stream, shared).await;
                        drop(places);
                    });
                }
                None => {
                    self.shared.metrics.connections_refused.inc();
                    let patience = Arc::clone(&self.refusals).try_acquire_owned().ok();
                    tokio::spawn(refuse(stream, patience));
                }
            }
        }
    }

    /// A place among the connections of this front, and one among those of the process.
    fn admit(&self) -> Option<(Place, OwnedSemaphorePermit)> {
        let own = self.shared.live.place()?;
        let descriptor = Arc::clone(&self.shared.descriptors).try_acquire_owned().ok()?;
        Some((own, descriptor))
    }
}

impl FrontShared {
    /// A number for a new connection.
    pub(crate) fn number(&self) -> u64 {
        self.next_client.fetch_add(1, Ordering::Relaxed)
    }
}

/// Says why, and closes. A client that has sent something already would lose the words to a reset, so that its end is
/// awaited for a moment where there is patience for it.
async fn refuse(mut stream: TcpStream, patience: Option<OwnedSemaphorePermit>) {
    let end = async {
        stream.write_all(b"-ERR max number of clients reached\r\n").await?;
        if patience.is_some() {
            stream.shutdown().await?;
            let mut ignored = [0; 512];
            while stream.read(&mut ignored).await? > 0 {}
        }
        io::Result::Ok(())
    };
    // The refused client may be gone already.
    let _ = tokio::time::timeout(REFUSAL_TIME_MAX, end).await;
}
