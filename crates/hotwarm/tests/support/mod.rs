//! Groups of real node processes on loopback, each under its guardian, with everything in a temporary folder.
//!
//! A group ends its processes by their numbers when it is dropped, also when a test fails.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(dead_code, reason = "each test program uses its part")]

pub mod network;
pub mod storm;
pub mod transcript;

use hotwarm_node::admin::{Client, Done, Role, Status, SwitchoverRequest};
use hotwarm_node::birth::{InitPlan, NodePlan};
use hotwarm_node::config::File;
use network::Network;
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long anything that must happen may take on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// How long a node may take to say goodbye before it is killed.
const STOP_WAIT: Duration = Duration::from_secs(8);
/// Between two looks at a process or a status: a look starts no work that the other processes would miss.
const LOOK: Duration = Duration::from_millis(10);

/// A node of this name votes and holds no data.
pub const WITNESS: &str = "w";
/// The program to test, in place of the one that cargo has built beside the tests.
const PROGRAM: &str = "HOTWARM_TEST_PROGRAM";

/// One node.
pub struct Node {
    pub name: String,
    /// Where it listens for its peers.
    pub peer: SocketAddr,
    /// Where its peers reach it: where it listens, or a proxy before that.
    pub address: SocketAddr,
    pub admin: SocketAddr,
    /// Reads there are the hot's.
    pub front: SocketAddr,
    /// Reads there are of the node's own copy, if it holds one.
    pub own_copy: SocketAddr,
    guardian: Option<Child>,
}

impl Node {
    /// Whether it holds data.
    pub fn data(&self) -> bool {
        self.name != WITNESS
    }
}

/// A group.
pub struct Group {
    pub nodes: Vec<Node>,
    folder: TempDir,
    network: Option<Arc<Network>>,
}

impl Group {
    /// Makes and starts a group of nodes with these names, and waits until all are in sync.
    pub fn start(names: &[&str]) -> Self {
        Self::start_on(names, None)
    }

    /// The same; its nodes reach each other through that network.
    pub fn start_on(names: &[&str], network: Option<Arc<Network>>) -> Self {
        let mut group = Self::make_on(names, network);
        for index in 0..names.len() {
            group.start_node(index);
        }
        group.wait_all_in_sync();
        group
    }

    /// Makes a group whose nodes do not run.
    pub fn make(names: &[&str]) -> Self {
        Self::make_on(names, None)
    }

    fn make_on(names: &[&str], network: Option<Arc<Network>>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ports = hotwarm_sys::free_loopback_ports(names.len() * 4).unwrap();
        let port = |index: usize| SocketAddr::from((Ipv4Addr::LOCALHOST, ports[index]));
        let nodes: Vec<Node> = names
            .iter()
            .enumerate()
            .map(|(index, name)| Node {
                name: (*name).to_owned(),
                peer: port(index * 4),
                address: network.as_ref().map_or(port(index * 4), |network| network.lead_to(index, port(index * 4))),
                admin: port(index * 4 + 1),
                front: port(index * 4 + 2),
                own_copy: port(index * 4 + 3),
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
        Self { nodes, folder, network }
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
        if let Some(network) = &self.network {
            network.know(index, child.id());
        }
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

    /// Has the hot hand over, and waits until another node serves.
    pub fn switch_over(&self) {
        let hot = self.hot();
        let _: Done =
            Client::new(self.nodes[hot].admin, None).post("/switchover", &SwitchoverRequest { to: None }).unwrap();
        let began = Instant::now();
        while self.hot() == hot {
            assert!(began.elapsed() < PATIENCE, "the old hot goes on");
            std::thread::sleep(LOOK);
        }
    }

    /// What a node says of itself and the group, if it answers.
    pub fn status(&self, index: usize) -> Option<Status> {
        Client::new(self.nodes[index].admin, None).get("/status").ok()
    }

    /// Waits until every node that holds data is in sync.
    pub fn wait_all_in_sync(&self) {
        self.wait_in_sync(self.nodes.iter().filter(|node| node.data()).count());
    }

    /// Waits until reads on every node that holds data see all that is committed. Nobody writes any more.
    pub fn wait_applied(&self) {
        let began = Instant::now();
        let data = |index: &usize| self.nodes[*index].data();
        loop {
            let statuses: Option<Vec<Status>> =
                (0..self.nodes.len()).filter(data).map(|index| self.status(index)).collect();
            // Reads trail the commit position.
            let seen = |Status { node, .. }: &Status| [node.committed_lsn, node.visible_lsn];
            let positions = statuses.as_ref().map(|all| all.iter().flat_map(seen).collect::<BTreeSet<u64>>());
            if positions.is_some_and(|positions| positions.len() == 1) {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "what the nodes' reads see differs: {statuses:#?}");
            std::thread::sleep(LOOK);
        }
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
            let logs = || (0..self.nodes.len()).map(|index| self.log(index)).collect::<String>();
            assert!(began.elapsed() < PATIENCE, "not {count} in sync: {statuses:#?}\n{}", logs());
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
    Command::new(program())
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

fn program() -> PathBuf {
    std::env::var_os(PROGRAM).map_or_else(|| env!("CARGO_BIN_EXE_hotwarm").into(), PathBuf::from)
}

fn run_command(config: &Path, node: &str) -> Command {
    let mut command = Command::new(program());
    command.args(["run", "--node", node, "--config"]).arg(config).stdin(Stdio::null());
    command
}

fn node_pid(guardian: &Child) -> Option<u32> {
    children(guardian.id()).first().copied()
}

fn children(pid: u32) -> Vec<u32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
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

fn config_text(folder: &Path, nodes: &[Node]) -> String {
    let folder = folder.display();
    let mut text = "[cluster]\nname = \"test\"\nprofile = \"lan\"\n\n[nodes]\n".to_owned();
    for node in nodes {
        let role = if node.data() { "" } else { ", role = \"witness\"" };
        text.push_str(&format!("{} = {{ address = \"{}\"{role} }}\n", node.name, node.address));
    }
    text.push_str(&format!(
        "\n[local]\ndata_dir = \"{folder}/data-{{node}}\"\ntls_dir = \"{folder}/tls/{{node}}\"\n\n"
    ));
    for node in nodes {
        text.push_str(&format!(
            "[local.node.{}]\nlisten = \"{}\"\nadmin = \"{}\"\nfront.redis.listen = \"{}\"\n\
             front.own-copy.listen = \"{}\"\n\n",
            node.name, node.peer, node.admin, node.front, node.own_copy
        ));
    }
    text.push_str(
        "[group.main]\nengine = \"store\"\n\n[front.redis]\nprotocol = \"resp\"\nlisten = \"127.0.0.1:6379\"\n\
         to = \"main\"\nconnections_max = 30000\n\n\
         [front.own-copy]\nprotocol = \"resp\"\nlisten = \"127.0.0.1:6380\"\nto = \"main\"\nreads = \"any\"\n",
    );
    text
}
