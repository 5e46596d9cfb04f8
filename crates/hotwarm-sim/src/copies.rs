//! Full copies: pinned, sent in chunks, written into a tree beside the one in use, and put in its place on the core's
//! order (R31).

use crate::bugs::Bug;
use crate::clock::MS;
use crate::devices::{Install, LogOrder};
use crate::disk::chain;
use crate::invariants::Fact;
use crate::machine::Stimulus;
use crate::outcome::Kind;
use crate::world::{Event, World};
use hotwarm_core::Input;
use hotwarm_store::tree::{Batch, MapTree, Tree};
use hotwarm_store::{Engine, Snapshot, SnapshotError, SnapshotWriter};
use hotwarm_types::{EntryId, GroupId, NodeId, StreamId};
use std::ops::Bound;
use std::sync::Arc;

/// The group of every run.
pub const GROUP: GroupId = GroupId(1);

/// A copy on its way: which, by what stream, and its chunks.
#[derive(Clone, Debug)]
pub struct Copy {
    /// The stream.
    pub stream: StreamId,
    /// The last entry that it includes.
    pub at: EntryId,
    /// The chunks, in order.
    pub chunks: Vec<Vec<u8>>,
}

impl Copy {
    fn of(stream: StreamId, snapshot: &mut Snapshot) -> Result<Self, SnapshotError> {
        let mut chunks = Vec::new();
        while let Some(chunk) = snapshot.chunk(chunks.len() as u64)? {
            chunks.push(chunk);
        }
        Ok(Self { stream, at: snapshot.at(), chunks })
    }

    /// Fills a tree.
    fn fill(&self) -> Result<MapTree, SnapshotError> {
        let tree = MapTree::new();
        let mut writer = SnapshotWriter::new(Arc::new(tree.clone()), GROUP, self.at);
        for chunk in &self.chunks {
            writer.push(chunk)?;
        }
        writer.finish()?;
        Ok(tree)
    }
}

impl World {
    pub(crate) fn make_snapshot(&mut self, index: usize, boot: u64, stream: StreamId) {
        let wait = self.rng.latency(4 * MS);
        let Some(process) = &mut self.machines[index].process else { return };
        let fact = match process.feeder.snapshot(GROUP) {
            Ok(snapshot) => {
                let at = snapshot.at();
                process.pinned.insert(stream, snapshot);
                let fails = self.rng.percent(3);
                if fails { Input::SnapshotFailed { stream } } else { Input::SnapshotMade { stream, at } }
            }
            Err(_) => Input::SnapshotFailed { stream },
        };
        self.after(wait, Event::Tell { machine: index, boot, fact: Box::new(fact) });
    }

    pub(crate) fn send_snapshot(&mut self, index: usize, boot: u64, to: NodeId, stream: StreamId) {
        let wait = self.rng.latency(20 * MS);
        let peer = self.machine_of(to).filter(|peer| *peer != index);
        let pinned = self.process(index, |process| process.pinned.get_mut(&stream).map(|pin| Copy::of(stream, pin)));
        let copy = match pinned.flatten() {
            Some(Err(error)) => {
                let what = format!("{} cannot send a copy: {}", self.machines[index].name, chain(&error));
                return self.fail(Kind::Safety, "C14", what);
            }
            Some(Ok(copy)) => Some(copy),
            None => None,
        };
        let started = peer.and_then(|peer| {
            let link = self.network.between(index, peer);
            let connection = self.network.links[link].connection.as_ref()?;
            let peer_boot = self.machines[peer].process.as_ref()?.boot;
            Some((peer, peer_boot, link, connection.id))
        });
        match (started, copy) {
            (Some((peer, peer_boot, link, connection)), Some(copy)) => {
                let (from, to, copy) = ((index, boot), (peer, peer_boot), Box::new(copy));
                self.after(wait, Event::Transferred { from, to, link, connection, copy });
            }
            _ => {
                let fact = Box::new(Input::SnapshotFailed { stream });
                self.after(wait, Event::Tell { machine: index, boot, fact });
            }
        }
    }

    /// The last byte of a copy has been sent: if the connection held, the receiver makes it durable, which takes a while.
    pub(crate) fn transferred(
        &mut self,
        from: (usize, u64),
        to: (usize, u64),
        link: usize,
        connection: u64,
        copy: Box<Copy>,
    ) {
        let stands = self.network.links[link].connection.as_ref().is_some_and(|standing| standing.id == connection);
        let slow = !self.network.links[link].is_open() || self.machines[to.0].paused_until.is_some();
        if stands && slow {
            return self.after(50 * MS, Event::Transferred { from, to, link, connection, copy });
        }
        let stream = copy.stream;
        let process = self.machines[to.0].process.as_ref().filter(|process| process.boot == to.1);
        let wanted = process
            .and_then(|process| process.receiving)
            .is_some_and(|(source, expected, _)| source == from.0 && expected == stream);
        let pinned = self.machines[from.0]
            .process
            .as_ref()
            .is_some_and(|process| process.boot == from.1 && process.pinned.contains_key(&stream));
        if stands && wanted && pinned {
            self.process(to.0, |process| process.receiving = None);
            let wait = self.rng.latency(300 * MS);
            self.after(wait, Event::Received { from, to, copy });
        } else if pinned {
            self.stimulate(from.0, from.1, Stimulus::Fact(Input::SnapshotFailed { stream }));
        }
    }

