//! A deterministic simulator of a hotwarm group: one seed draws every fault.
//!
//! It runs the very core, log, vote record, store and wire format that production runs, under virtual time, against
//! simulated machines, disks and networks. The judges (`invariants`) look at everything after every step; the `oracle`
//! knows only what clients saw. At the end of a run all faults end, and the group must converge. `bugs` plants known
//! mistakes, to test the judges.
//!
//! ```
//! use hotwarm_sim::{Course, Run};
//! let outcome = Run::new(1, Course::Short).outcome();
//! assert!(outcome.violation.is_none(), "{:?}", outcome.violation);
//! ```
//!
//! What it does not simulate: the tree's own files (the store's tests and the storage loops do), asynchronous
//! replication, and forced promotion.

mod bugs;
mod clients;
mod clock;
mod copies;
mod devices;
mod disk;
mod drill;
mod faults;
mod invariants;
mod ledger;
mod links;
mod log;
mod machine;
mod network;
mod operator;
mod oracle;
mod outcome;
mod plan;
mod replay;
mod rng;
mod run;
mod serve;
mod settle;
mod shell;
mod shrink;
mod small;
mod storage;
mod trace;
mod workload;
mod world;

pub use bugs::Bug;
pub use faults::FaultKind;
pub use outcome::{Happened, Kind, Outcome, Summary, Violation};
pub use plan::Course;
pub use replay::replay;
pub use run::{Run, seed_at};
pub use shrink::shrink;
pub use small::Script;
