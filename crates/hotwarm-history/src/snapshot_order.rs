//! Snapshots that several nodes gave fit into one order: of any two, one has everything that the other has (C20).
//!
//! Each snapshot tells the versions of the same keys, read at once. Two that each lack something of the other are a long
//! fork: two nodes applied the same writes in different orders. If of each two one is the older, the sums of their
//! versions sort them; so it is enough to sort once and to compare neighbours.

use crate::call::seconds;
use crate::finding::{Finding, Harm};

/// The versions that one read of several keys showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Who read.
    pub client: u32,
    /// Which node answered, or was asked.
    pub node: u32,
    /// When the read began, in nanoseconds.
    pub invoked_at: u64,
    /// When it was answered, in nanoseconds.
    pub ended_at: u64,
    /// The version of each key; versions of a key only grow. A key past the end is at version 0.
    pub versions: Vec<u64>,
}

impl Snapshot {
    /// The first key of which this one has an older version than the other.
    fn lacks(&self, other: &Self) -> Option<usize> {
        (0..other.versions.len()).find(|key| self.version(*key) < other.version(*key))
    }

    fn version(&self, key: usize) -> u64 {
        self.versions.get(key).copied().unwrap_or(0)
    }

    fn describe(&self, keys: [usize; 2]) -> String {
        let [a, b] = keys;
        format!(
            "client {} read on node {} from {} to {}: key {a} at {}, key {b} at {}",
            self.client,
            self.node,
            seconds(self.invoked_at),
            seconds(self.ended_at),
            self.version(a),
            self.version(b)
        )
    }
}

/// Judges all snapshots. One that forks is reported and left out, so that it is counted once.
#[must_use]
pub fn check(snapshots: &[Snapshot]) -> Vec<Finding> {
    let mut sorted: Vec<(u128, &Snapshot)> =
        snapshots.iter().map(|snapshot| (snapshot.versions.iter().map(|v| u128::from(*v)).sum(), snapshot)).collect();
    sorted.sort_by_key(|(sum, snapshot)| (*sum, snapshot.ended_at));
    let mut findings = Vec::new();
    let mut last: Option<&Snapshot> = None;
    for (_, snapshot) in sorted {
        match last.and_then(|last| Some((last, snapshot.lacks(last)?))) {
            None => last = Some(snapshot),
            Some((last, lacking)) => {
                // Its sum is not the lower one, so it has something that the other lacks.
                let keys = [last.lacks(snapshot).unwrap_or(lacking), lacking];
                let what = format!("{}; {}: no order has both", last.describe(keys), snapshot.describe(keys));
                findings.push(Finding::new("C20", Harm::Disordered, what));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(node: u32, versions: &[u64]) -> Snapshot {
        Snapshot { client: 0, node, invoked_at: 1, ended_at: 2, versions: versions.to_vec() }
    }

    #[test]
    fn one_order_may_be_seen_in_any_order() {
        let good =
            [snapshot(1, &[2, 1]), snapshot(0, &[1, 1]), snapshot(1, &[0, 1]), snapshot(2, &[1, 1]), snapshot(0, &[])];
        assert_eq!(check(&good), []);
    }

    #[test]
    fn a_long_fork_is_shown_with_both_sides() {
        let fork = [snapshot(0, &[0, 0]), snapshot(1, &[1, 0]), snapshot(2, &[0, 1]), snapshot(0, &[1, 1])];
        let findings = check(&fork);
        assert_eq!(findings.len(), 1);
        assert!(findings[0].what.contains("node 1") && findings[0].what.contains("node 2"), "{}", findings[0]);
        assert!(findings[0].what.contains("key 1 at 1, key 0 at 0: no order has both"), "{}", findings[0]);
    }
}
