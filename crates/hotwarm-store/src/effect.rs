//! What the log carries: the effects of operations, never the commands (R32).
//!
//! The payload of a `Data` block is one byte of format version and then one operation for each of its positions, in
//! order. Applying an operation needs nothing but the operation: no clock, no randomness, no other key.
//!
//! | part of an operation | form |
//! | --- | --- |
//! | flags | u8: bit 0, an identity follows; bit 1, a reply follows; others are 0 |
//! | identity | session u128, sequence u64 |
//! | effects | their number, then each of them |
//! | reply | length and bytes |
//!
//! | effect | number | form |
//! | --- | --- | --- |
//! | put | 1 | value type u8, expiry (0: none, else group time in ms plus one), key, value |
//! | delete | 2 | key |
//! | clear | 3 | nothing |
//! | session opened | 4 | session u128 |
//! | session expired | 5 | session u128 |
//!
//! Numbers of effects and value types are stable: never given anew, and an unknown one is an error, since a log that
//! cannot be understood must not be skipped over (R39). Lengths and counts are LEB128, fixed numbers are
//! little-endian. Decoding accepts exactly one encoding of each operation, and never panics.

use crate::codec::{Reader, owned, put_blob, put_varint};
use crate::key::{expiry_number, expiry_of, type_number, value_bytes, value_of};
use crate::keyspace::Value;
use crate::limits::{KEY_SIZE_BYTES_MAX, REPLY_SIZE_BYTES_MAX, VALUE_SIZE_BYTES_MAX};
use bytes::Bytes;
use hotwarm_types::SessionId;
use hotwarm_types::limits::BLOCK_SIZE_BYTES_MAX;
use std::fmt;

/// The format that is written, and the only one that is read.
pub const FORMAT_VERSION: u8 = 1;

const FLAG_IDENTITY: u8 = 1;
const FLAG_REPLY: u8 = 2;

/// One change of the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// A key holds this value from now on.
    Put {
        /// The key.
        key: Bytes,
        /// The value.
        value: Value,
        /// Group time in milliseconds at which it is gone; `None`: never.
        expires_at_ms: Option<u64>,
    },
    /// A key is gone.
    Delete {
        /// The key.
        key: Bytes,
    },
    /// All keys are gone. Sessions stay.
    Clear,
    /// A session begins, without replies. Opening one that is open changes nothing.
    SessionOpened {
        /// The session.
        session: SessionId,
    },
    /// A session is forgotten: whatever it retries from now on has an unknown outcome.
    SessionExpired {
        /// The session.
        session: SessionId,
    },
}

/// Who asked for an operation, so that it is applied once (R34).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// The session.
    pub session: SessionId,
    /// The number of the operation in its session, from 1; each is used for one operation only.
    pub sequence: u64,
}

/// What one position of the log holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Operation {
    /// Who asked for it.
    pub identity: Option<Identity>,
    /// What it changes, in order.
    pub effects: Vec<Effect>,
    /// The reply that its session remembers; `None` with an identity: it was too long to be kept.
    pub reply: Option<Bytes>,
}

/// Why a payload is not a sequence of operations. Nothing of it may be applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// Written by a newer hotwarm.
    UnknownFormat {
        /// Its format version.
        version: u8,
    },
    /// An effect of a kind that this version does not know.
    UnknownEffect {
        /// Its number.
        kind: u8,
    },
    /// Bytes that end too early, exceed a limit or are encoded in a way that is never written.
    Malformed {
        /// How many operations before it are well formed.
        index: u64,
    },
    /// Another number of operations than the block has positions.
    WrongCount {
        /// Positions of the block.
        expected: u64,
    },
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownFormat { version } => write!(f, "operations have format {version}, known is {FORMAT_VERSION}"),
            Self::UnknownEffect { kind } => write!(f, "effect {kind} is not known to this version"),
            Self::Malformed { index } => write!(f, "operation {index} of the block is malformed"),
            Self::WrongCount { expected } => write!(f, "the block does not hold {expected} operations"),
        }
    }
}

impl std::error::Error for DecodeError {}

impl Effect {
    fn number(&self) -> u8 {
        match self {
            Self::Put { .. } => 1,
            Self::Delete { .. } => 2,
            Self::Clear => 3,
            Self::SessionOpened { .. } => 4,
            Self::SessionExpired { .. } => 5,
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.number());
        match self {
            Self::Put { key, value, expires_at_ms } => {
                out.push(type_number(value));
                put_varint(out, expiry_number(*expires_at_ms));
                put_blob(out, key);
                put_blob(out, value_bytes(value));
            }
            Self::Delete { key } => put_blob(out, key),
            Self::Clear => {}
            Self::SessionOpened { session } | Self::SessionExpired { session } => {
                out.extend_from_slice(&session.0.to_le_bytes());
            }
        }
    }

