//! The front that Redis clients talk to: a listener, and a task for each connection.
//!
//! Connections are counted and bounded; one more than allowed is told so and closed. A connection that has not said
//! who it is costs little and is closed after a while (C35).

mod connection;
pub mod outbox;
mod server;

pub use server::FrontServer;

use crate::config::{Front, Reads};
use crate::executor::Job;
use crate::metrics::Metrics;
use crate::queue::Queue;
use connection::Connection;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;

/// How long a client may take to say who it is.
pub(crate) const AUTH_TIME_MAX: Duration = Duration::from_secs(10);

/// Connections that the system keeps ready for `accept`: a burst of clients that reconnect after a failover.
const BACKLOG: u32 = 4_096;

/// After `accept` has failed: out of file descriptors, most likely, and trying at once would only spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What all connections of a front share.
#[derive(Debug)]
pub struct FrontShared {
    /// The executing thread.
    pub jobs: Arc<Queue<Job>>,
    /// What commands ask of the node.
    pub server: Arc<FrontServer>,
    /// Who answers reads.
    pub reads: Reads,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Numbers connections of this process; shared by all fronts.
    pub next_client: Arc<AtomicU64>,
}

/// A front that listens.
#[derive(Debug)]
pub struct Listening {
    listener: TcpListener,
    shared: Arc<FrontShared>,
    room: Arc<Semaphore>,
}

impl Listening {
    /// Opens the front's port.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(front: &Front, shared: Arc<FrontShared>) -> io::Result<Self> {
        let socket = if front.listen.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        socket.bind(front.listen)?;
        let listener = socket.listen(BACKLOG)?;
        let room = Arc::new(Semaphore::new(front.connections_max as usize));
        Ok(Self { listener, shared, room })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// What the system says.
    pub fn local_address(&self) -> io::Result<std::net::SocketAddr> {
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
            match Arc::clone(&self.room).try_acquire_owned() {
                Ok(slot) => {
                    self.shared.metrics.connections.inc();
                    let shared = Arc::clone(&self.shared);
                    tokio::spawn(async move {
                        Connection::serve(stream, shared).await;
                        drop(slot);
                    });
                }
                Err(_) => {
                    self.shared.metrics.connections_refused.inc();
                    tokio::spawn(refuse(stream));
                }
            }
        }
    }
}

impl FrontShared {
    /// A number for a new connection.
    pub(crate) fn number(&self) -> u64 {
        self.next_client.fetch_add(1, Ordering::Relaxed)
    }
}

/// Says why, and closes. Whoever does not read it is not waited for.
async fn refuse(mut stream: TcpStream) {
    let text = b"-ERR max number of clients reached\r\n";
    // The refused client may be gone already.
    let _ = tokio::time::timeout(ACCEPT_PAUSE, stream.write_all(text)).await;
}
