//! Who is at the other end of a connection, and the words of each refusal.
//!
//! After TLS, which proves the certificate, the dialling end says hello and the other answers. Each checks the other:
//! the same protocol, cluster and group; the name in the certificate; the name that was to be reached. What is refused
//! is refused in words, and they are sent, so that they stand in the log of the node that has to be mended.

use super::link::Unwelcome;
use super::stream::{Duplex, FrameReader, ReadError, write_frame};
use super::{Identity, Security};
use crate::tls::{CertificateIdentity, Tls};
use hotwarm_types::Incarnation;
use hotwarm_wire::{Frame, Hello, Purpose, Refusal, RefusalReason};
use std::fmt;
use std::io;
use tokio::net::TcpStream;

/// Why a connection did not come about.
#[derive(Debug)]
pub(super) enum HandshakeError {
    /// The network or TLS.
    Io(io::Error),
    /// What came back is not the answer to a hello.
    Read(ReadError),
    /// The other end said something else than hello.
    Unexpected,
    /// The certificate at the other end says nothing of use.
    Certificate(&'static str),
    /// The other end refuses this node.
    RefusedByPeer(Refusal),
    /// This node refuses the other end.
    Refused(Refusal),
    /// It took too long.
    TimedOut,
}

impl HandshakeError {
    /// Whether this is how every node begins that joins a group: as a stranger.
    pub(super) fn is_to_be_expected(&self) -> bool {
        match self {
            Self::RefusedByPeer(refusal) | Self::Refused(refusal) => is_to_be_expected(refusal.reason),
            Self::Io(_) | Self::Read(_) | Self::Unexpected | Self::Certificate(_) | Self::TimedOut => false,
        }
    }
}

/// Whether a refusal needs nobody's attention as long as it passes: a node that joins, or takes another's place, is a
/// stranger until it is admitted.
pub(super) fn is_to_be_expected(reason: RefusalReason) -> bool {
    reason == RefusalReason::NotMember
}

impl From<io::Error> for HandshakeError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<ReadError> for HandshakeError {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Read(error) => error.fmt(f),
            Self::Unexpected => f.write_str("the other end did not say hello"),
            Self::Certificate(problem) => write!(f, "the certificate at the other end is of no use: {problem}"),
            Self::RefusedByPeer(refusal) => write!(f, "refused by the other end: {}", refusal.text),
            Self::Refused(refusal) => f.write_str(&refusal.text),
            Self::TimedOut => f.write_str("no answer in time"),
        }
    }
}

/// A connection, and the name in the certificate at its other end; `None` without TLS.
pub(super) type Secured = (Box<dyn Duplex>, Option<CertificateIdentity>);

/// The dialling end's TLS.
pub(super) async fn secure_dialled(security: &Security, stream: TcpStream) -> Result<Secured, HandshakeError> {
    let Security::Tls(tls) = security else { return Ok((Box::new(stream), None)) };
    let stream = tls.connector().connect(Tls::server_name(), stream).await?;
    let certificate = certificate_of(stream.get_ref().1)?;
    Ok((Box::new(stream), Some(certificate)))
}

/// The accepting end's TLS.
pub(super) async fn secure_accepted(security: &Security, stream: TcpStream) -> Result<Secured, HandshakeError> {
    let Security::Tls(tls) = security else { return Ok((Box::new(stream), None)) };
    let stream = tls.acceptor().accept(stream).await?;
    let certificate = certificate_of(stream.get_ref().1)?;
    Ok((Box::new(stream), Some(certificate)))
}

fn certificate_of(connection: &rustls::CommonState) -> Result<CertificateIdentity, HandshakeError> {
    let first = connection.peer_certificates().and_then(<[_]>::first);
    let certificate = first.ok_or(HandshakeError::Certificate("there is none"))?;
    CertificateIdentity::of(certificate).map_err(HandshakeError::Certificate)
}

/// This node's hello.
pub(super) fn hello(me: &Identity, purpose: Purpose, to_name: &str) -> Hello {
    Hello {
        protocol: Hello::PROTOCOL,
        cluster: me.cluster,
        group: me.group,
        name: me.name.clone(),
        folder: me.folder,
        incarnation: me.incarnation,
        purpose,
        death_digest: me.death_digest,
        to_name: to_name.to_owned(),
    }
}

