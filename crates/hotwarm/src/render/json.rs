//! For programs. The shapes are those of the admin API, so that one description serves both.

use hotwarm_core::register::{GroupState, MemberRole};
use hotwarm_node::config::{Difference, Faults, File};
use serde::Serialize;
use serde_json::{Value, json};

/// A value over several lines. What is printed is always plain data, which has a JSON form.
pub fn pretty(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default() + "\n"
}

/// A value on one line, for streams.
pub fn line(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default() + "\n"
}

/// Why something could not be done.
pub fn error(text: &str) -> String {
    pretty(&json!({ "error": text }))
}

/// What is wrong with a file.
pub fn faults(faults: &Faults) -> String {
    let list: Vec<Value> = faults.list.iter().map(|fault| json!({ "line": fault.line, "text": fault.text })).collect();
    pretty(&json!({ "file": faults.file, "ok": false, "faults": list }))
}

/// A file that is sound.
pub fn file(file: &File) -> String {
    let warnings: Vec<&str> = file.warnings.iter().map(|warning| warning.text.as_str()).collect();
    let nodes: Vec<&str> = file.nodes.iter().map(|node| node.name.as_str()).collect();
    pretty(&json!({
        "file": file.path,
        "ok": true,
        "cluster": file.agreed.cluster,
        "group": file.agreed.group.name,
        "nodes": nodes,
        "warnings": warnings,
        "agreed": file.agreed.text(),
    }))
}

/// What `apply` did or would do.
pub fn apply(changes: &[Difference], members: &[Difference], version: u64, applied: bool) -> String {
    pretty(&json!({ "applied": applied, "register_version": version, "changes": changes, "members": members }))
}

/// The members and invitations of a state that was read from a majority.
pub fn state(state: &GroupState) -> String {
    let role = |role: MemberRole| match role {
        MemberRole::Data => "data",
        MemberRole::Witness => "witness",
    };
    let members: Vec<Value> = state
        .members
        .iter()
        .map(|(id, member)| {
            json!({
                "name": member.name, "id": id.0, "role": role(member.role), "address": member.address,
                "priority": member.priority, "folder": member.folder.to_string(),
                "in_sync": state.in_sync.contains(id), "hot": state.reign.node == *id && state.reign.epoch.0 > 0,
            })
        })
        .collect();
    let invited: Vec<Value> = state
        .invited
        .iter()
        .map(|(name, invitation)| {
            json!({
                "name": name, "role": role(invitation.role), "address": invitation.address,
                "replaces": invitation.replaces.map(|node| node.0),
            })
        })
        .collect();
    pretty(&json!({ "register_version": state.version.0, "members": members, "invited": invited }))
}
