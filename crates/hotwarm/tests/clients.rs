//! A client library that knows nothing of the group, against every node of one, and through losses of the hot.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use redis::{Commands, Connection, ErrorKind, RedisError, RedisResult, Value};
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use support::storm::{self, Outages, SHARED, Told};
use support::{Group, PATIENCE, WITNESS};

fn connect(group: &Group, index: usize) -> Connection {
    storm::connect(group.nodes[index].front, 2)
}

fn words(line: &str) -> redis::Cmd {
    let mut words = line.split(' ');
    let mut command = redis::cmd(words.next().unwrap());
    command.arg(words.collect::<Vec<_>>());
    command
}

/// What an application does in an ordinary session, with keys of its own.
fn session(client: &mut Connection, own: &str) {
    let key = |name: &str| format!("{own}:{name}");
    let () = client.set(key("text"), "a value\r\nwith \0 bytes").unwrap();
    assert_eq!(client.get::<_, String>(key("text")).unwrap(), "a value\r\nwith \0 bytes");
    assert_eq!(client.get::<_, Option<String>>(key("nothing")).unwrap(), None);
    assert_eq!(client.incr::<_, _, i64>(key("count"), 41).unwrap(), 41);
    let error = client.incr::<_, _, i64>(key("text"), 1).unwrap_err();
    assert!(error.to_string().contains("not an integer"), "{error}");

    let (first, second): (i64, i64) =
        redis::pipe().atomic().incr(key("count"), 1).incr(key("count"), 1).query(client).unwrap();
    assert_eq!((first, second), (42, 43));

    let mut pipeline = redis::pipe();
    for number in 0..200 {
        pipeline.set(key(&format!("many:{number}")), number).ignore();
    }
    pipeline.get(key("many:199"));
    assert_eq!(pipeline.query::<(i64,)>(client).unwrap(), (199,));

    let found: BTreeSet<String> = client.scan_match::<_, String>(key("many:*")).unwrap().map(Result::unwrap).collect();
    assert_eq!(found.len(), 200);

    let () = client.pset_ex(key("brief"), "gone soon", 60).unwrap();
    let () = client.set_ex(key("lasting"), "stays", 100).unwrap();
    assert!((1..=100).contains(&client.ttl::<_, i64>(key("lasting")).unwrap()));
    let began = Instant::now();
    while client.exists::<_, bool>(key("brief")).unwrap() {
        assert!(began.elapsed() < PATIENCE, "the key does not expire");
    }
    assert_eq!(client.del::<_, i64>(vec![key("lasting"), key("brief"), key("count")]).unwrap(), 2);
}

#[test]
fn every_node_serves_an_unmodified_client() {
    let group = Group::start(&["a", "b", "c", WITNESS]);
    for node in &group.nodes {
        for protocol in [2, 3] {
            session(&mut storm::connect(node.front, protocol), &format!("{}:{protocol}", node.name));
        }
    }
    let mut other = connect(&group, 0);
    for node in &group.nodes {
        let value: String = other.get(format!("{}:2:text", node.name)).unwrap();
        assert_eq!(value, "a value\r\nwith \0 bytes", "what was written through {} is missing", node.name);
    }
}

/// The last of it arrives long before it can all be open.
#[test]
fn a_long_pipeline_of_short_requests_is_answered_to_its_end() {
    let group = Group::start(&["a", "b", WITNESS]);
    for node in &group.nodes {
        for (request, reply) in [("PING\r\n", "+PONG\r\n"), ("GET k\r\n", "$-1\r\n"), ("DEL k\r\n", ":0\r\n")] {
            let mut stream = TcpStream::connect(node.front).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.write_all(request.repeat(5000).as_bytes()).unwrap();
            let mut replies = vec![0; reply.len() * 5000];
            stream.read_exact(&mut replies).unwrap_or_else(|error| panic!("{}, {request:?}: {error}", node.name));
            assert_eq!(replies, reply.repeat(5000).into_bytes());
        }
    }
}

#[test]
fn a_watched_key_that_another_node_changed_undoes_the_transaction() {
    let group = Group::start(&["a", "b", "c"]);
    let (mut one, mut two) = (connect(&group, 1), connect(&group, 2));
    let () = one.set("stock", 5).unwrap();
    let () = redis::cmd("WATCH").arg("stock").query(&mut one).unwrap();
    let () = two.set("stock", 4).unwrap();
    let outcome: Value = redis::pipe().atomic().set("stock", 9).query(&mut one).unwrap();
    assert_eq!(outcome, Value::Nil);
    assert_eq!(one.get::<_, i64>("stock").unwrap(), 4);
}

