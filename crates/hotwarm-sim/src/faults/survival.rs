//! What a group must survive: whether a folder can be lost without a committed write, or a majority, being lost with it.

use crate::machine::Machine;
use crate::world::World;
use hotwarm_core::register::{GroupState, Quorum};
use hotwarm_types::NodeId;

impl World {
    /// Whether the group can go on for ever without this folder: others hold every committed write, and those left are a
    /// majority of the acceptors; by the newest state and by every one that may yet be chosen.
    pub(crate) fn can_lose(&self, machine: usize) -> bool {
        let Some(latest) = self.ledger.choices.latest() else { return false };
        let Some(lost) = self.id_of(machine) else { return true };
        self.possible_states(latest).all(|state| {
            let (holders, quorum) = self.sound(state, Some(lost));
            holders >= usize::from(state.settings.min_copies).max(1) && quorum
        })
    }

    /// The newest chosen state, and those that some acceptor holds beyond it and that may yet be chosen.
    pub(crate) fn possible_states<'a>(&'a self, latest: &'a GroupState) -> impl Iterator<Item = &'a GroupState> {
        let accepted = self.machines.iter().filter_map(|machine| machine.disk.vote.accepted.as_ref());
        accepted.map(|(_, state)| state).filter(|state| state.version > latest.version).chain([latest])
    }

    /// How many in-sync folders of a state can still count, and whether enough of its acceptors can, without a lost one:
    /// they exist, have forgotten nothing, and know that they are members. A state that changes the acceptors needs a
    /// majority of the old ones as well (R6).
    pub(crate) fn sound(&self, state: &GroupState, lost: Option<NodeId>) -> (usize, bool) {
        let sound = |id: NodeId| {
            let counts = |machine: &Machine| !machine.amnesiac && !machine.disk.harmed;
            let machine = self.machine_of(id).filter(|machine| counts(&self.machines[*machine]));
            let disk = machine.map(|machine| &self.machines[machine].disk);
            let known =
                disk.and_then(|disk| disk.vote.accepted.as_ref().map(|(_, state)| state).or(disk.birth.as_ref()));
            Some(id) != lost && known.is_some()
        };
        let holders = state.in_sync.iter().filter(|id| sound(**id)).count();
        (holders, Quorum::of(state).is_met(sound))
    }
}
