//! A lock that one process holds on one folder, so that two never use the same data.
//!
//! The lock is flock(2) on a file in the folder: the system releases it when the process dies, however it dies, so
//! no stale lock is ever left behind. The file holds the holder's process id, for the message only. It does not guard
//! against a process on another machine that mounts the same folder.

use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

const NAME: &str = "lock";

/// The lock on a folder; released when dropped or when the process ends.
#[derive(Debug)]
pub struct FolderLock {
    path: PathBuf,
    _file: File,
}

/// Why a folder could not be locked.
#[derive(Debug)]
pub enum LockError {
    /// Another process uses the folder.
    Held {
        /// The folder.
        folder: PathBuf,
        /// The other's process id, if it wrote one.
        holder: Option<u32>,
    },
    /// The lock file could not be opened, locked or written.
    Io {
        /// The lock file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

impl FolderLock {
    /// Locks `folder`, which must exist. Never waits.
    ///
    /// # Errors
    /// `Held` if another process has it, `Io` for anything else; then the folder is not locked.
    pub fn acquire(folder: &Path) -> Result<Self, LockError> {
        let path = folder.join(NAME);
        let failed = |error| LockError::Io { path: path.clone(), error };
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(LockError::Held { folder: folder.to_path_buf(), holder: read_holder(&mut file) });
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        let written =
            file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
        written.map_err(failed)?;
        Ok(Self { path, _file: file })
    }

    /// The lock file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn read_holder(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

impl fmt::Display for LockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held { folder, holder: Some(holder) } => {
                write!(
                    f,
                    "folder {folder:?} is in use by process {holder}; stop it, or give this node a folder of its own"
                )
            }
            Self::Held { folder, holder: None } => {
                write!(
                    f,
                    "folder {folder:?} is in use by another process; stop it, or give this node a folder of its own"
                )
            }
            Self::Io { path, .. } => write!(f, "lock {path:?}"),
        }
    }
}

impl std::error::Error for LockError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Held { .. } => None,
            Self::Io { error, .. } => Some(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_locked_once_and_free_again_after_the_holder() {
        let folder = tempfile::tempdir().unwrap();
        let lock = FolderLock::acquire(folder.path()).unwrap();
        let refused = FolderLock::acquire(folder.path()).unwrap_err();
        assert!(
            matches!(&refused, LockError::Held { holder: Some(pid), .. } if *pid == std::process::id()),
            "{refused}"
        );
        drop(lock);
        FolderLock::acquire(folder.path()).unwrap();
    }

    #[test]
    fn a_missing_folder_is_an_error_with_its_cause() {
        let folder = tempfile::tempdir().unwrap();
        let error = FolderLock::acquire(&folder.path().join("none")).unwrap_err();
        assert!(std::error::Error::source(&error).is_some(), "{error}");
    }
}
