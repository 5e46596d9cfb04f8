//! The side of hotwarm: two data nodes and a witness on loopback, with mutual TLS, as `hotwarm init` makes them.
//!
//! `min_copies = 2`: a write is acknowledged when it is synced on both data nodes, or not at all. Everything goes
//! through the program, as an operator would do it.

use crate::failure::Failure;
use crate::process::{Server, free_addresses, until};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

const NAMES: [&str; 3] = ["a", "b", "w"];
const WITNESS: &str = "w";

/// Where one node listens.
#[derive(Clone, Copy)]
struct Addresses {
    peer: SocketAddr,
    admin: SocketAddr,
    front: SocketAddr,
}

/// The running group.
pub struct HotwarmGroup {
    program: PathBuf,
    config: PathBuf,
    nodes: [Addresses; 3],
    servers: Vec<Server>,
}

/// What is read of a node's status.
struct Look {
    serves_as_hot: bool,
    in_sync: usize,
    min_copies: u64,
}

impl HotwarmGroup {
    /// Makes and starts a group in a new folder below `folder`, and waits until both data nodes are in sync.
    ///
    /// # Errors
    /// A step of it fails, or it takes too long.
    pub fn start(program: &Path, folder: &Path) -> Result<Self, Failure> {
        let folder = folder.join("hotwarm");
        let free = free_addresses(NAMES.len() * 3)?;
        let nodes = [0, 3, 6].map(|at| Addresses { peer: free[at], admin: free[at + 1], front: free[at + 2] });
        let config = folder.join("hotwarm.toml");
        let mut group = Self { program: program.to_owned(), config, nodes, servers: Vec::new() };
        group.init(&folder)?;
        // The ports that `init` chooses may be taken: the file is ours, the certificates and tickets are its.
        fs::write(&group.config, config_text(&folder, &nodes))?;
        for name in NAMES {
            let mut command = Command::new(&group.program);
            command.args(["run", "--node", name, "--config"]).arg(&group.config);
            group.servers.push(Server::start(&format!("hotwarm-{name}"), &mut command, &folder)?);
        }
        let hot = group.wait(1)?;
        // `init` has put its own settings into the tickets; the file wants two copies.
        group.run(&["apply", "--node", NAMES[hot]])?;
        group.wait(2)?;
        Ok(group)
    }

    /// Where the hot serves.
    ///
    /// # Errors
    /// No node does.
    pub fn front(&self) -> Result<SocketAddr, Failure> {
        let hot = self.hot(2)?.map_err(Failure::new)?;
        Ok(self.nodes[hot].front)
    }

    /// Whether the hot is still the one whose front is `front`, with both data nodes in sync: else a run has measured
    /// something else.
    ///
    /// # Errors
    /// It is not.
    pub fn check(&self, front: SocketAddr) -> Result<(), Failure> {
        if self.front()? == front {
            return Ok(());
        }
        Err(Failure::new("another node became hot during a run: this machine is too busy to measure on"))
    }

    fn init(&self, folder: &Path) -> Result<(), Failure> {
        let mut command = Command::new(&self.program);
        command.args(["init", "--name", "bench", "--out"]).arg(folder);
        for (name, addresses) in NAMES.iter().zip(&self.nodes) {
            let kind = if *name == WITNESS { "--witness" } else { "--node" };
            command.arg(kind).arg(format!("{name}={}", addresses.peer));
        }
        finish(command).map(|_| ())
    }

    /// Waits for a hot that serves, with both data nodes in sync and `min_copies` agreed; gives its index.
    fn wait(&mut self, min_copies: u64) -> Result<usize, Failure> {
        until("the group of hotwarm is in sync", || {
            for server in &mut self.servers {
                server.check()?;
            }
            hot_of(&self.program, &self.config, min_copies)
        })
    }

    fn hot(&self, min_copies: u64) -> Result<Result<usize, String>, Failure> {
        hot_of(&self.program, &self.config, min_copies)
    }

    fn run(&self, arguments: &[&str]) -> Result<String, Failure> {
        let mut command = Command::new(&self.program);
        command.args(arguments).arg("--config").arg(&self.config);
        finish(command)
    }
}

/// The index of the hot, or what was seen instead.
fn hot_of(program: &Path, config: &Path, min_copies: u64) -> Result<Result<usize, String>, Failure> {
    let mut seen = "no hot serves".to_owned();
    for (index, name) in NAMES.iter().enumerate() {
        let Some(look) = look(program, config, name)? else { continue };
        if !look.serves_as_hot {
            continue;
        }
        if look.in_sync == 2 && look.min_copies == min_copies {
            return Ok(Ok(index));
        }
        seen = format!("{name} is hot, {} in sync, min_copies {}", look.in_sync, look.min_copies);
    }
    Ok(Err(seen))
}

/// A node's status; none while it does not answer.
fn look(program: &Path, config: &Path, name: &str) -> Result<Option<Look>, Failure> {
    let mut command = Command::new(program);
    let output = command.args(["status", "--json", "--node", name, "--config"]).arg(config).output()?;
    let Ok(status) = serde_json::from_slice::<serde_json::Value>(&output.stdout) else { return Ok(None) };
    let members = status["members"].as_array().map(Vec::as_slice).unwrap_or_default();
    Ok(Some(Look {
        serves_as_hot: status["node"]["role"] == "hot" && status["node"]["serves"] == true,
        in_sync: members.iter().filter(|member| member["in_sync"] == true).count(),
        min_copies: status["min_copies"].as_u64().unwrap_or_default(),
    }))
}

/// Runs a command to its end; what it printed.
fn finish(mut command: Command) -> Result<String, Failure> {
    let output = command.output()?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Failure::new(format!("{command:?} ended with {}: {said}", output.status)))
}

fn config_text(folder: &Path, nodes: &[Addresses; 3]) -> String {
    let mut text = "[cluster]\nname = \"bench\"\nprofile = \"lan\"\n\n[nodes]\n".to_owned();
    for (name, Addresses { peer, .. }) in NAMES.iter().zip(nodes) {
        let role = if *name == WITNESS { ", role = \"witness\"" } else { "" };
        text.push_str(&format!("{name} = {{ address = \"{peer}\"{role} }}\n"));
    }
    let folder = folder.display();
    text.push_str(&format!("\n[local]\ndata_dir = \"{folder}/{{node}}/data\"\ntls_dir = \"{folder}/{{node}}\"\n\n"));
    for (name, Addresses { admin, front, .. }) in NAMES.iter().zip(nodes) {
        text.push_str(&format!("[local.node.{name}]\nadmin = \"{admin}\"\nfront.redis.listen = \"{front}\"\n\n"));
    }
    text.push_str(
        "[group.main]\nengine = \"store\"\nreplication = \"sync\"\ndurability = \"fsync\"\nmin_copies = 2\n\n\
         [front.redis]\nprotocol = \"resp\"\nlisten = \"127.0.0.1:6379\"\nto = \"main\"\nreads = \"hot\"\n",
    );
    text
}
