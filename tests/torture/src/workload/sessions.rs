//! Connections that read from warms (READONLY): what one of them sees never goes back (C19).
//!
//! Every connection is a session of its own. Keys are counters, so that versions grow whoever writes, and whenever.

use super::client::{Client, Shared, number};
use hotwarm_history::session::Operation;
use hotwarm_history::{Call, History};

/// Increments a key of its own and reads everybody's, until the load ends.
pub fn run(shared: &Shared, home: usize) -> History {
    let mut history = History::default();
    let mut dice = shared.dice(8, home);
    let mut client = Client::read_only(shared, shared.targets[home].front);
    let (mut connections, mut session) = (0, 0);
    while client.connect(None) && !shared.stopped() {
        if client.connections != connections {
            (connections, session) = (client.connections, shared.next_client());
        }
        let invoked_at = shared.clock.now_ns();
        let key = if dice.below(3) == 0 { home as u32 } else { dice.below(shared.targets.len() as u64) as u32 };
        let name = format!("session:{key}");
        let (operation, outcome) = if key == home as u32 && dice.below(2) == 0 {
            let answer = client.call(&["INCR", &name]);
            (Operation::Write { key }, Some(client.write_outcome(answer, number)))
        } else {
            let answer = client.call(&["GET", &name]);
            (Operation::Read { key }, client.read_outcome(answer, number))
        };
        history.sessions.extend(outcome.map(|outcome| Call { client: session, invoked_at, operation, outcome }));
        dice.think();
    }
    history
}
