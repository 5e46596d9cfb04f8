//! A disk in memory that fails on purpose, for tests and the simulator.
//!
//! It keeps two states: what processes see (written) and what a power failure leaves (durable). [`FaultDisk::crash`]
//! brings the second about. Every fault is drawn from one seed, so that a run can be repeated exactly.
//!
//! | fault | how it shows |
//! | --- | --- |
//! | a call fails, once or from then on | EIO, or no space; planned by number, kind of call and path ([`Fault`]) |
//! | a write fails half way | a failing write leaves the sectors before a drawn one |
//! | unsynced writes are lost | `Crash::Lost`: all of them; `Crash::Torn`: each 512-byte sector by a coin |
//! | unsynced names are lost | `Crash::Lost`: all; `Crash::Torn`: all after a drawn one, as in a journal |
//! | the device reorders | `Crash::Last`: the last write and the last change of names alone are there |
//! | the file system reorders | `Crash::Names`, `Crash::Data`: changes of names without the data, data without the names |
//! | a sync fails and its data is dropped | the failing sync makes each sector durable by a coin and forgets the rest; the next one succeeds, and the process still reads what it wrote |
//! | a process is killed, the machine lives | `Crash::Process`: nothing is lost, nothing more is durable, handles die |
//! | a write lands elsewhere | [`FaultDisk::misdirect`] |
//! | bits rot | [`FaultDisk::flip_bit`] |
//! | a folder is copied | [`FaultDisk::copy`]: other inodes |
//! | the disk fills | [`FaultDisk::set_capacity`] |
//!
//! It does not model time: a slow disk is the simulator's to make. A sector is written whole or not at all.

mod file;
mod pages;
mod plan;

pub use pages::Page;
pub use plan::{Call, Fault, FaultError};

use crate::{Disk, DiskFile, OpenMode, Space, check_path, parent};
use file::{Content, Handle};
use pages::Pages;
use plan::Plan;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a device writes whole or not at all.
pub const SECTOR_SIZE_BYTES: usize = 512;

/// What a crash takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// The process only: all that was written is still seen, and still not durable.
    Process,
    /// The power: all that was not synced is gone.
    Lost,
    /// The power: of what was not synced, each sector is there or not, and of the changes of names a first part.
    Torn,
    /// The power, a moment after the device was through with all that was not synced.
    Kept,
    /// The power: of what was not synced, only the last write is there, whole, and only the last change of names.
    Last,
    /// The power: of what was not synced, all changes of names are there and no write.
    Names,
    /// The power: of what was not synced, all writes are there and no change of names.
    Data,
}

impl Crash {
    /// All that take the power, each another part of what was not synced.
    pub const OF_POWER: [Self; 6] = [Self::Lost, Self::Torn, Self::Kept, Self::Last, Self::Names, Self::Data];
}

/// A disk in memory. Clones share it.
#[derive(Clone, Debug)]
pub struct FaultDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
pub(crate) struct State {
    /// Counts crashes: handles of an earlier boot are dead.
    boot: u64,
    plan: Plan,
    random: Random,
    capacity_bytes: u64,
    /// What the machine's clock shows, in milliseconds.
    wall_ms: u64,
    contents: BTreeMap<u64, Content>,
    next_inode: u64,
    /// What processes see.
    names: BTreeMap<String, Entry>,
    /// What a power failure leaves.
    names_durable: BTreeMap<String, Entry>,
    /// What was changed in `names` and not synced, in order.
    changes: Vec<Change>,
    /// How many writes there were: names the next one.
    writes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entry {
    Folder,
    File(u64),
}

/// One atomic change of names: one goes, one comes, or both (a rename).
#[derive(Clone, Debug)]
struct Change {
    gone: Option<String>,
    come: Option<(String, Entry)>,
}

/// SplitMix64: a good mixer that fits in a line. Source: Steele, Lea, Flood 2014.
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn coin(&mut self) -> bool {
        self.next() & 1 == 1
    }

