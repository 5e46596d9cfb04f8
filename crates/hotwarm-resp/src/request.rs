//! Requests: what clients send.
//!
//! A request is an array of bulk strings, or a line of text. The parser keeps positions into the caller's buffer while
//! a request is incomplete and cuts it off the buffer in one piece when it is whole; the arguments are slices of that
//! piece. So an argument keeps the memory of its whole request alive: who stores one for long copies it.
//!
//! ```text
//! *2\r\n$3\r\nGET\r\n$1\r\nk\r\n          GET k\r\n
//! ```
//! Stricter than Redis in one point: CR must be followed by LF everywhere. Source: RESP2 specification; texts of the
//! errors as in Redis 7.0.

use crate::inline;
use crate::line::{Line, find_line};
use crate::number::{Digits, parse_i64};
use crate::reply::Reply;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use core::fmt;
use core::ops::Range;

/// Arguments for which room is made before they have arrived. A claim of a million costs a client ten bytes; it must
/// cost the node no more.
const ARGS_RESERVED_MAX: usize = 64;

/// What one request may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestLimits {
    /// Arguments, the command's name included.
    pub args_max: usize,
    /// One argument, in bytes.
    pub bulk_size_bytes_max: usize,
    /// A request typed as a line, or the line that announces a length, in bytes.
    pub inline_size_bytes_max: usize,
    /// The whole request as sent, in bytes.
    pub request_size_bytes_max: usize,
    /// Whether the connection has proven who it is: the refusals are worded differently before that.
    pub authenticated: bool,
}

impl RequestLimits {
    /// Largest number of arguments that can be configured: Redis' own bound.
    pub const ARGS_MAX: usize = 1 << 20;
    /// Largest argument that can be configured: 512 MiB, Redis' own bound.
    pub const BULK_SIZE_BYTES_MAX: usize = 512 << 20;

    /// For a client that may do what it asks: one value fits in one replicated block of 8 MiB.
    pub const AUTHENTICATED: Self = Self {
        args_max: Self::ARGS_MAX,
        bulk_size_bytes_max: 8 << 20,
        inline_size_bytes_max: 64 << 10,
        request_size_bytes_max: 64 << 20,
        authenticated: true,
    };

    /// For a client that may only say who it is: enough for HELLO with AUTH and SETNAME, and small enough that ten
    /// thousand such connections cannot exhaust a node.
    pub const UNAUTHENTICATED: Self = Self {
        args_max: 10,
        bulk_size_bytes_max: 16 << 10,
        inline_size_bytes_max: 16 << 10,
        request_size_bytes_max: 32 << 10,
        authenticated: false,
    };
}

/// Why the bytes of a client are no request. The connection cannot be used any longer: answer with `Reply::from` this
/// error, then close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProtocolError {
    /// The line with the number of arguments does not end.
    ArgsLineTooLong,
    /// The number of arguments is no number or too large.
    ArgsCount,
    /// The number of arguments is too large for a client that has not authenticated.
    ArgsCountUnauthenticated,
    /// The line with the length of an argument does not end.
    BulkLineTooLong,
    /// The length of an argument is no number, negative or too large.
    BulkLength,
    /// The length of an argument is too large for a client that has not authenticated.
    BulkLengthUnauthenticated,
    /// An argument does not start with `$`.
    ExpectedBulk {
        /// What it starts with.
        got: u8,
    },
    /// A line or an argument does not end in CR LF.
    ExpectedLineEnd,
    /// A request typed as a line does not end.
    InlineTooLong,
    /// A request typed as a line has a quote that does not close, or that is followed by more of the word.
    UnbalancedQuotes,
    /// The request as a whole is too large.
    RequestTooLarge {
        /// The limit it is over, in bytes.
        limit_bytes: usize,
    },
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Protocol error: ")?;
        match self {
            Self::ArgsLineTooLong => f.write_str("too big mbulk count string"),
            Self::ArgsCount => f.write_str("invalid multibulk length"),
            Self::ArgsCountUnauthenticated => f.write_str("unauthenticated multibulk length"),
            Self::BulkLineTooLong => f.write_str("too big bulk count string"),
            Self::BulkLength => f.write_str("invalid bulk length"),
            Self::BulkLengthUnauthenticated => f.write_str("unauthenticated bulk length"),
            Self::ExpectedBulk { got } => write!(f, "expected '$', got '{}'", char::from(*got)),
            Self::ExpectedLineEnd => f.write_str("expected CR LF"),
            Self::InlineTooLong => f.write_str("too big inline request"),
            Self::UnbalancedQuotes => f.write_str("unbalanced quotes in request"),
            Self::RequestTooLarge { limit_bytes } => write!(f, "request exceeds {limit_bytes} bytes"),
        }
    }
}

