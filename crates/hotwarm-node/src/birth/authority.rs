//! The group's own certificate authority: made by `hotwarm init`, used again for each further node.
//!
//! Keys are ECDSA P-256. Certificates carry no end (RFC 5280, 4.1.2.5: 99991231235959Z): an authority that serves one
//! group is replaced by an operator's act, and a forgotten date must not stop a group that works.

use crate::tls::{
    CA_FILE, CERTIFICATE_FILE, CertificateIdentity, KEY_FILE, PEER_DNS_NAME, authority_cluster, authority_uri,
};
use hotwarm_types::ClusterId;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType, date_time_ymd,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The authority's private key, in the folder that `hotwarm init` writes and nowhere else.
pub const CA_KEY_FILE: &str = "ca.key";

/// Signs the certificates of one cluster's nodes.
pub struct Authority {
    cluster: ClusterId,
    certificate_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("cluster", &self.cluster).finish_non_exhaustive()
    }
}

impl Authority {
    /// Makes a new authority. Nothing is written.
    ///
    /// # Errors
    /// When no key can be generated.
    pub fn create(cluster: ClusterId, cluster_name: &str) -> Result<Self, AuthorityError> {
        let key = KeyPair::generate().map_err(AuthorityError::Sign)?;
        let mut params = params(&format!("hotwarm authority of {cluster_name}"), &authority_uri(cluster))?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate_pem = params.self_signed(&key).map_err(AuthorityError::Sign)?.pem();
        Ok(Self { cluster, certificate_pem, issuer: Issuer::new(params, key) })
    }

    /// Loads the authority from the folder that `hotwarm init` wrote.
    ///
    /// # Errors
    /// Which of its two files is wrong.
    pub fn load(folder: &Path) -> Result<Self, AuthorityError> {
        let (path, key_path) = (folder.join(CA_FILE), folder.join(CA_KEY_FILE));
        let certificate_pem = read(&path)?;
        let key_pem = read(&key_path)?;
        let wrong = |path: &Path, problem: String| AuthorityError::Unusable { path: path.to_owned(), problem };
        let certificate = CertificateDer::from_pem_slice(certificate_pem.as_bytes())
            .map_err(|error| wrong(&path, error.to_string()))?;
        let cluster = authority_cluster(&certificate).map_err(|problem| wrong(&path, problem.to_owned()))?;
        let key = KeyPair::from_pem(&key_pem).map_err(|error| wrong(&key_path, error.to_string()))?;
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(|error| wrong(&path, error.to_string()))?;
        Ok(Self { cluster, certificate_pem, issuer })
    }

    /// The cluster whose nodes it signs for.
    #[must_use]
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// Makes a key and a certificate for a node. Nothing is written.
    ///
    /// # Errors
    /// When the name cannot stand in a certificate or no key can be generated.
    pub fn issue(&self, name: &str) -> Result<IssuedCertificate, AuthorityError> {
        let key = KeyPair::generate().map_err(AuthorityError::Sign)?;
        let uri = CertificateIdentity { cluster: self.cluster, name: name.to_owned() }.uri();
        let mut params = params(&format!("hotwarm node {name}"), &uri)?;
        let peer = PEER_DNS_NAME.try_into().map_err(AuthorityError::Sign)?;
        params.subject_alt_names.push(SanType::DnsName(peer));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.issuer).map_err(AuthorityError::Sign)?;
        Ok(IssuedCertificate {
            ca_pem: self.certificate_pem.clone(),
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
        })
    }

    /// Writes `ca.pem` and `ca.key`; never over a file that exists.
    ///
    /// # Errors
    /// Which file could not be written.
    pub fn write(&self, folder: &Path) -> Result<(), AuthorityError> {
        write_new(&folder.join(CA_FILE), self.certificate_pem.as_bytes(), 0o644)?;
        write_new(&folder.join(CA_KEY_FILE), self.issuer.key().serialize_pem().as_bytes(), 0o600)
    }
}

/// A node's certificate and key, and the authority's certificate; not written yet.
pub struct IssuedCertificate {
    ca_pem: String,
    certificate_pem: String,
    key_pem: String,
}

impl fmt::Debug for IssuedCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IssuedCertificate").field("certificate_pem", &self.certificate_pem).finish_non_exhaustive()
    }
}

