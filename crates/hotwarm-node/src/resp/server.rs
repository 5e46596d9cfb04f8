//! What commands ask of the node: INFO, ROLE, CLIENT LIST, CONFIG, passwords.
//!
//! All of it is answered at once from what is published ([`crate::board`]); nothing here waits for another thread or
//! decides anything. Formats are those of Redis 7.0, with `hotwarm_` in front of fields that Redis does not have.

use crate::board::{Board, View};
use crate::clock;
use crate::config::{Config, Front, Secret};
use crate::metrics::Metrics;
use hotwarm_core::RoleFact;
use hotwarm_core::register::{GroupState, Member, MemberRole, Replication};
use hotwarm_resp::Reply;
use hotwarm_store::command::{COMPATIBLE_VERSION, ConfigError, Server};
use hotwarm_types::{Incarnation, Instant, Lsn, NodeId};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

/// The line of one connection, as CLIENT LIST shows it; the connection keeps it up to date.
pub(super) type ClientLine = Arc<Mutex<String>>;

/// Sections of INFO, in the order of Redis.
const SECTIONS: [&str; 6] = ["server", "clients", "memory", "stats", "replication", "keyspace"];

/// See the module.
#[derive(Debug)]
pub struct FrontServer {
    config: Arc<Config>,
    front: Front,
    password: Option<Secret>,
    board: Arc<Board>,
    metrics: Arc<Metrics>,
    incarnation: Incarnation,
    started_at: Instant,
    lines: Mutex<BTreeMap<u64, ClientLine>>,
}

impl FrontServer {
    /// The node as one of its fronts shows it.
    #[must_use]
    pub fn new(
        config: Arc<Config>,
        front: Front,
        password: Option<Secret>,
        board: Arc<Board>,
        metrics: Arc<Metrics>,
        incarnation: Incarnation,
    ) -> Self {
        let started_at = clock::now();
        Self { config, front, password, board, metrics, incarnation, started_at, lines: Mutex::default() }
    }

    pub(super) fn add_client(&self, id: u64, line: ClientLine) {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).insert(id, line);
        self.board.counts.clients.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn remove_client(&self, id: u64) {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        self.board.counts.clients.fetch_sub(1, Ordering::Relaxed);
    }

    /// On how many other nodes everything up to `seen` is durable, as far as this node knows: in `sync` mode on all that
    /// are in sync, once it has been acknowledged.
    pub(super) fn copies(&self, seen: Lsn) -> u64 {
        self.board.glance(|view| {
            let Some(state) = &view.state else { return 0 };
            match state.settings.replication {
                Replication::Sync => (state.in_sync.len() as u64).saturating_sub(1),
                Replication::Async { .. } => {
                    let peers = view.facts.iter().flat_map(|facts| facts.peers.values());
                    peers.filter(|peer| peer.durable.is_some_and(|durable| durable >= seen)).count() as u64
                }
            }
        })
    }

    fn server_section(&self, text: &mut String) {
        let uptime = clock::now().since(self.started_at).as_secs();
        let _ = write!(
            text,
            "# Server\r\nredis_version:{COMPATIBLE_VERSION}\r\nhotwarm_version:{}\r\nredis_mode:standalone\r\n\
             process_id:{}\r\nrun_id:{:016x}{:016x}\r\ntcp_port:{}\r\nuptime_in_seconds:{uptime}\r\n\
             uptime_in_days:{}\r\nhotwarm_node:{}\r\nhotwarm_cluster:{}\r\nhotwarm_group:{}\r\n",
            env!("CARGO_PKG_VERSION"),
            std::process::id(),
            self.incarnation.start,
            self.incarnation.nonce,
            self.front.listen.port(),
            uptime / 86_400,
            self.config.this.name,
            self.config.agreed.cluster,
            self.config.agreed.group.name,
        );
    }

    fn clients_section(&self, text: &mut String) {
        let connected = self.lines.lock().unwrap_or_else(PoisonError::into_inner).len();
        let held = self.board.counts.held_calls.load(Ordering::Relaxed);
        let _ = write!(
            text,
            "# Clients\r\nconnected_clients:{connected}\r\nmaxclients:{}\r\nblocked_clients:0\r\n\
             hotwarm_held_calls:{held}\r\n",
            self.front.connections_max
        );
    }

