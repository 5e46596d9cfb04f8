//! For people: plain, aligned, and short. A group of three fits ten lines.

use super::time;
use hotwarm_core::register::{ChangeKind, GroupState, MemberRole};
use hotwarm_node::admin::{HandoverPlan, MemberStatus, Role, Status};
use hotwarm_node::config::{Difference, File};
use hotwarm_node::history::Event;
use hotwarm_node::recover::{RecoverPlan, Recovered};
use std::fmt::Write;

/// Rows under a head, each column as wide as it must be; numbers to the right where the head begins with a space.
fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([head[column].trim().len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut text = String::new();
    let titles: Vec<String> = head.iter().map(|title| title.trim().to_owned()).collect();
    for row in [&titles].into_iter().chain(rows) {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let right = head[column].starts_with(' ');
            let pad = " ".repeat(widths[column] - cell.chars().count());
            let _ = if right { write!(line, "{pad}{cell}  ") } else { write!(line, "{cell}{pad}  ") };
        }
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

/// The group: who is hot, what each member is, what may be lost, what is wrong.
pub fn status(status: &Status) -> String {
    let hot = status.hot.as_deref().unwrap_or("none");
    let copies = if status.min_copies == 1 { "copy" } else { "copies" };
    let mut text = format!(
        "{}/{}   hot {hot}   epoch {}   {}, at least {} {copies}   asked {}\n\n",
        status.cluster, status.group, status.epoch, status.replication, status.min_copies, status.node.name
    );
    text.push_str(&members(status));
    let _ = writeln!(text, "\n{}", status.safe_to_lose);
    if let Some(change) = &status.last_change {
        let ago = time::length(status.at_ms.saturating_sub(change.at_ms));
        let _ = writeln!(text, "last change {ago} ago: {}{}", change.what, reason(&change.cause, &change.evidence));
    }
    if let Some(sync) = &status.full_sync {
        let way = if sync.sending { "to" } else { "from" };
        let total = sync.total_bytes.map(|total| format!(" of {}", time::size(total))).unwrap_or_default();
        let resumed = match sync.resumed_from_bytes {
            0 => String::new(),
            from => format!(", resumed from {}", time::size(from)),
        };
        let _ = writeln!(text, "full sync {way} {}: {}{total}{resumed}", sync.peer, time::size(sync.done_bytes));
    }
    if !status.invited.is_empty() {
        let _ = writeln!(text, "invited: {}", status.invited.join(", "));
    }
    for complaint in &status.complaints {
        let _ = writeln!(text, "! {complaint}");
    }
    for difference in &status.drift {
        let side = |value: &Option<String>| value.clone().unwrap_or_else(|| "no such key".to_owned());
        let (register, file) = (side(&difference.register), side(&difference.file));
        let _ = writeln!(text, "  {}: the register {register}, the file {file}", difference.key);
    }
    text
}

/// The members as a table.
pub fn members(status: &Status) -> String {
    if status.members.is_empty() {
        return format!("{} is {} and knows no members yet\n", status.node.name, status.node.role);
    }
    let rows: Vec<Vec<String>> = status.members.iter().map(|member| member_row(member, status)).collect();
    table(&["", "NODE", "ROLE", "STATE", " DURABLE", "LAG", "HEARD", "ADDRESS"], &rows)
}

fn member_row(member: &MemberStatus, status: &Status) -> Vec<String> {
    let is_asked = member.name == status.node.name;
    let lag = match (member.lag_entries, member.lag_bytes, member.lag_ms) {
        (Some(0), ..) | (None, None, None) => String::new(),
        (entries, bytes, ms) => {
            let entries = entries.map(|entries| format!("{entries} entries"));
            let parts = [entries, bytes.map(time::size), ms.map(time::length)];
            parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
        }
    };
    let heard = match member.heard_ms {
        Some(ms) if !is_asked => format!("{} ago", time::length(ms)),
        Some(_) | None => String::new(),
    };
    vec![
        if is_asked { "*".to_owned() } else { String::new() },
        member.name.clone(),
        member.role.to_string(),
        member_state(member, status),
        member.durable_lsn.map(|lsn| lsn.to_string()).unwrap_or_default(),
        lag,
        heard,
        member.address.clone(),
    ]
}

/// What a member is doing, in a few words.
fn member_state(member: &MemberStatus, status: &Status) -> String {
    let is_asked = member.name == status.node.name;
    if is_asked && status.node.role == Role::Fenced {
        return "fenced".to_owned();
    }
    if !member.connected {
        return if member.in_sync { "not connected, in sync".to_owned() } else { "not connected".to_owned() };
    }
    let mut words = vec![match member.role {
        Role::Witness => "votes",
        Role::Hot if is_asked && status.node.lease_held => "lease held",
        Role::Hot if is_asked => "no lease",
        Role::Hot => "reigns",
        Role::Warm | Role::Joining | Role::Fenced if member.in_sync => "in sync",
        Role::Warm | Role::Joining | Role::Fenced => "catching up",
    }];
    if is_asked && !status.node.serves && member.role != Role::Witness {
        words.push("does not serve");
    }
    if member.leaving {
        words.push("leaving");
    }
    words.join(", ")
}

/// Cause and evidence in brackets, where there are any.
fn reason(cause: &str, evidence: &str) -> String {
    match (cause.is_empty(), evidence.is_empty()) {
        (true, true) => String::new(),
        (false, true) => format!(" ({cause})"),
        (true, false) => format!(" ({evidence})"),
        (false, false) => format!(" ({cause}: {evidence})"),
    }
}

/// What has happened, one line an event.
pub fn history(events: &[Event]) -> String {
    if events.is_empty() {
        return "nothing has happened yet\n".to_owned();
    }
    let rows: Vec<Vec<String>> = events
        .iter()
        .map(|event| {
            let phases = phases(event);
            let mut what = format!("{}{}", event.what, reason(&event.cause, &event.evidence));
            if !phases.is_empty() {
                let _ = write!(what, " [{}]", phases.join(", "));
            }
            let by = if event.node.is_empty() { "register" } else { &event.node };
            let epoch = event.epoch.map(|epoch| epoch.to_string()).unwrap_or_default();
            vec![time::utc(event.at_ms), by.to_owned(), epoch, event.event.clone(), what]
        })
        .collect();
    table(&["TIME (UTC)", "BY", " EPOCH", "EVENT", "WHAT"], &rows)
}

/// How long each phase took: those of a takeover in the order of their course, then any others.
fn phases(event: &Event) -> Vec<String> {
    const COURSE: [&str; 3] = ["polled", "chosen", "started"];
    let known = COURSE.iter().filter_map(|phase| event.phases_ms.get_key_value(*phase));
    let others = event.phases_ms.iter().filter(|(phase, _)| !COURSE.contains(&phase.as_str()));
    known.chain(others).map(|(phase, ms)| format!("{phase} {ms} ms")).collect()
}

/// A sound file in a few lines.
pub fn file(file: &File) -> String {
    let agreed = &file.agreed;
    let mut text =
        format!("{} is sound: cluster {}, group {}\n", file.path.display(), agreed.cluster, agreed.group.name);
    for node in &file.nodes {
        let _ = writeln!(text, "  {} {} at {}", role(node.role), node.name, node.address);
    }
    for front in &agreed.fronts {
        let _ = writeln!(text, "  front {} on {}", front.name, front.listen);
    }
    for warning in &file.warnings {
        let _ = writeln!(text, "! {}", warning.text);
    }
    text
}

fn role(role: MemberRole) -> &'static str {
    match role {
        MemberRole::Data => "data",
        MemberRole::Witness => "witness",
    }
}

/// What `apply` did, or would do where there is no new version.
pub fn apply(changes: &[Difference], members: &[Difference], version: Option<u64>) -> String {
    let mut text = String::new();
    for change in changes {
        let _ = writeln!(text, "{change}");
    }
    match (version, changes.len()) {
        (Some(version), count) => {
            let _ = writeln!(text, "applied: {}, version {version}", keys(count));
        }
        (None, 0) => text.push_str("the register holds what the file says\n"),
        (None, count) => {
            let verb = if count == 1 { "differs" } else { "differ" };
            let _ = writeln!(text, "not applied: {} {verb}", keys(count));
        }
    }
    for member in members {
        let _ = writeln!(text, "! {member} (members are changed by \"hotwarm node\", not by apply)");
    }
    text
}

fn keys(count: usize) -> String {
    if count == 1 { "1 key".to_owned() } else { format!("{count} keys") }
}

/// A member, or an invitation, that is gone; `state` is the one without it.
pub fn removed(name: &str, state: &GroupState) -> String {
    let last = state.changes.iter().rev().find_map(|change| match &change.kind {
        ChangeKind::Uninvite { name: uninvited } if uninvited == name => Some(true),
        // The evidence of a removal is the name that the operator gave.
        ChangeKind::Remove { .. } if change.cause.evidence == name => Some(false),
        _ => None,
    });
    if last == Some(true) {
        format!("the invitation of {name} is taken back\n")
    } else {
        format!("{name} is no member any more; take it out of [nodes] in the file\n")
    }
}

/// What `recover` made, what may be lost, and what comes next.
pub fn recovered(made: &Recovered, plan: &RecoverPlan) -> String {
    format!(
        "A new group of {} alone is made, up to LSN {} (the old node knew {} to be committed).\n\
         What may be lost: {}.\n\n\
         Set data_dir = \"{}\" and tls_dir = \"{}\", leave only {} in [nodes], and start it. \
         Then invite the others anew, each with an empty data folder:\n  hotwarm node add NAME=HOST:PORT --ca {}\n\
         Members of the old group are refused for ever. {} is as it was.\n",
        made.node,
        made.end.lsn,
        made.committed,
        made.may_be_lost,
        plan.to.display(),
        made.tls_dir.display(),
        made.node,
        plan.out.display(),
        plan.from.display(),
    )
}

/// What a switchover would do.
pub fn plan(plan: &HandoverPlan) -> String {
    let mut text = match &plan.to {
        Some(to) => format!("{} would hand over to {to}\n", plan.from),
        None => format!("{} could hand over to nobody\n", plan.from),
    };
    for (node, why) in &plan.passed_over {
        let _ = writeln!(text, "  not {node}: it {why}");
    }
    text
}

/// The members and invitations of a state that was read from a majority.
pub fn state(state: &GroupState) -> String {
    let mut rows: Vec<Vec<String>> = Vec::new();
    for (id, member) in &state.members {
        let hot = state.reign.node == *id && state.reign.epoch.0 > 0;
        let standing = if hot {
            "hot"
        } else if state.in_sync.contains(id) {
            "in sync"
        } else {
            ""
        };
        rows.push(vec![
            id.to_string(),
            member.name.clone(),
            role(member.role).to_owned(),
            standing.to_owned(),
            member.priority.to_string(),
            member.address.clone(),
            member.folder.to_string(),
        ]);
    }
    for (name, invitation) in &state.invited {
        let replaces = invitation.replaces.map(|node| format!(", replaces {node}")).unwrap_or_default();
        rows.push(vec![
            String::new(),
            name.clone(),
            role(invitation.role).to_owned(),
            format!("invited{replaces}"),
            invitation.priority.to_string(),
            invitation.address.clone(),
            String::new(),
        ]);
    }
    table(&["ID", "NODE", "ROLE", "STANDING", " PRIORITY", "ADDRESS", "FOLDER"], &rows)
}
