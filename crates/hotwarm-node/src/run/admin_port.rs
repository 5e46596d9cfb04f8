//! The port of the admin API, and how it follows `[local]`: another address, another token.

use crate::admin::{self, Access, NodeControl};
use crate::config::{Config, Secret};
use crate::storage::chain;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use tokio::task::JoinHandle;

/// See the module.
pub(super) struct AdminPort {
    control: Arc<dyn NodeControl>,
    listen: SocketAddr,
    /// Kept beside the serving task, so that another task can go on with it.
    listener: TcpListener,
    serving: JoinHandle<()>,
}

impl AdminPort {
    /// Opens the port and serves. Must be called on a runtime.
    ///
    /// # Errors
    /// What keeps it from being opened.
    pub(super) fn open(config: &Config, control: Arc<dyn NodeControl>) -> Result<Self, String> {
        let access = access(config)?;
        let listen = config.local.admin;
        let opened = bind(listen).and_then(|listener| Ok((serve(&listener, &control, access)?, listener)));
        let (serving, listener) = opened.map_err(|error| format!("listen on {listen}: {error}"))?;
        Ok(Self { control, listen, listener, serving })
    }

    /// Goes on as `[local]` says: requests under way end as they began. Must be called on a runtime.
    ///
    /// # Errors
    /// A complaint: the port stays as it was.
    pub(super) async fn follow(&mut self, config: &Config) -> Result<(), String> {
        let old = self.listen;
        let stays = format!("the admin API stays on {old} with the token that it had");
        let access = access(config).map_err(|why| {
            format!("local.admin_token_file: {why}; {stays}; put the token there, then reload this node (SIGHUP)")
        })?;
        let listen = config.local.admin;
        let moved = if listen == old { self.listener.try_clone() } else { bind(listen) };
        let served = moved.and_then(|listener| Ok((serve(&listener, &self.control, access)?, listener)));
        let (serving, listener) = served.map_err(|error| {
            format!(
                "local.admin: {listen} cannot be listened on ({error}); {stays}; free the address and reload this node \
                 (SIGHUP), or start it again"
            )
        })?;
        let before = std::mem::replace(&mut self.serving, serving);
        (self.listen, self.listener) = (listen, listener);
        before.abort();
        // It ends by the abort: what is awaited is that its socket is closed.
        let _ = before.await;
        Ok(())
    }
}

fn bind(listen: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(listen)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn serve(listener: &TcpListener, control: &Arc<dyn NodeControl>, access: Access) -> io::Result<JoinHandle<()>> {
    let listener = tokio::net::TcpListener::from_std(listener.try_clone()?)?;
    Ok(tokio::spawn(admin::serve(listener, Arc::clone(control), access)))
}

fn access(config: &Config) -> Result<Access, String> {
    let token = config.local.admin_token_file.as_deref().map(Secret::read).transpose();
    token.map(|token| Access { token }).map_err(|error| chain(&error))
}
