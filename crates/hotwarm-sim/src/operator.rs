//! The operator: switchovers, goodbyes, maintenance, settings, members; and the repair of what repairs not itself.
//!
//! Asks as a person would, at a node that may not be the right one, and checks what is answered: a state that is shown
//! must have been chosen, and a linearizable read must not be older than its question (R7).

use crate::clock::MS;
use crate::machine::Stimulus;
use crate::outcome::Kind;
use crate::world::{Event, NAMES, World};
use core::time::Duration;
use hotwarm_core::register::{ChangeKind, GroupState, MemberRole, Settings, Timing};
use hotwarm_core::{Answer, Ask, AskRefused, Input};
use hotwarm_types::{RequestId, Version};
use std::collections::{BTreeMap, BTreeSet};

/// What the operator waits for.
#[derive(Debug, Default)]
pub struct Operator {
    /// Open questions, by machine, process and number.
    open: BTreeMap<(usize, u64, RequestId), Question>,
    /// The last revision of the settings' text that was asked for.
    revision: u64,
    /// Texts of settings that were refused: they must never be chosen (C9).
    refused_texts: BTreeSet<String>,
    /// Requests carried out.
    pub done: u64,
    /// Requests refused.
    pub refused: u64,
}

/// A question that is open.
#[derive(Clone, Debug)]
struct Question {
    /// The version that was newest when it was put.
    newest: Version,
    /// Of a change of settings: from which version, and the text, if that is new.
    apply: Option<(Version, Option<String>)>,
}

/// Whether a state's history shows a change of settings at a version. An answer of unknown outcome was looked up later, in a
/// later state (R2).
fn is_made_at(state: &GroupState, version: Version) -> bool {
    state.version == version
        || state.changes.iter().any(|record| record.version == version && record.kind == ChangeKind::Settings)
}

impl World {
    /// Puts a question to the node of a machine.
    pub(crate) fn ask(&mut self, machine: usize, ask: Ask) {
        let newest = self.ledger.choices.latest().map_or(Version(0), |state| state.version);
        let Some((boot, id)) = self.process(machine, |process| (process.boot, process.next_request())) else { return };
        // Another change may carry on a text that is agreed already.
        let known = self.ledger.choices.latest().map(|state| state.settings.text.clone());
        let apply = match &ask {
            Ask::Apply { expected, settings, .. } => {
                Some((*expected, Some(settings.text.clone()).filter(|text| known.as_ref() != Some(text))))
            }
            _ => None,
        };
        self.operator.open.insert((machine, boot, id), Question { newest, apply });
        self.stimulate(machine, boot, Stimulus::Fact(Input::Asked { id, ask }));
    }

    pub(crate) fn operator_answered(&mut self, machine: usize, id: RequestId, answer: &Result<Answer, AskRefused>) {
        let Some(boot) = self.machines[machine].process.as_ref().map(|process| process.boot) else { return };
        let Some(Question { newest, apply }) = self.operator.open.remove(&(machine, boot, id)) else {
            return self.fail(Kind::Safety, "R7", format!("question {id} was answered twice or never put"));
        };
        if let (Ok(Answer::State(state)), Some((expected, _))) = (answer, &apply)
            && !is_made_at(state, expected.next())
        {
            let what = format!("settings computed from {expected} were put into {}", state.version);
            return self.fail(Kind::Safety, "C23", what);
        }
        if let (Err(refused), Some((_, Some(text)))) = (answer, apply)
            && *refused != AskRefused::Unknown
        {
            self.operator.refused_texts.insert(text);
            self.judge_refused();
        }
        match answer {
            Ok(Answer::State(state)) => {
                self.operator.done += 1;
                let chosen = self.ledger.choices.at(state.version);
                if chosen != Some(state) {
                    let what =
                        format!("{} answered {}, which is not chosen", self.machines[machine].name, state.version);
                    self.fail(Kind::Safety, "R7", what);
                } else if state.version < newest {
                    let what = format!("{} was read after {newest} had been chosen", state.version);
                    self.fail(Kind::Safety, "R7", what);
                }
            }
            Ok(Answer::HandedOver(reign)) => {
                self.operator.done += 1;
                if self.ledger.choices.reign(reign.epoch).is_none_or(|state| state.reign != *reign) {
                    self.fail(Kind::Safety, "R7", format!("handed over to {reign}, which was not chosen"));
                }
            }
            Err(_) => self.operator.refused += 1,
        }
    }

