//! Which part of all cases a run takes, and how its workers divide them.

use std::thread;

/// One case in so many, and the workers that take them in turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// One case in so many is taken, at least 1; another one with another seed.
    pub one_in: u64,
    /// Draws everything.
    pub seed: u64,
    /// Only this case, if any.
    pub only: Option<u64>,
    /// How many threads work, at least 1.
    pub workers: u64,
}

impl Share {
    /// Whether the worker takes a case: each that the share has is taken by exactly one.
    #[must_use]
    pub fn takes(&self, worker: u64, case: u64) -> bool {
        match self.only {
            Some(only) => case == only && worker == 0,
            None => case % self.one_in == self.seed % self.one_in && case / self.one_in % self.workers == worker,
        }
    }

    /// Lets all workers work, each with its number, and gives what each came to.
    ///
    /// # Panics
    /// If a worker does.
    pub fn work<T: Send>(&self, work: impl Fn(u64) -> T + Sync) -> Vec<T> {
        thread::scope(|scope| {
            let work = &work;
            let workers: Vec<_> = (0..self.workers).map(|worker| scope.spawn(move || work(worker))).collect();
            workers
                .into_iter()
                .map(|worker| worker.join().expect("a worker panics only if the loop is wrong"))
                .collect()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_case_of_a_share_is_taken_once() {
        for (one_in, seed, workers) in [(1, 5, 1), (1, 5, 3), (7, 30, 2)] {
            let share = Share { one_in, seed, only: None, workers };
            let taken = |case| (0..workers).filter(|worker| share.takes(*worker, case)).count();
            let counts: Vec<usize> = (0..70).map(taken).collect();
            assert_eq!(counts.iter().sum::<usize>() as u64, 70 / one_in);
            assert!(counts.iter().all(|count| *count <= 1));
        }
        let share = Share { one_in: 9, seed: 1, only: Some(4), workers: 2 };
        assert!(share.takes(0, 4) && !share.takes(1, 4) && !share.takes(0, 10));
    }
}
