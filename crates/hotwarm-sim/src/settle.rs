//! The end of a run: faults end, and the group must converge within a bound (C40).
//!
//! First it must serve: a hot, and writes that flow. Then it must be whole: every member runs and is in sync. Then
//! clients stop, and all logs and states must be equal, and equal to what was committed.

use crate::clock::{MS, SECOND};
use crate::machine::Mode;
use crate::outcome::Kind;
use crate::plan::Plan;
use crate::world::{Event, World};
use hotwarm_core::register::MemberRole;

/// Writes that must be acknowledged before the group counts as serving.
const WRITES_TO_SERVE: u64 = 5;

/// How far a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Faults happen.
    Faults,
    /// They have ended.
    Mending {
        /// When.
        since: u64,
        /// Writes acknowledged then.
        acknowledged: u64,
        /// When writes flowed again.
        served_at: Option<u64>,
    },
    /// Clients have stopped.
    Quiet {
        /// When.
        since: u64,
    },
    /// The group has converged, or more was lost than a group can survive.
    Over,
}

/// The bounds, and how far the run is.
#[derive(Clone, Debug)]
pub struct Settle {
    /// How far the run is.
    pub phase: Phase,
    /// From the end of faults to writes that flow, nanoseconds. A group that changed its hot again and again with nothing
    /// written waits up to 32 s before it does so once more (R24).
    pub serve_within: u64,
    /// From there to a whole group: the hold of a flapping member doubles up to a minute (R27).
    pub whole_within: u64,
    /// From the end of faults to writes that flow, as it came out.
    pub served_after: u64,
    /// More was lost than a group must survive.
    pub beyond: bool,
}

impl Settle {
    /// A run that begins.
    #[must_use]
    pub fn new(plan: &Plan) -> Self {
        let grace = plan.settings.timing.grace.as_nanos() as u64;
        Self {
            phase: Phase::Faults,
            serve_within: 45 * SECOND + 15 * grace,
            whole_within: 240 * SECOND,
            served_after: 0,
            beyond: false,
        }
    }

    /// Whether faults still happen.
    #[must_use]
    pub fn faults_go_on(&self) -> bool {
        self.phase == Phase::Faults
    }

    /// Whether clients may begin a request.
    #[must_use]
    pub fn clients_may_ask(&self) -> bool {
        matches!(self.phase, Phase::Faults | Phase::Mending { .. })
    }

    /// Whether the run is at its end.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }
}

impl World {
    /// Looks how far the group has come, ten times a second.
    pub(crate) fn look_whether_settled(&mut self) {
        if matches!(self.settle.phase, Phase::Mending { .. }) && self.rng.percent(25) {
            self.repair_all();
        }
        match self.settle.phase {
            Phase::Faults => {
                self.all_faults_ended();
                self.mend_all();
                let acknowledged = self.oracle.acknowledged;
                self.settle.phase = Phase::Mending { since: self.now, acknowledged, served_at: None };
            }
            Phase::Mending { since, acknowledged, served_at: None } => {
                if self.oracle.acknowledged >= acknowledged + WRITES_TO_SERVE && self.serves() {
                    self.settle.served_after = self.now - since;
                    self.settle.phase = Phase::Mending { since, acknowledged, served_at: Some(self.now) };
                } else if self.now > since + self.settle.serve_within {
                    self.give_in("writes do not flow");
                }
            }
            Phase::Mending { served_at: Some(served_at), .. } => match self.what_is_missing() {
                None => self.settle.phase = Phase::Quiet { since: self.now },
                Some(missing) if self.now > served_at + self.settle.whole_within => self.give_in(&missing),
                Some(_) => {}
            },
            Phase::Quiet { since } => {
                let missing = self.what_differs();
                match missing {
                    None => self.conclude(),
                    Some(missing) if self.now > since + 20 * SECOND => self.give_in(&missing),
                    Some(_) => {}
                }
            }
            Phase::Over => return,
        }
        self.after(100 * MS, Event::Settle);
    }

