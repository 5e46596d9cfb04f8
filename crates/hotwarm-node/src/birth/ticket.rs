//! The ticket that makes one data folder, and the folder's identity, which is the used ticket kept with the data.
//!
//! Text of six lines and a checksum, so that a person can read whose it is:
//!
//! ```text
//! hotwarm birth 1
//! cluster 000000000000000000000000000000c1
//! group 1
//! name a
//! folder 0000000000000000000000000000000a
//! origin founded
//! state 0100c100...            the group's state, as `hotwarm_wire::encode_state` writes it, in hexadecimal digits
//! check 1a2b3c4d               CRC-32C of everything before this line, as 8 hexadecimal digits
//! ```

use crate::tls::CertificateIdentity;
use hotwarm_core::register::GroupState;
use hotwarm_types::limits::STATE_SIZE_BYTES_MAX;
use hotwarm_types::{ClusterId, FolderId, GroupId};
use hotwarm_wire::{DecodeError, crc32c, decode_state, encode_state};
use std::fmt::{self, Write as _};

const FIRST_LINE: &str = "hotwarm birth 1";

/// Why a data folder was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// By `hotwarm init`, with the group: the state is the one that the group is bootstrapped from.
    Founded,
    /// By `hotwarm node add` or `replace`, for a group that runs: the state tells whom to ask for admission.
    Invited,
}

/// Whose data folder it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Birth {
    /// The cluster.
    pub cluster: ClusterId,
    /// The group.
    pub group: GroupId,
    /// The node's name.
    pub name: String,
    /// The folder's identity (R4).
    pub folder: FolderId,
    /// Why it was made.
    pub origin: Origin,
    /// The group's state when it was made. Old as it may become, its members are whom the node first looks for.
    pub state: GroupState,
}

impl Birth {
    /// The longest text: the state in digits, and the other lines.
    pub(super) const SIZE_BYTES_MAX: usize = 2 * STATE_SIZE_BYTES_MAX + 1024;

    /// The state to bootstrap the group from, if the folder was made with the group: what `Config::birth` of the core
    /// is given while the group has never run.
    #[must_use]
    pub fn founding_state(&self) -> Option<&GroupState> {
        match self.origin {
            Origin::Founded => Some(&self.state),
            Origin::Invited => None,
        }
    }

    /// Checks that the folder is this node's: `name` is what the configuration says, `certificate` what the TLS folder
    /// says, if there is one.
    ///
    /// # Errors
    /// Which of them names another node, and what to do.
    pub fn check(&self, name: &str, certificate: Option<&CertificateIdentity>) -> Result<(), TicketError> {
        if self.name != name {
            return Err(TicketError::OtherNode { folder_of: self.name.clone(), name: name.to_owned() });
        }
        match certificate {
            Some(certificate) if certificate.cluster != self.cluster || certificate.name != self.name => {
                let certificate = Box::new(certificate.clone());
                Err(TicketError::OtherCertificate { cluster: self.cluster, name: self.name.clone(), certificate })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// The ticket as text.
    #[must_use]
    pub fn to_text(&self) -> String {
        let origin = match self.origin {
            Origin::Founded => "founded",
            Origin::Invited => "invited",
        };
        let state: String = encode_state(&self.state).iter().fold(String::new(), |mut digits, byte| {
            let _ = write!(digits, "{byte:02x}");
            digits
        });
        let body = format!(
            "{FIRST_LINE}\ncluster {}\ngroup {}\nname {}\nfolder {}\norigin {origin}\nstate {state}\n",
            self.cluster, self.group.0, self.name, self.folder,
        );
        format!("{body}check {:08x}\n", crc32c(body.as_bytes()))
    }

    /// The ticket back from its text.
    ///
    /// # Errors
    /// When it is damaged, of another version, or not a ticket.
    pub fn parse(text: &str) -> Result<Self, TicketError> {
        if !text.starts_with(FIRST_LINE) {
            return Err(TicketError::NotTicket);
        }
        let body_size = text.rfind("\ncheck ").ok_or(TicketError::Damaged { what: "its checksum is missing" })? + 1;
        let (body, check) = text.split_at(body_size);
        if check != format!("check {:08x}\n", crc32c(body.as_bytes())) {
            return Err(TicketError::Damaged { what: "its checksum does not match" });
        }
        let mut lines = body.lines().skip(1);
        let mut field = |key: &'static str| {
            let value = lines.next().and_then(|line| line.strip_prefix(key)).and_then(|rest| rest.strip_prefix(' '));
            value.ok_or(TicketError::Field { key })
        };
        let cluster = ClusterId::parse(field("cluster")?).ok_or(TicketError::Field { key: "cluster" })?;
        let group = field("group")?.parse().map(GroupId).map_err(|_| TicketError::Field { key: "group" })?;
        let name = field("name")?.to_owned();
        let folder = FolderId::parse(field("folder")?).ok_or(TicketError::Field { key: "folder" })?;
        let origin = match field("origin")? {
            "founded" => Origin::Founded,
            "invited" => Origin::Invited,
            _other_origin => return Err(TicketError::Field { key: "origin" }),
        };
        let state = from_digits(field("state")?).ok_or(TicketError::Field { key: "state" })?;
        let state = decode_state(&state).map_err(TicketError::State)?;
        Ok(Self { cluster, group, name, folder, origin, state })
    }
}

fn from_digits(digits: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|value| u8::try_from(value).ok());
    let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect()
}

/// Why a ticket, or a folder's identity, is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TicketError {
    /// The text does not begin as a ticket of this version does.
    NotTicket,
    /// The text is not what was written.
    Damaged {
        /// How that shows.
        what: &'static str,
    },
    /// A line is missing, out of order or unreadable.
    Field {
        /// The line's first word.
        key: &'static str,
    },
    /// The group's state in it cannot be read.
    State(DecodeError),
    /// The folder is another node's.
    OtherNode {
        /// Whose folder it is.
        folder_of: String,
        /// Who opens it.
        name: String,
    },
    /// The TLS folder is another node's.
    OtherCertificate {
        /// The data folder's cluster.
        cluster: ClusterId,
        /// The data folder's node.
        name: String,
        /// Who the certificate is for.
        certificate: Box<CertificateIdentity>,
    },
}

