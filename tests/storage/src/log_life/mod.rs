//! The life of one folder, drawn from a seed: appends, syncs, cuts, resets, retention, votes, full copies that begin and
//! end, clean stops, kills and power failures; and beside it the truth that must be found after a crash anywhere in it.

pub mod folder;
pub mod truth;

use crate::random::Random;
use crate::watched_disk::{Picture, WatchedDisk};
use folder::{FIRST_VOTE, InUse, bear, chain, start};
use hotwarm_disk::{Crash, Disk, FaultDisk};
use hotwarm_log::Keep;
use hotwarm_types::{Block, BlockKind, EntryId, Epoch, Lsn, Payload};
use std::sync::Arc;
use truth::{Aside, Truth};

const DAY_MS: u64 = 24 * 3_600_000;

/// Segments of a life, in bytes. Small ones are begun, sealed and recycled all the time; a large one takes more than the
/// log's buffer, so that it is written to without being synced.
const SEGMENT_SIZES_BYTES: [u64; 3] = [8 << 10, 16 << 10, 4 << 20];

/// A large segment is drawn once in so many starts.
const LARGE_ONCE_IN: u64 = 8;

/// Blocks that the log holds at most, about; a check reads all of them. One step is one call to the log: were it two, a crash
/// between them could leave what is neither before nor after.
const BLOCKS_MAX: usize = 48;

/// One step, and the pictures of its calls.
#[derive(Debug)]
pub struct Step {
    /// What was done, for people.
    pub name: String,
    /// What a crash before it may leave.
    pub before: Truth,
    /// What a crash after it may leave.
    pub after: Truth,
    /// The disk before each of its calls.
    pub pictures: Vec<Picture>,
}

/// A life under way.
#[derive(Debug)]
pub struct Life {
    random: Random,
    disk: WatchedDisk,
    truth: Truth,
    in_use: Option<InUse>,
    segment_size_bytes: u64,
    epoch: u64,
    vote: u64,
    wall_ms: u64,
    /// The log was full, and retention has had its turn.
    has_retained: bool,
}

impl Life {
    /// The life of this seed, before its birth. `wanted` says which points are pictured.
    #[must_use]
    pub fn new(seed: u64, wanted: crate::watched_disk::Wanted) -> Self {
        let wall_ms = 1_000 * DAY_MS;
        let disk = FaultDisk::new(seed);
        disk.set_wall_ms(wall_ms);
        Self {
            random: Random::new(seed, 1),
            disk: WatchedDisk::new(disk, wanted),
            truth: Truth::unborn(FIRST_VOTE),
            in_use: None,
            segment_size_bytes: SEGMENT_SIZES_BYTES[0],
            epoch: 1,
            vote: 0,
            wall_ms,
            has_retained: false,
        }
    }

    /// How many calls have changed something so far.
    #[must_use]
    pub fn points(&self) -> u64 {
        self.disk.points()
    }

    /// What the folder must hold now.
    #[must_use]
    pub fn truth(&self) -> &Truth {
        &self.truth
    }

    /// The disk it lies on.
    #[must_use]
    pub fn disk(&self) -> &FaultDisk {
        self.disk.inner()
    }

    /// How many segments the log has now.
    #[must_use]
    pub fn segments(&self) -> usize {
        self.disk.inner().files().iter().filter(|(path, _)| path.ends_with(".log")).count()
    }

    /// Does the next thing.
    ///
    /// # Errors
    /// What went wrong: nothing may, since no call fails.
    pub fn step(&mut self) -> Result<Step, String> {
        let before = self.truth.clone();
        let name = self.carry_out()?;
        Ok(Step { name, before, after: self.truth.clone(), pictures: self.disk.take_pictures() })
    }

