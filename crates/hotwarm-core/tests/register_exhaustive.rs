//! The register under every fault that a network and a crash can show it, in random schedules from fixed seeds. All
//! orders of one small duel are in `register_duel.rs`.
//!
//! Acceptors answer only after their vote is on the disk and forget what was not; messages are lost, doubled and
//! reordered; proposers crash, come back under a new start, duel, and change the acceptors meanwhile. One schedule in
//! four begins with a single acceptor, so that newcomers vote on their own admission. The judge sees
//! what the disks hold and what the proposers claim, nothing else. Guards R2, R3, R4, R6.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "register_common/answer.rs"]
mod register_answer;
mod register_common;

use hotwarm_core::Message;
use hotwarm_core::register::{
    Ballot, Change, ChangeKind, Denied, GroupState, MemberRole, Outcome, ProposalId, Proposer, Quorum, Response, Vote,
    Wish,
};
use hotwarm_types::limits::CHANGES_KEPT;
use hotwarm_types::{Epoch, FolderId, Instant, NodeId, Reign, Version};
use register_answer::answer;
use register_common::{birth, bootstrapped, incarnation, wish};
use std::collections::{BTreeMap, BTreeSet};

/// Schedules of the randomized test. Each has its number as its seed: a failure names it. `HOTWARM_SCHEDULES` runs more.
const SCHEDULES: u64 = 1_500;
/// Steps with faults in each; without any the schedule then runs until all wishes are settled.
const FAULTY_STEPS: u32 = 350;
/// Far more than any schedule needs: reaching it means that the proposers block each other.
const CALM_STEPS_MAX: u32 = 20_000;

/// xorshift64.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        let mut random = Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        for _ in 0..4 {
            random.next();
        }
        random
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 11
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next()).unwrap() % bound
    }

    fn percent(&mut self, chance: usize) -> bool {
        self.below(100) < chance
    }
}

/// Sees every vote that reaches a disk and every outcome that a proposer claims.
#[derive(Default)]
struct Judge {
    /// What was accepted in each ballot, and by whom.
    accepted: BTreeMap<Ballot, (GroupState, BTreeSet<NodeId>)>,
    /// What was chosen at each version.
    chosen: BTreeMap<Version, GroupState>,
    /// Whose wish made each version, from the histories of chosen states.
    made_by: BTreeMap<Version, ProposalId>,
    /// Whose wish began each epoch.
    epochs: BTreeMap<Epoch, ProposalId>,
    denied: BTreeSet<ProposalId>,
    done: BTreeSet<ProposalId>,
    done_promotes: BTreeMap<Epoch, ProposalId>,
}

impl Judge {
    fn newest(&self) -> Version {
        self.chosen.last_key_value().map_or(Version(0), |(version, _)| *version)
    }

    fn persisted(&mut self, node: NodeId, ballot: Ballot, state: &GroupState) {
        let (first, by) = self.accepted.entry(ballot).or_insert_with(|| (state.clone(), BTreeSet::new()));
        assert_eq!(first, state, "R3: ballot {ballot} carries two values");
        if by.insert(node) && Quorum::of(state).is_met(|node| by.contains(&node)) {
            self.choose(state);
        }
    }

    fn choose(&mut self, state: &GroupState) {
        if let Some(before) = self.chosen.insert(state.version, state.clone()) {
            assert_eq!(&before, state, "two values are chosen at {}", state.version);
            return;
        }
        let mut expected: Option<Version> = None;
        for record in &state.changes {
            assert!(
                expected.is_none_or(|last| record.version == last || record.version == last.next()),
                "the history of {} skips a version",
                state.version
            );
            expected = Some(record.version);
            let by = *self.made_by.entry(record.version).or_insert(record.by);
            assert_eq!(by, record.by, "two wishes made {}", record.version);
            assert!(!self.denied.contains(&by), "a denied wish {by} was made, as {}", record.version);
            if let ChangeKind::Promote { .. } | ChangeKind::HandOver { .. } = record.kind {
                let winner = *self.epochs.entry(record.epoch).or_insert(by);
                assert_eq!(winner, by, "two wishes began epoch {}", record.epoch);
            }
        }
        assert_eq!(expected, Some(state.version), "the history does not end in its version");
    }

