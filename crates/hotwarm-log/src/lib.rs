//! What a node must not forget, on disk: the replication log, the vote record, the folder's identity.
//!
//! [`Log`] is a segmented log of [`hotwarm_types::Block`]s with one writer and any number of [`LogReader`]s.
//! [`SlotFile`] holds one small record that is replaced as a whole, [`Folder`] is such a record that says whose data
//! folder this is. All of them stand on [`hotwarm_disk::Disk`], so that every fault a disk may show is shown to them
//! in tests.
//!
//! The rules they keep:
//!
//! - What was reported durable is there after any crash, or is refused as corrupt: never silently less (C29 of the
//!   fault list: a checksum fault in acknowledged data is never cut away).
//! - What was not reported may be there or not, whole blocks only.
//! - Everything that opening reports has been written and synced by this process (R11): a page cache that a killed
//!   process left behind proves nothing, and after a failed sync it even lies.
//! - After a failed write or sync an object is of no more use: each later call returns the same error (INV-9).
//!
//! Nothing here knows of roles, commits or networks, and nothing runs by itself: threads and timing are the node's.

mod checksum;
mod cut;
mod cut_pruning;
mod entry;
mod epochs;
mod error;
mod folder;
mod head;
mod mark;
mod reader;
mod recovery;
mod segment;
mod slot;
mod spare;
mod state;
mod truncate;
mod window;
mod writer;

pub use cut::{CutFile, read_cut_file};
pub use cut_pruning::{CUT_AGE_MS_MIN, CUT_FILES_KEPT, CUT_FILES_KEPT_MIN, CUT_SIZE_BYTES_KEPT};
pub use epochs::EPOCHS_KEPT;
pub use error::{DiskError, LogError, OpenError, ReadError};
pub use folder::{Folder, FolderError, FolderExpected, FolderIdentity, FolderState, Opened};
pub use reader::LogReader;
pub use recovery::Recovery;
pub use slot::{SLOT_SIZE_BYTES_MAX, SlotError, SlotFile, SlotPurpose};
pub use spare::LogAhead;
pub use truncate::Keep;
pub use writer::{Log, LogOptions, SEGMENT_SIZE_BYTES};
