//! The TLS of the peer port: who a node is by certificate, and what it demands of the other end.
//!
//! Both ends present a certificate of the group's own authority, in TLS 1.3 only. The identity is the URI
//! `spiffe://hotwarm/<cluster>/<name>` in the certificate, bound to the connection by the handshake; no host name is
//! checked, since containers change theirs. A session is never resumed, so the certificates are verified each time.
//! The cryptography is named explicitly: nothing here depends on what else in the process has installed a provider.

use hotwarm_types::ClusterId;
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use x509_parser::extensions::GeneralName;

/// The authority's certificate, in a node's TLS folder.
pub const CA_FILE: &str = "ca.pem";
/// The node's certificate.
pub const CERTIFICATE_FILE: &str = "node.pem";
/// The node's private key.
pub const KEY_FILE: &str = "node.key";
/// The DNS name in every node's certificate: what the TLS library checks, while the identity is in the URI.
pub const PEER_DNS_NAME: &str = "node.hotwarm.internal";

const URI_PREFIX: &str = "spiffe://hotwarm/";
const REMEDY: &str = "\"hotwarm init\" makes the folder's files, \"hotwarm node add\" those of a further node";

/// Who a certificate says its holder is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateIdentity {
    /// The cluster whose node it is.
    pub cluster: ClusterId,
    /// The node's name.
    pub name: String,
}

impl CertificateIdentity {
    /// The URI that stands in the certificate.
    #[must_use]
    pub fn uri(&self) -> String {
        format!("{URI_PREFIX}{}/{}", self.cluster, self.name)
    }

    /// Reads the one URI of that form in a certificate. The certificate's chain has been verified by then.
    ///
    /// # Errors
    /// What is missing, as a phrase.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Self, &'static str> {
        let paths = uri_paths(certificate)?;
        let mut found = paths.iter().filter_map(|path| {
            let (cluster, name) = path.split_once('/')?;
            Some(Self { cluster: ClusterId::parse(cluster)?, name: name.to_owned() })
        });
        match (found.next(), found.next()) {
            (Some(identity), None) => Ok(identity),
            (None, _) => Err("it names no node: a URI spiffe://hotwarm/<cluster>/<name> is missing"),
            (Some(_), Some(_)) => Err("it names more than one node"),
        }
    }
}

/// The URI in the certificate of a cluster's authority.
pub(crate) fn authority_uri(cluster: ClusterId) -> String {
    format!("{URI_PREFIX}{cluster}")
}

/// The cluster whose authority a certificate is for.
pub(crate) fn authority_cluster(certificate: &CertificateDer<'_>) -> Result<ClusterId, &'static str> {
    let paths = uri_paths(certificate)?;
    paths.iter().find_map(|path| ClusterId::parse(path)).ok_or("it names no cluster")
}

/// What follows the prefix in each URI of ours.
fn uri_paths(certificate: &CertificateDer<'_>) -> Result<Vec<String>, &'static str> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).map_err(|_| "it is no X.509 certificate")?;
    let names = parsed.subject_alternative_name().map_err(|_| "its alternative names cannot be read")?;
    let names = names.map(|extension| extension.value.general_names.as_slice()).unwrap_or_default();
    let path = |name: &GeneralName<'_>| match name {
        GeneralName::URI(uri) => uri.strip_prefix(URI_PREFIX).map(str::to_owned),
        _other_form => None,
    };
    Ok(names.iter().filter_map(path).collect())
}

/// A node's certificates, ready to use.
#[derive(Clone)]
pub struct Tls {
    identity: CertificateIdentity,
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
    warnings: Vec<String>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("identity", &self.identity).finish_non_exhaustive()
    }
}

