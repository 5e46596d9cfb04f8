//! A network namespace with a name, and how this program's threads get into it.

use crate::tools::run;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::thread;

/// One namespace; it is removed when dropped.
pub struct Namespace {
    name: String,
    file: File,
}

impl Namespace {
    /// Makes it, with its loopback up.
    ///
    /// # Errors
    /// `ip` says why.
    pub fn make(name: &str) -> Result<Self, String> {
        run("ip", &["netns", "add", name])?;
        let path = format!("/run/netns/{name}");
        let file = File::open(&path).map_err(|error| format!("{path}: {error}"))?;
        let namespace = Self { name: name.to_owned(), file };
        namespace.ip(&["link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    /// Its name, as `ip netns` shows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Moves the calling thread into it, for good. Sockets that it opens and processes that it starts from then on are
    /// there; what it has opened before stays where it was.
    ///
    /// # Errors
    /// This process may not.
    pub fn enter(&self) -> io::Result<()> {
        Ok(move_into_link_name_space(self.file.as_fd(), Some(LinkNameSpaceType::Network))?)
    }

    /// Does something there, and comes back.
    ///
    /// # Errors
    /// The namespace cannot be entered.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        let done = thread::scope(|scope| scope.spawn(|| self.enter().map(|()| work())).join());
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Runs `ip` there.
    ///
    /// # Errors
    /// What it says.
    pub fn ip(&self, arguments: &[&str]) -> Result<(), String> {
        self.inside(|| run("ip", arguments)).map_err(|error| format!("{}: {error}", self.name))?.map(drop)
    }

    /// Another handle of the same namespace, for a thread that is to enter it; it removes nothing.
    ///
    /// # Errors
    /// No file descriptor is left.
    pub fn door(&self) -> io::Result<Door> {
        Ok(Door(self.file.try_clone()?))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Err(error) = run("ip", &["netns", "delete", &self.name]) {
            eprintln!("torture: {error}");
        }
    }
}

/// A way into a namespace.
pub struct Door(File);

impl Door {
    /// As [`Namespace::enter`].
    ///
    /// # Errors
    /// This process may not.
    pub fn enter(&self) -> io::Result<()> {
        Ok(move_into_link_name_space(self.0.as_fd(), Some(LinkNameSpaceType::Network))?)
    }
}
