//! Replies: what commands answer.
//!
//! One type for both versions of the protocol. A command answers with the richest form (a map, a null, a boolean);
//! the connection's version decides how it is written:
//!
//! | form | version 3 | version 2 |
//! | --- | --- | --- |
//! | null, null array | `_` | `$-1`, `*-1` |
//! | map, set, push | `%`, `~`, `>` | `*`, a map with keys and values in turn |
//! | double, big number, verbatim text | `,` `(` `=` | `$` with the text |
//! | boolean | `#t`, `#f` | `:1`, `:0` |
//!
//! Source: RESP3 specification, and Redis 7.0 for what it sends to clients of version 2.

use crate::line::escape_line;
use crate::number::Digits;
use bytes::{BufMut, Bytes, BytesMut};

/// The version of the protocol that a connection speaks: 2 until a client asks for 3 with HELLO.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// Version 2.
    #[default]
    Resp2,
    /// Version 3.
    Resp3,
}

impl Protocol {
    /// Its number: 2 or 3.
    #[must_use]
    pub fn number(self) -> i64 {
        match self {
            Self::Resp2 => 2,
            Self::Resp3 => 3,
        }
    }
}

/// One reply.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// A short text such as `OK`.
    Simple(Bytes),
    /// A refusal: a word in capitals (`ERR`, `WRONGTYPE`), a space, a text.
    Error(Bytes),
    /// A number.
    Integer(i64),
    /// Any bytes.
    Bulk(Bytes),
    /// Nothing where a value could be.
    Null,
    /// Nothing where an array could be: an EXEC that a WATCH prevented.
    NullArray,
    /// Replies in order.
    Array(Vec<Reply>),
    /// Pairs of key and value, in order.
    Map(Vec<(Reply, Reply)>),
    /// Replies without order.
    Set(Vec<Reply>),
    /// A floating-point number; infinities and NaN are allowed.
    Double(f64),
    /// True or false.
    Boolean(bool),
    /// An integer of any size, in decimal.
    BigNumber(Bytes),
    /// A text for people, with its format.
    Verbatim {
        /// Three letters: `txt` or `mkd`.
        format: [u8; 3],
        /// The text.
        text: Bytes,
    },
    /// A message that is no answer to a request.
    Push(Vec<Reply>),
}

/// How a reply is written: as a client of a version reads it, or so that nothing is lost.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Client(Protocol),
    Exact,
}

impl Reply {
    /// `+OK`.
    #[must_use]
    pub fn ok() -> Self {
        Self::Simple(Bytes::from_static(b"OK"))
    }

    /// A short text that is known when the program is built.
    #[must_use]
    pub fn simple(text: &'static str) -> Self {
        Self::Simple(Bytes::from_static(text.as_bytes()))
    }

    /// A refusal; `text` starts with its code.
    #[must_use]
    pub fn error(text: impl Into<String>) -> Self {
        Self::Error(Bytes::from(text.into()))
    }

    /// A text as a bulk string.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self::Bulk(Bytes::from(text.into()))
    }

    /// A word as a bulk string that is known when the program is built.
    #[must_use]
    pub fn word(text: &'static str) -> Self {
        Self::Bulk(Bytes::from_static(text.as_bytes()))
    }

    /// Whether it is a refusal.
    #[must_use]
    pub fn is_error(&self) -> bool {
        matches!(self, Self::Error(_))
    }

    /// About how many bytes it takes in memory and on the wire, for budgets.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        const NODE: usize = size_of::<Reply>();
        match self {
            Self::Simple(text) | Self::Error(text) | Self::Bulk(text) | Self::BigNumber(text) => NODE + text.len(),
            Self::Verbatim { text, .. } => NODE + text.len(),
            Self::Integer(_) | Self::Null | Self::NullArray | Self::Double(_) | Self::Boolean(_) => NODE,
            Self::Array(items) | Self::Set(items) | Self::Push(items) => {
                NODE + items.iter().map(Self::size_bytes).sum::<usize>()
            }
            Self::Map(pairs) => {
                NODE + pairs.iter().map(|(key, value)| key.size_bytes() + value.size_bytes()).sum::<usize>()
            }
        }
    }

    /// Appends it to `out` for a client that speaks `protocol`. CR, LF and NUL in a one-line text become spaces.
    pub fn write(&self, protocol: Protocol, out: &mut BytesMut) {
        self.put(Form::Client(protocol), out);
    }

    /// Appends it to `out` so that [`ReplyParser`](crate::ReplyParser) gives back the same reply, for peers and for
    /// replies that are kept: version 3, with null and null array told apart.
    pub fn encode(&self, out: &mut BytesMut) {
        self.put(Form::Exact, out);
    }

    fn put(&self, form: Form, out: &mut BytesMut) {
        let old = form == Form::Client(Protocol::Resp2);
        match self {
            Self::Simple(text) => put_line(b'+', text, out),
            Self::Error(text) => put_line(b'-', text, out),
            Self::Integer(value) => put_number(b':', *value, out),
            Self::Bulk(bytes) => put_bulk(b'$', bytes, out),
            Self::Null if old => out.put_slice(b"$-1\r\n"),
            Self::NullArray if old || form == Form::Exact => out.put_slice(b"*-1\r\n"),
            Self::Null | Self::NullArray => out.put_slice(b"_\r\n"),
            Self::Array(items) => put_items(b'*', items, form, out),
            Self::Set(items) => put_items(if old { b'*' } else { b'~' }, items, form, out),
            Self::Push(items) => put_items(if old { b'*' } else { b'>' }, items, form, out),
            Self::Map(pairs) => {
                let (kind, length) = if old { (b'*', pairs.len() * 2) } else { (b'%', pairs.len()) };
                put_number(kind, length as i64, out);
                for (key, value) in pairs {
                    key.put(form, out);
                    value.put(form, out);
                }
            }
            Self::Double(value) if old => put_bulk(b'$', double_text(*value).as_bytes(), out),
            Self::Double(value) => put_line(b',', double_text(*value).as_bytes(), out),
            Self::Boolean(value) if old => put_number(b':', i64::from(*value), out),
            Self::Boolean(value) => out.put_slice(if *value { b"#t\r\n" } else { b"#f\r\n" }),
            Self::BigNumber(digits) if old => put_bulk(b'$', digits, out),
            Self::BigNumber(digits) => put_line(b'(', digits, out),
            Self::Verbatim { text, .. } if old => put_bulk(b'$', text, out),
            Self::Verbatim { format, text } => {
                put_number(b'=', (text.len() + 4) as i64, out);
                out.put_slice(format);
                out.put_u8(b':');
                out.put_slice(text);
                out.put_slice(b"\r\n");
            }
        }
    }
}