impl core::error::Error for ProtocolError {}

impl From<ProtocolError> for Reply {
    fn from(error: ProtocolError) -> Self {
        Self::error(format!("ERR {error}"))
    }
}

/// An array of arguments that has begun to arrive.
#[derive(Debug)]
struct Partial {
    /// How many arguments it has.
    count: usize,
    /// Where those that have arrived lie in the buffer.
    args: Vec<Range<usize>>,
    /// Length of the next one, once its header has arrived.
    bulk: Option<usize>,
    /// Where the next byte to look at lies in the buffer.
    position: usize,
}

/// Cuts requests off a connection's read buffer.
#[derive(Debug)]
pub struct RequestParser {
    limits: RequestLimits,
    partial: Option<Partial>,
    /// How far an unfinished line has been searched for its end.
    scanned: usize,
}

impl RequestParser {
    /// A parser at the start of a request.
    #[must_use]
    pub fn new(limits: RequestLimits) -> Self {
        Self { limits, partial: None, scanned: 0 }
    }

    /// Changes the limits, once a client has authenticated. They hold from the next line or argument on.
    pub fn set_limits(&mut self, limits: RequestLimits) {
        self.limits = limits;
    }

    /// Takes the next whole request off `buffer`; `None` when more bytes are needed. Requests without arguments are
    /// passed over, as in Redis. Between two calls the caller may only append to `buffer`.
    ///
    /// # Errors
    /// The bytes are no request. The parser and the buffer are then of no further use.
    pub fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<Vec<Bytes>>, ProtocolError> {
        loop {
            if let Some(partial) = self.partial.take() {
                return self.resume(partial, buffer);
            }
            match buffer.first() {
                None => return Ok(None),
                Some(b'*') => {
                    let Some(partial) = self.start(buffer)? else { return Ok(None) };
                    if partial.count > 0 {
                        self.partial = Some(partial);
                    } else {
                        buffer.advance(partial.position);
                    }
                }
                Some(_) => match self.inline(buffer)? {
                    Some(args) if args.is_empty() => {}
                    other => return Ok(other),
                },
            }
        }
    }

    /// Reads `*count`.
    fn start(&mut self, buffer: &[u8]) -> Result<Option<Partial>, ProtocolError> {
        let end = match find_line(buffer, 0, &mut self.scanned, self.limits.inline_size_bytes_max) {
            Line::EndsAt(end) => end,
            Line::Incomplete => return Ok(None),
            Line::Broken => return Err(ProtocolError::ExpectedLineEnd),
            Line::TooLong => return Err(ProtocolError::ArgsLineTooLong),
        };
        let count = parse_i64(&buffer[1..end]).ok_or(ProtocolError::ArgsCount)?;
        let count = usize::try_from(count).unwrap_or(0);
        if count > self.limits.args_max {
            let known = self.limits.authenticated || count > RequestLimits::ARGS_MAX;
            return Err(if known { ProtocolError::ArgsCount } else { ProtocolError::ArgsCountUnauthenticated });
        }
        let args = Vec::with_capacity(count.min(ARGS_RESERVED_MAX));
        Ok(Some(Partial { count, args, bulk: None, position: end + 2 }))
    }

    /// Reads on until the request is whole or the buffer is used up; then `partial` is kept for the next call.
    fn resume(&mut self, mut partial: Partial, buffer: &mut BytesMut) -> Result<Option<Vec<Bytes>>, ProtocolError> {
        while partial.args.len() < partial.count {
            let size_bytes = match partial.bulk {
                Some(size_bytes) => size_bytes,
                None => match self.bulk_header(&mut partial, buffer)? {
                    Some(size_bytes) => size_bytes,
                    None => {
                        self.partial = Some(partial);
                        return Ok(None);
                    }
                },
            };
            let end = partial.position + size_bytes;
            match buffer.get(end..end + 2) {
                None => {
                    partial.bulk = Some(size_bytes);
                    self.partial = Some(partial);
                    return Ok(None);
                }
                Some(b"\r\n") => {
                    partial.args.push(partial.position..end);
                    partial.bulk = None;
                    partial.position = end + 2;
                }
                Some(_) => return Err(ProtocolError::ExpectedLineEnd),
            }
        }
        let whole = buffer.split_to(partial.position).freeze();
        Ok(Some(partial.args.into_iter().map(|range| whole.slice(range)).collect()))
    }

