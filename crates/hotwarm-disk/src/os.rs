//! The disk of the machine: a folder, through the file system calls of the operating system.
//!
//! `read_at` and `write_at` are pread and pwrite, `sync_data` is fdatasync, `sync_dir` is fsync on the folder.
//! Nothing is mapped into memory: an error on a mapped page is a signal, not a result.

use crate::{Disk, DiskFile, OpenMode, Space, check_path};
use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

/// Zeros are written in pieces of this size: large enough for full speed, small enough for the stack of no thread to
/// matter, as it is static.
static ZEROS: [u8; 256 << 10] = [0; 256 << 10];

/// Zeros are on the disk in steps of this many bytes: a multiple of what is written at once.
const FILL_STEP_SIZE_BYTES: u64 = 1 << 20;

/// The files below one folder of this machine.
#[derive(Clone, Debug)]
pub struct OsDisk {
    root: PathBuf,
}

impl OsDisk {
    /// Files below `root`, which is made if its parent exists, and durably so.
    ///
    /// # Errors
    /// What the system says, or `NotADirectory`.
    pub fn new(root: impl Into<PathBuf>) -> io::Result<Self> {
        let root = root.into();
        match std::fs::create_dir(&root) {
            Ok(()) => {
                let parent = root.parent().filter(|parent| !parent.as_os_str().is_empty());
                File::open(parent.unwrap_or(Path::new(".")))?.sync_all()?;
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if !root.is_dir() {
                    return Err(io::ErrorKind::NotADirectory.into());
                }
            }
            Err(error) => return Err(error),
        }
        Ok(Self { root })
    }

    /// The folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn resolve(&self, path: &str) -> io::Result<PathBuf> {
        check_path(path)?;
        Ok(if path.is_empty() { self.root.clone() } else { self.root.join(path) })
    }
}

impl Disk for OsDisk {
    fn open(&self, path: &str, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let path = self.resolve(path)?;
        let file = OpenOptions::new().read(true).write(true).create_new(mode == OpenMode::New).open(path)?;
        Ok(Arc::new(OsFile { file }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.resolve(from)?, self.resolve(to)?)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        std::fs::remove_file(self.resolve(path)?)
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(self.resolve(folder)?)? {
            let name = entry?.file_name().into_string();
            names.push(name.map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "a file name is not UTF-8"))?);
        }
        names.sort_unstable();
        Ok(names)
    }

    fn create_dir(&self, path: &str) -> io::Result<()> {
        let path = self.resolve(path)?;
        match std::fs::create_dir(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
            other => other,
        }
    }

    fn sync_dir(&self, path: &str) -> io::Result<()> {
        File::open(self.resolve(path)?)?.sync_all()
    }

    fn exists(&self, path: &str) -> io::Result<bool> {
        self.resolve(path)?.try_exists()
    }

    fn space(&self) -> io::Result<Space> {
        let stat = rustix::fs::statvfs(&self.root)?;
        Ok(Space {
            free_bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
            total_bytes: stat.f_blocks.saturating_mul(stat.f_frsize),
        })
    }
}

#[derive(Debug)]
struct OsFile {
    file: File,
}

impl DiskFile for OsFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.file.read_at(&mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn set_size(&self, size_bytes: u64) -> io::Result<()> {
        self.file.set_len(size_bytes)
    }

    fn allocate_zeroed(&self, size_bytes: u64) -> io::Result<()> {
        let mut offset = self.size()?;
        if offset >= size_bytes {
            return Ok(());
        }
        // Reserving first finds a full disk before anything is written, and keeps the file in one piece. Not every
        // file system can; the zeros that follow need none of it.
        match rustix::fs::fallocate(&self.file, FallocateFlags::KEEP_SIZE, offset, size_bytes - offset) {
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {}
            Err(errno) => return Err(errno.into()),
        }
        while offset < size_bytes {
            let count = (size_bytes - offset).min(ZEROS.len() as u64);
            self.write_at(&ZEROS[..count as usize], offset)?;
            offset += count;
            if offset.is_multiple_of(FILL_STEP_SIZE_BYTES) {
                // Else what others sync meanwhile would wait for all of it, and so would the end of a killed process.
                self.sync_data()?;
            }
        }
        Ok(())
    }

    fn inode(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.ino())
    }

    fn modified_ms(&self) -> io::Result<u64> {
        let since = self.file.metadata()?.modified()?.duration_since(SystemTime::UNIX_EPOCH);
        Ok(since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX)))
    }
}