#[test]
fn writes_through_the_survivors_outlast_a_kill_of_the_hot() {
    let mut group = Group::start(&["a", "b", "c"]);
    let hot = group.hot();
    let done = AtomicBool::new(false);
    let survivors = (0..group.nodes.len()).filter(|index| *index != hot);
    let mut connections: Vec<Connection> = survivors.map(|index| connect(&group, index)).collect();
    let counts: Vec<AtomicU64> = connections.iter().map(|_| AtomicU64::new(0)).collect();
    thread::scope(|scope| {
        for (writer, client) in connections.iter_mut().enumerate() {
            let (count, done) = (&counts[writer], &done);
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    let wanted = count.load(Ordering::Relaxed) + 1;
                    let got: u64 = client.incr(format!("writer:{writer}"), 1).unwrap();
                    assert_eq!(got, wanted, "a write was lost, or was done twice");
                    count.store(wanted, Ordering::Relaxed);
                }
            });
        }
        let progress = |more: u64| {
            let from: Vec<u64> = counts.iter().map(|count| count.load(Ordering::Relaxed)).collect();
            let began = Instant::now();
            while counts.iter().zip(&from).any(|(count, from)| count.load(Ordering::Relaxed) < from + more) {
                if began.elapsed() > PATIENCE {
                    return false;
                }
                thread::sleep(Duration::from_millis(1));
            }
            true
        };
        let before = progress(20);
        group.kill(hot);
        let after = progress(20);
        done.store(true, Ordering::Relaxed);
        assert!(before && after, "the writers stand still");
    });
    let new = group.hot();
    assert_ne!(new, hot);
    let mut client = connect(&group, new);
    for (writer, count) in counts.iter().enumerate() {
        assert_eq!(client.get::<_, u64>(format!("writer:{writer}")).unwrap(), count.load(Ordering::Relaxed));
    }
    group.start_node(hot);
    group.wait_in_sync(3);
    assert_eq!(
        connect(&group, hot).get::<_, u64>("writer:0").unwrap(),
        counts[0].load(Ordering::Relaxed),
        "the node that came back does not serve what it missed"
    );
}

#[test]
fn a_numbered_write_that_is_sent_again_gets_its_first_reply() {
    let mut group = Group::start(&["a", "b", "c"]);
    let hot = group.hot();
    let others: Vec<usize> = (0..3).filter(|index| *index != hot).collect();
    let session = "HOTWARM SESSION 0123456789abcdef0123456789abcdef";
    let mut client = connect(&group, others[0]);
    let () = words(session).query(&mut client).unwrap();
    assert_eq!(words("HOTWARM SEQ 1 INCR visits").query::<i64>(&mut client).unwrap(), 1);
    assert_eq!(words("HOTWARM SEQ 2 INCR visits").query::<i64>(&mut client).unwrap(), 2);
    assert_eq!(words("HOTWARM SEQ 2 INCR visits").query::<i64>(&mut client).unwrap(), 2);
    group.kill(hot);
    let mut again = connect(&group, others[1]);
    let () = words(&format!("{session} RESUME")).query(&mut again).unwrap();
    assert_eq!(words("HOTWARM SEQ 2 INCR visits").query::<i64>(&mut again).unwrap(), 2);
    assert_eq!(words("HOTWARM SEQ 3 INCR visits").query::<i64>(&mut again).unwrap(), 3);
    assert_eq!(again.get::<_, i64>("visits").unwrap(), 3);
}

#[test]
fn no_client_is_told_anything_wrong_while_hots_die_and_hand_over() {
    let mut group = Group::start(&["a", "b", "c", WITNESS]);
    let folder = tempfile::tempdir().unwrap();
    let outages = Outages::new(&group, folder.path());
    let fronts: Vec<SocketAddr> = group.nodes.iter().map(|node| node.front).collect();
    let told: Vec<Told> = thread::scope(|scope| {
        let workers = (0..2 * fronts.len()).map(|number| Worker::new(number, &fronts, &outages));
        let workers: Vec<_> = workers.map(|worker| scope.spawn(move || worker.run())).collect();
        storm::rage(&mut group, &outages, 3);
        workers.into_iter().map(|worker| worker.join().unwrap()).collect()
    });
    for (number, told) in told.iter().enumerate() {
        assert!(told.errors.len() + told.counters[SHARED].seen.len() > 50, "worker {number} has stood still");
    }
    assert!(told.iter().any(|told| told.reconnects > 0), "no client has lost its node");
    storm::judge(&group, &told);
}

/// An application that uses its own node while that is up, and another one meanwhile.
struct Worker<'a> {
    fronts: &'a [SocketAddr],
    outages: &'a Outages,
    home: usize,
    protocol: u8,
    /// Begins its keys' names.
    own: String,
    /// The node, its number when it was connected to, and the connection.
    client: Option<(usize, u64, Connection)>,
    /// What opens its session, or finds it again.
    session: String,
    told: Told,
}

