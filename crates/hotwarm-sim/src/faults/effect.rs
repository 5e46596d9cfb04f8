//! Whether a fault has changed anything: only then is it counted.
//!
//! A crash, a pause or a wipe changes what happens at once. A cut on which nobody speaks, or a full disk on which nobody
//! writes, does not: for those a counter of what ran into them is read when they begin and when they end.

use crate::faults::FaultKind;
use crate::world::{Event, World};
use std::collections::BTreeMap;

/// Where a fault shows, if it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Frames on one direction of a link.
    Path { link: usize, direction: usize },
    /// Orders to a machine's disk.
    Disk { machine: usize },
    /// Calls that failed, and writes that went astray.
    Failures { machine: usize },
    /// Orders that found no room.
    Room { machine: usize },
    /// Folders that were refused, and reads that failed.
    Damage { machine: usize },
    /// Requests and replies of clients.
    Clients { machine: usize },
    /// Readings of a machine's clock.
    Clock { machine: usize },
}

/// What came of an injection.
#[derive(Debug)]
pub enum Effect {
    /// It could not be done.
    None,
    /// It changed what happens.
    Certain,
    /// It may show in these places until it ends.
    Watch { until: u64, places: Vec<Place> },
}

/// A fault that has not shown yet.
#[derive(Debug)]
struct Watched {
    kind: FaultKind,
    places: Vec<(Place, u64)>,
}

/// Faults whose effect is not certain.
#[derive(Debug, Default)]
pub struct Watches {
    next: u64,
    open: BTreeMap<u64, Watched>,
}

impl World {
    /// Counts a fault, now or when it has shown. Whether it was done.
    pub(crate) fn note_effect(&mut self, kind: FaultKind, effect: Effect) -> bool {
        match effect {
            Effect::None => return false,
            Effect::Certain => self.count_fault(kind),
            Effect::Watch { until, places } => {
                let places = places.into_iter().map(|place| (place, self.shown_at(place))).collect();
                self.watches.next += 1;
                let watch = self.watches.next;
                self.watches.open.insert(watch, Watched { kind, places });
                self.schedule(until, Event::FaultEnded { watch });
            }
        }
        true
    }

    fn count_fault(&mut self, kind: FaultKind) {
        *self.counts.faults.entry(kind.name()).or_default() += 1;
    }

    /// A fault is over: it counts if something ran into it.
    pub(crate) fn fault_ended(&mut self, watch: u64) {
        let Some(watched) = self.watches.open.remove(&watch) else { return };
        if watched.places.iter().any(|(place, before)| self.shown_at(*place) > *before) {
            self.count_fault(watched.kind);
        }
    }

    /// All faults are over.
    pub(crate) fn all_faults_ended(&mut self) {
        while let Some(watch) = self.watches.open.keys().next().copied() {
            self.fault_ended(watch);
        }
    }

    fn shown_at(&self, place: Place) -> u64 {
        match place {
            Place::Path { link, direction } => self.network.links[link].paths[direction].frames,
            Place::Disk { machine } => self.machines[machine].traffic.orders,
            Place::Failures { machine } => self.machines[machine].disk.files.faults_shown(),
            Place::Room { machine } => self.machines[machine].traffic.no_room,
            Place::Damage { machine } => self.machines[machine].traffic.damage,
            Place::Clients { machine } => self.machines[machine].traffic.requests,
            Place::Clock { machine } => self.machines[machine].traffic.readings,
        }
    }
}
