//! Every guard of the transition function, what each change leaves behind, and the table that tells of them (R40).

mod register_common;

use core::time::Duration;
use hotwarm_core::register::{
    Cause, Change, ChangeKind, Denied, GroupState, MemberRole, Pause, ProposalId, Replication, Settings, TABLE, Timing,
    TimingError, Wish, apply, markdown,
};
use hotwarm_types::limits::{CHANGES_KEPT, MEMBERS_MAX, STATE_SIZE_BYTES_MAX};
use hotwarm_types::{Epoch, FolderId, Incarnation, NodeId, Reign, Version};
use register_common::{birth, bootstrapped, incarnation, wish};
use std::collections::BTreeSet;

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);
const C: NodeId = NodeId(3);
/// A witness.
const W: NodeId = NodeId(4);
const STRANGER: NodeId = NodeId(77);

/// Version 10 at epoch 3: n1 "a" hot, n2 "b" in sync, n3 "c" not, n4 "w" a witness; "d" is invited anew and "b" to be
/// replaced.
fn group() -> GroupState {
    let mut state = bootstrapped();
    state.version = Version(10);
    state.reign.epoch = Epoch(3);
    state.in_sync = [A, B].into();
    let mut witness = state.members[&C].clone();
    (witness.name, witness.folder, witness.role) = ("w".into(), FolderId(4), MemberRole::Witness);
    state.members.insert(W, witness);
    state.next_node = NodeId(5);
    for name in ["d", "b"] {
        state = apply(Some(&state), &wish(1, 90, invite(name))).expect("an invitation is allowed");
    }
    state.version = Version(10);
    state
}

fn set(nodes: &[NodeId]) -> BTreeSet<NodeId> {
    nodes.iter().copied().collect()
}

fn promote(candidate: NodeId, in_sync: &[NodeId]) -> Change {
    Change::Promote { candidate, incarnation: incarnation(1), in_sync: set(in_sync), seen: Epoch(0) }
}

fn hand_over(state: &GroupState, target: NodeId) -> Change {
    Change::HandOver { reign: state.reign, target, incarnation: incarnation(4) }
}

fn shrink(state: &GroupState, nodes: &[NodeId]) -> Change {
    Change::Shrink { reign: state.reign, nodes: set(nodes) }
}

fn grow(state: &GroupState, node: NodeId) -> Change {
    Change::Grow { reign: state.reign, node }
}

fn invite(name: &str) -> Change {
    invite_at(name, &format!("{name}:7400"))
}

fn invite_at(name: &str, address: &str) -> Change {
    Change::Invite { name: name.into(), address: address.into(), role: MemberRole::Data, priority: 7 }
}

fn admit(name: &str) -> Change {
    Change::Admit { name: name.into(), folder: FolderId(99) }
}

fn remove(name: &str) -> Change {
    Change::Remove { name: name.into() }
}

fn settings(edit: impl Fn(&mut Settings)) -> Change {
    let mut settings = Settings::default();
    edit(&mut settings);
    Change::Settings(settings)
}

fn pause_for(seconds: u64, reason: &str) -> Change {
    Change::Pause { length: Duration::from_secs(seconds), reason: reason.into() }
}

fn force(candidate: NodeId, statement: &str) -> Change {
    Change::ForcePromote { candidate, incarnation: incarnation(1), seen: Epoch(9), statement: statement.into() }
}

fn allowed(state: &GroupState, by: NodeId, change: Change) -> GroupState {
    match apply(Some(state), &wish(by.0, 1, change)) {
        Ok(next) => next,
        Err(denied) => panic!("{denied}"),
    }
}

fn edited(edit: impl Fn(&mut GroupState)) -> GroupState {
    let mut state = group();
    edit(&mut state);
    state
}

/// Every row is refused in its own way, leaves the state alone, and says in a line what would be allowed.
fn check(state: &GroupState, rows: Vec<(NodeId, Change, Denied)>) {
    for (by, change, expect) in rows {
        let before = state.clone();
        let found = apply(Some(state), &wish(by.0, 1, change.clone()));
        assert_eq!(found, Err(expect.clone()), "{change:?}");
        assert_eq!(*state, before);
        let text = expect.to_string();
        assert!(!text.is_empty() && !text.contains('\n') && !text.ends_with('.'), "{text:?}");
    }
}

