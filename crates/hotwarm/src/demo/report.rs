//! What the demo found, as one JSON object or as text.

use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;

/// A change of the hot.
#[derive(Clone, Debug, Serialize)]
pub struct Change {
    /// `crash_attested`, `pause`, or `switchover`.
    pub kind: String,
    /// From the kill (or the request) to the first acknowledgement of a write that was begun after it.
    pub takeover_ms: f64,
    /// How long each part took, as the new hot tells it; `detected` is the rest.
    pub phases_ms: BTreeMap<String, f64>,
    /// The longest that one client waited for one reply, answered or not, until the group was whole again and calm.
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
    /// Acknowledged writes that are not there at the end, on the node that lacks most.
    pub lost: u64,
    /// Writes applied more than once, on the node that has most of them.
    pub duplicated: u64,
    /// Error replies, replies that tell of a write applied twice or not at all, time-outs, and failures on connections
    /// to living nodes.
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
    /// Every data node was read from its own copy, and shows the same keys with the same values and expiries.
    pub nodes_identical: bool,
    /// What kept the demo from its end, or from judging: no takeover, a node that cannot be asked or read.
    pub failures: Vec<String>,
    /// What the data is on.
    pub filesystem: String,
    /// Where the nodes' logs and data are; `None` where they are removed.
    pub folder: Option<PathBuf>,
}

impl Report {
    /// Whether the group kept its promises.
    pub fn is_good(&self) -> bool {
        let harm = self.lost + self.duplicated + self.client_errors;
        harm == 0 && self.nodes_identical && self.unasked.is_empty() && self.failures.is_empty()
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
        for failure in &self.failures {
            let _ = writeln!(text, "FAILED: {failure}");
        }
        for change in &self.unasked {
            let _ = writeln!(text, "NOT ASKED FOR: {change}");
        }
        for (name, changes) in [("takeovers", &self.failovers), ("switchovers", &self.switchovers)] {
            let mut times: Vec<f64> = changes.iter().map(|change| change.takeover_ms).collect();
            times.sort_by(f64::total_cmp);
            if let (Some(median), Some(worst)) = (times.get(times.len() / 2), times.last()) {
                let pause = changes.iter().map(|change| change.longest_client_pause_ms).fold(0.0, f64::max);
                let _ = writeln!(
                    text,
                    "{} {name}: median {median:.1} ms, worst {worst:.1} ms, longest wait of a client {pause:.1} ms",
                    times.len()
                );
            }
        }
        let slowest = self.rejoins.iter().map(|rejoin| rejoin.ms).fold(0.0, f64::max);
        if !self.rejoins.is_empty() {
            let _ = writeln!(text, "{} rejoins, the slowest in {slowest:.0} ms", self.rejoins.len());
        }
        if let Some(folder) = &self.folder {
            let _ = writeln!(text, "the nodes' logs and data are kept in {}", folder.display());
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_demo_that_did_not_come_to_its_end_is_not_good() {
        let mut report = Report { nodes_identical: true, ..Report::default() };
        assert!(report.is_good());
        report.failures.push("no write was acknowledged within 15 s".to_owned());
        report.folder = Some("/data/demo".into());
        assert!(!report.is_good());
        let text = report.text();
        assert!(text.contains("FAILED: no write was acknowledged within 15 s\n"), "{text}");
        assert!(text.ends_with("the nodes' logs and data are kept in /data/demo\n"), "{text}");
    }

    #[test]
    fn the_longest_wait_of_all_changes_is_told() {
        let change = |takeover_ms, longest_client_pause_ms| Change {
            kind: "pause".to_owned(),
            takeover_ms,
            phases_ms: BTreeMap::new(),
            longest_client_pause_ms,
        };
        let report = Report { failovers: vec![change(1070.0, 1800.0), change(1080.0, 1100.0)], ..Report::default() };
        let text = report.text();
        let line = "2 takeovers: median 1080.0 ms, worst 1080.0 ms, longest wait of a client 1800.0 ms\n";
        assert!(text.contains(line), "{text}");
    }
}
