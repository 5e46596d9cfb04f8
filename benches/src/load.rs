//! The load client: the same for every server, one thread, fifty connections, each a closed loop of batches.
//!
//! A connection sends a batch, waits for all its replies, checks each, and sends the next one. Latency is that of the
//! whole batch, the confirmation by a replica included. Only batches that end inside the measured time count. One
//! thread is enough to saturate the servers on a small machine and leaves them the rest of it.

use crate::case::{CONNECTIONS, Case, KEYS, Operation};
use crate::failure::Failure;
use bytes::BytesMut;
use hotwarm_resp::{Reply, ReplyLimits, ReplyParser, write_request};
use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Load before the measured time: connections stand and caches are warm when it begins.
const WARM_UP: Duration = Duration::from_millis(300);
/// A reply that takes longer ends the measure: the server is broken, not slow.
const REPLY_WAIT: Duration = Duration::from_secs(20);
/// Operations of one batch when keys are filled in.
const FILL_BATCH: u64 = 500;

/// One run.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// The server.
    pub address: SocketAddr,
    /// What is sent.
    pub case: Case,
    /// Whether each batch ends with `WAIT 1 0`, which a replica must confirm.
    pub wait: bool,
    /// The measured time.
    pub duration: Duration,
}

/// What a run came to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measured {
    /// Operations in a second.
    pub per_second: f64,
    /// Latency of a batch that half of them did not exceed, in microseconds.
    pub p50_us: f64,
    /// The same for 99 in 100.
    pub p99_us: f64,
}

impl Load {
    /// Runs it.
    ///
    /// # Errors
    /// The server cannot be reached, breaks off, is silent for too long, or answers anything but the work done.
    pub fn run(self) -> Result<Measured, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let latencies = runtime.block_on(self.all())?;
        Measured::of(latencies, self.case.pipeline, self.duration)
            .ok_or_else(|| Failure::new(format!("{}: no batch came back from {}", self.case.name, self.address)))
    }

    /// Latencies of all connections. The first failure ends all of them.
    async fn all(self) -> Result<Vec<Duration>, Failure> {
        let begin = Instant::now() + WARM_UP;
        let mut connections = JoinSet::new();
        for number in 0..CONNECTIONS {
            // Seeds are fixed: every run of every side asks for the same keys.
            connections.spawn(self.one(begin, Keys(number as u64 + 1)));
        }
        let mut latencies = Vec::new();
        while let Some(connection) = connections.join_next().await {
            latencies.extend(connection??);
        }
        Ok(latencies)
    }

    async fn one(self, begin: Instant, mut keys: Keys) -> Result<Vec<Duration>, Failure> {
        let end = begin + self.duration;
        let mut connection = Connection::open(self.address).await?;
        let mut latencies = Vec::new();
        loop {
            for _ in 0..self.case.pipeline {
                self.case.operation.write_to(keys.next(), &mut connection.write);
            }
            if self.wait {
                write_request(&[b"WAIT", b"1".as_slice(), b"0"], &mut connection.write);
            }
            let sent_at = Instant::now();
            connection.batch(self.case.operation, self.case.pipeline, self.wait).await?;
            let done_at = Instant::now();
            if done_at >= end {
                return Ok(latencies);
            }
            if done_at >= begin {
                latencies.push(done_at - sent_at);
            }
        }
    }
}

/// Sets all keys, so that every SET overwrites and every GET finds.
///
/// # Errors
/// As for a run.
pub fn fill(address: SocketAddr) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut connection = Connection::open(address).await?;
        for first in (0..KEYS).step_by(FILL_BATCH as usize) {
            let batch = first..KEYS.min(first + FILL_BATCH);
            let count = (batch.end - batch.start) as usize;
            batch.for_each(|key| Operation::Set.write_to(key, &mut connection.write));
            connection.batch(Operation::Set, count, false).await?;
        }
        Ok(())
    })
}

impl Measured {
    /// Of the latencies of all batches that ended within `duration`; none if there are none.
    fn of(mut latencies: Vec<Duration>, pipeline: usize, duration: Duration) -> Option<Self> {
        latencies.sort_unstable();
        let share = |percent: usize| {
            let rank = (latencies.len() * percent).div_ceil(100);
            latencies.get(rank.saturating_sub(1)).map(|latency| latency.as_secs_f64() * 1e6)
        };
        let operations = latencies.len() * pipeline;
        Some(Self { per_second: operations as f64 / duration.as_secs_f64(), p50_us: share(50)?, p99_us: share(99)? })
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { per_second, p50_us, p99_us } = self;
        write!(f, "{per_second:.0}/s, p50 {p50_us:.0} us, p99 {p99_us:.0} us")
    }
}

/// Evenly spread numbers of keys, the same for the same seed: xorshift64*.
struct Keys(u64);

impl Keys {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) % KEYS
    }
}

/// One connection, with the batch that is written next.
struct Connection {
    stream: TcpStream,
    parser: ReplyParser,
    read: BytesMut,
    write: BytesMut,
}

impl Connection {
    async fn open(address: SocketAddr) -> Result<Self, Failure> {
        let stream = TcpStream::connect(address).await;
        let stream = stream.map_err(|error| Failure::because(&format!("connect to {address}"), &error))?;
        stream.set_nodelay(true)?;
        let parser = ReplyParser::new(ReplyLimits::default());
        Ok(Self { stream, parser, read: BytesMut::new(), write: BytesMut::new() })
    }

    /// Sends what was written, and checks `count` replies and that of WAIT.
    async fn batch(&mut self, operation: Operation, count: usize, wait: bool) -> Result<(), Failure> {
        tokio::time::timeout(REPLY_WAIT, async {
            self.stream.write_all(&self.write).await?;
            self.write.clear();
            for _ in 0..count {
                let reply = self.reply().await?;
                if !operation.is_done_by(&reply) {
                    return Err(Failure::new(format!("{operation:?} was answered {reply:?}")));
                }
            }
            match wait {
                false => Ok(()),
                true => match self.reply().await? {
                    Reply::Integer(1..) => Ok(()),
                    other => Err(Failure::new(format!("WAIT 1 0 was answered {other:?}"))),
                },
            }
        })
        .await
        .map_err(|_| Failure::new(format!("no reply to {operation:?} within {} s", REPLY_WAIT.as_secs())))?
    }

    async fn reply(&mut self) -> Result<Reply, Failure> {
        loop {
            if let Some(reply) = self.parser.next(&mut self.read)? {
                return Ok(reply);
            }
            if self.stream.read_buf(&mut self.read).await? == 0 {
                return Err(Failure::new("the server closed a connection"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_and_shares_are_those_of_the_batches() {
        let latencies = (1..=200).rev().map(Duration::from_micros).collect();
        let measured = Measured::of(latencies, 16, Duration::from_secs(2)).unwrap();
        assert_eq!(measured, Measured { per_second: 1600.0, p50_us: 100.0, p99_us: 198.0 });
        assert_eq!(Measured::of(Vec::new(), 1, Duration::from_secs(1)), None);
    }

    #[test]
    fn keys_are_in_range_and_reach_all_of_it() {
        let mut keys = Keys(1);
        let drawn: Vec<u64> = (0..10_000).map(|_| keys.next()).collect();
        assert!(drawn.iter().all(|key| *key < KEYS));
        for tenth in 0..10 {
            let within = drawn.iter().filter(|key| **key / (KEYS / 10) == tenth).count();
            assert!((800..1200).contains(&within), "{within} in tenth {tenth}");
        }
    }
}
