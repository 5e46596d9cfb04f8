//! INV-2: a node refuses replication traffic of an epoch lower than the highest it has seen, durably.
//!
//! What counts as seen is what is in the vote record on its disk, which never goes back; and what a node says under an
//! epoch, it says only once that epoch is on its disk.

use super::{Fact, Judge, Verdict, View};
use hotwarm_core::{Grant, Input, Message, Output};
use hotwarm_types::{Epoch, FolderId};
use std::collections::BTreeMap;

#[derive(Debug, Default)]
pub(super) struct EpochsRefused {
    /// The highest epoch that was durable, by machine and folder.
    highest: BTreeMap<(usize, FolderId), Epoch>,
    /// The epoch of the append that a node is taking, if it is lower than the durable one.
    stale: Option<(usize, Epoch)>,
}

impl EpochsRefused {
    fn said(view: &View<'_>, machine: usize, message: &Message) -> Verdict {
        let durable = view.machines[machine].disk.vote.epoch;
        let name = view.name(machine);
        match message {
            Message::Ack { epoch, .. } | Message::StreamOpened { epoch, .. } if *epoch < durable => {
                Err(("INV-2", format!("{name} takes part in epoch {epoch}, having seen {durable}")))
            }
            Message::Ack { epoch, .. }
            | Message::BeaconAnswer { epoch, grant: Grant::Granted, .. }
            | Message::Beacon { epoch, .. }
            | Message::Append { epoch, .. }
                if *epoch > durable =>
            {
                let what = format!("{name} says {} in epoch {epoch}, and only {durable} is durable", message.name());
                Err(("INV-2", what))
            }
            _ => Ok(()),
        }
    }
}

impl Judge for EpochsRefused {
    fn observe(&mut self, view: &View<'_>, fact: &Fact<'_>) -> Verdict {
        match fact {
            Fact::VoteDurable { machine } => {
                let disk = &view.machines[*machine].disk;
                let highest = self.highest.entry((*machine, disk.folder())).or_default();
                if disk.vote.epoch < *highest && !view.machines[*machine].amnesiac {
                    let what =
                        format!("{} forgets epoch {highest}: {} is on its disk", view.name(*machine), disk.vote.epoch);
                    return Err(("INV-2", what));
                }
                *highest = disk.vote.epoch.max(*highest);
                Ok(())
            }
            Fact::Took { machine, input } => {
                let durable = view.machines[*machine].disk.vote.epoch;
                self.stale = match input {
                    Input::Received { message: Message::Append { epoch, .. }, .. } if *epoch < durable => {
                        Some((*machine, *epoch))
                    }
                    _ => None,
                };
                Ok(())
            }
            Fact::Ordered { machine, output: Output::AppendLog { .. } | Output::CutLog { .. } } => match self.stale {
                Some((stale, epoch)) if stale == *machine => {
                    let what =
                        format!("{} obeys an append of epoch {epoch}, having seen a higher one", view.name(stale));
                    Err(("INV-2", what))
                }
                Some(_) | None => Ok(()),
            },
            Fact::Ordered { machine, output: Output::Send { message, .. } } => Self::said(view, *machine, message),
            Fact::Stepped { .. } => {
                self.stale = None;
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
