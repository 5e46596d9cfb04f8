//! The life of a whole data folder on the real file system: birth, starts, blocks, votes, feeding and flushing of the tree,
//! compaction, cuts, retention, and full copies that break off, go on, are thrown away and put to use.
//!
//! It is done by the code that a node does it with, in the order in which a node does it, on one thread, and after each
//! step one line says what the folder must hold now. It runs in a process of its own, which is recorded.

pub mod hot;
pub mod truth;

use crate::log_life::folder::chain;
use crate::random::Random;
use hot::Hot;
use hotwarm_core::register::{Ballot, GroupState, Member, MemberRole, ProposalId, Settings, Vote};
use hotwarm_disk::OsDisk;
use hotwarm_log::{Keep, Log, LogOptions};
use hotwarm_node::birth::{Birth, Origin, TICKET_FILE};
use hotwarm_node::data_folder::{Contents, DataFolder, Incoming, stage_block};
use hotwarm_store::SnapshotWriter;
use hotwarm_types::{ClusterId, EntryId, Epoch, FolderId, GroupId, Incarnation, NodeId, Reign, SnapshotId, Version};
use hotwarm_wire::encode_vote;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use truth::{Copy, Print, Truth, digits, entry};

/// The node's name.
pub const NAME: &str = "a";
/// Memory for caches: little, so that the tree is read.
pub const MEMORY_SIZE_BYTES: u64 = 8 << 20;
/// The group.
pub const GROUP: GroupId = GroupId(1);

const CLUSTER: ClusterId = ClusterId(0xf01d_e12f);
/// The first segment, in bytes: small, so that the search for records in it is short.
const FIRST_SEGMENT_SIZE_BYTES: u64 = 64 << 10;
/// Large values of a copy that is more than the receiver loads at once.
const LARGE_COUNT: u64 = 7;
/// Chunks of such a copy that come after what is loaded first.
const CHUNKS_LEFT: usize = 4;
/// Random steps before the first copy.
const STEPS: u64 = 110;
/// Random steps after a copy was put to use.
const STEPS_AFTER: u64 = 25;

/// The places of a life below one folder.
#[derive(Clone, Debug)]
pub struct Places {
    /// What is recorded: the data folder and the node's TLS folder.
    pub root: PathBuf,
    /// The notes.
    pub notes: PathBuf,
    /// The chunks of copies, and what else is not the node's.
    pub scratch: PathBuf,
}

impl Places {
    /// Below `folder`.
    #[must_use]
    pub fn below(folder: &Path) -> Self {
        Self { root: folder.join("root"), notes: folder.join("notes"), scratch: folder.join("scratch") }
    }

    /// Makes the folders, and the ticket of the node.
    ///
    /// # Errors
    /// What the system says.
    pub fn prepare(&self) -> std::io::Result<()> {
        fs::create_dir_all(self.root.join("tls"))?;
        fs::create_dir_all(&self.scratch)?;
        fs::write(self.root.join("tls").join(TICKET_FILE), ticket().to_text())
    }

    /// The chunks of a copy.
    #[must_use]
    pub fn chunks(&self, id: u64) -> PathBuf {
        self.scratch.join(format!("chunks-{id}"))
    }
}

/// The ticket by which the folder is born.
#[must_use]
pub fn ticket() -> Birth {
    let (node, folder) = (NodeId(1), FolderId(0xf01d));
    let address = "node-a.example:7101".to_owned();
    let member = Member { name: NAME.to_owned(), folder, address, role: MemberRole::Data, priority: 1 };
    let state = GroupState {
        cluster: CLUSTER,
        group: GROUP,
        version: Version::default(),
        proposal: ProposalId::default(),
        reign: Reign { epoch: Epoch::default(), node, incarnation: Incarnation::default() },
        lossy_epoch: None,
        in_sync: BTreeSet::from([node]),
        members: BTreeMap::from([(node, member)]),
        members_version: Version::default(),
        invited: BTreeMap::new(),
        next_node: NodeId(2),
        settings: Settings::default(),
        pause: None,
        changes: VecDeque::new(),
    };
    Birth { cluster: CLUSTER, group: GROUP, name: NAME.to_owned(), folder, origin: Origin::Founded, state }
}

