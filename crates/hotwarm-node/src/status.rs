//! The node as its admin API sees it: gathers the facts from what is published, passes requests on to the core.

use crate::admin::{self, ClockFollowed, LinkFacts, NodeControl, Pending, Role, SyncFacts};
use crate::board::{Board, View};
use crate::clock;
use crate::config::Config;
use crate::event_loop::Core;
use crate::executor::Job;
use crate::history::{Event, History, merged};
use crate::metrics::Metrics;
use crate::observer::name_of;
use crate::queue::Queue;
use crate::snapshot_transfer::{Progress, Transfers};
use crate::transport::{PeerStatus, Transport};
use hotwarm_core::{Answer, Ask, AskRefused, PeerFacts, RoleFact};
use hotwarm_types::{EntryId, Incarnation, Lsn, NodeId};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Events of the node's own file that the API shows.
const EVENTS_SHOWN_MAX: usize = 1_000;

/// A core whose thread has not turned for this long hangs: it turns at least every half beacon.
const TURN_MAX: Duration = Duration::from_secs(5);

/// See the module.
#[derive(Debug)]
pub struct Control {
    /// What the node runs with; replaced when the register has other settings, or the file is read again.
    pub config: RwLock<Arc<Config>>,
    /// This start.
    pub incarnation: Incarnation,
    /// The core.
    pub core: Core,
    /// The executing thread.
    pub jobs: Arc<Queue<Job>>,
    /// What is published.
    pub board: Arc<Board>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// The connections to the others, which know why they are down.
    pub transport: Arc<Transport>,
    /// Full copies under way.
    pub transfers: Transfers,
    /// The data folder, for the history file.
    pub data_dir: PathBuf,
    /// A guardian watches this process.
    pub guardian: AtomicBool,
    /// Asks for the file to be read again; ends with the node.
    pub reloads: mpsc::WeakSender<oneshot::Sender<()>>,
    /// When the file was read last: wall clock, milliseconds since the Unix epoch.
    pub file_read_ms: AtomicU64,
    /// What an operator should mend although the node runs.
    pub complaints: RwLock<Vec<String>>,
}

impl Control {
    /// Shows what is in force, and what is wrong with it.
    pub(crate) fn publish(&self, config: Arc<Config>, complaints: Vec<String>) {
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = config;
        *self.complaints.write().unwrap_or_else(PoisonError::into_inner) = complaints;
    }

    /// The configuration at present.
    #[must_use]
    pub fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn links(&self, facts: &hotwarm_core::Facts) -> BTreeMap<NodeId, LinkFacts> {
        let peers = self.transport.peers().into_iter();
        let mut troubles: BTreeMap<NodeId, String> =
            peers.filter_map(|peer| Some((peer.node, peer.trouble?))).collect();
        facts.peers.iter().map(|(id, peer)| (*id, link_of(peer, troubles.remove(id)))).collect()
    }

    /// Why this node does not reach those whom it asks for the group's state. Once it knows that, `status` names them as
    /// members. A folder that has forgotten something stays here, and is told what to do (R5).
    fn unmet(&self, view: &View) -> Vec<String> {
        if view.state.is_some() || view.fenced.is_some() {
            return Vec::new();
        }
        let unmet =
            |peer: PeerStatus| Some(format!("{} at {} is not connected: {}", peer.name, peer.address, peer.trouble?));
        self.transport.peers().into_iter().filter_map(unmet).collect()
    }

    fn sync_of(view: &View, progress: Progress) -> SyncFacts {
        SyncFacts {
            peer: name_of(view.state.as_deref(), progress.peer),
            sending: progress.sending,
            done_bytes: progress.done_bytes,
            total_bytes: progress.total_bytes,
            resumed_from_bytes: progress.resumed_from_bytes,
        }
    }
}

/// A member's role as the API names it, with what it is doing.
fn role_of(fact: RoleFact, fenced: bool) -> (Role, &'static str) {
    match fact {
        _ if fenced => (Role::Fenced, "fenced"),
        RoleFact::Outsider => (Role::Joining, "joining"),
        RoleFact::HotStarting => (Role::Hot, "starting"),
        RoleFact::HotServing => (Role::Hot, "serving"),
        RoleFact::HotHandingOver => (Role::Hot, "handing_over"),
        RoleFact::Warm => (Role::Warm, "following"),
        RoleFact::WarmStanding => (Role::Warm, "standing"),
        RoleFact::Witness => (Role::Witness, "voting"),
        RoleFact::Fenced => (Role::Fenced, "fenced"),
    }
}

fn link_of(peer: &PeerFacts, trouble: Option<String>) -> LinkFacts {
    LinkFacts {
        connected: peer.connected,
        heard_ms: peer.silent.map(millis),
        durable: peer.durable,
        lag_bytes: peer.lag_bytes,
        lag_ms: peer.lag.map(millis),
        leaving: peer.over,
        trouble: trouble.filter(|_| !peer.connected),
    }
}

