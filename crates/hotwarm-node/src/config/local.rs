//! `[local]`: what belongs to this machine and not to the group.

use super::read::host_and_port;
use super::section::Section;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// `[local]`. Reread on SIGHUP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Local {
    /// Holds everything that this node must not forget.
    pub data_dir: PathBuf,
    /// How links to peers are secured.
    pub peers: PeerSecurity,
    /// Where the admin API listens.
    pub admin: SocketAddr,
    /// Holds the token that the admin API asks for; needed beyond loopback.
    pub admin_token_file: Option<PathBuf>,
    /// What the log looks like.
    pub log: Log,
    /// Where peers are listened for, if not where this node's address says.
    pub listen: Option<SocketAddr>,
    /// What is told of each change of role.
    pub on_change: OnChange,
    /// Listen addresses of fronts on this machine, by the front's name.
    pub front_listen: BTreeMap<String, SocketAddr>,
    /// Host and port at which clients reach fronts of this machine, by the front's name, where it is not the host of the
    /// node's address and the port that the front listens on: behind address translation, in a container.
    pub front_announce: BTreeMap<String, String>,
    /// `[local.node.NAME]`: what one of several nodes on this machine has of its own. Empty once filled in.
    pub of_node: BTreeMap<String, Own>,
}

/// What one of several nodes on one machine has of its own, in place of what `[local]` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Own {
    /// In place of `data_dir`.
    pub data_dir: Option<PathBuf>,
    /// In place of `tls_dir`.
    pub tls_dir: Option<PathBuf>,
    /// In place of `admin`.
    pub admin: Option<SocketAddr>,
    /// In place of `listen`.
    pub listen: Option<SocketAddr>,
    /// In place of the listen addresses of fronts, by the front's name.
    pub front_listen: BTreeMap<String, SocketAddr>,
    /// In place of what is announced of fronts, by the front's name.
    pub front_announce: BTreeMap<String, String>,
}

/// How links to peers are secured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerSecurity {
    /// Mutual TLS 1.3 with the group's own certificates, made by `hotwarm init`.
    Tls {
        /// Where they are.
        dir: PathBuf,
    },
    /// None, by the operator's word; `status` complains about it for as long as it lasts.
    Plaintext,
}

/// What the log looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    /// For people, or for machines.
    pub format: LogFormat,
    /// The least that is worth a line.
    pub level: LogLevel,
}

/// For whom the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// People.
    Text,
    /// Machines: one JSON object a line.
    Json,
}

/// The least that is worth a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the usual five levels")]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// What is told of each change of role on this node. Both may be set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OnChange {
    /// A program and its arguments, run without a shell; the event is in its environment and on its input.
    pub command: Option<Vec<String>>,
    /// Receives the event as JSON by POST.
    pub webhook: Option<Webhook>,
}

/// An address that receives events: `http://host[:port]/path`. No TLS: a hook beyond loopback belongs behind the
/// operator's own relay, which has the certificates to check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    /// Host and port, as in the `Host` header.
    pub authority: String,
    /// Path and query, from the first slash.
    pub path: String,
}

impl Webhook {
    fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix("http://")?;
        let (authority, path) = match rest.find('/') {
            Some(slash) => rest.split_at(slash),
            None => (rest, "/"),
        };
        let authority = if has_port(authority) { authority.to_owned() } else { format!("{authority}:80") };
        let printable = text.bytes().all(|byte| byte.is_ascii_graphic());
        let named = !authority.starts_with(':') && !authority.contains('@');
        (printable && named).then(|| Self { authority, path: path.to_owned() })
    }
}

fn has_port(authority: &str) -> bool {
    authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok())
}

/// A socket address; `localhost` may stand for 127.0.0.1. Names are not resolved: what a node binds must not depend
/// on a name server.
pub(super) fn socket_addr(text: &str) -> Option<SocketAddr> {
    let text = text.strip_prefix("localhost").map_or_else(|| text.to_owned(), |port| format!("127.0.0.1{port}"));
    text.parse().ok()
}

pub(super) const SOCKET_ADDR_WANTED: &str = "an IP address and a port, as in \"127.0.0.1:7480\" or \"[::1]:7480\"";

/// Where the admin API listens if the file does not say.
const ADMIN_DEFAULT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 7480);

impl Local {
    /// Reads `[local]`; what is faulty is reported and replaced by a default, so that reading goes on.
    pub(super) fn read(mut section: Section<'_, '_>) -> Self {
        let data_dir = section.text("data_dir").map(|told| PathBuf::from(told.value));
        if data_dir.is_none() && !section.has("data_dir") {
            section.fault(section.line, "data_dir is missing in [local]: where this node keeps its data");
        }
        let peers = Self::peers(&mut section);
        let admin = section.parsed("admin", SOCKET_ADDR_WANTED, socket_addr);
        let admin_token_file = section.text("admin_token_file").map(|told| PathBuf::from(told.value));
        if let Some(told) = &admin {
            check_admin(&section, told.line, told.value, admin_token_file.is_some());
        }
        let listen = section.parsed("listen", SOCKET_ADDR_WANTED, socket_addr).map(|told| told.value);
        let log = Self::log(&mut section);
        let on_change = Self::on_change(&mut section);
        let (front_listen, front_announce) = fronts(&mut section);
        let of_node = section
            .named_sections("node")
            .into_iter()
            .map(|(name, section)| (name, Own::read(section, admin_token_file.is_some())))
            .collect();
        section.close();
        Self {
            data_dir: data_dir.unwrap_or_default(),
            peers,
            admin: admin.map_or(ADMIN_DEFAULT, |told| told.value),
            admin_token_file,
            log,
            listen,
            on_change,
            front_listen,
            front_announce,
            of_node,
        }
    }

