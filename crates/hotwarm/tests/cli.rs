//! The program as an operator's shell meets it: arguments in, output and exit codes out, against a node that only
//! answers.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

use hotwarm_core::register::{
    Cause, ChangeKind, ChangeRecord, GroupState, Invitation, Member, MemberRole, Pause, ProposalId,
};
use hotwarm_core::{Answer, Ask, AskRefused};
use hotwarm_node::admin::{Access, ClockFollowed, Facts, LinkFacts, NodeControl, Pending, Role, serve};
use hotwarm_node::birth::Authority;
use hotwarm_node::config::{Config, load};
use hotwarm_node::history::{Event, merged};
use hotwarm_types::{ClusterId, EntryId, Epoch, FolderId, GroupId, Incarnation, Lsn, NodeId, Reign, Version};
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

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
    reloads: AtomicU64,
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

    fn reload(&self) -> Pending<'_, ()> {
        self.reloads.fetch_add(1, Ordering::Relaxed);
        Box::pin(async {})
    }

    fn follow_clock(&self) -> Pending<'_, Result<ClockFollowed, AskRefused>> {
        let answer = self.refuse.clone().map_or(Ok(ClockFollowed { from_ms: 1_000, to_ms: 3_721_000 }), Err);
        Box::pin(async move { answer })
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
        file_read_ms: 1_700_000_000_000,
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
        visible: Lsn(1041),
        lease_held: true,
        guardian: true,
        throttled: false,
        clock_step_ms: None,
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
    node_with(config, role, refuse, |_| {})
}

fn node_with(config: &str, role: Role, refuse: Option<AskRefused>, change: impl FnOnce(&mut Facts)) -> Node {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    let mut facts = facts(load(Path::new(config), Some("a")).unwrap(), role);
    change(&mut facts);
    let control = Arc::new(Answering { facts, refuse, asked: Mutex::new(Vec::new()), reloads: AtomicU64::new(0) });
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

/// What a file lacks on this machine is said only of the node that is named.
#[test]
fn check_finds_ports_that_collide_and_files_that_are_missing() {
    let folder = tempfile::tempdir().unwrap();
    let config = init(folder.path());
    let (code, text) = code_and_text(&hotwarm(&["check", "--config", &config, "--node", "a"]));
    assert_eq!(code, 0, "{text}");
    let whole = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, whole.replace("# password_file = ", "password_file = ")).unwrap();
    let (code, text) = code_and_text(&hotwarm(&["check", "--config", &config, "--node", "a"]));
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("front.redis.password_file: read secret file"), "{text}");
    assert_eq!(code_and_text(&hotwarm(&["check", "--config", &config])).0, 0);
    std::fs::write(&config, whole.replace("127.0.0.1:7481", "127.0.0.1:7480")).unwrap();
    let (code, text) = code_and_text(&hotwarm(&["check", "--config", &config]));
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("node b's admin would listen on 127.0.0.1:7480"), "{text}");
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
    let reloads = || node.control.reloads.load(Ordering::Relaxed);
    assert_eq!(reloads(), 1, "the node reads the file that was edited");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("min_copies = 1", "min_copies = 2")).unwrap();
    let (code, text) = node.run(&["apply", &config, "--dry-run"]);
    assert_eq!((code, text.as_str()), (1, "group.main.min_copies: 1 -> 2\nnot applied: 1 key differs\n"));
    let (code, text) = node.run(&["apply", &config]);
    assert_eq!((code, text.as_str()), (0, "group.main.min_copies: 1 -> 2\napplied: 1 key, version 31\n"));
    assert_eq!(reloads(), 2, "a dry run reloads nothing");
    let asked = node.control.asked.lock().unwrap();
    let Some(Ask::Apply { expected, settings, changes }) = asked.last() else { panic!("{asked:?}") };
    assert_eq!((*expected, settings.min_copies), (Version(31), 2));
    assert_eq!(changes, "group.main.min_copies: 1 -> 2", "the history says what was changed");
}

