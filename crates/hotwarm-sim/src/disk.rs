//! A machine's data folder: the bytes on its disk, and what its processes were told of them.
//!
//! The bytes are those of the real folder record, vote record and log, on a disk that loses, tears and fails
//! ([`FaultDisk`]); the tree of committed state is the store's own, in memory, and a crash takes it back to its last
//! flush. Beside them lies what was *reported* durable. The judges look at that; and every start holds it against what
//! recovery finds, so that a log or a vote record that forgets, invents or reorders is found at once (C29, R11).

use crate::devices::Install;
use crate::log::Log;
use hotwarm_core::Recovered;
use hotwarm_core::register::{GroupState, Vote};
use hotwarm_disk::{Crash, FaultDisk};
use hotwarm_log::{Folder, FolderExpected, FolderIdentity, FolderState, LogOptions, LogReader, SlotFile, SlotPurpose};
use hotwarm_store::tree::MapTree;
use hotwarm_store::{Options, State};
use hotwarm_types::{Block, EntryId, FolderId, Incarnation, Lsn};
use hotwarm_wire::{decode_vote, encode_vote};
use std::error::Error;
use std::sync::Arc;

const VOTE_PATH: &str = "vote";
const LOG_PATH: &str = "log";

/// Bytes of keys that a state keeps in memory; few, so that the tree is read, too.
const CACHE_SIZE_BYTES: usize = 2_048;

/// Whose folder it is, and how its log is cut.
#[derive(Clone, Debug)]
pub struct Owner {
    /// What the folder record says.
    pub identity: FolderIdentity,
    /// Size of a segment of the log.
    pub segment_size_bytes: u64,
}

impl Owner {
    fn log_options(&self) -> LogOptions {
        let options = LogOptions::new(self.identity.cluster, self.identity.group);
        LogOptions { segment_size_bytes: self.segment_size_bytes, ..options }
    }
}

/// A data folder.
#[derive(Debug)]
pub struct Disk {
    owner: Owner,
    /// The state written by `hotwarm init`, for a member of the first hour.
    pub birth: Option<GroupState>,
    /// Folder record, vote record and log.
    pub files: FaultDisk,
    /// The tree of committed state.
    pub tree: MapTree,
    /// A whole copy beside it, and the entry that it ends with: the state once the log begins there (R31).
    pub incoming: Option<(EntryId, MapTree)>,
    /// How often the folder has been started.
    pub starts: u64,
    /// The vote record, as far as it was reported durable.
    pub vote: Vote,
    /// The log, as far as it was reported durable.
    pub log: Log,
    /// Entries after this position may be gone: a process died while it took them away.
    pub cut_begun: Option<Lsn>,
    /// Its bytes were harmed: a start may refuse it.
    pub harmed: bool,
}

/// What a start takes from a folder.
#[derive(Debug)]
pub struct Opened {
    /// This start.
    pub incarnation: Incarnation,
    /// The vote record.
    pub votes: SlotFile,
    /// The log.
    pub log: hotwarm_log::Log,
    /// The state, with the log staged up to its end.
    pub state: State,
    /// What the core is told.
    pub recovered: Recovered,
    /// The log's blocks.
    pub written: Log,
}

/// Why a folder was not taken.
#[derive(Debug)]
pub enum Refused {
    /// The disk failed just now.
    Failed,
    /// What is there cannot be used.
    Broken(String),
    /// It is not what was reported durable.
    Contradicts(String),
}

impl Disk {
    /// An empty folder.
    ///
    /// # Panics
    /// If the log or a record cannot be made on a disk that is well: a bug of theirs.
    #[must_use]
    pub fn empty(owner: Owner, birth: Option<GroupState>, seed: u64) -> Self {
        let files = FaultDisk::new(seed);
        let (cluster, group) = (owner.identity.cluster, owner.identity.group);
        SlotFile::create(&files, VOTE_PATH, SlotPurpose::VOTE, cluster, group, &encode_vote(&Vote::default()))
            .expect("a vote record can be made");
        hotwarm_log::Log::create(Arc::new(files.clone()), LOG_PATH, owner.log_options()).expect("a log can be made");
        Folder::create(&files, owner.identity.clone(), FolderState::Complete).expect("a folder record can be made");
        Self {
            owner,
            birth,
            files,
            tree: MapTree::new(),
            incoming: None,
            starts: 0,
            vote: Vote::default(),
            log: Log::default(),
            cut_begun: None,
            harmed: false,
        }
    }

