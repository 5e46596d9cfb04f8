//! The one function that makes a new state of a group: it judges a wish by the guards of the protocol, and either
//! makes the next version or says why not.
//!
//! Pure: the same state and the same wish give the same answer on every node, so that it does not matter which
//! proposer carries a wish through. It knows nothing of who is alive; the callers do. What it does not know either
//! is time: an expired pause stands in the state until somebody ends it.

use super::change::{Change, Wish};
use super::denied::Denied;
use super::value::{
    Cause, ChangeKind, ChangeRecord, GroupState, Invitation, Member, Pause, ProposalId, Replication, Settings,
};
use alloc::collections::{BTreeSet, VecDeque};
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;
use hotwarm_types::limits::{CHANGES_KEPT, MEMBERS_MAX, NAME_SIZE_BYTES_MAX, STATE_SIZE_BYTES_MAX};
use hotwarm_types::{Epoch, FolderId, Incarnation, NodeId, Reign, Version};

/// The configuration text's share of the state.
const SETTINGS_SIZE_BYTES_MAX: usize = STATE_SIZE_BYTES_MAX / 2;
/// Evidence, reasons and statements: a line or two for a person.
const EVIDENCE_SIZE_BYTES_MAX: usize = 256;
/// The stable word of a cause.
const WORD_SIZE_BYTES_MAX: usize = 32;
/// A DNS name, a colon and a port.
const ADDRESS_SIZE_BYTES_MAX: usize = 261;
/// Highest priority of a candidate.
const PRIORITY_MAX: u16 = 1_000;
/// A maintenance that needs longer is renewed by a person who still knows about it.
const PAUSE_LENGTH_MAX: Duration = Duration::from_secs(7 * 24 * 3_600);

/// The state that `wish` makes of `state`; `None` is the state before the bootstrap. A read gives the state itself.
///
/// # Errors
/// The first guard that forbids it. Nothing is changed then.
pub fn apply(state: Option<&GroupState>, wish: &Wish) -> Result<GroupState, Denied> {
    let Some(state) = state else {
        return match &wish.change {
            Change::Bootstrap(birth) => bootstrap(birth, wish),
            _other_change => Err(Denied::NotBootstrapped),
        };
    };
    if let Change::Bootstrap(_) = &wish.change {
        return Err(Denied::AlreadyBootstrapped { version: state.version });
    }
    if let Some(expected) = wish.expected
        && expected != state.version
    {
        return Err(Denied::VersionMoved { expected, found: state.version });
    }
    if wish.change == Change::Read {
        return Ok(state.clone());
    }
    let mut next = state.clone();
    next.version = state.version.next();
    next.proposal = wish.id;
    let kinds = change(&mut next, wish)?;
    for kind in kinds {
        record(&mut next, wish, kind);
    }
    Ok(next)
}

/// Makes the change in `next`, which has its new version already, and tells what to record.
fn change(next: &mut GroupState, wish: &Wish) -> Result<Vec<ChangeKind>, Denied> {
    let from = next.reign.node;
    let kind = match &wish.change {
        Change::Read | Change::Bootstrap(_) => unreachable!("a read and a bootstrap make no change of a state"),
        Change::Bump => ChangeKind::Bump,
        Change::Promote { candidate, incarnation, in_sync, seen } => {
            let reign =
                Reign { epoch: next.reign.epoch.max(*seen).next(), node: *candidate, incarnation: *incarnation };
            promote(next, wish.id, reign, in_sync)?;
            ChangeKind::Promote { from, to: *candidate }
        }
        Change::HandOver { reign, target, incarnation } => {
            hand_over(next, wish.id, *reign, *target, *incarnation)?;
            ChangeKind::HandOver { from, to: *target }
        }
        Change::Shrink { reign, nodes } => {
            shrink(next, wish.id, *reign, nodes)?;
            return Ok(nodes.iter().map(|node| ChangeKind::Shrink { node: *node }).collect());
        }
        Change::Grow { reign, node } => {
            grow(next, wish.id, *reign, *node)?;
            ChangeKind::Grow { node: *node }
        }
        Change::Invite { name, address, role, priority } => {
            let invitation = Invitation { address: address.clone(), role: *role, priority: *priority, replaces: None };
            invite(next, name, invitation)?;
            ChangeKind::Invite { name: name.clone() }
        }
        Change::Admit { name, folder } => admit(next, name, *folder)?,
        Change::Remove { name } => remove(next, name)?,
        Change::Settings(settings) => {
            check_settings(settings, next.data_count())?;
            next.settings = settings.clone();
            ChangeKind::Settings
        }
        Change::Pause { length, reason } => {
            pause(next, *length, reason)?;
            ChangeKind::Pause
        }
        Change::Resume => {
            next.pause.take().ok_or(Denied::NotPaused)?;
            ChangeKind::Resume
        }
        Change::ForcePromote { candidate, incarnation, seen, statement } => {
            let reign =
                Reign { epoch: next.reign.epoch.max(*seen).next(), node: *candidate, incarnation: *incarnation };
            force_promote(next, reign, statement)?;
            ChangeKind::ForcePromote { from, to: *candidate }
        }
    };
    Ok(vec![kind])
}

