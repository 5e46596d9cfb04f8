//! The admin API: the bytes of one connection, answered by a node that only notes what it is asked.

use super::{SMALL, led};
use crate::draw::Draw;
use crate::sample;
use crate::target::{Seed, Target};
use hotwarm_core::{Answer, Ask, AskRefused};
use hotwarm_node::admin::{Access, ClockFollowed, Facts, NodeControl, Pending, Role, serve_connection};
use hotwarm_node::config::{Config, File};
use hotwarm_node::history::{Event, merged};
use hotwarm_types::{EntryId, Epoch, Incarnation, Lsn, NodeId};
use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::runtime::{Builder, Runtime};

pub(super) const ADMIN: Target = Target { name: "admin", run, seeds, words, memory_base_bytes: 4 << 20, ..SMALL };

/// Bytes that a connection carries before its other end must read.
const PIPE_SIZE_BYTES: usize = 1 << 20;

static CONFIG: LazyLock<Arc<Config>> = LazyLock::new(|| {
    let file = File::parse(sample::CONFIG, Path::new("hotwarm.toml")).expect("the example is right");
    Arc::new(file.for_node("a", "--node").expect("the example has a node a"))
});

thread_local! {
    static RUNTIME: Runtime = Builder::new_current_thread().enable_time().build().expect("a runtime can be made");
}

/// A node that answers every request with its state, and notes what was asked.
struct Noting {
    role: Role,
    asked: Mutex<Vec<Ask>>,
}

impl NodeControl for Noting {
    fn facts(&self) -> Facts {
        let mut state = sample::state();
        state.settings = CONFIG.agreed.settings();
        Facts {
            config: CONFIG.clone(),
            now_ms: 1_700_000_000_000,
            file_read_ms: 0,
            state: Some(state),
            me: Some(NodeId(1)),
            incarnation: Incarnation { start: 3, nonce: 9 },
            role: self.role,
            phase: "serving".to_owned(),
            serves: true,
            fence: None,
            durable: EntryId { epoch: Epoch(7), lsn: Lsn(40) },
            committed: Lsn(40),
            applied: Lsn(40),
            visible: Lsn(40),
            lease_held: true,
            guardian: true,
            throttled: false,
            clock_step_ms: None,
            held: 0,
            clients: 3,
            links: [].into(),
            sync: None,
            complaints: Vec::new(),
        }
    }

    fn history(&self) -> Vec<Event> {
        merged(Some(&sample::state()), Vec::new())
    }

    fn metrics_text(&self) -> String {
        "hotwarm_epoch 7\n".to_owned()
    }

    fn is_alive(&self) -> bool {
        true
    }

    fn reload(&self) -> Pending<'_, ()> {
        Box::pin(async {})
    }

    fn follow_clock(&self) -> Pending<'_, Result<ClockFollowed, AskRefused>> {
        Box::pin(async { Ok(ClockFollowed { from_ms: 1_000, to_ms: 3_000 }) })
    }

    fn ask(&self, ask: Ask) -> Pending<'_, Result<Answer, AskRefused>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).push(ask);
        Box::pin(async { Ok(Answer::State(sample::state())) })
    }
}

/// The first byte chooses the node's role; bit 3 of it, that the input is only the body of a change, whose route is the
/// second byte.
fn run(input: &[u8]) {
    let mut draw = Draw::new(input);
    let lead = draw.u8();
    let role = Role::ALL[usize::from(lead & 7) % Role::ALL.len()];
    let request = if lead & 8 == 0 { draw.rest().to_vec() } else { change(&mut draw) };
    let control = Arc::new(Noting { role, asked: Mutex::new(Vec::new()) });
    let answer = RUNTIME.with(|runtime| runtime.block_on(exchange(control.clone(), &request)));
    let asked = control.asked.lock().unwrap_or_else(PoisonError::into_inner);
    // A client of HTTP/1.0 is answered as one.
    let begins = |part: &[u8]| part.starts_with(b"HTTP/1.1 ") || part.starts_with(b"HTTP/1.0 ");
    let starts = answer.windows(9).filter(|part| begins(part)).count();
    assert!(starts <= 2, "more than an answer and a \"continue\" to one request");
    assert!(asked.len() <= 1, "one request has asked for {asked:?}");
    if !asked.is_empty() {
        assert!(request.starts_with(b"POST ") || asked[..] == [Ask::ReadState], "{asked:?} was asked by no POST");
        assert!(begins(&answer) && answer[8..].starts_with(b" 200 "), "what was done was not answered");
    }
}

