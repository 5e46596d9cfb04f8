//! One small record that is replaced as a whole: two slots in one preallocated file, written in turn.
//!
//! A write goes to the slot that holds the older record and is synced; the newer one is not touched. Whatever a crash
//! does to a write, the record before it is whole. The file never grows, so a write is one write to the device (R36).
//!
//! What a slot looks like, and how an interrupted write is told from a damaged one: see `sector`.

mod sector;

use crate::DiskError;
use hotwarm_disk::{Disk, DiskFile, OpenMode, SECTOR_SIZE_BYTES, parent};
use hotwarm_types::{ClusterId, GroupId};
use sector::{Sector, fill, payload, pick};
use std::error::Error;
use std::fmt;
use std::sync::Arc;

/// The largest payload: a whole group state, twice over.
pub const SLOT_SIZE_BYTES_MAX: usize = 256 << 10;

const VERSION: u16 = 1;
const HEADER_SIZE_BYTES: usize = 48;
const PAYLOAD_SIZE_BYTES: usize = SECTOR_SIZE_BYTES - HEADER_SIZE_BYTES;
const BLANK: [u8; SECTOR_SIZE_BYTES] = [0; SECTOR_SIZE_BYTES];
const SECTORS_MIN: usize = 2;
const SECTORS_MAX: usize = SLOT_SIZE_BYTES_MAX.div_ceil(PAYLOAD_SIZE_BYTES);
/// Bytes from one slot to the next: whole pages, so that the two share none.
const STRIDE_BYTES: usize = (SECTORS_MAX * SECTOR_SIZE_BYTES).next_multiple_of(4096);

/// What a slot file is for; one kind is never taken for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotPurpose([u8; 4]);

impl SlotPurpose {
    /// The vote record of a node.
    pub const VOTE: Self = Self(*b"VOTE");
    /// The head of a log.
    pub const HEAD: Self = Self(*b"HEAD");
    /// The identity of a data folder.
    pub const FOLDER: Self = Self(*b"FOLD");
}

impl fmt::Display for SlotPurpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

/// Why a slot file could not be made, opened or written.
#[derive(Clone, Debug)]
pub enum SlotError {
    /// The file does not exist.
    Missing {
        /// The file.
        path: String,
    },
    /// The file exists.
    Exists {
        /// The file.
        path: String,
    },
    /// The newest record is damaged, or might be: falling back to the older one would take back what was promised.
    Corrupt {
        /// The file.
        path: String,
        /// What is wrong.
        why: &'static str,
    },
    /// The file serves another purpose.
    OtherPurpose {
        /// The file.
        path: String,
        /// What it is for.
        found: SlotPurpose,
    },
    /// The file belongs to another cluster or group.
    OtherGroup {
        /// The file.
        path: String,
        /// Its cluster.
        cluster: ClusterId,
        /// Its group.
        group: GroupId,
    },
    /// The file was written by a newer version of the program.
    NewerFormat {
        /// The file.
        path: String,
        /// Its format.
        version: u16,
    },
    /// The payload is too large; nothing was written.
    TooLarge {
        /// The file.
        path: String,
        /// Size of the payload.
        size_bytes: usize,
    },
    /// The disk failed. After a write, the record may be the one before or the new one, and the object is of no more
    /// use (INV-9).
    Disk(DiskError),
}

impl fmt::Display for SlotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { path } => write!(f, "file {path:?} is missing"),
            Self::Exists { path } => write!(f, "file {path:?} exists already"),
            Self::Corrupt { path, why } => write!(
                f,
                "file {path:?} is corrupt: {why}; replace this node (\"hotwarm node replace\"), so that it gets its data \
                 from a peer"
            ),
            Self::OtherPurpose { path, found } => write!(f, "file {path:?} is of another kind: {found}"),
            Self::OtherGroup { path, cluster, group } => {
                write!(f, "file {path:?} belongs to group {group} of cluster {cluster}")
            }
            Self::NewerFormat { path, version } => {
                write!(
                    f,
                    "file {path:?} has format {version}, this program knows {VERSION}; start the newer version again"
                )
            }
            Self::TooLarge { path, size_bytes } => {
                write!(
                    f,
                    "a record of {size_bytes} bytes does not fit into {path:?}, which holds {SLOT_SIZE_BYTES_MAX}"
                )
            }
            Self::Disk(error) => error.fmt(f),
        }
    }
}

