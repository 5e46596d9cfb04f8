//! What a node knows, as the API shows it: [`Facts`] in, [`Status`] out.
//!
//! The node gathers the facts and judges nothing; the judgement (what is safe to lose, what to complain of, where the
//! file has drifted) is the pure function [`Status::of`], tested without a node. The register's state that it starts
//! from is the one this node has cached, and the status says so: an operator's command reads linearizably (R7).

use super::change::{Change, name_of};
use super::complaints::Looked;
use super::safety::{self, Loss};
use crate::config::{Config, Difference, differences, member_differences};
use hotwarm_core::register::{ChangeKind, GroupState, MemberRole, Pause, Replication};
use hotwarm_types::{EntryId, Incarnation, Lsn, NodeId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// What a node is at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Reigns, or is about to serve.
    Hot,
    /// Holds a copy.
    Warm,
    /// Votes only.
    Witness,
    /// Is not a member yet, or has not learnt of the group.
    Joining,
    /// Has stopped for a reason that a person must look at.
    Fenced,
}

impl Role {
    /// All roles.
    pub const ALL: [Self; 5] = [Self::Hot, Self::Warm, Self::Witness, Self::Joining, Self::Fenced];

    /// Its word in config, logs, metrics and on the screen.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Hot => "hot",
            Self::Warm => "warm",
            Self::Witness => "witness",
            Self::Joining => "joining",
            Self::Fenced => "fenced",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// Everything that the node tells the API about itself; gathered at one moment.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The configuration it runs with.
    pub config: Arc<Config>,
    /// Wall clock, milliseconds since the Unix epoch.
    pub now_ms: u64,
    /// When this node read its file last, in the same way.
    pub file_read_ms: u64,
    /// The group's state as this node has cached it.
    pub state: Option<GroupState>,
    /// Its number, if it is a member.
    pub me: Option<NodeId>,
    /// Its present start.
    pub incarnation: Incarnation,
    /// What it is.
    pub role: Role,
    /// What it is doing in that role, in a word: `serving`, `starting`, `standing`, `following`, `syncing`, `leaving`, ...
    pub phase: String,
    /// Whether commands can be answered through it now.
    pub serves: bool,
    /// Why it is fenced.
    pub fence: Option<String>,
    /// End of its durable log.
    pub durable: EntryId,
    /// Its commit position.
    pub committed: Lsn,
    /// What its store holds.
    pub applied: Lsn,
    /// Up to where its reads see.
    pub visible: Lsn,
    /// Whether the lease holds; only ever true on the hot.
    pub lease_held: bool,
    /// Whether a guardian watches this process (R20).
    pub guardian: bool,
    /// Whether writes wait for room.
    pub throttled: bool,
    /// How far the wall clock is ahead of group time (behind: negative), in milliseconds, where it is so far that it is not
    /// followed (R35); only ever known on the hot.
    pub clock_step_ms: Option<i64>,
    /// Commands that wait for a hot.
    pub held: u64,
    /// Client connections.
    pub clients: u64,
    /// What is known of the other members, by number.
    pub links: BTreeMap<NodeId, LinkFacts>,
    /// A full sync under way, to or from this node.
    pub sync: Option<SyncFacts>,
    /// Further complaints of the node itself: one sentence each, lower case, no full stop.
    pub complaints: Vec<String>,
}

/// What this node knows of another.
#[derive(Clone, Debug, Default)]
pub struct LinkFacts {
    /// A control connection stands.
    pub connected: bool,
    /// Milliseconds since anything was heard of it.
    pub heard_ms: Option<u64>,
    /// End of its durable log, where it is known: on the hot, of those it streams to.
    pub durable: Option<Lsn>,
    /// Bytes that it has not acknowledged.
    pub lag_bytes: Option<u64>,
    /// Age of the oldest write that it has not acknowledged, in milliseconds; 0 when there is none.
    pub lag_ms: Option<u64>,
    /// It has said that it is about to stop.
    pub leaving: bool,
    /// Why the last attempt to connect to it failed, while it is not connected.
    pub trouble: Option<String>,
}

