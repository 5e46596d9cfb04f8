//! What an operator should look at: each complaint says what is wrong, where, what it means now, and what to do.
//!
//! Pure judgements over what `status` gathers, in the order of what is worst. Sentences in lower case, no full stop.

use super::change::name_of;
use super::status::{Facts, MemberStatus, PauseStatus, Role, SyncFacts};
use crate::config::Difference;
use crate::config::units::duration_text;
use std::time::Duration;

/// What is looked at.
pub(super) struct Looked<'a> {
    pub(super) facts: &'a Facts,
    pub(super) members: &'a [MemberStatus],
    /// Members that a change needs.
    pub(super) majority: usize,
    pub(super) writes_wait: Option<&'a str>,
    pub(super) drift: &'a [Difference],
    pub(super) pause: Option<&'a PauseStatus>,
}

impl Looked<'_> {
    /// All complaints; empty is good.
    pub(super) fn complaints(&self) -> Vec<String> {
        let facts = self.facts;
        let mut found: Vec<String> = Vec::new();
        if let Some(fence) = &facts.fence {
            found.push(format!("this node is fenced and serves nothing: {fence}"));
        }
        found.extend(self.unknown());
        found.extend(self.majority());
        found.extend(self.members.iter().filter(|member| !member.connected).map(|member| self.absent(member)));
        found.extend(self.hot());
        found.extend(self.members.iter().filter_map(|member| self.behind(member)));
        found.extend(self.copies());
        found.extend(self.full_copy());
        found.extend(self.guardian());
        found.extend(self.clock());
        if let Some(PauseStatus { reason, ends_at_ms, .. }) = self.pause {
            let left = ends_at_ms.map(|at| format!(" for another {}", rounded(at.saturating_sub(facts.now_ms))));
            let left = left.unwrap_or_default();
            found.push(format!("maintenance is on{left}, no node takes over: {reason}; \"hotwarm resume\" ends it"));
        }
        found.extend(self.drifted());
        found.extend(facts.config.warnings.iter().map(|warning| warning.text.clone()));
        found.extend(facts.complaints.iter().cloned());
        found
    }

    fn drifted(&self) -> Option<String> {
        let keys = counted(self.drift.len(), "key");
        let ago = rounded(self.facts.now_ms.saturating_sub(self.facts.file_read_ms));
        (!self.drift.is_empty()).then(|| {
            format!(
                "this node's file, as it read it {ago} ago, and the register differ in {keys}, and the register counts: where \
                 the file is old, correct it and reload this node (SIGHUP); where the register is, \"hotwarm apply\" makes it \
                 follow the file (members: \"hotwarm node\")"
            )
        })
    }

    fn unknown(&self) -> Option<String> {
        if self.facts.fence.is_some() {
            // That is the reason.
            return None;
        }
        let begun = self.facts.state.as_ref().map(|state| state.reign.epoch.0 > 0);
        match begun {
            Some(true) => None,
            Some(false) => Some(
                "the group has not begun: it begins once all nodes of its first configuration have been started; start \
                 those that are not connected"
                    .to_owned(),
            ),
            None => Some(
                "this node does not know the group's state yet and serves nothing: it asks the members that it was made \
                 with; if that lasts, look for \"peer\" in its log, and whether it was invited (\"hotwarm node add\" on a \
                 member)"
                    .to_owned(),
            ),
        }
    }

    /// Without a majority nobody may be left out (R28): said beforehand.
    fn majority(&self) -> Option<String> {
        let (all, reached) = (self.members.len(), self.reached().count());
        let absent = names(self.members.iter().filter(|member| !member.connected));
        if all > 0 && reached < self.majority {
            return Some(format!(
                "this node reaches {reached} of {all} members, no majority: no node can take over, and writes stop if a node \
                 in sync stops answering, since it cannot be left out; bring back {absent}"
            ));
        }
        if reached < self.majority + 1 && reached < all {
            let needed = names(self.reached().filter(|member| member.in_sync));
            return Some(format!(
                "one more loss stops writes: {reached} of {all} members are reached, just a majority, and without one no \
                 node in sync ({needed}) could be left out or replaced; bring back {absent}"
            ));
        }
        None
    }

    fn absent(&self, member: &MemberStatus) -> String {
        let link = self.links_of(member);
        let since = member.heard_ms.map_or_else(
            || "it was not heard since this node started".to_owned(),
            |ms| format!("it was heard last {} ago", rounded(ms)),
        );
        let means = match (member.role, member.in_sync) {
            (Role::Hot, _) => "it is the hot, as far as this node knows, so commands through this node wait",
            (_, true) => "it is still in sync, so writes wait until it answers or is left out",
            (Role::Witness, false) => "it holds no data",
            (_, false) => "it is left out: it catches up by itself when it is back",
        };
        let why = link.and_then(|link| link.trouble.as_ref());
        let why = why.map(|why| format!(" ({why})")).unwrap_or_default();
        format!(
            "{} at {} is not connected{why}: {since}; {means}; see whether it runs and is reached",
            member.name, member.address
        )
    }

    /// A hot that is there and does not serve.
    fn hot(&self) -> Option<String> {
        let facts = self.facts;
        if facts.role == Role::Hot && !facts.serves && facts.fence.is_none() {
            let waits = names(self.members.iter().filter(|member| member.in_sync && !member.connected));
            let waits = if waits.is_empty() { String::new() } else { format!(", which {waits} must acknowledge") };
            return Some(format!(
                "this node is hot and serves nothing yet ({}): it begins when its reign is on all nodes in sync{waits}",
                facts.phase
            ));
        }
        None
    }

    fn behind(&self, member: &MemberStatus) -> Option<String> {
        if member.role != Role::Warm || !member.connected || member.in_sync {
            return None;
        }
        let copied = self.facts.sync.as_ref().is_some_and(|sync| sync.peer == member.name);
        let how = if copied {
            "a full copy to it is under way".to_owned()
        } else {
            match member.lag_entries {
                Some(0) => "it has all and is about to be let in".to_owned(),
                Some(lag) => format!("it is {} behind and catches up by itself", counted_u64(lag, "write")),
                None => "it catches up by itself".to_owned(),
            }
        };
        Some(format!("{} is not in sync and cannot take over: {how}", member.name))
    }

    fn copies(&self) -> Vec<String> {
        let mut found = Vec::new();
        if let Some(why) = self.writes_wait {
            found.push(format!(
                "writes wait for copies: {why}; bring back who is missing, or lower group.{}.min_copies with \"hotwarm apply\" \
                 and take the risk",
                self.facts.config.agreed.group.name
            ));
        }
        if self.facts.throttled {
            let slowest = self.members.iter().max_by_key(|member| member.lag_bytes.unwrap_or(0));
            let slowest = slowest.filter(|member| member.lag_bytes.is_some_and(|lag| lag > 0));
            let who = slowest.map_or("a warm", |member| member.name.as_str());
            found.push(format!(
                "writes wait for room: {who} is slow to acknowledge; look at its disk and network, it is left out if that lasts"
            ));
        }
        found
    }

    fn full_copy(&self) -> Option<String> {
        let sync = self.facts.sync.as_ref()?;
        let SyncFacts { peer, sending, done_bytes, total_bytes, .. } = sync;
        let done = rounded_size(*done_bytes);
        let progress = match total_bytes {
            Some(total) if *total > 0 => {
                let percent = (done_bytes.saturating_mul(100) / total).min(99);
                format!("{done} of about {} ({percent}%)", rounded_size(*total))
            }
            Some(_) | None => done,
        };
        Some(if *sending {
            format!("a full copy to {peer} is under way, {progress}: it cannot take over before it has ended")
        } else {
            format!("a full copy from {peer} is under way, {progress}: this node cannot take over before it has ended")
        })
    }

    fn guardian(&self) -> Option<String> {
        (!self.facts.guardian).then(|| {
            let timing = self.facts.state.as_ref().map_or(self.facts.config.agreed.timing, |state| state.settings.timing);
            format!(
                "no guardian watches this node: if it crashes, the others notice only after the grace ({}); start it again \
                 with \"hotwarm run\", which starts both",
                duration_text(timing.grace)
            )
        })
    }

    /// A wall clock that group time does not follow (R35).
    fn clock(&self) -> Option<String> {
        let step_ms = self.facts.clock_step_ms?;
        let (name, by) = (&self.facts.config.this.name, rounded(step_ms.unsigned_abs()));
        Some(if step_ms > 0 {
            format!(
                "the wall clock of {name} is {by} ahead of group time, by which keys expire, and that is too far to follow \
                 unasked: what is to expire at a date does so {by} late; if the wall clock is right (the group was down, \
                 say), \"hotwarm clock follow\" makes group time follow, and what is then past its time is gone; if it is \
                 wrong, set it right"
            )
        } else {
            format!(
                "the wall clock of {name} is {by} behind group time, by which keys expire, and group time never goes back: \
                 what is to expire at a date does so {by} early; set the wall clock right if it is wrong; if it is right, \
                 give keys a time to live (EX, PX) and not a date (EXAT, PXAT)"
            )
        })
    }

    fn reached(&self) -> impl Iterator<Item = &MemberStatus> {
        self.members.iter().filter(|member| member.connected)
    }

    fn links_of(&self, member: &MemberStatus) -> Option<&super::status::LinkFacts> {
        let state = self.facts.state.as_ref()?;
        self.facts.links.iter().find(|(id, _)| name_of(state, **id) == member.name).map(|(_, link)| link)
    }
}

