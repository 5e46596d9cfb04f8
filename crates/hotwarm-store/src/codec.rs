//! Reading and writing of the small binary formats: little-endian numbers, and numbers of variable length (LEB128, at
//! most ten bytes, the shortest form only). The reader answers `None` at the first byte that is not there or not
//! allowed; it never panics and allocates nothing.

use bytes::Bytes;

/// Walks over bytes that somebody else may have written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(head)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(*head)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn u128(&mut self) -> Option<u128> {
        self.array().map(u128::from_le_bytes)
    }

    pub(crate) fn varint(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for index in 0..10 {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if index == 9 && bits > 1 {
                return None;
            }
            value |= bits << (7 * index);
            if byte & 0x80 == 0 {
                return if byte == 0 && index > 0 { None } else { Some(value) };
            }
        }
        None
    }

    /// Bytes with their length before them, at most `size_max` of them.
    pub(crate) fn blob(&mut self, size_max: usize) -> Option<&'a [u8]> {
        let size = usize::try_from(self.varint()?).ok()?;
        if size > size_max { None } else { self.bytes(size) }
    }
}

pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(crate) fn put_blob(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// An own copy of bytes that lie in a larger buffer, so that a small value never keeps the large buffer alive.
pub(crate) fn owned(bytes: &[u8]) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_every_length_come_back_and_only_in_their_shortest_form() {
        for shift in 0..64 {
            for value in [1_u64 << shift, (1_u64 << shift) - 1, u64::MAX >> shift] {
                let mut out = Vec::new();
                put_varint(&mut out, value);
                let mut reader = Reader::new(&out);
                assert_eq!(reader.varint(), Some(value));
                assert!(reader.is_empty());
                assert_eq!(Reader::new(&out[..out.len() - 1]).varint(), None, "a cut number");
            }
        }
        assert_eq!(Reader::new(&[0x80, 0x00]).varint(), None, "a padded zero");
        assert_eq!(Reader::new(&[0xff; 11]).varint(), None, "too long");
        assert_eq!(Reader::new(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02]).varint(), None);
    }

    #[test]
    fn a_length_beyond_the_bytes_or_the_bound_is_refused() {
        let mut out = Vec::new();
        put_blob(&mut out, b"abc");
        assert_eq!(Reader::new(&out).blob(3), Some(&b"abc"[..]));
        assert_eq!(Reader::new(&out).blob(2), None);
        assert_eq!(Reader::new(&out[..3]).blob(3), None);
    }
}
