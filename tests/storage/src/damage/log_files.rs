//! Damage to the files of the log's crate, on a disk in memory: segments, head, mark, spares, side files, vote record and
//! folder record of a folder that was stopped cleanly.

use super::{Harm, Outcome, Tally, harms};
use crate::log_life::Life;
use crate::log_life::folder::{CLUSTER, GROUP, InUse, LOG, VOTE, bear, chain, expected, options, read_log, start};
use crate::log_life::truth::Found;
use crate::random::Random;
use crate::share::Share;
use hotwarm_disk::{Disk, FaultDisk};
use hotwarm_log::{Folder, Log, OpenError, SlotFile, SlotPurpose, read_cut_file};
use hotwarm_types::{Block, BlockKind, Epoch, Payload};
use std::sync::Arc;

/// Flips in one file at most; a smaller file is flipped in every bit.
const FLIPS: u64 = 16_384;
/// Other harm of each sort to one file.
const OTHERS: u64 = 60;
/// Segments of the log that is damaged: small, so that every bit of one can be flipped.
const SEGMENT_SIZE_BYTES: u64 = 8 << 10;
/// Blocks at the end of the log, of so many bytes each: they fill one segment and a part of another.
const BLOCKS: usize = 9;
/// See [`BLOCKS`].
const BLOCK_SIZE_BYTES: usize = 1_300;
/// Steps of a life, before which its log is not damaged.
const STEPS: usize = 150;

/// A folder that was stopped cleanly, and all that is in it.
struct Stopped {
    disk: FaultDisk,
    found: Found,
}

impl Stopped {
    /// The end of a life that has left files of every kind.
    fn make(seed: u64) -> Result<Self, String> {
        let mut random = Random::new(seed, 5);
        let mut life = Life::new(seed, Box::new(|_| false));
        for _ in 0..STEPS {
            life.step()?;
        }
        while life.segments() < 4 || life.truth().aside.is_empty() {
            life.step()?;
        }
        let disk = life.disk().fork(seed);
        let (InUse { record, mut log, .. }, ..) = start(&shared(&disk), true, SEGMENT_SIZE_BYTES)?;
        // The last segment holds something, too, and a file waits to become the next.
        for _ in 0..BLOCKS {
            let first = log.end().lsn.next();
            let payload = Payload::new(&random.bytes(BLOCK_SIZE_BYTES));
            let block =
                Block { kind: BlockKind::Data, epoch: Epoch(1 << 40), first, last: first, stamp_ms: 1, payload };
            log.append(&block).and_then(|()| log.sync()).map_err(|error| chain(&error))?;
        }
        log.ahead().prepare().map_err(|error| chain(&error))?;
        log.close().map_err(|error| chain(&error))?;
        record.close_cleanly().map_err(|error| chain(&error))?;
        let disk = disk.fork(seed);
        let (_, found, _) = start(&shared(&disk.fork(seed)), true, SEGMENT_SIZE_BYTES)?;
        Ok(Self { disk, found })
    }

    /// Looks at one file as its reader does. `disk` is spoilt by it.
    fn read(&self, kind: &str, path: &str, disk: &FaultDisk) -> Outcome {
        match kind {
            "folder record" => self.read_record(disk),
            "vote record" => self.read_vote(disk),
            "side file" => self.read_aside(path, disk),
            _ => self.read_log(disk),
        }
    }

    fn read_record(&self, disk: &FaultDisk) -> Outcome {
        match Folder::open(disk, &expected(), 1) {
            Ok((record, opened)) => {
                let truth = self.found.record;
                let same = (opened.incarnation.start - 1, record.state(), opened.was_clean)
                    == (truth.starts, truth.state, truth.is_clean);
                if same { Outcome::Harmless } else { Outcome::Wrong(format!("{opened:?} {:?}", record.state())) }
            }
            Err(error) => Outcome::Refused(chain(&error)),
        }
    }

    fn read_vote(&self, disk: &FaultDisk) -> Outcome {
        match SlotFile::open(disk, VOTE, SlotPurpose::VOTE, CLUSTER, GROUP) {
            Ok((_, vote)) if vote == self.found.vote => Outcome::Harmless,
            Ok((_, vote)) => Outcome::Wrong(format!("a vote of {} bytes", vote.len())),
            Err(error) => Outcome::Refused(chain(&error)),
        }
    }

