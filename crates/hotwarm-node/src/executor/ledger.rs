//! The calls of this node's own clients that have no reply yet, numbered in the order in which they arrived.
//!
//! The number is the sequence number under which a call is executed once (R34): the same call keeps it while it is
//! held, sent to a hot, executed, taken back and sent to another hot. The lowest open number is the session's floor.
//! A cursor parts the calls that were handed to a hot (or executed here) from those that are held; a change of
//! the hot moves it back, and all open calls are handed over again, in their order.
//!
//! It decides nothing about replies; it knows only which calls are open, since when, and whether a hot may have
//! carried them out.

use hotwarm_types::Instant;
use std::collections::VecDeque;
use std::time::Duration;

/// An open call.
#[derive(Debug)]
pub struct Open<C> {
    /// The connection that waits for the reply.
    pub client: u64,
    /// Which of its replies it is.
    pub slot: u64,
    /// What is to be done.
    pub call: C,
    /// When it arrived: what a hold is counted from.
    pub arrived: Instant,
    /// What it counts for in bounds, in bytes.
    pub size_bytes: usize,
    /// It writes, and a hot may have carried it out: from now on only "done" or "unknown" may be answered (R34).
    pub maybe_done: bool,
}

/// Bounds of the calls that wait while there is no hot (DESIGN, `hold`).
#[derive(Clone, Copy, Debug)]
pub struct HoldLimits {
    /// How long a call may wait.
    pub time_max: Duration,
    /// How many may.
    pub count_max: usize,
    /// How many bytes they may have.
    pub size_bytes_max: usize,
}

impl Default for HoldLimits {
    fn default() -> Self {
        Self { time_max: Duration::from_secs(10), count_max: 10_000, size_bytes_max: 64 << 20 }
    }
}

/// The open calls.
#[derive(Debug)]
pub struct Ledger<C> {
    /// From number `floor` on; `None` where the reply has left already. The first one is always open.
    open: VecDeque<Option<Open<C>>>,
    floor: u64,
    cursor: u64,
    /// Open calls before the cursor.
    handed_count: usize,
    count: usize,
    size_bytes: usize,
}

impl<C> Default for Ledger<C> {
    fn default() -> Self {
        Self { open: VecDeque::new(), floor: 1, cursor: 1, handed_count: 0, count: 0, size_bytes: 0 }
    }
}

impl<C> Ledger<C> {
    /// The lowest number whose call is open; where none is, the next that will be given.
    #[must_use]
    pub fn floor(&self) -> u64 {
        self.floor
    }

    /// How many calls are open.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// How many of them are handed over.
    #[must_use]
    pub fn handed_count(&self) -> usize {
        self.handed_count
    }

    /// Whether one more call of that size may be held.
    #[must_use]
    pub fn has_room(&self, limits: &HoldLimits, size_bytes: usize) -> bool {
        self.count < limits.count_max && self.size_bytes + size_bytes <= limits.size_bytes_max
    }

    /// Takes in a call; it is held until the cursor passes it. Returns its number.
    pub fn open(&mut self, call: Open<C>) -> u64 {
        let seq = self.next_number();
        self.count += 1;
        self.size_bytes += call.size_bytes;
        self.open.push_back(Some(call));
        seq
    }

    /// The open call of that number.
    pub fn find(&mut self, seq: u64) -> Option<&mut Open<C>> {
        let index = usize::try_from(seq.checked_sub(self.floor)?).ok()?;
        self.open.get_mut(index)?.as_mut()
    }

    /// Takes out a call whose reply leaves now; `None` if it left already (a second reply, after a change of the hot).
    pub fn close(&mut self, seq: u64) -> Option<Open<C>> {
        let index = usize::try_from(seq.checked_sub(self.floor)?).ok()?;
        let call = self.open.get_mut(index)?.take()?;
        self.count -= 1;
        self.handed_count -= usize::from(seq < self.cursor);
        self.size_bytes -= call.size_bytes;
        while let Some(None) = self.open.front() {
            self.open.pop_front();
            self.floor += 1;
        }
        self.cursor = self.cursor.max(self.floor);
        Some(call)
    }

    /// The first held call with its number, and moves the cursor past it.
    pub fn advance(&mut self) -> Option<(u64, &mut Open<C>)> {
        loop {
            let seq = self.cursor;
            let index = usize::try_from(seq - self.floor).ok()?;
            if self.open.get(index)?.is_some() {
                self.cursor += 1;
                self.handed_count += 1;
                return self.open[index].as_mut().map(|call| (seq, call));
            }
            self.cursor += 1;
        }
    }

