//! The node: what it tells about itself, and its table of commands.
//!
//! Source: the command pages of Redis 7.0.

use super::args::{Outcome, is, pattern};
use super::client::ClientState;
use super::connection::{help, unknown_subcommand, verbatim};
use super::error::CommandError;
use super::glob;
use super::plan::Plan;
use super::run::Context;
use super::sentinel::Topology;
use super::table::{COMMANDS, Command, lookup};
use crate::keyspace::Keyspace;
use bytes::Bytes;
use core::time::Duration;
use hotwarm_resp::Reply;
use hotwarm_resp::number::parse_i64;

/// The version of Redis whose behaviour is kept, as HELLO and INFO tell it: clients choose their features by it.
pub const COMPATIBLE_VERSION: &str = "7.0.15";

/// Why a parameter cannot be set. Nothing has been set then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigError {
    /// There is no such parameter.
    Unknown {
        /// Its name.
        name: String,
    },
    /// The parameter cannot have this value, or not here.
    Refused {
        /// Its name.
        name: String,
        /// Why, in lower case, for the client.
        reason: String,
    },
}

impl From<ConfigError> for CommandError {
    fn from(error: ConfigError) -> Self {
        match error {
            ConfigError::Unknown { name } => Self::UnknownParameter { name },
            ConfigError::Refused { name, reason } => Self::ParameterRefused { name, reason },
        }
    }
}

/// What commands ask the node. Every answer is given at once, from what the node knows.
pub trait Server {
    /// Whether clients must authenticate.
    fn password_required(&self) -> bool;
    /// Whether a password fits, compared in constant time. True for the user `default` where none is required.
    fn authenticate(&self, user: &[u8], password: &[u8]) -> bool;
    /// Whether this node is hot.
    fn is_hot(&self) -> bool;
    /// The text of INFO. The sections are named in lower case; none stands for the default ones.
    fn info(&self, sections: &[String]) -> String;
    /// The reply to ROLE.
    fn role(&self) -> Reply;
    /// All connections, each a [`ClientState::line`] with a line feed.
    fn client_list(&self) -> String;
    /// All parameters with their values, names in lower case.
    fn config(&self) -> Vec<(String, String)>;
    /// Sets parameters, all or none; names in lower case.
    ///
    /// # Errors
    /// One of them cannot be set; none is.
    fn set_config(&self, settings: &[(String, String)]) -> Result<(), ConfigError>;
    /// Sets counters back to zero.
    fn reset_statistics(&self);
    /// The group, as clients of a Sentinel see it.
    fn topology(&self) -> Topology;
}

/// An argument as text in lower case.
pub(crate) fn lower(arg: &[u8]) -> String {
    String::from_utf8_lossy(arg).to_ascii_lowercase()
}

pub(crate) fn info(_: &mut ClientState, server: &dyn Server, args: &[Bytes]) -> Result<Plan, CommandError> {
    let sections: Vec<String> = args[1..].iter().map(|section| lower(section)).collect();
    Ok(Plan::Reply(verbatim(server.info(&sections))))
}

pub(crate) fn role(_: &mut ClientState, server: &dyn Server, _: &[Bytes]) -> Result<Plan, CommandError> {
    Ok(Plan::Reply(server.role()))
}

/// The group's time (R35), not this machine's: what a client adds to it for EXPIREAT is what expiry is judged by.
pub(crate) fn time(_: &[Bytes], _: &Context, keys: &mut dyn Keyspace) -> Outcome {
    let now_ms = keys.now_ms();
    let part = |number: u64| Reply::text(number.to_string());
    Ok(Reply::Array(vec![part(now_ms / 1000), part(now_ms % 1000 * 1000)]))
}

pub(crate) fn wait(_: &mut ClientState, _: &dyn Server, args: &[Bytes]) -> Result<Plan, CommandError> {
    let replicas = parse_i64(&args[1]).ok_or(CommandError::NotInteger)?;
    let timeout_ms = parse_i64(&args[2]).ok_or(CommandError::TimeoutNotInteger)?;
    let timeout_ms = u64::try_from(timeout_ms).map_err(|_| CommandError::NegativeTimeout)?;
    let timeout = (timeout_ms > 0).then(|| Duration::from_millis(timeout_ms));
    Ok(Plan::Wait { replicas: u64::try_from(replicas).unwrap_or(0), timeout })
}

const CONFIG_HELP: &[&str] = &[
    "CONFIG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "GET <pattern> [<pattern> ...]",
    "    Return parameters matching the glob-like <pattern> and their values.",
    "SET <directive> <value> [<directive> <value> ...]",
    "    Set the configuration <directive> to <value>.",
    "RESETSTAT",
    "    Reset statistics reported by the INFO command.",
    "HELP",
    "    Print this help.",
];

