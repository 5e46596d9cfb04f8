//! Visits every state that a model can reach, the nearest first.
//!
//! Breadth first, so that the first violation found is one that no shorter story leads to. States are told apart by
//! fingerprints of 64 bits; of a visited one only the fingerprint and how it was reached are kept, 16 bytes and a little. The
//! states of two levels are in memory: the one that is looked at and the next. A story is told by taking its steps once
//! more from the start.
//!
//! It knows nothing of hotwarm. It runs on one core, and the same model gives the same figures in every run.

use crate::fingerprint::{self, AsIs};
use core::hash::{BuildHasherDefault, Hash};
use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

/// A rule that is broken, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The rule: `INV-3`, `R2`, ...; `panic` where an assertion of the product failed.
    pub rule: &'static str,
    /// What was seen.
    pub what: String,
}

impl Violation {
    /// One violation.
    pub fn new(rule: &'static str, what: impl Into<String>) -> Self {
        Self { rule, what: what.into() }
    }
}

/// A system whose states are visited.
pub trait Model {
    /// Everything that decides what may follow, and what the judges remember.
    type State: Clone + Hash;
    /// Something that may happen next.
    type Step: Copy;

    /// Where it begins.
    fn start(&mut self) -> Vec<Self::State>;

    /// Appends everything that may happen in a state, always in the same order.
    fn steps(&mut self, state: &Self::State, steps: &mut Vec<Self::Step>);

    /// The state after a step.
    ///
    /// # Errors
    /// The first rule that the step breaks.
    fn take(&mut self, state: &Self::State, step: Self::Step) -> Result<Self::State, Violation>;

    /// A step in words, as a person reads it in a story.
    fn tell(&mut self, state: &Self::State, step: Self::Step) -> String;

    /// Told before each level which states are still to be looked at: nothing of the others is needed any more.
    fn keep(&mut self, _states: &[(u32, Self::State)]) {}
}

/// Where to stop.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// States visited at most.
    pub states: u64,
    /// Steps from the start at most.
    pub depth: u32,
}

/// What was found, and how much was looked at.
#[derive(Clone, Debug)]
pub struct Report {
    /// Different states visited.
    pub states: u64,
    /// Steps taken from them; many lead to a state that is known.
    pub transitions: u64,
    /// Every order of up to so many steps was looked at.
    pub depth: u32,
    /// No limit was reached: every state that there is was visited.
    pub complete: bool,
    /// The first violation, and the shortest story that leads to it.
    pub violation: Option<(Violation, Vec<String>)>,
    /// How long it took, seconds.
    pub seconds: f64,
    /// Bytes of memory that the process has held at most, where the system tells; of all models run in it so far.
    pub peak_memory_bytes: Option<u64>,
}

/// How a state was reached: from which visited one, and by which of its steps.
#[derive(Clone, Copy, Debug)]
struct Origin {
    parent: u32,
    step: u16,
}

/// Everything that was visited.
#[derive(Debug, Default)]
struct Visited {
    seen: HashSet<u64, BuildHasherDefault<AsIs>>,
    origins: Vec<Origin>,
}

impl Visited {
    /// The number of a state, if it is new.
    fn visit<S: Hash>(&mut self, state: &S, origin: Origin) -> Option<u32> {
        let print = (fingerprint::of(state) >> 64) as u64;
        if !self.seen.insert(print) {
            return None;
        }
        self.origins.push(origin);
        u32::try_from(self.origins.len() - 1).ok()
    }
}

/// The parent of a state that the model starts in.
const NOWHERE: u32 = u32::MAX;

/// Visits the states of a model until a rule is broken, all are visited, or a limit is reached.
pub fn explore<M: Model>(model: &mut M, limits: Limits) -> Report {
    let began = Instant::now();
    let mut visited = Visited::default();
    let mut level: Vec<(u32, M::State)> = Vec::new();
    for (index, state) in model.start().into_iter().enumerate() {
        let origin = Origin { parent: NOWHERE, step: index as u16 };
        level.extend(visited.visit(&state, origin).map(|number| (number, state)));
    }
    let (mut transitions, mut depth, mut complete) = (0, 0, true);
    let mut violation = None;
    let mut steps = Vec::new();
    'levels: while !level.is_empty() {
        if depth == limits.depth {
            complete = false;
            break;
        }
        model.keep(&level);
        let mut next = Vec::new();
        for (number, state) in &level {
            if visited.origins.len() as u64 >= limits.states {
                complete = false;
                break 'levels;
            }
            steps.clear();
            model.steps(state, &mut steps);
            for (index, step) in steps.iter().enumerate() {
                transitions += 1;
                let origin = Origin { parent: *number, step: index as u16 };
                match take(model, state, *step) {
                    Ok(after) => next.extend(visited.visit(&after, origin).map(|number| (number, after))),
                    Err(broken) => {
                        violation = Some((broken, origin));
                        complete = false;
                        break 'levels;
                    }
                }
            }
        }
        level = next;
        depth += u32::from(!level.is_empty());
    }
    let states = visited.origins.len() as u64;
    let violation = violation.map(|(broken, last)| (broken, story(model, &visited.origins, last)));
    let seconds = began.elapsed().as_secs_f64();
    Report { states, transitions, depth, complete, violation, seconds, peak_memory_bytes: peak_memory_bytes() }
}

