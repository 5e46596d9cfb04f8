//! A connection of a client, with the test in the place of the executing thread.

use super::*;
use crate::board::Board;
use crate::config::File;
use crate::metrics::Metrics;
use crate::queue::Queue;
use crate::resp::{FrontServer, FrontSettings, LiveFront};
use bytes::Bytes;
use hotwarm_types::Incarnation;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::timeout;

const TIMEOUT: Duration = Duration::from_secs(20);

const FILE: &str = r#"
    [cluster]
    name = "shop"
    [nodes]
    a = { address = "127.0.0.1:7400" }
    [local]
    data_dir = "/data"
    tls_dir = "/tls"
    [group.main]
    [front.redis]
    protocol = "resp"
    listen = "127.0.0.1:6379"
    to = "main"
"#;

fn front() -> Arc<FrontShared> {
    let config = File::parse(FILE, Path::new("hotwarm.toml")).unwrap().for_node("a", "--node").unwrap();
    let front = config.fronts().remove(0);
    let live = Arc::new(LiveFront::new(FrontSettings { config: Arc::new(config), front, password: None }));
    let (board, metrics) = (Arc::new(Board::default()), Arc::new(Metrics::default()));
    let server = FrontServer::new(Arc::clone(&live), board, Arc::clone(&metrics), Incarnation::default());
    Arc::new(FrontShared {
        jobs: Queue::new(),
        server: Arc::new(server),
        live,
        metrics,
        next_client: Arc::new(AtomicU64::new(1)),
        descriptors: Arc::new(Semaphore::new(1)),
    })
}

/// The node's end and the client's.
async fn connected() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (listener.accept().await.unwrap().0, client)
}

impl Connection {
    /// Reads and plans until it wants no more of the client, or `count` calls are with the executing thread; gives them.
    async fn receive(&mut self, count: usize) -> Vec<ClientCall> {
        let mut all = Vec::new();
        let receive = async {
            while all.len() < count && self.interest().is_some_and(Interest::is_readable) {
                self.stream.readable().await.unwrap();
                assert!(self.read().unwrap(), "the client is there");
                self.go_on().unwrap();
                let mut jobs = Vec::new();
                self.shared.jobs.take(&mut jobs, Some(Duration::ZERO));
                all.extend(jobs.into_iter().flat_map(|job| match job {
                    Job::Calls { calls, .. } => calls,
                    _opened => Vec::new(),
                }));
            }
        };
        timeout(TIMEOUT, receive).await.expect("requests arrive");
        all
    }

    fn reply(&mut self, slot: u64, reply: Reply) {
        self.take(Delivery { slot, outcome: Outcome::Reply(reply), seen: Lsn::ZERO });
    }
}

#[tokio::test]
async fn replies_that_nobody_takes_are_not_written() {
    const COUNT: usize = 100;
    const VALUE_SIZE_BYTES: usize = 1 << 20;
    let (stream, mut client) = connected().await;
    let mut connection = Connection::new(stream, front());
    client.write_all("GET k\r\n".repeat(COUNT).as_bytes()).await.unwrap();
    let calls = connection.receive(COUNT).await;
    assert_eq!(calls.len(), COUNT);
    let value = Bytes::from(vec![b'v'; VALUE_SIZE_BYTES]);
    for call in calls {
        connection.reply(call.slot, Reply::Bulk(value.clone()));
    }
    connection.go_on().unwrap();
    let written = connection.output.len();
    assert!(written < OUTPUT_SIZE_BYTES_MAX + VALUE_SIZE_BYTES + 64, "{written} bytes wait for the client");
    assert_eq!(connection.interest(), Some(Interest::WRITABLE));

    // They go on as the client takes them, whole and to the last.
    let reader = tokio::spawn(async move {
        let mut reply = vec![0; format!("${VALUE_SIZE_BYTES}\r\n").len() + VALUE_SIZE_BYTES + 2];
        for _ in 0..COUNT {
            client.read_exact(&mut reply).await.unwrap();
            assert!(reply.starts_with(b"$1048576\r\nv") && reply.ends_with(b"v\r\n"));
        }
    });
    timeout(TIMEOUT, connection.run()).await.expect("it ends with the client").unwrap();
    reader.await.unwrap();
}

