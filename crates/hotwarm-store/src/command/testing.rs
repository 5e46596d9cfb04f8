//! For tests: keys in a map, a node that agrees to everything, and a client that talks to both.

use super::client::ClientState;
use super::plan::{Plan, plan};
use super::run::{Context, run};
use super::sentinel::{Instance, Topology};
use super::server::{ConfigError, Server};
use crate::keyspace::{Entry, Keyspace, Value};
use bytes::{Bytes, BytesMut};
use hotwarm_resp::{Protocol, Reply, RequestLimits, RequestParser};
use hotwarm_types::Lsn;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Bound;

/// A keyspace in memory. Its time stands still until it is moved.
#[derive(Debug, Default)]
pub(crate) struct MapKeyspace {
    pub now_ms: u64,
    entries: BTreeMap<Bytes, Entry>,
    versions: BTreeMap<Bytes, Lsn>,
    last: Lsn,
    /// Calls that changed something.
    pub changes: usize,
}

impl MapKeyspace {
    pub(crate) fn set(&mut self, key: &str, value: &str) {
        let value = Value::String(Bytes::copy_from_slice(value.as_bytes()));
        self.put(key.as_bytes(), Entry { value, expires_at_ms: None, version: Lsn::ZERO });
    }

    fn touch(&mut self, key: &[u8]) -> Lsn {
        self.last = self.last.next();
        self.changes += 1;
        self.versions.insert(Bytes::copy_from_slice(key), self.last);
        self.last
    }

    fn lives(&self, entry: &Entry) -> bool {
        entry.expires_at_ms.is_none_or(|at| at > self.now_ms)
    }
}

impl Keyspace for MapKeyspace {
    fn now_ms(&self) -> u64 {
        self.now_ms
    }

    fn get(&mut self, key: &[u8]) -> Option<Entry> {
        self.entries.get(key).filter(|entry| self.lives(entry)).cloned()
    }

    fn put(&mut self, key: &[u8], mut entry: Entry) {
        entry.version = self.touch(key);
        self.entries.insert(Bytes::copy_from_slice(key), entry);
    }

    fn delete(&mut self, key: &[u8]) -> bool {
        let there = self.get(key).is_some();
        if there {
            self.touch(key);
        }
        self.entries.remove(key);
        there
    }

    fn clear(&mut self) {
        for key in std::mem::take(&mut self.entries).into_keys() {
            self.touch(&key);
        }
    }

    fn len(&mut self) -> u64 {
        self.entries.len() as u64
    }

    fn version(&mut self, key: &[u8]) -> Lsn {
        self.versions.get(key).copied().unwrap_or_default()
    }

    fn walk(&mut self, after: Option<&[u8]>, count: usize) -> (Vec<Bytes>, Option<Bytes>) {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut rest = self.entries.range::<[u8], _>((start, Bound::Unbounded)).filter(|(_, entry)| self.lives(entry));
        let keys: Vec<Bytes> = rest.by_ref().take(count).map(|(key, _)| key.clone()).collect();
        let next = rest.next().and(keys.last().cloned());
        (keys, next)
    }

    fn any_key(&mut self) -> Option<Bytes> {
        self.walk(None, 1).0.pop()
    }
}

/// A node with a password if it is given one, and one parameter.
#[derive(Debug, Default)]
pub(crate) struct TestServer {
    pub password: Option<&'static str>,
    maxmemory: RefCell<String>,
}

impl Server for TestServer {
    fn password_required(&self) -> bool {
        self.password.is_some()
    }

    fn authenticate(&self, user: &[u8], password: &[u8]) -> bool {
        user == b"default" && self.password.is_none_or(|expected| expected.as_bytes() == password)
    }

    fn is_hot(&self) -> bool {
        true
    }

    fn info(&self, sections: &[String]) -> String {
        format!("# Server\r\nsections:{}\r\n", sections.join(","))
    }

    fn role(&self) -> Reply {
        Reply::Array(vec![Reply::word("master"), Reply::Integer(0), Reply::Array(vec![])])
    }

    fn client_list(&self) -> String {
        "id=1\n".to_owned()
    }

    fn config(&self) -> Vec<(String, String)> {
        vec![("maxmemory".to_owned(), self.maxmemory.borrow().clone()), ("save".to_owned(), String::new())]
    }

