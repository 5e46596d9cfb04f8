//! Ports for servers on this machine that come and go.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::net::{Ipv4Addr, TcpListener};

/// Below it other programs have their usual places.
const LOWEST: u16 = 10_240;
/// Where Linux begins to take ports for outgoing connections, if it does not say.
const EPHEMERAL_DEFAULT: u16 = 32_768;
/// Draws for each port before giving up.
const DRAWS_MAX: usize = 1_000;

/// `count` different TCP ports that nobody listens on at 127.0.0.1. They are drawn from those that the system does not give to
/// outgoing connections: so a server that is down for a moment finds its port free when it comes back.
///
/// # Errors
/// So many are not to be had.
pub fn free_loopback_ports(count: usize) -> io::Result<Vec<u16>> {
    let until = first_ephemeral().max(LOWEST + 1);
    // All are held until the last is known, so they differ.
    let mut held = Vec::new();
    let mut ports = Vec::new();
    for _ in 0..count {
        let drawn = (0..DRAWS_MAX).find_map(|_| {
            let port = LOWEST + (random() % u64::from(until - LOWEST)) as u16;
            TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok().map(|listener| (listener, port))
        });
        let (listener, port) = drawn.ok_or(io::ErrorKind::AddrInUse)?;
        held.push(listener);
        ports.push(port);
    }
    Ok(ports)
}

fn first_ephemeral() -> u16 {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok();
    let first = range.and_then(|range| range.split_whitespace().next()?.parse().ok());
    first.unwrap_or(EPHEMERAL_DEFAULT)
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
        let ports = free_loopback_ports(20).unwrap();
        assert_eq!(ports.iter().collect::<BTreeSet<_>>().len(), 20);
        assert!(ports.iter().all(|port| (LOWEST..first_ephemeral().max(LOWEST + 1)).contains(port)), "{ports:?}");
        assert_ne!(ports, free_loopback_ports(20).unwrap());
    }
}