#[test]
fn before_the_bootstrap_nothing_else_is_allowed() {
    for change in [Change::Read, Change::Bump, promote(A, &[A]), invite("x"), Change::Resume, force(A, "off")] {
        assert_eq!(apply(None, &wish(1, 1, change)), Err(Denied::NotBootstrapped));
    }
    check(
        &group(),
        vec![(A, Change::Bootstrap(Box::new(birth())), Denied::AlreadyBootstrapped { version: Version(10) })],
    );
}

#[test]
fn a_birth_state_must_be_whole() {
    type Edit = fn(&mut GroupState);
    let edits: [(&str, Edit); 9] = [
        ("at least one member", |birth| birth.members.clear()),
        ("one name", |birth| birth.members.get_mut(&B).unwrap().name = "a".into()),
        ("one folder", |birth| birth.members.get_mut(&B).unwrap().folder = FolderId(1)),
        ("number is in use", |birth| birth.next_node = C),
        ("holds data", |birth| birth.members.get_mut(&B).unwrap().role = MemberRole::Witness),
        ("hot is not in sync", |birth| birth.in_sync = set(&[B])),
        ("not filled in", |birth| birth.reign.incarnation = Incarnation::default()),
        ("not filled in", |birth| birth.reign.epoch = Epoch(0)),
        ("before the first", |birth| birth.lossy_epoch = Some(Epoch(1))),
    ];
    for (expect, edit) in edits {
        let mut birth = birth();
        edit(&mut birth);
        match apply(None, &wish(1, 1, Change::Bootstrap(Box::new(birth)))) {
            Err(Denied::BirthInvalid { why }) => assert!(why.contains(expect), "{why:?} instead of {expect:?}"),
            other => panic!("{expect}: {other:?}"),
        }
    }
    let by_another = apply(None, &wish(2, 1, Change::Bootstrap(Box::new(birth()))));
    assert!(matches!(by_another, Err(Denied::NotTheCandidate { candidate: A, .. })), "{by_another:?}");
    let mut greedy = birth();
    greedy.settings.min_copies = 4;
    let greedy = apply(None, &wish(1, 1, Change::Bootstrap(Box::new(greedy))));
    assert_eq!(greedy, Err(Denied::MinCopiesInvalid { min_copies: 4, data_members: 3 }));
}

#[test]
fn a_bootstrap_makes_version_one() {
    let state = bootstrapped();
    assert_eq!((state.version, state.members_version), (Version(1), Version(1)));
    assert_eq!(state.proposal, wish(1, 1, Change::Read).id);
    assert_eq!(state.changes.len(), 1);
    assert_eq!((&state.changes[0].kind, state.changes[0].epoch), (&ChangeKind::Bootstrap, Epoch(1)));
}

#[test]
fn a_wish_for_another_version_is_refused_whatever_it_is() {
    let state = group();
    for change in [Change::Read, Change::Bump, promote(B, &[B]), Change::Resume] {
        for expected in [Version(9), Version(11)] {
            let wish = Wish { expected: Some(expected), ..wish(2, 1, change.clone()) };
            assert_eq!(apply(Some(&state), &wish), Err(Denied::VersionMoved { expected, found: Version(10) }));
        }
    }
    let exact = Wish { expected: Some(Version(10)), ..wish(2, 1, Change::Bump) };
    assert!(apply(Some(&state), &exact).is_ok());
}

