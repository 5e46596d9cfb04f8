//! What a broken group would do to a good history, and how often the judges see it.
//!
//! Each mutation is one that no correct group can show, so every single one must be found: lists are read at the end by
//! a client that began after all others. The rates are stated where a mutation can hide.

mod support;

use hotwarm_history::bank::{self, BankCall, Seen};
use hotwarm_history::list_append::{self, Answer, Answers, ListCall, Step, Transaction};
use hotwarm_history::{Call, Harm, Outcome};
use std::collections::BTreeMap;
use support::{Rng, generate};

const ROUNDS: u64 = 500;

/// Transactions over three lists, and at the end one that reads all of them.
fn lists(rng: &mut Rng, count: usize) -> Vec<ListCall> {
    let mut element = 0;
    let mut state: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
    let draw = move |rng: &mut Rng| {
        let mut steps = Vec::new();
        for _ in 0..=rng.below(3) {
            let key = rng.below(3) as u32;
            element += 1;
            steps.push(if rng.percent(50) { Step::Append { key, element } } else { Step::Read { key } });
        }
        Transaction(steps)
    };
    let mut effect = |transaction: &Transaction| {
        let answers = transaction.0.iter().map(|step| match *step {
            Step::Append { key, element } => {
                let list = state.entry(key).or_default();
                list.push(element);
                Answer::Length(list.len() as u64)
            }
            Step::Read { key } => Answer::List(state.get(&key).cloned().unwrap_or_default()),
        });
        Answers(answers.collect())
    };
    let mut calls = generate(rng, 4, count, 5, draw, &mut effect);
    let last = calls.iter().filter(|call| call.is_acknowledged()).map(Call::ended_at).max().unwrap_or(0) + 1_000;
    let all = Transaction((0..3).map(|key| Step::Read { key }).collect());
    let seen = effect(&all);
    calls.push(Call {
        client: 99,
        invoked_at: last,
        operation: all,
        outcome: Outcome::Returned { at: last + 1, seen },
    });
    calls
}

/// Applies `change` to every list that was read.
fn change_lists(calls: &mut [ListCall], mut change: impl FnMut(usize, u32, &mut Vec<u64>)) {
    for (index, call) in calls.iter_mut().enumerate() {
        let Outcome::Returned { seen, .. } = &mut call.outcome else { continue };
        for (step, answer) in call.operation.0.iter().zip(&mut seen.0) {
            if let (Step::Read { key }, Answer::List(list)) = (step, answer) {
                change(index, *key, list);
            }
        }
    }
}

/// An acknowledged append that some list holds: key and element.
fn acknowledged_append(rng: &mut Rng, calls: &[ListCall]) -> Option<(u32, u64)> {
    let appends: Vec<(u32, u64)> = calls
        .iter()
        .filter(|call| call.is_acknowledged())
        .flat_map(|call| &call.operation.0)
        .filter_map(|step| if let Step::Append { key, element } = step { Some((*key, *element)) } else { None })
        .collect();
    if appends.is_empty() { None } else { Some(appends[rng.below(appends.len() as u64) as usize]) }
}

/// How many of the mutated histories are found bad, with the harm that is wanted among the findings.
fn found(wanted: &[Harm], mutate: impl Fn(&mut Rng, &mut Vec<ListCall>) -> bool) -> (u64, u64) {
    let (mut made, mut seen) = (0, 0);
    for seed in 0..ROUNDS {
        let mut rng = Rng::new(seed);
        let mut calls = lists(&mut rng, 40);
        assert_eq!(list_append::check(&calls), [], "seed {seed}: a good history is refused");
        if mutate(&mut rng, &mut calls) {
            made += 1;
            seen += u64::from(list_append::check(&calls).iter().any(|finding| wanted.contains(&finding.harm)));
        }
    }
    (made, seen)
}

#[test]
fn a_lost_append_is_always_found() {
    let (made, seen) = found(&[Harm::Lost], |rng, calls| {
        let Some((lost_key, lost)) = acknowledged_append(rng, calls) else { return false };
        change_lists(calls, |_, key, list| list.retain(|element| key != lost_key || *element != lost));
        true
    });
    assert!(made > ROUNDS * 9 / 10 && seen == made, "{seen} of {made}");
}

