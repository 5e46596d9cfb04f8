//! A disk in memory that is cheap to make, for one input each: no faults, no lost writes, and zeros at the end of a
//! file take no room. `hotwarm_disk::FaultDisk` is the one that fails on purpose.

use hotwarm_disk::{Disk, DiskFile, OpenMode, Space, parent};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A file: its bytes up to the last that was written, and its size, which may be larger.
#[derive(Clone, Debug, Default)]
pub(crate) struct Content {
    pub(crate) bytes: Vec<u8>,
    pub(crate) size_bytes: u64,
}

#[derive(Debug)]
struct Handle {
    content: Mutex<Content>,
    inode: u64,
}

/// See the module. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct MemoryDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    files: BTreeMap<String, Arc<Handle>>,
    folders: BTreeSet<String>,
    inodes: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl MemoryDisk {
    /// Another disk that holds the same, inodes included.
    pub(crate) fn fork(&self) -> Self {
        let state = lock(&self.state);
        let copy = |handle: &Arc<Handle>| {
            let content = Mutex::new(lock(&handle.content).clone());
            Arc::new(Handle { content, inode: handle.inode })
        };
        let files = state.files.iter().map(|(name, handle)| (name.clone(), copy(handle))).collect();
        let state = State { files, folders: state.folders.clone(), inodes: state.inodes };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// The names of all files.
    pub(crate) fn names(&self) -> Vec<String> {
        lock(&self.state).files.keys().cloned().collect()
    }

    /// Changes a file as no program would.
    ///
    /// # Panics
    /// There is no such file.
    pub(crate) fn edit<T>(&self, name: &str, change: impl FnOnce(&mut Content) -> T) -> T {
        let handle = lock(&self.state).files.get(name).cloned().expect("only files that exist are edited");
        let mut content = lock(&handle.content);
        change(&mut content)
    }

    /// Makes a file that holds these bytes, in the place of one of that name.
    pub(crate) fn put(&self, name: &str, bytes: &[u8]) {
        let mut state = lock(&self.state);
        let content = Content { bytes: bytes.to_vec(), size_bytes: bytes.len() as u64 };
        state.insert(name, content);
    }
}

impl State {
    fn insert(&mut self, name: &str, content: Content) -> Arc<Handle> {
        self.inodes += 1;
        let handle = Arc::new(Handle { content: Mutex::new(content), inode: self.inodes });
        self.files.insert(name.to_owned(), handle.clone());
        handle
    }

    fn has(&self, name: &str) -> bool {
        name.is_empty() || self.files.contains_key(name) || self.folders.contains(name)
    }
}

impl Content {
    /// Overwrites bytes, as far as the file reaches.
    pub(crate) fn overwrite(&mut self, offset: usize, bytes: &[u8]) {
        let end = (offset + bytes.len()).min(self.size_bytes as usize);
        if offset < end {
            self.bytes.resize(self.bytes.len().max(end), 0);
            self.bytes[offset..end].copy_from_slice(&bytes[..end - offset]);
        }
    }

    /// The bytes of a range, zeros past those that were written.
    pub(crate) fn range(&self, offset: usize, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        let from = offset.min(self.bytes.len());
        let until = (offset + count).min(self.bytes.len());
        bytes[..until - from].copy_from_slice(&self.bytes[from..until]);
        bytes
    }
}

impl Disk for MemoryDisk {
    fn open(&self, path: &str, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = lock(&self.state);
        match (mode, state.files.get(path)) {
            (OpenMode::Existing, Some(handle)) => Ok(handle.clone()),
            (OpenMode::Existing, None) => Err(io::ErrorKind::NotFound.into()),
            (OpenMode::New, Some(_)) => Err(io::ErrorKind::AlreadyExists.into()),
            (OpenMode::New, None) => Ok(state.insert(path, Content::default())),
        }
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = lock(&self.state);
        let handle = state.files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        state.files.insert(to.to_owned(), handle);
        Ok(())
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        lock(&self.state).files.remove(path).map(drop).ok_or(io::ErrorKind::NotFound.into())
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        let state = lock(&self.state);
        let within = |name: &&String| parent(name) == folder && !name.is_empty();
        let last = |name: &String| name.rsplit('/').next().unwrap_or_default().to_owned();
        let mut names: Vec<String> = state.files.keys().chain(&state.folders).filter(within).map(last).collect();
        names.sort();
        Ok(names)
    }

    fn create_dir(&self, path: &str) -> io::Result<()> {
        lock(&self.state).folders.insert(path.to_owned());
        Ok(())
    }

    fn sync_dir(&self, _path: &str) -> io::Result<()> {
        Ok(())
    }

    fn exists(&self, path: &str) -> io::Result<bool> {
        Ok(lock(&self.state).has(path))
    }

    fn space(&self) -> io::Result<Space> {
        Ok(Space { free_bytes: 1 << 40, total_bytes: 1 << 41 })
    }
}

impl DiskFile for Handle {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let content = lock(&self.content);
        let count = buffer.len().min(content.size_bytes.saturating_sub(offset) as usize);
        let from = (offset as usize).min(content.bytes.len());
        let until = (offset as usize + count).min(content.bytes.len());
        buffer[..until - from].copy_from_slice(&content.bytes[from..until]);
        buffer[until - from..count].fill(0);
        Ok(count)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut content = lock(&self.content);
        content.size_bytes = content.size_bytes.max(offset + bytes.len() as u64);
        if offset as usize >= content.bytes.len() && bytes.iter().all(|byte| *byte == 0) {
            return Ok(());
        }
        content.overwrite(offset as usize, bytes);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        Ok(lock(&self.content).size_bytes)
    }

    fn set_size(&self, size_bytes: u64) -> io::Result<()> {
        let mut content = lock(&self.content);
        content.bytes.truncate(size_bytes as usize);
        content.size_bytes = size_bytes;
        Ok(())
    }

    fn allocate_zeroed(&self, size_bytes: u64) -> io::Result<()> {
        let mut content = lock(&self.content);
        content.size_bytes = content.size_bytes.max(size_bytes);
        Ok(())
    }

    fn inode(&self) -> io::Result<u64> {
        Ok(self.inode)
    }

    fn modified_ms(&self) -> io::Result<u64> {
        Ok(0)
    }
}
