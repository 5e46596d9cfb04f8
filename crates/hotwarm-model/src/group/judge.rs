//! What must hold of the group, whatever happens: INV-1 to INV-8, judged from the disks, the orders and the words of the
//! nodes, not from what they believe.

use super::world::{Held, NODES, Parts, World, index_of, member};
use crate::explore::Violation;
use hotwarm_core::Message;
use hotwarm_core::register::{GroupState, Vote};
use hotwarm_types::{Block, Instant, Lsn};

type Verdict = Result<(), Violation>;

fn broken(rule: &'static str, what: String) -> Verdict {
    Err(Violation::new(rule, what))
}

/// The newest chosen state.
pub fn newest(world: &World, parts: &Parts) -> Option<GroupState> {
    world.memory.chosen.last().map(|state| (*parts.states[*state]).clone())
}

/// A vote record has reached a disk.
///
/// # Errors
/// INV-2: the epoch, or the promise, went back. INV-4, INV-5, R3: what it makes chosen must not be.
pub fn vote_written(world: &mut World, parts: &mut Parts, machine: usize, before: &Vote, after: &Vote) -> Verdict {
    if after.epoch < before.epoch {
        return broken("INV-2", format!("the epoch of {} goes back to {}", member(machine), after.epoch));
    }
    if after.promised < before.promised {
        return broken("R3", format!("the promise of {} goes back to {}", member(machine), after.promised));
    }
    let Some((ballot, state)) = &after.accepted else { return Ok(()) };
    let number = parts.held.number(Held { ballot: *ballot, state: state.clone() });
    let rival = |other: &u32| parts.held[*other].ballot == *ballot && *other != number;
    if world.memory.held.iter().map(|(held, _)| held).any(rival) {
        return broken("R3", format!("ballot {ballot} carries two values"));
    }
    let known = world.memory.held.iter().position(|(held, _)| *held == number);
    let place = known.unwrap_or(world.memory.held.len());
    if known.is_none() {
        world.memory.held.push((number, 0));
    }
    world.memory.held[place].1 |= 1 << machine;
    let by = world.memory.held[place].1.count_ones() as usize;
    world.memory.held.sort_unstable();
    if by >= state.majority_count() { chosen(world, parts, state) } else { Ok(()) }
}

fn chosen(world: &mut World, parts: &mut Parts, state: &GroupState) -> Verdict {
    let number = parts.states.number(state.clone());
    let known = world.memory.chosen.iter().find(|known| parts.states[**known].version == state.version);
    match known {
        Some(known) if *known == number => return Ok(()),
        Some(_) => return broken("R3", format!("two states are chosen at {}", state.version)),
        None => {}
    }
    let Some(mut before) = newest(world, parts) else {
        world.memory.chosen.push(number);
        return Ok(());
    };
    if state.version != before.version.next() {
        // It was built on one that too few held: that one is chosen with it.
        let made_by = state.changes.iter().rev().find(|record| record.version.next() == state.version);
        let below = world.memory.held.iter().map(|(held, _)| parts.held[*held].clone()).find(|held| {
            held.state.version.next() == state.version && made_by.is_some_and(|r| r.by == held.state.proposal)
        });
        let Some(below) = below.filter(|_| state.version > before.version) else {
            return broken("R2", format!("{} is chosen after {}", state.version, before.version));
        };
        chosen(world, parts, &below.state)?;
        before = below.state.clone();
    }
    world.memory.chosen.push(number);
    follows(&before, state)?;
    all_hold(world, parts, "a state was chosen")
}

/// INV-4, INV-5: what a change may do to the reign and the in-sync set.
fn follows(before: &GroupState, after: &GroupState) -> Verdict {
    let (old, new) = (before.reign, after.reign);
    if new == old {
        return Ok(());
    }
    if new.epoch <= old.epoch {
        return broken("INV-2", format!("the reign goes from {old} to {new}"));
    }
    if !before.in_sync.contains(&new.node) {
        return broken("INV-4", format!("{new} is promoted, in sync were {:?}", before.in_sync));
    }
    if !after.in_sync.is_subset(&before.in_sync) {
        return broken("INV-5", format!("the promotion of {new} adds to the in-sync set: {:?}", after.in_sync));
    }
    Ok(())
}

/// INV-3: whoever may be promoted has on its disk whatever is committed.
///
/// # Errors
/// One has not.
pub fn all_hold(world: &World, parts: &Parts, why: &str) -> Verdict {
    let Some(state) = newest(world, parts) else { return Ok(()) };
    let committed = &world.memory.committed;
    for node in &state.in_sync {
        if !world.machines[index_of(*node)].log.starts_with(committed) {
            let end = world.end_of(parts, committed);
            let has = world.end_of(parts, &world.machines[index_of(*node)].log);
            let what = format!(
                "{end} is committed, and the disk of {node}, in sync by {}, ends at {has} or differs ({why})",
                state.version
            );
            return broken("INV-3", what);
        }
    }
    Ok(())
}

/// A node orders a block to its log, which `number` stands for.
///
/// # Errors
/// INV-1: it may not write it, or another one was written there in that epoch.
pub fn appends(world: &mut World, parts: &Parts, machine: usize, number: u32) -> Verdict {
    let block = parts.blocks[number].clone();
    let same = |other: &Block| (other.epoch, other.first) == (block.epoch, block.first);
    if let Some(other) = world.memory.written.iter().find(|other| same(&parts.blocks[**other])) {
        if *other != number {
            return broken(
                "INV-1",
                format!("{} writes another {} than was written before", member(machine), block.end()),
            );
        }
        return Ok(());
    }
    let start = world.machines[machine].process.as_ref().map_or(0, |process| process.start);
    let reign = world.memory.chosen.iter().map(|state| parts.states[*state].reign).find(|r| r.epoch == block.epoch);
    if !reign.is_some_and(|reign| index_of(reign.node) == machine && reign.incarnation.start == start) {
        return broken("INV-1", format!("{} writes {} in the reign {reign:?}", member(machine), block.end()));
    }
    world.memory.written.push(number);
    world.memory.written.sort_unstable();
    Ok(())
}

