//! Drills: nothing breaks but the hot, and no change of hot may take long.
//!
//! Where network and disks are well, the time from the death of the hot, or from a hand-over, to the next hot that
//! serves is the protocol's alone: a few round trips and syncs. Each wait for a timer on that way shows here as a drill
//! that overran its bound, whatever the order was in which the nodes heard of things. Latencies are steady in these runs.

use crate::clock::MS;
use crate::machine::Process;
use crate::outcome::Kind;
use crate::world::{Event, World};
use hotwarm_core::Ask;
use hotwarm_types::{Epoch, Tenure};

/// What may pass besides round trips and syncs, nanoseconds: until the last node has heard of a death (20 ms in these runs),
/// the stagger of candidates, and their yielding to each other (R24).
const APART: u64 = 70 * MS;
/// Syncs and round trips that a change may take one after the other; each takes half as long again at most.
const SYNCS: u64 = 14;
const ROUND_TRIPS: u64 = 10;
/// What it takes the two that are left to connect to each other, if they have lost their connection, nanoseconds.
const CONNECTED_WITHIN: u64 = 400 * MS;

/// A change of hot that is awaited.
#[derive(Clone, Copy, Debug)]
pub struct Drill {
    kind: &'static str,
    since: u64,
    /// By when it must be over.
    until: u64,
    /// The epoch that it ends.
    epoch: Epoch,
}

impl World {
    /// Whenever the group is whole, its hot dies or hands over.
    pub(crate) fn next_drill(&mut self) {
        let Some(interval) = self.plan.drill_interval.filter(|_| self.settle.faults_go_on()) else { return };
        let wait = self.rng.latency(interval);
        self.after(wait, Event::Drill);
        if let Some(drill) = self.drill.filter(|drill| self.now > drill.until) {
            return self.overran(drill);
        }
        if self.drill.is_some() || self.what_is_missing().is_some() || !self.is_connected() {
            return;
        }
        let Some(reign) = self.ledger.choices.latest().map(|state| state.reign) else { return };
        let Some(hot) = self.machine_of(reign.node) else { return };
        let kind = ["hand_over", "crash", "crash_apart"][self.rng.index(3)];
        let mut bound = APART + (SYNCS * self.plan.sync + ROUND_TRIPS * 2 * self.plan.delay) * 3 / 2;
        self.trace.line(self.now, format_args!("-- drill: {kind} of {}", self.machines[hot].name));
        if kind == "hand_over" {
            self.ask(hot, Ask::HandOver { to: None });
        } else {
            if kind == "crash_apart" {
                bound += CONNECTED_WITHIN;
                let link = self.network.between((hot + 1) % 3, (hot + 2) % 3);
                self.break_connection(link, [Some(0), Some(0)]);
            }
            let down = self.rng.between(1, 800) * MS;
            self.crash(hot, true, down);
        }
        self.drill = Some(Drill { kind, since: self.now, until: self.now + bound, epoch: reign.epoch });
    }

    /// A hot serves.
    pub(crate) fn drill_served(&mut self, tenure: Tenure) {
        let Some(drill) = self.drill.take_if(|drill| tenure.epoch > drill.epoch) else { return };
        self.counts.drills.entry(drill.kind).or_default().push(self.now - drill.since);
        if self.now > drill.until {
            self.overran(drill);
        }
    }

    /// Whether every process can talk with every other.
    fn is_connected(&self) -> bool {
        self.machines.iter().all(|machine| {
            let now = machine.clock.at(self.now);
            let trusts = |process: &Process| process.node.facts(now).peers.values().all(|peer| peer.trusted);
            machine.process.as_ref().is_some_and(trusts)
        })
    }

    fn overran(&mut self, drill: Drill) {
        let (took, bound) = ((self.now - drill.since) / MS, (drill.until - drill.since) / MS);
        self.fail(Kind::Liveness, "drill", format!("a {} is not over after {took} ms, {bound} ms at most", drill.kind));
    }
}
