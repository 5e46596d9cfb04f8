//! Whose data folder it is: one small record that every start reads first and writes once.
//!
//! A [`SlotFile`] named `folder.hotwarm`. It keeps a node from taking the folder of another cluster or node for its
//! own, counts the starts (R1), and says whether the data is whole (R31) and the last stop was clean (R13).
//!
//! A folder that was copied, or restored from a backup, must not vote or acknowledge under the old identity (R4, R5).
//! Peers find that out by what they remember; here it is found out before a peer is asked: the record holds the
//! number (inode) of the very file that it is in, and a copy has another. Where a file system gives no lasting
//! numbers, or a folder was moved, the node is refused and has to be replaced; only `recover`, which makes a new
//! cluster of one folder and is asked for by an operator, may take a copy (`FolderExpected::copy_allowed`).
//!
//! Payload, little-endian:
//!
//! | offset | size | field |
//! | --- | --- | --- |
//! | 0 | 1 | state: 1 complete, 2 incomplete |
//! | 1 | 1 | 1 after a clean stop, else 0 |
//! | 2 | 1 | length of the name |
//! | 3 | 5 | zero |
//! | 8 | 16 | folder id |
//! | 24 | 8 | starts so far |
//! | 32 | 8 | nonce of the last start |
//! | 40 | 8 | inode of this file |
//! | 48 | n | name, UTF-8 |

use crate::checksum::{u64_at, u128_at};
use crate::slot::{SlotError, SlotFile, SlotPurpose};
use hotwarm_disk::Disk;
use hotwarm_types::limits::NAME_SIZE_BYTES_MAX;
use hotwarm_types::{ClusterId, FolderId, GroupId, Incarnation};
use std::error::Error;
use std::fmt;

const PATH: &str = "folder.hotwarm";
const FIXED_SIZE_BYTES: usize = 48;
const STATE_COMPLETE: u8 = 1;
const STATE_INCOMPLETE: u8 = 2;

/// Whether the folder holds a whole state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FolderState {
    /// Log and store belong together and hold all that was acknowledged.
    Complete,
    /// A full sync is replacing them: nothing in the folder counts until it is through (R31).
    Incomplete,
}

/// Who a folder belongs to; fixed when it is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FolderIdentity {
    /// The cluster.
    pub cluster: ClusterId,
    /// The group.
    pub group: GroupId,
    /// The node's name: 1 to 63 bytes.
    pub name: String,
    /// The folder itself. A member is (name, folder id) (R4).
    pub folder: FolderId,
}

/// What a start expects of the folder that it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FolderExpected {
    /// The cluster, if it is known from elsewhere.
    pub cluster: Option<ClusterId>,
    /// The group.
    pub group: GroupId,
    /// The node's name.
    pub name: String,
    /// The operator says that a folder which looks copied was moved, and is the only one.
    pub copy_allowed: bool,
}

/// What a start found; the new start is durable already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// This start.
    pub incarnation: Incarnation,
    /// Whether the process before stopped cleanly: then all it acknowledged is in the folder, whatever the setting
    /// for durability (R13). True for a folder that was never started.
    pub was_clean: bool,
}

/// The record of a data folder.
#[derive(Debug)]
pub struct Folder {
    slots: SlotFile,
    identity: FolderIdentity,
    incarnation: Incarnation,
    state: FolderState,
    inode: u64,
}

/// Why a folder was not made, taken, or marked. It is as before, except after `Slot` with a failure of the disk.
#[derive(Clone, Debug)]
pub enum FolderError {
    /// There is no record: an empty folder, or not a data folder at all.
    Missing,
    /// There is a record: the folder belongs to somebody.
    Exists,
    /// The name is empty or too long.
    Name {
        /// The name.
        name: String,
    },
    /// It belongs to another cluster or group.
    OtherGroup {
        /// Whose it is.
        found: Box<FolderIdentity>,
        /// What was expected.
        expected: Box<FolderExpected>,
    },
    /// It belongs to another node.
    OtherNode {
        /// Whose it is.
        found: Box<FolderIdentity>,
        /// The name that was expected.
        name: String,
    },
    /// It is a copy of the folder that it claims to be.
    Copied {
        /// Whose it claims to be.
        found: Box<FolderIdentity>,
    },
    /// The record could not be read or written.
    Slot(SlotError),
}