    /// Reads `$length` of the next argument.
    fn bulk_header(&mut self, partial: &mut Partial, buffer: &[u8]) -> Result<Option<usize>, ProtocolError> {
        match buffer.get(partial.position) {
            None => return Ok(None),
            Some(b'$') => {}
            Some(got) => return Err(ProtocolError::ExpectedBulk { got: *got }),
        }
        let start = partial.position;
        let end = match find_line(buffer, start, &mut self.scanned, self.limits.inline_size_bytes_max) {
            Line::EndsAt(end) => end,
            Line::Incomplete => return Ok(None),
            Line::Broken => return Err(ProtocolError::ExpectedLineEnd),
            Line::TooLong => return Err(ProtocolError::BulkLineTooLong),
        };
        let size_bytes = parse_i64(&buffer[start + 1..end]).and_then(|length| usize::try_from(length).ok());
        let size_bytes = size_bytes.ok_or(ProtocolError::BulkLength)?;
        if size_bytes > self.limits.bulk_size_bytes_max {
            let known = self.limits.authenticated || size_bytes > RequestLimits::BULK_SIZE_BYTES_MAX;
            return Err(if known { ProtocolError::BulkLength } else { ProtocolError::BulkLengthUnauthenticated });
        }
        if end + 4 + size_bytes > self.limits.request_size_bytes_max {
            return Err(ProtocolError::RequestTooLarge { limit_bytes: self.limits.request_size_bytes_max });
        }
        partial.position = end + 2;
        Ok(Some(size_bytes))
    }

    /// Reads a line of text.
    fn inline(&mut self, buffer: &mut BytesMut) -> Result<Option<Vec<Bytes>>, ProtocolError> {
        let from = self.scanned.min(buffer.len());
        let Some(end) = buffer[from..].iter().position(|byte| *byte == b'\n').map(|offset| from + offset) else {
            if buffer.len() > self.limits.inline_size_bytes_max {
                return Err(ProtocolError::InlineTooLong);
            }
            self.scanned = buffer.len();
            return Ok(None);
        };
        if end > self.limits.inline_size_bytes_max {
            return Err(ProtocolError::InlineTooLong);
        }
        self.scanned = 0;
        let line = buffer.split_to(end + 1);
        let line = &line[..end];
        let args = inline::split(line.strip_suffix(b"\r").unwrap_or(line)).ok_or(ProtocolError::UnbalancedQuotes)?;
        if args.len() > self.limits.args_max {
            return Err(ProtocolError::ArgsCount);
        }
        Ok(Some(args))
    }
}

