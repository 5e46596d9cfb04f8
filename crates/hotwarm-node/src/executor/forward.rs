//! What travels between a node and the hot on behalf of clients: the payloads of `Forward` and `ForwardReply` frames.
//!
//! A batch of calls in the order of their numbers, and a batch of replies in any order (R37). All numbers are
//! little-endian. Decoding takes bytes from a peer: it never panics, and copies nothing but slices of the payload.
//!
//! | size | calls: what |
//! | --- | --- |
//! | 1 | version of the format: 1 |
//! | then for each call: 8 | its number at the sending node |
//! | 8 | the connection it came from |
//! | 1 | 1: a read; 2: a read that needs a round of proof; 3: a write; 4: open a session; 5: find a session open |
//! | 16, 8 | with 3: session and sequence; with 4 and 5: the session only |
//! | 4, n | with 1, 2 and 3: length and bytes of the call, as the store encodes it |
//!
//! | size | replies: what |
//! | --- | --- |
//! | 1 | version of the format: 1 |
//! | then for each reply: 8 | the number of the call |
//! | 1 | 1: done; 2: not served here; 3: outcome unknown |
//! | 8 | the position at which a client that sees the reply has arrived |
//! | 4, n | with 1: length and bytes of the reply, as `Reply::encode` writes it |

use bytes::{Buf, BufMut, Bytes};
use hotwarm_store::Identity;
use hotwarm_types::{Lsn, SessionId};
use std::fmt;

const VERSION: u8 = 1;

/// What a node asks of the hot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ForwardedWork {
    /// To execute a call that reads.
    Read {
        /// Whether it needs a round of proof, whatever the lease says (R19).
        verify: bool,
        /// The call, encoded.
        call: Bytes,
    },
    /// To execute a call once.
    Write {
        /// Under which identity.
        identity: Identity,
        /// The call, encoded.
        call: Bytes,
    },
    /// To open a session, unless it is open.
    Session {
        /// The session.
        session: SessionId,
        /// Only to find it open.
        resume: bool,
    },
}

/// A client's call on its way to the hot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardedCall {
    /// Its number at the sending node.
    pub seq: u64,
    /// The connection at the sending node.
    pub client: u64,
    /// What is asked.
    pub work: ForwardedWork,
}

/// How a forwarded call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ForwardedOutcome {
    /// The reply, encoded.
    Done(Bytes),
    /// The receiver did not execute it and is not the one who may; send it to the hot.
    NotServed,
    /// Whether it was carried out cannot be found out any more.
    Unknown,
}

/// The reply to a forwarded call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardedReply {
    /// The number of the call.
    pub seq: u64,
    /// What the client has seen with it.
    pub seen: Lsn,
    /// The outcome.
    pub outcome: ForwardedOutcome,
}

/// Why a payload is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForwardDecodeError {
    /// It ends in the middle of a field.
    Truncated,
    /// Another version of the format.
    Version(u8),
    /// A kind of call or outcome that this program does not know.
    Kind(u8),
}

impl fmt::Display for ForwardDecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("forwarded calls end in the middle of a field"),
            Self::Version(got) => write!(f, "forwarded calls have format {got}, this program speaks {VERSION}"),
            Self::Kind(got) => write!(f, "a forwarded call or reply has the unknown kind {got}"),
        }
    }
}

impl std::error::Error for ForwardDecodeError {}

/// Calls as a payload.
#[must_use]
pub fn encode_calls(calls: &[ForwardedCall]) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 + calls.len() * 96);
    out.put_u8(VERSION);
    for call in calls {
        out.put_u64_le(call.seq);
        out.put_u64_le(call.client);
        match &call.work {
            ForwardedWork::Read { verify, call } => {
                out.put_u8(if *verify { 2 } else { 1 });
                put_bytes(&mut out, call);
            }
            ForwardedWork::Write { identity, call } => {
                out.put_u8(3);
                out.put_u128_le(identity.session.0);
                out.put_u64_le(identity.sequence);
                put_bytes(&mut out, call);
            }
            ForwardedWork::Session { session, resume } => {
                out.put_u8(if *resume { 5 } else { 4 });
                out.put_u128_le(session.0);
            }
        }
    }
    out
}

/// Reads a payload of calls.
///
/// # Errors
/// When it is not what [`encode_calls`] writes.
pub fn decode_calls(payload: Bytes) -> Result<Vec<ForwardedCall>, ForwardDecodeError> {
    let mut rest = versioned(payload)?;
    let mut calls = Vec::new();
    while rest.has_remaining() {
        let seq = take_u64(&mut rest)?;
        let client = take_u64(&mut rest)?;
        let work = match take_u8(&mut rest)? {
            kind @ (1 | 2) => ForwardedWork::Read { verify: kind == 2, call: take_bytes(&mut rest)? },
            3 => {
                let identity = Identity { session: take_session(&mut rest)?, sequence: take_u64(&mut rest)? };
                ForwardedWork::Write { identity, call: take_bytes(&mut rest)? }
            }
            kind @ (4 | 5) => ForwardedWork::Session { session: take_session(&mut rest)?, resume: kind == 5 },
            got => return Err(ForwardDecodeError::Kind(got)),
        };
        calls.push(ForwardedCall { seq, client, work });
    }
    Ok(calls)
}