/// A full sync under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncFacts {
    /// The node at the other end, by name.
    pub peer: String,
    /// Whether this node sends.
    pub sending: bool,
    /// Bytes that are through.
    pub done_bytes: u64,
    /// Bytes in all, about, where known: rows are compressed on the disk, and not on their way.
    pub total_bytes: Option<u64>,
    /// Bytes that were through already when the copy last went on after it had broken off; 0 if it never did.
    #[serde(default)]
    pub resumed_from_bytes: u64,
}

/// The group and this node, as people and programs read it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Wall clock of this node, milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// Version of the program.
    pub program: String,
    /// Name of the cluster.
    pub cluster: String,
    /// Name of the group.
    pub group: String,
    /// The node that was asked.
    pub node: NodeStatus,
    /// Who reigns, as far as this node knows.
    pub hot: Option<String>,
    /// Number of the reign.
    pub epoch: u64,
    /// Version of the group's state that all this is based on; cached, not read from a majority.
    pub register_version: u64,
    /// `sync` or `async`.
    pub replication: String,
    /// Copies an acknowledgement needs.
    pub min_copies: u8,
    /// The members, in the order of their names.
    pub members: Vec<MemberStatus>,
    /// Names under which an empty folder may join.
    pub invited: Vec<String>,
    /// Maintenance, if on.
    pub pause: Option<PauseStatus>,
    /// For each member: whether the group goes on without it.
    pub losses: Vec<Loss>,
    /// The same in a sentence: `safe to lose: b, w; not a, because ...`.
    pub safe_to_lose: String,
    /// Why no write can be acknowledged until somebody comes back or the settings change, where that is so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writes_wait: Option<String>,
    /// Where the file of this node and the register differ.
    pub drift: Vec<Difference>,
    /// What an operator should look at; empty is good.
    pub complaints: Vec<String>,
    /// A full sync under way.
    pub full_sync: Option<SyncFacts>,
    /// The last change of the group's state.
    pub last_change: Option<Change>,
}

/// The node that was asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Its name.
    pub name: String,
    /// Its number in the group.
    pub id: Option<u16>,
    /// What it is.
    pub role: Role,
    /// What it is doing.
    pub phase: String,
    /// Whether commands can be answered through it now.
    pub serves: bool,
    /// Why it is fenced.
    pub fence: Option<String>,
    /// Its present start: `count:nonce`.
    pub incarnation: String,
    /// End of its durable log.
    pub durable_lsn: u64,
    /// Its commit position.
    pub committed_lsn: u64,
    /// What its store holds durably: a restart goes on from there.
    pub applied_lsn: u64,
    /// Up to where reads on it see: its commit position, or a moment behind it.
    pub visible_lsn: u64,
    /// Whether its lease holds.
    pub lease_held: bool,
    /// Whether a guardian watches it.
    pub guardian: bool,
    /// Whether writes wait for room.
    pub throttled: bool,
    /// How far its wall clock is ahead of group time (behind: negative), where that is too far to be followed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_step_ms: Option<i64>,
    /// Commands that wait for a hot.
    pub held: u64,
    /// Client connections.
    pub clients: u64,
}

/// One member, as the node that was asked sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberStatus {
    /// Its name.
    pub name: String,
    /// Its number.
    pub id: u16,
    /// Hot, warm or witness, by the register.
    pub role: Role,
    /// Where peers reach it.
    pub address: String,
    /// Whether it is in the in-sync set.
    pub in_sync: bool,
    /// Whether it is this node, or a connection to it stands.
    pub connected: bool,
    /// Whether it is about to stop.
    pub leaving: bool,
    /// Milliseconds since anything was heard of it; 0 for this node itself.
    pub heard_ms: Option<u64>,
    /// End of its durable log, where this node knows it.
    pub durable_lsn: Option<u64>,
    /// Writes that it has not acknowledged.
    pub lag_entries: Option<u64>,
    /// Their size.
    pub lag_bytes: Option<u64>,
    /// Age of the oldest of them.
    pub lag_ms: Option<u64>,
    /// Among candidates with equal logs the higher one stands first.
    pub priority: u16,
}

