//! The configuration file: one identical TOML file on all nodes.
//!
//! `[local]` belongs to the machine. Everything else belongs to the group: the file seeds the register once, and
//! `hotwarm apply` changes it from then on. What the group has agreed on travels in the register as normalized TOML
//! ([`Agreed::text`]), so that any node can say where its file has drifted ([`differences`]).
//!
//! Reading is total: every fault is reported with its line, a key that is not known names the nearest one that is,
//! and a key that only a later version has is refused by name. Nothing here opens a socket or resolves a name.

mod drift;
mod fault;
mod local;
mod machine;
mod normal;
mod read;
mod secret;
mod section;
#[cfg(test)]
mod tests;
pub mod units;

pub use drift::{Difference, differences, member_differences};
pub use fault::{Fault, Faults, LoadError, WhichNodeError};
pub use local::{Local, Log, LogFormat, LogLevel, OnChange, Own, PeerSecurity, Webhook};
pub use secret::{Secret, SecretError};

use hotwarm_core::register::{Durability, MemberRole, Replication, Settings, Timing};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The file as one node reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The file's name as the operator gave it; faults and messages show it.
    pub path: PathBuf,
    /// The node that this process is.
    pub this: NodeEntry,
    /// All nodes of `[nodes]`, in the order of their names: the initial members.
    pub nodes: Vec<NodeEntry>,
    /// What belongs to this machine, with `{node}` filled in.
    pub local: Local,
    /// The group's part as it is in force: the file's, until the register's is known.
    pub agreed: Agreed,
    /// The group's part as the file has it: what drift is measured from.
    pub filed: Agreed,
    /// What is allowed and still doubtful, for `check` and `status` to show.
    pub warnings: Vec<Fault>,
}

/// The file as it stands, before it is known which of its nodes reads it: what `check` and `apply` need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// The file's name as the operator gave it.
    pub path: PathBuf,
    /// All nodes of `[nodes]`, in the order of their names.
    pub nodes: Vec<NodeEntry>,
    /// `[local]`, with `{node}` not filled in.
    pub local: Local,
    /// The group's part.
    pub agreed: Agreed,
    /// What is allowed and still doubtful.
    pub warnings: Vec<Fault>,
}

/// A line of `[nodes]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeEntry {
    /// Its name: a DNS label in lower case.
    pub name: String,
    /// Where peers reach it: host name or address, and port. Resolved at each connect.
    pub address: String,
    /// Whether it holds data.
    pub role: MemberRole,
    /// Among candidates with equal logs the higher one stands first; 0..=1000, 100 if the file does not say.
    pub priority: u16,
}

/// The group's part of the file: what all nodes agree on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agreed {
    /// Name of the cluster; shown everywhere, checked nowhere (identity is the cluster id of the folder).
    pub cluster: String,
    /// Beacon, shrink_after, lease and grace: those of the profile, save where the file sets one.
    pub timing: Timing,
    /// The group. This version protects exactly one.
    pub group: Group,
    /// The fronts, in the order of their names.
    pub fronts: Vec<Front>,
}

/// `[group.NAME]`: what protects the data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// When a write is acknowledged.
    pub replication: Replication,
    /// What "durable" means (R13).
    pub durability: Durability,
    /// Copies an acknowledgement needs, the hot included (R12).
    pub min_copies: u8,
    /// Bound of the store's memory on each node, in bytes.
    pub memory_max_bytes: u64,
    /// How far back versions and log are kept.
    pub history: History,
}

/// How far back versions and log are kept: whichever bound is met first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct History {
    /// By age.
    pub time_max: Duration,
    /// By size on disk, in bytes.
    pub size_max_bytes: u64,
}

/// `[front.NAME]`: a listener for clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Front {
    /// Its name.
    pub name: String,
    /// What clients speak.
    pub protocol: Protocol,
    /// Where it listens on this machine: the group's address, or `[local.front.NAME] listen`.
    pub listen: SocketAddr,
    /// The group that it leads to.
    pub to: String,
    /// Who answers reads.
    pub reads: Reads,
    /// Holds the password that clients must know.
    pub password_file: Option<PathBuf>,
    /// The operator's word that listening beyond loopback without a password is meant.
    pub allow_insecure: bool,
    /// Connections at once; one more is refused with an error.
    pub connections_max: u32,
    /// What waits while there is no hot, instead of failing.
    pub hold: Hold,
}

/// What clients of a front speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Redis protocol, versions 2 and 3.
    Resp,
}

/// Who answers reads, and what they may miss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reads {
    /// The hot, while its lease holds: linearizable.
    Hot,
    /// The hot, after one round that proves it still is: linearizable without clocks (R19).
    Verified,
    /// Any node, never older than what this client has seen.
    Session,
    /// Any node, however old.
    Any,
}

/// Bounds of what waits while there is no hot. Past any of them a request is refused, not held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold {
    /// How long one request waits.
    pub time_max: Duration,
    /// How many wait at once.
    pub requests_max: u32,
    /// What they occupy, in bytes.
    pub bytes_max: u64,
}

impl Front {
    /// Whether anybody on the network could read and write, without the operator's word that it is meant, if it listened
    /// there.
    #[must_use]
    pub fn is_exposed_on(&self, listen: SocketAddr) -> bool {
        !listen.ip().is_loopback() && self.password_file.is_none() && !self.allow_insecure
    }
}

