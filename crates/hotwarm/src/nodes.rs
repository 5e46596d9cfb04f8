//! Which node a command asks: the one that `--admin` names, or those that the configuration has on this machine.
//!
//! The first that answers is asked, and one that accepts a connection and says nothing is told of and passed over. A
//! change that only the hot can make follows the refusal of another node to the hot, where the configuration says how
//! to reach it; else the refusal says whom to ask.

use crate::failure::Failure;
use crate::flags::{Common, InFile};
use hotwarm_node::admin::{CallError, Client, ErrorBody, ErrorKind};
use hotwarm_node::config::{self, Config, File, LoadError, Secret};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::io::ErrorKind as IoErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

/// Where the configuration is if nothing says otherwise.
const CONFIG_DEFAULT: &str = "/etc/hotwarm/hotwarm.toml";
/// Where a node's admin API is if nothing says otherwise.
const ADMIN_DEFAULT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 7480);

/// The configuration file that is meant.
pub fn config_path(file: &InFile) -> PathBuf {
    file.config.clone().unwrap_or_else(|| PathBuf::from(CONFIG_DEFAULT))
}

/// Nodes that can be asked, the preferred one first.
pub struct Nodes {
    /// Those that are asked until one answers; never empty.
    asked: Vec<Known>,
    /// Those that are asked only where a refusal names them as the hot.
    others: Vec<Known>,
}

struct Known {
    /// Its name, where the configuration gives it.
    name: Option<String>,
    client: Client,
}

/// Why there is no good answer.
#[derive(Debug)]
pub enum AskError {
    /// No node answers: what became of each that was asked.
    Silence(Vec<CallError>),
    /// A node refused, or it is not known what it did.
    Call(CallError),
    /// Only the hot does it, and it cannot be asked from here.
    Elsewhere {
        /// What the node that was asked said.
        refusal: ErrorBody,
        /// Why the hot was not asked, and what to do.
        why: String,
    },
}

impl AskError {
    /// Whether nothing was said, rather than no.
    pub fn is_silence(&self) -> bool {
        matches!(
            self,
            Self::Silence(_)
                | Self::Call(CallError::Unreachable { .. } | CallError::Silent { .. } | CallError::Lost { .. })
        )
    }
}

impl fmt::Display for AskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silence(errors) => {
                let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
                f.write_str(&texts.join("; "))
            }
            Self::Call(error) => error.fmt(f),
            Self::Elsewhere { refusal, why } => write!(f, "{}; {why}", refusal.error),
        }
    }
}

impl std::error::Error for AskError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Silence(errors) if errors.len() == 1 => errors[0].source(),
            Self::Call(error) => error.source(),
            Self::Silence(_) | Self::Elsewhere { .. } => None,
        }
    }
}

impl Nodes {
    /// Finds out whom to ask.
    ///
    /// # Errors
    /// The configuration that was named is faulty, or a token cannot be read.
    pub fn find(common: &Common) -> Result<Self, Failure> {
        if let Some(address) = common.admin {
            return Self::at(address, common);
        }
        let file = match config::load_file(&config_path(&common.file)) {
            Ok(file) => file,
            Err(LoadError::Unreadable { source, .. })
                if source.kind() == IoErrorKind::NotFound && common.file.config.is_none() =>
            {
                let client = Client::new(ADMIN_DEFAULT, token(common.token_file.as_deref())?);
                return Ok(Self { asked: vec![Known { name: None, client }], others: Vec::new() });
            }
            Err(error) => return Err(error.into()),
        };
        Self::of_file(&file, common)
    }

    /// The node of that address alone. Its group may be another than the file's, so a refusal is followed only where the
    /// file has a node there.
    fn at(address: SocketAddr, common: &Common) -> Result<Self, Failure> {
        let client = Client::new(address, token(common.token_file.as_deref())?);
        let asked = vec![Known { name: None, client }];
        let file = config::load_file(&config_path(&common.file)).ok();
        let configs = file.map(|file| on_this_machine(&file)).unwrap_or_default();
        let others = if configs.iter().any(|config| config.local.admin == address) {
            configs.into_iter().filter_map(|config| known(config, common).ok()).collect()
        } else {
            Vec::new()
        };
        Ok(Self { asked, others })
    }