    fn set_config(&self, settings: &[(String, String)]) -> Result<(), ConfigError> {
        for (name, value) in settings {
            match name.as_str() {
                "maxmemory" if value == "x" => {
                    let reason = "argument must be a memory value".to_owned();
                    return Err(ConfigError::Refused { name: name.clone(), reason });
                }
                "maxmemory" => self.maxmemory.replace(value.clone()),
                _ => return Err(ConfigError::Unknown { name: name.clone() }),
            };
        }
        Ok(())
    }

    fn reset_statistics(&self) {}

    fn topology(&self) -> Topology {
        let hot = Instance { host: "10.0.0.1".to_owned(), port: 6379, reached: true, ..Instance::default() };
        let warm = Instance {
            host: "10.0.0.2".to_owned(),
            port: 6380,
            reached: false,
            silent_ms: 900,
            offset: 41,
            priority: 100,
        };
        let (warms, others) = (vec![warm.clone()], vec![warm]);
        Topology { group: "main".to_owned(), hot: Some(hot), warms, others, epoch: 7, majority: 2 }
    }
}

/// One client of one node that executes everything at once.
pub(crate) struct Session {
    pub client: ClientState,
    pub server: TestServer,
    pub keys: MapKeyspace,
    pub context: Context,
}

impl Session {
    pub(crate) fn new() -> Self {
        Self::with_password(None)
    }

    pub(crate) fn with_password(password: Option<&'static str>) -> Self {
        Self {
            client: ClientState::new(7, "127.0.0.1:5000".to_owned()),
            server: TestServer { password, ..TestServer::default() },
            keys: MapKeyspace { now_ms: 1_000_000, ..MapKeyspace::default() },
            context: Context::default(),
        }
    }

    /// Plans one inline request.
    pub(crate) fn plan(&mut self, line: &str) -> Plan {
        let mut buffer = BytesMut::from(format!("{line}\n").as_bytes());
        let args = RequestParser::new(RequestLimits::AUTHENTICATED).next(&mut buffer).unwrap().unwrap();
        plan(&mut self.client, &self.server, args)
    }

    /// Executes one inline request, a call by way of its encoded form.
    pub(crate) fn call(&mut self, line: &str) -> Reply {
        match self.plan(line) {
            Plan::Reply(reply) | Plan::Close(reply) => reply,
            Plan::Read(call) => {
                let before = self.keys.changes;
                let reply = run(&call, &self.context, &mut self.keys);
                assert_eq!(self.keys.changes, before, "a read changed data: {line}");
                reply
            }
            Plan::Write(call) => {
                let call = super::call::Call::decode(&call.encode()).unwrap();
                run(&call, &self.context, &mut self.keys)
            }
            Plan::Watch(call) => {
                let reply = run(&call, &self.context, &mut self.keys);
                self.client.watched(&call, &reply)
            }
            Plan::Session { .. } => Reply::ok(),
            Plan::Wait { replicas, .. } => Reply::Integer(i64::try_from(replicas).unwrap()),
        }
    }

    /// Executes requests and compares the replies as they look in redis-cli.
    pub(crate) fn check(&mut self, steps: &[(&str, &str)]) {
        for (line, expect) in steps {
            let reply = self.call(line);
            assert_eq!(show(&reply), *expect, "{line}");
        }
    }
}

/// A reply in short: `OK`, `(error) ERR ..`, `3`, `"text"`, `nil`, `[..]`.
pub(crate) fn show(reply: &Reply) -> String {
    let list = |items: &[Reply]| items.iter().map(show).collect::<Vec<_>>().join(" ");
    match reply {
        Reply::Simple(text) => String::from_utf8_lossy(text).into_owned(),
        Reply::Error(text) => format!("(error) {}", String::from_utf8_lossy(text)),
        Reply::Integer(value) => value.to_string(),
        Reply::Bulk(bytes) => format!("\"{}\"", bytes.escape_ascii()),
        Reply::Null => "nil".to_owned(),
        Reply::NullArray => "nil-array".to_owned(),
        Reply::Array(items) | Reply::Set(items) | Reply::Push(items) => format!("[{}]", list(items)),
        Reply::Map(pairs) => {
            let pairs: Vec<String> =
                pairs.iter().map(|(key, value)| format!("{}={}", show(key), show(value))).collect();
            format!("{{{}}}", pairs.join(" "))
        }
        Reply::Verbatim { text, .. } => format!("={}", text.escape_ascii()),
        Reply::Double(_) | Reply::Boolean(_) | Reply::BigNumber(_) => {
            let mut out = BytesMut::new();
            reply.write(Protocol::Resp3, &mut out);
            out.escape_ascii().to_string()
        }
    }
}