impl Default for Hold {
    /// Ten seconds outlive ten graces of the default profile; 64 MiB is what a node can always spare.
    fn default() -> Self {
        Self { time_max: Duration::from_secs(10), requests_max: 10_000, bytes_max: 64 << 20 }
    }
}

/// Reads a configuration file for one of its nodes: the one that `node` names, else `HOTWARM_NODE`, else the
/// host's name.
///
/// # Errors
/// All faults of the file, or why it is not known which node this is. Nothing is changed.
pub fn load(path: &Path, node: Option<&str>) -> Result<Config, LoadError> {
    this_node(&load_file(path)?, node).map_err(LoadError::WhichNode)
}

/// A file as the node reads it that `node` names, else `HOTWARM_NODE`, else the host's name.
///
/// # Errors
/// The file has no such node.
pub fn this_node(file: &File, node: Option<&str>) -> Result<Config, WhichNodeError> {
    let (name, origin) = which_node(node);
    file.for_node(&name, origin)
}

/// Reads a configuration file without asking which node this is.
///
/// # Errors
/// All faults of the file. Nothing is changed.
pub fn load_file(path: &Path) -> Result<File, LoadError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| LoadError::Unreadable { path: path.to_path_buf(), source })?;
    File::parse(&text, path).map_err(LoadError::Faulty)
}

/// The name that this process goes by, and where it was learnt.
fn which_node(flag: Option<&str>) -> (String, &'static str) {
    if let Some(name) = flag {
        return (name.to_owned(), "--node");
    }
    if let Some(name) = std::env::var("HOTWARM_NODE").ok().filter(|name| !name.is_empty()) {
        return (name, "HOTWARM_NODE");
    }
    let host = rustix::system::uname().nodename().to_string_lossy().to_lowercase();
    (host, "the host name")
}

/// Whether a text may name a node, a group, a front or a cluster: a DNS label in lower case.
#[must_use]
pub fn is_name(text: &str) -> bool {
    read::is_name(text)
}

/// Whether a text is a host name or an IP address with a port. The name is not resolved.
#[must_use]
pub fn is_address(text: &str) -> bool {
    read::host_and_port(text).is_some()
}

impl File {
    /// Reads the text of a configuration file; `path` is only shown.
    ///
    /// # Errors
    /// All faults of the text, in the order of its lines.
    pub fn parse(text: &str, path: &Path) -> Result<Self, Faults> {
        read::file(text, path)
    }

    /// The file as the node of this name reads it. A host name also matches by its first label.
    ///
    /// # Errors
    /// `[nodes]` has no such name.
    pub fn for_node(&self, name: &str, origin: &'static str) -> Result<Config, WhichNodeError> {
        let short = name.split('.').next().unwrap_or(name);
        let named = |wanted: &str| self.nodes.iter().find(|node| node.name == wanted);
        let Some(this) = named(name).or_else(|| named(short)) else {
            return Err(WhichNodeError {
                file: self.path.display().to_string(),
                tried: name.to_owned(),
                origin,
                known: self.nodes.iter().map(|node| node.name.clone()).collect(),
            });
        };
        Ok(Config {
            path: self.path.clone(),
            this: this.clone(),
            nodes: self.nodes.clone(),
            local: self.local.filled_in(&this.name),
            agreed: self.agreed.clone(),
            filed: self.agreed.clone(),
            warnings: self.warnings.clone(),
        })
    }
}

impl Config {
    /// The fronts as this machine opens them: the group's, with the listen addresses that `[local]` sets instead.
    #[must_use]
    pub fn fronts(&self) -> Vec<Front> {
        let mut fronts = self.agreed.fronts.clone();
        for front in &mut fronts {
            front.listen = self.local.front_listen.get(&front.name).copied().unwrap_or(front.listen);
        }
        fronts
    }

    /// Where clients reach a front of this machine: what `[local]` announces, else the front's own port on the host of
    /// this node's address, which an empty host stands for.
    #[must_use]
    pub fn announced(&self, front: &Front) -> (String, u16) {
        let announced = self.local.front_announce.get(&front.name).and_then(|text| read::host_and_port(text));
        announced.map_or((String::new(), front.listen.port()), |(host, port)| (host.to_owned(), port))
    }

    /// The same under what the group has agreed on by now; warnings are of what is in force.
    #[must_use]
    pub fn under(&self, agreed: Agreed) -> Self {
        let warnings = normal::warnings(&self.nodes, &self.local, &agreed);
        Self { agreed, warnings, ..self.clone() }
    }

    /// Where this node listens for its peers: `[local] listen`, or the port of its own address on all interfaces
    /// (on loopback only, where its address is loopback).
    #[must_use]
    pub fn peer_listen(&self) -> SocketAddr {
        self.local.listen.unwrap_or_else(|| read::listen_for(&self.this.address))
    }
}

impl Agreed {
    /// Reads what [`Agreed::text`] wrote, as found in the register.
    ///
    /// # Errors
    /// All faults of the text: it was written by another version, or by hand.
    pub fn parse(text: &str) -> Result<Self, Faults> {
        read::agreed_text(text)
    }

    /// What the core needs to know of it, with the normalized text.
    #[must_use]
    pub fn settings(&self) -> Settings {
        Settings {
            replication: self.group.replication,
            durability: self.group.durability,
            min_copies: self.group.min_copies,
            timing: self.timing,
            text: self.text(),
        }
    }
}
