//! The admin API over a real connection, with a node that only records what it is asked.

use super::status::tests::healthy;
use super::*;
use crate::config::Secret;
use hotwarm_core::register::GroupState;
use hotwarm_types::NodeId;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::Semaphore;

/// A node that answers every request with its state, and remembers the requests.
struct Recording {
    facts: Facts,
    asked: Mutex<Vec<Ask>>,
    refuse: Option<AskRefused>,
    reloads: AtomicU64,
    /// A reload takes a permit, and waits while there is none.
    reload_permits: Semaphore,
}

impl NodeControl for Recording {
    fn facts(&self) -> Facts {
        self.facts.clone()
    }

    fn history(&self) -> Vec<Event> {
        crate::history::merged(self.facts.state.as_ref(), Vec::new())
    }

    fn metrics_text(&self) -> String {
        "hotwarm_epoch 7\n".to_owned()
    }

    fn is_alive(&self) -> bool {
        true
    }

    fn reload(&self) -> Pending<'_, ()> {
        self.reloads.fetch_add(1, Ordering::Relaxed);
        Box::pin(async { self.reload_permits.acquire().await.unwrap().forget() })
    }

    fn follow_clock(&self) -> Pending<'_, Result<ClockFollowed, AskRefused>> {
        let answer = self.refuse.clone().map_or(Ok(ClockFollowed { from_ms: 1_000, to_ms: 3_000 }), Err);
        Box::pin(async move { answer })
    }

    fn ask(&self, ask: Ask) -> Pending<'_, Result<Answer, AskRefused>> {
        self.asked.lock().unwrap().push(ask);
        let state: Option<GroupState> = self.facts.state.clone();
        let answer = match &self.refuse {
            Some(refused) => Err(refused.clone()),
            None => Ok(Answer::State(state.unwrap())),
        };
        Box::pin(async move { answer })
    }
}

struct Served {
    address: SocketAddr,
    control: Arc<Recording>,
    runtime: tokio::runtime::Runtime,
}

impl Served {
    fn new(facts: Facts, refuse: Option<AskRefused>, token: Option<Secret>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let control = Arc::new(Recording {
            facts,
            asked: Mutex::new(Vec::new()),
            refuse,
            reloads: AtomicU64::new(0),
            reload_permits: Semaphore::new(1),
        });
        runtime.spawn(serve(listener, Arc::clone(&control) as Arc<dyn NodeControl>, Access { token }));
        Self { address, control, runtime }
    }

    fn client(&self) -> Client {
        Client::new(self.address, None)
    }

    fn asked(&self) -> Vec<Ask> {
        self.control.asked.lock().unwrap().clone()
    }

    /// Sends bytes as they are and gives the first line of the answer.
    fn raw(&self, request: &[u8]) -> String {
        use std::io::{Read, Write};
        let mut stream = std::net::TcpStream::connect(self.address).unwrap();
        stream.write_all(request).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.lines().next().unwrap_or_default().to_owned()
    }
}

#[test]
fn status_history_and_metrics_are_read() {
    let served = Served::new(healthy(), None, None);
    let status: Status = served.client().get("/status").unwrap();
    assert_eq!(status, Status::of(&healthy()));
    let done: Done = served.client().get("/state").unwrap();
    assert_eq!(Some(done.group_state().unwrap()), healthy().state);
    assert_eq!(served.asked(), [Ask::ReadState]);
    let history: Vec<Event> = served.client().get("/history").unwrap();
    assert_eq!(history[0].event, "promote");
    assert_eq!(served.client().call("GET", "/metrics", b"").unwrap().body, b"hotwarm_epoch 7\n");
}

#[test]
fn checks_answer_by_status_code() {
    let code =
        |facts: Facts, path: &str| Served::new(facts, None, None).client().call("GET", path, b"").unwrap().status;
    assert_eq!(code(healthy(), "/primary"), 200);
    assert_eq!(code(healthy(), "/replica"), 503);
    assert_eq!(code(healthy(), "/readiness"), 200);
    let warm = || Facts { role: Role::Warm, ..healthy() };
    assert_eq!((code(warm(), "/primary"), code(warm(), "/replica")), (503, 200));
    let fenced = || Facts { role: Role::Fenced, serves: false, ..healthy() };
    assert_eq!((code(fenced(), "/health"), code(fenced(), "/liveness")), (503, 200));
    let starting = Facts { serves: false, ..healthy() };
    assert_eq!(code(starting, "/primary"), 503);
    // A hot that lacks a copy still answers what does not write.
    let mut alone = healthy();
    let state = alone.state.as_mut().unwrap();
    state.settings.min_copies = 2;
    state.in_sync.remove(&NodeId(2));
    assert_eq!((code(alone.clone(), "/primary"), code(alone.clone(), "/readiness")), (200, 503));
    let status = Status::of(&alone);
    assert_eq!(status.writes_wait.as_deref(), Some("1 in sync answer, min_copies is 2"));
}

