//! Calls that other nodes sent on and that are not executed yet.
//!
//! A node hands its open calls over in rounds: it begins a new one, with everything that is open, whenever some of the
//! last were not served. The calls of one connection must keep their order through that. So where one call of a round
//! is refused, every later one of that round is refused too, whether it waits here already or is still to come: else it
//! could be carried out before the earlier one has come again.

use super::work::RemoteCall;
use hotwarm_types::NodeId;
use std::collections::{BTreeMap, VecDeque};

/// Calls that may wait of each node; one that does not fit is refused, and comes again.
const WAITING_MAX: usize = 20_000;

/// What waits of one node.
#[derive(Debug, Default)]
struct Way {
    calls: VecDeque<Numbered>,
    /// Calls of this round and of earlier ones are refused.
    refused: Option<u64>,
}

/// A call, and how many had come before it.
#[derive(Debug)]
pub(super) struct Numbered {
    pub(super) number: u64,
    pub(super) call: RemoteCall,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct RemoteCalls {
    ways: BTreeMap<NodeId, Way>,
    next_number: u64,
}

impl RemoteCalls {
    /// Whether none waits.
    pub(super) fn is_empty(&self) -> bool {
        self.ways.values().all(|way| way.calls.is_empty())
    }

    /// The number that the next call will get.
    pub(super) fn next_number(&self) -> u64 {
        self.next_number
    }

    /// Nodes of which calls wait.
    pub(super) fn nodes(&self) -> Vec<NodeId> {
        self.ways.iter().filter(|(_, way)| !way.calls.is_empty()).map(|(node, _)| *node).collect()
    }

    /// Takes in a call. If it must be refused it comes back, and everything of its round with it.
    pub(super) fn push(&mut self, call: RemoteCall) -> Vec<RemoteCall> {
        let way = self.ways.entry(call.node).or_default();
        let refused = way.refused.is_some_and(|round| call.round <= round);
        if refused || way.calls.len() >= WAITING_MAX {
            let mut back = self.refuse(call.node, call.round);
            back.push(call);
            return back;
        }
        way.calls.push_back(Numbered { number: self.next_number, call });
        self.next_number += 1;
        Vec::new()
    }

    /// The next call of a node.
    pub(super) fn pop(&mut self, node: NodeId) -> Option<Numbered> {
        self.ways.get_mut(&node)?.calls.pop_front()
    }

    /// Puts back what was popped last.
    pub(super) fn put_back(&mut self, numbered: Numbered) {
        self.ways.entry(numbered.call.node).or_default().calls.push_front(numbered);
    }

    /// A call of that node and round was refused: gives back what waits of the round.
    pub(super) fn refuse(&mut self, node: NodeId, round: u64) -> Vec<RemoteCall> {
        let way = self.ways.entry(node).or_default();
        way.refused = way.refused.max(Some(round));
        let (refused, kept) =
            std::mem::take(&mut way.calls).into_iter().partition(|waiting| waiting.call.round <= round);
        way.calls = kept;
        let refused: VecDeque<Numbered> = refused;
        refused.into_iter().map(|waiting| waiting.call).collect()
    }

    /// Refuses all that waits.
    pub(super) fn refuse_all(&mut self) -> Vec<RemoteCall> {
        let last_rounds = self.ways.iter().filter_map(|(node, way)| Some((*node, way.calls.back()?.call.round)));
        let last_rounds: Vec<(NodeId, u64)> = last_rounds.collect();
        last_rounds.into_iter().flat_map(|(node, round)| self.refuse(node, round)).collect()
    }

    /// The link to a node is down: it hands everything over again when it is back, perhaps as another process.
    pub(super) fn forget(&mut self, node: NodeId) {
        self.ways.remove(&node);
    }
}

#[cfg(test)]
mod tests {
    use super::super::work::Work;
    use super::*;
    use hotwarm_types::SessionId;

    const A: NodeId = NodeId(1);
    const B: NodeId = NodeId(2);

    fn call(node: NodeId, round: u64, seq: u64) -> RemoteCall {
        let work = Work::Session { session: SessionId(1), resume: false, lane: None };
        RemoteCall { node, seq, round, client: 1, work }
    }

    fn numbers(calls: Vec<RemoteCall>) -> Vec<(NodeId, u64)> {
        calls.into_iter().map(|call| (call.node, call.seq)).collect()
    }

    #[test]
    fn each_node_keeps_its_order() {
        let mut calls = RemoteCalls::default();
        for (node, seq) in [(A, 1), (B, 1), (A, 2)] {
            assert!(calls.push(call(node, 1, seq)).is_empty());
        }
        assert_eq!(calls.nodes(), [A, B]);
        let first = calls.pop(A).unwrap();
        assert_eq!((first.number, first.call.seq), (0, 1));
        calls.put_back(first);
        assert_eq!(calls.pop(A).unwrap().call.seq, 1);
        let second = calls.pop(A).unwrap();
        assert_eq!((second.number, second.call.seq), (2, 2));
        assert!(calls.pop(A).is_none());
        assert_eq!((calls.nodes(), calls.next_number()), (vec![B], 3));
    }

    #[test]
    fn what_follows_a_refused_call_in_its_round_is_refused_and_the_next_round_is_not() {
        let mut calls = RemoteCalls::default();
        calls.push(call(A, 1, 2));
        calls.push(call(B, 1, 1));
        assert_eq!(numbers(calls.refuse(A, 1)), [(A, 2)], "it waited behind the refused one");
        assert_eq!(numbers(calls.push(call(A, 1, 3))), [(A, 3)], "it comes after the refused one");
        assert!(calls.push(call(A, 2, 1)).is_empty());
        assert_eq!(numbers(calls.push(call(A, 1, 4))), [(A, 4)], "a straggler, and the new round stays");
        assert_eq!(numbers(calls.refuse_all()), [(A, 1), (B, 1)]);
        assert!(calls.is_empty());
        assert_eq!(numbers(calls.push(call(A, 2, 1))), [(A, 1)]);
        calls.forget(A);
        assert!(calls.push(call(A, 1, 1)).is_empty(), "another process counts anew");
    }

    #[test]
    fn a_call_too_many_ends_its_round() {
        let mut calls = RemoteCalls::default();
        for seq in 0..WAITING_MAX as u64 {
            assert!(calls.push(call(A, 1, seq)).is_empty());
        }
        assert_eq!(calls.push(call(A, 1, 0)).len(), WAITING_MAX + 1);
        assert!(calls.push(call(A, 2, 0)).is_empty());
    }
}
