//! What surrounds each node here: it feeds the node facts and carries out what it orders, as every shell must.
//!
//! Like every shell it decides nothing. The planted mistakes of the group are made here.

use super::judge;
use super::world::{ENDS, End, Lane, LogOrder, Machine, Parts, Process, WITNESS, World, index_of, member};
use crate::explore::Violation;
use crate::mistakes::Mistake;
use hotwarm_core::register::{GroupState, Member, MemberRole, ProposalId, Settings, Vote};
use hotwarm_core::{Config, Grant, Input, Message, Node, Output, Recovered};
use hotwarm_types::{
    ClusterId, EntryId, Epoch, FolderId, GroupId, Incarnation, Instant, Lsn, NodeId, Reign, Token, Version,
};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::rc::Rc;

/// One step of time: half a second, in which a beacon is due; two in a row outlast the lease and end the grace.
const TICK_NS: u64 = 500_000_000;
/// What the nodes' clocks show at the beginning. Far from 0, which stands for "never".
const ORIGIN_NS: u64 = 1_000_000_000;
const NAMES: [&str; 3] = ["a", "b", "w"];

type Done = Result<(), Violation>;

/// What a node does with a fact at a time, all by number: the node that it becomes, and its orders.
type Stepped = HashMap<(u32, u32, u64), (u32, Rc<[Output]>)>;

/// Feeds nodes, and carries out what they order.
#[derive(Debug)]
pub struct Shell {
    /// The values behind the numbers.
    pub parts: Parts,
    /// How fast each clock runs, in percent.
    pub rates: [u64; 3],
    /// The planted mistake, if any.
    pub mistake: Option<Mistake>,
    stepped: Stepped,
}

/// The `start`-th start of a machine's process.
fn incarnation(machine: usize, start: u64) -> Incarnation {
    Incarnation { start, nonce: 7 + machine as u64 }
}

/// The group as `init` made it: two data nodes and a witness.
fn birth() -> GroupState {
    let members: BTreeMap<NodeId, Member> = (0..NAMES.len())
        .map(|index| {
            let role = if index == WITNESS { MemberRole::Witness } else { MemberRole::Data };
            let address = format!("{}:7400", NAMES[index]);
            let folder = FolderId(index as u128 + 1);
            (member(index), Member { name: NAMES[index].into(), folder, address, role, priority: 100 })
        })
        .collect();
    GroupState {
        cluster: ClusterId(1),
        group: GroupId(1),
        version: Version(0),
        proposal: ProposalId::default(),
        reign: Reign { epoch: Epoch(1), node: member(0), incarnation: incarnation(0, 1) },
        lossy_epoch: None,
        in_sync: BTreeSet::from([member(0), member(1)]),
        members,
        members_version: Version(0),
        invited: BTreeMap::new(),
        next_node: NodeId(4),
        settings: Settings::default(),
        pause: None,
        changes: VecDeque::new(),
    }
}

impl Shell {
    /// A shell whose clocks run at these rates.
    pub fn new(rates: [u64; 3], mistake: Option<Mistake>) -> Self {
        Self { parts: Parts::default(), rates, mistake, stepped: HashMap::new() }
    }

    /// What a machine's clock shows.
    pub fn now(&self, world: &World, machine: usize) -> Instant {
        Instant(ORIGIN_NS + world.time * TICK_NS / 100 * self.rates[machine])
    }

    /// A machine whose folder was just made.
    pub fn fresh(&mut self) -> Machine {
        let vote = self.parts.votes.number(Vote::default());
        Machine { process: None, paused: false, vote, log: Vec::new(), starts: 0 }
    }

