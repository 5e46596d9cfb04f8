//! What a run leaves: every fault, every takeover, every pause, for the report and for the plot.

use crate::faults::{Class, Kind};
use serde::Serialize;

/// A run.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RunRecord {
    /// What draws it again.
    pub seed: u64,
    /// The nodes, in order.
    pub nodes: Vec<String>,
    /// How long it lasted.
    pub length_ns: u64,
    /// What was done to the group.
    pub faults: Vec<FaultRecord>,
    /// Each change of hot.
    pub takeovers: Vec<TakeoverRecord>,
    /// Changes of hot that no fault explains.
    pub needless: Vec<String>,
    /// The longest time without an acknowledged write in the course of each fault.
    pub pauses: Vec<PauseRecord>,
    /// Nodes that did not come back by themselves although the documents promise it.
    pub stuck: Vec<String>,
    /// Promises beyond those that were broken, and what else failed.
    pub broken: Vec<String>,
    /// Steps that the documents ask of an operator.
    pub operator_steps: u64,
    /// Nodes that were started again since they had ended by themselves.
    pub restarts: u64,
    /// Writes of the probes that were acknowledged.
    pub probe_acks: u64,
    /// Packets that the wire has carried.
    pub packets: u64,
}

/// One fault.
#[derive(Clone, Debug, Serialize)]
pub struct FaultRecord {
    /// What kind.
    pub kind: Kind,
    /// Whom it hit.
    pub node: usize,
    /// The other end, where it hit a link.
    pub peer: Option<usize>,
    /// When it began, nanoseconds since the run's start.
    pub from_ns: u64,
    /// When it was over.
    pub until_ns: u64,
    /// When the group was whole again; `None`: it was not in time.
    pub whole_ns: Option<u64>,
}

/// One change of hot.
#[derive(Clone, Debug, Serialize)]
pub struct TakeoverRecord {
    /// By what kind of fault.
    pub kind: Class,
    /// The fault.
    pub fault: Option<Kind>,
    /// When the new hot was first seen to serve.
    pub at_ns: u64,
    /// From the fault to the first acknowledged write of the new reign.
    pub took_ms: f64,
    /// The hot before.
    pub from: usize,
    /// The new one.
    pub to: usize,
    /// Its epoch.
    pub epoch: u64,
}

/// The longest write pause of a fault.
#[derive(Clone, Debug, Serialize)]
pub struct PauseRecord {
    /// The fault.
    pub kind: Kind,
    /// When the pause began.
    pub from_ns: u64,
    /// How long it was.
    pub ms: f64,
}
