//! Connections that have not said yet what they want: bounded in number, and the oldest goes first.
//!
//! Whoever opens connections and keeps silent so pushes out his own, while one that says at once what it wants is
//! served before it is the oldest. How long it may take is for the one who accepts.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use tokio::task::AbortHandle;

/// The tasks of such connections, by their number, which grows.
#[derive(Debug)]
pub(crate) struct Newcomers {
    count_max: usize,
    tasks: Mutex<BTreeMap<u64, AbortHandle>>,
}

impl Newcomers {
    /// None so far; `count_max`, which is not zero, may be there at once.
    pub(crate) fn new(count_max: usize) -> Self {
        Self { count_max, tasks: Mutex::default() }
    }

    /// Starts the task of a connection, and ends that of the oldest if there are too many.
    pub(crate) fn enter(&self, number: u64, task: impl FnOnce() -> AbortHandle) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        if tasks.len() >= self.count_max
            && let Some((_, oldest)) = tasks.pop_first()
        {
            oldest.abort();
        }
        // Spawned under the lock, so that a task that is done at once finds itself entered.
        tasks.insert(number, task());
    }

    /// It is known what the connection wants, or it has ended: it is no longer among those that may be pushed out.
    pub(crate) fn leave(&self, number: u64) {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
    }

    /// Ends them all.
    pub(crate) fn close(&self) {
        let tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        tasks.values().for_each(AbortHandle::abort);
    }
}
