//! The judges: one file an invariant. Each sees every fact as it happens, with the whole world in view, and says at
//! once when something cannot be.

mod inv_01_one_appender;
mod inv_02_epochs_refused;
mod inv_03_durable_everywhere;
mod inv_04_promoted_in_sync;
mod inv_05_shrink_and_grow;
mod inv_06_lease_alone;
mod inv_07_committed_visible;
mod inv_08_truncated_first;
mod rule_05_amnesia;
mod rule_11_promises;
mod rule_29_maintenance;

use crate::ledger::Ledger;
use crate::machine::Machine;
use crate::workload::Request;
use hotwarm_core::register::GroupState;
use hotwarm_core::{Input, Output};
use hotwarm_resp::Reply;
use hotwarm_types::{Block, EntryId, Epoch, FolderId, Lsn, NodeId};
use std::collections::BTreeMap;

/// Something that has just happened, or is about to.
#[derive(Debug)]
pub enum Fact<'a> {
    /// A process has started.
    Started { machine: usize },
    /// A process has ended; its disk is as the crash left it.
    Stopped,
    /// A node is about to take a fact.
    Took { machine: usize, input: &'a Input },
    /// A node has ordered something, which is about to be carried out.
    Ordered { machine: usize, output: &'a Output },
    /// Everything ordered in a step has been carried out.
    Stepped,
    /// A block has appeared for the first time, after `prev`.
    Originated { machine: usize, block: &'a Block, prev: EntryId },
    /// The log on a disk has changed.
    LogDurable,
    /// The vote record on a disk has changed.
    VoteDurable { machine: usize },
    /// A whole copy has replaced log and state.
    Installed,
    /// The register has chosen a state.
    Chosen { state: &'a GroupState },
    /// A hot has committed a block for the first time.
    Committed { machine: usize, block: &'a Block },
    /// A node has applied a block as committed; what it then shows otherwise than the committed log does.
    Applied { machine: usize, block: &'a Block, differs: Option<&'a str> },
    /// A node begins to serve an epoch.
    Serves { machine: usize, epoch: Epoch },
    /// A write is answered.
    Acknowledged { machine: usize, request: &'a Request, reply: &'a Reply },
    /// A read is answered from the state at a position.
    Answered { machine: usize, at: Lsn, key: &'a [u8], reply: &'a Reply },
}

/// The whole world, to look at.
#[derive(Debug)]
pub struct View<'a> {
    /// The machines.
    pub machines: &'a [Machine],
    /// Member numbers, by machine and folder.
    pub ids: &'a BTreeMap<(usize, FolderId), NodeId>,
    /// What really happened.
    pub ledger: &'a Ledger,
    /// Virtual time, nanoseconds.
    pub now: u64,
}

impl View<'_> {
    /// The machine whose present folder is a member's.
    fn machine_of(&self, id: NodeId) -> Option<(usize, &Machine)> {
        self.machines
            .iter()
            .enumerate()
            .find(|(index, machine)| self.ids.get(&(*index, machine.disk.folder())) == Some(&id))
    }

    /// The member number of a machine.
    fn id_of(&self, machine: usize) -> Option<NodeId> {
        self.ids.get(&(machine, self.machines[machine].disk.folder())).copied()
    }

    /// The name of a machine.
    fn name(&self, machine: usize) -> &str {
        &self.machines[machine].name
    }
}

/// Which rule is broken, and how.
pub type Verdict = Result<(), (&'static str, String)>;

/// One invariant.
trait Judge: core::fmt::Debug {
    /// Sees a fact.
    fn observe(&mut self, view: &View<'_>, fact: &Fact<'_>) -> Verdict;
}

/// All of them.
#[derive(Debug)]
pub struct Judges {
    judges: Vec<Box<dyn Judge>>,
}

impl Default for Judges {
    fn default() -> Self {
        Self {
            judges: vec![
                Box::<inv_01_one_appender::OneAppender>::default(),
                Box::<inv_02_epochs_refused::EpochsRefused>::default(),
                Box::<inv_03_durable_everywhere::DurableEverywhere>::default(),
                Box::<inv_04_promoted_in_sync::PromotedInSync>::default(),
                Box::<inv_05_shrink_and_grow::ShrinkAndGrow>::default(),
                Box::<inv_06_lease_alone::LeaseAlone>::default(),
                Box::<inv_07_committed_visible::CommittedVisible>::default(),
                Box::<inv_08_truncated_first::TruncatedFirst>::default(),
                Box::<rule_05_amnesia::Amnesia>::default(),
                Box::<rule_11_promises::Promises>::default(),
                Box::<rule_29_maintenance::Recorded>::default(),
            ],
        }
    }
}

impl Judges {
    /// Lets every judge see a fact.
    ///
    /// # Errors
    /// The first that objects.
    pub fn observe(&mut self, view: &View<'_>, fact: &Fact<'_>) -> Verdict {
        self.judges.iter_mut().try_for_each(|judge| judge.observe(view, fact))
    }
}
