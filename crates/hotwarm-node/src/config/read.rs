//! From TOML to [`File`] and [`Agreed`]: which keys there are, what each may be, and what must hold between them.

use super::fault::Faults;
use super::local::{Local, SOCKET_ADDR_WANTED, socket_addr};
use super::section::{Document, Section};
use super::units::duration_text;
use super::{Agreed, File, Front, Group, History, Hold, NodeEntry, Protocol, Reads};
use hotwarm_core::register::{Durability, MemberRole, Replication, Timing, TimingError};
use hotwarm_types::limits::{MEMBERS_MAX, NAME_SIZE_BYTES_MAX};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;
use toml::de::DeTable;

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);
const MIB: u64 = 1 << 20;
const TIB: u64 = 1 << 40;

/// Sections and keys of the whole design that this version does not have.
const LATER_SECTIONS: [(&str, &str); 1] = [("service", "running the user's own programs is")];
const LATER_FRONT: [(&str, &str); 6] = [
    ("route", "routing of HTTP requests is"),
    ("balance", "balancing policies are"),
    ("health", "health checks of services are"),
    ("virtual_address", "virtual addresses are"),
    ("tls_cert_file", "TLS towards clients is"),
    ("tls_key_file", "TLS towards clients is"),
];
const LATER_PROTOCOLS: [&str; 3] = ["tcp", "http", "postgres"];
const LATER_ENGINES: [&str; 4] = ["postgres", "valkey", "files", "command"];

/// Reads a whole file.
pub(super) fn file(text: &str, path: &Path) -> Result<File, Faults> {
    let name = path.display().to_string();
    let document = Document::new(text);
    let (table, broken) = DeTable::parse_recoverable(text);
    if !broken.is_empty() {
        for error in broken {
            let line = error.span().map_or(0, |span| document.line(span.start));
            document.fault(line, format!("not TOML: {}", error.message().replace('\n', "; ")));
        }
        return Err(Faults { file: name, list: document.into_faults() });
    }
    let mut root = Section::root(&document, table.get_ref());
    root.refuse_later(&LATER_SECTIONS);
    let nodes = nodes(&mut root);
    let local = match root.section("local") {
        Some(section) => Some(Local::read(section)),
        None => {
            root.fault(0, "[local] is missing: data_dir and tls_dir of this machine");
            None
        }
    };
    let data_count = nodes.iter().filter(|node| node.role == MemberRole::Data).count();
    let agreed = agreed(&mut root, Some(data_count));
    if let (Some(local), Some(agreed)) = (&local, &agreed) {
        check_front_overrides(&root, local, agreed);
        for name in local.of_node.keys().filter(|name| nodes.iter().all(|node| node.name != **name)) {
            root.fault(root.line_of("local"), format!("[local.node.{name}]: there is no node \"{name}\" in [nodes]"));
        }
    }
    root.close();
    let list = document.into_faults();
    match (local, agreed) {
        (Some(local), Some(agreed)) if list.is_empty() => {
            let warnings = super::normal::warnings(&nodes, &local, &agreed);
            Ok(File { path: path.to_path_buf(), nodes, local, agreed, warnings })
        }
        _ => Err(Faults { file: name, list }),
    }
}

/// Reads the group's part alone, as the register holds it.
pub(super) fn agreed_text(text: &str) -> Result<Agreed, Faults> {
    let faults = |list| Faults { file: "agreed settings".to_owned(), list };
    let document = Document::new(text);
    let table = match DeTable::parse(text) {
        Ok(table) => table,
        Err(error) => {
            let line = error.span().map_or(0, |span| document.line(span.start));
            document.fault(line, format!("not TOML: {}", error.message().replace('\n', "; ")));
            return Err(faults(document.into_faults()));
        }
    };
    let mut root = Section::root(&document, table.get_ref());
    let agreed = agreed(&mut root, None);
    root.close();
    let list = document.into_faults();
    agreed.filter(|_| list.is_empty()).ok_or_else(|| faults(list))
}

