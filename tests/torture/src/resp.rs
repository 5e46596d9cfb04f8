//! A blocking Redis client, as careful as a good client library; written for the harness.

use crate::group::config::PASSWORD;
use bytes::BytesMut;
use hotwarm_resp::{Reply, ReplyLimits, ReplyParser, write_request};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const CONNECT_WAIT: Duration = Duration::from_millis(500);

/// One connection. The calling thread must be in the clients' namespace when it opens one.
pub struct Connection {
    stream: TcpStream,
    parser: ReplyParser,
    read: BytesMut,
    write: BytesMut,
}

impl Connection {
    /// Connects and shows the password. Past `reply_wait` a reply counts as not coming.
    ///
    /// # Errors
    /// What the system says; a refusal as `InvalidData`.
    pub fn open(address: SocketAddr, reply_wait: Duration) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, CONNECT_WAIT)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(reply_wait))?;
        stream.set_write_timeout(Some(reply_wait))?;
        let parser = ReplyParser::new(ReplyLimits::default());
        let mut connection = Self { stream, parser, read: BytesMut::new(), write: BytesMut::new() };
        match connection.call(&["AUTH", PASSWORD])? {
            // A front without a password says so, and takes commands.
            Reply::Error(text) if !text.windows(10).any(|words| words == b"configured") => {
                return Err(io::Error::new(ErrorKind::InvalidData, String::from_utf8_lossy(&text)));
            }
            _ => {}
        }
        Ok(connection)
    }

    /// Attaches a session, under whose numbers commands are executed once.
    ///
    /// # Errors
    /// As for [`Connection::open`].
    pub fn attach(&mut self, session: u128, is_known: bool) -> io::Result<()> {
        let id = format!("{session:032x}");
        let args = ["HOTWARM", "SESSION", &id, "RESUME"];
        self.demand(if is_known { &args } else { &args[..3] })
    }

    fn demand(&mut self, args: &[&str]) -> io::Result<()> {
        match self.call(args)? {
            reply if reply.is_error() => Err(io::Error::new(ErrorKind::InvalidData, format!("{reply:?}"))),
            _ => Ok(()),
        }
    }

    /// Sends one command and waits for its reply.
    ///
    /// # Errors
    /// The connection broke, or no reply came in time: whether the command was executed is not known.
    pub fn call<A: AsRef<[u8]>>(&mut self, args: &[A]) -> io::Result<Reply> {
        self.send(args)?;
        self.receive()
    }

    /// Sends commands at once, and gives all replies.
    ///
    /// # Errors
    /// As for [`Connection::call`].
    pub fn pipeline(&mut self, commands: &[&[&str]]) -> io::Result<Vec<Reply>> {
        self.write.clear();
        for args in commands {
            write_request(args, &mut self.write);
        }
        self.stream.write_all(&self.write)?;
        commands.iter().map(|_| self.receive()).collect()
    }

    fn send<A: AsRef<[u8]>>(&mut self, args: &[A]) -> io::Result<()> {
        self.write.clear();
        write_request(args, &mut self.write);
        self.stream.write_all(&self.write)
    }

    fn receive(&mut self) -> io::Result<Reply> {
        let mut chunk = [0; 16 << 10];
        loop {
            let reply = self.parser.next(&mut self.read);
            if let Some(reply) = reply.map_err(|error| io::Error::new(ErrorKind::InvalidData, error.to_string()))? {
                return Ok(reply);
            }
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(length) => self.read.extend_from_slice(&chunk[..length]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// The number that a reply is or holds.
pub fn number(reply: &Reply) -> Option<u64> {
    match reply {
        Reply::Integer(number) => u64::try_from(*number).ok(),
        Reply::Bulk(text) => std::str::from_utf8(text).ok()?.parse().ok(),
        _ => None,
    }
}
