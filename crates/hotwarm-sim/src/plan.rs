//! What a seed draws before anything happens: sizes, timers, latencies, and which faults this run is made of.
//!
//! Swarm testing (Groce et al., ISSTA 2012): each run leaves out a random half of the kinds of faults, so that the
//! rest can pile up undisturbed.

use crate::clock::{MS, SECOND};
use crate::faults::FaultKind;
use crate::rng::Rng;
use crate::small::Script;
use crate::workload::{COUNTERS_FROM, Mix};
use core::time::Duration;
use hotwarm_core::register::{Durability, MemberRole, Replication, Settings, Timing};
use std::collections::BTreeSet;

/// Everything that is fixed for a run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The roles of the first members: data nodes first.
    pub roles: Vec<MemberRole>,
    /// Machines beyond the first members: empty folders that an operator may invite.
    pub spares: usize,
    /// What the group agrees on at first.
    pub settings: Settings,
    /// Priorities of the first members.
    pub priorities: Vec<u16>,
    /// How many clients.
    pub clients: usize,
    /// How many of them only read, each at a machine of its own choice.
    pub readers: usize,
    /// Typical time between two requests of a client, nanoseconds.
    pub think: u64,
    /// What they ask for.
    pub mix: Mix,
    /// Typical one-way delay between machines, nanoseconds.
    pub delay: u64,
    /// Packet loss in quiet times, per mille.
    pub loss_per_mille: u64,
    /// Typical time of a sync, nanoseconds.
    pub sync: u64,
    /// Weight of each kind of fault; 0 for one that this run leaves out.
    pub weights: Vec<u64>,
    /// Typical time between two faults, nanoseconds.
    pub fault_interval: u64,
    /// Typical time between two requests of the operator, nanoseconds.
    pub operator_interval: u64,
    /// Typical time between two flushes of the tree, nanoseconds.
    pub flush_interval: u64,
    /// When faults end, nanoseconds.
    pub faults_until: u64,
    /// Bytes kept in the log behind what every reader needs; few, so that full copies happen.
    pub log_kept_bytes: u64,
    /// Size of a segment of the log.
    pub segment_size_bytes: u64,
    /// Whether a process is crashed at its own interesting moments (a promotion, a cut, a growth), per hundred.
    pub ambush_percent: u64,
    /// The faults that happen, by number; `None`: all. To find those that a failure needs.
    pub only: Option<BTreeSet<u32>>,
    /// The faults of a run of small scope.
    pub script: Option<Script>,
    /// Typical time between two drills, nanoseconds; `None` for a run of faults.
    pub drill_interval: Option<u64>,
}

/// How much happens in how much time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tempo {
    /// Some seconds in which everything happens at once.
    Dense,
    /// Minutes with a fault now and then, each of which has time to work out.
    Long,
}

impl Tempo {
    fn draw(rng: &mut Rng) -> Self {
        if rng.percent(36) { Self::Long } else { Self::Dense }
    }
}

/// What kind of run it is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Course {
    /// For tests in unoptimised builds.
    Short,
    /// The usual: some runs of seconds, some of minutes.
    Usual,
    /// Seconds only, in which much happens: where bugs are found soonest.
    Dense,
    /// Nothing breaks but the hot, and how long a change of hot takes is judged (see `drill`).
    Drills,
    /// These faults, on three busy nodes.
    Small(Script),
}

impl Plan {
    /// Draws a plan.
    #[must_use]
    pub fn draw(rng: &mut Rng, course: Course) -> Self {
        match course {
            Course::Drills => return Self::draw_drills(rng),
            Course::Small(script) => return Self::draw_small(rng, script),
            Course::Short | Course::Dense | Course::Usual => {}
        }
        let data = [1, 2, 2, 2, 3, 3, 3, 3, 4, 5][rng.index(10)];
        let witness = data == 2 && rng.percent(80) || data > 1 && rng.percent(25);
        let mut roles = vec![MemberRole::Data; data];
        if witness {
            roles.push(MemberRole::Witness);
            if data > 3 && rng.percent(30) {
                roles.push(MemberRole::Witness);
            }
        }
        let timing = draw_timing(rng);
        let min_copies = match data {
            5 if rng.percent(30) => 3,
            3.. if rng.percent(40) => 2,
            _ => 1,
        };
        let tempo = if course == Course::Usual { Tempo::draw(rng) } else { Tempo::Dense };
        // A group of one is there to become two.
        let spares = usize::from(roles.len() < 7 && (data == 1 || rng.percent(30)));
        let settings = Settings {
            replication: Replication::Sync,
            durability: Durability::Fsync,
            min_copies,
            timing,
            text: String::new(),
        };
        let priorities = roles.iter().map(|_| [100, 100, 50, 200][rng.index(4)]).collect();
        let grace = timing.grace.as_nanos() as u64;
        let seconds = match tempo {
            _ if course == Course::Short => rng.between(4, 8),
            Tempo::Dense => rng.between(8, 24),
            Tempo::Long => rng.between(120, 1_200),
        };
        let weights = FaultKind::ALL.iter().map(|kind| if rng.percent(45) { kind.weight() } else { 0 }).collect();
        Self {
            roles,
            spares,
            settings,
            priorities,
            clients: rng.between(3, 6) as usize,
            readers: [0, 1, 1, 2][rng.index(4)],
            think: match tempo {
                Tempo::Dense => [5, 20, 20, 60][rng.index(4)] * MS,
                Tempo::Long => [200, 1_000, 3_000][rng.index(3)] * MS,
            },
            mix: Mix {
                keys: [1, 2, COUNTERS_FROM][rng.index(3)],
                reads_percent: [10, 40, 40, 70][rng.index(4)],
                verified_percent: [0, 20, 50][rng.index(3)],
            },
            delay: [MS / 10, MS / 2, 2 * MS, 8 * MS][rng.index(4)].min(grace / 40),
            loss_per_mille: [0, 0, 2, 10][rng.index(4)],
            sync: [MS / 10, MS, 4 * MS][rng.index(3)],
            weights,
            fault_interval: match tempo {
                Tempo::Dense => [grace / 3, grace, 3 * grace][rng.index(3)],
                Tempo::Long => [4 * SECOND, 10 * SECOND, 30 * SECOND][rng.index(3)].max(2 * grace),
            },
            operator_interval: match tempo {
                Tempo::Dense => [SECOND, 4 * SECOND, 20 * SECOND][rng.index(3)],
                Tempo::Long => 60 * SECOND,
            },
            flush_interval: match tempo {
                Tempo::Dense => 200 * MS,
                Tempo::Long => [SECOND, 5 * SECOND][rng.index(2)],
            },
            // Long timers need long runs to show anything.
            faults_until: (seconds * SECOND).max(8 * grace),
            log_kept_bytes: [0, 0, 32 << 10, 1 << 40][rng.index(4)],
            segment_size_bytes: [8 << 10, 8 << 10, 16 << 10, 64 << 10][rng.index(4)],
            ambush_percent: [0, 0, 15, 40][rng.index(4)],
            only: None,
            script: None,
            drill_interval: None,
        }
    }

