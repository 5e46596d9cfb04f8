//! What happened, as lines that a person can read.

use crate::group::Group;
use hotwarm_core::Note;
use hotwarm_types::{Block, Lsn, NodeId};
use std::collections::BTreeMap;
use std::fmt::Write;

impl Group {
    pub fn note(&mut self, machine: usize, note: Note) {
        match note {
            Note::BecameHot { epoch, cause, .. } => {
                self.say(machine, format_args!("HOT in epoch {epoch} ({}: {})", cause.word, cause.evidence));
            }
            Note::HandedOver { epoch, to, drained, chosen } => {
                let (name, drained, chosen) = (self.name(to), drained.as_millis(), chosen.as_millis());
                self.say(
                    machine,
                    format_args!("handed epoch {epoch} over to {name} (drained {drained} ms, chosen {chosen} ms)"),
                );
            }
            Note::StoppedBeingHot { epoch, cause } => {
                self.say(machine, format_args!("no longer hot in epoch {epoch} ({}: {})", cause.word, cause.evidence));
            }
            Note::Stands { epoch, cause } => {
                self.say(machine, format_args!("stands against epoch {epoch} ({}: {})", cause.word, cause.evidence));
            }
            Note::Defers { heard_by } => {
                let name = self.name(heard_by);
                self.say(machine, format_args!("defers: {name} hears the hot"));
            }
            Note::Shrunk { nodes, cause } => {
                let names: Vec<String> = nodes.iter().map(|node| self.name(*node)).collect();
                let why = format!("{}: {}", cause.word, cause.evidence);
                self.say(machine, format_args!("shrinks by {} ({why})", names.join(" ")));
            }
            Note::Grown { node } => {
                let name = self.name(node);
                self.say(machine, format_args!("grows by {name}"));
            }
            Note::Follows { reign } => {
                let name = self.name(reign.node);
                self.say(machine, format_args!("follows {name}@{}", reign.epoch));
            }
            Note::Cut { last, end } => self.say(machine, format_args!("puts aside what follows {last}, up to {end}")),
            Note::RefusedAmnesiac { peer } => {
                let name = self.name(peer);
                self.say(machine, format_args!("refuses {name}: it has forgotten something"));
            }
            Note::NotAdmitted { name, why } => self.say(machine, format_args!("does not admit {name}: {why}")),
            Note::LeaseLost => self.say(machine, format_args!("lease lost")),
            Note::LeaseHeld => self.say(machine, format_args!("lease held")),
            Note::DeathAttested { peer, .. } => {
                let name = self.name(peer);
                self.say(machine, format_args!("hears that {name} is dead"));
            }
            Note::FullSync { to } => {
                let name = self.name(to);
                self.say(machine, format_args!("{name} needs a full sync"));
            }
        }
    }

    pub fn name(&self, node: NodeId) -> String {
        self.names.get(&node).cloned().unwrap_or_else(|| node.to_string())
    }

    pub fn say(&mut self, machine: usize, what: std::fmt::Arguments<'_>) {
        let what = what.to_string();
        let of_a_write = ["append", "commit", "acknowledges"].iter().any(|word| what.starts_with(word));
        if self.quiet || (self.quiet_writes && of_a_write) {
            return;
        }
        let at = self.now.since(self.zero).as_millis();
        let name = &self.machines[machine].name;
        writeln!(self.text, "{at:>6}ms {name} {what}").unwrap();
    }

    /// How it ends: every node's position, and what the group has agreed on; logs must agree where both are committed.
    pub fn finish(mut self) -> String {
        let mut lines = Vec::new();
        for machine in &self.machines {
            let Some(node) = &machine.node else {
                lines.push(format!("{} is down", machine.name));
                continue;
            };
            let facts = node.facts(self.now);
            lines.push(format!("{} {:?} end {} committed {}", machine.name, facts.role, facts.end, facts.committed));
        }
        if let Some(state) = self.state() {
            let names: Vec<String> = state.in_sync.iter().map(|node| self.name(*node)).collect();
            let hot = self.name(state.reign.node);
            lines.push(format!(
                "agreed {}: hot {hot}@{}, in sync {}",
                state.version,
                state.reign.epoch,
                names.join(" ")
            ));
        }
        for line in lines {
            writeln!(self.text, "= {line}").unwrap();
        }
        self.committed_logs_agree();
        self.text
    }

    fn committed_logs_agree(&self) {
        let mut seen: BTreeMap<Lsn, Block> = BTreeMap::new();
        for machine in &self.machines {
            let Some(node) = &machine.node else { continue };
            for block in machine.disk.log.iter().filter(|block| block.last <= node.committed()) {
                let other = seen.entry(block.first).or_insert_with(|| block.clone());
                assert_eq!(other, block, "INV-3: committed logs differ at {} on {}", block.first, machine.name);
            }
        }
    }
}
