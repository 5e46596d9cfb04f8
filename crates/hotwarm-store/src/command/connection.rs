//! The connection itself: who is there, in which version of the protocol, under which name.
//!
//! Source: the command pages of Redis 7.0 (CLIENT SETINFO and NO-TOUCH: 7.2).

use super::args::{Outcome, integer, is, quoted};
use super::client::ClientState;
use super::error::CommandError;
use super::known;
use super::limits::CLIENT_NAME_SIZE_BYTES_MAX;
use super::plan::Plan;
use super::server::{COMPATIBLE_VERSION, Server};
use bytes::Bytes;
use hotwarm_resp::number::parse_i64;
use hotwarm_resp::{Protocol, Reply};
use std::collections::BTreeSet;

/// The one user that there is.
const USER: &[u8] = b"default";

pub(crate) fn ping(args: &[Bytes]) -> Outcome {
    match args {
        [_] => Ok(Reply::simple("PONG")),
        [_, text] => Ok(Reply::Bulk(text.clone())),
        _ => Err(CommandError::WrongArity { command: "ping".to_owned() }),
    }
}

pub(crate) fn echo(args: &[Bytes]) -> Outcome {
    Ok(Reply::Bulk(args[1].clone()))
}

pub(crate) fn select(args: &[Bytes]) -> Outcome {
    if integer(&args[1])? == 0 { Ok(Reply::ok()) } else { Err(CommandError::DatabaseIndex) }
}

pub(crate) fn auth(client: &mut ClientState, server: &dyn Server, args: &[Bytes]) -> Result<Plan, CommandError> {
    let (user, password) = match args {
        [_, _] if !server.password_required() => return Err(CommandError::NoPasswordSet),
        [_, password] => (USER, password),
        [_, user, password] => (&user[..], password),
        _ => return Err(CommandError::Syntax),
    };
    authenticate(client, server, user, password)?;
    Ok(Plan::Reply(Reply::ok()))
}

fn authenticate(
    client: &mut ClientState,
    server: &dyn Server,
    user: &[u8],
    password: &[u8],
) -> Result<(), CommandError> {
    if !server.authenticate(user, password) {
        return Err(CommandError::WrongPassword);
    }
    client.authenticated = true;
    Ok(())
}

/// `HELLO [version [AUTH user password] [SETNAME name]]`. Nothing changes unless all of it can be done, save that an
/// AUTH that fits stays.
pub(crate) fn hello(client: &mut ClientState, server: &dyn Server, args: &[Bytes]) -> Result<Plan, CommandError> {
    let protocol = match args.get(1) {
        None => client.protocol,
        Some(version) => match parse_i64(version).ok_or(CommandError::ProtocolNotInteger)? {
            2 => Protocol::Resp2,
            3 => Protocol::Resp3,
            _ => return Err(CommandError::ProtocolVersion),
        },
    };
    let mut name = None;
    let mut rest = args.get(2..).unwrap_or_default();
    while let Some(option) = rest.first() {
        rest = match rest {
            [_, user, password, rest @ ..] if is(option, "AUTH") => {
                authenticate(client, server, user, password)?;
                rest
            }
            [_, new, rest @ ..] if is(option, "SETNAME") => {
                check_name(new)?;
                name = Some(new);
                rest
            }
            _ => return Err(CommandError::HelloOption { option: quoted(option) }),
        };
    }
    if !client.is_admitted(server) {
        return Err(CommandError::HelloAuthRequired);
    }
    if let Some(name) = name {
        client.name = Bytes::copy_from_slice(name);
    }
    client.protocol = protocol;
    let pair = |key: &'static str, value: Reply| (Reply::word(key), value);
    Ok(Plan::Reply(Reply::Map(vec![
        pair("server", Reply::word("redis")),
        pair("version", Reply::word(COMPATIBLE_VERSION)),
        pair("proto", Reply::Integer(protocol.number())),
        pair("id", Reply::Integer(client.id.cast_signed())),
        pair("mode", Reply::word("standalone")),
        pair("role", Reply::word(if server.is_hot() { "master" } else { "replica" })),
        pair("modules", Reply::Array(Vec::new())),
    ])))
}