    /// Whether the run consists of drills.
    #[must_use]
    pub fn is_of_drills(&self) -> bool {
        self.drill_interval.is_some()
    }

    /// Healthy machines on one LAN, three of them or two and a witness, and a hot that comes to an end every second.
    fn draw_drills(rng: &mut Rng) -> Self {
        let third = [MemberRole::Data, MemberRole::Data, MemberRole::Witness][rng.index(3)];
        let settings = Settings {
            replication: Replication::Sync,
            durability: Durability::Fsync,
            min_copies: 1,
            timing: Timing::LAN,
            text: String::new(),
        };
        Self {
            roles: vec![MemberRole::Data, MemberRole::Data, third],
            spares: 0,
            settings,
            priorities: vec![[100, 200][rng.index(2)], 100, 100],
            clients: rng.between(3, 6) as usize,
            readers: 0,
            think: [2 * MS, 5 * MS, 20 * MS][rng.index(3)],
            mix: Mix { keys: COUNTERS_FROM, reads_percent: 10, verified_percent: 0 },
            delay: [MS / 20, MS / 5][rng.index(2)],
            loss_per_mille: 0,
            sync: [MS / 2, 3 * MS, 10 * MS][rng.index(3)],
            weights: vec![0; FaultKind::ALL.len()],
            fault_interval: SECOND,
            operator_interval: SECOND,
            flush_interval: 200 * MS,
            faults_until: 30 * SECOND,
            log_kept_bytes: 1 << 40,
            segment_size_bytes: 64 << 10,
            ambush_percent: 0,
            only: None,
            script: None,
            drill_interval: Some(SECOND),
        }
    }
}

impl Plan {
    /// Three nodes, the third of which is a warm or a witness, and clients that keep them busy.
    fn draw_small(rng: &mut Rng, script: Script) -> Self {
        let third = [MemberRole::Data, MemberRole::Witness][rng.index(2)];
        let timing = [Timing::FAST, Timing::FAST, Timing::LAN][rng.index(3)];
        let drills = Self::draw_drills(rng);
        Self {
            roles: vec![MemberRole::Data, MemberRole::Data, third],
            settings: Settings { timing, ..drills.settings.clone() },
            clients: 4,
            readers: 1,
            think: 8 * MS,
            mix: Mix { keys: [1, COUNTERS_FROM][rng.index(2)], reads_percent: 40, verified_percent: 20 },
            delay: [MS / 10, MS][rng.index(2)],
            sync: [MS / 10, 2 * MS][rng.index(2)],
            log_kept_bytes: [0, 1 << 40][rng.index(2)],
            segment_size_bytes: 16 << 10,
            drill_interval: None,
            script: Some(script),
            ..drills
        }
    }
}

fn draw_timing(rng: &mut Rng) -> Timing {
    match rng.below(10) {
        0..=4 => Timing::LAN,
        5..=6 => Timing::FAST,
        7 => Timing::WAN,
        8 => Timing::PATIENT,
        _ => {
            // The tightest timers that the rules allow (R15, R22).
            let lease = Duration::from_millis(rng.between(150, 1_200));
            let grace = Timing::grace_least(lease);
            let shrink_after = grace * 6 / 10;
            Timing { beacon: shrink_after / rng.between(4, 12) as u32, shrink_after, lease, grace }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_plan_is_one_that_the_group_must_survive() {
        for seed in 0..500 {
            let plan = Plan::draw(&mut Rng::new(seed), Course::Usual);
            assert_eq!(plan.settings.timing.check(), Ok(()), "seed {seed}");
            let data = plan.roles.iter().filter(|role| **role == MemberRole::Data).count();
            assert!((1..=5).contains(&data) && usize::from(plan.settings.min_copies) <= data);
            assert!(plan.roles.len() + plan.spares >= 2, "seed {seed}: faults are between machines");
        }
    }
}
