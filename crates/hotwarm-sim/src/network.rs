//! The network between machines: one link for each pair, TCP-like connections over it.
//!
//! On a connection, messages of one kind (control, bulk) and direction keep their order and none is lost while it
//! stands. Packet loss therefore shows as delay, a one-way cut as silence in one direction, and what a cut held back
//! arrives late but in order if the cut ends before the connection breaks. A break loses what is on its way; each end
//! learns of it at a time of its own, or only when the next connection stands.

use crate::clock::MS;
use crate::rng::Rng;
use std::collections::VecDeque;

/// Kinds of connections of one pair.
pub const KINDS: usize = 2;

/// A message on its way, with the incarnation-independent identity of its connection implied by the queue it is in.
#[derive(Debug, Default)]
pub struct Queue {
    /// Messages as bytes, in the order sent.
    pub frames: VecDeque<Vec<u8>>,
    /// When the last one arrives, nanoseconds.
    pub tail: u64,
    /// Arrivals that fell into a cut: they happen when it ends.
    pub owed: u64,
}

/// A connection that stands, or stood and was not yet closed.
#[derive(Debug)]
pub struct Connection {
    /// Names it among all of the run.
    pub id: u64,
    /// The processes at its ends: the lower machine's, the higher one's.
    pub boots: [u64; 2],
    /// By direction (0: from the lower machine to the higher one) and kind.
    pub queues: [[Queue; KINDS]; 2],
}

/// How one direction of a link behaves.
#[derive(Clone, Copy, Debug)]
pub struct Path {
    /// Nothing gets through.
    pub cut: bool,
    /// Typical one-way delay in nanoseconds.
    pub delay: u64,
    /// Frames that were sent this way.
    pub frames: u64,
    /// Packets lost, per mille; each loss delays by a retransmission.
    pub loss_per_mille: u64,
}

impl Path {
    /// How long a message takes.
    pub fn draw(&self, rng: &mut Rng) -> u64 {
        let mut delay = rng.latency(self.delay);
        let mut retransmission = 40 * MS;
        while self.loss_per_mille > 0 && rng.per_mille(self.loss_per_mille) && retransmission < 1_000 * MS {
            delay += retransmission;
            retransmission *= 2;
        }
        delay
    }
}

/// The two directions between two machines, and the connection over them.
#[derive(Debug)]
pub struct Link {
    /// Index of the lower machine.
    pub low: usize,
    /// Index of the higher machine.
    pub high: usize,
    /// From low to high, from high to low.
    pub paths: [Path; 2],
    /// The connection, if there is one.
    pub connection: Option<Connection>,
    /// When the next attempt to connect is made, nanoseconds.
    pub connect_at: u64,
}

impl Link {
    /// The direction of what `machine` sends.
    #[must_use]
    pub fn direction_from(&self, machine: usize) -> usize {
        usize::from(machine != self.low)
    }

    /// The two machines: sender and receiver of a direction.
    #[must_use]
    pub fn ends(&self, direction: usize) -> (usize, usize) {
        if direction == 0 { (self.low, self.high) } else { (self.high, self.low) }
    }

    /// Whether packets pass both ways, as a connection needs.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.paths[0].cut && !self.paths[1].cut
    }
}

/// All links.
#[derive(Debug)]
pub struct Network {
    /// One for each pair, in order of (low, high).
    pub links: Vec<Link>,
    connections: u64,
}

impl Network {
    /// A quiet network between `machines`.
    #[must_use]
    pub fn new(machines: usize, path: Path) -> Self {
        let mut links = Vec::new();
        for low in 0..machines {
            for high in low + 1..machines {
                links.push(Link { low, high, paths: [path; 2], connection: None, connect_at: 0 });
            }
        }
        Self { links, connections: 0 }
    }

    /// The index of the link between two machines.
    ///
    /// # Panics
    /// If there is none: a machine has no link to itself.
    #[must_use]
    pub fn between(&self, a: usize, b: usize) -> usize {
        let (low, high) = (a.min(b), a.max(b));
        self.links.iter().position(|link| link.low == low && link.high == high).expect("two different machines")
    }

    /// Whether packets pass from one machine to another.
    #[must_use]
    pub fn passes(&self, from: usize, to: usize) -> bool {
        let link = &self.links[self.between(from, to)];
        !link.paths[link.direction_from(from)].cut
    }

    /// A fresh connection over a link; queues are empty, nothing arrives before `up_at` of its receiver.
    pub fn connect(&mut self, link: usize, boots: [u64; 2], up_at: [u64; 2]) -> u64 {
        self.connections += 1;
        let queue = |tail| Queue { tail, ..Queue::default() };
        // Direction 0 arrives at the higher machine, direction 1 at the lower one.
        let queues = [[queue(up_at[1]), queue(up_at[1])], [queue(up_at[0]), queue(up_at[0])]];
        self.links[link].connection = Some(Connection { id: self.connections, boots, queues });
        self.connections
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_has_one_link_and_directions_are_opposite() {
        let path = Path { cut: false, delay: MS, frames: 0, loss_per_mille: 0 };
        let mut network = Network::new(4, path);
        assert_eq!(network.links.len(), 6);
        let index = network.between(3, 1);
        let link = &mut network.links[index];
        assert_ne!(link.direction_from(1), link.direction_from(3));
        let direction = link.direction_from(3);
        link.paths[direction].cut = true;
        assert_eq!(link.ends(direction), (3, 1));
        assert!(!network.passes(3, 1) && network.passes(1, 3));
    }
}
