//! The threads of a node, and the queues between them.

use super::start::{StartError, failed};
use crate::birth::Birth;
use crate::board::Board;
use crate::clock;
use crate::config::{Config, Hold};
use crate::crew::NodeCrew;
use crate::data_folder::Contents;
use crate::event_loop::{Core, EventLoop};
use crate::executor::{Executor, HoldLimits, Job, Setting};
use crate::feeder::{FeedLoop, FeedQueue};
use crate::history::History;
use crate::hooks::Hooks;
use crate::metrics::Metrics;
use crate::observer::{Noted, Observer};
use crate::queue::Queue;
use crate::snapshot_transfer::Pinned;
use crate::storage::{LogOrder, LogWriter, ReadOrder, VoteOrder, prepare_segments, read_log, write_votes};
use crate::transport::Transport;
use hotwarm_core::register::MemberRole;
use hotwarm_core::{Node, Recovered};
use hotwarm_store::State;
use hotwarm_store::tree::MapTree;
use hotwarm_types::Incarnation;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use tokio::sync::watch;

/// The queues between the parts of a node.
#[derive(Debug, Default)]
pub(super) struct Queues {
    pub(super) core: Core,
    pub(super) jobs: Arc<Queue<Job>>,
    pub(super) log: Arc<Queue<LogOrder>>,
    pub(super) votes: Arc<Queue<VoteOrder>>,
    pub(super) reads: Arc<Queue<ReadOrder>>,
    pub(super) segments: Arc<Queue<()>>,
    pub(super) feeder: FeedQueue,
    pub(super) notes: Arc<Queue<Noted>>,
}

/// The threads of a node, by when they end.
#[derive(Debug, Default)]
pub(super) struct Threads {
    pub(super) executor: Option<JoinHandle<()>>,
    pub(super) core: Option<JoinHandle<()>>,
    pub(super) log: Option<JoinHandle<Result<(), String>>>,
    pub(super) others: Vec<JoinHandle<()>>,
}

/// Starts all threads. They work on what recovery found, and report to the core, which has not taken a step yet.
pub(super) fn spawn_all(
    parts: &Parts<'_>,
    config: &Arc<Config>,
    transport: &Arc<Transport>,
    contents: Contents,
    crew: NodeCrew,
    pinned: Pinned,
    hooks: Hooks,
) -> Result<Threads, StartError> {
    let Contents { birth, incarnation, log, votes, state, recovered } = contents;
    let queues = parts.queues;
    let core = || queues.core.clone();
    let holds_data = config.this.role == MemberRole::Data;
    let state = if holds_data { state } else { witness_state()? };
    parts.board.counts.applied.store(recovered.applied.0, Ordering::Relaxed);

    let (reader, ahead) = (log.reader(), log.ahead());
    let (history, wake) = (config.agreed.group.history, Arc::clone(&queues.segments));
    let writer = LogWriter::new(log, history, core(), Arc::clone(parts.metrics), wake, Arc::clone(parts.board));
    let orders = Arc::clone(&queues.log);
    let log = parts.spawn("hotwarm-log", move || writer.run(&orders))?;
    let mut others = Vec::new();
    let (orders, to) = (Arc::clone(&queues.votes), core());
    others.push(parts.spawn("hotwarm-vote", move || write_votes(votes, &orders, &to))?);
    let (orders, to) = (Arc::clone(&queues.reads), core());
    others.push(parts.spawn("hotwarm-read", move || read_log(&reader, &orders, &to))?);
    let (wake, board) = (Arc::clone(&queues.segments), Arc::clone(parts.board));
    others.push(parts.spawn("hotwarm-segment", move || prepare_segments(&ahead, &wake, &board))?);
    let feed = FeedLoop::new(state.feeder(), birth.group, core(), Arc::clone(parts.board), pinned);
    let orders = queues.feeder.clone();
    others.push(parts.spawn("hotwarm-feed", move || feed.run(&orders))?);
    let observer = observer(config, &config.local.data_dir, hooks, parts.metrics);
    let notes = Arc::clone(&queues.notes);
    others.push(parts.spawn("hotwarm-note", move || observer.run(&notes))?);

    let executor = Executor::new(setting(parts, config, transport, holds_data), state);
    let jobs = Arc::clone(&queues.jobs);
    let executor = parts.spawn("hotwarm-exec", move || executor.run(&jobs))?;
    let node = Node::new(core_config(config, &birth, incarnation, &recovered), recovered, clock::now());
    let event_loop = EventLoop::new(node, core(), crew, Arc::clone(parts.board));
    let core = parts.spawn("hotwarm-core", move || event_loop.run())?;
    Ok(Threads { executor: Some(executor), core: Some(core), log: Some(log), others })
}

