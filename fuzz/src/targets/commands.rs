//! Commands: requests of one client, planned and run on a small store, and calls as nodes forward them.

use super::{SMALL, led};
use crate::draw::Draw;
use crate::pair::Pair;
use crate::target::{Seed, Target};
use bytes::{Bytes, BytesMut};
use hotwarm_resp::{Reply, ReplyLimits, ReplyParser, RequestParser};
use hotwarm_store::command::{
    COMMANDS as TABLE, Call, ClientState, ConfigError, Context, Instance, Plan, Server, Topology, plan, run,
};
use std::cell::RefCell;

pub(super) const COMMANDS: Target = Target {
    name: "commands",
    run: commands,
    seeds: command_seeds,
    words: command_words,
    memory_base_bytes: 8 << 20,
    ..SMALL
};
pub(super) const CALL: Target =
    Target { name: "call", run: call, seeds: call_seeds, words: command_words, memory_base_bytes: 8 << 20, ..SMALL };

/// Requests of one input that are carried out; the others are read and left.
const REQUESTS_MAX: usize = 48;

/// A node that agrees to everything, with a password if it is given one.
#[derive(Default)]
struct Agreeable {
    has_password: bool,
    maxmemory: RefCell<String>,
}

impl Server for Agreeable {
    fn password_required(&self) -> bool {
        self.has_password
    }

    fn authenticate(&self, user: &[u8], password: &[u8]) -> bool {
        user == b"default" && (!self.has_password || password == b"secret")
    }

    fn is_hot(&self) -> bool {
        true
    }

    fn info(&self, sections: &[String]) -> String {
        format!("# Server\r\nsections:{}\r\n", sections.join(","))
    }

    fn role(&self) -> Reply {
        Reply::Array(vec![Reply::word("master"), Reply::Integer(0), Reply::Array(Vec::new())])
    }

    fn client_list(&self) -> String {
        "id=1\n".to_owned()
    }

    fn config(&self) -> Vec<(String, String)> {
        vec![("maxmemory".to_owned(), self.maxmemory.borrow().clone()), ("save".to_owned(), String::new())]
    }

    fn set_config(&self, settings: &[(String, String)]) -> Result<(), ConfigError> {
        match settings.iter().find(|(name, _)| name != "maxmemory") {
            Some((name, _)) => Err(ConfigError::Unknown { name: name.clone() }),
            None => {
                self.maxmemory.replace(settings.last().map(|(_, value)| value.clone()).unwrap_or_default());
                Ok(())
            }
        }
    }

    fn reset_statistics(&self) {}

    fn topology(&self) -> Topology {
        let hot = Instance { host: "10.0.0.1".to_owned(), port: 6379, reached: true, ..Instance::default() };
        let others = vec![Instance { host: "10.0.0.2".to_owned(), port: 6380, ..Instance::default() }];
        Topology { group: "main".to_owned(), hot: Some(hot), warms: others.clone(), others, epoch: 7, majority: 2 }
    }
}

/// One client of a pair of nodes.
struct Conversation {
    pair: Pair,
    context: Context,
    client: ClientState,
    server: Agreeable,
    now_ms: u64,
}

impl Conversation {
    fn new(has_password: bool) -> Self {
        Self {
            pair: Pair::new(),
            context: Context::default(),
            client: ClientState::new(7, "127.0.0.1:5000".to_owned()),
            server: Agreeable { has_password, ..Agreeable::default() },
            now_ms: 1_000_000,
        }
    }

    /// The answer to a request, and whether the connection is closed with it.
    fn answer(&mut self, args: Vec<Bytes>) -> (Reply, bool) {
        self.now_ms += 50;
        let reply = match plan(&mut self.client, &self.server, args) {
            Plan::Reply(reply) => reply,
            Plan::Close(reply) => return (reply, true),
            Plan::Read(call) => self.read(&call),
            Plan::Write(call) => self.write(&call),
            Plan::Watch(call) => {
                let reply = self.read(&call);
                self.client.watched(&call, &reply)
            }
            Plan::Session { session, .. } => {
                let mut execution = self.pair.hot.begin(self.now_ms);
                execution.open_session(session);
                execution.finish(None, b"").expect("a session can be opened");
                Reply::ok()
            }
            Plan::Wait { replicas, .. } => Reply::Integer(i64::try_from(replicas).unwrap_or(i64::MAX)),
        };
        self.pair.settle();
        (reply, false)
    }

