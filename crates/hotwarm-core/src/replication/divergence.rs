//! Where two logs part, from their epoch tables alone.
//!
//! Two logs that hold an entry of the same epoch at the same position are equal up to there, since in one epoch one
//! process appends one sequence (INV-1). So the last common entry is the largest, over the epochs that both hold, of
//! the lower of the two ends of that epoch. Source: PacificA, "Reconciliation"; Raft, the Log Matching Property.

use hotwarm_types::{EntryId, Epoch, Lsn};

/// The last entry that both logs hold; position 0 of epoch 0 if none. Each log is its epoch table (first position of
/// each epoch, oldest first) and its end.
#[must_use]
pub fn last_common(ours: &[(Epoch, Lsn)], our_end: Lsn, theirs: &[(Epoch, Lsn)], their_end: Lsn) -> EntryId {
    let mut best = EntryId::default();
    for (index, (epoch, first)) in ours.iter().enumerate() {
        let Some(other) = theirs.iter().position(|(their_epoch, _)| their_epoch == epoch) else {
            continue;
        };
        let end = run_end(ours, index, our_end).min(run_end(theirs, other, their_end));
        // Tables that begin in the middle of an epoch (after a snapshot) may differ in `first`; the ends decide.
        if end >= *first && end >= theirs[other].1 && end > best.lsn {
            best = EntryId { epoch: *epoch, lsn: end };
        }
    }
    best
}

fn run_end(table: &[(Epoch, Lsn)], index: usize, end: Lsn) -> Lsn {
    table.get(index + 1).map_or(end, |(_, next)| next.prev())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;
    use std::vec::Vec;

    /// A log as the list of the epochs of its entries.
    fn table(log: &[u64]) -> (Vec<(Epoch, Lsn)>, Lsn) {
        let mut epochs: Vec<(Epoch, Lsn)> = vec![];
        for (index, epoch) in log.iter().enumerate() {
            if epochs.last().is_none_or(|(last, _)| last.0 != *epoch) {
                epochs.push((Epoch(*epoch), Lsn(index as u64 + 1)));
            }
        }
        (epochs, Lsn(log.len() as u64))
    }

    #[test]
    fn agrees_with_comparing_entry_by_entry() {
        // Every pair of logs of up to 5 entries whose epochs do not decrease and that share history as real ones do.
        let mut logs: Vec<Vec<u64>> = vec![vec![]];
        let mut last: Vec<Vec<u64>> = vec![vec![]];
        for _ in 0..5 {
            let mut longer = vec![];
            for log in &last {
                for epoch in log.last().copied().unwrap_or(1)..=4 {
                    let mut next = log.clone();
                    next.push(epoch);
                    longer.push(next);
                }
            }
            logs.extend(longer.clone());
            last = longer;
        }
        let mut compared = 0;
        for a in &logs {
            for b in &logs {
                let possible = a.iter().zip(b).enumerate().all(|(i, (x, y))| x != y || a[..i] == b[..i]);
                if !possible {
                    continue;
                }
                let common = a.iter().zip(b).take_while(|(x, y)| x == y).count();
                let ((ours, our_end), (theirs, their_end)) = (table(a), table(b));
                let found = last_common(&ours, our_end, &theirs, their_end);
                assert_eq!(found.lsn, Lsn(common as u64), "{a:?} {b:?}");
                compared += 1;
            }
        }
        assert!(compared > 5_000, "{compared}");
    }
}
