//! Whether the disk has room for data: told by whoever needs some, asked by whoever takes in writes.
//!
//! A full disk is no failed one. The log makes its segments long before they are written, so it knows in time: from then
//! on the hot refuses writes and answers reads, a warm node waits, and both go on by themselves when there is room.
//! Nothing that was acknowledged is touched. What a takeover needs is never given to data (R39).

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// What may find no room.
#[derive(Clone, Copy, Debug)]
pub enum Need {
    /// A log segment made ahead of need. Writes are refused, none is held up.
    Segment,
    /// An order to the log, and all that come after it.
    Order,
}

/// See the module.
#[derive(Debug, Default)]
pub struct DiskSpace {
    /// The folder whose disk it is; set once, at the start.
    folder: OnceLock<PathBuf>,
    short: AtomicBool,
    lacks: Mutex<[Option<String>; 2]>,
    /// What a full copy lacks: it waits alone.
    copy_lacks: Mutex<Option<String>>,
    /// Free bytes that do not count.
    hidden_bytes: AtomicU64,
}

impl DiskSpace {
    /// Says whose disk it is.
    pub fn set_folder(&self, folder: PathBuf) {
        // A node has one folder, so a second call would say the same.
        let _ = self.folder.set(folder);
    }

    /// Says whether something found room; `Some` says what it lacks.
    pub fn report(&self, need: Need, lack: Option<String>) {
        let mut lacks = self.lock();
        let before = lacks.iter().flatten().next().is_some();
        lacks[need as usize] = lack;
        let now = lacks.iter().flatten().next();
        self.short.store(now.is_some(), Ordering::Release);
        match (before, now) {
            (false, Some(why)) => {
                let folder = self.folder();
                tracing::error!(event = "disk_full", folder, why, "the disk is full: free space on it");
            }
            (true, None) => tracing::warn!(event = "disk_has_room", "the disk has room again: writes go on"),
            (false, None) | (true, Some(_)) => {}
        }
    }

    /// Says whether a full copy that is received finds room, or has failed; `Some` says it as an operator should know it.
    pub fn report_copy(&self, lack: Option<String>) {
        let mut copy_lacks = self.copy_lacks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(why) = lack.as_ref().filter(|_| copy_lacks.is_none()) {
            tracing::warn!(event = "full_sync_waits", why, "a full copy cannot go on");
        }
        *copy_lacks = lack;
    }

    /// What an operator should know of a full copy; `None` while nothing is in its way.
    #[must_use]
    pub fn copy_complaint(&self) -> Option<String> {
        self.copy_lacks.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Lets the disk seem to have so much less room, for tests of what a full one does.
    pub fn hide(&self, size_bytes: u64) {
        self.hidden_bytes.store(size_bytes, Ordering::Relaxed);
    }

    /// Whether data must not be taken in.
    #[must_use]
    pub fn is_short(&self) -> bool {
        self.short.load(Ordering::Acquire)
    }

    /// What an operator should know; `None` while there is room.
    #[must_use]
    pub fn complaint(&self) -> Option<String> {
        let why = self.lock().iter().rev().flatten().next().cloned()?;
        Some(format!("the disk of {:?} is full, so it takes no writes: free space on it ({why})", self.folder()))
    }

    /// Whether the disk has room for this many bytes. Where that cannot be told, trying tells.
    #[must_use]
    pub fn has_room_for(&self, size_bytes: u64) -> bool {
        let stat = self.folder.get().and_then(|folder| rustix::fs::statvfs(folder).ok());
        let hidden = self.hidden_bytes.load(Ordering::Relaxed);
        stat.is_none_or(|stat| stat.f_bavail.saturating_mul(stat.f_frsize).saturating_sub(hidden) >= size_bytes)
    }

    fn folder(&self) -> String {
        self.folder.get().map(|folder| folder.display().to_string()).unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, [Option<String>; 2]> {
        // A writer that panicked left whole texts behind.
        self.lacks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_short_until_nothing_lacks_room() {
        let space = DiskSpace::default();
        space.set_folder("/var/lib/hotwarm".into());
        assert!(!space.is_short() && space.complaint().is_none());
        space.report(Need::Segment, Some("one".to_owned()));
        space.report(Need::Order, Some("two".to_owned()));
        space.report(Need::Segment, None);
        let said = space.complaint().unwrap();
        assert!(space.is_short() && said.contains("/var/lib/hotwarm") && said.contains("two"), "{said}");
        space.report(Need::Order, None);
        assert!(!space.is_short() && space.complaint().is_none());
        assert!(space.has_room_for(u64::MAX), "nothing is known of a folder that does not exist");
    }
}