fn setting(parts: &Parts<'_>, config: &Config, transport: &Arc<Transport>, holds_data: bool) -> Setting {
    Setting {
        core: parts.queues.core.clone(),
        transport: Arc::clone(transport),
        feeder: parts.queues.feeder.clone(),
        board: Arc::clone(parts.board),
        metrics: Arc::clone(parts.metrics),
        notes: Arc::clone(&parts.queues.notes),
        hold: hold_limits(config),
        holds_data,
        session_base: rand::random(),
    }
}

fn core_config(
    config: &Config,
    birth: &Birth,
    incarnation: Incarnation,
    recovered: &Recovered,
) -> hotwarm_core::Config {
    hotwarm_core::Config {
        cluster: birth.cluster,
        group: birth.group,
        name: config.this.name.clone(),
        folder: birth.folder,
        incarnation,
        seed: rand::random(),
        birth: birth.founding_state().filter(|_| recovered.vote.accepted.is_none()).cloned(),
    }
}

fn observer(config: &Config, data_dir: &Path, hooks: Hooks, metrics: &Arc<Metrics>) -> Observer {
    let history = History::open(data_dir)
        .inspect_err(|error| tracing::warn!(event = "history_failed", %error, "there is no history file"));
    Observer { node: config.this.name.clone(), history: history.ok(), hooks, metrics: Arc::clone(metrics) }
}

/// What the threads share.
pub(super) struct Parts<'a> {
    pub(super) queues: &'a Queues,
    pub(super) metrics: &'a Arc<Metrics>,
    pub(super) board: &'a Arc<Board>,
    pub(super) broken: &'a watch::Sender<bool>,
}

impl Parts<'_> {
    /// Starts a thread without which the node cannot go on: if it panics, the process ends, and its guardian says so.
    fn spawn<T: Send + 'static>(
        &self,
        name: &str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<JoinHandle<T>, StartError> {
        struct Watch(watch::Sender<bool>);
        impl Drop for Watch {
            fn drop(&mut self) {
                if std::thread::panicking() {
                    self.0.send_replace(true);
                }
            }
        }
        let watch = Watch(self.broken.clone());
        let body = move || {
            let _watch = watch;
            work()
        };
        std::thread::Builder::new().name(name.to_owned()).spawn(body).map_err(|error| failed("start a thread")(&error))
    }
}

/// A witness holds no data: its state stays empty.
fn witness_state() -> Result<State, StartError> {
    State::open(Arc::new(MapTree::new()), hotwarm_store::Options::default())
        .map_err(|error| failed("make an empty state")(&error))
}

/// One hold for all fronts: the widest of theirs, since all of them wait for the same hot.
pub(super) fn hold_limits(config: &Config) -> HoldLimits {
    let holds = config.agreed.fronts.iter().map(|front| front.hold);
    let widest = holds.reduce(|a, b| Hold {
        time_max: a.time_max.max(b.time_max),
        requests_max: a.requests_max.max(b.requests_max),
        bytes_max: a.bytes_max.max(b.bytes_max),
    });
    let hold = widest.unwrap_or_default();
    HoldLimits {
        time_max: hold.time_max,
        count_max: hold.requests_max as usize,
        size_bytes_max: usize::try_from(hold.bytes_max).unwrap_or(usize::MAX),
    }
}
