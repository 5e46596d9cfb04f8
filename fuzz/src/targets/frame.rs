//! What travels between nodes: single frames, and the bytes of a connection.

use super::{SMALL, led};
use crate::draw::Draw;
use crate::sample;
use crate::target::{Seed, Target};
use hotwarm_node::transport::{FrameReader, ReadError};
use hotwarm_types::{FolderId, GroupId, Incarnation, SnapshotId, StreamId};
use hotwarm_wire::{Frame, FrameHeader, FrontAddress, Hello, Purpose, Refusal, RefusalReason, crc32c};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use tokio::io::{AsyncRead, ReadBuf};

pub(super) const FRAME: Target = Target { name: "frame", run: frame, seeds: frame_seeds, ..SMALL };
pub(super) const PEER_STREAM: Target =
    Target { name: "peer_stream", run: peer_stream, seeds: stream_seeds, memory_base_bytes: 1 << 20, ..SMALL };

const HEADER_SIZE_BYTES: usize = FrameHeader::SIZE_BYTES;

/// Puts the right length and checksums into what claims to be a frame.
fn seal(bytes: &mut [u8]) {
    let Some((header, payload)) = bytes.split_first_chunk_mut::<HEADER_SIZE_BYTES>() else { return };
    header[12..16].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    header[16..20].copy_from_slice(&crc32c(payload).to_le_bytes());
    let crc = crc32c(&header[..20]);
    header[20..24].copy_from_slice(&crc.to_le_bytes());
}

