//! The register in every order of one small duel: two candidates, three acceptors, each request delivered early, late or
//! never. At most one of them wins, and who is told that it lost is told so by a state that is chosen. Guards R2, R3, R6.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "register_common/answer.rs"]
mod register_answer;
mod register_common;

use hotwarm_core::Message;
use hotwarm_core::register::{Ballot, Change, Denied, GroupState, Outcome, ProposalId, Proposer, Vote, Wish};
use hotwarm_types::{Epoch, Instant, NodeId, Version};
use register_answer::answer;
use register_common::{bootstrapped, incarnation, wish};
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// The state of one small duel, cheap to copy.
#[derive(Clone)]
struct Duel {
    votes: BTreeMap<NodeId, Vote>,
    proposers: BTreeMap<NodeId, Duellist>,
    /// Requests on their way; an answer arrives together with its request being served.
    requests: Vec<(NodeId, NodeId, Message)>,
}

#[derive(Clone)]
struct Duellist {
    proposer: Proposer,
    outcome: Option<Outcome>,
    /// Everything it was told in its present ballot, for telling states apart.
    heard: BTreeSet<(NodeId, Ballot, &'static str, Ballot, ProposalId)>,
    proposes: (Ballot, ProposalId),
}

impl Duel {
    fn new() -> Self {
        let first = bootstrapped();
        let ballot = Ballot { counter: 1, node: NodeId(1), start: 1 };
        let vote = Vote { promised: ballot, accepted: Some((ballot, first.clone())), ..Vote::default() };
        let votes = [1, 2, 3].map(|node| (NodeId(node), vote.clone())).into();
        let mut duel = Self { votes, proposers: BTreeMap::new(), requests: Vec::new() };
        for node in [NodeId(2), NodeId(3)] {
            let mut proposer = Proposer::new(node, 1, 1);
            let change = Change::Promote {
                candidate: node,
                incarnation: incarnation(1),
                in_sync: first.in_sync.clone(),
                seen: Epoch(1),
            };
            let wish = Wish { id: proposer.next_id(), expected: Some(Version(1)), ..wish(node.0, 1, change) };
            let mut send = Vec::new();
            proposer.observe(ballot);
            proposer.begin(Instant(0), &first, wish, &mut send);
            let proposes = (Ballot::default(), ProposalId::default());
            duel.proposers.insert(node, Duellist { proposer, outcome: None, heard: BTreeSet::new(), proposes });
            duel.requests.extend(send.into_iter().map(|(to, message)| (node, to, message)));
        }
        duel
    }

    /// Serves one request and brings the answer.
    fn serve(&self, index: usize) -> Self {
        let mut next = self.clone();
        let (from, to, message) = next.requests.remove(index);
        let answer: Message = answer(next.votes.get_mut(&to).unwrap(), message).into();
        let duellist = next.proposers.get_mut(&from).unwrap();
        let mut send = Vec::new();
        duellist.proposer.received(Instant(0), to, &answer, &mut send);
        duellist.heard.insert(told(to, &answer));
        if let Some(outcome) = duellist.proposer.take_outcome() {
            duellist.outcome = Some(outcome);
        }
        for (_, message) in &send {
            duellist.proposes = match message {
                Message::Accept { ballot, state, .. } => (*ballot, state.proposal),
                Message::Prepare { ballot, .. } => (*ballot, ProposalId::default()),
                other => panic!("{} is not for an acceptor", other.name()),
            };
        }
        let current = duellist.proposes.0;
        duellist.heard.retain(|(_, ballot, ..)| *ballot >= current);
        // Requests of a round that is over can only be refused or ignored, or raise a promise that a later one raises
        // too; the randomized schedules keep them, here they would only multiply the orders.
        if !send.is_empty() {
            next.requests.retain(|(sender, ..)| *sender != from);
        }
        next.requests.extend(send.into_iter().map(|(to, message)| (from, to, message)));
        next
    }

