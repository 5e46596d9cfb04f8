//! Every flag of the program, declared once: help and completions are made from it.

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use hotwarm_node::admin::PAUSE_LENGTH_MAX;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Hot-warm redundancy for a stateful service, in one binary.
#[derive(Debug, Parser)]
#[command(name = "hotwarm", version, propagate_version = true, max_term_width = 100)]
pub struct Flags {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// A node of a configuration file.
#[derive(Clone, Debug, Default, Args)]
pub struct InFile {
    /// The configuration file [default: /etc/hotwarm/hotwarm.toml]
    #[arg(long, value_name = "FILE", env = "HOTWARM_CONFIG")]
    pub config: Option<PathBuf>,
    /// Which node of the file is meant [default: HOTWARM_NODE, else the host name]
    #[arg(long, value_name = "NAME")]
    pub node: Option<String>,
}

/// A file to check.
#[derive(Debug, Args)]
pub struct Check {
    /// Which file
    #[command(flatten)]
    pub file: InFile,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Which node is meant, and how to answer.
#[derive(Clone, Debug, Default, Args)]
pub struct Common {
    /// Which file, and which node of it
    #[command(flatten)]
    pub file: InFile,
    /// Admin address of the node to ask [default: what the file says, else 127.0.0.1:7480]
    #[arg(long, value_name = "IP:PORT", env = "HOTWARM_ADMIN")]
    pub admin: Option<SocketAddr>,
    /// File with the token of that admin address [default: what the file says]
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Flags of a command together with [`Common`].
#[derive(Debug, Args)]
pub struct With<T: Args> {
    /// Which node is meant
    #[command(flatten)]
    pub common: Common,
    /// What the command has of its own
    #[command(flatten)]
    pub own: T,
}

/// What can be done.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a new group: its certificates, a ticket for each node, and a commented configuration
    Init(Init),
    /// Check the configuration; exit code 1 if it is faulty
    Check(Check),
    /// Run a node
    Run(InFile),
    /// Change the group's settings to what a file says
    Apply(With<Apply>),
    /// Show the group; exit code 1 if no hot serves it or the node that was asked is fenced
    Status(With<Status>),
    /// List the members and what each is
    List(Common),
    /// Show what has happened, oldest first
    History(With<History>),
    /// Hand the role of the hot over to another node
    Switchover(With<Switchover>),
    /// Begin maintenance: no node takes over until it ends
    Pause(With<Pause>),
    /// End maintenance
    Resume(Common),
    /// Have group time, by which keys expire, follow a wall clock that is far off
    #[command(subcommand)]
    Clock(ClockChange),
    /// Add, remove, replace or list nodes
    #[command(subcommand)]
    Node(NodeChange),
    /// Make the asked node hot although it may not hold every acknowledged write
    Promote(With<Promote>),
    /// Run a group on this machine, break it on purpose, and check that nothing was lost; exit code 1 if anything was
    Demo(Demo),
    /// Make a new group of one from a stopped node's folder, when a majority is lost for good
    Recover(Recover),
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
}

impl Command {
    /// Whether what is printed is for programs.
    pub fn json(&self) -> bool {
        match self {
            Self::Init(Init { json, .. })
            | Self::Check(Check { json, .. })
            | Self::Demo(Demo { json, .. })
            | Self::Recover(Recover { json, .. }) => *json,
            Self::Apply(With { common, .. }) => common.json,
            Self::Status(With { common, .. }) => common.json,
            Self::History(With { common, .. }) => common.json,
            Self::Switchover(With { common, .. }) => common.json,
            Self::Pause(With { common, .. }) => common.json,
            Self::Promote(With { common, .. }) => common.json,
            Self::List(common) | Self::Resume(common) | Self::Node(NodeChange::List(common)) => common.json,
            Self::Clock(ClockChange::Follow(common)) => common.json,
            Self::Node(NodeChange::Add(With { common, .. })) => common.json,
            Self::Node(NodeChange::Replace(With { common, .. })) => common.json,
            Self::Node(NodeChange::Remove(With { common, .. })) => common.json,
            Self::Run(_) | Self::Completions { .. } => false,
        }
    }
}

/// A demonstration.
#[derive(Debug, Args)]
pub struct Demo {
    /// Rounds: in each a failover, a rejoin and a switchover
    #[arg(long, value_name = "COUNT", default_value_t = 3)]
    pub rounds: u32,
    /// How the hot is broken: killed, or frozen with its guardian
    #[arg(long, value_enum, default_value_t = DemoKind::Crash)]
    pub kind: DemoKind,
    /// Two data nodes and a witness instead of three data nodes
    #[arg(long)]
    pub witness: bool,
    /// Timers of the group
    #[arg(long, value_enum, default_value_t = Profile::Lan)]
    pub profile: Profile,
    /// Go on writing until so many seconds have passed
    #[arg(long, value_name = "SECONDS")]
    pub seconds: Option<u64>,
    /// Clients that write, each with one open request [default: 24]
    #[arg(long, value_name = "COUNT")]
    pub writers: Option<usize>,
    /// An empty folder for the nodes' data [default: one below the temporary folder, removed at the end]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Run even where the data would be in memory
    #[arg(long)]
    pub allow_tmpfs: bool,
    /// Leave the group running at the end
    #[arg(long)]
    pub keep: bool,
    /// Print one JSON object at the end, and nothing else
    #[arg(long)]
    pub json: bool,
}

/// How the hot is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DemoKind {
    /// SIGKILL of the node; its guardian lives
    Crash,
    /// SIGSTOP of node and guardian, as when a machine freezes
    Pause,
    /// One after the other
    Both,
}

/// A new group.
#[derive(Debug, Args)]
pub struct Init {
    /// Name of the cluster
    #[arg(long, value_name = "NAME")]
    pub name: String,
    /// A node that holds data, as NAME=HOST:PORT; the first one named is hot first
    #[arg(long = "node", value_name = "NAME=HOST:PORT", required = true)]
    pub nodes: Vec<NamedAddress>,
    /// A node that only votes, as NAME=HOST:PORT
    #[arg(long, value_name = "NAME=HOST:PORT")]
    pub witness: Vec<NamedAddress>,
    /// Timers: how soon a silent hot is replaced
    #[arg(long, value_enum, default_value_t = Profile::Lan)]
    pub profile: Profile,
    /// A folder to write to; it must not hold a group already
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// A set of timers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Profile {
    /// Quiet machines on one LAN: takes over from a silent hot after 250 ms
    Fast,
    /// Machines on one LAN: after 1 s
    Lan,
    /// Machines in different buildings: after 2.8 s
    Wan,
    /// Overloaded machines: after 9 s
    Patient,
}

impl Profile {
    /// Its word in the configuration.
    pub fn word(self) -> &'static str {
        match self {
            Self::Fast => "fast",
            Self::Lan => "lan",
            Self::Wan => "wan",
            Self::Patient => "patient",
        }
    }
}