/// R4: the first version, from the state that `init` made.
fn bootstrap(birth: &GroupState, wish: &Wish) -> Result<GroupState, Denied> {
    check_birth(birth)?;
    if wish.id.node != birth.reign.node || wish.id.start != birth.reign.incarnation.start {
        return Err(Denied::NotTheCandidate { candidate: birth.reign.node, by: wish.id });
    }
    check_settings(&birth.settings, birth.data_count())?;
    let mut next = birth.clone();
    next.version = Version::default().next();
    next.members_version = next.version;
    next.proposal = wish.id;
    next.changes = VecDeque::new();
    record(&mut next, wish, ChangeKind::Bootstrap);
    Ok(next)
}

fn check_birth(birth: &GroupState) -> Result<(), Denied> {
    let invalid = |why| Err(Denied::BirthInvalid { why });
    if birth.members.is_empty() || birth.members.len() > MEMBERS_MAX {
        return invalid("it must have at least one member, and no more than a group may have");
    }
    let names: BTreeSet<&str> = birth.members.values().map(|member| member.name.as_str()).collect();
    if names.len() != birth.members.len() {
        return invalid("two members have one name");
    }
    let folders: BTreeSet<FolderId> = birth.members.values().map(|member| member.folder).collect();
    if folders.len() != birth.members.len() {
        return invalid("two members have one folder");
    }
    if birth.members.keys().any(|node| *node >= birth.next_node) {
        return invalid("the next member's number is in use");
    }
    if !birth.in_sync.iter().all(|node| birth.holds_data(*node)) {
        return invalid("an in-sync node is no member that holds data");
    }
    if !birth.in_sync.contains(&birth.reign.node) {
        return invalid("its hot is not in sync");
    }
    if birth.reign.epoch == Epoch::default() || birth.reign.incarnation == Incarnation::default() {
        return invalid("its reign is not filled in");
    }
    if birth.lossy_epoch.is_some() || birth.pause.is_some() || !birth.invited.is_empty() {
        return invalid("it tells of changes before the first");
    }
    birth.members.values().try_for_each(|member| check_name(&member.name))
}

/// R25, R29, INV-4. Whether the candidate may stand at all (grace, proof, poll) was judged before it wished this.
fn promote(next: &mut GroupState, by: ProposalId, reign: Reign, in_sync: &BTreeSet<NodeId>) -> Result<(), Denied> {
    let candidate = reign.node;
    if by.node != candidate || by.start != reign.incarnation.start {
        return Err(Denied::NotTheCandidate { candidate, by });
    }
    check_in_sync(next, candidate)?;
    for node in in_sync {
        check_in_sync(next, *node)?;
    }
    if !in_sync.contains(&candidate) {
        return Err(Denied::CandidateLeftOut { candidate });
    }
    // A set that is below `min_copies` already, as at the bootstrap, may be kept whole: it has acknowledged nothing.
    if in_sync.len() < next.in_sync.len() {
        check_copies(next, in_sync.len())?;
    }
    if let Some(pause) = &next.pause
        && candidate != next.reign.node
    {
        return Err(Denied::Paused { reason: pause.reason.clone() });
    }
    if let Replication::Async { .. } = next.settings.replication {
        // R14: what was acknowledged within the lag may be lost; the old hot must be able to come back all the same.
        next.lossy_epoch = Some(reign.epoch);
    }
    next.reign = reign;
    next.in_sync.clone_from(in_sync);
    Ok(())
}

