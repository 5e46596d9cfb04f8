//! The node's end of the socket to its guardian.

use super::report::{LINE_SIZE_BYTES_MAX, Report, parse_greeting};
use crate::transport::Identity;
use hotwarm_wire::DeathNotice;
use std::fmt;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::io::AsyncReadExt;

/// How long the guardian's first line may take; it is written before the node is started.
const GREETING_TIMEOUT: Duration = Duration::from_secs(1);

/// The way to the guardian.
#[derive(Debug)]
pub struct GuardianLink {
    death_digest: [u8; 32],
    stream: UnixStream,
    /// `None` once a line could not be written: half a line would be misread, so nothing follows it.
    writer: Mutex<Option<UnixStream>>,
}

impl GuardianLink {
    /// Takes the socket that a guardian has put in the place of standard input, which becomes `/dev/null`: no program
    /// that this process starts inherits it.
    ///
    /// # Errors
    /// When standard input is no guardian's socket.
    pub fn from_stdin() -> Result<Self, LinkError> {
        Self::from_stream(UnixStream::from(hotwarm_sys::take_stdin()?))
    }

    /// Reads the guardian's first line from a socket.
    ///
    /// # Errors
    /// When it is no guardian's socket, or the line does not come.
    pub fn from_stream(mut stream: UnixStream) -> Result<Self, LinkError> {
        stream.set_read_timeout(Some(GREETING_TIMEOUT))?;
        let mut line = Vec::new();
        let mut byte = [0];
        // One byte at a time, since what follows the line is not for this reader.
        while !line.ends_with(b"\n") && line.len() < LINE_SIZE_BYTES_MAX {
            stream.read_exact(&mut byte)?;
            line.push(byte[0]);
        }
        let text = std::str::from_utf8(&line).unwrap_or_default();
        let death_digest = parse_greeting(text.trim_end_matches('\n')).ok_or(LinkError::NotGuardian)?;
        stream.set_nonblocking(true)?;
        let writer = Mutex::new(Some(stream.try_clone()?));
        Ok(Self { death_digest, stream, writer })
    }

    /// SHA-256 of the secret that proves this process's death: for the transport's identity.
    #[must_use]
    pub fn death_digest(&self) -> [u8; 32] {
        self.death_digest
    }

    /// Tells whose death the guardian will attest.
    pub fn tell_identity(&self, identity: &Identity) {
        let notice = DeathNotice {
            cluster: identity.cluster,
            group: identity.group,
            folder: identity.folder,
            incarnation: identity.incarnation,
        };
        self.tell(&Report::Identity { notice, name: identity.name.clone() });
    }

    /// Tells where the peers are reached, this node left out: as `host:port`, whenever they change.
    pub fn tell_peers(&self, addresses: Vec<String>) {
        self.tell(&Report::Peers(addresses));
    }

    /// Tells that the process is alive, and how long it may be silent before the guardian kills it as frozen: the
    /// lease's length while the node is hot. Zero ends the watch, as does a node that never ticks.
    pub fn tick(&self, silent_max: Duration) {
        self.tell(&Report::Tick(silent_max));
    }

    /// Never waits: a guardian that does not read is as good as none.
    fn tell(&self, report: &Report) {
        let line = format!("{report}\n");
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(stream) = writer.as_mut() else { return };
        let wanted = line.len();
        let written = stream.write(line.as_bytes());
        match (&written, report) {
            (Ok(count), _) if *count == wanted => {}
            // A tick that finds no room is nothing lost: the guardian has others to read.
            (Err(error), Report::Tick(_)) if error.kind() == io::ErrorKind::WouldBlock => {}
            (Ok(_) | Err(_), _) => {
                tracing::warn!(result = ?written, "the guardian does not hear this node any more; the grace applies to it");
                *writer = None;
            }
        }
    }

    /// Returns when the guardian is gone. Must be called on a runtime.
    ///
    /// # Errors
    /// When the socket cannot be watched.
    pub async fn gone(&self) -> io::Result<()> {
        let mut stream = tokio::net::UnixStream::from_std(self.stream.try_clone()?)?;
        let mut ignored = [0; 64];
        while stream.read(&mut ignored).await.is_ok_and(|count| count > 0) {}
        Ok(())
    }
}

/// Why there is no way to a guardian.
#[derive(Debug)]
pub enum LinkError {
    /// Standard input cannot be taken, or nothing came.
    Io(io::Error),
    /// What came is not a guardian's first line.
    NotGuardian,
}

impl From<io::Error> for LinkError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "standard input is not a guardian's socket: \"hotwarm run\" starts the guardian, which starts the node; \
             --guarded is for the guardian alone",
        )
    }
}

impl std::error::Error for LinkError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            Self::NotGuardian => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::greeting;
    use super::*;
    use std::io::BufRead;

    #[tokio::test]
    async fn a_node_learns_its_digest_and_notices_that_its_guardian_is_gone() {
        let (mut guardian, node) = UnixStream::pair().unwrap();
        guardian.write_all(greeting(&[7; 32]).as_bytes()).unwrap();
        let link = GuardianLink::from_stream(node).unwrap();
        assert_eq!(link.death_digest(), [7; 32]);
        link.tell_peers(vec!["b:1".into()]);
        link.tick(Duration::from_millis(900));
        let mut reader = io::BufReader::new(guardian);
        let mut lines = String::new();
        reader.read_line(&mut lines).unwrap();
        reader.read_line(&mut lines).unwrap();
        assert_eq!(lines, "peers b:1\ntick 900\n");
        drop(reader);
        link.gone().await.unwrap();
        link.tell_peers(Vec::new());
    }

    #[test]
    fn another_standard_input_is_refused() {
        let (mut other, node) = UnixStream::pair().unwrap();
        other.write_all(b"hello\n").unwrap();
        assert!(matches!(GuardianLink::from_stream(node), Err(LinkError::NotGuardian)));
        let (other, node) = UnixStream::pair().unwrap();
        drop(other);
        assert!(matches!(GuardianLink::from_stream(node), Err(LinkError::Io(_))));
    }

    #[test]
    fn a_guardian_that_does_not_read_delays_nobody() {
        let (mut guardian, node) = UnixStream::pair().unwrap();
        guardian.write_all(greeting(&[7; 32]).as_bytes()).unwrap();
        let link = GuardianLink::from_stream(node).unwrap();
        let addresses = vec!["b.lan:7400".to_owned(); 9];
        for _ in 0..20_000 {
            link.tell_peers(addresses.clone());
            link.tick(Duration::from_millis(1));
        }
        assert!(link.writer.lock().unwrap().is_none());
    }
}
