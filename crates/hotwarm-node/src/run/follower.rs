//! How a running node follows its settings: the group's as soon as the register has others, its own file's on SIGHUP.
//!
//! ```text
//!   register --changed--+                      +--> fronts, admin port
//!                       +--> what is in force -+--> executor (hold, memory), log (history), hooks, log level
//!   file ------SIGHUP---+                      +--> status, the other nodes
//! ```
//!
//! Timers and what decides about acknowledgements are the core's: it has them from the register itself. What a part cannot
//! follow stays as it was and is complained of in `status`, with the way out, until it can.

use super::admin_port::AdminPort;
use super::fronts::Fronts;
use super::start::{security, too_few_descriptors};
use super::threads::hold_limits;
use crate::announcer::Announcer;
use crate::clock;
use crate::config::{Agreed, Config, Local, load};
use crate::data_folder::DataFolder;
use crate::executor::Job;
use crate::hooks::Hooks;
use crate::log_setup;
use crate::queue::Queue;
use crate::status::Control;
use crate::storage::{LogOrder, chain};
use crate::transport::Transport;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{Notify, mpsc, oneshot};

/// The way to a follower, and what it tells.
#[derive(Debug)]
pub(super) struct FollowerHandle {
    /// Asks for the file to be read again, and who waits for it.
    pub(super) reloads: mpsc::Sender<oneshot::Sender<()>>,
    /// Where the fronts listen, in the order of their names.
    pub(super) addresses: Arc<Mutex<Vec<SocketAddr>>>,
}

/// See the module.
pub(super) struct Follower {
    /// The file as it was read last.
    pub(super) file: Config,
    /// What is in force.
    pub(super) config: Arc<Config>,
    /// What those parts were started with that cannot follow.
    pub(super) started: Local,
    pub(super) fronts: Fronts,
    pub(super) admin: AdminPort,
    pub(super) announcer: Arc<Announcer>,
    pub(super) control: Arc<Control>,
    pub(super) transport: Arc<Transport>,
    pub(super) folder: Arc<DataFolder>,
    pub(super) jobs: Arc<Queue<Job>>,
    pub(super) log: Arc<Queue<LogOrder>>,
    pub(super) hooks: Hooks,
    /// Notified when the group's state has changed.
    pub(super) state_changed: Arc<Notify>,
    pub(super) addresses: Arc<Mutex<Vec<SocketAddr>>>,
    /// The limit of open files, and what of it is for clients.
    pub(super) descriptors: (u64, u32),
    /// The register's text that is followed.
    pub(super) text: Option<String>,
    pub(super) complaints: Complaints,
}

/// What is wrong with the settings, by where it comes from.
#[derive(Debug, Default)]
pub(super) struct Complaints {
    /// Certificates.
    pub(super) links: Vec<String>,
    /// The file, read again.
    pub(super) file: Option<String>,
    /// The register's settings.
    pub(super) register: Option<String>,
    /// The admin port.
    pub(super) admin: Option<String>,
    /// Fronts.
    pub(super) fronts: Vec<String>,
}

impl Follower {
    /// Follows until nobody can ask for anything any more.
    pub(super) async fn run(mut self, mut reloads: mpsc::Receiver<oneshot::Sender<()>>) {
        loop {
            tokio::select! {
                () = self.state_changed.notified() => self.follow_register().await,
                asked = reloads.recv() => {
                    let Some(done) = asked else { return };
                    self.reload().await;
                    // Who asked by a signal does not wait.
                    let _ = done.send(());
                }
            }
        }
    }

    /// Takes over the register's settings, if they have changed.
    async fn follow_register(&mut self) {
        let text = self.control.board.glance(|view| view.state.as_ref().map(|state| state.settings.text.clone()));
        if text.is_none() || text == self.text {
            return;
        }
        let agreed = Agreed::parse(text.as_deref().unwrap_or_default());
        self.text = text;
        match agreed {
            Ok(agreed) => {
                self.complaints.register = None;
                let changed = agreed != self.config.agreed;
                self.follow(agreed).await;
                if changed {
                    tracing::info!(event = "settings_followed", "the group's new settings are in force on this node");
                }
            }
            Err(error) => {
                tracing::error!(event = "settings_unread", %error, "the register's settings cannot be read");
                self.complaints.register = Some(format!(
                    "this program cannot read the group's settings and goes on with those it had: upgrade it if others are \
                     newer, else apply a correct file ({error})"
                ));
                self.publish();
            }
        }
    }

