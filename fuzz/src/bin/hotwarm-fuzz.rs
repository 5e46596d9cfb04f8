//! The coverage-guided driver: libFuzzer around the target that `HOTWARM_FUZZ_TARGET` names. `cargo xtask fuzz` builds
//! and runs it; libFuzzer's own arguments follow.
//!
//! Before the search, the target's examples and words are written below the folder that `HOTWARM_FUZZ_FOLDER` names.
//! Each input that takes longer than any before is told on standard error.

#![no_main]

use hotwarm_fuzz::{Cost, Target, target};
use libfuzzer_sys::fuzz_target;
use std::path::PathBuf;
use std::sync::{LazyLock, Mutex, PoisonError};

static TARGET: LazyLock<&Target> = LazyLock::new(|| {
    let name = std::env::var("HOTWARM_FUZZ_TARGET").expect("HOTWARM_FUZZ_TARGET names the target");
    target(&name).unwrap_or_else(|| panic!("no target is named {name:?}"))
});

/// The most that any input took so far.
static WORST: Mutex<Cost> = Mutex::new(Cost::ZERO);

fn prepare() {
    let folder = std::env::var_os("HOTWARM_FUZZ_FOLDER").map(PathBuf::from).expect("HOTWARM_FUZZ_FOLDER is set");
    TARGET.write_examples(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
}

fn tell(cost: Cost) {
    let mut worst = WORST.lock().unwrap_or_else(PoisonError::into_inner);
    if worst.raise(cost) {
        eprintln!("worst: {} us, {} bytes", worst.time.as_micros(), worst.memory_bytes);
    }
}

fuzz_target!(init: prepare(), |input: &[u8]| tell(TARGET.check(input)));
