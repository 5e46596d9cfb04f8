//! What is wrong with a configuration: every fault of a file, each with its line, never only the first.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// One thing that is wrong, or doubtful, in a configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The line in the file, from 1; 0 where the fault is that something is missing altogether.
    pub line: usize,
    /// What is wrong and what would be right: one line, lower case, no full stop.
    pub text: String,
}

/// All faults of one file, in the order of its lines. Displayed as `hotwarm.toml:14: ...`, one to a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults {
    /// The file's name as the operator gave it.
    pub file: String,
    /// The faults; never empty.
    pub list: Vec<Fault>,
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.list.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            match fault.line {
                0 => write!(f, "{}: {}", self.file, fault.text)?,
                line => write!(f, "{}:{line}: {}", self.file, fault.text)?,
            }
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

/// Why no configuration could be had from a file. Nothing was started or changed.
#[derive(Debug)]
pub enum LoadError {
    /// The file could not be read.
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file was read and is wrong.
    Faulty(Faults),
    /// The file does not say which of its nodes this machine is.
    WhichNode(WhichNodeError),
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { path, .. } => write!(f, "read configuration \"{}\"", path.display()),
            Self::Faulty(faults) => faults.fmt(f),
            Self::WhichNode(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for LoadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unreadable { source, .. } => Some(source),
            Self::Faulty(_) | Self::WhichNode(_) => None,
        }
    }
}

/// Why it is not known which node of the file this process is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WhichNodeError {
    /// The file.
    pub file: String,
    /// The name that was tried.
    pub tried: String,
    /// Where that name came from: `--node`, `HOTWARM_NODE`, or the host name.
    pub origin: &'static str,
    /// The names in the file.
    pub known: Vec<String>,
}

impl fmt::Display for WhichNodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: no node \"{}\" (from {}) in [nodes], which has {}; say --node NAME or set HOTWARM_NODE",
            self.file,
            self.tried,
            self.origin,
            self.known.join(", ")
        )
    }
}

impl std::error::Error for WhichNodeError {}
