//! Groups of real nodes in one process, on loopback and in a temporary folder, and a small client for them.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(dead_code, reason = "each test file uses a part")]

use bytes::BytesMut;
use hotwarm_core::{Answer, Ask, AskRefused};
use hotwarm_node::admin::{NodeControl, Status};
use hotwarm_node::birth::{InitPlan, Invitee, NodePlan};
use hotwarm_node::config::{Config, File};
use hotwarm_node::run::RunningNode;
use hotwarm_resp::{Reply, ReplyLimits, ReplyParser, write_request};
use hotwarm_types::NodeId;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long anything that must happen may take on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// How often what must happen is looked for.
const POLL_INTERVAL: Duration = Duration::from_millis(1);

/// A group of nodes.
pub struct Group {
    folder: TempDir,
    names: Vec<String>,
    pub nodes: Vec<Option<RunningNode>>,
}

impl Group {
    /// Makes and starts a group of nodes with these names; one that begins with `w` is a witness.
    pub fn start(names: &[&str]) -> Self {
        Self::start_with(names, "", "")
    }

    /// The same with more lines for `[group.main]` and `[front.redis]`; `PASSWORD` in them is a file that holds `secret`.
    pub fn start_with(names: &[&str], group: &str, front: &str) -> Self {
        Self::start_paced("fast", names, group, front)
    }

    /// The same with timers of another profile: `patient` keeps roles and the in-sync set as they are on a machine that
    /// is busy.
    pub fn start_paced(profile: &str, names: &[&str], group: &str, front: &str) -> Self {
        Self::start_some(profile, names, names.len(), group, front)
    }

    /// The same where only the first `founders` are members and run; the others may be invited.
    pub fn start_some(profile: &str, names: &[&str], founders: usize, group: &str, front: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ports = hotwarm_sys::free_loopback_ports(names.len() * 3).unwrap();
        let password = folder.path().join("password");
        std::fs::write(&password, "secret\n").unwrap();
        let front = front.replace("PASSWORD", &password.display().to_string());
        let text = config_text(folder.path(), profile, names, &ports, group, &front);
        std::fs::write(folder.path().join("hotwarm.toml"), &text).unwrap();
        let file = File::parse(&text, Path::new("hotwarm.toml")).unwrap_or_else(|faults| panic!("{faults}"));
        let plan = InitPlan {
            cluster_name: "test".to_owned(),
            nodes: file
                .nodes
                .iter()
                .filter(|node| names[..founders].contains(&node.name.as_str()))
                .map(|node| NodePlan {
                    name: node.name.clone(),
                    address: node.address.clone(),
                    role: node.role,
                    priority: node.priority,
                })
                .collect(),
            settings: file.agreed.settings(),
        };
        plan.write(&folder.path().join("tls")).unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut group = Self { nodes: names.iter().map(|_| None).collect(), names, folder };
        for index in 0..founders {
            group.start_node(index);
        }
        group
    }

    /// Puts a request to a running node and waits for its answer.
    pub fn ask(&self, index: usize, ask: Ask) -> Result<Answer, AskRefused> {
        let control = self.nodes[index].as_ref().expect("the node runs").control();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(control.ask(ask))
    }

    /// Invites a node through the running one at `by`, and makes the folder that it joins with.
    pub fn invite(&self, by: usize, index: usize) {
        let name = self.names[index].clone();
        let this = self.config_of(index).this;
        let (address, role, priority) = (this.address, this.role, this.priority);
        let answer = self.ask(by, Ask::Invite { name: name.clone(), address, role, priority });
        let Ok(Answer::State(state)) = answer else { panic!("{answer:?}") };
        let tls = self.folder.path().join("tls");
        Invitee { name, state }.write(&tls, &tls).unwrap();
    }

    /// The configuration file of all nodes.
    pub fn config(&self) -> PathBuf {
        self.folder.path().join("hotwarm.toml")
    }

    /// The configuration as a node reads it.
    pub fn config_of(&self, index: usize) -> Config {
        let text = std::fs::read_to_string(self.config()).unwrap();
        let file = File::parse(&text, &self.config()).unwrap_or_else(|faults| panic!("{faults}"));
        file.for_node(&self.names[index], "the test").unwrap()
    }

    /// Starts a node (again).
    pub fn start_node(&mut self, index: usize) {
        let node = RunningNode::start(self.config_of(index), None)
            .unwrap_or_else(|error| panic!("{}: {error}", self.names[index]));
        self.nodes[index] = Some(node);
    }

    /// Ends a node without a goodbye.
    pub fn kill(&mut self, index: usize) {
        if let Some(node) = self.nodes[index].take() {
            node.abandon();
        }
    }

    /// Says goodbye and ends a node.
    pub fn stop(&mut self, index: usize) {
        if let Some(node) = self.nodes[index].take() {
            let code = node.stop();
            assert_eq!(format!("{code:?}"), format!("{:?}", std::process::ExitCode::SUCCESS));
        }
    }

    /// Ends a node with a goodbye and starts it again.
    pub fn restart(&mut self, index: usize) {
        self.stop(index);
        self.start_node(index);
    }