/// Maintenance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PauseStatus {
    /// How long it lasts from when a node learns of it.
    pub length_ms: u64,
    /// When it ends about, by the clock of the node that began it: milliseconds since the Unix epoch, where known.
    #[serde(default)]
    pub ends_at_ms: Option<u64>,
    /// Why.
    pub reason: String,
}

impl Status {
    /// Judges and names the facts. Pure: same facts, same status.
    #[must_use]
    pub fn of(facts: &Facts) -> Self {
        let config = &facts.config;
        let state = facts.state.as_ref();
        let members = state.map(|state| members(facts, state)).unwrap_or_default();
        let majority = state.map_or(0, GroupState::majority_count);
        let min_copies = state.map_or(config.agreed.group.min_copies, |state| state.settings.min_copies);
        let pause = state.and_then(pause);
        // A fenced node hears of no change: what it knows of the others says nothing of now.
        let losses = match facts.role {
            Role::Fenced => Vec::new(),
            Role::Hot | Role::Warm | Role::Witness | Role::Joining => {
                safety::losses(&members, majority, min_copies, pause.is_some())
            }
        };
        let drift = drift(facts);
        let replication = state.map_or(config.agreed.group.replication, |state| state.settings.replication);
        let writes_wait = match (facts.role, replication) {
            (Role::Fenced, _) | (_, Replication::Async { .. }) => None,
            (Role::Hot | Role::Warm | Role::Witness | Role::Joining, Replication::Sync) => {
                safety::writes_wait(&members, majority, min_copies)
            }
        };
        let waits = writes_wait.as_deref();
        Self {
            at_ms: facts.now_ms,
            program: env!("CARGO_PKG_VERSION").to_owned(),
            cluster: config.agreed.cluster.clone(),
            group: config.agreed.group.name.clone(),
            node: NodeStatus::of(facts),
            hot: state.filter(|s| s.reign.epoch.0 > 0).map(|state| name_of(state, state.reign.node)),
            epoch: state.map_or(0, |state| state.reign.epoch.0),
            register_version: state.map_or(0, |state| state.version.0),
            replication: match replication {
                Replication::Sync => "sync".to_owned(),
                Replication::Async { .. } => "async".to_owned(),
            },
            min_copies,
            complaints: Looked {
                facts,
                members: &members,
                majority,
                writes_wait: waits,
                drift: &drift,
                pause: pause.as_ref(),
            }
            .complaints(),
            safe_to_lose: safety::sentence(&losses),
            losses,
            writes_wait,
            members,
            invited: state.map(|state| state.invited.keys().cloned().collect()).unwrap_or_default(),
            pause,
            drift,
            full_sync: facts.sync.clone(),
            last_change: state.and_then(|state| state.changes.back().map(|change| Change::of(change, state))),
        }
    }
}

impl NodeStatus {
    fn of(facts: &Facts) -> Self {
        Self {
            name: facts.config.this.name.clone(),
            id: facts.me.map(|me| me.0),
            role: facts.role,
            phase: facts.phase.clone(),
            serves: facts.serves,
            fence: facts.fence.clone(),
            incarnation: facts.incarnation.to_string(),
            durable_lsn: facts.durable.lsn.0,
            committed_lsn: facts.committed.0,
            applied_lsn: facts.applied.0,
            visible_lsn: facts.visible.0,
            lease_held: facts.lease_held,
            guardian: facts.guardian,
            throttled: facts.throttled,
            clock_step_ms: facts.clock_step_ms,
            held: facts.held,
            clients: facts.clients,
        }
    }
}