/// Takes the folder as a node's start does.
///
/// # Errors
/// Why it is refused.
pub fn open(root: &Path) -> Result<(DataFolder, Contents), String> {
    DataFolder::open(&root.join("data"), &root.join("tls"), NAME, None, 7, MEMORY_SIZE_BYTES)
        .map_err(|error| chain(&error))
}

/// A life under way.
#[derive(Debug)]
struct Life {
    places: Places,
    notes: File,
    random: Random,
    hot: Hot,
    truth: Truth,
    votes: u64,
    copies: u64,
}

/// The folder in use.
type InUse = (DataFolder, Contents);

/// Lives the life of this seed.
///
/// # Errors
/// What went wrong: nothing may.
pub fn live(places: &Places, seed: u64) -> Result<(), String> {
    let mut life = Life::new(places, seed)?;
    life.birth()?;
    let mut in_use = life.start()?;
    life.hot.begin_reign();
    life.note_state();
    for _ in 0..STEPS {
        in_use = life.step(in_use)?;
    }
    in_use = life.copy_at_once(in_use)?;
    for _ in 0..STEPS_AFTER {
        in_use = life.step(in_use)?;
    }
    let in_use = life.copy_that_is_thrown_away(in_use)?;
    // Only now, since each start reads all that there is.
    life.hot.write_large(LARGE_COUNT);
    life.note_state();
    let in_use = life.copy_that_another_replaces(in_use)?;
    let in_use = life.copy_in_two_parts(in_use)?;
    life.end(in_use)
}

/// Lives a short life that ends with a clean stop while a full copy is coming in. Returns what the folder must hold, with
/// every state that was met.
///
/// # Errors
/// As for [`live`].
pub fn live_to_part_of_copy(places: &Places, seed: u64) -> Result<Truth, String> {
    let mut life = Life::new(places, seed)?;
    life.birth()?;
    let mut in_use = life.start()?;
    life.hot.begin_reign();
    for _ in 0..STEPS_AFTER {
        in_use = life.append(in_use)?;
        if life.random.one_in(4) {
            let feeder = in_use.1.state.feeder();
            feeder.feed().and_then(|_| feeder.flush()).map_err(|error| chain(&error))?;
        }
    }
    let end = life.hot.digest().into();
    life.hot.write_large(LARGE_COUNT);
    let copied = life.hot.digest().into();
    let in_use = life.copy_that_another_replaces(in_use)?;
    life.stop(in_use)?;
    Ok(Truth { states: vec![end, copied], ..life.truth })
}

impl Life {
    fn new(places: &Places, seed: u64) -> Result<Self, String> {
        let notes = File::create(&places.notes).map_err(|error| error.to_string())?;
        let truth = Truth { vote: digits(&encode_vote(&Vote::default())), ..Truth::default() };
        let (random, hot) = (Random::new(seed, 2), Hot::new());
        let mut life = Self { places: places.clone(), notes, random, hot, truth, votes: 0, copies: 0 };
        life.note_state();
        life.done("nothing")?;
        Ok(life)
    }

    /// Writes down what the folder must hold from now on.
    fn done(&mut self, step: &str) -> Result<(), String> {
        step.clone_into(&mut self.truth.step);
        let line = serde_json::to_string(&self.truth).map_err(|error| error.to_string())?;
        self.truth.states.clear();
        // In one write: that is how it is told from half a note.
        self.notes.write_all(format!("{line}\n").as_bytes()).map_err(|error| error.to_string())
    }

    fn note_state(&mut self) {
        self.truth.states.push(self.hot.digest().into());
    }

    fn data(&self) -> PathBuf {
        self.places.root.join("data")
    }

