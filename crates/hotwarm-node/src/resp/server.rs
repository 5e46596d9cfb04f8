//! What commands ask of the node: INFO, ROLE, CLIENT LIST, CONFIG, passwords.
//!
//! All of it is answered at once from what is published ([`crate::board`]); nothing here waits for another thread or
//! decides anything. Formats are those of Redis 7.0, with `hotwarm_` in front of fields that Redis does not have.

use crate::board::{Board, View};
use crate::clock;
use crate::metrics::Metrics;
use crate::resp::{FrontSettings, LiveFront};
use hotwarm_core::register::{GroupState, Member, MemberRole, Replication};
use hotwarm_core::{PeerFacts, RoleFact};
use hotwarm_resp::Reply;
use hotwarm_store::command::{COMPATIBLE_VERSION, ConfigError, Instance, Server, Topology};
use hotwarm_types::{Incarnation, Instant, Lsn, NodeId};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The line of one connection, as CLIENT LIST shows it; the connection keeps it up to date.
pub(super) type ClientLine = Arc<Mutex<String>>;

/// Sections of INFO, in the order of Redis.
const SECTIONS: [&str; 6] = ["server", "clients", "memory", "stats", "replication", "keyspace"];

/// See the module.
#[derive(Debug)]
pub struct FrontServer {
    live: Arc<LiveFront>,
    board: Arc<Board>,
    metrics: Arc<Metrics>,
    incarnation: Incarnation,
    started_at: Instant,
    lines: Mutex<BTreeMap<u64, ClientLine>>,
}

impl FrontServer {
    /// The node as one of its fronts shows it.
    #[must_use]
    pub fn new(live: Arc<LiveFront>, board: Arc<Board>, metrics: Arc<Metrics>, incarnation: Incarnation) -> Self {
        Self { live, board, metrics, incarnation, started_at: clock::now(), lines: Mutex::default() }
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

    fn server_section(&self, settings: &FrontSettings, text: &mut String) {
        let FrontSettings { config, front, .. } = settings;
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
            front.listen.port(),
            uptime / 86_400,
            config.this.name,
            config.agreed.cluster,
            config.agreed.group.name,
        );
    }

    fn clients_section(&self, settings: &FrontSettings, text: &mut String) {
        let connected = self.lines.lock().unwrap_or_else(PoisonError::into_inner).len();
        let held = self.board.counts.held_calls.load(Ordering::Relaxed);
        let _ = write!(
            text,
            "# Clients\r\nconnected_clients:{connected}\r\nmaxclients:{}\r\nblocked_clients:0\r\n\
             hotwarm_held_calls:{held}\r\n",
            settings.front.connections_max
        );
    }

    fn memory_section(settings: &FrontSettings, text: &mut String) {
        let _ = write!(
            text,
            "# Memory\r\nmaxmemory:{}\r\nmaxmemory_policy:noeviction\r\n",
            settings.config.agreed.group.memory_max_bytes
        );
        if let Some(size_bytes) = crate::metrics::resident_memory_bytes() {
            // What the allocator has given out is not known; what the process holds is no less.
            let _ = write!(text, "used_memory:{size_bytes}\r\nused_memory_rss:{size_bytes}\r\n");
        }
    }

    fn stats_section(&self, text: &mut String) {
        let metrics = &self.metrics;
        let _ = write!(
            text,
            "# Stats\r\ntotal_connections_received:{}\r\nrejected_connections:{}\r\ntotal_commands_processed:{}\r\n\
             expired_keys:{}\r\nevicted_keys:0\r\ntotal_error_replies:{}\r\nhotwarm_forwarded_calls:{}\r\n\
             hotwarm_duplicate_calls:{}\r\n",
            metrics.connections.value(),
            metrics.connections_refused.value(),
            metrics.reads.value() + metrics.writes.value(),
            metrics.expired.value(),
            metrics.command_errors.value(),
            metrics.forwarded.value(),
            metrics.duplicates.value(),
        );
    }

    fn replication_section(&self, settings: &FrontSettings, text: &mut String) {
        let view = self.board.view();
        let offset = offset(&view);
        let epoch = view.facts.as_ref().map_or(0, |facts| facts.epoch.0);
        let in_sync = view.state.as_ref().map_or(0, |state| state.in_sync.len());
        text.push_str("# Replication\r\n");
        if is_hot(&view) {
            let warms = self.warms(&view, settings);
            let _ = write!(text, "role:master\r\nconnected_slaves:{}\r\n", warms.len());
            for (index, warm) in warms.iter().enumerate() {
                let Warm { host, port, offset, lag_s, online } = warm;
                let state = if *online { "online" } else { "wait_bgsave" };
                let _ =
                    write!(text, "slave{index}:ip={host},port={port},state={state},offset={offset},lag={lag_s}\r\n");
            }
        } else {
            let (host, port) = self.hot_of(&view, settings).unwrap_or_default();
            let silent_s = silence_of_hot(&view).map_or(-1, |silent| silent.as_secs().cast_signed());
            let durable = view.facts.as_ref().map_or(0, |facts| facts.durable.0);
            let copies = u8::from(self.board.counts.copies_received.load(Ordering::Relaxed) > 0);
            let _ = write!(
                text,
                "role:slave\r\nmaster_host:{host}\r\nmaster_port:{port}\r\nmaster_link_status:{}\r\n\
                 master_last_io_seconds_ago:{silent_s}\r\nmaster_sync_in_progress:{copies}\r\nslave_read_repl_offset:{durable}\r\n\
                 slave_repl_offset:{offset}\r\nslave_priority:{}\r\nslave_read_only:0\r\nconnected_slaves:0\r\n",
                if silent_s >= 0 { "up" } else { "down" },
                settings.config.this.priority,
            );
        }
        let id = view.state.as_ref().map_or(0, |state| state.cluster.0);
        let _ = write!(
            text,
            "master_replid:{id:032x}{epoch:08x}\r\nmaster_repl_offset:{offset}\r\nhotwarm_epoch:{epoch}\r\n\
             hotwarm_in_sync:{in_sync}\r\n"
        );
    }

