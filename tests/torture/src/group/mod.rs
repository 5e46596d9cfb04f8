//! The group that is broken: real nodes of the release build, each under its guardian, on a machine of its own.
//!
//! The harness is also what a machine would have around them: systemd, which starts a node again whose guardian has
//! ended (`contrib/hotwarm.service`), and an operator, who does what `docs/operating.md` asks of one. What an operator
//! did is counted.

pub mod admin;
pub mod config;
pub mod observer;

use crate::lab::Lab;
use crate::process::{child, signal, signal_group};
use crate::tools;
use admin::Admin;
use rustix::process::Signal;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How long a stopping node may take before it is killed: it hands over first.
const STOP_WAIT: Duration = Duration::from_secs(10);
/// As systemd's `RestartSec`: a node that does not start is not tried more often.
const RESTART_PAUSE: Duration = Duration::from_millis(500);

/// A node's processes.
#[derive(Debug, Default)]
struct Process {
    guardian: Option<Child>,
    /// A fault keeps it down: nobody starts it again.
    held_down: bool,
    started_at: Option<Instant>,
    /// By how much its clock since boot differs, in seconds.
    boot_clock_offset: i64,
}

/// The group.
pub struct Group {
    program: PathBuf,
    processes: Vec<Process>,
    /// Nodes that were started again since their guardian had ended by itself.
    pub restarts: u64,
    /// What an operator was asked to do, and did.
    pub operator_steps: u64,
}

impl Group {
    /// Makes certificates, tickets and the configuration, starts the nodes, and applies the configuration: an operator's
    /// steps from nothing to a group.
    ///
    /// # Errors
    /// The program refuses, or the nodes do not become a group.
    pub fn make(lab: &Lab, program: &Path, nodes: usize, min_copies: u8) -> Result<Self, String> {
        let told = |path: &Path, error: std::io::Error| format!("{}: {error}", path.display());
        let mut arguments = vec!["init".to_owned(), "--name".to_owned(), "torture".to_owned()];
        for node in 0..nodes {
            let (name, address) = (&lab.machines[node].name, config::address(lab, node, config::PEER_PORT));
            arguments.extend(["--node".to_owned(), format!("{name}={address}")]);
        }
        arguments.extend(["--out".to_owned(), config::authority(lab).display().to_string()]);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        tools::run(&program.display().to_string(), &arguments)?;
        let path = config::path(lab);
        fs::write(&path, config::text(lab, nodes, min_copies)).map_err(|error| told(&path, error))?;
        let password = lab.folder.join("password");
        fs::write(&password, config::PASSWORD).map_err(|error| told(&password, error))?;
        let processes = (0..nodes).map(|_| Process::default()).collect();
        Ok(Self { program: program.to_owned(), processes, restarts: 0, operator_steps: 0 })
    }

    /// How many nodes there are.
    pub fn size(&self) -> usize {
        self.processes.len()
    }

    /// Puts the configuration into force, once somebody reigns.
    ///
    /// # Errors
    /// It is refused.
    pub fn apply(&self, lab: &Lab, node: usize) -> Result<(), String> {
        self.command(lab, node, &["apply"]).map(drop)
    }

    /// Runs a command of the program beside a node, as an operator there would.
    ///
    /// # Errors
    /// It says no.
    pub fn command(&self, lab: &Lab, node: usize, arguments: &[&str]) -> Result<String, String> {
        let machine = &lab.machines[node];
        let config = config::path(lab).display().to_string();
        let program = self.program.display().to_string();
        let mut all = arguments.to_vec();
        all.extend(["--config", &config, "--node", &machine.name]);
        let done = machine.namespace.inside(|| tools::run(&program, &all));
        done.map_err(|error| format!("{}: {error}", machine.name))?
    }