    /// The folder's identity.
    #[must_use]
    pub fn folder(&self) -> FolderId {
        self.owner.identity.folder
    }

    /// The same machine's next folder.
    #[must_use]
    pub fn owner_of(&self, folder: FolderId) -> Owner {
        let identity = FolderIdentity { folder, ..self.owner.identity.clone() };
        Owner { identity, ..self.owner.clone() }
    }

    /// The planted bug: a folder made anew that counts as started so often already.
    pub fn start_often(&mut self, starts: u64) {
        let Owner { identity, .. } = &self.owner;
        let expected = FolderExpected {
            cluster: Some(identity.cluster),
            group: identity.group,
            name: identity.name.clone(),
            copy_allowed: false,
        };
        while self.starts < starts {
            let Ok((_, opened)) = Folder::open(&self.files, &expected, 0) else { return };
            self.starts = opened.incarnation.start;
        }
    }

    /// Turns one bit over, of the vote record or of the log; which one follows from `draw`. Says in which file, if there is
    /// any.
    pub fn rot(&mut self, draw: u64, bit: u8) -> Option<String> {
        use hotwarm_disk::Disk as _;
        let mut paths = vec![VOTE_PATH.to_owned()];
        let names = self.files.list(LOG_PATH).ok()?;
        paths.extend(names.into_iter().filter(|name| name.ends_with(".log")).map(|name| format!("{LOG_PATH}/{name}")));
        let path = paths.swap_remove(draw as usize % paths.len());
        let size = self.files.bytes(&path).ok()?.len() as u64;
        self.files.flip_bit(&path, (draw >> 16) % size.max(1), bit);
        self.harmed = true;
        Some(path)
    }

    /// The same disk at this moment, as a snapshot of the machine keeps it.
    #[must_use]
    pub fn image(&self, seed: u64) -> Self {
        Self {
            owner: self.owner.clone(),
            birth: self.birth.clone(),
            files: self.files.fork(seed),
            tree: self.tree.crash(),
            incoming: None,
            starts: self.starts,
            vote: self.vote.clone(),
            log: self.log.clone(),
            cut_begun: self.cut_begun,
            harmed: self.harmed,
        }
    }

    /// Ends the process that uses it, or the machine's power.
    pub fn crash(&mut self, crash: Crash) {
        self.files.crash(crash);
        self.tree = self.tree.crash();
    }

    /// What is missing of the side file of a cut that left `last` as the last position (INV-8); nothing, if nothing was cut.
    #[must_use]
    pub fn lacks_aside(&self, last: Lsn) -> Option<String> {
        let cut = self.log.cut_last.as_ref()?;
        let kept = self.side_files().iter().any(|path| {
            hotwarm_log::read_cut_file(&self.files, path)
                .is_ok_and(|file| file.after.lsn == last && file.blocks.last() == Some(cut))
        });
        (!kept).then(|| format!("{} was cut and is in no side file", cut.end()))
    }

    /// The planted bug: what cuts have put aside is gone.
    pub fn lose_aside(&self) {
        use hotwarm_disk::Disk as _;
        for path in self.side_files() {
            self.files.remove(&path).expect("a file that is listed can be removed");
        }
    }

    fn side_files(&self) -> Vec<String> {
        use hotwarm_disk::Disk as _;
        let folder = format!("{LOG_PATH}/cut");
        let names = self.files.list(&folder).unwrap_or_default();
        names.into_iter().map(|name| format!("{folder}/{name}")).collect()
    }

    /// The planted bug: the last block of the log is gone.
    pub fn drop_tail(&mut self) {
        let disk = Arc::new(self.files.clone());
        let Ok((mut log, _)) = hotwarm_log::Log::open(disk, LOG_PATH, self.owner.log_options()) else { return };
        if let Some(last) = self.log.block_at(log.end().lsn).map(|block| block.first.prev()) {
            // The block was whole, so that the cut cannot fail.
            let _ = log.cut(last);
        }
        self.files.crash(Crash::Process);
    }

