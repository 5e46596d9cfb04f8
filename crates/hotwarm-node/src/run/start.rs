//! The start of a node: its folder is taken, its ports are opened, then its threads are started.

use super::node::RunningNode;
use super::route::route;
use super::threads::{Parts, Queues, spawn_all};
use crate::admin::{self, Access};
use crate::board::Board;
use crate::config::{Agreed, Config, PeerSecurity, Secret};
use crate::crew::{NodeCrew, peer_addresses};
use crate::data_folder::{Contents, DataFolder};
use crate::guardian::GuardianLink;
use crate::metrics::Metrics;
use crate::resp::{FrontServer, FrontShared, Listening};
use crate::snapshot_transfer::{Pinned, Surroundings, Transfers};
use crate::status::Control;
use crate::storage::chain;
use crate::tls::Tls;
use crate::transport::{Identity, PeerEvent, Security, Transport};
use hotwarm_types::Incarnation;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, RwLock};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};

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
    complaints: Vec<String>,
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
        let mut complaints: Vec<String> = tls.iter().flat_map(|tls| tls.warnings().to_vec()).collect();
        if tls.is_none() {
            complaints.push("links to peers are not protected: allow_plaintext is set".to_owned());
        }
        let (folder, transport) = (Arc::new(folder), Arc::new(transport));
        let file = Arc::new(file);
        Ok(Self { runtime, file, config, folder, contents, guardian, transport, from_peers, complaints })
    }

    /// Opens the clients' and the operator's ports and starts everything.
    pub(super) fn start(self) -> Result<RunningNode, StartError> {
        let queues = Queues::default();
        let metrics = Arc::new(Metrics::default());
        let board = Arc::new(Board::default());
        let (broken, breaks) = watch::channel(false);
        let (left, leaves) = watch::channel(false);
        let pinned = Pinned::default();
        let transfers = Transfers::new(self.surroundings(&queues), pinned.clone());
        let control = self.control(&queues, &board, &metrics, &transfers);
        let parts = Parts { queues: &queues, metrics: &metrics, board: &board, broken: &broken };
        let fronts = self.open_fronts(&parts)?;
        self.open_admin(&control)?;
        self.meet_members();
        let crew = self.crew(&parts, &transfers, left);
        let Self { runtime, config, folder, contents, guardian, transport, from_peers, .. } = self;
        let hooks = {
            let _entered = runtime.enter();
            crate::hooks::Hooks::start(config.local.on_change.clone(), Arc::clone(&metrics))
        };
        let threads = spawn_all(&parts, &config, &transport, contents, crew, pinned, hooks)?;
        runtime.spawn(route(from_peers, queues.core.clone(), Arc::clone(&queues.jobs), transfers.clone()));
        let addresses = fronts.iter().filter_map(|front| front.local_address().ok()).collect();
        for front in fronts {
            runtime.spawn(front.run());
        }
        tracing::info!(event = "started", node = %config.this.name, fronts = ?addresses, "the node runs");
        Ok(RunningNode {
            runtime: Some(runtime),
            queues,
            threads,
            folder,
            control,
            transport,
            transfers,
            guardian,
            left: leaves,
            broken: breaks,
            fronts: addresses,
        })
    }

    fn surroundings(&self, queues: &Queues) -> Surroundings {
        Surroundings {
            core: queues.core.clone(),
            transport: Arc::clone(&self.transport),
            group: self.contents.birth.group,
            folder: Arc::clone(&self.folder),
            log: Arc::clone(&queues.log),
            jobs: Arc::clone(&queues.jobs),
            feeder: queues.feeder.clone(),
        }
    }

    fn control(
        &self,
        queues: &Queues,
        board: &Arc<Board>,
        metrics: &Arc<Metrics>,
        transfers: &Transfers,
    ) -> Arc<Control> {
        Arc::new(Control {
            config: RwLock::new(Arc::clone(&self.file)),
            incarnation: self.contents.incarnation,
            core: queues.core.clone(),
            board: Arc::clone(board),
            metrics: Arc::clone(metrics),
            transfers: transfers.clone(),
            data_dir: self.folder.root().to_owned(),
            guardian: AtomicBool::new(self.guardian.is_some()),
            complaints: self.complaints.clone(),
        })
    }

    fn crew(&self, parts: &Parts<'_>, transfers: &Transfers, left: watch::Sender<bool>) -> NodeCrew {
        let queues = parts.queues;
        NodeCrew {
            transport: Arc::clone(&self.transport),
            runtime: self.runtime.handle().clone(),
            name: self.config.this.name.clone(),
            guardian: self.guardian.clone(),
            log: Arc::clone(&queues.log),
            votes: Arc::clone(&queues.votes),
            reads: Arc::clone(&queues.reads),
            jobs: Arc::clone(&queues.jobs),
            feeder: queues.feeder.clone(),
            transfers: transfers.clone(),
            notes: Arc::clone(&queues.notes),
            board: Arc::clone(parts.board),
            left,
            retained: self.contents.recovered.log_floor.lsn,
            ticking: false,
        }
    }

    /// Connects to the members that this node knows of: those of its register, else those of its ticket.
    fn meet_members(&self) {
        let known = self.contents.recovered.vote.accepted.as_ref().map(|(_, state)| state);
        let state = known.unwrap_or(&self.contents.birth.state);
        let _entered = self.runtime.enter();
        self.transport.set_silence_timeout(state.settings.timing.grace);
        self.transport.set_members(None, &state.members);
        if let Some(guardian) = &self.guardian {
            guardian.tell_peers(peer_addresses(state, &self.config.this.name));
        }
    }

    fn open_fronts(&self, parts: &Parts<'_>) -> Result<Vec<Listening>, StartError> {
        let incarnation: Incarnation = self.contents.incarnation;
        let _entered = self.runtime.enter();
        let next_client = Arc::new(AtomicU64::new(1));
        let mut open = Vec::new();
        for front in self.config.fronts() {
            let password = match &front.password_file {
                Some(path) => Some(Secret::read(path).map_err(|error| failed("read a front's password")(&error))?),
                None => None,
            };
            let server = FrontServer::new(
                Arc::clone(&self.config),
                front.clone(),
                password,
                Arc::clone(parts.board),
                Arc::clone(parts.metrics),
                incarnation,
            );
            let shared = Arc::new(FrontShared {
                jobs: Arc::clone(&parts.queues.jobs),
                server: Arc::new(server),
                reads: front.reads,
                metrics: Arc::clone(parts.metrics),
                next_client: Arc::clone(&next_client),
            });
            let listening = Listening::open(&front, shared).map_err(|error| StartError {
                what: "open a front",
                why: format!("listen for clients on {}: {error}", front.listen),
            })?;
            open.push(listening);
        }
        Ok(open)
    }

    fn open_admin(&self, control: &Arc<Control>) -> Result<(), StartError> {
        let token = match &self.config.local.admin_token_file {
            Some(path) => Some(Secret::read(path).map_err(|error| failed("read the admin token")(&error))?),
            None => None,
        };
        let address = self.config.local.admin;
        let listener = self
            .runtime
            .block_on(TcpListener::bind(address))
            .map_err(|error| StartError { what: "open the admin API", why: format!("listen on {address}: {error}") })?;
        let control: Arc<dyn admin::NodeControl> = Arc::clone(control) as _;
        self.runtime.spawn(admin::serve(listener, control, Access { token }));
        Ok(())
    }
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
