//! The commands: one table of names, arities, flags, key positions and handlers.
//!
//! | kind of handler | is given | when it runs |
//! | --- | --- | --- |
//! | `Data` | the arguments and the keys | on the executor, alone or in a transaction |
//! | `Plain` | the arguments alone | at once, or in its place in a transaction |
//! | `Client` | the connection and the node | at once; in a transaction only what it names as its stand-in |
//!
//! Source: COMMAND INFO and COMMAND DOCS of Redis 7.0.

use super::args::Outcome;
use super::client::ClientState;
use super::error::CommandError;
use super::plan::Plan;
use super::run::Context;
use super::server::Server;
use super::{connection, expiry, keys, scan, sentinel, server, session, strings, transaction};
use crate::keyspace::Keyspace;
use bytes::Bytes;
use core::fmt;
use std::sync::LazyLock;

/// It may change data: it runs on the hot and is logged.
pub(crate) const WRITE: u8 = 1;
/// It looks at data and never changes any.
pub(crate) const READONLY: u8 = 1 << 1;
/// Its cost does not grow with the data.
pub(crate) const FAST: u8 = 1 << 2;
/// A client may call it before it has authenticated.
pub(crate) const NO_AUTH: u8 = 1 << 3;
/// It is for operators.
pub(crate) const ADMIN: u8 = 1 << 4;

/// The flags as COMMAND INFO names them.
const FLAG_NAMES: [(u8, &str); 5] =
    [(WRITE, "write"), (READONLY, "readonly"), (FAST, "fast"), (NO_AUTH, "no_auth"), (ADMIN, "admin")];

/// Which arguments are keys: the first, the last (negative: counted from the end), and the step between them. All
/// zero: none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KeyPositions {
    pub first: i8,
    pub last: i8,
    pub step: i8,
}

const fn at(first: i8, last: i8, step: i8) -> KeyPositions {
    KeyPositions { first, last, step }
}

const NONE: KeyPositions = at(0, 0, 0);
const ONE: KeyPositions = at(1, 1, 1);
const TWO: KeyPositions = at(1, 2, 1);
const ALL: KeyPositions = at(1, -1, 1);
const PAIRS: KeyPositions = at(1, -1, 2);

/// What carries a command out.
#[derive(Clone, Copy)]
pub(crate) enum Handler {
    Data(fn(&[Bytes], &Context, &mut dyn Keyspace) -> Outcome),
    Plain(fn(&[Bytes]) -> Outcome),
    Client {
        plan: fn(&mut ClientState, &dyn Server, &[Bytes]) -> Result<Plan, CommandError>,
        /// What stands for it in a transaction; `None`: it may not be in one.
        queued: Option<fn(&[Bytes]) -> Outcome>,
    },
}

/// One command.
pub struct Command {
    /// Its name in lower case.
    pub name: &'static str,
    /// How many arguments it takes, its name included; negative: at least so many.
    pub arity: i8,
    /// Since which version of Redis it exists (of hotwarm for its own).
    pub since: &'static str,
    /// What it belongs to, as COMMAND DOCS names it.
    pub group: &'static str,
    /// What it does, in a sentence.
    pub summary: &'static str,
    pub(crate) flags: u8,
    pub(crate) keys: KeyPositions,
    pub(crate) handler: Handler,
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl Command {
    /// Whether it may change data.
    #[must_use]
    pub fn is_write(&self) -> bool {
        self.flags & WRITE != 0
    }

    /// Whether it runs on the keys.
    pub(crate) fn is_data(&self) -> bool {
        matches!(self.handler, Handler::Data(_))
    }

    /// Its flags as COMMAND INFO names them.
    pub fn flag_names(&self) -> impl Iterator<Item = &'static str> + use<> {
        let flags = self.flags;
        FLAG_NAMES.iter().filter(move |(flag, _)| flags & flag != 0).map(|(_, name)| *name)
    }

    /// Whether it may be called with so many arguments, its name included.
    #[must_use]
    pub fn takes(&self, count: usize) -> bool {
        let least = usize::from(self.arity.unsigned_abs());
        if self.arity < 0 { count >= least } else { count == least }
    }

    /// The keys among its arguments, which must be as many as it takes.
    pub fn keys<'a>(&self, args: &'a [Bytes]) -> impl Iterator<Item = &'a Bytes> + use<'a> {
        let KeyPositions { first, last, step } = self.keys;
        let end =
            if last < 0 { args.len().saturating_sub(usize::from(last.unsigned_abs()) - 1) } else { last as usize + 1 };
        let taken = if first == 0 { 0 } else { end.min(args.len()) };
        args[..taken].iter().skip(first as usize).step_by(step.max(1) as usize)
    }
}

