//! What planted bugs make of facts on their way to the core, of its orders, and of what a process recovers.

use super::Bug;
use crate::clock::MS;
use crate::disk::Disk;
use crate::world::{Event, World};
use hotwarm_core::{Ask, Claims, Grant, Input, Message, Output, Recovered};
use hotwarm_types::{Block, BlockKind, NodeId, Version};

/// What a wiped folder would have had to remember, for the bug that forges it.
#[must_use]
pub fn memory_of(disk: &Disk) -> Claims {
    Claims { promised: disk.vote.promised, epoch: disk.vote.epoch, durable: disk.log.end(), ..Claims::default() }
}

impl World {
    /// What a planted bug makes of a fact on its way to the core; `None`: the core never hears of it.
    pub(crate) fn distort_input(&mut self, machine: usize, input: Input) -> Option<Input> {
        let Some(bug) = self.bug else { return Some(input) };
        match (bug, input) {
            (Bug::GrownTooEarly, Input::Received { from, incarnation, message }) => {
                let message = self.raise_ack(machine, from, message);
                Some(Input::Received { from, incarnation, message })
            }
            (Bug::PromotedOutOfSync, Input::Received { from, incarnation, mut message }) => {
                let me = self.id_of(machine);
                if let (Some(me), Message::Promise { accepted: Some((_, state)), .. } | Message::Announce { state }) =
                    (me, &mut message)
                    && state.holds_data(me)
                {
                    state.in_sync.insert(me);
                }
                Some(Input::Received { from, incarnation, message })
            }
            (
                Bug::WipedNodeVotes | Bug::AmnesiaUnnoticed,
                Input::Received { from, incarnation, message: Message::HelloRefused { .. } },
            ) => {
                let message = Message::HelloPassed { version: Version(0) };
                Some(Input::Received { from, incarnation, message })
            }
            (Bug::CachedStateRead, Input::Asked { id, ask: Ask::ReadState }) => {
                let known = self.machines[machine].process.as_ref().and_then(|process| process.known.clone());
                let Some(state) = known else { return Some(Input::Asked { id, ask: Ask::ReadState }) };
                self.operator_answered(machine, id, &Ok(hotwarm_core::Answer::State(state)));
                None
            }
            (Bug::ConfigBlindWrite, Input::Asked { id, ask: Ask::Apply { settings, changes, expected } }) => {
                let known = self.machines[machine].process.as_ref().and_then(|process| process.known.as_ref());
                let expected = known.map_or(expected, |state| state.version);
                Some(Input::Asked { id, ask: Ask::Apply { settings, changes, expected } })
            }
            (Bug::MinCopiesIgnored | Bug::MaintenanceIgnored, Input::Received { from, incarnation, mut message }) => {
                if let Message::Promise { accepted: Some((_, state)), .. }
                | Message::Announce { state }
                | Message::Refused { newer: Some(state), .. } = &mut message
                {
                    if bug == Bug::MinCopiesIgnored {
                        state.settings.min_copies = 1;
                    } else {
                        state.pause = None;
                    }
                }
                Some(Input::Received { from, incarnation, message })
            }
            (
                Bug::CommitUnclamped,
                Input::Received { from, incarnation, message: message @ Message::Beacon { committed, .. } },
            ) => {
                let end = self.machines[machine].process.as_ref().map(|process| process.log.end().lsn);
                self.commit(machine, end.unwrap_or_default().min(committed));
                Some(Input::Received { from, incarnation, message })
            }
            (Bug::VerifiedUnasked, Input::VerifyAsked { id }) => {
                let at = self.machines[machine].process.as_ref().map(|process| process.committed());
                self.verified(machine, id, at);
                None
            }
            (_, input) => Some(input),
        }
    }

    /// An acknowledgement of a node outside the in-sync set is raised to the end of the hot's log.
    fn raise_ack(&self, machine: usize, from: NodeId, mut message: Message) -> Message {
        let Some(process) = &self.machines[machine].process else { return message };
        let joining = process.known.as_ref().is_some_and(|state| !state.in_sync.contains(&from));
        if let Message::Ack { durable, .. } = &mut message
            && joining
        {
            *durable = process.log.end().lsn;
        }
        message
    }

