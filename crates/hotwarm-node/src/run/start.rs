//! The start of a node: its folder is taken, its ports are opened, then its threads are started.

use super::admin_port::AdminPort;
use super::follower::{Complaints, Follower, FollowerHandle};
use super::fronts::{FrontParts, Fronts};
use super::node::RunningNode;
use super::route::route;
use super::threads::{Parts, Queues, spawn_all};
use crate::admin::fence_text;
use crate::announcer::Announcer;
use crate::board::Board;
use crate::clock;
use crate::config::{Agreed, Config, PeerSecurity};
use crate::crew::{NodeCrew, peer_addresses};
use crate::data_folder::{Contents, DataFolder};
use crate::descriptors;
use crate::event_loop::StateOrder;
use crate::executor::Job;
use crate::guardian::GuardianLink;
use crate::metrics::Metrics;
use crate::snapshot_transfer::{Pinned, Surroundings, Transfers};
use crate::status::Control;
use crate::storage::chain;
use crate::tls::Tls;
use crate::transport::{Identity, PeerEvent, Security, Transport};
use hotwarm_core::FenceReason;
use hotwarm_core::register::GroupState;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, RwLock};
use tokio::runtime::Runtime;
use tokio::sync::{Notify, mpsc, oneshot, watch};

/// Events of peers that may wait for the router.
const PEER_EVENTS_MAX: usize = 4_096;

/// Why a node did not start. What was opened is closed again; nothing that was promised is lost.
#[derive(Debug)]
pub struct StartError {
    what: &'static str,
    why: String,
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.why)
    }
}

impl std::error::Error for StartError {}

pub(super) fn failed(what: &'static str) -> impl Fn(&dyn std::error::Error) -> StartError {
    move |error| StartError { what, why: chain(error) }
}

/// What is open before the threads are started.
pub(super) struct Opened {
    pub(super) runtime: Runtime,
    /// What the file says: `status` compares the register with it.
    file: Arc<Config>,
    /// What the node works with: the same, with what the group has agreed on.
    pub(super) config: Arc<Config>,
    pub(super) folder: Arc<DataFolder>,
    contents: Contents,
    guardian: Option<Arc<GuardianLink>>,
    pub(super) transport: Arc<Transport>,
    from_peers: mpsc::Receiver<PeerEvent>,
    /// What is wrong with certificates.
    warnings: Vec<String>,
    /// The limit of open files, and the connections that all fronts together may have by it.
    descriptors: (u64, u32),
}

