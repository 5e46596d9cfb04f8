//! Changes of the group's state, named as people read them.

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

/// The member's name, or its number where it is a member no more.
pub(crate) fn name_of(state: &GroupState, node: NodeId) -> String {
    state.members.get(&node).map_or_else(|| node.to_string(), |member| member.name.clone())
}