/// The group's part. `None` where a whole section is missing; other faults leave a default behind.
fn agreed(root: &mut Section<'_, '_>, data_count: Option<usize>) -> Option<Agreed> {
    let cluster = match root.section("cluster") {
        Some(section) => Some(cluster(section)),
        None => {
            root.fault(0, "[cluster] is missing: the name of the cluster");
            None
        }
    };
    let group = only_group(root, data_count);
    let group_name = group.as_ref().map(|group| group.name.clone());
    let mut fronts = Vec::new();
    for (name, section) in root.named_sections("front") {
        check_name(&section, "front", &name);
        fronts.extend(front(name, section, group_name.as_deref()));
    }
    check_distinct_listens(root, &fronts);
    fronts.sort_by(|a, b| a.name.cmp(&b.name));
    let (cluster, timing) = cluster?;
    Some(Agreed { cluster, timing, group: group?, fronts })
}

fn cluster(mut section: Section<'_, '_>) -> (String, Timing) {
    let name = section.text("name");
    if let Some(told) = &name {
        check_name(&section, "cluster", &told.value);
    } else if !section.has("name") {
        section.fault(section.line, "name is missing in [cluster]");
    }
    let profiles = [("fast", Timing::FAST), ("lan", Timing::LAN), ("wan", Timing::WAN), ("patient", Timing::PATIENT)];
    let mut timing = section.choice("profile", &profiles, &[]).map_or(Timing::LAN, |told| told.value);
    let allowed = Duration::from_millis(1)..=MINUTE;
    let mut whole = true;
    for (key, timer) in [
        ("beacon", &mut timing.beacon),
        ("shrink_after", &mut timing.shrink_after),
        ("lease", &mut timing.lease),
        ("grace", &mut timing.grace),
    ] {
        match section.duration(key, allowed.clone()) {
            Some(told) => *timer = told.value,
            None => whole &= !section.has(key),
        }
    }
    if let Some(error) = timing.check().err().filter(|_| whole) {
        let (line, text) = timing_fault(&section, &timing, error);
        section.fault(line, text);
    }
    section.close();
    (name.map(|told| told.value).unwrap_or_default(), timing)
}

/// What is wrong with the timers, at the line of the one that the operator set.
fn timing_fault(section: &Section<'_, '_>, timing: &Timing, error: TimingError) -> (usize, String) {
    let (beacon, shrink_after) = (duration_text(timing.beacon), duration_text(timing.shrink_after));
    let (lease, grace) = (duration_text(timing.lease), duration_text(timing.grace));
    let line = |keys: &[&str]| {
        let key = keys.iter().find(|key| section.has(key)).copied().unwrap_or("profile");
        section.line_of(key)
    };
    match error {
        TimingError::Beacon => (
            line(&["beacon", "shrink_after"]),
            format!("beacon = \"{beacon}\" must be at most a quarter of shrink_after ({shrink_after})"),
        ),
        TimingError::ShrinkAfter => (
            line(&["shrink_after", "grace"]),
            format!("shrink_after = \"{shrink_after}\" must be at most 0.6 of grace ({grace})"),
        ),
        TimingError::Grace { least } => (
            line(&["grace", "lease"]),
            format!(
                "grace = \"{grace}\" must be at least {}ms (lease {lease} at a clock-rate error of {}%)",
                least.as_micros().div_ceil(1000),
                Timing::CLOCK_RATE_ERROR_PERCENT
            ),
        ),
        TimingError::TooLong => (line(&["grace"]), format!("grace = \"{grace}\" must be at most 1m")),
    }
}

/// Names go into certificates, file names and host names: a DNS label in lower case fits them all.
pub(super) fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !name.is_empty()
        && name.len() <= NAME_SIZE_BYTES_MAX
        && name.bytes().all(allowed)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

