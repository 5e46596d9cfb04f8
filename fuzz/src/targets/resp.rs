//! The Redis protocol: requests and replies.

use super::{SMALL, led};
use crate::draw::Draw;
use crate::target::{Seed, Target};
use bytes::{Bytes, BytesMut};
use hotwarm_resp::{
    Protocol, ProtocolError, Reply, ReplyError, ReplyLimits, ReplyParser, RequestLimits, RequestParser, write_request,
};

pub(super) const REQUEST: Target =
    Target { name: "resp_request", run: request, seeds: request_seeds, words: protocol_words, ..SMALL };
pub(super) const REPLY: Target =
    Target { name: "resp_reply", run: reply, seeds: reply_seeds, words: protocol_words, ..SMALL };

/// Limits that a short input reaches.
const TIGHT_REQUESTS: RequestLimits = RequestLimits {
    args_max: 4,
    bulk_size_bytes_max: 12,
    inline_size_bytes_max: 20,
    request_size_bytes_max: 60,
    authenticated: true,
};
const TIGHT_REPLIES: ReplyLimits =
    ReplyLimits { depth_max: 3, items_max: 8, reply_size_bytes_max: 120, line_size_bytes_max: 20 };

/// What came of some bytes: what was parsed, and what ended it.
type Parsed<T, E> = (Vec<T>, Option<E>);

/// Feeds bytes in pieces of a size to a parser's `next`.
fn in_pieces<T, E>(
    bytes: &[u8],
    size: usize,
    mut next: impl FnMut(&mut BytesMut) -> Result<Option<T>, E>,
) -> Parsed<T, E> {
    let mut buffer = BytesMut::new();
    let mut all = Vec::new();
    for piece in bytes.chunks(size) {
        buffer.extend_from_slice(piece);
        loop {
            match next(&mut buffer) {
                Ok(Some(one)) => all.push(one),
                Ok(None) => break,
                Err(error) => return (all, Some(error)),
            }
        }
    }
    (all, None)
}

fn requests(bytes: &[u8], size: usize, limits: RequestLimits) -> Parsed<Vec<Bytes>, ProtocolError> {
    let mut parser = RequestParser::new(limits);
    in_pieces(bytes, size, |buffer| parser.next(buffer))
}

fn replies(bytes: &[u8], size: usize, limits: ReplyLimits) -> Parsed<Reply, ReplyError> {
    let mut parser = ReplyParser::new(limits);
    in_pieces(bytes, size, |buffer| parser.next(buffer))
}

fn request(input: &[u8]) {
    let mut draw = Draw::new(input);
    let limits = draw.pick(&[RequestLimits::AUTHENTICATED, RequestLimits::UNAUTHENTICATED, TIGHT_REQUESTS]);
    let size = usize::from(draw.u8()) + 2;
    let bytes = draw.rest();
    let whole = requests(bytes, bytes.len().max(1), limits);
    for size in [1, size] {
        assert_eq!(requests(bytes, size, limits), whole, "in pieces of {size} bytes");
    }
    for args in &whole.0 {
        assert!(!args.is_empty() && args.len() <= limits.args_max);
        let longest = limits.bulk_size_bytes_max.max(limits.inline_size_bytes_max);
        assert!(args.iter().all(|arg| arg.len() <= longest));
        let mut written = BytesMut::new();
        write_request(args, &mut written);
        assert_eq!(requests(&written, written.len(), RequestLimits::AUTHENTICATED), (vec![args.clone()], None));
    }
    if let Some(error) = whole.1 {
        is_one_reply(&Reply::from(error));
    }
}

/// Written in each version, it is exactly one reply, whatever bytes it holds.
fn is_one_reply(reply: &Reply) {
    for protocol in [Protocol::Resp2, Protocol::Resp3] {
        let mut written = BytesMut::new();
        reply.write(protocol, &mut written);
        let (read, error) = replies(&written, written.len(), ReplyLimits::default());
        assert!(read.len() == 1 && error.is_none(), "{reply:?} is {read:?} and {error:?} in {protocol:?}");
        assert_eq!(read[0].is_error(), reply.is_error());
    }
}

fn encoded(reply: &Reply) -> BytesMut {
    let mut out = BytesMut::new();
    reply.encode(&mut out);
    out
}

fn reply(input: &[u8]) {
    let mut draw = Draw::new(input);
    match draw.below(3) {
        0 => {
            let mut left = 64;
            let built = build(&mut draw, &mut left, 0);
            is_one_reply(&built);
            keeps_its_encoding(&built);
        }
        1 => parse_replies(&mut draw, ReplyLimits::default()),
        _ => parse_replies(&mut draw, TIGHT_REPLIES),
    }
}

/// Read back and written again, it is the same bytes: not the same value, since a NaN is not equal to itself and a line
/// loses its control bytes on the way out.
fn keeps_its_encoding(reply: &Reply) {
    let bytes = encoded(reply);
    let (read, error) = replies(&bytes, bytes.len(), ReplyLimits::default());
    assert!(read.len() == 1 && error.is_none(), "{reply:?} reads back as {read:?} and {error:?}");
    assert_eq!(encoded(&read[0]), bytes);
    assert!(reply.size_bytes() >= size_of::<Reply>());
}

