//! Everything that clients saw in one run, by workload, and the judgement of all of it.

use crate::bank::{self, BankCall};
use crate::bounded::{self, BoundedCall};
use crate::call::{Call, Outcome};
use crate::counter::{self, CounterCall};
use crate::finding::Summary;
use crate::list_append::{self, ListCall};
use crate::register::{self, RegisterCall};
use crate::session::{self, SessionCall};
use crate::snapshot_order::{self, Snapshot};
use crate::unique_set::{self, SetCall};

/// What clients saw. The order of the calls does not matter.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// Registers with unique values; all reads are linearizable ones.
    pub registers: Vec<RegisterCall>,
    /// Counters.
    pub counters: Vec<CounterCall>,
    /// The set of unique members.
    pub set: Vec<SetCall>,
    /// Lists, and transactions over them.
    pub lists: Vec<ListCall>,
    /// The bank.
    pub bank: Vec<BankCall>,
    /// Accounts of the bank.
    pub bank_accounts: usize,
    /// What each account held in the beginning.
    pub bank_initial: i64,
    /// Sessions.
    pub sessions: Vec<SessionCall>,
    /// Reads with a bound on their age.
    pub bounded: Vec<BoundedCall>,
    /// Snapshots of several nodes, beyond the bank's.
    pub snapshots: Vec<Snapshot>,
}

impl History {
    /// Judges everything.
    #[must_use]
    pub fn judge(&self) -> Summary {
        let mut summary = Summary::default();
        count(&self.registers, &mut summary);
        count(&self.counters, &mut summary);
        count(&self.set, &mut summary);
        count(&self.lists, &mut summary);
        count(&self.bank, &mut summary);
        count(&self.sessions, &mut summary);
        count(&self.bounded, &mut summary);
        summary.add(register::check(&self.registers));
        summary.add(counter::check(&self.counters));
        summary.add(unique_set::check(&self.set));
        summary.add(list_append::check(&self.lists));
        summary.add(bank::check(&self.bank, self.bank_accounts, self.bank_initial));
        summary.add(session::check(&self.sessions));
        summary.add(bounded::check(&self.bounded));
        summary.add(snapshot_order::check(&self.snapshots));
        summary
    }

    /// Takes the calls of another history of the same run in.
    pub fn merge(&mut self, other: Self) {
        self.registers.extend(other.registers);
        self.counters.extend(other.counters);
        self.set.extend(other.set);
        self.lists.extend(other.lists);
        self.bank.extend(other.bank);
        self.bank_accounts = self.bank_accounts.max(other.bank_accounts);
        self.bank_initial = self.bank_initial.max(other.bank_initial);
        self.sessions.extend(other.sessions);
        self.bounded.extend(other.bounded);
        self.snapshots.extend(other.snapshots);
    }
}

fn count<O, S>(calls: &[Call<O, S>], summary: &mut Summary) {
    for call in calls {
        summary.calls += 1;
        match call.outcome {
            Outcome::Returned { .. } => summary.acknowledged += 1,
            Outcome::Failed => summary.failed += 1,
            Outcome::Unknown => summary.unknown += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Harm;

    #[test]
    fn all_workloads_are_judged_and_counted() {
        let mut history = History { bank_accounts: 2, bank_initial: 10, ..History::default() };
        assert!(history.judge().is_clean());
        let increment = counter::Operation::Increment { key: 0 };
        let returned = Outcome::Returned { at: 2, seen: 2 };
        let call = Call { client: 0, invoked_at: 1, operation: increment, outcome: returned };
        let other = History { counters: vec![call], ..History::default() };
        history.merge(other);
        let summary = history.judge();
        assert_eq!((summary.calls, summary.acknowledged, summary.duplicated), (1, 1, 1));
        assert_eq!(summary.findings[0].harm, Harm::Duplicated);
    }
}