#[test]
fn promotion_is_for_an_in_sync_node_itself_with_enough_copies() {
    let state = group();
    let in_sync = || set(&[A, B]);
    let as_b = |counter| ProposalId { node: B, start: 1, counter };
    check(
        &state,
        vec![
            (C, promote(C, &[C]), Denied::NotInSync { node: C, in_sync: in_sync() }),
            (W, promote(W, &[W]), Denied::NotInSync { node: W, in_sync: in_sync() }),
            (B, promote(B, &[B, C]), Denied::NotInSync { node: C, in_sync: in_sync() }),
            (B, promote(B, &[A]), Denied::CandidateLeftOut { candidate: B }),
            (B, promote(A, &[A]), Denied::NotTheCandidate { candidate: A, by: as_b(1) }),
        ],
    );
    let mut earlier_start = wish(2, 1, promote(B, &[B]));
    earlier_start.id.start = 2;
    let by = earlier_start.id;
    assert_eq!(apply(Some(&state), &earlier_start), Err(Denied::NotTheCandidate { candidate: B, by }));
    let two = edited(|state| state.settings.min_copies = 2);
    check(&two, vec![(B, promote(B, &[B]), Denied::TooFewCopies { left: 1, min_copies: 2 })]);
    assert_eq!(allowed(&two, B, promote(B, &[A, B])).in_sync, in_sync());
}

#[test]
fn promotion_begins_an_epoch_above_all_that_was_seen() {
    let state = group();
    let next = allowed(&state, B, promote(B, &[B]));
    assert_eq!(next.reign, Reign { epoch: Epoch(4), node: B, incarnation: incarnation(1) });
    assert_eq!((next.in_sync.clone(), next.lossy_epoch), (set(&[B]), None));
    assert_eq!(next.changes.back().unwrap().kind, ChangeKind::Promote { from: A, to: B });
    let change = Change::Promote { candidate: B, incarnation: incarnation(1), in_sync: set(&[B]), seen: Epoch(7) };
    assert_eq!(allowed(&state, B, change).reign.epoch, Epoch(8));
}

#[test]
fn a_pause_forbids_only_another_nodes_promotion() {
    let paused = allowed(&group(), A, pause_for(60, "new cables"));
    assert_eq!(paused.pause, Some(Pause { length: Duration::from_secs(60), reason: "new cables".into() }));
    check(&paused, vec![(B, promote(B, &[B]), Denied::Paused { reason: "new cables".into() })]);
    assert_eq!(allowed(&paused, A, promote(A, &[A, B])).reign.epoch, Epoch(4));
    assert_eq!(allowed(&paused, A, hand_over(&paused, B)).reign.node, B);
    assert_eq!(allowed(&paused, A, shrink(&paused, &[B])).in_sync, set(&[A]));
    assert!(allowed(&paused, A, grow(&paused, C)).in_sync.contains(&C));
    assert_eq!(allowed(&paused, B, force(B, "unplugged")).reign.node, B);
    assert_eq!(allowed(&paused, C, Change::Resume).pause, None);
}

#[test]
fn only_the_reigning_start_hands_over_shrinks_and_grows() {
    let state = group();
    for (change, reign_of) in [
        (hand_over as fn(&GroupState, NodeId) -> Change, B),
        (|state, node| shrink(state, &[node]), B),
        (|state, node| grow(state, node), C),
    ] {
        let by_other = wish(2, 1, change(&state, reign_of));
        let (claimed, found) = (state.reign, state.reign);
        assert_eq!(apply(Some(&state), &by_other), Err(Denied::NotTheReign { claimed, by: by_other.id, found }));

        let mut later_start = wish(1, 1, change(&state, reign_of));
        later_start.id.start = 2;
        assert!(matches!(apply(Some(&state), &later_start), Err(Denied::NotTheReign { .. })));

        let old = edited(|state| state.reign.epoch = Epoch(2));
        let of_old_reign = wish(1, 1, change(&old, reign_of));
        assert!(matches!(apply(Some(&state), &of_old_reign), Err(Denied::NotTheReign { .. })));

        assert!(apply(Some(&state), &wish(1, 1, change(&state, reign_of))).is_ok());
    }
}

#[test]
fn hand_over_goes_to_another_in_sync_node_and_keeps_the_set() {
    let state = group();
    check(
        &state,
        vec![
            (A, hand_over(&state, C), Denied::NotInSync { node: C, in_sync: set(&[A, B]) }),
            (A, hand_over(&state, A), Denied::IsHot { node: A }),
        ],
    );
    let next = allowed(&state, A, hand_over(&state, B));
    assert_eq!(next.reign, Reign { epoch: Epoch(4), node: B, incarnation: incarnation(4) });
    assert_eq!(next.in_sync, set(&[A, B]));
    assert_eq!(next.changes.back().unwrap().kind, ChangeKind::HandOver { from: A, to: B });
}

