//! One direction between two machines, and what happens to a packet on it.

use crate::dice::Dice;
use std::time::{Duration, Instant};

/// How much a held line keeps: past it packets are lost, as in any real queue.
const HELD_SIZE_BYTES_MAX: usize = 8 << 20;
/// How long a packet may wait before a narrow line; past it the line drops.
const NARROW_WAIT_MAX: Duration = Duration::from_millis(500);

/// In what way a link is bad. All at once are possible.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flaws {
    /// Packets that are lost, of a thousand.
    pub lost_per_mille: u16,
    /// Packets that come twice, of a thousand.
    pub doubled_per_mille: u16,
    /// Packets that are late by `late_by`, of a thousand: the next ones overtake them.
    pub late_per_mille: u16,
    /// By how much those are late.
    pub late_by: Duration,
    /// How long every packet takes.
    pub delay: Duration,
    /// By how much that varies. Without `late_per_mille` the order stays.
    pub jitter: Duration,
    /// Bytes a second; `None`: as many as come.
    pub rate: Option<u64>,
    /// Nothing arrives until the link is mended; then everything does.
    pub held: bool,
}

/// What becomes of a packet.
#[derive(Debug)]
pub enum Fate {
    /// It arrives at once.
    Now,
    /// It is lost.
    Never,
    /// The link keeps it until it is mended.
    Held,
    /// It arrives then; twice, if there is a second moment.
    At(Moments),
}

/// One moment of arrival, or two.
#[derive(Debug)]
pub struct Moments(Instant, Option<Instant>);

impl Moments {
    /// Calls with each.
    pub fn for_each(self, mut take: impl FnMut(Instant)) {
        take(self.0);
        if let Some(second) = self.1 {
            take(second);
        }
    }
}

/// One direction.
#[derive(Debug)]
pub struct Link {
    flaws: Flaws,
    is_good: bool,
    dice: Dice,
    /// Until when the narrow line is busy with packets before.
    busy_until: Option<Instant>,
    /// The last arrival of a packet that kept its place.
    last: Option<Instant>,
    held: Vec<Vec<u8>>,
    held_size_bytes: usize,
}

impl Link {
    /// Without flaws.
    pub fn good(dice: Dice) -> Self {
        let flaws = Flaws::default();
        Self { flaws, is_good: true, dice, busy_until: None, last: None, held: Vec::new(), held_size_bytes: 0 }
    }

    /// Makes it bad in this way.
    pub fn set(&mut self, flaws: Flaws) {
        self.is_good = flaws == Flaws::default();
        self.flaws = flaws;
    }

    /// Makes it good, and gives what it held, in order.
    pub fn mend(&mut self) -> Vec<Vec<u8>> {
        self.set(Flaws::default());
        (self.busy_until, self.last, self.held_size_bytes) = (None, None, 0);
        std::mem::take(&mut self.held)
    }

    /// Takes a packet.
    pub fn pass(&mut self, packet: &[u8], now: Instant) -> Fate {
        if self.is_good {
            return Fate::Now;
        }
        if self.dice.happens(self.flaws.lost_per_mille) {
            return Fate::Never;
        }
        if self.flaws.held {
            return self.hold(packet);
        }
        let Some(sent) = self.through_the_narrow(packet.len(), now) else { return Fate::Never };
        let jitter = if self.flaws.jitter.is_zero() {
            Duration::ZERO
        } else {
            self.dice.duration(Duration::ZERO..self.flaws.jitter)
        };
        let mut arrival = sent + self.flaws.delay + jitter;
        if self.dice.happens(self.flaws.late_per_mille) {
            arrival += self.flaws.late_by;
        } else {
            // Jitter alone stretches a line and keeps its order, as a queue does.
            arrival = self.last.map_or(arrival, |last| last.max(arrival));
            self.last = Some(arrival);
        }
        let second = self.dice.happens(self.flaws.doubled_per_mille).then_some(arrival);
        Fate::At(Moments(arrival, second))
    }

    fn hold(&mut self, packet: &[u8]) -> Fate {
        if self.held_size_bytes + packet.len() > HELD_SIZE_BYTES_MAX {
            return Fate::Never;
        }
        self.held_size_bytes += packet.len();
        self.held.push(packet.to_vec());
        Fate::Held
    }

    /// When a packet is through a line of so many bytes a second; `None`: too many wait before it.
    fn through_the_narrow(&mut self, size_bytes: usize, now: Instant) -> Option<Instant> {
        let Some(rate) = self.flaws.rate else { return Some(now) };
        let begins = self.busy_until.map_or(now, |busy| busy.max(now));
        if begins - now > NARROW_WAIT_MAX {
            return None;
        }
        let ends = begins + Duration::from_nanos(size_bytes as u64 * 1_000_000_000 / rate.max(1));
        self.busy_until = Some(ends);
        Some(ends)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn link(flaws: Flaws) -> Link {
        let mut link = Link::good(Dice::new(1));
        link.set(flaws);
        link
    }

    fn moments(fate: Fate) -> Vec<Instant> {
        let mut all = Vec::new();
        match fate {
            Fate::At(moments) => moments.for_each(|moment| all.push(moment)),
            Fate::Now | Fate::Never | Fate::Held => {}
        }
        all
    }

    #[test]
    fn a_held_line_delivers_everything_in_order_once_it_is_mended() {
        let mut link = link(Flaws { held: true, ..Flaws::default() });
        for number in 0..3 {
            assert!(matches!(link.pass(&[number], Instant::now()), Fate::Held));
        }
        assert_eq!(link.mend(), [[0], [1], [2]]);
        assert!(matches!(link.pass(&[3], Instant::now()), Fate::Now));
    }

    #[test]
    fn jitter_keeps_the_order_and_late_packets_break_it() {
        let now = Instant::now();
        let jitter = Flaws { delay: 50 * MS, jitter: 40 * MS, ..Flaws::default() };
        let mut steady = link(jitter.clone());
        let arrivals: Vec<Instant> = (0..100).flat_map(|_| moments(steady.pass(&[0], now))).collect();
        assert!(arrivals.is_sorted() && arrivals[0] >= now + 50 * MS && arrivals[99] <= now + 90 * MS);
        let mut unsteady = link(Flaws { late_per_mille: 300, late_by: 20 * MS, ..jitter });
        let arrivals: Vec<Instant> = (0..100).flat_map(|_| moments(unsteady.pass(&[0], now))).collect();
        assert!(!arrivals.is_sorted());
    }

    #[test]
    fn a_narrow_line_passes_its_rate_and_drops_what_would_wait_too_long() {
        let now = Instant::now();
        let mut link = link(Flaws { rate: Some(125_000), ..Flaws::default() });
        let passed = (0..1000).filter(|_| !moments(link.pass(&[0; 1250], now)).is_empty()).count();
        // 10 ms each, and half a second of waiting.
        assert_eq!(passed, 51);
    }

    #[test]
    fn loss_and_doubling_happen_as_often_as_asked() {
        let mut link = link(Flaws { lost_per_mille: 100, doubled_per_mille: 100, ..Flaws::default() });
        let arrivals: Vec<usize> = (0..10_000).map(|_| moments(link.pass(&[0], Instant::now())).len()).collect();
        let count = |of: usize| arrivals.iter().filter(|number| **number == of).count();
        assert!((900..1100).contains(&count(0)) && (800..1000).contains(&count(2)), "{} {}", count(0), count(2));
    }
}