    /// A number below `bound`, which is not 0.
    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

impl FaultDisk {
    /// An empty disk of 1 TiB without faults.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            state: Arc::new(Mutex::new(State {
                boot: 0,
                plan: Plan::default(),
                random: Random(seed),
                capacity_bytes: 1 << 40,
                wall_ms: 0,
                contents: BTreeMap::new(),
                next_inode: 1,
                names: BTreeMap::from([(String::new(), Entry::Folder)]),
                names_durable: BTreeMap::from([(String::new(), Entry::Folder)]),
                changes: Vec::new(),
                writes: 0,
            })),
        }
    }

    /// Plans a fault.
    pub fn fail(&self, fault: Fault) {
        self.lock().plan.add(fault);
    }

    /// Forgets all planned faults.
    pub fn heal(&self) {
        self.lock().plan.clear();
    }

    /// How many calls were made since the disk was made, failed ones included.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.lock().plan.calls()
    }

    /// How many calls of one kind were made.
    #[must_use]
    pub fn calls_of(&self, call: Call) -> u64 {
        self.lock().plan.calls_of(call)
    }

    /// How many of the planned faults have shown.
    #[must_use]
    pub fn faults_shown(&self) -> u64 {
        self.lock().plan.shown()
    }

    /// From now on at most so many bytes of files fit.
    pub fn set_capacity(&self, capacity_bytes: u64) {
        self.lock().capacity_bytes = capacity_bytes;
    }

    /// What files that are written from now on are dated with, in milliseconds since the Unix epoch.
    pub fn set_wall_ms(&self, wall_ms: u64) {
        self.lock().wall_ms = wall_ms;
    }

    /// The next write to a path that contains `part` lands in another place of the same file, `by_bytes` away, and reports
    /// success.
    pub fn misdirect(&self, part: &str, by_bytes: u64) {
        self.lock().plan.misdirect(part, by_bytes);
    }

    /// From now on syncs do nothing and report success, or are done again: to show what that leads to.
    pub fn ignore_syncs(&self, ignored: bool) {
        self.lock().plan.ignores_syncs = ignored;
    }

    /// The process gets so many more changes done, whole; from then on no call of it does anything. What a kill in the
    /// middle of something leaves, until [`FaultDisk::crash`] ends that process.
    pub fn die_after(&self, changes: u64) {
        self.lock().plan.die_after(Some(changes));
    }

    /// Ends the process or the power. Handles opened before fail from now on. Planned faults stay planned.
    pub fn crash(&self, crash: Crash) {
        self.lock().crash(crash);
    }

    /// Turns one bit of a file over, in what is seen and in what is durable.
    ///
    /// # Panics
    /// If there is no such byte: the test is wrong.
    pub fn flip_bit(&self, path: &str, offset: u64, bit: u8) {
        let mut state = self.lock();
        let inode = state.inode(path).expect("flip a bit of a file that exists");
        state.content(inode).flip(offset, bit);
    }

    /// What a file holds, as processes see it.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn bytes(&self, path: &str) -> io::Result<Vec<u8>> {
        let mut state = self.lock();
        let inode = state.inode(path)?;
        Ok(state.content(inode).seen.to_vec())
    }

    /// All files, with their inodes, in the order of their paths.
    #[must_use]
    pub fn files(&self) -> Vec<(String, u64)> {
        let state = self.lock();
        let files = state.names.iter().filter_map(|(name, entry)| match entry {
            Entry::Folder => None,
            Entry::File(inode) => Some((name.clone(), *inode)),
        });
        files.collect()
    }

    /// All folders but the root, a folder before those in it.
    #[must_use]
    pub fn folders(&self) -> Vec<String> {
        let state = self.lock();
        let folders = state.names.iter().filter(|(name, entry)| **entry == Entry::Folder && !name.is_empty());
        folders.map(|(name, _)| name.clone()).collect()
    }

    /// The size of a file in bytes, and its pages that are not all zeros with their offsets, as processes see it.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn pages(&self, path: &str) -> io::Result<(u64, Vec<(u64, Page)>)> {
        let mut state = self.lock();
        let inode = state.inode(path)?;
        let seen = &state.content(inode).seen;
        Ok((seen.size() as u64, seen.written().collect()))
    }

    /// Takes an empty folder's name away, as rmdir does; durable after `sync_dir` of its parent. No part of [`Disk`]:
    /// for what was recorded of others.
    ///
    /// # Errors
    /// `NotFound`, `NotADirectory` or `DirectoryNotEmpty`.
    pub fn remove_dir(&self, path: &str) -> io::Result<()> {
        let mut state = self.lock();
        state.check_folder(path)?;
        if state.names.keys().any(|name| !name.is_empty() && parent(name) == path) {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        state.change(Change { gone: Some(path.to_string()), come: None });
        Ok(())
    }

    /// Replaces what a file holds, or makes it, durably: for tests that prepare a damaged folder.
    pub fn put(&self, path: &str, bytes: &[u8]) {
        let mut state = self.lock();
        let inode = state.inode(path).unwrap_or_else(|_| state.make_inode());
        *state.content(inode) = Content::durable(Pages::new(bytes));
        state.names.insert(path.to_string(), Entry::File(inode));
        state.names_durable.insert(path.to_string(), Entry::File(inode));
    }

    /// Another disk with the same names and bytes, all of them durable, under other inodes: what `cp -r` makes. It
    /// has no faults planned.
    #[must_use]
    pub fn copy(&self, seed: u64) -> Self {
        self.duplicate(seed, 1_000_000)
    }

    /// Another disk exactly like this one, inodes included, all of it durable: the same folder, for a test that goes
    /// on from one point in several ways. It has no faults planned.
    #[must_use]
    pub fn fork(&self, seed: u64) -> Self {
        self.duplicate(seed, 0)
    }

    /// Another disk exactly like this one, with what is durable and what is not: for a test that crashes at one point in
    /// several ways. It has no faults planned, and no handle of this one is a handle of it.
    #[must_use]
    pub fn freeze(&self, seed: u64) -> Self {
        let source = self.lock();
        // A file without a name lives on in handles only, and those stay behind.
        let come = source.changes.iter().filter_map(|change| change.come.as_ref().map(|(_, entry)| entry));
        let named = source.names.values().chain(source.names_durable.values()).chain(come);
        let contents = named.filter_map(|entry| match entry {
            Entry::Folder => None,
            Entry::File(inode) => Some((*inode, source.contents[inode].clone())),
        });
        let state = State {
            contents: contents.collect(),
            boot: source.boot,
            plan: Plan::default(),
            random: Random(seed),
            capacity_bytes: source.capacity_bytes,
            wall_ms: source.wall_ms,
            next_inode: source.next_inode,
            names: source.names.clone(),
            names_durable: source.names_durable.clone(),
            changes: source.changes.clone(),
            writes: source.writes,
        };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    fn duplicate(&self, seed: u64, inode_offset: u64) -> Self {
        let copy = Self::new(seed);
        let source = self.lock();
        let mut target = copy.lock();
        target.next_inode = source.next_inode + inode_offset;
        for (name, entry) in &source.names {
            let entry = match *entry {
                Entry::Folder => Entry::Folder,
                Entry::File(inode) => {
                    let content = Content::durable(source.contents[&inode].seen.clone());
                    target.contents.insert(inode + inode_offset, content);
                    Entry::File(inode + inode_offset)
                }
            };
            target.names.insert(name.clone(), entry);
        }
        target.names_durable = target.names.clone();
        drop(target);
        copy
    }

    /// A panic of a test while it held the lock leaves a state that is still whole.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Counts a call and lets it fail if that is planned.
    fn call(&mut self, call: Call, path: &str) -> io::Result<()> {
        if self.plan.is_dead(call) {
            return Err(dead());
        }
        self.plan.call(call, path).map_or(Ok(()), Err)
    }

    fn inode(&self, path: &str) -> io::Result<u64> {
        match self.names.get(path) {
            Some(Entry::File(inode)) => Ok(*inode),
            Some(Entry::Folder) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn make_inode(&mut self) -> u64 {
        let inode = self.next_inode;
        self.next_inode += 1;
        self.contents.insert(inode, Content::default());
        inode
    }

    fn content(&mut self, inode: u64) -> &mut Content {
        self.contents.get_mut(&inode).expect("an inode lives as long as the disk")
    }

    /// The number of the next write.
    fn number_write(&mut self) -> u64 {
        self.writes += 1;
        self.writes
    }

    fn used_bytes(&self) -> u64 {
        let files = self.names.values().filter_map(|entry| match entry {
            Entry::Folder => None,
            Entry::File(inode) => Some(self.contents[inode].seen.size() as u64),
        });
        files.sum()
    }

    /// Whether a file may grow by so many bytes.
    fn check_room(&self, more_bytes: u64) -> io::Result<()> {
        if more_bytes > 0 && self.used_bytes() + more_bytes > self.capacity_bytes {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    fn change(&mut self, change: Change) {
        apply(&mut self.names, &change);
        self.changes.push(change);
    }

    fn sync_dir(&mut self, folder: &str) {
        let (ours, others): (Vec<_>, Vec<_>) = std::mem::take(&mut self.changes).into_iter().partition(|change| {
            let gone = change.gone.iter();
            gone.chain(change.come.iter().map(|(name, _)| name)).any(|name| parent(name) == folder)
        });
        self.changes = others;
        for change in &ours {
            apply(&mut self.names_durable, change);
        }
    }

    fn crash(&mut self, crash: Crash) {
        self.boot += 1;
        self.plan.die_after(None);
        if crash == Crash::Process {
            return;
        }
        let Self { contents, random, writes, .. } = self;
        for content in contents.values_mut() {
            match crash {
                Crash::Lost | Crash::Names | Crash::Process => content.lose_unsynced(),
                Crash::Torn => content.tear(random),
                Crash::Kept | Crash::Data => content.keep_unsynced(),
                Crash::Last => content.keep_only(*writes),
            }
        }
        let changes = std::mem::take(&mut self.changes);
        let kept = match crash {
            Crash::Lost | Crash::Data | Crash::Process => 0..0,
            Crash::Torn => 0..self.random.below(changes.len() as u64 + 1) as usize,
            Crash::Kept | Crash::Names => 0..changes.len(),
            Crash::Last => changes.len().saturating_sub(1)..changes.len(),
        };
        for change in &changes[kept] {
            apply(&mut self.names_durable, change);
        }
        // A folder that was lost takes with it all that is below it; a folder comes before what is in it.
        let mut names: BTreeMap<String, Entry> = BTreeMap::new();
        for (name, entry) in std::mem::take(&mut self.names_durable) {
            if name.is_empty() || names.contains_key(parent(&name)) {
                names.insert(name, entry);
            }
        }
        self.names_durable = names;
        self.names = self.names_durable.clone();
    }
}

/// What a call of a process that is gone comes to: nobody is there to see it.
fn dead() -> io::Error {
    io::Error::other("the process that opened this file is gone")
}

fn apply(names: &mut BTreeMap<String, Entry>, change: &Change) {
    if let Some(gone) = &change.gone {
        names.remove(gone);
    }
    if let Some((name, entry)) = &change.come {
        names.insert(name.clone(), *entry);
    }
}

impl Disk for FaultDisk {
    fn open(&self, path: &str, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        check_path(path)?;
        let mut state = self.lock();
        state.call(Call::Open, path)?;
        let inode = match (mode, state.inode(path)) {
            (OpenMode::Existing, found) => found?,
            (OpenMode::New, Ok(_)) => return Err(io::ErrorKind::AlreadyExists.into()),
            (OpenMode::New, Err(error)) if error.kind() == io::ErrorKind::NotFound => {
                state.check_folder(parent(path))?;
                let inode = state.make_inode();
                state.change(Change { gone: None, come: Some((path.to_string(), Entry::File(inode))) });
                inode
            }
            (OpenMode::New, Err(error)) => return Err(error),
        };
        Ok(Arc::new(Handle { disk: self.clone(), boot: state.boot, inode, path: path.to_string() }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        check_path(from)?;
        check_path(to)?;
        let mut state = self.lock();
        state.call(Call::Rename, from)?;
        let inode = state.inode(from)?;
        state.check_folder(parent(to))?;
        if state.names.get(to) == Some(&Entry::Folder) {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        state.change(Change { gone: Some(from.to_string()), come: Some((to.to_string(), Entry::File(inode))) });
        Ok(())
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        check_path(path)?;
        let mut state = self.lock();
        state.call(Call::Remove, path)?;
        state.inode(path)?;
        state.change(Change { gone: Some(path.to_string()), come: None });
        Ok(())
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        check_path(folder)?;
        let mut state = self.lock();
        state.call(Call::List, folder)?;
        state.check_folder(folder)?;
        let inside = state.names.keys().filter(|name| !name.is_empty() && parent(name) == folder);
        Ok(inside.map(|name| name.rsplit('/').next().unwrap_or(name).to_string()).collect())
    }

    fn create_dir(&self, path: &str) -> io::Result<()> {
        check_path(path)?;
        let mut state = self.lock();
        state.call(Call::CreateDir, path)?;
        state.check_folder(parent(path))?;
        match state.names.get(path) {
            Some(Entry::Folder) => Ok(()),
            Some(Entry::File(_)) => Err(io::ErrorKind::AlreadyExists.into()),
            None => {
                state.change(Change { gone: None, come: Some((path.to_string(), Entry::Folder)) });
                Ok(())
            }
        }
    }

    fn sync_dir(&self, path: &str) -> io::Result<()> {
        check_path(path)?;
        let mut state = self.lock();
        state.call(Call::SyncDir, path)?;
        state.check_folder(path)?;
        if !state.plan.ignores_syncs {
            state.sync_dir(path);
        }
        Ok(())
    }

    fn exists(&self, path: &str) -> io::Result<bool> {
        check_path(path)?;
        let mut state = self.lock();
        state.call(Call::Exists, path)?;
        Ok(state.names.contains_key(path))
    }

    fn space(&self) -> io::Result<Space> {
        let mut state = self.lock();
        state.call(Call::Space, "")?;
        let total_bytes = state.capacity_bytes;
        Ok(Space { free_bytes: total_bytes.saturating_sub(state.used_bytes()), total_bytes })
    }
}

impl State {
    fn check_folder(&self, path: &str) -> io::Result<()> {
        match self.names.get(path) {
            Some(Entry::Folder) => Ok(()),
            Some(Entry::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }
}
