//! What a guardian writes to the peers of its node: first a notice of whom it watches, and, once it has reaped that
//! process and all it ran, the secret that proves it (R20).
//!
//! The notice is the first part of the frame. A guardian sends it when it connects and keeps the connection open, so
//! that the proof costs one small write. No TLS: the secret's digest reached the peer on an authenticated connection,
//! and who reveals the secret has had it from the guardian.
//!
//! | offset | size | what |
//! | --- | --- | --- |
//! | 0 | 8 | `DEADHW01`: kind and version of the format |
//! | 8 | 16 | cluster |
//! | 24 | 4 | group |
//! | 28 | 16 | data folder |
//! | 44 | 8 | incarnation: start |
//! | 52 | 8 | incarnation: nonce |
//! | 60 | 32 | the secret |
//! | 92 | 4 | CRC-32C of bytes 0 to 91 |
//!
//! The peer answers a frame that it believes, or whose end it knows already, with the byte 0x01, and then closes. It
//! closes without an answer what it does not believe, and what it cannot judge because it never met that start: the
//! guardian has told only whom it has the answer of, and tries again with the others.

use crate::codec::{DecodeError, Reader, Wire, record};
use crate::crc32c;
use hotwarm_types::{ClusterId, FolderId, GroupId, Incarnation};

/// Which process a guardian watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeathNotice {
    /// The cluster.
    pub cluster: ClusterId,
    /// The group.
    pub group: GroupId,
    /// The data folder of the node.
    pub folder: FolderId,
    /// The start of its process.
    pub incarnation: Incarnation,
}

record!(DeathNotice { cluster, group, folder, incarnation });

impl DeathNotice {
    /// The first bytes; the first one differs from that of a TLS record (0x16) and of a [`crate::Frame`] (`H`).
    pub const MAGIC: [u8; 8] = *b"DEADHW01";
    /// Length of an encoded notice.
    pub const SIZE_BYTES: usize = 60;

    /// The notice as bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(DeathFrame::SIZE_BYTES);
        out.extend_from_slice(&Self::MAGIC);
        self.put(&mut out);
        out
    }

    /// The notice back from its bytes.
    ///
    /// # Errors
    /// When they do not begin with the magic.
    pub fn decode(bytes: &[u8; Self::SIZE_BYTES]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        if reader.array()? != Self::MAGIC {
            return Err(DecodeError::Magic { expected: "a guardian's notice" });
        }
        let notice = Self::take(&mut reader)?;
        reader.finish()?;
        Ok(notice)
    }
}

/// The whole frame: the notice and its proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeathFrame {
    /// Whose death it proves.
    pub notice: DeathNotice,
    /// What the guardian drew before it started the process, and told nobody.
    pub secret: [u8; 32],
}

impl DeathFrame {
    /// Length of an encoded frame.
    pub const SIZE_BYTES: usize = 96;
    /// The answer of a peer that knows of the death now.
    pub const TAKEN: u8 = 1;

    /// The frame as bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.notice.encode();
        self.secret.put(&mut out);
        crc32c(&out).put(&mut out);
        out
    }

    /// The frame back from its bytes. Whether the secret is the right one is for who knows the digest.
    ///
    /// # Errors
    /// When the magic or the checksum is wrong.
    pub fn decode(bytes: &[u8; Self::SIZE_BYTES]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let notice = DeathNotice::decode(&reader.array()?)?;
        let secret = reader.array()?;
        if u32::take(&mut reader)? != crc32c(&bytes[..Self::SIZE_BYTES - 4]) {
            return Err(DecodeError::Checksum { what: "a death frame" });
        }
        reader.finish()?;
        Ok(Self { notice, secret })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame() -> DeathFrame {
        let incarnation = Incarnation { start: 3, nonce: 0x0506 };
        let notice = DeathNotice { cluster: ClusterId(1), group: GroupId(2), folder: FolderId(0x0f), incarnation };
        DeathFrame { notice, secret: [0xab; 32] }
    }

    #[test]
    fn the_bytes_are_pinned() {
        let expected = [
            "4445414448573031",
            "01000000000000000000000000000000",
            "02000000",
            "0f000000000000000000000000000000",
            "0300000000000000",
            "0605000000000000",
            &"ab".repeat(32),
            "81611784",
        ];
        let bytes = frame().encode();
        assert_eq!(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>(), expected.concat());
        assert_eq!(bytes.len(), DeathFrame::SIZE_BYTES);
        assert_eq!(frame().notice.encode(), bytes[..DeathNotice::SIZE_BYTES]);
        assert_eq!(DeathFrame::decode(&bytes.try_into().unwrap()), Ok(frame()));
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let whole: [u8; DeathFrame::SIZE_BYTES] = frame().encode().try_into().unwrap();
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole;
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(DeathFrame::decode(&bytes).is_err(), "bit {bit}");
        }
    }
}
