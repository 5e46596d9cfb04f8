//! Members that come and go, on real nodes with their sockets and disks.

mod support;

use hotwarm_core::Ask;
use hotwarm_node::admin::Role;
use support::Group;

/// A group of one has no majority of two without the newcomer's own vote (R6).
#[test]
fn a_group_of_one_becomes_two_and_one_again() {
    let mut group = Group::start_some("patient", &["a", "b"], 1, "", "");
    assert_eq!(group.hot(), 0);
    assert_eq!(group.client(0).ask("SET k 1"), "OK");
    group.invite(0, 1);
    group.start_node(1);
    group.wait_in_sync(0, 2);
    assert_eq!(group.client(1).ask("GET k"), "1");

    group.switch_over(0, Some(1));
    assert_eq!(group.hot(), 1);
    assert_eq!(group.client(0).ask("INCR n"), "1");
    let removed = group.ask(1, Ask::Remove { name: "a".to_owned() });
    assert!(removed.is_ok(), "{removed:?}");
    group.wait_for(1, "a is gone", |status| status.members.len() == 1);
    assert_eq!(group.client(1).ask("INCR n"), "2");
    assert_eq!(group.client(1).ask("GET k"), "1");
}

/// Whoever removes a node through itself hears that it is done, where waiting in vain ends with an unknown outcome; and
/// the node says for good what it is.
#[test]
fn a_node_that_is_removed_knows_it_also_after_a_restart() {
    let mut group = Group::start_paced("patient", &["a", "b", "w"], "", "");
    let hot = group.hot();
    group.wait_in_sync(hot, 2);
    group.wait_for(2, "it knows the group", |status| status.members.len() == 3);
    let removed = group.ask(2, Ask::Remove { name: "w".to_owned() });
    assert!(removed.is_ok(), "{removed:?}");
    group.wait_for(hot, "w is gone", |status| status.members.len() == 2);
    for restarted in [false, true] {
        if restarted {
            group.kill(2);
            group.start_node(2);
        }
        group.wait_for(2, "it is fenced", |status| status.node.role == Role::Fenced);
        let status = group.status(2);
        assert!(status.complaints[0].contains("no longer a member's"), "{:?}", status.complaints);
        assert_eq!(status.safe_to_lose, "safe to lose: unknown, the group's state is not known here");
    }
}