    /// Runs a call that only reads. Where it has found a key expired that the log does not know to be, the hot runs it as
    /// a write.
    fn read(&mut self, call: &Call) -> Reply {
        let at = self.pair.hot.end();
        let mut view = self.pair.hot.view_at_least(self.now_ms, at);
        let reply = run(call, &self.context, &mut view);
        let seen = view.finish().expect("a tree in memory can be read");
        if seen.judged_expired { self.write(call) } else { reply }
    }

    /// Runs a call by way of its encoded form, as on another node.
    fn write(&mut self, call: &Call) -> Reply {
        let bytes = call.encode();
        let call = &Call::decode(&bytes).expect("what a plan has made can be forwarded");
        assert!(call.encode() == bytes && bytes.len() <= call.size_bytes());
        let mut execution = self.pair.hot.begin(self.now_ms);
        let reply = run(call, &self.context, &mut execution);
        let mut kept = BytesMut::new();
        reply.encode(&mut kept);
        match execution.finish(call.identity(), &kept) {
            Ok(_) => reply,
            Err(error) => Reply::error(format!("ERR {error}")),
        }
    }
}

fn commands(input: &[u8]) {
    let mut draw = Draw::new(input);
    let mut conversation = Conversation::new(draw.below(4) == 3);
    let mut parser = RequestParser::new(conversation.client.limits(&conversation.server));
    let mut buffer = BytesMut::from(draw.rest());
    let mut written = BytesMut::new();
    let mut count = 0;
    while count < REQUESTS_MAX {
        let (reply, last) = match parser.next(&mut buffer) {
            Ok(Some(args)) => conversation.answer(args),
            Ok(None) => break,
            Err(error) => (error.into(), true),
        };
        reply.write(conversation.client.protocol(), &mut written);
        count += 1;
        if last {
            break;
        }
        parser.set_limits(conversation.client.limits(&conversation.server));
    }
    assert_eq!(conversation.client.line().lines().count(), 1);
    conversation.pair.agree();
    let mut replies = ReplyParser::new(ReplyLimits::default());
    for number in 0..count {
        let reply = replies.next(&mut written);
        assert!(matches!(reply, Ok(Some(_))), "reply {number} of {count} is {reply:?}");
    }
    assert!(written.is_empty(), "{count} requests have more replies");
}

