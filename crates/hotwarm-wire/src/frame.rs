//! What travels on a connection between two nodes: a header of fixed size, then the payload.
//!
//! | offset | size | what |
//! | --- | --- | --- |
//! | 0 | 3 | `HWF` |
//! | 3 | 1 | version of the format: 1 |
//! | 4 | 1 | kind |
//! | 5 | 1 | flags: 0, others are refused |
//! | 6 | 2 | 0, others are refused |
//! | 8 | 4 | group |
//! | 12 | 4 | length of the payload in bytes |
//! | 16 | 4 | CRC-32C of the payload |
//! | 20 | 4 | CRC-32C of bytes 0 to 19 |
//!
//! The header has a checksum of its own, so that a damaged length is found before anyone waits for the bytes it
//! promises. TLS already finds what was altered on the wire; these find what went wrong in memory on either side.

use crate::codec::{DecodeError, Reader, Wire, decode_all, record};
use crate::{Hello, Refusal, crc32c};
use hotwarm_core::Message;
use hotwarm_types::limits::FRAME_SIZE_BYTES_MAX;
use hotwarm_types::{Block, GroupId, SnapshotId, StreamId};
use std::collections::BTreeMap;

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameKind {
    /// A message of the core.
    Core,
    /// Commands that a node passes on to the hot.
    Forward,
    /// The replies to them.
    ForwardReply,
    /// A part of a snapshot.
    SnapshotChunk,
    /// How far a snapshot has been received.
    SnapshotAck,
    /// Which snapshot is about to be sent.
    SnapshotHead,
    /// Who speaks.
    Hello,
    /// The connection is refused.
    Refusal,
    /// Where clients reach the sender.
    Fronts,
}

impl FrameKind {
    fn number(self) -> u8 {
        match self {
            Self::Core => 1,
            Self::Forward => 2,
            Self::ForwardReply => 3,
            Self::SnapshotChunk => 4,
            Self::SnapshotAck => 5,
            Self::Hello => 6,
            Self::Refusal => 7,
            Self::SnapshotHead => 8,
            Self::Fronts => 9,
        }
    }

    fn of_number(number: u8) -> Result<Self, DecodeError> {
        Ok(match number {
            1 => Self::Core,
            2 => Self::Forward,
            3 => Self::ForwardReply,
            4 => Self::SnapshotChunk,
            5 => Self::SnapshotAck,
            6 => Self::Hello,
            7 => Self::Refusal,
            8 => Self::SnapshotHead,
            9 => Self::Fronts,
            got => return Err(DecodeError::Variant { what: "frame", got }),
        })
    }
}

/// The header of a frame whose payload may not have arrived yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// What the payload is.
    pub kind: FrameKind,
    /// The group it is for.
    pub group: GroupId,
    /// Length of the payload.
    pub payload_size_bytes: usize,
    payload_crc: u32,
}

impl FrameHeader {
    /// Length of a header.
    pub const SIZE_BYTES: usize = 24;
    const MAGIC: [u8; 3] = *b"HWF";
    const VERSION: u8 = 1;

    /// Reads a header; `payload_size_bytes_max` is what the reader is ready to receive now.
    ///
    /// # Errors
    /// When it is not a header, damaged, of another version, of an unknown kind, or announces too much.
    pub fn decode(bytes: &[u8; Self::SIZE_BYTES], payload_size_bytes_max: usize) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        if reader.array()? != Self::MAGIC {
            return Err(DecodeError::Magic { expected: "a hotwarm frame" });
        }
        let version = u8::take(&mut reader)?;
        if version != Self::VERSION {
            return Err(DecodeError::Version { what: "frame", got: version.into(), spoken: Self::VERSION.into() });
        }
        if crc32c(&bytes[..Self::SIZE_BYTES - 4]).to_le_bytes() != bytes[Self::SIZE_BYTES - 4..] {
            return Err(DecodeError::Checksum { what: "a frame's header" });
        }
        let kind = FrameKind::of_number(u8::take(&mut reader)?)?;
        if reader.array()? != [0, 0, 0] {
            return Err(DecodeError::Value { what: "a frame has flags that this program does not know" });
        }
        let group = GroupId::take(&mut reader)?;
        let size_bytes = u32::take(&mut reader)? as usize;
        if size_bytes > payload_size_bytes_max {
            return Err(DecodeError::TooLong { what: "frame", size_bytes, size_bytes_max: payload_size_bytes_max });
        }
        Ok(Self { kind, group, payload_size_bytes: size_bytes, payload_crc: u32::take(&mut reader)? })
    }
}

