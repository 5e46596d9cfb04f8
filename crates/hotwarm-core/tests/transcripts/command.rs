//! The words of a scenario: what is done to the group, and what is asked of it.

use crate::group::{Event, Group, STEP};
use crate::machine::Machine;
use hotwarm_core::register::MemberRole;
use hotwarm_core::{Ask, Input};
use hotwarm_types::{FolderId, Payload, RequestId, Tenure, Token};
use std::fmt::Write;
use std::time::Duration;

impl Group {
    pub fn command(&mut self, line: &str) {
        writeln!(self.text, "> {line}").unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["advance", length] => self.run(millis(length)),
            // Writes one after the other, without a word of each.
            ["stream", name, count, interval] => {
                self.quiet_writes = true;
                for number in 0..count.parse().expect("a number of writes") {
                    self.write(name, &format!("s={number}"));
                    self.run(millis(interval));
                }
                self.quiet_writes = false;
            }
            ["write", name, text] => self.write(name, text),
            ["write-late", name] => self.write_late(name),
            ["cut", link] => self.cut(link, true),
            ["heal", link] => self.cut(link, false),
            ["crash", name] => self.crash(name, false),
            ["crash", name, "attested"] => self.crash(name, true),
            ["restart", name] => {
                let machine = self.find(name);
                self.start(machine);
            }
            ["pause", name] => {
                let machine = self.find(name);
                self.machines[machine].paused = true;
            }
            ["resume", name] => {
                let machine = self.find(name);
                self.machines[machine].paused = false;
                self.step(machine, Input::Elapsed);
            }
            ["slow-disk", name, length] => {
                let machine = self.find(name);
                self.slow_disk.insert(machine, millis(length));
            }
            ["slow-copy", length] => self.copy_takes = millis(length),
            ["slow-install", length] => self.install_takes = millis(length),
            // The log of a node that does not run reaches back no further than its end.
            ["shorten", name] => {
                let machine = self.find(name);
                let disk = &mut self.machines[machine].disk;
                disk.floor = disk.log.last().map_or(disk.floor, hotwarm_types::Block::end);
                disk.log.clear();
            }
            ["fail-disk", name] => {
                let machine = self.find(name);
                let error = "input/output error".into();
                self.step(machine, Input::PersistFailed { token: Token(0), error });
            }
            ["wipe", name] => self.wipe(name),
            ["join", name] => self.join(name),
            ["verify", name] => {
                self.requests += 1;
                let (machine, id) = (self.find(name), RequestId(self.requests));
                self.step(machine, Input::VerifyAsked { id });
            }
            ["messages", on] => self.messages = *on == "on",
            ["switchover", name] => self.ask(name, Ask::HandOver { to: None }),
            ["switchover", name, target] => {
                let target = self.find(target);
                let to = self.ids.iter().find(|(_, machine)| **machine == target).map(|(id, _)| *id);
                self.ask(name, Ask::HandOver { to });
            }
            ["leave", name] => self.ask(name, Ask::Leave),
            ["maintenance", name, length] => {
                self.ask(name, Ask::Pause { length: millis(length), reason: "upgrade".into() });
            }
            ["end-maintenance", name] => self.ask(name, Ask::Resume),
            ["force", name] => self.ask(name, Ask::ForcePromote { statement: "the other is switched off".into() }),
            ["read-state", name] => self.ask(name, Ask::ReadState),
            ["remove", name, who] => self.ask(name, Ask::Remove { name: (*who).into() }),
            ["add-at", name, who, address] => {
                let (who, address) = ((*who).into(), (*address).into());
                self.ask(name, Ask::Invite { name: who, address, role: MemberRole::Data, priority: 100 });
            }
            ["invite", name, who] => self.invite(name, who, MemberRole::Data),
            ["invite-witness", name, who] => self.invite(name, who, MemberRole::Witness),
            _ => panic!("unknown command: {line}"),
        }
    }

    fn invite(&mut self, name: &str, who: &str, role: MemberRole) {
        let address = format!("{who}:7400");
        self.ask(name, Ask::Invite { name: who.into(), address, role, priority: 100 });
    }

    fn ask(&mut self, name: &str, ask: Ask) {
        self.requests += 1;
        let (machine, id) = (self.find(name), RequestId(self.requests));
        self.step(machine, Input::Asked { id, ask });
    }

    fn write(&mut self, name: &str, text: &str) {
        let machine = self.find(name);
        let target = &self.machines[machine];
        let (Some(node), Some(tenure)) = (&target.node, target.tenure) else {
            self.say(machine, format_args!("takes no write: not serving"));
            return;
        };
        let first = node.end().lsn.next();
        self.machines[machine].unacknowledged.push_back((first, text.into()));
        let payload = Payload::new(text.as_bytes());
        self.step(machine, Input::Proposed { tenure, first, count: 1, stamp_ms: 0, payload });
    }

    /// Proposes what was executed before the last `serves`.
    fn write_late(&mut self, name: &str) {
        let machine = self.find(name);
        let target = &self.machines[machine];
        let (Some(node), Some(tenure)) = (&target.node, target.tenure) else { return };
        let (first, tenure) = (node.end().lsn.next(), Tenure { number: tenure.number - 1, ..tenure });
        self.step(machine, Input::Proposed { tenure, first, count: 1, stamp_ms: 0, payload: Payload::new(b"late") });
        let end = self.machines[machine].node.as_ref().map(|node| node.end().lsn);
        self.say(machine, format_args!("has {}", if end < Some(first) { "nothing late" } else { "taken it" }));
    }

    fn crash(&mut self, name: &str, attested: bool) {
        let dead = self.find(name);
        let incarnation = self.machines[dead].incarnation;
        let victim = &mut self.machines[dead];
        victim.node = None;
        victim.tenure = None;
        victim.paused = false;
        victim.unacknowledged.clear();
        self.linked.retain(|(low, high)| *low != dead && *high != dead);
        self.met.remove(&dead);
        let Some(peer) = self.id(dead) else { return };
        for machine in 0..self.machines.len() {
            if machine != dead && !self.cuts.contains(&(dead, machine)) {
                self.tell(machine, Input::LinkDown { peer });
                if attested {
                    self.tell(machine, Input::DeathAttested { peer, incarnation });
                }
            }
        }
    }

    fn wipe(&mut self, name: &str) {
        let machine = self.find(name);
        let folder = FolderId(self.machines[machine].folder.0 + 100);
        self.ids.retain(|_, place| *place != machine);
        self.machines[machine] = Machine::new(name, folder);
    }

    /// A fresh folder is started and asks to be admitted.
    fn join(&mut self, name: &str) {
        if !self.machines.iter().any(|machine| machine.name == name) {
            let folder = FolderId(self.machines.len() as u128 + 1);
            self.machines.push(Machine::new(name, folder));
        }
        let machine = self.find(name);
        self.start(machine);
        self.schedule(STEP, Event::Join { machine });
    }

    /// `a` (from everyone), `a-b` (both ways), `a->b` (one way; connections break only when both ways are cut).
    fn cut(&mut self, link: &str, cut: bool) {
        let mut pairs = Vec::new();
        if let Some((a, b)) = link.split_once("->") {
            pairs.push((self.find(a), self.find(b)));
        } else if let Some((a, b)) = link.split_once('-') {
            pairs.extend([(self.find(a), self.find(b)), (self.find(b), self.find(a))]);
        } else {
            let a = self.find(link);
            pairs.extend((0..self.machines.len()).filter(|b| *b != a).flat_map(|b| [(a, b), (b, a)]));
        }
        for (from, to) in pairs {
            if cut {
                self.cuts.insert((from, to));
            } else if self.cuts.remove(&(from, to)) && !self.cuts.contains(&(to, from)) {
                for (at, of) in [(from, to), (to, from)] {
                    if let Some(peer) = self.id(of) {
                        self.tell(at, Input::LinkDown { peer });
                    }
                }
                self.link(from, to);
            }
        }
    }
}

fn millis(length: &str) -> Duration {
    Duration::from_millis(length.strip_suffix("ms").expect("a length in ms").parse().unwrap())
}
