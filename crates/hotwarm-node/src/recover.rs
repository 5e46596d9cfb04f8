//! `hotwarm recover`: a new group of one from the data folder of a stopped node, when a majority is lost for good (R8).
//!
//! The old folder is only read and locked: everything is done on a copy. The copy gets a new cluster id, a new
//! folder id and a new authority, so that no old member can ever speak to it, whatever comes back. Its whole log counts
//! as committed; the register's state is the last one that the node accepted, with this node as its only member, in a new
//! epoch that is marked lossy. What may be lost is told, and kept in the history.
//!
//! ```text
//! old folder  --lock, copy-->  new folder: log applied to the tree --> new log and vote record --> record, identity
//! ```
//! The identity comes last: a new folder that is not finished does not start.

use crate::birth::{Authority, AuthorityError, Birth, BirthError, IDENTITY_FILE, Origin, open_folder};
use crate::clock;
use crate::config::Agreed;
use crate::data_folder::{stage_block, store_in_use, store_numbers, store_path};
use crate::incoming_record;
use crate::storage::chain;
use hotwarm_core::register::{Ballot, Cause, ChangeKind, ChangeRecord, GroupState, ProposalId, Replication, Vote};
use hotwarm_disk::{FolderLock, OsDisk};
use hotwarm_log::{Folder, FolderExpected, FolderIdentity, FolderState, Log, LogOptions, SlotFile, SlotPurpose};
use hotwarm_store::tree::LsmTree;
use hotwarm_store::{Options, State};
use hotwarm_types::limits::CHANGES_KEPT;
use hotwarm_types::{ClusterId, EntryId, Epoch, FolderId, Incarnation, Lsn, NodeId, Reign};
use hotwarm_wire::{decode_vote, encode_vote};
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes of log that are read at once.
const READ_SIZE_BYTES: u64 = 8 << 20;
/// Memory for the trees while it runs.
const CACHE_SIZE_BYTES: u64 = 64 << 20;

/// What is to be recovered, and where to.
#[derive(Clone, Debug)]
pub struct RecoverPlan {
    /// The data folder of a stopped node.
    pub from: PathBuf,
    /// The new data folder; it must not exist.
    pub to: PathBuf,
    /// Where the new authority and the node's new TLS folder go; it must not exist.
    pub out: PathBuf,
}

/// What was recovered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// The new cluster.
    pub cluster: ClusterId,
    /// The node's name, as before.
    pub node: String,
    /// Its new TLS folder.
    pub tls_dir: PathBuf,
    /// The last write that was recovered.
    pub end: EntryId,
    /// Up to where the old node knew its log to be committed: what comes after was never acknowledged to anybody, as far
    /// as it knew, and is kept all the same.
    pub committed: Lsn,
    /// The epoch in which the new group begins.
    pub epoch: Epoch,
    /// What may be lost, in a sentence.
    pub may_be_lost: String,
}

/// Why nothing was recovered. The old folder is as it was.
#[derive(Debug)]
pub enum RecoverError {
    /// The old folder is no data folder, or is damaged.
    Old(BirthError),
    /// The old folder cannot be used: a process runs on it, it holds no whole data, it was never part of a group.
    Unfit {
        /// The folder.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// Something is where the new folder would be.
    Exists {
        /// What.
        path: PathBuf,
    },
    /// A file cannot be copied.
    Copy {
        /// Which.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// A part of the copy cannot be read or made anew.
    Part {
        /// Which part.
        what: &'static str,
        /// Why.
        why: String,
    },
    /// The new authority or certificates cannot be made.
    Authority(AuthorityError),
}

impl fmt::Display for RecoverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Old(error) => error.fmt(f),
            Self::Unfit { path, why } => write!(f, "data folder {path:?} cannot be recovered from: {why}"),
            Self::Exists { path } => write!(f, "{path:?} exists: choose a place where nothing is"),
            Self::Copy { path, .. } => write!(f, "copy {path:?}"),
            Self::Part { what, why } => write!(f, "{what}: {why}; the old folder is as it was"),
            Self::Authority(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for RecoverError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Copy { error, .. } => Some(error),
            Self::Old(error) => error.source(),
            Self::Authority(error) => error.source(),
            Self::Unfit { .. } | Self::Exists { .. } | Self::Part { .. } => None,
        }
    }
}

