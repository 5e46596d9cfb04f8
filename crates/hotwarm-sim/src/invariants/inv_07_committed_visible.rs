//! INV-7: what a client can see is committed. No reply reveals what a failover could take back.
//!
//! Every node's applied state must be the committed one at that position, every acknowledged write must be in the
//! committed log with the reply that was given, and every read must show a state that is committed.

use super::{Fact, Judge, Verdict, View};
use hotwarm_resp::Reply;
use hotwarm_store::decode_reply;
use hotwarm_types::Epoch;
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
                if end.epoch == *epoch && committed && process.committed() == end.lsn {
                    return Ok(());
                }
                let name = view.name(*machine);
                let what = format!("{name} begins to serve epoch {epoch} at {end}, {} is committed (R25)", canon.end);
                Err(("INV-7", what))
            }
            Fact::Applied { machine, block, differs } => {
                let name = view.name(*machine);
                if canon.block(block.first) != Some(block) {
                    let what = format!("{name} applies {}, the committed log ends at {}", block.end(), canon.end);
                    return Err(("INV-7", what));
                }
                match differs {
                    Some(what) => Err(("INV-7", format!("{name} holds another state at {}: {what}", block.end()))),
                    None => Ok(()),
                }
            }
            Fact::Acknowledged { machine, request, reply } => {
                let known = canon.executed(request.identity());
                let remembered = known.and_then(|(_, reply)| decode_reply(reply.as_ref()?));
                if remembered.as_ref() == Some(*reply) {
                    return Ok(());
                }
                let name = view.name(*machine);
                let what = format!(
                    "{name} answers {:?} of client {} with {reply:?}, committed is {known:?}",
                    request.what, request.client
                );
                Err(("INV-7", what))
            }
            Fact::Answered { machine, at, key, reply } => {
                let right = match canon.value_at(key, *at) {
                    Some(value) => Reply::Bulk(value.clone()),
                    None => Reply::Null,
                };
                if **reply == right {
                    return Ok(());
                }
                let (name, key) = (view.name(*machine), String::from_utf8_lossy(key));
                Err(("INV-7", format!("{name} shows {key} as {reply:?} at {at}, it is {right:?}")))
            }
            _ => Ok(()),
        }
    }
}
