//! INV-6: clocks guard only local linearizable reads, and there they do: while one node holds a lease, no other serves
//! a later epoch.
//!
//! Judged at every step on every process that reigns in an epoch below the highest that is served, with its own clock,
//! paused or not. That a deposed hot cannot commit is judged with INV-7: what it committed would be in the way.

use super::{Fact, Judge, Verdict, View};
use hotwarm_types::Epoch;

#[derive(Debug, Default)]
pub(super) struct LeaseAlone {
    served: Epoch,
}

impl Judge for LeaseAlone {
    fn observe(&mut self, view: &View<'_>, fact: &Fact<'_>) -> Verdict {
        match fact {
            Fact::Serves { epoch, .. } => self.served = self.served.max(*epoch),
            Fact::Stepped { .. } => {}
            _ => return Ok(()),
        }
        for (index, machine) in view.machines.iter().enumerate() {
            let Some(process) = &machine.process else { continue };
            let Some(epoch) = process.reigns().filter(|epoch| *epoch < self.served) else { continue };
            if process.node.lease_holds(machine.clock.at(view.now)) {
                let name = view.name(index);
                let what = format!("{name} holds the lease of epoch {epoch} while epoch {} is served", self.served);
                return Err(("INV-6", what));
            }
        }
        Ok(())
    }
}