    /// As a first start would, with a log of small segments.
    fn birth(&mut self) -> Result<(), String> {
        let birth = Birth::consume(&self.places.root.join("tls"), &self.data()).map_err(|error| chain(&error))?;
        let disk = OsDisk::new(self.data()).map_err(|error| chain(&error))?;
        let options =
            LogOptions { segment_size_bytes: FIRST_SEGMENT_SIZE_BYTES, ..LogOptions::new(birth.cluster, birth.group) };
        Log::create(Arc::new(disk), "log", options).map_err(|error| chain(&error))?;
        self.done("birth")
    }

    fn start(&mut self) -> Result<InUse, String> {
        let (folder, mut contents) = open(&self.places.root)?;
        self.truth.starts += 1;
        self.truth.durable = self.truth.blocks.len();
        let end = contents.log.end().lsn;
        contents.state.commit(end).map_err(|error| chain(&error))?;
        self.done("start")?;
        Ok((folder, contents))
    }

    fn step(&mut self, mut in_use: InUse) -> Result<InUse, String> {
        let contents = &mut in_use.1;
        match self.random.below(40) {
            0..=13 => return self.append(in_use),
            14..=19 => {
                contents.state.feeder().feed().map_err(|error| chain(&error))?;
                self.done("feed")?;
            }
            20..=25 => {
                let feeder = contents.state.feeder();
                feeder.feed().and_then(|_| feeder.flush()).map_err(|error| chain(&error))?;
                self.done("flush")?;
            }
            26..=28 => {
                contents.state.feeder().maintain().map_err(|error| chain(&error))?;
                self.done("compact")?;
            }
            29..=32 => self.vote(contents)?,
            33..=34 => self.cut(contents)?,
            35..=36 => {
                let keep = Keep { size_bytes: 0, since_ms: u64::MAX };
                contents.log.retain_after(contents.state.applied(), keep).map_err(|error| chain(&error))?;
                let floor = entry(contents.log.floor());
                self.truth.blocks.retain(|block| block.end().1 > floor.1);
                self.truth.floor = floor;
                self.truth.durable = self.truth.blocks.len();
                self.done("retain")?;
            }
            37 => {
                self.stop(in_use)?;
                return self.start();
            }
            _ => {
                // As if it were killed.
                drop(in_use);
                return self.start();
            }
        }
        Ok(in_use)
    }

    /// The hot works on, and the folder's node follows it.
    fn append(&mut self, (folder, mut contents): InUse) -> Result<InUse, String> {
        for _ in 0..=self.random.below(2) {
            self.hot.work(&mut self.random);
            self.note_state();
        }
        self.catch_up(&mut contents)?;
        Ok((folder, contents))
    }

    /// Takes the blocks of the hot, each durable before the next.
    fn catch_up(&mut self, contents: &mut Contents) -> Result<(), String> {
        let end = contents.log.end().lsn;
        for block in self.hot.after(end).to_vec() {
            contents.log.append(&block).map_err(|error| chain(&error))?;
            self.truth.blocks.push(Print::of(&block));
            self.done("append")?;
            contents.log.sync().map_err(|error| chain(&error))?;
            self.truth.durable = self.truth.blocks.len();
            self.done("sync")?;
            stage_block(&mut contents.state, &block).map_err(|error| chain(&error))?;
            contents.state.commit(block.last).map_err(|error| chain(&error))?;
        }
        Ok(())
    }

    fn vote(&mut self, contents: &mut Contents) -> Result<(), String> {
        self.votes += 1;
        let promised = Ballot { counter: self.votes, node: NodeId(1), start: self.truth.starts };
        let vote = encode_vote(&Vote { promised, epoch: Epoch(self.votes), ..Vote::default() });
        contents.votes.write(&vote).map_err(|error| chain(&error))?;
        self.truth.vote = digits(&vote);
        self.done("vote")
    }

