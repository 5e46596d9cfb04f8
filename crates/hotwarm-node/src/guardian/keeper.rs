//! The guardian's own life: starts the node, passes signals on, listens to it, and speaks when it is dead.

use super::herald::Herald;
use super::reaper;
use super::report::{LINE_SIZE_BYTES_MAX, Report, greeting};
use hotwarm_sys::{Exit, Signal, adopt_orphans, forbid_core_dumps, kill_group, signal};
use sha2::{Digest, Sha256};
use std::fmt;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::signal::unix::{Signal as Signals, SignalKind};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

/// How long the peers are told of a death. On a living network it takes one round trip, and 10 ms more for each time that
/// one cannot judge it yet.
const PROCLAIM_TIMEOUT: Duration = Duration::from_millis(200);
/// How long what the node has left behind may take to die. Past it there is no proof, and the grace applies.
const BURY_TIMEOUT: Duration = Duration::from_secs(5);
/// The exit code with which a node ends that has said goodbye: nothing is attested.
const GOODBYE: Exit = Exit::Code(0);
/// The exit code of a process that did not become a node: it has served nobody, and has said why. That it is over is attested
/// all the same, in case a peer has met it already.
const NOT_STARTED: Exit = Exit::Code(2);

/// Starts the node by `command` as this process's child, keeps it until it ends, attests its death to its peers unless
/// it has said goodbye, and returns its exit code (128 and the number for a signal), to be this process's own.
///
/// The node gets a socket as standard input ([`super::GuardianLink`]) and a process group of its own. SIGTERM, SIGINT
/// and SIGHUP are passed on to it. Blocks; the calling process must have no other children, since all are killed.
///
/// # Errors
/// When the node cannot be started. Once it runs, what fails is logged, and at worst nothing is attested.
pub fn guard(command: Command) -> Result<i32, GuardianError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(GuardianError::Prepare)?;
    runtime.block_on(guard_here(command))
}

async fn guard_here(mut command: Command) -> Result<i32, GuardianError> {
    adopt_orphans().map_err(GuardianError::Prepare)?;
    forbid_core_dumps().map_err(GuardianError::Prepare)?;
    let secret: [u8; 32] = rand::random();
    let signals = PassedOn::new().map_err(GuardianError::Prepare)?;
    let (mut ours, theirs) = UnixStream::pair().map_err(GuardianError::Prepare)?;
    ours.write_all(greeting(&Sha256::digest(secret).into()).as_bytes()).map_err(GuardianError::Prepare)?;
    ours.set_nonblocking(true).map_err(GuardianError::Prepare)?;
    let reports = tokio::net::UnixStream::from_std(ours).map_err(GuardianError::Prepare)?;

    command.stdin(Stdio::from(OwnedFd::from(theirs))).process_group(0);
    let program = command.get_program().to_string_lossy().into_owned();
    let child = command.spawn().map_err(|error| GuardianError::Spawn { program, error })?.id();
    // With the command goes this process's copy of the node's end of the socket.
    drop(command);
    let (news, mut from_reaper) = mpsc::channel(2);
    std::thread::spawn(move || reap(child, &news));
    let mut keeper =
        Keeper { child, herald: Herald::new(), signals, pulse: Pulse::default(), reports: Some(lines(reports)) };
    let exit = keeper.until_dead(&mut from_reaper).await;
    let is_buried = timeout(BURY_TIMEOUT, from_reaper.recv()).await;
    match is_buried {
        Ok(Some(News::Buried)) if exit != GOODBYE => {
            keeper.hear_the_rest().await;
            let told = keeper.herald.proclaim(secret, PROCLAIM_TIMEOUT).await;
            if exit == NOT_STARTED {
                tracing::error!("the node did not start: see above");
            } else {
                let (told_count, peer_count) = (told.count, told.of);
                let text = if told_count == peer_count {
                    "the node ended without a goodbye; its death was attested to its peers"
                } else {
                    "the node ended without a goodbye; not all peers could be told, the grace applies to the others"
                };
                tracing::warn!(?exit, told_count, peer_count, "{text}");
            }
        }
        Ok(Some(News::Buried)) => tracing::info!("the node said goodbye and ended"),
        Ok(Some(News::Dead(_)) | None) | Err(_) => {
            tracing::error!(?exit, "what the node ran could not be reaped: nothing is attested, the grace applies");
        }
    }
    Ok(exit.code())
}

