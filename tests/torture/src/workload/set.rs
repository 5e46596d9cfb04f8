//! Unique keys, by unmodified clients pinned to a node: what was acknowledged is there, what was refused is not.

use super::client::{Client, Shared, insist, items};
use hotwarm_history::unique_set::{Operation, SetCall};
use hotwarm_history::{Call, History, Outcome};
use hotwarm_resp::Reply;

/// Keys asked for at once in the end.
const BATCH: usize = 256;

fn name(element: u64) -> String {
    format!("set:{element}")
}

/// Adds elements until the load ends, and now and then looks for one of its own.
pub fn run(shared: &Shared, home: usize) -> History {
    let mut history = History::default();
    let mut dice = shared.dice(3, home);
    let client_number = shared.next_client();
    let mut client = Client::plain(shared, vec![shared.targets[home].front]);
    let mut added = 0;
    while client.connect(None) && !shared.stopped() {
        let invoked_at = shared.clock.now_ns();
        let element_of = |count: u64| u64::from(client_number) << 40 | count;
        let (operation, outcome) = if added == 0 || dice.below(5) > 0 {
            added += 1;
            let element = element_of(added);
            let answer = client.call(&["SETNX", &name(element), "1"]);
            (Operation::Add { element }, Some(client.write_outcome(answer, flag)))
        } else {
            let element = element_of(1 + dice.below(added));
            let answer = client.call(&["EXISTS", &name(element)]);
            (Operation::Contains { element }, client.read_outcome(answer, flag))
        };
        history.set.extend(outcome.map(|outcome| Call { client: client_number, invoked_at, operation, outcome }));
        dice.think();
    }
    history
}

fn flag(reply: &Reply) -> Option<bool> {
    match reply {
        Reply::Integer(0) => Some(false),
        Reply::Integer(1) => Some(true),
        _ => None,
    }
}

/// Looks for every element in the end.
pub fn read_all(shared: &Shared, history: &History) -> History {
    let client_number = shared.next_client();
    let adds = history.set.iter().filter(|call| matches!(call.operation, Operation::Add { .. }));
    let elements: Vec<u64> = adds.map(|call| call.operation.element()).collect();
    let mut calls: Vec<SetCall> = Vec::with_capacity(elements.len());
    for batch in elements.chunks(BATCH) {
        let names: Vec<String> = batch.iter().map(|element| name(*element)).collect();
        let mut command = vec!["MGET"];
        command.extend(names.iter().map(String::as_str));
        let seen = insist(shared, "the set", |client| {
            let invoked_at = shared.clock.now_ns();
            let answer = client.call(&command);
            let there = |reply: &Reply| Some(items(reply)?.iter().map(|item| *item != Reply::Null).collect::<Vec<_>>());
            match client.read_outcome(answer, there)? {
                Outcome::Returned { at, seen } if seen.len() == batch.len() => Some((invoked_at, at, seen)),
                _ => None,
            }
        });
        let Some((invoked_at, at, seen)) = seen else { break };
        calls.extend(batch.iter().zip(seen).map(|(element, seen)| Call {
            client: client_number,
            invoked_at,
            operation: Operation::Contains { element: *element },
            outcome: Outcome::Returned { at, seen },
        }));
    }
    History { set: calls, ..History::default() }
}