    fn memory_section(&self, text: &mut String) {
        let _ = write!(
            text,
            "# Memory\r\nmaxmemory:{}\r\nmaxmemory_policy:noeviction\r\n",
            self.config.agreed.group.memory_max_bytes
        );
    }

    fn stats_section(&self, text: &mut String) {
        let metrics = &self.metrics;
        let _ = write!(
            text,
            "# Stats\r\ntotal_connections_received:{}\r\nrejected_connections:{}\r\ntotal_commands_processed:{}\r\n\
             total_error_replies:{}\r\nhotwarm_forwarded_calls:{}\r\nhotwarm_duplicate_calls:{}\r\n",
            metrics.connections.value(),
            metrics.connections_refused.value(),
            metrics.reads.value() + metrics.writes.value(),
            metrics.command_errors.value(),
            metrics.forwarded.value(),
            metrics.duplicates.value(),
        );
    }

    fn replication_section(&self, text: &mut String) {
        let view = self.board.view();
        let offset = view.facts.as_ref().map_or(0, |facts| facts.committed.0);
        let epoch = view.facts.as_ref().map_or(0, |facts| facts.epoch.0);
        let in_sync = view.state.as_ref().map_or(0, |state| state.in_sync.len());
        text.push_str("# Replication\r\n");
        if is_hot(&view) {
            let warms = self.warms(&view);
            let _ = write!(text, "role:master\r\nconnected_slaves:{}\r\n", warms.len());
            for (index, warm) in warms.iter().enumerate() {
                let Warm { host, port, offset, lag_s, online } = warm;
                let state = if *online { "online" } else { "wait_bgsave" };
                let _ =
                    write!(text, "slave{index}:ip={host},port={port},state={state},offset={offset},lag={lag_s}\r\n");
            }
        } else {
            let address = self.hot_of(&view);
            let up = address.is_some();
            let (host, port) = address.unwrap_or_default();
            let _ = write!(
                text,
                "role:slave\r\nmaster_host:{host}\r\nmaster_port:{port}\r\nmaster_link_status:{}\r\n\
                 master_last_io_seconds_ago:0\r\nmaster_sync_in_progress:0\r\nslave_read_repl_offset:{offset}\r\n\
                 slave_repl_offset:{offset}\r\nslave_priority:{}\r\nslave_read_only:0\r\nconnected_slaves:0\r\n",
                if up { "up" } else { "down" },
                self.config.this.priority,
            );
        }
        let id = view.state.as_ref().map_or(0, |state| state.cluster.0);
        let _ = write!(
            text,
            "master_replid:{id:032x}{epoch:08x}\r\nmaster_repl_offset:{offset}\r\nhotwarm_epoch:{epoch}\r\n\
             hotwarm_in_sync:{in_sync}\r\n"
        );
    }

    /// The data members but this one, as the hot sees them.
    fn warms(&self, view: &View) -> Vec<Warm> {
        let (Some(state), Some(facts)) = (&view.state, &view.facts) else { return Vec::new() };
        let others = state.members.iter().filter(|(id, member)| {
            member.role == MemberRole::Data
                && Some(**id) != facts.id
                && facts.peers.get(id).is_some_and(|p| p.connected)
        });
        others.map(|(id, member)| self.warm(state, *id, member, facts.peers.get(id))).collect()
    }

    fn warm(&self, state: &GroupState, id: NodeId, member: &Member, facts: Option<&hotwarm_core::PeerFacts>) -> Warm {
        Warm {
            host: host_of(member),
            port: self.front.listen.port(),
            offset: facts.and_then(|facts| facts.durable).map_or(0, |durable| durable.0),
            lag_s: facts.and_then(|facts| facts.lag).map_or(0, |lag| lag.as_secs()),
            online: state.in_sync.contains(&id),
        }
    }

    /// Where clients reach the hot, as far as this node knows one.
    fn hot_of(&self, view: &View) -> Option<(String, u16)> {
        let reign = view.facts.as_ref()?.reign?;
        let member = view.state.as_ref()?.members.get(&reign.node)?;
        Some((host_of(member), self.front.listen.port()))
    }
}

/// A follower, as INFO and ROLE show it.
struct Warm {
    host: String,
    port: u16,
    offset: u64,
    lag_s: u64,
    online: bool,
}

fn host_of(member: &Member) -> String {
    member.address.rsplit_once(':').map_or_else(|| member.address.clone(), |(host, _)| host.to_owned())
}

