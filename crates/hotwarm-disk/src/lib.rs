//! The small disk trait that durable parts stand on, the real disk, and a disk that fails on purpose.
//!
//! [`Disk`] is all that the log, the slots and the store's own files may ask of a file system: positioned reads and
//! writes, two kinds of sync, and changes of names. [`OsDisk`] carries that out on a folder of the machine.
//! [`FaultDisk`] keeps it in memory and shows, on demand, every fault that a disk may show.
//!
//! Nothing here retries, caches or decides: a failed sync is reported once and is the caller's to act on (INV-9).
//! What a call promises is written at the trait; both disks are held to it by the same tests.

mod fault;
mod lock;
mod os;
mod probe;

pub use fault::{Call, Crash, Fault, FaultDisk, FaultError, Page, SECTOR_SIZE_BYTES};
pub use lock::{FolderLock, LockError};
pub use os::OsDisk;
pub use probe::filesystem;

use std::fmt;
use std::io;
use std::sync::Arc;

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// It must exist.
    Existing,
    /// It must not exist; it is made, empty. The name is durable after [`Disk::sync_dir`] of its folder.
    New,
}

/// Room on the file system that holds a disk's root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Bytes that this process may still write.
    pub free_bytes: u64,
    /// Size of the whole file system.
    pub total_bytes: u64,
}

/// A folder of files. Paths are relative to the root, their parts joined by `/`, none of them empty, `.` or `..`; the
/// root itself is `""`. Anything else is refused as `InvalidInput`.
pub trait Disk: Send + Sync + fmt::Debug {
    /// Opens or makes a file for positioned reading and writing.
    ///
    /// # Errors
    /// `NotFound` or `AlreadyExists` by the mode, or what the system says.
    fn open(&self, path: &str, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>>;

    /// Gives a file another name, atomically, replacing a file that had it. Durable after `sync_dir` of the folder
    /// (of both folders, if they differ).
    ///
    /// # Errors
    /// What the system says; then nothing has changed.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Takes a file's name away. Durable after `sync_dir` of its folder. Open handles stay usable.
    ///
    /// # Errors
    /// `NotFound`, or what the system says.
    fn remove(&self, path: &str) -> io::Result<()>;

    /// The names of all files and folders directly in a folder, in byte order.
    ///
    /// # Errors
    /// `NotFound`, or what the system says.
    fn list(&self, folder: &str) -> io::Result<Vec<String>>;

    /// Makes a folder in an existing one; one that exists is left as it is. Durable after `sync_dir` of the parent.
    ///
    /// # Errors
    /// What the system says.
    fn create_dir(&self, path: &str) -> io::Result<()>;

    /// Makes every change of names in the folder durable.
    ///
    /// # Errors
    /// What the system says; then it is not known which of the changes are durable, and asking again proves nothing.
    fn sync_dir(&self, path: &str) -> io::Result<()>;

    /// Whether a file or folder of that name exists.
    ///
    /// # Errors
    /// What the system says, other than that it does not.
    fn exists(&self, path: &str) -> io::Result<bool>;

    /// Room left.
    ///
    /// # Errors
    /// What the system says.
    fn space(&self) -> io::Result<Space>;
}

/// An open file. All methods may be called from several threads at once; overlapping writes then land in any order.
pub trait DiskFile: Send + Sync + fmt::Debug {
    /// Reads from `offset` on until the buffer is full or the file ends; returns how many bytes were read.
    ///
    /// # Errors
    /// What the system says.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all of `bytes` at `offset`, growing the file if need be. Not durable before `sync_data`.
    ///
    /// # Errors
    /// What the system says; then any part of `bytes` may have been written.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Makes all that was written durable, and the file's size.
    ///
    /// # Errors
    /// What the system says. Then any part may be durable, and a later `sync_data` that succeeds proves nothing about
    /// what was written before: the system has forgotten that it was not (INV-9).
    fn sync_data(&self) -> io::Result<()>;

    /// The size in bytes.
    ///
    /// # Errors
    /// What the system says.
    fn size(&self) -> io::Result<u64>;

    /// Cuts the file, or extends it by a hole that reads as zeros. Durable after `sync_data`.
    ///
    /// # Errors
    /// What the system says.
    fn set_size(&self, size_bytes: u64) -> io::Result<()>;

    /// Extends the file to `size_bytes` by zeros that are really written, so that later writes within it change no
    /// metadata and a sync of them is one write to the device (R38). A file that is as large already is left as it
    /// is. Durable after `sync_data`.
    ///
    /// # Errors
    /// `StorageFull` before anything else where the system can tell, or what it says.
    fn allocate_zeroed(&self, size_bytes: u64) -> io::Result<()>;

    /// A number that this file keeps under every name and across restarts, and that a copy of it does not have.
    ///
    /// # Errors
    /// What the system says.
    fn inode(&self) -> io::Result<u64>;

    /// When the file was last written, in milliseconds since the Unix epoch by the machine's wall clock: for
    /// housekeeping, not for decisions that must be right.
    ///
    /// # Errors
    /// What the system says.
    fn modified_ms(&self) -> io::Result<u64>;
}

/// Reads exactly `buffer.len()` bytes at `offset`.
///
/// # Errors
/// `UnexpectedEof` if the file is shorter, or what the system says.
pub fn read_exact_at(file: &dyn DiskFile, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    if file.read_at(buffer, offset)? == buffer.len() { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// The folder that a path lies in; the root, `""`, for a path of one part.
#[must_use]
pub fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// Refuses a path that could leave the root or name one file twice.
fn check_path(path: &str) -> io::Result<()> {
    let fine = path.is_empty() || path.split('/').all(|part| !matches!(part, "" | "." | ".."));
    if fine && !path.contains('\0') {
        Ok(())
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, format!("path {path:?} is not below the root")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_below_the_root() {
        for fine in ["", "a", "a/b", "..a", "a.b/c"] {
            assert!(check_path(fine).is_ok(), "{fine}");
        }
        for bad in ["/", "/a", "a/", "a//b", ".", "..", "a/../b", "a/.", "a\0"] {
            assert!(check_path(bad).is_err(), "{bad}");
        }
        assert_eq!(parent("a/b/c"), "a/b");
        assert_eq!(parent("a"), "");
    }
}
