//! The one way to write down what a group has agreed on, and what is doubtful about a file.
//!
//! The normalized text is TOML with every key that has a meaning spelled out, profiles resolved into timers, and
//! fronts in the order of their names. Reading it back gives the same value, so two nodes that agree hold the same
//! bytes in the register.

use super::fault::Fault;
use super::local::{Local, PeerSecurity};
use super::units::{duration_text, size_text};
use super::{Agreed, Front, NodeEntry, Protocol, Reads};
use hotwarm_core::register::{Durability, MemberRole, Replication};
use std::fmt::Write;

impl Agreed {
    /// The normalized text: what the register holds as the group's settings.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::new();
        section(&mut out, "[cluster]");
        text(&mut out, "name", &self.cluster);
        text(&mut out, "beacon", &duration_text(self.timing.beacon));
        text(&mut out, "shrink_after", &duration_text(self.timing.shrink_after));
        text(&mut out, "lease", &duration_text(self.timing.lease));
        text(&mut out, "grace", &duration_text(self.timing.grace));
        self.group_text(&mut out);
        for front in &self.fronts {
            front_text(&mut out, front);
        }
        out
    }

    fn group_text(&self, out: &mut String) {
        let group = &self.group;
        section(out, &format!("[group.{}]", group.name));
        text(out, "engine", "store");
        match group.replication {
            Replication::Sync => text(out, "replication", "sync"),
            Replication::Async { lag_bytes_max, lag_time_max } => {
                text(out, "replication", "async");
                text(out, "lag_max.time", &duration_text(lag_time_max));
                text(out, "lag_max.bytes", &size_text(lag_bytes_max));
            }
        }
        text(
            out,
            "durability",
            match group.durability {
                Durability::Fsync => "fsync",
                Durability::Interval => "interval",
            },
        );
        bare(out, "min_copies", group.min_copies);
        text(out, "memory_max", &size_text(group.memory_max_bytes));
        text(out, "history.time_max", &duration_text(group.history.time_max));
        text(out, "history.size_max", &size_text(group.history.size_max_bytes));
    }
}

fn front_text(out: &mut String, front: &Front) {
    section(out, &format!("[front.{}]", front.name));
    match front.protocol {
        Protocol::Resp => text(out, "protocol", "resp"),
    }
    text(out, "listen", &front.listen.to_string());
    text(out, "to", &front.to);
    match front.reads {
        Reads::Hot => text(out, "reads", "hot"),
        Reads::Verified => text(out, "reads", "verified"),
        Reads::Session => text(out, "reads", "session"),
        Reads::Any => text(out, "reads", "any"),
    }
    if let Some(path) = &front.password_file {
        text(out, "password_file", &path.display().to_string());
    }
    if front.allow_insecure {
        bare(out, "allow_insecure", true);
    }
    bare(out, "connections_max", front.connections_max);
    text(out, "hold.time_max", &duration_text(front.hold.time_max));
    bare(out, "hold.requests_max", front.hold.requests_max);
    text(out, "hold.bytes_max", &size_text(front.hold.bytes_max));
}

fn section(out: &mut String, header: &str) {
    let gap = if out.is_empty() { "" } else { "\n" };
    let _ = writeln!(out, "{gap}{header}");
}

fn text(out: &mut String, key: &str, value: &str) {
    bare(out, key, toml::Value::from(value));
}

fn bare(out: &mut String, key: &str, value: impl std::fmt::Display) {
    let _ = writeln!(out, "{key} = {value}");
}

/// What is allowed and still doubtful. `check` shows it, and `status` goes on showing what weakens the group.
pub(super) fn warnings(nodes: &[NodeEntry], local: &Local, agreed: &Agreed) -> Vec<Fault> {
    let mut found = Vec::new();
    let mut warn = |text: String| found.push(Fault { line: 0, text });
    let data_count = nodes.iter().filter(|node| node.role == MemberRole::Data).count();
    if nodes.len() == 1 {
        warn("one node alone: nothing takes over when it fails".to_owned());
    } else if nodes.len() == 2 {
        warn(
            "two members have no majority without each other: if one fails, the other cannot become hot by itself; \
             add a witness"
                .to_owned(),
        );
    } else if data_count == 1 {
        warn("one node alone holds data: nothing takes over when it fails".to_owned());
    }
    if data_count >= 3 && agreed.group.min_copies == 1 {
        warn(
            "min_copies = 1 with three or more nodes that hold data: after two faults a write may be on one disk \
             only; 2 is recommended"
                .to_owned(),
        );
    }
    if let Replication::Async { lag_bytes_max, lag_time_max } = agreed.group.replication {
        warn(format!(
            "replication = \"async\": a failover may lose up to {} or {} of acknowledged writes",
            duration_text(lag_time_max),
            size_text(lag_bytes_max)
        ));
    }
    if local.peers == PeerSecurity::Plaintext {
        warn("allow_plaintext = true: peers are neither authenticated nor hidden from the network".to_owned());
    }
    for front in agreed.fronts.iter().filter(|front| front.allow_insecure && front.password_file.is_none()) {
        warn(format!("[front.{}] allow_insecure = true: anybody who reaches it may read and write", front.name));
    }
    found
}