    fn peers(section: &mut Section<'_, '_>) -> PeerSecurity {
        let dir = section.text("tls_dir");
        let plaintext = section.flag("allow_plaintext").filter(|told| told.value);
        match (dir, plaintext) {
            (Some(told), None) => PeerSecurity::Tls { dir: PathBuf::from(told.value) },
            (None, Some(_)) => PeerSecurity::Plaintext,
            (Some(_), Some(told)) => {
                section.fault(told.line, "allow_plaintext = true and tls_dir exclude each other; keep tls_dir");
                PeerSecurity::Plaintext
            }
            (None, None) => {
                if !section.has("tls_dir") {
                    let text = "tls_dir is missing in [local]: the folder that \"hotwarm init\" made for this node \
                                (or allow_plaintext = true, on a network that you trust wholly)";
                    section.fault(section.line, text);
                }
                PeerSecurity::Plaintext
            }
        }
    }

    fn log(section: &mut Section<'_, '_>) -> Log {
        let mut log = Log { format: LogFormat::Text, level: LogLevel::Info };
        let Some(mut section) = section.section("log") else { return log };
        if let Some(told) = section.choice("format", &[("text", LogFormat::Text), ("json", LogFormat::Json)], &[]) {
            log.format = told.value;
        }
        let levels = [
            ("error", LogLevel::Error),
            ("warn", LogLevel::Warn),
            ("info", LogLevel::Info),
            ("debug", LogLevel::Debug),
            ("trace", LogLevel::Trace),
        ];
        if let Some(told) = section.choice("level", &levels, &[]) {
            log.level = told.value;
        }
        section.close();
        log
    }

    fn on_change(section: &mut Section<'_, '_>) -> OnChange {
        let Some(mut section) = section.section("on_change") else { return OnChange::default() };
        let command = section.texts("command").map(|told| told.value);
        let wanted = "an address of the form \"http://host:port/path\" (no TLS, no user)";
        let webhook = section.parsed("webhook", wanted, Webhook::parse).map(|told| told.value);
        section.close();
        OnChange { command, webhook }
    }

    /// The same as the node of this name has it: with what `[local.node.NAME]` sets instead, and `{node}` in paths
    /// replaced by the name.
    pub(super) fn filled_in(&self, node: &str) -> Self {
        let fill = |path: &Path| PathBuf::from(path.to_string_lossy().replace("{node}", node));
        let own = self.of_node.get(node).cloned().unwrap_or_default();
        let mut front_listen = self.front_listen.clone();
        front_listen.extend(own.front_listen);
        let mut front_announce = self.front_announce.clone();
        front_announce.extend(own.front_announce);
        Self {
            data_dir: fill(own.data_dir.as_ref().unwrap_or(&self.data_dir)),
            peers: match &self.peers {
                PeerSecurity::Tls { dir } => PeerSecurity::Tls { dir: fill(own.tls_dir.as_ref().unwrap_or(dir)) },
                PeerSecurity::Plaintext => PeerSecurity::Plaintext,
            },
            admin: own.admin.unwrap_or(self.admin),
            admin_token_file: self.admin_token_file.as_deref().map(fill),
            log: self.log,
            listen: own.listen.or(self.listen),
            on_change: self.on_change.clone(),
            front_listen,
            front_announce,
            of_node: BTreeMap::new(),
        }
    }
}

impl Own {
    fn read(mut section: Section<'_, '_>, has_token: bool) -> Self {
        let path = |told: super::section::Told<String>| PathBuf::from(told.value);
        let data_dir = section.text("data_dir").map(path);
        let tls_dir = section.text("tls_dir").map(path);
        let admin = section.parsed("admin", SOCKET_ADDR_WANTED, socket_addr);
        if let Some(told) = &admin {
            check_admin(&section, told.line, told.value, has_token);
        }
        let listen = section.parsed("listen", SOCKET_ADDR_WANTED, socket_addr).map(|told| told.value);
        let (front_listen, front_announce) = fronts(&mut section);
        section.close();
        Self { data_dir, tls_dir, admin: admin.map(|told| told.value), listen, front_listen, front_announce }
    }
}

fn check_admin(section: &Section<'_, '_>, line: usize, admin: SocketAddr, has_token: bool) {
    if !admin.ip().is_loopback() && !has_token {
        section.fault(line, format!("admin = \"{admin}\" is beyond loopback and needs admin_token_file"));
    }
}

/// Where fronts listen on this machine, and what is announced of them.
fn fronts(section: &mut Section<'_, '_>) -> (BTreeMap<String, SocketAddr>, BTreeMap<String, String>) {
    let (mut listens, mut announces) = (BTreeMap::new(), BTreeMap::new());
    for (name, mut section) in section.named_sections("front") {
        if let Some(told) = section.parsed("listen", SOCKET_ADDR_WANTED, socket_addr) {
            listens.insert(name.clone(), told.value);
        }
        let wanted = "a host name or IP address and a port, as in \"shop.example:6379\"";
        let address = |text: &str| host_and_port(text).map(|_| text.to_owned());
        if let Some(told) = section.parsed("announce", wanted, address) {
            announces.insert(name, told.value);
        }
        section.close();
    }
    (listens, announces)
}
