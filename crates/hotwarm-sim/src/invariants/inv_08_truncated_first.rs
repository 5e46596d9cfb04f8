//! INV-8: a log that diverged is truncated to the last common entry before it follows; the cut suffix is kept.
//!
//! Judged by induction over the first appearance of every block: whoever appends a block must do so after the same
//! entry as its writer did. A cut may not reach below what the node itself knows to be committed (R30), and what a
//! node acknowledges in a reign must be the log of that reign (R10).

use super::{Fact, Judge, Verdict, View};
use hotwarm_core::{Message, Output};
use hotwarm_types::Lsn;

#[derive(Debug, Default)]
pub(super) struct TruncatedFirst;

impl Judge for TruncatedFirst {
    fn observe(&mut self, view: &View<'_>, fact: &Fact<'_>) -> Verdict {
        let Fact::Ordered { machine, output } = fact else { return Ok(()) };
        let name = view.name(*machine);
        let Some(process) = &view.machines[*machine].process else { return Ok(()) };
        let log = &process.log;
        match output {
            Output::AppendLog { block, .. } => match view.ledger.origin(block.epoch, block.first) {
                Some(origin) if origin.prev != log.end() => {
                    let what =
                        format!("{name} appends {} after {}, its writer after {}", block.end(), log.end(), origin.prev);
                    Err(("INV-8", what))
                }
                Some(_) | None => Ok(()),
            },
            Output::CutLog { last, .. } if *last < process.committed() => {
                let what = format!("{name} cuts after {last}, having applied up to {}", process.committed());
                Err(("INV-8", what))
            }
            Output::Send { message: Message::Ack { epoch, durable, .. }, .. } if *durable > Lsn::ZERO => {
                let expected = view.ledger.lineage(*epoch, *durable);
                let held = if *durable < log.floor.lsn { expected } else { log.epoch_at(*durable) };
                if held.is_some() && held == expected {
                    return Ok(());
                }
                let what = format!(
                    "{name} acknowledges {durable} in epoch {epoch}: it holds an entry of epoch {held:?} there, \
                     the hot one of {expected:?}"
                );
                Err(("INV-8", what))
            }
            _ => Ok(()),
        }
    }
}