/// R21. The old hot stays in sync: it holds all that the target holds.
fn hand_over(
    next: &mut GroupState,
    by: ProposalId,
    reign: Reign,
    target: NodeId,
    incarnation: Incarnation,
) -> Result<(), Denied> {
    check_reign(next, by, reign)?;
    check_in_sync(next, target)?;
    if target == reign.node {
        return Err(Denied::IsHot { node: target });
    }
    next.reign = Reign { epoch: reign.epoch.next(), node: target, incarnation };
    Ok(())
}

/// R26, R12.
fn shrink(next: &mut GroupState, by: ProposalId, reign: Reign, nodes: &BTreeSet<NodeId>) -> Result<(), Denied> {
    check_reign(next, by, reign)?;
    if nodes.is_empty() {
        return Err(Denied::NobodyNamed);
    }
    for node in nodes {
        if *node == reign.node {
            return Err(Denied::IsHot { node: *node });
        }
        check_in_sync(next, *node)?;
    }
    check_copies(next, next.in_sync.len() - nodes.len())?;
    next.in_sync.retain(|node| !nodes.contains(node));
    Ok(())
}

/// R27. That the node has caught up is the hot's word.
fn grow(next: &mut GroupState, by: ProposalId, reign: Reign, node: NodeId) -> Result<(), Denied> {
    check_reign(next, by, reign)?;
    if !next.holds_data(node) {
        return Err(Denied::NotADataMember { node });
    }
    if !next.in_sync.insert(node) {
        return Err(Denied::AlreadyInSync { node });
    }
    Ok(())
}

/// R4. A second invitation to one name takes the place of the first.
fn invite(next: &mut GroupState, name: &str, mut invitation: Invitation) -> Result<(), Denied> {
    check_name(name)?;
    check_address(&invitation.address)?;
    check_address_free(next, name, &invitation.address)?;
    if invitation.priority > PRIORITY_MAX {
        return Err(Denied::PriorityInvalid { priority: invitation.priority });
    }
    invitation.replaces = next.member_named(name).map(|(node, _)| node);
    if let Some(old) = invitation.replaces {
        check_not_alone(next, old)?;
    }
    next.invited.insert(String::from(name), invitation);
    let joining = next.invited.values().filter(|invitation| invitation.replaces.is_none()).count();
    if next.members.len() + joining > MEMBERS_MAX {
        return Err(Denied::MembersMax);
    }
    Ok(())
}

/// R4, R6: one new acceptor, outside the in-sync set; where it replaces one, the swap is this one transition.
fn admit(next: &mut GroupState, name: &str, folder: FolderId) -> Result<ChangeKind, Denied> {
    let Some(invitation) = next.invited.remove(name) else {
        return Err(Denied::NotInvited { name: String::from(name) });
    };
    if let Some((by, _)) = next.members.iter().find(|(_, member)| member.folder == folder) {
        return Err(Denied::FolderTaken { folder, by: *by });
    }
    let replaces = invitation.replaces.filter(|old| next.members.contains_key(old));
    if let Some(old) = replaces {
        retire(next, old)?;
    }
    if let Some((by, _)) = next.member_named(name) {
        return Err(Denied::NameTaken { name: String::from(name), by });
    }
    if next.members.len() >= MEMBERS_MAX {
        return Err(Denied::MembersMax);
    }
    let node = next.next_node;
    next.next_node = NodeId(node.0.checked_add(1).ok_or(Denied::NumbersExhausted)?);
    let Invitation { address, role, priority, replaces: _ } = invitation;
    next.members.insert(node, Member { name: String::from(name), folder, address, role, priority });
    next.members_version = next.version;
    check_min_copies(next.settings.min_copies, next.data_count())?;
    Ok(ChangeKind::Admit { node, replaces })
}

