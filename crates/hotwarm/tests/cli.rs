//! The program as an operator's shell meets it: arguments in, output and exit codes out, against a node that only
//! answers.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

use hotwarm_core::register::{GroupState, Member, ProposalId};
use hotwarm_core::{Answer, Ask, AskRefused};
use hotwarm_node::admin::{Access, Facts, LinkFacts, NodeControl, Pending, Role, serve};
use hotwarm_node::config::{Config, load};
use hotwarm_node::history::{Event, merged};
use hotwarm_types::{ClusterId, EntryId, Epoch, FolderId, GroupId, Incarnation, Lsn, NodeId, Reign, Version};
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};

fn hotwarm(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hotwarm"))
        .args(args)
        .env_remove("HOTWARM_ADMIN")
        .env_remove("HOTWARM_CONFIG")
        .env_remove("HOTWARM_NODE")
        .output()
        .unwrap()
}

fn code_and_text(output: &Output) -> (i32, String) {
    let text = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    (output.status.code().unwrap(), String::from_utf8(text).unwrap())
}

/// Makes a group of two nodes and a witness on this machine; gives the path of its configuration.
fn init(out: &Path) -> String {
    let out = out.join("shop");
    let args = ["--node", "a=127.0.0.1:7400", "--node", "b=127.0.0.1:7401", "--witness", "w=127.0.0.1:7402"];
    let made = hotwarm(&[&["init", "--name", "shop", "--out", out.to_str().unwrap()], &args[..]].concat());
    let (code, text) = code_and_text(&made);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("hotwarm run --config"), "{text}");
    out.join("hotwarm.toml").to_str().unwrap().to_owned()
}

/// A node that shows a healthy group and does what it is asked, or refuses all.
struct Answering {
    facts: Facts,
    refuse: Option<AskRefused>,
    asked: Mutex<Vec<Ask>>,
}

impl NodeControl for Answering {
    fn facts(&self) -> Facts {
        self.facts.clone()
    }

    fn history(&self) -> Vec<Event> {
        merged(self.facts.state.as_ref(), Vec::new())
    }

    fn metrics_text(&self) -> String {
        String::new()
    }

    fn is_alive(&self) -> bool {
        true
    }

    fn ask(&self, ask: Ask) -> Pending<'_, Result<Answer, AskRefused>> {
        self.asked.lock().unwrap().push(ask);
        let state: GroupState = self.facts.state.clone().unwrap();
        let answer = self.refuse.clone().map_or(Ok(Answer::State(state)), Err);
        Box::pin(async move { answer })
    }
}

fn facts(config: Config, role: Role) -> Facts {
    let members: BTreeMap<NodeId, Member> = (1..)
        .zip(&config.nodes)
        .map(|(id, node)| {
            let (name, address) = (node.name.clone(), node.address.clone());
            let folder = FolderId(u128::from(id));
            (NodeId(id), Member { name, folder, address, role: node.role, priority: node.priority })
        })
        .collect();
    let state = GroupState {
        cluster: ClusterId(1),
        group: GroupId(1),
        version: Version(31),
        proposal: ProposalId::default(),
        reign: Reign { epoch: Epoch(7), node: NodeId(1), incarnation: Incarnation::default() },
        lossy_epoch: None,
        in_sync: [NodeId(1), NodeId(2)].into(),
        members,
        members_version: Version(1),
        invited: BTreeMap::new(),
        next_node: NodeId(4),
        settings: config.agreed.settings(),
        pause: None,
        changes: VecDeque::new(),
    };
    let link = LinkFacts { connected: true, heard_ms: Some(12), durable: Some(Lsn(1040)), ..LinkFacts::default() };
    Facts {
        config: Arc::new(config),
        now_ms: 1_700_000_000_000,
        state: Some(state),
        me: Some(NodeId(1)),
        incarnation: Incarnation::default(),
        role,
        phase: "serving".to_owned(),
        serves: true,
        fence: None,
        durable: EntryId { epoch: Epoch(7), lsn: Lsn(1042) },
        committed: Lsn(1040),
        applied: Lsn(1040),
        lease_held: true,
        guardian: true,
        throttled: false,
        held: 0,
        clients: 0,
        links: [(NodeId(2), link.clone()), (NodeId(3), link)].into(),
        sync: None,
        complaints: Vec::new(),
    }
}

struct Node {
    address: SocketAddr,
    control: Arc<Answering>,
    _runtime: tokio::runtime::Runtime,
}

fn node(config: &str, role: Role, refuse: Option<AskRefused>) -> Node {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    let facts = facts(load(Path::new(config), Some("a")).unwrap(), role);
    let control = Arc::new(Answering { facts, refuse, asked: Mutex::new(Vec::new()) });
    runtime.spawn(serve(listener, Arc::clone(&control) as Arc<dyn NodeControl>, Access::default()));
    Node { address, control, _runtime: runtime }
}

impl Node {
    fn run(&self, args: &[&str]) -> (i32, String) {
        code_and_text(&hotwarm(&[args, &["--admin", &self.address.to_string()]].concat()))
    }
}

#[test]
fn init_writes_a_group_that_check_finds_sound_and_never_twice() {
    let folder = tempfile::tempdir().unwrap();
    let config = init(folder.path());
    let (code, text) = code_and_text(&hotwarm(&["check", "--config", &config]));
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("is sound: cluster shop, group main"), "{text}");
    let out = folder.path().join("shop");
    let (code, text) =
        code_and_text(&hotwarm(&["init", "--name", "x", "--node", "a=h:1", "--out", out.to_str().unwrap()]));
    assert_eq!(code, 2, "{text}");
    assert!(text.starts_with("hotwarm: ") && text.contains("exists"), "{text}");
}