#[test]
fn reloads_that_wait_are_bounded_and_go_on() {
    const COUNT: usize = 40;
    let served = Served::new(healthy(), None, None);
    // None is done before all have asked.
    served.control.reload_permits.forget_permits(1);
    let asking: Vec<_> = (0..COUNT)
        .map(|_| {
            let client = served.client();
            std::thread::spawn(move || client.call("POST", "/reload", b"{}").unwrap().status)
        })
        .collect();
    let began = std::time::Instant::now();
    let refused = || asking.iter().filter(|asking| asking.is_finished()).count();
    while served.control.reloads.load(Ordering::Relaxed) as usize + refused() < COUNT {
        assert!(began.elapsed() < std::time::Duration::from_secs(20), "{} were refused", refused());
        std::thread::yield_now();
    }
    let (waiting, refused) = (served.control.reloads.load(Ordering::Relaxed), refused());
    assert_eq!((waiting, refused), (8, COUNT - 8));
    served.control.reload_permits.add_permits(COUNT);
    let answers: Vec<u16> = asking.into_iter().map(|asking| asking.join().unwrap()).collect();
    assert_eq!(answers.iter().filter(|status| **status == 200).count(), 8);
    assert_eq!(answers.iter().filter(|status| **status == 503).count(), COUNT - 8);
    assert_eq!(served.client().call("POST", "/reload", b"{}").unwrap().status, 200);
}

#[test]
fn a_reload_needs_no_group_and_is_answered_with_the_status_after_it() {
    let fenced = Facts { role: Role::Fenced, serves: false, ..healthy() };
    let served = Served::new(fenced.clone(), None, None);
    let status: Status = served.client().post("/reload", &serde_json::json!({})).unwrap();
    assert_eq!(status, Status::of(&fenced));
    assert_eq!(served.control.reloads.load(Ordering::Relaxed), 1);
    assert_eq!(served.client().call("GET", "/reload", b"").unwrap().status, 405);
    assert_eq!(served.asked(), []);
    let guarded = Served::new(healthy(), None, Some(Secret::new(b"sesame")));
    assert_eq!(guarded.client().call("POST", "/reload", b"").unwrap().status, 401);
    assert_eq!(guarded.control.reloads.load(Ordering::Relaxed), 0);
}

#[test]
fn requests_reach_the_core_as_they_were_meant() {
    let served = Served::new(healthy(), None, None);
    let client = served.client();
    let to = Some("b".to_owned());
    let _: Done = client.post("/switchover", &SwitchoverRequest { to }).unwrap();
    let _: Done = client.post("/pause", &PauseRequest { length_ms: 60_000, reason: "disk".to_owned() }).unwrap();
    let _: Done = client.post("/node/remove", &NameRequest { name: "b".to_owned() }).unwrap();
    let replace = AddRequest { name: "w".to_owned(), address: None, witness: None, priority: Some(7) };
    let done: Done = client.post("/node/replace", &replace).unwrap();
    assert_eq!((done.hot.as_deref(), done.register_version), (Some("a"), Some(31)));
    assert_eq!(Some(done.group_state().unwrap()), healthy().state);
    let asked = served.asked();
    assert_eq!(asked[0], Ask::HandOver { to: Some(NodeId(2)) });
    assert!(matches!(&asked[1], Ask::Pause { reason, .. } if reason == "disk"));
    assert_eq!(asked[2], Ask::Remove { name: "b".to_owned() });
    let Ask::Invite { address, role, priority, .. } = &asked[3] else { panic!("{asked:?}") };
    assert_eq!((address.as_str(), *priority), ("127.0.0.1:7402", 7));
    assert_eq!(*role, hotwarm_core::register::MemberRole::Witness);
}

