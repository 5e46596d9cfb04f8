//! A blocking Redis client with a session of its own, as careful as a good client library.
//!
//! Every write goes out under (session, sequence); after a lost connection the same request is sent again, to another
//! node, under the same number: the group applies it once, whichever hot it reached.

use bytes::BytesMut;
use hotwarm_resp::{Reply, ReplyLimits, ReplyParser, write_request};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Longer than any takeover that the demo accepts: past it the group is broken, not slow.
const REPLY_WAIT: Duration = Duration::from_secs(15);
const CONNECT_WAIT: Duration = Duration::from_millis(500);

/// One connection.
pub struct Connection {
    stream: TcpStream,
    parser: ReplyParser,
    read: BytesMut,
    write: BytesMut,
}

impl Connection {
    /// Connects, and attaches the session if one is given.
    ///
    /// # Errors
    /// What the system says; a refusal of the session as `InvalidData`.
    pub fn open(address: SocketAddr, session: Option<u128>) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, CONNECT_WAIT)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(REPLY_WAIT))?;
        stream.set_write_timeout(Some(REPLY_WAIT))?;
        let parser = ReplyParser::new(ReplyLimits::default());
        let mut connection = Self { stream, parser, read: BytesMut::new(), write: BytesMut::new() };
        if let Some(session) = session {
            let id = format!("{session:032x}");
            let reply = connection.call(&[b"HOTWARM", b"SESSION", id.as_bytes()])?;
            if reply.is_error() {
                return Err(io::Error::new(ErrorKind::InvalidData, format!("{reply:?}")));
            }
        }
        Ok(connection)
    }

    /// Sends one command and waits for its reply.
    ///
    /// # Errors
    /// The connection broke, or no reply came in time: whether the command was executed is not known.
    pub fn call(&mut self, args: &[&[u8]]) -> io::Result<Reply> {
        self.write.clear();
        write_request(args, &mut self.write);
        self.stream.write_all(&self.write)?;
        let mut chunk = [0; 16 << 10];
        loop {
            let reply = self.parser.next(&mut self.read);
            if let Some(reply) = reply.map_err(|error| io::Error::new(ErrorKind::InvalidData, error.to_string()))? {
                return Ok(reply);
            }
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(length) => self.read.extend_from_slice(&chunk[..length]),
                // A signal to the process is no answer.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}
