//! What the group can lose, and whom the hot could hand over to: pure judgements over what `status` shows.
//!
//! They are advice to a person, made from one node's view; no protocol step leans on them (R7).

use super::status::{MemberStatus, Role};
use serde::{Deserialize, Serialize};

/// Whether the group goes on, reads and writes and future changes of role, without one member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loss {
    /// The member.
    pub node: String,
    /// Whether it is safe to lose.
    pub safe: bool,
    /// Why not; empty where it is safe.
    pub because: String,
}

/// Judges each member. `majority` is the number of acceptors that a change needs, of all `members`.
#[must_use]
pub fn losses(members: &[MemberStatus], majority: usize, min_copies: u8, paused: bool) -> Vec<Loss> {
    members
        .iter()
        .map(|member| {
            let because = why_not(member, members, majority, usize::from(min_copies), paused);
            Loss { node: member.name.clone(), safe: because.is_none(), because: because.unwrap_or_default() }
        })
        .collect()
}

fn why_not(
    lost: &MemberStatus,
    members: &[MemberStatus],
    majority: usize,
    min_copies: usize,
    paused: bool,
) -> Option<String> {
    let rest = || members.iter().filter(|member| member.name != lost.name);
    let reached = rest().filter(|member| member.connected).count();
    let copies: Vec<&MemberStatus> = rest().filter(|member| member.in_sync && member.connected).collect();
    if lost.in_sync && copies.is_empty() {
        let behind = rest().find(|member| member.role == Role::Warm && !member.in_sync);
        return Some(match behind {
            Some(warm) => format!("only it holds every acknowledged write ({} is not in sync)", warm.name),
            None => "only it holds every acknowledged write".to_owned(),
        });
    }
    if lost.role == Role::Hot && paused {
        return Some("maintenance is on, so no other node would take over".to_owned());
    }
    if lost.in_sync && reached < majority {
        return Some(format!("{reached} of {} members would be left, no majority to change roles", members.len()));
    }
    if lost.in_sync && copies.len() < min_copies {
        return Some(format!("{} in sync would be left, min_copies is {min_copies}", copies.len()));
    }
    if !lost.in_sync && lost.connected && reached < majority {
        return Some(format!("{reached} of {} members would be left, no majority to change roles", members.len()));
    }
    None
}

/// Why no write can be acknowledged until somebody comes back or the settings change (R9, R12, R28), where that is so. As
/// seen by one node: members that it does not reach count as missing.
#[must_use]
pub fn writes_wait(members: &[MemberStatus], majority: usize, min_copies: u8) -> Option<String> {
    let in_sync = || members.iter().filter(|member| member.in_sync);
    let missing: Vec<&str> = in_sync().filter(|member| !member.connected).map(|member| member.name.as_str()).collect();
    let copies = in_sync().count() - missing.len();
    let reached = members.iter().filter(|member| member.connected).count();
    let who = missing.join(", ");
    if members.is_empty() {
        None
    } else if copies < usize::from(min_copies) {
        let who = if missing.is_empty() { String::new() } else { format!(" ({who} does not answer)") };
        Some(format!("{copies} in sync answer{who}, min_copies is {min_copies}"))
    } else if !missing.is_empty() && reached < majority {
        let all = members.len();
        Some(format!(
            "{who} is in sync and does not answer, and {reached} of {all} members are no majority to leave it out"
        ))
    } else {
        None
    }
}

/// The judgement in a sentence: `safe to lose: b, w; not a, because ...`.
#[must_use]
pub fn sentence(losses: &[Loss]) -> String {
    if losses.is_empty() {
        return "safe to lose: unknown, the group's state is not known here".to_owned();
    }
    let safe: Vec<&str> = losses.iter().filter(|loss| loss.safe).map(|loss| loss.node.as_str()).collect();
    let mut text =
        if safe.is_empty() { "safe to lose: none".to_owned() } else { format!("safe to lose: {}", safe.join(", ")) };
    for loss in losses.iter().filter(|loss| !loss.safe) {
        text.push_str(&format!("; not {}, because {}", loss.node, loss.because));
    }
    text
}

/// What a switchover would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandoverPlan {
    /// Who is hot now.
    pub from: String,
    /// Who would be; `None` where nobody can.
    pub to: Option<String>,
    /// Each other node, and why it would not be the one.
    pub passed_over: Vec<(String, String)>,
}