    /// `floor` is the newest version chosen when the wish began.
    fn ended(&mut self, wish: &Wish, floor: Version, outcome: &Outcome) {
        let state = match outcome {
            Outcome::Done(state) => Some(state),
            Outcome::Denied { state, .. } => state.as_ref(),
        };
        if let Some(state) = state {
            assert_eq!(self.chosen.get(&state.version), Some(state), "a state that is not chosen was reported");
        }
        match outcome {
            Outcome::Done(state) => self.done(wish, floor, state),
            Outcome::Denied { denied: Denied::OutcomeForgotten { .. }, .. } => {}
            Outcome::Denied { denied, state } => {
                assert!(!self.made_by.values().any(|by| *by == wish.id), "{denied} was said of a wish that was made");
                assert!(state.is_some() || self.chosen.is_empty(), "a state was not seen");
                self.denied.insert(wish.id);
            }
        }
    }

    fn done(&mut self, wish: &Wish, floor: Version, state: &GroupState) {
        if wish.change == Change::Read {
            assert!(state.version >= floor, "a read at {} missed {floor}", state.version);
            return;
        }
        let made: Vec<Version> =
            self.made_by.iter().filter(|(_, by)| **by == wish.id).map(|(version, _)| *version).collect();
        assert_eq!(made.len(), 1, "wish {} was made {} times", wish.id, made.len());
        assert!(made[0] > floor, "wish {} was made before it was wished", wish.id);
        self.done.insert(wish.id);
        if let Change::Promote { .. } = &wish.change {
            let record = state.changes.iter().find(|record| record.by == wish.id).expect("it is in the history");
            let first = self.done_promotes.insert(record.epoch, wish.id);
            assert_eq!(first, None, "two promotions to epoch {} are done", record.epoch);
        }
    }

    /// Once all is calm: the newest state's history holds every wish that was said to be done, as far back as it reaches.
    fn finished(&self) {
        let newest = self.chosen.last_key_value().expect("a state is chosen").1;
        let oldest = newest.changes.front().expect("it has a history").version;
        for (version, by) in &self.made_by {
            if self.done.contains(by) && *version >= oldest {
                assert!(newest.includes(*by), "{by}, done as {version}, is lost");
            }
        }
    }
}

/// An acceptor whose disk takes its time: answers wait for it, and a crash undoes what it has not written.
#[derive(Default)]
struct Acceptor {
    vote: Vote,
    disk: Vote,
    unsent: Vec<(NodeId, Message)>,
    /// Accepted since the last write; a later acceptance before it does not undo an earlier one.
    unwritten: Vec<(Ballot, GroupState)>,
}

struct Node {
    start: u64,
    proposer: Proposer,
    known: GroupState,
    floor: Version,
}

