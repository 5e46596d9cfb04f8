//! A small group in virtual time: every message takes 1 ms, every write to a disk 1 ms. Nothing is drawn at random.

use crate::machine::{Change, Machine};
use hotwarm_core::register::{GroupState, Member, MemberRole, Replication, Settings, Timing};
use hotwarm_core::{Answer, Config, Input, Message, Node, Output, Recovered};
use hotwarm_types::{
    Block, BlockKind, ClusterId, EntryId, Epoch, FolderId, GroupId, Incarnation, Instant, Lsn, NodeId, Reign, StreamId,
    Token, Version,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

pub const STEP: Duration = Duration::from_millis(1);

pub enum Event {
    Arrives { from: usize, to: usize, incarnation: Incarnation, sender: Incarnation, message: Message },
    Done { machine: usize, incarnation: Incarnation, change: Change, token: Token },
    Tell { machine: usize, input: Input },
    Join { machine: usize },
    Installed { machine: usize, incarnation: Incarnation, stream: StreamId, at: EntryId, epochs: Vec<(Epoch, Lsn)> },
}

pub struct Group {
    pub now: Instant,
    pub zero: Instant,
    pub machines: Vec<Machine>,
    pub ids: BTreeMap<NodeId, usize>,
    /// Names by number, of those that were replaced too.
    pub names: BTreeMap<NodeId, String>,
    /// Pairs of machines that are connected, the lower first.
    pub linked: BTreeSet<(usize, usize)>,
    /// The folders that each machine was told to meet.
    pub met: BTreeMap<usize, BTreeSet<FolderId>>,
    events: BTreeMap<(Instant, u64), Event>,
    sequence: u64,
    pub cuts: BTreeSet<(usize, usize)>,
    pub slow_disk: BTreeMap<usize, Duration>,
    /// How long it takes until a snapshot is received, and until it is installed.
    pub copy_takes: Duration,
    pub install_takes: Duration,
    birth: GroupState,
    pub requests: u64,
    pub messages: bool,
    pub quiet: bool,
    pub quiet_writes: bool,
    pub text: String,
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
            names: BTreeMap::new(),
            linked: BTreeSet::new(),
            met: BTreeMap::new(),
            events: BTreeMap::new(),
            sequence: 0,
            cuts: BTreeSet::new(),
            slow_disk: BTreeMap::new(),
            copy_takes: STEP,
            install_takes: STEP,
            requests: 0,
            messages: std::env::var("LOUD").is_ok(),
            quiet: std::env::var("LOUD").is_err(),
            quiet_writes: false,
            text: String::new(),
            birth: birth.clone(),
        };
        for (id, member) in &birth.members {
            group.ids.insert(*id, group.machines.len());
            group.names.insert(*id, member.name.clone());
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
    pub fn state(&self) -> Option<&GroupState> {
        let states = self.machines.iter().filter_map(|machine| machine.node.as_ref()?.state());
        states.filter(|(_, chosen)| *chosen).map(|(state, _)| state).max_by_key(|state| state.version)
    }

    pub fn find(&self, name: &str) -> usize {
        self.machines.iter().position(|machine| machine.name == name).unwrap_or_else(|| panic!("no node {name}"))
    }

    /// Starts a process on what its disk holds.
    pub fn start(&mut self, machine: usize) {
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
            let known = self.id(machine).is_some() && self.id(other).is_some();
            if other != machine && known {
                self.link(machine, other);
            }
        }
    }

    /// Connects two machines, if both live and know each other, and nothing is cut between them.
    pub fn link(&mut self, a: usize, b: usize) {
        let cut = self.cuts.contains(&(a, b)) || self.cuts.contains(&(b, a));
        if cut || !self.knows(a, b) || !self.knows(b, a) {
            return;
        }
        self.linked.insert((a.min(b), a.max(b)));
        for (at, of) in [(a, b), (b, a)] {
            if let Some(peer) = self.id(of) {
                let incarnation = self.machines[of].incarnation;
                self.tell(at, Input::LinkUp { peer, incarnation });
            }
        }
    }

    /// Whether a machine's process takes connections of the other: a member, as far as it knows, or one that it is to
    /// meet. An empty folder knows the members from its ticket.
    fn knows(&self, machine: usize, other: usize) -> bool {
        let folder = self.machines[other].folder;
        let Some(node) = &self.machines[machine].node else { return false };
        let member = node.state().is_none_or(|(state, _)| state.members.values().any(|member| member.folder == folder));
        self.machines[other].node.is_some()
            && (member || self.met.get(&machine).is_some_and(|met| met.contains(&folder)))
    }

    /// A machine is to be connected to these, one of which it may not know yet by its number.
    fn connect_to(&mut self, machine: usize, members: &BTreeMap<NodeId, Member>) {
        for (id, member) in members {
            let other = self.machines.iter().position(|other| other.folder == member.folder);
            let Some(other) = other.filter(|other| *other != machine) else { continue };
            // A folder has one number; what was there before is gone.
            self.ids.retain(|known, place| known == id || *place != other);
            self.ids.insert(*id, other);
            self.names.insert(*id, member.name.clone());
            if !self.linked.contains(&(machine.min(other), machine.max(other))) {
                self.link(machine, other);
            }
        }
    }

    /// Connects to these newcomers, and no longer to those before that are not among them.
    fn meet(&mut self, machine: usize, newcomers: &BTreeMap<NodeId, Member>) {
        let folders: BTreeSet<FolderId> = newcomers.values().map(|member| member.folder).collect();
        let before = self.met.insert(machine, folders.clone()).unwrap_or_default();
        for folder in before.difference(&folders) {
            let Some(other) = self.machines.iter().position(|other| other.folder == *folder) else { continue };
            self.linked.remove(&(machine.min(other), machine.max(other)));
            for (at, of) in [(machine, other), (other, machine)] {
                if let Some(peer) = self.id(of) {
                    self.tell(at, Input::LinkDown { peer });
                }
            }
        }
        for member in newcomers.values().filter(|member| !before.contains(&member.folder)) {
            self.say(machine, format_args!("meets {}", member.name));
        }
        self.connect_to(machine, newcomers);
    }

    /// Asks everyone that it is not connected to, again and again, until it is a member.
    fn ask_to_join(&mut self, machine: usize) {
        let Some(node) = &self.machines[machine].node else { return };
        if node.id().is_some() {
            return;
        }
        let (name, folder) = (self.machines[machine].name.clone(), self.machines[machine].folder);
        for other in 0..self.machines.len() {
            let cut = self.cuts.contains(&(machine, other)) || self.cuts.contains(&(other, machine));
            if other != machine && !cut && !self.linked.contains(&(machine.min(other), machine.max(other))) {
                self.step(other, Input::JoinAsked { name: name.clone(), folder });
            }
        }
        self.schedule(Duration::from_millis(500), Event::Join { machine });
    }

    pub fn id(&self, machine: usize) -> Option<NodeId> {
        self.ids.iter().find(|(_, known)| **known == machine).map(|(id, _)| *id)
    }

    pub fn tell(&mut self, machine: usize, input: Input) {
        self.schedule(STEP, Event::Tell { machine, input });
    }

    pub fn schedule(&mut self, after: Duration, event: Event) {
        self.sequence += 1;
        self.events.insert((self.now + after, self.sequence), event);
    }

    pub fn run(&mut self, length: Duration) {
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
            Event::Done { machine, .. }
            | Event::Tell { machine, .. }
            | Event::Join { machine }
            | Event::Installed { machine, .. } => (*machine, self.machines[*machine].paused),
        };
        if frozen {
            // What arrives at a frozen process waits for it.
            self.schedule(STEP, event);
            return;
        }
        match event {
            Event::Tell { input, .. } => {
                if let Input::SnapshotReceived { .. } = input {
                    self.say(machine, format_args!("has received a snapshot"));
                }
                self.step(machine, input);
            }
            Event::Installed { incarnation, stream, at, epochs, .. } => {
                if self.machines[machine].incarnation == incarnation {
                    self.say(machine, format_args!("has installed snapshot {at}"));
                    let disk = &mut self.machines[machine].disk;
                    (disk.log, disk.floor, disk.epochs) = (Vec::new(), at, epochs);
                    self.step(machine, Input::SnapshotInstalled { stream, at });
                }
            }
            Event::Join { .. } => self.ask_to_join(machine),
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

    pub fn step(&mut self, machine: usize, input: Input) {
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
            Output::Serve { tenure } => {
                self.machines[machine].tenure = Some(tenure);
                self.say(machine, format_args!("serves epoch {}", tenure.epoch));
            }
            Output::Hold => {
                self.machines[machine].tenure = None;
                self.say(machine, format_args!("holds"));
            }
            Output::Follow { hot } => {
                self.machines[machine].tenure = None;
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
                self.machines[target].received = Some((at, epochs));
                let input = Input::SnapshotReceived { stream };
                self.schedule(self.copy_takes, Event::Tell { machine: target, input });
            }
            Output::InstallSnapshot { stream, at } => {
                self.say(machine, format_args!("installs snapshot {at}"));
                let incarnation = self.machines[machine].incarnation;
                let (at, epochs) = self.machines[machine].received.take().unwrap();
                let event = Event::Installed { machine, incarnation, stream, at, epochs };
                self.schedule(self.install_takes, event);
            }
            Output::DropSnapshot { .. } | Output::ReceiveSnapshot { .. } => {}
            Output::StateChanged { state } => {
                if let Some(met) = self.met.get_mut(&machine) {
                    met.retain(|folder| state.members.values().all(|member| member.folder != *folder));
                }
                self.connect_to(machine, &state.members);
            }
            Output::Meet { newcomers } => self.meet(machine, &newcomers),
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
}

fn member(name: &str, folder: u128, role: MemberRole) -> Member {
    Member { name: name.into(), folder: FolderId(folder), address: format!("{name}:7400"), role, priority: 100 }
}