pub(crate) fn config(_: &mut ClientState, server: &dyn Server, args: &[Bytes]) -> Result<Plan, CommandError> {
    let subcommand = lower(&args[1]);
    let reply = match (subcommand.as_str(), &args[2..]) {
        ("get", patterns @ [_, ..]) => config_get(server, patterns)?,
        ("set", settings @ [_, _, ..]) => {
            config_set(server, settings)?;
            Reply::ok()
        }
        ("resetstat", []) => {
            server.reset_statistics();
            Reply::ok()
        }
        ("help", []) => help(CONFIG_HELP),
        ("get" | "set" | "resetstat" | "help", _) => {
            return Err(CommandError::WrongArity { command: format!("config|{subcommand}") });
        }
        _ => return Err(unknown_subcommand("config", &args[1])),
    };
    Ok(Plan::Reply(reply))
}

fn config_get(server: &dyn Server, patterns: &[Bytes]) -> Outcome {
    let patterns: Vec<Vec<u8>> =
        patterns.iter().map(|arg| Ok(pattern(arg)?.to_ascii_lowercase())).collect::<Result<_, CommandError>>()?;
    let wanted = |name: &str| patterns.iter().any(|pattern| glob::matches(pattern, name.as_bytes()));
    let settings = server.config().into_iter().filter(|(name, _)| wanted(name));
    Ok(Reply::Map(settings.map(|(name, value)| (Reply::text(name), Reply::text(value))).collect()))
}

fn config_set(server: &dyn Server, settings: &[Bytes]) -> Result<(), CommandError> {
    let (pairs, rest) = settings.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(CommandError::Syntax);
    }
    let mut named: Vec<(String, String)> = Vec::with_capacity(pairs.len());
    for [name, value] in pairs {
        let name = lower(name);
        if named.iter().any(|(other, _)| *other == name) {
            return Err(CommandError::ParameterRefused { name, reason: "duplicate parameter".to_owned() });
        }
        named.push((name, String::from_utf8_lossy(value).into_owned()));
    }
    Ok(server.set_config(&named)?)
}

const COMMAND_HELP: &[&str] = &[
    "COMMAND <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "(no subcommand)",
    "    Return details about all hotwarm commands.",
    "COUNT",
    "    Return the total number of commands in this node.",
    "DOCS [<command-name> ...]",
    "    Return documentation about commands.",
    "GETKEYS <full-command>",
    "    Return the keys from a full command.",
    "INFO [<command-name> ...]",
    "    Return details about multiple commands.",
    "LIST [FILTERBY PATTERN <pattern>]",
    "    Return a list of all commands in this node.",
    "HELP",
    "    Print this help.",
];

pub(crate) fn command(args: &[Bytes]) -> Outcome {
    let Some(subcommand) = args.get(1).map(|arg| lower(arg)) else {
        return Ok(Reply::Array(COMMANDS.iter().map(describe).collect()));
    };
    match (subcommand.as_str(), &args[2..]) {
        ("count", []) => Ok(Reply::Integer(COMMANDS.len() as i64)),
        ("info", []) => Ok(Reply::Array(COMMANDS.iter().map(describe).collect())),
        ("info", names) => {
            Ok(Reply::Array(names.iter().map(|name| lookup(name).map_or(Reply::NullArray, describe)).collect()))
        }
        ("docs", []) => Ok(Reply::Map(COMMANDS.iter().map(document).collect())),
        ("docs", names) => Ok(Reply::Map(names.iter().filter_map(|name| lookup(name)).map(document).collect())),
        ("list", []) => Ok(list(b"*")),
        ("list", [filter, kind, by]) if is(filter, "FILTERBY") && is(kind, "PATTERN") => Ok(list(pattern(by)?)),
        // There are no modules, so none of them has a command.
        ("list", [filter, kind, _]) if is(filter, "FILTERBY") && is(kind, "MODULE") => Ok(Reply::Array(Vec::new())),
        ("list", [filter, kind, _]) if is(filter, "FILTERBY") && is(kind, "ACLCAT") => {
            Err(CommandError::Unsupported { name: "COMMAND LIST FILTERBY ACLCAT".to_owned(), family: "server" })
        }
        ("list", _) => Err(CommandError::Syntax),
        ("getkeys", call @ [_, _, ..]) => command_keys(call),
        ("help", []) => Ok(help(COMMAND_HELP)),
        ("count" | "getkeys" | "help", _) => Err(CommandError::WrongArity { command: format!("command|{subcommand}") }),
        _ => Err(unknown_subcommand("command", &args[1])),
    }
}

/// One entry of COMMAND INFO: the first six fields of Redis, and the last four empty.
fn describe(command: &Command) -> Reply {
    let flags = command.flag_names().map(Reply::simple).collect();
    let [first, last, step] =
        [command.keys.first, command.keys.last, command.keys.step].map(|number| Reply::Integer(i64::from(number)));
    let none = || Reply::Array(Vec::new());
    let arity = Reply::Integer(i64::from(command.arity));
    let name = Reply::word(command.name);
    Reply::Array(vec![name, arity, Reply::Set(flags), first, last, step, Reply::Set(vec![]), none(), none(), none()])
}

