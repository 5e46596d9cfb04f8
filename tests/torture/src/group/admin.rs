//! A client of a node's admin API, as `docs/monitoring.md` describes it: JSON over one HTTP/1.1 connection.
//!
//! It is written for the harness and shares nothing with the program: what is judged here is what the documents promise.

use serde_json::Value;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// Where every node listens for it, in its own namespace.
pub const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 7480);
/// How long a living node may take for an answer that it has at hand.
const LOOK_WAIT: Duration = Duration::from_millis(500);
/// How long a change may take.
const CHANGE_WAIT: Duration = Duration::from_secs(20);
/// No answer is longer.
const BODY_SIZE_BYTES_MAX: usize = 16 << 20;

/// One connection. The calling thread must be in the node's namespace when it opens one.
pub struct Admin {
    stream: BufReader<TcpStream>,
}

impl Admin {
    /// Connects.
    ///
    /// # Errors
    /// Nobody listens, or nobody answers.
    pub fn connect() -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&ADDRESS, LOOK_WAIT)?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(LOOK_WAIT))?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// Asks for a route.
    ///
    /// # Errors
    /// The connection broke, no answer came in time, or it is not 200 or not JSON; the connection is of no use then.
    pub fn get(&mut self, route: &str) -> io::Result<Value> {
        self.stream.get_ref().set_read_timeout(Some(LOOK_WAIT))?;
        self.ask("GET", route, "")
    }

    /// Asks for a change.
    ///
    /// # Errors
    /// As for [`Admin::get`]; a refusal is one of them, with its text.
    pub fn post(&mut self, route: &str, body: &str) -> io::Result<Value> {
        self.stream.get_ref().set_read_timeout(Some(CHANGE_WAIT))?;
        self.ask("POST", route, body)
    }

    fn ask(&mut self, method: &str, route: &str, body: &str) -> io::Result<Value> {
        let length = body.len();
        let request = format!(
            "{method} {route} HTTP/1.1\r\nhost: {ADDRESS}\r\ncontent-type: application/json\r\n\
             content-length: {length}\r\n\r\n{body}"
        );
        self.stream.get_mut().write_all(request.as_bytes())?;
        let status = self.line()?;
        let mut size_bytes = 0;
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            let header = line.split_once(':').map(|(name, value)| (name.to_ascii_lowercase(), value.trim()));
            if let Some((name, value)) = header
                && name == "content-length"
            {
                size_bytes = value.parse().map_err(|_| invalid(format!("content-length: {value}")))?;
            }
        }
        if size_bytes > BODY_SIZE_BYTES_MAX {
            return Err(invalid(format!("an answer of {size_bytes} bytes")));
        }
        let mut bytes = vec![0; size_bytes];
        self.stream.read_exact(&mut bytes)?;
        if status.split(' ').nth(1) != Some("200") {
            return Err(invalid(format!("{method} {route}: {status}: {}", String::from_utf8_lossy(&bytes))));
        }
        serde_json::from_slice(&bytes).map_err(io::Error::from)
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end().to_owned())
    }
}

fn invalid(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}