    /// What a planted bug makes of an order on its way from the core; `None`: it is not carried out.
    pub(crate) fn distort_output(&mut self, machine: usize, output: Output) -> Option<Output> {
        let Some(bug) = self.bug else { return Some(output) };
        match (bug, output) {
            (Bug::GrantWhileStanding, Output::Send { to, mut message }) => {
                if let Message::BeaconAnswer { grant, .. } = &mut message
                    && *grant == Grant::Heard
                    && !self.machines[machine].amnesiac
                {
                    *grant = Grant::Granted;
                }
                Some(Output::Send { to, message })
            }
            (Bug::CommitWithoutShrink, Output::Send { to, message }) => {
                self.forge_ack(machine, to, &message, 100 * MS);
                Some(Output::Send { to, message })
            }
            (Bug::EpochStartUncommitted, Output::Send { to, message }) => {
                if matches!(&message, Message::Append { block, .. } if block.kind == BlockKind::EpochStart) {
                    self.forge_ack(machine, to, &message, 1_000);
                }
                Some(Output::Send { to, message })
            }
            (Bug::AckUnmatched, Output::Send { to, mut message }) => {
                if let Message::Ack { durable, .. } = &mut message {
                    *durable = self.machines[machine].disk.log.end().lsn;
                }
                Some(Output::Send { to, message })
            }
            (Bug::GoodbyeTakenBack, Output::Send { to, message }) => {
                if let Message::Beacon { epoch, .. } = message
                    && self.rng.per_mille(5)
                {
                    self.send(machine, to, Message::Goodbye { epoch });
                }
                Some(Output::Send { to, message })
            }
            (Bug::CutOffByOne, Output::CutLog { token, last }) => {
                let log = self.machines[machine].process.as_ref().map(|process| &process.log);
                let less =
                    log.and_then(|log| Some(log.block_at(last)?.first.prev()).filter(|less| *less > log.floor.lsn));
                Some(Output::CutLog { token, last: less.unwrap_or(last) })
            }
            (Bug::WipedNodeVotes | Bug::AmnesiaUnnoticed, Output::Send { to, message: Message::Hello(claims) }) => {
                let forged = self.machines[machine].forged.unwrap_or_default();
                let claims = Claims {
                    promised: claims.promised.max(forged.promised),
                    epoch: claims.epoch.max(forged.epoch),
                    durable: claims.durable.max(forged.durable),
                    ..claims
                };
                Some(Output::Send { to, message: Message::Hello(claims) })
            }
            (_, output) => Some(output),
        }
    }

    /// The hot's own shell answers for a follower that takes long.
    fn forge_ack(&mut self, machine: usize, to: NodeId, message: &Message, wait: u64) {
        let Message::Append { epoch, incarnation, stream, block, .. } = message else { return };
        let Block { last, .. } = block;
        let ack = Message::Ack { epoch: *epoch, incarnation: *incarnation, stream: *stream, durable: *last };
        let peer = self.machine_of(to);
        let told = self.machines[machine].process.as_ref().and_then(|process| {
            let told = process.told.get(&peer?)?;
            Some((process.boot, told.incarnation))
        });
        if let Some((boot, incarnation)) = told {
            let fact = Box::new(Input::Received { from: to, incarnation, message: ack });
            self.after(wait, Event::Tell { machine, boot, fact });
        }
    }
}

/// What a planted bug makes of what a start has recovered.
#[must_use]
pub fn distort_recovered(bug: Option<Bug>, mut recovered: Recovered) -> Recovered {
    match bug {
        Some(Bug::PromiseForgotten) => recovered.vote.promised = Default::default(),
        Some(Bug::AcceptedForgotten) => recovered.vote.accepted = None,
        Some(_) | None => {}
    }
    recovered
}
