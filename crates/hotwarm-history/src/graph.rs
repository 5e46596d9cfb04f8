//! What must come before what, and the shortest way in which it cannot.
//!
//! Vertices below `transactions` are transactions; those above are moments, which carry real time in one edge each instead
//! of one for each pair: everything that ended by a moment comes before everything that began after it. Cycles are found by
//! strongly connected components (Tarjan, "Depth-First Search and Linear Graph Algorithms", 1972), without recursion.

use std::collections::{HashMap, VecDeque};

/// Why one transaction comes before another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// It appended to that key before the other did.
    AppendedBefore(u32),
    /// The other read what it appended to that key.
    WasRead(u32),
    /// It read that key without what the other appended.
    DidNotSee(u32),
    /// It had ended before the other began.
    RealTime,
}

/// Starts searched for the shortest cycle of a component; past them a short one is good enough.
const STARTS_MAX: usize = 500;

/// The graph.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    edges: Vec<Vec<(u32, Why)>>,
    transactions: usize,
}

impl Graph {
    /// A graph of transactions that were open from the first time to the second; not ended ones until `u64::MAX`.
    pub(crate) fn new(spans: &[(u64, u64)]) -> Self {
        let mut graph = Self { edges: vec![Vec::new(); spans.len()], transactions: spans.len() };
        let mut ends: Vec<(u64, usize)> = spans
            .iter()
            .enumerate()
            .filter(|(_, (_, to))| *to != u64::MAX)
            .map(|(index, (_, to))| (*to, index))
            .collect();
        ends.sort_unstable();
        for (moment, (_, index)) in ends.iter().enumerate() {
            let vertex = (spans.len() + moment) as u32;
            graph.edges.push(Vec::new());
            graph.add(*index, vertex as usize, Why::RealTime);
            if moment > 0 {
                graph.add(vertex as usize - 1, vertex as usize, Why::RealTime);
            }
        }
        for (index, (from, _)) in spans.iter().enumerate() {
            if let Some(moment) = ends.partition_point(|(to, _)| to < from).checked_sub(1) {
                graph.add(spans.len() + moment, index, Why::RealTime);
            }
        }
        graph
    }

    /// `from` comes before `to`. An edge to itself says nothing and is left out.
    pub(crate) fn add(&mut self, from: usize, to: usize, why: Why) {
        if from != to {
            self.edges[from].push((to as u32, why));
        }
    }

    /// The shortest cycle of each component that has one: transactions, each with the reason why it precedes the next.
    pub(crate) fn cycles(&self) -> Vec<Vec<(usize, Why)>> {
        self.components().into_iter().filter_map(|component| self.shortest_cycle(&component)).collect()
    }

    /// Components of more than one vertex.
    fn components(&self) -> Vec<Vec<usize>> {
        const NEW: u32 = u32::MAX;
        let count = self.edges.len();
        let (mut order, mut low, mut on_stack) = (vec![NEW; count], vec![0u32; count], vec![false; count]);
        let (mut stack, mut found, mut next) = (Vec::new(), Vec::new(), 0);
        for root in 0..count {
            if order[root] != NEW {
                continue;
            }
            let mut path = vec![(root, 0)];
            while let Some((vertex, edge)) = path.last_mut() {
                let vertex = *vertex;
                if *edge == 0 {
                    (order[vertex], low[vertex], on_stack[vertex]) = (next, next, true);
                    next += 1;
                    stack.push(vertex);
                }
                if let Some((to, _)) = self.edges[vertex].get(*edge) {
                    *edge += 1;
                    let to = *to as usize;
                    if order[to] == NEW {
                        path.push((to, 0));
                    } else if on_stack[to] {
                        low[vertex] = low[vertex].min(order[to]);
                    }
                    continue;
                }
                path.pop();
                if let Some((parent, _)) = path.last() {
                    low[*parent] = low[*parent].min(low[vertex]);
                }
                if low[vertex] == order[vertex] {
                    let from = stack.iter().rposition(|other| *other == vertex).unwrap_or(0);
                    let component = stack.split_off(from);
                    component.iter().for_each(|vertex| on_stack[*vertex] = false);
                    if component.len() > 1 {
                        found.push(component);
                    }
                }
            }
        }
        found
    }

    /// The cycle with the fewest transactions, by a search from each of them; moments cost nothing.
    fn shortest_cycle(&self, component: &[usize]) -> Option<Vec<(usize, Why)>> {
        let within: HashMap<usize, ()> = component.iter().map(|vertex| (*vertex, ())).collect();
        let mut starts: Vec<usize> = component.iter().copied().filter(|vertex| *vertex < self.transactions).collect();
        starts.sort_unstable();
        let mut best: Option<Vec<(usize, Why)>> = None;
        for start in starts.into_iter().take(STARTS_MAX) {
            let shorter = self.cycle_through(start, &within);
            if let Some(cycle) = shorter.filter(|cycle| best.as_ref().is_none_or(|best| cycle.len() < best.len())) {
                best = Some(cycle);
            }
        }
        best
    }

    fn cycle_through(&self, start: usize, within: &HashMap<usize, ()>) -> Option<Vec<(usize, Why)>> {
        let mut came_from: HashMap<usize, (usize, Why)> = HashMap::new();
        let mut open = VecDeque::from([start]);
        while let Some(vertex) = open.pop_front() {
            for (to, why) in &self.edges[vertex] {
                let to = *to as usize;
                if to == start {
                    return Some(self.unwind(start, vertex, *why, &came_from));
                }
                if within.contains_key(&to) && !came_from.contains_key(&to) {
                    came_from.insert(to, (vertex, *why));
                    if to < self.transactions { open.push_back(to) } else { open.push_front(to) }
                }
            }
        }
        None
    }

    /// The way from `start` to `last`, and back by `why`, without the moments.
    fn unwind(
        &self,
        start: usize,
        last: usize,
        why: Why,
        came_from: &HashMap<usize, (usize, Why)>,
    ) -> Vec<(usize, Why)> {
        let mut cycle = Vec::new();
        let (mut vertex, mut why) = (last, why);
        loop {
            if vertex < self.transactions {
                cycle.push((vertex, why));
            }
            if vertex == start {
                cycle.reverse();
                return cycle;
            }
            (vertex, why) = came_from[&vertex];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn real_time_alone_has_no_cycle_and_closes_one() {
        let spans = [(1, 2), (3, 4), (3, 9), (5, u64::MAX)];
        let mut graph = Graph::new(&spans);
        assert!(graph.cycles().is_empty());
        graph.add(1, 0, Why::WasRead(7));
        assert_eq!(graph.cycles(), [vec![(0, Why::RealTime), (1, Why::WasRead(7))]]);
    }

    #[test]
    fn the_shortest_cycle_of_a_component_is_found() {
        let mut graph = Graph::new(&[(1, 9); 6]);
        for vertex in 0..6 {
            graph.add(vertex, (vertex + 1) % 6, Why::AppendedBefore(0));
        }
        assert_eq!(graph.cycles()[0].len(), 6);
        graph.add(4, 3, Why::DidNotSee(1));
        assert_eq!(graph.cycles(), [vec![(3, Why::AppendedBefore(0)), (4, Why::DidNotSee(1))]]);
    }

    #[test]
    fn a_long_chain_needs_no_deep_stack() {
        let spans: Vec<(u64, u64)> = (0..200_000).map(|at| (at * 2, at * 2 + 1)).collect();
        assert!(Graph::new(&spans).cycles().is_empty());
    }
}