/// Replies as a payload.
#[must_use]
pub fn encode_replies(replies: &[ForwardedReply]) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 + replies.len() * 32);
    out.put_u8(VERSION);
    for reply in replies {
        out.put_u64_le(reply.seq);
        let (kind, bytes): (u8, &[u8]) = match &reply.outcome {
            ForwardedOutcome::Done(bytes) => (1, bytes),
            ForwardedOutcome::NotServed => (2, &[]),
            ForwardedOutcome::Unknown => (3, &[]),
        };
        out.put_u8(kind);
        out.put_u64_le(reply.seen.0);
        if kind == 1 {
            put_bytes(&mut out, bytes);
        }
    }
    out
}

/// Reads a payload of replies.
///
/// # Errors
/// When it is not what [`encode_replies`] writes.
pub fn decode_replies(payload: Bytes) -> Result<Vec<ForwardedReply>, ForwardDecodeError> {
    let mut rest = versioned(payload)?;
    let mut replies = Vec::new();
    while rest.has_remaining() {
        let seq = take_u64(&mut rest)?;
        let kind = take_u8(&mut rest)?;
        let seen = Lsn(take_u64(&mut rest)?);
        let outcome = match kind {
            1 => ForwardedOutcome::Done(take_bytes(&mut rest)?),
            2 => ForwardedOutcome::NotServed,
            3 => ForwardedOutcome::Unknown,
            got => return Err(ForwardDecodeError::Kind(got)),
        };
        replies.push(ForwardedReply { seq, seen, outcome });
    }
    Ok(replies)
}

fn versioned(mut payload: Bytes) -> Result<Bytes, ForwardDecodeError> {
    match take_u8(&mut payload)? {
        VERSION => Ok(payload),
        got => Err(ForwardDecodeError::Version(got)),
    }
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    // A call or reply that does not fit one frame is never put into one: see `follow`.
    out.put_u32_le(u32::try_from(bytes.len()).expect("a payload is below the largest frame"));
    out.put_slice(bytes);
}

fn take_u8(rest: &mut Bytes) -> Result<u8, ForwardDecodeError> {
    rest.try_get_u8().map_err(|_| ForwardDecodeError::Truncated)
}

fn take_u64(rest: &mut Bytes) -> Result<u64, ForwardDecodeError> {
    rest.try_get_u64_le().map_err(|_| ForwardDecodeError::Truncated)
}

fn take_session(rest: &mut Bytes) -> Result<SessionId, ForwardDecodeError> {
    rest.try_get_u128_le().map(SessionId).map_err(|_| ForwardDecodeError::Truncated)
}

fn take_bytes(rest: &mut Bytes) -> Result<Bytes, ForwardDecodeError> {
    let size = rest.try_get_u32_le().map_err(|_| ForwardDecodeError::Truncated)? as usize;
    if size > rest.remaining() {
        return Err(ForwardDecodeError::Truncated);
    }
    Ok(rest.split_to(size))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calls() -> Vec<ForwardedCall> {
        let session = SessionId(7);
        let call = Bytes::from_static(b"get k");
        let works = [
            ForwardedWork::Session { session, resume: false },
            ForwardedWork::Session { session, resume: true },
            ForwardedWork::Write { identity: Identity { session, sequence: 1 }, call: call.clone() },
            ForwardedWork::Read { verify: true, call },
            ForwardedWork::Read { verify: false, call: Bytes::new() },
        ];
        works.into_iter().enumerate().map(|(seq, work)| ForwardedCall { seq: seq as u64, client: 11, work }).collect()
    }

    fn replies() -> Vec<ForwardedReply> {
        vec![
            ForwardedReply { seq: 3, seen: Lsn(9), outcome: ForwardedOutcome::Done(Bytes::from_static(b"+OK")) },
            ForwardedReply { seq: 4, seen: Lsn(0), outcome: ForwardedOutcome::NotServed },
            ForwardedReply { seq: 5, seen: Lsn(0), outcome: ForwardedOutcome::Unknown },
        ]
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        assert_eq!(decode_calls(encode_calls(&calls()).into()), Ok(calls()));
        assert_eq!(decode_replies(encode_replies(&replies()).into()), Ok(replies()));
    }

    #[test]
    fn no_prefix_and_no_flipped_bit_crashes_the_decoder() {
        let whole = encode_calls(&calls());
        for size in 0..whole.len() {
            // A prefix that ends between two calls is a shorter batch; any other is refused.
            if let Ok(shorter) = decode_calls(Bytes::copy_from_slice(&whole[..size])) {
                assert!(shorter.len() < calls().len());
            }
        }
        for whole in [whole, encode_replies(&replies())] {
            for bit in 0..whole.len() * 8 {
                let mut bytes = whole.clone();
                bytes[bit / 8] ^= 1 << (bit % 8);
                let _ = decode_replies(bytes.clone().into());
                let _ = decode_calls(bytes.into());
            }
        }
    }
}