/// A node says that its log is committed up to a position; a hot, that writes up to it may be acknowledged.
///
/// # Errors
/// INV-3, INV-7: it is not, or not everywhere.
pub fn commits(world: &mut World, parts: &Parts, machine: usize, hot: bool, upto: Lsn) -> Verdict {
    let Some(process) = &world.machines[machine].process else { return Ok(()) };
    let committed: Vec<u32> =
        process.log.iter().copied().take_while(|block| parts.blocks[*block].last <= upto).collect();
    let known = &world.memory.committed;
    if committed.starts_with(known) && hot {
        world.memory.committed = committed;
        return all_hold(world, parts, "at the commit");
    }
    if !known.starts_with(&committed) {
        let end = world.end_of(parts, known);
        let what = format!("{} takes its log for committed up to {upto}; committed is {end}", member(machine));
        return broken("INV-7", what);
    }
    Ok(())
}

/// A node begins to serve.
///
/// # Errors
/// R25: something that is committed is not in its log.
pub fn serves(world: &mut World, parts: &Parts, machine: usize, epoch: u64) -> Verdict {
    world.memory.served = world.memory.served.max(epoch);
    let Some(process) = &world.machines[machine].process else { return Ok(()) };
    if epoch == world.memory.served && process.log != world.memory.committed {
        let end = world.end_of(parts, &process.log);
        return broken("R25", format!("{} begins to serve at {end}, which is not what is committed", member(machine)));
    }
    Ok(())
}

/// A node cuts its log after a position.
///
/// # Errors
/// INV-8, R30: what is committed is cut.
pub fn cuts(world: &World, parts: &Parts, machine: usize, last: Lsn) -> Verdict {
    let Some(process) = &world.machines[machine].process else { return Ok(()) };
    let gone = process.log.iter().filter(|block| parts.blocks[**block].last > last);
    match gone.into_iter().find(|block| world.memory.committed.contains(block)) {
        Some(block) => {
            broken("INV-8", format!("{} cuts {}, which is committed", member(machine), parts.blocks[*block].end()))
        }
        None => Ok(()),
    }
}

/// A node sends a message: no promise leaves before the disk has it (R11), and none of a reign that is over (INV-2).
///
/// # Errors
/// It does.
pub fn says(world: &World, parts: &Parts, machine: usize, to: usize, message: &Message) -> Verdict {
    let vote = &parts.votes[world.machines[machine].vote];
    let held_in = vote.accepted.as_ref().map(|(ballot, _)| *ballot);
    match message {
        Message::Promise { ballot, .. } if vote.promised < *ballot => {
            broken("R11", format!("{} promises {ballot}, and its disk has {}", member(machine), vote.promised))
        }
        Message::Accepted { ballot } if held_in < Some(*ballot) => {
            broken("R11", format!("{} accepts {ballot}, and its disk has {held_in:?}", member(machine)))
        }
        Message::Beacon { epoch, .. }
        | Message::Verify { epoch, .. }
        | Message::OpenStream { epoch, .. }
        | Message::Append { epoch, .. }
        | Message::Commit { epoch, .. }
        | Message::StreamOpened { epoch, .. }
        | Message::Ack { epoch, .. }
            if vote.epoch < *epoch =>
        {
            let what = format!("{} speaks in epoch {epoch}, and its disk has {}", member(machine), vote.epoch);
            broken("INV-2", what)
        }
        Message::Ack { epoch, durable, .. } => {
            if vote.epoch > *epoch {
                let what = format!("{} acknowledges epoch {epoch} and has seen {}", member(machine), vote.epoch);
                return broken("INV-2", what);
            }
            acknowledged(world, parts, machine, to, *durable)
        }
        _ => Ok(()),
    }
}

/// R10: what is acknowledged is on the disk, and is what the receiver's log has.
fn acknowledged(world: &World, parts: &Parts, machine: usize, to: usize, upto: Lsn) -> Verdict {
    let disk = &world.machines[machine].log;
    if world.end_of(parts, disk) < upto {
        let what = format!("{} acknowledges {upto}, its disk has {}", member(machine), world.end_of(parts, disk));
        return broken("INV-3", what);
    }
    let Some(process) = &world.machines[to].process else { return Ok(()) };
    let held = disk.iter().take_while(|block| parts.blocks[**block].last <= upto);
    if held.zip(&process.log).any(|(ours, theirs)| ours != theirs) {
        return broken("INV-8", format!("{} acknowledges {upto} and its log is not the hot's", member(machine)));
    }
    Ok(())
}

/// INV-6: while a node may answer reads by its lease, no other serves a later epoch. `now` is each node's own clock, less
/// what a planted mistake keeps a lease for after its end.
///
/// # Errors
/// One does.
pub fn leases(world: &World, parts: &Parts, now: [Instant; NODES]) -> Verdict {
    for (index, machine) in world.machines.iter().enumerate() {
        let Some(process) = machine.process.as_ref().filter(|process| !process.fenced) else { continue };
        let node = &parts.nodes[process.node];
        let reigns =
            node.reign().filter(|reign| reign.node == member(index) && reign.incarnation.start == process.start);
        if let Some(reign) = reigns.filter(|reign| reign.epoch.0 < world.memory.served)
            && node.lease_holds(now[index])
        {
            let what = format!("{reign} holds its lease while epoch {} is served", world.memory.served);
            return broken("INV-6", what);
        }
    }
    Ok(())
}
