//! Changes of the group's state, named as people read them.

use crate::config::Difference;
use hotwarm_core::register::{ChangeKind, ChangeRecord, GroupState};
use hotwarm_types::NodeId;
use serde::{Deserialize, Serialize};

/// A change of the group's state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Version of the state that it made.
    pub version: u64,
    /// Epoch after it.
    pub epoch: u64,
    /// Wall clock of the node that made it, milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// A stable word: `promote`, `hand_over`, `shrink`, ...
    pub kind: String,
    /// What it did, in a sentence.
    pub what: String,
    /// Why: a stable word.
    pub cause: String,
    /// What was seen.
    pub evidence: String,
}

impl Change {
    /// Names a record of the register's ring.
    #[must_use]
    pub fn of(record: &ChangeRecord, state: &GroupState) -> Self {
        let (kind, what) = kind_and_sentence(&record.kind, state);
        Self {
            version: record.version.0,
            epoch: record.epoch.0,
            at_ms: record.at_ms,
            kind: kind.to_owned(),
            what,
            cause: record.cause.word.clone(),
            evidence: record.cause.evidence.clone(),
        }
    }
}

/// The stable word of a change, and what it did in a sentence.
fn kind_and_sentence(kind: &ChangeKind, state: &GroupState) -> (&'static str, String) {
    let name = |node: &NodeId| name_of(state, *node);
    match kind {
        ChangeKind::Bootstrap => ("bootstrap", "the group began".to_owned()),
        ChangeKind::Promote { from, to } if from == to => ("promote", format!("{} became hot again", name(to))),
        ChangeKind::Promote { from, to } => ("promote", format!("{} took over from {}", name(to), name(from))),
        ChangeKind::HandOver { from, to } => ("hand_over", format!("{} handed over to {}", name(from), name(to))),
        ChangeKind::ForcePromote { from, to } => {
            ("force_promote", format!("{} was made hot by an operator in place of {}", name(to), name(from)))
        }
        ChangeKind::Shrink { node } => ("shrink", format!("{} left the in-sync set", name(node))),
        ChangeKind::Grow { node } => ("grow", format!("{} entered the in-sync set", name(node))),
        ChangeKind::Invite { name } => ("invite", format!("{name} was invited")),
        ChangeKind::Admit { node, replaces: None } => ("admit", format!("{} became a member", name(node))),
        ChangeKind::Admit { node, replaces: Some(old) } => {
            ("admit", format!("{} became a member in place of {}", name(node), name(old)))
        }
        ChangeKind::Remove { node } => ("remove", format!("{} was removed", name(node))),
        ChangeKind::Settings => ("settings", "the settings were changed".to_owned()),
        ChangeKind::Pause => ("pause", "maintenance began".to_owned()),
        ChangeKind::Uninvite { name } => ("uninvite", format!("the invitation of {name} was taken back")),
        ChangeKind::Bump => ("bump", "nothing was changed, to settle what became of an earlier change".to_owned()),
        ChangeKind::Resume => ("resume", "maintenance ended".to_owned()),
    }
}

/// The member's name, or the one it had when it was removed or replaced; its number where the ring tells neither.
pub(crate) fn name_of(state: &GroupState, node: NodeId) -> String {
    if let Some(member) = state.members.get(&node) {
        return member.name.clone();
    }
    let gone = state.changes.iter().rev().find_map(|change| match &change.kind {
        // The evidence of a removal is the name that the operator gave.
        ChangeKind::Remove { node: removed } if *removed == node => Some(change.cause.evidence.clone()),
        // Who replaces a member has its name. Numbers only grow, so this ends.
        ChangeKind::Admit { node: new, replaces: Some(old) } if *old == node && *new > node => {
            Some(name_of(state, *new))
        }
        _ => None,
    });
    gone.filter(|name| !name.is_empty()).unwrap_or_else(|| node.to_string())
}

/// Differences in a line: whole ones, as many as the history keeps, and how many more there are.
pub(super) fn line_of(differences: &[Difference]) -> String {
    const SIZE_BYTES_MAX: usize = 256 - "; and 65535 more".len();
    let mut text = String::new();
    for (told, difference) in differences.iter().enumerate() {
        let next = format!("{}{difference}", if told == 0 { "" } else { "; " });
        if text.len() + next.len() > SIZE_BYTES_MAX {
            let more = differences.len() - told;
            // One alone that is too long is named.
            return if told == 0 { difference.key.clone() } else { format!("{text}; and {more} more") };
        }
        text.push_str(&next);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::tests_support::healthy;
    use hotwarm_core::register::{Cause, ProposalId};
    use hotwarm_types::{Epoch, Version};

    fn record(kind: ChangeKind, evidence: &str) -> ChangeRecord {
        let cause = Cause { word: "operator".to_owned(), evidence: evidence.to_owned() };
        ChangeRecord { version: Version(1), epoch: Epoch(1), at_ms: 1, by: ProposalId::default(), kind, cause }
    }

    #[test]
    fn who_has_gone_keeps_its_name_as_long_as_the_ring_tells_of_it() {
        let mut state = healthy().state.unwrap();
        state.changes.push_back(record(ChangeKind::Admit { node: NodeId(5), replaces: Some(NodeId(4)) }, "c"));
        state.changes.push_back(record(ChangeKind::Remove { node: NodeId(5) }, "c"));
        assert_eq!(name_of(&state, NodeId(2)), "b");
        assert_eq!(name_of(&state, NodeId(5)), "c");
        assert_eq!(name_of(&state, NodeId(4)), "c", "it was replaced by one that has gone since");
        assert_eq!(name_of(&state, NodeId(6)), "n6");
    }

    #[test]
    fn what_the_history_keeps_of_differences_are_whole_ones_and_how_many_more_there_are() {
        let difference = |key: &str| {
            let (register, file) = (Some("1".to_owned()), Some("2".to_owned()));
            Difference { key: key.to_owned(), register, file }
        };
        assert_eq!(line_of(&[difference("a"), difference("b")]), "a: 1 -> 2; b: 1 -> 2");
        let many = line_of(&(100..140).map(|number| difference(&format!("key.{number}"))).collect::<Vec<_>>());
        assert!(many.starts_with("key.100: 1 -> 2; ") && many.ends_with("-> 2; and 26 more"), "{many}");
        assert!(many.len() <= 256, "{}", many.len());
        assert_eq!(line_of(&[difference(&"k".repeat(300))]), "k".repeat(300));
    }
}
