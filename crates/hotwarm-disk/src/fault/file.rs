//! A file of a [`FaultDisk`]: what is seen, what is durable, and how they part.

use super::{Call, FaultDisk, Random, SECTOR_SIZE_BYTES, State};
use crate::DiskFile;
use std::collections::BTreeSet;
use std::io;
use std::sync::MutexGuard;

/// The two states of a file's bytes.
#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    /// What processes read.
    pub(super) seen: Vec<u8>,
    /// What a power failure leaves.
    durable: Vec<u8>,
    /// Sectors in which the two may differ and that the next sync makes durable.
    dirty: BTreeSet<usize>,
    /// When it was written last.
    modified_ms: u64,
}

impl Content {
    pub(super) fn durable(bytes: &[u8]) -> Self {
        Self { seen: bytes.to_vec(), durable: bytes.to_vec(), ..Self::default() }
    }

    pub(super) fn flip(&mut self, offset: u64, bit: u8) {
        let offset = offset as usize;
        self.seen[offset] ^= 1 << bit;
        if let Some(byte) = self.durable.get_mut(offset) {
            *byte ^= 1 << bit;
        }
    }

    fn write(&mut self, bytes: &[u8], offset: usize) {
        if bytes.is_empty() {
            return;
        }
        let end = offset + bytes.len();
        let grown_from = self.seen.len().min(offset);
        if self.seen.len() < end {
            self.seen.resize(end, 0);
        }
        self.seen[offset..end].copy_from_slice(bytes);
        self.dirty.extend(grown_from / SECTOR_SIZE_BYTES..end.div_ceil(SECTOR_SIZE_BYTES));
    }

    fn set_size(&mut self, size: usize) {
        let from = self.seen.len().min(size);
        self.seen.resize(size, 0);
        self.dirty.extend(from / SECTOR_SIZE_BYTES..size.div_ceil(SECTOR_SIZE_BYTES));
    }

    fn sync(&mut self) {
        self.durable.resize(self.seen.len(), 0);
        for sector in std::mem::take(&mut self.dirty) {
            self.persist(sector);
        }
    }

    /// Copies one sector to the durable state, as far as both have it.
    fn persist(&mut self, sector: usize) {
        let start = sector * SECTOR_SIZE_BYTES;
        let end = (start + SECTOR_SIZE_BYTES).min(self.seen.len()).min(self.durable.len());
        if start < end {
            self.durable[start..end].copy_from_slice(&self.seen[start..end]);
        }
    }

    /// A sync that failed: some sectors made it, and nobody knows any more which did not.
    fn sync_failing(&mut self, random: &mut Random) {
        if random.coin() {
            self.durable.resize(self.seen.len(), 0);
        }
        for sector in std::mem::take(&mut self.dirty) {
            if random.coin() {
                self.persist(sector);
            }
        }
    }

    pub(super) fn lose_unsynced(&mut self) {
        self.dirty.clear();
        self.seen = self.durable.clone();
    }

    pub(super) fn tear(&mut self, random: &mut Random) {
        self.sync_failing(random);
        self.lose_unsynced();
    }
}

/// An open file.
#[derive(Debug)]
pub(super) struct Handle {
    pub(super) disk: FaultDisk,
    pub(super) boot: u64,
    pub(super) inode: u64,
    pub(super) path: String,
}

impl Handle {
    /// The disk, if the process that opened this file still lives; and whether the call fails by plan.
    fn call(&self, call: Call) -> io::Result<(MutexGuard<'_, State>, Option<io::Error>)> {
        let mut state = self.disk.lock();
        if state.boot != self.boot || state.plan.is_dead(call) {
            return Err(super::dead());
        }
        let failure = state.plan.call(call, &self.path);
        Ok((state, failure))
    }

    /// As `call`, for calls that do nothing when they fail.
    fn call_plain(&self, call: Call) -> io::Result<MutexGuard<'_, State>> {
        match self.call(call)? {
            (state, None) => Ok(state),
            (_, Some(error)) => Err(error),
        }
    }
}

impl DiskFile for Handle {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.call_plain(Call::ReadAt)?;
        let seen = &state.content(self.inode).seen;
        let start = (offset as usize).min(seen.len());
        let count = buffer.len().min(seen.len() - start);
        buffer[..count].copy_from_slice(&seen[start..start + count]);
        Ok(count)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let (mut state, failure) = self.call(Call::WriteAt)?;
        let offset = offset as usize;
        let grows = (offset + bytes.len()).saturating_sub(state.content(self.inode).seen.len());
        let failure = failure.or_else(|| state.check_room(grows as u64).err());
        if let Some(error) = failure {
            let sectors = bytes.len().div_ceil(SECTOR_SIZE_BYTES) as u64;
            let kept = (state.random.below(sectors + 1) as usize * SECTOR_SIZE_BYTES).min(bytes.len());
            if grows == 0 {
                state.content(self.inode).write(&bytes[..kept], offset);
            }
            return Err(error);
        }
        let wall_ms = state.wall_ms;
        let content = state.content(self.inode);
        content.write(bytes, offset);
        content.modified_ms = wall_ms;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let (mut state, failure) = self.call(Call::SyncData)?;
        let State { contents, random, .. } = &mut *state;
        let content = contents.get_mut(&self.inode).expect("an inode lives as long as the disk");
        if let Some(error) = failure {
            content.sync_failing(random);
            return Err(error);
        }
        content.sync();
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.call_plain(Call::Size)?.content(self.inode).seen.len() as u64)
    }

    fn set_size(&self, size_bytes: u64) -> io::Result<()> {
        let mut state = self.call_plain(Call::SetSize)?;
        state.content(self.inode).set_size(size_bytes as usize);
        Ok(())
    }

    fn allocate_zeroed(&self, size_bytes: u64) -> io::Result<()> {
        let mut state = self.call_plain(Call::AllocateZeroed)?;
        let grows = size_bytes.saturating_sub(state.content(self.inode).seen.len() as u64);
        state.check_room(grows)?;
        if grows > 0 {
            state.content(self.inode).set_size(size_bytes as usize);
        }
        Ok(())
    }

    fn inode(&self) -> io::Result<u64> {
        self.call_plain(Call::Inode).map(|_alive| self.inode)
    }

    fn modified_ms(&self) -> io::Result<u64> {
        Ok(self.call_plain(Call::ModifiedMs)?.content(self.inode).modified_ms)
    }
}
