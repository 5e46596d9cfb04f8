//! The other end of the admin API: what the command line speaks. One request, one connection, no runtime.

use super::body::ErrorBody;
use crate::config::Secret;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// An answer longer than this is not ours.
const ANSWER_SIZE_BYTES_MAX: u64 = 64 << 20;
/// How long a node may take to accept a connection.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(3);
/// How long a node may take to say that it lives.
const PROBE_TIME_MAX: Duration = Duration::from_secs(3);
/// How long it may take to answer: longer than the server lets a request run, so that the server's word is heard.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(75);

/// Speaks to one node.
#[derive(Clone, Debug)]
pub struct Client {
    address: SocketAddr,
    token: Option<Secret>,
}

/// What a node answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
}

/// Why there is no good answer.
#[derive(Debug)]
pub enum CallError {
    /// No connection: nothing was asked.
    Unreachable {
        /// Whom.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// It accepts connections and says nothing: nothing was asked.
    Silent {
        /// Whom.
        address: SocketAddr,
    },
    /// The connection ended before the answer: a change may have been made.
    Lost {
        /// Whom.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The answer is not one of this API.
    NotOurs {
        /// Whom.
        address: SocketAddr,
        /// What came.
        status: u16,
    },
    /// The node refused, and says why.
    Refused(ErrorBody),
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable { address, .. } => {
                write!(f, "no node answers at {address} (is it running? --admin ADDRESS asks another)")
            }
            Self::Silent { address } => {
                let seconds = PROBE_TIME_MAX.as_secs();
                write!(
                    f,
                    "the process at {address} accepts connections and does not answer within {seconds} s: frozen?"
                )
            }
            Self::Lost { address, .. } => {
                write!(
                    f,
                    "the node at {address} went away before it answered; a change may have been made: look at status"
                )
            }
            Self::NotOurs { address, status } => {
                write!(f, "what answers at {address} (HTTP status {status}) is not a hotwarm node of this version")
            }
            Self::Refused(body) => f.write_str(&body.error),
        }
    }
}

impl std::error::Error for CallError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unreachable { source, .. } | Self::Lost { source, .. } => Some(source),
            Self::Silent { .. } | Self::NotOurs { .. } | Self::Refused(_) => None,
        }
    }
}

impl Client {
    /// A client of the node whose admin API listens there.
    #[must_use]
    pub fn new(address: SocketAddr, token: Option<Secret>) -> Self {
        Self { address, token }
    }

    /// Whether anything answers there, within a few seconds. What it says does not count.
    ///
    /// # Errors
    /// `Unreachable` or `Silent`.
    pub fn probe(&self) -> Result<(), CallError> {
        let address = self.address;
        let mut stream = self.connect()?;
        match self.exchange(&mut stream, "GET", "/liveness", b"", PROBE_TIME_MAX) {
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                Err(CallError::Silent { address })
            }
            // Who breaks off or speaks another language is there; the request itself will tell.
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Reads a route as JSON.
    ///
    /// # Errors
    /// See [`CallError`].
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, CallError> {
        self.understood(self.call("GET", path, b"")?)
    }

    /// Asks for a change.
    ///
    /// # Errors
    /// See [`CallError`]; after `Lost` the change may have been made.
    pub fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, CallError> {
        let body = serde_json::to_vec(body)
            .map_err(|error| CallError::Unreachable { address: self.address, source: error.into() })?;
        self.understood(self.call("POST", path, &body)?)
    }

    fn understood<T: DeserializeOwned>(&self, response: Response) -> Result<T, CallError> {
        let not_ours = || CallError::NotOurs { address: self.address, status: response.status };
        if response.status == 200 {
            return serde_json::from_slice(&response.body).map_err(|_| not_ours());
        }
        let refusal = serde_json::from_slice(&response.body).map_err(|_| not_ours())?;
        Err(CallError::Refused(refusal))
    }

    /// One request and its answer, whatever it is.
    ///
    /// # Errors
    /// `Unreachable` or `Lost`.
    pub fn call(&self, method: &str, path: &str, body: &[u8]) -> Result<Response, CallError> {
        let address = self.address;
        let mut stream = self.connect()?;
        self.exchange(&mut stream, method, path, body, ANSWER_TIME_MAX)
            .map_err(|source| CallError::Lost { address, source })
    }

    fn connect(&self) -> Result<TcpStream, CallError> {
        let address = self.address;
        TcpStream::connect_timeout(&address, CONNECT_TIME_MAX)
            .map_err(|source| CallError::Unreachable { address, source })
    }

    fn exchange(
        &self,
        stream: &mut TcpStream,
        method: &str,
        path: &str,
        body: &[u8],
        time_max: Duration,
    ) -> io::Result<Response> {
        stream.set_read_timeout(Some(time_max))?;
        stream.set_write_timeout(Some(CONNECT_TIME_MAX))?;
        let mut request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ncontent-length: {}\r\n",
            self.address,
            body.len()
        )
        .into_bytes();
        if method == "POST" {
            request.extend_from_slice(b"content-type: application/json\r\n");
        }
        if let Some(token) = &self.token {
            request.extend_from_slice(b"authorization: Bearer ");
            request.extend_from_slice(token.expose());
            request.extend_from_slice(b"\r\n");
        }
        request.extend_from_slice(b"\r\n");
        request.extend_from_slice(body);
        stream.write_all(&request)?;
        let mut answer = Vec::new();
        stream.take(ANSWER_SIZE_BYTES_MAX).read_to_end(&mut answer)?;
        parse(&answer).ok_or_else(|| io::Error::new(io::ErrorKind::UnexpectedEof, "the answer is cut off"))
    }
}

/// Splits an answer whose body ends with the connection. The length that the head states must be there.
fn parse(answer: &[u8]) -> Option<Response> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&answer[..end]).ok()?;
    let body = &answer[end + 4..];
    let mut lines = head.split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    let length = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    })?;
    (body.len() == length).then(|| Response { status, body: body.to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_or_none() {
        let whole = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 5\r\n\r\nwarm\n";
        assert_eq!(parse(whole), Some(Response { status: 503, body: b"warm\n".to_vec() }));
        for cut in 0..whole.len() {
            assert_eq!(parse(&whole[..cut]), None, "{cut}");
        }
        assert_eq!(parse(b"SSH-2.0-x\r\n\r\n"), None);
    }
}
