//! How many keys have an expiry, and which on average: for people.
//!
//! Feeds keep the count. A start does not know it and counts the index by expiry behind everything else, a page at a
//! time; a row that a feed changes meanwhile counts if it lies before the page that comes next.

use crate::key;
use crate::tree::{Rows, TreeError};
use bytes::Bytes;
use hotwarm_types::Lsn;
use std::ops::Bound;

/// Keys by number, as of the last feed; those whose time has come and that are not removed yet included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyCounts {
    /// All of them.
    pub keys: u64,
    /// Those with an expiry; fewer than there are while a start still counts them.
    pub expiring: u64,
    /// How long those have left on average, in milliseconds of group time.
    pub ttl_ms_mean: u64,
}

/// The running count of the index by expiry.
#[derive(Debug, Default)]
pub(crate) struct Census {
    count: u64,
    /// The sum of their expiries.
    sum_ms: u128,
    counted: Counted,
}

/// Which rows are in the count.
#[derive(Debug, Default)]
enum Counted {
    #[default]
    Nothing,
    /// Those up to this one.
    Upto(Bytes),
    Everything,
}

impl Census {
    /// All keys are gone.
    pub(crate) fn clear(&mut self) {
        *self = Self { counted: Counted::Everything, ..Self::default() };
    }

    pub(crate) fn added(&mut self, expires_at_ms: u64, row_key: &[u8]) {
        if self.has(row_key) {
            self.count += 1;
            self.sum_ms += u128::from(expires_at_ms);
        }
    }

    pub(crate) fn removed(&mut self, expires_at_ms: u64, row_key: &[u8]) {
        if self.has(row_key) {
            self.count = self.count.saturating_sub(1);
            self.sum_ms = self.sum_ms.saturating_sub(u128::from(expires_at_ms));
        }
    }

    fn has(&self, row_key: &[u8]) -> bool {
        match &self.counted {
            Counted::Nothing => false,
            Counted::Upto(last) => row_key <= &last[..],
            Counted::Everything => true,
        }
    }

    /// Where the next page begins; `None` if everything is counted.
    pub(crate) fn next(&self, generation: Lsn) -> Option<Bound<Bytes>> {
        match &self.counted {
            Counted::Nothing => Some(Bound::Included(key::generation_start(key::EXPIRY, generation).into())),
            Counted::Upto(last) => Some(Bound::Excluded(last.clone())),
            Counted::Everything => None,
        }
    }

    /// Counts the next page; an empty one is the end. Whether there may be more.
    pub(crate) fn count(&mut self, rows: &Rows) -> Result<bool, TreeError> {
        for (row_key, _) in rows {
            let (expires_at_ms, _) = key::parse_expiry(row_key).ok_or(TreeError::Corrupt { what: "an expiry" })?;
            self.count += 1;
            self.sum_ms += u128::from(expires_at_ms);
        }
        self.counted = rows.last().map_or(Counted::Everything, |(last, _)| Counted::Upto(last.clone()));
        Ok(!rows.is_empty())
    }

    pub(crate) fn key_counts(&self, keys: u64, now_ms: u64) -> KeyCounts {
        let mean_ms = self.sum_ms.checked_div(u128::from(self.count)).unwrap_or(0);
        let ttl_ms_mean = u64::try_from(mean_ms).unwrap_or(u64::MAX).saturating_sub(now_ms);
        KeyCounts { keys, expiring: self.count, ttl_ms_mean }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(at_ms: u64, name: &str) -> (Bytes, Bytes) {
        (key::expiry(Lsn(1), at_ms, name.as_bytes()).into(), Bytes::new())
    }

    #[test]
    fn a_row_that_changes_while_a_start_counts_is_counted_once() {
        let mut census = Census::default();
        census.added(10, &row(10, "before anything is counted").0);
        let next = census.next(Lsn(1)).unwrap();
        assert_eq!(next, Bound::Included(key::generation_start(key::EXPIRY, Lsn(1)).into()));
        assert!(census.count(&vec![row(10, "a"), row(20, "b")]).unwrap());
        assert_eq!(census.next(Lsn(1)), Some(Bound::Excluded(row(20, "b").0)));
        census.removed(10, &row(10, "a").0);
        census.added(15, &row(15, "c").0);
        census.added(30, &row(30, "on the next page").0);
        census.removed(40, &row(40, "on the next page, too").0);
        assert!(census.count(&vec![row(30, "on the next page")]).unwrap());
        assert!(!census.count(&vec![]).unwrap());
        assert_eq!(census.next(Lsn(1)), None);
        census.added(35, &row(35, "d").0);
        assert_eq!(census.key_counts(9, 5), KeyCounts { keys: 9, expiring: 4, ttl_ms_mean: 20 });
        census.clear();
        assert_eq!(census.key_counts(0, 5), KeyCounts::default());
        assert_eq!(census.next(Lsn(1)), None);
    }
}
