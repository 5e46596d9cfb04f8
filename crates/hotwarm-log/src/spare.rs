//! Segments made ahead: files of full size, filled with zeros and synced, that wait to be named.
//!
//! Filling a segment takes tens of milliseconds, which no append should wait for. A thread of the node calls
//! [`LogAhead::prepare`] when [`LogAhead::is_wanted`] says so; retention gives files back, so that a log in balance
//! makes none. If there is none when one is needed, the append makes it: the right thing, only later.

use crate::segment::path_in;
use crate::{DiskError, LogError};
use hotwarm_disk::{Disk, OpenMode};
use std::io::ErrorKind;
use std::sync::{Arc, Mutex, MutexGuard};

/// Spares kept at most: one in use soon, one behind it. More would hide that space is gone.
const SPARES_MAX: usize = 2;

/// Room that a spare leaves to everything else on the disk, in segments: the tree must be able to take over what the log
/// holds, and people want to see why there is no room.
const SEGMENTS_LEFT_FREE: u64 = 2;

/// Makes segments ahead of need; may be used from any thread. Clones share the spares.
#[derive(Clone, Debug)]
pub struct LogAhead {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    disk: Arc<dyn Disk>,
    folder: String,
    size_bytes: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Paths of the spares, oldest first.
    ready: Vec<String>,
    /// Spares that are being made.
    making: usize,
    /// Names the next one.
    next: u64,
}

