//! Messages between nodes as bytes and back: versioned, length-limited, checksummed.
//!
//! A [`Frame`] is what travels on a connection; its header carries the format's version, the group, the length of
//! the payload and two checksums (R39). [`encode_state`] and [`encode_vote`] give the same encoding to files, with a
//! version of their own. All numbers are little-endian; a value has exactly one encoding, and anything else is
//! refused. Decoding takes bytes from anyone: it never panics, and allocates no more than a small multiple of the
//! bytes that are there (INV-12).
//!
//! No socket, file or clock: the node moves the bytes. No compression and no secrecy: TLS gives the latter.

mod codec;
mod death;
mod frame;
mod handshake;
mod message;
mod record;
mod stored;

pub use codec::DecodeError;
pub use death::{DeathFrame, DeathNotice};
pub use frame::{Frame, FrameHeader, FrameKind, FrontAddress};
pub use handshake::{Hello, Purpose, Refusal, RefusalReason};
pub use stored::{decode_state, decode_vote, encode_state, encode_vote};

/// CRC-32C (Castagnoli) of `bytes`.
#[must_use]
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_checksum_is_castagnolis() {
        assert_eq!(super::crc32c(b"123456789"), 0xe306_9283);
    }
}
