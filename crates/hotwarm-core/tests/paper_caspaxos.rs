//! The register against its paper: one test for each sentence of Rystsov, "CASPaxos: Replicated State Machines without
//! logs" (2018), sections 2.2 and 2.3, that safety leans on, and for each rule that goes beyond it. Guards R2, R3, R4, R6.

#[path = "register_common/answer.rs"]
mod register_answer;
#[path = "register_common/bench.rs"]
mod register_bench;
mod register_common;

use core::time::Duration;
use hotwarm_core::Message;
use hotwarm_core::register::{
    Ballot, Change, Denied, GroupState, MemberRole, Outcome, Proposer, Quorum, Response, Vote, Wish, acceptor, apply,
};
use hotwarm_types::limits::CHANGES_KEPT;
use hotwarm_types::{Epoch, FolderId, NodeId, Version};
use register_bench::{Bench, NOW, ballot, holding};
use register_common::{birth, bootstrapped, incarnation, wish};

fn promised_state(response: Response) -> Option<(Ballot, GroupState)> {
    match response {
        Response::Promise { accepted, .. } => accepted,
        other => panic!("no promise: {other:?}"),
    }
}

fn is_refused(response: &Response) -> bool {
    matches!(response, Response::Refused { .. })
}

/// `state` changed by a wish that is allowed.
fn after(state: &GroupState, node: u16, counter: u64, change: Change) -> GroupState {
    apply(Some(state), &wish(node, counter, change)).expect("the change is allowed")
}

fn pause() -> Change {
    Change::Pause { length: Duration::from_secs(60), reason: "test".into() }
}

fn invite(name: &str) -> Change {
    Change::Invite { name: name.into(), address: "x:1".into(), role: MemberRole::Data, priority: 1 }
}

fn admit(name: &str) -> Change {
    Change::Admit { name: name.into(), folder: FolderId(99) }
}

// --- Acceptor, phase one.

#[test]
fn an_acceptor_refuses_to_prepare_below_its_promise() {
    let mut vote = Vote { promised: ballot(5, 2), ..Vote::default() };
    let before = vote.clone();
    for lower in [ballot(4, 9), ballot(5, 1)] {
        let response = acceptor::prepare(&mut vote, lower, Version(1));
        assert_eq!(response, Response::Refused { ballot: lower, promised: ballot(5, 2), newer: None });
        assert!(!response.leans_on_vote());
    }
    assert_eq!(vote, before, "a refusal changes nothing");
}

#[test]
fn a_promise_tells_that_nothing_was_accepted() {
    let mut vote = Vote::default();
    let response = acceptor::prepare(&mut vote, ballot(1, 1), Version(0));
    assert!(response.leans_on_vote());
    assert_eq!(promised_state(response), None);
    assert_eq!(vote.promised, ballot(1, 1));
}

#[test]
fn a_promise_tells_what_was_accepted_and_in_which_ballot() {
    let first = bootstrapped();
    let mut vote = holding(ballot(3, 1), &first);
    let response = acceptor::prepare(&mut vote, ballot(4, 2), first.members_version);
    assert_eq!(promised_state(response), Some((ballot(3, 1), first)));
}

#[test]
fn a_prepare_that_comes_twice_is_promised_twice() {
    let mut vote = Vote::default();
    let first = acceptor::prepare(&mut vote, ballot(4, 2), Version(0));
    let vote_then = vote.clone();
    assert_eq!(acceptor::prepare(&mut vote, ballot(4, 2), Version(0)), first);
    assert_eq!(vote, vote_then);
}

#[test]
fn ballot_zero_precedes_every_round() {
    let mut vote = Vote::default();
    assert!(is_refused(&acceptor::prepare(&mut vote, Ballot::default(), Version(9))));
    assert!(is_refused(&acceptor::prepare(&mut vote, Ballot { counter: 0, ..ballot(0, 9) }, Version(9))));
}

// --- Acceptor, phase two.

#[test]
fn an_acceptor_refuses_to_accept_below_its_promise() {
    let first = bootstrapped();
    let mut vote = Vote { promised: ballot(5, 2), ..Vote::default() };
    let response = acceptor::accept(&mut vote, ballot(5, 1), Version(1), first);
    assert_eq!(response, Response::Refused { ballot: ballot(5, 1), promised: ballot(5, 2), newer: None });
    assert_eq!(vote.accepted, None);
}

