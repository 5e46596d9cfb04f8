//! Transfers between accounts: money is neither made nor lost, and every audit is explained.
//!
//! A teller numbers its transfers from 1 and leaves the number of the last one beside the accounts, in the same
//! transaction; a teller that does not know what became of a transfer makes no more. So an audit, which reads all
//! accounts and all numbers at once, says exactly which transfers it has seen: its balances must be theirs, to the unit.
//! It has all that were acknowledged before it began and none that began after it ended, and of two audits one has all
//! that the other has (C20).

use crate::call::{Call, Outcome, seconds};
use crate::finding::{Finding, Harm};
use crate::snapshot_order::{self, Snapshot};
use core::fmt;
use std::collections::{BTreeMap, BTreeSet};

/// What may be asked of the bank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Moves money between accounts.
    Transfer {
        /// The number that the teller, who is the client of the call, gives it: 1, 2, 3 ...
        number: u64,
        /// The account that pays.
        from: usize,
        /// The account that is paid.
        to: usize,
        /// How much.
        amount: i64,
    },
    /// Reads all balances and the number of each teller's last transfer, at once.
    Audit {
        /// Which node is asked.
        node: u32,
        /// Whether the answer may be old: then it may lack what was acknowledged before.
        stale_allowed: bool,
    },
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Transfer { number, from, to, amount } => {
                write!(f, "moves {amount} from account {from} to {to} (its transfer {number})")
            }
            Self::Audit { node, .. } => write!(f, "audits on node {node}"),
        }
    }
}

/// What an answer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// The money is moved.
    Moved,
    /// An audit.
    Accounts {
        /// The balance of each account.
        balances: Vec<i64>,
        /// For each teller, by its number as a client, its last transfer; one past the end has made none.
        done: Vec<u64>,
    },
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Moved => f.write_str("moved"),
            Self::Accounts { balances, done } => write!(f, "balances {balances:?} after transfers {done:?}"),
        }
    }
}

/// A call to the bank.
pub type BankCall = Call<Operation, Seen>;

/// One transfer of a teller.
struct Transfer {
    invoked_at: u64,
    ended_at: u64,
    failed: bool,
    /// Balances that this teller's transfers, up to this one, add to the accounts.
    sums: Vec<i64>,
}

/// An audit that was answered.
struct Audit<'a> {
    call: &'a BankCall,
    node: u32,
    stale_allowed: bool,
    balances: &'a [i64],
    done: &'a [u64],
}

/// Judges a whole history of `accounts` accounts that began with `initial` each.
#[must_use]
pub fn check(calls: &[BankCall], accounts: usize, initial: i64) -> Vec<Finding> {
    let mut findings = Vec::new();
    let tellers = tellers(calls, accounts, &mut findings);
    let audits: Vec<Audit<'_>> = calls.iter().filter_map(audit).collect();
    // The most that any audit has seen of each teller: what is missing from one and not from this was only missed.
    let mut most: BTreeMap<u32, u64> = BTreeMap::new();
    for audit in &audits {
        for (teller, done) in (0..).zip(audit.done) {
            let most = most.entry(teller).or_default();
            *most = (*most).max(*done);
        }
    }
    // What is off stays off: it is reported once for each way in which balances are.
    let mut off: BTreeSet<Vec<i64>> = BTreeSet::new();
    for audit in &audits {
        findings.extend(judge_content(audit, &tellers, vec![initial; accounts], &mut off));
        judge_time(audit, &tellers, &most, &mut findings);
    }
    findings.extend(judge_end(&tellers, &most, &audits));
    let snapshots: Vec<Snapshot> = audits.iter().map(Audit::snapshot).collect();
    findings.extend(snapshot_order::check(&snapshots));
    findings
}

impl Audit<'_> {
    fn snapshot(&self) -> Snapshot {
        Snapshot {
            client: self.call.client,
            node: self.node,
            invoked_at: self.call.invoked_at,
            ended_at: self.call.ended_at(),
            versions: self.done.to_vec(),
        }
    }

    fn done(&self, teller: u32) -> u64 {
        self.done.get(teller as usize).copied().unwrap_or(0)
    }
}

fn audit(call: &BankCall) -> Option<Audit<'_>> {
    let (Operation::Audit { node, stale_allowed }, Some(Seen::Accounts { balances, done })) =
        (call.operation, call.seen())
    else {
        return None;
    };
    Some(Audit { call, node, stale_allowed, balances, done })
}