    /// Blocks that were never committed are cut off again by the next reign.
    fn cut(&mut self, contents: &mut Contents) -> Result<(), String> {
        self.catch_up(contents)?;
        let last = self.hot.end();
        for _ in 0..2 {
            self.hot.work(&mut self.random);
            self.note_state();
        }
        for block in self.hot.after(last).to_vec() {
            contents.log.append(&block).map_err(|error| chain(&error))?;
            self.truth.blocks.push(Print::of(&block));
            stage_block(&mut contents.state, &block).map_err(|error| chain(&error))?;
        }
        self.done("append what will be cut")?;
        self.hot.cut(last);
        contents.log.cut(last).map_err(|error| chain(&error))?;
        contents.state.truncate(last).map_err(|error| chain(&error))?;
        self.truth.blocks.retain(|block| block.end().1 <= last.0);
        self.truth.durable = self.truth.blocks.len();
        self.done("cut")?;
        self.hot.begin_reign();
        self.note_state();
        Ok(())
    }

    fn stop(&mut self, (folder, contents): InUse) -> Result<(), String> {
        let Contents { log, state, .. } = contents;
        let feeder = state.feeder();
        feeder.feed().and_then(|_| feeder.flush()).map_err(|error| chain(&error))?;
        log.close().map_err(|error| chain(&error))?;
        folder.close_cleanly()?;
        self.done("stop")
    }

    /// The chunks of a new copy, which also lie in a file.
    fn chunks(&mut self) -> Result<(Copy, Vec<Vec<u8>>), String> {
        self.copies += 1;
        let mut snapshot = self.hot.snapshot(GROUP);
        let mut chunks = Vec::new();
        while let Some(chunk) = snapshot.chunk(chunks.len() as u64).map_err(|error| chain(&error))? {
            chunks.push(chunk);
        }
        let copy = Copy { id: self.copies, at: entry(snapshot.at()), recorded: 0 };
        let mut file = File::create(self.places.chunks(copy.id)).map_err(|error| error.to_string())?;
        for chunk in &chunks {
            let size = chunk.len() as u32;
            file.write_all(&size.to_le_bytes())
                .and_then(|()| file.write_all(chunk))
                .map_err(|error| error.to_string())?;
        }
        Ok((copy, chunks))
    }

    /// Takes chunks of a copy, from where its writer stands up to `until`.
    fn receive(
        &mut self,
        folder: &DataFolder,
        incoming: &Incoming,
        writer: &mut SnapshotWriter,
        copy: &Copy,
        chunks: &[Vec<u8>],
    ) -> Result<(), String> {
        for chunk in chunks.iter().skip(writer.next() as usize) {
            writer.push(chunk).map_err(|error| chain(&error))?;
            if let Some(record) = writer.take_record() {
                let at = truth::entry_id(copy.at);
                folder.keep_incoming(incoming, SnapshotId(copy.id.into()), at, record)?;
                let recorded = writer.next();
                self.truth.copy = Some(Copy { recorded, ..copy.clone() });
                self.done("part of a copy")?;
            }
        }
        Ok(())
    }

    fn begin_copy(&mut self, folder: &DataFolder, copy: &Copy) -> Result<(Incoming, SnapshotWriter), String> {
        // From here on the account of an earlier copy may be gone.
        self.truth.copy = None;
        self.done("about to begin a copy")?;
        let incoming = folder.begin_incoming()?;
        let writer = SnapshotWriter::new(incoming.tree(), GROUP, truth::entry_id(copy.at));
        self.done("begin a copy")?;
        Ok((incoming, writer))
    }

    /// The copy is whole: it takes the place of all that the node holds.
    fn switch(
        &mut self,
        (folder, mut contents): InUse,
        incoming: Incoming,
        writer: SnapshotWriter,
        copy: &Copy,
    ) -> Result<InUse, String> {
        writer.finish().map_err(|error| chain(&error))?;
        let state = folder.open_state(incoming.tree())?;
        self.done("end a copy")?;
        folder.mark_incomplete()?;
        self.truth.copy = None;
        self.done("about to switch")?;
        contents.log.reset(truth::entry_id(copy.at), state.epochs()).map_err(|error| chain(&error))?;
        (self.truth.floor, self.truth.blocks, self.truth.durable) = (copy.at, Vec::new(), 0);
        self.done("switch")?;
        contents.state = state;
        // Removing a large tree takes a while, in which the new one is fed.
        let (folder, contents) = self.append((folder, contents))?;
        let feeder = contents.state.feeder();
        feeder.feed().and_then(|_| feeder.flush()).map_err(|error| chain(&error))?;
        self.done("feed the new tree")?;
        folder.finish_incoming(incoming)?;
        self.done("the old tree is gone")?;
        Ok((folder, contents))
    }