    /// The group does not converge; unless more was lost than it must survive, that is a failure.
    fn give_in(&mut self, missing: &str) {
        if self.is_beyond() {
            self.settle.beyond = true;
            self.settle.phase = Phase::Over;
            return;
        }
        let state = self.ledger.choices.latest().map_or_else(String::new, |state| {
            format!(
                "{}: reign {}, in sync {:?}, {} members",
                state.version,
                state.reign,
                state.in_sync,
                state.members.len()
            )
        });
        self.fail(Kind::Liveness, "C40", format!("{missing} ({state})"));
    }

    /// Whether no in-sync folder, or no majority of acceptors, is left, by the newest state or by one that a majority may
    /// already have accepted: a change of members that is under way while a folder is lost is more than one fault.
    fn is_beyond(&self) -> bool {
        let Some(latest) = self.ledger.choices.latest() else { return false };
        let (holders, _) = self.sound(latest, None);
        holders == 0 || self.possible_states(latest).any(|state| !self.sound(state, None).1)
    }

    /// Whether the process that reigns in the newest epoch serves.
    fn serves(&self) -> bool {
        let Some(state) = self.ledger.choices.latest() else { return false };
        let process = self.machine_of(state.reign.node).and_then(|machine| self.machines[machine].process.as_ref());
        process
            .is_some_and(|process| matches!(process.mode, Mode::Serving(tenure) if tenure.epoch == state.reign.epoch))
    }

    /// What keeps the group from being whole.
    pub(crate) fn what_is_missing(&self) -> Option<String> {
        let state = self.ledger.choices.latest()?;
        for (index, machine) in self.machines.iter().enumerate().filter(|(_, machine)| machine.wanted) {
            let name = &machine.name;
            let Some(id) = self.id_of(index).filter(|id| state.members.contains_key(id)) else {
                return Some(format!("{name} is no member"));
            };
            if machine.process.is_none() {
                return Some(format!("{name} does not run"));
            }
            if machine.role == MemberRole::Data && !state.in_sync.contains(&id) {
                return Some(format!("{name} is not in sync"));
            }
        }
        if self.serves() { None } else { Some("the hot does not serve".to_owned()) }
    }

    /// What keeps logs and states from being equal.
    fn what_differs(&mut self) -> Option<String> {
        if let Some(client) = self.clients.iter().position(|client| client.open.is_some()) {
            return Some(format!("client {client} still waits"));
        }
        let end = self.ledger.canon.end;
        let mut digests = Vec::new();
        for index in 0..self.machines.len() {
            if let Some(what) = self.state_differs(index) {
                return Some(format!("{} holds another state: {what}", self.machines[index].name));
            }
            let machine = &self.machines[index];
            let member = machine.wanted && machine.role == MemberRole::Data && self.id_of(index).is_some();
            let Some(process) = machine.process.as_ref().filter(|_| member) else { continue };
            if process.log.end() != end || process.node.end() != end {
                return Some(format!("{} ends at {}, {end} is committed", machine.name, process.log.end()));
            }
            if process.node.committed() != end.lsn || process.committed() != end.lsn {
                return Some(format!("{} has committed {} of {end}", machine.name, process.node.committed()));
            }
            match process.feeder.digest() {
                Ok(digest) => digests.push(digest),
                Err(error) => return Some(format!("the tree of {} cannot be read: {error}", machine.name)),
            }
        }
        let differ = digests.windows(2).any(|pair| pair[0] != pair[1]);
        differ.then(|| format!("states differ: {digests:?}"))
    }

    fn conclude(&mut self) {
        let canon = &self.ledger.canon;
        let value_of = |name: &str| {
            let value = canon.value_at(name.as_bytes(), canon.end.lsn);
            value.and_then(|text| std::str::from_utf8(text).ok()?.parse().ok())
        };
        if let Err(complaint) = self.oracle.close(value_of) {
            self.fail(Kind::Safety, complaint.rule, complaint.what);
        }
        self.settle.phase = Phase::Over;
    }
}
