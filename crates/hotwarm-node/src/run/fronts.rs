//! The fronts of a node: which listen, and how each follows its settings while it runs.
//!
//! Each front goes as far as it can by itself: what cannot be done leaves that front as it was, and gives a complaint that
//! names the key and the way out. A new address is opened before the old one is closed, so that no client finds nobody;
//! clients that are connected stay.

use crate::board::Board;
use crate::config::{Config, Front, Secret, SecretError};
use crate::executor::Job;
use crate::metrics::Metrics;
use crate::queue::Queue;
use crate::resp::{FrontServer, FrontSettings, FrontShared, Listening, LiveFront};
use crate::storage::chain;
use hotwarm_types::Incarnation;
use hotwarm_wire::{Frame, FrontAddress};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// How to let a front try again what it could not do.
const TRY_AGAIN: &str = "reload this node (SIGHUP, systemctl reload hotwarm)";

/// What all fronts need of the node.
#[derive(Debug)]
pub(super) struct FrontParts {
    pub(super) jobs: Arc<Queue<Job>>,
    pub(super) board: Arc<Board>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) incarnation: Incarnation,
    /// Connections that all fronts together may have, by the limit of open files.
    pub(super) clients_max: u32,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Fronts {
    parts: FrontParts,
    next_client: Arc<AtomicU64>,
    descriptors: Arc<Semaphore>,
    open: BTreeMap<String, OpenFront>,
}

#[derive(Debug)]
struct OpenFront {
    shared: Arc<FrontShared>,
    /// As the settings say it.
    listen: SocketAddr,
    /// As the system says it.
    address: SocketAddr,
    accepting: JoinHandle<()>,
}

impl Fronts {
    pub(super) fn new(parts: FrontParts) -> Self {
        let descriptors = Arc::new(Semaphore::new(parts.clients_max as usize));
        Self { parts, next_client: Arc::new(AtomicU64::new(1)), descriptors, open: BTreeMap::new() }
    }