fn part(what: &'static str) -> impl Fn(&dyn std::error::Error) -> RecoverError {
    move |error| RecoverError::Part { what, why: chain(error) }
}

/// What the copy holds, all of it in the tree.
struct Copied {
    vote: Vote,
    end: EntryId,
    epochs: Vec<(Epoch, Lsn)>,
}

impl RecoverPlan {
    /// Makes the new data folder, its authority and its TLS folder. Everything is durable on return.
    ///
    /// # Errors
    /// See [`RecoverError`]. What was begun is removed again.
    pub fn run(&self) -> Result<Recovered, RecoverError> {
        if let Some(path) = [&self.to, &self.out].into_iter().find(|path| path.exists()) {
            return Err(RecoverError::Exists { path: path.clone() });
        }
        self.recover().inspect_err(|_| {
            // Both were not there before. What cannot be removed has no identity, and does not start.
            let _ = remove(&self.to).and_then(|()| remove(&self.out));
        })
    }

    fn recover(&self) -> Result<Recovered, RecoverError> {
        let unfit = |why: String| RecoverError::Unfit { path: self.from.clone(), why };
        if !self.from.join(IDENTITY_FILE).exists() {
            return Err(unfit("it has no identity; name the data_dir of a node that has run".to_owned()));
        }
        // A data folder holds no ticket, so that nothing is born here.
        let birth = open_folder(&self.from, &self.from).map_err(RecoverError::Old)?;
        let _lock = FolderLock::acquire(&self.from).map_err(|error| unfit(chain(&error)))?;
        copy_tree(&self.from, &self.to)?;
        let copied = self.settle_copy(&birth)?;
        let old = copied.vote.accepted.as_ref().map(|(_, state)| state);
        let old = old.ok_or_else(|| unfit("its group has never run: there is nothing to recover".to_owned()))?;
        let (me, _) = old
            .member_named(&birth.name)
            .ok_or_else(|| unfit(format!("\"{}\" is no member in the last state that it accepted", birth.name)))?;
        if !old.holds_data(me) {
            return Err(unfit("it is a witness's, which holds no data; choose a node that does".to_owned()));
        }
        let may_be_lost = may_be_lost(old, me, copied.end);
        let state = self.new_state(&birth, &copied, me, &may_be_lost);
        let tls_dir = self.make_anew(&birth, &copied, &state)?;
        Ok(Recovered {
            cluster: state.cluster,
            node: birth.name,
            tls_dir,
            end: copied.end,
            committed: copied.vote.committed.min(copied.end.lsn),
            epoch: state.reign.epoch,
            may_be_lost,
        })
    }

    /// Applies the copy's whole log to its tree, durably.
    fn settle_copy(&self, birth: &Birth) -> Result<Copied, RecoverError> {
        let unfit = |why: &str| RecoverError::Unfit { path: self.from.clone(), why: why.to_owned() };
        let disk = OsDisk::new(&self.to).map_err(|error| part("open the copy")(&error))?;
        let (cluster, group) = (birth.cluster, birth.group);
        // It is a copy, and meant to be one.
        let expected = FolderExpected { cluster: Some(cluster), group, name: birth.name.clone(), copy_allowed: true };
        let (record, _) = Folder::open(&disk, &expected, 0).map_err(|error| part("folder record")(&error))?;
        if record.state() == FolderState::Incomplete {
            return Err(unfit("a full copy was under way: it holds no whole data"));
        }
        let (_, payload) = SlotFile::open(&disk, "vote", SlotPurpose::VOTE, cluster, group)
            .map_err(|error| part("vote record")(&error))?;
        let vote = decode_vote(&payload).map_err(|error| part("vote record")(&error))?;
        let options = LogOptions::new(cluster, group);
        let (log, recovery) = Log::open(Arc::new(disk), "log", options).map_err(|error| part("log")(&error))?;
        let mut state = self.settle_store(&log)?;
        let reader = log.reader();
        while state.end() < recovery.end.lsn {
            let blocks = reader.read(state.end().next(), READ_SIZE_BYTES).map_err(|error| part("log")(&error))?;
            if blocks.is_empty() {
                return Err(RecoverError::Part {
                    what: "store",
                    why: format!("it ends at LSN {}, but the log begins after LSN {}", state.end(), recovery.floor.lsn),
                });
            }
            for block in &blocks {
                stage_block(&mut state, block).map_err(|error| part("log")(&error))?;
            }
            state.commit(state.end()).map_err(|error| part("store")(&error))?;
            state.feeder().feed().map_err(|error| part("store")(&error))?;
        }
        state.feeder().flush().map_err(|error| part("store")(&error))?;
        Ok(Copied { vote, end: state.committed(), epochs: state.epochs().to_vec() })
    }