impl IssuedCertificate {
    /// Writes `ca.pem`, `node.pem` and `node.key` into a folder that exists; never over a file that exists.
    ///
    /// # Errors
    /// Which file could not be written.
    pub fn write(&self, folder: &Path) -> Result<(), AuthorityError> {
        write_new(&folder.join(CA_FILE), self.ca_pem.as_bytes(), 0o644)?;
        write_new(&folder.join(CERTIFICATE_FILE), self.certificate_pem.as_bytes(), 0o644)?;
        write_new(&folder.join(KEY_FILE), self.key_pem.as_bytes(), 0o600)
    }
}

/// Makes a certificate for `name` with the authority in `ca_folder` and writes `ca.pem`, `node.pem` and `node.key` into
/// `out`, which is made if it is not there: for a node that gets a new certificate. Never over a file that exists.
///
/// # Errors
/// When the authority cannot be loaded or a file cannot be written.
pub fn issue_certificate(ca_folder: &Path, name: &str, out: &Path) -> Result<(), AuthorityError> {
    let issued = Authority::load(ca_folder)?.issue(name)?;
    std::fs::create_dir_all(out).map_err(|error| AuthorityError::Write { path: out.to_owned(), error })?;
    issued.write(out)
}

fn params(common_name: &str, uri: &str) -> Result<CertificateParams, AuthorityError> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.subject_alt_names = vec![SanType::URI(uri.try_into().map_err(AuthorityError::Sign)?)];
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(9999, 12, 31) + Duration::from_secs(86_399);
    Ok(params)
}

fn read(path: &Path) -> Result<String, AuthorityError> {
    std::fs::read_to_string(path).map_err(|error| AuthorityError::Read { path: path.to_owned(), error })
}

/// Writes and syncs a file that must not exist.
pub(super) fn write_new(path: &Path, content: &[u8], mode: u32) -> Result<(), AuthorityError> {
    let create = || -> io::Result<File> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        file.write_all(content)?;
        file.sync_all()?;
        Ok(file)
    };
    create().map(drop).map_err(|error| AuthorityError::Write { path: path.to_owned(), error })
}

/// Why no certificate was made.
#[derive(Debug)]
pub enum AuthorityError {
    /// A file of the authority cannot be read.
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A file of the authority is not what it must be.
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The certificate could not be made.
    Sign(rcgen::Error),
    /// A file cannot be written; those before it were.
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

impl fmt::Display for AuthorityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read { path, .. } => write!(
                f,
                "read {path:?}: name the folder that \"hotwarm init\" wrote; the authority's key is kept only there"
            ),
            Self::Unusable { path, problem } => write!(f, "{path:?} is not the authority's: {problem}"),
            Self::Sign(_) => f.write_str("sign certificate"),
            Self::Write { path, error } if error.kind() == io::ErrorKind::AlreadyExists => {
                write!(f, "{path:?} exists and is not overwritten: choose another folder, or move it away")
            }
            Self::Write { path, .. } => write!(f, "write {path:?}"),
        }
    }
}

impl std::error::Error for AuthorityError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Read { error, .. } | Self::Write { error, .. } => Some(error),
            Self::Sign(error) => Some(error),
            Self::Unusable { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::Tls;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn a_stored_authority_signs_for_further_nodes() {
        let folder = tempfile::tempdir().unwrap();
        Authority::create(ClusterId(7), "shop").unwrap().write(folder.path()).unwrap();
        assert_eq!(std::fs::metadata(folder.path().join(CA_KEY_FILE)).unwrap().mode() & 0o777, 0o600);
        let out = folder.path().join("c");
        issue_certificate(folder.path(), "c", &out).unwrap();
        let identity = Tls::load(&out).unwrap().identity().clone();
        assert_eq!(identity, CertificateIdentity { cluster: ClusterId(7), name: "c".into() });
        let error = issue_certificate(folder.path(), "c", &out).unwrap_err();
        assert!(error.to_string().contains("not overwritten"), "{error}");
    }

    #[test]
    fn a_folder_without_the_authoritys_key_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = issue_certificate(folder.path(), "c", &folder.path().join("c")).unwrap_err();
        assert!(error.to_string().contains("hotwarm init"), "{error}");
        assert!(!folder.path().join("c").exists());
    }
}