#[test]
fn an_acceptance_replaces_what_was_held_and_binds_like_a_promise() {
    let first = bootstrapped();
    let second = after(&first, 2, 1, Change::Bump);
    let mut vote = holding(ballot(3, 1), &first);
    let response = acceptor::accept(&mut vote, ballot(7, 2), Version(1), second.clone());
    assert_eq!(response, Response::Accepted { ballot: ballot(7, 2) });
    assert!(response.leans_on_vote());
    assert_eq!(vote.accepted, Some((ballot(7, 2), second)));
    assert!(is_refused(&acceptor::prepare(&mut vote, ballot(6, 3), Version(1))));
}

#[test]
fn a_ballot_never_carries_a_second_value() {
    let first = bootstrapped();
    let mut vote = holding(ballot(3, 1), &first);
    let again = acceptor::accept(&mut vote, ballot(3, 1), Version(1), first.clone());
    assert_eq!(again, Response::Accepted { ballot: ballot(3, 1) }, "a retransmission is accepted again");
    let second = after(&first, 2, 1, Change::Bump);
    assert!(is_refused(&acceptor::accept(&mut vote, ballot(3, 1), Version(1), second)));
    assert_eq!(vote.accepted, Some((ballot(3, 1), first)));
}

#[test]
fn a_state_of_another_cluster_or_with_an_undeclared_member_list_is_refused() {
    let first = bootstrapped();
    let mut vote = holding(ballot(3, 1), &first);
    let foreign = GroupState { cluster: hotwarm_types::ClusterId(2), ..first.clone() };
    assert!(is_refused(&acceptor::accept(&mut vote, ballot(4, 1), Version(1), foreign)));
    let undeclared = GroupState { members_version: Version(2), ..first.clone() };
    assert!(is_refused(&acceptor::accept(&mut vote, ballot(4, 1), Version(1), undeclared)));
    assert_eq!(vote.accepted, Some((ballot(3, 1), first)));
}

// --- Proposer.

#[test]
fn a_change_takes_two_round_trips_and_a_settled_read_one() {
    let (mut bench, first) = Bench::bootstrapped(2);
    bench.begin(&first, wish(2, 1, Change::Bump));
    bench.run(&[1, 2, 3]);
    assert_eq!(bench.done().version, Version(2));
    assert_eq!(bench.round_trips, 2);

    bench.round_trips = 0;
    bench.begin(&first, wish(2, 2, Change::Read));
    bench.run(&[1, 2, 3]);
    assert_eq!(bench.done().version, Version(2));
    assert_eq!(bench.round_trips, 1);
}

#[test]
fn a_majority_is_enough_and_the_proposers_own_acceptor_is_not_needed() {
    let (mut bench, first) = Bench::bootstrapped(2);
    bench.begin(&first, wish(2, 1, Change::Bump));
    bench.run(&[1, 3]);
    assert_eq!(bench.done().version, Version(2));
    assert_eq!(bench.held(2).1, Version(1));
}

#[test]
fn a_minority_decides_nothing_however_often_it_is_asked() {
    let (mut bench, first) = Bench::bootstrapped(2);
    bench.begin(&first, wish(2, 1, Change::Read));
    for _ in 0..20 {
        bench.run(&[2]);
        bench.elapse();
    }
    assert_eq!(bench.proposer.take_outcome(), None);
    assert_eq!(bench.held(2), (ballot(1, 1), Version(1)));
}

#[test]
fn the_value_of_the_highest_ballot_is_picked() {
    let (mut bench, first) = Bench::bootstrapped(2);
    let left = after(&first, 1, 7, Change::Bump);
    let right = after(&first, 3, 7, pause());
    bench.hold(1, ballot(3, 1), &left);
    bench.hold(3, ballot(4, 3), &right);
    bench.begin(&first, wish(2, 1, Change::Bump));
    bench.run(&[1, 3]);
    let state = bench.done();
    assert_eq!(state.version, Version(3));
    assert!(state.includes(right.proposal) && !state.includes(left.proposal));
}

#[test]
fn a_value_that_a_minority_holds_is_completed_by_a_read() {
    let (mut bench, first) = Bench::bootstrapped(2);
    let second = after(&first, 1, 7, Change::Bump);
    bench.hold(3, ballot(3, 1), &second);
    bench.begin(&first, wish(2, 1, Change::Read));
    bench.run(&[2, 3]);
    assert_eq!(bench.done(), second);
    assert_eq!([bench.held(2).1, bench.held(3).1], [Version(2); 2], "what was read is chosen");
}

