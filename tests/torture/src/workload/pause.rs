//! What the calls tell of time: when no write was acknowledged, and how many were.

use hotwarm_history::{Call, History, bank, counter, list_append, register, session, unique_set};

/// A time shorter than this is no pause: a takeover that is hardly seen.
const PAUSE_MIN_NS: u64 = 100_000_000;

/// A time in which a workload had no write acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pause {
    /// Which workload.
    pub workload: &'static str,
    /// The last acknowledgement before it, nanoseconds since the run began.
    pub from_ns: u64,
    /// The first one after it.
    pub until_ns: u64,
}

/// When each workload's writes were acknowledged, ascending.
fn acknowledged(history: &History) -> [(&'static str, Vec<u64>); 6] {
    let is_append = |step: &list_append::Step| matches!(step, list_append::Step::Append { .. });
    [
        ("counters", ends(&history.counters, |operation| matches!(operation, counter::Operation::Increment { .. }))),
        ("registers", ends(&history.registers, |operation| matches!(operation, register::Operation::Write { .. }))),
        ("set", ends(&history.set, |operation| matches!(operation, unique_set::Operation::Add { .. }))),
        ("lists", ends(&history.lists, |operation| operation.0.iter().any(is_append))),
        ("bank", ends(&history.bank, |operation| matches!(operation, bank::Operation::Transfer { .. }))),
        ("sessions", ends(&history.sessions, |operation| matches!(operation, session::Operation::Write { .. }))),
    ]
}

fn ends<O, S>(calls: &[Call<O, S>], is_write: impl Fn(&O) -> bool) -> Vec<u64> {
    let writes = calls.iter().filter(|call| call.is_acknowledged() && is_write(&call.operation));
    let mut ends: Vec<u64> = writes.map(Call::ended_at).collect();
    ends.sort_unstable();
    ends
}

/// All pauses, in the order of their beginnings.
pub fn pauses(history: &History) -> Vec<Pause> {
    let mut pauses: Vec<Pause> = acknowledged(history)
        .into_iter()
        .flat_map(|(workload, ends)| {
            let gaps: Vec<Pause> = ends
                .windows(2)
                .filter(|pair| pair[1] - pair[0] >= PAUSE_MIN_NS)
                .map(|pair| Pause { workload, from_ns: pair[0], until_ns: pair[1] })
                .collect();
            gaps
        })
        .collect();
    pauses.sort_by_key(|pause| pause.from_ns);
    pauses
}

/// Writes acknowledged in each second of the run.
pub fn acknowledged_per_second(history: &History) -> Vec<u64> {
    let mut seconds = Vec::new();
    for end in acknowledged(history).into_iter().flat_map(|(_, ends)| ends) {
        let second = (end / 1_000_000_000) as usize;
        if seconds.len() <= second {
            seconds.resize(second + 1, 0);
        }
        seconds[second] += 1;
    }
    seconds
}

#[cfg(test)]
mod tests {
    use super::*;
    use hotwarm_history::Outcome;

    #[test]
    fn a_pause_lies_between_two_acknowledged_writes_of_one_workload() {
        let write = |at: u64, outcome| Call {
            client: 0,
            invoked_at: at,
            operation: counter::Operation::Increment { key: 0 },
            outcome,
        };
        let ms = 1_000_000;
        let returned = |at: u64| write(at * ms - 1, Outcome::Returned { at: at * ms, seen: 1 });
        let read = Call { operation: counter::Operation::Read { key: 0 }, ..returned(500) };
        let counters = vec![returned(1_500), returned(10), write(400 * ms, Outcome::Failed), returned(50), read];
        let history = History { counters, ..History::default() };
        let expected = Pause { workload: "counters", from_ns: 50 * ms, until_ns: 1_500 * ms };
        assert_eq!(pauses(&history), [expected]);
        assert_eq!(acknowledged_per_second(&history), [2, 1]);
    }
}
