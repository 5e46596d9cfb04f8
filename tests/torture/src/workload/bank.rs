//! Tellers that move money in transactions, and audits that read all accounts at once.
//!
//! Accounts begin at nothing and may be overdrawn: the total is always 0. With each transfer a teller leaves its number in
//! a key of its own; a teller that does not know what became of a transfer is followed by another. Audits ask the
//! linearizable front, and each node's own copy: the latter may be old, but all fit into one order (C20).

use super::client::{Client, Shared, insist, items, number, signed};
use hotwarm_history::bank::{BankCall, Operation, Seen};
use hotwarm_history::{Call, History, Outcome};
use hotwarm_resp::Reply;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;

/// How many accounts there are.
pub const ACCOUNTS: usize = 8;
/// Tellers beyond those that have begun, of which an audit asks too: no more than these begin while it runs.
const TELLERS_AHEAD: u32 = 64;

fn account(number: usize) -> String {
    format!("bank:account:{number}")
}

fn teller_key(teller: u32) -> String {
    format!("bank:teller:{teller}")
}

/// Moves money until the load ends.
pub fn tell(shared: &Shared, home: usize) -> History {
    let mut history = History::default();
    let mut dice = shared.dice(5, home);
    let mut client = Client::with_session(shared, home);
    let (mut teller, mut last) = (shared.tellers.fetch_add(1, Ordering::SeqCst), 0);
    while client.connect(None) && !shared.stopped() {
        let from = dice.below(ACCOUNTS as u64) as usize;
        let to = (from + 1 + dice.below(ACCOUNTS as u64 - 1) as usize) % ACCOUNTS;
        let amount = 1 + dice.below(100) as i64;
        last += 1;
        let command = |words: [&str; 3]| words.map(ToOwned::to_owned).to_vec();
        let commands = [
            command(["INCRBY", &account(from), &(-amount).to_string()]),
            command(["INCRBY", &account(to), &amount.to_string()]),
            command(["SET", &teller_key(teller), &last.to_string()]),
        ];
        let invoked_at = shared.clock.now_ns();
        let answer = client.transaction(&commands);
        let outcome = client.write_outcome(answer, |reply| (items(reply)?.len() == 3).then_some(Seen::Moved));
        let is_unknown = outcome == Outcome::Unknown;
        let operation = Operation::Transfer { number: last, from, to, amount };
        history.bank.push(Call { client: teller, invoked_at, operation, outcome });
        if is_unknown {
            (teller, last) = (shared.tellers.fetch_add(1, Ordering::SeqCst), 0);
        }
        dice.think();
    }
    history
}

/// Audits at the linearizable front until the load ends.
pub fn audit(shared: &Shared, home: usize) -> History {
    audit_at(shared, home, shared.targets[home].front, false)
}

/// Audits a node's own copy until the load ends.
pub fn audit_own_copy(shared: &Shared, home: usize) -> History {
    audit_at(shared, home, shared.targets[home].own_copy, true)
}

fn audit_at(shared: &Shared, home: usize, address: SocketAddr, stale_allowed: bool) -> History {
    let mut history = History::default();
    let mut dice = shared.dice(if stale_allowed { 7 } else { 6 }, home);
    let client_number = shared.next_client();
    let mut client = Client::plain(shared, vec![address]);
    while client.connect(None) && !shared.stopped() {
        history.bank.extend(ask(shared, &mut client, client_number, home as u32, stale_allowed));
        for _ in 0..8 {
            dice.think();
        }
    }
    history
}

fn ask(
    shared: &Shared,
    client: &mut Client<'_>,
    client_number: u32,
    node: u32,
    stale_allowed: bool,
) -> Option<BankCall> {
    let invoked_at = shared.clock.now_ns();
    let tellers = shared.tellers.load(Ordering::SeqCst) + TELLERS_AHEAD;
    let names: Vec<String> = (0..ACCOUNTS).map(account).chain((0..tellers).map(teller_key)).collect();
    let mut command = vec!["MGET"];
    command.extend(names.iter().map(String::as_str));
    let answer = client.call(&command);
    let outcome = client.read_outcome(answer, accounts)?;
    Some(Call { client: client_number, invoked_at, operation: Operation::Audit { node, stale_allowed }, outcome })
}

fn accounts(reply: &Reply) -> Option<Seen> {
    let (accounts, tellers) = items(reply)?.split_at_checked(ACCOUNTS)?;
    let balances = accounts.iter().map(signed).collect::<Option<_>>()?;
    let mut done: Vec<u64> = tellers.iter().map(number).collect::<Option<_>>()?;
    done.truncate(done.iter().rposition(|number| *number > 0).map_or(0, |last| last + 1));
    Some(Seen::Accounts { balances, done })
}

/// One audit in the end.
pub fn read_all(shared: &Shared, _: &History) -> History {
    let client_number = shared.next_client();
    let audit = insist(shared, "the bank", |client| ask(shared, client, client_number, 0, false));
    History { bank: audit.into_iter().collect(), bank_accounts: ACCOUNTS, ..History::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_audit_is_read_without_the_tellers_that_have_not_begun() {
        let mut replies = vec![Reply::Bulk(b"-5".as_slice().into()); ACCOUNTS];
        replies.extend([Reply::Null, Reply::Bulk(b"3".as_slice().into()), Reply::Null]);
        let expected = Seen::Accounts { balances: vec![-5; ACCOUNTS], done: vec![0, 3] };
        assert_eq!(accounts(&Reply::Array(replies)), Some(expected));
        assert_eq!(accounts(&Reply::Array(vec![Reply::Null; 3])), None);
    }
}
