//! A file of a [`FaultDisk`]: what is seen, what is durable, and how they part.

use super::pages::Pages;
use super::{Call, FaultDisk, Random, SECTOR_SIZE_BYTES, State};
use crate::DiskFile;
use std::collections::BTreeMap;
use std::io;
use std::sync::MutexGuard;

/// The two states of a file's bytes.
#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    /// What processes read.
    pub(super) seen: Pages,
    /// What a power failure leaves.
    durable: Pages,
    /// Sectors in which the two may differ and that the next sync makes durable, each with the number of the write that
    /// changed it last.
    dirty: BTreeMap<usize, u64>,
    /// When it was written last.
    modified_ms: u64,
}

impl Content {
    pub(super) fn durable(bytes: Pages) -> Self {
        Self { seen: bytes.clone(), durable: bytes, ..Self::default() }
    }

    pub(super) fn flip(&mut self, offset: u64, bit: u8) {
        let offset = offset as usize;
        let mut byte = [0];
        assert_eq!(self.seen.read(&mut byte, offset), 1, "the file has no byte {offset}");
        self.seen.write(&[byte[0] ^ 1 << bit], offset);
        if self.durable.read(&mut byte, offset) == 1 {
            self.durable.write(&[byte[0] ^ 1 << bit], offset);
        }
    }

    fn write(&mut self, bytes: &[u8], offset: usize, number: u64) {
        if bytes.is_empty() {
            return;
        }
        let grown_from = self.seen.size().min(offset);
        self.seen.write(bytes, offset);
        self.touch(grown_from, offset + bytes.len(), number);
    }

    fn set_size(&mut self, size: usize, number: u64) {
        let from = self.seen.size().min(size);
        self.seen.resize(size);
        self.touch(from, size, number);
    }

    fn touch(&mut self, from: usize, until: usize, number: u64) {
        let sectors = from / SECTOR_SIZE_BYTES..until.div_ceil(SECTOR_SIZE_BYTES);
        self.dirty.extend(sectors.map(|sector| (sector, number)));
    }

    fn sync(&mut self) {
        self.persist(|_| true);
    }

    /// Makes the size durable, and the sectors that `is_kept` picks by the number of their last write; forgets the
    /// others.
    fn persist(&mut self, mut is_kept: impl FnMut(u64) -> bool) {
        self.durable.resize(self.seen.size());
        self.persist_within(&mut is_kept);
    }

    /// As `persist`, as far as the durable size goes.
    fn persist_within(&mut self, is_kept: &mut dyn FnMut(u64) -> bool) {
        for (sector, number) in std::mem::take(&mut self.dirty) {
            let start = sector * SECTOR_SIZE_BYTES;
            let end = (start + SECTOR_SIZE_BYTES).min(self.seen.size()).min(self.durable.size());
            if is_kept(number) && start < end {
                let mut bytes = [0; SECTOR_SIZE_BYTES];
                let count = self.seen.read(&mut bytes[..end - start], start);
                self.durable.write(&bytes[..count], start);
            }
        }
    }

    /// A sync that failed: some sectors made it, and nobody knows any more which did not.
    fn sync_failing(&mut self, random: &mut Random) {
        if random.coin() {
            self.durable.resize(self.seen.size());
        }
        self.persist_within(&mut |_| random.coin());
    }

    pub(super) fn lose_unsynced(&mut self) {
        self.dirty.clear();
        self.seen = self.durable.clone();
    }

    pub(super) fn keep_unsynced(&mut self) {
        self.sync();
    }

    /// Of what was not synced only the write of that number is there.
    pub(super) fn keep_only(&mut self, write: u64) {
        if self.dirty.values().any(|number| *number == write) {
            self.persist(|number| number == write);
        }
        self.lose_unsynced();
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
        Ok(seen.read(buffer, offset as usize))
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let (mut state, failure) = self.call(Call::WriteAt)?;
        let offset = offset as usize;
        let grows = (offset + bytes.len()).saturating_sub(state.content(self.inode).seen.size());
        let failure = failure.or_else(|| state.check_room(grows as u64).err());
        if let Some(error) = failure {
            let sectors = bytes.len().div_ceil(SECTOR_SIZE_BYTES) as u64;
            let kept = (state.random.below(sectors + 1) as usize * SECTOR_SIZE_BYTES).min(bytes.len());
            if grows == 0 {
                let number = state.number_write();
                state.content(self.inode).write(&bytes[..kept], offset, number);
            }
            return Err(error);
        }
        let (wall_ms, number) = (state.wall_ms, state.number_write());
        let size_bytes = state.content(self.inode).seen.size();
        let offset = state.plan.landing(&self.path, offset, size_bytes);
        let content = state.content(self.inode);
        content.write(bytes, offset, number);
        content.modified_ms = wall_ms;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let (mut state, failure) = self.call(Call::SyncData)?;
        let ignored = state.plan.ignores_syncs;
        let State { contents, random, .. } = &mut *state;
        let content = contents.get_mut(&self.inode).expect("an inode lives as long as the disk");
        if let Some(error) = failure {
            content.sync_failing(random);
            return Err(error);
        }
        if !ignored {
            content.sync();
        }
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.call_plain(Call::Size)?.content(self.inode).seen.size() as u64)
    }

    fn set_size(&self, size_bytes: u64) -> io::Result<()> {
        let mut state = self.call_plain(Call::SetSize)?;
        let number = state.number_write();
        state.content(self.inode).set_size(size_bytes as usize, number);
        Ok(())
    }

    fn allocate_zeroed(&self, size_bytes: u64) -> io::Result<()> {
        let mut state = self.call_plain(Call::AllocateZeroed)?;
        let grows = size_bytes.saturating_sub(state.content(self.inode).seen.size() as u64);
        state.check_room(grows)?;
        if grows > 0 {
            let number = state.number_write();
            state.content(self.inode).set_size(size_bytes as usize, number);
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
