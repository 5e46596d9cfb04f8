//! The probes: one client at each node's front that writes every few milliseconds, and remembers when it was answered.
//!
//! From their acknowledgements together comes every figure about pauses: they are what a client sees that is free to
//! choose its node. A probe's connection that says nothing for long is given up, as a client with a deadline would.

use crate::clock::RunClock;
use crate::lab::Door;
use crate::resp::Connection;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Between a reply and the next write.
const INTERVAL: Duration = Duration::from_millis(5);
/// Past it a connection is given up.
const REPLY_WAIT: Duration = Duration::from_millis(2_500);

/// All probes.
pub struct Probes {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    clock: RunClock,
    acked: Mutex<Vec<Acked>>,
    stop: AtomicBool,
}

/// One acknowledged write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Acked {
    begun_ns: u64,
    at_ns: u64,
}

/// A time without an acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The last acknowledgement before, or the beginning of the window.
    pub from_ns: u64,
    /// The first acknowledgement after, or the end of the window.
    pub until_ns: u64,
}

impl Gap {
    /// How long it is.
    pub fn length_ns(&self) -> u64 {
        self.until_ns.saturating_sub(self.from_ns)
    }
}

impl Probes {
    /// Begins to write, from the clients' namespace.
    pub fn start(fronts: &[SocketAddr], doors: Vec<Door>, clock: RunClock) -> Self {
        let shared = Arc::new(Shared { clock, acked: Mutex::default(), stop: AtomicBool::new(false) });
        let threads = fronts.iter().zip(doors).enumerate().map(|(number, (front, door))| {
            let (shared, front) = (Arc::clone(&shared), *front);
            thread::spawn(move || shared.probe(number, front, &door))
        });
        Self { threads: threads.collect(), shared }
    }

    /// The longest time in a window in which no write was acknowledged that was begun in the window.
    pub fn longest_gap(&self, from_ns: u64, until_ns: u64) -> Gap {
        longest_gap(&lock(&self.shared.acked), from_ns, until_ns)
    }

    /// When a write was first acknowledged that was begun at that time or later.
    pub fn first_ack_since(&self, since_ns: u64) -> Option<u64> {
        let acked = lock(&self.shared.acked);
        let place = acked.partition_point(|ack| ack.at_ns < since_ns);
        acked[place..].iter().find(|ack| ack.begun_ns >= since_ns).map(|ack| ack.at_ns)
    }

    /// How many writes were acknowledged.
    pub fn count(&self) -> u64 {
        lock(&self.shared.acked).len() as u64
    }

    /// Ends them.
    pub fn stop(self) {
        self.shared.stop.store(true, Ordering::Release);
        for thread in self.threads {
            if thread.join().is_err() {
                eprintln!("torture: a probe has panicked");
            }
        }
    }
}

impl Shared {
    fn probe(&self, number: usize, front: SocketAddr, door: &Door) {
        if let Err(error) = door.enter() {
            eprintln!("torture: a probe cannot enter the clients' namespace: {error}");
            return;
        }
        let key = format!("probe:{number}");
        let mut connection: Option<Connection> = None;
        let mut written = 0_u64;
        while !self.stop.load(Ordering::Acquire) {
            let opened = match connection.take() {
                Some(connection) => Ok(connection),
                None => Connection::open(front, REPLY_WAIT),
            };
            if let Ok(mut open) = opened {
                written += 1;
                let begun_ns = self.clock.now_ns();
                if let Ok(reply) = open.call(&["SET", &key, &written.to_string()]) {
                    if !reply.is_error() {
                        let mut acked = lock(&self.acked);
                        // The time is read under the lock, so that the list is in the order of time.
                        let at_ns = self.clock.now_ns();
                        acked.push(Acked { begun_ns, at_ns });
                    }
                    connection = Some(open);
                }
            }
            thread::sleep(INTERVAL);
        }
    }
}

fn longest_gap(acked: &[Acked], from_ns: u64, until_ns: u64) -> Gap {
    let first = acked.partition_point(|ack| ack.at_ns < from_ns);
    let within = acked[first..].iter().take_while(|ack| ack.at_ns <= until_ns);
    let moments = within.filter(|ack| ack.begun_ns >= from_ns).map(|ack| ack.at_ns).chain([until_ns]);
    let mut longest = Gap { from_ns, until_ns: from_ns };
    let mut last = from_ns;
    for moment in moments {
        if moment - last > longest.length_ns() {
            longest = Gap { from_ns: last, until_ns: moment };
        }
        last = moment;
    }
    longest
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acked(moments: &[(u64, u64)]) -> Vec<Acked> {
        moments.iter().map(|(begun_ns, at_ns)| Acked { begun_ns: *begun_ns, at_ns: *at_ns }).collect()
    }

    #[test]
    fn a_gap_reaches_from_the_windows_beginning_over_what_was_begun_before_it() {
        let acked = acked(&[(90, 101), (120, 130), (131, 180), (181, 190)]);
        assert_eq!(longest_gap(&acked, 100, 200), Gap { from_ns: 130, until_ns: 180 });
        assert_eq!(longest_gap(&acked, 100, 135), Gap { from_ns: 100, until_ns: 130 }, "101 was begun before");
        assert_eq!(longest_gap(&acked, 185, 300), Gap { from_ns: 185, until_ns: 300 }, "none was begun in it");
        assert_eq!(longest_gap(&[], 10, 20), Gap { from_ns: 10, until_ns: 20 });
    }
}