/// Whom the hot would hand over to, by the rules that the core will apply again: in sync, connected, not leaving;
/// of those the longest log, then the highest priority. A preview; the core decides.
#[must_use]
pub fn handover_plan(members: &[MemberStatus], wish: Option<&str>) -> Option<HandoverPlan> {
    let from = members.iter().find(|member| member.role == Role::Hot)?;
    let mut fit: Vec<&MemberStatus> = Vec::new();
    let mut passed_over = Vec::new();
    for member in members.iter().filter(|member| member.name != from.name) {
        let unfit = if member.role == Role::Witness {
            Some("holds no data")
        } else if !member.connected {
            Some("is not connected")
        } else if !member.in_sync {
            Some("is not in sync")
        } else if member.leaving {
            Some("is about to stop")
        } else if wish.is_some_and(|wish| wish != member.name) {
            Some("is not the one asked for")
        } else {
            None
        };
        match unfit {
            Some(why) => passed_over.push((member.name.clone(), why.to_owned())),
            None => fit.push(member),
        }
    }
    fit.sort_by_key(|member| (member.durable_lsn.unwrap_or(0), member.priority));
    let to = fit.pop().map(|member| member.name.clone());
    passed_over.extend(fit.iter().map(|member| (member.name.clone(), "is not ahead of the one chosen".to_owned())));
    if wish == Some(from.name.as_str()) {
        passed_over.push((from.name.clone(), "is hot already".to_owned()));
    }
    if let Some(wish) = wish.filter(|wish| members.iter().all(|member| member.name != **wish)) {
        passed_over.push((wish.to_owned(), "is not a member".to_owned()));
    }
    Some(HandoverPlan { from: from.name.clone(), to, passed_over })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str, role: Role, in_sync: bool, connected: bool) -> MemberStatus {
        MemberStatus {
            name: name.to_owned(),
            id: 0,
            role,
            address: String::new(),
            in_sync,
            connected,
            leaving: false,
            heard_ms: None,
            durable_lsn: Some(10),
            lag_entries: None,
            lag_bytes: None,
            lag_ms: None,
            priority: 100,
        }
    }

    fn pair_and_witness() -> [MemberStatus; 3] {
        [
            member("a", Role::Hot, true, true),
            member("b", Role::Warm, true, true),
            member("w", Role::Witness, false, true),
        ]
    }

    fn judged(members: &[MemberStatus], min_copies: u8, paused: bool) -> String {
        sentence(&losses(members, members.len() / 2 + 1, min_copies, paused))
    }

    #[test]
    fn any_one_of_a_healthy_group_may_go() {
        assert_eq!(judged(&pair_and_witness(), 1, false), "safe to lose: a, b, w");
    }

    #[test]
    fn the_only_copy_may_not_go() {
        let mut group = pair_and_witness();
        group[1].in_sync = false;
        assert_eq!(
            judged(&group, 1, false),
            "safe to lose: b, w; not a, because only it holds every acknowledged write (b is not in sync)"
        );
    }

    #[test]
    fn the_last_majority_may_not_go() {
        let mut group = pair_and_witness();
        group[2].connected = false;
        let said = judged(&group, 1, false);
        assert!(said.starts_with("safe to lose: w; not a, because 1 of 3 members would be left"), "{said}");
        assert!(said.contains("not b, because 1 of 3"), "{said}");
    }

    #[test]
    fn min_copies_and_maintenance_are_minded() {
        let said = judged(&pair_and_witness(), 2, false);
        assert!(said.contains("not b, because 1 in sync would be left, min_copies is 2"), "{said}");
        let said = judged(&pair_and_witness(), 1, true);
        assert_eq!(said, "safe to lose: b, w; not a, because maintenance is on, so no other node would take over");
    }

    #[test]
    fn an_unreached_node_that_is_not_in_sync_is_lost_already() {
        let mut group = pair_and_witness();
        group[1].in_sync = false;
        group[1].connected = false;
        let said = judged(&group, 1, false);
        assert!(said.starts_with("safe to lose: b; "), "{said}");
    }

    #[test]
    fn writes_wait_for_copies_that_are_missing_and_cannot_be_left_out() {
        let mut group = pair_and_witness();
        assert_eq!(writes_wait(&group, 2, 2), None);
        group[1].connected = false;
        assert_eq!(writes_wait(&group, 2, 1), None, "it is left out within shrink_after");
        let said = writes_wait(&group, 2, 2).unwrap();
        assert_eq!(said, "1 in sync answer (b does not answer), min_copies is 2");
        group[2].connected = false;
        let said = writes_wait(&group, 2, 1).unwrap();
        assert!(said.starts_with("b is in sync and does not answer, and 1 of 3 members"), "{said}");
        group[1].in_sync = false;
        assert_eq!(writes_wait(&group, 2, 1), None, "the hot goes on alone");
        assert!(writes_wait(&group, 2, 2).unwrap().starts_with("1 in sync answer, min"));
        assert_eq!(writes_wait(&[], 1, 1), None);
    }

    #[test]
    fn a_plan_names_the_target_and_why_not_the_others() {
        let mut group = pair_and_witness();
        let plan = handover_plan(&group, None).unwrap();
        assert_eq!((plan.from.as_str(), plan.to.as_deref()), ("a", Some("b")));
        assert_eq!(plan.passed_over, [("w".to_owned(), "holds no data".to_owned())]);
        group[1].leaving = true;
        assert_eq!(handover_plan(&group, None).unwrap().to, None);
        let plan = handover_plan(&group, Some("z")).unwrap();
        assert!(plan.passed_over.contains(&("z".to_owned(), "is not a member".to_owned())));
    }

    #[test]
    fn of_two_targets_the_longer_log_wins_then_the_priority() {
        let mut group = vec![member("a", Role::Hot, true, true), member("b", Role::Warm, true, true)];
        group.push(member("c", Role::Warm, true, true));
        group[2].priority = 200;
        assert_eq!(handover_plan(&group, None).unwrap().to.as_deref(), Some("c"));
        group[1].durable_lsn = Some(11);
        assert_eq!(handover_plan(&group, None).unwrap().to.as_deref(), Some("b"));
    }
}
