//! Groups of real node processes on loopback, each under its guardian, with everything in a temporary folder.
//!
//! A group ends its processes by their numbers when it is dropped, also when a test fails.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(dead_code, reason = "each test program uses its part")]

use hotwarm_node::admin::{Client, Role, Status};
use hotwarm_node::birth::{InitPlan, NodePlan};
use hotwarm_node::config::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long anything that must happen may take on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// How long a node may take to say goodbye before it is killed.
const STOP_WAIT: Duration = Duration::from_secs(8);
/// Between two looks at a process or a status: a look starts no work that the other processes would miss.
const LOOK: Duration = Duration::from_millis(10);

/// One node.
pub struct Node {
    pub name: String,
    pub peer: SocketAddr,
    pub admin: SocketAddr,
    pub front: SocketAddr,
    guardian: Option<Child>,
}

/// A group.
pub struct Group {
    pub nodes: Vec<Node>,
    folder: TempDir,
}

impl Group {
    /// Makes and starts a group of nodes with these names, and waits until all are in sync.
    pub fn start(names: &[&str]) -> Self {
        let mut group = Self::make(names);
        for index in 0..names.len() {
            group.start_node(index);
        }
        group.wait_in_sync(names.len());
        group
    }

    /// Makes a group whose nodes do not run.
    pub fn make(names: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ports = free_ports(names.len() * 3);
        let address = |index: usize| SocketAddr::from((Ipv4Addr::LOCALHOST, ports[index]));
        let nodes: Vec<Node> = names
            .iter()
            .enumerate()
            .map(|(index, name)| Node {
                name: (*name).to_owned(),
                peer: address(index * 3),
                admin: address(index * 3 + 1),
                front: address(index * 3 + 2),
                guardian: None,
            })
            .collect();
        let text = config_text(folder.path(), &nodes);
        let file = File::parse(&text, Path::new("hotwarm.toml")).unwrap_or_else(|faults| panic!("{faults}"));
        let plans = file.nodes.iter().map(|node| NodePlan {
            name: node.name.clone(),
            address: node.address.clone(),
            role: node.role,
            priority: node.priority,
        });
        let plan = InitPlan { cluster_name: "test".into(), nodes: plans.collect(), settings: file.agreed.settings() };
        plan.write(&folder.path().join("tls")).unwrap();
        std::fs::write(folder.path().join("hotwarm.toml"), text).unwrap();
        Self { nodes, folder }
    }

    /// The configuration of all nodes.
    pub fn config(&self) -> PathBuf {
        self.folder.path().join("hotwarm.toml")
    }

    /// Where a node keeps its data.
    pub fn data_dir(&self, index: usize) -> PathBuf {
        self.folder.path().join(format!("data-{}", self.nodes[index].name))
    }

    /// Where a node's output goes.
    pub fn log(&self, index: usize) -> String {
        std::fs::read_to_string(self.folder.path().join(format!("{}.log", self.nodes[index].name))).unwrap()
    }

    /// Starts a node (again).
    pub fn start_node(&mut self, index: usize) {
        let name = &self.nodes[index].name;
        let path = self.folder.path().join(format!("{name}.log"));
        let log = std::fs::File::options().create(true).append(true).open(path).unwrap();
        let child = run_command(&self.config(), name).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        self.nodes[index].guardian = Some(child);
    }

    /// Starts a node that must refuse, and gives what it says. Fails if it goes on, or was killed by a signal.
    pub fn refusal(&self, index: usize) -> String {
        let mut child = run_command(&self.config(), &self.nodes[index].name)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let began = Instant::now();
        while child.try_wait().unwrap().is_none() {
            if began.elapsed() > PATIENCE {
                end(&mut child);
                panic!("the node runs, where it must refuse");
            }
            let served = std::net::TcpStream::connect(self.nodes[index].front).is_ok();
            assert!(!served, "the node listens for clients, where it must refuse");
            std::thread::sleep(LOOK);
        }
        let output = child.wait_with_output().unwrap();
        let text = text_of(&output);
        assert!(!output.status.success() && output.status.code().is_some(), "{:?}: {text}", output.status);
        assert!(!text.contains("panicked"), "{text}");
        text
    }

    /// The process of a node, which is the only child of its guardian.
    pub fn pid(&self, index: usize) -> u32 {
        node_pid(self.nodes[index].guardian.as_ref().expect("the node was started")).expect("the node runs")
    }