impl Error for SlotError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Disk(error) => error.source(),
            Self::Missing { .. }
            | Self::Exists { .. }
            | Self::Corrupt { .. }
            | Self::OtherPurpose { .. }
            | Self::OtherGroup { .. }
            | Self::NewerFormat { .. }
            | Self::TooLarge { .. } => None,
        }
    }
}

impl From<DiskError> for SlotError {
    fn from(error: DiskError) -> Self {
        Self::Disk(error)
    }
}

/// One record on disk that is replaced as a whole.
#[derive(Debug)]
pub struct SlotFile {
    file: Arc<dyn DiskFile>,
    path: String,
    purpose: SlotPurpose,
    cluster: ClusterId,
    group: GroupId,
    /// Generation of the newest record.
    generation: u64,
    /// Which slot holds it: 0 or 1.
    newest: usize,
    /// Reused by each write.
    buffer: Vec<u8>,
    /// The first failure of a write; each later one returns it.
    failure: Option<SlotError>,
}

impl SlotFile {
    /// Makes the file with a first record, durable on return, its name included. A crash on the way leaves no file
    /// of this name.
    ///
    /// # Errors
    /// `Exists`, `TooLarge`, `Disk`.
    pub fn create(
        disk: &dyn Disk,
        path: &str,
        purpose: SlotPurpose,
        cluster: ClusterId,
        group: GroupId,
        payload: &[u8],
    ) -> Result<Self, SlotError> {
        Self::create_with(disk, path, purpose, cluster, group, |_| Ok(payload.to_vec()))
    }

    /// As `create`, with a payload that depends on the file.
    pub(crate) fn create_with(
        disk: &dyn Disk,
        path: &str,
        purpose: SlotPurpose,
        cluster: ClusterId,
        group: GroupId,
        payload: impl FnOnce(&dyn DiskFile) -> Result<Vec<u8>, SlotError>,
    ) -> Result<Self, SlotError> {
        if disk.exists(path).map_err(DiskError::on("look for", path))? {
            return Err(SlotError::Exists { path: path.to_string() });
        }
        let draft = format!("{path}.tmp");
        if disk.exists(&draft).map_err(DiskError::on("look for", &draft))? {
            disk.remove(&draft).map_err(DiskError::on("remove", &draft))?;
        }
        let file = disk.open(&draft, OpenMode::New).map_err(DiskError::on("create", &draft))?;
        file.allocate_zeroed(2 * STRIDE_BYTES as u64).map_err(DiskError::on("fill with zeros", &draft))?;
        let payload = payload(&*file)?;
        let mut slots = Self {
            file,
            path: path.to_string(),
            purpose,
            cluster,
            group,
            generation: 0,
            newest: 1,
            buffer: Vec::new(),
            failure: None,
        };
        slots.write(&payload)?;
        disk.rename(&draft, path).map_err(DiskError::on("rename", &draft))?;
        let folder = parent(path);
        disk.sync_dir(folder).map_err(DiskError::on("sync folder", folder))?;
        Ok(slots)
    }

    /// Opens the file and returns its newest record, which this process has written and synced again (R11).
    ///
    /// # Errors
    /// Anything but `Exists` and `TooLarge`. The file is as before.
    pub fn open(
        disk: &dyn Disk,
        path: &str,
        purpose: SlotPurpose,
        cluster: ClusterId,
        group: GroupId,
    ) -> Result<(Self, Vec<u8>), SlotError> {
        let (slots, payload) = Self::open_any(disk, path, purpose)?;
        if (slots.cluster, slots.group) != (cluster, group) {
            let (cluster, group) = (slots.cluster, slots.group);
            return Err(SlotError::OtherGroup { path: path.to_string(), cluster, group });
        }
        Ok((slots, payload))
    }

    /// As `open`, for any cluster and group: they are in the file.
    pub(crate) fn open_any(disk: &dyn Disk, path: &str, purpose: SlotPurpose) -> Result<(Self, Vec<u8>), SlotError> {
        let (opened, record, payload) = Self::load(disk, path, purpose)?;
        // The bytes may come from a page cache that no sync will ever bring to the device (R11). Written again in
        // place they will: a crash on the way leaves each sector as it is, or as the process before meant it.
        opened.store(opened.newest, &record)?;
        let folder = parent(path);
        disk.sync_dir(folder).map_err(DiskError::on("sync folder", folder))?;
        Ok((opened, payload))
    }