    /// Where they listen, in the order of their names.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        self.open.values().map(|open| open.address).collect()
    }

    /// Where clients reach them, for the other nodes.
    pub(super) fn announced(&self, config: &Config) -> BTreeMap<String, FrontAddress> {
        let told = self.open.iter().take(Frame::FRONTS_COUNT_MAX).map(|(name, open)| {
            let (host, port) = config.announced(&open.shared.live.settings().front);
            (name.clone(), FrontAddress { host, port })
        });
        told.collect()
    }

    /// Goes on as `config` says. Returns a complaint for each front that could not follow.
    pub(super) async fn follow(&mut self, config: &Arc<Config>) -> Vec<String> {
        let wanted = config.fronts();
        self.open.retain(|name, open| {
            let stays = wanted.iter().any(|front| front.name == *name);
            if !stays {
                open.accepting.abort();
                tracing::info!(event = "front_closed", front = name, address = %open.address,
                    "a front was removed and takes no more connections");
            }
            stays
        });
        let mut complaints = Vec::new();
        for front in wanted {
            let name = front.name.clone();
            if let Err(complaint) = self.follow_one(config, front).await {
                tracing::error!(event = "front_failed", front = name, "{complaint}");
                complaints.push(complaint);
            }
        }
        complaints
    }

    async fn follow_one(&mut self, config: &Arc<Config>, mut front: Front) -> Result<(), String> {
        front.connections_max = front.connections_max.min(self.parts.clients_max);
        let key = format!("front.{}", front.name);
        let there = self.open.get(&front.name).map(|open| open.listen);
        let stays = if there.is_some() { "it stays as it was" } else { "it is not opened" };
        if front.is_exposed_on(front.listen) {
            return Err(format!(
                "{key}.listen: {} on this machine is beyond loopback and needs password_file or allow_insecure; {stays}; \
                 set one of them, or another listen, and run \"hotwarm apply\", or {TRY_AGAIN} if [local] sets it",
                front.listen
            ));
        }
        let password = read_password(&front).map_err(|error| {
            format!("{key}.password_file: {}; {stays}; put the password there and {TRY_AGAIN}", chain(&error))
        })?;
        let Some(old) = there else { return self.open_new(config, front, password) };
        if old == front.listen {
            self.follow_settings(config, front, password);
            return Ok(());
        }
        match self.rebind(&front).await {
            Ok(listening) => {
                self.follow_settings(config, front.clone(), password);
                self.move_to(&front, listening).await;
                Ok(())
            }
            Err(error) => {
                let complaint = format!(
                    "{key}.listen: {} cannot be listened on ({error}); clients are still served on {old}; free the address \
                     and {TRY_AGAIN}, or correct the key and run \"hotwarm apply\"",
                    front.listen
                );
                front.listen = old;
                // The old address may need the old password.
                if !front.is_exposed_on(old) {
                    self.follow_settings(config, front, password);
                }
                Err(complaint)
            }
        }
    }

    fn open_new(&mut self, config: &Arc<Config>, front: Front, password: Option<Secret>) -> Result<(), String> {
        let (name, listen) = (front.name.clone(), front.listen);
        let live = Arc::new(LiveFront::new(FrontSettings { config: Arc::clone(config), front, password }));
        let FrontParts { jobs, board, metrics, incarnation, .. } = &self.parts;
        let server = FrontServer::new(Arc::clone(&live), Arc::clone(board), Arc::clone(metrics), *incarnation);
        let shared = Arc::new(FrontShared {
            jobs: Arc::clone(jobs),
            server: Arc::new(server),
            live,
            metrics: Arc::clone(metrics),
            next_client: Arc::clone(&self.next_client),
            descriptors: Arc::clone(&self.descriptors),
        });
        let listening = Listening::open(listen, Arc::clone(&shared)).map_err(|error| {
            format!(
                "front.{name}.listen: {listen} cannot be listened on ({error}); it is not opened; free the address and \
                 {TRY_AGAIN}, or correct the key and run \"hotwarm apply\""
            )
        })?;
        let address = listening.local_address().unwrap_or(listen);
        let accepting = tokio::spawn(listening.run());
        tracing::info!(event = "front_opened", front = name, %address, "a front listens");
        self.open.insert(name, OpenFront { shared, listen, address, accepting });
        Ok(())
    }

    fn follow_settings(&self, config: &Arc<Config>, front: Front, password: Option<Secret>) {
        if let Some(open) = self.open.get(&front.name) {
            open.shared.live.follow(FrontSettings { config: Arc::clone(config), front, password });
        }
    }

    /// Opens a front's new address while the old one is still open. Only where the old one itself is in the way, the same
    /// port on all addresses and on one, it is closed first, and opened again if the new one cannot be had.
    async fn rebind(&mut self, front: &Front) -> io::Result<Listening> {
        let Some(open) = self.open.get_mut(&front.name) else { return Err(io::ErrorKind::NotFound.into()) };
        match Listening::open(front.listen, Arc::clone(&open.shared)) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && front.listen.port() == open.listen.port() => {
                open.accepting.abort();
                // It ends by the abort: what is awaited is that its socket is closed.
                let _ = (&mut open.accepting).await;
                let opened = Listening::open(front.listen, Arc::clone(&open.shared));
                if opened.is_err() {
                    open.accepting = tokio::spawn(Listening::open(open.listen, Arc::clone(&open.shared))?.run());
                }
                opened
            }
            opened => opened,
        }
    }

    async fn move_to(&mut self, front: &Front, listening: Listening) {
        let Some(open) = self.open.get_mut(&front.name) else { return };
        let (old, address) = (open.address, listening.local_address().unwrap_or(front.listen));
        let before = std::mem::replace(&mut open.accepting, tokio::spawn(listening.run()));
        before.abort();
        // It ends by the abort: what is awaited is that its socket is closed. Where it was in the way, that has been done.
        if !before.is_finished() {
            let _ = before.await;
        }
        (open.listen, open.address) = (front.listen, address);
        tracing::info!(event = "front_moved", front = front.name, %old, %address, "a front listens elsewhere now");
    }
}

fn read_password(front: &Front) -> Result<Option<Secret>, SecretError> {
    front.password_file.as_deref().map(Secret::read).transpose()
}