#[test]
fn settings_are_applied_only_whole_and_sound() {
    let served = Served::new(healthy(), None, None);
    let text = healthy().config.agreed.text();
    let good = ApplyRequest { expected_version: 31, text: text.replace("min_copies = 1", "min_copies = 2") };
    let _: Done = served.client().post("/apply", &good).unwrap();
    let Ask::Apply { settings, changes, .. } = &served.asked()[0] else { panic!() };
    assert_eq!((settings.min_copies, changes.as_str()), (2, "group.main.min_copies: 1 -> 2"));
    let bad = ApplyRequest { expected_version: 31, text: text.replace("min_copies", "mincopies") };
    let error = served.client().post::<Done>("/apply", &bad).unwrap_err();
    assert!(error.to_string().contains("did you mean \"min_copies\"?"), "{error}");
    assert_eq!(served.asked().len(), 1);
}

#[test]
fn a_refusal_says_who_can_and_whether_anything_was_done() {
    let served = Served::new(healthy(), Some(AskRefused::NotHot { hot: Some(NodeId(2)) }), None);
    let CallError::Refused(body) = served.client().post::<Done>("/resume", &()).unwrap_err() else { panic!() };
    assert_eq!((body.kind, body.outcome, body.hot.as_deref()), (ErrorKind::NotHot, Outcome::NotDone, Some("b")));
    let served = Served::new(healthy(), Some(AskRefused::Unknown), None);
    let CallError::Refused(body) = served.client().post::<Done>("/resume", &()).unwrap_err() else { panic!() };
    assert_eq!((body.kind, body.outcome), (ErrorKind::Unknown, Outcome::Unknown));
}

#[test]
fn group_time_follows_the_clock_of_the_hot_alone() {
    let follow = |facts: Facts, refuse: Option<AskRefused>| {
        let served = Served::new(facts, refuse, None);
        served.client().post::<ClockFollowed>("/clock/follow", &serde_json::json!({}))
    };
    assert_eq!(follow(healthy(), None).unwrap(), ClockFollowed { from_ms: 1_000, to_ms: 3_000 });
    let why = "the wall clock is behind".to_owned();
    let error = follow(healthy(), Some(AskRefused::Forbidden { why: why.clone() })).unwrap_err();
    assert!(error.to_string().contains(&why), "{error}");
    let CallError::Refused(body) = follow(Facts { role: Role::Warm, ..healthy() }, None).unwrap_err() else { panic!() };
    assert_eq!((body.kind, body.hot.as_deref()), (ErrorKind::WrongRole, Some("a")));
    assert!(body.error.contains("and a is hot"), "{}", body.error);
}

#[test]
fn a_role_that_does_not_answer_is_not_asked() {
    let served = Served::new(Facts { role: Role::Fenced, ..healthy() }, None, None);
    let error = served.client().post::<Done>("/resume", &()).unwrap_err();
    assert!(error.to_string().contains("a fenced node does not answer /resume"), "{error}");
    assert_eq!(served.asked(), Vec::new());
}

#[test]
fn the_token_is_asked_for_where_there_is_one() {
    let served = Served::new(healthy(), None, Some(Secret::new(b"sesame")));
    assert!(served.client().get::<Status>("/status").is_err());
    let wrong = Client::new(served.address, Some(Secret::new(b"simsim")));
    assert!(wrong.post::<Done>("/leave", &()).is_err());
    assert_eq!(served.asked(), Vec::new());
    let right = Client::new(served.address, Some(Secret::new(b"sesame")));
    assert!(right.get::<Status>("/status").is_ok());
    assert_eq!(served.client().call("GET", "/primary", b"").unwrap().status, 200);
}

#[test]
fn web_pages_and_nonsense_are_turned_away() {
    let served = Served::new(healthy(), None, None);
    for (request, wanted) in [
        ("GET /status HTTP/1.1\r\nhost: 127.0.0.1\r\norigin: http://evil\r\n\r\n", "403"),
        ("GET /status HTTP/1.1\r\nhost: evil.example:7480\r\n\r\n", "403"),
        ("POST /leave HTTP/1.1\r\nhost: localhost\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\n{}", "400"),
        (
            "POST /pause HTTP/1.1\r\nhost: [::1]:1\r\ncontent-type: application/json\r\ncontent-length: 3\r\n\r\n{}}",
            "400",
        ),
        ("POST /status HTTP/1.1\r\nhost: localhost\r\n\r\n", "405"),
        ("GET /nothing HTTP/1.1\r\nhost: localhost\r\n\r\n", "404"),
        (
            "POST /leave HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 300000\r\n\r\n",
            "413",
        ),
        ("\0\0\0\0\r\n\r\n", "400"),
    ] {
        let line = served.raw(request.as_bytes());
        assert!(line.contains(wanted), "{request:?} gave {line:?}, not {wanted}");
    }
    assert_eq!(served.asked(), Vec::new());
    drop(served.runtime);
}
