//! The demo's group: real node processes on loopback, each under its guardian, with their data on the disk.

use crate::failure::Failure;
use hotwarm_node::admin::{Client, Role, Status};
use hotwarm_node::birth::{InitPlan, NodePlan};
use hotwarm_node::config::File;
use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How long the whole group may take to be in sync after its start.
const START_WAIT: Duration = Duration::from_secs(30);
/// Between two looks at a status: short against everything that is measured with it.
const LOOK: Duration = Duration::from_millis(10);
/// How long a stopping node may take before it is killed.
const STOP_WAIT: Duration = Duration::from_secs(8);

/// One node of the demo.
pub struct DemoNode {
    /// Its name.
    pub name: String,
    /// Whether it holds data.
    pub data: bool,
    /// Where its front listens.
    pub front: SocketAddr,
    /// Where its admin API listens.
    pub admin: SocketAddr,
    /// Where a second front answers from this node's own copy.
    pub own_copy: SocketAddr,
    peer: SocketAddr,
    guardian: Option<Child>,
}

/// The group.
pub struct DemoGroup {
    /// Its nodes, the first one hot first.
    pub nodes: Vec<DemoNode>,
    /// Everything is below this folder.
    pub folder: PathBuf,
    config: PathBuf,
    program: PathBuf,
}

/// What a kill leaves for the one who measures.
pub struct Killed {
    /// Just before the signal was asked for.
    pub asked_at: Instant,
    /// Just after it was sent.
    pub sent_at: Instant,
}

impl DemoGroup {
    /// Makes certificates, tickets and the configuration below `folder`, which must be empty or not exist.
    ///
    /// # Errors
    /// A file cannot be written, or no ports are free.
    pub fn make(folder: &Path, witness: bool, profile: &str) -> Result<Self, Failure> {
        fs::create_dir_all(folder)?;
        let names = if witness { ["a", "b", "w"] } else { ["a", "b", "c"] };
        let ports = hotwarm_sys::free_loopback_ports(names.len() * 4)?;
        let address = |index: usize| SocketAddr::from((Ipv4Addr::LOCALHOST, ports[index]));
        let nodes: Vec<DemoNode> = names
            .iter()
            .enumerate()
            .map(|(index, name)| DemoNode {
                name: (*name).to_owned(),
                data: *name != "w",
                peer: address(index * 4),
                front: address(index * 4 + 1),
                admin: address(index * 4 + 2),
                own_copy: address(index * 4 + 3),
                guardian: None,
            })
            .collect();
        let text = config_text(folder, &nodes, profile);
        let config = folder.join("hotwarm.toml");
        let file = File::parse(&text, &config)?;
        let plans = file.nodes.iter().map(|node| NodePlan {
            name: node.name.clone(),
            address: node.address.clone(),
            role: node.role,
            priority: node.priority,
        });
        let plan = InitPlan { cluster_name: "demo".into(), nodes: plans.collect(), settings: file.agreed.settings() };
        plan.write(folder)?;
        fs::write(&config, &text)?;
        let program = std::env::current_exe()?;
        Ok(Self { nodes, folder: folder.to_owned(), config, program })
    }

