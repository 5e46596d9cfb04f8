//! A start that finds two trees after a full copy was put to use: the new one is used, however far it was fed, and neither
//! is removed unless the other belongs to the log. Guards R31.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use hotwarm_core::register::{GroupState, Member, MemberRole, ProposalId, Settings};
use hotwarm_node::birth::{Birth, Origin, TICKET_FILE};
use hotwarm_node::data_folder::{Contents, DataFolder, stage_block};
use hotwarm_store::keyspace::{Entry, Keyspace, Value};
use hotwarm_store::tree::MapTree;
use hotwarm_store::{Options, SnapshotWriter, State, StateDigest};
use hotwarm_types::{
    Block, BlockKind, ClusterId, Epoch, FolderId, GroupId, Incarnation, Lsn, NodeId, Payload, Reign, Version,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;
use std::sync::Arc;

const GROUP: GroupId = GroupId(1);

fn ticket() -> Birth {
    let (cluster, node, folder) = (ClusterId(1), NodeId(1), FolderId(1));
    let address = "node-a.example:7101".to_owned();
    let member = Member { name: "a".to_owned(), folder, address, role: MemberRole::Data, priority: 1 };
    let state = GroupState {
        cluster,
        group: GROUP,
        version: Version::default(),
        proposal: ProposalId::default(),
        reign: Reign { epoch: Epoch::default(), node, incarnation: Incarnation::default() },
        lossy_epoch: None,
        in_sync: BTreeSet::from([node]),
        members: BTreeMap::from([(node, member)]),
        members_version: Version::default(),
        invited: BTreeMap::new(),
        next_node: NodeId(2),
        settings: Settings::default(),
        pause: None,
        changes: VecDeque::new(),
    };
    Birth { cluster, group: GROUP, name: "a".to_owned(), folder, origin: Origin::Founded, state }
}

fn open(root: &Path) -> Result<(DataFolder, Contents), String> {
    DataFolder::open(&root.join("data"), &root.join("tls"), "a", None, 1, 8 << 20).map_err(|error| error.to_string())
}

/// The blocks of a hot, and its state after each.
struct Hot {
    state: State,
    blocks: Vec<Block>,
}

impl Hot {
    fn new() -> Self {
        let state = State::open(Arc::new(MapTree::new()), Options::default()).unwrap();
        let mut hot = Self { state, blocks: Vec::new() };
        let (kind, payload) = (BlockKind::EpochStart, Payload::new(b"test"));
        hot.take(Block { kind, epoch: Epoch(1), first: Lsn(1), last: Lsn(1), stamp_ms: 0, payload });
        hot
    }

    fn put(&mut self, key: &str) {
        let mut execution = self.state.begin(1_000);
        let value = Value::String("value".into());
        execution.put(key.as_bytes(), Entry { value, expires_at_ms: None, version: Lsn::ZERO });
        execution.finish(None, b"").unwrap();
        let proposed = self.state.take_block().unwrap();
        let last = proposed.first.plus(proposed.count - 1);
        let payload = Payload::new(&proposed.payload);
        let (kind, stamp_ms) = (BlockKind::Data, proposed.stamp_ms);
        self.take(Block { kind, epoch: Epoch(1), first: proposed.first, last, stamp_ms, payload });
    }

    fn take(&mut self, block: Block) {
        stage_block(&mut self.state, &block).unwrap();
        self.state.commit(block.last).unwrap();
        self.blocks.push(block);
    }

    fn digest(&self) -> StateDigest {
        self.state.feeder().digest().unwrap()
    }

    /// Lets a folder's node have what it does not have yet, durably, its tree included.
    fn feed(&self, contents: &mut Contents) {
        let end = contents.log.end().lsn;
        for block in self.blocks.iter().filter(|block| block.first > end) {
            contents.log.append(block).unwrap();
            contents.log.sync().unwrap();
            stage_block(&mut contents.state, block).unwrap();
            contents.state.commit(block.last).unwrap();
        }
        contents.state.feeder().feed().unwrap();
        contents.state.feeder().flush().unwrap();
    }
}

fn found(root: &Path) -> StateDigest {
    let (_folder, mut contents) = open(root).unwrap_or_else(|why| panic!("{why}"));
    contents.state.commit(contents.log.end().lsn).unwrap();
    contents.state.feeder().digest().unwrap()
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let (path, name) = entry.map(|entry| (entry.path(), entry.file_name())).unwrap();
        if path.is_dir() {
            copy_folder(&path, &to.join(name));
        } else {
            std::fs::copy(path, to.join(name)).unwrap();
        }
    }
}

/// A node whose data a full copy has replaced, with further writes fed to the new tree.
fn switched(root: &Path, hot: &mut Hot) -> (DataFolder, Contents, hotwarm_node::data_folder::Incoming) {
    std::fs::create_dir_all(root.join("tls")).unwrap();
    std::fs::write(root.join("tls").join(TICKET_FILE), ticket().to_text()).unwrap();
    let (folder, mut contents) = open(root).unwrap();
    hot.put("before");
    hot.feed(&mut contents);
    hot.put("only in the copy");
    let mut snapshot = hot.state.feeder().snapshot(GROUP).unwrap();
    let incoming = folder.begin_incoming().unwrap();
    let mut writer = SnapshotWriter::new(incoming.tree(), GROUP, snapshot.at());
    while let Some(chunk) = snapshot.chunk(writer.next()).unwrap() {
        writer.push(&chunk).unwrap();
    }
    writer.finish().unwrap();
    folder.mark_incomplete().unwrap();
    let state = folder.open_state(incoming.tree()).unwrap();
    contents.log.reset(snapshot.at(), state.epochs()).unwrap();
    contents.state = state;
    hot.put("after the switch");
    hot.feed(&mut contents);
    (folder, contents, incoming)
}

/// Removing a large tree takes long enough for the new one to be fed and flushed.
#[test]
fn a_node_killed_before_the_old_tree_is_gone_starts_on_the_new_one() {
    let (root, mut hot) = (tempfile::tempdir().unwrap(), Hot::new());
    drop(switched(root.path(), &mut hot));
    assert_eq!(found(root.path()), hot.digest());
    assert!(!root.path().join("data/store-1").exists());
    assert_eq!(found(root.path()), hot.digest());
}

/// As a power failure can leave it: the removal was not synced.
#[test]
fn an_old_tree_that_comes_back_is_removed_again() {
    let (root, mut hot) = (tempfile::tempdir().unwrap(), Hot::new());
    let (folder, contents, incoming) = switched(root.path(), &mut hot);
    let old = root.path().join("data/store-1");
    copy_folder(&old, &root.path().join("aside"));
    folder.finish_incoming(incoming).unwrap();
    assert!(!old.exists());
    drop((folder, contents));
    copy_folder(&root.path().join("aside"), &old);
    assert_eq!(found(root.path()), hot.digest());
    assert!(!old.exists());
}

#[test]
fn where_no_tree_belongs_to_the_log_none_is_removed() {
    let (root, mut hot) = (tempfile::tempdir().unwrap(), Hot::new());
    drop(switched(root.path(), &mut hot));
    let (data, current) = (root.path().join("data"), root.path().join("data/store-2/current"));
    let aside = root.path().join("aside");
    std::fs::rename(&current, &aside).unwrap();
    let why = open(root.path()).unwrap_err();
    assert!(why.contains("store") && why.contains("hotwarm node replace"), "{why}");
    assert!(data.join("store-1").exists() && data.join("store-2").exists());
    std::fs::rename(&aside, &current).unwrap();
    assert_eq!(found(root.path()), hot.digest());
}
