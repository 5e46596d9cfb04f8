//! Counters that all nodes' clients share, incremented under sessions: each increment counts once (C10).

use super::client::{Client, Shared, insist, number};
use hotwarm_history::counter::{CounterCall, Operation};
use hotwarm_history::{Call, History};

const KEYS: u64 = 3;

fn name(key: u32) -> String {
    format!("shared-counter:{key}")
}

/// Increments, and now and then reads, until the load ends.
pub fn run(shared: &Shared, home: usize) -> History {
    let mut history = History::default();
    let mut dice = shared.dice(1, home);
    let number_of_client = shared.next_client();
    let mut client = Client::with_session(shared, home);
    while client.connect(None) && !shared.stopped() {
        let key = dice.below(KEYS) as u32;
        let invoked_at = shared.clock.now_ns();
        let (operation, outcome) = if dice.below(5) > 0 {
            let answer = client.call(&["INCR", &name(key)]);
            (Operation::Increment { key }, Some(client.write_outcome(answer, number)))
        } else {
            let answer = client.call(&["GET", &name(key)]);
            (Operation::Read { key }, client.read_outcome(answer, number))
        };
        history.counters.extend(outcome.map(|outcome| Call {
            client: number_of_client,
            invoked_at,
            operation,
            outcome,
        }));
        dice.think();
    }
    history
}

/// Reads all counters in the end.
pub fn read_all(shared: &Shared, _: &History) -> History {
    let client_number = shared.next_client();
    let read = |key: u32| -> Option<CounterCall> {
        insist(shared, &name(key), |client| {
            let invoked_at = shared.clock.now_ns();
            let answer = client.call(&["GET", &name(key)]);
            let outcome = client.read_outcome(answer, number)?;
            Some(Call { client: client_number, invoked_at, operation: Operation::Read { key }, outcome })
        })
    };
    History { counters: (0..KEYS as u32).filter_map(read).collect(), ..History::default() }
}