const fn client(plan: fn(&mut ClientState, &dyn Server, &[Bytes]) -> Result<Plan, CommandError>) -> Handler {
    Handler::Client { plan, queued: None }
}

macro_rules! commands {
    ($($name:literal, $arity:literal, $flags:expr, $keys:expr, $since:literal, $group:literal, $handler:expr, $summary:literal;)*) => {
        /// Every command that hotwarm has.
        pub static COMMANDS: &[Command] = &[$(Command {
            name: $name, arity: $arity, since: $since, group: $group, summary: $summary,
            flags: $flags, keys: $keys, handler: $handler,
        }),*];
    };
}

use Handler::{Client, Data, Plain};

commands! {
    // Strings and counters.
    "append",      3, WRITE | FAST,    ONE,   "2.0.0", "string", Data(strings::append),      "Appends to a value; a key that is not there starts empty.";
    "decr",        2, WRITE | FAST,    ONE,   "1.0.0", "string", Data(strings::decr),        "Takes one from a counter.";
    "decrby",      3, WRITE | FAST,    ONE,   "1.0.0", "string", Data(strings::decrby),      "Takes a number from a counter.";
    "get",         2, READONLY | FAST, ONE,   "1.0.0", "string", Data(strings::get),         "Gives the value of a key.";
    "getdel",      2, WRITE | FAST,    ONE,   "6.2.0", "string", Data(strings::getdel),      "Gives the value of a key and deletes the key.";
    "getex",      -2, WRITE | FAST,    ONE,   "6.2.0", "string", Data(strings::getex),       "Gives the value of a key and changes when it expires.";
    "getrange",    4, READONLY,        ONE,   "2.4.0", "string", Data(strings::getrange),    "Gives a part of a value.";
    "getset",      3, WRITE | FAST,    ONE,   "1.0.0", "string", Data(strings::getset),      "Sets a value and gives the one before.";
    "incr",        2, WRITE | FAST,    ONE,   "1.0.0", "string", Data(strings::incr),        "Adds one to a counter.";
    "incrby",      3, WRITE | FAST,    ONE,   "1.0.0", "string", Data(strings::incrby),      "Adds a number to a counter.";
    "incrbyfloat", 3, WRITE | FAST,    ONE,   "2.6.0", "string", Data(strings::incrbyfloat), "Adds a decimal number to a value.";
    "mget",       -2, READONLY | FAST, ALL,   "1.0.0", "string", Data(strings::mget),        "Gives the values of several keys.";
    "mset",       -3, WRITE,           PAIRS, "1.0.1", "string", Data(strings::mset),        "Sets the values of several keys.";
    "msetnx",     -3, WRITE,           PAIRS, "1.0.1", "string", Data(strings::msetnx),      "Sets the values of several keys if none of them is there.";
    "psetex",      4, WRITE,           ONE,   "2.6.0", "string", Data(strings::psetex),      "Sets a value that expires after so many milliseconds.";
    "set",        -3, WRITE,           ONE,   "1.0.0", "string", Data(strings::set),         "Sets the value of a key, under conditions and with an expiry if asked.";
    "setex",       4, WRITE,           ONE,   "2.0.0", "string", Data(strings::setex),       "Sets a value that expires after so many seconds.";
    "setnx",       3, WRITE | FAST,    ONE,   "1.0.0", "string", Data(strings::setnx),       "Sets the value of a key that is not there.";
    "setrange",    4, WRITE,           ONE,   "2.2.0", "string", Data(strings::setrange),    "Overwrites a part of a value.";
    "strlen",      2, READONLY | FAST, ONE,   "2.2.0", "string", Data(strings::strlen),      "Gives the length of a value.";
    "substr",      4, READONLY,        ONE,   "1.0.0", "string", Data(strings::getrange),    "Gives a part of a value.";

    // Keys.
    "dbsize",      1, READONLY | FAST, NONE,  "1.0.0", "server",  Data(keys::dbsize),    "Gives the number of keys.";
    "del",        -2, WRITE,           ALL,   "1.0.0", "generic", Data(keys::del),       "Deletes keys.";
    "exists",     -2, READONLY | FAST, ALL,   "1.0.0", "generic", Data(keys::exists),    "Counts how many of the keys are there.";
    "flushall",   -1, WRITE,           NONE,  "1.0.0", "server",  Data(keys::flush),     "Deletes all keys.";
    "flushdb",    -1, WRITE,           NONE,  "1.0.0", "server",  Data(keys::flush),     "Deletes all keys.";
    "keys",        2, READONLY,        NONE,  "1.0.0", "generic", Data(scan::keys),      "Gives all keys that match a pattern.";
    "randomkey",   1, READONLY,        NONE,  "1.0.0", "generic", Data(keys::randomkey), "Gives a key drawn at random.";
    "rename",      3, WRITE,           TWO,   "1.0.0", "generic", Data(keys::rename),    "Renames a key and replaces what had the new name.";
    "renamenx",    3, WRITE | FAST,    TWO,   "1.0.0", "generic", Data(keys::renamenx),  "Renames a key if nothing has the new name.";
    "scan",       -2, READONLY,        NONE,  "2.8.0", "generic", Data(scan::scan),      "Walks over the keys, a part at a time.";
    "touch",      -2, READONLY | FAST, ALL,   "3.2.1", "generic", Data(keys::exists),    "Counts how many of the keys are there.";
    "type",        2, READONLY | FAST, ONE,   "1.0.0", "generic", Data(keys::type_of),   "Names the type of a value.";
    "unlink",     -2, WRITE | FAST,    ALL,   "4.0.0", "generic", Data(keys::del),       "Deletes keys.";

    // Expiry.
    "expire",     -3, WRITE | FAST,    ONE,   "1.0.0", "generic", Data(expiry::expire),      "Lets a key expire after so many seconds.";
    "expireat",   -3, WRITE | FAST,    ONE,   "1.2.0", "generic", Data(expiry::expireat),    "Lets a key expire at a Unix time in seconds.";
    "expiretime",  2, READONLY | FAST, ONE,   "7.0.0", "generic", Data(expiry::expiretime),  "Gives the Unix time in seconds at which a key expires.";
    "persist",     2, WRITE | FAST,    ONE,   "2.2.0", "generic", Data(expiry::persist),     "Lets a key stay for good.";
    "pexpire",    -3, WRITE | FAST,    ONE,   "2.6.0", "generic", Data(expiry::pexpire),     "Lets a key expire after so many milliseconds.";
    "pexpireat",  -3, WRITE | FAST,    ONE,   "2.6.0", "generic", Data(expiry::pexpireat),   "Lets a key expire at a Unix time in milliseconds.";
    "pexpiretime", 2, READONLY | FAST, ONE,   "7.0.0", "generic", Data(expiry::pexpiretime), "Gives the Unix time in milliseconds at which a key expires.";
    "pttl",        2, READONLY | FAST, ONE,   "2.6.0", "generic", Data(expiry::pttl),        "Gives the milliseconds until a key expires.";
    "ttl",         2, READONLY | FAST, ONE,   "1.0.0", "generic", Data(expiry::ttl),         "Gives the seconds until a key expires.";

    // Connection.
    "auth",       -2, FAST | NO_AUTH,  NONE,  "1.0.0", "connection", client(connection::auth),   "Proves who the client is.";
    "client",     -2, 0,               NONE,  "2.4.0", "connection", client(connection::client), "Tells and sets properties of connections.";
    "echo",        2, FAST,            NONE,  "1.0.0", "connection", Plain(connection::echo),    "Gives its argument back.";
    "hello",      -1, FAST | NO_AUTH,  NONE,  "6.0.0", "connection", client(connection::hello),  "Chooses the version of the protocol and introduces both sides.";
    "ping",       -1, FAST,            NONE,  "1.0.0", "connection", Plain(connection::ping),    "Shows that the connection works.";
    "quit",       -1, FAST | NO_AUTH,  NONE,  "1.0.0", "connection", client(connection::quit),   "Closes the connection.";
    "readonly",    1, FAST,            NONE,  "3.0.0", "connection", client(connection::readonly),  "Lets reads of this connection be served by a warm node.";
    "readwrite",   1, FAST,            NONE,  "3.0.0", "connection", client(connection::readwrite), "Takes READONLY back.";
    "reset",       1, FAST | NO_AUTH,  NONE,  "6.2.0", "connection", client(connection::reset),  "Makes the connection as new.";
    "select",      2, FAST,            NONE,  "1.0.0", "connection", Plain(connection::select),  "Accepts database 0, the only one.";

    // Transactions.
    "discard",     1, FAST,            NONE,  "2.0.0", "transactions", client(transaction::discard), "Forgets the commands queued since MULTI.";
    "exec",        1, 0,               NONE,  "1.2.0", "transactions", client(transaction::exec),    "Executes the commands queued since MULTI as one.";
    "multi",       1, FAST,            NONE,  "1.2.0", "transactions", client(transaction::multi),   "Starts to queue commands for EXEC.";
    "unwatch",     1, FAST,            NONE,  "2.2.0", "transactions",
        Client { plan: transaction::unwatch, queued: Some(transaction::unwatch_queued) },           "Forgets the watched keys.";
    "watch",      -2, FAST,            ALL,   "2.2.0", "transactions", client(transaction::watch),   "Lets the next EXEC do nothing if one of the keys changes before.";

    // Server.
    "command",    -1, 0,               NONE,  "2.8.13", "server",  Plain(server::command),  "Describes the commands.";
    "config",     -2, ADMIN,           NONE,  "2.0.0",  "server",  client(server::config),  "Tells and sets parameters of the node.";
    "info",       -1, 0,               NONE,  "1.0.0",  "server",  client(server::info),    "Tells about the node and the group.";
    "role",        1, FAST,            NONE,  "2.8.12", "server",  client(server::role),    "Tells the node's role in replication.";
    "sentinel",   -2, ADMIN,           NONE,  "2.8.4",  "sentinel", client(sentinel::sentinel), "Tells where the hot is, for clients that ask a Sentinel.";
    "time",        1, READONLY | FAST, NONE,  "2.6.0",  "server",  Data(server::time),      "Gives the group's time, by which keys expire.";
    "wait",        3, 0,               NONE,  "3.0.0",  "generic", client(server::wait),    "Waits until earlier writes are on so many other nodes.";
    "hotwarm",    -2, 0,               NONE,  "0.1.0",  "hotwarm", client(session::hotwarm), "Opens a session and executes commands once under its numbers.";
}