impl Opened {
    /// Takes the folder, recovers what is in it, and opens the peer port.
    pub(super) fn open(file: Config, guardian: Option<GuardianLink>) -> Result<Self, StartError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("hotwarm-io")
            .enable_all()
            .build()
            .map_err(|error| failed("start the runtime")(&error))?;
        let (security, tls, ticket_dir) = security(&file)?;
        let certificate = tls.as_ref().map(|tls| tls.identity().clone());
        let memory = file.agreed.group.memory_max_bytes;
        let (data_dir, name) = (&file.local.data_dir, &file.this.name);
        let (folder, contents) =
            DataFolder::open(data_dir, &ticket_dir, name, certificate.as_ref(), rand::random(), memory)
                .map_err(|error| StartError { what: "open the data folder", why: error.to_string() })?;
        let config = Arc::new(as_agreed(&file, &contents));
        let guardian = guardian.map(Arc::new);
        let identity = identity(&config, &contents, guardian.as_deref());
        if let Some(guardian) = &guardian {
            guardian.tell_identity(&identity);
        }
        let (events, from_peers) = mpsc::channel(PEER_EVENTS_MAX);
        let transport = runtime
            .block_on(Transport::start(identity, config.peer_listen(), security, events))
            .map_err(|error| failed("open the peer port")(&error))?;
        let warnings: Vec<String> = tls.iter().flat_map(|tls| tls.warnings().to_vec()).collect();
        let limit = descriptors::raise_limit();
        let descriptors = (limit, descriptors::for_clients(limit));
        if let Some(complaint) = too_few_descriptors(&config, limit, descriptors.1) {
            tracing::warn!(event = "connections_clamped", limit, "{complaint}");
        }
        let (folder, transport) = (Arc::new(folder), Arc::new(transport));
        let file = Arc::new(file);
        Ok(Self { runtime, file, config, folder, contents, guardian, transport, from_peers, warnings, descriptors })
    }

    /// Opens the clients' and the operator's ports and starts everything.
    pub(super) fn start(self) -> Result<RunningNode, StartError> {
        let queues = Queues::default();
        let metrics = Arc::new(Metrics::default());
        let board = Arc::new(Board::default());
        board.space.set_folder(self.folder.root().to_owned());
        let (broken, breaks) = watch::channel(false);
        let (left, leaves) = watch::channel(false);
        let pinned = Pinned::default();
        let transfers = Transfers::new(self.surroundings(&queues, &metrics, &board), pinned.clone());
        let (reloads, asked) = mpsc::channel(1);
        let control = self.control(&queues, &board, &metrics, &transfers, reloads.downgrade());
        let parts = Parts { queues: &queues, metrics: &metrics, board: &board, broken: &broken };
        let (fronts, closed) = self.open_fronts(&parts);
        let admin = self.open_admin(&control)?;
        if self.folder.is_removed() {
            fence_removed(&board, &queues);
        } else {
            self.meet_members();
        }
        let state_changed = Arc::new(Notify::new());
        let crew = self.crew(&parts, &transfers, left, &state_changed);
        let Self { runtime, file, config, folder, contents, guardian, transport, from_peers, .. } = self;
        let hooks = {
            let _entered = runtime.enter();
            crate::hooks::Hooks::start(config.local.on_change.clone(), Arc::clone(&metrics))
        };
        let threads = spawn_all(&parts, &config, &transport, contents, crew, pinned, hooks.clone())?;
        let announcer = Arc::new(Announcer::new(Arc::clone(&transport)));
        announcer.announce(fronts.announced(&config));
        let (core, jobs, to) = (queues.core.clone(), Arc::clone(&queues.jobs), Arc::clone(&announcer));
        runtime.spawn(route(from_peers, core, jobs, transfers.clone(), Arc::clone(&board), to));
        let addresses = fronts.addresses();
        tracing::info!(event = "started", node = %config.this.name, fronts = ?addresses, "the node runs");
        let addresses = Arc::new(Mutex::new(addresses));
        let follower = Follower {
            file: Config::clone(&file),
            started: config.local.clone(),
            config,
            fronts,
            admin,
            announcer,
            control: Arc::clone(&control),
            transport: Arc::clone(&transport),
            folder: Arc::clone(&folder),
            jobs: Arc::clone(&queues.jobs),
            log: Arc::clone(&queues.log),
            hooks,
            state_changed,
            addresses: Arc::clone(&addresses),
            descriptors: self.descriptors,
            text: None,
            complaints: Complaints { links: self.warnings, fronts: closed, ..Complaints::default() },
        };
        follower.publish();
        runtime.spawn(follower.run(asked));
        Ok(RunningNode {
            runtime: Some(runtime),
            queues,
            threads,
            folder,
            control,
            transfers,
            guardian,
            left: leaves,
            broken: breaks,
            follower: FollowerHandle { reloads, addresses },
        })
    }

    fn surroundings(&self, queues: &Queues, metrics: &Arc<Metrics>, board: &Arc<Board>) -> Surroundings {
        Surroundings {
            core: queues.core.clone(),
            transport: Arc::clone(&self.transport),
            group: self.contents.birth.group,
            folder: Arc::clone(&self.folder),
            log: Arc::clone(&queues.log),
            jobs: Arc::clone(&queues.jobs),
            feeder: queues.feeder.clone(),
            metrics: Arc::clone(metrics),
            board: Arc::clone(board),
        }
    }

    fn control(
        &self,
        queues: &Queues,
        board: &Arc<Board>,
        metrics: &Arc<Metrics>,
        transfers: &Transfers,
        reloads: mpsc::WeakSender<oneshot::Sender<()>>,
    ) -> Arc<Control> {
        Arc::new(Control {
            config: RwLock::new(Arc::clone(&self.config)),
            incarnation: self.contents.incarnation,
            core: queues.core.clone(),
            jobs: Arc::clone(&queues.jobs),
            board: Arc::clone(board),
            metrics: Arc::clone(metrics),
            transport: Arc::clone(&self.transport),
            transfers: transfers.clone(),
            data_dir: self.folder.root().to_owned(),
            guardian: AtomicBool::new(self.guardian.is_some()),
            reloads,
            file_read_ms: AtomicU64::new(clock::wall_ms()),
            complaints: RwLock::default(),
        })
    }

    fn crew(
        &self,
        parts: &Parts<'_>,
        transfers: &Transfers,
        left: watch::Sender<bool>,
        state_changed: &Arc<Notify>,
    ) -> NodeCrew {
        let queues = parts.queues;
        NodeCrew {
            transport: Arc::clone(&self.transport),
            runtime: self.runtime.handle().clone(),
            name: self.config.this.name.clone(),
            folder: Arc::clone(&self.folder),
            guardian: self.guardian.clone(),
            log: Arc::clone(&queues.log),
            votes: Arc::clone(&queues.votes),
            reads: Arc::clone(&queues.reads),
            jobs: Arc::clone(&queues.jobs),
            transfers: transfers.clone(),
            notes: Arc::clone(&queues.notes),
            board: Arc::clone(parts.board),
            state_changed: Arc::clone(state_changed),
            left,
            retained: self.contents.recovered.log_floor.lsn,
            remembered: Arc::new(self.remembered().clone()),
            members: self.remembered().members.clone(),
            newcomers: BTreeMap::new(),
        }
    }

    /// The group as this node's folder knows it: by its register, else by its ticket.
    fn remembered(&self) -> &GroupState {
        let accepted = self.contents.recovered.vote.accepted.as_ref().map(|(_, state)| state);
        accepted.unwrap_or(&self.contents.birth.state)
    }

    /// Connects to the members that this node knows of.
    fn meet_members(&self) {
        let state = self.remembered();
        let _entered = self.runtime.enter();
        self.transport.set_silence_timeout(state.settings.timing.grace);
        self.transport.set_members(None, &state.members);
        if let Some(guardian) = &self.guardian {
            guardian.tell_peers(peer_addresses(state, &self.config.this.name));
        }
    }

    /// Opens the fronts that can be opened, and returns a complaint for each that cannot. Such a front does not keep the
    /// node from running: what it needs may have to be agreed on first, and that takes nodes that run.
    fn open_fronts(&self, parts: &Parts<'_>) -> (Fronts, Vec<String>) {
        let mut fronts = Fronts::new(FrontParts {
            jobs: Arc::clone(&parts.queues.jobs),
            board: Arc::clone(parts.board),
            metrics: Arc::clone(parts.metrics),
            incarnation: self.contents.incarnation,
            clients_max: self.descriptors.1,
        });
        let complaints = self.runtime.block_on(fronts.follow(&self.config));
        (fronts, complaints)
    }

    fn open_admin(&self, control: &Arc<Control>) -> Result<AdminPort, StartError> {
        let _entered = self.runtime.enter();
        AdminPort::open(&self.config, Arc::clone(control) as _)
            .map_err(|why| StartError { what: "open the admin API", why })
    }
}