impl fmt::Display for FolderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => write!(
                f,
                "the folder holds no {PATH:?}: it is not a data folder, or was emptied; make one with \"hotwarm init\", or \
                 let this node join with \"hotwarm node replace\""
            ),
            Self::Exists => write!(f, "the folder holds a {PATH:?} already: give this node an empty folder"),
            Self::Name { name } => {
                write!(f, "node name {name:?} must have 1 to {NAME_SIZE_BYTES_MAX} bytes")
            }
            Self::OtherGroup { found, expected } => {
                write!(
                    f,
                    "the folder belongs to node {:?}, group {} of cluster {}",
                    found.name, found.group, found.cluster
                )?;
                write!(f, ", not to group {}", expected.group)?;
                if let Some(cluster) = expected.cluster {
                    write!(f, " of cluster {cluster}")?;
                }
                write!(f, "; set data_dir to this node's own folder")
            }
            Self::OtherNode { found, name } => write!(
                f,
                "the folder belongs to node {:?}, not to {name:?}; set data_dir to this node's own folder, or start it \
                 as {:?}",
                found.name, found.name
            ),
            Self::Copied { found } => write!(
                f,
                "the folder is a copy of folder {} of node {:?}: a copy may be older than what that node has promised; \
                 bring the original back, or empty this one and let the node join with \"hotwarm node replace\"",
                found.folder, found.name
            ),
            Self::Slot(error) => error.fmt(f),
        }
    }
}

impl Error for FolderError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Slot(error) => error.source(),
            Self::Missing
            | Self::Exists
            | Self::Name { .. }
            | Self::OtherGroup { .. }
            | Self::OtherNode { .. }
            | Self::Copied { .. } => None,
        }
    }
}

impl From<SlotError> for FolderError {
    fn from(error: SlotError) -> Self {
        match error {
            SlotError::Missing { .. } => Self::Missing,
            SlotError::Exists { .. } => Self::Exists,
            other => Self::Slot(other),
        }
    }
}

impl Folder {
    /// Makes a folder of the disk's root: complete, never started. Durable on return.
    ///
    /// # Errors
    /// `Exists`, `Name` or `Slot`.
    pub fn create(disk: &dyn Disk, identity: FolderIdentity, state: FolderState) -> Result<(), FolderError> {
        if !(1..=NAME_SIZE_BYTES_MAX).contains(&identity.name.len()) {
            return Err(FolderError::Name { name: identity.name });
        }
        let (cluster, group) = (identity.cluster, identity.group);
        SlotFile::create_with(disk, PATH, SlotPurpose::FOLDER, cluster, group, |file| {
            let inode = file.inode().map_err(crate::DiskError::on("look at", PATH))?;
            Ok(Record { identity, incarnation: Incarnation::default(), state, clean: true, inode }.encode())
        })?;
        Ok(())
    }