    fn copy_at_once(&mut self, (folder, contents): InUse) -> Result<InUse, String> {
        self.hot.work(&mut self.random);
        self.note_state();
        let (copy, chunks) = self.chunks()?;
        let (incoming, mut writer) = self.begin_copy(&folder, &copy)?;
        self.receive(&folder, &incoming, &mut writer, &copy, &chunks)?;
        self.switch((folder, contents), incoming, writer, &copy)
    }

    fn copy_in_two_parts(&mut self, (folder, contents): InUse) -> Result<InUse, String> {
        let (copy, chunks) = self.chunks()?;
        let (incoming, mut writer) = self.begin_copy(&folder, &copy)?;
        self.receive(&folder, &incoming, &mut writer, &copy, &chunks[..chunks.len() - CHUNKS_LEFT])?;
        drop((writer, incoming, folder, contents));
        let (folder, contents) = self.start()?;
        let (id, at) = (SnapshotId(copy.id.into()), truth::entry_id(copy.at));
        let resumed = folder.resume_incoming(id, at).ok_or("a copy that was accounted for does not go on")?;
        let (incoming, record) = resumed;
        let resumed = SnapshotWriter::resume(incoming.tree(), GROUP, at, &record);
        let mut writer = resumed.map_err(|error| chain(&error))?;
        self.receive(&folder, &incoming, &mut writer, &copy, &chunks)?;
        self.switch((folder, contents), incoming, writer, &copy)
    }

    fn copy_that_is_thrown_away(&mut self, (folder, contents): InUse) -> Result<InUse, String> {
        self.hot.work(&mut self.random);
        self.note_state();
        let (copy, chunks) = self.chunks()?;
        let (incoming, mut writer) = self.begin_copy(&folder, &copy)?;
        self.receive(&folder, &incoming, &mut writer, &copy, &chunks)?;
        drop((writer, incoming));
        folder.discard_incoming()?;
        self.done("a copy is thrown away")?;
        Ok((folder, contents))
    }

    /// The node that it comes from is hot no more, and nobody has the rest of it.
    fn copy_that_another_replaces(&mut self, (folder, contents): InUse) -> Result<InUse, String> {
        let (copy, chunks) = self.chunks()?;
        let (incoming, mut writer) = self.begin_copy(&folder, &copy)?;
        self.receive(&folder, &incoming, &mut writer, &copy, &chunks[..chunks.len() - CHUNKS_LEFT])?;
        Ok((folder, contents))
    }

    fn end(&mut self, in_use: InUse) -> Result<(), String> {
        let in_use = self.append(in_use)?;
        in_use.0.mark_removed().map_err(|error| error.to_string())?;
        self.truth.is_removed = true;
        self.done("removed")?;
        self.stop(in_use)
    }
}

/// The chunks that lie in a file.
///
/// # Errors
/// It cannot be read, or is not whole.
pub fn read_chunks(path: &Path) -> Result<Vec<Vec<u8>>, String> {
    let bytes = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let (mut rest, mut chunks) = (&bytes[..], Vec::new());
    while let Some((size, after)) = rest.split_first_chunk::<4>() {
        let size = u32::from_le_bytes(*size) as usize;
        let (chunk, after) = after.split_at_checked(size).ok_or(format!("{} is not whole", path.display()))?;
        chunks.push(chunk.to_vec());
        rest = after;
    }
    Ok(chunks)
}

/// The entry of a full copy's number.
#[must_use]
pub fn snapshot_id(copy: &Copy) -> (SnapshotId, EntryId) {
    (SnapshotId(copy.id.into()), truth::entry_id(copy.at))
}
