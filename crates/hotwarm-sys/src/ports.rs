//! Ports for servers on this machine that come and go.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::net::{Ipv4Addr, TcpListener};

/// Below it other programs have their usual places.
const LOWEST: u16 = 10_240;
/// Which ports Linux takes for outgoing connections, if it does not say.
const EPHEMERAL_DEFAULT: (u16, u16) = (32_768, 60_999);
/// Where fewer are left beside those, several processes that draw at once would meet too often.
const ROOM_MIN: usize = 1_000;
/// Draws for each port before giving up.
const DRAWS_MAX: usize = 1_000;

/// `count` different TCP ports that nobody listens on at 127.0.0.1. They are drawn from those that the system does not give to
/// outgoing connections: so a server that is down for a moment finds its port free when it comes back. On a system that gives
/// nearly all of them, it chooses itself, and that is left to luck.
///
/// # Errors
/// So many are not to be had.
pub fn free_loopback_ports(count: usize) -> io::Result<Vec<u16>> {
    draw(count, &beside(ephemeral()))
}

/// As [`free_loopback_ports`], out of `ports`, or as the system chooses where there are none.
fn draw(count: usize, ports: &[u16]) -> io::Result<Vec<u16>> {
    // All are held until the last is known, so they differ.
    let mut held = Vec::new();
    for _ in 0..count {
        let listener = (0..DRAWS_MAX).find_map(|_| {
            let index = (random() % (ports.len() as u64).max(1)) as usize;
            let port = ports.get(index).copied().unwrap_or(0);
            TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok()
        });
        held.push(listener.ok_or(io::ErrorKind::AddrInUse)?);
    }
    held.iter().map(|listener| listener.local_addr().map(|address| address.port())).collect()
}

/// The ports below and above those from `first` to `last`; none where that is too little room.
fn beside((first, last): (u16, u16)) -> Vec<u16> {
    let ports: Vec<u16> = (LOWEST..=u16::MAX).filter(|port| !(first..=last).contains(port)).collect();
    if ports.len() < ROOM_MIN { Vec::new() } else { ports }
}

/// The first and the last port that the system takes for outgoing connections.
fn ephemeral() -> (u16, u16) {
    let parse = |text: String| {
        let mut bounds = text.split_whitespace().map(str::parse);
        Some((bounds.next()?.ok()?, bounds.next()?.ok()?))
    };
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok();
    range.and_then(parse).unwrap_or(EPHEMERAL_DEFAULT)
}

/// Another number in every process and at every call; the standard library seeds it.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn ports_differ_and_are_not_those_of_outgoing_connections() {
        let ports = draw(20, &beside(EPHEMERAL_DEFAULT)).unwrap();
        assert_eq!(ports.iter().collect::<BTreeSet<_>>().len(), 20);
        let (first, last) = EPHEMERAL_DEFAULT;
        assert!(ports.iter().all(|port| (LOWEST..first).contains(port) || *port > last), "{ports:?}");
        assert_ne!(ports, free_loopback_ports(20).unwrap());
    }

    #[test]
    fn ports_are_found_wherever_those_of_outgoing_connections_begin() {
        assert_eq!(beside((1_024, 60_999)), (61_000..=u16::MAX).collect::<Vec<_>>());
        assert_eq!(beside((20_000, u16::MAX)), (LOWEST..20_000).collect::<Vec<_>>());
        for range in [(1_024, u16::MAX), (LOWEST + 1, u16::MAX), (1_024, 65_000)] {
            assert_eq!(beside(range), [0; 0], "{range:?}: too few for several at once");
        }
        let ports = draw(20, &[]).unwrap();
        assert_eq!(ports.iter().filter(|port| **port > 0).collect::<BTreeSet<_>>().len(), 20);
    }
}
