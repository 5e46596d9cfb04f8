//! Walks over all keys: SCAN a part at a time, KEYS at once.
//!
//! SCAN keeps Redis' promise: a key that is there from the start of a walk to its end is returned at least once; one that
//! comes or goes meanwhile may be returned or not. See `cursor` for what a cursor stands for. KEYS answers at most
//! `REPLY_SIZE_BYTES_MAX` bytes and is refused beyond, since it holds up everything else. Keys whose time has come are passed
//! over by either, however many there are, and not removed.

use super::args::{Outcome, integer, is, pattern};
use super::error::CommandError;
use super::glob;
use super::keys::type_name;
use super::limits::{REPLY_SIZE_BYTES_MAX, SCAN_COUNT_MAX};
use super::run::Context;
use crate::keyspace::Keyspace;
use bytes::Bytes;
use hotwarm_resp::Reply;

/// Keys looked at without COUNT.
const COUNT_DEFAULT: usize = 10;

/// The options of SCAN.
struct Options<'a> {
    count: usize,
    pattern: Option<&'a Bytes>,
    type_name: Option<&'a Bytes>,
}

impl<'a> Options<'a> {
    fn parse(args: &'a [Bytes]) -> Result<Self, CommandError> {
        let mut options = Self { count: COUNT_DEFAULT, pattern: None, type_name: None };
        let (pairs, rest) = args.as_chunks::<2>();
        for [word, value] in pairs {
            if is(word, "COUNT") {
                let count = integer(value)?;
                let count = usize::try_from(count).ok().filter(|count| *count > 0).ok_or(CommandError::Syntax)?;
                options.count = count.min(SCAN_COUNT_MAX);
            } else if is(word, "MATCH") {
                options.pattern = Some(pattern(value)?);
            } else if is(word, "TYPE") {
                options.type_name = Some(value);
            } else {
                return Err(CommandError::Syntax);
            }
        }
        if rest.is_empty() { Ok(options) } else { Err(CommandError::Syntax) }
    }

    fn accept(&self, key: &[u8], keys: &mut dyn Keyspace) -> bool {
        if self.pattern.is_some_and(|pattern| !glob::matches(pattern, key)) {
            return false;
        }
        self.type_name.is_none_or(|name| keys.get(key).is_some_and(|found| is(name, type_name(&found.value))))
    }
}

pub(crate) fn scan(args: &[Bytes], context: &Context, keys: &mut dyn Keyspace) -> Outcome {
    let cursor = core::str::from_utf8(&args[1]).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    let cursor: u64 = cursor.and_then(|text| text.parse().ok()).ok_or(CommandError::InvalidCursor)?;
    let options = Options::parse(&args[2..])?;
    let after = if cursor == 0 { None } else { context.cursors.resolve(cursor, keys) };
    let (found, next) = keys.walk(after.as_deref(), options.count);
    let next = next.map_or(0, |key| context.cursors.remember(&key));
    let found = found.into_iter().filter(|key| options.accept(key, keys)).map(Reply::Bulk).collect();
    Ok(Reply::Array(vec![Reply::text(next.to_string()), Reply::Array(found)]))
}

pub(crate) fn keys(args: &[Bytes], _: &Context, keys: &mut dyn Keyspace) -> Outcome {
    let pattern = pattern(&args[1])?;
    let mut matching = Vec::new();
    let mut size_bytes = 0;
    let mut after: Option<Bytes> = None;
    loop {
        let (found, next) = keys.walk(after.as_deref(), SCAN_COUNT_MAX);
        for key in found.into_iter().filter(|key| glob::matches(pattern, key)) {
            let key = Reply::Bulk(key);
            size_bytes += key.size_bytes();
            matching.push(key);
        }
        if size_bytes > REPLY_SIZE_BYTES_MAX {
            return Err(CommandError::ReplyTooLarge { limit_bytes: REPLY_SIZE_BYTES_MAX });
        }
        match next {
            Some(key) => after = Some(key),
            None => return Ok(Reply::Array(matching)),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::command::testing::{Session, show};
    use hotwarm_resp::Reply;
    use std::collections::BTreeSet;

    /// One step of a walk: the next cursor and the keys.
    fn step(session: &mut Session, line: &str) -> (String, Vec<String>) {
        let Reply::Array(parts) = session.call(line) else { panic!("{line}") };
        let [Reply::Bulk(cursor), Reply::Array(keys)] = &parts[..] else { panic!("{line}") };
        (String::from_utf8(cursor.to_vec()).unwrap(), keys.iter().map(show).collect())
    }

    #[test]
    fn a_walk_returns_every_key_that_stays_whatever_else_happens() {
        let mut session = Session::new();
        for index in 0..500 {
            session.keys.set(&format!("stays:{index:03}"), "v");
            session.keys.set(&format!("goes:{index:03}"), "v");
        }
        let (mut cursor, mut seen, mut steps) = ("0".to_owned(), BTreeSet::new(), 0);
        loop {
            let (next, keys) = step(&mut session, &format!("scan {cursor} count 7"));
            seen.extend(keys);
            session.call(&format!("del goes:{steps:03} goes:{:03}", 499 - steps));
            session.call(&format!("set came:{steps:03} v"));
            steps += 1;
            if steps == 50 {
                // A takeover: the new hot knows none of the cursors.
                session.context = super::Context::default();
            }
            if next == "0" {
                break;
            }
            cursor = next;
        }
        assert_eq!(seen.iter().filter(|key| key.contains("stays")).count(), 500);
        assert!(steps < 500, "{steps}");
    }

    #[test]
    fn options_filter_what_is_returned() {
        let mut session = Session::new();
        session.check(&[("mset a 1 ab 2 b 3", "OK"), ("scan 0 match a* type STRING", "[\"0\" [\"a\" \"ab\"]]")]);
        session.check(&[
            ("scan 0 type list", "[\"0\" []]"),
            ("keys *b", "[\"ab\" \"b\"]"),
            ("keys [", "[]"),
            ("scan x", "(error) ERR invalid cursor"),
            ("scan -1", "(error) ERR invalid cursor"),
            ("scan \"\" count 5", "(error) ERR invalid cursor"),
            ("scan 99999999999999999999", "(error) ERR invalid cursor"),
            ("scan 0 count 0", "(error) ERR syntax error"),
            ("scan 0 count x", "(error) ERR value is not an integer or out of range"),
            ("scan 0 match", "(error) ERR syntax error"),
            ("scan 0 foo bar", "(error) ERR syntax error"),
        ]);
        let long = format!("keys {}", "a".repeat(2000));
        session.check(&[(&long, "(error) ERR hotwarm patterns are at most 1024 bytes long")]);
        let (cursor, keys) = step(&mut session, "scan 0 count 2");
        assert_eq!(keys.len(), 2);
        assert!(cursor.parse::<u64>().unwrap() < 1 << 52);
        assert_eq!(step(&mut session, &format!("scan {cursor} count 2")), ("0".to_owned(), vec!["\"b\"".to_owned()]));
    }
}