pub(crate) fn quit(_: &mut ClientState, _: &dyn Server, _: &[Bytes]) -> Result<Plan, CommandError> {
    Ok(Plan::Close(Reply::ok()))
}

pub(crate) fn reset(client: &mut ClientState, _: &dyn Server, _: &[Bytes]) -> Result<Plan, CommandError> {
    client.reset();
    Ok(Plan::Reply(Reply::simple("RESET")))
}

pub(crate) fn readonly(client: &mut ClientState, _: &dyn Server, _: &[Bytes]) -> Result<Plan, CommandError> {
    client.reads_warm = true;
    Ok(Plan::Reply(Reply::ok()))
}

pub(crate) fn readwrite(client: &mut ClientState, _: &dyn Server, _: &[Bytes]) -> Result<Plan, CommandError> {
    client.reads_warm = false;
    Ok(Plan::Reply(Reply::ok()))
}

/// A word without spaces and special characters, of bounded length; it may be empty.
fn is_word(text: &[u8]) -> bool {
    text.len() <= CLIENT_NAME_SIZE_BYTES_MAX && text.iter().all(|byte| (b'!'..=b'~').contains(byte))
}

fn check_name(name: &[u8]) -> Result<(), CommandError> {
    if is_word(name) { Ok(()) } else { Err(CommandError::ClientName) }
}

const CLIENT_HELP: &[&str] = &[
    "CLIENT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "GETNAME",
    "    Return the name of the current connection.",
    "ID",
    "    Return the ID of the current connection.",
    "INFO",
    "    Return information about the current client connection.",
    "LIST [options ...]",
    "    Return information about client connections to this node. Options:",
    "    * TYPE (NORMAL|MASTER|REPLICA|PUBSUB)",
    "      Return clients of the specified type: all of them are normal.",
    "    * ID <client-id> [<client-id> ...]",
    "      Return the clients with these IDs.",
    "NO-EVICT (ON|OFF), NO-TOUCH (ON|OFF)",
    "    Accepted without effect.",
    "SETINFO (LIB-NAME|LIB-VER) <value>",
    "    Set the name or version of the client's library.",
    "SETNAME <name>",
    "    Assign the name <name> to the current connection.",
    "HELP",
    "    Print this help.",
];

pub(crate) fn client(client: &mut ClientState, server: &dyn Server, args: &[Bytes]) -> Result<Plan, CommandError> {
    let subcommand = String::from_utf8_lossy(&args[1]).to_ascii_lowercase();
    let reply = match (subcommand.as_str(), &args[2..]) {
        ("id", []) => Reply::Integer(client.id.cast_signed()),
        ("getname", []) if client.name.is_empty() => Reply::Null,
        ("getname", []) => Reply::Bulk(client.name.clone()),
        ("setname", [name]) => {
            check_name(name)?;
            client.name = Bytes::copy_from_slice(name);
            Reply::ok()
        }
        ("setinfo", [attribute, value]) => {
            set_info(client, attribute, value)?;
            Reply::ok()
        }
        ("info", []) => verbatim(client.line() + "\n"),
        ("list", []) => verbatim(server.client_list()),
        ("list", [word, kind]) if is(word, "TYPE") => verbatim(list_of_type(server, kind)?),
        ("list", [word, ids @ ..]) if is(word, "ID") && !ids.is_empty() => verbatim(list_of_ids(server, ids)?),
        ("list", _) => return Err(CommandError::Syntax),
        ("no-evict" | "no-touch", [mode]) if is(mode, "ON") || is(mode, "OFF") => Reply::ok(),
        ("no-evict" | "no-touch", [_]) => return Err(CommandError::Syntax),
        ("help", []) => help(CLIENT_HELP),
        ("id" | "getname" | "setname" | "setinfo" | "info" | "no-evict" | "no-touch" | "help", _) => {
            return Err(CommandError::WrongArity { command: format!("client|{subcommand}") });
        }
        _ => return Err(unknown_subcommand("client", &args[1])),
    };
    Ok(Plan::Reply(reply))
}