    /// Asks a node's admin API for a change.
    ///
    /// # Errors
    /// It is refused, or nobody answers.
    pub fn post(&self, lab: &Lab, node: usize, route: &str, body: &str) -> Result<(), String> {
        let machine = &lab.machines[node];
        let ask = || Admin::connect().and_then(|mut admin| admin.post(route, body));
        let done = machine.namespace.inside(ask).and_then(|answer| answer);
        done.map(drop).map_err(|error| format!("{}: {error}", machine.name))
    }

    /// Starts a node, unless it runs.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn start(&mut self, lab: &Lab, node: usize) -> Result<(), String> {
        let machine = &lab.machines[node];
        let told = |error: std::io::Error| format!("{} cannot be started: {error}", machine.name);
        if self.runs(node) {
            self.processes[node].held_down = false;
            return Ok(());
        }
        let path = lab.folder.join(format!("{}.log", machine.name));
        let log = fs::File::options().create(true).append(true).open(path).map_err(told)?;
        let mut command = self.run_command(lab, node);
        command.stdin(Stdio::null()).stdout(log.try_clone().map_err(told)?).stderr(log);
        let guardian = machine.namespace.inside(move || command.spawn()).and_then(|child| child).map_err(told)?;
        let process = &mut self.processes[node];
        (process.guardian, process.held_down, process.started_at) = (Some(guardian), false, Some(Instant::now()));
        Ok(())
    }

    /// The shell enters the control groups and becomes the guardian: everything after it is in them.
    fn run_command(&self, lab: &Lab, node: usize) -> Command {
        let machine = &lab.machines[node];
        let offset = self.processes[node].boot_clock_offset;
        let mut command = Command::new("/bin/sh");
        let enter = "while [ \"$1\" != -- ]; do echo $$ >\"$1\" || exit 9; shift; done; shift; exec \"$@\"";
        command.args(["-c", enter, "sh"]).args(machine.cgroups.doors()).arg("--");
        if offset != 0 {
            let offset = offset.to_string();
            command.args(["unshare", "--time", "--boottime", &offset, "--monotonic", &offset, "--"]);
        }
        command.arg(&self.program).args(["run", "--node", &machine.name, "--config"]).arg(config::path(lab));
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        command
    }

    /// From its next start on, a node's clock since boot differs by so many seconds.
    pub fn set_boot_clock_offset(&mut self, node: usize, seconds: i64) {
        self.processes[node].boot_clock_offset = seconds;
    }

    /// Whether its guardian runs.
    pub fn runs(&mut self, node: usize) -> bool {
        let guardian = self.processes[node].guardian.as_mut();
        guardian.is_some_and(|guardian| matches!(guardian.try_wait(), Ok(None)))
    }

    /// Does what systemd does: starts again what has ended by itself.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn tend(&mut self, lab: &Lab) -> Result<(), String> {
        for node in 0..self.size() {
            let process = &self.processes[node];
            let is_early = process.started_at.is_some_and(|at| at.elapsed() < RESTART_PAUSE);
            if process.guardian.is_some() && !process.held_down && !is_early && !self.runs(node) {
                self.restarts += 1;
                self.start(lab, node)?;
            }
        }
        Ok(())
    }

    /// From now on nobody starts it again until [`Group::start`].
    pub fn hold_down(&mut self, node: usize) {
        self.processes[node].held_down = true;
    }

    /// The guardian's process.
    pub fn guardian_pid(&self, node: usize) -> Option<u32> {
        self.processes[node].guardian.as_ref().map(Child::id)
    }

    /// The node's process, the guardian's only child.
    pub fn node_pid(&self, node: usize) -> Option<u32> {
        self.guardian_pid(node).and_then(child)
    }

    /// Kills the node; its guardian lives, and attests it.
    pub fn kill_node(&mut self, node: usize) {
        self.hold_down(node);
        if let Some(pid) = self.node_pid(node) {
            signal(pid, Signal::KILL);
        }
    }

    /// Kills the guardian; the node lives on without.
    pub fn kill_guardian(&mut self, node: usize) {
        self.hold_down(node);
        if let Some(pid) = self.guardian_pid(node) {
            signal(pid, Signal::KILL);
        }
    }

    /// Kills both, the guardian first: nobody attests anything.
    pub fn kill_both(&mut self, node: usize) {
        self.hold_down(node);
        let pids = [self.guardian_pid(node), self.node_pid(node)];
        for pid in pids.into_iter().flatten() {
            signal(pid, Signal::KILL);
        }
    }

    /// Sends a signal to guardian and node, each with all it has started.
    pub fn signal_both(&self, node: usize, kind: Signal) {
        for pid in [self.guardian_pid(node), self.node_pid(node)].into_iter().flatten() {
            signal_group(pid, kind);
        }
    }

    /// Stops a node as an operator does: it says goodbye. Waits until it has ended, and kills what does not.
    ///
    /// # Errors
    /// It did not end in time, and was killed.
    pub fn stop(&mut self, lab: &Lab, node: usize) -> Result<(), String> {
        self.hold_down(node);
        if let Some(pid) = self.guardian_pid(node) {
            signal(pid, Signal::TERM);
        }
        self.await_end(lab, node, STOP_WAIT)
    }

    /// Waits until all of a node's processes have ended, and kills what does not.
    ///
    /// # Errors
    /// It had to be killed.
    pub fn await_end(&mut self, lab: &Lab, node: usize, limit: Duration) -> Result<(), String> {
        let begun = Instant::now();
        let cgroups = &lab.machines[node].cgroups;
        while !cgroups.processes().is_empty() && begun.elapsed() < limit {
            // Takes the guardian's status, so that it is gone.
            self.runs(node);
            thread::sleep(Duration::from_millis(5));
        }
        let late = !cgroups.processes().is_empty();
        if late {
            for pid in cgroups.processes() {
                signal(pid, Signal::KILL);
            }
        }
        if let Some(mut guardian) = self.processes[node].guardian.take() {
            guardian.wait().map_err(|error| format!("{}: {error}", lab.machines[node].name))?;
        }
        cgroups.kill_all()?;
        if late { Err(format!("{} did not end in {} s", lab.machines[node].name, limit.as_secs())) } else { Ok(()) }
    }

    /// Replaces a node whose disk is lost, word by word as `docs/operating.md` says; another node is asked.
    ///
    /// # Errors
    /// A step fails.
    pub fn replace(&mut self, lab: &Lab, node: usize, asked: usize) -> Result<(), String> {
        self.operator_steps += 1;
        let name = lab.machines[node].name.clone();
        let told = |path: &Path, error: std::io::Error| format!("{}: {error}", path.display());
        let new = lab.folder.join(format!("new-{}", self.operator_steps));
        let authority = config::authority(lab);
        let (ca, out) = (authority.display().to_string(), new.display().to_string());
        self.command(lab, asked, &["node", "replace", &name, "--ca", &ca, "--out", &out])?;
        let tls = authority.join(&name);
        for entry in fs::read_dir(new.join(&name)).map_err(|error| told(&new, error))?.flatten() {
            let to = tls.join(entry.file_name());
            fs::copy(entry.path(), &to).map_err(|error| told(&to, error))?;
        }
        self.empty(lab, node)?;
        self.start(lab, node)
    }

    /// Removes a stopped node's data folder.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn empty(&self, lab: &Lab, node: usize) -> Result<(), String> {
        let Some(disk) = &lab.machines[node].disk else { return Ok(()) };
        let data = disk.data();
        match fs::remove_dir_all(&data) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(format!("{}: {error}", data.display())),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Stops all nodes.
    pub fn stop_all(&mut self, lab: &Lab) {
        for node in 0..self.size() {
            self.hold_down(node);
            self.signal_both(node, Signal::CONT);
            if let Some(pid) = self.guardian_pid(node) {
                signal(pid, Signal::TERM);
            }
        }
        for node in 0..self.size() {
            if let Err(error) = self.await_end(lab, node, STOP_WAIT) {
                eprintln!("torture: {error}");
            }
        }
    }
}