/// What the reaper has to say, in this order.
enum News {
    /// The node is dead.
    Dead(Exit),
    /// Everything it ran is dead and reaped.
    Buried,
}

fn reap(child: u32, news: &mpsc::Sender<News>) {
    let work = || -> io::Result<()> {
        let exit = reaper::await_end(child)?;
        // Nobody listens any more only when the guardian itself is about to end.
        let _ = news.blocking_send(News::Dead(exit));
        reaper::bury(child)?;
        let _ = news.blocking_send(News::Buried);
        Ok(())
    };
    if let Err(error) = work() {
        tracing::error!(%error, "reaping failed");
    }
}

type Reports = BufReader<tokio::net::UnixStream>;

fn lines(stream: tokio::net::UnixStream) -> Reports {
    BufReader::with_capacity(LINE_SIZE_BYTES_MAX, stream)
}

/// The guardian while its node lives.
struct Keeper {
    child: u32,
    herald: Herald,
    signals: PassedOn,
    pulse: Pulse,
    /// `None` once the node says nothing more.
    reports: Option<Reports>,
}

impl Keeper {
    async fn until_dead(&mut self, from_reaper: &mut mpsc::Receiver<News>) -> Exit {
        let mut line = Vec::new();
        loop {
            tokio::select! {
                biased;
                news = from_reaper.recv() => match news {
                    Some(News::Dead(exit)) => return exit,
                    Some(News::Buried) => {}
                    // The reaper failed: the node's fate is unknown, so is its code; any but a goodbye's is right.
                    None => return Exit::Code(1),
                },
                passed = self.signals.next() => if let Err(error) = signal(self.child, passed) {
                    tracing::error!(%error, "a signal could not be passed on to the node");
                },
                is_open = read_line(self.reports.as_mut(), &mut line) => {
                    if is_open {
                        self.heed(&line);
                    } else {
                        // No tick will come; whether it lives is known from the kernel alone.
                        self.reports = None;
                        self.pulse = Pulse::default();
                    }
                    line.clear();
                }
                () = self.pulse.wait() => if self.pulse.is_frozen() {
                    tracing::error!("the node is frozen: it is killed, so that another may take over");
                    if let Err(error) = kill_group(self.child) {
                        tracing::error!(%error, "the node could not be killed");
                    }
                },
            }
        }
    }

    /// Heeds what the node had written before it died: perhaps only then who it was. Every end of the socket but this
    /// one is closed, so that it ends.
    async fn hear_the_rest(&mut self) {
        let Some(mut reports) = self.reports.take() else { return };
        let mut line = Vec::new();
        while read_line(Some(&mut reports), &mut line).await {
            self.heed(&line);
            line.clear();
        }
    }

    fn heed(&mut self, line: &[u8]) {
        let text = std::str::from_utf8(line).unwrap_or_default();
        match Report::parse(text.trim_end_matches('\n')) {
            Some(Report::Identity { notice, name }) => {
                tracing::debug!(%name, incarnation = %notice.incarnation, "guarding");
                self.herald.set_notice(notice);
            }
            Some(Report::Peers(addresses)) => self.herald.set_peers(addresses),
            Some(Report::Tick(silent_max)) => self.pulse.tick(silent_max),
            None => tracing::warn!(line = text, "the node said something that its guardian does not understand"),
        }
    }
}

