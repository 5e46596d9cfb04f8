//! Where a file and the register differ: for `apply`'s difference and `status`' drift.

use super::NodeEntry;
use hotwarm_core::register::{GroupState, MemberRole};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// One key on which the register and a file do not agree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// The key with its sections: `group.main.min_copies`.
    pub key: String,
    /// What the register holds, as TOML; `None` where it has no such key.
    pub register: Option<String>,
    /// What the file says, as TOML; `None` where it has no such key.
    pub file: Option<String>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.register, &self.file) {
            (Some(register), Some(file)) => write!(f, "{}: {register} -> {file}", self.key),
            (None, Some(file)) => write!(f, "{}: new, {file}", self.key),
            (Some(register), None) => write!(f, "{}: {register}, removed", self.key),
            (None, None) => write!(f, "{}: the same", self.key),
        }
    }
}

/// The keys on which two normalized texts differ, in the order of their names. A text that is not TOML counts as
/// one value named `text`, so that nothing is hidden.
#[must_use]
pub fn differences(register: &str, file: &str) -> Vec<Difference> {
    compare(flat(register), flat(file))
}

/// Members on which the register and a file's `[nodes]` differ. `apply` does not change members: `hotwarm node` does.
#[must_use]
pub fn member_differences(state: &GroupState, nodes: &[NodeEntry]) -> Vec<Difference> {
    let register = state
        .members
        .values()
        .map(|member| (format!("nodes.{}", member.name), member_text(&member.address, member.role, member.priority)));
    let file =
        nodes.iter().map(|node| (format!("nodes.{}", node.name), member_text(&node.address, node.role, node.priority)));
    compare(register.collect(), file.collect())
}

fn member_text(address: &str, role: MemberRole, priority: u16) -> String {
    let role = match role {
        MemberRole::Data => "data",
        MemberRole::Witness => "witness",
    };
    format!("{{ address = \"{address}\", role = \"{role}\", priority = {priority} }}")
}

fn compare(mut register: BTreeMap<String, String>, file: BTreeMap<String, String>) -> Vec<Difference> {
    let mut found = Vec::new();
    for (key, value) in file {
        let held = register.remove(&key);
        if held.as_ref() != Some(&value) {
            found.push(Difference { key, register: held, file: Some(value) });
        }
    }
    found.extend(register.into_iter().map(|(key, value)| Difference { key, register: Some(value), file: None }));
    found.sort_by(|a, b| a.key.cmp(&b.key));
    found
}

/// Every leaf of a TOML text under its dotted key.
fn flat(text: &str) -> BTreeMap<String, String> {
    let mut leaves = BTreeMap::new();
    match text.parse::<toml::Table>() {
        Ok(table) => gather("", &table, &mut leaves),
        Err(_) => {
            leaves.insert("text".to_owned(), text.to_owned());
        }
    }
    leaves
}

fn gather(path: &str, table: &toml::Table, leaves: &mut BTreeMap<String, String>) {
    for (key, value) in table {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        match value {
            toml::Value::Table(inner) => gather(&path, inner, leaves),
            toml::Value::String(_)
            | toml::Value::Integer(_)
            | toml::Value::Float(_)
            | toml::Value::Boolean(_)
            | toml::Value::Datetime(_)
            | toml::Value::Array(_) => {
                leaves.insert(path, value.to_string());
            }
        }
    }
}
