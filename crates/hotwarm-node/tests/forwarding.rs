//! Commands that a warm node passes on: more at once than the queues between two nodes hold.

mod support;

use hotwarm_resp::Reply;
use support::{Group, shown};

const MIB: usize = 1 << 20;

/// More than the shells may put into the queue to a node, and less than may be held: the rest waits for room, and nothing is
/// lost.
const COUNT: usize = 48;

#[test]
fn replies_that_do_not_fit_the_queue_to_a_node_arrive_all_the_same() {
    let group = Group::start(&["a", "b", "w"]);
    let hot = group.hot();
    group.wait_in_sync(hot, 2);
    let mut client = group.client(1 - hot);
    assert_eq!(client.ask(&format!("SET v {}", "x".repeat(MIB))), "OK");
    for _ in 0..COUNT {
        client.send("GET v");
    }
    for number in 0..COUNT {
        let reply = client.receive();
        assert!(matches!(&reply, Some(Reply::Bulk(bytes)) if bytes.len() == MIB), "reply {number} of {COUNT}");
    }
}

#[test]
fn commands_that_do_not_fit_the_queue_to_the_hot_are_carried_out_once_and_in_order() {
    let group = Group::start(&["a", "b", "w"]);
    let hot = group.hot();
    group.wait_in_sync(hot, 2);
    let mut client = group.client(1 - hot);
    let value = "x".repeat(MIB);
    for number in 0..COUNT {
        client.send(&format!("SET big:{} {value}", number % 4));
        client.send("APPEND order .");
    }
    for number in 1..=COUNT {
        assert_eq!(shown(&client.receive().expect("the connection stands")), "OK");
        assert_eq!(shown(&client.receive().expect("the connection stands")), number.to_string());
    }
}
