//! What guardian and node say to each other: lines of text.
//!
//! ```text
//! guardian 1 <digest: 64 hexadecimal digits>                    guardian to node, first of all
//! identity <cluster> <group> <name> <folder> <start> <nonce>    node to guardian, once it knows
//! peers <host:port> ...                                         whenever they change; none: the word alone
//! tick <ms>                                                     "I am alive; if you hear no tick for so long, I am not"
//! ```

use hotwarm_types::limits::MEMBERS_MAX;
use hotwarm_types::{ClusterId, FolderId, GroupId, Incarnation};
use hotwarm_wire::DeathNotice;
use std::fmt::{self, Write as _};
use std::time::Duration;

/// The longest line: nine addresses of at most 261 bytes.
pub const LINE_SIZE_BYTES_MAX: usize = 4096;

/// The first line.
#[must_use]
pub fn greeting(digest: &[u8; 32]) -> String {
    let mut line = String::from("guardian 1 ");
    for byte in digest {
        let _ = write!(line, "{byte:02x}");
    }
    line.push('\n');
    line
}

/// The digest in the first line; `None` when it is none.
#[must_use]
pub fn parse_greeting(line: &str) -> Option<[u8; 32]> {
    let digits = line.strip_prefix("guardian 1 ")?;
    if digits.len() != 64 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut digest = [0; 32];
    for (byte, pair) in digest.iter_mut().zip(digits.as_bytes().as_chunks::<2>().0) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(digest)
}

/// Something that the node tells its guardian.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// Who the node is.
    Identity {
        /// What the guardian will attest the end of.
        notice: DeathNotice,
        /// The node's name, for the guardian's log.
        name: String,
    },
    /// Where its peers are reached.
    Peers(Vec<String>),
    /// The node is alive; without another tick for so long it counts as frozen. Zero: do not watch for ticks.
    Tick(Duration),
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Identity { notice, name } => {
                let DeathNotice { cluster, group, folder, incarnation } = notice;
                let Incarnation { start, nonce } = incarnation;
                write!(f, "identity {cluster} {} {name} {folder} {start} {nonce}", group.0)
            }
            Self::Peers(addresses) => {
                f.write_str("peers")?;
                addresses.iter().try_for_each(|address| write!(f, " {address}"))
            }
            Self::Tick(limit) => write!(f, "tick {}", limit.as_millis()),
        }
    }
}

impl Report {
    /// Reads a line without its end; `None` when it is none of ours.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let report = match words.next()? {
            "identity" => {
                let cluster = ClusterId::parse(words.next()?)?;
                let group = GroupId(words.next()?.parse().ok()?);
                let name = words.next()?.to_owned();
                let folder = FolderId::parse(words.next()?)?;
                let (start, nonce) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
                let notice = DeathNotice { cluster, group, folder, incarnation: Incarnation { start, nonce } };
                Self::Identity { notice, name }
            }
            "peers" => {
                let addresses: Vec<String> = words.by_ref().map(str::to_owned).collect();
                (addresses.len() <= MEMBERS_MAX).then_some(Self::Peers(addresses))?
            }
            "tick" => Self::Tick(Duration::from_millis(words.next()?.parse().ok()?)),
            _other_word => return None,
        };
        words.next().is_none().then_some(report)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_understood() {
        let incarnation = Incarnation { start: 3, nonce: 4 };
        let notice = DeathNotice { cluster: ClusterId(1), group: GroupId(1), folder: FolderId(2), incarnation };
        for report in [
            Report::Identity { notice, name: "a".into() },
            Report::Peers(Vec::new()),
            Report::Peers(vec!["b.lan:7400".into(), "[::1]:7400".into()]),
            Report::Tick(Duration::from_millis(900)),
        ] {
            assert_eq!(Report::parse(&report.to_string()), Some(report));
        }
        let digest = [0xa5; 32];
        assert_eq!(parse_greeting(greeting(&digest).trim_end()), Some(digest));
    }

    #[test]
    fn other_lines_are_not_understood() {
        let many = format!("peers{}", " x:1".repeat(MEMBERS_MAX + 1));
        for line in ["", "tick", "tick x", "tick 1 2", "identity", "identity 1 2 3", "peer x:1", &many] {
            assert_eq!(Report::parse(line), None, "{line:?}");
        }
        for line in ["", "guardian 2 00", "guardian 1 00", &format!("guardian 1 {}", "+1".repeat(32))] {
            assert_eq!(parse_greeting(line), None, "{line:?}");
        }
    }
}
