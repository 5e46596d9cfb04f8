//! The node's end of the socket to its guardian.

use super::report::{LINE_SIZE_BYTES_MAX, Report, parse_greeting};
use crate::transport::Identity;
use hotwarm_wire::DeathNotice;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::AsyncReadExt;

/// How long the guardian's first line may take; it is written before the node is started.
const GREETING_TIMEOUT: Duration = Duration::from_secs(1);

/// The way to the guardian.
#[derive(Debug)]
pub struct GuardianLink {
    death_digest: [u8; 32],
    stream: UnixStream,
    writer: Mutex<Writer>,
}

#[derive(Debug)]
struct Writer {
    /// `None` once a line could not be written: half a line would be misread, so nothing follows it.
    stream: Option<UnixStream>,
    /// The guardian watches for ticks, or will once it reads what was written.
    is_watched: bool,
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
        let writer = Writer { stream: Some(stream.try_clone()?), is_watched: false };
        Ok(Self { death_digest, stream, writer: Mutex::new(writer) })
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
        self.writer().tell(&Report::Identity { notice, name: identity.name.clone() });
    }

    /// Tells where the peers are reached, this node left out: as `host:port`, whenever they change.
    pub fn tell_peers(&self, addresses: Vec<String>) {
        self.writer().tell(&Report::Peers(addresses));
    }

    /// Tells that the process is alive, and how long it may be silent before the guardian kills it as frozen: the
    /// lease's length while the node is hot. Zero ends the watch, and is told only where there is one: where it found no
    /// room, the next zero is told again.
    pub fn tick(&self, silent_max: Duration) {
        let mut writer = self.writer();
        let is_watched = !silent_max.is_zero();
        if (is_watched || writer.is_watched) && writer.tell(&Report::Tick(silent_max)) {
            writer.is_watched = is_watched;
        }
    }

    /// Ends the watch for good: no further tick will come. Where there is no room to say so, the socket's end says it.
    pub fn end_watch(&self) {
        self.tick(Duration::ZERO);
        let mut writer = self.writer();
        if writer.is_watched {
            writer.give_up();
        }
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
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

impl Writer {
    /// Writes a line if there is room for it. Never waits: a guardian that does not read is as good as none.
    fn tell(&mut self, report: &Report) -> bool {
        let line = format!("{report}\n");
        let Some(stream) = self.stream.as_mut() else { return false };
        match (stream.write(line.as_bytes()), report) {
            (Ok(count), _) if count == line.len() => return true,
            // A tick that finds no room is nothing lost: the guardian has others to read.
            (Err(error), Report::Tick(_)) if error.kind() == io::ErrorKind::WouldBlock => {}
            (result, _) => {
                tracing::warn!(?result, "the guardian does not hear this node any more; the grace applies to it");
                self.give_up();
            }
        }
        false
    }

    /// Writes nothing more. The guardian finds the end after what was written, and watches for ticks no longer.
    fn give_up(&mut self) {
        if let Some(stream) = self.stream.take() {
            // It fails where the guardian is gone.
            let _ = stream.shutdown(Shutdown::Write);
        }
        self.is_watched = false;
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

    fn linked() -> (GuardianLink, UnixStream) {
        let (mut guardian, node) = UnixStream::pair().unwrap();
        guardian.write_all(greeting(&[7; 32]).as_bytes()).unwrap();
        guardian.set_read_timeout(Some(GREETING_TIMEOUT)).unwrap();
        (GuardianLink::from_stream(node).unwrap(), guardian)
    }

    #[tokio::test]
    async fn a_node_learns_its_digest_and_notices_that_its_guardian_is_gone() {
        let (link, guardian) = linked();
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
    fn a_guardian_that_does_not_read_delays_nobody_and_finds_the_end() {
        let (link, mut guardian) = linked();
        let addresses = vec!["b.lan:7400".to_owned(); 9];
        for _ in 0..20_000 {
            link.tell_peers(addresses.clone());
            link.tick(Duration::from_millis(1));
        }
        assert!(link.writer().stream.is_none());
        let mut lines = String::new();
        guardian.read_to_string(&mut lines).unwrap();
        assert!(lines.ends_with('\n'), "no half line");
    }

    /// A socket into which no further tick fits.
    fn filled() -> (GuardianLink, io::BufReader<UnixStream>) {
        let (link, guardian) = linked();
        let tick = Report::Tick(Duration::from_millis(200));
        link.tick(Duration::from_millis(200));
        while link.writer().tell(&tick) {}
        assert!(link.writer().stream.is_some());
        (link, io::BufReader::new(guardian))
    }

    #[test]
    fn the_end_of_the_ticks_is_told_again_until_there_is_room() {
        let (link, mut guardian) = filled();
        link.tick(Duration::ZERO);
        let mut line = String::new();
        while link.writer().is_watched {
            line.clear();
            guardian.read_line(&mut line).unwrap();
            assert_eq!(line, "tick 200\n");
            link.tick(Duration::ZERO);
        }
        // It was told once, and nothing after it.
        link.tick(Duration::ZERO);
        drop(link);
        let lines: Vec<String> = guardian.lines().map(Result::unwrap).collect();
        assert_eq!(lines.iter().position(|line| line == "tick 0"), Some(lines.len() - 1));
    }

    #[test]
    fn the_end_of_the_watch_is_told_by_the_socket_where_there_is_no_room() {
        let (link, guardian) = filled();
        link.end_watch();
        assert!(guardian.lines().all(|line| line.unwrap() == "tick 200"), "and then comes the end");
        let (link, guardian) = linked();
        link.tick(Duration::from_millis(200));
        link.end_watch();
        link.tell_peers(Vec::new());
        drop(link);
        let lines: Vec<String> = io::BufReader::new(guardian).lines().map(Result::unwrap).collect();
        assert_eq!(lines, ["tick 200", "tick 0", "peers"]);
    }
}
