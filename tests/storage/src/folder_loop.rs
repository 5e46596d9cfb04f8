//! A crash at each recorded call of a data folder's life, its trees included, in each way of tearing: what a power failure
//! would have left is put into a folder of the real file system, and a node's start has to make the right thing of it.

use crate::folder_life::truth::{Entry, Print, StatePrint, Truth, digits, entry};
use crate::folder_life::{GROUP, Places, open, read_chunks, snapshot_id, ticket};
use crate::log_life::folder::chain;
use crate::log_loop::{name_of, said};
use crate::random::Random;
use crate::recording::{Event, Replay, export, record};
use crate::report::{Crashes, Failure};
use crate::share::Share;
use hotwarm_disk::{Crash, Disk, FaultDisk};
use hotwarm_node::birth::TICKET_FILE;
use hotwarm_node::data_folder::{Contents, DataFolder, stage_block};
use hotwarm_store::SnapshotWriter;
use hotwarm_store::keyspace::{Entry as Value, Keyspace, Value as Held};
use hotwarm_types::{Block, BlockKind, Epoch, Lsn, Payload};
use hotwarm_wire::encode_vote;
use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The file that stays the same one: the folder's record tells itself from a copy.
const RECORD: &str = "data/folder.hotwarm";

/// After one crash in so many a copy that can go on does so, to its end.
const COPY_ONCE_IN: u64 = 6;

/// The epoch in which a recovered folder is written to.
const LATER: Epoch = Epoch(1 << 40);

/// A life that was recorded.
#[derive(Debug)]
struct Recorded {
    places: Places,
    events: Vec<Event>,
    /// One for each note.
    truths: Vec<Truth>,
    states: BTreeMap<Entry, StatePrint>,
    /// The record's file, at its place outside of the folder.
    record: PathBuf,
}

/// Runs the share. `program` is this program: it lives the life in a process of its own. `only_crash` restricts it to
/// one way of tearing.
///
/// # Errors
/// The life could not be recorded.
pub fn run(share: Share, program: &Path, only_crash: Option<Crash>) -> Result<Crashes, String> {
    let mut crashes = Crashes::default();
    for found in share.work(|worker| work(share, worker, program, only_crash)) {
        crashes.add(found?);
    }
    Ok(crashes)
}

/// Each worker records a life of its own, since there is one file only that may be its folder's record.
fn work(share: Share, worker: u64, program: &Path, only_crash: Option<Crash>) -> Result<Crashes, String> {
    let scratch = scratch_folder().map_err(|error| error.to_string())?;
    let recorded = Recorded::make(scratch.path(), program, share.seed)?;
    let mut replay = Replay::new(recorded.begin());
    let (mut crashes, mut point, mut note) = (Crashes::default(), 0, None);
    for event in &recorded.events {
        if event.changes() {
            if let Some(note) = note
                && share.takes(worker, point)
            {
                crashes.points += 1;
                let at = Point { share, point, note, call: event.shown(replay.paths()) };
                for crash in Crash::OF_POWER.into_iter().filter(|crash| only_crash.is_none_or(|only| only == *crash)) {
                    recorded.check(&at, replay.disk(), crash, &mut crashes);
                }
            }
            point += 1;
        } else if matches!(event, Event::Note { .. }) {
            note = Some(note.map_or(0, |note| note + 1));
        }
        replay.apply(event)?;
    }
    Ok(crashes)
}

/// In memory where that is possible: each start syncs, and this is not about the disk.
pub(crate) fn scratch_folder() -> std::io::Result<tempfile::TempDir> {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir())
}

/// A point of a recorded life.
struct Point {
    share: Share,
    point: u64,
    /// The last note before it.
    note: usize,
    call: String,
}

/// What a start finds.
#[derive(Debug, PartialEq)]
struct Found {
    starts: u64,
    vote: String,
    floor: Entry,
    blocks: Vec<Print>,
    state: StatePrint,
    is_removed: bool,
}

impl Recorded {
    fn make(folder: &Path, program: &Path, seed: u64) -> Result<Self, String> {
        let places = Places::below(folder);
        places.prepare().map_err(|error| error.to_string())?;
        let mut command = Command::new(program);
        command.args(["live", "--seed", &seed.to_string(), "--folder"]).arg(folder);
        let events = record(&command, &places.root, &places.notes, &places.scratch)?;
        let lines = events.iter().filter_map(|event| match event {
            Event::Note { line } => Some(serde_json::from_str(line).map_err(|error| format!("{error}: {line}"))),
            _ => None,
        });
        let truths: Vec<Truth> = lines.collect::<Result<_, _>>()?;
        let states = truths.iter().flat_map(|truth| &truth.states).map(|state| (state.at, *state)).collect();
        let record = places.scratch.join("record");
        fs::rename(places.root.join(RECORD), &record).map_err(|error| format!("{RECORD}: {error}"))?;
        Ok(Self { places, events, truths, states, record })
    }