/// Every connection of a client is a normal one here: nodes have their own among themselves, and nobody subscribes.
fn list_of_type(server: &dyn Server, kind: &[u8]) -> Result<String, CommandError> {
    match String::from_utf8_lossy(kind).to_ascii_lowercase().as_str() {
        "normal" => Ok(server.client_list()),
        "master" | "replica" | "slave" | "pubsub" => Ok(String::new()),
        _ => Err(CommandError::ClientType { kind: quoted(kind) }),
    }
}

/// The lines of the connections with these numbers, each once; a number that no connection has is passed over.
fn list_of_ids(server: &dyn Server, ids: &[Bytes]) -> Result<String, CommandError> {
    let ids = ids.iter().map(|id| parse_i64(id).ok_or(CommandError::ClientId)).collect::<Result<BTreeSet<_>, _>>()?;
    let is_wanted = |line: &str| {
        let id = line.strip_prefix("id=").and_then(|rest| rest.split(' ').next());
        id.and_then(|id| id.trim_end().parse().ok()).is_some_and(|id| ids.contains(&id))
    };
    Ok(server.client_list().split_inclusive('\n').filter(|line| is_wanted(line)).collect())
}

fn set_info(client: &mut ClientState, attribute: &[u8], value: &[u8]) -> Result<(), CommandError> {
    let (field, attribute) = if is(attribute, "LIB-NAME") {
        (&mut client.library_name, "lib-name")
    } else if is(attribute, "LIB-VER") {
        (&mut client.library_version, "lib-ver")
    } else {
        return Err(CommandError::ClientAttribute { attribute: quoted(attribute) });
    };
    if !is_word(value) {
        return Err(CommandError::ClientInfo { attribute });
    }
    *field = Bytes::copy_from_slice(value);
    Ok(())
}

/// A text for people.
pub(crate) fn verbatim(text: String) -> Reply {
    Reply::Verbatim { format: *b"txt", text: Bytes::from(text) }
}

