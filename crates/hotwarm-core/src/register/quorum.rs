//! Who must answer before a state counts as chosen: one majority, or two where the state itself changes who the
//! acceptors are (R6).

use super::value::{ChangeKind, GroupState};
use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use hotwarm_types::NodeId;

/// The lists of acceptors of which a majority each must answer: the state's own, and in the very version that
/// changed it also the one before. So any two quorums that could choose different states meet in an acceptor, even
/// where one acceptor was swapped for another and two single majorities would miss each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quorum {
    lists: Vec<BTreeSet<NodeId>>,
}

impl Quorum {
    /// The quorum that chooses `state`, and that must have promised before anything is built on it.
    #[must_use]
    pub fn of(state: &GroupState) -> Self {
        let now: BTreeSet<NodeId> = state.members.keys().copied().collect();
        let before = if state.changes_members() { Self::before(state, &now) } else { None };
        let mut lists = Vec::from([now]);
        lists.extend(before);
        Self { lists }
    }

    /// The quorum of a state that is known to be chosen: its own members, whatever changed them.
    #[must_use]
    pub fn settled(state: &GroupState) -> Self {
        Self { lists: Vec::from([state.members.keys().copied().collect()]) }
    }

    /// The acceptors before the last change, which was one of acceptors.
    fn before(state: &GroupState, now: &BTreeSet<NodeId>) -> Option<BTreeSet<NodeId>> {
        let last = state.changes.back().filter(|record| record.version == state.version)?;
        let mut before = now.clone();
        match &last.kind {
            ChangeKind::Admit { node, replaces } => {
                before.remove(node);
                before.extend(*replaces);
            }
            ChangeKind::Remove { node } => {
                before.insert(*node);
            }
            ChangeKind::Bootstrap
            | ChangeKind::Promote { .. }
            | ChangeKind::HandOver { .. }
            | ChangeKind::ForcePromote { .. }
            | ChangeKind::Shrink { .. }
            | ChangeKind::Grow { .. }
            | ChangeKind::Bump
            | ChangeKind::Invite { .. }
            | ChangeKind::Uninvite { .. }
            | ChangeKind::Settings
            | ChangeKind::Pause
            | ChangeKind::Resume => return None,
        }
        Some(before)
    }

    /// Whether a majority of every list has answered.
    #[must_use]
    pub fn is_met(&self, answered: impl Fn(NodeId) -> bool) -> bool {
        self.lists.iter().all(|list| list.iter().filter(|node| answered(**node)).count() > list.len() / 2)
    }

    /// Everybody who counts.
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.lists.iter().flatten().copied()
    }
}
