//! Transactions over lists: strings that are only appended to, in elements of one width (C17, C18).
//!
//! Three lists are in use at a time; after so many appends there are three new ones, so that reads stay short.

use super::client::{Client, Shared, insist, items};
use hotwarm_history::list_append::{Answer as Told, Answers, ListCall, Step, Transaction};
use hotwarm_history::{Call, History};
use hotwarm_resp::Reply;
use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

/// Lists in use at a time.
const LISTS: u64 = 3;
/// Appends until there are new lists.
const APPENDS_MAX: u64 = 600;
/// An element as text: twelve hexadecimal digits and a comma.
const ELEMENT_SIZE_BYTES: usize = 13;

fn name(key: u32) -> String {
    format!("list:{key}")
}

/// Runs transactions of one to three steps until the load ends.
pub fn run(shared: &Shared, home: usize) -> History {
    let mut history = History::default();
    let mut dice = shared.dice(4, home);
    let client_number = shared.next_client();
    let mut client = Client::with_session(shared, home);
    let mut appended = 0;
    while client.connect(None) && !shared.stopped() {
        let generation = shared.appends.load(Ordering::Relaxed) / APPENDS_MAX;
        let mut steps = Vec::new();
        for _ in 0..=dice.below(3) {
            let key = (generation * LISTS + dice.below(LISTS)) as u32;
            if dice.below(4) > 0 {
                appended += 1;
                steps.push(Step::Append { key, element: u64::from(client_number) << 32 | appended });
                shared.appends.fetch_add(1, Ordering::Relaxed);
            } else {
                steps.push(Step::Read { key });
            }
        }
        history.lists.extend(execute(shared, &mut client, client_number, Transaction(steps)));
        dice.think();
    }
    history
}

/// Executes a transaction. `None`: it only reads, and was not answered.
fn execute(shared: &Shared, client: &mut Client<'_>, client_number: u32, operation: Transaction) -> Option<ListCall> {
    let commands: Vec<Vec<String>> = operation
        .0
        .iter()
        .map(|step| match step {
            Step::Append { key, element } => vec!["APPEND".to_owned(), name(*key), format!("{element:012x},")],
            Step::Read { key } => vec!["GET".to_owned(), name(*key)],
        })
        .collect();
    let invoked_at = shared.clock.now_ns();
    let answer = client.transaction(&commands);
    let writes = operation.0.iter().any(|step| matches!(step, Step::Append { .. }));
    let understand = |reply: &Reply| answers(&operation, reply);
    let outcome = match writes {
        true => client.write_outcome(answer, understand),
        false => client.read_outcome(answer, understand)?,
    };
    Some(Call { client: client_number, invoked_at, operation, outcome })
}

fn answers(transaction: &Transaction, reply: &Reply) -> Option<Answers> {
    let items = items(reply)?;
    let told = transaction.0.iter().zip(items).map(|(step, item)| match (step, item) {
        (Step::Append { .. }, Reply::Integer(length)) => {
            let length = usize::try_from(*length).ok().filter(|length| length % ELEMENT_SIZE_BYTES == 0)?;
            Some(Told::Length((length / ELEMENT_SIZE_BYTES) as u64))
        }
        (Step::Read { .. }, Reply::Null) => Some(Told::List(Vec::new())),
        (Step::Read { .. }, Reply::Bulk(text)) => Some(Told::List(elements(text)?)),
        _ => None,
    });
    let told: Vec<Told> = told.collect::<Option<_>>()?;
    (told.len() == transaction.0.len()).then_some(Answers(told))
}

/// The elements of a list; `None` if one of them is torn.
fn elements(text: &[u8]) -> Option<Vec<u64>> {
    let element = |chunk: &[u8]| {
        let digits = chunk.strip_suffix(b",").filter(|_| chunk.len() == ELEMENT_SIZE_BYTES)?;
        u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    };
    text.chunks(ELEMENT_SIZE_BYTES).map(element).collect()
}

/// Reads every list in the end, three in one transaction.
pub fn read_all(shared: &Shared, history: &History) -> History {
    let client_number = shared.next_client();
    let steps = history.lists.iter().flat_map(|call| &call.operation.0);
    let keys: BTreeSet<u32> = steps
        .map(|step| match step {
            Step::Append { key, .. } | Step::Read { key } => *key,
        })
        .collect();
    let keys: Vec<u32> = keys.into_iter().collect();
    let calls = keys.chunks(LISTS as usize).map_while(|keys| {
        let all = Transaction(keys.iter().map(|key| Step::Read { key: *key }).collect());
        insist(shared, "a list", |client| execute(shared, client, client_number, all.clone()))
    });
    History { lists: calls.collect(), ..History::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_read_as_they_were_written_and_torn_ones_are_not() {
        let text: String = [1_u64, 0xfff_ffff_ffff].iter().map(|element| format!("{element:012x},")).collect();
        assert_eq!(elements(text.as_bytes()), Some(vec![1, 0xfff_ffff_ffff]));
        assert_eq!(elements(&text.as_bytes()[..20]), None);
        assert_eq!(elements(b""), Some(Vec::new()));
    }

    #[test]
    fn a_reply_fits_its_steps_or_is_none() {
        let transaction = Transaction(vec![Step::Append { key: 0, element: 7 }, Step::Read { key: 0 }]);
        let text = Reply::Bulk(b"000000000007,".as_slice().into());
        let fits = Reply::Array(vec![Reply::Integer(13), text.clone()]);
        assert_eq!(answers(&transaction, &fits), Some(Answers(vec![Told::Length(1), Told::List(vec![7])])));
        assert_eq!(answers(&transaction, &Reply::Array(vec![Reply::Integer(12), text])), None);
        assert_eq!(answers(&transaction, &Reply::Array(vec![Reply::Integer(13)])), None);
        assert_eq!(answers(&transaction, &Reply::Null), None);
    }
}