/// The routes that change something.
const CHANGES: [&str; 10] = [
    "/switchover",
    "/pause",
    "/resume",
    "/clock/follow",
    "/apply",
    "/promote",
    "/node/add",
    "/node/remove",
    "/node/replace",
    "/leave",
];

fn change(draw: &mut Draw<'_>) -> Vec<u8> {
    let route = draw.pick(&CHANGES);
    let body = draw.rest();
    let head = format!(
        "POST {route} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// Sends everything, then closes; gives all that came back.
async fn exchange(control: Arc<Noting>, request: &[u8]) -> Vec<u8> {
    let (mut near, far) = duplex(PIPE_SIZE_BYTES);
    let mut answer = Vec::new();
    let client = async {
        // A server that has refused the request need not read the rest of it.
        let _ = near.write_all(request).await;
        let _ = near.shutdown().await;
        let _ = near.read_to_end(&mut answer).await;
    };
    tokio::join!(client, serve_connection(far, control, Access::default()));
    answer
}

fn seeds() -> Vec<Seed> {
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: 127.0.0.1:7500\r\n\r\n");
    let body = |route: u8, json: &str| led(&[8, route], json.as_bytes());
    let apply = serde_json::json!({ "expected_version": 31, "text": CONFIG.agreed.text() }).to_string();
    vec![
        ("status", led(&[0], get("/status").as_bytes())),
        ("state", led(&[0], get("/state").as_bytes())),
        ("history", led(&[1], get("/history").as_bytes())),
        ("metrics", led(&[0], get("/metrics").as_bytes())),
        ("primary", led(&[2], get("/primary").as_bytes())),
        ("readiness", led(&[4], get("/readiness").as_bytes())),
        ("nowhere", led(&[0], get("/nowhere").as_bytes())),
        ("web page", led(&[0], b"POST /leave HTTP/1.1\r\nhost: a\r\norigin: http://x\r\ncontent-length: 0\r\n\r\n")),
        (
            "chunked",
            led(&[0], b"POST /leave HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"),
        ),
        ("switchover", body(0, r#"{"to":"b"}"#)),
        ("pause", body(1, r#"{"length_ms":60000,"reason":"disk"}"#)),
        ("resume", body(2, "{}")),
        ("apply", body(4, &apply)),
        ("promote", led(&[9, 5], br#"{"statement":"powered off"}"#)),
        ("node add", body(6, r#"{"name":"d","address":"d.lan:7400","witness":false,"priority":5}"#)),
        ("node remove", body(7, r#"{"name":"c"}"#)),
        ("node replace", body(8, r#"{"name":"b"}"#)),
        ("leave", body(9, "")),
    ]
}

fn words() -> Vec<String> {
    [
        "GET ",
        "POST ",
        "HEAD ",
        " HTTP/1.1\r\n",
        "\r\n\r\n",
        "content-length: ",
        "transfer-encoding: chunked",
        "content-type: application/json",
        "host: localhost",
        "expect: 100-continue",
        "authorization: Bearer ",
        "\"expected_version\":",
        "\"text\":",
        "\"name\":",
        "\"address\":",
        "\"witness\":true",
        "\"priority\":",
        "\"statement\":",
        "\"length_ms\":604800000",
        "\"reason\":",
        "\"to\":",
        "1e400",
    ]
    .map(str::to_owned)
    .into_iter()
    .chain(CHANGES.map(str::to_owned))
    .collect()
}
