//! How long the side files of cuts are kept: the newest few for good, some more within a bound of bytes, and none is removed
//! within a week.

use crate::cut::FOLDER;
use crate::segment::path_in;
use crate::{DiskError, Log};
use hotwarm_disk::OpenMode;
use std::cmp::Reverse;

/// The newest side files, which are kept however old and however large: after a forced promotion one may be the last copy
/// of what was lost, and an age is no better than the clock that it is told by.
pub const CUT_FILES_KEPT_MIN: usize = 4;

/// The newest side files that are kept, however old, as far as [`CUT_SIZE_BYTES_KEPT`] allows.
pub const CUT_FILES_KEPT: usize = 16;

/// Bytes of side files that are kept past the newest [`CUT_FILES_KEPT_MIN`], those included.
pub const CUT_SIZE_BYTES_KEPT: u64 = 1 << 30;

/// A younger side file is kept in any case, in milliseconds: a week, in which somebody may have asked what it holds.
pub const CUT_AGE_MS_MIN: u64 = 7 * 24 * 3_600_000;

/// A side file; the newest is the least.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct CutFile {
    modified_ms: Reverse<u64>,
    path: String,
    size_bytes: u64,
}

/// Which of all side files are past what is kept, and old enough at `now_ms`. One from the future of the clock is young.
fn surplus(mut files: Vec<CutFile>, now_ms: u64) -> Vec<CutFile> {
    files.sort_unstable();
    let (mut index, mut size_bytes) = (0, 0_u64);
    files.retain(|file| {
        index += 1;
        size_bytes = size_bytes.saturating_add(file.size_bytes);
        let too_much = index > CUT_FILES_KEPT || size_bytes > CUT_SIZE_BYTES_KEPT;
        index > CUT_FILES_KEPT_MIN && too_much && now_ms.saturating_sub(file.modified_ms.0) > CUT_AGE_MS_MIN
    });
    files
}

impl Log {
    /// Removes side files past the newest [`CUT_FILES_KEPT`] or [`CUT_SIZE_BYTES_KEPT`] that are older than
    /// [`CUT_AGE_MS_MIN`] at `now_ms`, in milliseconds since the Unix epoch; never one of the newest
    /// [`CUT_FILES_KEPT_MIN`]. Says which, by their paths.
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
            files.push(CutFile { modified_ms: Reverse(modified_ms), path, size_bytes });
        }
        let mut removed = Vec::new();
        for CutFile { path, .. } in surplus(files, now_ms) {
            self.disk.remove(&path).map_err(DiskError::on("remove", &path))?;
            removed.push(path);
        }
        if !removed.is_empty() {
            self.disk.sync_dir(&folder).map_err(DiskError::on("sync folder", &folder))?;
        }
        Ok(removed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: u64 = 24 * 3_600_000;

    /// Side files of one a day, the first on day 1, with sizes in MiB; which are removed, by day.
    fn removed(sizes_mib: &[u64], now_ms: u64) -> Vec<u64> {
        let file = |(index, size): (usize, &u64)| CutFile {
            modified_ms: Reverse((index as u64 + 1) * DAY_MS),
            path: format!("log/cut/{index}.cut"),
            size_bytes: size << 20,
        };
        surplus(sizes_mib.iter().enumerate().map(file).collect(), now_ms)
            .iter()
            .map(|file| file.modified_ms.0 / DAY_MS)
            .collect()
    }

    #[test]
    fn the_newest_side_files_stay_however_large_and_whatever_the_clock_says() {
        for now_ms in [0, 9 * DAY_MS, 400 * DAY_MS, u64::MAX] {
            assert_eq!(removed(&[5_000], now_ms), [0; 0], "the only one");
            assert_eq!(removed(&[2_000; CUT_FILES_KEPT_MIN], now_ms), [0; 0]);
        }
    }

    #[test]
    fn past_the_newest_the_bound_of_bytes_removes_what_is_old_enough() {
        let sizes_mib = [1, 1, 300, 1, 200, 200, 200, 400];
        assert_eq!(removed(&sizes_mib, 400 * DAY_MS), [3, 2, 1], "the fourth newest fits with the three before it");
        assert_eq!(removed(&sizes_mib, 9 * DAY_MS), [1], "the others are not a week old");
        assert_eq!(removed(&[1; CUT_FILES_KEPT + 2], u64::MAX), [2, 1]);
    }
}