    /// Opens the copy's tree that belongs to the log, as a start does, and removes what a full copy that broke off has
    /// left: the new group has nobody with whom it could go on.
    fn settle_store(&self, log: &Log) -> Result<State, RecoverError> {
        let clear = part("clear the copy");
        for name in incoming_record::NAMES {
            remove(&self.to.join(name)).map_err(|error| clear(&error))?;
        }
        let open = |number| {
            let tree = LsmTree::open(&store_path(&self.to, number), CACHE_SIZE_BYTES).map_err(|error| chain(&error))?;
            State::open(Arc::new(tree), Options { cache_size_bytes_max: 0 }).map_err(|error| chain(&error))
        };
        let store = |why| RecoverError::Part { what: "store", why };
        let numbers = store_numbers(&self.to).map_err(|error| part("open the copy")(&error))?;
        let number = store_in_use(&numbers, log, open).ok_or_else(|| store("there is none".to_owned()))?;
        for other in numbers.into_iter().filter(|other| *other != number) {
            remove(&store_path(&self.to, other)).map_err(|error| clear(&error))?;
        }
        open(number).map_err(store)
    }

    /// The last state that the node accepted, with itself alone, under new names, in a new epoch that is marked lossy.
    fn new_state(&self, birth: &Birth, copied: &Copied, me: NodeId, may_be_lost: &str) -> GroupState {
        let old = copied.vote.accepted.as_ref().map(|(_, state)| state.clone());
        let mut state = old.unwrap_or_else(|| birth.state.clone());
        let from = state.reign.node;
        let epoch = state.reign.epoch.max(copied.vote.epoch).max(copied.end.epoch).next();
        let proposal = ProposalId { node: me, start: 0, counter: 1 };
        state.cluster = ClusterId(rand::random());
        state.version = state.version.next();
        state.members_version = state.version;
        state.proposal = proposal;
        state.members.retain(|node, _| *node == me);
        if let Some(member) = state.members.get_mut(&me) {
            member.folder = FolderId(rand::random());
        }
        // No process holds this reign: the node's first start must win the next one, as after any restart (R1).
        state.reign = Reign { epoch, node: me, incarnation: Incarnation::default() };
        state.lossy_epoch = Some(epoch);
        state.in_sync = [me].into();
        state.invited.clear();
        state.pause = None;
        // One node cannot hold more copies; the text says so too, or it would seem to be agreed otherwise.
        state.settings.min_copies = 1;
        if let Ok(mut agreed) = Agreed::parse(&state.settings.text) {
            agreed.group.min_copies = 1;
            state.settings = agreed.settings();
        }
        let mut evidence = format!("cluster {} was given up; {may_be_lost}", birth.cluster);
        evidence.truncate(evidence.floor_char_boundary(256));
        state.changes.push_back(ChangeRecord {
            version: state.version,
            epoch,
            at_ms: clock::wall_ms(),
            by: proposal,
            kind: ChangeKind::ForcePromote { from, to: me },
            cause: Cause { word: "recover".to_owned(), evidence },
        });
        while state.changes.len() > CHANGES_KEPT {
            state.changes.pop_front();
        }
        state
    }

