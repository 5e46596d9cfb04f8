//! A model check of the core: every order of what may happen, up to a bound, on the very code that runs in production.
//!
//! Where the simulator draws one story from each seed, this looks at all of them, of a group that is small: the register
//! alone, and two data nodes with a witness. No rule of the protocol is written down a second time as a model, so the model
//! cannot drift from the product: the states are those of `hotwarm_core`'s own acceptors, proposers and nodes, cloned and
//! fingerprinted. What is written here is what surrounds them, and the judges.
//!
//! ```
//! use hotwarm_model::{Limits, Scene};
//! let calm = Scene::named("calm").expect("a group that nothing happens to");
//! let report = calm.check(None, Limits { states: 100_000, depth: u32::MAX });
//! assert!(report.complete && report.violation.is_none());
//! ```
//!
//! What it does not do: symmetry (the nodes' numbers decide ties), liveness (the simulator's drills do), bytes on the wire and
//! on the disk (other crates' tests do).

mod check;
mod explore;
mod fingerprint;
mod group;
mod mistakes;
mod register;
mod table;

pub use check::Scene;
pub use explore::{Limits, Model, Report, Violation, explore};
pub use mistakes::Mistake;
