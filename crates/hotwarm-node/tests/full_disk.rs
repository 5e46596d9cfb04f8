//! What clients and operators see of a node whose disk is full.

mod support;

use hotwarm_node::space::Need;
use support::Group;

/// Writes are refused with the way out, reads go on, the hot stays hot, and everything goes on by itself.
#[test]
fn a_hot_with_a_full_disk_refuses_writes_and_keeps_its_role() {
    let group = Group::start(&["a", "b", "w"]);
    let hot = group.hot();
    group.wait_in_sync(hot, 2);
    let (mut own, mut other) = (group.client(hot), group.client(1 - hot));
    assert_eq!(own.ask("SET k 1"), "OK");
    assert_eq!(own.ask("SET gone v PX 1"), "OK");
    // On both, so that a takeover on a busy machine changes nothing.
    let boards = [hot, 1 - hot].map(|index| &group.nodes[index].as_ref().unwrap().control().board);
    let report = |lack: Option<&str>| {
        for board in boards {
            board.space.report(Need::Segment, lack.map(str::to_owned));
        }
    };
    report(Some("the test says so"));
    for client in [&mut own, &mut other] {
        for write in ["SET k 2", "INCR n", "DEL k"] {
            let reply = client.ask(write);
            assert!(reply.starts_with("error: MISCONF ") && reply.contains("free space"), "{write}: {reply}");
        }
        assert_eq!(client.ask("GET k"), "1");
        // Whoever sees that a key has expired sees it for good, for which a few bytes of log are there.
        assert_eq!(client.ask("GET gone"), "nil");
        assert_eq!(client.ask("MULTI"), "OK");
        assert_eq!(client.ask("SET k 3"), "QUEUED");
        assert!(client.ask("EXEC").starts_with("error: MISCONF "));
    }
    group.wait_for(group.hot(), "it serves and complains", |status| {
        let complains = |said: &String| said.contains("is full") && said.contains("data-");
        status.node.serves && status.node.lease_held && status.complaints.iter().any(complains)
    });
    report(None);
    assert_eq!(own.ask("SET k 2"), "OK");
    assert_eq!(other.ask("INCR n"), "1", "what was refused was never carried out");
    assert!(group.status(hot).complaints.iter().all(|said| !said.contains("is full")));
}
