//! A file read through a window: few large reads instead of many small ones.

use crate::DiskError;
use hotwarm_disk::DiskFile;

/// Bytes read at once, at least.
const WINDOW_SIZE_BYTES: usize = 256 << 10;

/// The part of a file that was read last.
#[derive(Debug)]
pub(crate) struct Window<'a> {
    file: &'a dyn DiskFile,
    path: &'a str,
    /// Nothing at or past this offset is read.
    limit: u64,
    start: u64,
    buffer: Vec<u8>,
}

impl<'a> Window<'a> {
    pub(crate) fn new(file: &'a dyn DiskFile, path: &'a str, limit: u64) -> Self {
        Self { file, path, limit, start: 0, buffer: Vec::new() }
    }

    /// The `size` bytes at `offset`, or fewer at the limit or the file's end.
    pub(crate) fn get(&mut self, offset: u64, size: usize) -> Result<&[u8], DiskError> {
        let wanted = (size as u64).min(self.limit.saturating_sub(offset)) as usize;
        if wanted == 0 {
            return Ok(&[]);
        }
        let end = self.start + self.buffer.len() as u64;
        if offset < self.start || offset + wanted as u64 > end {
            let room = self.limit.saturating_sub(offset).min(WINDOW_SIZE_BYTES.max(wanted) as u64);
            self.buffer.resize(room as usize, 0);
            self.start = offset;
            let read = self.file.read_at(&mut self.buffer, offset);
            let count = *read.as_ref().unwrap_or(&0);
            self.buffer.truncate(count);
            read.map_err(DiskError::on("read", self.path))?;
        }
        let from = (offset - self.start) as usize;
        Ok(&self.buffer[from..(from + wanted).min(self.buffer.len())])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hotwarm_disk::{Call, Disk, FaultDisk, OpenMode};

    #[test]
    fn reads_in_large_pieces_up_to_the_limit() {
        let disk = FaultDisk::new(1);
        let bytes: Vec<u8> = (0..600_000u32).map(|n| (n % 251) as u8).collect();
        disk.put("a", &bytes);
        let file = disk.open("a", OpenMode::Existing).unwrap();
        let mut window = Window::new(&*file, "a", 500_000);
        for offset in (0..510_000).step_by(1_000) {
            let expected = &bytes[offset.min(500_000)..(offset + 1_500).min(500_000)];
            assert_eq!(window.get(offset as u64, 1_500).unwrap(), expected, "{offset}");
        }
        assert!(disk.calls_of(Call::ReadAt) < 8);
    }
}
