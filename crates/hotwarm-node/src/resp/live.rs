//! What may change of a front while its connections stand: its settings, its password, who answers reads, how many may
//! connect.
//!
//! Each change counts from the next command, `AUTH` or connection on. Connections that stand are not closed by it: one that
//! has said who it is stays, as with Redis; where a password is new, one that has not is asked for it with its next command.

use crate::config::{Config, Front, Reads, Secret};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// What a front works with at a moment.
#[derive(Debug)]
pub struct FrontSettings {
    /// What the node works with.
    pub config: Arc<Config>,
    /// The front as it is in force: it listens at `listen`.
    pub front: Front,
    /// What clients must know, if anything.
    pub password: Option<Secret>,
}

/// See the module.
#[derive(Debug)]
pub struct LiveFront {
    settings: RwLock<Arc<FrontSettings>>,
    /// What is looked at for each command is kept apart, so that no command waits for another.
    protected: AtomicBool,
    reads: AtomicU8,
    connections: AtomicU32,
    connections_max: AtomicU32,
}

/// A place among the connections of a front; given back when it is dropped.
#[derive(Debug)]
pub struct Place(Arc<LiveFront>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::AcqRel);
    }
}

impl LiveFront {
    /// A front that begins with these settings.
    #[must_use]
    pub fn new(settings: FrontSettings) -> Self {
        Self {
            protected: AtomicBool::new(settings.password.is_some()),
            reads: AtomicU8::new(number_of(settings.front.reads)),
            connections: AtomicU32::new(0),
            connections_max: AtomicU32::new(settings.front.connections_max),
            settings: RwLock::new(Arc::new(settings)),
        }
    }

    /// Goes on with other settings.
    pub fn follow(&self, settings: FrontSettings) {
        let protected = settings.password.is_some();
        let (reads, connections_max) = (number_of(settings.front.reads), settings.front.connections_max);
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
        self.protected.store(protected, Ordering::Release);
        self.reads.store(reads, Ordering::Release);
        self.connections_max.store(connections_max, Ordering::Release);
    }

    /// The settings in force.
    #[must_use]
    pub fn settings(&self) -> Arc<FrontSettings> {
        Arc::clone(&self.settings.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether clients must say who they are.
    #[must_use]
    pub fn is_protected(&self) -> bool {
        self.protected.load(Ordering::Acquire)
    }

    /// Who answers reads.
    #[must_use]
    pub fn reads(&self) -> Reads {
        READS.get(usize::from(self.reads.load(Ordering::Acquire))).copied().unwrap_or(Reads::Hot)
    }

    /// A place for one more connection, if there is one. Fewer places than connections close none of them.
    #[must_use]
    pub fn place(self: &Arc<Self>) -> Option<Place> {
        let max = self.connections_max.load(Ordering::Acquire);
        let taken = self
            .connections
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |count| (count < max).then_some(count + 1));
        taken.is_ok().then(|| Place(Arc::clone(self)))
    }
}

const READS: [Reads; 4] = [Reads::Hot, Reads::Verified, Reads::Session, Reads::Any];

fn number_of(reads: Reads) -> u8 {
    match reads {
        Reads::Hot => 0,
        Reads::Verified => 1,
        Reads::Session => 2,
        Reads::Any => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::File;
    use std::path::Path;

    const FILE: &str = r#"
        [cluster]
        name = "shop"
        [nodes]
        a = { address = "127.0.0.1:7400" }
        [local]
        data_dir = "/data"
        tls_dir = "/tls"
        [group.main]
        [front.redis]
        protocol = "resp"
        listen = "127.0.0.1:6379"
        to = "main"
    "#;

    fn settings(change: impl FnOnce(&mut Front), password: Option<&[u8]>) -> FrontSettings {
        let config = File::parse(FILE, Path::new("hotwarm.toml")).unwrap().for_node("a", "--node").unwrap();
        let mut front = config.fronts().remove(0);
        change(&mut front);
        FrontSettings { config: Arc::new(config), front, password: password.map(Secret::new) }
    }

    #[test]
    fn what_changes_counts_at_once() {
        let front = LiveFront::new(settings(|_| {}, None));
        assert!(!front.is_protected() && front.reads() == Reads::Hot);
        for reads in READS {
            front.follow(settings(|front| front.reads = reads, Some(b"secret")));
            assert_eq!((front.reads(), front.is_protected()), (reads, true));
        }
        assert!(front.settings().password.as_ref().is_some_and(|password| password.matches(b"secret")));
    }

    #[test]
    fn places_follow_their_bound_and_come_back() {
        let front = Arc::new(LiveFront::new(settings(|front| front.connections_max = 2, None)));
        let (one, two) = (front.place().unwrap(), front.place().unwrap());
        assert!(front.place().is_none());
        front.follow(settings(|front| front.connections_max = 1, None));
        drop(one);
        assert!(front.place().is_none(), "the bound is lower than what is still connected");
        drop(two);
        let one = front.place().unwrap();
        front.follow(settings(|front| front.connections_max = 2, None));
        assert!(front.place().is_some());
        drop(one);
    }
}