impl fmt::Display for TicketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotTicket => {
                write!(f, "it does not begin with {FIRST_LINE:?}: it is no ticket that this program reads")
            }
            Self::Damaged { what } => write!(f, "it is damaged ({what}): copy it again from where it was made"),
            Self::Field { key } => write!(f, "its line {key:?} is missing or wrong"),
            Self::State(_) => f.write_str("the group's state in it cannot be read"),
            Self::OtherNode { folder_of, name } => write!(
                f,
                "the data folder belongs to node {folder_of:?}, but this node is {name:?}: \
                 point data_dir to the folder of {name:?}, or start this one with --node {folder_of}"
            ),
            Self::OtherCertificate { cluster, name, certificate } => write!(
                f,
                "the data folder belongs to node {name:?} of cluster {cluster}, but the certificate is for node {:?} of \
                 cluster {}: point tls_dir to the folder that was made for {name:?}",
                certificate.name, certificate.cluster
            ),
        }
    }
}

impl std::error::Error for TicketError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::State(error) => Some(error),
            Self::NotTicket
            | Self::Damaged { .. }
            | Self::Field { .. }
            | Self::OtherNode { .. }
            | Self::OtherCertificate { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::birth::plan::tests::plan;

    fn ticket() -> Birth {
        let state = plan().initial_state(ClusterId(0xc1));
        let folder = state.member_named("a").unwrap().1.folder;
        Birth { cluster: ClusterId(0xc1), group: state.group, name: "a".into(), folder, origin: Origin::Founded, state }
    }

    #[test]
    fn a_ticket_survives_its_text() {
        let ticket = ticket();
        let text = ticket.to_text();
        assert!(
            text.starts_with("hotwarm birth 1\ncluster 000000000000000000000000000000c1\ngroup 1\nname a\nfolder ")
        );
        assert!(text.len() <= Birth::SIZE_BYTES_MAX);
        assert_eq!(Birth::parse(&text), Ok(ticket));
    }

    #[test]
    fn a_ticket_with_any_byte_changed_or_cut_off_is_refused() {
        let text = ticket().to_text();
        for index in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[index] = if bytes[index] == b'7' { b'8' } else { b'7' };
            assert!(Birth::parse(std::str::from_utf8(&bytes).unwrap()).is_err(), "byte {index}");
            assert!(Birth::parse(&text[..index]).is_err(), "cut at {index}");
        }
    }

    #[test]
    fn the_folder_of_another_node_is_named_with_the_way_out() {
        let error = ticket().check("b", None).unwrap_err().to_string();
        assert!(error.contains("belongs to node \"a\"") && error.contains("--node a"), "{error}");
        let other = CertificateIdentity { cluster: ClusterId(0xc1), name: "b".into() };
        let error = ticket().check("a", Some(&other)).unwrap_err().to_string();
        assert!(error.contains("certificate is for node \"b\"") && error.contains("tls_dir"), "{error}");
        assert_eq!(ticket().check("a", Some(&CertificateIdentity { name: "a".into(), ..other })), Ok(()));
    }
}