fn millis(length: Duration) -> u64 {
    u64::try_from(length.as_millis()).unwrap_or(u64::MAX)
}

impl NodeControl for Control {
    fn facts(&self) -> admin::Facts {
        let view = self.board.view();
        let config = self.config();
        let facts = view.facts.as_ref();
        let fact = facts.map_or(RoleFact::Outsider, |facts| facts.role);
        let (role, mut phase) = role_of(fact, view.fenced.is_some());
        let sync = self.transfers.progress().into_iter().next();
        if role == Role::Warm && sync.as_ref().is_some_and(|sync| !sync.sending) {
            phase = "syncing";
        }
        if facts.is_some_and(|facts| facts.leaving) {
            phase = "leaving";
        }
        let reign = facts.and_then(|facts| facts.reign);
        // A node that follows serves by passing on what it is asked, as long as it reaches the hot.
        let reaches_hot = reign.is_some_and(|reign| {
            facts.is_some_and(|facts| facts.peers.get(&reign.node).is_some_and(|peer| peer.connected))
        });
        let serves = match role {
            Role::Hot => self.board.serves(),
            Role::Warm | Role::Witness => reaches_hot,
            Role::Joining | Role::Fenced => false,
        };
        let mut complaints = self.complaints.read().unwrap_or_else(PoisonError::into_inner).clone();
        if facts.is_some_and(|facts| facts.id.is_some() && !facts.trusted) {
            complaints.push(
                "no majority of the members has confirmed yet that this node has not forgotten anything: until then it neither \
                 votes nor takes over; it needs to reach more of them"
                    .to_owned(),
            );
        }
        complaints.extend(self.unmet(&view));
        complaints.extend(self.board.space.complaint());
        complaints.extend(self.board.space.copy_complaint());
        admin::Facts {
            now_ms: clock::wall_ms(),
            file_read_ms: self.file_read_ms.load(Ordering::Relaxed),
            me: facts.and_then(|facts| facts.id),
            incarnation: self.incarnation,
            role,
            phase: phase.to_owned(),
            serves,
            durable: facts.map_or(EntryId::default(), |facts| EntryId { lsn: facts.durable, ..facts.end }),
            committed: facts.map_or(Lsn::ZERO, |facts| facts.committed),
            applied: Lsn(self.board.counts.applied.load(Ordering::Relaxed)),
            visible: Lsn(self.board.counts.visible.load(Ordering::Relaxed)),
            lease_held: self.board.lease_holds(clock::now()),
            guardian: self.guardian.load(Ordering::Relaxed),
            throttled: facts.is_some_and(|facts| facts.throttled),
            clock_step_ms: self.board.clock_step_ms(),
            held: self.board.counts.held_calls.load(Ordering::Relaxed),
            clients: self.board.counts.clients.load(Ordering::Relaxed),
            links: facts.map(|facts| self.links(facts)).unwrap_or_default(),
            sync: sync.map(|progress| Self::sync_of(&view, progress)),
            complaints,
            fence: view.fenced.clone(),
            state: view.state.as_deref().cloned(),
            config,
        }
    }

    fn history(&self) -> Vec<Event> {
        let state = self.board.glance(|view| view.state.clone());
        merged(state.as_deref(), History::read(&self.data_dir, EVENTS_SHOWN_MAX))
    }

    fn metrics_text(&self) -> String {
        self.metrics.text(&self.status())
    }

    fn is_alive(&self) -> bool {
        let turned_at = self.board.glance(|view| view.at);
        clock::now().since(turned_at) < TURN_MAX
    }

    fn reload(&self) -> Pending<'_, ()> {
        let reloads = self.reloads.upgrade();
        Box::pin(async move {
            let (done, finished) = oneshot::channel();
            if let Some(reloads) = reloads
                && reloads.send(done).await.is_ok()
            {
                // Only a node that ends meanwhile does not answer.
                let _ = finished.await;
            }
        })
    }

    fn follow_clock(&self) -> Pending<'_, Result<ClockFollowed, AskRefused>> {
        Box::pin(async move {
            let (done, followed) = oneshot::channel();
            self.jobs.push(Job::FollowClock { done });
            // Only a node that ends meanwhile does not answer.
            let followed = followed.await.unwrap_or(Err(AskRefused::Unknown))?;
            Ok(ClockFollowed { from_ms: followed.from_ms, to_ms: followed.to_ms })
        })
    }

    fn ask(&self, ask: Ask) -> Pending<'_, Result<Answer, AskRefused>> {
        Box::pin(self.core.ask(ask))
    }
}