    /// Takes the folder for a start, as a node does, and holds it against what was reported.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub fn open(&mut self, nonce: u64) -> Result<Opened, Refused> {
        let shown = self.files.faults_shown();
        match self.try_open(nonce) {
            // A disk that fails once more fails the start, not the folder.
            Err(Refused::Broken(_)) if self.files.faults_shown() > shown => Err(Refused::Failed),
            other => other,
        }
    }

    fn try_open(&mut self, nonce: u64) -> Result<Opened, Refused> {
        let Owner { identity, .. } = &self.owner;
        let (cluster, group) = (identity.cluster, identity.group);
        let expected =
            FolderExpected { cluster: Some(cluster), group, name: identity.name.clone(), copy_allowed: false };
        let (_, opened) = Folder::open(&self.files, &expected, nonce).map_err(broken)?;
        let (votes, payload) =
            SlotFile::open(&self.files, VOTE_PATH, SlotPurpose::VOTE, cluster, group).map_err(broken)?;
        let vote = decode_vote(&payload).map_err(broken)?;
        let disk = Arc::new(self.files.clone());
        let (log, recovery) = hotwarm_log::Log::open(disk, LOG_PATH, self.owner.log_options()).map_err(broken)?;
        let blocks = read_all(&log.reader())?;
        if let Some((at, tree)) = self.incoming.take().filter(|(at, _)| *at == recovery.floor)
            && at.lsn > self.tree_end()
        {
            self.tree = tree;
        }
        let mut state = self.open_state()?;
        let staged = state.end();
        for block in blocks.iter().filter(|block| block.first > staged) {
            state.stage(block).map_err(broken)?;
        }
        let written = Log::of(recovery.floor, &blocks);
        self.check(opened.incarnation, &vote, &written)?;
        self.starts = opened.incarnation.start;
        self.cut_begun = None;
        self.vote = vote;
        self.log = written.clone();
        let end = recovery.end.lsn;
        let vote = Vote { committed: self.vote.committed.min(end), ..self.vote.clone() };
        let recovered = Recovered {
            vote,
            log_floor: recovery.floor,
            log_end: recovery.end,
            epochs: recovery.epochs,
            applied: state.applied(),
        };
        Ok(Opened { incarnation: opened.incarnation, votes, log, state, recovered, written })
    }

    /// The state that the tree holds.
    ///
    /// # Errors
    /// The tree does not hold a whole one.
    pub fn open_state(&self) -> Result<State, Refused> {
        Self::state_of(&self.tree)
    }

    /// The state that some tree holds.
    ///
    /// # Errors
    /// As [`Disk::open_state`].
    pub fn state_of(tree: &MapTree) -> Result<State, Refused> {
        let options = Options { cache_size_bytes_max: CACHE_SIZE_BYTES };
        State::open(Arc::new(tree.clone()), options).map_err(broken)
    }

    /// The log begins after a whole copy: the copy's tree is the state from now on.
    pub fn put_to_use(&mut self, install: &Install) {
        if let Some((_, tree)) = self.incoming.take_if(|(at, _)| *at == install.at) {
            self.tree = tree;
        }
        let aside = self.log.aside;
        self.log = Log::after(install.at);
        self.log.aside = aside;
    }

    /// The last position in the tree.
    fn tree_end(&self) -> Lsn {
        use hotwarm_store::tree::Tree;
        self.tree.durable()
    }

    /// Whether recovery found at least what was reported, and nothing else in its place.
    fn check(&self, incarnation: Incarnation, vote: &Vote, log: &Log) -> Result<(), Refused> {
        let contradicts = |what: String| Err(Refused::Contradicts(what));
        if incarnation.start <= self.starts {
            return contradicts(format!("start {} comes after start {}", incarnation.start, self.starts));
        }
        let ballot = |vote: &Vote| vote.accepted.as_ref().map(|(ballot, _)| *ballot);
        if vote.promised < self.vote.promised || vote.epoch < self.vote.epoch || ballot(vote) < ballot(&self.vote) {
            return contradicts(format!("the vote record has forgotten: {vote:?}, reported was {:?}", self.vote));
        }
        let until = self.cut_begun.unwrap_or(Lsn(u64::MAX)).min(self.log.end().lsn);
        if log.end().lsn < until {
            return contradicts(format!("the log ends at {}, reported was {}", log.end(), self.log.end()));
        }
        let from = log.floor.lsn.max(self.log.floor.lsn);
        for block in self.log.blocks_between(from, until) {
            if log.block_at(block.first) != Some(block) {
                return contradicts(format!("the log holds another {} than was reported", block.end()));
            }
        }
        Ok(())
    }
}

/// An error and its causes in one line.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

fn broken(error: impl Error) -> Refused {
    Refused::Broken(chain(&error))
}

/// All blocks of a log.
fn read_all(reader: &LogReader) -> Result<Vec<Block>, Refused> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut next = reader.floor().lsn.next();
    loop {
        let more = reader.read(next, 1 << 20).map_err(broken)?;
        let Some(last) = more.last() else { return Ok(blocks) };
        next = last.last.next();
        blocks.extend(more);
    }
}