    /// As of the last feed of the tree, which is a fraction of a second behind what is committed.
    fn keyspace_section(&self, text: &mut String) {
        text.push_str("# Keyspace\r\n");
        let counts = &self.board.counts;
        let [keys, expires, avg_ttl] =
            [&counts.keys, &counts.expiring_keys, &counts.ttl_ms_mean].map(|count| count.load(Ordering::Relaxed));
        if keys > 0 {
            let _ = write!(text, "db0:keys={keys},expires={expires},avg_ttl={avg_ttl}\r\n");
        }
    }

    /// The data members but this one, as the hot sees them.
    fn warms(&self, view: &View, settings: &FrontSettings) -> Vec<Warm> {
        let (Some(state), Some(facts)) = (&view.state, &view.facts) else { return Vec::new() };
        let others = state.members.iter().filter(|(id, member)| {
            member.role == MemberRole::Data
                && Some(**id) != facts.id
                && facts.peers.get(id).is_some_and(|p| p.connected)
        });
        others.map(|(id, member)| self.warm(state, *id, member, facts.peers.get(id), settings)).collect()
    }

    fn warm(
        &self,
        state: &GroupState,
        id: NodeId,
        member: &Member,
        facts: Option<&PeerFacts>,
        settings: &FrontSettings,
    ) -> Warm {
        let (host, port) = self.address_of(id, member, settings);
        Warm {
            host,
            port,
            offset: facts.and_then(|facts| facts.durable).map_or(0, |durable| durable.0),
            lag_s: facts.and_then(|facts| facts.lag).map_or(0, |lag| lag.as_secs()),
            online: state.in_sync.contains(&id),
        }
    }

    /// Where clients reach the hot, as far as this node knows one.
    fn hot_of(&self, view: &View, settings: &FrontSettings) -> Option<(String, u16)> {
        let reign = view.facts.as_ref()?.reign?;
        let member = view.state.as_ref()?.members.get(&reign.node)?;
        Some(self.address_of(reign.node, member, settings))
    }

    /// Where clients reach the front of the same name on a member: as that node has told, else on the port of this one.
    fn address_of(&self, id: NodeId, member: &Member, settings: &FrontSettings) -> (String, u16) {
        let FrontSettings { config, front, .. } = settings;
        let (host, port) = if member.name == config.this.name {
            config.announced(front)
        } else {
            let told = self.board.front_of(id, &front.name);
            told.map_or((String::new(), front.listen.port()), |told| (told.host, told.port))
        };
        (if host.is_empty() { host_of(member) } else { host }, port)
    }