#[test]
fn a_shrink_keeps_the_hot_and_enough_copies() {
    let state = group();
    check(
        &state,
        vec![
            (A, shrink(&state, &[]), Denied::NobodyNamed),
            (A, shrink(&state, &[A, B]), Denied::IsHot { node: A }),
            (A, shrink(&state, &[C]), Denied::NotInSync { node: C, in_sync: set(&[A, B]) }),
        ],
    );
    let two = edited(|state| state.settings.min_copies = 2);
    check(&two, vec![(A, shrink(&two, &[B]), Denied::TooFewCopies { left: 1, min_copies: 2 })]);
    let three = allowed(&state, A, grow(&state, C));
    let next = allowed(&three, A, shrink(&three, &[B, C]));
    assert_eq!(next.in_sync, set(&[A]));
    let shrunk: Vec<&ChangeKind> = next.changes.iter().rev().take(2).map(|record| &record.kind).collect();
    assert_eq!(shrunk, [&ChangeKind::Shrink { node: C }, &ChangeKind::Shrink { node: B }]);
}

#[test]
fn a_grow_takes_a_data_member_that_is_not_in_sync() {
    let state = group();
    check(
        &state,
        vec![
            (A, grow(&state, W), Denied::NotADataMember { node: W }),
            (A, grow(&state, STRANGER), Denied::NotADataMember { node: STRANGER }),
            (A, grow(&state, B), Denied::AlreadyInSync { node: B }),
        ],
    );
    assert_eq!(allowed(&state, A, grow(&state, C)).in_sync, set(&[A, B, C]));
}

#[test]
fn an_invitation_names_a_reachable_node_and_room_is_kept_for_it() {
    let state = group();
    let invalid = |name: &str| Denied::NameInvalid { name: name.into() };
    let nowhere = |address: &str| Denied::AddressInvalid { address: address.into() };
    let mut rows: Vec<(NodeId, Change, Denied)> =
        ["", "a b", "a.b", "é"].iter().map(|name| (A, invite(name), invalid(name))).collect();
    for address in ["", "host", ":1", "host:", "host:70000", "ho st:1"] {
        rows.push((A, invite_at("x", address), nowhere(address)));
    }
    let eager = Change::Invite { name: "x".into(), address: "h:1".into(), role: MemberRole::Data, priority: 1_001 };
    rows.push((A, eager, Denied::PriorityInvalid { priority: 1_001 }));
    rows.push((A, invite(&"n".repeat(64)), invalid(&"n".repeat(63))));
    let taken = |by: &str| Denied::AddressTaken { address: format!("{by}:7400"), by: by.into() };
    rows.push((A, invite_at("x", "a:7400"), taken("a")));
    check(&state, rows);
    assert_eq!(state.invited["d"].replaces, None);
    assert_eq!(state.invited["b"].replaces, Some(B));
    let again = allowed(&state, A, invite_at("d", "elsewhere:1"));
    assert_eq!((again.invited.len(), again.invited["d"].address.as_str()), (2, "elsewhere:1"));
    assert_eq!(again.members_version, state.members_version);

    let mut full = state;
    for index in full.members.len() + 1..MEMBERS_MAX {
        full = allowed(&full, A, invite(&format!("x{index}")));
    }
    check(&full, vec![(A, invite("y"), Denied::MembersMax)]);
    // In a member's place there is always room.
    allowed(&full, A, invite_at("c", "new:7400"));
}

#[test]
fn the_only_in_sync_node_is_not_replaced() {
    let mut alone = edited(|state| state.in_sync = set(&[A]));
    check(&alone, vec![(A, invite("a"), Denied::OnlyInSync { node: A })]);
    // The invitation may be older than the loss of the others.
    alone = edited(|state| {
        state.in_sync = set(&[B]);
        state.reign.node = B;
    });
    check(&alone, vec![(A, admit("b"), Denied::OnlyInSync { node: B })]);
}