/// Takes a step. An assertion of the product that fails is a violation like any other.
fn take<M: Model>(model: &mut M, state: &M::State, step: M::Step) -> Result<M::State, Violation> {
    catch_unwind(AssertUnwindSafe(|| model.take(state, step))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(Violation::new("panic", text.unwrap_or_default()))
    })
}

/// Tells the steps from a start up to `last`.
fn story<M: Model>(model: &mut M, origins: &[Origin], last: Origin) -> Vec<String> {
    let mut path = vec![last];
    while let Some(before) = path.last().and_then(|origin| origins.get(origin.parent as usize)) {
        path.push(*before);
    }
    let mut told = Vec::new();
    let start = path.pop().map_or(0, |origin| usize::from(origin.step));
    let Some(mut state) = model.start().into_iter().nth(start) else { return told };
    let mut steps = Vec::new();
    for origin in path.iter().rev() {
        steps.clear();
        model.steps(&state, &mut steps);
        let step = steps[usize::from(origin.step)];
        told.push(model.tell(&state, step));
        match take(model, &state, step) {
            Ok(after) => state = after,
            Err(_) => break,
        }
    }
    told
}

/// The most memory that this process has had, as Linux tells it.
fn peak_memory_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kibibytes| kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two counters that may be raised up to a bound, and a rule on their product.
    struct Counters {
        bound: u8,
        product_max: u16,
    }

    impl Model for Counters {
        type State = (u8, u8);
        type Step = usize;

        fn start(&mut self) -> Vec<(u8, u8)> {
            vec![(0, 0)]
        }

        fn steps(&mut self, state: &(u8, u8), steps: &mut Vec<usize>) {
            steps.extend((state.0 < self.bound).then_some(0));
            steps.extend((state.1 < self.bound).then_some(1));
        }

        fn take(&mut self, state: &(u8, u8), step: usize) -> Result<(u8, u8), Violation> {
            let after = if step == 0 { (state.0 + 1, state.1) } else { (state.0, state.1 + 1) };
            assert!(after != (9, 9), "nine and nine");
            let product = u16::from(after.0) * u16::from(after.1);
            if product > self.product_max {
                return Err(Violation::new("product", product.to_string()));
            }
            Ok(after)
        }

        fn tell(&mut self, _: &(u8, u8), step: usize) -> String {
            ["left", "right"][step].to_owned()
        }
    }

    const FAR: Limits = Limits { states: u64::MAX, depth: u32::MAX };

    #[test]
    fn every_state_is_visited_once() {
        let report = explore(&mut Counters { bound: 7, product_max: 1_000 }, FAR);
        assert_eq!((report.states, report.transitions, report.depth), (64, 112, 14));
        assert!(report.complete && report.violation.is_none());
    }

    #[test]
    fn the_story_of_a_violation_is_the_shortest() {
        let report = explore(&mut Counters { bound: 20, product_max: 11 }, FAR);
        let (violation, story) = report.violation.expect("a product above 11 is within reach");
        assert_eq!(violation.rule, "product");
        assert_eq!(story.len(), 7, "3 x 4 is reached by 7 steps and by no fewer");
        let left = story.iter().filter(|step| *step == "left").count();
        assert!(left == 3 || left == 4, "{story:?}");
    }

    #[test]
    fn an_assertion_that_fails_is_a_violation() {
        let report = explore(&mut Counters { bound: 9, product_max: 1_000 }, FAR);
        let (violation, story) = report.violation.expect("the corner is within reach");
        assert_eq!((violation.rule, violation.what.as_str(), story.len()), ("panic", "nine and nine", 18));
    }

    #[test]
    fn a_limit_is_told() {
        let shallow = explore(&mut Counters { bound: 7, product_max: 1_000 }, Limits { depth: 3, ..FAR });
        assert_eq!((shallow.states, shallow.depth, shallow.complete), (10, 3, false));
        let few = explore(&mut Counters { bound: 7, product_max: 1_000 }, Limits { states: 20, ..FAR });
        assert!(few.states <= 21 && !few.complete);
    }
}
