//! What clients ask a Sentinel: where the hot is, who follows it, whom else they may ask.
//!
//! Every node answers for the whole group, so that clients which look for their server by Sentinel find it by any front.
//! Fields are those of Redis Sentinel that a node knows something of; none is made up. There is no publish and
//! subscribe: clients that would be told of a change ask again.
//!
//! Source: the page on Sentinel of Redis 7.0, and what redis-py, redis-rs, Jedis, go-redis and ioredis send.

use super::client::ClientState;
use super::connection::{help, unknown_subcommand};
use super::error::CommandError;
use super::plan::Plan;
use super::server::{Server, lower};
use bytes::Bytes;
use hotwarm_resp::Reply;

/// A node of the group, as its clients reach it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Instance {
    /// Host name or IP address.
    pub host: String,
    /// The port of its front.
    pub port: u16,
    /// Whether the node that was asked reaches it, or is it.
    pub reached: bool,
    /// Milliseconds since it was heard last; 0 for the node that was asked.
    pub silent_ms: u64,
    /// Its position in the log, as far as it is known.
    pub offset: u64,
    /// Among candidates with equal logs the higher one stands first.
    pub priority: u16,
}

/// The group, as clients of a Sentinel see it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topology {
    /// Its name.
    pub group: String,
    /// Who reigns, as far as this node knows one.
    pub hot: Option<Instance>,
    /// Those who hold a copy.
    pub warms: Vec<Instance>,
    /// All but the node that was asked: they answer as well as it does.
    pub others: Vec<Instance>,
    /// Number of the reign.
    pub epoch: u64,
    /// Members that must agree before another reigns.
    pub majority: u64,
}

const SENTINEL_HELP: &[&str] = &[
    "SENTINEL <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "GET-MASTER-ADDR-BY-NAME <group>",
    "    Return the host and port at which clients reach the hot.",
    "MASTER <group>",
    "    Return what is known of the hot.",
    "MASTERS",
    "    Return the same for each group: there is one.",
    "REPLICAS <group>, SLAVES <group>",
    "    Return the nodes that hold a copy.",
    "SENTINELS <group>",
    "    Return the other nodes that may be asked the same.",
    "HELP",
    "    Print this help.",
];

pub(crate) fn sentinel(_: &mut ClientState, server: &dyn Server, args: &[Bytes]) -> Result<Plan, CommandError> {
    let subcommand = lower(&args[1]);
    let reply = match (subcommand.as_str(), &args[2..]) {
        ("get-master-addr-by-name", [group]) => {
            let hot = named(server, group).ok().and_then(|topology| topology.hot);
            hot.map_or(Reply::NullArray, |hot| Reply::Array([hot.host, hot.port.to_string()].map(Reply::text).into()))
        }
        ("masters", []) => {
            let topology = server.topology();
            Reply::Array(topology.hot.iter().map(|hot| master(&topology, hot)).collect())
        }
        ("master", [group]) => {
            let topology = named(server, group)?;
            // One that nobody knows is answered like one that is not there, so that a client asks another node.
            let hot = topology.hot.as_ref().ok_or(CommandError::NoSuchMaster)?;
            master(&topology, hot)
        }
        ("replicas" | "slaves", [group]) => {
            let topology = named(server, group)?;
            Reply::Array(topology.warms.iter().map(|warm| replica(&topology, warm)).collect())
        }
        ("sentinels", [group]) => Reply::Array(named(server, group)?.others.iter().map(other).collect()),
        ("help", []) => help(SENTINEL_HELP),
        ("get-master-addr-by-name" | "masters" | "master" | "replicas" | "slaves" | "sentinels" | "help", _) => {
            return Err(CommandError::WrongArity { command: format!("sentinel|{subcommand}") });
        }
        _ => return Err(unknown_subcommand("sentinel", &args[1])),
    };
    Ok(Plan::Reply(reply))
}

fn named(server: &dyn Server, group: &[u8]) -> Result<Topology, CommandError> {
    let topology = server.topology();
    if topology.group.as_bytes() == group { Ok(topology) } else { Err(CommandError::NoSuchMaster) }
}