fn names<'m>(members: impl Iterator<Item = &'m MemberStatus>) -> String {
    members.map(|member| member.name.as_str()).collect::<Vec<_>>().join(", ")
}

fn counted(count: usize, what: &str) -> String {
    counted_u64(count as u64, what)
}

fn counted_u64(count: u64, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

/// Whole seconds where there are any: nobody minds the rest.
fn rounded(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0 => format!("{ms} ms"),
        1..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        _ => format!("{} h", Duration::from_secs(seconds).as_secs() / 3600),
    }
}

fn rounded_size(bytes: u64) -> String {
    let (mut value, mut unit) = (bytes as f64, "B");
    for next in ["KiB", "MiB", "GiB", "TiB"] {
        if value < 1024.0 {
            break;
        }
        (value, unit) = (value / 1024.0, next);
    }
    if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") }
}

#[cfg(test)]
mod tests {
    use super::super::status::tests::healthy;
    use super::super::status::{Facts, LinkFacts, Role, Status, SyncFacts};
    use hotwarm_types::NodeId;

    fn said(change: impl FnOnce(&mut Facts)) -> String {
        let mut facts = healthy();
        change(&mut facts);
        Status::of(&facts).complaints.join("\n")
    }

    fn link(facts: &mut Facts, node: u16) -> &mut LinkFacts {
        facts.links.get_mut(&NodeId(node)).unwrap()
    }