#[test]
fn an_admission_needs_an_invitation_a_fresh_folder_and_room() {
    let state = group();
    let taken = Change::Admit { name: "d".into(), folder: FolderId(3) };
    check(
        &state,
        vec![
            (A, admit("x"), Denied::NotInvited { name: "x".into() }),
            (A, taken, Denied::FolderTaken { folder: FolderId(3), by: C }),
        ],
    );
    let exhausted = edited(|state| state.next_node = NodeId(u16::MAX));
    check(&exhausted, vec![(A, admit("d"), Denied::NumbersExhausted)]);
    let clash = edited(|state| state.members.get_mut(&C).unwrap().name = "d".into());
    check(&clash, vec![(A, admit("d"), Denied::NameTaken { name: "d".into(), by: C })]);
    let full = edited(|state| {
        for number in 5..=u16::try_from(MEMBERS_MAX).unwrap() {
            let mut member = state.members[&C].clone();
            (member.name, member.folder) = (format!("m{number}"), FolderId(number.into()));
            state.members.insert(NodeId(number), member);
        }
        state.next_node = NodeId(50);
    });
    check(&full, vec![(A, admit("d"), Denied::MembersMax)]);
}

#[test]
fn a_new_member_enters_outside_the_in_sync_set_under_a_new_number() {
    let state = group();
    let next = allowed(&state, A, admit("d"));
    let (node, member) = next.member_named("d").expect("it is a member");
    assert_eq!((node, member.folder, member.address.as_str()), (NodeId(5), FolderId(99), "d:7400"));
    assert_eq!((next.next_node, next.members_version), (NodeId(6), Version(11)));
    assert_eq!(next.in_sync, set(&[A, B]));
    assert!(!next.invited.contains_key("d"));
    assert_eq!(next.changes.back().unwrap().kind, ChangeKind::Admit { node: NodeId(5), replaces: None });
    // A number is not used again, even after its member is gone.
    let again = allowed(&allowed(&next, A, remove("d")), A, invite("d"));
    assert_eq!(allowed(&again, A, admit("d")).member_named("d").map(|(node, _)| node), Some(NodeId(6)));
}

#[test]
fn a_replacement_swaps_members_in_one_transition() {
    let state = group();
    let next = allowed(&state, A, admit("b"));
    assert_eq!(next.members.keys().copied().collect::<Vec<_>>(), [A, C, W, NodeId(5)]);
    assert_eq!((next.in_sync.clone(), next.members_version), (set(&[A]), Version(11)));
    assert_eq!(next.changes.back().unwrap().kind, ChangeKind::Admit { node: NodeId(5), replaces: Some(B) });

    let two = edited(|state| state.settings.min_copies = 2);
    check(&two, vec![(A, admit("b"), Denied::TooFewCopies { left: 1, min_copies: 2 })]);
    let hot = edited(|state| state.reign.node = B);
    check(&hot, vec![(A, admit("b"), Denied::IsHot { node: B })]);
    let as_witness = edited(|state| {
        state.settings.min_copies = 3;
        state.in_sync = set(&[A, C]);
        state.invited.get_mut("b").unwrap().role = MemberRole::Witness;
    });
    check(&as_witness, vec![(A, admit("b"), Denied::MinCopiesInvalid { min_copies: 3, data_members: 2 })]);
    // What was to be replaced is gone: the newcomer is simply added.
    let gone = edited(|state| {
        state.members.remove(&B);
        state.in_sync = set(&[A]);
    });
    let added = allowed(&gone, A, admit("b"));
    assert_eq!(added.changes.back().unwrap().kind, ChangeKind::Admit { node: NodeId(5), replaces: None });
}