fn call(input: &[u8]) {
    let bytes = Bytes::copy_from_slice(input);
    let call = match Call::decode(&bytes) {
        Ok(call) => call,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    assert_eq!(call.encode(), bytes, "a call has one encoding");
    let keys: usize = call.keys().iter().map(|key| key.len()).sum();
    assert!(keys <= input.len() && call.size_bytes() >= input.len() && !call.name().is_empty());
    let mut conversation = Conversation::new(false);
    let reply = if call.is_write() { conversation.write(&call) } else { conversation.read(&call) };
    assert!(reply.size_bytes() > 0);
    conversation.pair.agree();
}

/// Requests as lines, which a search can change more easily than lengths.
fn command_seeds() -> Vec<Seed> {
    let conversations: [(&str, &str); 9] = [
        ("strings", "SET k v EX 10\nGET k\nAPPEND k x\nGETRANGE k 0 -1\nSETRANGE k 3 y\nSTRLEN k\nGETDEL k\n"),
        ("numbers", "INCR n\nINCRBY n 9\nDECRBY n 3\nINCRBYFLOAT n 1.5e2\nSET n 9223372036854775807\nINCR n\n"),
        ("many keys", "MSET a 1 b 2 c 3\nMGET a b x\nDEL a b\nEXISTS c c\nMSETNX c 1 d 2\nRENAME c e\nKEYS *\n"),
        ("expiry", "SET k v PX 60\nPEXPIRE k 90 NX\nPTTL k\nPERSIST k\nEXPIREAT k 1\nGET k\nTIME\nEXPIRETIME k\n"),
        ("walks", "MSET aa 1 ab 2 ba 3\nSCAN 0 MATCH a* COUNT 1\nSCAN 1\nRANDOMKEY\nDBSIZE\nFLUSHALL\nDBSIZE\n"),
        ("transaction", "WATCH k\nMULTI\nSET k 1\nGET k\nPING\nEXEC\nMULTI\nNOSUCH\nEXEC\nMULTI\nDISCARD\nUNWATCH\n"),
        ("session", "HOTWARM SESSION s\nHOTWARM SEQ 1 SET k v\nHOTWARM SEQ 1 SET k v\nHOTWARM HELP\nWAIT 1 10\n"),
        (
            "connection",
            "HELLO 3 SETNAME me\nCLIENT INFO\nCLIENT LIST\nCOMMAND DOCS get\nCOMMAND COUNT\nINFO\nRESET\nQUIT\n",
        ),
        (
            "server",
            "CONFIG GET m*\nCONFIG SET maxmemory 1\nROLE\nSENTINEL masters\nSENTINEL get-master-addr-by-name main\nECHO hi\n",
        ),
    ];
    let mut seeds: Vec<Seed> =
        conversations.into_iter().map(|(name, lines)| (name, led(&[0], lines.as_bytes()))).collect();
    let array = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$2\r\n\r\n\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\n*1\r\n$6\r\nno\r\nsu\r\n";
    seeds.push(("arrays", led(&[0], array)));
    seeds
        .push(("password", led(&[3], b"GET k\nAUTH wrong\nAUTH default secret\nHELLO 3 AUTH default secret\nGET k\n")));
    seeds.push(("browser", led(&[0], b"PING\nPOST / HTTP/1.1\r\nHost: x\r\n\r\n")));
    seeds
}

fn call_seeds() -> Vec<Seed> {
    let list = |args: &[&str]| {
        let mut out = (args.len() as u32).to_le_bytes().to_vec();
        for arg in args {
            out.extend_from_slice(&(arg.len() as u32).to_le_bytes());
            out.extend_from_slice(arg.as_bytes());
        }
        out
    };
    let mut transaction = led(&[1, 1, 0], &1_u32.to_le_bytes());
    transaction.extend_from_slice(&[0; 9]);
    transaction.extend_from_slice(&led(&1_u32.to_le_bytes(), b"k"));
    transaction.extend_from_slice(&2_u32.to_le_bytes());
    transaction.extend_from_slice(&list(&["set", "k", "1"]));
    transaction.extend_from_slice(&list(&["ping"]));
    let mut identified = vec![1, 0, 1];
    identified.extend_from_slice(&[0; 24]);
    identified.extend_from_slice(&list(&["incr", "n"]));
    vec![
        ("get", led(&[1, 0, 0], &list(&["get", "k"]))),
        ("mset", led(&[1, 0, 0], &list(&["MSET", "a", "1", "b", "2"]))),
        ("scan", led(&[1, 0, 0], &list(&["scan", "0", "match", "a*"]))),
        ("watch", led(&[1, 2, 0], &list(&["a", "b"]))),
        ("transaction", transaction),
        ("identified", identified),
    ]
}

fn command_words() -> Vec<String> {
    let options = [
        "EX",
        "PX",
        "EXAT",
        "PXAT",
        "NX",
        "XX",
        "GT",
        "LT",
        "GET",
        "KEEPTTL",
        "MATCH",
        "COUNT",
        "TYPE",
        "SETNAME",
        "AUTH",
        "WITHVALUES",
        "LIBNAME",
        "SETINFO",
        "-1",
        "9223372036854775807",
        "\"\\x00\\r\\n\"",
        "1e308",
    ];
    TABLE.iter().map(|command| command.name).chain(options).map(str::to_owned).collect()
}
