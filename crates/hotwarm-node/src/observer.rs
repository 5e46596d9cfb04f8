//! What becomes of the core's notes: the log, the history file, metrics, hooks. On a thread of its own, since a history
//! file is synced and the core waits for nobody.

use crate::clock;
use crate::history::{Event, History, Source};
use crate::hooks::Hooks;
use crate::log_setup;
use crate::metrics::Metrics;
use crate::queue::Queue;
use hotwarm_core::Note;
use hotwarm_core::register::GroupState;
use hotwarm_store::Followed;
use hotwarm_types::NodeId;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Something to record, with the wall clock of when it happened.
#[derive(Debug)]
pub struct Noted {
    at_ms: u64,
    what: What,
}

#[derive(Debug)]
enum What {
    Note { note: Note, state: Option<Arc<GroupState>> },
    Fenced { why: String },
    ClockFollowed(Followed),
}

impl Noted {
    /// A note of the core; names are those of `state`.
    #[must_use]
    pub fn note(note: Note, state: Option<Arc<GroupState>>) -> Self {
        Self { at_ms: clock::wall_ms(), what: What::Note { note, state } }
    }

    /// The node has stopped serving.
    #[must_use]
    pub fn fenced(why: String) -> Self {
        Self { at_ms: clock::wall_ms(), what: What::Fenced { why } }
    }

    /// Group time has stepped onto the wall clock, on an operator's word.
    #[must_use]
    pub fn clock_followed(followed: Followed) -> Self {
        Self { at_ms: clock::wall_ms(), what: What::ClockFollowed(followed) }
    }
}

/// Where notes go.
#[derive(Debug)]
pub struct Observer {
    /// This node's name.
    pub node: String,
    /// The file; `None` where it could not be opened: losing it loses no safety.
    pub history: Option<History>,
    /// The operator's own tools.
    pub hooks: Hooks,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

impl Observer {
    /// Records until the queue is closed. Notes come with changes of the group's state and of links, and with what operators
    /// ask for, which bounds the queue.
    pub fn run(mut self, queue: &Queue<Noted>) {
        let mut batch = Vec::new();
        while queue.take(&mut batch, None) {
            for noted in batch.drain(..) {
                self.record(noted);
            }
        }
    }

    fn record(&mut self, noted: Noted) {
        let event = match noted.what {
            What::Note { note, state } => {
                self.metrics.note(&note, state.as_deref());
                Event::of_note(&note, &self.node, noted.at_ms, |node| name_of(state.as_deref(), node))
            }
            What::Fenced { why } => {
                let what = format!("{} has stopped serving: {why}", self.node);
                self.event(noted.at_ms, "fenced", what, "fenced", why)
            }
            What::ClockFollowed(Followed { from_ms, to_ms }) => {
                let by_s = to_ms.saturating_sub(from_ms) / 1_000;
                let what = format!("group time followed the wall clock of {}, {by_s} s forward", self.node);
                let evidence = format!("from {from_ms} to {to_ms} ms since 1970");
                self.event(noted.at_ms, "clock_followed", what, "operator", evidence)
            }
        };
        log_setup::event(&event);
        self.hooks.tell(&event);
        if let Some(history) = &mut self.history
            && let Err(error) = history.append(&event)
        {
            tracing::warn!(event = "history_failed", %error, "an event is not in the history file");
        }
    }

    /// An event of this node that no note of the core tells of.
    fn event(&self, at_ms: u64, event: &str, what: String, cause: &str, evidence: String) -> Event {
        Event {
            at_ms,
            source: Source::Node,
            event: event.to_owned(),
            node: self.node.clone(),
            epoch: None,
            what,
            cause: cause.to_owned(),
            evidence,
            phases_ms: BTreeMap::new(),
        }
    }
}

/// A member's name, also of one that has gone; its number where it is not known.
#[must_use]
pub fn name_of(state: Option<&GroupState>, node: NodeId) -> String {
    state.map_or_else(|| node.to_string(), |state| crate::admin::name_of(state, node))
}
