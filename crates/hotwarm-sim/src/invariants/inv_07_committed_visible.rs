//! INV-7: what a client can see is committed. No reply reveals what a failover could take back.
//!
//! Every node's applied state must be the committed one at that position, every acknowledged write must be in the
//! committed log with the reply that was given, and every read must show a state that is committed.

use super::{Fact, Judge, Verdict, View};
use hotwarm_types::{Epoch, Lsn};
use std::collections::BTreeSet;

#[derive(Debug, Default)]
pub(super) struct CommittedVisible {
    /// Epochs that have been served.
    served: BTreeSet<Epoch>,
}

impl Judge for CommittedVisible {
    fn observe(&mut self, view: &View<'_>, fact: &Fact<'_>) -> Verdict {
        let canon = &view.ledger.canon;
        match fact {
            Fact::Serves { machine, epoch } if self.served.insert(*epoch) => {
                let Some(process) = &view.machines[*machine].process else { return Ok(()) };
                let end = process.log.end();
                // A later epoch may have begun meanwhile; then this one's reads and commits are for INV-6 to judge.
                let committed = canon.epoch_at(end.lsn) == Some(*epoch);
                if end.epoch == *epoch && committed && process.store.applied == end.lsn {
                    return Ok(());
                }
                let name = view.name(*machine);
                let what = format!("{name} begins to serve epoch {epoch} at {end}, {} is committed (R25)", canon.end);
                Err(("INV-7", what))
            }
            Fact::Applied { machine, block } => {
                let name = view.name(*machine);
                if canon.block(block.first) != Some(block) {
                    let what = format!("{name} applies {}, the committed log ends at {}", block.end(), canon.end);
                    return Err(("INV-7", what));
                }
                let applied = view.machines[*machine].process.as_ref().map(|process| &process.store);
                if canon.state(block.last) != applied {
                    return Err(("INV-7", format!("{name} holds another state at {}", block.end())));
                }
                Ok(())
            }
            Fact::Acknowledged { machine, at, waiter } => {
                let known = canon.executed(waiter.client as u32, waiter.seq);
                if known.is_some_and(|(lsn, effect)| lsn == *at && effect.value == waiter.value) {
                    return Ok(());
                }
                let name = view.name(*machine);
                let what = format!(
                    "{name} acknowledges {at} (client {} #{}), committed is {known:?}",
                    waiter.client, waiter.seq
                );
                Err(("INV-7", what))
            }
            Fact::Answered { machine, at, key, value } => {
                let state = canon.state(*at).copied();
                let right = match state {
                    Some(state) => state.values[usize::from(*key)] == *value,
                    None => *at == Lsn::ZERO && *value == 0,
                };
                let name = view.name(*machine);
                if right { Ok(()) } else { Err(("INV-7", format!("{name} shows key {key} = {value} at {at}"))) }
            }
            _ => Ok(()),
        }
    }
}
