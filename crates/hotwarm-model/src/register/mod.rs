//! The register, checked whole: the product's acceptors and proposers, a network that loses, doubles and reorders, and a shell
//! that syncs, crashes and restarts when it likes.
//!
//! What runs is `hotwarm_core::register` itself; what surrounds it here is what a node does around it: an answer leaves once
//! the vote that it leans on is on the disk, a chosen state is announced, a restarted node knows what its acceptor holds.
//! Two things make the space smaller and lose nothing. While no crash may come any more, a sync is part of the delivery: an
//! answer that waits for the disk is an answer that is late. And answers to a round that is over, which no proposer can be
//! moved by any more, are taken out of the network.
//!
//! Not part of it: time, other than that a proposer may lose its patience; and what a node does with a chosen state.

mod judge;
mod scene;
mod scenes;
mod world;

pub use scene::Scene;
pub use scenes::SCENES;

use crate::explore::{Model, Violation};
use crate::fingerprint::AsIs;
use crate::mistakes::Mistake;
use core::hash::BuildHasherDefault;
use hotwarm_core::Message;
use hotwarm_core::register::{Ballot, GroupState, Outcome, Proposer, Response, Vote, acceptor};
use hotwarm_types::{Instant, NodeId};
use std::collections::{HashMap, HashSet};
use world::{Acceptor, Fate, Letter, Parts, Proposal, Seat, World};

/// Feeds the proposers' jitter, which has no part in what is checked.
const SEED: u64 = 5;
/// A proposer that waits in vain asks again so often before it gives up on new acceptors, and once more.
const WAITS_IN_VAIN: u32 = 4;

/// Something that may happen.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// A letter arrives; a copy of it stays on its way.
    Deliver(u32),
    /// An acceptor's disk has done what it was asked.
    Sync(u8),
    /// An acceptor loses what is not on its disk.
    Crash(u8),
    /// A proposer begins its next wish.
    Begin(u8),
    /// A proposer has waited for answers in vain.
    Wait(u8),
    /// A proposer's process starts anew.
    Restart(u8),
}

/// What a letter does to an acceptor.
#[derive(Clone, Copy, Debug)]
struct Answered {
    vote: u32,
    answer: u32,
    accepted: Option<u32>,
    leans: bool,
}

/// What a fact does to a proposer.
#[derive(Clone, Debug)]
struct Moved {
    proposer: u32,
    sent: Vec<u32>,
    outcome: Option<u32>,
    /// The round, and whether it is in its second phase, where messages tell it.
    round: Option<(Ballot, bool)>,
}

/// See the module.
#[derive(Debug)]
pub struct Register {
    scene: &'static Scene,
    mistake: Option<Mistake>,
    parts: Parts,
    answered: HashMap<u64, Answered, BuildHasherDefault<AsIs>>,
    moved: HashMap<(u64, u64), Moved>,
}

impl Register {
    /// The model of a scene, with a mistake planted or none.
    #[must_use]
    pub fn new(scene: &'static Scene, mistake: Option<Mistake>) -> Self {
        Self { scene, mistake, parts: Parts::default(), answered: HashMap::default(), moved: HashMap::new() }
    }

    fn letter(&mut self, from: NodeId, to: NodeId, message: Message) -> u32 {
        self.parts.letters.number(Letter { from, to, message })
    }

    // --- Acceptors.

    /// What an acceptor with that vote does with a letter. The same always has the same answer.
    fn answer(&mut self, vote: u32, number: u32) -> Answered {
        let key = (u64::from(vote) << 32) | u64::from(number);
        if let Some(known) = self.answered.get(&key) {
            return *known;
        }
        let letter = self.parts.letters[number].clone();
        let mut after: Vote = (*self.parts.votes[vote]).clone();
        let response = match letter.message.clone() {
            Message::Prepare { ballot, members_version } => acceptor::prepare(&mut after, ballot, members_version),
            Message::Accept { ballot, members_version, state } => {
                if self.mistake == Some(Mistake::PromiseIgnored) {
                    after.promised = after.accepted.as_ref().map(|(held_in, _)| *held_in).unwrap_or_default();
                }
                acceptor::accept(&mut after, ballot, members_version, state)
            }
            other => panic!("{} is not for an acceptor", other.name()),
        };
        let accepted = match (&response, &after.accepted) {
            (Response::Accepted { .. }, Some((ballot, state))) => {
                Some(self.parts.proposals.number(Proposal { ballot: *ballot, state: state.clone() }))
            }
            _ => None,
        };
        let leans = response.leans_on_vote();
        let answer = self.letter(letter.to, letter.from, response.into());
        let answered = Answered { vote: self.parts.votes.number(after), answer, accepted, leans };
        self.answered.insert(key, answered);
        answered
    }

