//! Locks that are held for moves only.

use std::sync::{Mutex, MutexGuard};

/// Takes a lock.
///
/// # Panics
/// If another thread panicked while it held the lock: what the lock guards may be half changed, so the node must stop.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no thread panics while it holds a lock of the store")
}