/// The other end's hello, or its refusal.
pub(super) async fn read_hello(reader: &mut FrameReader, stream: &mut dyn Duplex) -> Result<Hello, HandshakeError> {
    match reader.next(stream, Hello::SIZE_BYTES_MAX).await? {
        Frame::Hello(hello) => Ok(hello),
        Frame::Refusal(refusal) => Err(HandshakeError::RefusedByPeer(refusal)),
        Frame::Core(_)
        | Frame::Forward { .. }
        | Frame::ForwardReply { .. }
        | Frame::SnapshotChunk { .. }
        | Frame::SnapshotAck { .. }
        | Frame::SnapshotHead { .. }
        | Frame::Fronts(_) => Err(HandshakeError::Unexpected),
    }
}

/// Tells the other end why it is refused. That it may not hear it any more changes nothing.
pub(super) async fn refuse(me: &Identity, stream: &mut dyn Duplex, refusal: Refusal) -> HandshakeError {
    let frame = Frame::Refusal(refusal.clone());
    if let Err(error) = write_frame(stream, me.group, &frame).await {
        tracing::debug!(%error, "a refusal was not delivered");
    }
    // An orderly end, so that the refusal is not overtaken by a reset.
    let _ = tokio::io::AsyncWriteExt::shutdown(stream).await;
    HandshakeError::Refused(refusal)
}

fn refusal(reason: RefusalReason, text: String) -> Refusal {
    Refusal { reason, text }
}

/// Checks what both ends check of each other.
pub(super) fn check(me: &Identity, hello: &Hello, certificate: Option<&CertificateIdentity>) -> Result<(), Refusal> {
    let (mine, theirs) = (&me.name, &hello.name);
    if hello.protocol != Hello::PROTOCOL {
        let text = format!(
            "node {theirs:?} speaks version {} of the peer protocol, node {mine:?} version {}: \
             upgrade the older one; neighbouring releases speak with each other",
            hello.protocol,
            Hello::PROTOCOL
        );
        return Err(refusal(RefusalReason::Protocol, text));
    }
    if hello.cluster != me.cluster || hello.group != me.group {
        let text = format!(
            "node {theirs:?} belongs to cluster {} group {}, node {mine:?} to cluster {} group {}: \
             one of them has the wrong address, data_dir or tls_dir",
            hello.cluster, hello.group, me.cluster, me.group
        );
        return Err(refusal(RefusalReason::Cluster, text));
    }
    if let Some(certificate) = certificate
        && (certificate.cluster != hello.cluster || certificate.name != hello.name)
    {
        let text = format!(
            "a node calls itself {theirs:?}, but its certificate is for {:?} of cluster {}: \
             point its tls_dir to the folder that was made for {theirs:?}",
            certificate.name, certificate.cluster
        );
        return Err(refusal(RefusalReason::Name, text));
    }
    if hello.to_name != me.name {
        let text = format!(
            "node {theirs:?} wanted to reach {:?}, but this is node {mine:?}: \
             correct the address of {:?}, or the name that {mine:?} was started with",
            hello.to_name, hello.to_name
        );
        return Err(refusal(RefusalReason::Name, text));
    }
    Ok(())
}

/// The refusal of a start of a member's process.
pub(super) fn unwelcome(me: &Identity, hello: &Hello, why: Unwelcome) -> Refusal {
    let (name, got) = (&hello.name, hello.incarnation);
    let remedy = format!(
        "stop the one that should not run; if the folder was copied or restored from a backup, empty it and run \
         \"hotwarm node replace {name}\""
    );
    let text = match why {
        Unwelcome::Twin { seen } => format!(
            "two processes run with the data folder of node {name:?} (start {}): node {:?} knows {seen}, this is {got}: \
             {remedy}",
            seen.start, me.name
        ),
        Unwelcome::Older { seen } => format!(
            "node {name:?} comes with start {} of its data folder, but node {:?} has seen start {}: {remedy}",
            got.start, me.name, seen.start
        ),
        Unwelcome::Dead => format!(
            "start {got} of node {name:?} was attested dead by its guardian: it may not speak again; start it anew"
        ),
    };
    refusal(RefusalReason::Folder, text)
}

/// The refusal of somebody with this node's own name and folder.
pub(super) fn double(me: &Identity, got: Incarnation) -> Refusal {
    let text = format!(
        "node {:?} was called by a process with its own name and data folder ({got}): the folder was copied; stop one \
         of the two, empty the copy, and give it a name of its own with \"hotwarm node add\"",
        me.name
    );
    refusal(RefusalReason::Folder, text)
}

