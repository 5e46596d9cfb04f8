//! INV-3: an acknowledged sync write is durable on every node that could then have been promoted.
//!
//! Those are, at any time, the members of the newest chosen in-sync set whose folder still exists. Judged when a hot
//! commits, when a disk changes, when the set changes, and when a node writes the start of its epoch: whatever has been
//! committed must be in its log.

use super::{Fact, Judge, Verdict, View};
use hotwarm_types::{BlockKind, EntryId, Lsn};

#[derive(Debug, Default)]
pub(super) struct DurableEverywhere;

/// Whether what is committed up to `end` is on a machine's disk.
fn holds(view: &View<'_>, machine: usize, end: EntryId) -> bool {
    let log = &view.machines[machine].disk.log;
    end.lsn == Lsn::ZERO || log.end().lsn >= end.lsn && log.holds(end.epoch, end.lsn)
}

/// Every in-sync node must hold everything that is committed.
fn all_hold(view: &View<'_>, why: &str) -> Verdict {
    let end = view.ledger.canon.end;
    let Some(state) = view.ledger.choices.latest() else { return Ok(()) };
    for id in &state.in_sync {
        let Some((machine, known)) = view.machine_of(*id) else { continue };
        if !known.amnesiac && !holds(view, machine, end) {
            let what = format!(
                "{end} is committed, and {} ({id}), in sync by {}, has only {} on its disk ({why})",
                view.name(machine),
                state.version,
                known.disk.log.end(),
            );
            return Err(("INV-3", what));
        }
    }
    Ok(())
}

impl Judge for DurableEverywhere {
    fn observe(&mut self, view: &View<'_>, fact: &Fact<'_>) -> Verdict {
        match fact {
            Fact::Committed { machine, block } => {
                all_hold(view, "at the commit")?;
                let process = view.machines[*machine].process.as_ref();
                let known = process.and_then(|process| process.known.as_ref());
                let newest = view.ledger.choices.latest();
                // A change of `min_copies` binds a hot from when it knows of it.
                let wanted = [known, newest].into_iter().flatten().map(|state| state.settings.min_copies).min();
                let wanted = usize::from(wanted.unwrap_or(1));
                let end = block.end();
                let copies = (0..view.machines.len()).filter(|machine| holds(view, *machine, end)).count();
                if copies < wanted {
                    return Err((
                        "INV-3",
                        format!("{end} is committed with {copies} copies, {wanted} are wanted (R12)"),
                    ));
                }
                Ok(())
            }
            Fact::LogDurable { .. } | Fact::Stopped { .. } | Fact::Started { .. } => all_hold(view, "a disk changed"),
            Fact::Chosen { .. } => all_hold(view, "the set changed"),
            Fact::Originated { machine, block, prev } => {
                let end = view.ledger.canon.end;
                let held = end.lsn == Lsn::ZERO
                    || prev.lsn >= end.lsn && view.ledger.lineage(block.epoch, end.lsn) == Some(end.epoch);
                // A deposed hot may go on (or, having won late, begin) to write what nobody will acknowledge; a new one must
                // begin with everything.
                if held || block.kind != BlockKind::EpochStart || block.epoch < end.epoch {
                    return Ok(());
                }
                let name = view.name(*machine);
                Err(("INV-3", format!("{name} writes {} after {prev}, and {end} is committed", block.end())))
            }
            _ => Ok(()),
        }
    }
}
