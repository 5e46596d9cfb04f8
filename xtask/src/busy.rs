//! A group at its default timers on a machine whose every core is taken: nothing may fail over.

use crate::tools::{cargo, output, release_dir, run};
use std::hint::black_box;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// Threads that do nothing but use a processor, for each processor: the group and its load get a third at best.
const BURNERS_PER_CORE: usize = 2;

/// Builds the program and lets a group run under full load for so many seconds.
///
/// # Errors
/// A node took over, or a write was lost, doubled or refused.
pub fn busy(arguments: &[String]) -> Result<(), String> {
    let seconds = match arguments {
        [] => 600,
        [flag, number] if flag == "--seconds" => {
            number.parse().map_err(|_| format!("--seconds {number}: a whole number is needed"))?
        }
        _ => return Err("usage: cargo xtask busy [--seconds N]".to_owned()),
    };
    run(cargo().args(["build", "--release", "--locked", "--package", "hotwarm"]))?;
    under_load(seconds)
}

/// Runs the demo's group and writers, breaking nothing, while every core is taken.
///
/// # Errors
/// As for [`busy`].
pub fn under_load(seconds: u64) -> Result<(), String> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let stop = Arc::new(AtomicBool::new(false));
    let burners: Vec<_> = (0..cores * BURNERS_PER_CORE)
        .map(|_| {
            let stop = Arc::clone(&stop);
            thread::spawn(move || {
                let mut number = 0_u64;
                while !stop.load(Ordering::Relaxed) {
                    number = black_box(number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
                }
            })
        })
        .collect();
    println!("{} threads take all of {cores} cores for {seconds} s", burners.len());
    let program = release_dir()?.join("hotwarm");
    let report =
        output(Command::new(program).args(["demo", "--rounds", "0", "--json", "--seconds"]).arg(seconds.to_string()));
    stop.store(true, Ordering::Relaxed);
    for burner in burners {
        burner.join().map_err(|_| "a thread that only counts has panicked".to_owned())?;
    }
    println!("{}\nno takeover in {seconds} s of full load", report?);
    Ok(())
}