fn parse_replies(draw: &mut Draw<'_>, limits: ReplyLimits) {
    let size = usize::from(draw.u8()) + 2;
    let bytes = draw.rest();
    let shown = |parsed: Parsed<Reply, ReplyError>| (parsed.0.iter().map(encoded).collect::<Vec<_>>(), parsed.1);
    let whole = replies(bytes, bytes.len().max(1), limits);
    for reply in &whole.0 {
        keeps_its_encoding(reply);
        is_one_reply(reply);
    }
    let whole = shown(whole);
    for size in [1, size] {
        assert_eq!(shown(replies(bytes, size, limits)), whole, "in pieces of {size} bytes");
    }
}

/// A reply as commands may build it: any bytes in any text.
fn build(draw: &mut Draw<'_>, left: &mut usize, depth: usize) -> Reply {
    *left = left.saturating_sub(1);
    let kinds = if depth < 5 && *left > 0 { 14 } else { 10 };
    let kind = draw.below(kinds);
    let mut items = |draw: &mut Draw<'_>| {
        let count = draw.below(5).min(*left);
        (0..count).map(|_| build(draw, left, depth + 1)).collect::<Vec<_>>()
    };
    match kind {
        0 => Reply::Simple(Bytes::copy_from_slice(draw.bytes())),
        1 => Reply::Error(Bytes::copy_from_slice(draw.bytes())),
        2 => Reply::Integer(draw.u64().cast_signed()),
        3 => Reply::Bulk(Bytes::copy_from_slice(draw.bytes())),
        4 => Reply::Null,
        5 => Reply::NullArray,
        6 => Reply::Double(f64::from_bits(draw.u64())),
        7 => Reply::Boolean(draw.coin()),
        8 => Reply::BigNumber(Bytes::from((u128::from(draw.u64()) << draw.below(64)).to_string())),
        9 => Reply::Verbatim { format: *b"txt", text: Bytes::copy_from_slice(draw.bytes()) },
        10 => Reply::Array(items(draw)),
        11 => Reply::Set(items(draw)),
        12 => Reply::Push(items(draw)),
        _ => {
            let mut items = items(draw).into_iter();
            let mut pairs = Vec::new();
            while let (Some(key), Some(value)) = (items.next(), items.next()) {
                pairs.push((key, value));
            }
            Reply::Map(pairs)
        }
    }
}

fn request_seeds() -> Vec<Seed> {
    let examples: [(&str, &[u8]); 8] = [
        ("get", b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n"),
        ("pipeline", b"*1\r\n$4\r\nPING\r\n*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$2\r\nvv\r\n"),
        ("empty arguments", b"*2\r\n$0\r\n\r\n$4\r\n\r\n\r\n\r\n"),
        ("no arguments", b"*0\r\n*-1\r\nPING\n"),
        ("lines", b"PING\r\nset k 'a b'\n\r\nget \"a\\x41\\n\"\r\n"),
        ("unbalanced", b"set k \"v\n"),
        ("too many", b"*1048577\r\n"),
        ("cut off", b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$8388609\r\n"),
    ];
    let each = examples.into_iter().enumerate();
    each.map(|(index, (name, bytes))| (name, led(&[index as u8 % 3, index as u8], bytes))).collect()
}

fn reply_seeds() -> Vec<Seed> {
    let parsed: [(&str, &[u8]); 6] = [
        ("plain", b"+OK\r\n-ERR no\r\n:-7\r\n$2\r\nab\r\n$-1\r\n*-1\r\n_\r\n"),
        ("nested", b"*3\r\n:1\r\n*2\r\n$1\r\na\r\n*0\r\n%1\r\n+k\r\n~1\r\n:2\r\n"),
        ("version 3", b"#t\r\n,1.5\r\n,inf\r\n,nan\r\n(123456789012345678901234567890\r\n=6\r\ntxt:hi\r\n>1\r\n+p\r\n"),
        ("attribute", b"|1\r\n+a\r\n:1\r\n*1\r\n|1\r\n+b\r\n:2\r\n:3\r\n"),
        ("blob error", b"!9\r\nERR a  b\r\n"),
        ("too deep", b"*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n"),
    ];
    let mut seeds: Vec<Seed> = Vec::new();
    for (name, bytes) in parsed {
        seeds.push((name, led(&[1, 3], bytes)));
        seeds.push((name, led(&[2, 1], bytes)));
    }
    seeds.push(("a line that breaks", led(&[0, 1], b"\x0bERR x\r\n+OK\0")));
    seeds.push(("built", led(&[0, 13, 4, 10, 2, 3, 1, b'a', 4, 6, 7, 12, 1, 5], &[])));
    seeds
}

fn protocol_words() -> Vec<String> {
    ["\r\n", "*1\r\n", "$1\r\n", "$-1\r\n", "%1\r\n", "~1\r\n", ">1\r\n", "|1\r\n", "=5\r\ntxt:", "1048577", "8388609"]
        .map(str::to_owned)
        .to_vec()
}