#[test]
fn one_of_two_acknowledged_changes_descends_from_the_other() {
    let (mut bench, first) = Bench::bootstrapped(2);
    bench.begin(&first, wish(2, 1, Change::Bump));
    bench.run(&[1, 2]);
    let second = bench.done();
    bench.proposer = Proposer::new(NodeId(3), 1, 5);
    bench.begin(&first, wish(3, 1, Change::Bump));
    bench.run(&[2, 3]);
    let third = bench.done();
    assert_eq!(third.version, Version(3));
    assert!(third.includes(second.proposal));
}

#[test]
fn answers_of_another_round_or_from_strangers_count_for_nothing() {
    let (mut bench, first) = Bench::bootstrapped(2);
    bench.begin(&first, wish(2, 1, Change::Bump));
    let Some((_, Message::Prepare { ballot: asked, .. })) = bench.requests.first().cloned() else {
        panic!("no prepare")
    };
    bench.requests.clear();
    let promise = |ballot| Message::Promise { ballot, accepted: None };
    for (from, message) in
        [(8, promise(asked)), (9, promise(asked)), (1, promise(ballot(1, 2))), (3, promise(ballot(99, 2)))]
    {
        bench.proposer.received(NOW, NodeId(from), &message, &mut bench.requests);
    }
    bench.proposer.received(NOW, NodeId(1), &Message::Accepted { ballot: asked }, &mut bench.requests);
    bench.proposer.received(NOW, NodeId(1), &Message::Goodbye { epoch: Epoch(1) }, &mut bench.requests);
    assert!(bench.requests.is_empty() && bench.proposer.take_outcome().is_none());
}

// --- Ballots (R3).

#[test]
fn a_refusal_is_answered_at_once_above_the_promise_and_the_next_ones_after_a_random_wait() {
    let (mut bench, first) = Bench::bootstrapped(2);
    bench.begin(&first, wish(2, 1, Change::Bump));
    for (round, other) in [(0, 50), (1, 60), (2, 70)] {
        let Some((_, Message::Prepare { ballot: asked, .. })) = bench.requests.first().cloned() else {
            panic!("no prepare in round {round}")
        };
        bench.requests.clear();
        let refusal = Message::Refused { ballot: asked, promised: ballot(other, 3), newer: None };
        bench.proposer.received(bench.now, NodeId(1), &refusal, &mut bench.requests);
        if round > 0 {
            assert!(bench.requests.is_empty(), "the duel goes on at once");
            let waited = bench.proposer.deadline().expect("it waits").since(bench.now);
            assert!(waited >= Duration::from_millis(5) && waited <= Duration::from_millis(50), "{waited:?}");
            bench.elapse();
        }
        let Some((_, Message::Prepare { ballot: next, .. })) = bench.requests.first() else { panic!("no round") };
        assert!(*next > ballot(other, 3));
    }
    bench.run(&[1, 2, 3]);
    assert_eq!(bench.done().version, Version(2));
}

#[test]
fn two_starts_of_a_node_never_share_a_ballot() {
    let mut ballots = Vec::new();
    for start in [1, 2] {
        let mut send = Vec::new();
        Proposer::new(NodeId(2), start, 5).begin(NOW, &bootstrapped(), wish(2, 1, Change::Read), &mut send);
        let Some((_, Message::Prepare { ballot, .. })) = send.pop() else { panic!("no prepare") };
        ballots.push(ballot);
    }
    assert_ne!(ballots[0], ballots[1]);
}

#[test]
fn silence_is_met_by_the_same_ballot_again_ever_more_slowly() {
    let (mut bench, first) = Bench::bootstrapped(2);
    bench.begin(&first, wish(2, 1, Change::Bump));
    let first_requests = bench.requests.clone();
    let mut waits = Vec::new();
    for _ in 0..6 {
        bench.requests.clear();
        let before = bench.now;
        bench.elapse();
        waits.push(bench.now.since(before).as_millis());
        assert_eq!(bench.requests, first_requests);
    }
    assert_eq!(waits, [100, 200, 400, 800, 1_000, 1_000]);
}

// --- Unknown outcomes (R2).

