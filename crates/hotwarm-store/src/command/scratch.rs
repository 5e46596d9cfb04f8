use super::testing::{Session, show};
use super::*;
use bytes::{Bytes, BytesMut};
use hotwarm_resp::{Reply, ReplyLimits, ReplyParser, write_request};
use std::io::{Read, Write};
use std::net::TcpStream;

struct Redis { socket: TcpStream, parser: ReplyParser, buffer: BytesMut }
impl Redis {
    fn call(&mut self, args: &[Bytes]) -> Reply {
        let mut out = BytesMut::new();
        write_request(args, &mut out);
        self.socket.write_all(&out).unwrap();
        loop {
            if let Some(reply) = self.parser.next(&mut self.buffer).unwrap() { return reply; }
            let mut chunk = [0; 65536];
            let n = self.socket.read(&mut chunk).unwrap();
            assert!(n > 0);
            self.buffer.extend_from_slice(&chunk[..n]);
        }
    }
}
struct Rng(u64);
impl Rng {
    fn next(&mut self) -> u64 { self.0 ^= self.0 << 13; self.0 ^= self.0 >> 7; self.0 ^= self.0 << 17; self.0 }
    fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str { of[(self.next() % of.len() as u64) as usize] }
}
fn request(rng: &mut Rng) -> Vec<String> {
    let key = |r: &mut Rng| r.pick(&["a", "b", "c", "dd", "a-b", "e", "x]y", "^z", "a\\b"]).to_owned();
    let int = |r: &mut Rng| r.pick(&["0", "1", "-1", "5", "-7", "10", "100", "x", "", "+1", "01", "1.5", "9223372036854775807", "-9223372036854775808", "9223372036854775808", " 1", "3"]).to_owned();
    let ttl = |r: &mut Rng| r.pick(&["0", "-1", "7000000", "100000", "1000000", "4000000000", "4000000000000", "x", "9223372036854775807", "9223372036854775", "-9223372036854775808", "1.5"]).to_owned();
    let value = |r: &mut Rng| r.pick(&["", "v", "10", "hello world", "9223372036854775807", "1.5", "-3", "3.0e1", "nan", "inf", "007", "-0", "0.1", "abc\r\nd"]).to_owned();
    let float = |r: &mut Rng| r.pick(&["0", "1", "-1", "0.1", "0.25", "-3.75", "1e2", "1e-3", "5.", ".5", "+1", "nan", "inf", "-inf", "x", "", " 1", "1 ", "1e400000", "1e-18", "1e-17", "0.00000000000000001", "1_0", "infinity", "1e", "--1", "1e+2", "-0"]).to_owned();
    let pattern = |r: &mut Rng| { let n = r.next() % 6; (0..n).map(|_| r.pick(&["a", "b", "*", "?", "[", "]", "^", "-", "\\", "x", "d"])).collect::<String>() };
    let mut v: Vec<String> = vec![];
    let name = |v: &mut Vec<String>, s: &str| v.push(s.to_owned());
    match rng.next() % 62 {
        0..=7 => { name(&mut v, "SET"); v.push(key(rng)); v.push(value(rng));
            for _ in 0..rng.next() % 4 { let o = rng.pick(&["NX", "XX", "GET", "KEEPTTL", "EX", "PX", "EXAT", "PXAT", "PERSIST", "ex", "foo", "px"]); v.push(o.to_owned());
                if o.to_uppercase().starts_with("EX") || o.to_uppercase().starts_with("PX") { if rng.next() % 8 > 0 { v.push(ttl(rng)); } } } }
        8..=10 => { name(&mut v, "GETEX"); v.push(key(rng));
            for _ in 0..rng.next() % 3 { let o = rng.pick(&["PERSIST", "EX", "PX", "EXAT", "PXAT", "NX", "KEEPTTL"]); v.push(o.to_owned());
                if o.starts_with("EX") || o.starts_with("PX") { if rng.next() % 8 > 0 { v.push(ttl(rng)); } } } }
        11 => { name(&mut v, "GET"); v.push(key(rng)); }
        12 => { name(&mut v, rng.pick(&["SETNX", "GETSET", "APPEND"])); v.push(key(rng)); v.push(value(rng)); }
        13 => { name(&mut v, rng.pick(&["SETEX", "PSETEX"])); v.push(key(rng)); v.push(ttl(rng)); v.push(value(rng)); }
        14 => { name(&mut v, rng.pick(&["MGET", "DEL", "UNLINK", "EXISTS", "TOUCH"])); for _ in 0..1 + rng.next() % 3 { v.push(key(rng)); } }
        15 => { name(&mut v, rng.pick(&["MSET", "MSETNX"])); for _ in 0..2 + rng.next() % 5 { v.push(key(rng)); } }
        16 => { name(&mut v, rng.pick(&["GETDEL", "STRLEN", "TYPE", "INCR", "DECR", "PERSIST"])); v.push(key(rng)); }
        17..=19 => { name(&mut v, rng.pick(&["GETRANGE", "SUBSTR"])); v.push(key(rng)); v.push(int(rng)); v.push(int(rng)); }
        20..=21 => { name(&mut v, "SETRANGE"); v.push(key(rng)); v.push(rng.pick(&["0", "1", "-1", "5", "20", "x", "9223372036854775807"]).to_owned()); v.push(value(rng)); }
        22..=25 => { name(&mut v, rng.pick(&["INCRBY", "DECRBY"])); v.push(key(rng)); v.push(int(rng)); }
        26..=30 => { name(&mut v, "INCRBYFLOAT"); v.push(key(rng)); v.push(float(rng)); }
        31..=36 => { name(&mut v, rng.pick(&["EXPIRE", "PEXPIRE", "EXPIREAT", "PEXPIREAT"])); v.push(key(rng)); v.push(ttl(rng)); for _ in 0..rng.next() % 3 { v.push(rng.pick(&["NX", "XX", "GT", "LT", "gt", "foo"]).to_owned()); } }
        37..=39 => { name(&mut v, rng.pick(&["TTL", "PTTL", "EXPIRETIME", "PEXPIRETIME"])); v.push(key(rng)); }
        40..=41 => { name(&mut v, rng.pick(&["RENAME", "RENAMENX"])); v.push(key(rng)); v.push(key(rng)); }
        42..=46 => { name(&mut v, "KEYS"); v.push(pattern(rng)); }
        47..=48 => { name(&mut v, "SCAN"); v.push("0".into()); name(&mut v, "COUNT"); name(&mut v, "1000"); if rng.next() % 2 == 0 { name(&mut v, "MATCH"); v.push(pattern(rng)); } if rng.next() % 4 == 0 { name(&mut v, "TYPE"); v.push(rng.pick(&["string", "STRING", "list", "foo"]).to_owned()); } }
        49 => { name(&mut v, "PING"); }
        50..=51 => { name(&mut v, "MULTI"); }
        52..=53 => { name(&mut v, "EXEC"); }
        54 => { name(&mut v, rng.pick(&["DISCARD", "UNWATCH", "EXEC", "RESET"])); }
        55..=56 => { name(&mut v, "WATCH"); v.push(key(rng)); if rng.next() % 2 == 0 { v.push(key(rng)); } }
        57 => { name(&mut v, rng.pick(&["FLUSHALL", "FLUSHDB", "NOSUCH", "GET", "SET", "PING", "ECHO", "EXPIRE"])); if rng.next() % 3 == 0 { v.push(rng.pick(&["x", "ASYNC", "SYNC"]).to_owned()); } }
        58 => { name(&mut v, "SELECT"); v.push(rng.pick(&["0", "x", "99", "-1"]).to_owned()); }
        59 => { name(&mut v, "CLIENT"); v.push(rng.pick(&["GETNAME", "setname", "FOO"]).to_owned()); if rng.next() % 3 > 0 { v.push(rng.pick(&["", "n", "a b"]).to_owned()); } }
        60 => { name(&mut v, "HELLO"); v.push(rng.pick(&["2", "3", "4", "x"]).to_owned()); if rng.next() % 3 == 0 { v.push(rng.pick(&["SETNAME", "AUTH", "foo"]).to_owned()); v.push("q".into()); } }
        _ => { name(&mut v, "PING"); v.push(value(rng)); }
    }
    v
}
fn sorted(reply: Reply) -> Reply {
    match reply { Reply::Array(items) => { let mut items: Vec<Reply> = items.into_iter().map(sorted).collect(); items.sort_by_key(show); Reply::Array(items) } other => other }
}
fn near(a: &Reply, b: &Reply) -> bool {
    match (a, b) {
        (Reply::Integer(a), Reply::Integer(b)) => (a - b).abs() <= 60 || *a > 8_000_000_000_000_000 ,
        (Reply::Array(a), Reply::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| near(a, b)),
        _ => a == b,
    }
}
#[test]
fn against_redis() {
    let Ok(port) = std::env::var("HW_REDIS") else { return };
    let socket = TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
    socket.set_nodelay(true).unwrap();
    let mut redis = Redis { socket, parser: ReplyParser::new(ReplyLimits::default()), buffer: BytesMut::new() };
    let seed: u64 = std::env::var("HW_SEED").map_or(1, |s| s.parse().unwrap());
    let mut rng = Rng(seed.wrapping_mul(0x9e3779b97f4a7c15) | 1);
    redis.call(&[Bytes::from_static(b"FLUSHALL")]);
    redis.call(&[Bytes::from_static(b"RESET")]);
    let mut session = Session::new();
    let mut bad = 0;
    let mut recent: Vec<String> = vec![];
    let mut in_multi = false;
    for step in 0..200_000 {
        let words = request(&mut rng);
        let args: Vec<Bytes> = words.iter().map(|w| Bytes::copy_from_slice(w.as_bytes())).collect();
        session.keys.now_ms = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as u64;
        if words[0] == "CLIENT" && in_multi { continue; }
        let theirs = redis.call(&args);
        if words[0] == "MULTI" { in_multi = true; }
        if (words[0] == "HELLO" || words[0] == "CLIENT") && in_multi && theirs == Reply::simple("QUEUED") {
            redis.call(&[Bytes::from_static(b"RESET")]); session.call("reset"); in_multi = false; continue;
        }
        let ours = {
            use super::plan::{Plan, plan};
            match plan(&mut session.client, &session.server, args.clone()) {
                Plan::Reply(r) | Plan::Close(r) => r,
                Plan::Read(c) | Plan::Write(c) => run(&Call::decode(&c.encode()).unwrap(), &session.context, &mut session.keys),
                Plan::Watch(c) => { let r = run(&c, &session.context, &mut session.keys); session.client.watched(&c, &r) }
                other => panic!("{other:?}"),
            }
        };
        if words[0] == "EXEC" || words[0] == "DISCARD" || words[0] == "RESET" { in_multi = false; }
        let mut out = BytesMut::new();
        ours.write(session.client.protocol(), &mut out);
        let ours = ReplyParser::new(ReplyLimits::default()).next(&mut out).unwrap().unwrap();
        let unordered = matches!(words[0].as_str(), "KEYS" | "SCAN" | "EXEC");
        let (a, b) = if unordered { (sorted(ours), sorted(theirs)) } else { (ours, theirs) };
        recent.push(format!("{words:?} ours {} redis {}", show(&a), show(&b)));
        if recent.len() > 60 { recent.remove(0); }
        let timed = words[0].contains("TTL") || words[0].contains("EXPIRETIME") || words[0] == "EXEC";
        let ok = a == b || timed && near(&a, &b) || words[0] == "HELLO" && !b.is_error() || (show(&a)+&show(&b)).contains("922337203685477") || words[0] == "INCRBYFLOAT" && show(&b).len() > 17;
        if ok && a != b && words[0] == "INCRBYFLOAT" { redis.call(&[Bytes::from_static(b"SET"), args[1].clone(), Bytes::from_static(b"0")]); session.call("reset"); session.keys.set(&words[1], "0"); }
        if !ok {
            bad += 1;
            println!("step {step} {words:?}\n   ours  {}\n   redis {}", show(&a), show(&b));
            if words[0] != "KEYS" || std::env::var("HW_TRACE").is_ok() { for r in recent.iter().rev().take(60).rev() { println!("      {r}"); } }
            redis.call(&[Bytes::from_static(b"RESET")]); session.call("reset"); in_multi = false;
            redis.call(&[Bytes::from_static(b"FLUSHALL")]); session.call("flushall");
            if bad > 25 { break; }
        }
    }
    println!("{bad} differences");
}