fn put_line(kind: u8, text: &[u8], out: &mut BytesMut) {
    out.put_u8(kind);
    out.put_slice(&escape_line(text));
    out.put_slice(b"\r\n");
}

fn put_number(kind: u8, value: i64, out: &mut BytesMut) {
    out.put_u8(kind);
    out.put_slice(Digits::of(value).as_bytes());
    out.put_slice(b"\r\n");
}

fn put_bulk(kind: u8, bytes: &[u8], out: &mut BytesMut) {
    put_number(kind, bytes.len() as i64, out);
    out.put_slice(bytes);
    out.put_slice(b"\r\n");
}

fn put_items(kind: u8, items: &[Reply], form: Form, out: &mut BytesMut) {
    put_number(kind, items.len() as i64, out);
    for item in items {
        item.put(form, out);
    }
}

/// The shortest spelling that reads back as the same number, with an exponent where the plain one would be long.
fn double_text(value: f64) -> String {
    if value.is_nan() {
        "nan".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "inf".to_owned() } else { "-inf".to_owned() }
    } else if value == 0.0 || (1e-5..1e17).contains(&value.abs()) {
        format!("{value}")
    } else {
        format!("{value:e}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(reply: &Reply, version_2: &str, version_3: &str) {
        for (protocol, expect) in [(Protocol::Resp2, version_2), (Protocol::Resp3, version_3)] {
            let mut out = BytesMut::new();
            reply.write(protocol, &mut out);
            assert_eq!(out.escape_ascii().to_string(), expect.as_bytes().escape_ascii().to_string(), "{reply:?}");
        }
    }

    #[test]
    fn each_form_is_written_as_its_version_reads_it() {
        let both = |reply: Reply, text: &str| check(&reply, text, text);
        both(Reply::ok(), "+OK\r\n");
        both(Reply::error("ERR no"), "-ERR no\r\n");
        both(Reply::Integer(-7), ":-7\r\n");
        both(Reply::word(""), "$0\r\n\r\n");
        both(Reply::Array(vec![Reply::Integer(1), Reply::word("a")]), "*2\r\n:1\r\n$1\r\na\r\n");
        check(&Reply::Null, "$-1\r\n", "_\r\n");
        check(&Reply::NullArray, "*-1\r\n", "_\r\n");
        let pair = vec![(Reply::word("k"), Reply::Boolean(true))];
        check(&Reply::Map(pair), "*2\r\n$1\r\nk\r\n:1\r\n", "%1\r\n$1\r\nk\r\n#t\r\n");
        check(&Reply::Set(vec![Reply::Integer(1)]), "*1\r\n:1\r\n", "~1\r\n:1\r\n");
        check(&Reply::Push(vec![]), "*0\r\n", ">0\r\n");
        check(&Reply::Double(1.5), "$3\r\n1.5\r\n", ",1.5\r\n");
        check(&Reply::Double(f64::NEG_INFINITY), "$4\r\n-inf\r\n", ",-inf\r\n");
        check(&Reply::Double(1e300), "$5\r\n1e300\r\n", ",1e300\r\n");
        check(&Reply::BigNumber(Bytes::from_static(b"12")), "$2\r\n12\r\n", "(12\r\n");
        let text = Reply::Verbatim { format: *b"txt", text: Bytes::from_static(b"hi") };
        check(&text, "$2\r\nhi\r\n", "=6\r\ntxt:hi\r\n");
    }

    #[test]
    fn a_line_cannot_be_broken_from_inside() {
        let forged = Reply::error("ERR unknown command 'x\r\n+OK\0'");
        check(&forged, "-ERR unknown command 'x  +OK '\r\n", "-ERR unknown command 'x  +OK '\r\n");
    }
}
