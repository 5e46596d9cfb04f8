//! A group that is one map behind a lock, honest or broken on purpose: whether load and judge see what they must.

use bytes::BytesMut;
use hotwarm_resp::{Protocol, Reply, RequestLimits, RequestParser};
use std::collections::{BTreeMap, HashMap};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// What is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// Nothing; connections break all the same, before a command and after it.
    None,
    /// Now and then an acknowledged write is not done.
    Forgets,
    /// Replies are not remembered: what is sent again is done again.
    DoesTwice,
    /// Now and then a read is answered from a copy that is some writes old.
    ReadsOld,
    /// Now and then half a transaction is done.
    Halves,
    /// One node's own copy has a key too many.
    Differs,
}

#[derive(Default)]
struct State {
    keys: BTreeMap<String, Vec<u8>>,
    /// As it was some writes ago.
    old: BTreeMap<String, Vec<u8>>,
    replies: HashMap<(String, String), Reply>,
    writes: u64,
    calls: u64,
}

struct Group {
    bug: Bug,
    state: Mutex<State>,
    stop: AtomicBool,
}

/// A running group; it ends when dropped.
pub struct FakeGroup {
    group: Arc<Group>,
    /// Where each node listens.
    pub fronts: Vec<SocketAddr>,
}

impl FakeGroup {
    /// Starts three nodes on loopback.
    pub fn start(bug: Bug) -> Self {
        let group = Arc::new(Group { bug, state: Mutex::default(), stop: AtomicBool::new(false) });
        let fronts = (0..3).map(|node| {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let address = listener.local_addr().unwrap();
            let group = Arc::clone(&group);
            thread::spawn(move || {
                for stream in listener.incoming() {
                    if group.stop.load(Ordering::Acquire) {
                        return;
                    }
                    let group = Arc::clone(&group);
                    thread::spawn(move || Connection::new(&group, node).serve(stream.unwrap()));
                }
            });
            address
        });
        Self { fronts: fronts.collect(), group }
    }
}

impl Drop for FakeGroup {
    fn drop(&mut self) {
        self.group.stop.store(true, Ordering::Release);
        for front in &self.fronts {
            // Only to wake the one who accepts.
            drop(TcpStream::connect(front));
        }
    }
}

struct Connection<'a> {
    group: &'a Group,
    node: usize,
    session: String,
    queue: Option<Vec<Vec<String>>>,
}

impl<'a> Connection<'a> {
    fn new(group: &'a Group, node: usize) -> Self {
        Self { group, node, session: String::new(), queue: None }
    }

    fn serve(mut self, mut stream: TcpStream) {
        let mut parser = RequestParser::new(RequestLimits::AUTHENTICATED);
        let (mut read, mut out, mut chunk) = (BytesMut::new(), BytesMut::new(), [0; 4096]);
        loop {
            while let Some(request) = parser.next(&mut read).unwrap() {
                let words = request.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect();
                let Some(reply) = self.answer(words) else { return };
                reply.write(Protocol::Resp2, &mut out);
            }
            if stream.write_all(&out).is_err() {
                return;
            }
            out.clear();
            match stream.read(&mut chunk) {
                Ok(0) | Err(_) => return,
                Ok(length) => read.extend_from_slice(&chunk[..length]),
            }
        }
    }