impl Tls {
    /// Loads `ca.pem`, `node.pem` and `node.key` of a folder.
    ///
    /// # Errors
    /// Which file is wrong, how, and what to do.
    pub fn load(folder: &Path) -> Result<Self, TlsError> {
        let (ca, certificate, key) = (folder.join(CA_FILE), folder.join(CERTIFICATE_FILE), folder.join(KEY_FILE));
        let roots = load_roots(&ca)?;
        let chain = load_certificates(&certificate)?;
        let first = chain.first().ok_or_else(|| TlsError::Empty { path: certificate.clone() })?;
        let identity = CertificateIdentity::of(first)
            .map_err(|problem| TlsError::Identity { path: certificate.clone(), problem })?;
        let private = PrivateKeyDer::from_pem_file(&key).map_err(|error| TlsError::Pem { path: key.clone(), error })?;
        let unusable = |error| TlsError::Unusable { certificate: certificate.clone(), key: key.clone(), error };
        let client = client_config(&roots, chain.clone(), private.clone_key()).map_err(unusable)?;
        let server = server_config(roots, chain, private).map_err(unusable)?;
        let warnings = warn_of_open_key(&key).into_iter().collect();
        Ok(Self { identity, client: Arc::new(client), server: Arc::new(server), warnings })
    }

    /// Who this node is by its certificate.
    #[must_use]
    pub fn identity(&self) -> &CertificateIdentity {
        &self.identity
    }

    /// What an operator should mend although the node runs.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The dialling end.
    #[must_use]
    pub fn connector(&self) -> tokio_rustls::TlsConnector {
        Arc::clone(&self.client).into()
    }

    /// The accepting end.
    pub(crate) fn acceptor(&self) -> tokio_rustls::TlsAcceptor {
        Arc::clone(&self.server).into()
    }

    /// The name that a dialling end asks for.
    ///
    /// # Panics
    /// Never: the name is a constant.
    #[must_use]
    pub fn server_name() -> ServerName<'static> {
        ServerName::try_from(PEER_DNS_NAME).expect("the constant is a DNS name")
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn load_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let error = |error| TlsError::Pem { path: path.to_owned(), error };
    CertificateDer::pem_file_iter(path).map_err(error)?.collect::<Result<_, _>>().map_err(error)
}

fn load_roots(path: &Path) -> Result<Arc<RootCertStore>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in load_certificates(path)? {
        roots.add(certificate).map_err(|error| TlsError::Authority { path: path.to_owned(), error })?;
    }
    if roots.is_empty() { Err(TlsError::Empty { path: path.to_owned() }) } else { Ok(Arc::new(roots)) }
}

fn client_config(
    roots: &Arc<RootCertStore>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ClientConfig, rustls::Error> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(Arc::clone(roots))
        .with_client_auth_cert(chain, key)?;
    config.resumption = Resumption::disabled();
    Ok(config)
}

fn server_config(
    roots: Arc<RootCertStore>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, rustls::Error> {
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider())
        .build()
        .map_err(|error| rustls::Error::General(error.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)?;
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// A key that others may read is used all the same: a node that does not start protects nothing.
fn warn_of_open_key(path: &Path) -> Option<String> {
    let mode = std::fs::metadata(path).ok()?.mode() & 0o7777;
    let text = format!(
        "private key {path:?} may be read by others (mode {mode:04o}): whoever reads it can pass for this node; \
         run \"chmod 600 {}\"",
        path.display()
    );
    (mode & 0o077 != 0).then_some(text)
}

/// Why a TLS folder cannot be used.
#[derive(Debug)]
pub enum TlsError {
    /// A file cannot be read, or holds no PEM of the expected kind.
    Pem {
        /// The file.
        path: PathBuf,
        /// Why.
        error: pem::Error,
    },
    /// A file holds no certificate.
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// A certificate of the authority cannot be used as one.
    Authority {
        /// The file.
        path: PathBuf,
        /// Why.
        error: rustls::Error,
    },
    /// The node's certificate does not say who the node is.
    Identity {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: &'static str,
    },
    /// Certificate and key do not work together.
    Unusable {
        /// The certificate.
        certificate: PathBuf,
        /// The key.
        key: PathBuf,
        /// Why.
        error: rustls::Error,
    },
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // What the system said follows as the source.
            Self::Pem { path, error: pem::Error::Io(_) } => write!(f, "read {path:?}, as this user ({REMEDY})"),
            Self::Pem { path, .. } => write!(f, "{path:?} is no PEM file of the expected kind; {REMEDY}"),
            Self::Empty { path } => write!(f, "{path:?} holds no certificate; {REMEDY}"),
            Self::Authority { path, .. } => write!(f, "{path:?} is no authority's certificate; {REMEDY}"),
            Self::Identity { path, problem } => {
                write!(f, "certificate {path:?} does not say which node it is for: {problem}; {REMEDY}")
            }
            Self::Unusable { certificate, key, .. } => write!(
                f,
                "certificate {certificate:?} and key {key:?} do not work together: they must be made in one act; {REMEDY}"
            ),
        }
    }
}