    /// Equal for states that can only go on alike. Acceptors are told apart by what they hold, said and will be asked, not
    /// by their numbers: nobody in this duel treats them differently.
    fn key(&self) -> String {
        let mut acceptors: Vec<String> = self.votes.iter().map(|(node, vote)| self.key_of(*node, vote)).collect();
        acceptors.sort_unstable();
        let proposers: Vec<_> =
            self.proposers.values().map(|one| (one.proposes, one.outcome.is_some(), one.proposer.deadline())).collect();
        format!("{acceptors:?}{proposers:?}")
    }

    fn key_of(&self, node: NodeId, vote: &Vote) -> String {
        let mut key = format!("{}", vote.promised);
        if let Some((ballot, state)) = &vote.accepted {
            key += &format!(" {ballot}={}", state.proposal);
        }
        for (proposer, one) in &self.proposers {
            for (_, ballot, name, held_in, held) in one.heard.iter().filter(|(from, ..)| *from == node) {
                key += &format!(" {proposer}<{name} {ballot} {held_in}={held}");
            }
        }
        for (proposer, _, message) in self.requests.iter().filter(|(_, to, _)| *to == node) {
            key += &format!(" {proposer}>{}", message.name());
        }
        key
    }

    fn check(&self) {
        let winners = self.proposers.values().filter(|one| matches!(one.outcome, Some(Outcome::Done(_)))).count();
        assert!(winners <= 1, "two candidates won one epoch");
        let states: Vec<&GroupState> =
            self.proposers.values().filter_map(|one| one.outcome.as_ref()).filter_map(of_outcome).collect();
        for pair in states.windows(2) {
            assert!(pair[0].version != pair[1].version || pair[0] == pair[1], "two states of one version");
        }
        for one in self.proposers.values() {
            if let Some(Outcome::Denied { state: Some(state), denied }) = &one.outcome {
                assert!(matches!(denied, Denied::VersionMoved { found: Version(2), .. }), "{denied}");
                let held = self.votes.values().filter(|vote| vote.accepted.as_ref().is_some_and(|(_, s)| s == state));
                assert!(held.count() >= 2, "a state was called chosen that no majority holds");
            }
        }
    }
}

fn of_outcome(outcome: &Outcome) -> Option<&GroupState> {
    match outcome {
        Outcome::Done(state) => Some(state),
        Outcome::Denied { state, .. } => state.as_ref(),
    }
}

fn told(from: NodeId, answer: &Message) -> (NodeId, Ballot, &'static str, Ballot, ProposalId) {
    let (ballot, held) = match answer {
        Message::Promise { ballot, accepted } => {
            (*ballot, accepted.as_ref().map(|(ballot, state)| (*ballot, state.proposal)).unwrap_or_default())
        }
        Message::Accepted { ballot } => (*ballot, (Ballot::default(), ProposalId::default())),
        Message::Refused { ballot, promised, .. } => (*ballot, (*promised, ProposalId::default())),
        other => panic!("{} is no answer", other.name()),
    };
    (from, ballot, answer.name(), held.0, held.1)
}

#[test]
fn every_order_of_a_duel_has_at_most_one_winner() {
    let mut seen: HashSet<String> = HashSet::new();
    let mut open = vec![Duel::new()];
    let mut won = 0;
    let mut lost_and_knows = 0;
    while let Some(duel) = open.pop() {
        duel.check();
        for index in 0..duel.requests.len() {
            let next = duel.serve(index);
            if seen.insert(next.key()) {
                won += usize::from(next.proposers.values().any(|p| matches!(p.outcome, Some(Outcome::Done(_)))));
                let denied = |p: &Duellist| matches!(p.outcome, Some(Outcome::Denied { .. }));
                lost_and_knows += usize::from(next.proposers.values().any(denied));
                open.push(next);
            }
        }
    }
    println!("{} states, {won} with a winner, {lost_and_knows} with a loser who knows", seen.len());
    assert!(won > 0 && lost_and_knows > 0);
}
