//! Faults of the network: cuts of every shape, links that are slow, lose, flap, hold back or break.

use super::{Effect, Fault, FaultKind, Mend, Place};
use crate::clock::{MS, SECOND};
use crate::rng::Rng;
use crate::world::{Event, World};

impl World {
    /// Breaks the network as the fault says.
    pub(super) fn break_network(&mut self, fault: &Fault, machine: usize, rng: &mut Rng) -> Effect {
        let length = fault.length;
        match fault.kind {
            FaultKind::CutOneWay => {
                let peer = self.other_machine(machine, rng);
                let (from, to) = if rng.percent(50) { (machine, peer) } else { (peer, machine) };
                self.cut_all(&[(from, to)], length, true, rng)
            }
            FaultKind::CutPair => {
                let peer = self.other_machine(machine, rng);
                self.cut_all(&[(machine, peer), (peer, machine)], length, true, rng)
            }
            FaultKind::Isolate => {
                // Half of them outlive the grace, so that there are two sides to ask.
                let grace = self.plan.settings.timing.grace.as_nanos() as u64;
                let length = if rng.percent(50) { length + grace * 3 / 2 } else { length };
                self.strand_readers(machine, rng);
                self.keep_only(length, rng, |from, to| from != machine && to != machine)
            }
            FaultKind::Split => {
                let side: Vec<bool> = self.machines.iter().map(|_| rng.percent(50)).collect();
                self.keep_only(length, rng, |from, to| side[from] == side[to])
            }
            FaultKind::Ring => {
                let count = self.machines.len();
                self.keep_only(length, rng, |from, to| (from + 1) % count == to || (to + 1) % count == from)
            }
            FaultKind::Bridge => {
                let side: Vec<bool> = self.machines.iter().map(|_| rng.percent(50)).collect();
                self.keep_only(length, rng, |from, to| side[from] == side[to] || from == machine || to == machine)
            }
            FaultKind::PartialPartition => {
                let count = self.machines.len();
                let passes: Vec<bool> = (0..count * count).map(|_| !rng.percent(33)).collect();
                self.keep_only(length, rng, |from, to| passes[from * count + to])
            }
            FaultKind::Hold => {
                let peer = self.other_machine(machine, rng);
                self.cut_all(&[(machine, peer)], length, false, rng)
            }
            FaultKind::Flap => self.flap(machine, length, rng),
            FaultKind::Reset => {
                let peer = self.other_machine(machine, rng);
                let link = self.network.between(machine, peer);
                if self.network.links[link].connection.is_none() {
                    return Effect::None;
                }
                let notice = [0, 1].map(|_| Some(rng.below(20 * MS)));
                self.break_connection(link, notice);
                Effect::Certain
            }
            FaultKind::SlowLink => {
                let factor = rng.between(5, 60);
                self.degrade(machine, factor, 0, length, rng)
            }
            FaultKind::LossyLink => {
                let loss = rng.between(10, 300);
                self.degrade(machine, 1, loss, length, rng)
            }
            _ => Effect::None,
        }
    }

    /// Cuts every direction that is not to be kept.
    fn keep_only(&mut self, length: u64, rng: &mut Rng, kept: impl Fn(usize, usize) -> bool) -> Effect {
        let count = self.machines.len();
        let pairs = (0..count).flat_map(|from| (0..count).map(move |to| (from, to)));
        let cut: Vec<_> = pairs.filter(|(from, to)| from != to && !kept(*from, *to)).collect();
        self.cut_all(&cut, length, true, rng)
    }

    /// Cuts some directions for a while. A connection over a cut is mostly given up by its ends; not where they are not to
    /// notice.
    fn cut_all(&mut self, directions: &[(usize, usize)], length: u64, noticed: bool, rng: &mut Rng) -> Effect {
        let mut places = Vec::new();
        for (from, to) in directions {
            let gives_up = noticed && rng.percent(80);
            self.cut(*from, *to, gives_up);
            let link = self.network.between(*from, *to);
            let direction = self.network.links[link].direction_from(*from);
            self.after(length, Event::Mend(Mend::Path { link, direction }));
            places.push(Place::Path { link, direction });
        }
        if places.is_empty() { Effect::None } else { Effect::Watch { until: self.now + length, places } }
    }

    /// A link that comes and goes until the time is over.
    fn flap(&mut self, machine: usize, length: u64, rng: &mut Rng) -> Effect {
        let peer = self.other_machine(machine, rng);
        let link = self.network.between(machine, peer);
        let until = self.now + length + 2 * SECOND;
        let mut at = self.now;
        while at < until {
            let (down, up) = (rng.between(20, 1_000) * MS, rng.between(20, 1_000) * MS);
            self.schedule(at, Event::Flap { link });
            for direction in [0, 1] {
                self.schedule((at + down).min(until), Event::Mend(Mend::Path { link, direction }));
            }
            at += down + up;
        }
        let places = [0, 1].map(|direction| Place::Path { link, direction }).to_vec();
        Effect::Watch { until, places }
    }

    /// A link that flaps goes down.
    pub(crate) fn flaps(&mut self, link: usize) {
        if !self.settle.faults_go_on() {
            return;
        }
        let (low, high) = (self.network.links[link].low, self.network.links[link].high);
        for (from, to) in [(low, high), (high, low)] {
            self.cut(from, to, true);
        }
    }

    fn degrade(&mut self, machine: usize, factor: u64, loss_per_mille: u64, length: u64, rng: &mut Rng) -> Effect {
        let peer = self.other_machine(machine, rng);
        let link = self.network.between(machine, peer);
        for path in &mut self.network.links[link].paths {
            path.delay = self.plan.delay * factor;
            path.loss_per_mille = loss_per_mille.max(self.plan.loss_per_mille);
        }
        self.after(length, Event::Mend(Mend::Quality { link }));
        let places = [0, 1].map(|direction| Place::Path { link, direction }).to_vec();
        Effect::Watch { until: self.now + length, places }
    }

    fn other_machine(&self, machine: usize, rng: &mut Rng) -> usize {
        let step = 1 + rng.index(self.machines.len() - 1);
        (machine + step) % self.machines.len()
    }

    /// Clients on the wrong side of a cut: of those that only read, half go on asking the machine that the others do not
    /// reach.
    fn strand_readers(&mut self, machine: usize, rng: &mut Rng) {
        for client in self.clients.iter_mut().filter(|client| client.pinned.is_some()) {
            if rng.percent(50) {
                client.pinned = Some(machine);
            }
        }
    }
}