/// The transfers of each teller, in the order of their numbers.
fn tellers(calls: &[BankCall], accounts: usize, findings: &mut Vec<Finding>) -> BTreeMap<u32, Vec<Transfer>> {
    let mut numbered: BTreeMap<(u32, u64), &BankCall> = BTreeMap::new();
    for call in calls {
        let Operation::Transfer { number, .. } = call.operation else { continue };
        if numbered.insert((call.client, number), call).is_some() {
            findings.push(Finding::new("C10", Harm::Disordered, format!("{call}: the number was used before")));
        }
    }
    let mut tellers: BTreeMap<u32, Vec<Transfer>> = BTreeMap::new();
    for ((teller, expected), call) in numbered {
        let Operation::Transfer { from, to, amount, .. } = call.operation else { continue };
        let transfers = tellers.entry(teller).or_default();
        if expected != transfers.len() as u64 + 1 || from >= accounts || to >= accounts {
            findings.push(Finding::new("C10", Harm::Disordered, format!("{call}: out of number, or no such account")));
            continue;
        }
        let mut sums = transfers.last().map_or_else(|| vec![0; accounts], |last| last.sums.clone());
        let failed = matches!(call.outcome, Outcome::Failed);
        if !failed {
            sums[from] -= amount;
            sums[to] += amount;
        }
        transfers.push(Transfer { invoked_at: call.invoked_at, ended_at: call.ended_at(), failed, sums });
    }
    tellers
}

/// The balances are those of the transfers that the audit says it has seen.
fn judge_content(
    audit: &Audit<'_>,
    tellers: &BTreeMap<u32, Vec<Transfer>>,
    mut expected: Vec<i64>,
    off: &mut BTreeSet<Vec<i64>>,
) -> Option<Finding> {
    for (teller, done) in (0..).zip(audit.done).filter(|(_, done)| **done > 0) {
        let transfer = tellers.get(&teller).and_then(|transfers| transfers.get(*done as usize - 1));
        let Some(transfer) = transfer else {
            let what = format!("{}: teller {teller} has made no transfer {done}", audit.call);
            return Some(Finding::new("C17", Harm::Invented, what));
        };
        if transfer.failed {
            let what = format!("{}: transfer {done} of teller {teller} had been refused", audit.call);
            return Some(Finding::new("C9", Harm::Revived, what));
        }
        expected.iter_mut().zip(&transfer.sums).for_each(|(balance, sum)| *balance += sum);
    }
    let difference: Vec<i64> = audit.balances.iter().zip(&expected).map(|(seen, right)| seen - right).collect();
    let is_whole = audit.balances.len() == expected.len();
    if is_whole && (difference.iter().all(|off| *off == 0) || !off.insert(difference)) {
        return None;
    }
    let (total, right) = (audit.balances.iter().sum::<i64>(), expected.iter().sum::<i64>());
    let money = match total - right {
        0 => "the total is right".to_owned(),
        more if more > 0 => format!("{more} were made from nothing"),
        less => format!("{} are lost", -less),
    };
    let what = format!("{}: these transfers make {expected:?}; {money}", audit.call);
    Some(Finding::new("C20", Harm::Disordered, what))
}

/// The audit has what was acknowledged before it, unless it may be old, and nothing from after it.
fn judge_time(
    audit: &Audit<'_>,
    tellers: &BTreeMap<u32, Vec<Transfer>>,
    most: &BTreeMap<u32, u64>,
    findings: &mut Vec<Finding>,
) {
    for (teller, transfers) in tellers {
        let done = audit.done(*teller);
        // Transfers of a teller follow each other, so those that had begun are the first ones; only the last is not ended.
        let begun = transfers.partition_point(|transfer| transfer.invoked_at <= audit.call.ended_at());
        let begun_before = transfers.partition_point(|transfer| transfer.invoked_at < audit.call.invoked_at);
        let acknowledged =
            transfers[..begun_before].iter().rposition(|transfer| transfer.ended_at < audit.call.invoked_at);
        let least = acknowledged.map_or(0, |index| index as u64 + 1);
        if !audit.stale_allowed && done < least && least <= most.get(teller).copied().unwrap_or(0) {
            let what = format!(
                "{}: transfer {least} of teller {teller} had been acknowledged at {}",
                audit.call,
                seconds(transfers[least as usize - 1].ended_at)
            );
            findings.push(Finding::new("C18", Harm::Stale, what));
        }
        // One that was never made at all is a matter of the content.
        if done > begun as u64 && done <= transfers.len() as u64 {
            let what = format!("{}: transfer {done} of teller {teller} had not begun", audit.call);
            findings.push(Finding::new("C17", Harm::Invented, what));
        }
    }
}