/// Takes out a member whose folder is lost. Its copy is gone, so it leaves the in-sync set without the hot's word:
/// a smaller set only narrows who may be promoted. It cannot be the hot, nor the last that holds the data (R4).
fn retire(next: &mut GroupState, old: NodeId) -> Result<(), Denied> {
    check_not_alone(next, old)?;
    if old == next.reign.node {
        return Err(Denied::IsHot { node: old });
    }
    if next.in_sync.remove(&old) {
        check_copies(next, next.in_sync.len())?;
    }
    next.members.remove(&old);
    Ok(())
}

/// R6, INV-5. An invitation is dropped first, since it is the lesser thing of that name.
fn remove(next: &mut GroupState, name: &str) -> Result<ChangeKind, Denied> {
    if next.invited.remove(name).is_some() {
        return Ok(ChangeKind::Uninvite { name: String::from(name) });
    }
    let Some((node, _)) = next.member_named(name) else {
        return Err(Denied::UnknownName { name: String::from(name) });
    };
    if node == next.reign.node {
        return Err(Denied::IsHot { node });
    }
    if next.in_sync.contains(&node) {
        return Err(Denied::StillInSync { name: String::from(name) });
    }
    next.members.remove(&node);
    next.members_version = next.version;
    check_min_copies(next.settings.min_copies, next.data_count())?;
    Ok(ChangeKind::Remove { node })
}

/// R29.
fn pause(next: &mut GroupState, length: Duration, reason: &str) -> Result<(), Denied> {
    if length.is_zero() || length > PAUSE_LENGTH_MAX {
        return Err(Denied::PauseLengthInvalid { length, length_max: PAUSE_LENGTH_MAX });
    }
    check_size("the reason", reason, EVIDENCE_SIZE_BYTES_MAX)?;
    next.pause = Some(Pause { length, reason: String::from(reason) });
    Ok(())
}

/// R8. Allowed during a pause: an operator wishes it. The statement enters the history through `record`.
fn force_promote(next: &mut GroupState, reign: Reign, statement: &str) -> Result<(), Denied> {
    if !next.holds_data(reign.node) {
        return Err(Denied::NotADataMember { node: reign.node });
    }
    if statement.trim().is_empty() {
        return Err(Denied::StatementMissing);
    }
    check_size("the statement", statement, EVIDENCE_SIZE_BYTES_MAX)?;
    next.reign = reign;
    next.in_sync = BTreeSet::from([reign.node]);
    next.lossy_epoch = Some(reign.epoch);
    Ok(())
}

/// R1: the state's reign is the wisher's own, in this very start of its process.
fn check_reign(state: &GroupState, by: ProposalId, claimed: Reign) -> Result<(), Denied> {
    let own = by.node == claimed.node && by.start == claimed.incarnation.start;
    if own && claimed == state.reign {
        return Ok(());
    }
    Err(Denied::NotTheReign { claimed, by, found: state.reign })
}

/// INV-4.
fn check_in_sync(state: &GroupState, node: NodeId) -> Result<(), Denied> {
    if state.in_sync.contains(&node) {
        return Ok(());
    }
    Err(Denied::NotInSync { node, in_sync: state.in_sync.clone() })
}

/// R12: the in-sync set never gets smaller than `min_copies`.
fn check_copies(state: &GroupState, left: usize) -> Result<(), Denied> {
    let min_copies = state.settings.min_copies;
    if left >= usize::from(min_copies) {
        return Ok(());
    }
    Err(Denied::TooFewCopies { left, min_copies })
}

/// R4: only an operator's forced promotion gives up the last node that holds the data.
fn check_not_alone(state: &GroupState, node: NodeId) -> Result<(), Denied> {
    if state.in_sync.len() == 1 && state.in_sync.contains(&node) {
        return Err(Denied::OnlyInSync { node });
    }
    Ok(())
}