struct World {
    /// What the group begins as.
    birth: GroupState,
    random: Random,
    now: Instant,
    acceptors: BTreeMap<NodeId, Acceptor>,
    nodes: BTreeMap<NodeId, Node>,
    /// Sender, receiver, message; in no order.
    network: Vec<(NodeId, NodeId, Message)>,
    judge: Judge,
    names: u32,
    wishes: u32,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let proposers = 2 + u16::try_from(random.below(2)).unwrap();
        let birth = birth_of(if seed % 4 == 1 { 1 } else { 3 });
        let nodes = (1..=proposers)
            .map(|node| {
                let proposer = Proposer::new(NodeId(node), 1, seed);
                (NodeId(node), Node { start: 1, proposer, known: birth.clone(), floor: Version(0) })
            })
            .collect();
        let mut world = Self {
            birth,
            random,
            now: Instant(0),
            acceptors: BTreeMap::new(),
            nodes,
            network: Vec::new(),
            judge: Judge::default(),
            names: 0,
            wishes: 0,
        };
        if !seed.is_multiple_of(8) {
            world.bootstrap_calmly(seed);
        }
        world
    }

    /// One schedule in eight has its faults from the bootstrap on, the others from there.
    fn bootstrap_calmly(&mut self, seed: u64) {
        self.wish_at(NodeId(1));
        self.calm_down(seed);
        let state = self.nodes[&NodeId(1)].known.clone();
        let mut first = bootstrapped();
        (first.members, first.in_sync) = (self.birth.members.clone(), self.birth.in_sync.clone());
        first.next_node = self.birth.next_node;
        assert_eq!(state, first);
        self.nodes.values_mut().for_each(|node| node.known = state.clone());
        self.network.clear();
    }

    fn sent(&mut self, from: NodeId, messages: Vec<(NodeId, Message)>) {
        self.network.extend(messages.into_iter().map(|(to, message)| (from, to, message)));
    }

    fn begin(&mut self, node: NodeId, change: Change, expected: Option<Version>) {
        let floor = self.judge.newest();
        let me = self.nodes.get_mut(&node).unwrap();
        let wish = Wish { id: me.proposer.next_id(), expected, ..wish(node.0, 0, change) };
        let mut send = Vec::new();
        me.floor = floor;
        me.proposer.begin(self.now, &me.known, wish, &mut send);
        self.sent(node, send);
        self.wishes += 1;
    }

    /// A change that may well be denied, from what the node knows.
    fn wish_at(&mut self, node: NodeId) {
        let me = &self.nodes[&node];
        let (known, me_now) = (me.known.clone(), incarnation(me.start));
        if known.version == Version(0) {
            let mut birth = self.birth.clone();
            birth.reign = Reign { epoch: Epoch(1), node, incarnation: me_now };
            self.begin(node, Change::Bootstrap(Box::new(birth)), None);
            return;
        }
        let reign = known.reign;
        let pick = |random: &mut Random, set: Vec<NodeId>| set[random.below(set.len())];
        let in_sync: Vec<NodeId> = known.in_sync.iter().copied().collect();
        let members: Vec<NodeId> = known.members.keys().copied().collect();
        let hot = reign.node == node && reign.incarnation == me_now;
        let invited = known.invited.keys().next().cloned();
        let change = match (self.random.below(11), invited) {
            (2..=9, Some(name)) => Change::Admit { name, folder: FolderId(u128::from(self.random.next())) },
            (0, _) => Change::Read,
            (1, _) => Change::Bump,
            (2..=4, None) if !hot || self.random.percent(30) => Change::Promote {
                candidate: node,
                incarnation: me_now,
                in_sync: known.in_sync.clone(),
                seen: known.reign.epoch,
            },
            (5, None) if hot => {
                Change::HandOver { reign, target: pick(&mut self.random, in_sync), incarnation: me_now }
            }
            (6, None) if hot => Change::Shrink { reign, nodes: [pick(&mut self.random, in_sync)].into() },
            (7, None) if hot => Change::Grow { reign, node: pick(&mut self.random, members) },
            (2..=9, None) => self.invite(&known),
            (_, _) => Change::Remove { name: known.members[&pick(&mut self.random, members)].name.clone() },
        };
        let expected = self.random.percent(40).then_some(known.version);
        self.begin(node, change, expected);
    }

    /// An invitation of somebody new, or in a member's place.
    fn invite(&mut self, known: &GroupState) -> Change {
        self.names += 1;
        let name = match known.members.values().nth(self.random.below(8)) {
            Some(member) => member.name.clone(),
            None => format!("new{}", self.names),
        };
        Change::Invite { address: format!("{name}:1"), name, role: MemberRole::Data, priority: 1 }
    }

    fn deliver(&mut self, index: usize) {
        let (from, to, message) = self.network.swap_remove(index);
        match message {
            Message::Prepare { .. } | Message::Accept { .. } => {
                let acceptor = self.acceptors.entry(to).or_default();
                let response = answer(&mut acceptor.vote, message);
                if let Response::Accepted { .. } = response {
                    acceptor.unwritten.extend(acceptor.vote.accepted.clone());
                }
                acceptor.unsent.push((from, response.into()));
            }
            Message::Announce { state } => {
                let Some(node) = self.nodes.get_mut(&to) else { return };
                node.proposer.learned(&state);
                if state.version > node.known.version {
                    node.known = state;
                }
                self.take_outcome(to);
            }
            message => {
                let Some(node) = self.nodes.get_mut(&to) else { return };
                let mut send = Vec::new();
                node.proposer.received(self.now, from, &message, &mut send);
                self.sent(to, send);
                self.take_outcome(to);
            }
        }
    }

    fn persist(&mut self, node: NodeId) {
        let Some(acceptor) = self.acceptors.get_mut(&node) else { return };
        acceptor.disk = acceptor.vote.clone();
        let unsent = core::mem::take(&mut acceptor.unsent);
        for (ballot, state) in core::mem::take(&mut acceptor.unwritten) {
            self.judge.persisted(node, ballot, &state);
        }
        self.sent(node, unsent);
    }

    fn unwritten(&self) -> Vec<NodeId> {
        self.acceptors.iter().filter(|(_, acceptor)| !acceptor.unsent.is_empty()).map(|(node, _)| *node).collect()
    }

    fn elapse(&mut self, node: NodeId) {
        let Some(deadline) = self.nodes[&node].proposer.deadline() else { return };
        self.now = self.now.max(deadline);
        let mut send = Vec::new();
        self.nodes.get_mut(&node).unwrap().proposer.elapsed(self.now, &mut send);
        self.sent(node, send);
        self.take_outcome(node);
    }

    fn take_outcome(&mut self, at: NodeId) {
        let node = self.nodes.get_mut(&at).unwrap();
        let Some(wish) = node.proposer.wish().cloned() else { return };
        let Some(outcome) = node.proposer.take_outcome() else { return };
        self.judge.ended(&wish, node.floor, &outcome);
        let state = match outcome {
            Outcome::Done(state) => state,
            Outcome::Denied { state, .. } => match state {
                Some(state) => state,
                None => return,
            },
        };
        if state.version > node.known.version {
            node.known = state.clone();
        }
        for to in self.nodes.keys().copied().filter(|to| *to != at).collect::<Vec<_>>() {
            if self.random.percent(60) {
                self.network.push((at, to, Message::Announce { state: state.clone() }));
            }
        }
    }

    /// The node's process dies and comes back: what was not on its disk is gone, and so is its wish.
    fn crash(&mut self, node: NodeId) {
        if let Some(acceptor) = self.acceptors.get_mut(&node) {
            acceptor.vote = acceptor.disk.clone();
            acceptor.unsent.clear();
            acceptor.unwritten.clear();
        }
        if let Some(node_state) = self.nodes.get_mut(&node) {
            node_state.start += 1;
            node_state.proposer = Proposer::new(node, node_state.start, self.random.next());
            if let Some(acceptor) = self.acceptors.get(&node) {
                node_state.proposer.observe(acceptor.disk.promised);
            }
        }
    }

    fn any_node(&mut self) -> NodeId {
        let nodes: Vec<NodeId> = self.nodes.keys().copied().collect();
        nodes[self.random.below(nodes.len())]
    }

    fn any_acceptor(&mut self) -> Option<NodeId> {
        let nodes: Vec<NodeId> = self.acceptors.keys().copied().collect();
        if nodes.is_empty() { None } else { Some(nodes[self.random.below(nodes.len())]) }
    }

    fn faulty_step(&mut self) {
        match self.random.below(100) {
            0..=14 => {
                let node = self.any_node();
                if !self.nodes[&node].proposer.is_busy() {
                    self.wish_at(node);
                }
            }
            15..=69 if !self.network.is_empty() => {
                let index = self.random.below(self.network.len());
                match self.random.below(12) {
                    0 => drop(self.network.swap_remove(index)),
                    1 if self.network.len() < 24 => {
                        self.network.push(self.network[index].clone());
                        self.deliver(index);
                    }
                    _ => self.deliver(index),
                }
            }
            15..=98 => {
                match self.unwritten().as_slice() {
                    [] => {
                        // Time passes when nothing else can happen, and seldom before.
                        let node = self.any_node();
                        if self.network.is_empty() || self.random.percent(5) {
                            self.elapse(node);
                        }
                    }
                    waiting => {
                        let node = waiting[self.random.below(waiting.len())];
                        self.persist(node);
                    }
                }
            }
            _ => {
                let node = self.any_acceptor().unwrap_or(NodeId(1));
                self.crash(node);
            }
        }
    }

    /// Runs without faults until every wish is settled.
    fn calm_down(&mut self, seed: u64) {
        for _ in 0..CALM_STEPS_MAX {
            let busy: Vec<NodeId> =
                self.nodes.iter().filter(|(_, node)| node.proposer.is_busy()).map(|(node, _)| *node).collect();
            if busy.is_empty() {
                return;
            }
            for node in self.unwritten() {
                self.persist(node);
            }
            if self.network.is_empty() {
                let next = busy.into_iter().min_by_key(|node| self.nodes[node].proposer.deadline()).unwrap();
                self.elapse(next);
            } else {
                let index = self.random.below(self.network.len());
                self.deliver(index);
            }
        }
        panic!("schedule {seed}: a wish is not settled without any fault");
    }
}

