//! The wires between the nodes: proxies before their peer ports, which carry every byte, or none.
//!
//! A cut is that of a pulled cable: nothing ends, nothing is refused, nothing arrives. What was under way arrives when
//! the cable is back, as TCP's repetitions would bring it.

use super::children;
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::thread;

/// The system's table of sockets is no snapshot: a look may miss a row while others come and go.
const LOOKS: usize = 5;

/// All wires of a group. Its threads end with the connections that they carry, the listening ones with the test.
#[derive(Default)]
pub struct Network {
    /// The guardian of each node that runs, by which it is known who has dialled.
    guardians: Mutex<BTreeMap<usize, u32>>,
    /// The node that is cut off from all others.
    cut_off: Mutex<Option<usize>>,
    healed: Condvar,
    wires: Mutex<Vec<Weak<Wire>>>,
}

/// One connection between two nodes.
struct Wire {
    /// The node that was dialled.
    target: usize,
    /// The end of the one that has dialled, and ours.
    ends: [SocketAddr; 2],
    /// Who that is, once somebody had to know; nobody, if it had gone by then.
    dialler: OnceLock<Option<usize>>,
}

impl Network {
    /// With no node cut off.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Opens a way to a node, and gives the address where it begins.
    pub fn lead_to(self: &Arc<Self>, target: usize, listens: SocketAddr) -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let network = Arc::clone(self);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (network, stream) = (Arc::clone(&network), stream.unwrap());
                thread::spawn(move || network.carry(stream, target, listens));
            }
        });
        address
    }

    /// Learns that a node runs below this guardian.
    pub fn know(&self, node: usize, guardian: u32) {
        lock(&self.guardians).insert(node, guardian);
    }

    /// Pulls the cable of a node; gives how many wires it ends.
    pub fn cut_off(&self, node: usize) -> usize {
        // Nobody must wait for the look at who is who once the cut has begun.
        let wires: Vec<Arc<Wire>> = lock(&self.wires).iter().filter_map(Weak::upgrade).collect();
        let cut = wires.iter().filter(|wire| self.is_cut(wire, node)).count();
        *lock(&self.cut_off) = Some(node);
        cut
    }

    /// Plugs it in again.
    pub fn heal(&self) {
        *lock(&self.cut_off) = None;
        self.healed.notify_all();
    }

    fn carry(self: &Arc<Self>, dialled: TcpStream, target: usize, listens: SocketAddr) {
        // Either end may be gone at any moment, and needs no wire then.
        let (Ok(end), Ok(ours)) = (dialled.peer_addr(), dialled.local_addr()) else { return };
        let wire = Arc::new(Wire { target, ends: [end, ours], dialler: OnceLock::new() });
        let mut wires = lock(&self.wires);
        wires.retain(|wire| wire.strong_count() > 0);
        wires.push(Arc::downgrade(&wire));
        drop(wires);
        self.wait_while_cut(&wire);
        let Ok(reached) = TcpStream::connect(listens) else { return };
        for stream in [&dialled, &reached] {
            stream.set_nodelay(true).unwrap();
        }
        let back = (Arc::clone(self), Arc::clone(&wire), reached.try_clone().unwrap(), dialled.try_clone().unwrap());
        thread::spawn(move || back.0.pump(&back.1, &back.2, &back.3));
        self.pump(&wire, &dialled, &reached);
    }

    /// Carries one direction to its end.
    fn pump(&self, wire: &Wire, mut from: &TcpStream, mut to: &TcpStream) {
        let mut bytes = [0; 16 << 10];
        loop {
            let count = match from.read(&mut bytes) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Ok(0) | Err(_) => break,
                Ok(count) => count,
            };
            self.wait_while_cut(wire);
            if to.write_all(&bytes[..count]).is_err() {
                break;
            }
        }
        self.wait_while_cut(wire);
        drop((to.shutdown(Shutdown::Write), from.shutdown(Shutdown::Read)));
    }

    fn wait_while_cut(&self, wire: &Wire) {
        let mut cut_off = lock(&self.cut_off);
        while let Some(node) = *cut_off {
            // The look takes its time, and nobody else must wait for it.
            drop(cut_off);
            let is_cut = self.is_cut(wire, node);
            cut_off = lock(&self.cut_off);
            if *cut_off == Some(node) {
                if !is_cut {
                    return;
                }
                cut_off = self.healed.wait(cut_off).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    /// Whether a wire ends at that node, or might.
    fn is_cut(&self, wire: &Wire, node: usize) -> bool {
        let dialler = wire.dialler.get_or_init(|| (0..LOOKS).find_map(|_| self.owner(wire.ends)));
        wire.target == node || dialler.is_none_or(|dialler| dialler == node)
    }

    /// The node whose process has the first of these ends of a connection.
    fn owner(&self, ends: [SocketAddr; 2]) -> Option<usize> {
        let inode = inode(ends)?;
        let guardians = lock(&self.guardians).clone();
        let has = |guardian: u32| [guardian].into_iter().chain(children(guardian)).any(|pid| has_socket(pid, inode));
        guardians.into_iter().find(|(_, guardian)| has(*guardian)).map(|(node, _)| node)
    }
}

/// The inode of the socket between these ends on this machine. Both count: connections to other addresses, and those that
/// are over and still remembered, may have the same port at this one.
fn inode(ends: [SocketAddr; 2]) -> Option<u64> {
    let written = ends.map(|end| format!("{:08X}:{:04X}", u32::from_le_bytes([127, 0, 0, 1]), end.port()));
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let mut rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let row = rows.find(|row| row[1..3] == written)?;
    row[9].parse().ok().filter(|inode| *inode != 0)
}

fn has_socket(pid: u32, inode: u64) -> bool {
    let Ok(entries) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    entries.flatten().any(|entry| std::fs::metadata(entry.path()).is_ok_and(|found| found.ino() == inode))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
