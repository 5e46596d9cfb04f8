//! What the demo found, as one JSON object or as text.

use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write;

/// A change of the hot.
#[derive(Clone, Debug, Serialize)]
pub struct Change {
    /// `crash_attested`, `pause`, or `switchover`.
    pub kind: String,
    /// From the kill (or the request) to the first acknowledgement of a write that was begun after it.
    pub takeover_ms: f64,
    /// How long each part took, as the new hot tells it; `detected` is the rest.
    pub phases_ms: BTreeMap<String, f64>,
    /// The longest that one client waited for one reply.
    pub longest_client_pause_ms: f64,
}

/// A node that came back.
#[derive(Clone, Debug, Serialize)]
pub struct Rejoin {
    /// `crash` or `pause`.
    pub kind: String,
    /// From its start (or waking) to being in sync.
    pub ms: f64,
    /// Entries it had to fetch.
    pub entries: u64,
}

/// The demo's result.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// How long the writers ran.
    pub seconds: f64,
    /// Writes acknowledged.
    pub acked: u64,
    /// Acknowledged writes that are not there at the end.
    pub lost: u64,
    /// Writes applied more than once.
    pub duplicated: u64,
    /// Error replies, time-outs, and failures on connections to living nodes.
    pub client_errors: u64,
    /// Connections lost with their node and opened elsewhere.
    pub reconnects: u64,
    /// Unplanned changes of the hot.
    pub failovers: Vec<Change>,
    /// Planned ones.
    pub switchovers: Vec<Change>,
    /// Changes of the hot that the demo did not cause: who, in which epoch, and why.
    pub unasked: Vec<String>,
    /// Nodes that came back.
    pub rejoins: Vec<Rejoin>,
    /// Every data node holds the same state.
    pub nodes_identical: bool,
    /// What the data is on.
    pub filesystem: String,
}

impl Report {
    /// Whether the group kept its promises.
    pub fn is_good(&self) -> bool {
        let harm = self.lost + self.duplicated + self.client_errors;
        harm == 0 && self.nodes_identical && self.unasked.is_empty()
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let rate = if self.seconds > 0.0 { self.acked as f64 / self.seconds } else { 0.0 };
        let _ = writeln!(
            text,
            "\n{} writes acknowledged in {:.1} s ({rate:.0}/s) on {}",
            self.acked, self.seconds, self.filesystem
        );
        let _ = writeln!(
            text,
            "lost {}, applied twice {}, client errors {}, reconnects {}, nodes identical: {}",
            self.lost,
            self.duplicated,
            self.client_errors,
            self.reconnects,
            if self.nodes_identical { "yes" } else { "NO" }
        );
        for change in &self.unasked {
            let _ = writeln!(text, "NOT ASKED FOR: {change}");
        }
        for (name, changes) in [("takeovers", &self.failovers), ("switchovers", &self.switchovers)] {
            let mut times: Vec<f64> = changes.iter().map(|change| change.takeover_ms).collect();
            times.sort_by(f64::total_cmp);
            if let (Some(median), Some(worst)) = (times.get(times.len() / 2), times.last()) {
                let _ = writeln!(text, "{} {name}: median {median:.1} ms, worst {worst:.1} ms", times.len());
            }
        }
        let slowest = self.rejoins.iter().map(|rejoin| rejoin.ms).fold(0.0, f64::max);
        if !self.rejoins.is_empty() {
            let _ = writeln!(text, "{} rejoins, the slowest in {slowest:.0} ms", self.rejoins.len());
        }
        text
    }
}
