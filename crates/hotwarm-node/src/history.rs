//! What has happened: one [`Event`] for each note of the core and each change in the register's ring, with its cause,
//! evidence, epoch and durations (INV-11).
//!
//! The register's ring is the lasting record of changes of role (R39). The file `history.jsonl` in the data folder
//! tells more, of this node only: one JSON object a line, appended, never rewritten. When it has grown to
//! `FILE_SIZE_BYTES_MAX` it becomes `history.1.jsonl`, replacing the one before. A line that cannot be read (a torn
//! end after a crash, or one of another version) is passed over. Losing this file loses no safety.

use crate::admin::Change;
use hotwarm_core::Note;
use hotwarm_core::register::GroupState;
use hotwarm_types::NodeId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Size at which the file is put aside. Two of them hold some ten thousand events: years of a quiet group.
const FILE_SIZE_BYTES_MAX: u64 = 4 << 20;

/// Where an event was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// In the register, by a majority.
    Register,
    /// In this node's own file.
    Node,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Wall clock of who recorded it, milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// Where it was recorded.
    pub source: Source,
    /// What kind: a stable word, `became_hot`, `shrink`, ... Logs carry the same word.
    pub event: String,
    /// Who noted it, by name; empty for the register.
    pub node: String,
    /// The epoch that it belongs to, where it belongs to one.
    pub epoch: Option<u64>,
    /// What happened, in a sentence.
    pub what: String,
    /// Why: a stable word, or empty.
    pub cause: String,
    /// What was seen, or empty.
    pub evidence: String,
    /// How long each part took, in milliseconds.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub phases_ms: BTreeMap<String, f64>,
}

impl Event {
    /// Names a note of the core. `name_of` gives the members' names.
    #[must_use]
    pub fn of_note(note: &Note, node: &str, at_ms: u64, name_of: impl Fn(NodeId) -> String) -> Self {
        let mut event = Self {
            at_ms,
            source: Source::Node,
            event: word(note).to_owned(),
            node: node.to_owned(),
            epoch: None,
            what: String::new(),
            cause: String::new(),
            evidence: String::new(),
            phases_ms: BTreeMap::new(),
        };
        let mut because = |cause: &hotwarm_core::register::Cause| {
            event.cause = cause.word.clone();
            event.evidence = cause.evidence.clone();
        };
        event.what = match note {
            Note::BecameHot { epoch, cause, polled, chosen, started } => {
                because(cause);
                event.epoch = Some(epoch.0);
                for (phase, length) in [("polled", polled), ("chosen", chosen), ("started", started)] {
                    event.phases_ms.insert(phase.to_owned(), millis(*length));
                }
                format!("{node} is hot")
            }
            Note::HandedOver { epoch, to, drained, chosen } => {
                event.epoch = Some(epoch.0);
                for (phase, length) in [("drained", drained), ("chosen", chosen)] {
                    event.phases_ms.insert(phase.to_owned(), millis(*length));
                }
                format!("{node} handed over to {}", name_of(*to))
            }
            Note::StoppedBeingHot { epoch, cause } => {
                because(cause);
                event.epoch = Some(epoch.0);
                format!("{node} is hot no more")
            }
            Note::Follows { reign } => {
                event.epoch = Some(reign.epoch.0);
                format!("{node} follows {}", name_of(reign.node))
            }
            Note::Stands { epoch, cause } => {
                because(cause);
                event.epoch = Some(epoch.0);
                format!("{node} asks to take over")
            }
            Note::Defers { heard_by } => format!("{node} waits: {} still hears the hot", name_of(*heard_by)),
            Note::Shrunk { nodes, cause } => {
                because(cause);
                let names: Vec<String> = nodes.iter().map(|node| name_of(*node)).collect();
                format!("{} left the in-sync set", names.join(", "))
            }
            Note::Grown { node } => format!("{} entered the in-sync set", name_of(*node)),
            Note::Cut { last, end } => {
                format!(
                    "{node} put the entries after LSN {last} up to {end} aside, into log/cut of its data folder: the hot does not hold them"
                )
            }
            Note::RefusedAmnesiac { peer } => {
                format!("{node} refuses {}: its folder has forgotten something; replace it", name_of(*peer))
            }
            Note::NotAdmitted { name, why } => format!("{name} asks to join and is not admitted: {why}"),
            Note::LeaseLost => format!("{node} lost the lease; local reads wait"),
            Note::LeaseHeld => format!("{node} holds the lease again"),
            Note::DeathAttested { peer, incarnation } => {
                format!("the guardian of {} attested the death of its start {incarnation}", name_of(*peer))
            }
            Note::FullSync { to } => format!("{} needs a full copy", name_of(*to)),
        };
        event
    }

    /// Names a change of the register's ring.
    #[must_use]
    pub fn of_change(change: Change) -> Self {
        Self {
            at_ms: change.at_ms,
            source: Source::Register,
            event: change.kind,
            node: String::new(),
            epoch: Some(change.epoch),
            what: change.what,
            cause: change.cause,
            evidence: change.evidence,
            phases_ms: BTreeMap::new(),
        }
    }

    /// Whether the role of this node changed: what hooks are told of.
    #[must_use]
    pub fn changes_role(&self) -> bool {
        self.source == Source::Node
            && ["became_hot", "handed_over", "stopped_being_hot", "follows", "fenced"].contains(&self.event.as_str())
    }
}

