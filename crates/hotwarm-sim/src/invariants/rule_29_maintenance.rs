//! R29 and INV-11: what the register's history must show.
//!
//! While a group is under maintenance no other node is promoted automatically; and settings, members and maintenance change
//! only by a change of that kind.

use super::{Fact, Judge, Verdict, View};
use hotwarm_core::register::{ChangeKind, GroupState};
use hotwarm_types::Version;
use std::collections::BTreeMap;

#[derive(Debug, Default)]
pub(super) struct Recorded {
    /// When each state under maintenance was first chosen, nanoseconds.
    paused_since: BTreeMap<Version, u64>,
}

impl Recorded {
    fn judge(&self, before: &GroupState, after: &GroupState, now: u64) -> Verdict {
        let Some(record) = after.changes.back() else {
            return Err(("INV-11", format!("{} carries no record of a change", after.version)));
        };
        let by_settings = matches!(record.kind, ChangeKind::Settings);
        if after.settings != before.settings && !by_settings {
            let what = format!("{} changes the settings, its record says {:?}", after.version, record.kind);
            return Err(("INV-11", what));
        }
        if after.reign != before.reign
            && !matches!(
                record.kind,
                ChangeKind::Promote { .. } | ChangeKind::HandOver { .. } | ChangeKind::ForcePromote { .. }
            )
        {
            let what = format!("{} changes the reign, its record says {:?}", after.version, record.kind);
            return Err(("INV-11", what));
        }
        let Some(pause) = &before.pause else { return Ok(()) };
        // It counts from when a node learns of it, by that node's clock.
        let since = self.paused_since.get(&before.version).copied().unwrap_or(now);
        let surely_over = since + pause.length.as_nanos() as u64 * 95 / 100;
        if let ChangeKind::Promote { to, .. } = record.kind
            && to != before.reign.node
            && now < surely_over
        {
            return Err(("R29", format!("{to} is promoted in {} under maintenance", after.version)));
        }
        Ok(())
    }
}

impl Judge for Recorded {
    fn observe(&mut self, view: &View<'_>, fact: &Fact<'_>) -> Verdict {
        let Fact::Chosen { state } = fact else { return Ok(()) };
        let before = view.ledger.choices.at(Version(state.version.0 - 1));
        if state.pause.is_some() {
            let since = before.filter(|before| before.pause == state.pause);
            let since = since.and_then(|before| self.paused_since.get(&before.version)).copied();
            self.paused_since.insert(state.version, since.unwrap_or(view.now));
        }
        before.map_or(Ok(()), |before| self.judge(before, state, view.now))
    }
}