/// One entry of COMMAND DOCS.
fn document(command: &Command) -> (Reply, Reply) {
    let pair = |key: &'static str, value: &'static str| (Reply::word(key), Reply::word(value));
    let fields = [("summary", command.summary), ("since", command.since), ("group", command.group)];
    (Reply::word(command.name), Reply::Map(fields.into_iter().map(|(key, value)| pair(key, value)).collect()))
}

fn list(pattern: &[u8]) -> Reply {
    let names = COMMANDS.iter().map(|command| command.name);
    Reply::Array(names.filter(|name| glob::matches(pattern, name.as_bytes())).map(Reply::word).collect())
}

fn command_keys(call: &[Bytes]) -> Outcome {
    let command = lookup(&call[0]).ok_or(CommandError::InvalidCommand)?;
    if command.keys.first == 0 {
        return Err(CommandError::NoKeys);
    }
    if !command.takes(call.len()) {
        return Err(CommandError::KeysArity);
    }
    Ok(Reply::Array(command.keys(call).cloned().map(Reply::Bulk).collect()))
}

#[cfg(test)]
mod tests {
    use crate::command::testing::Session;
    use crate::command::{COMMANDS, Plan};
    use core::time::Duration;

    #[test]
    fn the_node_answers_for_itself() {
        Session::new().check(&[
            ("info", "=# Server\\r\\nsections:\\r\\n"),
            ("info Replication memory", "=# Server\\r\\nsections:replication,memory\\r\\n"),
            ("role", "[\"master\" 0 []]"),
            ("time", "[\"1000\" \"0\"]"),
        ]);
    }

    #[test]
    fn parameters_are_told_and_set() {
        Session::new().check(&[
            ("config set maxmemory 10", "OK"),
            ("config get MAX*", "{\"maxmemory\"=\"10\"}"),
            ("config get save maxmemory", "{\"maxmemory\"=\"10\" \"save\"=\"\"}"),
            ("config get nosuch", "{}"),
            ("config set nosuch 1", "(error) ERR Unknown option or number of arguments for CONFIG SET - 'nosuch'"),
            (
                "config set maxmemory x",
                "(error) ERR CONFIG SET failed (possibly related to argument 'maxmemory') - argument must be a memory value",
            ),
            (
                "config set maxmemory 1 MAXMEMORY 2",
                "(error) ERR CONFIG SET failed (possibly related to argument 'maxmemory') - duplicate parameter",
            ),
            ("config set maxmemory 1 save", "(error) ERR syntax error"),
            ("config set maxmemory", "(error) ERR wrong number of arguments for 'config|set' command"),
            ("config get", "(error) ERR wrong number of arguments for 'config|get' command"),
            ("config foo", "(error) ERR unknown subcommand 'foo'. Try CONFIG HELP."),
            ("config resetstat", "OK"),
        ]);
    }

    #[test]
    fn commands_are_described() {
        Session::new().check(&[
            ("command count", &COMMANDS.len().to_string()),
            ("command info get nosuch", "[[\"get\" 2 [readonly fast] 1 1 1 [] [] [] []] nil-array]"),
            (
                "command docs get nosuch",
                "{\"get\"={\"summary\"=\"Gives the value of a key.\" \"since\"=\"1.0.0\" \"group\"=\"string\"}}",
            ),
            ("command list filterby pattern mset*", "[\"mset\" \"msetnx\"]"),
            ("command list filterby module json", "[]"),
            (
                "command list filterby aclcat read",
                "(error) ERR hotwarm does not support 'COMMAND LIST FILTERBY ACLCAT' (server); COMMAND LIST names what it does \
                 support",
            ),
            ("command list x", "(error) ERR syntax error"),
            ("command getkeys mset a 1 b 2", "[\"a\" \"b\"]"),
            ("command getkeys ping x", "(error) ERR The command has no key arguments"),
            ("command getkeys get a b", "(error) ERR Invalid number of arguments specified for command"),
            ("command getkeys nosuch a", "(error) ERR Invalid command specified"),
            ("command getkeys", "(error) ERR wrong number of arguments for 'command|getkeys' command"),
            ("command foo", "(error) ERR unknown subcommand 'foo'. Try COMMAND HELP."),
        ]);
    }

    #[test]
    fn wait_is_left_to_the_node() {
        let mut session = Session::new();
        let timeout = Some(Duration::from_millis(250));
        assert_eq!(session.plan("wait 2 250"), Plan::Wait { replicas: 2, timeout });
        assert_eq!(session.plan("wait -1 0"), Plan::Wait { replicas: 0, timeout: None });
        session.check(&[
            ("wait x 0", "(error) ERR value is not an integer or out of range"),
            ("wait 0 x", "(error) ERR timeout is not an integer or out of range"),
            ("wait 0 -1", "(error) ERR timeout is negative"),
        ]);
    }
}