    /// A copy is here whole, in a tree of its own. The core says whether it is installed.
    pub(crate) fn received(&mut self, index: usize, from: (usize, u64), copy: &Copy) {
        let (stream, at) = (copy.stream, copy.at);
        let tree = match copy.fill() {
            Ok(tree) => tree,
            Err(error) => {
                let what = format!("{} cannot take a copy: {}", self.machines[index].name, chain(&error));
                return self.fail(Kind::Safety, "C14", what);
            }
        };
        let tree = if self.bug == Some(Bug::SnapshotHalf) { without_a_key(&tree, at) } else { tree };
        if self.bug == Some(Bug::CopySwitchedEarly) {
            self.machines[index].disk.tree = tree.clone();
        }
        self.machines[index].disk.incoming = Some((at, tree));
        self.process(index, |process| process.received = Some((from, stream, at)));
        if self.bug == Some(Bug::SnapshotUnordered) {
            self.order_reset(index, stream, at);
        }
        self.feed(index, Input::SnapshotReceived { stream });
    }

    /// The switch takes a while, too, and now and then it is not made.
    pub(crate) fn install(&mut self, index: usize, boot: u64, stream: StreamId) {
        let received = self.process(index, |process| process.received.take()).flatten();
        let wait = self.rng.latency(100 * MS);
        let Some((from, _, at)) = received.filter(|(_, received, _)| *received == stream) else {
            let what = format!("{} is to install what it does not have", self.machines[index].name);
            return self.fail(Kind::Safety, "R31", what);
        };
        if self.bug == Some(Bug::SnapshotUnordered) {
            let fact = Box::new(Input::SnapshotInstalled { stream, at });
            self.after(wait + 500 * MS, Event::Tell { machine: index, boot, fact });
        } else if self.rng.percent(10) {
            self.machines[index].disk.incoming = None;
            // The sender hears of it as well, if it is still there.
            for (machine, boot) in [(index, boot), from] {
                let fact = Box::new(Input::SnapshotFailed { stream });
                self.after(wait, Event::Tell { machine, boot, fact });
            }
        } else {
            self.after(wait, Event::Switch { machine: index, boot, stream, at });
        }
    }

    pub(crate) fn switch(&mut self, index: usize, boot: u64, stream: StreamId, at: EntryId) {
        if self.machines[index].process.as_ref().is_some_and(|process| process.boot == boot) {
            self.order_reset(index, stream, at);
        }
    }

    /// The log begins after the copy, by the copy's table of epochs.
    fn order_reset(&mut self, index: usize, stream: StreamId, at: EntryId) {
        let Some((_, tree)) = &self.machines[index].disk.incoming else { return };
        let epochs = match crate::disk::Disk::state_of(tree) {
            Ok(state) => state.epochs().to_vec(),
            Err(refused) => {
                let what = format!("{} cannot use a copy: {refused:?}", self.machines[index].name);
                return self.fail(Kind::Safety, "C14", what);
            }
        };
        self.order_log(index, LogOrder::Reset(Install { stream, at, epochs }));
    }

    /// Log and tree have been replaced on the disk.
    pub(crate) fn installed(&mut self, index: usize, install: &Install) {
        let machine = &mut self.machines[index];
        let state = match machine.disk.open_state() {
            Ok(state) => state,
            Err(refused) => {
                let what = format!("{} cannot open a copy: {refused:?}", machine.name);
                return self.fail(Kind::Safety, "C14", what);
            }
        };
        let Some(process) = &mut machine.process else { return };
        process.log = machine.disk.log.clone();
        process.feeder = state.feeder();
        process.engine = Engine::new(state);
        self.judge(&Fact::Installed);
        if let Some(what) = self.state_differs(index) {
            let name = &self.machines[index].name;
            self.fail(Kind::Safety, "INV-7", format!("{name} holds another state after a copy: {what}"));
        }
        if self.bug == Some(Bug::SnapshotUnordered) {
            return;
        }
        self.feed(index, Input::SnapshotInstalled { stream: install.stream, at: install.at });
    }
}

/// A copy that lacks a key, for the planted bug.
fn without_a_key(tree: &MapTree, at: EntryId) -> MapTree {
    let less = MapTree::new();
    let rows = tree.scan(Bound::Unbounded, None, usize::MAX).unwrap_or_default();
    let mut batch = Batch::new();
    for (key, row) in rows.into_iter().filter(|(key, _)| !key.ends_with(b"r0")) {
        batch.put(key, row);
    }
    less.apply(at.lsn, &batch).expect("anything after zero may be applied to an empty tree");
    less.flush().expect("a tree in memory can be flushed");
    less
}
