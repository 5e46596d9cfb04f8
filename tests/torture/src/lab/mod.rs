//! The lab: namespaces, disks and control groups for a group of nodes and its clients, on one machine.
//!
//! Everything that the lab makes outside its folder has a name that begins with [`PREFIX`] and this process's id, so
//! that it is known whose it is: [`Lab`] removes it when it is dropped, and [`leftovers`] what a killed run left behind.

mod cgroups;
mod disk;
mod firewall;
pub mod leftovers;
mod namespace;

pub use namespace::Door;

pub use cgroups::{Cgroups, Controller};
pub use disk::Disk;
pub use firewall::{Firewall, Rule};
pub use namespace::Namespace;

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

/// How all names of all labs begin.
pub const PREFIX: &str = "hwtorture-";

/// One machine of the lab.
pub struct Machine {
    /// `a`, `b`, ... or `client`.
    pub name: String,
    /// Where the others reach it.
    pub address: Ipv4Addr,
    /// What its processes may use. It goes first: the others can only go once no process is there.
    pub cgroups: Cgroups,
    /// Its network.
    pub namespace: Namespace,
    /// What is dropped and turned away at its network card.
    pub firewall: Firewall,
    /// Its disk; the clients have none.
    pub disk: Option<Disk>,
}

/// All machines.
pub struct Lab {
    /// The nodes' machines in order, then that of the clients.
    pub machines: Vec<Machine>,
    /// Where everything is that has a path.
    pub folder: PathBuf,
}

impl Lab {
    /// Makes machines with these names and disks, and one for the clients, in a new folder.
    ///
    /// # Errors
    /// Something could not be made; what had been is removed again.
    pub fn make(folder: &Path, names: &[&str]) -> Result<Self, String> {
        fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let mut lab = Self { machines: Vec::new(), folder: folder.to_owned() };
        for (index, name) in names.iter().chain(&["client"]).enumerate() {
            let full = format!("{PREFIX}{}-{name}", std::process::id());
            let has_disk = index < names.len();
            let machine = Machine {
                name: (*name).to_owned(),
                address: Ipv4Addr::new(10, 77, 0, index as u8 + 1),
                cgroups: Cgroups::make(&full)?,
                namespace: Namespace::make(&full)?,
                firewall: Firewall::default(),
                disk: has_disk.then(|| Disk::make(folder, name)).transpose()?,
            };
            lab.machines.push(machine);
        }
        Ok(lab)
    }

    /// The machine of the clients.
    pub fn client(&self) -> &Machine {
        &self.machines[self.machines.len() - 1]
    }
}
