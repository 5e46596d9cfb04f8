//! A machine: a clock, a disk, and (most of the time) one process that runs a node of the core.

use crate::clock::Clock;
use crate::copies::Copy;
use crate::devices::{Install, LogDevice, VoteDevice};
use crate::disk::Disk;
use crate::log::Log;
use crate::serve::Serving;
use crate::workload::Request;
use hotwarm_core::register::{GroupState, Member, MemberRole};
use hotwarm_core::{Claims, FenceReason, Input, Node};
use hotwarm_store::{Engine, Feeder, GroupTime, Snapshot};
use hotwarm_types::{EntryId, Epoch, Incarnation, Instant, Lsn, NodeId, Reign, RequestId, StreamId, Tenure};
use std::collections::{BTreeMap, VecDeque};

/// Something that a process takes from its surroundings, in the order of arrival. A paused one takes it later.
#[derive(Debug)]
pub enum Stimulus {
    /// A fact for the core.
    Fact(Input),
    /// A timer of the core may be due.
    Timer,
    /// A connection stands.
    LinkUp {
        /// The machine at the other end.
        peer: usize,
        /// Its member number.
        id: NodeId,
        /// The start of its process.
        incarnation: Incarnation,
        /// The connection.
        connection: u64,
    },
    /// A connection broke.
    LinkDown {
        /// The machine at the other end.
        peer: usize,
        /// The connection.
        connection: u64,
    },
    /// A message arrived.
    Message {
        /// The machine that sent it.
        peer: usize,
        /// The connection.
        connection: u64,
        /// The message, as it came over the wire.
        frame: Vec<u8>,
    },
    /// A client's request arrived.
    Request(Request),
    /// Requests that have arrived are to be executed.
    Turn,
    /// A whole copy is on the disk, beside log and state.
    Received {
        /// The machine it came from, and its process.
        from: (usize, u64),
        /// The copy.
        copy: Box<Copy>,
    },
    /// A whole copy has replaced log and state on the disk.
    Installed(Box<Install>),
    /// The state machine is durable up to here.
    Flushed(Lsn),
}

/// What the shell does with requests, as the core told it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Send clients to whoever reigns.
    Following(Option<Reign>),
    /// Execute.
    Serving(Tenure),
    /// Let them wait.
    Holding,
}

/// A connection as this process knows it.
#[derive(Clone, Copy, Debug)]
pub struct Told {
    /// The connection.
    pub connection: u64,
    /// The member at the other end.
    pub id: NodeId,
    /// The start of its process.
    pub incarnation: Incarnation,
}

/// One start of a node.
#[derive(Debug)]
pub struct Process {
    /// Names this process among all of the run: what was meant for another is dropped.
    pub boot: u64,
    /// Its incarnation.
    pub incarnation: Incarnation,
    /// The core.
    pub node: Node,
    /// What the log should hold, by what this process was ordered to write.
    pub log: Log,
    /// The log's writer.
    pub log_device: LogDevice,
    /// The vote record's writer.
    pub votes: VoteDevice,
    /// The state, and what executes on it.
    pub engine: Engine,
    /// What carries it to the tree.
    pub feeder: Feeder,
    /// Group time (R35).
    pub time: GroupTime,
    /// No segment can be made ahead of need: writes are refused.
    pub space_is_short: bool,
    /// Whom it is to connect to besides the members.
    pub met: BTreeMap<NodeId, Member>,
    /// What the core said about requests last.
    pub mode: Mode,
    /// Requests that wait, and what waits for a commit.
    pub serving: Serving,
    /// The last request number given out.
    pub requests: u64,
    /// The group's state as this node knows it.
    pub known: Option<GroupState>,
    /// Connections, by machine.
    pub told: BTreeMap<usize, Told>,
    /// Pinned snapshots.
    pub pinned: BTreeMap<StreamId, Snapshot>,
    /// The snapshot that this process is ready to receive, and from which machine.
    pub receiving: Option<(usize, StreamId, EntryId)>,
    /// The snapshot that is here whole and is not installed: from which process of which machine, and which.
    pub received: Option<((usize, u64), StreamId, EntryId)>,
    /// When the next timer is due, in simulated time.
    pub timer_at: u64,
    /// The core has fenced the node: it must say nothing more.
    pub fenced: Option<FenceReason>,
    /// A lease was good at this local time (used by a planted bug only).
    pub lease_seen: u64,
}

impl Process {
    /// The end of what is committed and applied here.
    #[must_use]
    pub fn committed(&self) -> Lsn {
        self.engine.state.committed().lsn
    }

    /// The next request number.
    pub fn next_request(&mut self) -> RequestId {
        self.requests += 1;
        RequestId(self.requests)
    }

    /// Whether this very process reigns, as far as it knows.
    #[must_use]
    pub fn reigns(&self) -> Option<Epoch> {
        let reign = self.node.reign()?;
        (Some(reign.node) == self.node.id() && reign.incarnation == self.incarnation).then_some(reign.epoch)
    }
}

/// What has run into a machine's faults, or would have.
#[derive(Clone, Copy, Debug, Default)]
pub struct Traffic {
    /// Orders to its disk.
    pub orders: u64,
    /// Those that found no room.
    pub no_room: u64,
    /// Folders that were refused, and reads that failed.
    pub damage: u64,
    /// Requests meant for it.
    pub requests: u64,
    /// Steps that looked at its clock.
    pub readings: u64,
}

/// A machine.
#[derive(Debug)]
pub struct Machine {
    /// Its name, and the name of its member.
    pub name: String,
    /// Whether it holds data.
    pub role: MemberRole,
    /// Its priority as a candidate.
    pub priority: u16,
    /// What it shows.
    pub clock: Clock,
    /// What must be added to it for wall time, in milliseconds since the Unix epoch.
    pub wall_offset_ms: u64,
    /// What survives.
    pub disk: Disk,
    /// An older image of the disk, for the fault that restores one.
    pub image: Option<Box<Disk>>,
    /// The process, if one runs.
    pub process: Option<Process>,
    /// Until when the process is stopped, in simulated time.
    pub paused_until: Option<u64>,
    /// What the clock showed when it was stopped.
    pub paused_at: Instant,
    /// What a paused process will take when it goes on.
    pub inbox: VecDeque<Stimulus>,
    /// No order to the disk is done before this time.
    pub disk_stalled_until: u64,
    /// Typical time of a sync, nanoseconds.
    pub sync: u64,
    /// Clients cannot reach it.
    pub clients_cut: bool,
    /// What has run into its faults.
    pub traffic: Traffic,
    /// Why its node fenced itself, until a person helps.
    pub fenced: Option<FenceReason>,
    /// Its folder has forgotten something: it may never count again under its old identity (R5).
    pub amnesiac: bool,
    /// What its wiped folder claims to remember (used by a planted bug only).
    pub forged: Option<Claims>,
    /// Whether it is, or was at some time, meant to be a member.
    pub wanted: bool,
    /// When its process ended, if none runs.
    pub down_since: u64,
}

impl Machine {
    /// Whether a process runs and is not stopped.
    #[must_use]
    pub fn is_awake(&self) -> bool {
        self.process.is_some() && self.paused_until.is_none()
    }
}
