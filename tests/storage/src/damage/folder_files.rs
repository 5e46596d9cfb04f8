//! Damage to the files that only the real file system holds: the identity, trees, a full copy that has come in part, and
//! the chunks in which it comes.

use super::{Outcome, Tally, harms};
use crate::folder_life::truth::{Copy, StatePrint};
use crate::folder_life::{GROUP, Places, live_to_part_of_copy, open, read_chunks, snapshot_id};
use crate::log_life::folder::chain;
use crate::random::Random;
use crate::share::Share;
use hotwarm_node::birth::{Birth, open_folder};
use hotwarm_node::data_folder::FolderOpenError;
use hotwarm_store::tree::{LsmTree, MapTree};
use hotwarm_store::{Options, SnapshotWriter, State};
use hotwarm_types::EntryId;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Flips in one file at most, by what looking at it costs.
const FLIPS: u64 = 6_000;
/// See [`FLIPS`].
const FLIPS_OF_COPY: u64 = 200;
/// Other harm of each sort to one file.
const OTHERS: u64 = 40;
/// Chunks whose bits are flipped.
const CHUNKS: usize = 4;

/// A node's folder that was stopped while a full copy was coming in.
struct Stopped {
    places: Places,
    birth: Birth,
    /// The tree in use, and the one that the copy fills, by their folders' names.
    trees: [&'static str; 2],
    state: StatePrint,
    copy: Copy,
    copied: StatePrint,
    chunks: Vec<Vec<u8>>,
    /// What the copy's writer was to remember.
    account: Vec<u8>,
    /// Every file as it was.
    files: BTreeMap<PathBuf, Vec<u8>>,
    _scratch: tempfile::TempDir,
}

fn text(error: std::io::Error) -> String {
    error.to_string()
}

impl Stopped {
    fn make(seed: u64) -> Result<Self, String> {
        let scratch = crate::folder_loop::scratch_folder().map_err(text)?;
        let places = Places::below(scratch.path());
        places.prepare().map_err(text)?;
        let truth = live_to_part_of_copy(&places, seed)?;
        let copy = truth.copy.ok_or("the life was to end in the middle of a copy")?;
        let state = |at| truth.states.iter().find(|state| state.at == at).copied();
        let in_use = state(truth.blocks.last().map_or(truth.floor, crate::folder_life::truth::Print::end));
        let (state, copied) = (in_use.ok_or("the end is unknown")?, state(copy.at).ok_or("the copy is unknown")?);
        let birth = open_folder(&places.root.join("tls"), &places.root.join("data")).map_err(|error| chain(&error))?;
        let chunks = read_chunks(&places.chunks(copy.id))?;
        let (id, at) = snapshot_id(&copy);
        let (folder, _contents) = open(&places.root)?;
        let (_, account) = folder.resume_incoming(id, at).ok_or("the copy does not go on")?;
        let mut stopped = Self {
            places,
            birth,
            trees: ["store-1", "store-2"],
            state,
            copy,
            copied,
            chunks,
            account,
            files: BTreeMap::new(),
            _scratch: scratch,
        };
        for tree in stopped.trees {
            stopped.remember(&stopped.data().join(tree))?;
        }
        for file in ["identity", "incoming"] {
            let path = stopped.data().join(file);
            let bytes = fs::read(&path).map_err(text)?;
            stopped.files.insert(path, bytes);
        }
        Ok(stopped)
    }

    fn data(&self) -> PathBuf {
        self.places.root.join("data")
    }

    fn remember(&mut self, folder: &Path) -> Result<(), String> {
        for entry in fs::read_dir(folder).map_err(text)? {
            let path = entry.map_err(text)?.path();
            if path.is_dir() {
                self.remember(&path)?;
            } else {
                let bytes = fs::read(&path).map_err(text)?;
                self.files.insert(path, bytes);
            }
        }
        Ok(())
    }

    /// Brings back what was damaged, and what a start has removed for it.
    fn restore(&self, kind: &str, path: &Path) -> std::io::Result<()> {
        fs::write(path, &self.files[path])
            .or_else(|error| if error.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(error) })?;
        if !kind.starts_with("copy") {
            return Ok(());
        }
        let tree = self.data().join(self.trees[1]);
        if tree.exists() {
            fs::remove_dir_all(&tree)?;
        }
        let record = self.data().join("incoming");
        for (path, bytes) in self.files.iter().filter(|(path, _)| path.starts_with(&tree) || **path == record) {
            fs::create_dir_all(path.parent().unwrap_or(path))?;
            fs::write(path, bytes)?;
        }
        // Folders that hold nothing are a part of a tree, too.
        fs::create_dir_all(tree.join("tables"))
    }

