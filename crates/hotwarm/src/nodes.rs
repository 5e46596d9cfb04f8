//! Which node a command asks: the one that `--admin` names, or those that the configuration has on this machine.
//!
//! Reading asks the first that answers. A change that only the hot can make follows the refusal of another node to
//! the hot, where the configuration says how to reach it; else the refusal says whom to ask.

use crate::failure::Failure;
use crate::flags::Common;
use hotwarm_node::admin::{CallError, Client, ErrorKind};
use hotwarm_node::config::{self, Config, File, LoadError, Secret};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::ErrorKind as IoErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

/// Where the configuration is if nothing says otherwise.
const CONFIG_DEFAULT: &str = "/etc/hotwarm/hotwarm.toml";
/// Where a node's admin API is if nothing says otherwise.
const ADMIN_DEFAULT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 7480);

/// The configuration file that is meant.
pub fn config_path(common: &Common) -> PathBuf {
    common.config.clone().unwrap_or_else(|| PathBuf::from(CONFIG_DEFAULT))
}

/// Nodes that can be asked, the preferred one first.
pub struct Nodes {
    known: Vec<Known>,
}

struct Known {
    /// Its name, where the configuration gives it.
    name: Option<String>,
    client: Client,
}

impl Nodes {
    /// Finds out whom to ask.
    ///
    /// # Errors
    /// The configuration that was named is faulty, or a token cannot be read.
    pub fn find(common: &Common) -> Result<Self, Failure> {
        if let Some(address) = common.admin {
            let token = token(common.token_file.as_deref())?;
            return Ok(Self { known: vec![Known { name: None, client: Client::new(address, token) }] });
        }
        let file = match config::load_file(&config_path(common)) {
            Ok(file) => file,
            Err(LoadError::Unreadable { source, .. })
                if source.kind() == IoErrorKind::NotFound && common.config.is_none() =>
            {
                let client = Client::new(ADMIN_DEFAULT, token(common.token_file.as_deref())?);
                return Ok(Self { known: vec![Known { name: None, client }] });
            }
            Err(error) => return Err(error.into()),
        };
        Self::of_file(&file, common)
    }

    /// The node that is meant, then the others that the file has on this machine.
    fn of_file(file: &File, common: &Common) -> Result<Self, Failure> {
        let meant = match config::this_node(file, common.node.as_deref()) {
            Ok(config) => Some(config),
            Err(error) if common.node.is_some() => return Err(LoadError::WhichNode(error).into()),
            Err(_) => None,
        };
        let mut configs: Vec<Config> = meant.into_iter().collect();
        if common.node.is_none() {
            let here = file.nodes.iter().filter(|node| file.local.of_node.contains_key(&node.name));
            let others = here.filter_map(|node| file.for_node(&node.name, "the file").ok());
            let known = configs.first().map(|config| config.this.name.clone());
            configs.extend(others.filter(|config| Some(&config.this.name) != known.as_ref()));
        }
        let mut known = Vec::new();
        for config in configs {
            let token = token(common.token_file.as_deref().or(config.local.admin_token_file.as_deref()))?;
            known.push(Known { name: Some(config.this.name), client: Client::new(config.local.admin, token) });
        }
        if known.is_empty() {
            let token = token(common.token_file.as_deref().or(file.local.admin_token_file.as_deref()))?;
            known.push(Known { name: None, client: Client::new(file.local.admin, token) });
        }
        Ok(Self { known })
    }

    /// Reads a route of the first node that answers.
    ///
    /// # Errors
    /// No node answers, or the one that did refused.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, CallError> {
        self.first_that_answers(|client| client.get(path)).1
    }

    /// Asks the first node that answers for a change, and the hot if only the hot can make it.
    ///
    /// # Errors
    /// No node answers, or the change was refused.
    pub fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, CallError> {
        let (asked, answer) = self.first_that_answers(|client| client.post(path, body));
        let Err(CallError::Refused(refusal)) = &answer else { return answer };
        let elsewhere = [ErrorKind::NotHot, ErrorKind::WrongRole].contains(&refusal.kind);
        let hot = refusal.hot.as_deref().filter(|_| elsewhere);
        let at = hot.and_then(|hot| self.known.iter().position(|known| known.name.as_deref() == Some(hot)));
        match at.filter(|at| *at != asked) {
            Some(at) => self.known[at].client.post(path, body),
            None => answer,
        }
    }

    fn first_that_answers<T>(&self, call: impl Fn(&Client) -> Result<T, CallError>) -> (usize, Result<T, CallError>) {
        let last = self.known.len() - 1;
        for (index, known) in self.known[..last].iter().enumerate() {
            match call(&known.client) {
                Err(CallError::Unreachable { .. }) => {}
                answer => return (index, answer),
            }
        }
        (last, call(&self.known[last].client))
    }
}

fn token(path: Option<&Path>) -> Result<Option<Secret>, Failure> {
    path.map(Secret::read).transpose().map_err(Failure::from)
}
