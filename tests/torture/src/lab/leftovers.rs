//! What a killed run has left behind: it is known by its name, which carries the id of the process that made it.

use super::{Cgroups, PREFIX};
use crate::tools::run;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Removes processes, control groups, mounts and namespaces of runs whose process is gone; says what it has removed.
///
/// # Errors
/// Something of a dead run cannot be removed.
pub fn remove() -> Result<Vec<String>, String> {
    let mut removed = Vec::new();
    for name in Cgroups::named(PREFIX).into_iter().filter(|name| is_dead(name)) {
        // Dropped, it is removed with its processes.
        drop(Cgroups::of(&name));
        removed.push(name);
    }
    for place in mounts()? {
        run("umount", &["--lazy", &place])?;
        removed.push(place);
    }
    for name in namespaces().into_iter().filter(|name| is_dead(name)) {
        run("ip", &["netns", "delete", &name])?;
        removed.push(name);
    }
    Ok(removed)
}

/// The mounts of dead runs, the last one first.
fn mounts() -> Result<Vec<String>, String> {
    let text = fs::read_to_string("/proc/self/mounts").map_err(|error| format!("/proc/self/mounts: {error}"))?;
    let places = text.lines().filter_map(|line| line.split_whitespace().nth(1));
    let of_labs = places.filter(|place| place.split('/').any(is_dead));
    let mut all: Vec<String> = of_labs.map(str::to_owned).collect();
    all.reverse();
    Ok(all)
}

fn namespaces() -> BTreeSet<String> {
    let entries = fs::read_dir("/run/netns");
    entries.into_iter().flatten().flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Whether a name is that of a lab whose process is gone.
fn is_dead(name: &str) -> bool {
    let Some(rest) = name.strip_prefix(PREFIX) else { return false };
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    !digits.is_empty() && !Path::new("/proc").join(digits).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_labs_whose_process_is_gone_are_dead() {
        let ours = format!("{PREFIX}{}-a", std::process::id());
        assert!(!is_dead(&ours));
        assert!(is_dead(&format!("{PREFIX}4194999-a")), "no process has an id above the kernel's maximum");
        assert!(!is_dead("torture-1-a") && !is_dead(PREFIX));
    }
}