#[test]
fn a_proposer_recognises_its_success_when_somebody_else_completes_it() {
    let (mut bench, first) = Bench::bootstrapped(2);
    bench.begin(&first, Wish { expected: Some(Version(1)), ..wish(2, 1, Change::Bump) });
    bench.trip(&[1, 2, 3]);
    bench.trip(&[3]);
    // Only n3 holds it when another proposer completes it and builds on it.
    let mut other = Bench::new(1);
    other.votes = bench.votes.clone();
    other.begin(&first, wish(1, 9, Change::Bump));
    other.run(&[1, 3]);
    assert_eq!(other.done().version, Version(3));
    bench.votes = other.votes;
    bench.elapse();
    bench.run(&[1, 2, 3]);
    let state = bench.done();
    assert_eq!(state.version, Version(3), "the later change is in it too");
    assert!(state.includes(wish(2, 1, Change::Bump).id));
}

#[test]
fn a_denied_wish_never_comes_to_life_later() {
    let (mut bench, first) = Bench::bootstrapped(2);
    // A pause is held by n3 alone; n2 wishes to end it, and that too reaches only n3.
    bench.hold(3, ballot(2, 1), &after(&first, 1, 7, pause()));
    bench.begin(&first, wish(2, 1, Change::Resume));
    bench.trip(&[2, 3]);
    bench.trip(&[3]);
    let (held_in, version) = bench.held(3);
    assert_eq!(version, Version(3));
    // Then n1 and n2, who know of no pause, answer a higher round, and the wish is denied.
    for node in [1, 2] {
        bench.votes.get_mut(&NodeId(node)).expect("it has a vote").promised = ballot(held_in.counter + 1, 1);
    }
    bench.elapse();
    bench.run(&[1, 2]);
    let (denied, state) = bench.denied();
    assert_eq!((denied, state.expect("a state").version), (Denied::NotPaused, Version(1)));
    // Whoever reads later, n3 among the readers, finds neither the pause nor its end.
    bench.proposer = Proposer::new(NodeId(1), 2, 5);
    bench.begin(&first, wish(1, 9, Change::Read));
    bench.run(&[1, 3]);
    assert_eq!(bench.done().version, Version(1));
}

#[test]
fn a_moved_version_is_denied_with_the_state_that_shows_it() {
    let (mut bench, first) = Bench::bootstrapped(2);
    let second = after(&first, 1, 7, Change::Bump);
    bench.hold(1, ballot(3, 1), &second);
    bench.begin(&first, Wish { expected: Some(Version(1)), ..wish(2, 1, Change::Bump) });
    bench.run(&[1, 2]);
    let (denied, state) = bench.denied();
    assert_eq!(denied, Denied::VersionMoved { expected: Version(1), found: Version(2) });
    assert_eq!(state, Some(second));
    assert_eq!(bench.held(2).1, Version(2), "the denial stands on a chosen state");
}

#[test]
fn an_announced_state_settles_a_wish_only_for_ever() {
    let first = bootstrapped();
    let second = after(&first, 1, 7, Change::Bump);
    let begun = |change: Change, expected| {
        let mut bench = Bench::new(2);
        bench.begin(&first, Wish { expected, ..wish(2, 1, change) });
        bench
    };
    let mut moved = begun(Change::Bump, Some(Version(1)));
    moved.proposer.learned(&second);
    assert_eq!(moved.denied().0, Denied::VersionMoved { expected: Version(1), found: Version(2) });

    let mut mine = begun(Change::Bump, None);
    mine.proposer.learned(&after(&second, 2, 1, Change::Bump));
    assert_eq!(mine.done().version, Version(3));

    // That there is no pause now says nothing of the moment at which the wish was made.
    let mut open = begun(Change::Resume, None);
    open.proposer.learned(&second);
    assert_eq!(open.proposer.take_outcome(), None);
    assert!(open.proposer.is_busy());

    let promoted = Change::Promote {
        candidate: NodeId(3),
        incarnation: incarnation(1),
        in_sync: first.in_sync.clone(),
        seen: Epoch(1),
    };
    let mut deposed = begun(Change::Grow { reign: first.reign, node: NodeId(3) }, None);
    deposed.proposer.learned(&after(&first, 3, 7, promoted));
    assert!(matches!(deposed.denied().0, Denied::NotTheReign { .. }));
}

#[test]
fn what_the_history_no_longer_tells_is_called_unknown() {
    let (mut bench, first) = Bench::bootstrapped(2);
    bench.begin(&first, wish(2, 1, Change::Bump));
    bench.trip(&[1, 2, 3]);
    let Some((_, Message::Accept { state: mine, .. })) = bench.requests.first().cloned() else { panic!("no accept") };
    bench.requests.clear();
    let mut state = mine;
    for counter in 0..=CHANGES_KEPT as u64 {
        state = after(&state, 3, 50 + counter, Change::Bump);
    }
    for node in [1, 2, 3] {
        bench.hold(node, ballot(40, 3), &state);
    }
    bench.elapse();
    bench.run(&[1, 2, 3]);
    let (denied, found) = bench.denied();
    assert_eq!(denied, Denied::OutcomeForgotten { attempted: Version(2), found: state.version });
    assert_eq!(found, Some(state));
}