    /// Starts a node's guardian, and with it the node.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn start(&mut self, node: usize) -> Result<(), Failure> {
        let name = self.nodes[node].name.clone();
        let log = fs::File::options().create(true).append(true).open(self.folder.join(format!("{name}.log")))?;
        let child = Command::new(&self.program)
            .args(["run", "--node", &name, "--config"])
            .arg(&self.config)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // A group of its own: an interrupt from the keyboard is for the demo, which stops its nodes in order.
            .process_group(0)
            .spawn()?;
        if let Some(mut old) = self.nodes[node].guardian.replace(child) {
            // The one before attested its node's death and is gone; this only takes its status.
            old.wait()?;
        }
        Ok(())
    }

    /// Waits until a node that serves says that every data node is in sync.
    ///
    /// # Errors
    /// It takes too long; the text says what was seen last.
    pub fn wait_in_sync(&self) -> Result<Status, Failure> {
        let begun = Instant::now();
        let wanted = self.nodes.iter().filter(|node| node.data).count();
        let mut last = "no node answers".to_owned();
        while begun.elapsed() < START_WAIT {
            for node in &self.nodes {
                let Ok(status) = client(node).get::<Status>("/status") else { continue };
                let in_sync = status.members.iter().filter(|member| member.in_sync).count();
                if status.node.serves && in_sync == wanted {
                    return Ok(status);
                }
                last = format!("{} is {:?} ({}), {in_sync} in sync", node.name, status.node.role, status.node.phase);
            }
            thread::sleep(LOOK);
        }
        Err(Failure::new(format!("the group is not in sync after {} s: {last}", START_WAIT.as_secs())))
    }

    /// Waits until reads on every data node see all that was committed. The writers have stopped.
    ///
    /// # Errors
    /// It takes too long.
    pub fn wait_applied(&self) -> Result<(), Failure> {
        let begun = Instant::now();
        while begun.elapsed() < START_WAIT {
            let data = self.nodes.iter().filter(|node| node.data);
            let statuses: Result<Vec<Status>, _> = data.map(|node| client(node).get::<Status>("/status")).collect();
            let positions = statuses.map(|all| {
                all.iter()
                    .flat_map(|status| [status.node.committed_lsn, status.node.visible_lsn])
                    .collect::<BTreeSet<u64>>()
            });
            if positions.is_ok_and(|positions| positions.len() == 1) {
                return Ok(());
            }
            thread::sleep(LOOK);
        }
        Err(Failure::new(format!("what the nodes' reads see still differs after {} s", START_WAIT.as_secs())))
    }

    /// Whether a node says that it serves.
    pub fn serves(&self, node: usize) -> bool {
        client(&self.nodes[node])
            .get::<Status>("/status")
            .is_ok_and(|status| status.node.role == Role::Hot && status.node.serves)
    }

    /// Index of the node that serves, by its own word.
    pub fn hot(&self) -> Option<usize> {
        (0..self.nodes.len()).find(|node| self.serves(*node))
    }

    /// Waits for `node` to be counted in sync by the hot; gives the entries it had to fetch.
    ///
    /// # Errors
    /// It takes too long.
    pub fn wait_rejoined(&self, node: usize) -> Result<u64, Failure> {
        let begun = Instant::now();
        let name = &self.nodes[node].name;
        let mut first_seen = None;
        while begun.elapsed() < START_WAIT {
            if first_seen.is_none() {
                first_seen = client(&self.nodes[node]).get::<Status>("/status").ok().map(|s| s.node.durable_lsn);
            }
            let hot = self.hot().filter(|hot| *hot != node);
            let status = hot.and_then(|hot| client(&self.nodes[hot]).get::<Status>("/status").ok());
            if let Some(status) = status {
                let back =
                    status.members.iter().any(|member| member.name == *name && member.in_sync && member.connected);
                if back {
                    let fetched = status.node.committed_lsn.saturating_sub(first_seen.unwrap_or_default());
                    return Ok(fetched);
                }
            }
            thread::sleep(LOOK);
        }
        Err(Failure::new(format!("{name} is not in sync again after {} s", START_WAIT.as_secs())))
    }

    /// A client of a node's admin API.
    pub fn admin(&self, node: usize) -> Client {
        client(&self.nodes[node])
    }

    /// Has a separate process kill the node with SIGKILL. Its guardian lives, and nobody else is told.
    ///
    /// # Errors
    /// The node has no process.
    pub fn kill(&self, node: usize) -> Result<Killed, Failure> {
        let pid = self.node_pid(node)?;
        signal("KILL", &[pid.to_string()])
    }

    /// Stops the whole process group of guardian and node, as a frozen machine would.
    ///
    /// # Errors
    /// The node has no process.
    pub fn freeze(&self, node: usize) -> Result<Killed, Failure> {
        signal("STOP", &self.process_groups(node)?)
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// The node has no process.
    pub fn thaw(&self, node: usize) -> Result<(), Failure> {
        signal("CONT", &self.process_groups(node)?).map(|_| ())
    }

    fn process_groups(&self, node: usize) -> Result<Vec<String>, Failure> {
        let guardian = self.guardian_pid(node)?;
        Ok(vec![format!("-{}", self.node_pid(node)?), format!("-{guardian}")])
    }

    fn guardian_pid(&self, node: usize) -> Result<u32, Failure> {
        let guardian = self.nodes[node].guardian.as_ref().map(Child::id);
        guardian.ok_or_else(|| Failure::new(format!("node {} was not started", self.nodes[node].name)))
    }

    /// The guardian's only child is the node.
    fn node_pid(&self, node: usize) -> Result<u32, Failure> {
        let guardian = self.guardian_pid(node)?;
        let text = fs::read_to_string(format!("/proc/{guardian}/task/{guardian}/children"))?;
        let pid = text.split_whitespace().next().and_then(|pid| pid.parse().ok());
        pid.ok_or_else(|| Failure::new(format!("node {} has no process", self.nodes[node].name)))
    }

    /// Takes the exit of a guardian whose node was killed.
    ///
    /// # Errors
    /// The system does not tell.
    pub fn reap(&mut self, node: usize) -> Result<(), Failure> {
        if let Some(mut guardian) = self.nodes[node].guardian.take() {
            guardian.wait()?;
        }
        Ok(())
    }

    /// Asks every node to stop, and kills what does not.
    pub fn stop(&mut self) {
        let pids: Vec<String> =
            self.nodes.iter().filter_map(|node| node.guardian.as_ref()).map(|child| child.id().to_string()).collect();
        if !pids.is_empty() {
            // A node that is gone already needs no signal.
            drop(signal("TERM", &pids));
        }
        let begun = Instant::now();
        for node in &mut self.nodes {
            let Some(mut guardian) = node.guardian.take() else { continue };
            while begun.elapsed() < STOP_WAIT && matches!(guardian.try_wait(), Ok(None)) {
                thread::sleep(LOOK);
            }
            // Both fail only where the process has ended already.
            drop(guardian.kill());
            drop(guardian.wait());
        }
    }

    /// Lets the nodes live on when the demo ends.
    pub fn keep(&mut self) {
        for node in &mut self.nodes {
            node.guardian = None;
        }
    }
}

