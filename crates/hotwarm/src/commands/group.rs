//! What changes the group: settings, who is hot, maintenance.

use crate::failure::Failure;
use crate::flags::{self, Common};
use crate::nodes::{Nodes, config_path};
use crate::render::{json, text};
use crate::{Verdict, print};
use hotwarm_node::admin::{
    ApplyRequest, ClockFollowed, Done, PauseRequest, PromoteRequest, Status, SwitchoverRequest, handover_plan,
};
use hotwarm_node::config::{self, differences, member_differences};

/// Makes the register's settings those of a file.
pub fn apply(common: &Common, flags: &flags::Apply) -> Result<Verdict, Failure> {
    let path = flags.file.clone().unwrap_or_else(|| config_path(&common.file));
    let file = config::load_file(&path)?;
    let nodes = Nodes::find(common)?;
    let read: Done = nodes.get("/state")?;
    let state = read.group_state().map_err(Failure::new)?;
    let wished = file.agreed.text();
    let changes = differences(&state.settings.text, &wished);
    let members = member_differences(&state, &file.nodes);
    if flags.dry_run || changes.is_empty() {
        let shown = if common.json {
            json::apply(&changes, &members, state.version.0, false)
        } else {
            text::apply(&changes, &members, None)
        };
        if !flags.dry_run {
            reload(&nodes);
        }
        print(&shown)?;
        return Ok(if changes.is_empty() || !flags.dry_run { Verdict::Yes } else { Verdict::No });
    }
    let request = ApplyRequest { expected_version: state.version.0, text: wished };
    let done: Done = nodes.post("/apply", &request)?;
    let version = done.register_version.unwrap_or(state.version.0);
    let shown = if common.json {
        json::apply(&changes, &members, version, true)
    } else {
        text::apply(&changes, &members, Some(version))
    };
    reload(&nodes);
    print(&shown)?;
    Ok(Verdict::Yes)
}

/// Lets the nodes of this machine read the file that was edited, or `status` would compare the register with the old one.
fn reload(nodes: &Nodes) {
    for error in nodes.reload() {
        eprintln!("hotwarm: a node did not read its file again, reload it (SIGHUP): {error}");
    }
}

/// Hands the role of the hot over.
pub fn switchover(common: &Common, flags: &flags::Switchover) -> Result<Verdict, Failure> {
    let nodes = Nodes::find(common)?;
    if flags.dry_run {
        let status: Status = nodes.get("/status")?;
        let plan = handover_plan(&status.members, flags.to.as_deref())
            .ok_or_else(|| Failure::new("no node is hot, so there is nothing to hand over"))?;
        print(&if common.json { json::pretty(&plan) } else { text::plan(&plan) })?;
        return Ok(if plan.to.is_some() { Verdict::Yes } else { Verdict::No });
    }
    let done: Done = nodes.post("/switchover", &SwitchoverRequest { to: flags.to.clone() })?;
    report(common, &done, |done| {
        let hot = done.hot.as_deref().unwrap_or("another node");
        format!("{hot} is hot now, in epoch {}, after {} ms\n", done.epoch, done.took_ms)
    })
}

/// Begins maintenance.
pub fn pause(common: &Common, flags: &flags::Pause) -> Result<Verdict, Failure> {
    let length_ms = u64::try_from(flags.length.as_millis()).unwrap_or(u64::MAX);
    let request = PauseRequest { length_ms, reason: flags.reason.clone() };
    let done: Done = Nodes::find(common)?.post("/pause", &request)?;
    report(common, &done, |_| {
        let length = config::units::duration_text(flags.length);
        format!("maintenance is on for {length}: no node takes over; \"hotwarm resume\" ends it\n")
    })
}

/// Ends maintenance.
pub fn resume(common: &Common) -> Result<Verdict, Failure> {
    let done: Done = Nodes::find(common)?.post("/resume", &serde_json::json!({}))?;
    report(common, &done, |_| "maintenance is over\n".to_owned())
}

/// Has group time step onto the wall clock.
pub fn follow_clock(common: &Common) -> Result<Verdict, Failure> {
    let followed: ClockFollowed = Nodes::find(common)?.post("/clock/follow", &serde_json::json!({}))?;
    let by_s = followed.to_ms.saturating_sub(followed.from_ms) / 1_000;
    let said = format!("group time went {by_s} s forward, onto the wall clock of the hot\n");
    print(&if common.json { json::pretty(&followed) } else { said })?;
    Ok(Verdict::Yes)
}

/// Makes the asked node hot by force.
pub fn promote(common: &Common, flags: &flags::Promote) -> Result<Verdict, Failure> {
    let request = PromoteRequest { statement: flags.statement.clone() };
    let done: Done = Nodes::find(common)?.post("/promote", &request)?;
    report(common, &done, |done| {
        let hot = done.hot.as_deref().unwrap_or("the node");
        let epoch = done.epoch;
        format!("{hot} is hot now, in epoch {epoch}; what the old hot alone held is lost, and the history says so\n")
    })
}

/// Prints what was done, as JSON or in a sentence.
pub(super) fn report(common: &Common, done: &Done, say: impl FnOnce(&Done) -> String) -> Result<Verdict, Failure> {
    // The state is for the program, not for its reader.
    let shown = Done { state: None, ..done.clone() };
    print(&if common.json { json::pretty(&shown) } else { say(done) })?;
    Ok(Verdict::Yes)
}