    fn kind_of(&self, path: &Path) -> &'static str {
        let is_table = path.parent().is_some_and(|folder| folder.ends_with("tables"));
        let is_copy = path.starts_with(self.data().join(self.trees[1]));
        match path.file_name().and_then(|name| name.to_str()) {
            Some("identity") => "identity",
            Some("incoming") => "copy, account",
            _ if is_copy && is_table => "copy, table",
            _ if is_copy => "copy, list of files",
            _ if is_table => "tree, table",
            _ => "tree, list of files",
        }
    }

    fn read(&self, kind: &str) -> Outcome {
        match kind {
            "identity" => self.read_identity(),
            kind if kind.starts_with("copy") => self.read_copy(),
            _ => self.read_tree(),
        }
    }

    fn read_identity(&self) -> Outcome {
        match open_folder(&self.places.root.join("tls"), &self.data()) {
            Ok(birth) if birth == self.birth => Outcome::Harmless,
            Ok(birth) => Outcome::Wrong(format!("{birth:?}")),
            Err(error) => Outcome::Refused(chain(&error)),
        }
    }

    /// As a start opens it, in the same words; then every row is read.
    fn read_tree(&self) -> Outcome {
        let refused = |error: &dyn std::error::Error| {
            Outcome::Refused(FolderOpenError::Broken { what: "store", why: chain(error) }.to_string())
        };
        let tree = match LsmTree::open(&self.data().join(self.trees[0]), 1 << 20) {
            Ok(tree) => tree,
            Err(error) => return refused(&error),
        };
        let state = match State::open(Arc::new(tree), Options { cache_size_bytes_max: 1 << 20 }) {
            Ok(state) => state,
            Err(error) => return refused(&error),
        };
        match state.feeder().digest() {
            Ok(digest) if StatePrint::from(digest) == self.state => Outcome::Harmless,
            Ok(digest) => Outcome::Wrong(format!("the state is {digest:?}")),
            Err(_) => Outcome::Detected,
        }
    }

    /// A start that goes on with the copy up to its end, or begins it anew; what is in use must be the same in any case.
    fn read_copy(&self) -> Outcome {
        let (folder, mut contents) = match open(&self.places.root) {
            Ok(opened) => opened,
            Err(why) => return Outcome::Wrong(format!("a part of a copy keeps the node from starting: {why}")),
        };
        let end = contents.log.end().lsn;
        let in_use = contents
            .state
            .commit(end)
            .map_err(|error| chain(&error))
            .and_then(|()| contents.state.feeder().digest().map(StatePrint::from).map_err(|error| chain(&error)));
        if in_use != Ok(self.state) {
            return Outcome::Wrong(format!("the state in use is {in_use:?}"));
        }
        let (id, at) = snapshot_id(&self.copy);
        let anew = || Outcome::Refused("the copy begins anew".to_owned());
        let Some((incoming, account)) = folder.resume_incoming(id, at) else { return anew() };
        if account != self.account {
            return Outcome::Wrong("the copy goes on from another place than it was accounted for".to_owned());
        }
        let Ok(mut writer) = SnapshotWriter::resume(incoming.tree(), GROUP, at, &account) else { return anew() };
        for chunk in self.chunks.iter().skip(writer.next() as usize) {
            if writer.push(chunk).is_err() {
                return Outcome::Detected;
            }
        }
        if writer.finish().is_err() {
            return Outcome::Detected;
        }
        let Ok(state) = folder.open_state(incoming.tree()) else { return Outcome::Detected };
        match state.feeder().digest() {
            Ok(digest) if StatePrint::from(digest) == self.copied => Outcome::Harmless,
            Ok(digest) => Outcome::Wrong(format!("the copy came to {digest:?}")),
            Err(_) => Outcome::Detected,
        }
    }

    /// A chunk on its way.
    fn take_chunk(&self, number: usize, harmed: &[u8]) -> Outcome {
        let (_, at): (_, EntryId) = snapshot_id(&self.copy);
        let mut writer = SnapshotWriter::new(Arc::new(MapTree::new()), GROUP, at);
        if number > 0 && writer.push(&self.chunks[0]).is_err() {
            return Outcome::Wrong("a sound chunk is refused".to_owned());
        }
        match writer.push(harmed) {
            Err(_) => Outcome::Detected,
            Ok(()) => Outcome::Wrong("a damaged chunk is taken".to_owned()),
        }
    }
}

/// Damages the share of the cases; `case` numbers the first.
pub(super) fn damage(share: Share, worker: u64, mut case: u64, tally: &mut Tally) -> Result<(), String> {
    if share.only.is_some_and(|only| only < case) {
        return Ok(());
    }
    let stopped = Stopped::make(share.seed)?;
    let mut random = Random::new(share.seed, 4);
    for (path, bytes) in &stopped.files {
        let kind = stopped.kind_of(path);
        let (flips, others) = if kind.starts_with("copy") { (FLIPS_OF_COPY, OTHERS / 8) } else { (FLIPS, OTHERS) };
        let shown = path.strip_prefix(stopped.data()).unwrap_or(path).display().to_string();
        for harm in harms(bytes, flips, others, &mut random) {
            if share.takes(worker, case)
                && let Some(harmed) = harm.done_to(bytes)
            {
                fs::write(path, harmed).map_err(text)?;
                let named = ["identity", "store", "copy"];
                tally.take(kind, case, &format!("{shown} {harm}"), harm.is_flip(), &named, || stopped.read(kind));
                stopped.restore(kind, path).map_err(|error| format!("{}: {error}", path.display()))?;
            }
            case += 1;
        }
    }
    // The first, which alone is taken by an empty writer, and the next.
    for (number, chunk) in stopped.chunks.iter().enumerate().take(2).cycle().take(CHUNKS) {
        for harm in harms(chunk, FLIPS / 4, OTHERS, &mut random) {
            if share.takes(worker, case)
                && let Some(harmed) = harm.done_to(chunk)
            {
                let take = || stopped.take_chunk(number, &harmed);
                let shown = format!("chunk {number} {harm}");
                tally.take("copy, on its way", case, &shown, harm.is_flip(), &["chunk"], take);
            }
            case += 1;
        }
    }
    Ok(())
}
