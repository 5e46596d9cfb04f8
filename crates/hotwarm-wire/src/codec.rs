//! The rules of encoding: how numbers, texts, options and collections become bytes and are taken back.
//!
//! | value | bytes |
//! | --- | --- |
//! | integer | its width, little-endian |
//! | `bool` | one byte, 0 or 1 |
//! | `Duration` | nanoseconds as `u64`, saturated |
//! | text, payload | length as `u32`, then the bytes; text is UTF-8 |
//! | `Option` | one byte, 0 or 1, then the value if 1 |
//! | sequence | count as `u32`, then the items |
//! | set, map | as a sequence, keys strictly ascending |
//! | record | its fields in the order of their declaration here |
//! | choice | one byte that names the variant, then its fields |
//!
//! A count or length is believed only as far as the bytes that follow could hold it, so that a short input cannot
//! ask for a large allocation.

use core::fmt;
use core::time::Duration;
use hotwarm_types::Payload;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Why bytes were refused. Nothing was taken from them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// The bytes do not begin as this format does.
    Magic {
        /// What was expected.
        expected: &'static str,
    },
    /// A version that this program does not speak.
    Version {
        /// What carries the version.
        what: &'static str,
        /// The version found.
        got: u16,
        /// The version spoken.
        spoken: u16,
    },
    /// The bytes end before the value does.
    Truncated {
        /// Bytes that were needed at that point.
        needed: usize,
        /// Bytes that were there.
        left: usize,
    },
    /// A checksum does not match: the bytes were damaged on their way or on the disk.
    Checksum {
        /// What it covers.
        what: &'static str,
    },
    /// Longer than the limit.
    TooLong {
        /// What is too long.
        what: &'static str,
        /// Its length in bytes.
        size_bytes: usize,
        /// The limit in bytes.
        size_bytes_max: usize,
    },
    /// A byte that names no variant.
    Variant {
        /// Of what.
        what: &'static str,
        /// The byte.
        got: u8,
    },
    /// A value outside its range.
    Value {
        /// What is wrong with it.
        what: &'static str,
    },
    /// Bytes are left over after the value.
    Trailing {
        /// How many.
        left: usize,
    },
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Magic { expected } => write!(f, "not {expected}: the first bytes differ"),
            Self::Version { what, got, spoken } => {
                write!(f, "{what} has format version {got}, this program speaks version {spoken}")
            }
            Self::Truncated { needed, left } => write!(f, "{needed} bytes expected, {left} are left"),
            Self::Checksum { what } => write!(f, "checksum of {what} does not match"),
            Self::TooLong { what, size_bytes, size_bytes_max } => {
                write!(f, "{what} of {size_bytes} bytes is over the limit of {size_bytes_max} bytes")
            }
            Self::Variant { what, got } => write!(f, "{got} is no kind of {what}"),
            Self::Value { what } => f.write_str(what),
            Self::Trailing { left } => write!(f, "{left} bytes are left over"),
        }
    }
}

impl std::error::Error for DecodeError {}

/// The bytes that have not been taken yet.
pub(crate) struct Reader<'a> {
    left: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { left: bytes }
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let Some((taken, left)) = self.left.split_at_checked(count) else {
            return Err(DecodeError::Truncated { needed: count, left: self.left.len() });
        };
        self.left = left;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let left = self.left.len();
        let Some((taken, rest)) = self.left.split_first_chunk::<N>() else {
            return Err(DecodeError::Truncated { needed: N, left });
        };
        self.left = rest;
        Ok(*taken)
    }

    /// A length or count, refused when even items of one byte would not fit into what is left.
    fn count(&mut self) -> Result<usize, DecodeError> {
        let count = u32::take(self)? as usize;
        if count > self.left.len() {
            return Err(DecodeError::Truncated { needed: count, left: self.left.len() });
        }
        Ok(count)
    }

    fn prefixed(&mut self) -> Result<&'a [u8], DecodeError> {
        let count = self.count()?;
        self.bytes(count)
    }

    /// Checks that everything was taken.
    pub(crate) fn finish(self) -> Result<(), DecodeError> {
        if self.left.is_empty() { Ok(()) } else { Err(DecodeError::Trailing { left: self.left.len() }) }
    }
}

