//! The control groups (version 1) of a machine's processes: what they may use, and which they are.

use crate::process::signal;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Where the hierarchies are.
const ROOT: &str = "/sys/fs/cgroup";
/// How long killed processes may take to go.
const KILL_WAIT: Duration = Duration::from_secs(5);

/// A hierarchy of version 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Controller {
    /// Shares of processors.
    Cpu,
    /// Memory.
    Memory,
    /// Reads and writes of block devices.
    Blkio,
    /// Stops processes where they are.
    Freezer,
    /// Numbers of processes.
    Pids,
}

impl Controller {
    const ALL: [Self; 5] = [Self::Cpu, Self::Memory, Self::Blkio, Self::Freezer, Self::Pids];

    /// Its name below the root.
    pub fn word(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Blkio => "blkio",
            Self::Freezer => "freezer",
            Self::Pids => "pids",
        }
    }
}

/// One group in each hierarchy; they are removed when dropped, with the processes in them.
#[derive(Debug)]
pub struct Cgroups {
    name: String,
}

impl Cgroups {
    /// Makes the groups.
    ///
    /// # Errors
    /// A hierarchy is not mounted; the text says how to.
    pub fn make(name: &str) -> Result<Self, String> {
        let groups = Self { name: name.to_owned() };
        for controller in Controller::ALL {
            let word = controller.word();
            let root = format!("{ROOT}/{word}");
            if !PathBuf::from(format!("{root}/tasks")).exists() {
                return Err(format!(
                    "{root} is no control group of version 1: mkdir -p {root} && mount -t cgroup -o {word} cgroup {root}"
                ));
            }
            let path = groups.path(controller);
            fs::create_dir(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        }
        Ok(groups)
    }

    /// The group of another run, to be removed.
    pub fn of(name: &str) -> Self {
        Self { name: name.to_owned() }
    }

    /// Names of all groups that begin so.
    pub fn named(prefix: &str) -> Vec<String> {
        let entries = fs::read_dir(format!("{ROOT}/{}", Controller::Freezer.word()));
        let names =
            entries.into_iter().flatten().flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.filter(|name| name.starts_with(prefix)).collect()
    }

    /// The files to which a process writes its id to be in the groups, and its children after it.
    pub fn doors(&self) -> Vec<PathBuf> {
        Controller::ALL.map(|controller| self.path(controller).join("cgroup.procs")).to_vec()
    }

    /// Sets a value of a controller.
    ///
    /// # Errors
    /// The kernel refuses it.
    pub fn set(&self, controller: Controller, key: &str, value: &str) -> Result<(), String> {
        let path = self.path(controller).join(format!("{}.{key}", controller.word()));
        fs::write(&path, value).map_err(|error| format!("{} = {value}: {error}", path.display()))
    }

    /// Reads a number of a controller.
    ///
    /// # Errors
    /// There is none.
    pub fn get(&self, controller: Controller, key: &str) -> Result<u64, String> {
        let path = self.path(controller).join(format!("{}.{key}", controller.word()));
        let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        text.trim().parse().map_err(|_| format!("{}: {text:?} is no number", path.display()))
    }

    /// The processes in it.
    pub fn processes(&self) -> Vec<u32> {
        let text = fs::read_to_string(self.path(Controller::Freezer).join("cgroup.procs")).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// Kills everything in it and waits until it is gone.
    ///
    /// # Errors
    /// Something does not die.
    pub fn kill_all(&self) -> Result<(), String> {
        let begun = Instant::now();
        // What is frozen cannot die.
        let _ = self.set(Controller::Freezer, "state", "THAWED");
        loop {
            let processes = self.processes();
            if processes.is_empty() {
                return Ok(());
            }
            if begun.elapsed() > KILL_WAIT {
                return Err(format!("{}: the processes {processes:?} do not die", self.name));
            }
            for pid in processes {
                signal(pid, rustix::process::Signal::KILL);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Removes the groups; their processes are killed first.
    ///
    /// # Errors
    /// Something does not die.
    pub fn remove(&self) -> Result<(), String> {
        self.kill_all()?;
        for controller in Controller::ALL {
            let path = self.path(controller);
            match fs::remove_dir(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(format!("{}: {error}", path.display()));
                }
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    fn path(&self, controller: Controller) -> PathBuf {
        PathBuf::from(format!("{ROOT}/{}/{}", controller.word(), self.name))
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            eprintln!("torture: {error}");
        }
    }
}