#[test]
fn group_time_follows_the_clock_or_it_is_said_why_not() {
    let folder = tempfile::tempdir().unwrap();
    let config = init(folder.path());
    let done = node(&config, Role::Hot, None).run(&["clock", "follow"]);
    assert_eq!(done, (0, "group time went 3720 s forward, onto the wall clock of the hot\n".to_owned()));
    let (code, text) = node(&config, Role::Hot, None).run(&["clock", "follow", "--json"]);
    assert_eq!((code, text.contains("\"to_ms\": 3721000")), (0, true), "{text}");
    let why = "the wall clock of this node is 9 s behind group time".to_owned();
    let refused = node(&config, Role::Hot, Some(AskRefused::Forbidden { why: why.clone() })).run(&["clock", "follow"]);
    assert_eq!((refused.0, refused.1.contains(&why)), (2, true), "{}", refused.1);
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
    assert_eq!(
        text,
        "hotwarm: only the hot hands over: this node is warm, and a is hot; nothing was changed; run it on the machine of \
         a, or name the admin address of a with --admin IP:PORT\n"
    );
}

/// Gives the nodes of the configuration that `init` made other admin addresses.
fn move_admin(config: &str, a: SocketAddr, b: SocketAddr) {
    let text = std::fs::read_to_string(config).unwrap();
    let moved = text.replace("127.0.0.1:7480", &a.to_string()).replace("127.0.0.1:7481", &b.to_string());
    // Nobody is at the witness'.
    std::fs::write(config, moved.replace("127.0.0.1:7482", "127.0.0.1:1")).unwrap();
}

#[test]
fn a_refusal_is_followed_to_the_hot_where_the_file_says_how_to_reach_it() {
    let folder = tempfile::tempdir().unwrap();
    let config = init(folder.path());
    let (hot, warm) = (node(&config, Role::Hot, None), node(&config, Role::Warm, None));
    move_admin(&config, hot.address, warm.address);
    let asked = || hot.control.asked.lock().unwrap().len();
    let (code, text) = code_and_text(&hotwarm(&["switchover", "--config", &config, "--node", "b"]));
    assert_eq!((code, asked()), (0, 1), "{text}");
    let (code, text) = warm.run(&["switchover", "--config", &config]);
    assert_eq!((code, asked()), (0, 2), "{text}");
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = init(&folder.path().join("dead"));
    move_admin(&config, free, warm.address);
    let (code, text) = warm.run(&["switchover", "--config", &config]);
    assert_eq!(code, 2);
    assert!(text.contains(&format!("a was asked, and no node answers at {free}")), "{text}");
}

#[test]
fn a_frozen_node_is_told_of_and_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let config = init(folder.path());
    // The system accepts for it; it never says anything.
    let frozen = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = frozen.local_addr().unwrap();
    let begun = Instant::now();
    let (code, text) = code_and_text(&hotwarm(&["status", "--admin", &address.to_string()]));
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    let said =
        format!("hotwarm: the process at {address} accepts connections and does not answer within 3 s: frozen?\n");
    assert_eq!((code, &text), (2, &said));
    let warm = node(&config, Role::Warm, None);
    move_admin(&config, address, warm.address);
    let output = hotwarm(&["status", "--config", &config]);
    assert_eq!(String::from_utf8_lossy(&output.stderr), said);
    assert!(output.stdout.starts_with(b"shop/main   hot a"), "{output:?}");
}

#[test]
fn errors_are_data_where_json_is_wished() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let output = hotwarm(&["status", "--json", "--admin", &free.to_string()]);
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(2), b"".as_slice()));
    let error: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(error["error"].as_str().unwrap().starts_with(&format!("no node answers at {free}")), "{error}");
}

