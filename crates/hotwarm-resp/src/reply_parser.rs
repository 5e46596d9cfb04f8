//! The client side: replies from bytes.
//!
//! Nested replies are built on a stack of our own, not on the thread's: depth is a number with a limit. Attributes
//! (`|`) are read and dropped; replies of unknown length (`$?`, `*?`) are refused, since no server that hotwarm talks
//! to sends them. Source: RESP3 specification.

use crate::line::{Line, find_line};
use crate::number::parse_i64;
use crate::reply::Reply;
use bytes::{Buf, Bytes, BytesMut};
use core::fmt;

/// Items for which room is made before they have arrived.
const ITEMS_RESERVED_MAX: usize = 64;

/// What one reply may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplyLimits {
    /// How deep replies may be nested in replies.
    pub depth_max: usize,
    /// Replies in one reply, at all depths, itself included.
    pub items_max: usize,
    /// The whole reply as sent, in bytes.
    pub reply_size_bytes_max: usize,
    /// A one-line reply, in bytes.
    pub line_size_bytes_max: usize,
}

impl Default for ReplyLimits {
    fn default() -> Self {
        Self { depth_max: 32, items_max: 4 << 20, reply_size_bytes_max: 512 << 20, line_size_bytes_max: 64 << 10 }
    }
}

/// Why bytes are no reply. The connection cannot be used any longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyError {
    /// A reply starts with a byte that announces no kind.
    UnknownKind {
        /// That byte.
        got: u8,
    },
    /// The content of a line does not fit its kind.
    Malformed {
        /// The byte that announces the kind.
        kind: u8,
    },
    /// A line or a string does not end in CR LF.
    ExpectedLineEnd,
    /// A line does not end within the limit.
    LineTooLong,
    /// Nested too deep.
    TooDeep {
        /// The limit.
        limit: usize,
    },
    /// Too many replies in one.
    TooMany {
        /// The limit.
        limit: usize,
    },
    /// Too large as a whole.
    TooLarge {
        /// The limit, in bytes.
        limit_bytes: usize,
    },
}

impl fmt::Display for ReplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownKind { got } => write!(f, "no kind of reply starts with byte 0x{got:02x}"),
            Self::Malformed { kind } => write!(f, "malformed reply of kind '{}'", char::from(*kind)),
            Self::ExpectedLineEnd => f.write_str("reply does not end in CR LF"),
            Self::LineTooLong => f.write_str("line of a reply is too long"),
            Self::TooDeep { limit } => write!(f, "reply is nested deeper than {limit}"),
            Self::TooMany { limit } => write!(f, "reply holds more than {limit} replies"),
            Self::TooLarge { limit_bytes } => write!(f, "reply is larger than {limit_bytes} bytes"),
        }
    }
}

impl core::error::Error for ReplyError {}

/// Kinds whose content has an announced length in bytes.
#[derive(Clone, Copy, Debug)]
enum Text {
    Bulk,
    Error,
    Verbatim,
}

impl Text {
    fn mark(self) -> u8 {
        match self {
            Self::Bulk => b'$',
            Self::Error => b'!',
            Self::Verbatim => b'=',
        }
    }
}

/// Kinds that hold other replies.
#[derive(Clone, Copy, Debug)]
enum Group {
    Array,
    Set,
    Push,
    Map,
    Attribute,
}

/// A reply that holds others and is not complete.
#[derive(Debug)]
struct Frame {
    group: Group,
    missing: usize,
    items: Vec<Reply>,
}

/// What a header line came to.
enum Header {
    Whole(Reply),
    Text(Text, usize),
    Group(Group, usize),
}

/// Cuts replies off a connection's read buffer.
#[derive(Debug, Default)]
pub struct ReplyParser {
    limits: ReplyLimits,
    stack: Vec<Frame>,
    /// A string whose header has been taken off the buffer.
    text: Option<(Text, usize)>,
    scanned: usize,
    items: usize,
    size_bytes: usize,
}

