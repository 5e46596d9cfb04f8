//! The table of epochs: where each began. It outlives the entries, so that a divergence is found by it however
//! little of the log is left (R30).

use hotwarm_types::{EntryId, Epoch, Lsn};

/// Epochs that the table remembers; older ones are forgotten, and a node that diverged before them gets a snapshot.
/// At 16 bytes each the table takes half of the head file.
pub const EPOCHS_KEPT: usize = 8_192;

/// First position of each epoch, oldest first; both columns grow strictly.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Epochs(Vec<(Epoch, Lsn)>);

impl Epochs {
    /// The table of a snapshot that ends at `at`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn of_snapshot(table: &[(Epoch, Lsn)], at: EntryId) -> Result<Self, &'static str> {
        if table.windows(2).any(|pair| pair[0].0 >= pair[1].0 || pair[0].1 >= pair[1].1) {
            return Err("its epochs do not grow");
        }
        match table.last() {
            Some((_, first)) if *first > at.lsn => Err("an epoch begins after its end"),
            Some((epoch, _)) if *epoch != at.epoch => Err("its last epoch is not that of its last entry"),
            _ => {
                let mut epochs = Self(table.to_vec());
                epochs.forget();
                Ok(epochs)
            }
        }
    }

    /// A table read from disk, under a checksum.
    pub(crate) fn stored(table: Vec<(Epoch, Lsn)>) -> Self {
        Self(table)
    }

    pub(crate) fn as_slice(&self) -> &[(Epoch, Lsn)] {
        &self.0
    }

    /// Takes note of an entry appended at the end.
    pub(crate) fn appended(&mut self, epoch: Epoch, first: Lsn) {
        if self.0.last().is_none_or(|(last, _)| *last < epoch) {
            self.0.push((epoch, first));
            self.forget();
        }
    }

    /// Forgets the epochs that began after `last`.
    pub(crate) fn cut(&mut self, last: Lsn) {
        let kept = self.0.partition_point(|(_, first)| *first <= last);
        self.0.truncate(kept);
    }

    fn forget(&mut self) {
        let excess = self.0.len().saturating_sub(EPOCHS_KEPT);
        self.0.drain(..excess);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_with_epochs_and_is_cut_by_position() {
        let mut epochs = Epochs::default();
        for (epoch, first) in [(1, 1), (1, 2), (3, 5), (3, 6), (4, 9)] {
            epochs.appended(Epoch(epoch), Lsn(first));
        }
        assert_eq!(epochs.as_slice(), [(Epoch(1), Lsn(1)), (Epoch(3), Lsn(5)), (Epoch(4), Lsn(9))]);
        epochs.cut(Lsn(8));
        assert_eq!(epochs.as_slice(), [(Epoch(1), Lsn(1)), (Epoch(3), Lsn(5))]);
        epochs.cut(Lsn(5));
        assert_eq!(epochs.as_slice().len(), 2);
        epochs.cut(Lsn(4));
        assert_eq!(epochs.as_slice().len(), 1);
    }

    #[test]
    fn forgets_the_oldest_beyond_its_bound() {
        let mut epochs = Epochs::default();
        for n in 1..=EPOCHS_KEPT as u64 + 3 {
            epochs.appended(Epoch(n), Lsn(n * 2));
        }
        assert_eq!(epochs.as_slice().len(), EPOCHS_KEPT);
        assert_eq!(epochs.as_slice()[0], (Epoch(4), Lsn(8)));
    }

    #[test]
    fn tables_that_do_not_fit_their_snapshot_are_refused() {
        let at = EntryId { epoch: Epoch(3), lsn: Lsn(9) };
        let fine = [(Epoch(1), Lsn(1)), (Epoch(3), Lsn(9))];
        assert!(Epochs::of_snapshot(&fine, at).is_ok());
        assert!(Epochs::of_snapshot(&[], at).is_ok());
        for bad in [
            [(Epoch(3), Lsn(1)), (Epoch(3), Lsn(2))],
            [(Epoch(1), Lsn(1)), (Epoch(3), Lsn(10))],
            [(Epoch(1), Lsn(1)), (Epoch(2), Lsn(2))],
        ] {
            assert!(Epochs::of_snapshot(&bad, at).is_err(), "{bad:?}");
        }
    }
}
