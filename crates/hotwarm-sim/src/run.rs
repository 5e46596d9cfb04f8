//! One seed, from its draw to its outcome. A panic of the core is an outcome too.

use crate::bugs::Bug;
use crate::outcome::{Kind, Outcome, Violation};
use crate::plan::Course;
use crate::rng::Rng;
use crate::trace::{Hash, Trace};
use crate::world::World;
use std::cell::RefCell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

thread_local! {
    /// Where this thread panicked last: `catch_unwind` does not tell.
    static PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Runs a seed.
#[must_use]
pub fn run(seed: u64, course: Course, bug: Option<Bug>) -> Outcome {
    run_traced(seed, course, bug, Trace::Off)
}

/// Runs a seed and takes the hash of everything that happens; slower.
#[must_use]
pub fn run_hashed(seed: u64, course: Course, bug: Option<Bug>) -> Outcome {
    run_traced(seed, course, bug, Trace::Hash(Hash::default()))
}

/// Runs a seed and prints what happens, from a virtual time on (nanoseconds).
#[must_use]
pub fn print_trace(seed: u64, course: Course, bug: Option<Bug>, from: u64) -> Outcome {
    run_traced(seed, course, bug, Trace::Print { from })
}

/// The seed of the `index`th run that begins at `start`: spread, so that neighbours have nothing in common.
#[must_use]
pub fn seed_at(start: u64, index: u64) -> u64 {
    Rng::new(start.wrapping_add(index)).bits()
}

fn run_traced(seed: u64, course: Course, bug: Option<Bug>, trace: Trace) -> Outcome {
    listen_for_panics();
    let mut world = World::new(seed, course, bug, trace);
    if panic::catch_unwind(AssertUnwindSafe(|| world.run())).is_err() {
        let what = PANIC.with_borrow(Clone::clone);
        let violation =
            Violation { kind: Kind::Crash, rule: "panic".to_owned(), step: world.counts.steps, time: world.now, what };
        world.violation = Some(violation);
    }
    Outcome {
        seed,
        violation: world.violation,
        machine_time: world.now,
        steps: world.counts.steps,
        faults: world.counts.faults,
        notes: world.counts.notes,
        drills: world.counts.drills,
        acknowledged: world.oracle.acknowledged,
        reads: world.oracle.reads,
        served_after: world.settle.served_after,
        beyond: world.settle.beyond,
        hash: world.trace.hash(),
    }
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