#[test]
fn a_faulty_file_is_a_true_no_and_a_missing_one_a_failure() {
    let folder = tempfile::tempdir().unwrap();
    let config = init(folder.path());
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("min_copies", "mincopies")).unwrap();
    let (code, text) = code_and_text(&hotwarm(&["check", "--config", &config]));
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("did you mean \"min_copies\"?"), "{text}");
    let (code, text) = code_and_text(&hotwarm(&["check", "--config", &config, "--json"]));
    assert_eq!(code, 1);
    assert!(text.contains("\"ok\": false"), "{text}");
    let (code, text) = code_and_text(&hotwarm(&["check", "--config", "/nonexistent"]));
    assert_eq!(
        (code, text.as_str()),
        (2, "hotwarm: read configuration \"/nonexistent\": No such file or directory (os error 2)\n")
    );
}

#[test]
fn status_shows_the_group_in_ten_lines() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(&init(folder.path()), Role::Hot, None);
    let (code, text) = node.run(&["status"]);
    let wanted = "\
shop/main   hot a   epoch 7   sync, at least 1 copy   asked a

   NODE  ROLE     STATE       DURABLE  LAG        HEARD      ADDRESS
*  a     hot      lease held     1042                        127.0.0.1:7400
   b     warm     in sync        1040  2 entries  12 ms ago  127.0.0.1:7401
   w     witness  votes          1040  2 entries  12 ms ago  127.0.0.1:7402

safe to lose: a, b, w
";
    assert_eq!((code, text.as_str()), (0, wanted));
    let (code, text) = node.run(&["status", "--json"]);
    let status: hotwarm_node::admin::Status = serde_json::from_str(&text).unwrap();
    assert_eq!((code, status.hot.as_deref()), (0, Some("a")));
}

#[test]
fn a_fenced_node_is_a_no_and_an_absent_one_a_failure() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(&init(folder.path()), Role::Fenced, None);
    assert_eq!(node.run(&["status"]).0, 1);
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (code, text) = code_and_text(&hotwarm(&["status", "--admin", &free.to_string()]));
    assert_eq!(code, 2);
    assert!(text.starts_with(&format!("hotwarm: no node answers at {free}")), "{text}");
}

#[test]
fn apply_shows_the_difference_and_changes_by_compare_and_swap() {
    let folder = tempfile::tempdir().unwrap();
    let config = init(folder.path());
    let node = node(&config, Role::Hot, None);
    let (code, text) = node.run(&["apply", &config]);
    assert_eq!((code, text.as_str()), (0, "the register holds what the file says\n"));
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("min_copies = 1", "min_copies = 2")).unwrap();
    let (code, text) = node.run(&["apply", &config, "--dry-run"]);
    assert_eq!((code, text.as_str()), (1, "group.main.min_copies: 1 -> 2\nnot applied: 1 keys differ\n"));
    let (code, text) = node.run(&["apply", &config]);
    assert_eq!((code, text.as_str()), (0, "group.main.min_copies: 1 -> 2\napplied: 1 keys, version 31\n"));
    let asked = node.control.asked.lock().unwrap();
    let Some(Ask::Apply { expected, settings }) = asked.last() else { panic!("{asked:?}") };
    assert_eq!((*expected, settings.min_copies), (Version(31), 2));
}

#[test]
fn a_switchover_is_planned_done_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let config = init(folder.path());
    let able = node(&config, Role::Hot, None);
    assert_eq!(able.run(&["switchover", "--dry-run"]).1, "a would hand over to b\n  not w: it holds no data\n");
    assert_eq!(able.run(&["switchover", "--dry-run", "--to", "w"]).0, 1);
    assert_eq!(able.run(&["switchover", "--to", "b"]).0, 0);
    assert_eq!(able.control.asked.lock().unwrap()[..], [Ask::HandOver { to: Some(NodeId(2)) }]);
    let unable = node(&config, Role::Hot, Some(AskRefused::NoTarget { why: "b is behind".to_owned() }));
    let (code, text) = unable.run(&["switchover"]);
    assert_eq!((code, text.as_str()), (2, "hotwarm: no node could take over: b is behind; the hot stays as it is\n"));
    let warm = node(&config, Role::Warm, None);
    let (code, text) = warm.run(&["switchover"]);
    assert_eq!(code, 2);
    assert!(text.contains("a warm node does not answer /switchover"), "{text}");
}

#[test]
fn a_new_node_gets_its_folder_only_from_the_right_authority() {
    let folder = tempfile::tempdir().unwrap();
    let config = init(folder.path());
    let node = node(&config, Role::Hot, None);
    let (code, text) = node.run(&["node", "add", "c=127.0.0.1:7403", "--ca", folder.path().to_str().unwrap()]);
    assert_eq!(code, 2, "{text}");
    assert_eq!(node.control.asked.lock().unwrap().len(), 0, "a wrong authority leaves no invitation behind");
    let (code, text) = node.run(&["node", "list"]);
    assert_eq!(code, 0);
    assert!(text.lines().any(|line| line.starts_with("n3  w     witness")), "{text}");
}

#[test]
fn a_closed_pipe_is_no_failure() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_hotwarm"))
        .args(["completions", "bash"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stderr.is_empty());
}