impl LogAhead {
    /// Takes stock of the spares that an earlier process left in `names`, and removes those that are not whole.
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        folder: &str,
        size_bytes: u64,
        names: &[String],
    ) -> Result<Self, DiskError> {
        let mut state = State::default();
        for name in names {
            let path = path_in(folder, name);
            match name.strip_prefix("spare-").map(|rest| rest.strip_suffix(".seg")) {
                None => continue,
                Some(number) => {
                    let number = number.and_then(|digits| digits.parse::<u64>().ok());
                    state.next = state.next.max(number.map_or(0, |number| number.saturating_add(1)));
                    if number.is_some() && state.ready.len() < SPARES_MAX && size_of(&*disk, &path)? == size_bytes {
                        state.ready.push(path);
                        continue;
                    }
                }
            }
            disk.remove(&path).map_err(DiskError::on("remove", &path))?;
        }
        let inner = Inner { disk, folder: folder.to_string(), size_bytes, state: Mutex::new(state) };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Whether another spare should be made.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        let state = self.lock();
        state.ready.len() + state.making < SPARES_MAX
    }

    /// Makes a spare if one is wanted, and says whether it did. Takes as long as writing and syncing a segment takes.
    ///
    /// # Errors
    /// `NoSpace` if there is no room for it and for others beside it, or what the disk says. The log itself is not
    /// touched, whatever happens, and goes on without.
    pub fn prepare(&self) -> Result<bool, LogError> {
        let number = {
            let mut state = self.lock();
            if state.ready.len() + state.making >= SPARES_MAX {
                return Ok(false);
            }
            state.making += 1;
            state.take_number()
        };
        let made = self.check_space(number).and_then(|()| self.make(number));
        let mut state = self.lock();
        state.making -= 1;
        state.ready.push(made?);
        Ok(true)
    }

    /// Takes a spare, or makes one.
    pub(crate) fn take(&self) -> Result<String, LogError> {
        let number = {
            let mut state = self.lock();
            if !state.ready.is_empty() {
                return Ok(state.ready.remove(0));
            }
            state.take_number()
        };
        self.make(number)
    }

    /// Looks before it writes: filling the disk to the brim first would harm others.
    fn check_space(&self, number: u64) -> Result<(), LogError> {
        let needed_bytes = self.inner.size_bytes * (1 + SEGMENTS_LEFT_FREE);
        match self.inner.disk.space() {
            Ok(space) if space.free_bytes < needed_bytes => Err(LogError::NoSpace {
                file: self.path(number, "seg"),
                needed_bytes,
                error: Arc::new(ErrorKind::StorageFull.into()),
            }),
            // Where it cannot be told, trying tells.
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Takes over a file that the log needs no more: as a spare, if one is wanted, else it is removed.
    pub(crate) fn recycle(&self, path: &str) -> Result<(), DiskError> {
        let disk = &self.inner.disk;
        let fits = size_of(&**disk, path)? == self.inner.size_bytes;
        let number = {
            let mut state = self.lock();
            let room = state.ready.len() + state.making < SPARES_MAX;
            (fits && room).then(|| state.take_number())
        };
        let Some(number) = number else { return disk.remove(path).map_err(DiskError::on("remove", path)) };
        let spare = self.path(number, "seg");
        disk.rename(path, &spare).map_err(DiskError::on("rename", path))?;
        self.lock().ready.push(spare);
        Ok(())
    }

    /// How many spares are ready.
    pub(crate) fn count(&self) -> usize {
        self.lock().ready.len()
    }

    /// Bytes in spares.
    pub(crate) fn size_bytes(&self) -> u64 {
        self.lock().ready.len() as u64 * self.inner.size_bytes
    }

    fn make(&self, number: u64) -> Result<String, LogError> {
        let draft = self.path(number, "tmp");
        let path = self.path(number, "seg");
        let made = self
            .fill(&draft)
            .and_then(|()| self.inner.disk.rename(&draft, &path).map_err(DiskError::on("rename", &draft)));
        if let Err(failure) = made {
            // What is left of it is removed by the next start, if not now.
            let _ = self.inner.disk.remove(&draft);
            let full = matches!(failure.error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded);
            let (file, needed_bytes) = (failure.path.clone(), self.inner.size_bytes);
            return Err(if full {
                LogError::NoSpace { file, needed_bytes, error: failure.error }
            } else {
                LogError::Disk(failure)
            });
        }
        Ok(path)
    }

    fn fill(&self, path: &str) -> Result<(), DiskError> {
        let file = self.inner.disk.open(path, OpenMode::New).map_err(DiskError::on("create", path))?;
        file.allocate_zeroed(self.inner.size_bytes).map_err(DiskError::on("fill with zeros", path))?;
        file.sync_data().map_err(DiskError::on("sync", path))
    }

    fn path(&self, number: u64, suffix: &str) -> String {
        path_in(&self.inner.folder, &format!("spare-{number}.{suffix}"))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().expect("nothing panics with the list of spares in hand")
    }
}

impl State {
    fn take_number(&mut self) -> u64 {
        let number = self.next;
        self.next += 1;
        number
    }
}

fn size_of(disk: &dyn Disk, path: &str) -> Result<u64, DiskError> {
    let file = disk.open(path, OpenMode::Existing).map_err(DiskError::on("open", path))?;
    file.size().map_err(DiskError::on("look at", path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hotwarm_disk::{Crash, Fault, FaultDisk, FaultError};

    fn ahead(disk: &FaultDisk) -> LogAhead {
        LogAhead::open(Arc::new(disk.clone()), "", 4096, &disk.list("").unwrap()).unwrap()
    }

    #[test]
    fn spares_are_made_up_to_their_bound_and_found_again() {
        let disk = FaultDisk::new(1);
        let first = ahead(&disk);
        assert!(first.is_wanted() && first.prepare().unwrap() && first.prepare().unwrap());
        assert!(!first.is_wanted() && !first.prepare().unwrap());
        disk.sync_dir("").unwrap();
        disk.put("spare-9.tmp", b"half");
        disk.put("spare-10.seg", b"of another size");
        disk.crash(Crash::Lost);
        let second = ahead(&disk);
        assert!(!second.is_wanted());
        assert_eq!(disk.list("").unwrap(), ["spare-0.seg", "spare-1.seg"]);
        assert_eq!(second.take().unwrap(), "spare-0.seg");
        assert_eq!(second.take().unwrap(), "spare-1.seg");
        assert_eq!(second.take().unwrap(), "spare-11.seg", "made when there is none");
    }

    #[test]
    fn a_full_disk_is_told_apart_and_leaves_nothing() {
        let disk = FaultDisk::new(1);
        let ahead = ahead(&disk);
        disk.set_capacity(3 * 4096 - 1);
        assert!(matches!(ahead.prepare(), Err(LogError::NoSpace { needed_bytes: 12_288, .. })), "it leaves some");
        disk.set_capacity(100);
        assert!(matches!(ahead.take(), Err(LogError::NoSpace { needed_bytes: 4096, .. })));
        assert_eq!(disk.list("").unwrap().len(), 0);
        disk.set_capacity(1 << 20);
        disk.fail(Fault::nth(4, FaultError::Io));
        let failed = ahead.prepare().unwrap_err();
        assert!(matches!(&failed, LogError::Disk(error) if error.action == "sync"), "{failed}");
        disk.fail(Fault::nth(3, FaultError::Io));
        assert!(matches!(ahead.take(), Err(LogError::Disk(_))));
        assert!(ahead.prepare().unwrap());
    }

    #[test]
    fn files_are_recycled_as_long_as_they_are_wanted() {
        let disk = FaultDisk::new(1);
        let ahead = ahead(&disk);
        for name in ["a", "b", "c"] {
            disk.put(name, &[1; 4096]);
            ahead.recycle(name).unwrap();
        }
        assert_eq!(disk.list("").unwrap(), ["spare-0.seg", "spare-1.seg"]);
        assert_eq!(ahead.size_bytes(), 8192);
    }
}