    /// The disk before the life.
    fn begin(&self) -> FaultDisk {
        let disk = FaultDisk::new(1);
        disk.create_dir("tls").and_then(|()| disk.sync_dir("")).expect("a new disk takes a folder");
        disk.put(&format!("tls/{TICKET_FILE}"), ticket().to_text().as_bytes());
        disk
    }

    fn check(&self, at: &Point, disk: &FaultDisk, crash: Crash, crashes: &mut Crashes) {
        crashes.tearings += 1;
        let folder = self.places.scratch.join("crashed");
        let survived = catch_unwind(AssertUnwindSafe(|| self.survive(at, disk, crash, &folder)));
        let what = match survived {
            Ok(Ok(recoveries)) => {
                crashes.recoveries += recoveries;
                None
            }
            Ok(Err(what)) => Some(what),
            Err(panic) => Some(format!("a panic: {}", said(&*panic))),
        };
        let removed = fs::remove_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()));
        if let Some(what) = what.or(removed.err()) {
            let (seed, point, tear) = (at.share.seed, at.point, name_of(crash));
            let step = self.truths.get(at.note + 1).map_or("the end", |truth| &truth.step);
            crashes.failures.push(Failure {
                replay: format!("cargo xtask storage --part folder --seed {seed} --point {point} --tear {tear}"),
                what: format!("before {} on the way to {step:?}: {what}", at.call),
            });
        }
    }

    /// Goes through everything that must hold after a crash. Returns how often the folder was recovered.
    fn survive(&self, at: &Point, disk: &FaultDisk, crash: Crash, folder: &Path) -> Result<u64, String> {
        let mut random = Random::new(at.share.seed, at.point ^ (crash as u64) << 48);
        let disk = disk.freeze(random.next());
        disk.crash(crash);
        export(&disk, folder, RECORD, &self.record).map_err(|error| format!("put what is left in place: {error}"))?;
        let before = &self.truths[at.note];
        let after = self.truths.get(at.note + 1).unwrap_or(before);
        let (opened, found) = self.start(folder)?;
        self.compare(&found, before, after)?;
        if random.one_in(COPY_ONCE_IN) {
            self.go_on_with_copy(&opened.0, before, after)?;
        }
        drop(opened);
        let (opened, again) = self.start(folder).map_err(|what| format!("the second start: {what}"))?;
        if again != (Found { starts: found.starts + 1, ..found }) {
            return Err(format!("the first start found one thing, the second {again:?}"));
        }
        let written = write_more(opened)?;
        let (_, contents) = open(folder).map_err(|what| format!("after further writes: {what}"))?;
        let kept = (entry(contents.log.end()), StatePrint::from(digest(&contents)?));
        if kept != written {
            return Err(format!("written after the recovery: {written:?}; found: {kept:?}"));
        }
        Ok(3)
    }

    /// Starts on a folder and reads everything.
    fn start(&self, folder: &Path) -> Result<((DataFolder, Contents), Found), String> {
        let (data, mut contents) = open(folder)?;
        let reader = contents.log.reader();
        let mut blocks: Vec<Print> = Vec::new();
        loop {
            let from = blocks.last().map_or(contents.log.floor().lsn, |block| Lsn(block.end().1)).next();
            let read = reader.read(from, 1 << 20).map_err(|error| chain(&error))?;
            if read.is_empty() {
                break;
            }
            blocks.extend(read.iter().map(Print::of));
        }
        let end = contents.log.end();
        contents.state.commit(end.lsn).map_err(|error| chain(&error))?;
        let found = Found {
            starts: contents.incarnation.start,
            vote: digits(&encode_vote(&contents.recovered.vote)),
            floor: entry(contents.log.floor()),
            blocks,
            state: digest(&contents)?.into(),
            is_removed: data.is_removed(),
        };
        Ok(((data, contents), found))
    }

    fn compare(&self, found: &Found, before: &Truth, after: &Truth) -> Result<(), String> {
        let either = |is: &dyn Fn(&Truth) -> bool| is(before) || is(after);
        if !either(&|truth| found.starts == truth.starts + 1) {
            return Err(format!("this is start {}, reported were {} to {}", found.starts, before.starts, after.starts));
        }
        if !either(&|truth| found.vote == truth.vote) {
            return Err(format!("the vote record is {}, reported was {}", found.vote, before.vote));
        }
        if !either(&|truth| found.is_removed == truth.is_removed) {
            return Err(format!("removed: {}, reported was {}", found.is_removed, before.is_removed));
        }
        if !either(&|truth| truth.allows(found.floor, &found.blocks)) {
            return Err(format!(
                "the log holds {} blocks from {:?}, reported durable were {} from {:?} up to {:?}, on the way to {} from \
                 {:?}",
                found.blocks.len(),
                found.floor,
                before.durable,
                before.floor,
                before.end(),
                after.durable,
                after.floor
            ));
        }
        let end = found.blocks.last().map_or(found.floor, Print::end);
        match self.states.get(&end) {
            Some(state) if *state == found.state => Ok(()),
            expected => Err(format!("the state at {end:?} is {:?}, it must be {expected:?}", found.state)),
        }
    }

    /// A copy that was accounted for goes on from there at least, and what it comes to is the state that was copied.
    fn go_on_with_copy(&self, data: &DataFolder, before: &Truth, after: &Truth) -> Result<(), String> {
        // In a step that begins or ends a copy its account may be there or not.
        let (copy, least) = match (&before.copy, &after.copy) {
            (Some(before), Some(after)) => (after, before.recorded),
            (Some(copy), None) | (None, Some(copy)) => (copy, 0),
            (None, None) => return Ok(()),
        };
        let (id, at) = snapshot_id(copy);
        let Some((incoming, account)) = data.resume_incoming(id, at) else {
            return if least == 0 { Ok(()) } else { Err("a copy that was accounted for is gone".to_owned()) };
        };
        let mut writer = SnapshotWriter::resume(incoming.tree(), GROUP, at, &account).map_err(|error| chain(&error))?;
        if writer.next() < least {
            return Err(format!("a copy goes on at chunk {}, accounted for were {least}", writer.next()));
        }
        for chunk in read_chunks(&self.places.chunks(copy.id))?.iter().skip(writer.next() as usize) {
            writer.push(chunk).map_err(|error| format!("a copy that goes on: {}", chain(&error)))?;
        }
        writer.finish().map_err(|error| format!("a copy that goes on: {}", chain(&error)))?;
        let state = data.open_state(incoming.tree())?;
        let found = StatePrint::from(state.feeder().digest().map_err(|error| chain(&error))?);
        drop((state, incoming));
        if self.states.get(&copy.at) != Some(&found) {
            return Err(format!("a copy that went on came to {found:?}"));
        }
        data.discard_incoming()
    }
}