/// Reads a line, or what has come of it, into `line`; `false` at the end of the stream. Cancel safe: `line` keeps what
/// was read. Never returns without a stream.
async fn read_line(reports: Option<&mut Reports>, line: &mut Vec<u8>) -> bool {
    let Some(reports) = reports else { return std::future::pending().await };
    let room = LINE_SIZE_BYTES_MAX.saturating_sub(line.len()) as u64;
    matches!(reports.take(room).read_until(b'\n', line).await, Ok(count) if count > 0)
}

/// Signals that are meant for the node.
struct PassedOn {
    terminate: Signals,
    interrupt: Signals,
    hang_up: Signals,
}

impl PassedOn {
    fn new() -> io::Result<Self> {
        let listen = tokio::signal::unix::signal;
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hang_up: listen(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.terminate.recv() => Signal::TERM,
            _ = self.interrupt.recv() => Signal::INT,
            _ = self.hang_up.recv() => Signal::HUP,
        }
    }
}

/// The node's ticks, if it gives any.
#[derive(Default)]
struct Pulse {
    /// When the last came, and how long the next may take.
    last: Option<(Instant, Duration)>,
    looked: Option<Instant>,
}

impl Pulse {
    fn tick(&mut self, silent_max: Duration) {
        let now = Instant::now();
        self.last = (!silent_max.is_zero()).then_some((now, silent_max));
        self.looked = Some(now);
    }

    /// Until it is time to look again; for ever while there is nothing to watch.
    async fn wait(&self) {
        match self.last {
            Some((_, silent_max)) => sleep(silent_max / 4).await,
            None => std::future::pending().await,
        }
    }

    /// Whether the node has been silent for too long, while this process was awake to hear it. Says so once.
    fn is_frozen(&mut self) -> bool {
        let Some((last, silent_max)) = self.last else { return false };
        let now = Instant::now();
        let asleep = self.looked.replace(now).map_or(Duration::ZERO, |looked| now - looked);
        if asleep > silent_max / 2 {
            // The guardian was stopped or starved itself, perhaps together with the node: give it another term.
            self.last = Some((now, silent_max));
            return false;
        }
        let is_frozen = now - last > silent_max;
        if is_frozen {
            self.last = None;
        }
        is_frozen
    }
}

/// Why there is no guarded node.
#[derive(Debug)]
pub enum GuardianError {
    /// The guardian could not get what it needs of the kernel.
    Prepare(io::Error),
    /// The node could not be started.
    Spawn {
        /// Its program.
        program: String,
        /// Why.
        error: io::Error,
    },
}

impl fmt::Display for GuardianError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prepare(_) => f.write_str("prepare the guardian"),
            Self::Spawn { program, .. } => write!(f, "start the node by {program:?}"),
        }
    }
}

impl std::error::Error for GuardianError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Prepare(error) | Self::Spawn { error, .. } => Some(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_millis(900);

    async fn pass(pulse: &mut Pulse, time: Duration) -> bool {
        tokio::time::advance(time).await;
        pulse.is_frozen()
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_stops_ticking_is_frozen_once() {
        let mut pulse = Pulse::default();
        pulse.tick(LIMIT);
        for _ in 0..4 {
            assert!(!pass(&mut pulse, LIMIT / 4).await);
        }
        assert!(pass(&mut pulse, LIMIT / 4).await);
        assert!(!pass(&mut pulse, LIMIT / 4).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_guardian_that_slept_itself_gives_the_node_another_term() {
        let mut pulse = Pulse::default();
        pulse.tick(LIMIT);
        assert!(!pass(&mut pulse, LIMIT * 100).await);
        assert!(!pass(&mut pulse, LIMIT / 2).await);
        assert!(!pass(&mut pulse, LIMIT / 2).await);
        assert!(pass(&mut pulse, LIMIT / 4).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_does_not_tick_is_not_watched() {
        let mut pulse = Pulse::default();
        assert!(!pass(&mut pulse, LIMIT * 100).await);
        pulse.tick(LIMIT);
        pulse.tick(Duration::ZERO);
        for _ in 0..100 {
            assert!(!pass(&mut pulse, LIMIT / 4).await);
        }
    }
}