    /// Reads the newest record of a file that another process may be writing. Changes nothing; what it returns may not
    /// be durable.
    pub(crate) fn peek(disk: &dyn Disk, path: &str, purpose: SlotPurpose) -> Result<(Self, Vec<u8>), SlotError> {
        let (opened, _, payload) = Self::load(disk, path, purpose)?;
        Ok((opened, payload))
    }

    /// The file, the sectors of its newest record, and the record's payload.
    fn load(disk: &dyn Disk, path: &str, purpose: SlotPurpose) -> Result<(Self, Vec<u8>, Vec<u8>), SlotError> {
        if !disk.exists(path).map_err(DiskError::on("look for", path))? {
            return Err(SlotError::Missing { path: path.to_string() });
        }
        let corrupt = |why| SlotError::Corrupt { path: path.to_string(), why };
        let file = disk.open(path, OpenMode::Existing).map_err(DiskError::on("open", path))?;
        let mut bytes = vec![0; 2 * STRIDE_BYTES];
        let count = file.read_at(&mut bytes, 0).map_err(DiskError::on("read", path))?;
        if count < bytes.len() {
            return Err(corrupt("it is too short"));
        }
        let slots = [&bytes[..STRIDE_BYTES], &bytes[STRIDE_BYTES..]];
        let (newest, head) = pick(slots).map_err(corrupt)?;
        if head.version > VERSION {
            return Err(SlotError::NewerFormat { path: path.to_string(), version: head.version });
        }
        if head.purpose != purpose {
            return Err(SlotError::OtherPurpose { path: path.to_string(), found: head.purpose });
        }
        let payload = payload(slots[newest], &head).ok_or(corrupt("a record's size contradicts its sectors"))?;
        let record = slots[newest][..usize::from(head.count) * SECTOR_SIZE_BYTES].to_vec();
        let opened = Self {
            file,
            path: path.to_string(),
            purpose,
            cluster: head.cluster,
            group: head.group,
            generation: head.generation,
            newest,
            buffer: Vec::new(),
            failure: None,
        };
        Ok((opened, record, payload))
    }