fn members(facts: &Facts, state: &GroupState) -> Vec<MemberStatus> {
    let mut members: Vec<MemberStatus> = state
        .members
        .iter()
        .map(|(id, member)| {
            let is_me = facts.me == Some(*id);
            let link = facts.links.get(id).cloned().unwrap_or_default();
            let durable = if is_me { Some(facts.durable.lsn) } else { link.durable.filter(|_| link.connected) };
            MemberStatus {
                name: member.name.clone(),
                id: id.0,
                role: match member.role {
                    MemberRole::Witness => Role::Witness,
                    MemberRole::Data if state.reign.epoch.0 > 0 && state.reign.node == *id => Role::Hot,
                    MemberRole::Data => Role::Warm,
                },
                address: member.address.clone(),
                in_sync: state.in_sync.contains(id),
                connected: is_me || link.connected,
                leaving: link.leaving,
                heard_ms: if is_me { Some(0) } else { link.heard_ms },
                durable_lsn: durable.map(|lsn| lsn.0),
                lag_entries: durable.filter(|_| facts.role == Role::Hot).map(|lsn| facts.durable.lsn.since(lsn)),
                lag_bytes: link.lag_bytes.filter(|_| link.connected),
                lag_ms: link.lag_ms.filter(|_| link.connected),
                priority: member.priority,
            }
        })
        .collect();
    members.sort_by(|a, b| a.name.cmp(&b.name));
    members
}

fn pause(state: &GroupState) -> Option<PauseStatus> {
    let Pause { length, reason } = state.pause.as_ref()?;
    let length_ms = u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
    let began = state.changes.iter().rev().find(|change| change.kind == ChangeKind::Pause);
    let ends_at_ms = began.map(|began| began.at_ms.saturating_add(length_ms));
    Some(PauseStatus { length_ms, ends_at_ms, reason: reason.clone() })
}

