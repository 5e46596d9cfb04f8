//! Frames on a stream of bytes, encrypted or not.

use bytes::{Buf, BytesMut};
use hotwarm_types::GroupId;
use hotwarm_wire::{DecodeError, Frame, FrameHeader};
use std::fmt;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

/// A connection, whatever protects it.
pub(super) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// How much room a read is given at least: one TLS record.
const READ_SIZE_BYTES: usize = 16 << 10;
/// Room that a large frame took is given back once it is past this.
const BUFFER_KEPT_SIZE_BYTES: usize = 1 << 20;

/// Sets what every connection between nodes needs: no delay for small frames, and an end to waiting for a peer whose
/// machine is gone. `silence` bounds how long sent bytes may stay unacknowledged; a connection on which nothing is
/// sent is probed each second.
pub(crate) fn tune(stream: &TcpStream, silence: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = socket2::SockRef::from(stream);
    socket.set_tcp_user_timeout(Some(silence))?;
    let every_second = Duration::from_secs(1);
    socket.set_tcp_keepalive(&socket2::TcpKeepalive::new().with_time(every_second).with_interval(every_second))
}

/// Why nothing more can be read.
#[derive(Debug)]
pub enum ReadError {
    /// The other end has closed the connection.
    Closed,
    /// It has closed it within a frame.
    CutOff,
    /// It broke.
    Io(io::Error),
    /// What came is no frame.
    Decode(DecodeError),
    /// A frame for another group.
    OtherGroup(GroupId),
}

impl From<DecodeError> for ReadError {
    fn from(error: DecodeError) -> Self {
        Self::Decode(error)
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("closed by the other end"),
            Self::CutOff => f.write_str("closed by the other end in the middle of a frame"),
            Self::Io(error) => write!(f, "broke: {error}"),
            Self::Decode(error) => write!(f, "what arrived is no frame: {error}"),
            Self::OtherGroup(group) => write!(f, "a frame for group {group} arrived"),
        }
    }
}

/// Takes frames from a stream. Grows as bytes arrive, not as a header promises.
#[derive(Debug)]
pub struct FrameReader {
    group: GroupId,
    buffer: BytesMut,
}

impl FrameReader {
    /// A reader at the start of a frame; frames of other groups are refused.
    #[must_use]
    pub fn new(group: GroupId) -> Self {
        Self { group, buffer: BytesMut::new() }
    }

    /// The next frame. Cancel safe: what has been read stays.
    ///
    /// # Errors
    /// The stream ended or broke, or what came is no frame of the group with a payload of at most
    /// `payload_size_bytes_max`. Nothing more can be read.
    pub async fn next(
        &mut self,
        stream: &mut (impl AsyncRead + Unpin + ?Sized),
        payload_size_bytes_max: usize,
    ) -> Result<Frame, ReadError> {
        loop {
            if let Some(frame) = self.buffered(payload_size_bytes_max)? {
                return Ok(frame);
            }
            if self.buffer.is_empty() && self.buffer.capacity() > BUFFER_KEPT_SIZE_BYTES {
                self.buffer = BytesMut::new();
            }
            self.buffer.reserve(READ_SIZE_BYTES);
            match stream.read_buf(&mut self.buffer).await {
                Ok(0) if self.buffer.is_empty() => return Err(ReadError::Closed),
                Ok(0) => return Err(ReadError::CutOff),
                Ok(_) => {}
                Err(error) => return Err(ReadError::Io(error)),
            }
        }
    }

    fn buffered(&mut self, payload_size_bytes_max: usize) -> Result<Option<Frame>, ReadError> {
        let Some((header, rest)) = self.buffer.split_first_chunk() else { return Ok(None) };
        let header = FrameHeader::decode(header, payload_size_bytes_max)?;
        if header.group != self.group {
            return Err(ReadError::OtherGroup(header.group));
        }
        let Some(payload) = rest.get(..header.payload_size_bytes) else { return Ok(None) };
        let frame = Frame::decode(&header, payload)?;
        self.buffer.advance(FrameHeader::SIZE_BYTES + header.payload_size_bytes);
        Ok(Some(frame))
    }
}

/// Writes one frame and flushes.
pub(super) async fn write_frame(
    stream: &mut (impl AsyncWrite + Unpin + ?Sized),
    group: GroupId,
    frame: &Frame,
) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(512);
    frame.encode(group, &mut bytes);
    stream.write_all(&bytes).await?;
    stream.flush().await
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUP: GroupId = GroupId(1);

    fn bytes_of(group: GroupId, frames: &[Frame]) -> Vec<u8> {
        let mut bytes = Vec::new();
        frames.iter().for_each(|frame| frame.encode(group, &mut bytes));
        bytes
    }

    #[tokio::test]
    async fn frames_come_out_however_the_bytes_are_cut() {
        let frames: Vec<Frame> = (0..5)
            .map(|round| Frame::Forward { round, payload: vec![7; 3000 * usize::try_from(round).unwrap()] })
            .collect();
        let bytes = bytes_of(GROUP, &frames);
        for size in [1, 7, 24, 1000, bytes.len()] {
            let (mut near, mut far) = tokio::io::duplex(size);
            let sent = bytes.clone();
            let sender = tokio::spawn(async move { near.write_all(&sent).await });
            let mut reader = FrameReader::new(GROUP);
            for frame in &frames {
                assert_eq!(&reader.next(&mut far, 1 << 20).await.unwrap(), frame);
            }
            sender.await.unwrap().unwrap();
            assert!(matches!(reader.next(&mut far, 1 << 20).await, Err(ReadError::Closed)));
        }
    }

    #[tokio::test]
    async fn a_promise_of_a_large_frame_takes_no_room() {
        let bytes = bytes_of(GROUP, &[Frame::Forward { round: 1, payload: vec![0; 4 << 20] }]);
        let mut head = &bytes[..100];
        let mut reader = FrameReader::new(GROUP);
        assert!(matches!(reader.next(&mut head, 8 << 20).await, Err(ReadError::CutOff)));
        assert!(reader.buffer.capacity() <= 2 * READ_SIZE_BYTES, "{} bytes", reader.buffer.capacity());
    }

    #[tokio::test]
    async fn what_is_too_large_or_for_another_group_is_refused_by_its_header() {
        let bytes = bytes_of(GROUP, &[Frame::Forward { round: 1, payload: vec![0; 2000] }]);
        let refused = FrameReader::new(GROUP).next(&mut &bytes[..24], 1024).await;
        assert!(matches!(refused, Err(ReadError::Decode(DecodeError::TooLong { .. }))));
        let refused = FrameReader::new(GroupId(2)).next(&mut &bytes[..24], 4096).await;
        assert!(matches!(refused, Err(ReadError::OtherGroup(GROUP))));
    }
}