    /// Starts a process on a machine that has none.
    pub fn start(&mut self, world: &mut World, index: usize) {
        let now = self.now(world, index);
        let machine = &mut world.machines[index];
        if self.mistake != Some(Mistake::IncarnationReused) || machine.starts == 0 {
            machine.starts += 1;
        }
        if self.mistake == Some(Mistake::TailDropped) && machine.starts > 1 {
            machine.log.pop();
        }
        let vote = (*self.parts.votes[machine.vote]).clone();
        let blocks: Vec<_> = machine.log.iter().map(|block| self.parts.blocks[*block].clone()).collect();
        let mut epochs: Vec<(Epoch, Lsn)> = Vec::new();
        for block in &blocks {
            if epochs.last().is_none_or(|(epoch, _)| *epoch < block.epoch) {
                epochs.push((block.epoch, block.first));
            }
        }
        let log_end = blocks.last().map_or(EntryId::default(), |block| block.end());
        let config = Config {
            cluster: ClusterId(1),
            group: GroupId(1),
            name: NAMES[index].into(),
            folder: FolderId(index as u128 + 1),
            incarnation: incarnation(index, machine.starts),
            seed: 1,
            birth: Some(birth()).filter(|_| vote.accepted.is_none()),
        };
        let recovered = Recovered { vote, log_floor: EntryId::default(), log_end, epochs, applied: Lsn::ZERO };
        let node = self.parts.nodes.number(Node::new(config, recovered, now));
        machine.process = Some(Process {
            node,
            start: machine.starts,
            log: machine.log.clone(),
            votes: Vec::new(),
            orders: Vec::new(),
            reads: Vec::new(),
            serves: None,
            fenced: false,
        });
    }

    /// Ends a process. Its orders to the disk are done, or lost.
    pub fn crash(&mut self, world: &mut World, index: usize, written: bool) -> Done {
        if written {
            while self.sync_log(world, index, false)? {}
            while self.sync_vote(world, index, false)? {}
        }
        world.machines[index].process = None;
        world.machines[index].paused = false;
        for peer in (0..NAMES.len()).filter(|peer| *peer != index) {
            world.lose_connection(index, peer);
            *world.end(index, peer) = End::Down;
        }
        judge::all_hold(world, &self.parts, "a process crashed")
    }

    /// Feeds a fact to a node and carries out what it orders.
    pub fn feed(&mut self, world: &mut World, index: usize, input: Input) -> Done {
        let now = self.now(world, index);
        let Some(process) = world.machines[index].process.as_mut().filter(|process| !process.fenced) else {
            return Ok(());
        };
        let input = self.distort_input(process, input);
        let key = (process.node, self.parts.inputs.number(input), now.0);
        let (node, outputs) = match self.stepped.get(&key) {
            Some((node, outputs)) => (*node, Rc::clone(outputs)),
            None => {
                let mut node = (*self.parts.nodes[process.node]).clone();
                let mut outputs = Vec::new();
                node.step(now, (*self.parts.inputs[key.1]).clone(), &mut outputs);
                // What people read moves nobody.
                outputs.retain(|output| !matches!(output, Output::Note(_) | Output::Follow { .. }));
                let stepped = (self.parts.nodes.number(node), Rc::from(outputs));
                self.stepped.insert(key, stepped.clone());
                stepped
            }
        };
        process.node = node;
        for output in outputs.iter() {
            self.carry_out(world, index, output)?;
        }
        let clocks = [0, 1, 2].map(|machine| {
            let kept = if self.mistake == Some(Mistake::LeaseKept) { 2 * TICK_NS } else { 0 };
            Instant(self.now(world, machine).0.saturating_sub(kept))
        });
        judge::leases(world, &self.parts, clocks)
    }