fn digest(contents: &Contents) -> Result<hotwarm_store::StateDigest, String> {
    contents.state.feeder().digest().map_err(|error| format!("read the state: {}", chain(&error)))
}

/// Goes on as a hot would, and stops cleanly. Returns the end of the log and the state.
fn write_more((data, mut contents): (DataFolder, Contents)) -> Result<(Entry, StatePrint), String> {
    let first = contents.log.end().lsn.next();
    let payload = Payload::new(b"after the crash");
    let start = Block { kind: BlockKind::EpochStart, epoch: LATER, first, last: first, stamp_ms: 0, payload };
    append(&mut contents, &start)?;
    let now_ms = contents.state.greatest_stamp_ms() + 1;
    let mut execution = contents.state.begin(now_ms);
    let value = Value { value: Held::String("value".into()), expires_at_ms: None, version: Lsn::ZERO };
    execution.put(b"written after the crash", value);
    execution.finish(None, b"").map_err(|error| chain(&error))?;
    while let Some(proposed) = contents.state.take_block() {
        let block = Block {
            kind: BlockKind::Data,
            epoch: LATER,
            first: proposed.first,
            last: proposed.first.plus(proposed.count - 1),
            stamp_ms: proposed.stamp_ms,
            payload: Payload::new(&proposed.payload),
        };
        append(&mut contents, &block)?;
    }
    let written = (entry(contents.log.end()), StatePrint::from(digest(&contents)?));
    let feeder = contents.state.feeder();
    feeder.feed().and_then(|_| feeder.flush()).and_then(|_| feeder.maintain()).map_err(|error| chain(&error))?;
    contents.log.close().map_err(|error| chain(&error))?;
    data.close_cleanly()?;
    Ok(written)
}

fn append(contents: &mut Contents, block: &Block) -> Result<(), String> {
    contents.log.append(block).and_then(|()| contents.log.sync()).map_err(|error| chain(&error))?;
    stage_block(&mut contents.state, block).map_err(|error| chain(&error))?;
    contents.state.commit(block.last).map_err(|error| chain(&error))
}