    fn demand(said: &str, wanted: &[&str]) {
        for words in wanted {
            assert!(said.contains(words), "{words} in:\n{said}");
        }
    }

    #[test]
    fn a_lost_witness_says_what_the_next_loss_would_mean() {
        let said = said(|facts| {
            let link = link(facts, 3);
            (link.connected, link.heard_ms) = (false, Some(75_000));
            link.trouble = Some("connection refused".to_owned());
        });
        demand(&said, &["one more loss stops writes: 2 of 3", "(a, b)", "bring back w"]);
        demand(
            &said,
            &["w at 127.0.0.1:7402 is not connected (connection refused): it was heard last 75 s ago; it holds no"],
        );
    }

    #[test]
    fn without_a_majority_it_says_what_stops_and_whom_to_bring_back() {
        let said = said(|facts| facts.links.clear());
        demand(
            &said,
            &["reaches 1 of 3 members, no majority", "bring back b, w", "b at 127.0.0.1:7401 is not connected"],
        );
        demand(&said, &["it is still in sync, so writes wait"]);
    }

    #[test]
    fn a_warm_that_is_behind_says_how_far() {
        let behind = |facts: &mut Facts| {
            facts.state.as_mut().unwrap().in_sync.remove(&NodeId(2));
        };
        demand(&said(behind), &["b is not in sync and cannot take over: it is 2 writes behind"]);
        let said = said(|facts| {
            behind(facts);
            facts.sync = Some(SyncFacts {
                peer: "b".to_owned(),
                sending: true,
                done_bytes: 1536 << 20,
                total_bytes: Some(3 << 30),
                resumed_from_bytes: 0,
            });
        });
        demand(
            &said,
            &["a full copy to it is under way", "a full copy to b is under way, 1.5 GiB of about 3.0 GiB (50%)"],
        );
    }

    #[test]
    fn copies_guardian_and_maintenance_name_the_way_out() {
        let said = said(|facts| {
            let state = facts.state.as_mut().unwrap();
            state.in_sync.remove(&NodeId(2));
            state.settings.min_copies = 2;
            facts.guardian = false;
            facts.throttled = true;
            link(facts, 2).lag_bytes = Some(9);
        });
        demand(
            &said,
            &[
                "writes wait for copies: 1 in sync answer, min_copies is 2",
                "group.main.min_copies",
                "no guardian",
                "grace (1s)",
            ],
        );
        demand(&said, &["writes wait for room: b is slow"]);
    }

    #[test]
    fn a_wall_clock_that_is_not_followed_is_told_with_the_way_out() {
        let ahead = said(|facts| facts.clock_step_ms = Some(3_720_000));
        demand(&ahead, &["the wall clock of a is 62 min ahead of group time", "\"hotwarm clock follow\""]);
        let behind = said(|facts| facts.clock_step_ms = Some(-90_000));
        demand(&behind, &["the wall clock of a is 90 s behind group time", "never goes back"]);
        assert!(!behind.contains("clock follow"), "{behind}");
    }

    #[test]
    fn a_node_that_serves_nothing_says_why() {
        demand(&said(|facts| facts.serves = false), &["this node is hot and serves nothing yet (serving)"]);
        let joining = said(|facts| {
            (facts.state, facts.me, facts.role) = (None, None, Role::Joining);
        });
        demand(&joining, &["does not know the group's state yet", "hotwarm node add"]);
        let young = said(|facts| facts.state.as_mut().unwrap().reign.epoch.0 = 0);
        demand(&young, &["the group has not begun"]);
    }
}
