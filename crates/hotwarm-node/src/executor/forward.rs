//! What travels between a node and the hot on behalf of clients: the payloads of `Forward` and `ForwardReply` frames.
//!
//! A batch of calls in the order of their numbers, and a batch of replies in any order (R37). All numbers are
//! little-endian. Decoding takes bytes from a peer: it never panics, and copies nothing but slices of the payload.
//!
//! Calls, after the header:
//!
//! | size | what |
//! | --- | --- |
//! | 1 | version of the format: 1 |
//! | 16 | the session of the sending node |
//! | 8 | the lowest number that is still open (the floor, R34) |
//! | then for each call: 8 | its number |
//! | 8 | the connection it came from |
//! | 4, n | its length and bytes |
//!
//! Replies:
//!
//! | size | what |
//! | --- | --- |
//! | 1 | version of the format: 1 |
//! | then for each reply: 8 | the number of the call |
//! | 1 | 1 done, 2 not served here, 3 outcome unknown |
//! | 8 | the position at which a client that saw the reply has arrived |
//! | 4, n | the reply's length and bytes; 0 unless done |

use bytes::{Buf, BufMut, Bytes};
use hotwarm_types::{Lsn, SessionId};
use std::fmt;

const VERSION: u8 = 1;

/// A client's call on its way to the hot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardedCall {
    /// Its number in the session.
    pub seq: u64,
    /// The connection at the sending node.
    pub client: u64,
    /// The call, encoded by the store.
    pub call: Bytes,
}

/// Calls of one node's clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardedCalls {
    /// The node's session.
    pub session: SessionId,
    /// Its lowest open number.
    pub floor: u64,
    /// The calls.
    pub calls: Vec<ForwardedCall>,
}

/// How a forwarded call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ForwardedOutcome {
    /// The reply, encoded by the store.
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
    /// An outcome that this program does not know.
    Outcome(u8),
}

impl fmt::Display for ForwardDecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("forwarded calls end in the middle of a field"),
            Self::Version(got) => write!(f, "forwarded calls have format {got}, this program speaks {VERSION}"),
            Self::Outcome(got) => write!(f, "a forwarded call ended with unknown outcome {got}"),
        }
    }
}

impl std::error::Error for ForwardDecodeError {}

impl ForwardedCalls {
    /// The calls as a payload.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let size = 25 + self.calls.iter().map(|call| 20 + call.call.len()).sum::<usize>();
        let mut out = Vec::with_capacity(size);
        out.put_u8(VERSION);
        out.put_u128_le(self.session.0);
        out.put_u64_le(self.floor);
        for call in &self.calls {
            out.put_u64_le(call.seq);
            out.put_u64_le(call.client);
            put_bytes(&mut out, &call.call);
        }
        out
    }

    /// Reads a payload.
    ///
    /// # Errors
    /// When it is not what `encode` writes.
    pub fn decode(payload: Bytes) -> Result<Self, ForwardDecodeError> {
        let mut rest = versioned(payload)?;
        let session = SessionId(rest.try_get_u128_le().map_err(|_| ForwardDecodeError::Truncated)?);
        let floor = take_u64(&mut rest)?;
        let mut calls = Vec::new();
        while rest.has_remaining() {
            calls.push(ForwardedCall {
                seq: take_u64(&mut rest)?,
                client: take_u64(&mut rest)?,
                call: take_bytes(&mut rest)?,
            });
        }
        Ok(Self { session, floor, calls })
    }
}

/// Replies as a payload.
#[must_use]
pub fn encode_replies(replies: &[ForwardedReply]) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 + replies.len() * 32);
    out.put_u8(VERSION);
    for reply in replies {
        out.put_u64_le(reply.seq);
        let (number, bytes): (u8, &[u8]) = match &reply.outcome {
            ForwardedOutcome::Done(bytes) => (1, bytes),
            ForwardedOutcome::NotServed => (2, &[]),
            ForwardedOutcome::Unknown => (3, &[]),
        };
        out.put_u8(number);
        out.put_u64_le(reply.seen.0);
        put_bytes(&mut out, bytes);
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
        let number = rest.try_get_u8().map_err(|_| ForwardDecodeError::Truncated)?;
        let seen = Lsn(take_u64(&mut rest)?);
        let bytes = take_bytes(&mut rest)?;
        let outcome = match number {
            1 => ForwardedOutcome::Done(bytes),
            2 => ForwardedOutcome::NotServed,
            3 => ForwardedOutcome::Unknown,
            got => return Err(ForwardDecodeError::Outcome(got)),
        };
        replies.push(ForwardedReply { seq, seen, outcome });
    }
    Ok(replies)
}

fn versioned(mut payload: Bytes) -> Result<Bytes, ForwardDecodeError> {
    match payload.try_get_u8() {
        Ok(VERSION) => Ok(payload),
        Ok(got) => Err(ForwardDecodeError::Version(got)),
        Err(_) => Err(ForwardDecodeError::Truncated),
    }
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    // A payload is below the largest frame, 8 MiB and some.
    out.put_u32_le(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    out.put_slice(bytes);
}

fn take_u64(rest: &mut Bytes) -> Result<u64, ForwardDecodeError> {
    rest.try_get_u64_le().map_err(|_| ForwardDecodeError::Truncated)
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

    fn calls() -> ForwardedCalls {
        ForwardedCalls {
            session: SessionId(7),
            floor: 3,
            calls: vec![
                ForwardedCall { seq: 3, client: 11, call: Bytes::from_static(b"set") },
                ForwardedCall { seq: 5, client: 12, call: Bytes::new() },
            ],
        }
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
        assert_eq!(ForwardedCalls::decode(calls().encode().into()), Ok(calls()));
        assert_eq!(decode_replies(encode_replies(&replies()).into()), Ok(replies()));
    }

    #[test]
    fn no_prefix_and_no_garbage_crashes_the_decoder() {
        let whole = calls().encode();
        for size in 0..whole.len() {
            let cut = Bytes::copy_from_slice(&whole[..size]);
            // A prefix that ends between two calls is a shorter batch; any other is refused.
            if let Ok(shorter) = ForwardedCalls::decode(cut) {
                assert!(shorter.calls.len() < 2);
            }
        }
        let whole = encode_replies(&replies());
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let _ = decode_replies(bytes.clone().into());
            let _ = ForwardedCalls::decode(bytes.into());
        }
    }
}