    /// Now and then, while faults happen, the operator does something, or repairs what needs it.
    pub(crate) fn operator_looks(&mut self) {
        if !self.settle.faults_go_on() {
            return;
        }
        let wait = self.rng.latency(self.plan.operator_interval);
        self.after(wait, Event::Operator);
        let Some(state) = self.ledger.choices.latest().cloned() else { return };
        if self.rng.percent(70) {
            self.operator_acts(&state);
        } else {
            self.repair(&state, false);
        }
    }

    /// After the faults the operator looks after everything that does not mend by itself.
    pub(crate) fn repair_all(&mut self) {
        if let Some(state) = self.ledger.choices.latest().cloned() {
            self.repair(&state, true);
        }
    }

    fn operator_acts(&mut self, state: &GroupState) {
        let hot = self.machine_of(state.reign.node).filter(|_| self.rng.percent(85));
        let any = self.rng.index(self.machines.len());
        let at = hot.unwrap_or(any);
        match self.rng.weighted(&[8, 4, 2, 2, 4, 4, 3, 3]) {
            Some(0) => {
                let members: Vec<_> = state.members.keys().copied().collect();
                let to = if self.rng.percent(50) { self.rng.pick(&members) } else { None };
                self.ask(at, Ask::HandOver { to });
            }
            Some(1) => self.ask(any, Ask::Leave),
            Some(2) => {
                let length = Duration::from_millis(self.rng.between(200, 5_000));
                self.ask(at, Ask::Pause { length, reason: "maintenance".to_owned() });
            }
            Some(3) => self.ask(at, Ask::Resume),
            Some(4) => {
                let settings = self.other_settings(state);
                let behind = self.rng.below(2) * self.rng.below(2);
                let expected = Version(state.version.0.saturating_sub(behind));
                self.ask(at, Ask::Apply { expected, settings, changes: String::new() });
            }
            Some(5) => self.ask(any, Ask::ReadState),
            Some(6) => self.invite_a_spare(at),
            _ => self.remove_a_member(state, at),
        }
    }

    fn other_settings(&mut self, state: &GroupState) -> Settings {
        let mut settings = state.settings.clone();
        match self.rng.below(3) {
            0 => {
                self.operator.revision += 1;
                settings.text = format!("revision {}", self.operator.revision);
            }
            1 => settings.timing = [Timing::LAN, Timing::FAST, Timing::WAN][self.rng.index(3)],
            _ => settings.min_copies = if state.data_count() > 2 && self.rng.percent(50) { 2 } else { 1 },
        }
        settings
    }

    /// What an operator was told was not done must not be in any state that is chosen (C9).
    pub(crate) fn judge_refused(&mut self) {
        let latest = self.ledger.choices.latest().map(|state| &state.settings.text);
        if let Some(text) = latest.filter(|text| self.operator.refused_texts.contains(*text)) {
            let what = format!("a change of settings was refused and is chosen: {text:?}");
            self.fail(Kind::Safety, "C9", what);
        }
    }

    fn invite_a_spare(&mut self, at: usize) {
        let spare = (0..self.machines.len()).find(|machine| !self.machines[*machine].wanted);
        if let Some(spare) = spare {
            self.machines[spare].wanted = true;
            self.invite(at, spare);
        }
    }

