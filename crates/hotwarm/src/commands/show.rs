//! What looks and changes nothing: status, list, history.

use crate::failure::Failure;
use crate::flags::{self, Common};
use crate::nodes::Nodes;
use crate::render::{json, text};
use crate::{Verdict, print};
use hotwarm_node::admin::{Role, Status};
use hotwarm_node::history::Event;
use std::io::IsTerminal;
use std::time::Duration;

/// Time between two pictures of `--watch`.
const WATCH_PERIOD: Duration = Duration::from_secs(1);

/// Shows the group.
pub fn status(common: &Common, flags: &flags::Status) -> Result<Verdict, Failure> {
    let nodes = Nodes::find(common)?;
    if !flags.watch {
        let status: Status = nodes.get("/status")?;
        print(&if common.json { json::pretty(&status) } else { text::status(&status) })?;
        return Ok(verdict(&status));
    }
    let clear = if std::io::stdout().is_terminal() && !common.json { "\x1b[H\x1b[2J" } else { "" };
    loop {
        let shown = match nodes.get::<Status>("/status") {
            Ok(status) if common.json => json::line(&status),
            Ok(status) => text::status(&status) + "\n",
            // A node that restarts is what is being watched for.
            Err(error) if !error.is_silence() => return Err(error.into()),
            Err(error) if common.json => json::line(&serde_json::json!({ "error": error.to_string() })),
            Err(error) => format!("{error}\n\n"),
        };
        print(&format!("{clear}{shown}"))?;
        std::thread::sleep(WATCH_PERIOD);
    }
}

/// Whether the group is served, reads and writes, as far as the asked node knows.
fn verdict(status: &Status) -> Verdict {
    let hot = status.members.iter().find(|member| member.role == Role::Hot);
    let served = hot.is_some_and(|hot| hot.connected && (hot.name != status.node.name || status.node.serves));
    if served && status.node.role != Role::Fenced && status.writes_wait.is_none() { Verdict::Yes } else { Verdict::No }
}

/// Lists the members and what each is.
pub fn list(common: &Common) -> Result<Verdict, Failure> {
    let status: Status = Nodes::find(common)?.get("/status")?;
    print(&if common.json { json::pretty(&status.members) } else { text::members(&status) })?;
    Ok(Verdict::Yes)
}

/// Shows what has happened.
pub fn history(common: &Common, flags: &flags::History) -> Result<Verdict, Failure> {
    let events: Vec<Event> = Nodes::find(common)?.get("/history")?;
    let events = &events[events.len().saturating_sub(flags.last as usize)..];
    print(&if common.json { json::pretty(&events) } else { text::history(events) })?;
    Ok(Verdict::Yes)
}