// --- Bootstrap (R4).

#[test]
fn a_bootstrap_needs_every_acceptor_in_both_phases() {
    let mut bench = Bench::new(1);
    bench.begin(&birth(), wish(1, 1, Change::Bootstrap(Box::new(birth()))));
    bench.run(&[1, 2]);
    assert!(bench.votes.values().all(|vote| vote.accepted.is_none()), "n3 has not said that it is fresh");
    bench.elapse();
    bench.trip(&[3]);
    bench.trip(&[1, 2]);
    assert_eq!(bench.proposer.take_outcome(), None, "n3 does not hold the first version");
    bench.elapse();
    bench.run(&[3]);
    assert_eq!(bench.done(), bootstrapped());
}

#[test]
fn a_second_bootstrap_completes_the_first_and_is_denied() {
    let mut bench = Bench::new(1);
    bench.begin(&birth(), wish(1, 1, Change::Bootstrap(Box::new(birth()))));
    bench.trip(&[1, 2, 3]);
    bench.trip(&[2]);
    let mut again = birth();
    again.reign.incarnation = incarnation(2);
    bench.proposer = Proposer::new(NodeId(1), 2, 5);
    let mut second = wish(1, 1, Change::Bootstrap(Box::new(again.clone())));
    second.id.start = 2;
    bench.requests.clear();
    bench.begin(&again, second);
    bench.run(&[1, 2]);
    let (denied, state) = bench.denied();
    assert_eq!(denied, Denied::AlreadyBootstrapped { version: Version(1) });
    assert_eq!(state, Some(bootstrapped()), "the first one's state, as it was");
}

#[test]
fn before_the_bootstrap_every_other_wish_is_denied() {
    let mut bench = Bench::new(2);
    bench.begin(&birth(), wish(2, 1, Change::Read));
    bench.run(&[2, 3]);
    assert_eq!(bench.denied(), (Denied::NotBootstrapped, None));
}

// --- Changes of acceptors (section 2.3; R6).

#[test]
fn a_swap_of_acceptors_needs_a_majority_of_both_lists() {
    let first = bootstrapped();
    let swapped = after(&after(&first, 1, 7, invite("c")), 1, 8, admit("c"));
    assert_eq!(swapped.members.keys().copied().collect::<Vec<_>>(), [NodeId(1), NodeId(2), NodeId(4)]);
    let quorum = Quorum::of(&swapped);
    let met = |nodes: &[u16]| quorum.is_met(|node| nodes.contains(&node.0));
    assert!(met(&[1, 2]) && met(&[1, 3, 4]));
    assert!(!met(&[1, 4]), "n1 and n3, or n2 and n3, could choose something else");
    assert!(!met(&[1, 3]) && !met(&[2]));
    // In the next version the old list no longer counts.
    let next = Quorum::of(&after(&swapped, 1, 9, Change::Bump));
    assert!(next.is_met(|node| [1, 4].contains(&node.0)));
}

#[test]
fn an_acceptor_refuses_an_older_member_list_and_shows_the_newer() {
    let first = bootstrapped();
    let grown = after(&after(&first, 1, 7, invite("d")), 1, 8, admit("d"));
    let mut vote = holding(ballot(3, 1), &grown);
    for response in [
        acceptor::prepare(&mut vote.clone(), ballot(9, 2), first.members_version),
        acceptor::accept(&mut vote, ballot(9, 2), first.members_version, first),
    ] {
        let Response::Refused { newer, .. } = response else { panic!("{response:?}") };
        assert_eq!(newer, Some(grown.clone()));
    }
}

#[test]
fn a_proposer_with_an_old_member_list_goes_on_with_the_newer_at_once() {
    let (mut bench, first) = Bench::bootstrapped(2);
    let invited = after(&first, 1, 7, invite("c"));
    let swapped = after(&invited, 1, 8, admit("c"));
    for node in [1, 2, 4] {
        bench.hold(node, ballot(3, 1), &swapped);
    }
    bench.begin(&first, wish(2, 1, Change::Bump));
    bench.run(&[1, 3, 4]);
    let state = bench.done();
    assert_eq!((state.version, state.members_version), (Version(4), Version(3)));
    assert_eq!(bench.held(4).1, Version(4), "the new acceptor was asked");
    assert_eq!(bench.held(3).1, Version(3), "the old one helped to complete the swap, and was not asked for more");
}

