//! A queue from many producers to one thread that takes all that waits at once.
//!
//! The consumer swaps the whole backlog for its own empty buffer: one lock for a batch, and no wake-up call while it
//! is busy. So a slow disk or a busy core makes larger batches, not more work.
//!
//! The queue itself has no bound; each use states what bounds it. Facts that answer orders are bounded by the
//! orders outstanding, calls by what each connection may have open, and what comes from outside passes a [`Gate`].

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;

/// The queue; clones of the `Arc` around it are its producers.
#[derive(Debug)]
pub struct Queue<T> {
    inner: Mutex<Inner<T>>,
    filled: Condvar,
}

#[derive(Debug)]
struct Inner<T> {
    items: Vec<T>,
    /// The consumer waits on `filled`.
    sleeping: bool,
    closed: bool,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { inner: Mutex::new(Inner { items: Vec::new(), sleeping: false, closed: false }), filled: Condvar::new() }
    }
}

impl<T> Queue<T> {
    /// An empty queue.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// Adds one item. Never waits for the consumer. An item pushed after `close` is dropped.
    pub fn push(&self, item: T) {
        let mut inner = self.lock();
        if inner.closed {
            return;
        }
        inner.items.push(item);
        self.wake(inner);
    }

    /// Adds items in order, under one lock.
    pub fn push_all(&self, items: impl IntoIterator<Item = T>) {
        let mut inner = self.lock();
        if inner.closed {
            return;
        }
        inner.items.extend(items);
        if !inner.items.is_empty() {
            self.wake(inner);
        }
    }

    /// No more items are taken in; the consumer gets what is left and then the end.
    pub fn close(&self) {
        let mut inner = self.lock();
        inner.closed = true;
        self.wake(inner);
    }

    /// Moves all items, in order, into `batch`, which must be empty; waits for the first one at most `timeout`
    /// (for ever if `None`). False when the queue is closed and empty: nothing will ever come.
    ///
    /// # Panics
    /// If `batch` is not empty: its items would be lost.
    pub fn take(&self, batch: &mut Vec<T>, timeout: Option<Duration>) -> bool {
        assert!(batch.is_empty(), "a batch must be used up before the next is taken");
        let mut inner = self.lock();
        if inner.items.is_empty() && !inner.closed && timeout != Some(Duration::ZERO) {
            inner.sleeping = true;
            inner = match timeout {
                None => self
                    .filled
                    .wait_while(inner, |inner| inner.items.is_empty() && !inner.closed)
                    .unwrap_or_else(PoisonError::into_inner),
                Some(length) => {
                    self.filled
                        .wait_timeout_while(inner, length, |inner| inner.items.is_empty() && !inner.closed)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
            };
            inner.sleeping = false;
        }
        std::mem::swap(&mut inner.items, batch);
        !(batch.is_empty() && inner.closed)
    }

    fn wake(&self, mut inner: MutexGuard<'_, Inner<T>>) {
        if std::mem::take(&mut inner.sleeping) {
            drop(inner);
            self.filled.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner<T>> {
        // A producer that panicked leaves whole items behind: pushing is one call.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bounds what enters a queue from outside: a producer waits for room, the consumer gives it back.
#[derive(Debug)]
pub struct Gate {
    room: Semaphore,
}

impl Gate {
    /// A gate for `count` items.
    #[must_use]
    pub fn new(count: usize) -> Arc<Self> {
        Arc::new(Self { room: Semaphore::new(count) })
    }

    /// Waits for room for one item. Cancel safe: a dropped wait takes none.
    pub async fn enter(&self) {
        // The semaphore is never closed, so waiting cannot fail.
        if let Ok(permit) = self.room.acquire().await {
            permit.forget();
        }
    }

    /// Takes room for one item if there is some.
    #[must_use]
    pub fn try_enter(&self) -> bool {
        self.room.try_acquire().map(tokio::sync::SemaphorePermit::forget).is_ok()
    }

    /// Gives back the room of `count` items.
    pub fn leave(&self, count: usize) {
        self.room.add_permits(count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_holds_all_that_waited_in_order() {
        let queue = Queue::new();
        queue.push(1);
        queue.push_all([2, 3]);
        let mut batch = Vec::new();
        assert!(queue.take(&mut batch, None));
        assert_eq!(batch, [1, 2, 3]);
    }

    #[test]
    fn a_wait_without_items_ends_in_time_and_is_not_the_end() {
        let queue = Queue::<u8>::new();
        let mut batch = Vec::new();
        assert!(queue.take(&mut batch, Some(Duration::from_millis(1))));
        assert!(batch.is_empty());
    }

    #[test]
    fn a_closed_queue_gives_what_is_left_and_then_ends() {
        let queue = Queue::new();
        queue.push(1);
        queue.close();
        queue.push(2);
        let mut batch = Vec::new();
        assert!(queue.take(&mut batch, None));
        assert_eq!(batch, [1]);
        batch.clear();
        assert!(!queue.take(&mut batch, None));
    }

    #[test]
    fn a_sleeping_consumer_is_woken_by_every_kind_of_push() {
        for close in [false, true] {
            let queue = Queue::new();
            let producer = Arc::clone(&queue);
            let thread = std::thread::spawn(move || {
                let mut batch = Vec::new();
                let more = queue.take(&mut batch, None);
                (more, batch)
            });
            if close {
                producer.close();
                assert_eq!(thread.join().unwrap(), (false, vec![]));
            } else {
                producer.push(7);
                assert_eq!(thread.join().unwrap(), (true, vec![7]));
            }
        }
    }

    #[test]
    fn a_gate_lets_in_no_more_than_its_count() {
        let gate = Gate::new(1);
        assert!(gate.try_enter());
        assert!(!gate.try_enter());
        gate.leave(1);
        assert!(gate.try_enter());
    }
}