    fn decode(reader: &mut Reader<'_>, index: u64) -> Result<Self, DecodeError> {
        let malformed = DecodeError::Malformed { index };
        let kind = reader.u8().ok_or(malformed)?;
        let effect = match kind {
            1 => Self::decode_put(reader),
            2 => reader.blob(KEY_SIZE_BYTES_MAX).map(|key| Self::Delete { key: owned(key) }),
            3 => Some(Self::Clear),
            4 => reader.u128().map(|id| Self::SessionOpened { session: SessionId(id) }),
            5 => reader.u128().map(|id| Self::SessionExpired { session: SessionId(id) }),
            kind => return Err(DecodeError::UnknownEffect { kind }),
        };
        effect.ok_or(malformed)
    }

    fn decode_put(reader: &mut Reader<'_>) -> Option<Self> {
        let number = reader.u8()?;
        let expires_at_ms = expiry_of(reader.varint()?);
        let key = owned(reader.blob(KEY_SIZE_BYTES_MAX)?);
        let value = value_of(number, owned(reader.blob(VALUE_SIZE_BYTES_MAX)?))?;
        Some(Self::Put { key, value, expires_at_ms })
    }
}

impl Operation {
    /// Appends the operation to a payload that begins with [`FORMAT_VERSION`].
    pub fn encode(&self, out: &mut Vec<u8>) {
        let reply = self.reply.as_ref().filter(|_| self.identity.is_some());
        let identity_flag = if self.identity.is_some() { FLAG_IDENTITY } else { 0 };
        out.push(identity_flag | if reply.is_some() { FLAG_REPLY } else { 0 });
        if let Some(identity) = &self.identity {
            out.extend_from_slice(&identity.session.0.to_le_bytes());
            out.extend_from_slice(&identity.sequence.to_le_bytes());
        }
        put_varint(out, self.effects.len() as u64);
        for effect in &self.effects {
            effect.encode(out);
        }
        if let Some(reply) = reply {
            put_blob(out, reply);
        }
    }

    fn decode(reader: &mut Reader<'_>, index: u64) -> Result<Self, DecodeError> {
        let malformed = DecodeError::Malformed { index };
        let flags = reader.u8().ok_or(malformed)?;
        if flags & !(FLAG_IDENTITY | FLAG_REPLY) != 0 || flags == FLAG_REPLY {
            return Err(malformed);
        }
        let identity = if flags & FLAG_IDENTITY == 0 {
            None
        } else {
            let session = SessionId(reader.u128().ok_or(malformed)?);
            Some(Identity { session, sequence: reader.u64().ok_or(malformed)? })
        };
        let count = reader.varint().ok_or(malformed)?;
        // A count that lies costs nothing: room is made as effects are really read.
        let mut effects = Vec::new();
        for _ in 0..count {
            effects.push(Effect::decode(reader, index)?);
        }
        let reply = if flags & FLAG_REPLY == 0 {
            None
        } else {
            Some(owned(reader.blob(REPLY_SIZE_BYTES_MAX).ok_or(malformed)?))
        };
        Ok(Self { identity, effects, reply })
    }
}