fn check_name(section: &Section<'_, '_>, what: &str, name: &str) {
    if !is_name(name) {
        let text = format!(
            "{what} name {name:?} must be 1 to {NAME_SIZE_BYTES_MAX} lower-case letters, digits and inner hyphens"
        );
        section.fault(section.line, text);
    }
}

/// Splits `host:port`; `None` unless both are there.
pub(super) fn host_and_port(text: &str) -> Option<(&str, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let valid = match bare {
        Some(host) => host.parse::<Ipv6Addr>().is_ok(),
        None => {
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.' || byte == b'_';
            !host.is_empty() && host.len() <= 253 && host.bytes().all(allowed)
        }
    };
    let port = port.parse::<u16>().ok().filter(|port| *port > 0)?;
    valid.then_some((bare.unwrap_or(host), port))
}

/// Where a node with this address listens: its port, on loopback if its address is loopback, else everywhere.
pub(super) fn listen_for(address: &str) -> SocketAddr {
    let (host, port) = host_and_port(address).unwrap_or(("0.0.0.0", 0));
    let ip = match host.parse::<IpAddr>() {
        Ok(ip) if ip.is_loopback() => ip,
        Ok(IpAddr::V6(_)) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        Ok(IpAddr::V4(_)) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        Err(_) if host == "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
        Err(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    };
    SocketAddr::new(ip, port)
}

fn nodes(root: &mut Section<'_, '_>) -> Vec<NodeEntry> {
    let mut nodes: Vec<NodeEntry> = Vec::new();
    let sections = root.named_sections("nodes");
    let line = sections.first().map_or(0, |(_, section)| section.line);
    let mut addresses: BTreeMap<String, String> = BTreeMap::new();
    for (name, mut section) in sections {
        check_name(&section, "node", &name);
        let address = section.parsed("address", "a host name or IP address and a port, as in \"a.lan:7400\"", |text| {
            host_and_port(text).map(|_| text.to_owned())
        });
        match &address {
            Some(told) => {
                if let Some(other) = addresses.insert(told.value.clone(), name.clone()) {
                    let text = format!("address = \"{}\" is that of node \"{other}\" already", told.value);
                    section.fault(told.line, text);
                }
            }
            None if !section.has("address") => section.fault(section.line, format!("address is missing in {name}")),
            None => {}
        }
        let role = section.choice("role", &[("data", MemberRole::Data), ("witness", MemberRole::Witness)], &[]);
        let priority = section.whole("priority", 0..=1000);
        section.close();
        nodes.push(NodeEntry {
            name,
            address: address.map(|told| told.value).unwrap_or_default(),
            role: role.map_or(MemberRole::Data, |told| told.value),
            priority: priority.map_or(100, |told| u16::try_from(told.value).unwrap_or(100)),
        });
    }
    if nodes.is_empty() {
        root.fault(0, "[nodes] is missing or empty: name = { address = \"host:port\" } for each node");
    } else if nodes.iter().all(|node| node.role == MemberRole::Witness) {
        root.fault(line, "[nodes] has witnesses only: at least one node must hold data");
    }
    if nodes.len() > MEMBERS_MAX {
        root.fault(line, format!("[nodes] has {} nodes; a group has at most {MEMBERS_MAX}", nodes.len()));
    }
    nodes.sort_by(|a, b| a.name.cmp(&b.name));
    nodes
}

fn only_group(root: &mut Section<'_, '_>, data_count: Option<usize>) -> Option<Group> {
    let mut groups = root.named_sections("group").into_iter();
    let Some((name, section)) = groups.next() else {
        root.fault(0, "[group.NAME] is missing: what the nodes protect together");
        return None;
    };
    for (other, section) in groups {
        let text = format!("[group.{other}]: more than one group is not in this version of hotwarm; it has {name}");
        section.fault(section.line, text);
    }
    check_name(&section, "group", &name);
    Some(group(name, section, data_count))
}

fn group(name: String, mut section: Section<'_, '_>, data_count: Option<usize>) -> Group {
    section.choice("engine", &[("store", ())], &LATER_ENGINES);
    let replication = replication(&mut section);
    let durability = section
        .choice("durability", &[("fsync", Durability::Fsync)], &["interval"])
        .map_or(Durability::Fsync, |told| told.value);
    let most = data_count.unwrap_or(MEMBERS_MAX).max(1) as u64;
    let mut min_copies = 1;
    if let Some(told) = section.whole("min_copies", 1..=MEMBERS_MAX as u64) {
        min_copies = u8::try_from(told.value).unwrap_or(1);
        if told.value > most {
            let text =
                format!("min_copies = {} must be at most the number of nodes that hold data, {most}", told.value);
            section.fault(told.line, text);
        }
    }
    let memory_max = section.size("memory_max", 16 * MIB..=TIB);
    let mut history = History { time_max: DAY, size_max_bytes: 10 << 30 };
    if let Some(mut section) = section.section("history") {
        history.time_max = section.duration("time_max", MINUTE..=DAY * 3650).map_or(history.time_max, |t| t.value);
        history.size_max_bytes =
            section.size("size_max", 64 * MIB..=1024 * TIB).map_or(history.size_max_bytes, |t| t.value);
        section.close();
    }
    section.close();
    Group {
        name,
        replication,
        durability,
        min_copies,
        memory_max_bytes: memory_max.map_or(1 << 30, |told| told.value),
        history,
    }
}

fn replication(section: &mut Section<'_, '_>) -> Replication {
    let is_async = section.choice("replication", &[("sync", false), ("async", true)], &[]);
    let is_async = is_async.is_some_and(|told| told.value);
    let bounds = section.section("lag_max").map(|mut section| {
        let bytes = section.size("bytes", 1..=TIB);
        let time = section.duration("time", Duration::from_millis(1)..=DAY);
        if (bytes.is_none() && !section.has("bytes")) || (time.is_none() && !section.has("time")) {
            section.fault(section.line, "lag_max must have both, as in { time = \"1s\", bytes = \"64MiB\" }");
        }
        let line = section.line;
        section.close();
        (bytes.map_or(1, |told| told.value), time.map_or(MINUTE, |told| told.value), line)
    });
    match (is_async, bounds) {
        (true, Some((lag_bytes_max, lag_time_max, _))) => Replication::Async { lag_bytes_max, lag_time_max },
        (true, None) => {
            if !section.has("lag_max") {
                let text = "replication = \"async\" needs lag_max = { time = \"1s\", bytes = \"64MiB\" }: \
                            the most that a failover may lose";
                section.fault(section.line_of("replication"), text);
            }
            Replication::Sync
        }
        (false, Some((.., line))) => {
            section.fault(line, "lag_max has a meaning only with replication = \"async\"");
            Replication::Sync
        }
        (false, None) => Replication::Sync,
    }
}

fn front(name: String, mut section: Section<'_, '_>, group: Option<&str>) -> Option<Front> {
    section.refuse_later(&LATER_FRONT);
    section.choice("protocol", &[("resp", ())], &LATER_PROTOCOLS);
    if !section.has("protocol") {
        section.fault(section.line, format!("protocol is missing in [{}]; this version has \"resp\"", section.path));
    }
    let listen = section.parsed("listen", SOCKET_ADDR_WANTED, socket_addr);
    if !section.has("listen") {
        section.fault(section.line, format!("listen is missing in [{}]", section.path));
    }
    let to = section.text("to");
    match (&to, group) {
        (Some(told), Some(group)) if told.value != group => {
            let text = format!("to = \"{}\" names no group; this file has \"{group}\"", told.value);
            section.fault(told.line, text);
        }
        (None, Some(group)) if !section.has("to") => {
            section.fault(section.line, format!("to is missing in [{}]: to = \"{group}\"", section.path));
        }
        _ => {}
    }
    let reads = reads(&mut section);
    let password_file = section.text("password_file").map(|told| PathBuf::from(told.value));
    let allow_insecure = section.flag("allow_insecure").is_some_and(|told| told.value);
    if let Some(told) = &listen
        && password_file.is_none()
        && !allow_insecure
        && !told.value.ip().is_loopback()
    {
        section.fault(told.line, insecure(told.value));
    }
    let connections_max = section.whole("connections_max", 1..=1_000_000);
    let hold = hold(&mut section);
    section.close();
    Some(Front {
        name,
        protocol: Protocol::Resp,
        listen: listen?.value,
        to: to?.value,
        reads,
        password_file,
        allow_insecure,
        connections_max: connections_max.map_or(10_000, |told| u32::try_from(told.value).unwrap_or(10_000)),
        hold,
    })
}

fn insecure(listen: SocketAddr) -> String {
    format!(
        "listen = \"{listen}\" is beyond loopback and needs password_file \
         (or allow_insecure = true, which lets anybody on the network read and write)"
    )
}

fn reads(section: &mut Section<'_, '_>) -> Reads {
    let policies =
        [("hot", Reads::Hot), ("verified", Reads::Verified), ("session", Reads::Session), ("any", Reads::Any)];
    section.choice("reads", &policies, &["bounded"]).map_or(Reads::Hot, |told| told.value)
}

fn hold(section: &mut Section<'_, '_>) -> Hold {
    let mut hold = Hold::default();
    let Some(mut section) = section.section("hold") else { return hold };
    hold.time_max =
        section.duration("time_max", Duration::from_millis(1)..=MINUTE * 60).map_or(hold.time_max, |t| t.value);
    hold.requests_max = section
        .whole("requests_max", 1..=10_000_000)
        .map_or(hold.requests_max, |told| u32::try_from(told.value).unwrap_or(u32::MAX));
    hold.bytes_max = section.size("bytes_max", MIB..=TIB).map_or(hold.bytes_max, |told| told.value);
    section.close();
    hold
}

fn check_distinct_listens(root: &Section<'_, '_>, fronts: &[Front]) {
    let mut seen: BTreeMap<SocketAddr, &str> = BTreeMap::new();
    for front in fronts.iter().filter(|front| front.listen.port() != 0) {
        if let Some(other) = seen.insert(front.listen, &front.name) {
            let text = format!("fronts \"{other}\" and \"{}\" both listen on {}", front.name, front.listen);
            root.fault(root.line_of("front"), text);
        }
    }
}

/// A machine's own listen address must name a front, and is held to the same rule as the group's.
fn check_front_overrides(root: &Section<'_, '_>, local: &Local, agreed: &Agreed) {
    let line = root.line_of("local");
    let own = local.of_node.iter().flat_map(|(node, own)| {
        own.front_listen.iter().map(move |(name, listen)| (format!("local.node.{node}.front.{name}"), name, listen))
    });
    let all = local.front_listen.iter().map(|(name, listen)| (format!("local.front.{name}"), name, listen)).chain(own);
    let of_nodes = local.of_node.iter().flat_map(|(node, own)| {
        own.front_announce.keys().map(move |name| (format!("local.node.{node}.front.{name}"), name))
    });
    let announced = local.front_announce.keys().map(|name| (format!("local.front.{name}"), name)).chain(of_nodes);
    for (path, name) in announced.filter(|(_, name)| agreed.fronts.iter().all(|front| front.name != **name)) {
        root.fault(line, format!("[{path}]: there is no [front.{name}]"));
    }
    for (path, name, listen) in all {
        match agreed.fronts.iter().find(|front| front.name == *name) {
            None => root.fault(line, format!("[{path}]: there is no [front.{name}]")),
            Some(front) if front.is_exposed_on(*listen) => {
                root.fault(line, format!("[{path}] {}", insecure(*listen)));
            }
            Some(_) => {}
        }
    }
}