    fn asked(&mut self, world: &mut World, index: usize, letter: u32) -> Result<(), Violation> {
        let answered = self.answer(world.acceptors[index].vote, letter);
        let one = &mut world.acceptors[index];
        one.vote = answered.vote;
        one.unwritten.extend(answered.accepted);
        let early = self.mistake == Some(Mistake::AnswerBeforeSync) && answered.leans;
        if early || (one.vote == one.disk && one.unsent.is_empty()) {
            let accepted = core::mem::take(&mut one.unwritten);
            world.post(answered.answer);
            // Held before, and asked once more in the same ballot: it is on the disk.
            for proposal in accepted.into_iter().filter(|_| !early) {
                judge::written(world, &mut self.parts, index, proposal)?;
            }
            return Ok(());
        }
        if !one.unsent.contains(&answered.answer) {
            one.unsent.push(answered.answer);
        }
        if world.left.crashes == 0 { self.sync(world, index) } else { Ok(()) }
    }

    fn sync(&mut self, world: &mut World, index: usize) -> Result<(), Violation> {
        let one = &mut world.acceptors[index];
        let before = core::mem::replace(&mut one.disk, one.vote);
        let (unsent, unwritten) = (core::mem::take(&mut one.unsent), core::mem::take(&mut one.unwritten));
        judge::replaced(&self.parts, index, before, one.vote)?;
        for proposal in unwritten {
            judge::written(world, &mut self.parts, index, proposal)?;
        }
        for letter in unsent {
            world.post(letter);
        }
        Ok(())
    }

    fn crash(&mut self, world: &mut World, index: usize) -> Result<(), Violation> {
        world.left.crashes -= 1;
        let before = world.acceptors[index].disk;
        if self.mistake == Some(Mistake::VoteForgotten) {
            world.acceptors[index].disk = self.parts.votes.number(Vote::default());
        }
        let one = &mut world.acceptors[index];
        one.vote = one.disk;
        one.unsent.clear();
        one.unwritten.clear();
        let after = one.disk;
        judge::replaced(&self.parts, index, before, after)
    }

    // --- Proposers.

    /// What a fact does to a proposer, remembered under a key that names both.
    fn moved(
        &mut self,
        index: usize,
        seat: &Seat,
        fact: u64,
        act: impl FnOnce(&mut Proposer, &mut Vec<(NodeId, Message)>),
    ) -> Moved {
        let key = ((u64::from(seat.proposer) << 32) | fact, seat.clock);
        if let Some(known) = self.moved.get(&key) {
            return known.clone();
        }
        let mut proposer: Proposer = (*self.parts.proposers[seat.proposer]).clone();
        let mut send = Vec::new();
        act(&mut proposer, &mut send);
        let mut outcome = proposer.take_outcome();
        if outcome.is_none() {
            // A node looks at its proposer's clock in every step.
            proposer.elapsed(Instant(seat.clock), &mut send);
            outcome = proposer.take_outcome();
        }
        if let Some(state) = outcome.as_ref().and_then(state_of) {
            proposer.learned(state);
        }
        let round = send.iter().rev().find_map(|(_, message)| match message {
            Message::Prepare { ballot, .. } => Some((*ballot, false)),
            Message::Accept { ballot, .. } => Some((*ballot, true)),
            _ => None,
        });
        let from = scene::node(index);
        let sent = send.into_iter().map(|(to, message)| self.letter(from, to, message)).collect();
        let outcome = outcome.map(|outcome| self.parts.outcomes.number(outcome));
        let moved = Moved { proposer: self.parts.proposers.number(proposer), sent, outcome, round };
        self.moved.insert(key, moved.clone());
        moved
    }

    /// What a letter does to a proposer.
    fn heard(&mut self, index: usize, seat: &Seat, number: u32) -> Moved {
        let letter = self.parts.letters[number].clone();
        let twice = self.mistake == Some(Mistake::HalfIsEnough);
        let neighbour = NodeId(letter.from.0 % self.scene.acceptors() as u16 + 1);
        self.moved(index, seat, u64::from(number), |proposer, send| {
            if let Message::Announce { state } = &letter.message {
                return proposer.learned(state);
            }
            proposer.received(Instant(seat.clock), letter.from, &letter.message, send);
            if twice && !matches!(letter.message, Message::Refused { .. }) {
                proposer.received(Instant(seat.clock), neighbour, &letter.message, send);
            }
        })
    }