/// What the register holds against what this node's file says; nothing while the register is not known.
fn drift(facts: &Facts) -> Vec<Difference> {
    let Some(state) = &facts.state else { return Vec::new() };
    let mut found = member_differences(state, &facts.config.nodes);
    found.extend(differences(&state.settings.text, &facts.config.filed.text()));
    found
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::config::File;
    use hotwarm_core::register::{Cause, ChangeKind, ChangeRecord, Member, ProposalId, Settings};
    use hotwarm_types::{ClusterId, Epoch, FolderId, GroupId, Reign, Version};
    use std::collections::VecDeque;
    use std::path::Path;

    const FILE: &str = r#"
        [cluster]
        name = "shop"
        [nodes]
        a = { address = "127.0.0.1:7400" }
        b = { address = "127.0.0.1:7401" }
        w = { address = "127.0.0.1:7402", role = "witness" }
        [local]
        data_dir = "/data"
        tls_dir = "/tls"
        [group.main]
    "#;

    /// A healthy group of a (hot, asked), b (warm) and w (witness).
    pub(crate) fn healthy() -> Facts {
        let config = File::parse(FILE, Path::new("hotwarm.toml")).unwrap().for_node("a", "--node").unwrap();
        let members = config
            .nodes
            .iter()
            .enumerate()
            .map(|(index, node)| {
                let member = Member {
                    name: node.name.clone(),
                    folder: FolderId(index as u128),
                    address: node.address.clone(),
                    role: node.role,
                    priority: node.priority,
                };
                (NodeId(index as u16 + 1), member)
            })
            .collect();
        let reign = Reign { epoch: Epoch(7), node: NodeId(1), incarnation: Incarnation { start: 3, nonce: 9 } };
        let state = GroupState {
            cluster: ClusterId(1),
            group: GroupId(0),
            version: Version(31),
            proposal: ProposalId::default(),
            reign,
            lossy_epoch: None,
            in_sync: [NodeId(1), NodeId(2)].into(),
            members,
            members_version: Version(1),
            invited: BTreeMap::new(),
            next_node: NodeId(4),
            settings: Settings { ..config.agreed.settings() },
            pause: None,
            changes: VecDeque::from([ChangeRecord {
                version: Version(31),
                epoch: Epoch(7),
                at_ms: 5,
                by: ProposalId::default(),
                kind: ChangeKind::Promote { from: NodeId(2), to: NodeId(1) },
                cause: Cause { word: "crash_attested".to_owned(), evidence: "reaped".to_owned() },
            }]),
        };
        let link = |durable| LinkFacts {
            connected: true,
            heard_ms: Some(12),
            durable,
            lag_bytes: Some(0),
            ..Default::default()
        };
        Facts {
            config: Arc::new(config),
            file_read_ms: 0,
            now_ms: 1_700_000_000_000,
            state: Some(state),
            me: Some(NodeId(1)),
            incarnation: reign.incarnation,
            role: Role::Hot,
            phase: "serving".to_owned(),
            serves: true,
            fence: None,
            durable: EntryId { epoch: Epoch(7), lsn: Lsn(1042) },
            committed: Lsn(1040),
            applied: Lsn(1040),
            visible: Lsn(1041),
            lease_held: true,
            guardian: true,
            throttled: false,
            clock_step_ms: None,
            held: 0,
            clients: 3,
            links: [(NodeId(2), link(Some(Lsn(1040)))), (NodeId(3), link(None))].into(),
            sync: None,
            complaints: Vec::new(),
        }
    }

    #[test]
    fn a_healthy_group_has_no_complaints() {
        let status = Status::of(&healthy());
        assert_eq!(status.complaints, Vec::<String>::new());
        assert_eq!(status.drift, Vec::new());
        assert_eq!(status.hot.as_deref(), Some("a"));
        assert_eq!(status.safe_to_lose, "safe to lose: a, b, w");
        let roles: Vec<Role> = status.members.iter().map(|member| member.role).collect();
        assert_eq!(roles, [Role::Hot, Role::Warm, Role::Witness]);
        assert_eq!(status.members[1].lag_entries, Some(2));
        assert_eq!(status.last_change.unwrap().what, "a took over from b");
    }

    #[test]
    fn what_weakens_the_group_is_said() {
        let mut facts = healthy();
        facts.links.get_mut(&NodeId(3)).unwrap().connected = false;
        facts.guardian = false;
        let state = facts.state.as_mut().unwrap();
        state.in_sync.remove(&NodeId(2));
        state.settings.min_copies = 2;
        let said = Status::of(&facts).complaints.join("\n");
        for wanted in [
            "w at 127.0.0.1:7402 is not connected",
            "one more loss",
            "b is not in sync",
            "1 in sync answer, min_copies is 2",
            "guardian",
        ] {
            assert!(said.contains(wanted), "{wanted} in:\n{said}");
        }
    }

    #[test]
    fn drift_shows_settings_and_members() {
        let mut facts = healthy();
        let state = facts.state.as_mut().unwrap();
        state.settings.text = state.settings.text.replace("min_copies = 1", "min_copies = 2");
        state.members.get_mut(&NodeId(2)).unwrap().address = "b.lan:7400".to_owned();
        let status = Status::of(&facts);
        let keys: Vec<&str> = status.drift.iter().map(|difference| difference.key.as_str()).collect();
        assert_eq!(keys, ["nodes.b", "group.main.min_copies"]);
    }

    #[test]
    fn drift_is_measured_from_the_file_also_after_the_register_was_followed() {
        let mut facts = healthy();
        let mut config = (*facts.config).clone();
        config.filed.group.min_copies = 2;
        facts.config = Arc::new(config);
        assert_eq!(Status::of(&facts).drift.len(), 1);
    }

    #[test]
    fn a_fenced_node_judges_nothing_of_the_others() {
        let fence = Some("its folder is no longer a member's".to_owned());
        let status = Status::of(&Facts { fence: fence.clone(), role: Role::Fenced, serves: false, ..healthy() });
        assert!(status.losses.is_empty());
        assert_eq!(status.safe_to_lose, "safe to lose: unknown, the group's state is not known here");
        let status = Status::of(&Facts { fence, role: Role::Fenced, state: None, me: None, ..healthy() });
        let said = status.complaints.join("\n");
        assert!(
            said.contains("no longer a member's") && !said.contains("does not know the group's state yet"),
            "{said}"
        );
    }

    #[test]
    fn a_status_survives_json() {
        let status = Status::of(&healthy());
        let text = serde_json::to_string(&status).unwrap();
        assert_eq!(serde_json::from_str::<Status>(&text).unwrap(), status);
    }

    #[test]
    fn before_the_register_is_known_nothing_is_claimed() {
        let status = Status::of(&Facts { state: None, me: None, role: Role::Joining, ..healthy() });
        assert_eq!((status.hot, status.epoch, status.members.len()), (None, 0, 0));
        assert_eq!(status.safe_to_lose, "safe to lose: unknown, the group's state is not known here");
    }
}
