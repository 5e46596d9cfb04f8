//! Each error path once: every place in log, replication, register and storage that is reached only with an error is
//! reached by a test, or a list says why none can.
//!
//! Most catastrophic failures of distributed systems come from errors that were signalled, and handled by code that no
//! test had ever run. Here the places come from the syntax (`sites`), what was run from the compiler's counters
//! (`coverage`), and what no test can reach from `xtask/unforced.txt`, with a reason for each. The gate fails on a place
//! that is neither reached nor listed, and on one that is listed and reached, or is no more.
//!
//! It does not judge what a test asserts, only that the path was taken.

mod coverage;
mod sites;

use crate::tools::root;
use coverage::{Coverage, Executed};
use sites::{Site, sites};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Below `crates/`: where an error that is handled wrongly costs data. Folders with all that is in them.
const WATCHED: [&str; 17] = [
    "hotwarm-core/src",
    "hotwarm-disk/src/lib.rs",
    "hotwarm-disk/src/lock.rs",
    "hotwarm-disk/src/os.rs",
    "hotwarm-disk/src/probe.rs",
    "hotwarm-log/src",
    "hotwarm-node/src/birth",
    "hotwarm-node/src/data_folder.rs",
    "hotwarm-node/src/feeder.rs",
    "hotwarm-node/src/incoming_record.rs",
    "hotwarm-node/src/recover.rs",
    "hotwarm-node/src/scrub.rs",
    "hotwarm-node/src/snapshot_transfer",
    "hotwarm-node/src/space.rs",
    "hotwarm-node/src/storage.rs",
    "hotwarm-node/src/transport",
    "hotwarm-wire/src",
];

/// Whose tests force the errors.
const PACKAGES: [&str; 5] = ["hotwarm-disk", "hotwarm-log", "hotwarm-core", "hotwarm-wire", "hotwarm-node"];

/// The places that no test can reach, below the root.
const UNFORCED: &str = "xtask/unforced.txt";

/// A place that is listed as out of reach.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Unforced {
    path: PathBuf,
    /// The line of the source, without the blanks around it.
    code: String,
    /// How many places on such lines are meant.
    count: usize,
}

/// Runs the tests and compares.
///
/// # Errors
/// A place is neither reached nor listed, the list is out of date, or a test fails.
pub fn check() -> Result<(), String> {
    let watched = watched_files()?;
    let coverage = Coverage::build(&PACKAGES)?;
    coverage.begin()?;
    for package in PACKAGES {
        coverage.run(package, &[])?;
    }
    let executed = coverage.read()?;
    let path = root().join(UNFORCED);
    let list = fs::read_to_string(&path).map_err(|error| format!("{UNFORCED}: {error}"))?;
    let listed = unforced(&list)?;
    let mut missed = BTreeMap::new();
    let (mut count, mut wrong) = (0, Vec::new());
    for path in &watched {
        let text = fs::read_to_string(root().join(path)).map_err(|error| format!("{}: {error}", path.display()))?;
        let sites = sites(&text).map_err(|error| format!("{}: {error}", path.display()))?;
        count += sites.len();
        for (site, code) in unreached(&text, &sites, executed.get(path)) {
            missed.entry((path.clone(), code)).or_insert_with(Vec::new).push(site);
        }
    }
    for ((path, code), sites) in &missed {
        let expected = listed.iter().find(|listed| listed.path == *path && listed.code == *code);
        if expected.map_or(0, |listed| listed.count) != sites.len() {
            let Site { line, column, what } = sites[0];
            wrong.push(format!("{}:{line}:{column}: no test reaches {what}: {code}", path.display()));
        }
    }
    for listed in &listed {
        if !missed.contains_key(&(listed.path.clone(), listed.code.clone())) {
            wrong.push(format!(
                "{UNFORCED}: a test reaches it, or it is gone: {}: {}",
                listed.path.display(),
                listed.code
            ));
        }
    }
    for line in &wrong {
        println!("{line}");
    }
    if wrong.is_empty() {
        let beyond: usize = listed.iter().map(|listed| listed.count).sum();
        println!(
            "{count} places in {} files are reached only with an error: tests reach all but {beyond}, which are listed",
            watched.len()
        );
        return Ok(());
    }
    Err(format!("{} places: reach them in a test, or say in {UNFORCED} why none can", wrong.len()))
}