    /// Reads the file again, with the files that it names.
    async fn reload(&mut self) {
        let (path, name) = (self.file.path.clone(), self.file.this.name.clone());
        let read = load(&path, Some(&name)).map_err(|error| chain(&error)).and_then(|config| {
            let (security, tls, _) = security(&config).map_err(|error| error.to_string())?;
            Ok((config, security, tls))
        });
        let (file, security, tls) = match read {
            Ok(read) => read,
            Err(error) => {
                tracing::error!(event = "reload_failed", %error, "the configuration is unchanged");
                self.complaints.file = Some(format!(
                    "{} cannot be used, and this node goes on with what it had: correct it and reload this node (SIGHUP): \
                     {error}",
                    path.display()
                ));
                return self.publish();
            }
        };
        self.transport.set_security(security);
        self.complaints.links = tls.iter().flat_map(|tls| tls.warnings().to_vec()).collect();
        self.complaints.file = None;
        self.control.file_read_ms.store(clock::wall_ms(), Ordering::Relaxed);
        log_setup::set_level(file.local.log.level);
        self.hooks.follow(file.local.on_change.clone());
        // Until the register is known, the file is what the group will begin with.
        let agreed = if self.text.is_some() { self.config.agreed.clone() } else { file.agreed.clone() };
        self.file = file;
        self.complaints.admin = self.admin.follow(&self.file).await.err();
        if let Some(complaint) = &self.complaints.admin {
            tracing::error!(event = "admin_not_moved", "{complaint}");
        }
        self.follow(agreed).await;
        let restart = needs_restart(&self.started, &self.file.local);
        if restart.is_empty() {
            tracing::info!(event = "reloaded", "the configuration was read again and is in force");
        } else {
            let keys = restart.join(", ");
            tracing::warn!(
                event = "reloaded",
                needs_restart = keys,
                "the configuration was read again; {keys} needs a restart"
            );
        }
    }

    /// Puts the file under `agreed` into force.
    async fn follow(&mut self, agreed: Agreed) {
        let before = Arc::clone(&self.config);
        let config = Arc::new(self.file.under(agreed));
        self.config = Arc::clone(&config);
        self.complaints.fronts = self.fronts.follow(&config).await;
        let (old, new) = (&before.agreed.group, &config.agreed.group);
        self.jobs.push(Job::Hold(hold_limits(&config)));
        if old.memory_max_bytes != new.memory_max_bytes {
            let size_bytes_max = self.folder.set_memory(new.memory_max_bytes);
            self.jobs.push(Job::CacheSize(size_bytes_max));
        }
        if old.history != new.history {
            self.log.push(LogOrder::History(new.history));
        }
        self.announcer.announce(self.fronts.announced(&config));
        self.publish();
    }

    /// Shows what is in force, and what is wrong with it.
    pub(super) fn publish(&self) {
        *self.addresses.lock().unwrap_or_else(PoisonError::into_inner) = self.fronts.addresses();
        let (limit, clients_max) = self.descriptors;
        let Complaints { links, file, register, admin, fronts } = &self.complaints;
        let mut said: Vec<String> = links.clone();
        said.extend([file, register, admin].into_iter().flatten().cloned());
        said.extend(fronts.iter().cloned());
        said.extend(too_few_descriptors(&self.config, limit, clients_max));
        said.extend(needs_restart(&self.started, &self.file.local).iter().map(|key| {
            format!("{key} was changed in this node's file and takes effect only when it is started again")
        }));
        self.control.publish(Arc::clone(&self.config), said);
    }
}

/// Keys of `[local]` that a running node cannot follow, and that have changed since it started.
fn needs_restart(started: &Local, now: &Local) -> Vec<&'static str> {
    let changed = [
        ("local.data_dir", started.data_dir != now.data_dir),
        ("local.listen", started.listen != now.listen),
        ("local.log.format", started.log.format != now.log.format),
    ];
    changed.into_iter().filter(|(_, changed)| *changed).map(|(key, _)| key).collect()
}