/// A value with one encoding.
pub(crate) trait Wire: Sized {
    /// Appends the value.
    fn put(&self, out: &mut Vec<u8>);
    /// Takes the value back.
    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError>;
}

/// Decodes the whole of `bytes`.
pub(crate) fn decode_all<T: Wire>(bytes: &[u8]) -> Result<T, DecodeError> {
    let mut reader = Reader::new(bytes);
    let value = T::take(&mut reader)?;
    reader.finish()?;
    Ok(value)
}

macro_rules! integers {
    ($($name:ty),*) => {$(
        impl Wire for $name {
            fn put(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
            fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
                reader.array().map(Self::from_le_bytes)
            }
        }
    )*};
}
integers!(u8, u16, u32, u64, u128);

impl Wire for bool {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match u8::take(reader)? {
            0 => Ok(false),
            1 => Ok(true),
            got => Err(DecodeError::Variant { what: "truth value", got }),
        }
    }
}

impl Wire for Duration {
    fn put(&self, out: &mut Vec<u8>) {
        u64::try_from(self.as_nanos()).unwrap_or(u64::MAX).put(out);
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        u64::take(reader).map(Self::from_nanos)
    }
}

/// Appends a length and the bytes.
///
/// # Panics
/// If there are more than 4 GiB: no limit of the system comes near.
pub(crate) fn put_prefixed(bytes: &[u8], out: &mut Vec<u8>) {
    put_count(bytes.len(), out);
    out.extend_from_slice(bytes);
}

fn put_count(count: usize, out: &mut Vec<u8>) {
    u32::try_from(count).expect("a frame's parts are far below 4 GiB").put(out);
}

impl Wire for String {
    fn put(&self, out: &mut Vec<u8>) {
        put_prefixed(self.as_bytes(), out);
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let text = core::str::from_utf8(reader.prefixed()?);
        text.map(Self::from).map_err(|_| DecodeError::Value { what: "text is not UTF-8" })
    }
}

impl Wire for Payload {
    fn put(&self, out: &mut Vec<u8>) {
        put_prefixed(self, out);
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.prefixed().map(Self::new)
    }
}

/// Bytes that the shells exchange and the protocol never looks into.
impl Wire for Vec<u8> {
    fn put(&self, out: &mut Vec<u8>) {
        put_prefixed(self, out);
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.prefixed().map(Self::from)
    }
}

impl<const N: usize> Wire for [u8; N] {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.array()
    }
}

impl<T: Wire> Wire for Option<T> {
    fn put(&self, out: &mut Vec<u8>) {
        self.is_some().put(out);
        if let Some(value) = self {
            value.put(out);
        }
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        if bool::take(reader)? { T::take(reader).map(Some) } else { Ok(None) }
    }
}

impl<A: Wire, B: Wire> Wire for (A, B) {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
        self.1.put(out);
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok((A::take(reader)?, B::take(reader)?))
    }
}

/// Takes items one by one, growing as they come: the count alone reserves nothing.
fn take_items<T: Wire>(
    reader: &mut Reader<'_>,
    mut keep: impl FnMut(T) -> Result<(), DecodeError>,
) -> Result<(), DecodeError> {
    for _ in 0..reader.count()? {
        keep(T::take(reader)?)?;
    }
    Ok(())
}

impl<A: Wire, B: Wire> Wire for Vec<(A, B)> {
    fn put(&self, out: &mut Vec<u8>) {
        put_count(self.len(), out);
        self.iter().for_each(|item| item.put(out));
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut items = Self::new();
        take_items(reader, |item| {
            items.push(item);
            Ok(())
        })?;
        Ok(items)
    }
}

impl<T: Wire> Wire for VecDeque<T> {
    fn put(&self, out: &mut Vec<u8>) {
        put_count(self.len(), out);
        self.iter().for_each(|item| item.put(out));
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut items = Self::new();
        take_items(reader, |item| {
            items.push_back(item);
            Ok(())
        })?;
        Ok(items)
    }
}

const NOT_ASCENDING: DecodeError = DecodeError::Value { what: "keys are not in ascending order" };