/// Where clients reach a front of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrontAddress {
    /// Host name or IP address; empty: the host of the node's own address.
    pub host: String,
    /// The port.
    pub port: u16,
}

record! {
    FrontAddress { host, port }
}

/// Something that one node sends to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A message of the core.
    Core(Message),
    /// Commands of clients, passed on to the hot.
    Forward {
        /// Grows whenever the sender hands everything that is open over again: what is refused is refused by rounds, so
        /// that the calls of a connection keep their order.
        round: u64,
        /// The commands.
        payload: Vec<u8>,
    },
    /// The replies to a `Forward`.
    ForwardReply {
        /// Numbers the sender's frames of replies.
        id: u64,
        /// The replies.
        payload: Vec<u8>,
    },
    /// A part of a snapshot.
    SnapshotChunk {
        /// The stream that the snapshot starts.
        stream: StreamId,
        /// Numbers the parts, from 0.
        index: u64,
        /// Nothing follows.
        last: bool,
        /// The part.
        payload: Vec<u8>,
    },
    /// So many parts have been received, in this stream or before it.
    SnapshotAck {
        /// The stream.
        stream: StreamId,
        /// How many, from the first on; [`Frame::SNAPSHOT_IN_USE`] if the receiver has put the whole snapshot to use,
        /// [`Frame::SNAPSHOT_FAILED`] if it has nothing of it any more.
        count: u64,
        /// The digest of all of them together: the sender goes on only if it is that of what it has sent.
        digest: u64,
    },
    /// Which snapshot is about to be sent. The receiver answers with how much of it it has.
    SnapshotHead {
        /// The stream that the snapshot starts.
        stream: StreamId,
        /// The snapshot.
        snapshot: SnapshotId,
        /// About how many bytes all its parts together have: for progress.
        size_bytes: u64,
    },
    /// Who speaks: the first frame of each end.
    Hello(Hello),
    /// The connection is refused: the last frame.
    Refusal(Refusal),
    /// Where clients reach the sender, by the fronts' names, in the place of what it said before; at most
    /// [`Frame::FRONTS_COUNT_MAX`].
    Fronts(BTreeMap<String, FrontAddress>),
}

impl Frame {
    /// The largest payload of any frame.
    pub const PAYLOAD_SIZE_BYTES_MAX: usize = FRAME_SIZE_BYTES_MAX;

    /// The count of a `SnapshotAck` that asks for no parts any more, since they are all in use.
    pub const SNAPSHOT_IN_USE: u64 = u64::MAX;
    /// The count of a `SnapshotAck` that says that the parts could not be kept: the copy must begin anew.
    pub const SNAPSHOT_FAILED: u64 = u64::MAX - 1;
    /// Fronts that a node tells of. With names and hosts of the greatest length that is some 40 KiB.
    pub const FRONTS_COUNT_MAX: usize = 128;

    /// What it carries.
    #[must_use]
    pub fn kind(&self) -> FrameKind {
        match self {
            Self::Core(_) => FrameKind::Core,
            Self::Forward { .. } => FrameKind::Forward,
            Self::ForwardReply { .. } => FrameKind::ForwardReply,
            Self::SnapshotChunk { .. } => FrameKind::SnapshotChunk,
            Self::SnapshotAck { .. } => FrameKind::SnapshotAck,
            Self::SnapshotHead { .. } => FrameKind::SnapshotHead,
            Self::Hello(_) => FrameKind::Hello,
            Self::Refusal(_) => FrameKind::Refusal,
            Self::Fronts(_) => FrameKind::Fronts,
        }
    }

