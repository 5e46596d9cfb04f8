//! A group that lost its majority goes on from one data folder, as a new group that no old member can disturb (R8).
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use hotwarm_node::admin::NodeControl;
use hotwarm_node::birth::{InitPlan, NodePlan};
use hotwarm_node::config::{Config, File};
use hotwarm_node::recover::{RecoverError, RecoverPlan};
use hotwarm_node::run::RunningNode;
use hotwarm_store::tree::{LsmTree, Tree};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

/// The configuration of a node of a group with one data node and one witness, whose folders lie below `folder`.
fn config(folder: &Path, name: &str) -> Config {
    let text = std::fs::read_to_string(folder.join("hotwarm.toml")).unwrap();
    let file = File::parse(&text, &folder.join("hotwarm.toml")).unwrap_or_else(|faults| panic!("{faults}"));
    file.for_node(name, "the test").unwrap()
}

fn init(folder: &Path) {
    let ports = hotwarm_sys::free_loopback_ports(6).unwrap();
    let port = |index: usize| ports[index];
    let below = folder.display();
    let text = format!(
        "[cluster]\nname = \"test\"\nprofile = \"fast\"\n[nodes]\n\
         a = {{ address = \"127.0.0.1:{}\" }}\nw = {{ address = \"127.0.0.1:{}\", role = \"witness\" }}\n\
         [local]\ndata_dir = \"{below}/data-{{node}}\"\ntls_dir = \"{below}/tls/{{node}}\"\n\
         [local.node.a]\nadmin = \"127.0.0.1:{}\"\nfront.redis.listen = \"127.0.0.1:{}\"\n\
         [local.node.w]\nadmin = \"127.0.0.1:{}\"\nfront.redis.listen = \"127.0.0.1:{}\"\n\
         [group.main]\n[front.redis]\nprotocol = \"resp\"\nlisten = \"127.0.0.1:6379\"\nto = \"main\"\n",
        port(0),
        port(1),
        port(2),
        port(3),
        port(4),
        port(5)
    );
    std::fs::write(folder.join("hotwarm.toml"), text).unwrap();
    let config = config(folder, "a");
    let node = |node: &hotwarm_node::config::NodeEntry| NodePlan {
        name: node.name.clone(),
        address: node.address.clone(),
        role: node.role,
        priority: node.priority,
    };
    let nodes = config.nodes.iter().map(node).collect();
    let settings = config.agreed.settings();
    InitPlan { cluster_name: "test".to_owned(), nodes, settings }.write(&folder.join("tls")).unwrap();
}

/// Sends a command and gives the lines of its reply.
fn ask(front: SocketAddr, command: &str, lines: usize) -> String {
    let mut stream = TcpStream::connect(front).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(format!("{command}\r\n").as_bytes()).unwrap();
    let mut reader = BufReader::new(stream);
    let mut reply = String::new();
    for _ in 0..lines {
        assert_ne!(reader.read_line(&mut reply).unwrap(), 0, "{command}");
    }
    reply.replace("\r\n", " ")
}

