//! What a check of the register begins with: the group, who wishes what of it, and how much may go wrong.

use super::world::Seat;
use hotwarm_core::register::{Cause, Change, GroupState, Member, MemberRole, ProposalId, Settings, Wish, apply};
use hotwarm_types::{ClusterId, Epoch, FolderId, GroupId, Incarnation, NodeId, Reign, Version};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// One change that a proposer wishes, made from what it knows when it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intent {
    /// Take over, if the state is still the one it knows.
    Promote,
    /// Change the settings, if the state is still the one it knows: one of two operators (C23).
    Configure,
    /// A change of nothing, from whatever version.
    Bump,
    /// Read.
    Read,
    /// Admit the invited folder.
    Admit,
    /// Remove the member of that name.
    Remove(&'static str),
}

/// How much may go wrong in one order of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Budget {
    /// Crashes of an acceptor, which forgets what is not on its disk.
    pub crashes: u8,
    /// Restarts of a proposer, which forgets its wish.
    pub restarts: u8,
    /// Times that a proposer waits in vain and asks again.
    pub waits: u8,
}

impl Budget {
    /// How much of what.
    #[must_use]
    pub fn counted(&self) -> [(u8, &'static str); 3] {
        let Self { crashes, restarts, waits } = *self;
        [(crashes, "crashes of an acceptor"), (restarts, "restarts of a proposer"), (waits, "waits in vain")]
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Scene {
    /// Its name on the command line.
    pub name: &'static str,
    /// What happens in it, for a person.
    pub about: &'static str,
    /// Whether a folder is invited, and into which member's place.
    pub invited: Option<Option<&'static str>>,
    /// What each proposer wishes, one after the other. Proposer 1 is the first node, which reigns.
    pub wishes: &'static [&'static [Intent]],
    /// How much may go wrong.
    pub budget: Budget,
}

/// The start of every process in which a scene begins; what came before was wished in the first.
pub const START: u64 = 2;

/// The name of the folder that is invited, where it takes nobody's place.
const NEWCOMER: &str = "d";

/// The node of the `index`-th acceptor or proposer.
#[must_use]
pub fn node(index: usize) -> NodeId {
    NodeId(index as u16 + 1)
}

/// The `start`-th start of any node's process.
#[must_use]
pub fn incarnation(start: u64) -> Incarnation {
    Incarnation { start, nonce: 7 }
}

fn member(name: &str, folder: u128) -> Member {
    let address = format!("{name}:7400");
    Member { name: name.into(), folder: FolderId(folder), address, role: MemberRole::Data, priority: 100 }
}

fn wish(counter: u64, change: Change) -> Wish {
    let id = ProposalId { node: node(0), start: 1, counter };
    Wish { id, expected: None, change, cause: Cause::default(), at_ms: 0 }
}

impl Scene {
    /// How many acceptors there are or may be.
    #[must_use]
    pub fn acceptors(&self) -> usize {
        3 + usize::from(self.invited.is_some())
    }

    /// The chosen states before the scene begins, oldest first: a group of three after its bootstrap, and the invitation.
    ///
    /// # Panics
    /// If the product refuses to make them.
    #[must_use]
    pub fn history(&self) -> Vec<GroupState> {
        let members: BTreeMap<NodeId, Member> =
            [(0, "a"), (1, "b"), (2, "c")].map(|(index, name)| (node(index), member(name, index as u128 + 1))).into();
        let birth = GroupState {
            cluster: ClusterId(1),
            group: GroupId(1),
            version: Version(0),
            proposal: ProposalId::default(),
            reign: Reign { epoch: Epoch(1), node: node(0), incarnation: incarnation(1) },
            lossy_epoch: None,
            in_sync: BTreeSet::from([node(0), node(1)]),
            members,
            members_version: Version(0),
            invited: BTreeMap::new(),
            next_node: node(3),
            settings: Settings::default(),
            pause: None,
            changes: VecDeque::new(),
        };
        let first = apply(None, &wish(1, Change::Bootstrap(Box::new(birth)))).expect("the birth state is whole");
        let mut history = vec![first];
        if let Some(place) = self.invited {
            let name = place.unwrap_or(NEWCOMER);
            let address = format!("{NEWCOMER}:7400");
            let change = Change::Invite { name: name.into(), address, role: MemberRole::Data, priority: 100 };
            let invited = apply(history.last(), &wish(2, change)).expect("the invitation is allowed");
            history.push(invited);
        }
        history
    }

    /// The wish that an intent becomes at a node that knows `known`. No two of one node are alike.
    #[must_use]
    pub fn wish(&self, intent: Intent, index: usize, seat: &Seat, known: &GroupState, id: ProposalId) -> Wish {
        let conditional = matches!(intent, Intent::Promote | Intent::Configure);
        let change = match intent {
            Intent::Promote => Change::Promote {
                candidate: node(index),
                incarnation: incarnation(seat.start),
                in_sync: known.in_sync.clone(),
                seen: known.reign.epoch,
            },
            Intent::Configure => {
                let text = format!("as {} wishes, {}", node(index), seat.next);
                Change::Settings(Settings { text, ..known.settings.clone() })
            }
            Intent::Bump => Change::Bump,
            Intent::Read => Change::Read,
            Intent::Admit => {
                let name = self.invited.flatten().unwrap_or(NEWCOMER);
                Change::Admit { name: name.into(), folder: FolderId(4) }
            }
            Intent::Remove(name) => Change::Remove { name: name.into() },
        };
        Wish { id, expected: conditional.then_some(known.version), change, cause: Cause::default(), at_ms: 0 }
    }
}
