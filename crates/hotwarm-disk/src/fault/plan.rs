//! Which calls of a [`FaultDisk`](crate::FaultDisk) fail, and the count of all that were made.

use std::collections::BTreeMap;
use std::io;

/// A kind of call to a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "each variant is the method of that name")]
pub enum Call {
    Open,
    Rename,
    Remove,
    List,
    CreateDir,
    SyncDir,
    Exists,
    Space,
    ReadAt,
    WriteAt,
    SyncData,
    Size,
    SetSize,
    AllocateZeroed,
    Inode,
    ModifiedMs,
}

impl Call {
    /// Whether it may change what is on the disk.
    fn changes(self) -> bool {
        match self {
            Self::Open
            | Self::Rename
            | Self::Remove
            | Self::CreateDir
            | Self::SyncDir
            | Self::WriteAt
            | Self::SyncData
            | Self::SetSize
            | Self::AllocateZeroed => true,
            Self::List | Self::Exists | Self::Space | Self::ReadAt | Self::Size | Self::Inode | Self::ModifiedMs => {
                false
            }
        }
    }
}

/// What a failing call answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultError {
    /// The device failed: EIO.
    Io,
    /// The file system is full: ENOSPC.
    NoSpace,
}

impl FaultError {
    fn error(self) -> io::Error {
        match self {
            Self::Io => rustix::io::Errno::IO.into(),
            Self::NoSpace => rustix::io::Errno::NOSPC.into(),
        }
    }
}

/// One planned fault: the `nth` call from now on, of those that it selects, fails.
#[derive(Clone, Debug)]
pub struct Fault {
    nth: u64,
    error: FaultError,
    lasting: bool,
    call: Option<Call>,
    path: Option<String>,
}

impl Fault {
    /// The `nth` call from now on fails, once; 1 is the next one.
    #[must_use]
    pub fn nth(nth: u64, error: FaultError) -> Self {
        Self { nth: nth.max(1), error, lasting: false, call: None, path: None }
    }

    /// All later ones fail, too.
    #[must_use]
    pub fn lasting(mut self) -> Self {
        self.lasting = true;
        self
    }

    /// Counts only calls of one kind.
    #[must_use]
    pub fn of(mut self, call: Call) -> Self {
        self.call = Some(call);
        self
    }

    /// Counts only calls for paths that contain `part`.
    #[must_use]
    pub fn on(mut self, part: &str) -> Self {
        self.path = Some(part.to_string());
        self
    }

    fn selects(&self, call: Call, path: &str) -> bool {
        self.call.is_none_or(|wanted| wanted == call) && self.path.as_ref().is_none_or(|part| path.contains(part))
    }
}

/// The planned faults and the counters.
#[derive(Debug, Default)]
pub(super) struct Plan {
    faults: Vec<Fault>,
    counts: BTreeMap<Call, u64>,
    shown: u64,
    /// The next write to a path that contains this lands elsewhere: so many bytes further on, or back where that is past
    /// the end of the file.
    misdirected: Option<(String, u64)>,
    /// Syncs do nothing and report success.
    pub(super) ignores_syncs: bool,
    /// How many changes the process still gets done before it is dead, if it is about to die.
    dies_in: Option<u64>,
}

impl Plan {
    pub(super) fn add(&mut self, fault: Fault) {
        self.faults.push(fault);
    }

    pub(super) fn clear(&mut self) {
        self.faults.clear();
        self.misdirected = None;
    }

    pub(super) fn misdirect(&mut self, path: &str, by_bytes: u64) {
        self.misdirected = Some((path.to_string(), by_bytes));
    }

    /// Where a write to a file of `size_bytes` lands that was meant for `offset`.
    pub(super) fn landing(&mut self, path: &str, offset: usize, size_bytes: usize) -> usize {
        match self.misdirected.take_if(|(part, _)| path.contains(part.as_str())) {
            Some((_, by_bytes)) => {
                self.shown += 1;
                let by_bytes = by_bytes as usize;
                if offset + by_bytes < size_bytes { offset + by_bytes } else { offset.saturating_sub(by_bytes) }
            }
            None => offset,
        }
    }

    pub(super) fn die_after(&mut self, changes: Option<u64>) {
        self.dies_in = changes;
    }

    /// Whether the process is dead by the time of this call, which then does nothing.
    pub(super) fn is_dead(&mut self, call: Call) -> bool {
        match &mut self.dies_in {
            None => false,
            Some(0) => true,
            Some(left) => {
                *left -= u64::from(call.changes());
                false
            }
        }
    }

    pub(super) fn calls(&self) -> u64 {
        self.counts.values().sum()
    }

    pub(super) fn calls_of(&self, call: Call) -> u64 {
        self.counts.get(&call).copied().unwrap_or(0)
    }

    pub(super) fn shown(&self) -> u64 {
        self.shown
    }

    /// Counts a call; the error with which it fails, if it does.
    pub(super) fn call(&mut self, call: Call, path: &str) -> Option<io::Error> {
        *self.counts.entry(call).or_default() += 1;
        let mut failure = None;
        self.faults.retain_mut(|fault| {
            if !fault.selects(call, path) {
                return true;
            }
            fault.nth = fault.nth.saturating_sub(1);
            if fault.nth > 0 {
                return true;
            }
            failure = Some(fault.error);
            fault.lasting
        });
        self.shown += u64::from(failure.is_some());
        failure.map(FaultError::error)
    }
}
