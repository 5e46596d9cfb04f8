//! The group's state and a node's vote record as bytes for files and tickets.
//!
//! | offset | size | what |
//! | --- | --- | --- |
//! | 0 | 2 | version of the format, little-endian: 1 |
//! | 2 | .. | the record's fields, as `record.rs` orders them |
//!
//! No checksum: whoever stores the bytes wraps them in one that covers its own header too.

use crate::codec::{DecodeError, Reader, Wire};
use hotwarm_core::register::{GroupState, Vote};
use hotwarm_types::limits::STATE_SIZE_BYTES_MAX;

const VERSION: u16 = 1;

/// A vote record holds at most one state, and less than another of its bound in claims of peers.
const VOTE_SIZE_BYTES_MAX: usize = 2 * STATE_SIZE_BYTES_MAX;

/// The state as bytes.
#[must_use]
pub fn encode_state(state: &GroupState) -> Vec<u8> {
    encode(state)
}

/// The state back from its bytes.
///
/// # Errors
/// When the bytes are longer than a state may be, of another version, or not exactly one state.
pub fn decode_state(bytes: &[u8]) -> Result<GroupState, DecodeError> {
    decode(bytes, "group state", STATE_SIZE_BYTES_MAX)
}

/// The vote record as bytes.
#[must_use]
pub fn encode_vote(vote: &Vote) -> Vec<u8> {
    encode(vote)
}

/// The vote record back from its bytes.
///
/// # Errors
/// When the bytes are longer than a record may be, of another version, or not exactly one record.
pub fn decode_vote(bytes: &[u8]) -> Result<Vote, DecodeError> {
    decode(bytes, "vote record", VOTE_SIZE_BYTES_MAX)
}

fn encode(value: &impl Wire) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    VERSION.put(&mut out);
    value.put(&mut out);
    out
}

fn decode<T: Wire>(bytes: &[u8], what: &'static str, size_bytes_max: usize) -> Result<T, DecodeError> {
    if bytes.len() > size_bytes_max {
        return Err(DecodeError::TooLong { what, size_bytes: bytes.len(), size_bytes_max });
    }
    let mut reader = Reader::new(bytes);
    let got = u16::take(&mut reader)?;
    if got != VERSION {
        return Err(DecodeError::Version { what, got, spoken: VERSION });
    }
    let value = T::take(&mut reader)?;
    reader.finish()?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hotwarm_core::register::Ballot;
    use hotwarm_types::{Epoch, Incarnation, Lsn, NodeId};
    use std::time::Duration;

    #[test]
    fn the_bytes_of_a_vote_are_pinned() {
        let vote = Vote {
            promised: Ballot { counter: 7, node: NodeId(2), start: 3 },
            accepted: None,
            epoch: Epoch(4),
            grace_granted: Duration::from_nanos(0x1122),
            peers: [].into(),
            committed: Lsn(0x0a0b),
            incarnation: Incarnation { start: 3, nonce: 0xfe },
            settled: true,
        };
        let expected = [
            "0100",             // version
            "0700000000000000", // promised: counter
            "0200",             // promised: node
            "0300000000000000", // promised: start
            "00",               // accepted: none
            "0400000000000000", // epoch
            "2211000000000000", // grace granted, ns
            "00000000",         // peers: none
            "0b0a000000000000", // committed
            "0300000000000000",
            "fe00000000000000", // incarnation
            "01",               // settled
        ];
        let bytes = encode_vote(&vote);
        assert_eq!(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>(), expected.concat());
        assert_eq!(decode_vote(&bytes), Ok(vote));
    }

    #[test]
    fn another_version_is_named() {
        let mut bytes = encode_vote(&Vote::default());
        bytes[0] = 2;
        let error = decode_vote(&bytes).unwrap_err();
        assert_eq!(error.to_string(), "vote record has format version 2, this program speaks version 1");
    }

    #[test]
    fn a_state_over_the_limit_is_refused_unread() {
        let bytes = vec![0; STATE_SIZE_BYTES_MAX + 1];
        assert!(matches!(decode_state(&bytes), Err(DecodeError::TooLong { .. })));
    }
}
