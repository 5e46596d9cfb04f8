//! Readable transcripts of every flow of the protocol: `tests/scenarios/*.txt`.
//!
//! A file holds a comment (what it shows, which rules it guards), commands, a line `---`, and what happened. The test
//! carries the commands out on a small group in virtual time and compares. `HOTWARM_TRANSCRIPTS=write` writes what
//! happened into the files: then the difference is for a person to review.

#![expect(clippy::unwrap_used, reason = "a test ends where its own set-up is wrong")]

mod command;
mod group;
mod machine;
mod telling;

use group::Group;
use std::fs;
use std::path::PathBuf;

#[test]
fn every_transcript_is_what_happens() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut files: Vec<PathBuf> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    files.sort();
    assert!(!files.is_empty(), "no scenario in {}", folder.display());
    let write = std::env::var("HOTWARM_TRANSCRIPTS").is_ok_and(|value| value == "write");
    let mut differing = Vec::new();
    for path in files {
        let text = fs::read_to_string(&path).unwrap();
        let (commands, expected) = text.split_once("---\n").unwrap_or((text.as_str(), ""));
        let happened = play(commands);
        if happened == expected {
            continue;
        }
        if write {
            fs::write(&path, format!("{commands}---\n{happened}")).unwrap();
        } else {
            differing.push(format!("{}\n{}", path.display(), first_difference(expected, &happened)));
        }
    }
    assert!(differing.is_empty(), "{}\n(HOTWARM_TRANSCRIPTS=write accepts)", differing.join("\n"));
}

fn play(commands: &str) -> String {
    let mut group: Option<Group> = None;
    for line in commands.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match (&mut group, line.strip_prefix("cluster ")) {
            (None, Some(words)) => group = Some(Group::new(words)),
            (Some(group), None) => group.command(line),
            _ => panic!("a scenario begins with one cluster line: {line}"),
        }
    }
    let group = group.expect("a scenario has a cluster line");
    group.finish()
}

fn first_difference(expected: &str, happened: &str) -> String {
    let mut lines = expected.lines().chain(std::iter::repeat(""));
    for (number, line) in happened.lines().enumerate() {
        let wanted = lines.next().unwrap_or_default();
        if wanted != line {
            return format!("  line {}:\n  expected: {wanted}\n  happened: {line}", number + 1);
        }
    }
    format!("  missing at the end: {}", lines.next().unwrap_or_default())
}