impl Drop for DemoGroup {
    fn drop(&mut self) {
        self.stop();
    }
}

fn client(node: &DemoNode) -> Client {
    Client::new(node.admin, None)
}

/// Sends a signal from a separate process.
fn signal(name: &str, targets: &[String]) -> Result<Killed, Failure> {
    let asked_at = Instant::now();
    let script = format!("kill -{name} {}", targets.join(" "));
    let status = Command::new("/bin/sh").args(["-c", &script]).stderr(Stdio::null()).status()?;
    if status.success() {
        Ok(Killed { asked_at, sent_at: Instant::now() })
    } else {
        Err(Failure::new(format!("no process took SIG{name}")))
    }
}

fn config_text(folder: &Path, nodes: &[DemoNode], profile: &str) -> String {
    let mut text = format!("[cluster]\nname = \"demo\"\nprofile = \"{profile}\"\n\n[nodes]\n");
    for node in nodes {
        let role = if node.data { "" } else { ", role = \"witness\"" };
        text.push_str(&format!("{} = {{ address = \"{}\"{role} }}\n", node.name, node.peer));
    }
    let folder = folder.display();
    text.push_str(&format!(
        "\n[local]\ndata_dir = \"{folder}/{{node}}/data\"\ntls_dir = \"{folder}/{{node}}\"\n\
         log = {{ format = \"text\", level = \"info\" }}\n\n"
    ));
    for node in nodes {
        text.push_str(&format!(
            "[local.node.{}]\nadmin = \"{}\"\nfront.redis.listen = \"{}\"\n\
             front.own-copy.listen = \"{}\"\n\n",
            node.name, node.admin, node.front, node.own_copy
        ));
    }
    text.push_str(
        "[group.main]\nengine = \"store\"\nreplication = \"sync\"\ndurability = \"fsync\"\nmin_copies = 1\n\n\
         [front.redis]\nprotocol = \"resp\"\nlisten = \"127.0.0.1:6379\"\nto = \"main\"\n\n\
         [front.own-copy]\nprotocol = \"resp\"\nlisten = \"127.0.0.1:6380\"\nto = \"main\"\nreads = \"any\"\n",
    );
    text
}
