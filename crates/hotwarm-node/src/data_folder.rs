//! A node's data folder: what lies where, how a start takes it, and how a full copy replaces what is in it.
//!
//! | path | what |
//! | --- | --- |
//! | `identity` | the ticket that the folder was born from (`birth`) |
//! | `lock` | held while a process uses the folder |
//! | `folder.hotwarm` | count of starts, whether the last stop was clean, whether the data is whole |
//! | `vote` | the vote record |
//! | `log/` | the replication log |
//! | `store-N/` | the tree of committed state; there are two only while a full copy is installed |
//! | `incoming` | how far a full copy has come that fills another tree |
//! | `history.jsonl` | this node's own events |
//! | `removed` | there once the node has learnt that the group goes on without this folder |
//!
//! A full copy fills `store-(N+1)`. The switch is the reset of the log to the copy's position: before it, the old tree ends
//! within the log; after it, it does not, and it goes. A start that finds two trees uses the one that ends within the log,
//! and keeps the other only if `incoming` tells how to go on with it.

use crate::birth::{Birth, BirthError, open_folder};
use crate::incoming_record::IncomingRecord;
use crate::storage::chain;
use hotwarm_core::Recovered;
use hotwarm_core::register::Vote;
use hotwarm_disk::{FolderLock, OsDisk};
use hotwarm_log::{
    Folder, FolderError, FolderExpected, FolderIdentity, FolderState, Log, LogOptions, SlotFile, SlotPurpose,
};
use hotwarm_store::tree::{LsmTree, Tree};
use hotwarm_store::{Options, State};
use hotwarm_types::{Block, BlockKind, EntryId, Incarnation, Lsn, SnapshotId};
use hotwarm_wire::{decode_vote, encode_vote};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

const VOTE_PATH: &str = "vote";
const LOG_PATH: &str = "log";
const STORE_PREFIX: &str = "store-";
const REMOVED_PATH: &str = "removed";

/// Bytes of log that are staged at once during recovery.
const STAGE_SIZE_BYTES: u64 = 8 << 20;

/// Why a node cannot start on its folder. Each says what to do, or its cause does.
#[derive(Debug)]
pub enum FolderOpenError {
    /// The folder is not this node's, or was never made.
    Birth(BirthError),
    /// Whose folder it is does not fit the configuration.
    Ticket(crate::birth::TicketError),
    /// Another process uses it, or its record is refused.
    Refused {
        /// Why.
        why: String,
    },
    /// What it holds cannot be read, or cannot be made.
    Broken {
        /// What.
        what: &'static str,
        /// Why.
        why: String,
    },
}

impl fmt::Display for FolderOpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Birth(error) => error.fmt(f),
            Self::Ticket(error) => error.fmt(f),
            Self::Refused { why } => f.write_str(why),
            Self::Broken { what, why } => write!(
                f,
                "open {what}: {why}; nothing was changed; if the disk is sound, let this node be replaced by an empty \
                 one (\"hotwarm node replace\")"
            ),
        }
    }
}

impl std::error::Error for FolderOpenError {}

fn broken(what: &'static str) -> impl Fn(&dyn std::error::Error) -> FolderOpenError {
    move |error| FolderOpenError::Broken { what, why: chain(error) }
}

/// The folder while a process uses it.
#[derive(Debug)]
pub struct DataFolder {
    root: PathBuf,
    record: Mutex<Option<Folder>>,
    /// The number of the tree in use.
    store: Mutex<u64>,
    /// What is on the disk of a full copy that is not whole.
    incoming: Mutex<Option<IncomingRecord>>,
    cache_size_bytes: AtomicU64,
    _lock: FolderLock,
}

/// What a start found; synced by this process (R11).
#[derive(Debug)]
pub struct Contents {
    /// Whose folder it is.
    pub birth: Birth,
    /// This start.
    pub incarnation: Incarnation,
    /// The log.
    pub log: Log,
    /// The vote file.
    pub votes: SlotFile,
    /// The state, with the log staged up to its end; for a witness an empty one.
    pub state: State,
    /// What the core is told.
    pub recovered: Recovered,
}

/// A tree that a full copy fills.
#[derive(Debug)]
pub struct Incoming {
    number: u64,
    tree: Arc<LsmTree>,
}