/// The commands by name.
static INDEX: LazyLock<Vec<&'static Command>> = LazyLock::new(|| {
    let mut index: Vec<&'static Command> = COMMANDS.iter().collect();
    index.sort_by_key(|command| command.name);
    index
});

/// Longest name of a command, and room for names to come.
const NAME_SIZE_BYTES_MAX: usize = 32;

/// The command of this name, in whatever case.
#[must_use]
pub fn lookup(name: &[u8]) -> Option<&'static Command> {
    let mut lower = [0; NAME_SIZE_BYTES_MAX];
    let lower = lower.get_mut(..name.len())?;
    lower.copy_from_slice(name);
    lower.make_ascii_lowercase();
    let found = INDEX.binary_search_by(|command| command.name.as_bytes().cmp(lower)).ok()?;
    INDEX.get(found).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_consistent() {
        for command in COMMANDS {
            let name = command.name;
            assert_eq!(name, name.to_ascii_lowercase());
            assert!(name.len() < NAME_SIZE_BYTES_MAX && command.arity != 0, "{name}");
            assert!(std::ptr::eq(lookup(name.to_uppercase().as_bytes()).unwrap(), command), "{name} is there twice");
            assert!(command.summary.ends_with('.'), "{name}");
            let data = matches!(command.handler, Handler::Data(_));
            let flagged = command.flags & (WRITE | READONLY);
            assert_eq!(
                flagged.count_ones(),
                u32::from(data),
                "{name} must be either a write or a read, if data at all"
            );
            let first = usize::try_from(command.keys.first).unwrap();
            assert!(first < usize::from(command.arity.unsigned_abs()), "{name} has its first key in every call");
        }
        assert!(lookup(b"").is_none());
        assert!(lookup(&[b'a'; 100]).is_none());
    }

    #[test]
    fn keys_are_found_by_position() {
        let check = |line: &str, expect: &[&str]| {
            let args: Vec<Bytes> = line.split(' ').map(|arg| Bytes::copy_from_slice(arg.as_bytes())).collect();
            let got: Vec<&Bytes> = lookup(&args[0]).unwrap().keys(&args).collect();
            assert_eq!(got, expect, "{line}");
        };
        check("ping", &[]);
        check("get a", &["a"]);
        check("set a 1 EX 10", &["a"]);
        check("rename a b", &["a", "b"]);
        check("del a b c", &["a", "b", "c"]);
        check("mset a 1 b 2", &["a", "b"]);
        check("scan 0", &[]);
    }
}
