//! The state of two data nodes and a witness: processes and disks, connections and what is on its way, and what the judge
//! remembers.
//!
//! Numbers stand for values that `Parts` keeps. Nodes are counted from 0 here; the member number of the first is 1.

use super::scene::Budget;
use crate::table::Table;
use hotwarm_core::register::{Ballot, GroupState, Vote};
use hotwarm_core::{Input, Message, Node};
use hotwarm_types::{Block, Lsn, NodeId, Tenure, Token};

/// How many nodes there are.
pub const NODES: usize = 3;
/// The witness.
pub const WITNESS: usize = 2;

/// The member number of a node.
#[must_use]
pub fn member(index: usize) -> NodeId {
    NodeId(index as u16 + 1)
}

/// The node of a member number.
#[must_use]
pub fn index_of(member: NodeId) -> usize {
    usize::from(member.0) - 1
}

/// An order to a log that is not done yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LogOrder {
    /// Append a block.
    Append(u32),
    /// Cut everything after a position.
    Cut(Lsn),
}

/// One start of a node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Process {
    /// The product's node.
    pub node: u32,
    /// Which start this is.
    pub start: u64,
    /// The log as this process has written it, block by block.
    pub log: Vec<u32>,
    /// Orders to the vote record, oldest first.
    pub votes: Vec<(Token, u32)>,
    /// Orders to the log, oldest first.
    pub orders: Vec<(Token, LogOrder)>,
    /// Reads of the log.
    pub reads: Vec<(Token, Lsn)>,
    /// It takes writes under this tenure.
    pub serves: Option<Tenure>,
    /// It has stopped for good.
    pub fenced: bool,
}

/// One machine.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Machine {
    /// Its process, if one runs.
    pub process: Option<Process>,
    /// The process takes nothing.
    pub paused: bool,
    /// The vote record on its disk.
    pub vote: u32,
    /// The log on its disk.
    pub log: Vec<u32>,
    /// How often a process was started.
    pub starts: u64,
}

/// A connection as one end knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    /// There is none.
    Down,
    /// There is one, and this end has not been told.
    Coming,
    /// It stands.
    Up,
    /// It broke, and this end has not been told.
    Breaking,
}

/// Between two machines, the lower first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Link {
    /// What each end knows.
    pub ends: [End; 2],
    /// Whether what the lower, and what the higher, sends is held.
    pub cut: [bool; 2],
}

/// The way of a message: sender, receiver, and whether it is the bulk connection. Messages keep their order on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lane {
    /// The sender.
    pub from: u8,
    /// The receiver.
    pub to: u8,
    /// The bulk connection.
    pub bulk: bool,
}

/// A guardian's word on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attested {
    /// To whom.
    pub to: u8,
    /// Who died.
    pub dead: u8,
    /// In which start.
    pub start: u64,
}

/// What really happened, as only the judge knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Memory {
    /// What was accepted durably, and by whom, a bit for each node.
    pub held: Vec<(u32, u8)>,
    /// The states chosen, oldest first.
    pub chosen: Vec<u32>,
    /// Every block that was ever written, by epoch and position.
    pub written: Vec<u32>,
    /// The committed log, block by block.
    pub committed: Vec<u32>,
    /// The highest epoch that a node has served in.
    pub served: u64,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    /// The machines: hot at first, warm at first, witness.
    pub machines: Vec<Machine>,
    /// 0-1, 0-2, 1-2.
    pub links: [Link; 3],
    /// Messages on their way: by lane, and within it in order.
    pub air: Vec<(Lane, u32)>,
    /// Attestations on their way.
    pub attested: Vec<Attested>,
    /// Steps of time since the beginning.
    pub time: u64,
    /// How much may still happen.
    pub left: Budget,
    /// The judge's.
    pub memory: Memory,
}

/// A state that an acceptor holds, and in which ballot.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Held {
    /// The ballot.
    pub ballot: Ballot,
    /// The state.
    pub state: GroupState,
}

/// The values behind the numbers.
#[derive(Debug, Default)]
pub struct Parts {
    /// Nodes.
    pub nodes: Table<Node>,
    /// Vote records.
    pub votes: Table<Vote>,
    /// Messages.
    pub messages: Table<Message>,
    /// Facts.
    pub inputs: Table<Input>,
    /// Blocks.
    pub blocks: Table<Block>,
    /// Chosen states.
    pub states: Table<GroupState>,
    /// Accepted states.
    pub held: Table<Held>,
}

/// The link between two machines.
#[must_use]
pub fn link_of(one: usize, other: usize) -> usize {
    one + other - 1
}

/// The two machines of a link.
pub const ENDS: [[usize; 2]; 3] = [[0, 1], [0, 2], [1, 2]];

impl World {
    /// Whether what `from` sends reaches `to` now.
    #[must_use]
    pub fn is_open(&self, from: usize, to: usize) -> bool {
        !self.links[link_of(from, to)].cut[usize::from(from > to)]
    }

    /// What a machine knows of its connection to another.
    pub fn end(&mut self, machine: usize, peer: usize) -> &mut End {
        &mut self.links[link_of(machine, peer)].ends[usize::from(machine > peer)]
    }

    /// The same, to read.
    #[must_use]
    pub fn known_end(&self, machine: usize, peer: usize) -> End {
        self.links[link_of(machine, peer)].ends[usize::from(machine > peer)]
    }

    /// Whether a machine's process takes what comes.
    #[must_use]
    pub fn is_awake(&self, machine: usize) -> bool {
        self.machines[machine].process.is_some() && !self.machines[machine].paused
    }

    /// Puts a message on its way, behind those on its lane.
    pub fn post(&mut self, lane: Lane, message: u32) {
        let place = self.air.partition_point(|(other, _)| *other <= lane);
        self.air.insert(place, (lane, message));
    }

    /// The connection between two machines is gone, with all that is on its way.
    pub fn lose_connection(&mut self, one: usize, other: usize) {
        self.air.retain(|(lane, _)| {
            let ends = [usize::from(lane.from), usize::from(lane.to)];
            ends != [one, other] && ends != [other, one]
        });
        for (machine, peer) in [(one, other), (other, one)] {
            let end = self.end(machine, peer);
            *end = match *end {
                End::Up | End::Breaking => End::Breaking,
                End::Coming | End::Down => End::Down,
            };
        }
    }

    /// Position of a log's end.
    #[must_use]
    pub fn end_of(&self, parts: &Parts, log: &[u32]) -> Lsn {
        log.last().map_or(Lsn::ZERO, |block| parts.blocks[*block].last)
    }
}
