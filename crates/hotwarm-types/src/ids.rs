//! Newtypes for every identity and position.

use core::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty), $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }
    };
}

macro_rules! random {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u128);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:032x}", self.0)
            }
        }

        impl $name {
            /// Reads the 32 hexadecimal digits that `Display` writes; `None` for anything else.
            #[must_use]
            pub fn parse(text: &str) -> Option<Self> {
                let whole = text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
                if whole { u128::from_str_radix(text, 16).ok().map(Self) } else { None }
            }
        }
    };
}

number! {
    /// A member of the group, numbered once by the register and never reused: a node whose folder is replaced
    /// gets a new number (R4), so its old votes and acknowledgements can never count again.
    NodeId(u16), "n"
}
number! {
    /// Number of a reign. Grows each time a node becomes hot; 0 is "before the first reign".
    Epoch(u64), ""
}
number! {
    /// Log sequence number: position of one write in the replication log, and the version of what it wrote.
    /// The first write is 1; 0 is "nothing yet".
    Lsn(u64), ""
}
number! {
    /// Version of the register's value: grows by one with every change of the group's state; 0 is "no value yet".
    Version(u64), "v"
}
number! {
    /// Which group of the cluster a frame, log or slot belongs to.
    GroupId(u32), "g"
}
number! {
    /// One attempt of a hot to bring one follower in step. Progress reported for another stream is ignored (R10).
    StreamId(u64), "s"
}
number! {
    /// Names one order to a disk, so that the fact "it is durable" can be matched to it.
    Token(u64), "#"
}
number! {
    /// Names one question put to a node by its own shell, so that the answer can be matched to it.
    RequestId(u64), "q"
}
random! {
    /// Identity of the whole cluster, drawn once by `hotwarm init`.
    ClusterId
}
random! {
    /// Identity of one data folder, drawn when the folder is made. A member is (name, folder id) (R4).
    FolderId
}
random! {
    /// One client session: retries under it are applied once (R34).
    SessionId
}
random! {
    /// One pinned moment of a hot's committed state, drawn when it is pinned. A full copy that broke off is only ever
    /// continued from the same one.
    SnapshotId
}

impl Epoch {
    /// The epoch after this one.
    ///
    /// # Panics
    /// After 2^64 changes of the hot.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.checked_add(1).expect("epochs are exhausted"))
    }
}

impl Version {
    /// The version after this one.
    ///
    /// # Panics
    /// After 2^64 changes of the group's state.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.checked_add(1).expect("versions are exhausted"))
    }
}

impl Lsn {
    /// Before the first write.
    pub const ZERO: Self = Self(0);

    /// The position after this one.
    ///
    /// # Panics
    /// After 2^64 writes.
    #[must_use]
    pub fn next(self) -> Self {
        self.plus(1)
    }

    /// The position `count` writes later.
    ///
    /// # Panics
    /// After 2^64 writes.
    #[must_use]
    pub fn plus(self, count: u64) -> Self {
        Self(self.0.checked_add(count).expect("log sequence numbers are exhausted"))
    }

    /// The position before this one; `ZERO` stays `ZERO`.
    #[must_use]
    pub fn prev(self) -> Self {
        Self(self.0.saturating_sub(1))
    }

    /// How many writes lie after `earlier`, up to and including this one; 0 when `earlier` is not earlier.
    #[must_use]
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// A position together with the epoch that wrote it: two logs that hold the same `EntryId` are equal up to it.
/// Ordered by epoch first, which is the order of candidates (R24).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId {
    /// Epoch in which the entry was appended.
    pub epoch: Epoch,
    /// Its position.
    pub lsn: Lsn,
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.lsn, self.epoch)
    }
}

/// One start of a node's process. The counter is fsynced at each start; the nonce tells apart two folders that
/// were copied from each other and started the same number of times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation {
    /// How often this folder has been started, this start included; from 1.
    pub start: u64,
    /// Drawn at random at each start.
    pub nonce: u64,
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{:04x}", self.start, self.nonce & 0xffff)
    }
}

/// Who is hot: exactly one start of one node, in one epoch (R1). Only that process may append in that epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reign {
    /// Number of the reign.
    pub epoch: Epoch,
    /// The node that reigns.
    pub node: NodeId,
    /// The start of its process that won the reign.
    pub incarnation: Incarnation,
}

impl fmt::Display for Reign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{} ({})", self.node, self.epoch, self.incarnation)
    }
}

/// One stretch of serving within a reign, which may pause for a hand-over that comes to nothing: writes that were
/// executed in an earlier stretch are not to be taken for writes of a later one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Tenure {
    /// The reign's epoch.
    pub epoch: Epoch,
    /// Which stretch of it: 1, 2, ...
    pub number: u64,
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::string::ToString;

    #[test]
    fn positions_of_a_later_epoch_outrank_longer_logs() {
        let longer = EntryId { epoch: Epoch(3), lsn: Lsn(900) };
        let later = EntryId { epoch: Epoch(4), lsn: Lsn(12) };
        assert!(later > longer);
    }

    #[test]
    fn random_ids_parse_only_what_they_print() {
        let id = FolderId(0x00ab_cdef);
        assert_eq!(FolderId::parse(&id.to_string()), Some(id));
        for bad in ["", "abc", "+0000000000000000000000000abcdef", "0000000000000000000000000000000g"] {
            assert_eq!(FolderId::parse(bad), None, "{bad}");
        }
    }
}
