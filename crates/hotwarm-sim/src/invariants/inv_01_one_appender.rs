//! INV-1: in one epoch at most one process appends, and the entries of an epoch form one sequence.
//!
//! A block's first appearance is its writing. All blocks of an epoch must be written by the process that the register
//! chose for it (R1), each directly after the one before, and wherever a block appears again it must be the same one.

use super::{Fact, Judge, Verdict, View};
use hotwarm_core::Output;
use hotwarm_types::{Block, BlockKind, EntryId, Epoch, Incarnation, NodeId};
use std::collections::BTreeMap;

#[derive(Debug, Default)]
pub(super) struct OneAppender {
    /// Who wrote in each epoch, and where its sequence ends.
    epochs: BTreeMap<Epoch, ((NodeId, Incarnation), EntryId)>,
}

impl OneAppender {
    fn written(&mut self, view: &View<'_>, machine: usize, block: &Block, prev: EntryId) -> Verdict {
        let broken = |what: String| Err(("INV-1", what));
        let name = view.name(machine);
        let (Some(id), Some(process)) = (view.id_of(machine), &view.machines[machine].process) else {
            return broken(format!("{name} appends {} and is no member", block.end()));
        };
        let by = (id, process.incarnation);
        let Some(state) = view.ledger.choices.reign(block.epoch) else {
            return broken(format!("{name} appends {} and the register has chosen no such epoch", block.end()));
        };
        if (state.reign.node, state.reign.incarnation) != by {
            let reign = state.reign;
            return broken(format!("{name} ({id}, {}) appends {} in the reign of {reign}", by.1, block.end()));
        }
        if let Some((first, end)) = self.epochs.get(&block.epoch) {
            if *first != by {
                return broken(format!("{name} appends {} after {first:?} did", block.end()));
            }
            if *end != prev {
                return broken(format!("{name} appends {} after {prev}, the epoch's end is {end}", block.end()));
            }
        } else if block.kind != BlockKind::EpochStart {
            return broken(format!("{name} begins epoch {} with data", block.epoch));
        }
        self.epochs.insert(block.epoch, (by, block.end()));
        Ok(())
    }
}

impl Judge for OneAppender {
    fn observe(&mut self, view: &View<'_>, fact: &Fact<'_>) -> Verdict {
        match fact {
            Fact::Originated { machine, block, prev } => self.written(view, *machine, block, *prev),
            Fact::Ordered { machine, output: Output::AppendLog { block, .. } } => {
                match view.ledger.origin(block.epoch, block.first) {
                    Some(origin) if origin.block != *block => {
                        let name = view.name(*machine);
                        let what = format!("{name} appends another {} than was written before", block.end());
                        Err(("INV-1", what))
                    }
                    Some(_) | None => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }
}