impl ReplyParser {
    /// A parser at the start of a reply.
    #[must_use]
    pub fn new(limits: ReplyLimits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Takes the next whole reply off `buffer`; `None` when more bytes are needed. Bytes of an incomplete reply are
    /// taken off too and kept here, so between two calls the caller may only append.
    ///
    /// # Errors
    /// The bytes are no reply. The parser and the buffer are then of no further use.
    pub fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<Reply>, ReplyError> {
        loop {
            let whole = match self.text {
                Some((text, length)) => match self.take_text(text, length, buffer)? {
                    Some(reply) => reply,
                    None => return Ok(None),
                },
                None => match self.take_header(buffer)? {
                    None => return Ok(None),
                    Some(Header::Whole(reply)) => reply,
                    Some(Header::Text(text, length)) => {
                        self.charge(length + 2)?;
                        self.text = Some((text, length));
                        continue;
                    }
                    Some(Header::Group(group, count)) => match self.open(group, count)? {
                        Some(empty) => empty,
                        None => continue,
                    },
                },
            };
            if let Some(reply) = self.deliver(whole) {
                self.items = 0;
                self.size_bytes = 0;
                return Ok(Some(reply));
            }
        }
    }

    fn charge(&mut self, size_bytes: usize) -> Result<(), ReplyError> {
        self.size_bytes = self.size_bytes.saturating_add(size_bytes);
        let limit_bytes = self.limits.reply_size_bytes_max;
        if self.size_bytes > limit_bytes { Err(ReplyError::TooLarge { limit_bytes }) } else { Ok(()) }
    }

    fn take_header(&mut self, buffer: &mut BytesMut) -> Result<Option<Header>, ReplyError> {
        let end = match find_line(buffer, 0, &mut self.scanned, self.limits.line_size_bytes_max) {
            Line::EndsAt(end) => end,
            Line::Incomplete => return Ok(None),
            Line::Broken => return Err(ReplyError::ExpectedLineEnd),
            Line::TooLong => return Err(ReplyError::LineTooLong),
        };
        self.charge(end + 2)?;
        self.items += 1;
        if self.items > self.limits.items_max {
            return Err(ReplyError::TooMany { limit: self.limits.items_max });
        }
        let mut line = buffer.split_to(end).freeze();
        buffer.advance(2);
        if line.is_empty() {
            return Err(ReplyError::UnknownKind { got: b'\r' });
        }
        let kind = line.get_u8();
        header(kind, line).map(Some)
    }

    fn take_text(&mut self, text: Text, length: usize, buffer: &mut BytesMut) -> Result<Option<Reply>, ReplyError> {
        match buffer.get(length..length + 2) {
            None => return Ok(None),
            Some(b"\r\n") => {}
            Some(_) => return Err(ReplyError::ExpectedLineEnd),
        }
        self.text = None;
        let bytes = buffer.split_to(length).freeze();
        buffer.advance(2);
        let malformed = ReplyError::Malformed { kind: text.mark() };
        Ok(Some(match text {
            Text::Bulk => Reply::Bulk(bytes),
            Text::Error if bytes.iter().any(|byte| matches!(byte, b'\r' | b'\n')) => return Err(malformed),
            Text::Error => Reply::Error(bytes),
            Text::Verbatim => match bytes.get(..4) {
                Some(&[a, b, c, b':']) => Reply::Verbatim { format: [a, b, c], text: bytes.slice(4..) },
                _ => return Err(malformed),
            },
        }))
    }

    /// Begins a reply that holds `count` entries; gives it back at once when that is none.
    fn open(&mut self, group: Group, count: usize) -> Result<Option<Reply>, ReplyError> {
        let missing = match group {
            Group::Map | Group::Attribute => count.saturating_mul(2),
            Group::Array | Group::Set | Group::Push => count,
        };
        if missing > self.limits.items_max {
            return Err(ReplyError::TooMany { limit: self.limits.items_max });
        }
        if self.stack.len() >= self.limits.depth_max {
            return Err(ReplyError::TooDeep { limit: self.limits.depth_max });
        }
        if missing == 0 {
            return Ok(close(group, Vec::new()));
        }
        self.stack.push(Frame { group, missing, items: Vec::with_capacity(missing.min(ITEMS_RESERVED_MAX)) });
        Ok(None)
    }

    /// Puts a whole reply where it belongs; gives back the outermost one when this completed it.
    fn deliver(&mut self, mut reply: Reply) -> Option<Reply> {
        loop {
            let Some(frame) = self.stack.last_mut() else { return Some(reply) };
            frame.items.push(reply);
            frame.missing -= 1;
            if frame.missing > 0 {
                return None;
            }
            let frame = self.stack.pop()?;
            reply = close(frame.group, frame.items)?;
        }
    }
}

/// The reply that a complete group makes; an attribute makes none.
fn close(group: Group, items: Vec<Reply>) -> Option<Reply> {
    match group {
        Group::Array => Some(Reply::Array(items)),
        Group::Set => Some(Reply::Set(items)),
        Group::Push => Some(Reply::Push(items)),
        Group::Attribute => None,
        Group::Map => {
            let mut items = items.into_iter();
            let mut pairs = Vec::with_capacity(items.len() / 2);
            while let (Some(key), Some(value)) = (items.next(), items.next()) {
                pairs.push((key, value));
            }
            Some(Reply::Map(pairs))
        }
    }
}

fn header(kind: u8, content: Bytes) -> Result<Header, ReplyError> {
    let malformed = ReplyError::Malformed { kind };
    let length = || {
        let length = parse_i64(&content).ok_or(malformed)?;
        usize::try_from(length).map_err(|_| malformed)
    };
    Ok(match kind {
        b'+' => Header::Whole(Reply::Simple(content)),
        b'-' => Header::Whole(Reply::Error(content)),
        b':' => Header::Whole(Reply::Integer(parse_i64(&content).ok_or(malformed)?)),
        b'$' if content == b"-1"[..] => Header::Whole(Reply::Null),
        b'*' if content == b"-1"[..] => Header::Whole(Reply::NullArray),
        b'_' if content.is_empty() => Header::Whole(Reply::Null),
        b'#' if content == b"t"[..] => Header::Whole(Reply::Boolean(true)),
        b'#' if content == b"f"[..] => Header::Whole(Reply::Boolean(false)),
        b',' => {
            let text = core::str::from_utf8(&content).map_err(|_| malformed)?;
            Header::Whole(Reply::Double(text.parse().map_err(|_| malformed)?))
        }
        b'(' => {
            let digits = content.strip_prefix(b"-").unwrap_or(&content);
            if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
                return Err(malformed);
            }
            Header::Whole(Reply::BigNumber(content))
        }
        b'$' => Header::Text(Text::Bulk, length()?),
        b'!' => Header::Text(Text::Error, length()?),
        b'=' => Header::Text(Text::Verbatim, length()?),
        b'*' => Header::Group(Group::Array, length()?),
        b'~' => Header::Group(Group::Set, length()?),
        b'>' => Header::Group(Group::Push, length()?),
        b'%' => Header::Group(Group::Map, length()?),
        b'|' => Header::Group(Group::Attribute, length()?),
        b'_' | b'#' => return Err(malformed),
        got => return Err(ReplyError::UnknownKind { got }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(input: &[u8], limits: ReplyLimits) -> Result<Option<Reply>, ReplyError> {
        ReplyParser::new(limits).next(&mut BytesMut::from(input))
    }

    #[test]
    fn attributes_are_dropped() {
        let input = b"|1\r\n+ttl\r\n:3600\r\n*2\r\n|1\r\n+a\r\n%0\r\n:1\r\n|0\r\n:2\r\n";
        let expect = Reply::Array(vec![Reply::Integer(1), Reply::Integer(2)]);
        assert_eq!(parse(input, ReplyLimits::default()), Ok(Some(expect)));
    }

    #[test]
    fn malformed_replies_are_refused() {
        let cases: [&[u8]; 18] = [
            b"\r\n",
            b"x\r\n",
            b":\r\n",
            b":1x\r\n",
            b":01\r\n",
            b"$-2\r\n",
            b"*-2\r\n",
            b"$?\r\n",
            b"_x\r\n",
            b"#x\r\n",
            b",abc\r\n",
            b"(\r\n",
            b"(1a\r\n",
            b"=3\r\nabc\r\n",
            b"=4\r\nabcd\r\n",
            b"$1\r\nabc",
            b"+a\rb",
            b"!2\r\n\r\n\r\n",
        ];
        for input in cases {
            assert!(parse(input, ReplyLimits::default()).is_err(), "{}", input.escape_ascii());
        }
    }

    #[test]
    fn depth_number_and_size_are_bounded() {
        let limits = ReplyLimits { depth_max: 3, items_max: 5, reply_size_bytes_max: 40, line_size_bytes_max: 20 };
        assert_eq!(parse(b"*1\r\n*1\r\n*1\r\n", limits), Ok(None));
        assert_eq!(parse(b"*1\r\n*1\r\n*1\r\n*1\r\n", limits), Err(ReplyError::TooDeep { limit: 3 }));
        assert_eq!(parse(b"*6\r\n", limits), Err(ReplyError::TooMany { limit: 5 }));
        assert_eq!(parse(b"%9223372036854775807\r\n", limits), Err(ReplyError::TooMany { limit: 5 }));
        assert_eq!(parse(b"*3\r\n*1\r\n:1\r\n*1\r\n:1\r\n:1\r\n", limits), Err(ReplyError::TooMany { limit: 5 }));
        assert_eq!(
            parse(b"$9223372036854775807\r\n", ReplyLimits { line_size_bytes_max: 99, ..limits }),
            Err(ReplyError::TooLarge { limit_bytes: 40 })
        );
        assert_eq!(parse(b"+aaaaaaaaaaaaaaaaaaaaaaaaa", limits), Err(ReplyError::LineTooLong));
    }
}
