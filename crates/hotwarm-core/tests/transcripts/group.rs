//! A small group in virtual time: every message takes 1 ms, every write to a disk 1 ms. Nothing is drawn at random.

use hotwarm_core::register::{GroupState, Member, MemberRole, Replication, Settings, Timing, Vote};
use hotwarm_core::{Answer, Ask, Config, Input, Message, Node, Note, Output, Recovered};
use hotwarm_types::{
    Block, BlockKind, ClusterId, EntryId, Epoch, FolderId, GroupId, Incarnation, Instant, Lsn, NodeId, Payload, Reign,
    RequestId, Token, Version,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write;
use std::time::Duration;

const STEP: Duration = Duration::from_millis(1);

/// What survives a crash of one node.
#[derive(Default)]
struct Disk {
    vote: Vote,
    log: Vec<Block>,
    floor: EntryId,
    epochs: Vec<(Epoch, Lsn)>,
    starts: u64,
}

struct Machine {
    name: String,
    folder: FolderId,
    node: Option<Node>,
    incarnation: Incarnation,
    paused: bool,
    disk: Disk,
    /// Writes of its own clients that are not acknowledged yet: position, text.
    unacknowledged: VecDeque<(Lsn, String)>,
    epoch: Option<Epoch>,
    snapshots: BTreeMap<u64, EntryId>,
}

enum Event {
    Arrives { from: usize, to: usize, incarnation: Incarnation, sender: Incarnation, message: Message },
    Done { machine: usize, incarnation: Incarnation, change: Change, token: Token },
    Tell { machine: usize, input: Input },
}

enum Change {
    Vote(Box<Vote>),
    Append(Block),
    Cut(Lsn),
}

pub struct Group {
    now: Instant,
    zero: Instant,
    machines: Vec<Machine>,
    ids: BTreeMap<NodeId, usize>,
    events: BTreeMap<(Instant, u64), Event>,
    sequence: u64,
    cuts: BTreeSet<(usize, usize)>,
    slow_disk: BTreeMap<usize, Duration>,
    birth: GroupState,
    requests: u64,
    messages: bool,
    quiet: bool,
    text: String,
}

impl Group {
    /// `data=a,b,c witness=w min_copies=2 mode=async`: runs until everyone is in sync, then time 0 begins.
    pub fn new(words: &str) -> Self {
        let mut members = BTreeMap::new();
        let mut settings = Settings::default();
        for word in words.split_whitespace() {
            let (key, value) = word.split_once('=').expect("key=value");
            let role = if key == "witness" { MemberRole::Witness } else { MemberRole::Data };
            match key {
                "data" | "witness" => {
                    for name in value.split(',') {
                        let number = members.len() as u16 + 1;
                        members.insert(NodeId(number), member(name, u128::from(number), role));
                    }
                }
                "min_copies" => settings.min_copies = value.parse().unwrap(),
                "mode" => {
                    let (lag_bytes_max, lag_time_max) = (1 << 20, Duration::from_millis(300));
                    settings.replication = Replication::Async { lag_bytes_max, lag_time_max };
                }
                "profile" => settings.timing = if value == "fast" { Timing::FAST } else { Timing::LAN },
                _ => panic!("unknown word {word}"),
            }
        }
        let hot = *members.keys().next().unwrap();
        let birth = GroupState {
            cluster: ClusterId(1),
            group: GroupId(1),
            version: Version(0),
            proposal: Default::default(),
            reign: Reign { epoch: Epoch(0), node: hot, incarnation: Incarnation::default() },
            lossy_epoch: None,
            in_sync: BTreeSet::new(),
            members_version: Version(0),
            invited: BTreeMap::new(),
            next_node: NodeId(members.len() as u16 + 1),
            settings,
            pause: None,
            changes: VecDeque::new(),
            members,
        };
        let mut group = Self {
            now: Instant(1_000_000_000),
            zero: Instant(0),
            machines: Vec::new(),
            ids: BTreeMap::new(),
            events: BTreeMap::new(),
            sequence: 0,
            cuts: BTreeSet::new(),
            slow_disk: BTreeMap::new(),
            requests: 0,
            messages: std::env::var("LOUD").is_ok(),
            quiet: std::env::var("LOUD").is_err(),
            text: String::new(),
            birth: birth.clone(),
        };
        for (id, member) in &birth.members {
            group.ids.insert(*id, group.machines.len());
            group.machines.push(Machine::new(&member.name, member.folder));
        }
        for machine in 0..group.machines.len() {
            group.start(machine);
        }
        let data = birth.members.values().filter(|member| member.role == MemberRole::Data).count();
        for _ in 0..3_000 {
            if group.state().is_some_and(|state| state.in_sync.len() == data) {
                break;
            }
            group.run(STEP);
        }
        group.run(Duration::from_millis(100));
        assert_eq!(
            group.state().map(|state| state.in_sync.len()),
            Some(data),
            "the group never got in sync {}",
            group.text
        );
        group.quiet = false;
        group.zero = group.now;
        group
    }

    /// The newest state that any living node knows to be chosen.
    fn state(&self) -> Option<&GroupState> {
        let states = self.machines.iter().filter_map(|machine| machine.node.as_ref()?.state());
        states.filter(|(_, chosen)| *chosen).map(|(state, _)| state).max_by_key(|state| state.version)
    }

    pub fn command(&mut self, line: &str) {
        writeln!(self.text, "> {line}").unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["advance", length] => self.run(millis(length)),
            ["write", name, text] => self.write(name, text),
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
            ["invite", name, who] => {
                let (name_of_new, address) = ((*who).to_string(), format!("{who}:7400"));
                let ask = Ask::Invite { name: name_of_new, address, role: MemberRole::Data, priority: 100 };
                self.ask(name, ask);
            }
            _ => panic!("unknown command: {line}"),
        }
    }

    fn ask(&mut self, name: &str, ask: Ask) {
        self.requests += 1;
        let (machine, id) = (self.find(name), RequestId(self.requests));
        self.step(machine, Input::Asked { id, ask });
    }

    fn find(&self, name: &str) -> usize {
        self.machines.iter().position(|machine| machine.name == name).unwrap_or_else(|| panic!("no node {name}"))
    }

    fn write(&mut self, name: &str, text: &str) {
        let machine = self.find(name);
        let target = &self.machines[machine];
        let (Some(node), Some(epoch)) = (&target.node, target.epoch) else {
            self.say(machine, format_args!("takes no write: not serving"));
            return;
        };
        let first = node.end().lsn.next();
        self.machines[machine].unacknowledged.push_back((first, text.into()));
        let payload = Payload::new(text.as_bytes());
        self.step(machine, Input::Proposed { epoch, first, count: 1, stamp_ms: 0, payload });
    }

    fn crash(&mut self, name: &str, attested: bool) {
        let dead = self.find(name);
        let incarnation = self.machines[dead].incarnation;
        let victim = &mut self.machines[dead];
        victim.node = None;
        victim.epoch = None;
        victim.paused = false;
        victim.unacknowledged.clear();
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
        self.machines[machine] = Machine::new(name, folder);
    }

    /// A fresh folder asks the hot to be admitted, and is told the state.
    fn join(&mut self, name: &str) {
        if !self.machines.iter().any(|machine| machine.name == name) {
            let folder = FolderId(self.machines.len() as u128 + 1);
            self.machines.push(Machine::new(name, folder));
        }
        let machine = self.find(name);
        let folder = self.machines[machine].folder;
        for hot in 0..self.machines.len() {
            self.step(hot, Input::JoinAsked { name: name.into(), folder });
        }
        self.run(Duration::from_millis(20));
        let state = self.state().cloned().expect("a group");
        let Some((id, _)) = state.member_named(name).filter(|(_, member)| member.folder == folder) else {
            self.say(machine, format_args!("is not admitted"));
            return;
        };
        self.ids.retain(|_, known| *known != machine);
        self.ids.insert(id, machine);
        self.start(machine);
        self.step(machine, Input::StateLearned { state });
        self.links(machine);
    }

    /// Starts a process on what its disk holds.
    fn start(&mut self, machine: usize) {
        let Machine { name, folder, disk, .. } = &mut self.machines[machine];
        disk.starts += 1;
        let incarnation = Incarnation { start: disk.starts, nonce: 7 + disk.starts };
        let log_end = disk.log.last().map_or(disk.floor, Block::end);
        let is_original = self.birth.members.values().any(|member| member.folder == *folder);
        let config = Config {
            cluster: self.birth.cluster,
            group: self.birth.group,
            name: name.clone(),
            folder: *folder,
            incarnation,
            seed: machine as u64 + 1,
            birth: is_original.then(|| self.birth.clone()),
        };
        let recovered = Recovered {
            vote: disk.vote.clone(),
            log_floor: disk.floor,
            log_end,
            epochs: disk.epochs.clone(),
            applied: disk.floor.lsn,
        };
        let node = Node::new(config, recovered, self.now);
        self.machines[machine].node = Some(node);
        self.machines[machine].incarnation = incarnation;
        self.step(machine, Input::WallClock { offset_ms: 1_000_000 });
        self.links(machine);
    }

    /// Everyone who can reach `machine` and is alive connects to it.
    fn links(&mut self, machine: usize) {
        for other in 0..self.machines.len() {
            let cut = self.cuts.contains(&(machine, other)) || self.cuts.contains(&(other, machine));
            if other != machine && !cut && self.machines[other].node.is_some() && self.machines[machine].node.is_some()
            {
                self.link_up(machine, other);
                self.link_up(other, machine);
            }
        }
    }

    fn link_up(&mut self, at: usize, of: usize) {
        if let Some(peer) = self.id(of) {
            let incarnation = self.machines[of].incarnation;
            self.tell(at, Input::LinkUp { peer, incarnation });
        }
    }

    fn id(&self, machine: usize) -> Option<NodeId> {
        self.ids.iter().find(|(_, known)| **known == machine).map(|(id, _)| *id)
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
                    if self.machines[at].node.is_some() && self.machines[of].node.is_some() {
                        let Some(peer) = self.id(of) else { continue };
                        self.tell(at, Input::LinkDown { peer });
                        self.link_up(at, of);
                    }
                }
            }
        }
    }

    fn tell(&mut self, machine: usize, input: Input) {
        self.schedule(STEP, Event::Tell { machine, input });
    }

    fn schedule(&mut self, after: Duration, event: Event) {
        self.sequence += 1;
        self.events.insert((self.now + after, self.sequence), event);
    }

    fn run(&mut self, length: Duration) {
        let end = self.now + length;
        loop {
            let event_at = self.events.keys().next().map(|(at, _)| *at);
            let wakeup = |machine: &Machine| machine.node.as_ref().filter(|_| !machine.paused)?.deadline();
            let timer = self.machines.iter().enumerate().filter_map(|(i, m)| Some((wakeup(m)?, i))).min();
            match (event_at, timer) {
                (Some(at), timer) if at <= end && timer.is_none_or(|(due, _)| at <= due) => {
                    self.now = self.now.max(at);
                    if let Some((_, event)) = self.events.pop_first() {
                        self.happen(event);
                    }
                }
                (_, Some((due, machine))) if due <= end => {
                    self.now = self.now.max(due);
                    self.step(machine, Input::Elapsed);
                }
                _ => break,
            }
        }
        self.now = end;
    }

    fn happen(&mut self, event: Event) {
        let (machine, frozen) = match &event {
            Event::Arrives { to, .. } => (*to, self.machines[*to].paused),
            Event::Done { machine, .. } | Event::Tell { machine, .. } => (*machine, self.machines[*machine].paused),
        };
        if frozen {
            // What arrives at a frozen process waits for it.
            self.schedule(STEP, event);
            return;
        }
        match event {
            Event::Tell { input, .. } => self.step(machine, input),
            Event::Arrives { from, to, incarnation, sender, message } => {
                let alive = self.machines[to].incarnation == incarnation && self.machines[from].incarnation == sender;
                if let Some(from) = self.id(from).filter(|_| alive) {
                    self.step(to, Input::Received { from, incarnation: sender, message });
                }
            }
            Event::Done { incarnation, change, token, .. } => {
                let target = &mut self.machines[machine];
                if target.incarnation == incarnation && target.node.is_some() {
                    target.disk.apply(change);
                    self.step(machine, Input::Persisted { token });
                }
            }
        }
    }

    fn step(&mut self, machine: usize, input: Input) {
        let Some(node) = &mut self.machines[machine].node else { return };
        let mut out = Vec::new();
        node.step(self.now, input, &mut out);
        for output in out {
            self.carry_out(machine, output);
        }
    }

    fn order(&mut self, machine: usize, token: Token, change: Change) {
        let delay = self.slow_disk.get(&machine).copied().unwrap_or(STEP);
        let incarnation = self.machines[machine].incarnation;
        self.schedule(delay, Event::Done { machine, incarnation, change, token });
    }

    fn carry_out(&mut self, machine: usize, output: Output) {
        match output {
            Output::Send { to, message } => self.send(machine, to, message),
            Output::PersistVote { token, vote } => self.order(machine, token, Change::Vote(Box::new(vote))),
            Output::AppendLog { token, block } => {
                let text = match block.kind {
                    BlockKind::EpochStart => "epoch start",
                    BlockKind::Data => std::str::from_utf8(&block.payload).unwrap(),
                };
                self.say(machine, format_args!("append {} {text}", block.end()));
                self.order(machine, token, Change::Append(block));
            }
            Output::CutLog { token, last } => {
                self.say(machine, format_args!("cut after {last}"));
                self.order(machine, token, Change::Cut(last));
            }
            Output::ReadLog { token, from, .. } => {
                let log = &self.machines[machine].disk.log;
                let blocks = log.iter().filter(|block| block.first >= from).cloned().collect();
                self.tell(machine, Input::LogRead { token, blocks });
            }
            Output::Commit { lsn } => {
                self.say(machine, format_args!("commit {lsn}"));
                while self.machines[machine].unacknowledged.front().is_some_and(|(at, _)| *at <= lsn) {
                    if let Some((at, text)) = self.machines[machine].unacknowledged.pop_front() {
                        self.say(machine, format_args!("acknowledges {text} ({at})"));
                    }
                }
            }
            Output::Serve { epoch } => {
                self.machines[machine].epoch = Some(epoch);
                self.say(machine, format_args!("serves epoch {epoch}"));
            }
            Output::Hold => {
                self.machines[machine].epoch = None;
                self.say(machine, format_args!("holds"));
            }
            Output::Follow { hot } => {
                self.machines[machine].epoch = None;
                self.machines[machine].unacknowledged.clear();
                match hot.map(|reign| (self.name(reign.node), reign.epoch)) {
                    Some((name, epoch)) => self.say(machine, format_args!("sends commands to {name}@{epoch}")),
                    None => self.say(machine, format_args!("holds commands: no hot")),
                }
            }
            Output::Throttle { on } => self.say(machine, format_args!("throttle {on}")),
            Output::MakeSnapshot { stream, .. } => {
                let node = self.machines[machine].node.as_ref().unwrap();
                let lsn = node.committed();
                let epoch = self.machines[machine].disk.epoch_at(lsn);
                let at = EntryId { epoch, lsn };
                self.machines[machine].snapshots.insert(stream.0, at);
                self.tell(machine, Input::SnapshotMade { stream, at });
            }
            Output::SendSnapshot { to, stream } => {
                let at = self.machines[machine].snapshots[&stream.0];
                self.say(machine, format_args!("sends snapshot {at} to {}", self.name(to)));
                let target = self.ids[&to];
                let mut epochs = self.machines[machine].disk.epochs.clone();
                epochs.retain(|(_, first)| *first <= at.lsn);
                let disk = &mut self.machines[target].disk;
                (disk.log, disk.floor, disk.epochs) = (Vec::new(), at, epochs);
                self.tell(target, Input::SnapshotInstalled { stream, at });
            }
            Output::DropSnapshot { .. } | Output::ReceiveSnapshot { .. } | Output::StateChanged { .. } => {}
            Output::Verified { upto, at } => match at {
                Some(at) => self.say(machine, format_args!("reads up to {upto} are verified at {at}")),
                None => self.say(machine, format_args!("reads up to {upto} must go elsewhere")),
            },
            Output::Answer { id, answer } => match answer {
                Ok(Answer::HandedOver(reign)) => {
                    let name = self.name(reign.node);
                    self.say(machine, format_args!("answers {id}: {name} is hot in epoch {}", reign.epoch));
                }
                Ok(Answer::State(state)) => self.say(machine, format_args!("answers {id}: state {}", state.version)),
                Err(refused) => self.say(machine, format_args!("refuses {id}: {refused:?}")),
            },
            Output::Fence { reason } => self.say(machine, format_args!("FENCED {reason:?}")),
            Output::Left => self.say(machine, format_args!("has left")),
            Output::Note(note) => self.note(machine, note),
        }
    }

    fn send(&mut self, from: usize, to: NodeId, message: Message) {
        let Some(target) = self.ids.get(&to).copied() else { return };
        if self.messages && !matches!(message, Message::Beacon { .. } | Message::BeaconAnswer { .. }) {
            let name = self.machines[target].name.clone();
            self.say(from, format_args!("  -> {name} {}", message.name()));
        }
        if self.cuts.contains(&(from, target)) {
            return;
        }
        let incarnation = self.machines[target].incarnation;
        let sender = self.machines[from].incarnation;
        self.schedule(STEP, Event::Arrives { from, to: target, incarnation, sender, message });
    }

    fn note(&mut self, machine: usize, note: Note) {
        match note {
            Note::BecameHot { epoch, cause, .. } => {
                self.say(machine, format_args!("HOT in epoch {epoch} ({}: {})", cause.word, cause.evidence));
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
                self.say(machine, format_args!("shrinks by {} ({})", names.join(" "), cause.word));
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

    fn name(&self, node: NodeId) -> String {
        self.ids.get(&node).map_or_else(|| node.to_string(), |machine| self.machines[*machine].name.clone())
    }

    fn say(&mut self, machine: usize, what: std::fmt::Arguments<'_>) {
        if self.quiet {
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

impl Machine {
    fn new(name: &str, folder: FolderId) -> Self {
        Self {
            name: name.into(),
            folder,
            node: None,
            incarnation: Incarnation::default(),
            paused: false,
            disk: Disk::default(),
            unacknowledged: VecDeque::new(),
            epoch: None,
            snapshots: BTreeMap::new(),
        }
    }
}

impl Disk {
    fn apply(&mut self, change: Change) {
        match change {
            Change::Vote(vote) => self.vote = *vote,
            Change::Append(block) => {
                if self.epochs.last().is_none_or(|(epoch, _)| *epoch < block.epoch) {
                    self.epochs.push((block.epoch, block.first));
                }
                self.log.push(block);
            }
            Change::Cut(last) => {
                self.log.retain(|block| block.last <= last);
                self.epochs.retain(|(_, first)| *first <= last);
            }
        }
    }

    fn epoch_at(&self, lsn: Lsn) -> Epoch {
        self.epochs.iter().rev().find(|(_, first)| *first <= lsn).map_or(Epoch(0), |(epoch, _)| *epoch)
    }
}

fn member(name: &str, folder: u128, role: MemberRole) -> Member {
    Member { name: name.into(), folder: FolderId(folder), address: format!("{name}:7400"), role, priority: 100 }
}

fn millis(length: &str) -> Duration {
    Duration::from_millis(length.strip_suffix("ms").expect("a length in ms").parse().unwrap())
}