impl Incoming {
    /// The tree.
    #[must_use]
    pub fn tree(&self) -> Arc<dyn Tree> {
        Arc::clone(&self.tree) as Arc<dyn Tree>
    }
}

impl DataFolder {
    /// Takes a folder for this start of the process: by the ticket in `ticket_dir` where it is its first.
    /// `memory_size_bytes_max` bounds caches.
    ///
    /// # Errors
    /// Why the node cannot start on it. The start may be counted already; nothing else was changed.
    pub fn open(
        data_dir: &Path,
        ticket_dir: &Path,
        name: &str,
        certificate: Option<&crate::tls::CertificateIdentity>,
        nonce: u64,
        memory_size_bytes_max: u64,
    ) -> Result<(Self, Contents), FolderOpenError> {
        let birth = open_folder(ticket_dir, data_dir).map_err(FolderOpenError::Birth)?;
        birth.check(name, certificate).map_err(FolderOpenError::Ticket)?;
        let lock = FolderLock::acquire(data_dir).map_err(|error| FolderOpenError::Refused { why: chain(&error) })?;
        let disk = OsDisk::new(data_dir).map_err(|error| broken("data folder")(&error))?;
        make_missing(&disk, &birth)?;
        let refused = |error: FolderError| FolderOpenError::Refused { why: chain(&error) };
        let expected = FolderExpected {
            cluster: Some(birth.cluster),
            group: birth.group,
            name: name.to_owned(),
            copy_allowed: false,
        };
        let (record, opened) = Folder::open(&disk, &expected, nonce).map_err(refused)?;
        let (votes, payload) = SlotFile::open(&disk, VOTE_PATH, SlotPurpose::VOTE, birth.cluster, birth.group)
            .map_err(|error| broken("vote file")(&error))?;
        let vote = decode_vote(&payload).map_err(|error| broken("vote file")(&error))?;
        let options = LogOptions::new(birth.cluster, birth.group);
        let (log, recovery) = Log::open(Arc::new(disk), LOG_PATH, options).map_err(|error| broken("log")(&error))?;
        let folder = Self {
            root: data_dir.to_owned(),
            record: Mutex::new(Some(record)),
            store: Mutex::new(0),
            incoming: Mutex::new(None),
            cache_size_bytes: AtomicU64::new(memory_size_bytes_max / 2),
            _lock: lock,
        };
        let mut state = folder.open_store(&log)?;
        stage(&mut state, &log)?;
        if folder.with_record(|record| record.state() == FolderState::Incomplete) == Some(true) {
            folder.mark_complete().map_err(|why| FolderOpenError::Broken { what: "folder record", why })?;
        }
        let vote = Vote { committed: committed_within(vote.committed, recovery.end.lsn), ..vote };
        let recovered = Recovered {
            vote,
            log_floor: recovery.floor,
            log_end: recovery.end,
            epochs: recovery.epochs,
            applied: state.applied(),
        };
        let contents = Contents { birth, incarnation: opened.incarnation, log, votes, state, recovered };
        Ok((folder, contents))
    }

    /// Where everything lies.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Opens the tree that belongs to the log, and removes any other but that of a full copy that can go on.
    fn open_store(&self, log: &Log) -> Result<State, FolderOpenError> {
        let store = |why| FolderOpenError::Broken { what: "store", why };
        let numbers = store_numbers(&self.root).map_err(|error| store(chain(&error)))?;
        let open = |number| self.open_tree(number).and_then(|tree| self.open_state(tree));
        let number = store_in_use(&numbers, log, open).unwrap_or(1);
        let state = open(number).map_err(store)?;
        if numbers.len() > 1 && !ends_within(log, &state) {
            // Before anything is removed: the other one may be what is left of the data.
            return Err(store(gap(&state, log)));
        }
        // A copy that is in use, or whose tree is gone, needs no record.
        let goes_on = |record: &IncomingRecord| record.number > number && numbers.contains(&record.number);
        let record = IncomingRecord::read(&self.root).filter(goes_on);
        if record.is_none() {
            self.forget_incoming().map_err(store)?;
        }
        let kept = [Some(number), record.as_ref().map(|record| record.number)];
        for other in numbers.into_iter().filter(|other| !kept.contains(&Some(*other))) {
            self.remove_store(other).map_err(store)?;
        }
        *lock(&self.store) = number;
        *lock(&self.incoming) = record;
        Ok(state)
    }