    /// Carries out what a proposer's move brings.
    fn carry_out(&mut self, world: &mut World, index: usize, moved: Moved) -> Result<bool, Violation> {
        let wish = self.parts.proposers[world.seats[index].proposer].wish().cloned();
        let seat = &mut world.seats[index];
        seat.proposer = moved.proposer;
        if let Some((ballot, second)) = moved.round {
            (seat.ballot, seat.accepting) = (ballot, second);
        }
        let mut news = false;
        for letter in &moved.sent {
            news |= world.post(*letter);
            let Message::Accept { ballot, state, .. } = &self.parts.letters[*letter].message else { continue };
            let proposal = Proposal { ballot: *ballot, state: state.clone() };
            let proposal = self.parts.proposals.number(proposal);
            judge::proposed(world, &mut self.parts, proposal)?;
        }
        if self.mistake == Some(Mistake::OldMajorityPresumed) {
            self.presume_old_majority(world, index, &moved);
        }
        let (Some(outcome), Some(wish)) = (moved.outcome, wish) else { return Ok(news) };
        let outcome = self.parts.outcomes[outcome].clone();
        judge::ended(world, &mut self.parts, &wish, world.seats[index].floor, &outcome)?;
        world.seats[index].ballot = Ballot::default();
        if let Some(state) = state_of(&outcome) {
            self.learn(world, index, state);
            for to in (0..world.seats.len()).filter(|to| *to != index) {
                let letter =
                    self.letter(scene::node(index), scene::node(to), Message::Announce { state: state.clone() });
                world.post(letter);
            }
        }
        Ok(true)
    }

    /// A node learns of a chosen state.
    fn learn(&mut self, world: &mut World, index: usize, state: &GroupState) {
        if state.version > self.parts.states[world.seats[index].known].version {
            world.seats[index].known = self.parts.states.number(state.clone());
        }
    }

    /// The planted mistake: those who leave by a change of members are taken to agree.
    fn presume_old_majority(&mut self, world: &mut World, index: usize, moved: &Moved) {
        for letter in &moved.sent {
            let letter = self.parts.letters[*letter].clone();
            let Message::Accept { ballot, state, .. } = &letter.message else { continue };
            if state.changes_members() && !state.members.contains_key(&letter.to) {
                let forged = self.letter(letter.to, scene::node(index), Message::Accepted { ballot: *ballot });
                world.post(forged);
            }
        }
    }

    fn begin(&mut self, world: &mut World, index: usize) -> Result<(), Violation> {
        let floor = judge::newest(world, &self.parts);
        let promised = self.parts.votes[world.acceptors[index].vote].promised;
        let seat = &mut world.seats[index];
        let intent = self.scene.wishes[index][usize::from(seat.next)];
        seat.next += 1;
        seat.floor = floor;
        let seat = seat.clone();
        let known = self.parts.states[seat.known].clone();
        let mut proposer: Proposer = (*self.parts.proposers[seat.proposer]).clone();
        let wish = self.scene.wish(intent, index, &seat, &known, proposer.next_id());
        let number = self.parts.wishes.number(wish.clone());
        world.wishes.push((number, Fate::Unknown));
        proposer.observe(promised);
        let mut send = Vec::new();
        proposer.begin(Instant(seat.clock), &known, wish, &mut send);
        let round = send.iter().find_map(|(_, message)| match message {
            Message::Prepare { ballot, .. } => Some((*ballot, false)),
            _ => None,
        });
        let sent = send.into_iter().map(|(to, message)| self.letter(scene::node(index), to, message)).collect();
        let moved = Moved { proposer: self.parts.proposers.number(proposer), sent, outcome: None, round };
        self.carry_out(world, index, moved).map(drop)
    }

    /// Waits in vain until that has led to something.
    fn wait(&mut self, world: &mut World, index: usize) -> Result<(), Violation> {
        world.left.waits -= 1;
        for _ in 0..WAITS_IN_VAIN {
            let seat = world.seats[index].clone();
            let Some(deadline) = self.parts.proposers[seat.proposer].deadline() else { break };
            let clock = deadline.0.max(seat.clock);
            world.seats[index].clock = clock;
            let seat = Seat { clock, ..seat };
            let moved = self.moved(index, &seat, u64::from(u32::MAX), |proposer, send| {
                proposer.elapsed(Instant(clock), send);
            });
            if self.carry_out(world, index, moved)? {
                break;
            }
        }
        Ok(())
    }

