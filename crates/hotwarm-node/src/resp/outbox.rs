//! Where the replies of one connection wait for its task.
//!
//! Replies carry the number of the request they answer and may come in any order: the task puts them in
//! theirs (R37). What bounds it is the number of requests that a connection may have open.

use hotwarm_resp::Reply;
use hotwarm_types::Lsn;
use std::sync::{Mutex, PoisonError};
use tokio::sync::Notify;

/// How a request ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// With a reply.
    Reply(Reply),
    /// Nobody can say whether it was carried out: the connection must close, since an unmodified client would take an
    /// error for "not done" (R34).
    Unknown,
}

/// The end of one request.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    /// Which request.
    pub slot: u64,
    /// How it ended.
    pub outcome: Outcome,
    /// The position at which a client that sees this has arrived.
    pub seen: Lsn,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Outbox {
    deliveries: Mutex<Vec<Delivery>>,
    filled: Notify,
}

impl Outbox {
    /// Adds what `deliveries` holds, and empties it. Wakes the task once.
    pub fn deliver(&self, deliveries: &mut Vec<Delivery>) {
        let mut waiting = self.deliveries.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.append(deliveries);
        drop(waiting);
        self.filled.notify_one();
    }

    /// Waits until there may be something to collect. Cancel safe.
    pub async fn filled(&self) {
        self.filled.notified().await;
    }

    /// Moves what waits into `into`, which must be empty.
    ///
    /// # Panics
    /// If `into` is not empty.
    pub fn collect(&self, into: &mut Vec<Delivery>) {
        assert!(into.is_empty(), "deliveries must be used up before more are collected");
        std::mem::swap(&mut *self.deliveries.lock().unwrap_or_else(PoisonError::into_inner), into);
    }
}
