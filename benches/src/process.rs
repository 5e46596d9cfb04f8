//! The servers' processes, ports and folder. A process ends by its own id, and never later than its owner.

use crate::failure::Failure;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How long a server may take until it is ready.
const START_WAIT: Duration = Duration::from_secs(60);
/// How long it may take to stop before it is killed.
const STOP_WAIT: Duration = Duration::from_secs(8);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);

/// A running server.
pub struct Server {
    child: Child,
    name: String,
}

impl Server {
    /// Starts it; what it prints goes to `NAME.log` in `folder`.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(name: &str, command: &mut Command, folder: &Path) -> Result<Self, Failure> {
        let log = fs::File::create(folder.join(format!("{name}.log")))?;
        let child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn();
        let child = child.map_err(|error| Failure::because(&format!("start {name}"), &error))?;
        Ok(Self { child, name: name.to_owned() })
    }

    /// Whether it still runs.
    ///
    /// # Errors
    /// It has ended, or the system does not tell.
    pub fn check(&mut self) -> Result<(), Failure> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => Err(Failure::new(format!("{} ended with {status}: see {0}.log", self.name))),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let begun = Instant::now();
        // It fails only where the process is gone, which is what is wanted.
        drop(Command::new("/bin/kill").arg(self.child.id().to_string()).stderr(Stdio::null()).status());
        while begun.elapsed() < STOP_WAIT && matches!(self.child.try_wait(), Ok(None)) {
            thread::sleep(LOOK);
        }
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Looks again and again until `look` finds what it looks for. It says what it saw instead.
///
/// # Errors
/// It takes too long, or `look` fails.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Result<Result<T, String>, Failure>) -> Result<T, Failure> {
    let begun = Instant::now();
    loop {
        match look()? {
            Ok(found) => return Ok(found),
            Err(seen) if begun.elapsed() > START_WAIT => {
                return Err(Failure::new(format!("{what}: not within {} s: {seen}", START_WAIT.as_secs())));
            }
            Err(_) => thread::sleep(LOOK),
        }
    }
}

/// Addresses on loopback that were free a moment ago. All are held until the last is known, so they differ.
///
/// # Errors
/// None is free.
pub fn free_addresses(count: usize) -> Result<Vec<SocketAddr>, Failure> {
    let listen = |_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let listeners: Vec<TcpListener> = (0..count).map(listen).collect::<Result<_, _>>()?;
    Ok(listeners.iter().map(TcpListener::local_addr).collect::<Result<_, _>>()?)
}

/// The data of all servers. It stays where a measure fails, for the servers' logs.
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// A new folder within `base`, or within the build's folder.
    ///
    /// # Errors
    /// It cannot be made, or is in memory: a sync would cost nothing there.
    pub fn make(base: Option<&Path>) -> Result<Self, Failure> {
        let program = std::env::current_exe()?;
        // The program is in target/release.
        let target = program.ancestors().nth(2).unwrap_or(Path::new("."));
        let base = base.unwrap_or(target);
        fs::create_dir_all(base)?;
        let filesystem = hotwarm_disk::filesystem(base)?;
        if matches!(filesystem.as_str(), "tmpfs" | "ramfs") {
            let base = base.display();
            return Err(Failure::new(format!(
                "{base} is on {filesystem}, where a sync costs nothing: choose a folder on a disk with --dir"
            )));
        }
        let path = fs::canonicalize(base)?.join(format!("hotwarm-bench-{}", std::process::id()));
        fs::create_dir(&path)?;
        Ok(Self { path })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes it with everything in it. No server may run any longer.
    ///
    /// # Errors
    /// What the system says.
    pub fn remove(self) -> Result<(), Failure> {
        Ok(fs::remove_dir_all(self.path)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_in_memory_is_refused() {
        let memory = Path::new("/dev/shm");
        if hotwarm_disk::filesystem(memory).is_ok_and(|filesystem| filesystem == "tmpfs") {
            let refused = Folder::make(Some(memory)).map(|_| ()).unwrap_err();
            assert!(refused.to_string().contains("a sync costs nothing"), "{refused}");
        }
    }

    #[test]
    fn a_server_that_has_ended_is_noticed() {
        let folder = std::env::temp_dir().join(format!("hotwarm-bench-test-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let mut server = Server::start("false", &mut Command::new("/bin/false"), &folder).unwrap();
        let seen = until("false ends", || Ok(server.check().map_or_else(Ok, |()| Err("it runs".to_owned())))).unwrap();
        assert!(seen.to_string().contains("see false.log"), "{seen}");
        fs::remove_dir_all(folder).unwrap();
    }
}
