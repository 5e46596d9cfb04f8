//! How the state is laid out in one tree: keys with a kind as their first byte, and the values under them.
//!
//! | kind | key after the kind | value |
//! | --- | --- | --- |
//! | `0` | the tree's own | see [`crate::tree`] |
//! | `e` | epoch | first LSN of that epoch |
//! | `k` | generation, key | header and value, below |
//! | `m` | nothing | [`Meta`] |
//! | `r` | session, sequence | `1` and the reply, or `0`: too long to be kept |
//! | `s` | session | floor, group time of last use |
//! | `x` | generation, expiry, key | nothing: the index by expiry |
//!
//! Numbers in keys are big-endian, so that rows sort by them; numbers in values are little-endian. `c` (parts of
//! collections) and `h` (versions kept for history) are reserved.
//!
//! **Generation**: the LSN of the last `Clear`, 0 before the first. A clear of any number of keys is then one small
//! write, atomic with its neighbours; the rows of older generations are invisible and are reclaimed behind it, some
//! with each feed.
//!
//! Header of a `k` row, 17 bytes: value type (1: string), version (the LSN that wrote it) as u64, expiry as u64 (0:
//! none, else group time in milliseconds plus one).

use crate::codec::Reader;
use crate::keyspace::{Entry, Value};
use crate::tree::{Rows, TreeError};
use bytes::Bytes;
use hotwarm_types::{EntryId, Epoch, Lsn, SessionId};

pub(crate) const EPOCH: u8 = b'e';
pub(crate) const KEY: u8 = b'k';
pub(crate) const META: u8 = b'm';
pub(crate) const REPLY: u8 = b'r';
pub(crate) const SESSION: u8 = b's';
pub(crate) const EXPIRY: u8 = b'x';

/// The key of the one `m` row.
pub(crate) const META_KEY: &[u8] = &[META];

const TYPE_STRING: u8 = 1;
const HEADER_SIZE_BYTES: usize = 17;
const META_VERSION: u8 = 1;

/// The position that a tree holds, and what must be known of it at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Meta {
    /// The last entry that is applied: always the end of a block.
    pub applied: EntryId,
    /// Its group time.
    pub stamp_ms: u64,
    /// The generation that is visible.
    pub generation: Lsn,
    /// How many keys that generation has, expired and not yet reclaimed ones included.
    pub key_count: u64,
}

impl Meta {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = vec![META_VERSION];
        let Self { applied, stamp_ms, generation, key_count } = self;
        for number in [applied.epoch.0, applied.lsn.0, *stamp_ms, generation.0, *key_count] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out
    }

    pub(crate) fn decode(row: &[u8]) -> Result<Self, TreeError> {
        let read = || {
            let mut reader = Reader::new(row);
            if reader.u8()? != META_VERSION {
                return None;
            }
            let applied = EntryId { epoch: Epoch(reader.u64()?), lsn: Lsn(reader.u64()?) };
            let meta =
                Self { applied, stamp_ms: reader.u64()?, generation: Lsn(reader.u64()?), key_count: reader.u64()? };
            reader.is_empty().then_some(meta)
        };
        read().ok_or(TreeError::Corrupt { what: "the state's position" })
    }
}

pub(crate) fn data(generation: Lsn, key: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(9 + key.len());
    out.push(KEY);
    out.extend_from_slice(&generation.0.to_be_bytes());
    out.extend_from_slice(key);
    out
}

/// The user's key in a `k` row.
pub(crate) fn data_key(row_key: &Bytes) -> Bytes {
    row_key.slice(9.min(row_key.len())..)
}

/// Before every row of a generation and kind.
pub(crate) fn generation_start(kind: u8, generation: Lsn) -> Vec<u8> {
    let mut out = vec![kind];
    out.extend_from_slice(&generation.0.to_be_bytes());
    out
}

/// After every row of a generation and kind.
pub(crate) fn generation_end(kind: u8, generation: Lsn) -> Vec<u8> {
    generation_start(kind, generation.next())
}

pub(crate) fn expiry(generation: Lsn, expires_at_ms: u64, key: &[u8]) -> Vec<u8> {
    let mut out = generation_start(EXPIRY, generation);
    out.extend_from_slice(&expires_at_ms.to_be_bytes());
    out.extend_from_slice(key);
    out
}

/// Expiry and user's key of an `x` row.
pub(crate) fn parse_expiry(row_key: &Bytes) -> Option<(u64, Bytes)> {
    let at = row_key.get(9..17)?.try_into().ok()?;
    Some((u64::from_be_bytes(at), row_key.slice(17..)))
}

/// The expiry of the first of some `x` rows; `u64::MAX` if there is none.
pub(crate) fn first_expiry(rows: &Rows) -> Result<u64, TreeError> {
    let Some((row_key, _)) = rows.first() else { return Ok(u64::MAX) };
    parse_expiry(row_key).map(|(at, _)| at).ok_or(TreeError::Corrupt { what: "an expiry" })
}

/// Expiry and key of the place right after an `x` row.
pub(crate) fn after_expiry(row_key: &Bytes) -> Vec<u8> {
    let mut out = row_key.get(9..).unwrap_or_default().to_vec();
    out.push(0);
    out
}

pub(crate) fn epoch(epoch: Epoch) -> Vec<u8> {
    let mut out = vec![EPOCH];
    out.extend_from_slice(&epoch.0.to_be_bytes());
    out
}