#[test]
fn a_member_is_removed_only_when_nothing_leans_on_it() {
    let uninvited = allowed(&group(), A, remove("b"));
    assert!(uninvited.members.contains_key(&B), "the invitation goes first");
    assert_eq!(uninvited.changes.back().unwrap().kind, ChangeKind::Uninvite { name: "b".into() });
    assert_eq!(uninvited.members_version, group().members_version);
    check(
        &uninvited,
        vec![
            (A, remove("x"), Denied::UnknownName { name: "x".into() }),
            (A, remove("a"), Denied::IsHot { node: A }),
            (A, remove("b"), Denied::StillInSync { name: "b".into() }),
        ],
    );
    let next = allowed(&uninvited, A, remove("c"));
    assert_eq!((next.members_version, next.next_node), (next.version, uninvited.next_node));
    assert_eq!(next.changes.back().unwrap().kind, ChangeKind::Remove { node: C });
    let three = edited(|state| state.settings.min_copies = 3);
    check(&three, vec![(A, remove("c"), Denied::MinCopiesInvalid { min_copies: 3, data_members: 2 })]);
}

#[test]
fn settings_must_agree_with_the_members_and_with_themselves() {
    let state = group();
    let size_bytes_max = STATE_SIZE_BYTES_MAX / 2;
    let lag = |lag_bytes_max, lag_time_max| Replication::Async { lag_bytes_max, lag_time_max };
    check(
        &state,
        vec![
            (A, settings(|s| s.min_copies = 0), Denied::MinCopiesInvalid { min_copies: 0, data_members: 3 }),
            (A, settings(|s| s.min_copies = 4), Denied::MinCopiesInvalid { min_copies: 4, data_members: 3 }),
            (A, settings(|s| s.timing.beacon = Duration::ZERO), Denied::TimingInvalid(TimingError::Beacon)),
            (A, settings(|s| s.timing.shrink_after = s.timing.grace), Denied::TimingInvalid(TimingError::ShrinkAfter)),
            (A, settings(|s| s.replication = lag(0, Duration::from_secs(1))), Denied::LagUnbounded),
            (A, settings(|s| s.replication = lag(1, Duration::ZERO)), Denied::LagUnbounded),
            (
                A,
                settings(|s| s.text = "x".repeat(size_bytes_max + 1)),
                Denied::TextTooLarge { what: "the configuration", size_bytes: size_bytes_max + 1, size_bytes_max },
            ),
        ],
    );
    let wished = settings(|s| {
        s.timing = Timing::FAST;
        s.min_copies = 3;
        s.text = "x".repeat(size_bytes_max);
    });
    let next = allowed(&state, C, wished.clone());
    assert_eq!(Change::Settings(next.settings), wished);
}

#[test]
fn a_pause_has_an_end_and_a_short_reason_and_only_one_is_ended() {
    let week = Duration::from_secs(7 * 24 * 3_600);
    let too_long = |seconds| Denied::PauseLengthInvalid { length: Duration::from_secs(seconds), length_max: week };
    check(
        &group(),
        vec![
            (A, pause_for(0, ""), too_long(0)),
            (A, pause_for(week.as_secs() + 1, ""), too_long(week.as_secs() + 1)),
            (
                A,
                pause_for(1, &"x".repeat(257)),
                Denied::TextTooLarge { what: "the reason", size_bytes: 257, size_bytes_max: 256 },
            ),
            (A, Change::Resume, Denied::NotPaused),
        ],
    );
    let longer = allowed(&allowed(&group(), A, pause_for(1, "x")), B, pause_for(9, "y"));
    assert_eq!(longer.pause.map(|pause| pause.length), Some(Duration::from_secs(9)));
}