/// The node stays what it learnt in an earlier start that it is: no member. It calls nobody, and says so to whoever asks.
fn fence_removed(board: &Board, queues: &Queues) {
    let why = fence_text(&FenceReason::Removed, |node| node.to_string());
    tracing::error!(event = "fenced", why, "this node serves nothing");
    queues.jobs.push(Job::Order(StateOrder::Fence(why.clone())));
    board.publish(|view| view.fenced = Some(why));
}

/// What is to be said where the fronts' `connections_max` is more than the limit of open files allows.
pub(super) fn too_few_descriptors(config: &Config, limit: u64, clients_max: u32) -> Option<String> {
    let wanted: u64 = config.agreed.fronts.iter().map(|front| u64::from(front.connections_max)).sum();
    if wanted <= u64::from(clients_max) {
        return None;
    }
    Some(format!(
        "connections_max asks for {wanted} clients, but this process may open {limit} files: clients get at most \
         {clients_max} of them, and one more is refused; raise the limit (LimitNOFILE, ulimit -n) or lower \
         connections_max"
    ))
}

/// How links are secured, the certificates, and where the ticket lies.
pub(super) fn security(config: &Config) -> Result<(Security, Option<Arc<Tls>>, PathBuf), StartError> {
    match &config.local.peers {
        PeerSecurity::Tls { dir } => {
            let tls = Arc::new(Tls::load(dir).map_err(|error| failed("load certificates")(&error))?);
            Ok((Security::Tls(Arc::clone(&tls)), Some(tls), dir.clone()))
        }
        PeerSecurity::Plaintext => {
            // Without certificates the ticket lies beside the configuration.
            let dir = config.path.parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf);
            Ok((Security::Plaintext, None, dir))
        }
    }
}

/// What the group has agreed on counts, not what the file says of it: the file seeds the register once.
fn as_agreed(file: &Config, contents: &Contents) -> Config {
    let mut config = file.clone();
    if let Some((_, state)) = &contents.recovered.vote.accepted {
        match Agreed::parse(&state.settings.text) {
            Ok(agreed) => config.agreed = agreed,
            Err(error) => tracing::warn!(event = "settings_unread", %error, "the register's settings cannot be read"),
        }
    }
    config
}

fn identity(config: &Config, contents: &Contents, guardian: Option<&GuardianLink>) -> Identity {
    Identity {
        cluster: contents.birth.cluster,
        group: contents.birth.group,
        name: config.this.name.clone(),
        folder: contents.birth.folder,
        incarnation: contents.incarnation,
        death_digest: guardian.map_or([0; 32], GuardianLink::death_digest),
    }
}
