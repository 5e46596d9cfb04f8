//! One seed, from its draw to its outcome. A panic of the core is an outcome too.

use crate::bugs::Bug;
use crate::outcome::{Kind, Outcome, Violation};
use crate::plan::Course;
use crate::rng::Rng;
use crate::trace::{Hash, Kept, Trace};
use crate::world::World;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

thread_local! {
    /// Where this thread panicked last: `catch_unwind` does not tell.
    static PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// What is to be run.
#[derive(Clone, Debug)]
pub struct Run {
    /// Draws everything.
    pub seed: u64,
    /// What kind of run.
    pub course: Course,
    /// The planted bug, if any.
    pub bug: Option<Bug>,
    /// Of the faults that the seed draws, only those of these numbers happen; `None`: all.
    pub only: Option<BTreeSet<u32>>,
}

impl Run {
    /// A seed with all that it draws.
    #[must_use]
    pub fn new(seed: u64, course: Course) -> Self {
        Self { seed, course, bug: None, only: None }
    }

    /// Runs it.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        self.traced(Trace::Off).0
    }

    /// Runs it and takes the hash of everything that happens; slower.
    #[must_use]
    pub fn hashed(&self) -> Outcome {
        self.traced(Trace::Hash(Hash::default())).0
    }

    /// Runs it and prints what happens, from a virtual time on (nanoseconds).
    #[must_use]
    pub fn printed(&self, from: u64) -> Outcome {
        self.traced(Trace::Print { from }).0
    }

    /// Runs it and keeps the last lines of what happens.
    #[must_use]
    pub fn told(&self, lines: usize) -> (Outcome, Vec<String>) {
        let (outcome, trace) = self.traced(Trace::Keep(Kept::last(lines)));
        (outcome, trace.into_lines())
    }

    /// The world before anything happens.
    pub(crate) fn world(&self, trace: Trace) -> World {
        World::new(self, trace)
    }

    fn traced(&self, trace: Trace) -> (Outcome, Trace) {
        listen_for_panics();
        let mut world = self.world(trace);
        if panic::catch_unwind(AssertUnwindSafe(|| world.run())).is_err() {
            let what = PANIC.with_borrow(Clone::clone);
            let (step, time) = (world.counts.steps, world.now);
            world.violation = Some(Violation { kind: Kind::Crash, rule: "panic".to_owned(), step, time, what });
        }
        let outcome = Outcome {
            seed: self.seed,
            violation: world.violation,
            machine_time: world.now,
            steps: world.counts.steps,
            faults: world.counts.faults,
            notes: world.counts.notes,
            drills: world.counts.drills,
            happened: world.happened,
            acknowledged: world.oracle.acknowledged,
            reads: world.oracle.reads,
            served_after: world.settle.served_after,
            beyond: world.settle.beyond,
            hash: world.trace.hash(),
        };
        (outcome, world.trace)
    }
}

/// The seed of the `index`th run that begins at `start`: spread, so that neighbours have nothing in common.
#[must_use]
pub fn seed_at(start: u64, index: u64) -> u64 {
    Rng::new(start.wrapping_add(index)).bits()
}

/// Keeps the message of a panic for the outcome, instead of printing it.
fn listen_for_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let inside = std::thread::current().name().is_some_and(|name| name.starts_with("sim"));
            PANIC.with_borrow_mut(|place| *place = info.to_string().replace('\n', ": "));
            if !inside {
                before(info);
            }
        }));
    });
}