    /// Whether it belongs on the bulk connection.
    #[must_use]
    pub fn is_bulk(&self) -> bool {
        match self {
            Self::Core(message) => message.is_bulk(),
            Self::Forward { .. }
            | Self::ForwardReply { .. }
            | Self::SnapshotChunk { .. }
            | Self::SnapshotAck { .. }
            | Self::SnapshotHead { .. } => true,
            Self::Hello(_) | Self::Refusal(_) | Self::Fronts(_) => false,
        }
    }

    /// About how many bytes it takes in a queue and on the wire: exact for what is large, 256 for what is small.
    #[must_use]
    pub fn weight_bytes(&self) -> usize {
        const SMALL: usize = 256;
        match self {
            Self::Core(Message::Append { block, .. }) => SMALL + Block::HEADER_SIZE_BYTES + block.payload.len(),
            Self::Core(
                Message::Announce { state }
                | Message::Accept { state, .. }
                | Message::Promise { accepted: Some((_, state)), .. }
                | Message::Refused { newer: Some(state), .. },
            ) => SMALL + 4096 + state.settings.text.len(),
            Self::Core(_)
            | Self::SnapshotAck { .. }
            | Self::SnapshotHead { .. }
            | Self::Hello(_)
            | Self::Refusal(_) => SMALL,
            Self::Fronts(fronts) => {
                SMALL + fronts.iter().map(|(name, front)| 10 + name.len() + front.host.len()).sum::<usize>()
            }
            Self::Forward { payload, .. }
            | Self::ForwardReply { payload, .. }
            | Self::SnapshotChunk { payload, .. } => SMALL + payload.len(),
        }
    }

    /// Appends header and payload to `out`.
    ///
    /// # Panics
    /// If the payload is over 4 GiB.
    pub fn encode(&self, group: GroupId, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&FrameHeader::MAGIC);
        out.extend_from_slice(&[FrameHeader::VERSION, self.kind().number(), 0, 0, 0]);
        group.put(out);
        out.extend_from_slice(&[0; 12]);
        let payload_start = out.len();
        self.put_payload(out);
        let payload = &out[payload_start..];
        let size = u32::try_from(payload.len()).expect("a frame is far below 4 GiB");
        let crc = crc32c(payload);
        out[start + 12..start + 16].copy_from_slice(&size.to_le_bytes());
        out[start + 16..start + 20].copy_from_slice(&crc.to_le_bytes());
        let header_crc = crc32c(&out[start..start + 20]);
        out[start + 20..start + 24].copy_from_slice(&header_crc.to_le_bytes());
    }

    fn put_payload(&self, out: &mut Vec<u8>) {
        match self {
            Self::Core(message) => message.put(out),
            Self::Forward { round: number, payload } | Self::ForwardReply { id: number, payload } => {
                number.put(out);
                payload.put(out);
            }
            Self::SnapshotChunk { stream, index, last, payload } => {
                stream.put(out);
                index.put(out);
                last.put(out);
                payload.put(out);
            }
            Self::SnapshotAck { stream, count, digest } => {
                stream.put(out);
                count.put(out);
                digest.put(out);
            }
            Self::SnapshotHead { stream, snapshot, size_bytes } => {
                stream.put(out);
                snapshot.put(out);
                size_bytes.put(out);
            }
            Self::Hello(hello) => hello.put(out),
            Self::Refusal(refusal) => refusal.put(out),
            Self::Fronts(fronts) => fronts.put(out),
        }
    }

    /// Takes the payload that `header` announced.
    ///
    /// # Errors
    /// When its checksum is wrong or it is not exactly what the header's kind says.
    pub fn decode(header: &FrameHeader, payload: &[u8]) -> Result<Self, DecodeError> {
        if payload.len() != header.payload_size_bytes {
            return Err(DecodeError::Truncated { needed: header.payload_size_bytes, left: payload.len() });
        }
        if crc32c(payload) != header.payload_crc {
            return Err(DecodeError::Checksum { what: "a frame's payload" });
        }
        let mut whole = Reader::new(payload);
        let reader = &mut whole;
        let frame = match header.kind {
            FrameKind::Core => return decode_all(payload).map(Self::Core),
            FrameKind::Hello => return decode_all(payload).map(Self::Hello),
            FrameKind::Refusal => return decode_all(payload).map(Self::Refusal),
            FrameKind::Fronts => Self::Fronts(fronts(reader)?),
            FrameKind::Forward => Self::Forward { round: Wire::take(reader)?, payload: Wire::take(reader)? },
            FrameKind::ForwardReply => Self::ForwardReply { id: Wire::take(reader)?, payload: Wire::take(reader)? },
            FrameKind::SnapshotChunk => Self::SnapshotChunk {
                stream: Wire::take(reader)?,
                index: Wire::take(reader)?,
                last: Wire::take(reader)?,
                payload: Wire::take(reader)?,
            },
            FrameKind::SnapshotAck => Self::SnapshotAck {
                stream: Wire::take(reader)?,
                count: Wire::take(reader)?,
                digest: Wire::take(reader)?,
            },
            FrameKind::SnapshotHead => Self::SnapshotHead {
                stream: Wire::take(reader)?,
                snapshot: Wire::take(reader)?,
                size_bytes: Wire::take(reader)?,
            },
        };
        whole.finish()?;
        Ok(frame)
    }
}