fn is_hot(view: &View) -> bool {
    view.facts.as_ref().is_some_and(|facts| match facts.role {
        RoleFact::HotServing | RoleFact::HotStarting | RoleFact::HotHandingOver => true,
        RoleFact::Outsider | RoleFact::Warm | RoleFact::WarmStanding | RoleFact::Witness | RoleFact::Fenced => false,
    })
}

impl Server for FrontServer {
    fn password_required(&self) -> bool {
        self.password.is_some()
    }

    fn authenticate(&self, user: &[u8], password: &[u8]) -> bool {
        user == b"default" && self.password.as_ref().is_none_or(|secret| secret.matches(password))
    }

    fn is_hot(&self) -> bool {
        self.board.glance(is_hot)
    }

    fn info(&self, sections: &[String]) -> String {
        let all =
            sections.is_empty() || sections.iter().any(|s| ["default", "all", "everything"].contains(&s.as_str()));
        let mut text = String::new();
        for section in SECTIONS {
            if !all && !sections.iter().any(|wanted| wanted == section) {
                continue;
            }
            if !text.is_empty() {
                text.push_str("\r\n");
            }
            match section {
                "server" => self.server_section(&mut text),
                "clients" => self.clients_section(&mut text),
                "memory" => self.memory_section(&mut text),
                "stats" => self.stats_section(&mut text),
                "replication" => self.replication_section(&mut text),
                _keyspace => text.push_str("# Keyspace\r\n"),
            }
        }
        text
    }

    fn role(&self) -> Reply {
        let view = self.board.view();
        let offset = Reply::Integer(view.facts.as_ref().map_or(0, |facts| facts.committed.0.cast_signed()));
        if is_hot(&view) {
            let warms = self.warms(&view).into_iter().map(|warm| {
                let fields = [warm.host, warm.port.to_string(), warm.offset.to_string()];
                Reply::Array(fields.into_iter().map(Reply::text).collect())
            });
            return Reply::Array(vec![Reply::word("master"), offset, Reply::Array(warms.collect())]);
        }
        let address = self.hot_of(&view);
        let link = Reply::word(if address.is_some() { "connected" } else { "connect" });
        let (host, port) = address.unwrap_or_default();
        Reply::Array(vec![Reply::word("slave"), Reply::text(host), Reply::Integer(port.into()), link, offset])
    }

    fn client_list(&self) -> String {
        let lines: Vec<ClientLine> =
            self.lines.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        let mut text = String::new();
        for line in lines {
            text.push_str(&line.lock().unwrap_or_else(PoisonError::into_inner));
            text.push('\n');
        }
        text
    }

    fn config(&self) -> Vec<(String, String)> {
        let pair = |name: &str, value: String| (name.to_owned(), value);
        vec![
            pair("appendfsync", "always".to_owned()),
            pair("appendonly", "yes".to_owned()),
            pair("databases", "1".to_owned()),
            pair("maxclients", self.front.connections_max.to_string()),
            pair("maxmemory", self.config.agreed.group.memory_max_bytes.to_string()),
            pair("maxmemory-policy", "noeviction".to_owned()),
            pair("port", self.front.listen.port().to_string()),
            pair("replica-priority", self.config.this.priority.to_string()),
            pair("save", String::new()),
            pair("timeout", "0".to_owned()),
        ]
    }

    fn set_config(&self, settings: &[(String, String)]) -> Result<(), ConfigError> {
        let known = self.config();
        match settings.iter().find(|(name, _)| known.iter().all(|(other, _)| other != name)) {
            Some((name, _)) => Err(ConfigError::Unknown { name: name.clone() }),
            None => match settings.iter().find(|(name, value)| !known.contains(&(name.clone(), value.clone()))) {
                Some((name, _)) => {
                    let reason = "it is set for the whole group by \"hotwarm apply\"".to_owned();
                    Err(ConfigError::Refused { name: name.clone(), reason })
                }
                None => Ok(()),
            },
        }
    }

    fn reset_statistics(&self) {
        // Prometheus' counters never go back, and INFO shows the same ones.
    }

    fn hot_address(&self, group: &str) -> Option<(String, u16)> {
        if group != self.config.agreed.group.name {
            return None;
        }
        self.board.glance(|view| self.hot_of(view))
    }
}
