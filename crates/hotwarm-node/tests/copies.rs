//! Writes that lack a copy (R12).

mod support;

use support::{Client, Group};

/// Clients hear that copies are missing, not a hot, and status says which.
#[test]
fn a_write_that_lacks_a_copy_says_so() {
    let mut group = Group::start_with(&["a", "b", "w"], "min_copies = 2", "hold = { time_max = \"300ms\" }\n");
    let hot = group.hot();
    group.wait_in_sync(hot, 2);
    let warm = 1 - hot;
    group.kill(warm);
    group.wait_for(hot, "writes wait", |status| status.writes_wait.is_some());
    let status = group.status(hot);
    let name = &status.members[warm].name;
    let wanted = format!("writes wait for copies: 1 in sync answer ({name} does not answer), min_copies is 2");
    assert!(status.complaints.iter().any(|said| said.contains(&wanted)), "{:?}", status.complaints);
    let reply = group.client(hot).ask("SET k 1");
    assert!(reply.starts_with("error: NOREPLICAS "), "{reply}");
    group.start_node(warm);
    group.wait_for(hot, "the copy is back", |status| status.writes_wait.is_none());
    let mut client: Client = group.client(hot);
    assert_eq!(client.ask("SET k 1"), "OK");
}
