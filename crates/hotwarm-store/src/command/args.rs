//! How commands read their arguments.

use super::error::CommandError;
use super::limits::PATTERN_SIZE_BYTES_MAX;
use crate::keyspace::{Entry, Value};
use bytes::Bytes;
use hotwarm_resp::number::parse_i64;
use hotwarm_types::Lsn;

/// What a command answers, or why it is refused.
pub(crate) type Outcome = Result<hotwarm_resp::Reply, CommandError>;

/// A 64-bit integer in its one accepted spelling.
pub(crate) fn integer(arg: &[u8]) -> Result<i64, CommandError> {
    parse_i64(arg).ok_or(CommandError::NotInteger)
}

/// Whether an argument is this word, in whatever case.
pub(crate) fn is(arg: &[u8], word: &str) -> bool {
    arg.eq_ignore_ascii_case(word.as_bytes())
}

/// A pattern of bounded length.
pub(crate) fn pattern(arg: &Bytes) -> Result<&Bytes, CommandError> {
    if arg.len() > PATTERN_SIZE_BYTES_MAX {
        return Err(CommandError::PatternTooLarge { limit_bytes: PATTERN_SIZE_BYTES_MAX });
    }
    Ok(arg)
}

/// An argument as text for an error, cut to 128 bytes as Redis does.
pub(crate) fn quoted(arg: &[u8]) -> String {
    String::from_utf8_lossy(&arg[..arg.len().min(128)]).into_owned()
}

/// The string that an entry holds. Other types will answer WRONGTYPE here.
pub(crate) fn string(entry: &Entry) -> &Bytes {
    let Value::String(bytes) = &entry.value;
    bytes
}

/// An entry to put; the keyspace gives it its version.
pub(crate) fn entry(bytes: Bytes, expires_at_ms: Option<u64>) -> Entry {
    Entry { value: Value::String(bytes), expires_at_ms, version: Lsn::ZERO }
}

/// In what a time to live is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Seconds,
    Milliseconds,
}

/// From when a time to live counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Base {
    Now,
    Epoch,
}

/// The group time in milliseconds that `value` stands for; it may lie in the past. `None` when it does not fit.
pub(crate) fn point_ms(value: i64, unit: Unit, base: Base, now_ms: u64) -> Option<i64> {
    let value_ms = match unit {
        Unit::Seconds => value.checked_mul(1000)?,
        Unit::Milliseconds => value,
    };
    match base {
        Base::Now => value_ms.checked_add(i64::try_from(now_ms).ok()?),
        Base::Epoch => Some(value_ms),
    }
}