    fn open_tree(&self, number: u64) -> Result<Arc<dyn Tree>, String> {
        let tree = LsmTree::open(&store_path(&self.root, number), self.block_cache_size_bytes())
            .map_err(|error| chain(&error))?;
        Ok(Arc::new(tree))
    }

    /// Bounds the memory of what is opened from now on. Returns the bound of the values in memory that belongs to it, in
    /// bytes; the blocks of the tree that is open keep theirs.
    pub fn set_memory(&self, memory_size_bytes_max: u64) -> usize {
        self.cache_size_bytes.store(memory_size_bytes_max / 2, Ordering::Relaxed);
        usize::try_from(memory_size_bytes_max / 2).unwrap_or(usize::MAX)
    }

    /// What is for the blocks of a tree.
    fn block_cache_size_bytes(&self) -> u64 {
        self.cache_size_bytes.load(Ordering::Relaxed) / 2
    }

    fn remove_store(&self, number: u64) -> Result<(), String> {
        match std::fs::remove_dir_all(store_path(&self.root, number)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(chain(&error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Opens the state that a tree holds.
    ///
    /// # Errors
    /// The tree cannot be read, or does not hold a whole state.
    pub fn open_state(&self, tree: Arc<dyn Tree>) -> Result<State, String> {
        let cache = usize::try_from(self.cache_size_bytes.load(Ordering::Relaxed)).unwrap_or(usize::MAX);
        State::open(tree, Options { cache_size_bytes_max: cache }).map_err(|error| chain(&error))
    }

    /// An empty tree for a full copy, in the place of one that is not whole.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn begin_incoming(&self) -> Result<Incoming, String> {
        let number = *lock(&self.store) + 1;
        // First the record: it must never be taken for one of the new tree.
        self.forget_incoming()?;
        self.remove_store(number)?;
        let tree = LsmTree::open(&store_path(&self.root, number), self.block_cache_size_bytes())
            .map_err(|error| chain(&error))?;
        Ok(Incoming { number, tree: Arc::new(tree) })
    }

    /// The tree that a full copy of this snapshot has begun to fill, and what its writer was to remember; `None` if
    /// there is none, or it cannot be opened.
    pub fn resume_incoming(&self, snapshot: SnapshotId, at: EntryId) -> Option<(Incoming, Vec<u8>)> {
        let record = lock(&self.incoming).clone()?;
        if (record.snapshot, record.at) != (snapshot, at) {
            return None;
        }
        let opened = LsmTree::open(&store_path(&self.root, record.number), self.block_cache_size_bytes());
        let opened = opened.inspect_err(|error| {
            tracing::warn!(event = "full_sync_restarted", error = %chain(error),
            "what is there of a full copy cannot be read")
        });
        Some((Incoming { number: record.number, tree: Arc::new(opened.ok()?) }, record.writer))
    }

    /// Whether something is on the disk of a full copy that is not whole, and could go on after a restart.
    #[must_use]
    pub fn has_incoming(&self) -> bool {
        lock(&self.incoming).is_some()
    }

    /// Remembers how far a full copy has come: `writer` is what its writer needs to go on. Durable on return.
    ///
    /// # Errors
    /// What the disk says.
    pub fn keep_incoming(
        &self,
        incoming: &Incoming,
        snapshot: SnapshotId,
        at: EntryId,
        writer: Vec<u8>,
    ) -> Result<(), String> {
        let record = IncomingRecord { number: incoming.number, snapshot, at, writer };
        record.write(&self.root).map_err(|error| chain(&error))?;
        *lock(&self.incoming) = Some(record);
        Ok(())
    }

    /// A full copy that is not whole will not go on: its tree is left for the next one, or the next start, to remove.
    ///
    /// # Errors
    /// What the disk says.
    pub fn forget_incoming(&self) -> Result<(), String> {
        *lock(&self.incoming) = None;
        IncomingRecord::remove(&self.root).map_err(|error| chain(&error))
    }

    /// Removes all that is there of a full copy that is not whole. Nobody may have its tree open.
    ///
    /// # Errors
    /// What the disk says.
    pub fn discard_incoming(&self) -> Result<(), String> {
        let number = *lock(&self.store) + 1;
        self.forget_incoming()?;
        self.remove_store(number)
    }

    /// The copy is in use: the old tree goes, and the folder is whole again.
    ///
    /// # Errors
    /// The old tree cannot be removed, or the record cannot be written.
    pub fn finish_incoming(&self, incoming: Incoming) -> Result<(), String> {
        self.forget_incoming()?;
        let old = std::mem::replace(&mut *lock(&self.store), incoming.number);
        self.remove_store(old)?;
        self.mark_complete()
    }

    /// Notes durably that the data is being replaced (R31).
    ///
    /// # Errors
    /// What the disk says.
    pub fn mark_incomplete(&self) -> Result<(), String> {
        self.with_record(Folder::mark_incomplete).transpose().map(drop).map_err(|error| chain(&error))
    }

    fn mark_complete(&self) -> Result<(), String> {
        self.with_record(Folder::mark_complete).transpose().map(drop).map_err(|error| chain(&error))
    }

    /// Notes durably that all is synced and nothing will be changed any more (R13).
    ///
    /// # Errors
    /// What the disk says.
    pub fn close_cleanly(&self) -> Result<(), String> {
        match lock(&self.record).take() {
            Some(record) => record.close_cleanly().map_err(|error| chain(&error)),
            None => Ok(()),
        }
    }

    /// Notes durably that the group goes on without this folder: what it holds of the group may be from before that.
    ///
    /// # Errors
    /// What the disk says.
    pub fn mark_removed(&self) -> std::io::Result<()> {
        std::fs::File::create(self.root.join(REMOVED_PATH))?.sync_all()?;
        std::fs::File::open(&self.root)?.sync_all()
    }

    /// Whether it was noted that the group goes on without this folder.
    #[must_use]
    pub fn is_removed(&self) -> bool {
        self.root.join(REMOVED_PATH).exists()
    }

    /// Does something with the record; `None` once it is closed.
    fn with_record<T>(&self, work: impl FnOnce(&mut Folder) -> T) -> Option<T> {
        lock(&self.record).as_mut().map(work)
    }
}

/// The numbers of the trees in a data folder, in order.
pub(crate) fn store_numbers(root: &Path) -> std::io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(root)? {
        let name = entry?.file_name();
        let number: Option<u64> = name.to_str().and_then(|name| name.strip_prefix(STORE_PREFIX)?.parse().ok());
        numbers.extend(number);
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Where the tree with a number lies.
pub(crate) fn store_path(root: &Path, number: u64) -> PathBuf {
    root.join(format!("{STORE_PREFIX}{number}"))
}

/// Which of the trees with these numbers belongs to the log, if there is any; `open` opens the state in one.
///
/// There are two while a full copy comes in, and after the switch to it until the old tree is removed, which takes a
/// while, is not synced, and may come back; the new one is fed meanwhile. So neither number nor position tells, but the log
/// does: a tree that ends with one of its entries is the state at that entry. The old one does as long as it is in use, and
/// never after the switch, since the log begins past it then.
pub(crate) fn store_in_use(numbers: &[u64], log: &Log, open: impl Fn(u64) -> Result<State, String>) -> Option<u64> {
    let (first, newer) = numbers.split_first()?;
    if newer.is_empty() || open(*first).is_ok_and(|state| ends_within(log, &state)) {
        return Some(*first);
    }
    // A tree that was only begun is empty, and seems to end where a log begins that was never shortened; no copy ends there.
    let is_copy = |state: State| ends_within(log, &state) && state.committed() != EntryId::default();
    newer.iter().find(|number| open(**number).is_ok_and(is_copy)).or(Some(first)).copied()
}

/// Whether a state ends with an entry of the log, or right before its first.
fn ends_within(log: &Log, state: &State) -> bool {
    let (at, floor) = (state.committed(), log.floor());
    if at == floor {
        return true;
    }
    let epochs = log.epochs();
    let begun = epochs.partition_point(|(_, first)| *first <= at.lsn);
    let epoch = epochs[..begun].last().map(|(epoch, _)| *epoch);
    floor.lsn < at.lsn && at.lsn <= log.end().lsn && epoch == Some(at.epoch)
}

fn gap(state: &State, log: &Log) -> String {
    format!("the store ends at LSN {}, but the log begins after LSN {}", state.end(), log.floor().lsn)
}

/// Makes what a folder that was just born, or whose birth was interrupted, does not have yet. The record comes last:
/// where it is, everything is.
fn make_missing(disk: &OsDisk, birth: &Birth) -> Result<(), FolderOpenError> {
    let refused = |error: FolderError| FolderOpenError::Refused { why: chain(&error) };
    if Folder::look(disk).map_err(refused)?.is_some() {
        return Ok(());
    }
    let (cluster, group) = (birth.cluster, birth.group);
    let vote = encode_vote(&Vote::default());
    match SlotFile::create(disk, VOTE_PATH, SlotPurpose::VOTE, cluster, group, &vote) {
        Ok(_) => {}
        Err(hotwarm_log::SlotError::Exists { .. }) => {
            let (_, payload) = SlotFile::open(disk, VOTE_PATH, SlotPurpose::VOTE, cluster, group)
                .map_err(|error| broken("vote file")(&error))?;
            // R4: votes that were given under another record must not be given again under this one.
            let fresh = decode_vote(&payload).map_err(|error| broken("vote file")(&error))? == Vote::default();
            refuse_used(disk, fresh)?;
        }
        Err(error) => return Err(broken("vote file")(&error)),
    }
    let shared = Arc::new(OsDisk::new(disk.root()).map_err(|error| broken("data folder")(&error))?);
    match Log::create(shared.clone(), LOG_PATH, LogOptions::new(cluster, group)) {
        Ok(_) => {}
        Err(hotwarm_log::OpenError::Exists { .. }) => {
            let (_, recovery) =
                Log::open(shared, LOG_PATH, LogOptions::new(cluster, group)).map_err(|error| broken("log")(&error))?;
            refuse_used(disk, recovery.end == EntryId::default())?;
        }
        Err(error) => return Err(broken("log")(&error)),
    }
    let identity = FolderIdentity { cluster, group, name: birth.name.clone(), folder: birth.folder };
    Folder::create(disk, identity, FolderState::Complete).map_err(refused)
}

/// A folder without its record may only be what an interrupted birth left behind: a vote and a log that were never used.
fn refuse_used(disk: &OsDisk, fresh: bool) -> Result<(), FolderOpenError> {
    if fresh {
        return Ok(());
    }
    let why = format!(
        "{} holds votes or a log that were used, but not the record of whose they are; nothing was changed; bring the \
         record back, or empty the folder and run \"hotwarm node replace\" on a member",
        disk.root().display()
    );
    Err(FolderOpenError::Refused { why })
}

/// Takes the log after what the store holds into the state, as its uncommitted tail.
fn stage(state: &mut State, log: &Log) -> Result<(), FolderOpenError> {
    let reader = log.reader();
    let end = log.end().lsn;
    while state.end() < end {
        let blocks = reader.read(state.end().next(), STAGE_SIZE_BYTES).map_err(|error| broken("log")(&error))?;
        if blocks.is_empty() {
            return Err(FolderOpenError::Broken { what: "store", why: gap(state, log) });
        }
        for block in blocks {
            stage_block(state, &block).map_err(|error| broken("log")(&error))?;
        }
    }
    Ok(())
}

/// Stages one block. The first entry of a reign carries no time of its own: it has that of what precedes it.
///
/// # Errors
/// The block does not fit the state.
pub fn stage_block(state: &mut State, block: &Block) -> Result<(), hotwarm_store::ApplyError> {
    let greatest = state.greatest_stamp_ms();
    if block.kind == BlockKind::EpochStart && block.stamp_ms < greatest {
        return state.stage(&Block { stamp_ms: greatest, ..block.clone() });
    }
    state.stage(block)
}

/// The commit position that a restart may start from: never past the end of its log, which a cut may have shortened
/// since the record was written.
fn committed_within(committed: Lsn, log_end: Lsn) -> Lsn {
    committed.min(log_end)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