    /// Who reads a side file learns what it held, or that it is damaged: nobody starts on it.
    fn read_aside(&self, path: &str, disk: &FaultDisk) -> Outcome {
        match read_cut_file(disk, path) {
            Ok(file) => {
                let is_one =
                    self.found.aside.iter().any(|aside| (&aside.after, &aside.blocks) == (&file.after, &file.blocks));
                if is_one && (file.cluster, file.group) == (CLUSTER, GROUP) {
                    Outcome::Harmless
                } else {
                    Outcome::Wrong(format!("a side file of {} blocks after {}", file.blocks.len(), file.after))
                }
            }
            Err(error) => Outcome::Refused(chain(&error)),
        }
    }

    fn read_log(&self, disk: &FaultDisk) -> Outcome {
        let (log, recovery) = match Log::open(shared(disk), LOG, options(SEGMENT_SIZE_BYTES)) {
            Ok(opened) => opened,
            Err(OpenError::Disk(error)) => return Outcome::Wrong(format!("the disk is blamed: {}", chain(&error))),
            Err(error) => return Outcome::Refused(chain(&error)),
        };
        match read_log(&log, &recovery) {
            Ok(held) if held == self.found.log => Outcome::Harmless,
            Ok(held) => Outcome::Wrong(format!("{} blocks up to {}", held.blocks.len(), held.end())),
            Err(why) if why.contains(".log") => Outcome::Detected,
            Err(why) => Outcome::Wrong(why),
        }
    }
}

/// Which kind of file it is.
fn kind_of(path: &str, last_segment: &str) -> &'static str {
    match path {
        "folder.hotwarm" => "folder record",
        VOTE => "vote record",
        "log/head" => "log head",
        "log/mark" => "log mark",
        _ if path.ends_with(".cut") => "side file",
        _ if path.ends_with(".seg") => "log spare",
        _ if path == last_segment => "log segment, open",
        _ if path.ends_with(".log") => "log segment, sealed",
        _ => "other",
    }
}

/// Damages the share of the cases, and says how many there are.
pub(super) fn damage(share: Share, worker: u64, tally: &mut Tally) -> Result<u64, String> {
    let stopped = Stopped::make(share.seed)?;
    let stranger = stranger(share.seed)?;
    let files = stopped.disk.files();
    let last_segment = files.iter().map(|(path, _)| path).filter(|path| path.ends_with(".log")).max();
    let last_segment = last_segment.cloned().unwrap_or_default();
    let (mut case, mut random) = (0, Random::new(share.seed, 3));
    for (path, _) in &files {
        let kind = kind_of(path, &last_segment);
        let bytes = stopped.disk.bytes(path).map_err(|error| error.to_string())?;
        let is_one_of_many = matches!(kind, "log spare" | "side file");
        let (flips, others) = if is_one_of_many { (FLIPS / 8, OTHERS / 4) } else { (FLIPS, OTHERS) };
        for harm in harms(&bytes, flips, others, &mut random) {
            if share.takes(worker, case) {
                let disk = stopped.disk.freeze(case);
                let is_done = match harm {
                    Harm::Flip(bit) => {
                        disk.flip_bit(path, bit / 8, (bit % 8) as u8);
                        true
                    }
                    other => other.done_to(&bytes).inspect(|harmed| disk.put(path, harmed)).is_some(),
                };
                if is_done {
                    let harm_text = format!("{path} {harm}");
                    tally.take(kind, case, &harm_text, harm.is_flip(), &[path], || stopped.read(kind, path, &disk));
                }
            }
            case += 1;
        }
        if let Ok(foreign) = stranger.bytes(path)
            && share.takes(worker, case)
        {
            let disk = stopped.disk.freeze(case);
            disk.put(path, &foreign);
            let read = || stopped.read(kind, path, &disk);
            let named = [path.as_str(), "belongs to node"];
            tally.take(kind, case, &format!("{path} of another cluster"), false, &named, read);
        }
        case += 1;
    }
    Ok(case)
}

/// A folder of another cluster.
fn stranger(seed: u64) -> Result<FaultDisk, String> {
    let disk = FaultDisk::new(seed);
    bear(&shared(&disk), SEGMENT_SIZE_BYTES)?;
    let other = hotwarm_types::ClusterId(CLUSTER.0 + 1);
    for (path, purpose) in [(VOTE, SlotPurpose::VOTE), ("log/head", SlotPurpose::HEAD)] {
        let (_, payload) = SlotFile::open(&disk, path, purpose, CLUSTER, GROUP).map_err(|error| chain(&error))?;
        disk.remove(path).map_err(|error| error.to_string())?;
        SlotFile::create(&disk, path, purpose, other, GROUP, &payload).map_err(|error| chain(&error))?;
    }
    Ok(disk)
}

fn shared(disk: &FaultDisk) -> Arc<dyn Disk> {
    Arc::new(disk.clone())
}
