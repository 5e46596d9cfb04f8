//! What must hold of the register, whatever happens: judged from what the disks hold and what the proposers say.
//!
//! Nothing of the product's own idea of a quorum is used. A state is chosen when a majority of its members has it on the disk
//! in one ballot and, where it changes who the members are, a majority of those before too (R6).

use super::world::{Fate, Parts, World};
use crate::explore::Violation;
use hotwarm_core::register::{Ballot, Change, Denied, GroupState, Outcome, Wish, apply};
use hotwarm_types::{NodeId, Version};
use std::rc::Rc;

type Verdict = Result<(), Violation>;

/// The newest version that is chosen.
pub fn newest(world: &World, parts: &Parts) -> Version {
    world.chosen.last().map_or(Version(0), |(state, _)| parts.states[*state].version)
}

/// The chosen state of a version, within what the scene remembers.
fn chosen_at(world: &World, parts: &Parts, version: Version) -> Option<u32> {
    world.chosen.iter().map(|(state, _)| *state).find(|state| parts.states[*state].version == version)
}

/// An acceptor is asked to hold a value in a ballot.
///
/// # Errors
/// R3: the ballot has another value already.
pub fn proposed(world: &mut World, parts: &mut Parts, proposal: u32) -> Verdict {
    if world.accepted.iter().any(|(known, _)| *known == proposal) {
        return Ok(());
    }
    let ballot = parts.proposals[proposal].ballot;
    if world.accepted.iter().any(|(known, _)| parts.proposals[*known].ballot == ballot) {
        return Err(Violation::new("R3", format!("ballot {ballot} carries two values")));
    }
    world.accepted.push((proposal, 0));
    world.accepted.sort_unstable();
    Ok(())
}

/// A proposal has reached an acceptor's disk.
///
/// # Errors
/// R2, R3, R6: what it makes chosen must not be.
pub fn written(world: &mut World, parts: &mut Parts, acceptor: usize, proposal: u32) -> Verdict {
    proposed(world, parts, proposal)?;
    let Some((_, mask)) = world.accepted.iter_mut().find(|(known, _)| *known == proposal) else { return Ok(()) };
    *mask |= 1 << acceptor;
    let mask = *mask;
    let held = parts.proposals[proposal].clone();
    if is_chosen(world, parts, &held.state, mask) { choose(world, parts, held.ballot, &held.state) } else { Ok(()) }
}

/// Whether those in `mask`, who hold a state in one ballot, are enough for it.
fn is_chosen(world: &World, parts: &Parts, state: &GroupState, mask: u8) -> bool {
    let majority = |members: &mut dyn Iterator<Item = NodeId>| {
        let (mut all, mut holding) = (0, 0);
        for member in members {
            all += 1;
            holding += usize::from(mask & (1 << (member.0 - 1)) != 0);
        }
        holding * 2 > all
    };
    let before = Version(state.version.0 - 1);
    let old = chosen_at(world, parts, before).filter(|_| state.changes_members());
    majority(&mut state.members.keys().copied())
        && old.is_none_or(|old| majority(&mut parts.states[old].members.keys().copied()))
}

/// A state is chosen, in that ballot.
fn choose(world: &mut World, parts: &mut Parts, ballot: Ballot, state: &GroupState) -> Verdict {
    let number = parts.states.number(state.clone());
    let (last, first_in) = world.chosen.last().copied().unwrap_or_default();
    if let Some(known) = chosen_at(world, parts, state.version) {
        if known != number {
            return Err(Violation::new("R3", format!("two values are chosen at {}", state.version)));
        }
        if ballot > first_in && parts.states[last].version > state.version {
            let what = format!("{} is chosen in {ballot} although a later one was in {first_in}", state.version);
            return Err(Violation::new("R3", what));
        }
        return Ok(());
    }
    let before = foundation(world, parts, ballot, state, parts.states[last].clone())?;
    let wishes = world.wishes.iter().map(|(wish, fate)| (parts.wishes[*wish].clone(), *fate));
    let Some((wish, fate)) = wishes.into_iter().find(|(wish, _)| wish.id == state.proposal) else {
        return Err(Violation::new("R2", format!("nobody wished {}, which is chosen", state.proposal)));
    };
    if apply(Some(&before), &wish).as_ref() != Ok(state) {
        let what = format!("{} is chosen and is not what {} makes of {}", state.version, wish.id, before.version);
        return Err(Violation::new("R2", what));
    }
    if fate == Fate::Denied {
        let what = format!("{} is made by {}, which was said to be refused", state.version, wish.id);
        return Err(Violation::new("C9", what));
    }
    world.chosen.push((number, ballot));
    Ok(())
}

