//! R11 and R3: what a node promises is on its disk before it says so, and stays there.
//!
//! An acknowledgement names a position that is durable; a promise or an acceptance, a ballot that is.

use super::{Fact, Judge, Verdict, View};
use hotwarm_core::register::{Ballot, Vote};
use hotwarm_core::{Message, Output};
use hotwarm_types::FolderId;
use std::collections::BTreeMap;

#[derive(Debug, Default)]
pub(super) struct Promises {
    /// The highest promise made, by machine and folder.
    promised: BTreeMap<(usize, FolderId), Ballot>,
    /// The highest ballot accepted durably.
    accepted: BTreeMap<(usize, FolderId), Ballot>,
}

fn durable(vote: &Vote, message: &Message) -> bool {
    match message {
        Message::Promise { ballot, .. } => vote.promised >= *ballot,
        Message::Accepted { ballot } => vote.accepted.as_ref().is_some_and(|(accepted, _)| accepted >= ballot),
        _ => true,
    }
}

impl Judge for Promises {
    fn observe(&mut self, view: &View<'_>, fact: &Fact<'_>) -> Verdict {
        match fact {
            Fact::Ordered { machine, output: Output::Send { message, .. } } => {
                let known = &view.machines[*machine];
                let name = view.name(*machine);
                if !durable(&known.disk.vote, message) {
                    let what = format!("{name} says {message:?}, its disk holds {}", known.disk.vote.promised);
                    return Err(("R3", what));
                }
                if let Message::Promise { ballot, .. } = message {
                    let highest = self.promised.entry((*machine, known.disk.folder())).or_default();
                    *highest = (*ballot).max(*highest);
                }
                if let Message::Ack { durable, .. } = message
                    && *durable > known.disk.log.end().lsn
                {
                    let what = format!("{name} acknowledges {durable}, its disk ends at {}", known.disk.log.end());
                    return Err(("INV-3", what));
                }
                Ok(())
            }
            Fact::Started { machine } | Fact::VoteDurable { machine } => {
                let known = &view.machines[*machine];
                let highest = self.promised.get(&(*machine, known.disk.folder())).copied().unwrap_or_default();
                let now = known.disk.vote.accepted.as_ref().map(|(ballot, _)| *ballot).unwrap_or_default();
                let before = self.accepted.entry((*machine, known.disk.folder())).or_default();
                if now < *before && !known.amnesiac {
                    let what = format!("{} has forgotten what it accepted with {before}", view.name(*machine));
                    return Err(("R3", what));
                }
                *before = now.max(*before);
                if known.disk.vote.promised < highest && !known.amnesiac {
                    let what = format!("{} has forgotten its promise of {highest}", view.name(*machine));
                    return Err(("R3", what));
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