    /// Whether calls are held.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.cursor < self.next_number()
    }

    /// Holds the call of that number again, and all after it: the last `advance` was too early.
    pub fn hold_from(&mut self, seq: u64) {
        let seq = seq.clamp(self.floor, self.cursor);
        let numbers = (seq - self.floor) as usize..(self.cursor - self.floor) as usize;
        self.handed_count -= self.open.range(numbers).flatten().count();
        self.cursor = seq;
    }

    /// Holds all open calls: what was handed over may be lost.
    pub fn hold_all(&mut self) {
        self.cursor = self.floor;
        self.handed_count = 0;
    }

    /// The number of the oldest call that is open, and when it arrived.
    #[must_use]
    pub fn oldest(&self) -> Option<(u64, Instant)> {
        self.open.front().and_then(Option::as_ref).map(|call| (self.floor, call.arrived))
    }

    /// The number that the next call will get.
    #[must_use]
    pub fn next_number(&self) -> u64 {
        self.floor + self.open.len() as u64
    }

    /// Takes out the held calls of a connection that is gone, save those that a hot may have carried out: these go on
    /// under their identity, so that their lane is not handed on before they have ended.
    pub fn abandon(&mut self, client: u64) -> Vec<Open<C>> {
        let held: Vec<u64> = (self.cursor..self.next_number())
            .filter(|seq| self.find(*seq).is_some_and(|call| call.client == client && !call.maybe_done))
            .collect();
        held.into_iter().filter_map(|seq| self.close(seq)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(client: u64) -> Open<&'static str> {
        Open { client, slot: 0, call: "set", arrived: Instant(5), size_bytes: 10, maybe_done: false }
    }

    fn handed_over(ledger: &mut Ledger<&'static str>) -> Vec<u64> {
        std::iter::from_fn(|| ledger.advance().map(|(seq, _)| seq)).collect()
    }

    #[test]
    fn the_floor_follows_the_oldest_open_call() {
        let mut ledger = Ledger::default();
        let numbers: Vec<u64> = (0..3).map(|_| ledger.open(call(1))).collect();
        assert_eq!(numbers, [1, 2, 3]);
        assert!(ledger.close(2).is_some());
        assert_eq!(ledger.floor(), 1);
        assert!(ledger.close(1).is_some());
        assert_eq!(ledger.floor(), 3);
        assert!(ledger.close(2).is_none(), "a second reply to the same call is not passed on");
        assert_eq!(ledger.count(), 1);
    }

    #[test]
    fn after_a_change_of_the_hot_open_calls_are_handed_over_again_under_their_numbers() {
        let mut ledger = Ledger::default();
        for _ in 0..4 {
            ledger.open(call(1));
        }
        assert_eq!(handed_over(&mut ledger), [1, 2, 3, 4]);
        ledger.close(1);
        ledger.close(3);
        ledger.hold_all();
        assert_eq!(handed_over(&mut ledger), [2, 4]);
        assert!(!ledger.holds());
    }

    #[test]
    fn what_is_handed_over_is_counted_however_it_ends() {
        let mut ledger = Ledger::default();
        for _ in 0..5 {
            ledger.open(call(1));
        }
        handed_over(&mut ledger);
        assert_eq!(ledger.handed_count(), 5);
        ledger.close(4);
        ledger.close(1);
        assert_eq!(ledger.handed_count(), 3);
        ledger.hold_from(3);
        assert_eq!(ledger.handed_count(), 1, "the second alone");
        ledger.close(5);
        assert_eq!(ledger.handed_count(), 1, "a held call ends too");
        handed_over(&mut ledger);
        assert_eq!(ledger.handed_count(), 2);
        ledger.hold_all();
        assert_eq!(ledger.handed_count(), 0);
        ledger.close(2);
        ledger.hold_from(9);
        assert_eq!((ledger.handed_count(), ledger.count()), (0, 1));
    }

    #[test]
    fn a_number_is_never_given_twice() {
        let mut ledger = Ledger::default();
        let first = ledger.open(call(1));
        ledger.close(first);
        assert!(ledger.open(call(1)) > first);
    }

    #[test]
    fn a_hold_is_bounded_in_count_and_bytes() {
        let limits = HoldLimits { time_max: Duration::from_secs(1), count_max: 2, size_bytes_max: 25 };
        let mut ledger = Ledger::default();
        assert!(ledger.has_room(&limits, 10));
        ledger.open(call(1));
        assert!(!ledger.has_room(&limits, 16));
        ledger.open(call(1));
        assert!(!ledger.has_room(&limits, 1));
    }

    #[test]
    fn a_closed_connection_gives_up_only_what_no_hot_has_seen() {
        let mut ledger = Ledger::default();
        ledger.open(call(1));
        ledger.advance().unwrap().1.maybe_done = true;
        ledger.open(call(1));
        ledger.open(call(2));
        assert_eq!(ledger.abandon(1).len(), 1);
        assert!(ledger.find(1).is_some());
        assert!(ledger.find(2).is_none());
        assert!(ledger.find(3).is_some());
    }
}