/// The stable word of a note.
#[must_use]
pub fn word(note: &Note) -> &'static str {
    match note {
        Note::BecameHot { .. } => "became_hot",
        Note::HandedOver { .. } => "handed_over",
        Note::StoppedBeingHot { .. } => "stopped_being_hot",
        Note::Follows { .. } => "follows",
        Note::Stands { .. } => "stands",
        Note::Defers { .. } => "defers",
        Note::Shrunk { .. } => "shrunk",
        Note::Grown { .. } => "grown",
        Note::Cut { .. } => "cut",
        Note::RefusedAmnesiac { .. } => "refused_amnesiac",
        Note::NotAdmitted { .. } => "not_admitted",
        Note::LeaseLost => "lease_lost",
        Note::LeaseHeld => "lease_held",
        Note::DeathAttested { .. } => "death_attested",
        Note::FullSync { .. } => "full_sync",
    }
}

fn millis(length: Duration) -> f64 {
    length.as_micros() as f64 / 1000.0
}

/// The register's ring and a node's own events in one list, oldest first.
#[must_use]
pub fn merged(state: Option<&GroupState>, own: Vec<Event>) -> Vec<Event> {
    let mut all = own;
    if let Some(state) = state {
        all.extend(state.changes.iter().map(|change| Event::of_change(Change::of(change, state))));
    }
    all.sort_by_key(|event| (event.at_ms, event.source));
    all
}

/// This node's own file.
#[derive(Debug)]
pub struct History {
    path: PathBuf,
    aside: PathBuf,
    file: File,
    size_bytes: u64,
    size_bytes_max: u64,
}

impl History {
    /// Opens or makes `history.jsonl` in the data folder.
    ///
    /// # Errors
    /// The file cannot be opened for appending.
    pub fn open(data_dir: &Path) -> io::Result<Self> {
        Self::open_bounded(data_dir, FILE_SIZE_BYTES_MAX)
    }

    fn open_bounded(data_dir: &Path, size_bytes_max: u64) -> io::Result<Self> {
        let path = data_dir.join("history.jsonl");
        let mut file = appending(&path)?;
        let mut size_bytes = file.metadata()?.len();
        if size_bytes > 0 {
            // A torn last line must not swallow the next event.
            file.write_all(b"\n")?;
            size_bytes += 1;
        }
        Ok(Self { path, aside: data_dir.join("history.1.jsonl"), file, size_bytes, size_bytes_max })
    }

    /// Appends an event and syncs the file: events are rare. Blocks; call it from a thread that may wait.
    ///
    /// # Errors
    /// The event may not be in the file; the next one may be tried.
    pub fn append(&mut self, event: &Event) -> io::Result<()> {
        let mut line = serde_json::to_vec(event)?;
        line.push(b'\n');
        if self.size_bytes > 0 && self.size_bytes + line.len() as u64 > self.size_bytes_max {
            std::fs::rename(&self.path, &self.aside)?;
            self.file = appending(&self.path)?;
            self.size_bytes = 0;
        }
        self.file.write_all(&line)?;
        self.size_bytes += line.len() as u64;
        self.file.sync_data()
    }

    /// The events in the text of a file; lines that cannot be read are passed over.
    pub fn events(text: &[u8]) -> impl Iterator<Item = Event> {
        let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.filter_map(|line| serde_json::from_slice::<Event>(line).ok())
    }

    /// Reads the last `count_max` events of a data folder, oldest first; what cannot be read is passed over.
    #[must_use]
    pub fn read(data_dir: &Path, count_max: usize) -> Vec<Event> {
        let mut events = Vec::new();
        for name in ["history.1.jsonl", "history.jsonl"] {
            let text = std::fs::read(data_dir.join(name)).unwrap_or_default();
            events.extend(Self::events(&text));
        }
        events.split_off(events.len().saturating_sub(count_max))
    }
}

fn appending(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hotwarm_core::register::Cause;
    use hotwarm_types::Epoch;

    fn became_hot(epoch: u64) -> Event {
        let cause = Cause { word: "crash_attested".to_owned(), evidence: "reaped".to_owned() };
        let note = Note::BecameHot {
            epoch: Epoch(epoch),
            cause,
            polled: Duration::ZERO,
            chosen: Duration::from_micros(2_500),
            started: Duration::from_millis(4),
        };
        Event::of_note(&note, "b", epoch, |node| node.to_string())
    }

    #[test]
    fn a_takeover_is_recorded_with_cause_epoch_and_phases() {
        let event = became_hot(8);
        assert_eq!(
            (event.event.as_str(), event.epoch, event.cause.as_str()),
            ("became_hot", Some(8), "crash_attested")
        );
        assert_eq!(event.phases_ms["chosen"], 2.5);
        assert!(event.changes_role());
    }

    #[test]
    fn what_was_appended_is_read_again_after_a_torn_end() {
        let folder = tempfile::tempdir().unwrap();
        let mut history = History::open(folder.path()).unwrap();
        history.append(&became_hot(1)).unwrap();
        history.append(&became_hot(2)).unwrap();
        drop(history);
        let path = folder.path().join("history.jsonl");
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 9]).unwrap();
        let mut history = History::open(folder.path()).unwrap();
        history.append(&became_hot(3)).unwrap();
        assert_eq!(History::read(folder.path(), 10), [became_hot(1), became_hot(3)]);
        assert_eq!(History::read(folder.path(), 1), [became_hot(3)]);
    }

    #[test]
    fn two_files_bound_its_size() {
        let folder = tempfile::tempdir().unwrap();
        let mut history = History::open_bounded(folder.path(), 1000).unwrap();
        for epoch in 1..=100 {
            history.append(&became_hot(epoch)).unwrap();
        }
        let size = |name: &str| std::fs::metadata(folder.path().join(name)).unwrap().len();
        assert!(size("history.jsonl") <= 1000 && size("history.1.jsonl") <= 1000);
        let kept = History::read(folder.path(), usize::MAX);
        assert_eq!(kept.last(), Some(&became_hot(100)));
        assert!(kept.len() >= 3, "{}", kept.len());
    }
}