/// The refusal of somebody who may become a member, or was one.
pub(super) fn stranger(me: &Identity, hello: &Hello, name_taken: bool) -> Refusal {
    let (name, mine) = (&hello.name, &me.name);
    let text = if name_taken {
        format!(
            "the member {name:?} has another data folder than this one ({}), as node {mine:?} knows it: it is admitted once \
             \"hotwarm node replace {name}\" has invited it, and stays out if it was replaced itself",
            hello.folder
        )
    } else {
        format!(
            "{name:?} is no member of the group, as node {mine:?} knows it: it is admitted once \"hotwarm node add {name}\" \
             has invited it, and stays out if it was removed"
        )
    };
    refusal(RefusalReason::NotMember, text)
}

/// The refusal of an end that speaks without TLS to one that demands it.
pub(super) fn plaintext(me: &Identity) -> Refusal {
    let text = format!(
        "node {:?} speaks TLS only, and was called without: set tls_dir on both nodes, or plaintext on both",
        me.name
    );
    refusal(RefusalReason::Security, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hotwarm_types::{ClusterId, FolderId, GroupId};

    fn identity(name: &str) -> Identity {
        Identity {
            cluster: ClusterId(1),
            group: GroupId(1),
            name: name.into(),
            folder: FolderId(7),
            incarnation: Incarnation { start: 1, nonce: 2 },
            death_digest: [0; 32],
        }
    }

    fn refused(change: fn(&mut Hello), certificate_name: &str) -> Refusal {
        let mut hello = hello(&identity("b"), Purpose::Control, "a");
        change(&mut hello);
        let certificate = CertificateIdentity { cluster: ClusterId(1), name: certificate_name.into() };
        check(&identity("a"), &hello, Some(&certificate)).unwrap_err()
    }

    #[test]
    fn a_good_hello_passes_with_or_without_a_certificate() {
        let hello = hello(&identity("b"), Purpose::Bulk, "a");
        let certificate = CertificateIdentity { cluster: ClusterId(1), name: "b".into() };
        assert_eq!(check(&identity("a"), &hello, Some(&certificate)), Ok(()));
        assert_eq!(check(&identity("a"), &hello, None), Ok(()));
    }

    #[test]
    fn each_refusal_says_what_why_and_what_to_do() {
        type Case = (fn(&mut Hello), &'static str, RefusalReason, [&'static str; 2]);
        let cases: [Case; 5] = [
            (|hello| hello.protocol = 9, "b", RefusalReason::Protocol, ["version 9", "upgrade"]),
            (|hello| hello.cluster = ClusterId(5), "b", RefusalReason::Cluster, ["belongs to cluster", "data_dir"]),
            (|hello| hello.group = GroupId(5), "b", RefusalReason::Cluster, ["group g5", "tls_dir"]),
            (|_| {}, "c", RefusalReason::Name, ["certificate is for \"c\"", "tls_dir"]),
            (|hello| hello.to_name = "w".into(), "b", RefusalReason::Name, ["wanted to reach \"w\"", "address"]),
        ];
        for (change, certificate_name, reason, words) in cases {
            let refusal = refused(change, certificate_name);
            assert_eq!(refusal.reason, reason, "{}", refusal.text);
            assert!(words.iter().all(|word| refusal.text.contains(word)), "{}", refusal.text);
        }
    }

    #[test]
    fn a_stranger_is_to_be_expected_and_a_twin_is_not() {
        let me = identity("a");
        let hello = hello(&identity("b"), Purpose::Control, "a");
        for name_taken in [false, true] {
            assert!(HandshakeError::Refused(stranger(&me, &hello, name_taken)).is_to_be_expected());
            assert!(HandshakeError::RefusedByPeer(stranger(&me, &hello, name_taken)).is_to_be_expected());
        }
        let seen = Incarnation { start: 1, nonce: 3 };
        assert!(!HandshakeError::Refused(double(&me, seen)).is_to_be_expected());
        assert!(!HandshakeError::Refused(unwelcome(&me, &hello, Unwelcome::Twin { seen })).is_to_be_expected());
    }

    #[test]
    fn every_refusal_fits_what_the_other_end_reads() {
        let mut long = identity("b");
        long.name = "n".repeat(63);
        let hello = hello(&long, Purpose::Control, &"m".repeat(63));
        let seen = Incarnation { start: u64::MAX, nonce: u64::MAX };
        for refusal in [
            check(&long, &hello, None).unwrap_err(),
            unwelcome(&long, &hello, Unwelcome::Twin { seen }),
            unwelcome(&long, &hello, Unwelcome::Older { seen }),
            unwelcome(&long, &hello, Unwelcome::Dead),
            double(&long, seen),
            stranger(&long, &hello, true),
            stranger(&long, &hello, false),
            plaintext(&long),
        ] {
            assert!(refusal.text.len() + 8 <= Hello::SIZE_BYTES_MAX, "{} bytes: {}", refusal.text.len(), refusal.text);
        }
    }
}
