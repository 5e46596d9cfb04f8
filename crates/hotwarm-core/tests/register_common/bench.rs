//! One proposer at a bench: the test says which acceptors each of its messages reaches.

use crate::register_answer::answer;
use crate::register_common::bootstrapped;
use hotwarm_core::Message;
use hotwarm_core::register::{Ballot, Denied, GroupState, Outcome, Proposer, Vote, Wish};
use hotwarm_types::{Instant, NodeId, Version};
use std::collections::BTreeMap;

pub const NOW: Instant = Instant(1_000_000_000);

pub fn ballot(counter: u64, node: u16) -> Ballot {
    Ballot { counter, node: NodeId(node), start: 1 }
}

/// A vote that holds `state`, accepted in that ballot.
pub fn holding(ballot: Ballot, state: &GroupState) -> Vote {
    Vote { promised: ballot, accepted: Some((ballot, state.clone())), ..Vote::default() }
}

/// Acceptors, one proposer, and a network that brings everything at once to those within reach.
pub struct Bench {
    pub votes: BTreeMap<NodeId, Vote>,
    pub proposer: Proposer,
    pub now: Instant,
    /// Requests not served yet.
    pub requests: Vec<(NodeId, Message)>,
    /// How often requests went out together: the round trips.
    pub round_trips: usize,
}

impl Bench {
    pub fn new(me: u16) -> Self {
        let proposer = Proposer::new(NodeId(me), 1, 5);
        Self { votes: BTreeMap::new(), proposer, now: NOW, requests: Vec::new(), round_trips: 0 }
    }

    /// Three acceptors that hold the first version, accepted in ballot 1 of n1.
    pub fn bootstrapped(me: u16) -> (Self, GroupState) {
        let mut bench = Self::new(me);
        let first = bootstrapped();
        for node in 1..=3 {
            bench.hold(node, ballot(1, 1), &first);
        }
        (bench, first)
    }

    pub fn hold(&mut self, node: u16, ballot: Ballot, state: &GroupState) {
        self.votes.insert(NodeId(node), holding(ballot, state));
        self.proposer.observe(ballot);
    }

    pub fn begin(&mut self, known: &GroupState, wish: Wish) {
        self.proposer.begin(self.now, known, wish, &mut self.requests);
    }

    /// Serves all requests to the nodes within `reach`, and those that follow from the answers; the others are lost.
    pub fn run(&mut self, reach: &[u16]) {
        while !self.requests.is_empty() {
            self.trip(reach);
        }
    }

    /// One round trip.
    pub fn trip(&mut self, reach: &[u16]) {
        self.round_trips += 1;
        for (to, request) in core::mem::take(&mut self.requests) {
            if reach.contains(&to.0) {
                let response: Message = answer(self.votes.entry(to).or_default(), request).into();
                self.proposer.received(self.now, to, &response, &mut self.requests);
            }
        }
    }

    pub fn elapse(&mut self) {
        self.now = self.proposer.deadline().expect("it waits for something");
        self.proposer.elapsed(self.now, &mut self.requests);
    }

    pub fn done(&mut self) -> GroupState {
        match self.proposer.take_outcome() {
            Some(Outcome::Done(state)) => state,
            other => panic!("not done: {other:?}"),
        }
    }

    pub fn denied(&mut self) -> (Denied, Option<GroupState>) {
        match self.proposer.take_outcome() {
            Some(Outcome::Denied { denied, state }) => (denied, state),
            other => panic!("not denied: {other:?}"),
        }
    }

    pub fn held(&self, node: u16) -> (Ballot, Version) {
        let (ballot, state) = self.votes[&NodeId(node)].accepted.as_ref().expect("it holds a state");
        (*ballot, state.version)
    }
}