    fn carry_out(&mut self, world: &mut World, index: usize, output: &Output) -> Done {
        match output {
            Output::Send { to, message } => self.send(world, index, index_of(*to), message.clone()),
            Output::PersistVote { token, vote } => {
                let vote = self.parts.votes.number(vote.clone());
                Self::process(world, index, |process| process.votes.push((*token, vote)));
                self.early(world, index, *token, Mistake::VoteReportedEarly)
            }
            Output::AppendLog { token, block } => {
                let block = self.parts.blocks.number(block.clone());
                judge::appends(world, &self.parts, index, block)?;
                Self::process(world, index, |process| {
                    process.log.push(block);
                    process.orders.push((*token, LogOrder::Append(block)));
                });
                self.early(world, index, *token, Mistake::LogReportedEarly)
            }
            Output::CutLog { token, last } => {
                judge::cuts(world, &self.parts, index, *last)?;
                let parts = &self.parts;
                Self::process(world, index, |process| {
                    process.log.retain(|block| parts.blocks[*block].last <= *last);
                    process.orders.push((*token, LogOrder::Cut(*last)));
                });
                Ok(())
            }
            Output::ReadLog { token, from, .. } => {
                Self::process(world, index, |process| process.reads.push((*token, *from)));
                Ok(())
            }
            Output::Commit { lsn } => {
                let hot = self.reigns(world, index);
                judge::commits(world, &self.parts, index, hot, *lsn)
            }
            Output::Serve { tenure } => {
                Self::process(world, index, |process| process.serves = Some(*tenure));
                judge::serves(world, &self.parts, index, tenure.epoch.0)
            }
            Output::Hold => {
                Self::process(world, index, |process| process.serves = None);
                Ok(())
            }
            Output::Fence { reason } => {
                Self::process(world, index, |process| (process.serves, process.fenced) = (None, true));
                match reason {
                    hotwarm_core::FenceReason::DivergedBelowCommit { .. } => {
                        Err(Violation::new("INV-8", format!("{} is fenced: {reason:?}", member(index))))
                    }
                    reason => Err(Violation::new("R5", format!("{} is fenced: {reason:?}", member(index)))),
                }
            }
            Output::MakeSnapshot { .. }
            | Output::SendSnapshot { .. }
            | Output::ReceiveSnapshot { .. }
            | Output::InstallSnapshot { .. } => {
                Err(Violation::new("R30", format!("{} wants a full copy of a whole log", member(index))))
            }
            Output::Note(_)
            | Output::Follow { .. }
            | Output::DropSnapshot { .. }
            | Output::StateChanged { .. }
            | Output::Meet { .. }
            | Output::Throttle { .. }
            | Output::Verified { .. }
            | Output::Answer { .. }
            | Output::Left => Ok(()),
        }
    }

    /// Changes a machine's process, if one runs.
    fn process(world: &mut World, index: usize, change: impl FnOnce(&mut Process)) {
        if let Some(process) = &mut world.machines[index].process {
            change(process);
        }
    }

    /// Whether a machine's process takes itself for the hot.
    fn reigns(&self, world: &World, index: usize) -> bool {
        world.machines[index].process.as_ref().is_some_and(|process| {
            let reign = self.parts.nodes[process.node].reign();
            reign.is_some_and(|reign| {
                reign.node == member(index) && reign.incarnation == incarnation(index, process.start)
            })
        })
    }

    fn send(&mut self, world: &mut World, from: usize, to: usize, mut message: Message) -> Done {
        if self.mistake == Some(Mistake::GrantedWhileStanding)
            && let Message::BeaconAnswer { grant: grant @ Grant::Heard, .. } = &mut message
        {
            *grant = Grant::Granted;
        }
        judge::says(world, &self.parts, from, to, &message)?;
        if *world.end(from, to) == End::Up {
            let lane = Lane { from: from as u8, to: to as u8, bulk: message.is_bulk() };
            if self.mistake == Some(Mistake::AcknowledgedForOthers) {
                self.forge_ack(world, lane, &message);
            }
            let message = self.parts.messages.number(message);
            world.post(lane, message);
        }
        Ok(())
    }

    // --- The disk.

    /// The first order to the log is done; `false` if there is none.
    pub fn sync_log(&mut self, world: &mut World, index: usize, told: bool) -> Result<bool, Violation> {
        let machine = &mut world.machines[index];
        let Some(process) = machine.process.as_mut().filter(|process| !process.orders.is_empty()) else {
            return Ok(false);
        };
        let (token, order) = process.orders.remove(0);
        match order {
            LogOrder::Append(block) => machine.log.push(block),
            LogOrder::Cut(_) if self.mistake == Some(Mistake::CutSkipped) => {}
            LogOrder::Cut(last) => machine.log.retain(|block| self.parts.blocks[*block].last <= last),
        }
        judge::all_hold(world, &self.parts, "a log was written")?;
        if told && self.mistake != Some(Mistake::LogReportedEarly) {
            self.feed(world, index, Input::Persisted { token })?;
        }
        Ok(true)
    }