    fn carry_out(&mut self) -> Result<String, String> {
        let Some(mut in_use) = self.in_use.take() else { return self.begin() };
        let is_full = self.truth.log.blocks.len() >= BLOCKS_MAX;
        let has_retained = std::mem::replace(&mut self.has_retained, is_full);
        let name = match self.random.below(100) {
            _ if is_full && has_retained => self.reset(&mut in_use),
            _ if is_full => self.retain(&mut in_use),
            0..=42 => self.append(&mut in_use),
            43..=54 => self.sync(&mut in_use),
            55..=64 => self.vote(&mut in_use),
            65..=71 => self.cut(&mut in_use),
            72..=74 => self.reset(&mut in_use),
            75..=81 => self.retain(&mut in_use),
            82..=85 => {
                in_use.log.ahead().prepare().map_err(|error| chain(&error)).map(|made| format!("make a spare: {made}"))
            }
            86..=89 => self.mark_whole_or_not(&mut in_use),
            90..=92 => self.prune(&mut in_use),
            93..=95 => return self.stop(in_use),
            _ => {
                drop(in_use);
                return Ok(self.crash());
            }
        };
        self.in_use = Some(in_use);
        name
    }

    fn shared(&self) -> Arc<dyn Disk> {
        Arc::new(self.disk.clone())
    }

    /// Birth, or a start after whatever there was.
    fn begin(&mut self) -> Result<String, String> {
        if !self.truth.is_born {
            bear(&self.shared(), self.segment_size_bytes)?;
            self.truth.is_born = true;
            return Ok("birth".to_owned());
        }
        let size = if self.random.one_in(LARGE_ONCE_IN) { 2 } else { self.random.below(2) as usize };
        self.segment_size_bytes = SEGMENT_SIZES_BYTES[size];
        let (in_use, found, _) = start(&self.shared(), true, self.segment_size_bytes)?;
        found.check(&self.truth, &self.truth)?;
        self.truth.adopt(&found);
        self.truth.record.starts += 1;
        self.truth.record.is_clean = false;
        self.in_use = Some(in_use);
        Ok("start".to_owned())
    }

    fn next_block(&mut self) -> Block {
        let end = self.truth.log.end();
        let starts = end.epoch.0 < self.epoch;
        let count = if starts { 1 } else { 1 + self.random.below(3) };
        let is_large = self.segment_size_bytes > 1 << 20;
        let size = if is_large && !starts { 200_000 + self.random.below(300_000) } else { self.random.below(2_500) };
        let first = end.lsn.next();
        let payload = Payload::new(&self.random.bytes(size as usize));
        Block {
            kind: if starts { BlockKind::EpochStart } else { BlockKind::Data },
            epoch: Epoch(self.epoch),
            first,
            last: first.plus(count - 1),
            stamp_ms: if starts { 0 } else { self.wall_ms + first.0 },
            payload,
        }
    }

    fn append(&mut self, in_use: &mut InUse) -> Result<String, String> {
        let block = self.next_block();
        in_use.log.append(&block).map_err(|error| chain(&error))?;
        self.truth.log.append(block);
        self.note_durable(in_use);
        Ok("append".to_owned())
    }

    fn note_durable(&mut self, in_use: &InUse) {
        let durable = in_use.log.durable().lsn;
        self.truth.durable = self.truth.log.blocks.partition_point(|block| block.last <= durable);
    }

    fn sync(&mut self, in_use: &mut InUse) -> Result<String, String> {
        let end = in_use.log.sync().map_err(|error| chain(&error))?;
        if end != self.truth.log.end() {
            return Err(format!("a sync reports {end}, appended was {}", self.truth.log.end()));
        }
        self.note_durable(in_use);
        Ok("sync".to_owned())
    }

    fn vote(&mut self, in_use: &mut InUse) -> Result<String, String> {
        self.vote += 1;
        let fill = self.random.below(1_500) as usize;
        let vote = format!("vote {} {}", self.vote, "v".repeat(fill)).into_bytes();
        in_use.votes.write(&vote).map_err(|error| chain(&error))?;
        self.truth.vote = vote;
        Ok("vote".to_owned())
    }