/// The places that were not reached, with their lines.
fn unreached(text: &str, sites: &[Site], executed: Option<&Executed>) -> Vec<(Site, String)> {
    let lines: Vec<&str> = text.lines().collect();
    let is_reached =
        |site: &Site| executed.and_then(|file| file.at(site.line, site.column)).is_some_and(|count| count > 0);
    let missed = sites.iter().filter(|site| !is_reached(site));
    missed.map(|site| (*site, lines.get(site.line - 1).map_or("", |line| line.trim()).to_owned())).collect()
}

/// Reads the list. A block is a path, indented lines of code each followed by nothing else, and a reason that begins
/// with `#` above them; `2x ` before the code says that two places on such lines are meant.
fn unforced(text: &str) -> Result<Vec<Unforced>, String> {
    let mut found = Vec::new();
    let mut reason = false;
    let mut path: Option<PathBuf> = None;
    for (index, line) in text.lines().enumerate() {
        let fault = |why: &str| format!("{UNFORCED}:{}: {why}", index + 1);
        if line.is_empty() {
            (reason, path) = (false, None);
        } else if line.starts_with('#') {
            reason = true;
        } else if let Some(code) = line.strip_prefix("    ") {
            let path = path.clone().ok_or_else(|| fault("a path stands above the lines of a file"))?;
            let (count, code) = counted(code);
            found.push(Unforced { path, code: code.to_owned(), count });
        } else if reason {
            path = Some(PathBuf::from(line));
        } else {
            return Err(fault("a reason, which begins with #, stands above the path"));
        }
    }
    Ok(found)
}

/// `3x code`: three places.
fn counted(code: &str) -> (usize, &str) {
    let told = code.split_once("x ").and_then(|(count, rest)| Some((count.parse().ok()?, rest)));
    told.unwrap_or((1, code))
}

/// The source files that are watched, from the root.
fn watched_files() -> Result<Vec<PathBuf>, String> {
    let mut files = Vec::new();
    for place in WATCHED {
        let place = Path::new("crates").join(place);
        let before = files.len();
        gather(&place, &mut files)?;
        if files.len() == before {
            return Err(format!("{} is watched for its error paths, and holds no source", place.display()));
        }
    }
    files.sort();
    Ok(files)
}

fn gather(place: &Path, files: &mut Vec<PathBuf>) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("{}: {error}", place.display());
    let whole = root().join(place);
    if whole.is_file() {
        files.push(place.to_owned());
        return Ok(());
    }
    for entry in fs::read_dir(&whole).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let inner = place.join(entry.file_name());
        let is_source = inner.extension().is_some_and(|extension| extension == "rs");
        if is_source || entry.path().is_dir() {
            gather(&inner, files)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_read_and_each_entry_has_a_reason() {
        let list = "# Never.\na/b.rs\n    x()?;\n    2x y()?;\n\n# Nor this.\nc.rs\n    z\n";
        let entry = |path: &str, code: &str, count| Unforced { path: path.into(), code: code.to_owned(), count };
        assert_eq!(
            unforced(list).unwrap(),
            [entry("a/b.rs", "x()?;", 1), entry("a/b.rs", "y()?;", 2), entry("c.rs", "z", 1)]
        );
        assert!(unforced("a/b.rs\n    x\n").unwrap_err().contains(":1: a reason"));
        assert!(unforced("# Why.\n    x\n").unwrap_err().contains(":2: a path"));
    }

    #[test]
    fn what_is_watched_is_there() {
        let files = watched_files().unwrap();
        assert!(files.iter().any(|path| path.ends_with("hotwarm-log/src/slot/sector.rs")), "{files:?}");
    }
}
