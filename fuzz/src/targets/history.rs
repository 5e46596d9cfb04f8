//! A node's own events: JSON, one to a line.

use super::SMALL;
use crate::target::{Seed, Target};
use hotwarm_node::history::{Event, History, Source};

pub(super) const HISTORY: Target = Target { name: "history", run, seeds, words, memory_base_bytes: 512 << 10, ..SMALL };

fn run(input: &[u8]) {
    for event in History::events(input) {
        let text = serde_json::to_string(&event).expect("an event has a JSON form");
        let again: Event = serde_json::from_str(&text).expect("what was written is read");
        assert_eq!(shown(&again), shown(&event));
        assert!(!text.contains('\n'), "an event takes one line");
    }
}

/// An event as text: a number that is none is not equal to itself.
fn shown(event: &Event) -> String {
    format!("{event:?}")
}

fn seeds() -> Vec<Seed> {
    let event = Event {
        at_ms: 1_700_000_000_000,
        source: Source::Node,
        event: "became_hot".to_owned(),
        node: "a".to_owned(),
        epoch: Some(8),
        what: "a is hot".to_owned(),
        cause: "crash_attested".to_owned(),
        evidence: "reaped".to_owned(),
        phases_ms: [("polled".to_owned(), 0.5)].into(),
    };
    let line = serde_json::to_string(&event).unwrap_or_default();
    let plain = Event { epoch: None, phases_ms: [].into(), source: Source::Register, ..event };
    let second = serde_json::to_string(&plain).unwrap_or_default();
    vec![
        ("two events", format!("{line}\n{second}\n").into_bytes()),
        ("a torn end", format!("{line}\n{}", &second[..second.len() / 2]).into_bytes()),
        ("deep", [b"{\"at_ms\":".as_slice(), &[b'['; 300]].concat()),
    ]
}

fn words() -> Vec<String> {
    ["\"at_ms\":", "\"source\":", "\"node\"", "\"register\"", "\"phases_ms\":{", "1e400", "null", "\\ud800", "\\u0000"]
        .map(str::to_owned)
        .to_vec()
}
