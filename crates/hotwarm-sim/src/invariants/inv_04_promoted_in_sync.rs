//! INV-4: only a member of the in-sync set is promoted automatically. Anything else is an operator's recorded decision.
//!
//! Judged on the states that the register has chosen, one after the other, without the core's own table of transitions.

use super::{Fact, Judge, Verdict, View};
use hotwarm_core::register::{ChangeKind, GroupState};
use hotwarm_types::Version;

#[derive(Debug, Default)]
pub(super) struct PromotedInSync;

fn judge_change(before: &GroupState, after: &GroupState) -> Result<(), String> {
    if after.reign == before.reign {
        return Ok(());
    }
    let (old, new) = (before.reign, after.reign);
    if new.epoch != old.epoch.next() {
        return Err(format!("the epoch goes from {} to {}", old.epoch, new.epoch));
    }
    let forced = matches!(after.changes.back().map(|record| &record.kind), Some(ChangeKind::ForcePromote { .. }));
    if !before.in_sync.contains(&new.node) && !forced {
        return Err(format!("{new} is promoted, the in-sync set was {:?}", before.in_sync));
    }
    if !after.in_sync.is_subset(&before.in_sync) && !forced {
        return Err(format!("a promotion adds to the in-sync set {:?}: {:?}", before.in_sync, after.in_sync));
    }
    // A set that was below `min_copies` before (a new group, a raised setting) may be kept, not made smaller (R12, R25).
    if after.in_sync.len() < usize::from(after.settings.min_copies).min(before.in_sync.len()) && !forced {
        return Err(format!(
            "{new} is promoted with {:?} in sync, min_copies is {}",
            after.in_sync, after.settings.min_copies
        ));
    }
    Ok(())
}

impl Judge for PromotedInSync {
    fn observe(&mut self, view: &View<'_>, fact: &Fact<'_>) -> Verdict {
        let Fact::Chosen { state } = fact else { return Ok(()) };
        if !state.in_sync.contains(&state.reign.node) {
            return Err(("INV-4", format!("{} reigns and is not in sync, in {}", state.reign, state.version)));
        }
        let before = Version(state.version.0 - 1);
        match view.ledger.choices.at(before) {
            Some(before) => {
                judge_change(before, state).map_err(|what| ("INV-4", format!("{what} (in {})", state.version)))
            }
            None if state.version == Version(1) => Ok(()),
            None => Err(("INV-4", format!("{} is chosen and nothing came before", state.version))),
        }
    }
}
