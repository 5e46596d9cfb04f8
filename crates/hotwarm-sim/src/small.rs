//! Small scope, exhaustively: every ordered pair, or triple, of faults and roles, each on three busy nodes.
//!
//! Most catastrophic failures of distributed systems need three nodes and three events at most, in the right order (Yuan
//! et al., "Simple Testing Can Prevent Most Critical Failures", OSDI 2014). So all of them are tried, not drawn: a fault at
//! the hot, a warm or the witness, then another before, while or after the first one ends.

use crate::clock::{MS, SECOND};
use crate::faults::{Fault, FaultKind, Target};
use crate::rng::Rng;
use crate::world::{Event, World};

/// Faults that are combined.
pub const KINDS: [FaultKind; 15] = [
    FaultKind::CrashAttested,
    FaultKind::CrashUnattested,
    FaultKind::PowerLoss,
    FaultKind::Pause,
    FaultKind::CutOneWay,
    FaultKind::CutPair,
    FaultKind::Isolate,
    FaultKind::Hold,
    FaultKind::Reset,
    FaultKind::SlowLink,
    FaultKind::StallDisk,
    FaultKind::FailDisk,
    FaultKind::FullDisk,
    FaultKind::BitRot,
    FaultKind::Wipe,
];

/// Where they happen.
pub const ROLES: [Target; 3] = [Target::Hot, Target::Warm, Target::Witness];

/// A fault and the role at which it happens.
pub type Step = (FaultKind, Target);

/// Up to three faults, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Script {
    steps: [Option<Step>; 3],
}

impl Script {
    /// How many scripts of so many steps there are.
    #[must_use]
    pub fn count(steps: u32) -> u64 {
        ((KINDS.len() * ROLES.len()) as u64).pow(steps)
    }

    /// The script of that number among those of so many steps, at most 3.
    #[must_use]
    pub fn numbered(steps: u32, number: u64) -> Self {
        let mut rest = number;
        let mut script = Self { steps: [None; 3] };
        for step in script.steps.iter_mut().take(steps as usize) {
            let choice = (rest % Self::count(1)) as usize;
            rest /= Self::count(1);
            *step = Some((KINDS[choice / ROLES.len()], ROLES[choice % ROLES.len()]));
        }
        script
    }

    /// The script of that name: `pause@hot,wipe@warm`.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let mut script = Self { steps: [None; 3] };
        for (index, step) in name.split(',').enumerate() {
            let (kind, role) = step.split_once('@')?;
            let role = ROLES.into_iter().find(|known| role_name(*known) == role)?;
            *script.steps.get_mut(index)? = Some((FaultKind::named(kind)?, role));
        }
        Some(script)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> String {
        let steps = self.steps.iter().flatten();
        let names: Vec<_> = steps.map(|(kind, role)| format!("{}@{}", kind.name(), role_name(*role))).collect();
        names.join(",")
    }
}

fn role_name(role: Target) -> &'static str {
    match role {
        Target::Hot => "hot",
        Target::Warm => "warm",
        Target::Witness => "witness",
        Target::Machine(_) => "machine",
    }
}

impl World {
    /// Waits until the group is whole and busy, then lets the script happen.
    pub(crate) fn begin_script(&mut self, script: Script) {
        let busy = self.oracle.acknowledged > 20 && self.what_is_missing().is_none();
        if !busy {
            return self.after(50 * MS, Event::Script { script });
        }
        let grace = self.plan.settings.timing.grace.as_nanos() as u64;
        let mut at = self.now;
        for (kind, target) in script.steps.into_iter().flatten() {
            let rng = &mut self.fault_rng;
            let length = [grace / 4, grace, 2 * grace][rng.index(3)] / 2 + rng.below(grace);
            let draw = rng.bits();
            let fault = Fault { kind, target, length, draw };
            self.schedule(at, Event::Inject { fault: Box::new(fault) });
            let rng: &mut Rng = &mut self.fault_rng;
            at += [rng.below(5 * MS), rng.below(grace), grace + rng.below(2 * grace)][rng.index(3)];
        }
        self.schedule(at + 3 * grace + SECOND / 2, Event::Settle);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_script_has_a_name_and_a_number() {
        assert_eq!(Script::count(2), 2_025);
        for number in (0..Script::count(3)).step_by(997) {
            let script = Script::numbered(3, number);
            assert_eq!(Script::named(&script.name()), Some(script));
        }
        assert_eq!(Script::named("pause@hot,wipe@warm").unwrap().name(), "pause@hot,wipe@warm");
        assert_eq!(Script::named("pause@moon"), None);
    }
}