    /// Asks the node, which must be hot, to hand over, and waits until it has.
    pub fn switch_over(&self, index: usize, to: Option<usize>) {
        let to = to.map(|to| NodeId(self.status(to).node.id.expect("the target is a member")));
        let answer = self.ask(index, Ask::HandOver { to });
        assert!(answer.is_ok(), "{answer:?}");
    }

    /// Where a node's front listens.
    pub fn front(&self, index: usize) -> SocketAddr {
        self.nodes[index].as_ref().expect("the node runs").fronts()[0]
    }

    /// What a node says of itself and the group.
    pub fn status(&self, index: usize) -> Status {
        self.nodes[index].as_ref().expect("the node runs").control().status()
    }

    /// A client of a node.
    pub fn client(&self, index: usize) -> Client {
        Client::connect(self.front(index))
    }

    /// Waits until what a running node says satisfies `is_so`.
    pub fn wait_for(&self, index: usize, what: &str, is_so: impl Fn(&Status) -> bool) {
        let began = Instant::now();
        while !is_so(&self.status(index)) {
            assert!(began.elapsed() < PATIENCE, "{what}: {:#?}", self.status(index));
            // The nodes need the processor more.
            std::thread::sleep(POLL_INTERVAL);
        }
    }

    /// Waits until `count` members are in sync, as the node at `index` knows.
    pub fn wait_in_sync(&self, index: usize, count: usize) {
        let what = format!("{count} in sync");
        self.wait_for(index, &what, |status| status.members.iter().filter(|member| member.in_sync).count() == count);
    }

    /// The index of the node that is hot and serves.
    pub fn hot(&self) -> usize {
        let began = Instant::now();
        loop {
            let serving = |node: &Option<RunningNode>| {
                node.as_ref().is_some_and(|node| {
                    let status = node.control().status();
                    status.node.role == hotwarm_node::admin::Role::Hot && status.node.serves
                })
            };
            if let Some(index) = self.nodes.iter().position(serving) {
                return index;
            }
            assert!(began.elapsed() < PATIENCE, "no node became hot");
            std::thread::sleep(POLL_INTERVAL);
        }
    }
}

/// Ports that were free a moment ago; all are held until the last is known, so they differ.
fn config_text(folder: &Path, profile: &str, names: &[&str], ports: &[u16], group: &str, front: &str) -> String {
    let mut text = format!("[cluster]\nname = \"test\"\nprofile = \"{profile}\"\n\n[nodes]\n");
    for (index, name) in names.iter().enumerate() {
        let role = if name.starts_with('w') { ", role = \"witness\"" } else { "" };
        text.push_str(&format!("{name} = {{ address = \"127.0.0.1:{}\"{role} }}\n", ports[index * 3]));
    }
    let folder = folder.display();
    text.push_str(&format!(
        "\n[local]\ndata_dir = \"{folder}/data-{{node}}\"\ntls_dir = \"{folder}/tls/{{node}}\"\n\n"
    ));
    for (index, name) in names.iter().enumerate() {
        text.push_str(&format!(
            "[local.node.{name}]\nadmin = \"127.0.0.1:{}\"\nfront.redis.listen = \"127.0.0.1:{}\"\n\n",
            ports[index * 3 + 1],
            ports[index * 3 + 2]
        ));
    }
    text.push_str(&format!("[group.main]\nengine = \"store\"\n{group}\n"));
    text.push_str("[front.redis]\nprotocol = \"resp\"\nlisten = \"127.0.0.1:6379\"\nto = \"main\"\n");
    text.push_str(front);
    text
}

/// A client that sends a command and waits for its reply.
pub struct Client {
    stream: TcpStream,
    parser: ReplyParser,
    input: BytesMut,
}

impl Client {
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { stream, parser: ReplyParser::new(ReplyLimits::default()), input: BytesMut::new() }
    }

    /// Sends a command whose arguments are the words of `line`.
    pub fn send(&mut self, line: &str) {
        let args: Vec<&str> = line.split(' ').collect();
        let mut out = BytesMut::new();
        write_request(&args, &mut out);
        self.stream.write_all(&out).unwrap();
    }

    /// The next reply; `None` if the connection was closed.
    pub fn receive(&mut self) -> Option<Reply> {
        loop {
            if let Some(reply) = self.parser.next(&mut self.input).unwrap() {
                return Some(reply);
            }
            let mut bytes = [0; 16 << 10];
            match self.stream.read(&mut bytes) {
                Ok(0) => return None,
                Ok(count) => self.input.extend_from_slice(&bytes[..count]),
                Err(error) => panic!("no reply: {error}"),
            }
        }
    }

    /// Sends a command and shows its reply.
    pub fn ask(&mut self, line: &str) -> String {
        self.send(line);
        self.receive().map_or_else(|| "closed".to_owned(), |reply| shown(&reply))
    }
}

/// A reply as text, for comparisons.
pub fn shown(reply: &Reply) -> String {
    match reply {
        Reply::Simple(text) | Reply::Bulk(text) => String::from_utf8_lossy(text).into_owned(),
        Reply::Error(text) => format!("error: {}", String::from_utf8_lossy(text)),
        Reply::Integer(number) => number.to_string(),
        Reply::Null | Reply::NullArray => "nil".to_owned(),
        Reply::Array(items) => format!("[{}]", items.iter().map(shown).collect::<Vec<_>>().join(", ")),
        other => format!("{other:?}"),
    }
}