#[test]
fn a_doubled_append_is_always_found() {
    let (made, seen) = found(&[Harm::Duplicated], |rng, calls| {
        let Some((doubled_key, doubled)) = acknowledged_append(rng, calls) else { return false };
        change_lists(calls, |_, key, list| {
            if key == doubled_key && list.contains(&doubled) {
                list.push(doubled);
            }
        });
        true
    });
    assert!(made > ROUNDS * 9 / 10 && seen == made, "{seen} of {made}");
}

#[test]
fn a_last_read_that_goes_back_is_always_found() {
    let wanted = [Harm::Lost, Harm::Stale, Harm::Disordered];
    let (made, seen) = found(&wanted, |rng, calls| {
        let last = calls.len() - 1;
        let back = 1 + rng.below(3) as usize;
        let mut shortened = false;
        change_lists(calls, |index, key, list| {
            if index == last && key == 0 && list.len() > back {
                list.truncate(list.len() - back);
                shortened = true;
            }
        });
        shortened
    });
    assert!(made > ROUNDS * 8 / 10, "{made}");
    // The elements that the read lacks may be those of unknown calls, which nobody else need have seen.
    assert!(seen * 100 >= made * 95, "{seen} of {made}");
}

#[test]
fn half_applied_transactions_are_found() {
    let wanted = [Harm::Lost, Harm::Stale, Harm::Disordered];
    let (made, seen) = found(&wanted, |rng, calls| {
        // One read of a transaction that reads two lists answers from an older state.
        let candidates: Vec<usize> = (0..calls.len() - 1)
            .filter(|index| calls[*index].is_acknowledged())
            .filter(|index| {
                calls[*index].operation.0.iter().filter(|step| matches!(step, Step::Read { .. })).count() > 1
            })
            .collect();
        if candidates.is_empty() {
            return false;
        }
        let chosen = candidates[rng.below(candidates.len() as u64) as usize];
        let mut done = false;
        change_lists(calls, |index, _, list| {
            if index == chosen && !done && list.len() > 4 {
                list.truncate(list.len() - 4);
                done = true;
            }
        });
        done
    });
    // What overlaps may hide it: with four clients, four elements back, few can.
    assert!(made > ROUNDS / 2 && seen * 100 >= made * 90, "{seen} of {made}");
}

/// Five tellers over four accounts, and audits.
fn bank(rng: &mut Rng) -> Vec<BankCall> {
    let mut balances = vec![100_i64; 4];
    let mut done = vec![0_u64; 5];
    let mut calls: Vec<BankCall> = Vec::new();
    let mut now = 0;
    for _ in 0..60 {
        now += 2 + rng.below(5);
        let at = now + 1;
        let teller = rng.below(5) as usize;
        let from = rng.below(4) as usize;
        let (to, amount) = ((from + 1 + rng.below(3) as usize) % 4, 1 + rng.below(9) as i64);
        done[teller] += 1;
        balances[from] -= amount;
        balances[to] += amount;
        let operation = bank::Operation::Transfer { number: done[teller], from, to, amount };
        let outcome = Outcome::Returned { at, seen: Seen::Moved };
        calls.push(Call { client: teller as u32, invoked_at: now, operation, outcome });
        if rng.percent(30) {
            now += 2;
            let seen = Seen::Accounts { balances: balances.clone(), done: done.clone() };
            let operation = bank::Operation::Audit { node: rng.below(3) as u32, stale_allowed: rng.percent(50) };
            let outcome = Outcome::Returned { at: now + 1, seen };
            calls.push(Call { client: 50, invoked_at: now, operation, outcome });
        }
        now = now.max(at);
    }
    calls
}

#[test]
fn an_audit_that_is_torn_or_misses_a_transfer_is_always_found() {
    for seed in 0..ROUNDS {
        let mut rng = Rng::new(seed);
        let calls = bank(&mut rng);
        assert_eq!(bank::check(&calls, 4, 100), [], "seed {seed}: a good history is refused");
        let audits: Vec<usize> =
            (0..calls.len()).filter(|index| matches!(calls[*index].operation, bank::Operation::Audit { .. })).collect();
        let Some(chosen) = audits.get(rng.below(audits.len().max(1) as u64) as usize) else { continue };
        for kind in 0..2 {
            let mut spoilt = calls.clone();
            let Outcome::Returned { seen: Seen::Accounts { balances, done }, .. } = &mut spoilt[*chosen].outcome else {
                panic!("an audit")
            };
            match kind {
                0 => balances[rng.below(4) as usize] += 1,
                _ => done[rng.below(5) as usize] += 1,
            }
            assert_ne!(bank::check(&spoilt, 4, 100), [], "seed {seed}, kind {kind}");
        }
    }
}