/// `NAME=HOST:PORT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedAddress {
    pub name: String,
    pub address: String,
}

impl std::str::FromStr for NamedAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wanted = "NAME=HOST:PORT, as in a=10.0.0.1:7400";
        let (name, address) = text.split_once('=').ok_or_else(|| wanted.to_owned())?;
        if !hotwarm_node::config::is_name(name) {
            return Err(format!("name {name:?} must be lower-case letters, digits and inner hyphens"));
        }
        if !hotwarm_node::config::is_address(address) {
            return Err(format!("address {address:?} must be a host and a port: {wanted}"));
        }
        Ok(Self { name: name.to_owned(), address: address.to_owned() })
    }
}

/// New settings.
#[derive(Debug, Args)]
pub struct Apply {
    /// The file with the wished settings [default: --config]
    pub file: Option<PathBuf>,
    /// Only show the difference; exit code 1 if there is one
    #[arg(long)]
    pub dry_run: bool,
}

/// What to show.
#[derive(Debug, Args)]
pub struct Status {
    /// Show it again every second
    #[arg(long)]
    pub watch: bool,
}

/// How far back.
#[derive(Debug, Args)]
pub struct History {
    /// Only the last so many
    #[arg(long, value_name = "COUNT", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    pub last: u32,
}

/// A planned change of the hot.
#[derive(Debug, Args)]
pub struct Switchover {
    /// The node that is to become hot [default: the best one]
    #[arg(long, value_name = "NAME")]
    pub to: Option<String>,
    /// Only say who would become hot and why; exit code 1 if nobody could
    #[arg(long)]
    pub dry_run: bool,
}