    /// Whose folder it is, without taking it; `None` if there is no record. Changes nothing, and may be asked while
    /// a node runs on the folder.
    ///
    /// # Errors
    /// `Slot`.
    pub fn look(disk: &dyn Disk) -> Result<Option<FolderIdentity>, FolderError> {
        match SlotFile::peek(disk, PATH, SlotPurpose::FOLDER) {
            Ok((slots, payload)) => Ok(Some(Record::of(&slots, &payload)?.identity)),
            Err(SlotError::Missing { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes the folder for a new start of the process, counted durably on return. The caller holds the folder's
    /// lock, and has drawn `nonce` at random.
    ///
    /// # Errors
    /// `Missing`, `OtherGroup`, `OtherNode`, `Copied` or `Slot`; the start is not counted, or may be after a failure of
    /// the disk.
    pub fn open(disk: &dyn Disk, expected: &FolderExpected, nonce: u64) -> Result<(Self, Opened), FolderError> {
        let (slots, found) = Self::read(disk)?;
        let identity = found.identity;
        let other_cluster = expected.cluster.is_some_and(|cluster| cluster != identity.cluster);
        if other_cluster || expected.group != identity.group {
            return Err(FolderError::OtherGroup { found: Box::new(identity), expected: Box::new(expected.clone()) });
        }
        if expected.name != identity.name {
            return Err(FolderError::OtherNode { found: Box::new(identity), name: expected.name.clone() });
        }
        let inode = slots.inode()?;
        if inode != found.inode && !expected.copy_allowed {
            return Err(FolderError::Copied { found: Box::new(identity) });
        }
        let start = found.incarnation.start.checked_add(1).expect("starts are exhausted after 2^64 of them");
        let incarnation = Incarnation { start, nonce };
        let mut folder = Self { slots, identity, incarnation, state: found.state, inode };
        folder.write(false)?;
        Ok((folder, Opened { incarnation, was_clean: found.clean }))
    }

    /// Notes durably that the data is being replaced: until `mark_complete`, nothing in the folder counts (R31).
    ///
    /// # Errors
    /// `Slot`.
    pub fn mark_incomplete(&mut self) -> Result<(), FolderError> {
        self.state = FolderState::Incomplete;
        self.write(false)
    }

    /// Notes durably that the data is whole.
    ///
    /// # Errors
    /// `Slot`.
    pub fn mark_complete(&mut self) -> Result<(), FolderError> {
        self.state = FolderState::Complete;
        self.write(false)
    }

    /// Notes durably that everything acknowledged is synced and that this process changes nothing any more (R13).
    ///
    /// # Errors
    /// `Slot`.
    pub fn close_cleanly(mut self) -> Result<(), FolderError> {
        self.write(true)
    }

    /// Whose folder it is.
    #[must_use]
    pub fn identity(&self) -> &FolderIdentity {
        &self.identity
    }

    /// This start.
    #[must_use]
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// Whether the data is whole.
    #[must_use]
    pub fn state(&self) -> FolderState {
        self.state
    }

    fn read(disk: &dyn Disk) -> Result<(SlotFile, Record), FolderError> {
        let (slots, payload) = SlotFile::open_any(disk, PATH, SlotPurpose::FOLDER)?;
        let record = Record::of(&slots, &payload)?;
        Ok((slots, record))
    }

    fn write(&mut self, clean: bool) -> Result<(), FolderError> {
        let record = Record {
            identity: self.identity.clone(),
            incarnation: self.incarnation,
            state: self.state,
            clean,
            inode: self.inode,
        };
        Ok(self.slots.write(&record.encode())?)
    }
}

/// See the table above.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Record {
    identity: FolderIdentity,
    incarnation: Incarnation,
    state: FolderState,
    clean: bool,
    inode: u64,
}

impl Record {
    /// The record in a slot file.
    fn of(slots: &SlotFile, payload: &[u8]) -> Result<Self, SlotError> {
        Self::decode(payload, slots.cluster(), slots.group())
            .ok_or(SlotError::Corrupt { path: PATH.to_string(), why: "the record contradicts itself" })
    }

    fn encode(&self) -> Vec<u8> {
        let name = self.identity.name.as_bytes();
        let mut bytes = Vec::with_capacity(FIXED_SIZE_BYTES + name.len());
        bytes.push(match self.state {
            FolderState::Complete => STATE_COMPLETE,
            FolderState::Incomplete => STATE_INCOMPLETE,
        });
        bytes.extend_from_slice(&[u8::from(self.clean), name.len() as u8, 0, 0, 0, 0, 0]);
        bytes.extend_from_slice(&self.identity.folder.0.to_le_bytes());
        bytes.extend_from_slice(&self.incarnation.start.to_le_bytes());
        bytes.extend_from_slice(&self.incarnation.nonce.to_le_bytes());
        bytes.extend_from_slice(&self.inode.to_le_bytes());
        bytes.extend_from_slice(name);
        bytes
    }

    fn decode(bytes: &[u8], cluster: ClusterId, group: GroupId) -> Option<Self> {
        let name = bytes.get(FIXED_SIZE_BYTES..)?;
        if usize::from(bytes[2]) != name.len() || name.len() > NAME_SIZE_BYTES_MAX {
            return None;
        }
        let start = u64_at(bytes, 24);
        if start == u64::MAX {
            // Another start could not be counted (R1); no folder was ever started so often.
            return None;
        }
        Some(Self {
            identity: FolderIdentity {
                cluster,
                group,
                name: str::from_utf8(name).ok()?.to_string(),
                folder: FolderId(u128_at(bytes, 8)),
            },
            incarnation: Incarnation { start, nonce: u64_at(bytes, 32) },
            state: match bytes[0] {
                STATE_COMPLETE => FolderState::Complete,
                STATE_INCOMPLETE => FolderState::Incomplete,
                _ => return None,
            },
            clean: bytes[1] == 1,
            inode: u64_at(bytes, 40),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hotwarm_disk::{Crash, Fault, FaultDisk, FaultError};

    fn identity() -> FolderIdentity {
        FolderIdentity { cluster: ClusterId(1), group: GroupId(2), name: "a".to_string(), folder: FolderId(3) }
    }

    fn expected() -> FolderExpected {
        FolderExpected { cluster: None, group: GroupId(2), name: "a".to_string(), copy_allowed: false }
    }

    fn created() -> FaultDisk {
        let disk = FaultDisk::new(1);
        Folder::create(&disk, identity(), FolderState::Complete).unwrap();
        disk
    }

    #[test]
    fn the_bytes_are_pinned_and_no_prefix_is_a_record() {
        let incarnation = Incarnation { start: 4, nonce: 5 };
        let record =
            Record { identity: identity(), incarnation, state: FolderState::Incomplete, clean: true, inode: 6 };
        let bytes = record.encode();
        let numbers = [0x01_01_02, 3, 0, 4, 5, 6];
        let mut pinned: Vec<u8> = numbers.iter().flat_map(|number: &u64| number.to_le_bytes()).collect();
        pinned.push(b'a');
        assert_eq!(bytes, pinned);
        assert_eq!(Record::decode(&bytes, ClusterId(1), GroupId(2)), Some(record));
        for length in 0..bytes.len() {
            assert_eq!(Record::decode(&bytes[..length], ClusterId(1), GroupId(2)), None, "{length}");
        }
        let mut exhausted = bytes;
        exhausted[24..32].fill(0xff);
        assert_eq!(Record::decode(&exhausted, ClusterId(1), GroupId(2)), None, "no start can follow");
    }

    #[test]
    fn starts_are_counted_and_stops_remembered() {
        let disk = created();
        assert_eq!(Folder::look(&disk).unwrap(), Some(identity()));
        let (folder, opened) = Folder::open(&disk, &expected(), 77).unwrap();
        assert_eq!(opened, Opened { incarnation: Incarnation { start: 1, nonce: 77 }, was_clean: true });
        drop(folder);
        let (mut folder, opened) = Folder::open(&disk, &expected(), 78).unwrap();
        assert!(!opened.was_clean && opened.incarnation.start == 2);
        folder.mark_incomplete().unwrap();
        folder.close_cleanly().unwrap();
        disk.crash(Crash::Lost);
        let (mut folder, opened) = Folder::open(&disk, &expected(), 79).unwrap();
        assert!(opened.was_clean && opened.incarnation.start == 3);
        assert_eq!(folder.state(), FolderState::Incomplete);
        folder.mark_complete().unwrap();
        drop(folder);
        assert_eq!(Folder::open(&disk, &expected(), 80).unwrap().0.state(), FolderState::Complete);
    }

    #[test]
    fn the_wrong_folder_is_named_with_the_way_out() {
        let disk = created();
        assert!(matches!(Folder::create(&disk, identity(), FolderState::Complete), Err(FolderError::Exists)));
        let wrong_cluster = FolderExpected { cluster: Some(ClusterId(9)), ..expected() };
        let wrong_group = FolderExpected { group: GroupId(9), ..expected() };
        for wrong in [wrong_cluster, wrong_group] {
            let error = Folder::open(&disk, &wrong, 1).unwrap_err();
            assert!(matches!(error, FolderError::OtherGroup { .. }), "{error}");
            assert!(error.to_string().contains("node \"a\"") && error.to_string().contains("data_dir"), "{error}");
        }
        let error = Folder::open(&disk, &FolderExpected { name: "b".to_string(), ..expected() }, 1).unwrap_err();
        assert!(matches!(error, FolderError::OtherNode { .. }), "{error}");
        let (_, opened) = Folder::open(&disk, &expected(), 1).unwrap();
        assert_eq!(opened.incarnation.start, 1, "refused starts are not counted");
        let empty = FaultDisk::new(1);
        assert!(matches!(Folder::open(&empty, &expected(), 1), Err(FolderError::Missing)));
        assert_eq!(Folder::look(&empty).unwrap(), None);
        let long = FolderIdentity { name: "x".repeat(64), ..identity() };
        assert!(matches!(Folder::create(&empty, long, FolderState::Complete), Err(FolderError::Name { .. })));
    }

    #[test]
    fn a_copied_folder_is_refused_unless_allowed() {
        let copy = created().copy(2);
        let error = Folder::open(&copy, &expected(), 1).unwrap_err();
        assert!(matches!(&error, FolderError::Copied { found } if **found == identity()), "{error}");
        let allowed = FolderExpected { copy_allowed: true, ..expected() };
        Folder::open(&copy, &allowed, 1).unwrap();
        Folder::open(&copy, &expected(), 2).expect("allowed once, it is the folder from then on");
    }

    #[test]
    fn a_start_that_was_reported_is_never_given_again() {
        for nth in 1.. {
            let disk = created().fork(nth);
            disk.fail(Fault::nth(nth, FaultError::Io));
            let first = Folder::open(&disk, &expected(), 1).map(|(_, opened)| opened.incarnation.start).ok();
            let through = disk.faults_shown() == 0;
            disk.heal();
            disk.crash(Crash::Torn);
            let (_, again) = Folder::open(&disk, &expected(), 2).unwrap();
            assert!(again.incarnation.start > first.unwrap_or(0));
            if through {
                break;
            }
        }
    }
}