pub(crate) fn parse_epoch(row: &(Bytes, Bytes)) -> Result<(Epoch, Lsn), TreeError> {
    let read = || {
        let epoch = row.0.get(1..)?.try_into().ok()?;
        let first = row.1.as_ref().try_into().ok()?;
        Some((Epoch(u64::from_be_bytes(epoch)), Lsn(u64::from_le_bytes(first))))
    };
    read().ok_or(TreeError::Corrupt { what: "the start of an epoch" })
}

pub(crate) fn session(id: SessionId) -> Vec<u8> {
    let mut out = vec![SESSION];
    out.extend_from_slice(&id.0.to_be_bytes());
    out
}

pub(crate) fn parse_session(row_key: &[u8]) -> Option<SessionId> {
    Some(SessionId(u128::from_be_bytes(row_key.get(1..)?.try_into().ok()?)))
}

pub(crate) fn reply(id: SessionId, sequence: u64) -> Vec<u8> {
    let mut out = reply_start(id);
    out.extend_from_slice(&sequence.to_be_bytes());
    out
}

/// Before every reply of a session.
pub(crate) fn reply_start(id: SessionId) -> Vec<u8> {
    let mut out = vec![REPLY];
    out.extend_from_slice(&id.0.to_be_bytes());
    out
}

pub(crate) fn parse_reply(row_key: &[u8]) -> Option<(SessionId, u64)> {
    let (id, sequence) = row_key.get(1..)?.split_at_checked(16)?;
    Some((SessionId(u128::from_be_bytes(id.try_into().ok()?)), u64::from_be_bytes(sequence.try_into().ok()?)))
}

/// The first key that does not begin with `prefix`; `None` if there is none.
pub(crate) fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let keep = prefix.iter().rposition(|byte| *byte != 0xff)?;
    let mut out = prefix[..=keep].to_vec();
    out[keep] += 1;
    Some(out)
}

/// How a type of value is numbered in rows and in effects. Stable: numbers are never given anew.
pub(crate) fn type_number(value: &Value) -> u8 {
    match value {
        Value::String(_) => TYPE_STRING,
    }
}

pub(crate) fn value_bytes(value: &Value) -> &Bytes {
    match value {
        Value::String(bytes) => bytes,
    }
}

/// The value of a type, if the type is known.
pub(crate) fn value_of(number: u8, bytes: Bytes) -> Option<Value> {
    (number == TYPE_STRING).then_some(Value::String(bytes))
}

pub(crate) fn expiry_number(expires_at_ms: Option<u64>) -> u64 {
    expires_at_ms.map_or(0, |at| at.saturating_add(1))
}

pub(crate) fn expiry_of(number: u64) -> Option<u64> {
    number.checked_sub(1)
}

pub(crate) fn encode_entry(entry: &Entry) -> Vec<u8> {
    let value = value_bytes(&entry.value);
    let mut out = Vec::with_capacity(HEADER_SIZE_BYTES + value.len());
    out.push(type_number(&entry.value));
    out.extend_from_slice(&entry.version.0.to_le_bytes());
    out.extend_from_slice(&expiry_number(entry.expires_at_ms).to_le_bytes());
    out.extend_from_slice(value);
    out
}

pub(crate) fn decode_entry(row: &Bytes) -> Result<Entry, TreeError> {
    let read = || {
        let mut reader = Reader::new(row);
        let number = reader.u8()?;
        let version = Lsn(reader.u64()?);
        let expires_at_ms = expiry_of(reader.u64()?);
        let value = value_of(number, row.slice(HEADER_SIZE_BYTES..))?;
        Some(Entry { value, expires_at_ms, version })
    };
    read().ok_or(TreeError::Corrupt { what: "the value of a key" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_a_generation_lie_between_its_bounds_and_keep_the_order_of_keys() {
        let generation = Lsn(0xff);
        let (start, end) = (generation_start(KEY, generation), generation_end(KEY, generation));
        let rows: Vec<_> = [&b""[..], b"\0", b"a", b"aa", b"\xff\xff"].map(|key| data(generation, key)).to_vec();
        assert!(rows.is_sorted());
        assert!(rows.iter().all(|row| start <= *row && *row < end));
        assert!(data(generation.next(), b"") >= end);
    }

    #[test]
    fn the_bytes_of_rows_are_pinned() {
        let entry =
            Entry { value: Value::String(Bytes::from_static(b"v")), expires_at_ms: Some(0x0102), version: Lsn(7) };
        let row = Bytes::from(encode_entry(&entry));
        assert_eq!(&row[..], [1, 7, 0, 0, 0, 0, 0, 0, 0, 3, 1, 0, 0, 0, 0, 0, 0, b'v']);
        assert_eq!(decode_entry(&row), Ok(entry));
        assert_eq!(data(Lsn(1), b"k"), [b'k', 0, 0, 0, 0, 0, 0, 0, 1, b'k']);
        assert_eq!(prefix_end(&[1, 0xff]), Some(vec![2]));
        assert_eq!(prefix_end(&[0xff]), None);
    }

    #[test]
    fn a_row_cut_anywhere_is_corrupt_and_not_a_value() {
        let entry = Entry { value: Value::String(Bytes::new()), expires_at_ms: None, version: Lsn(7) };
        let row = Bytes::from(encode_entry(&entry));
        for size in 0..row.len() {
            assert!(decode_entry(&row.slice(..size)).is_err(), "{size}");
        }
        let meta = Meta { key_count: 3, ..Meta::default() };
        let row = meta.encode();
        assert_eq!(Meta::decode(&row), Ok(meta));
        for size in 0..row.len() {
            assert!(Meta::decode(&row[..size]).is_err(), "{size}");
        }
    }
}