    /// The reply; `None`: the connection breaks.
    fn answer(&mut self, mut words: Vec<String>) -> Option<Reply> {
        let mut number = None;
        if words[0] == "HOTWARM" {
            if words[1] == "SESSION" {
                self.session = words[2].clone();
                return Some(Reply::ok());
            }
            number = Some(words[2].clone());
            words.drain(..3);
        }
        match (words[0].as_str(), &mut self.queue) {
            ("AUTH" | "READONLY", _) => return Some(Reply::ok()),
            ("MULTI", _) => {
                self.queue = Some(Vec::new());
                return Some(Reply::ok());
            }
            ("EXEC", _) => {}
            (_, Some(queue)) => {
                queue.push(words);
                return Some(Reply::simple("QUEUED"));
            }
            _ => {}
        }
        let commands = self.queue.take().unwrap_or_else(|| vec![words.clone()]);
        let state = &mut *self.group.state.lock().unwrap();
        state.calls += 1;
        // Whoever reads everything in the end is let through.
        let breaks = !["GET", "SCAN", "PEXPIRETIME"].contains(&words[0].as_str());
        if breaks && state.calls.is_multiple_of(97) {
            return None;
        }
        let identity = number.map(|number| (self.session.clone(), number));
        if let Some(reply) = identity.as_ref().and_then(|identity| state.replies.get(identity)) {
            return Some(reply.clone());
        }
        let mut replies: Vec<Reply> = Vec::new();
        for (index, command) in commands.iter().enumerate() {
            let half = self.group.bug == Bug::Halves && index == 1 && state.calls.is_multiple_of(11);
            replies.push(self.execute(state, command, half));
        }
        let reply = if words[0] == "EXEC" { Reply::Array(replies) } else { replies.remove(0) };
        if let Some(identity) = identity.filter(|_| self.group.bug != Bug::DoesTwice) {
            state.replies.insert(identity, reply.clone());
        }
        (!breaks || !state.calls.is_multiple_of(89)).then_some(reply)
    }

    fn execute(&self, state: &mut State, command: &[String], half: bool) -> Reply {
        let key = command.get(1).cloned().unwrap_or_default();
        let is_write = !["GET", "MGET", "EXISTS", "SCAN", "PEXPIRETIME"].contains(&command[0].as_str());
        state.writes += u64::from(is_write);
        if is_write && state.writes.is_multiple_of(40) {
            state.old = state.keys.clone();
        }
        let bug = self.group.bug;
        let held = state.keys.get(&key).cloned();
        let forget = half || bug == Bug::Forgets && state.writes.is_multiple_of(23);
        let source = if bug == Bug::ReadsOld && state.calls.is_multiple_of(7) { &state.old } else { &state.keys };
        let bulk = |value: Option<&Vec<u8>>| value.map_or(Reply::Null, |value| Reply::Bulk(value.clone().into()));
        let number = |value: &Vec<u8>| String::from_utf8_lossy(value).parse::<i64>().unwrap();
        let (value, reply) = match command[0].as_str() {
            "GET" => return bulk(source.get(&key)),
            "MGET" => return Reply::Array(command[1..].iter().map(|key| bulk(source.get(key))).collect()),
            "EXISTS" => return Reply::Integer(i64::from(source.contains_key(&key))),
            "PEXPIRETIME" => return Reply::Integer(-1),
            "SCAN" => {
                let mut keys: Vec<Reply> = state.keys.keys().map(|key| Reply::text(key.clone())).collect();
                if bug == Bug::Differs && self.node == 2 {
                    keys.pop();
                }
                return Reply::Array(vec![Reply::text("0"), Reply::Array(keys)]);
            }
            "SET" => (command[2].clone().into_bytes(), Reply::ok()),
            "SETNX" if held.is_some() => return Reply::Integer(0),
            "SETNX" => (command[2].clone().into_bytes(), Reply::Integer(1)),
            "APPEND" => {
                let value = [held.unwrap_or_default(), command[2].clone().into_bytes()].concat();
                let length = value.len() as i64;
                (value, Reply::Integer(length))
            }
            "INCR" | "INCRBY" => {
                let by = command.get(2).map_or(1, |by| by.parse().unwrap());
                let sum = held.as_ref().map_or(0, number) + by;
                (sum.to_string().into_bytes(), Reply::Integer(sum))
            }
            other => return Reply::error(format!("ERR unknown command '{other}'")),
        };
        if !forget {
            state.keys.insert(key, value);
        }
        reply
    }
}
