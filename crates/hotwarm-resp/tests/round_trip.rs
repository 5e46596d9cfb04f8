//! Properties of the codec: whatever is written reads back as itself, wherever the bytes are split; no bytes at all
//! make a parser panic, and the split never changes what it says.

use bytes::{Bytes, BytesMut};
use hotwarm_resp::{Protocol, Reply, ReplyLimits, ReplyParser, RequestLimits, RequestParser, write_request};
use proptest::prelude::*;

fn any_bytes() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), 0..24).prop_map(Bytes::from)
}

/// Text of one line: CR, LF and NUL are replaced on the way out, so they cannot come back.
fn any_line() -> impl Strategy<Value = Bytes> {
    any_bytes().prop_map(|bytes| Bytes::copy_from_slice(&hotwarm_resp::escape_line(&bytes)))
}

fn any_reply() -> impl Strategy<Value = Reply> {
    let leaf = prop_oneof![
        any_line().prop_map(Reply::Simple),
        any_line().prop_map(Reply::Error),
        any::<i64>().prop_map(Reply::Integer),
        any_bytes().prop_map(Reply::Bulk),
        Just(Reply::Null),
        Just(Reply::NullArray),
        any::<f64>().prop_filter("NaN is not equal to itself", |value| !value.is_nan()).prop_map(Reply::Double),
        any::<bool>().prop_map(Reply::Boolean),
        any::<i128>().prop_map(|number| Reply::BigNumber(Bytes::from(number.to_string()))),
        (any::<[u8; 3]>(), any_bytes()).prop_map(|(format, text)| Reply::Verbatim { format, text }),
    ];
    leaf.prop_recursive(5, 40, 5, |inner| {
        let items = prop::collection::vec(inner.clone(), 0..5);
        prop_oneof![
            items.clone().prop_map(Reply::Array),
            items.clone().prop_map(Reply::Set),
            items.prop_map(Reply::Push),
            prop::collection::vec((inner.clone(), inner), 0..3).prop_map(Reply::Map),
        ]
    })
}

/// What a reply looks like after a trip through version 2.
fn downgraded(reply: &Reply) -> Reply {
    match reply {
        Reply::Array(items) | Reply::Set(items) | Reply::Push(items) => {
            Reply::Array(items.iter().map(downgraded).collect())
        }
        Reply::Map(pairs) => {
            Reply::Array(pairs.iter().flat_map(|(key, value)| [downgraded(key), downgraded(value)]).collect())
        }
        Reply::Boolean(value) => Reply::Integer(i64::from(*value)),
        Reply::BigNumber(digits) => Reply::Bulk(digits.clone()),
        Reply::Verbatim { text, .. } => Reply::Bulk(text.clone()),
        Reply::Double(value) => {
            let mut out = BytesMut::new();
            Reply::Double(*value).encode(&mut out);
            let out_end = out.len() - 2;
            Reply::Bulk(out.freeze().slice(1..out_end))
        }
        plain => plain.clone(),
    }
}

/// Feeds the bytes in two parts; gives the replies, and whether they ended in an error.
fn replies(bytes: &[u8], split: usize) -> (Vec<Reply>, Option<String>) {
    let mut parser = ReplyParser::new(ReplyLimits::default());
    let mut buffer = BytesMut::new();
    let mut all = Vec::new();
    for part in [&bytes[..split], &bytes[split..]] {
        buffer.extend_from_slice(part);
        loop {
            match parser.next(&mut buffer) {
                Ok(Some(reply)) => all.push(reply),
                Ok(None) => break,
                Err(error) => return (all, Some(error.to_string())),
            }
        }
    }
    (all, None)
}

fn requests(bytes: &[u8], split: usize) -> (Vec<Vec<Bytes>>, Option<String>) {
    let mut parser = RequestParser::new(RequestLimits::AUTHENTICATED);
    let mut buffer = BytesMut::new();
    let mut all = Vec::new();
    for part in [&bytes[..split], &bytes[split..]] {
        buffer.extend_from_slice(part);
        loop {
            match parser.next(&mut buffer) {
                Ok(Some(args)) => all.push(args),
                Ok(None) => break,
                Err(error) => return (all, Some(error.to_string())),
            }
        }
    }
    (all, None)
}

/// Bytes that look enough like the protocol to get past its first checks.
fn almost_protocol() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => "[*$%~>|=!:,#_+(-][0-9-]{0,3}".prop_map(String::into_bytes),
        4 => Just(b"\r\n".to_vec()),
        1 => Just(b"\r".to_vec()),
        1 => Just(b"\n".to_vec()),
        1 => "[ \"'\\\\xab]{0,4}".prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 0..4),
    ];
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn an_encoded_reply_decodes_to_itself_at_every_split(reply in any_reply()) {
        let mut out = BytesMut::new();
        reply.encode(&mut out);
        for split in 0..=out.len() {
            prop_assert_eq!(replies(&out, split), (vec![reply.clone()], None));
        }
    }

    #[test]
    fn a_reply_of_version_2_loses_only_its_form(reply in any_reply()) {
        let mut out = BytesMut::new();
        reply.write(Protocol::Resp2, &mut out);
        prop_assert_eq!(replies(&out, 0), (vec![downgraded(&reply)], None));
    }

    #[test]
    fn an_encoded_request_decodes_to_itself_at_every_split(args in prop::collection::vec(any_bytes(), 1..5)) {
        let mut out = BytesMut::new();
        write_request(&args, &mut out);
        for split in 0..=out.len() {
            prop_assert_eq!(requests(&out, split), (vec![args.clone()], None));
        }
    }

    #[test]
    fn no_bytes_make_a_parser_panic_or_depend_on_the_split(bytes in almost_protocol()) {
        let whole = (replies(&bytes, bytes.len()), requests(&bytes, bytes.len()));
        for split in 0..bytes.len() {
            prop_assert_eq!(&(replies(&bytes, split), requests(&bytes, split)), &whole);
        }
    }
}
