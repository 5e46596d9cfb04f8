//! Packets that arrive later, by the moment of their arrival.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// A packet on its way: moment, place among those of the same moment, receiver, bytes.
type Late = (Instant, u64, usize, Vec<u8>);

/// What is on its way.
#[derive(Debug, Default)]
pub struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    late: BinaryHeap<Reverse<Late>>,
    pushed: u64,
}

impl Queue {
    /// Adds a packet.
    pub fn push(&self, moment: Instant, to: usize, packet: Vec<u8>) {
        let mut state = self.lock();
        state.pushed += 1;
        let place = state.pushed;
        state.late.push(Reverse((moment, place, to, packet)));
        drop(state);
        self.changed.notify_one();
    }

    /// Waits for the next arrival; gives the receiver and the packet.
    pub fn next(&self) -> (usize, Vec<u8>) {
        let mut state = self.lock();
        loop {
            let now = Instant::now();
            state = match state.late.peek().map(|Reverse(late)| late.0) {
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(moment) if moment > now => {
                    let waited = self.changed.wait_timeout(state, moment - now);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                Some(_) => match state.late.pop() {
                    Some(Reverse((_, _, to, packet))) => return (to, packet),
                    None => state,
                },
            };
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn packets_come_by_their_moment_and_those_of_one_moment_in_order() {
        let queue = Queue::default();
        let now = Instant::now();
        for (after_ms, to) in [(4, 1), (2, 2), (2, 3), (0, 4)] {
            queue.push(now + Duration::from_millis(after_ms), to, Vec::new());
        }
        let order: Vec<usize> = (0..4).map(|_| queue.next().0).collect();
        assert_eq!(order, [4, 2, 3, 1]);
        assert!(now.elapsed() >= Duration::from_millis(4));
    }
}