/// The lines of a HELP subcommand.
pub(crate) fn help(lines: &[&'static str]) -> Reply {
    Reply::Array(lines.iter().map(|line| Reply::simple(line)).collect())
}

/// Refuses a subcommand: by name if Redis has it.
pub(crate) fn unknown_subcommand(container: &str, subcommand: &[u8]) -> CommandError {
    let command = container.to_uppercase();
    if known::is_missing_subcommand(container, subcommand) {
        let name = format!("{command} {}", quoted(subcommand).to_uppercase());
        return CommandError::Unsupported { name, family: "server" };
    }
    CommandError::UnknownSubcommand { command, subcommand: quoted(subcommand) }
}

#[cfg(test)]
mod tests {
    use crate::command::Plan;
    use crate::command::testing::Session;
    use hotwarm_resp::{Protocol, RequestLimits};

    #[test]
    fn connections_are_described_and_named() {
        Session::new().check(&[
            ("ping", "PONG"),
            ("ping hi", "\"hi\""),
            ("ping a b", "(error) ERR wrong number of arguments for 'ping' command"),
            ("echo hi", "\"hi\""),
            ("select 0", "OK"),
            ("select 1", "(error) ERR DB index is out of range"),
            ("select x", "(error) ERR value is not an integer or out of range"),
            ("client id", "7"),
            ("client getname", "nil"),
            ("client setname app", "OK"),
            ("client getname", "\"app\""),
            (
                "client setname \"a b\"",
                "(error) ERR Client names cannot contain spaces, newlines or special characters.",
            ),
            ("client setname \"\"", "OK"),
            ("client getname", "nil"),
            ("client setinfo LIB-NAME redis-py", "OK"),
            ("client setinfo lib-ver 5.0", "OK"),
            (
                "client setinfo lib-ver \"5 0\"",
                "(error) ERR lib-ver cannot contain spaces, newlines or special characters.",
            ),
            ("client setinfo foo x", "(error) ERR Unrecognized option 'foo'"),
            (
                "client info",
                "=id=7 addr=127.0.0.1:5000 name= db=0 sub=0 psub=0 multi=-1 watch=0 cmd=client user=default resp=2 \
                 lib-name=redis-py lib-ver=5.0\\n",
            ),
            ("client list", "=id=1\\n"),
            ("client list foo", "(error) ERR syntax error"),
            ("client list type NORMAL", "=id=1\\n"),
            ("client list type replica", "="),
            ("client list type pubsub", "="),
            ("client list type foo", "(error) ERR Unknown client type 'foo'"),
            ("client list type normal x", "(error) ERR syntax error"),
            ("client list id 2 1 1", "=id=1\\n"),
            ("client list id 2", "="),
            ("client list id x", "(error) ERR Invalid client ID"),
            ("client list id", "(error) ERR syntax error"),
            ("client no-evict on", "OK"),
            ("client no-touch x", "(error) ERR syntax error"),
            ("client foo", "(error) ERR unknown subcommand 'foo'. Try CLIENT HELP."),
            ("client getname x", "(error) ERR wrong number of arguments for 'client|getname' command"),
            (
                "client kill x",
                "(error) ERR hotwarm does not support 'CLIENT KILL' (server); COMMAND LIST names what it does support",
            ),
            ("readonly", "OK"),
        ]);
    }

    #[test]
    fn hello_chooses_the_protocol() {
        let mut session = Session::new();
        let greeting = |version| {
            format!(
                "{{\"server\"=\"redis\" \"version\"=\"7.0.15\" \"proto\"={version} \"id\"=7 \"mode\"=\"standalone\" \
                 \"role\"=\"master\" \"modules\"=[]}}"
            )
        };
        session.check(&[
            ("hello", &greeting(2)),
            ("hello 3 setname app", &greeting(3)),
            ("client getname", "\"app\""),
            ("hello 4", "(error) NOPROTO unsupported protocol version"),
            ("hello x", "(error) ERR Protocol version is not an integer or out of range"),
            ("hello 2 foo", "(error) ERR Syntax error in HELLO option 'foo'"),
            ("hello 2 auth x", "(error) ERR Syntax error in HELLO option 'auth'"),
        ]);
        assert_eq!(session.client.protocol(), Protocol::Resp3);
        session.check(&[("hello 2", &greeting(2))]);
        assert_eq!(session.client.protocol(), Protocol::Resp2);
    }

    #[test]
    fn strangers_can_only_say_who_they_are() {
        const REQUIRED: &str = "(error) NOAUTH Authentication required.";
        const WRONG: &str = "(error) WRONGPASS invalid username-password pair or user is disabled.";
        let mut session = Session::with_password(Some("secret"));
        session.check(&[
            ("get a", REQUIRED),
            ("multi", REQUIRED),
            ("hotwarm help", REQUIRED),
            ("get", "(error) ERR wrong number of arguments for 'get' command"),
            (
                "hello 3",
                "(error) NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO AUTH \
                 <user> <pass> option can be used to authenticate the client and select the RESP protocol version at \
                 the same time",
            ),
            ("auth no", WRONG),
            ("auth bob secret", WRONG),
            ("hello 3 auth default no", WRONG),
            ("auth a b c", "(error) ERR syntax error"),
        ]);
        assert_eq!(session.client.limits(&session.server), RequestLimits::UNAUTHENTICATED);
        session.check(&[("auth default secret", "OK"), ("get a", "nil"), ("auth no", WRONG), ("get a", "nil")]);
        assert_eq!(session.client.limits(&session.server), RequestLimits::AUTHENTICATED);
        session.check(&[("reset", "RESET"), ("get a", REQUIRED), ("auth secret", "OK"), ("get a", "nil")]);
        assert!(matches!(session.plan("quit"), Plan::Close(_)));
        Session::new().check(&[
            ("auth default x", "OK"),
            (
                "auth x",
                "(error) ERR AUTH <password> called without any password configured for the default user. Are you sure \
                 your configuration is correct?",
            ),
        ]);
    }

    #[test]
    fn reset_forgets_everything_but_the_library() {
        let mut session = Session::new();
        for line in ["hello 3 setname app", "client setinfo lib-name x", "readonly", "set a 1", "watch a", "multi"] {
            session.call(line);
        }
        assert!(session.client.reads_warm());
        session.check(&[("reset", "RESET"), ("client getname", "nil"), ("exec", "(error) ERR EXEC without MULTI")]);
        assert!(!session.client.reads_warm());
        assert_eq!(session.client.protocol(), Protocol::Resp2);
        assert!(session.client.line().contains("watch=0") && session.client.line().contains("lib-name=x"));
    }
}
