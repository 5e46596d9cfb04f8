//! A target: the function, its examples, and the limits under which every driver runs it.
//!
//! Time is that of the thread's processor, so that a busy machine fails nothing; memory is what the input allocates at
//! most at one moment, counted by the allocator of this package.

use rustix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// No input may take longer: a decoder stands in front of a thread that serves others.
pub const INPUT_TIME_MAX: Duration = Duration::from_millis(100);

/// The longest input that a search tries, in bytes: room for every example, and small enough for many a second.
pub const INPUT_SIZE_BYTES_MAX: usize = 2048;

/// An input that takes longer is run again, since interrupts are charged to whoever they interrupt.
const SUSPECT_TIME: Duration = Duration::from_millis(5);

/// Runs of such an input, of which the fastest counts.
const SUSPECT_RUNS: usize = 3;

/// An example of what a target decodes, built by the program itself.
pub type Seed = (&'static str, Vec<u8>);

/// See the module.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name: that of its corpus folder.
    pub name: &'static str,
    /// Panics if something that must hold does not.
    pub run: fn(&[u8]),
    /// What it is shown first.
    pub seeds: fn() -> Vec<Seed>,
    /// Words that are worth trying, for a search.
    pub words: fn() -> Vec<String>,
    /// What an input may allocate at most at one moment whatever its size, in bytes: what the target itself needs.
    pub memory_base_bytes: u64,
    /// What it may allocate beside that for each of its bytes.
    pub memory_factor: u64,
}

/// What one input took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Time of the processor.
    pub time: Duration,
    /// Most bytes allocated at one moment.
    pub memory_bytes: u64,
}

impl Cost {
    /// Nothing.
    pub const ZERO: Self = Self { time: Duration::ZERO, memory_bytes: 0 };

    /// Raises each part to that of another cost; says whether any was raised.
    pub fn raise(&mut self, other: Self) -> bool {
        let before = *self;
        *self = Self { time: self.time.max(other.time), memory_bytes: self.memory_bytes.max(other.memory_bytes) };
        *self != before
    }
}

impl Target {
    /// Runs one input, within the limits.
    ///
    /// # Panics
    /// Something that must hold does not, or the input took too long or too much memory.
    pub fn check(&self, input: &[u8]) -> Cost {
        let mut cost = self.measured(input);
        for _ in 1..SUSPECT_RUNS {
            if cost.time > SUSPECT_TIME {
                cost.time = cost.time.min(self.measured(input).time);
            }
        }
        assert!(cost.time <= INPUT_TIME_MAX, "{}: {} bytes took {:?}", self.name, input.len(), cost.time);
        let memory_bytes_max = self.memory_base_bytes + self.memory_factor * input.len() as u64;
        assert!(
            cost.memory_bytes <= memory_bytes_max,
            "{}: {} bytes allocated {} bytes, at most {memory_bytes_max} are in proportion",
            self.name,
            input.len(),
            cost.memory_bytes
        );
        cost
    }

    fn measured(&self, input: &[u8]) -> Cost {
        let began = processor_time();
        let memory = allocation_counter::measure(|| (self.run)(input));
        Cost { time: processor_time().saturating_sub(began), memory_bytes: memory.bytes_max }
    }
}

fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}
