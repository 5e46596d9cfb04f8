//! File descriptors: how many the process may have open, and how many of them clients may take.
//!
//! A node without descriptors can neither open its next log segment nor take a peer's connection, so clients never get
//! the last of them. What is kept back covers what the rest may have open at once: 256 connections that are not known
//! yet, 84 of eight members and their guardians, 80 of the admin API, 64 clients that are being refused, 256 files of a
//! tree and as many of the copy that replaces it, and some dozens of log, records, threads and hooks.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors that clients never get.
const RESERVE: u64 = 1_200;

/// Raises the process' limit of open files as far as the system allows, and returns it; `u64::MAX`: there is none.
#[must_use]
pub fn raise_limit() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    // Not raised: the limit that holds is then the one that clients are bounded by.
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => maximum.unwrap_or(u64::MAX),
        Err(_) => current.unwrap_or(u64::MAX),
    }
}

/// How many connections of clients all fronts together may have open under a limit: all but the reserve, and at least
/// a quarter, so that a low limit still serves somebody.
#[must_use]
pub fn for_clients(limit: u64) -> u32 {
    let count = limit.saturating_sub(RESERVE).max(limit / 4);
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_leave_the_reserve_and_get_a_quarter_of_little() {
        for (limit, clients) in [(20_000, 18_800), (4_096, 2_896), (1_024, 256), (4, 1), (u64::MAX, u32::MAX)] {
            assert_eq!(for_clients(limit), clients, "of {limit}");
        }
    }

    #[test]
    fn the_limit_is_raised_as_far_as_the_system_allows() {
        let limit = raise_limit();
        let now = getrlimit(Resource::Nofile);
        assert_eq!((now.current, limit), (now.maximum, now.maximum.unwrap_or(u64::MAX)));
    }
}