#[test]
fn one_folder_is_enough_and_nobody_old_is_let_in() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path();
    init(folder);
    let start = |config: Config| RunningNode::start(config, None).unwrap_or_else(|error| panic!("{error}"));
    let (a, w) = (start(config(folder, "a")), start(config(folder, "w")));
    assert_eq!(ask(a.fronts()[0], "SET k first", 1), "+OK ");
    let plan = RecoverPlan { from: folder.join("data-a"), to: folder.join("new"), out: folder.join("out") };
    let error = plan.run().unwrap_err();
    assert!(matches!(&error, RecoverError::Unfit { .. }), "a running node's folder is refused: {error}");
    let epoch = a.control().status().epoch;
    a.abandon();
    w.abandon();

    let recovered = plan.run().unwrap();
    assert_eq!(recovered.node, "a");
    assert!(recovered.epoch.0 > epoch && recovered.may_be_lost.contains("nothing, if"), "{recovered:?}");
    assert!(matches!(plan.run().unwrap_err(), RecoverError::Exists { .. }), "never twice");

    // The old witness is alone and does not matter; the new group of one serves.
    let w = start(config(folder, "w"));
    let mut new = config(folder, "a");
    new.local.data_dir = folder.join("new");
    new.local.peers = hotwarm_node::config::PeerSecurity::Tls { dir: recovered.tls_dir };
    let a = start(new);
    assert_eq!(ask(a.fronts()[0], "GET k", 2), "$5 first ");
    assert_eq!(ask(a.fronts()[0], "SET k second", 1), "+OK ");
    let status = a.control().status();
    assert_eq!((status.members.len(), status.hot.as_deref()), (1, Some("a")));
    assert!(status.epoch > recovered.epoch.0, "a start never reigns in an epoch that it did not win");
    let history = a.control().history();
    assert!(history.iter().any(|event| event.cause == "recover"), "{history:#?}");
    assert_eq!(format!("{:?}", a.stop()), format!("{:?}", std::process::ExitCode::SUCCESS));
    w.abandon();

    // The old folder is as it was.
    let old = RecoverPlan { from: folder.join("data-a"), to: folder.join("again"), out: folder.join("out2") };
    assert_eq!(old.run().unwrap().end.lsn, recovered.end.lsn);
}

/// A full copy that broke off leaves another tree, and a record of how to go on with it.
#[test]
fn a_full_copy_that_broke_off_is_left_out() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path();
    init(folder);
    let start = |name: &str| RunningNode::start(config(folder, name), None).unwrap_or_else(|error| panic!("{error}"));
    let (a, w) = (start("a"), start("w"));
    assert_eq!(ask(a.fronts()[0], "SET k v", 1), "+OK ");
    a.abandon();
    w.abandon();
    let old = folder.join("data-a");
    let tree = LsmTree::open(&old.join("store-2"), 1 << 20).unwrap();
    tree.load(&vec![("rows".into(), "some, not all".into())]).unwrap();
    drop(tree);
    let mut record = [b"HWIN\x01\0\0\0".as_slice(), &2_u64.to_le_bytes(), &[7; 32], b"writer"].concat();
    record.extend(hotwarm_wire::crc32c(&record).to_le_bytes());
    std::fs::write(old.join("incoming"), record).unwrap();
    std::fs::write(old.join("incoming.new"), "half").unwrap();

    let plan = RecoverPlan { from: old.clone(), to: folder.join("new"), out: folder.join("out") };
    let recovered = plan.run().unwrap_or_else(|error| panic!("{error}"));
    let names = |path: &Path| {
        let entries = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        entries.filter(|name| name.starts_with("store-") || name.starts_with("incoming")).collect::<Vec<String>>()
    };
    assert_eq!(names(&plan.to), ["store-1"]);
    assert_eq!(names(&old).len(), 4, "the old folder is as it was");
    let mut new = config(folder, "a");
    new.local.data_dir = plan.to;
    new.local.peers = hotwarm_node::config::PeerSecurity::Tls { dir: recovered.tls_dir };
    let a = RunningNode::start(new, None).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(ask(a.fronts()[0], "GET k", 2), "$1 v ");
    a.abandon();
}

#[test]
fn a_witness_or_any_other_folder_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path();
    init(folder);
    let start = |name: &str| RunningNode::start(config(folder, name), None).unwrap_or_else(|error| panic!("{error}"));
    let (a, w) = (start("a"), start("w"));
    assert_eq!(ask(a.fronts()[0], "SET k v", 1), "+OK ");
    a.abandon();
    w.abandon();
    let plan = |from: &str| RecoverPlan { from: folder.join(from), to: folder.join("new"), out: folder.join("out") };
    let error = plan("data-w").run().unwrap_err().to_string();
    assert!(error.contains("holds no data"), "{error}");
    assert!(!folder.join("new").exists() && !folder.join("out").exists(), "what was begun is removed again");
    let error = plan("tls").run().unwrap_err().to_string();
    assert!(error.contains("has no identity"), "{error}");
}
