//! A machine's disk: what survives a crash, and the orders on their way to it.
//!
//! Orders of one device take effect in their order. A crash keeps a random prefix of what was ordered and not yet
//! reported: a process may die after its write has reached the platter and before it was told (R11). A failed sync
//! reports failure for its order and for every later one of that process (INV-9).

use crate::log::{Log, Misfit};
use crate::rng::Rng;
use crate::store::Store;
use hotwarm_core::register::{GroupState, Vote};
use hotwarm_types::{Block, EntryId, Epoch, FolderId, Lsn, StreamId, Token};
use std::collections::VecDeque;

/// What is on the platter.
#[derive(Clone, Debug)]
pub struct Disk {
    /// The folder's identity.
    pub folder: FolderId,
    /// How often it has been started.
    pub starts: u64,
    /// The state written by `hotwarm init`, for a member of the first hour.
    pub birth: Option<GroupState>,
    /// The vote record.
    pub vote: Vote,
    /// The log.
    pub log: Log,
    /// The state machine.
    pub store: Store,
}

impl Disk {
    /// An empty folder.
    #[must_use]
    pub fn empty(folder: FolderId, birth: Option<GroupState>) -> Self {
        Self { folder, starts: 0, birth, vote: Vote::default(), log: Log::default(), store: Store::default() }
    }

    /// Applies an order to the log.
    ///
    /// # Errors
    /// The order does not fit what is there.
    pub fn apply(&mut self, op: LogOp) -> Result<(), Misfit> {
        match op {
            LogOp::Append(block) => self.log.append(block),
            LogOp::Cut(last) => self.log.cut(last),
            LogOp::Install(install) => {
                let aside = self.log.aside;
                self.log = Log::after(install.at, install.epochs);
                self.log.aside = aside;
                self.store = install.store;
                Ok(())
            }
        }
    }
}

/// A whole copy received from the hot (R31).
#[derive(Clone, Debug)]
pub struct Install {
    /// The stream it came by.
    pub stream: StreamId,
    /// The last entry it includes.
    pub at: EntryId,
    /// First position of each epoch up to there.
    pub epochs: Vec<(Epoch, Lsn)>,
    /// The state.
    pub store: Store,
}

/// An order to the log's device.
#[derive(Clone, Debug)]
pub enum LogOp {
    /// Append and sync.
    Append(Block),
    /// Put aside and cut.
    Cut(Lsn),
    /// Replace log and state at once.
    Install(Box<Install>),
}

/// Which of a machine's devices: each has a thread of its own (R36).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceKind {
    /// The log's.
    Log,
    /// The vote record's.
    Vote,
}

/// An order on its way.
#[derive(Clone, Debug)]
pub struct Pending<T> {
    /// The order.
    pub op: T,
    /// What to report; `None` for what the shell ordered itself.
    pub token: Option<Token>,
    /// Whether it will fail.
    pub fails: bool,
}

/// A queue of orders to one device.
#[derive(Clone, Debug)]
pub struct Device<T> {
    pending: VecDeque<Pending<T>>,
    /// When the last order in the queue will be done.
    busy_until: u64,
    /// A sync has failed: nothing that follows succeeds.
    failed: bool,
    /// A failed order has been reported: what follows it has no ground to stand on.
    torn: bool,
}

impl<T> Default for Device<T> {
    fn default() -> Self {
        Self { pending: VecDeque::new(), busy_until: 0, failed: false, torn: false }
    }
}

impl<T> Device<T> {
    /// Queues an order that takes `latency` once the device is free (and not before `ready`); returns when it is done.
    pub fn order(&mut self, op: T, token: Option<Token>, now: u64, ready: u64, latency: u64) -> u64 {
        let done = self.busy_until.max(now + latency).max(ready) + 1;
        self.busy_until = done;
        self.pending.push_back(Pending { op, token, fails: self.failed });
        done
    }

    /// The order that is done first.
    pub fn finish(&mut self) -> Option<Pending<T>> {
        let first = self.pending.pop_front();
        self.torn |= first.as_ref().is_some_and(|pending| pending.fails);
        first
    }

    /// Everything on its way fails, and all that follows.
    pub fn fail(&mut self) {
        self.failed = true;
        for pending in &mut self.pending {
            pending.fails = true;
        }
    }

    /// The orders that reached the platter although the process died: a random prefix.
    pub fn crash(&mut self, rng: &mut Rng) -> impl Iterator<Item = T> + use<T> {
        let kept = if self.torn { 0 } else { rng.index(self.pending.len() + 1) };
        let orders = core::mem::take(&mut self.pending);
        orders.into_iter().take(kept).map(|pending| pending.op)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_keeps_the_order_of_its_orders() {
        let mut device = Device::default();
        let slow = device.order('a', None, 0, 0, 100);
        let fast = device.order('b', None, 0, 0, 1);
        assert!(slow < fast);
        assert_eq!(device.finish().map(|pending| pending.op), Some('a'));
        device.fail();
        device.order('c', None, 0, 0, 1);
        assert!(device.finish().is_some_and(|pending| pending.fails));
        assert_eq!(device.crash(&mut Rng::new(1)).count(), 0);
    }

    #[test]
    fn a_crash_keeps_a_prefix() {
        for seed in 0..50 {
            let mut device = Device::default();
            for op in 0..5 {
                device.order(op, None, 0, 0, 1);
            }
            let kept: Vec<_> = device.crash(&mut Rng::new(seed)).collect();
            assert_eq!(kept, (0..kept.len()).collect::<Vec<_>>());
        }
    }
}