impl<'a> Worker<'a> {
    fn new(number: usize, fronts: &'a [SocketAddr], outages: &'a Outages) -> Self {
        Self {
            fronts,
            outages,
            home: number % fronts.len(),
            protocol: if number < fronts.len() { 2 } else { 3 },
            own: format!("worker:{number}"),
            client: None,
            session: format!("HOTWARM SESSION {number:032x}"),
            told: Told::default(),
        }
    }

    fn run(mut self) -> Told {
        let mut number = 0;
        while !self.outages.is_over() && self.told.errors.len() < 10 {
            number += 1;
            self.count_up();
            self.count_up_exactly(number);
            self.keep(number);
            self.count_up_twice();
            self.count_up_if_unchanged();
        }
        self.told
    }

    fn count_up(&mut self) {
        let value = self.call(|client| client.incr(SHARED, 1));
        let counted = self.told.counter(SHARED);
        value.map_or_else(|| counted.unknown += 1, |value| counted.seen.push(value));
    }

    /// Under the session's numbers: sent again until it is answered.
    fn count_up_exactly(&mut self, number: u64) {
        let key = format!("{}:exact", self.own);
        let command = words(&format!("HOTWARM SEQ {number} INCR {key}"));
        let value: Option<u64> = self.until_answered(|client| command.query(client));
        self.expect(&key, value, number);
        self.told.exact.insert(key, number);
    }

    /// A value that only this worker writes, which it may send again.
    fn keep(&mut self, number: u64) {
        let key = format!("{}:kept", self.own);
        self.until_answered(|client| client.set::<_, _, ()>(&key, number));
        self.told.kept.insert(key.clone(), number.to_string());
        let value = self.until_answered(|client| client.get(&key));
        self.expect(&key, value, number);
    }

    fn count_up_twice(&mut self) {
        let key = format!("{}:twice", self.own);
        let values = self.call(|client| redis::pipe().atomic().incr(&key, 1).incr(&key, 1).query::<(u64, u64)>(client));
        if let Some((first, second)) = values {
            self.expect(&key, Some(second), first + 1);
        }
        let counted = self.told.counter(&key);
        values.map_or_else(|| counted.unknown += 2, |(first, second)| counted.seen.extend([first, second]));
    }

    /// A transaction over a key that all workers write.
    fn count_up_if_unchanged(&mut self) {
        let key = "storm:watched";
        let outcome = self.call(|client| {
            redis::cmd("WATCH").arg(key).query::<()>(client)?;
            let next = client.get::<_, Option<u64>>(key)?.unwrap_or(0) + 1;
            let done: Value = redis::pipe().atomic().set(key, next).query(client)?;
            Ok((done != Value::Nil).then_some(next))
        });
        let counted = self.told.counter(key);
        outcome.map_or_else(|| counted.unknown += 1, |done| counted.seen.extend(done));
    }

    fn expect(&mut self, key: &str, value: Option<u64>, wanted: u64) {
        if value.is_some_and(|value| value != wanted) {
            self.told.errors.push(format!("{key} is {value:?} instead of {wanted}"));
        }
    }

    /// `None` only after an error of the group.
    fn until_answered<T>(&mut self, mut ask: impl FnMut(&mut Connection) -> RedisResult<T>) -> Option<T> {
        let errors = self.told.errors.len();
        loop {
            let answer = self.call(&mut ask);
            if answer.is_some() || self.told.errors.len() > errors {
                return answer;
            }
        }
    }

    /// Asks once. `None`: what was asked may have been done or not.
    fn call<T>(&mut self, ask: impl FnOnce(&mut Connection) -> RedisResult<T>) -> Option<T> {
        let (node, count, mut client) = self.connected()?;
        match ask(&mut client) {
            Ok(answer) => {
                // It goes home as soon as it can.
                if node == self.home || self.outages.living(self.home).0 != self.home {
                    self.client = Some((node, count, client));
                }
                Some(answer)
            }
            Err(error) => self.lost(node, count, &error),
        }
    }

    fn connected(&mut self) -> Option<(usize, u64, Connection)> {
        while self.client.is_none() {
            let (node, count) = self.outages.living(self.home);
            let opened = storm::open(self.fronts[node], self.protocol).and_then(|mut client| {
                words(&self.session).query::<()>(&mut client)?;
                Ok(client)
            });
            match opened {
                Ok(client) => self.client = Some((node, count, client)),
                Err(error) => {
                    let errors = self.told.errors.len();
                    self.lost::<()>(node, count, &error);
                    if self.told.errors.len() > errors {
                        return None;
                    }
                }
            }
        }
        self.client.take()
    }

    fn lost<T>(&mut self, node: usize, count: u64, error: &RedisError) -> Option<T> {
        if error.kind() == ErrorKind::Io && self.outages.count(node) != count {
            self.told.reconnects += 1;
        } else {
            self.told.errors.push(format!("{}, by living node {node}: {error}", self.own));
        }
        None
    }
}