    fn restart(&mut self, world: &mut World, index: usize) {
        world.left.restarts -= 1;
        let disk = self.parts.votes[world.acceptors[index].disk].clone();
        let wish = self.parts.proposers[world.seats[index].proposer].wish().cloned();
        if let Some(wish) = wish.filter(|_| self.mistake == Some(Mistake::UnknownToldAsFailed)) {
            judge::settle(world, &self.parts, &wish, Fate::Denied);
        }
        let seat = &mut world.seats[index];
        if self.mistake != Some(Mistake::StartReused) {
            seat.start += 1;
        }
        seat.ballot = Ballot::default();
        let proposer = Proposer::new(scene::node(index), seat.start, SEED);
        seat.proposer = self.parts.proposers.number(proposer);
        if let Some((_, state)) = &disk.accepted {
            seat.known = self.parts.states.number(state.clone());
        }
    }

    // --- The network.

    /// Whether the arrival of a letter changes anything: most copies of what has arrived before do not.
    fn moves(&mut self, world: &World, number: u32) -> bool {
        let letter = self.parts.letters[number].clone();
        let index = usize::from(letter.to.0) - 1;
        if letter.asks() {
            let one = &world.acceptors[index];
            let answered = self.answer(one.vote, number);
            let known = world.network.binary_search(&answered.answer).is_ok() || one.unsent.contains(&answered.answer);
            return !known || answered.vote != one.vote || answered.accepted.is_some_and(|_| one.vote != one.disk);
        }
        let seat = &world.seats[index];
        let moved = self.heard(index, seat, number);
        let news = |state: &GroupState| state.version > self.parts.states[seat.known].version;
        moved.proposer != seat.proposer
            || moved.outcome.is_some()
            || moved.sent.iter().any(|sent| world.network.binary_search(sent).is_err())
            || matches!(&letter.message, Message::Announce { state } if news(state))
    }

    /// Takes out of the network what can move nobody any more.
    fn forget_late_answers(&mut self, world: &mut World) {
        let mut network = core::mem::take(&mut world.network);
        network.retain(|number| {
            let letter = self.parts.letters[*number].clone();
            let Some(ballot) = letter.answers() else { return true };
            let index = usize::from(letter.to.0) - 1;
            let seat = &world.seats[index];
            let present = ballot == seat.ballot;
            match &letter.message {
                Message::Promise { .. } => present && !seat.accepting,
                Message::Accepted { .. } => present,
                // A late refusal still tells of a higher ballot, once.
                _ => present || self.heard(index, seat, *number).proposer != seat.proposer,
            }
        });
        world.network = network;
    }

    fn after(&mut self, world: &mut World, step: Step) -> Result<(), Violation> {
        match step {
            Step::Deliver(number) => {
                let letter = self.parts.letters[number].clone();
                let index = usize::from(letter.to.0) - 1;
                if letter.asks() {
                    return self.asked(world, index, number);
                }
                let seat = world.seats[index].clone();
                let moved = self.heard(index, &seat, number);
                self.carry_out(world, index, moved)?;
                if let Message::Announce { state } = &letter.message {
                    self.learn(world, index, state);
                }
                Ok(())
            }
            Step::Sync(index) => self.sync(world, usize::from(index)),
            Step::Crash(index) => self.crash(world, usize::from(index)),
            Step::Begin(index) => self.begin(world, usize::from(index)),
            Step::Wait(index) => self.wait(world, usize::from(index)),
            Step::Restart(index) => {
                self.restart(world, usize::from(index));
                Ok(())
            }
        }
    }
}

fn state_of(outcome: &Outcome) -> Option<&GroupState> {
    match outcome {
        Outcome::Done(state) => Some(state),
        Outcome::Denied { state, .. } => state.as_ref(),
    }
}

impl Model for Register {
    type State = World;
    type Step = Step;