/// Maintenance.
#[derive(Debug, Args)]
pub struct Pause {
    /// How long at most, as in 30m, and never longer than 7d; it ends by itself
    #[arg(long = "for", value_name = "LENGTH", value_parser = length)]
    pub length: Duration,
    /// Why: shown wherever the pause is
    #[arg(long)]
    pub reason: String,
}

fn length(text: &str) -> Result<Duration, String> {
    let length = hotwarm_node::config::units::duration(text).ok_or("a number and a unit, as in 30m or 2h")?;
    if length < Duration::from_millis(1) || length > PAUSE_LENGTH_MAX {
        return Err("maintenance lasts 1ms at least and 7d at most".to_owned());
    }
    Ok(length)
}

/// What to do with group time.
#[derive(Debug, Subcommand)]
pub enum ClockChange {
    /// Let it step forward onto the wall clock of the hot; keys whose time has then come are gone
    Follow(Common),
}

/// What to do with a member.
#[derive(Debug, Subcommand)]
pub enum NodeChange {
    /// Invite a new node and make its certificates and ticket
    Add(With<Add>),
    /// Let a new, empty folder take the place of a member whose folder was lost
    Replace(With<Replace>),
    /// Remove a member, or take an invitation back
    Remove(With<Remove>),
    /// List the members, read from a majority
    List(Common),
}

/// A new member.
#[derive(Debug, Args)]
pub struct Add {
    /// Its name and address, as NAME=HOST:PORT
    #[arg(value_name = "NAME=HOST:PORT")]
    pub member: NamedAddress,
    /// It only votes
    #[arg(long)]
    pub witness: bool,
    /// Among candidates with equal logs the higher one stands first; 0 to 1000
    #[arg(long, value_parser = clap::value_parser!(u16).range(0..=1000))]
    pub priority: Option<u16>,
    /// Where its folder comes from
    #[command(flatten)]
    pub authority: Authority,
}

/// A member with a new folder.
#[derive(Debug, Args)]
pub struct Replace {
    /// Its name
    #[arg(value_name = "NAME")]
    pub member: String,
    /// Where peers reach the new one [default: where the old one was]
    #[arg(long, value_name = "HOST:PORT")]
    pub address: Option<String>,
    /// Where its folder comes from
    #[command(flatten)]
    pub authority: Authority,
}

/// A member that goes.
#[derive(Debug, Args)]
pub struct Remove {
    /// Its name
    #[arg(value_name = "NAME")]
    pub member: String,
}

/// Where the group's authority is and where a node's folder goes.
#[derive(Debug, Args)]
pub struct Authority {
    /// The folder that `init` wrote, with ca.pem and ca.key
    #[arg(long, value_name = "DIR")]
    pub ca: PathBuf,
    /// Where the new node's folder is made [default: the folder of --ca]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

/// A forced promotion.
#[derive(Debug, Args)]
pub struct Promote {
    /// How you know that the old hot is fenced (switched off, unplugged); kept in the history
    #[arg(long, value_name = "TEXT")]
    pub statement: String,
}

/// A new group from an old folder. Nothing of the old folder is changed.
#[derive(Debug, Args)]
pub struct Recover {
    /// The data folder of a stopped node: of those that are left, the one with the most
    #[arg(long, value_name = "DIR")]
    pub from: PathBuf,
    /// The new data folder; it must not exist
    #[arg(long, value_name = "DIR")]
    pub to: PathBuf,
    /// Where the new group's authority and the node's certificates go; it must not exist
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_flags_are_consistent() {
        Flags::command().debug_assert();
    }
}
