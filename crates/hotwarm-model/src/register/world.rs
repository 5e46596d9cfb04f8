//! The state of a small register: what each acceptor and proposer is, what is on its way, and what the judge remembers.
//!
//! Numbers stand for values that `Parts` keeps.

use super::scene::Budget;
use crate::table::Table;
use hotwarm_core::Message;
use hotwarm_core::register::{Ballot, GroupState, Outcome, Proposer, Vote, Wish};
use hotwarm_types::{NodeId, Version};

/// One message on its way. The network is a set: what is in it may arrive at any time, any number of times, or never.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Letter {
    /// The sender.
    pub from: NodeId,
    /// The receiver.
    pub to: NodeId,
    /// What it says.
    pub message: Message,
}

impl Letter {
    /// Whether it is for the receiver's acceptor, not for its proposer.
    #[must_use]
    pub fn asks(&self) -> bool {
        matches!(self.message, Message::Prepare { .. } | Message::Accept { .. })
    }

    /// The ballot that it answers.
    #[must_use]
    pub fn answers(&self) -> Option<Ballot> {
        match &self.message {
            Message::Promise { ballot, .. } | Message::Accepted { ballot } | Message::Refused { ballot, .. } => {
                Some(*ballot)
            }
            _ => None,
        }
    }
}

/// A value in a ballot.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Proposal {
    /// The ballot.
    pub ballot: Ballot,
    /// The value.
    pub state: GroupState,
}

/// One acceptor: the product's vote as its process has it, and as its disk does.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Acceptor {
    /// In memory.
    pub vote: u32,
    /// On the disk.
    pub disk: u32,
    /// Letters that wait for the disk.
    pub unsent: Vec<u32>,
    /// Proposals accepted since the last sync.
    pub unwritten: Vec<u32>,
}

/// One proposer, and its node as far as it matters to it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Seat {
    /// The product's proposer.
    pub proposer: u32,
    /// The newest chosen state that the node knows.
    pub known: u32,
    /// The newest version chosen when the present wish began.
    pub floor: Version,
    /// Its next wish.
    pub next: u8,
    /// Which start of its process this is.
    pub start: u64,
    /// The ballot of its present round.
    pub ballot: Ballot,
    /// Whether that round is in its second phase.
    pub accepting: bool,
    /// What its clock shows.
    pub clock: u64,
}

/// What is known of a wish's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fate {
    /// Its proposer is busy with it, or was restarted: nobody was told anything.
    Unknown,
    /// It was said to be done.
    Done,
    /// It was said to be refused.
    Denied,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    /// The acceptors, by node.
    pub acceptors: Vec<Acceptor>,
    /// The proposers, by node.
    pub seats: Vec<Seat>,
    /// Letters, in the order of their numbers.
    pub network: Vec<u32>,
    /// How much may still go wrong.
    pub left: Budget,
    /// Proposals that acceptors were asked to hold, and which of them have it on the disk, a bit for each.
    pub accepted: Vec<(u32, u8)>,
    /// The states chosen, oldest first, each with the ballot in which it was chosen first.
    pub chosen: Vec<(u32, Ballot)>,
    /// The wishes made, and their fates.
    pub wishes: Vec<(u32, Fate)>,
}

/// The values behind the numbers.
#[derive(Debug, Default)]
pub struct Parts {
    /// Votes.
    pub votes: Table<Vote>,
    /// Proposers.
    pub proposers: Table<Proposer>,
    /// Group states.
    pub states: Table<GroupState>,
    /// Letters.
    pub letters: Table<Letter>,
    /// Proposals.
    pub proposals: Table<Proposal>,
    /// Wishes.
    pub wishes: Table<Wish>,
    /// Outcomes.
    pub outcomes: Table<Outcome>,
}

impl World {
    /// Puts a letter into the network; `true` if it was not there.
    pub fn post(&mut self, letter: u32) -> bool {
        match self.network.binary_search(&letter) {
            Ok(_) => false,
            Err(place) => {
                self.network.insert(place, letter);
                true
            }
        }
    }
}