    fn start(&mut self) -> Vec<World> {
        let history = self.scene.history();
        let ballot = Ballot { counter: 1, node: scene::node(0), start: 1 };
        let newest = history.last().expect("a group has a first state");
        let vote = Vote { promised: ballot, accepted: Some((ballot, newest.clone())), ..Vote::default() };
        let (held, fresh) = (self.parts.votes.number(vote), self.parts.votes.number(Vote::default()));
        let acceptors = (0..self.scene.acceptors()).map(|index| {
            let vote = if index < newest.members.len() { held } else { fresh };
            Acceptor { vote, disk: vote, unsent: Vec::new(), unwritten: Vec::new() }
        });
        let known = self.parts.states.number(newest.clone());
        let seats = (0..self.scene.wishes.len()).map(|index| {
            let mut proposer = Proposer::new(scene::node(index), scene::START, SEED);
            proposer.learned(newest);
            Seat {
                proposer: self.parts.proposers.number(proposer),
                known,
                floor: newest.version,
                next: 0,
                start: scene::START,
                ballot: Ballot::default(),
                accepting: false,
                clock: 0,
            }
        });
        let seats = seats.collect();
        let chosen = history.iter().map(|state| (self.parts.states.number(state.clone()), ballot)).collect();
        let proposal = self.parts.proposals.number(Proposal { ballot, state: newest.clone() });
        vec![World {
            acceptors: acceptors.collect(),
            seats,
            network: Vec::new(),
            left: self.scene.budget,
            accepted: vec![(proposal, (1 << newest.members.len()) - 1)],
            chosen,
            wishes: Vec::new(),
        }]
    }

    fn steps(&mut self, world: &World, steps: &mut Vec<Step>) {
        for letter in &world.network {
            if self.moves(world, *letter) {
                steps.push(Step::Deliver(*letter));
            }
        }
        for (index, one) in world.acceptors.iter().enumerate() {
            if one.vote != one.disk || !one.unsent.is_empty() {
                steps.push(Step::Sync(index as u8));
            }
            let forgets = one.vote != one.disk || self.mistake == Some(Mistake::VoteForgotten);
            if world.left.crashes > 0 && forgets {
                steps.push(Step::Crash(index as u8));
            }
        }
        for (index, seat) in world.seats.iter().enumerate() {
            let busy = self.parts.proposers[seat.proposer].is_busy();
            if !busy && usize::from(seat.next) < self.scene.wishes[index].len() {
                steps.push(Step::Begin(index as u8));
            }
            if busy && world.left.waits > 0 {
                steps.push(Step::Wait(index as u8));
            }
            if busy && world.left.restarts > 0 {
                steps.push(Step::Restart(index as u8));
            }
        }
    }

    fn take(&mut self, world: &World, step: Step) -> Result<World, Violation> {
        let mut after = world.clone();
        self.after(&mut after, step)?;
        self.forget_late_answers(&mut after);
        Ok(after)
    }

    fn tell(&mut self, world: &World, step: Step) -> String {
        let node = |index: u8| scene::node(usize::from(index));
        match step {
            Step::Deliver(number) => {
                let letter = &self.parts.letters[number];
                format!("{} takes {} from {}", letter.to, told(&letter.message), letter.from)
            }
            Step::Sync(index) => format!("the vote of {} is on its disk, and its answers leave", node(index)),
            Step::Crash(index) => format!("{} crashes and forgets the vote that is not on its disk", node(index)),
            Step::Begin(index) => {
                let intent = self.scene.wishes[usize::from(index)][usize::from(world.seats[usize::from(index)].next)];
                format!("{} begins to wish {intent:?}", node(index))
            }
            Step::Wait(index) => format!("{} has waited for answers in vain", node(index)),
            Step::Restart(index) => format!("{} is restarted and forgets its wish", node(index)),
        }
    }

    fn keep(&mut self, worlds: &[(u32, World)]) {
        self.answered.clear();
        self.moved.clear();
        let proposers: HashSet<u32> =
            worlds.iter().flat_map(|(_, world)| world.seats.iter().map(|seat| seat.proposer)).collect();
        self.parts.proposers.keep(|number| proposers.contains(&number));
    }
}

/// A message of the register in a few words.
fn told(message: &Message) -> String {
    match message {
        Message::Prepare { ballot, .. } => format!("prepare {ballot}"),
        Message::Promise { ballot, accepted: None } => format!("promise {ballot}, which holds nothing"),
        Message::Promise { ballot, accepted: Some((held_in, state)) } => {
            format!("promise {ballot}, which holds {} by {} of {held_in}", state.version, state.proposal)
        }
        Message::Accept { ballot, state, .. } => format!("accept {ballot}: {} by {}", state.version, state.proposal),
        Message::Accepted { ballot } => format!("accepted {ballot}"),
        Message::Refused { ballot, promised, newer } => {
            let list = newer.as_ref().map(|state| format!(", members of {}", state.members_version));
            format!("refused {ballot}: promised {promised}{}", list.unwrap_or_default())
        }
        Message::Announce { state } => format!("announce {} by {}", state.version, state.proposal),
        other => other.name().to_owned(),
    }
}