/// The first `count` of three members.
fn birth_of(count: u16) -> GroupState {
    let mut birth = birth();
    birth.members.retain(|node, _| node.0 <= count);
    birth.in_sync.retain(|node| node.0 <= count);
    birth.next_node = NodeId(count + 1);
    birth
}

fn run(seed: u64) -> World {
    let mut world = World::new(seed);
    for _ in 0..FAULTY_STEPS {
        world.faulty_step();
    }
    world.calm_down(seed);
    // Whoever never got through gets through now: the register is alive.
    let reader = world.any_node();
    if world.nodes[&reader].known.version == Version(0) {
        world.wish_at(reader);
        world.calm_down(seed);
    }
    world.begin(reader, Change::Read, None);
    world.calm_down(seed);
    world.judge.finished();
    world
}

#[test]
fn no_schedule_breaks_the_register() {
    let mut wishes = 0;
    let mut done = 0;
    let mut denied = 0;
    let mut member_changes = 0;
    let mut longest = 0;
    let mut grown_from_one = 0;
    let schedules = std::env::var("HOTWARM_SCHEDULES").map_or(SCHEDULES, |count| count.parse().expect("a number"));
    for seed in 0..schedules {
        let world = std::panic::catch_unwind(|| run(seed)).unwrap_or_else(|_| panic!("schedule {seed} failed"));
        wishes += world.wishes;
        done += world.judge.done.len();
        denied += world.judge.denied.len();
        let versions: BTreeSet<Version> = world.judge.chosen.values().map(|state| state.members_version).collect();
        member_changes += versions.len() - 1;
        longest = longest.max(world.judge.newest().0);
        let grown = world.judge.chosen.values().any(|state| state.members.len() > 1);
        grown_from_one += u32::from(world.birth.members.len() == 1 && grown);
    }
    // A test of nothing would pass too: the schedules must reach what they are for.
    let figures = format!(
        "{wishes} wishes, {done} done, {denied} denied, {member_changes} member changes, {grown_from_one} grown from one, \
         {longest}"
    );
    println!("{figures}");
    let wild = done > 3_000 && denied > 3_000 && member_changes > 300 && grown_from_one > 50;
    assert!(wild, "the schedules are too tame: {figures}");
    assert!(longest < CHANGES_KEPT as u64, "histories were cut: the judge may have missed something");
}

#[test]
fn a_schedule_runs_twice_alike() {
    let [first, second] = [run(11), run(11)];
    assert_eq!(first.judge.made_by, second.judge.made_by);
    assert_eq!(first.now, second.now);
    assert_eq!(first.random.0, second.random.0);
}
