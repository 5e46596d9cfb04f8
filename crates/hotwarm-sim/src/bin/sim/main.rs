//! `sim`: runs seeds of the simulator, or one with its story, all pairs of faults, or the planted bugs.
//!
//! Exit codes: 0 all is well, 2 wrong usage, 3 a node crashed, 4 an invariant is broken, 5 a group did not converge,
//! 6 a planted bug was not found.

mod flags;
mod many;
mod mutants;
mod one;

use flags::Flags;
use std::process::ExitCode;

fn main() -> ExitCode {
    let flags = match Flags::parse(std::env::args().skip(1)) {
        Ok(flags) => flags,
        Err(error) => {
            eprintln!("sim: {error}\n{}", flags::USAGE);
            return ExitCode::from(2);
        }
    };
    match (flags.verb.as_deref(), flags.seed) {
        (Some("mutants"), _) => mutants::find_all(&flags),
        (Some("pairs"), _) => many::scripts(&flags, 2),
        (Some("triples"), _) => many::scripts(&flags, 3),
        (Some("faults"), _) => flags::list_faults(),
        (Some(_), _) => flags::list_bugs(),
        (None, Some(seed)) => one::one(&flags, seed),
        (None, None) => many::seeds(&flags),
    }
}

/// Starts threads whose panics belong to a run, and waits for them.
fn on_threads(jobs: usize, work: impl Fn() + Sync) {
    std::thread::scope(|scope| {
        for job in 0..jobs {
            let spawned = std::thread::Builder::new().name(format!("sim{job}")).spawn_scoped(scope, &work);
            if let Err(error) = spawned {
                eprintln!("sim: start a thread: {error}");
            }
        }
    });
}