#[tokio::test]
async fn open_requests_are_bounded_in_bytes() {
    const VALUE_SIZE_BYTES: usize = 7 << 20;
    const FIT: usize = OPEN_SIZE_BYTES_MAX / VALUE_SIZE_BYTES + 1;
    let (stream, mut client) = connected().await;
    let mut connection = Connection::new(stream, front());
    let writer = tokio::spawn(async move {
        let mut request = format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${VALUE_SIZE_BYTES}\r\n").into_bytes();
        request.resize(request.len() + VALUE_SIZE_BYTES, b'v');
        request.extend(b"\r\n");
        for _ in 0..FIT + 2 {
            client.write_all(&request).await.unwrap();
        }
        client
    });
    let calls = connection.receive(usize::MAX).await;
    assert_eq!(calls.len(), FIT);
    assert_eq!(connection.interest(), None, "nothing more is read");
    // One that leaves makes room for one more, and the others for the rest.
    connection.reply(calls[0].slot, Reply::ok());
    connection.go_on().unwrap();
    let mut rest = connection.receive(usize::MAX).await;
    assert_eq!(rest.len(), 1);
    for call in &calls[1..] {
        connection.reply(call.slot, Reply::ok());
    }
    connection.go_on().unwrap();
    rest.extend(connection.receive(1).await);
    assert_eq!(rest.len(), 2);
    for call in rest {
        connection.reply(call.slot, Reply::ok());
    }
    connection.go_on().unwrap();
    assert_eq!((connection.slots.len(), connection.open_size_bytes), (0, 0));
    drop(writer.await.unwrap());
}

#[tokio::test]
async fn the_system_looks_after_clients_that_are_silent() {
    let (stream, mut client) = connected().await;
    let socket = socket2::SockRef::from(&stream).try_clone().unwrap();
    let serving = tokio::spawn(Connection::serve(stream, front()));
    client.write_all(b"PING\r\n").await.unwrap();
    let mut reply = [0; 7];
    client.read_exact(&mut reply).await.unwrap();
    assert_eq!(&reply, b"+PONG\r\n");
    assert!(socket.keepalive().unwrap());
    assert_eq!(socket.tcp_keepalive_time().unwrap(), KEEPALIVE_TIME);
    assert_eq!(socket.tcp_keepalive_interval().unwrap(), KEEPALIVE_INTERVAL);
    assert_eq!(socket.tcp_keepalive_retries().unwrap(), KEEPALIVE_RETRIES);
    assert_eq!(socket.tcp_user_timeout().unwrap(), Some(SILENCE_TIME_MAX));
    drop(client);
    serving.await.unwrap();
}

/// A WAIT for copies that nobody has, without an end of its own.
const WAIT_FOR_EVER: &[u8] = b"WAIT 9 0\r\n";

#[tokio::test]
async fn a_client_that_is_gone_keeps_no_place_by_a_wait() {
    let (stream, mut client) = connected().await;
    let serving = tokio::spawn(Connection::serve(stream, front()));
    client.write_all(WAIT_FOR_EVER).await.unwrap();
    drop(client);
    timeout(TIMEOUT, serving).await.expect("it ends").unwrap();
}

#[tokio::test]
async fn a_connection_that_breaks_ends_its_wait() {
    let (stream, mut client) = connected().await;
    let mut connection = Connection::new(stream, front());
    // What came after the WAIT lies unread, and hides the end from whoever would have to read it first.
    client.write_all(WAIT_FOR_EVER).await.unwrap();
    let _ = timeout(WAIT_INTERVAL, connection.run()).await.expect_err("it waits");
    client.write_all(b"PING\r\n").await.unwrap();
    client.set_zero_linger().unwrap();
    drop(client);
    let ended = timeout(TIMEOUT, connection.run()).await.expect("it ends");
    assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_client_that_has_ended_its_sending_still_hears_what_it_waits_for_and_asked_after_it() {
    let (stream, mut client) = connected().await;
    let serving = tokio::spawn(Connection::serve(stream, front()));
    client.write_all(&[WAIT_FOR_EVER, WAIT_FOR_EVER, b"PING\r\n"].concat()).await.unwrap();
    client.shutdown().await.unwrap();
    let mut replies = String::new();
    timeout(TIMEOUT, client.read_to_string(&mut replies)).await.expect("replies come").unwrap();
    assert_eq!(replies, ":0\r\n:0\r\n+PONG\r\n");
    serving.await.unwrap();
}
