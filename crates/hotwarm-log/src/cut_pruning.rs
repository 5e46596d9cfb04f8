//! How long the side files of cuts are kept: the newest few, and none is removed within a week.

use crate::cut::FOLDER;
use crate::segment::path_in;
use crate::{DiskError, Log};
use hotwarm_disk::OpenMode;
use std::cmp::Reverse;

/// The newest side files that are kept, however old.
pub const CUT_FILES_KEPT: usize = 16;

/// Bytes of side files that are kept, the newest first.
pub const CUT_SIZE_BYTES_KEPT: u64 = 1 << 30;

/// A younger side file is kept in any case, in milliseconds: a week, in which somebody may have asked what it holds.
pub const CUT_AGE_MS_MIN: u64 = 7 * 24 * 3_600_000;

impl Log {
    /// Removes side files past the newest [`CUT_FILES_KEPT`] and [`CUT_SIZE_BYTES_KEPT`] that are older than
    /// [`CUT_AGE_MS_MIN`] at `now_ms`, in milliseconds since the Unix epoch. Says which, by their paths.
    ///
    /// # Errors
    /// What the disk says; some may be gone then. The log itself is not touched, whatever happens.
    pub fn prune_cuts(&self, now_ms: u64) -> Result<Vec<String>, DiskError> {
        let folder = path_in(&self.folder, FOLDER);
        if !self.disk.exists(&folder).map_err(DiskError::on("look for", &folder))? {
            return Ok(Vec::new());
        }
        let names = self.disk.list(&folder).map_err(DiskError::on("list", &folder))?;
        let mut files = Vec::new();
        for path in names.iter().filter(|name| name.ends_with(".cut")).map(|name| path_in(&folder, name)) {
            let file = self.disk.open(&path, OpenMode::Existing).map_err(DiskError::on("open", &path))?;
            let modified_ms = file.modified_ms().map_err(DiskError::on("look at", &path))?;
            let size_bytes = file.size().map_err(DiskError::on("look at", &path))?;
            files.push((Reverse(modified_ms), path, size_bytes));
        }
        files.sort_unstable();
        let (mut removed, mut kept_bytes) = (Vec::new(), 0_u64);
        for (index, (Reverse(modified_ms), path, size_bytes)) in files.into_iter().enumerate() {
            kept_bytes = kept_bytes.saturating_add(size_bytes);
            let surplus = index >= CUT_FILES_KEPT || kept_bytes > CUT_SIZE_BYTES_KEPT;
            if surplus && now_ms.saturating_sub(modified_ms) > CUT_AGE_MS_MIN {
                self.disk.remove(&path).map_err(DiskError::on("remove", &path))?;
                removed.push(path);
            }
        }
        if !removed.is_empty() {
            self.disk.sync_dir(&folder).map_err(DiskError::on("sync folder", &folder))?;
        }
        Ok(removed)
    }
}
