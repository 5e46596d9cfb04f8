//! The side of Redis: the `redis-server` of the system, configured by the files in `benches/rivals`.

use crate::failure::Failure;
use crate::machine;
use crate::process::{Server, free_addresses, until};
use bytes::BytesMut;
use hotwarm_resp::{Reply, ReplyLimits, ReplyParser, write_request};
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const PROGRAM: &str = "redis-server";
const DURABLE: &str = include_str!("../rivals/redis-durable.conf");
const MEMORY: &str = include_str!("../rivals/redis-memory.conf");
/// How long a question to a starting server may take.
const ANSWER_WAIT: Duration = Duration::from_secs(2);

/// The version of the system's Redis.
///
/// # Errors
/// There is none: nothing is measured beside nothing.
pub fn version() -> Result<String, Failure> {
    machine::version(Path::new(PROGRAM)).map_err(|failure| {
        Failure::new(format!("{failure}; the rival is missing (Debian: apt-get install -y redis-server)"))
    })
}

/// A master and a replica. Both sync each write before they acknowledge it.
pub struct DurableRedis {
    address: SocketAddr,
    _servers: [Server; 2],
}

impl DurableRedis {
    /// Starts both, and waits until the replica follows.
    ///
    /// # Errors
    /// One cannot be started, or it takes too long.
    pub fn start(folder: &Path) -> Result<Self, Failure> {
        let free = free_addresses(2)?;
        let (master, replica) = (free[0], free[1]);
        let mut servers = [
            start("redis-master", DURABLE, master, None, folder)?,
            start("redis-replica", DURABLE, replica, Some(master), folder)?,
        ];
        until("the replica of Redis follows", || {
            for server in &mut servers {
                server.check()?;
            }
            let info = ask(replica, &[b"INFO", b"replication"]);
            Ok(if info.contains("master_link_status:up") { Ok(()) } else { Err(info) })
        })?;
        Ok(Self { address: master, _servers: servers })
    }

    /// Where the master listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// One node that persists nothing.
pub struct MemoryRedis {
    address: SocketAddr,
    _server: Server,
}

impl MemoryRedis {
    /// Starts it, and waits until it answers.
    ///
    /// # Errors
    /// It cannot be started, or it takes too long.
    pub fn start(folder: &Path) -> Result<Self, Failure> {
        let address = free_addresses(1)?[0];
        let mut server = start("redis-memory", MEMORY, address, None, folder)?;
        until("Redis without persistence answers", || {
            server.check()?;
            let pong = ask(address, &[b"PING"]);
            Ok(if pong == "PONG" { Ok(()) } else { Err(pong) })
        })?;
        Ok(Self { address, _server: server })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Starts a server with a folder of its own.
fn start(
    name: &str,
    config: &str,
    address: SocketAddr,
    master: Option<SocketAddr>,
    folder: &Path,
) -> Result<Server, Failure> {
    let folder = folder.join(name);
    fs::create_dir(&folder)?;
    let file = folder.join("redis.conf");
    fs::write(&file, config)?;
    let mut command = Command::new(PROGRAM);
    command.arg(&file).args(["--port", &address.port().to_string(), "--dir"]).arg(&folder);
    if let Some(master) = master {
        command.args(["--replicaof", &master.ip().to_string(), &master.port().to_string()]);
    }
    Server::start(name, &mut command, &folder)
}

/// One question on a connection of its own: the answer, or why there is none.
fn ask(address: SocketAddr, question: &[&[u8]]) -> String {
    match try_ask(address, question) {
        Ok(Reply::Bulk(text) | Reply::Simple(text)) => String::from_utf8_lossy(&text).into_owned(),
        Ok(other) => format!("{other:?}"),
        Err(failure) => failure.to_string(),
    }
}

fn try_ask(address: SocketAddr, question: &[&[u8]]) -> Result<Reply, Failure> {
    let mut stream = TcpStream::connect_timeout(&address, ANSWER_WAIT)?;
    stream.set_read_timeout(Some(ANSWER_WAIT))?;
    let mut bytes = BytesMut::new();
    write_request(question, &mut bytes);
    stream.write_all(&bytes)?;
    bytes.clear();
    let mut parser = ReplyParser::new(ReplyLimits::default());
    let mut chunk = [0; 4096];
    loop {
        match stream.read(&mut chunk)? {
            0 => return Err(Failure::new("the server closed the connection")),
            length => bytes.extend_from_slice(&chunk[..length]),
        }
        if let Some(reply) = parser.next(&mut bytes)? {
            return Ok(reply);
        }
    }
}