/// The fronts that a node tells of, as many as a node may.
fn fronts(reader: &mut Reader<'_>) -> Result<BTreeMap<String, FrontAddress>, DecodeError> {
    let fronts: BTreeMap<String, FrontAddress> = Wire::take(reader)?;
    if fronts.len() > Frame::FRONTS_COUNT_MAX {
        return Err(DecodeError::Value { what: "a node tells of more fronts than it may" });
    }
    Ok(fronts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hotwarm_types::{Epoch, Incarnation, Lsn};

    fn ack() -> Frame {
        Frame::Core(Message::Ack {
            epoch: Epoch(7),
            incarnation: Incarnation { start: 3, nonce: 0xfe },
            stream: StreamId(5),
            durable: Lsn(0x0412),
        })
    }

    #[test]
    fn the_bytes_of_a_frame_are_pinned() {
        let expected = [
            "485746",   // HWF
            "01",       // version
            "01",       // kind: core
            "000000",   // flags and reserve
            "09000000", // group
            "29000000", // length of the payload: 41
            "5c6f508a", // CRC-32C of the payload
            "1ffbc9d2", // CRC-32C of the header
            "35",       // message: ack
            "0700000000000000",
            "0300000000000000",
            "fe00000000000000",
            "0500000000000000",
            "1204000000000000",
        ];
        let mut bytes = Vec::new();
        ack().encode(GroupId(9), &mut bytes);
        assert_eq!(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>(), expected.concat());
    }

    #[test]
    fn a_header_announces_no_more_than_its_reader_wants() {
        let mut bytes = Vec::new();
        ack().encode(GroupId(9), &mut bytes);
        let header = bytes[..FrameHeader::SIZE_BYTES].try_into().unwrap();
        assert!(FrameHeader::decode(header, 41).is_ok());
        let error = FrameHeader::decode(header, 40).unwrap_err();
        assert_eq!(error, DecodeError::TooLong { what: "frame", size_bytes: 41, size_bytes_max: 40 });
    }

    #[test]
    fn frames_follow_each_other_in_one_buffer() {
        let mut bytes = Vec::new();
        let frames = [ack(), Frame::SnapshotAck { stream: StreamId(5), count: 2, digest: 7 }, ack()];
        frames.iter().for_each(|frame| frame.encode(GroupId(9), &mut bytes));
        let mut left = &bytes[..];
        for frame in frames {
            let (header, rest) = left.split_first_chunk().unwrap();
            let header = FrameHeader::decode(header, Frame::PAYLOAD_SIZE_BYTES_MAX).unwrap();
            let (payload, rest) = rest.split_at(header.payload_size_bytes);
            assert_eq!((header.group, Frame::decode(&header, payload)), (GroupId(9), Ok(frame)));
            left = rest;
        }
        assert!(left.is_empty());
    }
}
