//! The node as its admin API sees it: gathers the facts from what is published, passes requests on to the core.

use crate::admin::{self, LinkFacts, NodeControl, Pending, Role, SyncFacts};
use crate::board::{Board, View};
use crate::clock;
use crate::config::Config;
use crate::event_loop::Core;
use crate::history::{Event, History, merged};
use crate::metrics::Metrics;
use crate::observer::name_of;
use crate::snapshot_transfer::{Progress, Transfers};
use hotwarm_core::{Answer, Ask, AskRefused, PeerFacts, RoleFact};
use hotwarm_types::{EntryId, Incarnation, Lsn, NodeId};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

/// Events of the node's own file that the API shows.
const EVENTS_SHOWN_MAX: usize = 1_000;

/// A core whose thread has not turned for this long hangs: it turns at least every half beacon.
const TURN_MAX: Duration = Duration::from_secs(5);

/// See the module.
#[derive(Debug)]
pub struct Control {
    /// What the node runs with; replaced when the file is read again.
    pub config: RwLock<Arc<Config>>,
    /// This start.
    pub incarnation: Incarnation,
    /// The core.
    pub core: Core,
    /// What is published.
    pub board: Arc<Board>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Full copies under way.
    pub transfers: Transfers,
    /// The data folder, for the history file.
    pub data_dir: PathBuf,
    /// A guardian watches this process.
    pub guardian: AtomicBool,
    /// What an operator should mend although the node runs.
    pub complaints: Vec<String>,
}

impl Control {
    /// The configuration at present.
    #[must_use]
    pub fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn sync_of(view: &View, progress: Progress) -> SyncFacts {
        SyncFacts {
            peer: name_of(view.state.as_deref(), progress.peer),
            sending: progress.sending,
            done_bytes: progress.done_bytes,
            total_bytes: progress.total_bytes,
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

fn link_of(peer: &PeerFacts) -> LinkFacts {
    LinkFacts {
        connected: peer.connected,
        heard_ms: peer.silent.map(millis),
        durable: peer.durable,
        lag_bytes: peer.lag_bytes,
        lag_ms: peer.lag.map(millis),
        leaving: peer.over,
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
        let mut complaints = self.complaints.clone();
        if facts.is_some_and(|facts| facts.id.is_some() && !facts.trusted) {
            complaints.push("no majority of the members has confirmed this node's memory yet".to_owned());
        }
        admin::Facts {
            now_ms: clock::wall_ms(),
            me: facts.and_then(|facts| facts.id),
            incarnation: self.incarnation,
            role,
            phase: phase.to_owned(),
            serves,
            durable: facts.map_or(EntryId::default(), |facts| EntryId { lsn: facts.durable, ..facts.end }),
            committed: facts.map_or(Lsn::ZERO, |facts| facts.committed),
            applied: Lsn(self.board.counts.applied.load(Ordering::Relaxed)),
            lease_held: self.board.lease_holds(clock::now()),
            guardian: self.guardian.load(Ordering::Relaxed),
            throttled: facts.is_some_and(|facts| facts.throttled),
            held: self.board.counts.held_calls.load(Ordering::Relaxed),
            clients: self.board.counts.clients.load(Ordering::Relaxed),
            links: facts
                .map(|facts| facts.peers.iter().map(|(id, peer): (&NodeId, _)| (*id, link_of(peer))).collect())
                .unwrap_or_default(),
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

    fn ask(&self, ask: Ask) -> Pending<'_, Result<Answer, AskRefused>> {
        Box::pin(self.core.ask(ask))
    }
}