/// Appends a request to `out`, as an array of bulk strings.
pub fn write_request<A: AsRef<[u8]>>(args: &[A], out: &mut BytesMut) {
    let line = |out: &mut BytesMut, kind: u8, length: usize| {
        out.put_u8(kind);
        out.put_slice(Digits::of(length as i64).as_bytes());
        out.put_slice(b"\r\n");
    };
    line(out, b'*', args.len());
    for arg in args {
        let arg = arg.as_ref();
        line(out, b'$', arg.len());
        out.put_slice(arg);
        out.put_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All requests of `input`, which arrives in two parts, the second from `split` on.
    fn parse_all(input: &[u8], split: usize, limits: RequestLimits) -> (Vec<Vec<Bytes>>, Option<ProtocolError>) {
        let mut parser = RequestParser::new(limits);
        let mut buffer = BytesMut::new();
        let mut requests = Vec::new();
        for part in [&input[..split], &input[split..]] {
            buffer.extend_from_slice(part);
            loop {
                match parser.next(&mut buffer) {
                    Ok(Some(args)) => requests.push(args),
                    Ok(None) => break,
                    Err(error) => return (requests, Some(error)),
                }
            }
        }
        (requests, None)
    }

    fn check(input: &[u8], requests: &[&[&str]], error: Option<&str>) {
        for split in 0..=input.len() {
            let (got, got_error) = parse_all(input, split, RequestLimits::AUTHENTICATED);
            let got: Vec<Vec<&[u8]>> = got.iter().map(|args| args.iter().map(|arg| &arg[..]).collect()).collect();
            let expect: Vec<Vec<&[u8]>> =
                requests.iter().map(|args| args.iter().map(|arg| arg.as_bytes()).collect()).collect();
            assert_eq!(got, expect, "{:?} split at {split}", input.escape_ascii().to_string());
            let text = got_error.map(|error| error.to_string());
            assert_eq!(text.as_deref(), error, "{:?} split at {split}", input.escape_ascii().to_string());
        }
    }

    #[test]
    fn whole_requests_are_found_at_every_split() {
        check(b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n*1\r\n$4\r\nPING\r\n", &[&["GET", "k"], &["PING"]], None);
        check(b"*1\r\n$0\r\n\r\n", &[&[""]], None);
        check(b"*1\r\n$4\r\n\r\n\r\n\r\n", &[&["\r\n\r\n"]], None);
        check(b"PING\r\nset k 'a b'\n\r\n\n*1\r\n$4\r\nQUIT\r\n", &[&["PING"], &["set", "k", "a b"], &["QUIT"]], None);
        check(b"*0\r\n*-1\r\n*-7\r\nPING\n", &[&["PING"]], None);
        check(b"*3\r\n$3\r\nSET\r\n$1\r\nk", &[], None);
    }

    #[test]
    fn errors_have_the_texts_of_redis_at_every_split() {
        let cases: [(&[u8], &str); 13] = [
            (b"*x\r\n", "invalid multibulk length"),
            (b"*\r\n", "invalid multibulk length"),
            (b"*01\r\n", "invalid multibulk length"),
            (b"*1048577\r\n", "invalid multibulk length"),
            (b"*99999999999999999999\r\n", "invalid multibulk length"),
            (b"*1\r\n:1\r\n", "expected '$', got ':'"),
            (b"*1\r\n$x\r\n", "invalid bulk length"),
            (b"*1\r\n$-1\r\n", "invalid bulk length"),
            (b"*1\r\n$8388609\r\n", "invalid bulk length"),
            (b"*1\r\n$1\r\nabc", "expected CR LF"),
            (b"*1\rx", "expected CR LF"),
            (b"*1\r\n$1\rx", "expected CR LF"),
            (b"set k \"v\n", "unbalanced quotes in request"),
        ];
        for (input, text) in cases {
            check(input, &[], Some(&format!("Protocol error: {text}")));
        }
        check(b"PING\n*1\r\n+OK\r\n", &[&["PING"]], Some("Protocol error: expected '$', got '+'"));
    }

    #[test]
    fn endless_lines_are_cut_short() {
        for (first, text) in
            [(&b"a"[..], "inline request"), (b"*", "mbulk count string"), (b"*1\r\n$", "bulk count string")]
        {
            let mut input = first.to_vec();
            input.resize(70_000, b'1');
            let (requests, error) = parse_all(&input, 10, RequestLimits::AUTHENTICATED);
            assert!(requests.is_empty());
            assert_eq!(error.unwrap().to_string(), format!("Protocol error: too big {text}"));
        }
    }

    #[test]
    fn strangers_are_held_to_smaller_limits() {
        let refuse = |input: &[u8]| parse_all(input, 0, RequestLimits::UNAUTHENTICATED).1.unwrap().to_string();
        assert_eq!(refuse(b"*11\r\n"), "Protocol error: unauthenticated multibulk length");
        assert_eq!(refuse(b"*1\r\n$16385\r\n"), "Protocol error: unauthenticated bulk length");
        assert_eq!(refuse(b"*1048577\r\n"), "Protocol error: invalid multibulk length");
        let mut large = b"*3\r\n".to_vec();
        for _ in 0..2 {
            large.extend_from_slice(b"$16000\r\n");
            large.resize(large.len() + 16_000, b'x');
            large.extend_from_slice(b"\r\n");
        }
        large.extend_from_slice(b"$16000\r\n");
        assert_eq!(refuse(&large), "Protocol error: request exceeds 32768 bytes");
    }

    #[test]
    fn arguments_are_slices_of_the_buffer() {
        let mut buffer = BytesMut::from(&b"*1\r\n$3\r\nabc\r\n"[..]);
        let start = buffer.as_ptr() as usize;
        let args = RequestParser::new(RequestLimits::AUTHENTICATED).next(&mut buffer).unwrap().unwrap();
        assert_eq!(args[0].as_ptr() as usize, start + 8);
    }

    #[test]
    fn an_error_becomes_an_error_reply() {
        assert_eq!(
            Reply::from(ProtocolError::ExpectedBulk { got: b'\n' }),
            Reply::error("ERR Protocol error: expected '$', got '\n'")
        );
    }
}