fn check_settings(settings: &Settings, data_members: usize) -> Result<(), Denied> {
    settings.timing.check().map_err(Denied::TimingInvalid)?;
    check_min_copies(settings.min_copies, data_members)?;
    if let Replication::Async { lag_bytes_max, lag_time_max } = settings.replication
        && (lag_bytes_max == 0 || lag_time_max.is_zero())
    {
        return Err(Denied::LagUnbounded);
    }
    check_size("the configuration", &settings.text, SETTINGS_SIZE_BYTES_MAX)
}

fn check_min_copies(min_copies: u8, data_members: usize) -> Result<(), Denied> {
    if min_copies >= 1 && usize::from(min_copies) <= data_members {
        return Ok(());
    }
    Err(Denied::MinCopiesInvalid { min_copies, data_members })
}

fn check_size(what: &'static str, text: &str, size_bytes_max: usize) -> Result<(), Denied> {
    if text.len() <= size_bytes_max {
        return Ok(());
    }
    Err(Denied::TextTooLarge { what, size_bytes: text.len(), size_bytes_max })
}

fn check_name(name: &str) -> Result<(), Denied> {
    let fits = !name.is_empty() && name.len() <= NAME_SIZE_BYTES_MAX;
    if fits && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_') {
        return Ok(());
    }
    Err(Denied::NameInvalid { name: bounded(name, NAME_SIZE_BYTES_MAX) })
}

fn check_address(address: &str) -> Result<(), Denied> {
    let whole = address.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_graphic()) && port.parse::<u16>().is_ok()
    });
    if whole && address.len() <= ADDRESS_SIZE_BYTES_MAX {
        return Ok(());
    }
    Err(Denied::AddressInvalid { address: bounded(address, ADDRESS_SIZE_BYTES_MAX) })
}

/// One node is reached at one address. That of a member or an invitation of the same name is given up by it.
fn check_address_free(state: &GroupState, name: &str, address: &str) -> Result<(), Denied> {
    let members = state.members.values().map(|member| (&member.name, &member.address));
    let invited = state.invited.iter().map(|(name, invitation)| (name, &invitation.address));
    match members.chain(invited).find(|(other, taken)| *other != name && *taken == address) {
        None => Ok(()),
        Some((by, _)) => Err(Denied::AddressTaken { address: String::from(address), by: by.clone() }),
    }
}

/// R39, INV-11: every change leaves a record in the state that it made; the oldest ones give way.
fn record(next: &mut GroupState, wish: &Wish, kind: ChangeKind) {
    let evidence = match &wish.change {
        // What may be lost comes first: the statement may be as long as all that is kept.
        Change::ForcePromote { statement, .. } if wish.cause.evidence.is_empty() => statement.clone(),
        Change::ForcePromote { statement, .. } => format!("{}; {statement}", wish.cause.evidence),
        Change::Read
        | Change::Bump
        | Change::Bootstrap(_)
        | Change::Promote { .. }
        | Change::HandOver { .. }
        | Change::Shrink { .. }
        | Change::Grow { .. }
        | Change::Invite { .. }
        | Change::Admit { .. }
        | Change::Remove { .. }
        | Change::Settings(_)
        | Change::Pause { .. }
        | Change::Resume => wish.cause.evidence.clone(),
    };
    let cause = Cause {
        word: bounded(&wish.cause.word, WORD_SIZE_BYTES_MAX),
        evidence: bounded(&evidence, EVIDENCE_SIZE_BYTES_MAX),
    };
    while next.changes.len() >= CHANGES_KEPT {
        next.changes.pop_front();
    }
    next.changes.push_back(ChangeRecord {
        version: next.version,
        epoch: next.reign.epoch,
        at_ms: wish.at_ms,
        by: wish.id,
        kind,
        cause,
    });
}

/// The longest beginning of `text` that fits and ends between characters.
fn bounded(text: &str, size_bytes_max: usize) -> String {
    let mut end = text.len().min(size_bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    String::from(&text[..end])
}