    /// Gives the copy its new log, vote record, record and identity, and makes authority and certificates.
    fn make_anew(&self, birth: &Birth, copied: &Copied, state: &GroupState) -> Result<PathBuf, RecoverError> {
        let (cluster, group) = (state.cluster, birth.group);
        let cluster_name =
            Agreed::parse(&state.settings.text).map_or_else(|_| "hotwarm".to_owned(), |agreed| agreed.cluster);
        let authority = Authority::create(cluster, &cluster_name).map_err(RecoverError::Authority)?;
        let tls_dir = self.out.join(&birth.name);
        fs::create_dir_all(&tls_dir).map_err(|error| part("make the TLS folder")(&error))?;
        authority.write(&self.out).map_err(RecoverError::Authority)?;
        let issued = authority.issue(&birth.name).map_err(RecoverError::Authority)?;
        issued.write(&tls_dir).map_err(RecoverError::Authority)?;

        for name in ["log", "vote", "folder.hotwarm", IDENTITY_FILE, "lock"] {
            remove(&self.to.join(name)).map_err(|error| part("clear the copy")(&error))?;
        }
        let disk = OsDisk::new(&self.to).map_err(|error| part("open the copy")(&error))?;
        let ballot = Ballot { counter: 1, node: state.reign.node, start: 0 };
        let vote = Vote {
            promised: ballot,
            accepted: Some((ballot, state.clone())),
            epoch: state.reign.epoch,
            committed: copied.end.lsn,
            ..Vote::default()
        };
        SlotFile::create(&disk, "vote", SlotPurpose::VOTE, cluster, group, &encode_vote(&vote))
            .map_err(|error| part("vote record")(&error))?;
        let shared = Arc::new(OsDisk::new(&self.to).map_err(|error| part("open the copy")(&error))?);
        let mut log =
            Log::create(shared, "log", LogOptions::new(cluster, group)).map_err(|error| part("log")(&error))?;
        log.reset(copied.end, &copied.epochs).map_err(|error| part("log")(&error))?;
        log.close().map_err(|error| part("log")(&error))?;
        let folder = state.members.get(&state.reign.node).map(|member| member.folder).unwrap_or_default();
        let identity = FolderIdentity { cluster, group, name: birth.name.clone(), folder };
        Folder::create(&disk, identity, FolderState::Complete).map_err(|error| part("folder record")(&error))?;
        let name = birth.name.clone();
        // It needs no admission and bootstraps nothing: its vote record holds a state already.
        let identity = Birth { cluster, group, name, folder, origin: Origin::Invited, state: state.clone() };
        identity.store(&self.to).map_err(RecoverError::Old)?;
        Ok(tls_dir)
    }
}

/// What acknowledged writes the folder may not hold, as far as it can know.
fn may_be_lost(old: &GroupState, me: NodeId, end: EntryId) -> String {
    let hot = old.members.get(&old.reign.node).map_or("another node", |member| member.name.as_str());
    match (old.settings.replication, old.in_sync.contains(&me)) {
        (_, false) => format!("the node was not in sync: writes after LSN {end} that {hot} acknowledged are lost"),
        (Replication::Async { .. }, true) if old.reign.node != me => {
            format!("replication was asynchronous: writes after LSN {end} that {hot} acknowledged are lost")
        }
        (_, true) => format!(
            "nothing, if the node was still in sync when the group was lost; writes after LSN {end} are lost if it had \
             been left out since version {}",
            old.version
        ),
    }
}

/// Copies a folder and everything in it, durably. The lock and side files of interrupted writes go along and do no harm.
fn copy_tree(from: &Path, to: &Path) -> Result<(), RecoverError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |error| RecoverError::Copy { path, error }
    };
    fs::create_dir_all(to).map_err(failed(to))?;
    for entry in fs::read_dir(from).map_err(failed(from))? {
        let entry = entry.map_err(failed(from))?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type().map_err(failed(&source))?;
        if kind.is_dir() {
            copy_tree(&source, &target)?;
        } else if kind.is_file() {
            fs::copy(&source, &target).map_err(failed(&source))?;
            File::open(&target).and_then(|file| file.sync_all()).map_err(failed(&target))?;
        }
    }
    File::open(to).and_then(|folder| folder.sync_all()).map_err(failed(to))
}

fn remove(path: &Path) -> io::Result<()> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}
