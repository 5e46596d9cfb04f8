//! A disk that is photographed before each call that changes it.
//!
//! A crash happens between two calls, or within one. What was done and not synced is in the picture before the next
//! call, as something that a power failure may take in part: so a picture before each call covers both.

use hotwarm_disk::{Disk, DiskFile, FaultDisk, OpenMode, Space};
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The disk as it was before a call.
#[derive(Clone, Debug)]
pub struct Picture {
    /// Which call it was, of those that change something: from 0.
    pub point: u64,
    /// The call, for people.
    pub call: String,
    /// The disk, with what was synced and what was not.
    pub disk: FaultDisk,
}

/// Which points are pictured.
pub type Wanted = Box<dyn Fn(u64) -> bool + Send + Sync>;

/// Counts calls and takes pictures. Clones share both.
#[derive(Clone)]
pub struct WatchedDisk {
    disk: FaultDisk,
    wanted: Arc<Wanted>,
    state: Arc<Mutex<Watch>>,
}

#[derive(Debug, Default)]
struct Watch {
    points: u64,
    pictures: Vec<Picture>,
}

impl fmt::Debug for WatchedDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WatchedDisk").field("points", &self.points()).finish_non_exhaustive()
    }
}

impl WatchedDisk {
    /// Watches a disk from now on.
    #[must_use]
    pub fn new(disk: FaultDisk, wanted: Wanted) -> Self {
        Self { disk, wanted: Arc::new(wanted), state: Arc::default() }
    }

    /// The disk itself.
    #[must_use]
    pub fn inner(&self) -> &FaultDisk {
        &self.disk
    }

    /// How many calls have changed something so far.
    #[must_use]
    pub fn points(&self) -> u64 {
        self.lock().points
    }

    /// The pictures since this was called last.
    #[must_use]
    pub fn take_pictures(&self) -> Vec<Picture> {
        std::mem::take(&mut self.lock().pictures)
    }

    fn before(&self, call: &str, path: &str) {
        let mut watch = self.lock();
        let point = watch.points;
        watch.points += 1;
        if (self.wanted)(point) {
            let call = format!("{call} {path:?}");
            watch.pictures.push(Picture { point, call, disk: self.disk.freeze(point) });
        }
    }

    fn lock(&self) -> MutexGuard<'_, Watch> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk for WatchedDisk {
    fn open(&self, path: &str, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        if mode == OpenMode::New {
            self.before("create", path);
        }
        let file = self.disk.open(path, mode)?;
        Ok(Arc::new(WatchedFile { disk: self.clone(), path: path.to_owned(), file }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.before("rename", from);
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.before("remove", path);
        self.disk.remove(path)
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        self.disk.list(folder)
    }

    fn create_dir(&self, path: &str) -> io::Result<()> {
        self.before("create folder", path);
        self.disk.create_dir(path)
    }

    fn sync_dir(&self, path: &str) -> io::Result<()> {
        self.before("sync folder", path);
        self.disk.sync_dir(path)
    }

    fn exists(&self, path: &str) -> io::Result<bool> {
        self.disk.exists(path)
    }

    fn space(&self) -> io::Result<Space> {
        self.disk.space()
    }
}

#[derive(Debug)]
struct WatchedFile {
    disk: WatchedDisk,
    path: String,
    file: Arc<dyn DiskFile>,
}

impl DiskFile for WatchedFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.disk.before("write", &self.path);
        self.file.write_at(bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.before("sync", &self.path);
        self.file.sync_data()
    }

    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }

    fn set_size(&self, size_bytes: u64) -> io::Result<()> {
        self.disk.before("set the size of", &self.path);
        self.file.set_size(size_bytes)
    }

    fn allocate_zeroed(&self, size_bytes: u64) -> io::Result<()> {
        self.disk.before("fill with zeros", &self.path);
        self.file.allocate_zeroed(size_bytes)
    }

    fn inode(&self) -> io::Result<u64> {
        self.file.inode()
    }

    fn modified_ms(&self) -> io::Result<u64> {
        self.file.modified_ms()
    }
}