#[test]
fn nothing_is_built_on_a_change_of_acceptors_before_it_is_chosen() {
    let (mut bench, first) = Bench::bootstrapped(2);
    let invited = after(&first, 1, 7, invite("c"));
    let swapped = after(&invited, 1, 8, admit("c"));
    bench.hold(1, ballot(3, 1), &invited);
    bench.hold(2, ballot(4, 1), &swapped);
    bench.begin(&first, wish(2, 1, Change::Bump));
    bench.trip(&[1, 2, 3, 4]);
    // n2 refused the old list; the round with the new one finds the swap, held by n2 alone.
    bench.trip(&[1, 2, 3, 4]);
    let Some((_, Message::Accept { state, .. })) = bench.requests.first().cloned() else { panic!("no accept") };
    assert_eq!(state, swapped, "the swap is completed first");
    bench.run(&[1, 2, 3, 4]);
    assert_eq!(bench.done().version, Version(4));
}

#[test]
fn an_acceptor_that_holds_a_dead_change_of_acceptors_is_won_back() {
    let (mut bench, first) = Bench::bootstrapped(2);
    let invited = after(&first, 1, 7, invite("c"));
    // n3 alone holds a swap that was never chosen; the others chose something else in a higher ballot.
    bench.hold(3, ballot(3, 1), &after(&invited, 1, 8, admit("c")));
    let bumped = after(&invited, 1, 9, Change::Bump);
    bench.hold(1, ballot(4, 1), &bumped);
    bench.hold(2, ballot(4, 1), &bumped);
    bench.begin(&first, wish(2, 1, Change::Bump));
    bench.run(&[1, 3]);
    assert_eq!(bench.done().version, Version(4));
    assert_eq!(bench.held(3).1, Version(4));
}

#[test]
fn a_removal_that_would_leave_too_few_living_acceptors_is_denied_and_leaves_no_trace() {
    let (mut bench, first) = Bench::bootstrapped(1);
    let shrunk = after(&first, 1, 7, Change::Shrink { reign: first.reign, nodes: [NodeId(3)].into() });
    for node in 1..=3 {
        bench.hold(node, ballot(3, 1), &shrunk);
    }
    // n2 is dead; without n3 the group could never again change its state.
    bench.begin(&shrunk, wish(1, 8, Change::Remove { name: "c".into() }));
    bench.run(&[1, 3]);
    while bench.proposer.wish().is_some() && bench.now.since(NOW) < Duration::from_secs(5) {
        bench.elapse();
        bench.run(&[1, 3]);
        if let Some(outcome) = bench.proposer.take_outcome() {
            let Outcome::Denied { denied, .. } = outcome else { panic!("{outcome:?}") };
            let acceptors = [NodeId(1), NodeId(2)].into();
            assert_eq!(denied, Denied::NoLivingMajority { acceptors, answered: [NodeId(1)].into() });
            assert_eq!([bench.held(1).1, bench.held(3).1], [Version(2); 2]);
            return;
        }
    }
    panic!("the removal was never denied");
}

// --- The proposer's own contract.

#[test]
fn an_abandoned_wish_leaves_the_proposer_free_and_its_round_deaf() {
    let (mut bench, first) = Bench::bootstrapped(2);
    bench.begin(&first, wish(2, 1, Change::Bump));
    let stale = core::mem::take(&mut bench.requests);
    bench.proposer.abandon();
    assert!(!bench.proposer.is_busy());
    assert_eq!(bench.proposer.deadline(), None);
    bench.begin(&first, wish(2, 2, pause()));
    let fresh = core::mem::replace(&mut bench.requests, stale);
    bench.trip(&[1, 2, 3]);
    assert!(bench.requests.is_empty(), "the abandoned round goes on");
    bench.requests = fresh;
    bench.run(&[1, 2, 3]);
    assert!(bench.done().pause.is_some());
}

#[test]
#[should_panic(expected = "one wish at a time")]
fn a_second_wish_at_once_is_a_bug_of_the_caller() {
    let (mut bench, first) = Bench::bootstrapped(2);
    bench.begin(&first, wish(2, 1, Change::Bump));
    bench.begin(&first, wish(2, 2, Change::Bump));
}