    fn remove_a_member(&mut self, state: &GroupState, at: usize) {
        let machine = self.rng.index(self.machines.len());
        let Some(id) = self.id_of(machine) else { return };
        let witness = self.machines[machine].role == MemberRole::Witness;
        let spared =
            witness || state.data_count() > 2 && usize::from(state.settings.min_copies) < state.data_count() - 1;
        if state.members.contains_key(&id) && id != state.reign.node && spared && self.can_lose(machine) {
            self.ask(at, Ask::Remove { name: NAMES[machine].to_owned() });
        }
    }

    fn invite(&mut self, at: usize, machine: usize) {
        let Self { machines, .. } = self;
        let (role, priority) = (machines[machine].role, machines[machine].priority);
        let name = NAMES[machine].to_owned();
        let address = format!("{name}:7400");
        self.ask(at, Ask::Invite { name, address, role, priority });
    }

    /// Replaces folders that can no longer count, and lets empty ones join.
    fn repair(&mut self, state: &GroupState, thoroughly: bool) {
        let hot = self.machine_of(state.reign.node);
        if let Some(hot) = hot.filter(|_| thoroughly && state.pause.is_some()) {
            self.ask(hot, Ask::Resume);
        }
        self.lower_min_copies(state, thoroughly);
        for (machine, name) in NAMES.iter().enumerate().take(self.machines.len()) {
            let known = &self.machines[machine];
            if !known.wanted {
                continue;
            }
            let member = self.id_of(machine).is_some_and(|id| state.members.contains_key(&id));
            let used = known.disk.vote.accepted.is_some() || known.disk.log.end().lsn.0 > 0;
            let hopeless = known.fenced.is_some()
                || known.amnesiac && thoroughly
                || !member && used && (thoroughly || self.rng.percent(20));
            if hopeless && self.can_lose(machine) {
                self.end_process(machine, false);
                self.replace_folder(machine);
            } else if !member
                && !used
                && !state.invited.contains_key(*name)
                && let Some(hot) = hot
            {
                self.invite(hot, machine);
            }
        }
    }

    /// Where fewer folders than `min_copies` are left of the in-sync set, writes wait for ever, or nobody can reign, until
    /// a person agrees to less. Asked is a node whose folder still counts.
    fn lower_min_copies(&mut self, state: &GroupState, thoroughly: bool) {
        let (holders, _) = self.sound(state, None);
        let least = usize::from(state.settings.min_copies).min(state.in_sync.len());
        if !thoroughly || holders == 0 || holders >= least {
            return;
        }
        let settings = Settings { min_copies: holders as u8, ..state.settings.clone() };
        let counts = |machine: &usize| {
            let machine = &self.machines[*machine];
            machine.is_awake() && !machine.amnesiac && machine.fenced.is_none()
        };
        let at = state.members.keys().filter_map(|id| self.machine_of(*id)).find(counts);
        if let Some(at) = at {
            self.ask(at, Ask::Apply { expected: state.version, settings, changes: String::new() });
        }
    }

    /// An empty folder asks a member that it can reach and that does not know it, until it is a member.
    pub(crate) fn ask_to_join(&mut self, machine: usize, boot: u64) {
        let running = self.machines[machine].process.as_ref().filter(|process| process.boot == boot);
        let Some(process) = running else { return };
        if process.node.id().is_some() {
            return;
        }
        let wait = self.rng.between(100, 400) * MS;
        self.after(wait, Event::Join { machine, boot });
        let peer = self.rng.index(self.machines.len());
        if peer == machine || !self.machines[peer].is_awake() || !self.machines[machine].is_awake() {
            return;
        }
        if !self.network.passes(machine, peer) || !self.network.passes(peer, machine) {
            return;
        }
        let Some(process) = &self.machines[peer].process else { return };
        let peer_boot = process.boot;
        if process.node.id().is_none() || self.wants(peer, machine) {
            return;
        }
        let (name, folder) = (self.machines[machine].name.clone(), self.machines[machine].disk.folder());
        self.stimulate(peer, peer_boot, Stimulus::Fact(Input::JoinAsked { name, folder }));
    }
}
