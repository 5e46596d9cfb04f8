//! Inline requests: a command typed as one line of text, with Redis' quoting.
//!
//! ```text
//! plain                up to white space; a quote may open in the middle of a word
//! "a\n\x41\"b"         \n \r \t \b \a, \xHH, and any other escaped byte as itself
//! 'it\'s'              only \' is an escape
//! ```
//! A closing quote must be followed by white space or the end. Source: the behaviour of Redis 7.0 (`sdssplitargs`);
//! unlike it, a NUL byte is an ordinary byte and does not end the line.

use bytes::Bytes;

/// Splits one line (without its end) into arguments; `None` if its quotes are not balanced.
pub(crate) fn split(line: &[u8]) -> Option<Vec<Bytes>> {
    let mut args = Vec::new();
    let mut rest = skip_space(line);
    while !rest.is_empty() {
        let mut word = Vec::new();
        rest = take_word(rest, &mut word)?;
        args.push(Bytes::from(word));
        rest = skip_space(rest);
    }
    Some(args)
}

fn skip_space(text: &[u8]) -> &[u8] {
    let start = text.iter().position(|byte| !is_space(*byte)).unwrap_or(text.len());
    &text[start..]
}

/// White space of the C locale, vertical tab included.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

fn take_word<'a>(mut text: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    while let Some((byte, rest)) = text.split_first() {
        match byte {
            b' ' | b'\n' | b'\r' | b'\t' => break,
            b'"' => return take_double_quoted(rest, word),
            b'\'' => return take_single_quoted(rest, word),
            other => word.push(*other),
        }
        text = rest;
    }
    Some(text)
}

fn take_double_quoted<'a>(mut text: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        text = match text {
            [b'"', rest @ ..] => return after_quote(rest),
            [b'\\', b'x', high, low, rest @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                word.push(hex(*high) << 4 | hex(*low));
                rest
            }
            [b'\\', escaped, rest @ ..] => {
                word.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 0x08,
                    b'a' => 0x07,
                    other => *other,
                });
                rest
            }
            [byte, rest @ ..] => {
                word.push(*byte);
                rest
            }
            [] => return None,
        }
    }
}

fn take_single_quoted<'a>(mut text: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        text = match text {
            [b'\'', rest @ ..] => return after_quote(rest),
            [b'\\', b'\'', rest @ ..] => {
                word.push(b'\'');
                rest
            }
            [byte, rest @ ..] => {
                word.push(*byte);
                rest
            }
            [] => return None,
        }
    }
}

fn after_quote(rest: &[u8]) -> Option<&[u8]> {
    match rest.first() {
        Some(byte) if !is_space(*byte) => None,
        _ => Some(rest),
    }
}

/// Value of an ASCII hexadecimal digit.
fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expect: Option<&[&[u8]]>) {
        let got = split(line.as_bytes());
        let got = got.as_ref().map(|args| args.iter().map(|arg| &arg[..]).collect::<Vec<_>>());
        assert_eq!(got.as_deref(), expect, "{line:?}");
    }

    #[test]
    fn words_and_quotes_split_as_in_redis() {
        check("", Some(&[]));
        check("  \t ", Some(&[]));
        check("PING", Some(&[b"PING"]));
        check("  set  k\tv ", Some(&[b"set", b"k", b"v"]));
        check(r#"set k "a b""#, Some(&[b"set", b"k", b"a b"]));
        check(r#"set k """#, Some(&[b"set", b"k", b""]));
        check(r#""\x41\xfF\n\r\t\b\a\q\"\\""#, Some(&[b"A\xff\n\r\t\x08\x07q\"\\"]));
        check(r#""\x4""#, Some(&[b"x4"]));
        check(r"'it\'s \n'", Some(&[b"it's \\n"]));
        check(r#"foo"bar" baz"#, Some(&[b"foobar", b"baz"]));
        check("a\x0bb \x0bc", Some(&[b"a\x0bb", b"c"]));
    }

    #[test]
    fn unbalanced_quotes_are_refused() {
        for line in [r#"""#, r#""a"#, r#""a"b"#, "'", "'a", "'a'b", r#""\""#, r"'\'", r#"a "b" "c"#] {
            check(line, None);
        }
    }
}
