//! A node that runs in this process: what keeps it running, and the order in which its parts end.

use super::follower::FollowerHandle;
use super::start::{Opened, StartError};
use super::threads::{Queues, Threads};
use crate::admin::NodeControl;
use crate::config::Config;
use crate::data_folder::DataFolder;
use crate::guardian::GuardianLink;
use crate::snapshot_transfer::Transfers;
use crate::status::Control;
use hotwarm_core::Ask;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};

/// How long a goodbye may take: handing over needs some milliseconds, and whoever waits for this process waits for it.
const LEAVE_TIME_MAX: Duration = Duration::from_secs(5);

/// How long connections may take to end once the node has stopped.
const RUNTIME_TIME_MAX: Duration = Duration::from_millis(500);

/// A node that runs in this process.
#[derive(Debug)]
pub struct RunningNode {
    /// `None` once it has ended.
    pub(super) runtime: Option<Runtime>,
    pub(super) queues: Queues,
    pub(super) threads: Threads,
    pub(super) folder: Arc<DataFolder>,
    pub(super) control: Arc<Control>,
    pub(super) transfers: Transfers,
    pub(super) guardian: Option<Arc<GuardianLink>>,
    pub(super) left: watch::Receiver<bool>,
    pub(super) broken: watch::Receiver<bool>,
    pub(super) follower: FollowerHandle,
}

impl RunningNode {
    /// Opens the folder, recovers, and starts everything.
    ///
    /// # Errors
    /// What kept it from starting, and what to do about it.
    pub fn start(config: Config, guardian: Option<GuardianLink>) -> Result<Self, StartError> {
        Opened::open(config, guardian)?.start()
    }

    /// Where its fronts listen at the moment, in the order of their names.
    #[must_use]
    pub fn fronts(&self) -> Vec<SocketAddr> {
        self.follower.addresses.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the file again, as on SIGHUP, and waits until it is in force; `status` says what could not be done.
    pub fn reload(&self) {
        if let Some(runtime) = &self.runtime {
            runtime.block_on(self.control.reload());
        }
    }

    /// The node as the admin API sees it.
    #[must_use]
    pub fn control(&self) -> &Arc<Control> {
        &self.control
    }

    /// Works until a signal ends it, or the node has left, or a part of it has broken.
    #[must_use]
    pub fn run_until_told(mut self) -> ExitCode {
        let left = self.left.clone();
        let broken = self.broken.clone();
        let guardian = self.guardian.clone();
        let control = Arc::clone(&self.control);
        let reloads = self.follower.reloads.clone();
        let told = match &self.runtime {
            Some(runtime) => runtime.block_on(wait_for_end(left, broken, guardian, control, reloads)),
            None => Told::Broken,
        };
        match told {
            Told::Broken => {
                tracing::error!(event = "broken", "a part of the node has failed; the process ends");
                self.close();
                ExitCode::from(3)
            }
            Told::Stop => self.stop(),
        }
    }

    /// Says goodbye, then ends.
    #[must_use]
    pub fn stop(mut self) -> ExitCode {
        let core = self.queues.core.clone();
        let mut left = self.left.clone();
        let goodbye = async move {
            core.tell_request(Ask::Leave);
            tokio::time::timeout(LEAVE_TIME_MAX, left.wait_for(|left| *left)).await.is_ok_and(|left| left.is_ok())
        };
        let said = self.runtime.as_ref().is_some_and(|runtime| runtime.block_on(goodbye));
        let clean = self.close();
        if said && clean { ExitCode::SUCCESS } else { ExitCode::from(3) }
    }

    /// Ends without a goodbye, as after a crash, though what was appended is synced.
    pub fn abandon(mut self) {
        self.close();
    }

    /// Ends all parts, in the order of who gives work to whom. Whether all is safely on the disk.
    fn close(&mut self) -> bool {
        let Some(runtime) = self.runtime.take() else { return true };
        self.transfers.stop();
        self.queues.core.stop();
        let mut clean = join(self.threads.core.take());
        // Nobody ticks any more, and what follows may take longer than a lease: that is no frozen node.
        if let Some(guardian) = &self.guardian {
            guardian.end_watch();
        }
        self.queues.jobs.close();
        clean &= join(self.threads.executor.take());
        self.queues.log.close();
        let log = self.threads.log.take().map(JoinHandle::join);
        if let Some(Ok(Err(error))) = &log {
            tracing::error!(event = "log_not_closed", %error, "the log was not closed cleanly");
        }
        clean &= matches!(log, Some(Ok(Ok(()))));
        self.queues.votes.close();
        self.queues.reads.close();
        self.queues.segments.close();
        self.queues.feeder.orders.close();
        self.queues.notes.close();
        for thread in self.threads.others.drain(..) {
            clean &= join(Some(thread));
        }
        if clean && let Err(error) = self.folder.close_cleanly() {
            tracing::error!(event = "folder_not_closed", %error, "the end could not be noted as clean");
            clean = false;
        }
        runtime.shutdown_timeout(RUNTIME_TIME_MAX);
        clean
    }
}

impl Drop for RunningNode {
    fn drop(&mut self) {
        self.close();
    }
}

fn join(thread: Option<JoinHandle<()>>) -> bool {
    thread.is_none_or(|thread| thread.join().is_ok())
}

/// Why a node ends.
enum Told {
    Stop,
    Broken,
}

async fn wait_for_end(
    mut left: watch::Receiver<bool>,
    mut broken: watch::Receiver<bool>,
    guardian: Option<Arc<GuardianLink>>,
    control: Arc<Control>,
    reloads: mpsc::Sender<oneshot::Sender<()>>,
) -> Told {
    let (Ok(mut terminate), Ok(mut interrupt), Ok(mut hangup)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()), signal(SignalKind::hangup()))
    else {
        return Told::Broken;
    };
    if let Some(guardian) = guardian {
        let control = Arc::clone(&control);
        tokio::spawn(async move {
            if guardian.gone().await.is_ok() {
                control.guardian.store(false, Ordering::Relaxed);
                tracing::warn!(event = "guardian_gone", "the guardian is gone; the grace applies to this node");
            }
        });
    }
    loop {
        tokio::select! {
            _ = terminate.recv() => return Told::Stop,
            _ = interrupt.recv() => return Told::Stop,
            // One that waits reads the file as it is now.
            _ = hangup.recv() => drop(reloads.try_send(oneshot::channel().0)),
            result = left.wait_for(|left| *left) => {
                return if result.is_ok() { Told::Stop } else { Told::Broken };
            }
            _ = broken.wait_for(|broken| *broken) => return Told::Broken,
        }
    }
}
