//! What a guardian hears of a hot that is alone.

use super::RunningNode;
use crate::birth::{InitPlan, NodePlan};
use crate::clock;
use crate::config::{Config, File};
use crate::guardian::GuardianLink;
use hotwarm_core::{Input, RoleFact};
use hotwarm_types::Token;
use std::io::{BufRead, BufReader, Lines, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

const TIMEOUT: Duration = Duration::from_secs(20);

/// A node that is all of its group, in `folder`.
fn config(folder: &Path) -> Config {
    let ports = hotwarm_sys::free_loopback_ports(3).unwrap();
    let [peers, admin, front] = [0, 1, 2].map(|index: usize| SocketAddr::from((Ipv4Addr::LOCALHOST, ports[index])));
    let below = folder.display();
    let text = format!(
        "[cluster]\nname = \"test\"\nprofile = \"fast\"\n[nodes]\na = {{ address = \"{peers}\" }}\n\
         [local]\ndata_dir = \"{below}/data\"\ntls_dir = \"{below}/tls/{{node}}\"\n\
         [local.node.a]\nadmin = \"{admin}\"\nfront.redis.listen = \"{front}\"\n\
         [group.main]\n[front.redis]\nprotocol = \"resp\"\nlisten = \"127.0.0.1:6379\"\nto = \"main\"\n"
    );
    let path = folder.join("hotwarm.toml");
    std::fs::write(&path, &text).unwrap();
    let config =
        File::parse(&text, &path).unwrap_or_else(|faults| panic!("{faults}")).for_node("a", "the test").unwrap();
    let nodes = config.nodes.iter().map(|node| NodePlan {
        name: node.name.clone(),
        address: node.address.clone(),
        role: node.role,
        priority: node.priority,
    });
    let (nodes, settings) = (nodes.collect(), config.agreed.settings());
    InitPlan { cluster_name: "test".to_owned(), nodes, settings }.write(&folder.join("tls")).unwrap();
    config
}

/// The lone node, hot and serving, and what its guardian hears.
fn guarded(folder: &Path) -> (RunningNode, Lines<BufReader<UnixStream>>) {
    let (mut guardian, theirs) = UnixStream::pair().unwrap();
    guardian.write_all(format!("guardian 1 {}\n", "5a".repeat(32)).as_bytes()).unwrap();
    guardian.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let link = GuardianLink::from_stream(theirs).unwrap();
    let node = RunningNode::start(config(folder), Some(link)).unwrap_or_else(|error| panic!("{error}"));
    let until = Instant::now() + TIMEOUT;
    let role = |node: &RunningNode| node.control.board.glance(|view| view.facts.as_ref().map(|facts| facts.role));
    while role(&node) != Some(RoleFact::HotServing) {
        assert!(Instant::now() < until, "it does not serve");
        std::thread::yield_now();
    }
    (node, BufReader::new(guardian).lines())
}

/// What follows the last tick takes its time: it is no sign that the node is frozen.
#[test]
fn a_hot_that_ends_is_not_watched_while_it_does() {
    let folder = tempfile::tempdir().unwrap();
    let (node, lines) = guarded(folder.path());
    assert_eq!(format!("{:?}", node.stop()), format!("{:?}", ExitCode::SUCCESS));
    let lines: Vec<String> = lines.map(Result::unwrap).collect();
    assert!(lines.iter().any(|line| line == "tick 200"), "{lines:?}");
    assert_eq!(lines.last().map(String::as_str), Some("tick 0"));
}

/// A node that is fenced has nothing to do: no later event will tell the guardian.
#[test]
fn a_hot_that_is_fenced_is_not_watched_any_more() {
    let folder = tempfile::tempdir().unwrap();
    let (node, mut lines) = guarded(folder.path());
    let (core, board) = (&node.queues.core, &node.control.board);
    // Right after it was shown, since nothing is shown anew for a while without a reason.
    let until = Instant::now() + TIMEOUT;
    while clock::now().since(board.glance(|view| view.at)) > Duration::from_millis(2) {
        assert!(Instant::now() < until, "the core's thread does not turn");
        core.tell(Input::Elapsed);
        std::thread::yield_now();
    }
    core.tell(Input::PersistFailed { token: Token(0), error: "the test says so".to_owned() });
    // Without it the guardian waits in vain, and reading fails.
    while lines.next().unwrap().expect("a tick of zero") != "tick 0" {}
    assert!(board.glance(|view| view.fenced.is_some()));
    node.abandon();
}