#[test]
fn a_forced_promotion_is_stated_and_marked_lossy() {
    let state = group();
    check(
        &state,
        vec![
            (W, force(W, "off"), Denied::NotADataMember { node: W }),
            (C, force(STRANGER, "off"), Denied::NotADataMember { node: STRANGER }),
            (C, force(C, " \n"), Denied::StatementMissing),
            (
                C,
                force(C, &"x".repeat(257)),
                Denied::TextTooLarge { what: "the statement", size_bytes: 257, size_bytes_max: 256 },
            ),
        ],
    );
    let next = allowed(&state, C, force(C, "its plug is in my hand"));
    assert_eq!(next.reign, Reign { epoch: Epoch(10), node: C, incarnation: incarnation(1) });
    assert_eq!((next.in_sync.clone(), next.lossy_epoch), (set(&[C]), Some(Epoch(10))));
    let record = next.changes.back().expect("a record");
    assert_eq!(record.kind, ChangeKind::ForcePromote { from: A, to: C });
    assert_eq!(record.cause.evidence, "its plug is in my hand");
    let cause = Cause { word: "operator".into(), evidence: "acknowledged writes after LSN 7 may be lost".into() };
    let long = Wish { cause, ..wish(C.0, 1, force(C, &"x".repeat(256))) };
    let record = apply(Some(&state), &long).unwrap().changes.pop_back().expect("a record");
    assert!(record.cause.evidence.starts_with("acknowledged writes after LSN 7 may be lost; xxx"));
    // The mark stays: nodes that were away must still find it.
    let later = allowed(&next, C, Change::Bump);
    assert_eq!(later.lossy_epoch, Some(Epoch(10)));
}

#[test]
fn a_read_changes_nothing_and_everything_else_leaves_a_record() {
    let state = group();
    assert_eq!(allowed(&state, C, Change::Read), state);
    let cause = Cause { word: "operator".into(), evidence: "é".repeat(200) };
    let bump = Wish { cause, at_ms: 1_700, ..wish(3, 5, Change::Bump) };
    let next = apply(Some(&state), &bump).expect("a bump is allowed");
    assert_eq!((next.version, next.proposal), (Version(11), bump.id));
    let record = next.changes.back().expect("a record");
    assert_eq!((record.version, record.by, record.at_ms), (Version(11), bump.id, 1_700));
    assert_eq!((&record.kind, record.epoch), (&ChangeKind::Bump, Epoch(3)));
    assert_eq!(record.cause.evidence, "é".repeat(128), "256 bytes, whole characters");
    assert!(next.includes(bump.id) && !state.includes(bump.id));
}

#[test]
fn the_history_keeps_the_last_changes_and_the_state_its_size() {
    let mut state = group();
    let cause = Cause { word: "w".repeat(99), evidence: "e".repeat(999) };
    for counter in 0..2 * CHANGES_KEPT as u64 {
        state = apply(Some(&state), &Wish { cause: cause.clone(), ..wish(1, counter, Change::Bump) }).unwrap();
    }
    assert_eq!(state.changes.len(), CHANGES_KEPT);
    let versions: Vec<u64> = state.changes.iter().map(|record| record.version.0).collect();
    assert!(versions.windows(2).all(|pair| pair[1] == pair[0] + 1));
    assert_eq!(versions.last(), Some(&state.version.0));
    let texts: usize = state.changes.iter().map(|record| record.cause.word.len() + record.cause.evidence.len()).sum();
    // A record's numbers and the members' names and addresses take far less than what is left.
    assert!(texts + STATE_SIZE_BYTES_MAX / 2 + 9 * 512 + CHANGES_KEPT * 256 < STATE_SIZE_BYTES_MAX, "{texts}");
}

#[test]
fn the_table_tells_of_every_change_in_a_row_of_its_own() {
    let state = group();
    let changes = [
        Change::Read,
        Change::Bump,
        Change::Bootstrap(Box::new(birth())),
        promote(A, &[A]),
        hand_over(&state, B),
        shrink(&state, &[B]),
        grow(&state, C),
        invite("x"),
        admit("x"),
        remove("x"),
        settings(|_| {}),
        pause_for(1, ""),
        Change::Resume,
        force(A, "x"),
    ];
    let names: Vec<&str> = changes.iter().map(Change::name).collect();
    assert_eq!(names, TABLE.iter().map(|transition| transition.name).collect::<Vec<_>>());
    let text = markdown();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), TABLE.len() + 2);
    for (transition, line) in TABLE.iter().zip(&lines[2..]) {
        assert_eq!(*line, transition.row());
        assert!(line.starts_with(&format!("| {} | {} |", transition.name, transition.from)));
        assert_eq!(line.matches('|').count(), 6, "a cell holds a bar: {line}");
    }
}