    fn instance(&self, view: &View, id: NodeId, member: &Member, settings: &FrontSettings) -> Instance {
        let (host, port) = self.address_of(id, member, settings);
        let is_me = member.name == settings.config.this.name;
        let facts = view.facts.as_ref();
        let peer = facts.and_then(|facts| facts.peers.get(&id)).filter(|_| !is_me);
        let silent = peer.and_then(|peer| peer.silent).map_or(0, |silent| silent.as_millis());
        let own = facts.filter(|_| is_me).map(|facts| facts.durable);
        Instance {
            host,
            port,
            reached: is_me || peer.is_some_and(|peer| peer.connected),
            silent_ms: u64::try_from(silent).unwrap_or(u64::MAX),
            offset: own.or_else(|| peer.and_then(|peer| peer.durable)).map_or(0, |durable| durable.0),
            priority: member.priority,
        }
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

/// The offset of replication that a node tells, an LSN: on the hot the end of its log, so that no follower is ahead of
/// it; elsewhere what its readers see.
fn offset(view: &View) -> u64 {
    view.facts.as_ref().map_or(0, |facts| if is_hot(view) { facts.end.lsn.0 } else { facts.committed.0 })
}

/// Since the hot was heard last, as long as a connection to it stands.
fn silence_of_hot(view: &View) -> Option<Duration> {
    let facts = view.facts.as_ref()?;
    let hot = facts.peers.get(&facts.reign?.node).filter(|hot| hot.connected)?;
    Some(hot.silent.unwrap_or_default())
}

/// Why a parameter is not set by a client, and where it is set.
fn refusal(name: &str, settings: &FrontSettings) -> String {
    let FrontSettings { config, front, .. } = settings;
    let (front, group) = (&front.name, &config.agreed.group.name);
    let key = match name {
        "maxclients" => format!("front.{front}.connections_max"),
        "maxmemory" => format!("group.{group}.memory_max"),
        "port" => format!("front.{front}.listen"),
        "replica-priority" => return "it is given to a node by \"hotwarm node add\"".to_owned(),
        _fixed => return "hotwarm has no other value for it".to_owned(),
    };
    format!("it is agreed on by the whole group: change {key} in the file, then run \"hotwarm apply\"")
}

impl Server for FrontServer {
    fn password_required(&self) -> bool {
        self.live.is_protected()
    }

    fn authenticate(&self, user: &[u8], password: &[u8]) -> bool {
        let settings = self.live.settings();
        user == b"default" && settings.password.as_ref().is_none_or(|secret| secret.matches(password))
    }

    fn is_hot(&self) -> bool {
        self.board.glance(is_hot)
    }

    fn info(&self, sections: &[String]) -> String {
        let all =
            sections.is_empty() || sections.iter().any(|s| ["default", "all", "everything"].contains(&s.as_str()));
        let settings = &*self.live.settings();
        let mut text = String::new();
        for section in SECTIONS {
            if !all && !sections.iter().any(|wanted| wanted == section) {
                continue;
            }
            if !text.is_empty() {
                text.push_str("\r\n");
            }
            match section {
                "server" => self.server_section(settings, &mut text),
                "clients" => self.clients_section(settings, &mut text),
                "memory" => Self::memory_section(settings, &mut text),
                "stats" => self.stats_section(&mut text),
                "replication" => self.replication_section(settings, &mut text),
                _keyspace => self.keyspace_section(&mut text),
            }
        }
        text
    }

    fn role(&self) -> Reply {
        let (view, settings) = (self.board.view(), self.live.settings());
        let offset = Reply::Integer(offset(&view).cast_signed());
        if is_hot(&view) {
            let warms = self.warms(&view, &settings).into_iter().map(|warm| {
                let fields = [warm.host, warm.port.to_string(), warm.offset.to_string()];
                Reply::Array(fields.into_iter().map(Reply::text).collect())
            });
            return Reply::Array(vec![Reply::word("master"), offset, Reply::Array(warms.collect())]);
        }
        let link = Reply::word(if silence_of_hot(&view).is_some() { "connected" } else { "connect" });
        let (host, port) = self.hot_of(&view, &settings).unwrap_or_default();
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
        let settings = self.live.settings();
        let FrontSettings { config, front, .. } = &*settings;
        let pair = |name: &str, value: String| (name.to_owned(), value);
        vec![
            pair("appendfsync", "always".to_owned()),
            pair("appendonly", "yes".to_owned()),
            pair("databases", "1".to_owned()),
            pair("maxclients", front.connections_max.to_string()),
            pair("maxmemory", config.agreed.group.memory_max_bytes.to_string()),
            pair("maxmemory-policy", "noeviction".to_owned()),
            pair("port", front.listen.port().to_string()),
            pair("replica-priority", config.this.priority.to_string()),
            pair("save", String::new()),
            pair("timeout", "0".to_owned()),
        ]
    }

    fn set_config(&self, settings: &[(String, String)]) -> Result<(), ConfigError> {
        let known = self.config();
        if let Some((name, _)) = settings.iter().find(|(name, _)| known.iter().all(|(other, _)| other != name)) {
            return Err(ConfigError::Unknown { name: name.clone() });
        }
        // What is so already may be "set": clients do it when they start.
        match settings.iter().find(|setting| !known.contains(setting)) {
            Some((name, _)) => {
                Err(ConfigError::Refused { name: name.clone(), reason: refusal(name, &self.live.settings()) })
            }
            None => Ok(()),
        }
    }

    fn reset_statistics(&self) {
        // Prometheus' counters never go back, and INFO shows the same ones.
    }

    fn topology(&self) -> Topology {
        let (view, settings) = (self.board.view(), self.live.settings());
        let group = settings.config.agreed.group.name.clone();
        let Some(state) = &view.state else { return Topology { group, ..Topology::default() } };
        let hot = view.facts.as_ref().and_then(|facts| facts.reign).map(|reign| reign.node);
        let instances = |wanted: &dyn Fn(NodeId, &Member) -> bool| -> Vec<Instance> {
            let members = state.members.iter().filter(|(id, member)| wanted(**id, member));
            members.map(|(id, member)| self.instance(&view, *id, member, &settings)).collect()
        };
        Topology {
            group,
            hot: instances(&|id, _| Some(id) == hot).pop(),
            warms: instances(&|id, member| member.role == MemberRole::Data && Some(id) != hot),
            others: instances(&|_, member| member.name != settings.config.this.name),
            epoch: state.reign.epoch.0,
            majority: state.majority_count() as u64,
        }
    }
}
