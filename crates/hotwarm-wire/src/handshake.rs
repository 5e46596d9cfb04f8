//! What the two ends of a new connection tell each other before anything else.
//!
//! The dialling end sends a [`Hello`]; the other answers with its own, or with a [`Refusal`] whose text ends in the
//! log of the dialling node: what was refused, why, and what to do. The end that dialled may refuse too.

use crate::codec::{DecodeError, Reader, Wire, choice, record};
use hotwarm_types::{ClusterId, FolderId, GroupId, Incarnation};

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Purpose {
    /// Small and urgent: beacons, register, polls.
    Control,
    /// Large: blocks, acknowledgements, snapshots, forwarded commands.
    Bulk,
}

choice!(Purpose, "purpose of a connection" { 1 = Control, 2 = Bulk });

/// Who speaks, and whom it means to speak to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Version of the conversation, apart from that of the frames.
    pub protocol: u16,
    /// The speaker's cluster.
    pub cluster: ClusterId,
    /// The speaker's group.
    pub group: GroupId,
    /// The speaker's name: the one in its certificate.
    pub name: String,
    /// The speaker's data folder.
    pub folder: FolderId,
    /// This start of the speaker.
    pub incarnation: Incarnation,
    /// What the connection is for.
    pub purpose: Purpose,
    /// SHA-256 of the secret that the speaker's guardian reveals when it has reaped the speaker (R20); all zero when
    /// there is no guardian.
    pub death_digest: [u8; 32],
    /// The name of the node that the speaker means to reach.
    pub to_name: String,
}

impl Hello {
    /// The version of the conversation that this program speaks.
    pub const PROTOCOL: u16 = 1;
    /// The largest payload that may arrive before the other end is known. A hello takes some 200 bytes.
    pub const SIZE_BYTES_MAX: usize = 1024;
}

/// Why a connection is refused. Decides what the other end does next; the words are in the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalReason {
    /// No member, but it may become one: it was announced to the node, and may ask again.
    NotMember,
    /// Another version of the conversation.
    Protocol,
    /// Another cluster or group.
    Cluster,
    /// The name is not the one in the certificate, or not the one that was to be reached.
    Name,
    /// Another process runs with the same folder, or a later start of it was seen.
    Folder,
    /// One end speaks TLS, the other does not.
    Security,
}

choice!(RefusalReason, "refusal" {
    1 = NotMember,
    2 = Protocol,
    3 = Cluster,
    4 = Name,
    5 = Folder,
    6 = Security,
});

/// The end of a conversation before it began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The kind.
    pub reason: RefusalReason,
    /// What was refused, why, and what to do, for a person. With it the payload is at most [`Hello::SIZE_BYTES_MAX`].
    pub text: String,
}

record! {
    Hello { protocol, cluster, group, name, folder, incarnation, purpose, death_digest, to_name }
    Refusal { reason, text }
}