/// The first byte chooses: 0, the bytes as they are; 1, a header of ours with the kind that follows; 2, any header. The
/// latter two are sealed.
fn frame(input: &[u8]) {
    let mut draw = Draw::new(input);
    let (bytes, size_bytes_max) = match draw.below(3) {
        0 => (draw.rest().to_vec(), Frame::PAYLOAD_SIZE_BYTES_MAX),
        1 => {
            let mut bytes = b"HWF\x01".to_vec();
            bytes.extend_from_slice(&[draw.u8(), 0, 0, 0]);
            bytes.resize(HEADER_SIZE_BYTES, 0);
            bytes.extend_from_slice(draw.rest());
            seal(&mut bytes);
            (bytes, Frame::PAYLOAD_SIZE_BYTES_MAX)
        }
        _ => {
            let size_bytes_max = usize::from(draw.u16());
            let mut bytes = draw.rest().to_vec();
            seal(&mut bytes);
            (bytes, size_bytes_max)
        }
    };
    let Some((header, payload)) = bytes.split_first_chunk() else { return };
    let header = match FrameHeader::decode(header, size_bytes_max) {
        Ok(header) => header,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    assert!(header.payload_size_bytes <= size_bytes_max);
    match Frame::decode(&header, payload) {
        Ok(frame) => {
            let mut again = Vec::new();
            frame.encode(header.group, &mut again);
            assert_eq!(again, bytes, "{frame:?} has one encoding");
            assert_eq!(frame.kind(), header.kind);
            assert!(frame.weight_bytes() > 0);
            let _ = frame.is_bulk();
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// Bytes that arrive in pieces of one size, and then the connection is closed.
struct Pieces<'a> {
    left: &'a [u8],
    size: usize,
}

impl AsyncRead for Pieces<'_> {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let count = self.size.min(self.left.len()).min(buffer.remaining());
        let (taken, left) = self.left.split_at(count);
        buffer.put_slice(taken);
        self.left = left;
        Poll::Ready(Ok(()))
    }
}

/// The frames of a connection, and what ended it.
fn frames(bytes: &[u8], size: usize) -> (Vec<Frame>, String) {
    let mut reader = FrameReader::new(sample::GROUP);
    let mut pieces = Pieces { left: bytes, size };
    let mut context = Context::from_waker(Waker::noop());
    let mut frames = Vec::new();
    loop {
        // Until a hello has come, nothing large is taken.
        let size_bytes_max = if frames.is_empty() { Hello::SIZE_BYTES_MAX } else { Frame::PAYLOAD_SIZE_BYTES_MAX };
        let next = pin!(reader.next(&mut pieces, size_bytes_max)).poll(&mut context);
        match next {
            Poll::Ready(Ok(frame)) => frames.push(frame),
            Poll::Ready(Err(error)) => {
                assert!(!matches!(error, ReadError::Io(_)), "nothing broke: {error}");
                return (frames, error.to_string());
            }
            Poll::Pending => unreachable!("the bytes are all there"),
        }
    }
}

/// Frames one after another: for each the length of its payload, whether it is sealed, its kind and its payload. What
/// follows the last is as it is.
fn peer_stream(input: &[u8]) {
    let mut draw = Draw::new(input);
    let size = usize::from(draw.u8()) + 2;
    let mut bytes = Vec::new();
    for _ in 0..draw.below(6) {
        let (lead, kind) = (draw.u8(), draw.u8());
        let length = usize::from(draw.u8()) << (lead & 3);
        let group = if lead & 0x40 == 0 { sample::GROUP } else { GroupId(9) };
        let mut frame = b"HWF\x01".to_vec();
        frame.extend_from_slice(&[kind, 0, 0, 0]);
        frame.extend_from_slice(&group.0.to_le_bytes());
        frame.resize(HEADER_SIZE_BYTES, 0);
        frame.extend_from_slice(draw.take(length));
        if lead & 0x80 == 0 {
            seal(&mut frame);
        }
        bytes.extend_from_slice(&frame);
    }
    bytes.extend_from_slice(draw.rest());
    let whole = frames(&bytes, bytes.len().max(1));
    for size in [1, size] {
        assert_eq!(frames(&bytes, size), whole, "in pieces of {size} bytes");
    }
    let encoded: usize = whole.0.iter().map(|frame| encoded(frame).len()).sum();
    assert!(encoded <= bytes.len(), "frames have more bytes than came");
}

fn encoded(frame: &Frame) -> Vec<u8> {
    let mut out = Vec::new();
    frame.encode(sample::GROUP, &mut out);
    out
}

fn hello() -> Hello {
    Hello {
        protocol: Hello::PROTOCOL,
        cluster: sample::CLUSTER,
        group: sample::GROUP,
        name: "b".to_owned(),
        folder: FolderId(0xb),
        incarnation: Incarnation { start: 3, nonce: 9 },
        purpose: Purpose::Control,
        death_digest: [7; 32],
        to_name: "a".to_owned(),
    }
}

/// One frame of each kind, and of each message.
fn examples() -> Vec<(&'static str, Frame)> {
    let (stream, payload) = (StreamId(5), b"payload".to_vec());
    let front = FrontAddress { host: "10.0.0.1".to_owned(), port: 6379 };
    let mut examples: Vec<(&'static str, Frame)> =
        sample::messages().into_iter().map(|(name, message)| (name, Frame::Core(message))).collect();
    examples.extend([
        ("handshake", Frame::Hello(hello())),
        ("refusal", Frame::Refusal(Refusal { reason: RefusalReason::Name, text: "no".to_owned() })),
        ("fronts", Frame::Fronts([("redis".to_owned(), front)].into())),
        ("forward", Frame::Forward { round: 1, payload: payload.clone() }),
        ("forward reply", Frame::ForwardReply { id: 2, payload: payload.clone() }),
        ("snapshot chunk", Frame::SnapshotChunk { stream, index: 3, last: true, payload }),
        ("snapshot ack", Frame::SnapshotAck { stream, count: 4, digest: 5 }),
        ("snapshot head", Frame::SnapshotHead { stream, snapshot: SnapshotId(6), size_bytes: 7 }),
    ]);
    examples
}

fn frame_seeds() -> Vec<Seed> {
    let mut seeds: Vec<Seed> = Vec::new();
    for (name, frame) in examples() {
        let bytes = encoded(&frame);
        seeds.push((name, led(&[1, bytes[4]], &bytes[HEADER_SIZE_BYTES..])));
    }
    let bytes = encoded(&Frame::Hello(hello()));
    seeds.push(("as it is", led(&[0], &bytes)));
    seeds.push(("any header", led(&[2, 0xff, 0xff], &bytes)));
    seeds
}

fn stream_seeds() -> Vec<Seed> {
    let frame = |frame: &Frame| {
        let bytes = encoded(frame);
        let payload = &bytes[HEADER_SIZE_BYTES..];
        led(&[0, bytes[4], payload.len() as u8], payload)
    };
    let by_name = |name: &str| examples().into_iter().find(|(known, _)| *known == name).map(|(_, frame)| frame);
    let named = |name: &str| by_name(name).as_ref().map(frame).unwrap_or_default();
    let start = [named("handshake"), named("fronts"), named("beacon")].concat();
    let bulk = [named("handshake"), named("append"), named("snapshot chunk"), named("forward")].concat();
    let other_group = led(&[0x40], &named("beacon")[1..]);
    vec![
        ("start", led(&[7, 3], &start)),
        ("bulk", led(&[23, 4], &bulk)),
        ("refused", led(&[1, 1], &named("refusal"))),
        ("other group", led(&[50, 2], &[named("handshake"), other_group].concat())),
        ("cut off", led(&[5, 1], &[named("handshake"), b"HWF\x01".to_vec()].concat())),
    ]
}