    /// SIGKILL for a node; its guardian lives long enough to take its exit.
    pub fn kill(&mut self, index: usize) {
        signal("KILL", self.pid(index));
        self.nodes[index].guardian.take().unwrap().wait().unwrap();
    }

    /// Has a node say goodbye and end.
    pub fn stop(&mut self, index: usize) {
        if let Some(mut guardian) = self.nodes[index].guardian.take() {
            end(&mut guardian);
        }
    }

    /// What a node says of itself and the group, if it answers.
    pub fn status(&self, index: usize) -> Option<Status> {
        Client::new(self.nodes[index].admin, None).get("/status").ok()
    }

    /// Waits until a hot that serves counts `count` nodes in sync.
    pub fn wait_in_sync(&self, count: usize) {
        let began = Instant::now();
        loop {
            let statuses: Vec<Status> = (0..self.nodes.len()).filter_map(|index| self.status(index)).collect();
            let in_sync = |status: &Status| status.members.iter().filter(|member| member.in_sync).count();
            if statuses.iter().any(|status| status.node.serves && in_sync(status) == count) {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "not {count} in sync: {statuses:#?}");
            std::thread::sleep(LOOK);
        }
    }

    /// The index of the node that is hot and serves.
    pub fn hot(&self) -> usize {
        let began = Instant::now();
        let serves = |index: &usize| {
            self.status(*index).is_some_and(|status| status.node.role == Role::Hot && status.node.serves)
        };
        loop {
            if let Some(index) = (0..self.nodes.len()).find(serves) {
                return index;
            }
            assert!(began.elapsed() < PATIENCE, "no node became hot");
            std::thread::sleep(LOOK);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for index in 0..self.nodes.len() {
            self.stop(index);
        }
    }
}

/// Runs the program to its end.
pub fn hotwarm(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hotwarm"))
        .args(args)
        .env_remove("HOTWARM_ADMIN")
        .env_remove("HOTWARM_CONFIG")
        .env_remove("HOTWARM_NODE")
        .output()
        .unwrap()
}

/// What a process has said.
pub fn text_of(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), output.stderr.as_slice()].concat()).into_owned()
}

fn run_command(config: &Path, node: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hotwarm"));
    command.args(["run", "--node", node, "--config"]).arg(config).stdin(Stdio::null());
    command
}

fn node_pid(guardian: &Child) -> Option<u32> {
    let id = guardian.id();
    let text = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).ok()?;
    text.split_whitespace().next()?.parse().ok()
}

/// Ends a guardian and its node: by their goodbye, or by force if that takes too long.
fn end(guardian: &mut Child) {
    let node = node_pid(guardian);
    if !matches!(guardian.try_wait(), Ok(None)) {
        return;
    }
    signal("TERM", guardian.id());
    let began = Instant::now();
    while matches!(guardian.try_wait(), Ok(None)) {
        if began.elapsed() > STOP_WAIT {
            node.into_iter().for_each(|pid| signal("KILL", pid));
            guardian.kill().unwrap();
        }
        std::thread::sleep(LOOK);
    }
}

fn signal(name: &str, pid: u32) {
    // A process that is gone already needs no signal.
    drop(Command::new("kill").args([format!("-{name}"), pid.to_string()]).stderr(Stdio::null()).status());
}

/// Ports that were free a moment ago; all are held until the last is known, so they differ.
fn free_ports(count: usize) -> Vec<u16> {
    let listeners: Vec<TcpListener> =
        (0..count).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()).collect();
    listeners.iter().map(|listener| listener.local_addr().unwrap().port()).collect()
}

fn config_text(folder: &Path, nodes: &[Node]) -> String {
    let folder = folder.display();
    let mut text = "[cluster]\nname = \"test\"\nprofile = \"lan\"\n\n[nodes]\n".to_owned();
    for node in nodes {
        text.push_str(&format!("{} = {{ address = \"{}\" }}\n", node.name, node.peer));
    }
    text.push_str(&format!(
        "\n[local]\ndata_dir = \"{folder}/data-{{node}}\"\ntls_dir = \"{folder}/tls/{{node}}\"\n\n"
    ));
    for node in nodes {
        text.push_str(&format!(
            "[local.node.{}]\nadmin = \"{}\"\nfront.redis.listen = \"{}\"\n\n",
            node.name, node.admin, node.front
        ));
    }
    text.push_str(
        "[group.main]\nengine = \"store\"\n\n[front.redis]\nprotocol = \"resp\"\nlisten = \"127.0.0.1:6379\"\n\
         to = \"main\"\nconnections_max = 30000\n",
    );
    text
}
