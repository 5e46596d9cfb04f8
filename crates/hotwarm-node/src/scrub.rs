//! Reads what the log holds, slowly and over and over, so that damage is found while other nodes still have the data.
//!
//! Each sealed segment is read soon after it was sealed, and then about once a day. Damage is what it is for a follower
//! that asks for the same entries: the node fences itself and is replaced (INV-9). What the system still has in memory
//! is checked there and not on the device.

use hotwarm_log::{LogReader, ReadError};
use hotwarm_types::Lsn;
use std::time::{Duration, Instant};

/// Bytes read at a time; a block may be larger.
const STEP_SIZE_BYTES: u64 = 1 << 20;

/// Between two steps: 8 MiB/s at most, a fraction of what any disk can do, and 10 GiB in 20 minutes.
const STEP_PAUSE: Duration = Duration::from_millis(125);

/// Between looks for something to read.
const IDLE_PAUSE: Duration = Duration::from_secs(1);

/// After the beginning of a lap the next one begins.
const LAP: Duration = Duration::from_secs(24 * 3600);

/// Where the reading is.
#[derive(Debug)]
pub struct Scrub {
    /// First position of the next block; at or before the log's floor: its first.
    next: Lsn,
    lap_began: Instant,
    due: Instant,
}

impl Scrub {
    /// Begins at the beginning, now.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { next: Lsn::ZERO, lap_began: now, due: now }
    }

    /// How long until the next step.
    #[must_use]
    pub fn pause(&self, now: Instant) -> Duration {
        self.due.saturating_duration_since(now)
    }

    /// Reads on if it is time.
    ///
    /// # Errors
    /// What was found damaged, or cannot be read.
    pub fn step(&mut self, reader: &LogReader, now: Instant) -> Result<(), ReadError> {
        if now < self.due {
            return Ok(());
        }
        if now.saturating_duration_since(self.lap_began) >= LAP {
            *self = Self::new(now);
        }
        let from = self.next.max(reader.floor().lsn.next());
        if from > reader.sealed().lsn {
            self.due = now + IDLE_PAUSE;
            return Ok(());
        }
        self.due = now + STEP_PAUSE;
        match reader.read(from, STEP_SIZE_BYTES) {
            Ok(blocks) => self.next = blocks.last().map_or(Lsn::ZERO, |block| block.last.next()),
            // The log was cut meanwhile, and written anew.
            Err(ReadError::InsideBlock { .. }) => self.next = Lsn::ZERO,
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hotwarm_disk::{Disk, FaultDisk};
    use hotwarm_log::{Log, LogOptions};
    use hotwarm_types::{Block, BlockKind, ClusterId, Epoch, GroupId, Payload};
    use std::sync::Arc;

    fn filled(disk: &FaultDisk, count: u64) -> Log {
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        let options = LogOptions { segment_size_bytes: 4096, ..LogOptions::new(ClusterId(1), GroupId(1)) };
        let mut log = Log::create(shared, "log", options).unwrap();
        append(&mut log, Epoch(1), count);
        log
    }

    fn append(log: &mut Log, epoch: Epoch, count: u64) {
        for _ in 0..count {
            let first = log.end().lsn.next();
            let payload = Payload::new(&[7; 600]);
            let block = Block { kind: BlockKind::Data, epoch, first, last: first.plus(1), stamp_ms: 1, payload };
            log.append(&block).unwrap();
        }
        log.sync().unwrap();
    }

    /// The reader's position once nothing is left to read.
    fn lap(scrub: &mut Scrub, log: &Log, now: &mut Instant) -> Result<Lsn, ReadError> {
        loop {
            scrub.step(&log.reader(), *now)?;
            let pause = scrub.pause(*now);
            *now += pause;
            if pause >= IDLE_PAUSE {
                return Ok(scrub.next);
            }
        }
    }

    #[test]
    fn every_sealed_segment_is_read_once_and_again_after_a_day() {
        let disk = FaultDisk::new(1);
        let mut log = filled(&disk, 30);
        let (began, mut now) = (Instant::now(), Instant::now());
        let mut scrub = Scrub::new(began);
        assert!(lap(&mut scrub, &log, &mut now).unwrap() > log.reader().sealed().lsn);
        append(&mut log, Epoch(1), 30);
        assert!(lap(&mut scrub, &log, &mut now).unwrap() > log.reader().sealed().lsn, "what was sealed since");
        // Damage in what was read already.
        disk.flip_bit("log/0000000002.log", 1000, 3);
        lap(&mut scrub, &log, &mut now).unwrap();
        now = began + LAP;
        assert!(matches!(lap(&mut scrub, &log, &mut now), Err(ReadError::Corrupt { .. })));
    }

    #[test]
    fn a_cut_behind_it_is_no_damage() {
        let disk = FaultDisk::new(1);
        let mut log = filled(&disk, 30);
        let mut now = Instant::now();
        let mut scrub = Scrub::new(now);
        lap(&mut scrub, &log, &mut now).unwrap();
        // Every block ends one position later than before.
        log.cut(Lsn(20)).unwrap();
        let payload = Payload::new(&[7; 600]);
        let (first, last) = (Lsn(21), Lsn(21));
        let block = Block { kind: BlockKind::EpochStart, epoch: Epoch(2), first, last, stamp_ms: 1, payload };
        log.append(&block).unwrap();
        append(&mut log, Epoch(2), 40);
        assert!(lap(&mut scrub, &log, &mut now).unwrap() > log.reader().sealed().lsn);
    }
}