/// The state that a chosen one was made from. That may have been held by too few to be chosen; it is now, with what was built
/// on it. Only on a change of members nothing may be built before it is chosen itself (R6).
fn foundation(
    world: &mut World,
    parts: &mut Parts,
    ballot: Ballot,
    state: &GroupState,
    newest: Rc<GroupState>,
) -> Result<Rc<GroupState>, Violation> {
    if state.version == newest.version.next() {
        return Ok(newest);
    }
    let by = |record: &&hotwarm_core::register::ChangeRecord| record.version.next() == state.version;
    let made_by = state.changes.iter().rev().find(by).map(|record| record.by);
    let proposals = world.accepted.iter().map(|(proposal, _)| parts.proposals[*proposal].clone());
    let mut under = proposals.filter(|under| {
        under.state.version.next() == state.version && Some(under.state.proposal) == made_by && under.ballot < ballot
    });
    let Some(under) = under.next() else {
        return Err(Violation::new("R2", format!("{} is chosen after {}", state.version, newest.version)));
    };
    if under.state.changes_members() {
        let what = format!("{} is built on a change of members that is not chosen", state.version);
        return Err(Violation::new("R6", what));
    }
    choose(world, parts, ballot, &under.state)?;
    Ok(Rc::new(under.state.clone()))
}

/// A vote record has replaced another on an acceptor's disk.
///
/// # Errors
/// R3: it has gone back.
pub fn replaced(parts: &Parts, acceptor: usize, before: u32, after: u32) -> Verdict {
    let (before, after) = (&parts.votes[before], &parts.votes[after]);
    let held = |vote: &hotwarm_core::register::Vote| vote.accepted.as_ref().map(|(ballot, _)| *ballot);
    if after.promised < before.promised || held(after) < held(before) {
        let (from, to) = (before.promised, after.promised);
        return Err(Violation::new("R3", format!("acceptor {} goes back from {from} to {to}", acceptor + 1)));
    }
    Ok(())
}

/// A proposer has said how its wish ended. `floor` is the newest version chosen when the wish began.
///
/// # Errors
/// R2, C9, C23: it is not so.
pub fn ended(world: &mut World, parts: &mut Parts, wish: &Wish, floor: Version, outcome: &Outcome) -> Verdict {
    let (state, denied) = match outcome {
        Outcome::Done(state) => (Some(state), None),
        Outcome::Denied { denied, state } => (state.as_ref(), Some(denied)),
    };
    if let Some(state) = state {
        let chosen = chosen_at(world, parts, state.version).is_some_and(|chosen| *parts.states[chosen] == *state);
        if !chosen {
            return Err(Violation::new("R2", format!("{} was told {}, which is not chosen", wish.id, state.version)));
        }
    }
    let made = world.chosen.iter().filter(|(state, _)| parts.states[*state].proposal == wish.id).count();
    let fate = match (denied, state) {
        (None, Some(state)) if wish.change == Change::Read => {
            if state.version < floor {
                return Err(Violation::new("R7", format!("a read at {} missed {floor}", state.version)));
            }
            Fate::Done
        }
        (None, _) => {
            if made != 1 {
                return Err(Violation::new("R2", format!("{} is said to be done and was made {made} times", wish.id)));
            }
            Fate::Done
        }
        // The one refusal that says that nothing is known.
        (Some(Denied::OutcomeForgotten { .. }), _) => Fate::Unknown,
        (Some(denied), _) => {
            if made > 0 {
                return Err(Violation::new("C9", format!("{} was made, and told: {denied}", wish.id)));
            }
            Fate::Denied
        }
    };
    one_of_rivals(world, parts, wish, fate)?;
    settle(world, parts, wish, fate);
    Ok(())
}

/// C23: of two changes of one version exactly one is done.
fn one_of_rivals(world: &World, parts: &Parts, wish: &Wish, fate: Fate) -> Verdict {
    let Some(expected) = wish.expected.filter(|_| fate == Fate::Done) else { return Ok(()) };
    let rival = world.wishes.iter().filter(|(_, fate)| *fate == Fate::Done).map(|(other, _)| &parts.wishes[*other]);
    match rival.into_iter().find(|other| other.expected == Some(expected)) {
        None => Ok(()),
        Some(rival) => Err(Violation::new("C23", format!("{} and {} both changed {expected}", wish.id, rival.id))),
    }
}

/// Remembers a fate.
pub fn settle(world: &mut World, parts: &Parts, wish: &Wish, fate: Fate) {
    for (known, known_fate) in &mut world.wishes {
        if parts.wishes[*known].id == wish.id {
            *known_fate = fate;
        }
    }
}
