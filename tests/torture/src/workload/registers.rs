//! Registers with unique values, by clients pinned to a node: no linearizable read is stale, wherever it is asked (C18).
//!
//! Where a node has a front whose reads are verified by a round, every other read goes there.

use super::client::{Client, Shared, insist, number};
use hotwarm_history::register::{Operation, RegisterCall};
use hotwarm_history::{Call, History};

const KEYS: u64 = 4;

fn name(key: u32) -> String {
    format!("register:{key}")
}

/// Writes and reads until the load ends.
pub fn run(shared: &Shared, home: usize) -> History {
    let mut history = History::default();
    let mut dice = shared.dice(2, home);
    let client_number = shared.next_client();
    let target = &shared.targets[home];
    let mut client = Client::plain(shared, vec![target.front]);
    let mut verified = target.verified.map(|address| Client::plain(shared, vec![address]));
    let mut written = 0;
    while client.connect(None) && !shared.stopped() {
        let key = dice.below(KEYS) as u32;
        if dice.below(2) == 0 {
            written += 1;
            let value = (u64::from(client_number) + 1) << 40 | written;
            let invoked_at = shared.clock.now_ns();
            let answer = client.call(&["SET", &name(key), &value.to_string()]);
            let outcome = client.write_outcome(answer, |_| Some(value));
            let operation = Operation::Write { key, value };
            history.registers.push(Call { client: client_number, invoked_at, operation, outcome });
        } else {
            let reader = match &mut verified {
                Some(verified) if dice.below(2) == 0 => verified,
                _ => &mut client,
            };
            if !reader.connect(None) {
                break;
            }
            history.registers.extend(read(shared, reader, client_number, key));
        }
        dice.think();
    }
    history
}

fn read(shared: &Shared, client: &mut Client<'_>, client_number: u32, key: u32) -> Option<RegisterCall> {
    let invoked_at = shared.clock.now_ns();
    let answer = client.call(&["GET", &name(key)]);
    let outcome = client.read_outcome(answer, number)?;
    Some(Call { client: client_number, invoked_at, operation: Operation::Read { key }, outcome })
}

/// Reads all registers in the end.
pub fn read_all(shared: &Shared, _: &History) -> History {
    let client_number = shared.next_client();
    let keys = 0..KEYS as u32;
    let calls = keys.filter_map(|key| insist(shared, &name(key), |client| read(shared, client, client_number, key)));
    History { registers: calls.collect(), ..History::default() }
}