    /// The first order to the vote record is done; `false` if there is none.
    pub fn sync_vote(&mut self, world: &mut World, index: usize, told: bool) -> Result<bool, Violation> {
        let machine = &mut world.machines[index];
        let Some(process) = machine.process.as_mut().filter(|process| !process.votes.is_empty()) else {
            return Ok(false);
        };
        let (token, mut after) = process.votes.remove(0);
        let before = self.parts.votes[machine.vote].clone();
        if self.mistake == Some(Mistake::EpochForgotten) {
            let vote = Vote { epoch: before.epoch, ..(*self.parts.votes[after]).clone() };
            after = self.parts.votes.number(vote);
        }
        machine.vote = after;
        let after = self.parts.votes[after].clone();
        judge::vote_written(world, &mut self.parts, index, &before, &after)?;
        if told && self.mistake != Some(Mistake::VoteReportedEarly) {
            self.feed(world, index, Input::Persisted { token })?;
        }
        Ok(true)
    }

    /// The blocks that a node wants to read are there.
    pub fn read_log(&mut self, world: &mut World, index: usize) -> Done {
        let Some(process) = &mut world.machines[index].process else { return Ok(()) };
        let (token, from) = process.reads.remove(0);
        let blocks = process.log.iter().map(|block| (*self.parts.blocks[*block]).clone());
        let blocks = blocks.filter(|block| block.first >= from).collect();
        self.feed(world, index, Input::LogRead { token, blocks })
    }

    // --- Planted mistakes.

    /// An order is reported as done when it is given.
    fn early(&mut self, world: &mut World, index: usize, token: Token, mistake: Mistake) -> Done {
        if self.mistake == Some(mistake) { self.feed(world, index, Input::Persisted { token }) } else { Ok(()) }
    }

    /// The hot's own shell answers in the place of a follower.
    fn forge_ack(&mut self, world: &mut World, lane: Lane, message: &Message) {
        let Message::Append { epoch, incarnation, stream, block, .. } = message else { return };
        let ack = Message::Ack { epoch: *epoch, incarnation: *incarnation, stream: *stream, durable: block.last };
        let ack = self.parts.messages.number(ack);
        world.post(Lane { from: lane.to, to: lane.from, bulk: true }, ack);
    }

    fn distort_input(&self, process: &Process, mut input: Input) -> Input {
        let Input::Received { from, message, .. } = &mut input else { return input };
        let node = &self.parts.nodes[process.node];
        match (self.mistake, message) {
            (Some(Mistake::GrownUnmatched), Message::Ack { durable, .. }) => {
                let joining = node.state().is_some_and(|(state, _)| !state.in_sync.contains(from));
                if joining {
                    *durable = node.end().lsn;
                }
            }
            (
                Some(Mistake::PromotedOutOfSync),
                Message::Announce { state } | Message::Promise { accepted: Some((_, state)), .. },
            ) => {
                if let Some(me) = node.id().filter(|me| state.holds_data(*me)) {
                    state.in_sync.insert(me);
                }
            }
            _ => {}
        }
        input
    }

    // --- What is kept.

    /// Frees what no state to be visited needs.
    pub fn keep<'a>(&mut self, worlds: impl Iterator<Item = &'a World>) {
        let mut nodes = vec![false; self.parts.nodes.count()];
        for process in worlds.flat_map(|world| &world.machines).filter_map(|machine| machine.process.as_ref()) {
            nodes[process.node as usize] = true;
        }
        self.stepped.clear();
        self.parts.nodes.keep(|number| nodes[number as usize]);
        self.parts.inputs.keep(|_| false);
    }
}

/// The messages of a fact about a connection.
#[must_use]
pub fn link_fact(peer: usize, end: End, start: u64) -> Input {
    match end {
        End::Coming | End::Up => Input::LinkUp { peer: member(peer), incarnation: incarnation(peer, start) },
        End::Breaking | End::Down => Input::LinkDown { peer: member(peer) },
    }
}

/// A message, as it arrives on a connection of that start of its sender.
#[must_use]
pub fn received(from: usize, start: u64, message: Message) -> Input {
    Input::Received { from: member(from), incarnation: incarnation(from, start), message }
}

/// A guardian's word.
#[must_use]
pub fn death(dead: usize, start: u64) -> Input {
    Input::DeathAttested { peer: member(dead), incarnation: incarnation(dead, start) }
}

/// A machine's name.
#[must_use]
pub fn name(index: usize) -> &'static str {
    NAMES[index]
}

/// Both machines of a link.
#[must_use]
pub fn both(link: usize) -> [usize; 2] {
    ENDS[link]
}
