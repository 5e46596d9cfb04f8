//! The wire: every packet between two machines of the lab passes here, and each directed link can be made bad.
//!
//! Each machine's namespace has a TUN device as its only way out. One thread for each device reads what the machine
//! sends, and writes it to the device of the machine that it is for. A link that is good costs one look at a lock. What
//! a bad one delays waits in a queue by its time of arrival; one more thread delivers it. So delay, jitter, reordering,
//! duplicates, loss, a narrow line and a held line are real packets late, twice, or not at all, to which the kernel's
//! TCP reacts as it would on a real network. The kernels of the lab's machines need no module for it.
//!
//! It does not look into packets beyond the IPv4 destination, and carries nothing else than IPv4.

mod link;
mod queue;

pub use link::Flaws;

use crate::dice::Dice;
use crate::lab::{Machine, Namespace};
use link::{Fate, Link};
use queue::Queue;
use std::io;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;
use tun_rs::{DeviceBuilder, Layer, SyncDevice};

/// Largest packet. Larger than an Ethernet's: fewer packets leave more of the processors to the nodes.
const MTU: u16 = 9000;
/// Name of the device in each namespace.
pub const DEVICE: &str = "wire0";

/// All links.
pub struct Wire {
    shared: Arc<Shared>,
}

struct Shared {
    ends: Vec<End>,
    /// By sender, then by receiver.
    links: Vec<Vec<Mutex<Link>>>,
    late: Queue,
    carried: AtomicU64,
}

/// Where one machine is attached.
struct End {
    address: Ipv4Addr,
    device: SyncDevice,
}

impl Wire {
    /// Attaches all machines, with good links between them.
    ///
    /// # Errors
    /// A device cannot be made: `/dev/net/tun` is missing, or this process may not.
    pub fn attach(machines: &[Machine], dice: &mut Dice) -> Result<Self, String> {
        let ends = machines.iter().map(End::make).collect::<Result<Vec<_>, _>>()?;
        let links = ends.iter().map(|_| ends.iter().map(|_| Mutex::new(Link::good(dice.split()))).collect()).collect();
        let shared = Arc::new(Shared { ends, links, late: Queue::default(), carried: AtomicU64::new(0) });
        // A reader blocks for as long as its device exists: these threads end with the process.
        for from in 0..machines.len() {
            let carrier = Arc::clone(&shared);
            thread::spawn(move || carrier.carry(from));
        }
        let deliverer = Arc::clone(&shared);
        thread::spawn(move || deliverer.deliver_late());
        Ok(Self { shared })
    }

    /// Makes a directed link bad in this way, in place of any way in which it was bad before.
    pub fn spoil(&self, from: usize, to: usize, flaws: Flaws) {
        self.shared.link(from, to).set(flaws);
    }

    /// Makes all links good. What was held on a link is delivered now; what was delayed comes at its time.
    pub fn mend(&self) {
        for from in 0..self.shared.ends.len() {
            for to in 0..self.shared.ends.len() {
                let held = self.shared.link(from, to).mend();
                for packet in held {
                    self.shared.deliver(to, &packet);
                }
            }
        }
    }

    /// Packets that were carried so far.
    pub fn carried(&self) -> u64 {
        self.shared.carried.load(Ordering::Relaxed)
    }
}

impl End {
    fn make(machine: &Machine) -> Result<Self, String> {
        let told = |error: io::Error| {
            format!("{}: the device {DEVICE} cannot be made: {error}; is there /dev/net/tun?", machine.namespace.name())
        };
        let make = || DeviceBuilder::new().name(DEVICE).layer(Layer::L3).mtu(MTU).build_sync();
        let device = machine.namespace.inside(make).and_then(|device| device).map_err(told)?;
        address(&machine.namespace, machine.address)?;
        Ok(Self { address: machine.address, device })
    }
}

fn address(namespace: &Namespace, address: Ipv4Addr) -> Result<(), String> {
    namespace.ip(&["address", "add", &format!("{address}/24"), "dev", DEVICE])?;
    namespace.ip(&["link", "set", DEVICE, "up"])
}

impl Shared {
    fn link(&self, from: usize, to: usize) -> MutexGuard<'_, Link> {
        self.links[from][to].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Carries what one machine sends, until its device is gone.
    fn carry(&self, from: usize) {
        let mut packet = vec![0; usize::from(MTU) + 64];
        while let Ok(length) = self.ends[from].device.recv(&mut packet) {
            let packet = &packet[..length];
            let Some(to) = destination(packet).and_then(|address| self.end_of(address)) else { continue };
            let fate = self.link(from, to).pass(packet, Instant::now());
            match fate {
                Fate::Now => self.deliver(to, packet),
                Fate::Never | Fate::Held => {}
                Fate::At(moments) => moments.for_each(|moment| self.late.push(moment, to, packet.to_vec())),
            }
        }
    }

    fn deliver_late(&self) {
        loop {
            let (to, packet) = self.late.next();
            self.deliver(to, &packet);
        }
    }

    fn deliver(&self, to: usize, packet: &[u8]) {
        self.carried.fetch_add(1, Ordering::Relaxed);
        // A device whose queue is full drops, as a network card would; TCP sends again.
        drop(self.ends[to].device.send(packet));
    }

    fn end_of(&self, address: Ipv4Addr) -> Option<usize> {
        self.ends.iter().position(|end| end.address == address)
    }
}

/// Where an IPv4 packet is for; nothing else has a destination here.
fn destination(packet: &[u8]) -> Option<Ipv4Addr> {
    let is_ipv4 = packet.first().is_some_and(|byte| byte >> 4 == 4);
    let octets: [u8; 4] = packet.get(16..20)?.try_into().ok()?;
    is_ipv4.then(|| Ipv4Addr::from(octets))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_headers_of_ipv4_have_a_destination() {
        let mut packet = vec![0_u8; 20];
        packet[16..20].copy_from_slice(&[10, 77, 0, 2]);
        assert_eq!(destination(&packet), None, "no version");
        packet[0] = 0x45;
        assert_eq!(destination(&packet), Some(Ipv4Addr::new(10, 77, 0, 2)));
        assert_eq!(destination(&packet[..19]), None, "a torn header");
        packet[0] = 0x60;
        assert_eq!(destination(&packet), None, "IPv6");
    }
}
