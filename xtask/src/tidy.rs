//! What every source file must keep, and no compiler checks.

use crate::tools::root;
use std::fs;
use std::path::{Path, PathBuf};

/// A file of more lines probably holds two nouns: it is listed, and not an error.
const LINES_MAX: usize = 600;
/// Words that stand for work that was not done. Split, so that this file does not find itself.
const UNDONE: [&str; 3] = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
/// Paths of somebody's machine.
const MACHINES: [&str; 3] = [concat!("/ho", "me/"), concat!("/ro", "ot/"), concat!("/wo", "rk/")];

/// Checks every source file and document, and prints what is wrong.
pub fn check() -> Result<(), String> {
    let root = root();
    let mut files = Vec::new();
    for folder in [
        "crates",
        "benches",
        "fuzz/src",
        "fuzz/tests",
        "tests/storage",
        "tests/torture",
        "xtask",
        "docs",
        "contrib",
        ".ci",
    ] {
        gather(&root.join(folder), &mut files)?;
    }
    files.extend(["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "Cargo.toml"].map(|name| root.join(name)));
    files.sort();
    let mut wrong = Vec::new();
    let mut long = Vec::new();
    for path in &files {
        let Ok(text) = fs::read_to_string(path) else { continue };
        let name = path.strip_prefix(&root).unwrap_or(path).display().to_string();
        wrong.extend(faults(&text, is_rust(path)).into_iter().map(|(line, fault)| format!("{name}:{line}: {fault}")));
        let lines = text.lines().count();
        if is_rust(path) && lines > LINES_MAX {
            long.push(format!("{name}: {lines} lines; does it hold two nouns?"));
        }
    }
    for line in long.iter().chain(&wrong) {
        println!("{line}");
    }
    if wrong.is_empty() {
        println!("{} files are tidy, {} are long", files.len(), long.len());
        return Ok(());
    }
    Err(format!("{} places are not tidy", wrong.len()))
}

fn is_rust(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "rs")
}

fn gather(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), String> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(()) };
    for entry in entries {
        let path = entry.map_err(|error| format!("{}: {error}", folder.display()))?.path();
        if path.is_dir() {
            gather(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}

/// What is wrong with a text: line, from 1, and fault.
fn faults(text: &str, is_rust: bool) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    if is_rust && !text.starts_with("//! ") {
        found.push((1, "a file opens with //! and what it is for".to_owned()));
    }
    if !text.is_empty() && !text.ends_with('\n') {
        found.push((text.lines().count(), "the last line has no end".to_owned()));
    }
    for (index, line) in text.lines().enumerate() {
        let mut fault = |text: String| found.push((index + 1, text));
        if line.ends_with([' ', '\t']) {
            fault("the line ends with a blank".to_owned());
        }
        if let Some(word) = UNDONE.iter().find(|word| has_word(line, word)) {
            fault(format!("{word}: do it, or file it"));
        }
        if let Some(path) = MACHINES.iter().find(|path| line.contains(**path)) {
            fault(format!("{path} is a path of somebody's machine"));
        }
    }
    found
}

/// Whether a word stands in a line by itself: `mkstemp` patterns hold a run of its letters.
fn has_word(line: &str, word: &str) -> bool {
    line.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_').any(|part| part == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fault_is_found_with_its_line() {
        let text = format!("fn main() {{}} \n// {}: later\n// {}me\n", UNDONE[0], MACHINES[0]);
        let found = faults(&text, true);
        let lines: Vec<usize> = found.iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, [1, 1, 2, 3], "{found:?}");
        assert_eq!(faults("//! What for.\n", true), Vec::new());
        assert_eq!(faults("no end", false), [(1, "the last line has no end".to_owned())]);
    }

    #[test]
    fn a_word_within_a_word_is_not_it() {
        assert!(!has_word("MASTODON tmp.XXXXXX", UNDONE[2]) && !has_word(&format!("{}S", UNDONE[0]), UNDONE[0]));
    }
}