/// A map in the third version of the protocol, names and values in turn in the second.
fn fields(pairs: impl IntoIterator<Item = (&'static str, String)>) -> Reply {
    Reply::Map(pairs.into_iter().map(|(name, value)| (Reply::word(name), Reply::text(value))).collect())
}

/// Clients pass over whoever is marked `s_down`.
fn flags(kind: &str, instance: &Instance) -> String {
    if instance.reached { kind.to_owned() } else { format!("s_down,{kind},disconnected") }
}

fn master(topology: &Topology, hot: &Instance) -> Reply {
    fields([
        ("name", topology.group.clone()),
        ("ip", hot.host.clone()),
        ("port", hot.port.to_string()),
        ("flags", flags("master", hot)),
        ("last-ok-ping-reply", hot.silent_ms.to_string()),
        ("role-reported", "master".to_owned()),
        ("config-epoch", topology.epoch.to_string()),
        ("num-slaves", topology.warms.len().to_string()),
        ("num-other-sentinels", topology.others.len().to_string()),
        ("quorum", topology.majority.to_string()),
    ])
}

fn replica(topology: &Topology, warm: &Instance) -> Reply {
    let (host, port) = topology.hot.as_ref().map_or(("?", 0), |hot| (hot.host.as_str(), hot.port));
    fields([
        ("name", format!("{}:{}", warm.host, warm.port)),
        ("ip", warm.host.clone()),
        ("port", warm.port.to_string()),
        ("flags", flags("slave", warm)),
        ("last-ok-ping-reply", warm.silent_ms.to_string()),
        ("role-reported", "slave".to_owned()),
        ("master-link-status", if warm.reached { "ok" } else { "err" }.to_owned()),
        ("master-host", host.to_owned()),
        ("master-port", port.to_string()),
        ("slave-priority", warm.priority.to_string()),
        ("slave-repl-offset", warm.offset.to_string()),
    ])
}

fn other(node: &Instance) -> Reply {
    fields([
        ("name", format!("{}:{}", node.host, node.port)),
        ("ip", node.host.clone()),
        ("port", node.port.to_string()),
        ("flags", flags("sentinel", node)),
        ("last-ok-ping-reply", node.silent_ms.to_string()),
    ])
}

#[cfg(test)]
mod tests {
    use crate::command::testing::Session;

    #[test]
    fn a_node_answers_as_a_sentinel_does() {
        const NO_SUCH: &str = "(error) ERR No such master with that name";
        let master = "{\"name\"=\"main\" \"ip\"=\"10.0.0.1\" \"port\"=\"6379\" \"flags\"=\"master\" \
                      \"last-ok-ping-reply\"=\"0\" \"role-reported\"=\"master\" \"config-epoch\"=\"7\" \"num-slaves\"=\"1\" \
                      \"num-other-sentinels\"=\"1\" \"quorum\"=\"2\"}";
        let warm = "[{\"name\"=\"10.0.0.2:6380\" \"ip\"=\"10.0.0.2\" \"port\"=\"6380\" \
                    \"flags\"=\"s_down,slave,disconnected\" \"last-ok-ping-reply\"=\"900\" \"role-reported\"=\"slave\" \
                    \"master-link-status\"=\"err\" \"master-host\"=\"10.0.0.1\" \"master-port\"=\"6379\" \
                    \"slave-priority\"=\"100\" \"slave-repl-offset\"=\"41\"}]";
        let other = "[{\"name\"=\"10.0.0.2:6380\" \"ip\"=\"10.0.0.2\" \"port\"=\"6380\" \
                     \"flags\"=\"s_down,sentinel,disconnected\" \"last-ok-ping-reply\"=\"900\"}]";
        Session::new().check(&[
            ("sentinel GET-MASTER-ADDR-BY-NAME main", "[\"10.0.0.1\" \"6379\"]"),
            ("sentinel get-master-addr-by-name other", "nil-array"),
            ("sentinel masters", &format!("[{master}]")),
            ("sentinel master main", master),
            ("sentinel master other", NO_SUCH),
            ("sentinel slaves main", warm),
            ("sentinel replicas main", warm),
            ("sentinel replicas other", NO_SUCH),
            ("sentinel sentinels main", other),
            ("sentinel master", "(error) ERR wrong number of arguments for 'sentinel|master' command"),
            (
                "sentinel failover main",
                "(error) ERR hotwarm does not support 'SENTINEL FAILOVER' (server); COMMAND LIST names what it does \
                 support",
            ),
            ("sentinel foo", "(error) ERR unknown subcommand 'foo'. Try SENTINEL HELP."),
        ]);
    }
}