/// Reads the payload of a block of `count` positions.
///
/// # Errors
/// [`DecodeError`]; all or nothing is read.
pub fn decode(payload: &[u8], count: u64) -> Result<Vec<Operation>, DecodeError> {
    let wrong_count = DecodeError::WrongCount { expected: count };
    if payload.len() > BLOCK_SIZE_BYTES_MAX {
        return Err(DecodeError::Malformed { index: 0 });
    }
    let mut reader = Reader::new(payload);
    match reader.u8() {
        Some(FORMAT_VERSION) => {}
        Some(version) => return Err(DecodeError::UnknownFormat { version }),
        None => return Err(wrong_count),
    }
    let mut operations = Vec::new();
    for index in 0..count {
        if reader.is_empty() {
            return Err(wrong_count);
        }
        operations.push(Operation::decode(&mut reader, index)?);
    }
    if reader.is_empty() { Ok(operations) } else { Err(wrong_count) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encode(operations: &[Operation]) -> Vec<u8> {
        let mut out = vec![FORMAT_VERSION];
        for operation in operations {
            operation.encode(&mut out);
        }
        out
    }

    fn string(bytes: &'static [u8]) -> Value {
        Value::String(Bytes::from_static(bytes))
    }

    fn one_of_each() -> Vec<Operation> {
        let key = Bytes::from_static(b"k");
        let identity = Some(Identity { session: SessionId(0x0102), sequence: 3 });
        vec![
            Operation {
                identity,
                effects: vec![
                    Effect::Put { key: key.clone(), value: string(b"val"), expires_at_ms: Some(127) },
                    Effect::Put { key: key.clone(), value: string(b""), expires_at_ms: None },
                    Effect::Delete { key },
                    Effect::Clear,
                ],
                reply: Some(Bytes::from_static(b"+OK\r\n")),
            },
            Operation {
                identity: None,
                effects: vec![
                    Effect::SessionOpened { session: SessionId(1) },
                    Effect::SessionExpired { session: SessionId(2) },
                ],
                reply: None,
            },
        ]
    }

    #[test]
    fn the_bytes_of_every_effect_are_pinned() {
        let mut expected = vec![1, 3, 2, 1];
        expected.extend([0; 14]);
        expected.extend([3, 0, 0, 0, 0, 0, 0, 0, 4]);
        expected.extend([1, 1, 0x80, 1, 1, b'k', 3, b'v', b'a', b'l']);
        expected.extend([1, 1, 0, 1, b'k', 0]);
        expected.extend([2, 1, b'k']);
        expected.push(3);
        expected.extend([5, b'+', b'O', b'K', b'\r', b'\n']);
        expected.extend([0, 2, 4, 1]);
        expected.extend([0; 15]);
        expected.extend([5, 2]);
        expected.extend([0; 15]);
        assert_eq!(encode(&one_of_each()), expected);
        assert_eq!(decode(&expected, 2), Ok(one_of_each()));
    }

    #[test]
    fn a_payload_cut_anywhere_or_with_another_count_is_refused() {
        let whole = encode(&one_of_each());
        for size in 0..whole.len() {
            assert!(decode(&whole[..size], 2).is_err(), "{size}");
        }
        assert_eq!(decode(&whole, 1), Err(DecodeError::WrongCount { expected: 1 }));
        assert_eq!(decode(&whole, 3), Err(DecodeError::WrongCount { expected: 3 }));
        assert_eq!(decode(&whole, u64::MAX), Err(DecodeError::WrongCount { expected: u64::MAX }));
    }

    #[test]
    fn the_unknown_is_an_error_that_names_it() {
        assert_eq!(decode(&[9], 1), Err(DecodeError::UnknownFormat { version: 9 }));
        assert_eq!(decode(&[FORMAT_VERSION, 0, 1, 77], 1), Err(DecodeError::UnknownEffect { kind: 77 }));
        assert_eq!(decode(&[FORMAT_VERSION, 4, 0], 1), Err(DecodeError::Malformed { index: 0 }), "an unknown flag");
        let unknown_type = [FORMAT_VERSION, 0, 1, 1, 99, 0, 1, b'k', 0];
        assert_eq!(decode(&unknown_type, 1), Err(DecodeError::Malformed { index: 0 }));
    }

    #[test]
    fn a_lying_count_or_length_costs_no_memory() {
        let mut bytes = vec![FORMAT_VERSION, 0];
        put_varint(&mut bytes, u64::MAX);
        assert!(decode(&bytes, 1).is_err());
        let mut bytes = vec![FORMAT_VERSION, 0, 1, 2];
        put_varint(&mut bytes, u64::MAX);
        assert!(decode(&bytes, 1).is_err());
    }

    proptest! {
        #[test]
        fn what_decodes_encodes_to_the_same_bytes(bytes in proptest::collection::vec(0_u8..12, 0..64), count in 0..4_u64) {
            let mut payload = vec![FORMAT_VERSION];
            payload.extend(bytes);
            if let Ok(operations) = decode(&payload, count) {
                prop_assert_eq!(encode(&operations), payload);
            }
        }

        #[test]
        fn no_flip_of_a_byte_panics(index in 0..120_usize, byte: u8) {
            let mut payload = encode(&one_of_each());
            let index = index % payload.len();
            payload[index] = byte;
            if let Ok(operations) = decode(&payload, 2) {
                prop_assert_eq!(encode(&operations), payload);
            }
        }
    }
}