#[test]
fn what_a_flag_does_not_allow_is_said_with_its_name() {
    let said = |args: &[&str]| {
        let (code, text) = code_and_text(&hotwarm(args));
        assert_eq!(code, 2, "{text}");
        text
    };
    let text = said(&["pause", "--for", "100d", "--reason", "x"]);
    assert!(text.contains("--for") && text.contains("7d at most"), "{text}");
    let text = said(&["history", "--last", "0"]);
    assert!(text.contains("--last") && text.contains("0 is not in 1.."), "{text}");
    let text = said(&["init", "--name", "x", "--node", "a=h:1", "--witness", "a=i:1", "--out", "/nonexistent/x"]);
    assert!(text.starts_with("hotwarm: the name \"a\" is given twice"), "{text}");
    for command in ["run", "check"] {
        let (_, text) = code_and_text(&hotwarm(&[command, "--help"]));
        assert!(text.contains("--config") && !text.contains("--admin"), "{text}");
    }
}

#[test]
fn a_demo_writes_into_no_folder_that_holds_anything() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("mine"), "mine").unwrap();
    let (code, text) = code_and_text(&hotwarm(&["demo", "--allow-tmpfs", "--dir", folder.path().to_str().unwrap()]));
    assert_eq!(code, 2, "{text}");
    assert!(text.contains("is not empty") && text.contains("choose another with --dir"), "{text}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn status_says_on_which_side_a_key_differs_and_when_maintenance_ends() {
    let folder = tempfile::tempdir().unwrap();
    let node = node_with(&init(folder.path()), Role::Hot, None, |facts| {
        let state = facts.state.as_mut().unwrap();
        state.settings.text = state.settings.text.replace("min_copies = 1", "min_copies = 2");
        state.pause = Some(Pause { length: Duration::from_secs(3600), reason: "a disk".to_owned() });
        state.changes.push_back(change(ChangeKind::Pause, facts.now_ms - 60_000));
        facts.file_read_ms -= 600_000;
    });
    let (_, text) = node.run(&["status"]);
    assert!(text.contains("  group.main.min_copies: the register 2, the file 1\n"), "{text}");
    assert!(text.contains("as it read it 10 min ago"), "{text}");
    assert!(text.contains("maintenance is on for another 59 min, no node takes over: a disk"), "{text}");
}

fn change(kind: ChangeKind, at_ms: u64) -> ChangeRecord {
    let (by, cause) = (ProposalId::default(), Cause::default());
    ChangeRecord { version: Version(31), epoch: Epoch(7), at_ms, by, kind, cause }
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
fn a_witness_only_votes_and_an_invitation_is_no_member() {
    let folder = tempfile::tempdir().unwrap();
    let config = init(folder.path());
    let ca = folder.path().join("shop");
    let node = node_with(&config, Role::Hot, None, |facts| {
        let state = facts.state.as_mut().unwrap();
        state.cluster = Authority::load(&ca).unwrap().cluster();
        let (address, role) = ("127.0.0.1:7403".to_owned(), MemberRole::Witness);
        state.invited.insert("v".to_owned(), Invitation { address, role, priority: 100, replaces: None });
        state.changes.push_back(change(ChangeKind::Uninvite { name: "v".to_owned() }, facts.now_ms));
        // Another operator removes another node before the first one's answer is there.
        let mut removal = change(ChangeKind::Remove { node: NodeId(4) }, facts.now_ms);
        removal.cause.evidence = "d".to_owned();
        state.changes.push_back(removal);
    });
    let (code, text) = node.run(&["node", "add", "v=127.0.0.1:7403", "--witness", "--ca", ca.to_str().unwrap()]);
    assert_eq!(code, 0, "{text}");
    assert!(text.ends_with("It joins by itself, and votes.\n"), "{text}");
    assert_eq!(node.run(&["node", "remove", "v"]), (0, "the invitation of v is taken back\n".to_owned()));
    let (_, text) = node.run(&["node", "remove", "b"]);
    assert!(text.starts_with("b is no member any more"), "{text}");
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
