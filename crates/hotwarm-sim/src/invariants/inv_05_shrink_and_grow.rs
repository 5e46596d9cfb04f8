//! INV-5: the in-sync set shrinks in the register before a write is acknowledged without the removed node, and grows
//! only by a node that holds all the hot holds.
//!
//! That nothing is committed without a member of the chosen set is judged with INV-3, at every commit. Here: who may
//! change the set, and what a node that enters it must have on its disk (R26, R27).

use super::{Fact, Judge, Verdict, View};
use hotwarm_core::register::{ChangeKind, GroupState};
use hotwarm_types::{Lsn, Version};

#[derive(Debug, Default)]
pub(super) struct ShrinkAndGrow;

fn judge_set(view: &View<'_>, before: &GroupState, after: &GroupState) -> Result<(), String> {
    if let Some(id) = after.in_sync.iter().find(|id| !after.holds_data(**id)) {
        return Err(format!("{id} is in sync and holds no data"));
    }
    if after.in_sync == before.in_sync || after.reign != before.reign {
        return Ok(());
    }
    let Some(record) = after.changes.back() else { return Err("the set changes without a record".to_owned()) };
    // An operator's removal or replacement of a member takes it from the set as well.
    let by_operator = matches!(record.kind, ChangeKind::Remove { .. } | ChangeKind::Admit { .. });
    if record.by.node != before.reign.node && !by_operator {
        return Err(format!("{} changes the set, {} is hot", record.by.node, before.reign.node));
    }
    let kept = after.in_sync.is_subset(&before.in_sync);
    if kept && after.in_sync.len() < usize::from(after.settings.min_copies).min(before.in_sync.len()) {
        return Err(format!("the set shrinks to {:?}, min_copies is {}", after.in_sync, after.settings.min_copies));
    }
    for id in after.in_sync.difference(&before.in_sync) {
        let end = view.ledger.canon.end;
        // A folder that was lost or put back while the change was on its way is for R5 to judge.
        let found = view.machine_of(*id).filter(|(_, machine)| !machine.amnesiac);
        let Some((_, machine)) = found else { continue };
        let log = &machine.disk.log;
        if end.lsn != Lsn::ZERO && (log.end().lsn < end.lsn || !log.holds(end.epoch, end.lsn)) {
            return Err(format!("{id} enters the set with {} on its disk, {end} is committed", log.end()));
        }
        if log.end().epoch < after.reign.epoch {
            return Err(format!("{id} enters the set without the start of epoch {}", after.reign.epoch));
        }
    }
    Ok(())
}

impl Judge for ShrinkAndGrow {
    fn observe(&mut self, view: &View<'_>, fact: &Fact<'_>) -> Verdict {
        let Fact::Chosen { state } = fact else { return Ok(()) };
        let Some(before) = view.ledger.choices.at(Version(state.version.0 - 1)) else { return Ok(()) };
        judge_set(view, before, state).map_err(|what| ("INV-5", format!("{what} (in {})", state.version)))
    }
}