impl<T: Wire + Ord> Wire for BTreeSet<T> {
    fn put(&self, out: &mut Vec<u8>) {
        put_count(self.len(), out);
        self.iter().for_each(|item| item.put(out));
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut items = Self::new();
        take_items(reader, |item| {
            let ascending = items.last().is_none_or(|last| *last < item);
            items.insert(item);
            if ascending { Ok(()) } else { Err(NOT_ASCENDING) }
        })?;
        Ok(items)
    }
}

impl<K: Wire + Ord, V: Wire> Wire for BTreeMap<K, V> {
    fn put(&self, out: &mut Vec<u8>) {
        put_count(self.len(), out);
        for (key, value) in self {
            key.put(out);
            value.put(out);
        }
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut items = Self::new();
        take_items(reader, |(key, value)| {
            let ascending = items.last_key_value().is_none_or(|(last, _)| *last < key);
            items.insert(key, value);
            if ascending { Ok(()) } else { Err(NOT_ASCENDING) }
        })?;
        Ok(items)
    }
}

/// Encodes a record as its fields, in the order given.
macro_rules! record {
    ($($name:ident { $($field:tt),* $(,)? })*) => {$(
        impl Wire for $name {
            fn put(&self, out: &mut Vec<u8>) {
                $(self.$field.put(out);)*
            }
            fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
                Ok(Self { $($field: Wire::take(reader)?),* })
            }
        }
    )*};
}

/// Encodes a choice as one byte that names the variant, then the variant's fields in the order given. The match over
/// the variants has no wildcard: a new one does not compile until it has a number here.
macro_rules! choice {
    ($name:ident, $what:literal { $($number:literal = $variant:ident $(($($item:ident),*))? $({ $($field:ident),* })?),* $(,)? }) => {
        impl Wire for $name {
            fn put(&self, out: &mut Vec<u8>) {
                match self {
                    $(Self::$variant $(($($item),*))? $({ $($field),* })? => {
                        out.push($number);
                        $($($item.put(out);)*)?
                        $($($field.put(out);)*)?
                    })*
                }
            }
            fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
                match u8::take(reader)? {
                    $($number => {
                        $($(let $item = Wire::take(reader)?;)*)?
                        $($(let $field = Wire::take(reader)?;)*)?
                        Ok(Self::$variant $(($($item),*))? $({ $($field),* })?)
                    })*
                    got => Err(DecodeError::Variant { what: $what, got }),
                }
            }
        }
    };
}

pub(crate) use {choice, record};

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(value: &impl Wire) -> Vec<u8> {
        let mut out = Vec::new();
        value.put(&mut out);
        out
    }

    #[test]
    fn a_count_that_the_bytes_cannot_hold_is_refused_before_anything_is_reserved() {
        let lie = u32::MAX.to_le_bytes();
        assert_eq!(decode_all::<Vec<u8>>(&lie), Err(DecodeError::Truncated { needed: u32::MAX as usize, left: 0 }));
        assert!(decode_all::<Vec<(u64, u64)>>(&lie).is_err());
        assert!(decode_all::<BTreeMap<u64, u64>>(&lie).is_err());
    }

    #[test]
    fn a_set_has_one_encoding() {
        let set = BTreeSet::from([3_u16, 9]);
        assert_eq!(decode_all::<BTreeSet<u16>>(&encoded(&set)), Ok(set));
        for wrong in [[9_u16, 3], [3, 3]] {
            let mut bytes = encoded(&2_u32);
            wrong.iter().for_each(|item| item.put(&mut bytes));
            assert_eq!(decode_all::<BTreeSet<u16>>(&bytes), Err(NOT_ASCENDING));
        }
    }

    #[test]
    fn a_truth_value_is_zero_or_one() {
        assert_eq!(decode_all::<bool>(&[1]), Ok(true));
        assert_eq!(decode_all::<bool>(&[2]), Err(DecodeError::Variant { what: "truth value", got: 2 }));
    }

    #[test]
    fn what_is_left_over_is_an_error() {
        assert_eq!(decode_all::<u8>(&[1, 2, 3]), Err(DecodeError::Trailing { left: 2 }));
    }

    #[test]
    fn a_duration_past_584_years_saturates() {
        assert_eq!(decode_all::<Duration>(&encoded(&Duration::MAX)), Ok(Duration::from_nanos(u64::MAX)));
    }
}