    /// A new reign whose hot has less: back to the end of some block.
    fn cut(&mut self, in_use: &mut InUse) -> Result<String, String> {
        self.epoch += 1;
        self.wall_ms += DAY_MS;
        self.disk.inner().set_wall_ms(self.wall_ms);
        let blocks = &self.truth.log.blocks;
        let back = self.random.below(blocks.len().min(9) as u64 + 1) as usize;
        let last = match blocks.len() - back {
            0 => self.truth.log.floor.lsn,
            kept => blocks[kept - 1].last,
        };
        in_use.log.cut(last).map_err(|error| chain(&error))?;
        let blocks = self.truth.log.cut(last);
        if !blocks.is_empty() {
            self.truth.aside.push(Aside { after: self.truth.log.end(), blocks });
        }
        self.note_durable(in_use);
        Ok(format!("cut after {last}"))
    }

    /// A full copy takes the log's place.
    fn reset(&mut self, in_use: &mut InUse) -> Result<String, String> {
        self.epoch += 1;
        let at = EntryId { epoch: Epoch(self.epoch), lsn: Lsn(self.truth.log.end().lsn.0 + 5) };
        let mut epochs = self.truth.log.epochs.clone();
        epochs.push((at.epoch, Lsn(at.lsn.0 - 1)));
        in_use.log.reset(at, &epochs).map_err(|error| chain(&error))?;
        self.truth.log.reset(at, &epochs);
        self.note_durable(in_use);
        Ok(format!("reset to {at}"))
    }

    fn retain(&mut self, in_use: &mut InUse) -> Result<String, String> {
        let blocks = &self.truth.log.blocks;
        let needed = blocks.get(blocks.len() * 3 / 4).map_or(self.truth.log.floor.lsn, |block| block.last);
        let keep = Keep { size_bytes: self.random.below(3) * self.segment_size_bytes, since_ms: 0 };
        in_use.log.retain_after(needed, keep).map_err(|error| chain(&error))?;
        let floor = in_use.log.floor();
        if floor.lsn > needed && floor != self.truth.log.floor {
            return Err(format!("retention dropped what follows {needed}, up to {floor}"));
        }
        let dropped = self.truth.log.clone().drop_front(floor);
        self.truth.log = dropped.ok_or(format!("retention made {floor} the floor, where no block ends"))?;
        self.note_durable(in_use);
        Ok(format!("retain after {needed}"))
    }

    fn mark_whole_or_not(&mut self, in_use: &mut InUse) -> Result<String, String> {
        use hotwarm_log::FolderState::{Complete, Incomplete};
        let state = if self.truth.record.state == Complete { Incomplete } else { Complete };
        let marked = match state {
            Complete => in_use.record.mark_complete(),
            Incomplete => in_use.record.mark_incomplete(),
        };
        marked.map_err(|error| chain(&error))?;
        self.truth.record.state = state;
        Ok(format!("mark the folder {state:?}"))
    }

    /// Old side files go.
    fn prune(&mut self, in_use: &mut InUse) -> Result<String, String> {
        let removed = in_use.log.prune_cuts(self.wall_ms).map_err(|error| chain(&error))?;
        // The oldest, since each was made on a later day.
        let count = removed.len();
        if count > 0 && count + hotwarm_log::CUT_FILES_KEPT_MIN > self.truth.aside.len() {
            return Err(format!("of {} side files {count} were removed", self.truth.aside.len()));
        }
        self.truth.aside.drain(..count);
        Ok(format!("remove {count} side files"))
    }

    fn stop(&mut self, in_use: InUse) -> Result<String, String> {
        let InUse { record, log, .. } = in_use;
        log.close().map_err(|error| chain(&error))?;
        self.truth.durable = self.truth.log.blocks.len();
        record.close_cleanly().map_err(|error| chain(&error))?;
        self.truth.record.is_clean = true;
        Ok("stop".to_owned())
    }

    /// The process or the power goes.
    fn crash(&mut self) -> String {
        let power = Crash::OF_POWER[self.random.below(Crash::OF_POWER.len() as u64) as usize];
        let crash = if self.random.one_in(2) { Crash::Process } else { power };
        self.disk.inner().crash(crash);
        format!("crash {crash:?}")
    }
}