/// What no audit has seen, though one came after it, is lost.
fn judge_end(tellers: &BTreeMap<u32, Vec<Transfer>>, most: &BTreeMap<u32, u64>, audits: &[Audit<'_>]) -> Vec<Finding> {
    let fresh = audits.iter().filter(|audit| !audit.stale_allowed);
    let Some(last) = fresh.max_by_key(|audit| audit.call.invoked_at) else { return Vec::new() };
    let mut findings = Vec::new();
    for (teller, transfers) in tellers {
        let seen = most.get(teller).copied().unwrap_or(0);
        let missing = (1..).zip(transfers).filter(|(number, transfer)| {
            *number > seen && !transfer.failed && transfer.ended_at < last.call.invoked_at
        });
        let count = missing.count() as u64;
        if count > 0 {
            let what = format!("{}: {count} acknowledged transfers of teller {teller} after {seen}", last.call);
            findings.push(Finding::new("C12", Harm::Lost, what).times(count));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transfer(client: u32, number: u64, from: u64, outcome: Outcome<Seen>) -> BankCall {
        let operation = Operation::Transfer { number, from: 0, to: 1, amount: 5 };
        Call { client, invoked_at: from, operation, outcome }
    }

    fn moved(at: u64) -> Outcome<Seen> {
        Outcome::Returned { at, seen: Seen::Moved }
    }

    fn audit(from: u64, balances: &[i64], done: &[u64]) -> BankCall {
        let seen = Seen::Accounts { balances: balances.to_vec(), done: done.to_vec() };
        let operation = Operation::Audit { node: 0, stale_allowed: false };
        Call { client: 9, invoked_at: from, operation, outcome: Outcome::Returned { at: from + 1, seen } }
    }

    fn harms(calls: &[BankCall]) -> Vec<(Harm, u64)> {
        check(calls, 2, 100).into_iter().map(|finding| (finding.harm, finding.count)).collect()
    }

    #[test]
    fn every_audit_is_explained_to_the_unit() {
        let calls = |audit: BankCall| [transfer(0, 1, 1, moved(2)), transfer(1, 1, 1, moved(20)), audit];
        assert_eq!(harms(&calls(audit(5, &[95, 105], &[1]))), []);
        assert_eq!(harms(&calls(audit(5, &[90, 110], &[1, 1]))), []);
        assert_eq!(harms(&calls(audit(5, &[90, 110], &[1]))), [(Harm::Disordered, 1)], "its total is right");
        let torn = check(&calls(audit(5, &[95, 100], &[1])), 2, 100);
        assert!(torn[0].what.ends_with("these transfers make [95, 105]; 5 are lost"), "{}", torn[0]);
        assert_eq!(harms(&calls(audit(5, &[100, 100], &[]))), [(Harm::Lost, 1)]);
        assert_eq!(harms(&calls(audit(5, &[90, 110], &[2]))), [(Harm::Invented, 1)]);
    }

    #[test]
    fn time_is_kept_where_it_was_promised() {
        let first = [transfer(0, 1, 1, moved(2)), transfer(0, 2, 3, moved(4))];
        let late = audit(9, &[90, 110], &[2]);
        let stale = audit(5, &[95, 105], &[1]);
        assert_eq!(harms(&[first[0].clone(), first[1].clone(), stale.clone(), late.clone()]), [(Harm::Stale, 1)]);
        let allowed = Call { operation: Operation::Audit { node: 1, stale_allowed: true }, ..stale };
        assert_eq!(harms(&[first[0].clone(), first[1].clone(), allowed, late]), []);
        assert_eq!(harms(&[audit(1, &[95, 105], &[1]), transfer(0, 1, 5, moved(6))]), [(Harm::Invented, 1)]);
    }

    #[test]
    fn unknown_ones_may_be_there_and_refused_ones_may_not() {
        for done in [0, 1] {
            let audit = audit(5, &[100 - 5 * done, 100 + 5 * done], &[done.unsigned_abs()]);
            assert_eq!(harms(&[transfer(0, 1, 1, Outcome::Unknown), audit]), []);
        }
        let audit = audit(5, &[95, 105], &[1]);
        assert_eq!(harms(&[transfer(0, 1, 1, Outcome::Failed), audit]), [(Harm::Revived, 1)]);
    }
}