    /// Replaces the record; durable on return.
    ///
    /// # Errors
    /// `TooLarge`, and nothing has changed; or `Disk`: then a later `open` finds the record before or this one, and
    /// each later write returns the same error.
    pub fn write(&mut self, payload: &[u8]) -> Result<(), SlotError> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        if payload.len() > SLOT_SIZE_BYTES_MAX {
            return Err(SlotError::TooLarge { path: self.path.clone(), size_bytes: payload.len() });
        }
        let target = 1 - self.newest;
        let generation = self.generation + 1;
        let mut buffer = std::mem::take(&mut self.buffer);
        fill(&mut buffer, &self.sector(generation), payload);
        let stored = self.store(target, &buffer);
        self.buffer = buffer;
        match stored {
            Ok(()) => {
                self.newest = target;
                self.generation = generation;
                Ok(())
            }
            Err(error) => {
                let failure = SlotError::Disk(error);
                self.failure = Some(failure.clone());
                Err(failure)
            }
        }
    }

    /// The cluster that the file belongs to.
    #[must_use]
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// The group that the file belongs to.
    #[must_use]
    pub fn group(&self) -> GroupId {
        self.group
    }

    /// The file's path on its disk.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The number of the file that a copy of it does not share.
    pub(crate) fn inode(&self) -> Result<u64, SlotError> {
        Ok(self.file.inode().map_err(DiskError::on("look at", &self.path))?)
    }

    /// What each sector of a record of this file says, but for its place and size.
    fn sector(&self, generation: u64) -> Sector {
        let Self { purpose, group, cluster, .. } = *self;
        Sector { purpose, version: VERSION, index: 0, count: 0, generation, size: 0, group, cluster }
    }

    fn store(&self, slot: usize, record: &[u8]) -> Result<(), DiskError> {
        let offset = (slot * STRIDE_BYTES) as u64;
        self.file.write_at(record, offset).map_err(DiskError::on("write", &self.path))?;
        self.file.sync_data().map_err(DiskError::on("sync", &self.path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checksum::{Checksum, put};
    use hotwarm_disk::{Crash, Fault, FaultDisk, FaultError};

    const CLUSTER: ClusterId = ClusterId(77);
    const GROUP: GroupId = GroupId(1);

    fn create(disk: &FaultDisk, payload: &[u8]) -> Result<SlotFile, SlotError> {
        SlotFile::create(disk, "vote", SlotPurpose::VOTE, CLUSTER, GROUP, payload)
    }

    fn open(disk: &FaultDisk) -> Result<(SlotFile, Vec<u8>), SlotError> {
        SlotFile::open(disk, "vote", SlotPurpose::VOTE, CLUSTER, GROUP)
    }

    #[test]
    fn records_of_all_sizes_come_back() {
        let disk = FaultDisk::new(1);
        drop(create(&disk, b"first").unwrap());
        for size in [0, 1, PAYLOAD_SIZE_BYTES, PAYLOAD_SIZE_BYTES + 1, 5_000, SLOT_SIZE_BYTES_MAX, 3] {
            let payload = vec![size as u8; size];
            let (mut slots, _) = open(&disk).unwrap();
            slots.write(&payload).unwrap();
            drop(slots);
            disk.crash(Crash::Lost);
            assert!(open(&disk).unwrap().1 == payload, "{size}");
        }
        let (mut slots, _) = open(&disk).unwrap();
        let refused = slots.write(&vec![0; SLOT_SIZE_BYTES_MAX + 1]);
        assert!(matches!(refused, Err(SlotError::TooLarge { .. })));
        slots.write(b"still usable").unwrap();
    }

    #[test]
    fn the_bytes_are_pinned() {
        let disk = FaultDisk::new(1);
        create(&disk, b"abc").unwrap();
        let bytes = disk.bytes("vote").unwrap();
        let mut expected = vec![0; 51];
        put(&mut expected, 0, &[0x90, 0x53, 0x05, 0x37]);
        put(&mut expected, 4, b"VOTE\x01\0\0\0\x02\0\0\0\x01");
        expected[24] = 3;
        expected[28] = 1;
        expected[32] = 77;
        put(&mut expected, 48, b"abc");
        assert_eq!(&bytes[..51], expected);
        assert_eq!(bytes.len(), 2 * STRIDE_BYTES);
    }

    #[test]
    fn another_identity_is_refused() {
        let disk = FaultDisk::new(1);
        create(&disk, b"x").unwrap();
        let other = SlotFile::open(&disk, "vote", SlotPurpose::VOTE, ClusterId(78), GROUP);
        assert!(matches!(other, Err(SlotError::OtherGroup { cluster: CLUSTER, group: GROUP, .. })));
        let other = SlotFile::open(&disk, "vote", SlotPurpose::HEAD, CLUSTER, GROUP);
        assert!(matches!(other, Err(SlotError::OtherPurpose { found: SlotPurpose::VOTE, .. })));
        assert!(matches!(create(&disk, b"y"), Err(SlotError::Exists { .. })));
        let missing = SlotFile::open(&disk, "none", SlotPurpose::VOTE, CLUSTER, GROUP);
        assert!(matches!(missing, Err(SlotError::Missing { .. })));
    }

    /// A write torn anywhere leaves the record before it, or is whole.
    #[test]
    fn a_torn_write_leaves_old_or_new() {
        let (mut old, mut new) = (0, 0);
        for seed in 0..200 {
            let disk = FaultDisk::new(seed);
            let mut slots = create(&disk, &[1; 600]).unwrap();
            for value in 2..2 + (seed % 3) as u8 {
                slots.write(&vec![value; 400 * usize::from(value)]).unwrap();
            }
            disk.fail(Fault::nth(2, FaultError::Io));
            let newest = 1 + (seed % 3) as u8;
            assert!(slots.write(&[9; 700]).is_err());
            disk.crash(Crash::Torn);
            let (_, payload) = open(&disk).unwrap();
            match payload[0] {
                9 => new += 1,
                value => {
                    assert_eq!(value, newest);
                    old += 1;
                }
            }
        }
        assert!(old > 50 && new > 20, "{old} old, {new} new");
    }

    #[test]
    fn every_failing_call_leaves_old_or_new_and_ends_the_object() {
        for nth in 1.. {
            let disk = FaultDisk::new(nth);
            let mut slots = create(&disk, b"old").unwrap();
            disk.fail(Fault::nth(nth, FaultError::Io));
            let written = slots.write(b"new");
            if let Err(first) = &written {
                let again = slots.write(b"newer").unwrap_err();
                assert_eq!(first.to_string(), again.to_string(), "INV-9: never trusted again");
            }
            let through = disk.faults_shown() == 0;
            disk.heal();
            disk.crash(Crash::Process);
            // The process that died may have failed a sync: what is read now must be durable, not only cached (R11).
            let (_, payload) = open(&disk).unwrap();
            assert!(written.is_err() || payload == b"new");
            disk.crash(Crash::Lost);
            assert_eq!(open(&disk).unwrap().1, payload);
            if through {
                break;
            }
        }
    }

    #[test]
    fn a_failing_creation_leaves_no_file_or_a_good_one() {
        for nth in 1.. {
            let disk = FaultDisk::new(nth);
            disk.fail(Fault::nth(nth, FaultError::NoSpace));
            let created = create(&disk, b"first").is_ok();
            let through = disk.faults_shown() == 0;
            disk.heal();
            disk.crash(Crash::Torn);
            match open(&disk) {
                Ok((_, payload)) => assert_eq!(payload, b"first"),
                Err(SlotError::Missing { .. }) => {
                    assert!(!created);
                    drop(create(&disk, b"second").unwrap());
                }
                Err(error) => panic!("{error}"),
            }
            if through {
                break;
            }
        }
    }

    /// Every single flipped bit is found or does not matter: the newest record comes back, or none.
    #[test]
    fn every_flipped_bit_is_found_or_harmless() {
        let (mut found, mut harmless) = (0u32, 0u32);
        for writes in 0..3u8 {
            let disk = FaultDisk::new(1);
            let mut slots = create(&disk, &[0; 500]).unwrap();
            for value in 1..=writes {
                slots.write(&[value; 500]).unwrap();
            }
            for slot in 0..2 {
                for bit in 0..4 * SECTOR_SIZE_BYTES * 8 {
                    // One bit in eight of the bulk, all of them in the headers, to save time.
                    if (bit / 8) % SECTOR_SIZE_BYTES >= HEADER_SIZE_BYTES && bit % 8 != bit / 8 % 8 {
                        continue;
                    }
                    let offset = (slot * STRIDE_BYTES + bit / 8) as u64;
                    disk.flip_bit("vote", offset, (bit % 8) as u8);
                    match open(&disk) {
                        Ok((_, payload)) => {
                            assert_eq!(payload, [writes; 500], "slot {slot} bit {bit}");
                            harmless += 1;
                        }
                        Err(SlotError::Corrupt { .. }) => found += 1,
                        Err(error) => panic!("{error}"),
                    }
                    disk.flip_bit("vote", offset, (bit % 8) as u8);
                }
            }
        }
        println!("slot file: {found} flipped bits found, {harmless} harmless");
        assert!(found > 1_000 && harmless > 1_000);
    }

    #[test]
    fn every_prefix_of_the_file_is_refused() {
        let disk = FaultDisk::new(1);
        create(&disk, b"x").unwrap();
        let bytes = disk.bytes("vote").unwrap();
        for length in (0..bytes.len()).step_by(997) {
            disk.put("vote", &bytes[..length]);
            assert!(matches!(open(&disk), Err(SlotError::Corrupt { .. })), "{length}");
        }
    }

    #[test]
    fn a_newer_format_is_named() {
        let disk = FaultDisk::new(1);
        create(&disk, b"x").unwrap();
        let mut bytes = disk.bytes("vote").unwrap();
        for sector in bytes[..2 * SECTOR_SIZE_BYTES].chunks_exact_mut(SECTOR_SIZE_BYTES) {
            sector[8] = 2;
            Checksum::new(ClusterId(0)).seal(sector);
        }
        disk.put("vote", &bytes);
        assert!(matches!(open(&disk), Err(SlotError::NewerFormat { version: 2, .. })));
    }
}