impl std::error::Error for TlsError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Pem { error: pem::Error::Io(error), .. } => Some(error),
            Self::Pem { error, .. } => Some(error),
            Self::Authority { error, .. } | Self::Unusable { error, .. } => Some(error),
            Self::Empty { .. } | Self::Identity { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::birth::Authority;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    const CLUSTER: ClusterId = ClusterId(0xc1);

    fn folder_of(name: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::create(CLUSTER, "shop").unwrap();
        authority.issue(name).unwrap().write(folder.path()).unwrap();
        folder
    }

    #[test]
    fn a_folder_says_who_the_node_is() {
        let folder = folder_of("a");
        let tls = Tls::load(folder.path()).unwrap();
        assert_eq!(tls.identity(), &CertificateIdentity { cluster: CLUSTER, name: "a".into() });
        assert_eq!(tls.identity().uri(), "spiffe://hotwarm/000000000000000000000000000000c1/a");
        assert!(tls.warnings().is_empty());
    }

    #[test]
    fn a_key_that_others_may_read_is_warned_of() {
        let folder = folder_of("a");
        fs::set_permissions(folder.path().join(KEY_FILE), fs::Permissions::from_mode(0o644)).unwrap();
        let warnings = Tls::load(folder.path()).unwrap().warnings().to_vec();
        assert!(warnings[0].contains("mode 0644") && warnings[0].contains("chmod 600"), "{warnings:?}");
    }

    #[test]
    fn each_file_that_is_missing_or_wrong_is_named() {
        for file in [CA_FILE, CERTIFICATE_FILE, KEY_FILE] {
            let folder = folder_of("a");
            let path = folder.path().join(file);
            for content in [None, Some(""), Some("-----BEGIN NONSENSE-----\n")] {
                match content {
                    Some(content) => fs::write(&path, content).unwrap(),
                    None => fs::remove_file(&path).unwrap(),
                }
                let error = Tls::load(folder.path()).unwrap_err().to_string();
                assert!(error.contains(file) && error.contains("hotwarm init"), "{file} {content:?}: {error}");
            }
        }
    }

    #[test]
    fn a_file_that_cannot_be_read_says_what_the_system_said() {
        let folder = folder_of("a");
        let path = folder.path().join(KEY_FILE);
        fs::remove_file(&path).unwrap();
        // Root may read anything, but no folder is a file.
        fs::create_dir(&path).unwrap();
        let said = crate::storage::chain(&Tls::load(folder.path()).unwrap_err());
        assert!(said.contains(KEY_FILE) && said.contains("Is a directory"), "{said}");
    }

    #[test]
    fn the_key_of_another_certificate_is_refused() {
        let (folder, other) = (folder_of("a"), folder_of("a"));
        fs::copy(other.path().join(KEY_FILE), folder.path().join(KEY_FILE)).unwrap();
        assert!(matches!(Tls::load(folder.path()), Err(TlsError::Unusable { .. })));
    }

    #[test]
    fn a_certificate_that_names_no_node_is_refused() {
        let folder = folder_of("a");
        fs::copy(folder.path().join(CA_FILE), folder.path().join(CERTIFICATE_FILE)).unwrap();
        let error = Tls::load(folder.path()).unwrap_err().to_string();
        assert!(error.contains("names no node"), "{error}");
    }
}
