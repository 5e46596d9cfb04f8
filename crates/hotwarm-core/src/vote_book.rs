//! The order of promises: what may be sent only once the vote record that it leans on is durable (R5, R11, INV-2).
//!
//! A step may change the vote record several times; it is ordered to the disk once, at the step's end, and whatever
//! was put off in that step waits for it. Orders are reported in order, so a later record also covers the earlier.

use crate::register::{Ballot, Vote};
use crate::{Claims, Message, Node, Output};
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;
use hotwarm_types::{Epoch, Incarnation, Instant, NodeId, Token};

/// What happens once a vote record is durable.
#[derive(Clone, Debug, Hash)]
pub(crate) enum After {
    /// The promise may leave.
    Send { to: NodeId, message: Message },
    /// The message that raised the epoch is taken again, now that the epoch is durable.
    Take { from: NodeId, incarnation: Incarnation, message: Message },
    /// The reign that this node won may begin.
    Reign { epoch: Epoch },
}

#[derive(Clone, Debug, Hash)]
struct Ordered {
    token: Token,
    promised: Ballot,
    epoch: Epoch,
    grace: Duration,
    after: Vec<After>,
}

/// See the module.
#[derive(Clone, Debug, Hash)]
pub(crate) struct VoteBook {
    /// The record in memory differs from the one ordered last.
    pub(crate) dirty: bool,
    after: Vec<After>,
    ordered: VecDeque<Ordered>,
    /// What is durable: the only thing that may be claimed.
    durable_promised: Ballot,
    durable_epoch: Epoch,
    durable_grace: Duration,
}

impl VoteBook {
    pub(crate) fn new(vote: &Vote) -> Self {
        Self {
            // The new incarnation is written with the first change; nothing is promised before.
            dirty: false,
            after: Vec::new(),
            ordered: VecDeque::new(),
            durable_promised: vote.promised,
            durable_epoch: vote.epoch,
            durable_grace: vote.grace_granted,
        }
    }

    pub(crate) fn durable_epoch(&self) -> Epoch {
        self.durable_epoch
    }

    /// The longest grace that this node would wait out after a restart (R17).
    pub(crate) fn durable_grace(&self) -> Duration {
        self.durable_grace
    }
}

impl Node {
    /// Does `action` once everything that the vote record says now is durable: at once if it is.
    pub(crate) fn once_durable(&mut self, now: Instant, action: After) {
        if self.book.dirty {
            self.book.after.push(action);
        } else if let Some(last) = self.book.ordered.back_mut() {
            last.after.push(action);
        } else {
            self.act(now, action);
        }
    }

    fn act(&mut self, now: Instant, action: After) {
        match action {
            After::Send { to, message } => self.send(to, message),
            After::Take { from, incarnation, message } => self.received(now, from, incarnation, message),
            After::Reign { epoch } => self.reign_durable(now, epoch),
        }
    }

    /// Orders the vote record to the disk if this step changed it.
    pub(crate) fn flush_vote(&mut self) {
        if !self.book.dirty || self.fenced.is_some() {
            return;
        }
        self.book.dirty = false;
        self.vote.committed = self.log.committed();
        self.vote.settled = self.is_settled();
        let token = self.token();
        let after = core::mem::take(&mut self.book.after);
        let (promised, epoch, grace) = (self.vote.promised, self.vote.epoch, self.vote.grace_granted);
        self.book.ordered.push_back(Ordered { token, promised, epoch, grace, after });
        let vote = self.vote.clone();
        self.emit(Output::PersistVote { token, vote });
    }

    /// Takes the report that a vote record is durable; `false` if the token is not one of its orders.
    pub(crate) fn vote_persisted(&mut self, now: Instant, token: Token) -> bool {
        if self.book.ordered.binary_search_by_key(&token, |ordered| ordered.token).is_err() {
            return false;
        }
        while self.book.ordered.front().is_some_and(|ordered| ordered.token <= token) {
            let Some(done) = self.book.ordered.pop_front() else { break };
            self.book.durable_promised = done.promised;
            self.book.durable_epoch = done.epoch;
            self.book.durable_grace = done.grace;
            for action in done.after {
                self.act(now, action);
            }
        }
        true
    }

    /// What this node may claim of its memory (R5): durable things only.
    pub(crate) fn claims(&self) -> Claims {
        Claims {
            incarnation: self.config.incarnation,
            promised: self.book.durable_promised,
            epoch: self.book.durable_epoch,
            durable: self.log.durable_end(),
        }
    }
}