    /// The node that is meant, then the others that the file has on this machine.
    fn of_file(file: &File, common: &Common) -> Result<Self, Failure> {
        let meant = match config::this_node(file, common.file.node.as_deref()) {
            Ok(config) => Some(config),
            Err(error) if common.file.node.is_some() => return Err(LoadError::WhichNode(error).into()),
            Err(_) => None,
        };
        let mut others = on_this_machine(file);
        others.retain(|config| meant.as_ref().is_none_or(|meant| meant.this.name != config.this.name));
        let mut asked = Vec::new();
        if let Some(meant) = meant {
            asked.push(known(meant, common)?);
        }
        let mut follow = Vec::new();
        for config in others {
            match known(config, common) {
                // Whose token cannot be read is nobody to follow to.
                known if common.file.node.is_some() => follow.extend(known.ok()),
                known => asked.push(known?),
            }
        }
        if asked.is_empty() {
            let token = token(common.token_file.as_deref().or(file.local.admin_token_file.as_deref()))?;
            asked.push(Known { name: None, client: Client::new(file.local.admin, token) });
        }
        Ok(Self { asked, others: follow })
    }

    /// Reads a route of the first node that answers.
    ///
    /// # Errors
    /// No node answers, or the one that did refused.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, AskError> {
        let at = self.first_that_answers()?;
        self.asked[at].client.get(path).map_err(AskError::Call)
    }

    /// Asks the first node that answers for a change, and the hot if only the hot can make it.
    ///
    /// # Errors
    /// No node answers, or the change was refused.
    pub fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, AskError> {
        let at = self.first_that_answers()?;
        let refusal = match self.asked[at].client.post(path, body) {
            Err(CallError::Refused(refusal)) => refusal,
            answer => return answer.map_err(AskError::Call),
        };
        let elsewhere = [ErrorKind::NotHot, ErrorKind::WrongRole].contains(&refusal.kind);
        let Some(hot) = refusal.hot.clone().filter(|_| elsewhere) else {
            return Err(AskError::Call(CallError::Refused(refusal)));
        };
        let Some(known) = self.asked.iter().chain(&self.others).find(|known| known.name.as_ref() == Some(&hot)) else {
            let why =
                format!("run it on the machine of {hot}, or name the admin address of {hot} with --admin IP:PORT");
            return Err(AskError::Elsewhere { refusal, why });
        };
        match known.client.probe().and_then(|()| known.client.post(path, body)) {
            Err(error @ (CallError::Unreachable { .. } | CallError::Silent { .. })) => {
                let why = format!("{hot} was asked, and {error}");
                Err(AskError::Elsewhere { refusal, why })
            }
            answer => answer.map_err(AskError::Call),
        }
    }

    /// Lets every node of this machine that can be reached read its file again; those that could not, and why.
    pub fn reload(&self) -> Vec<AskError> {
        let answers = self.asked.iter().map(|known| {
            known
                .client
                .probe()
                .and_then(|()| known.client.post::<serde_json::Value>("/reload", &serde_json::json!({})))
        });
        let failed = answers.filter_map(Result::err);
        // Who is not there reads its file when it starts.
        failed.filter(|error| !matches!(error, CallError::Unreachable { .. })).map(AskError::Call).collect()
    }

    /// The first node that says anything at all within a short time.
    fn first_that_answers(&self) -> Result<usize, AskError> {
        let mut silent = Vec::new();
        for (at, known) in self.asked.iter().enumerate() {
            let Err(error) = known.client.probe() else {
                for error in silent.iter().filter(|error| matches!(error, CallError::Silent { .. })) {
                    // Beside the answer of another node.
                    eprintln!("hotwarm: {error}");
                }
                return Ok(at);
            };
            silent.push(error);
        }
        Err(AskError::Silence(silent))
    }
}

/// The nodes that the file has on this machine.
fn on_this_machine(file: &File) -> Vec<Config> {
    let here = file.nodes.iter().filter(|node| file.local.of_node.contains_key(&node.name));
    here.filter_map(|node| file.for_node(&node.name, "the file").ok()).collect()
}

fn known(config: Config, common: &Common) -> Result<Known, Failure> {
    let token = token(common.token_file.as_deref().or(config.local.admin_token_file.as_deref()))?;
    Ok(Known { name: Some(config.this.name), client: Client::new(config.local.admin, token) })
}

fn token(path: Option<&Path>) -> Result<Option<Secret>, Failure> {
    path.map(Secret::read).transpose().map_err(Failure::from)
}
