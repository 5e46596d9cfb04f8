//! Strings and counters.
//!
//! Source: the command pages of Redis 7.0. A value that is changed in place (APPEND, SETRANGE, INCR) keeps its expiry; one
//! that is set loses it unless KEEPTTL says otherwise. An expiry that is not in the future deletes the key.

use super::args::{Base, Outcome, Unit, entry, integer, is, point_ms, string};
use super::decimal::Decimal;
use super::error::CommandError;
use super::limits::REPLY_SIZE_BYTES_MAX;
use super::run::Context;
use crate::keyspace::Keyspace;
use crate::limits::VALUE_SIZE_BYTES_MAX;
use bytes::Bytes;
use hotwarm_resp::Reply;
use hotwarm_resp::number::{Digits, parse_i64};

/// Whether SET looks at what is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    Always,
    IfAbsent,
    IfPresent,
}

/// What is to become of the expiry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expiry<'a> {
    /// Not said: SET removes it, GETEX leaves it.
    Default,
    Keep,
    Remove,
    At(&'a Bytes, Unit, Base),
}

/// The options of SET and GETEX.
struct Options<'a> {
    condition: Condition,
    get: bool,
    expiry: Expiry<'a>,
}

impl<'a> Options<'a> {
    /// Reads options; `setting` tells SET from GETEX. Of two of the same kind the last one counts, of two kinds that
    /// contradict each other none does.
    fn parse(args: &'a [Bytes], setting: bool) -> Result<Self, CommandError> {
        let mut options = Self { condition: Condition::Always, get: false, expiry: Expiry::Default };
        let mut rest = args.iter();
        while let Some(word) = rest.next() {
            if let Some((unit, base)) = expiry_kind(word) {
                let same = matches!(options.expiry, Expiry::At(_, u, b) if (u, b) == (unit, base));
                if options.expiry != Expiry::Default && !same {
                    return Err(CommandError::Syntax);
                }
                options.expiry = Expiry::At(rest.next().ok_or(CommandError::Syntax)?, unit, base);
            } else if setting && is(word, "NX") && options.condition != Condition::IfPresent {
                options.condition = Condition::IfAbsent;
            } else if setting && is(word, "XX") && options.condition != Condition::IfAbsent {
                options.condition = Condition::IfPresent;
            } else if setting && is(word, "GET") {
                options.get = true;
            } else if setting && is(word, "KEEPTTL") && matches!(options.expiry, Expiry::Default | Expiry::Keep) {
                options.expiry = Expiry::Keep;
            } else if !setting && is(word, "PERSIST") && matches!(options.expiry, Expiry::Default | Expiry::Remove) {
                options.expiry = Expiry::Remove;
            } else {
                return Err(CommandError::Syntax);
            }
        }
        Ok(options)
    }
}

fn expiry_kind(word: &[u8]) -> Option<(Unit, Base)> {
    let kinds = [
        ("EX", Unit::Seconds, Base::Now),
        ("PX", Unit::Milliseconds, Base::Now),
        ("EXAT", Unit::Seconds, Base::Epoch),
        ("PXAT", Unit::Milliseconds, Base::Epoch),
    ];
    kinds.into_iter().find(|(name, ..)| is(word, name)).map(|(_, unit, base)| (unit, base))
}

/// The group time in milliseconds that a positive time to live stands for.
fn expires_at(value: &[u8], unit: Unit, base: Base, now_ms: u64, command: &'static str) -> Result<u64, CommandError> {
    let value = integer(value)?;
    let point = point_ms(value, unit, base, now_ms).filter(|_| value > 0);
    point.and_then(|point| u64::try_from(point).ok()).ok_or(CommandError::InvalidExpire { command })
}

/// Sets a value; one whose time is over already is deleted instead.
fn put(keys: &mut dyn Keyspace, key: &[u8], value: Bytes, expires_at_ms: Option<u64>) {
    if expires_at_ms.is_some_and(|at| at <= keys.now_ms()) {
        keys.delete(key);
    } else {
        keys.put(key, entry(value, expires_at_ms));
    }
}

fn value_of(keys: &mut dyn Keyspace, key: &[u8]) -> Option<Bytes> {
    keys.get(key).map(|entry| string(&entry).clone())
}

fn bulk_or_null(value: Option<Bytes>) -> Reply {
    value.map_or(Reply::Null, Reply::Bulk)
}

pub(crate) fn get(args: &[Bytes], _: &Context, keys: &mut dyn Keyspace) -> Outcome {
    Ok(bulk_or_null(value_of(keys, &args[1])))
}

pub(crate) fn set(args: &[Bytes], _: &Context, keys: &mut dyn Keyspace) -> Outcome {
    let options = Options::parse(&args[3..], true)?;
    let expires_at_ms = match options.expiry {
        Expiry::At(value, unit, base) => Some(expires_at(value, unit, base, keys.now_ms(), "set")?),
        Expiry::Default | Expiry::Keep | Expiry::Remove => None,
    };
    let looks = options.get || options.condition != Condition::Always || options.expiry == Expiry::Keep;
    let before = if looks { keys.get(&args[1]) } else { None };
    let allowed = match options.condition {
        Condition::Always => true,
        Condition::IfAbsent => before.is_none(),
        Condition::IfPresent => before.is_some(),
    };
    if allowed {
        let kept = before.as_ref().and_then(|entry| entry.expires_at_ms).filter(|_| options.expiry == Expiry::Keep);
        put(keys, &args[1], args[2].clone(), expires_at_ms.or(kept));
    }
    Ok(match (options.get, allowed) {
        (true, _) => bulk_or_null(before.map(|entry| string(&entry).clone())),
        (false, true) => Reply::ok(),
        (false, false) => Reply::Null,
    })
}

pub(crate) fn setnx(args: &[Bytes], _: &Context, keys: &mut dyn Keyspace) -> Outcome {
    let absent = keys.get(&args[1]).is_none();
    if absent {
        keys.put(&args[1], entry(args[2].clone(), None));
    }
    Ok(Reply::Integer(i64::from(absent)))
}

pub(crate) fn setex(args: &[Bytes], _: &Context, keys: &mut dyn Keyspace) -> Outcome {
    let at = expires_at(&args[2], Unit::Seconds, Base::Now, keys.now_ms(), "setex")?;
    put(keys, &args[1], args[3].clone(), Some(at));
    Ok(Reply::ok())
}

pub(crate) fn psetex(args: &[Bytes], _: &Context, keys: &mut dyn Keyspace) -> Outcome {
    let at = expires_at(&args[2], Unit::Milliseconds, Base::Now, keys.now_ms(), "psetex")?;
    put(keys, &args[1], args[3].clone(), Some(at));
    Ok(Reply::ok())
}

pub(crate) fn getset(args: &[Bytes], _: &Context, keys: &mut dyn Keyspace) -> Outcome {
    let before = value_of(keys, &args[1]);
    keys.put(&args[1], entry(args[2].clone(), None));
    Ok(bulk_or_null(before))
}

pub(crate) fn getdel(args: &[Bytes], _: &Context, keys: &mut dyn Keyspace) -> Outcome {
    let before = value_of(keys, &args[1]);
    if before.is_some() {
        keys.delete(&args[1]);
    }
    Ok(bulk_or_null(before))
}

pub(crate) fn getex(args: &[Bytes], _: &Context, keys: &mut dyn Keyspace) -> Outcome {
    let options = Options::parse(&args[2..], false)?;
    let Some(found) = keys.get(&args[1]) else { return Ok(Reply::Null) };
    let value = string(&found).clone();
    match options.expiry {
        Expiry::At(at, unit, base) => {
            let at = expires_at(at, unit, base, keys.now_ms(), "getex")?;
            put(keys, &args[1], value.clone(), Some(at));
        }
        Expiry::Remove if found.expires_at_ms.is_some() => keys.put(&args[1], entry(value.clone(), None)),
        Expiry::Remove | Expiry::Default | Expiry::Keep => {}
    }
    Ok(Reply::Bulk(value))
}

pub(crate) fn mget(args: &[Bytes], _: &Context, keys: &mut dyn Keyspace) -> Outcome {
    let mut size_bytes = 0;
    let mut values = Vec::with_capacity(args.len() - 1);
    for key in &args[1..] {
        let value = bulk_or_null(value_of(keys, key));
        size_bytes += value.size_bytes();
        if size_bytes > REPLY_SIZE_BYTES_MAX {
            return Err(CommandError::ReplyTooLarge { limit_bytes: REPLY_SIZE_BYTES_MAX });
        }
        values.push(value);
    }
    Ok(Reply::Array(values))
}

/// Keys and values in turn.
fn pairs<'a>(args: &'a [Bytes], command: &str) -> Result<impl Iterator<Item = (&'a Bytes, &'a Bytes)>, CommandError> {
    let (pairs, rest) = args[1..].as_chunks::<2>();
    if !rest.is_empty() {
        return Err(CommandError::WrongArity { command: command.to_owned() });
    }
    Ok(pairs.iter().map(|[key, value]| (key, value)))
}

pub(crate) fn mset(args: &[Bytes], _: &Context, keys: &mut dyn Keyspace) -> Outcome {
    for (key, value) in pairs(args, "mset")? {
        keys.put(key, entry(value.clone(), None));
    }
    Ok(Reply::ok())
}

pub(crate) fn msetnx(args: &[Bytes], _: &Context, keys: &mut dyn Keyspace) -> Outcome {
    if pairs(args, "msetnx")?.any(|(key, _)| keys.get(key).is_some()) {
        return Ok(Reply::Integer(0));
    }
    for (key, value) in pairs(args, "msetnx")? {
        keys.put(key, entry(value.clone(), None));
    }
    Ok(Reply::Integer(1))
}

pub(crate) fn append(args: &[Bytes], _: &Context, keys: &mut dyn Keyspace) -> Outcome {
    let before = keys.get(&args[1]);
    let (old, expires_at_ms) =
        before.map_or((Bytes::new(), None), |found| (string(&found).clone(), found.expires_at_ms));
    let length = old.len() + args[2].len();
    if length > VALUE_SIZE_BYTES_MAX {
        return Err(CommandError::ValueTooLarge);
    }
    keys.put(&args[1], entry(Bytes::from([&old[..], &args[2]].concat()), expires_at_ms));
    Ok(Reply::Integer(length as i64))
}

pub(crate) fn strlen(args: &[Bytes], _: &Context, keys: &mut dyn Keyspace) -> Outcome {
    Ok(Reply::Integer(value_of(keys, &args[1]).map_or(0, |value| value.len() as i64)))
}

pub(crate) fn getrange(args: &[Bytes], _: &Context, keys: &mut dyn Keyspace) -> Outcome {
    let (start, end) = (integer(&args[2])?, integer(&args[3])?);
    let value = value_of(keys, &args[1]).unwrap_or_default();
    let length = value.len() as i64;
    // Negative positions count from the end; what lies before the start is the start.
    let position = |index: i64| if index < 0 { index.saturating_add(length).max(0) } else { index };
    let backwards = start < 0 && end < 0 && start > end;
    let (start, end) = (position(start), position(end).min(length - 1));
    if backwards || start > end {
        return Ok(Reply::word(""));
    }
    Ok(Reply::Bulk(value.slice(start as usize..=end as usize)))
}

pub(crate) fn setrange(args: &[Bytes], _: &Context, keys: &mut dyn Keyspace) -> Outcome {
    let offset = usize::try_from(integer(&args[2])?).map_err(|_| CommandError::OffsetRange)?;
    let part = &args[3];
    let before = keys.get(&args[1]);
    let (old, expires_at_ms) =
        before.map_or((Bytes::new(), None), |found| (string(&found).clone(), found.expires_at_ms));
    if part.is_empty() {
        return Ok(Reply::Integer(old.len() as i64));
    }
    let end = offset.checked_add(part.len()).filter(|end| *end <= VALUE_SIZE_BYTES_MAX);
    let end = end.ok_or(CommandError::ValueTooLarge)?;
    let mut value = old.to_vec();
    value.resize(value.len().max(end), 0);
    value[offset..end].copy_from_slice(part);
    let length = value.len() as i64;
    keys.put(&args[1], entry(Bytes::from(value), expires_at_ms));
    Ok(Reply::Integer(length))
}

fn add(keys: &mut dyn Keyspace, key: &[u8], step: i64) -> Outcome {
    let before = keys.get(key);
    let (old, expires_at_ms) = match &before {
        Some(found) => (parse_i64(string(found)).ok_or(CommandError::NotInteger)?, found.expires_at_ms),
        None => (0, None),
    };
    let sum = old.checked_add(step).ok_or(CommandError::Overflow)?;
    keys.put(key, entry(Bytes::copy_from_slice(Digits::of(sum).as_bytes()), expires_at_ms));
    Ok(Reply::Integer(sum))
}

pub(crate) fn incr(args: &[Bytes], _: &Context, keys: &mut dyn Keyspace) -> Outcome {
    add(keys, &args[1], 1)
}

pub(crate) fn decr(args: &[Bytes], _: &Context, keys: &mut dyn Keyspace) -> Outcome {
    add(keys, &args[1], -1)
}

pub(crate) fn incrby(args: &[Bytes], _: &Context, keys: &mut dyn Keyspace) -> Outcome {
    add(keys, &args[1], integer(&args[2])?)
}

pub(crate) fn decrby(args: &[Bytes], _: &Context, keys: &mut dyn Keyspace) -> Outcome {
    let step = integer(&args[2])?.checked_neg().ok_or(CommandError::DecrementOverflow)?;
    add(keys, &args[1], step)
}

pub(crate) fn incrbyfloat(args: &[Bytes], _: &Context, keys: &mut dyn Keyspace) -> Outcome {
    let before = keys.get(&args[1]);
    let (old, expires_at_ms) = match &before {
        Some(found) => (Decimal::parse(string(found)).ok_or(CommandError::NotFloat)?, found.expires_at_ms),
        None => (Decimal::Exact(0), None),
    };
    let step = Decimal::parse(&args[2]).ok_or(CommandError::NotFloat)?;
    let sum = Bytes::from(old.plus(step).ok_or(CommandError::NotFinite)?.to_text());
    keys.put(&args[1], entry(sum.clone(), expires_at_ms));
    Ok(Reply::Bulk(sum))
}

#[cfg(test)]
mod tests {
    use crate::command::testing::Session;
    use crate::keyspace::Keyspace;

    const SYNTAX: &str = "(error) ERR syntax error";
    const NOT_INTEGER: &str = "(error) ERR value is not an integer or out of range";
    const INVALID_EXPIRE: &str = "(error) ERR invalid expire time in 'set' command";

    #[test]
    fn set_takes_all_options_of_redis_7() {
        Session::new().check(&[
            ("get k", "nil"),
            ("set k v", "OK"),
            ("SET k w NX", "nil"),
            ("set k w xx", "OK"),
            ("set absent v XX", "nil"),
            ("set k x GET", "\"w\""),
            ("set k y NX GET", "\"x\""),
            ("get k", "\"x\""),
            ("set new v XX GET", "nil"),
            ("set new v NX GET", "nil"),
            ("get new", "\"v\""),
            ("set k v EX 10", "OK"),
            ("pttl k", "10000"),
            ("set k v2 KEEPTTL", "OK"),
            ("pttl k", "10000"),
            ("set k v PX 1500 NX", "nil"),
            ("set k v PX 1500", "OK"),
            ("pttl k", "1500"),
            ("set k v EXAT 1001", "OK"),
            ("pexpiretime k", "1001000"),
            ("set k v PXAT 1000001", "OK"),
            ("pttl k", "1"),
            ("set k v EX 1 EX 2", "OK"),
            ("ttl k", "2"),
            ("set k v", "OK"),
            ("ttl k", "-1"),
            ("set k v PXAT 1", "OK"),
            ("get k", "nil"),
        ]);
    }

    #[test]
    fn set_refuses_what_contradicts_itself() {
        Session::new().check(&[
            ("set k v NX XX", SYNTAX),
            ("set k v XX NX", SYNTAX),
            ("set k v EX 10 PX 10", SYNTAX),
            ("set k v EX 10 KEEPTTL", SYNTAX),
            ("set k v KEEPTTL EX 10", SYNTAX),
            ("set k v EXAT 10 PXAT 10", SYNTAX),
            ("set k v EX", SYNTAX),
            ("set k v PERSIST", SYNTAX),
            ("set k v FOO", SYNTAX),
            ("set k v EX 0", INVALID_EXPIRE),
            ("set k v EX -1", INVALID_EXPIRE),
            ("set k v PXAT 0", INVALID_EXPIRE),
            ("set k v EX 9223372036854775807", INVALID_EXPIRE),
            ("set k v PX 9223372036854775807", INVALID_EXPIRE),
            ("set k v EX 1.5", NOT_INTEGER),
            ("set k v EX x", NOT_INTEGER),
            ("setex k 0 v", "(error) ERR invalid expire time in 'setex' command"),
            ("psetex k -5 v", "(error) ERR invalid expire time in 'psetex' command"),
            ("setex k x v", NOT_INTEGER),
            ("exists k", "0"),
        ]);
    }

    #[test]
    fn the_older_forms_of_set_and_get_work() {
        Session::new().check(&[
            ("setnx k v", "1"),
            ("setnx k w", "0"),
            ("setex k 10 v", "OK"),
            ("ttl k", "10"),
            ("psetex k 700 v", "OK"),
            ("pttl k", "700"),
            ("getset k w", "\"v\""),
            ("ttl k", "-1"),
            ("getset absent w", "nil"),
            ("getdel k", "\"w\""),
            ("getdel k", "nil"),
            ("mset a 1 b 2 a 3", "OK"),
            ("mget a b c", "[\"3\" \"2\" nil]"),
            ("mset a 1 b", "(error) ERR wrong number of arguments for 'mset' command"),
            ("msetnx c 1 a 2", "0"),
            ("exists c", "0"),
            ("msetnx c 1 c 2", "1"),
            ("get c", "\"2\""),
            ("msetnx c", "(error) ERR wrong number of arguments for 'msetnx' command"),
        ]);
    }

    #[test]
    fn getex_changes_the_expiry_alone() {
        Session::new().check(&[
            ("getex absent EX 0", "nil"),
            ("set k v", "OK"),
            ("getex k", "\"v\""),
            ("getex k EX 10", "\"v\""),
            ("ttl k", "10"),
            ("getex k PERSIST", "\"v\""),
            ("ttl k", "-1"),
            ("getex k PXAT 1002000", "\"v\""),
            ("pttl k", "2000"),
            ("getex k PERSIST EX 1", SYNTAX),
            ("getex k EX 1 PERSIST", SYNTAX),
            ("getex k KEEPTTL", SYNTAX),
            ("getex k NX", SYNTAX),
            ("getex k EX 0", "(error) ERR invalid expire time in 'getex' command"),
            ("getex k EXAT 1", "\"v\""),
            ("get k", "nil"),
        ]);
    }

    #[test]
    fn parts_of_values_are_read_and_written() {
        Session::new().check(&[
            ("append k Hello", "5"),
            ("expire k 10", "1"),
            ("append k \" World\"", "11"),
            ("strlen k", "11"),
            ("strlen absent", "0"),
            ("getrange k 0 4", "\"Hello\""),
            ("getrange k -5 -1", "\"World\""),
            ("getrange k 6 100", "\"World\""),
            ("getrange k -100 0", "\"H\""),
            ("getrange k -1 -2", "\"\""),
            ("getrange k 5 4", "\"\""),
            ("getrange k -9223372036854775808 9223372036854775807", "\"Hello World\""),
            ("getrange absent 0 -1", "\"\""),
            ("getrange k 0 x", NOT_INTEGER),
            ("substr k 0 0", "\"H\""),
            ("setrange k 6 Redis", "11"),
            ("get k", "\"Hello Redis\""),
            ("ttl k", "10"),
            ("setrange new 3 x", "4"),
            ("get new", r#""\x00\x00\x00x""#),
            ("setrange absent 5 \"\"", "0"),
            ("exists absent", "0"),
            ("setrange k -1 x", "(error) ERR offset is out of range"),
            ("setrange k 7340032 x", "(error) ERR string exceeds maximum allowed size (proto-max-bulk-len)"),
            (
                "setrange k 9223372036854775807 x",
                "(error) ERR string exceeds maximum allowed size (proto-max-bulk-len)",
            ),
        ]);
    }

    #[test]
    fn counters_count_within_64_bits() {
        const OVERFLOW: &str = "(error) ERR increment or decrement would overflow";
        Session::new().check(&[
            ("incr n", "1"),
            ("incrby n 41", "42"),
            ("decr n", "41"),
            ("decrby n 50", "-9"),
            ("get n", "\"-9\""),
            ("expire n 10", "1"),
            ("incr n", "-8"),
            ("ttl n", "10"),
            ("set n 9223372036854775806", "OK"),
            ("incr n", "9223372036854775807"),
            ("incr n", OVERFLOW),
            ("get n", "\"9223372036854775807\""),
            ("set n -9223372036854775808", "OK"),
            ("decr n", OVERFLOW),
            ("decrby n -9223372036854775808", "(error) ERR decrement would overflow"),
            ("incrby n 1.5", NOT_INTEGER),
            ("incrby n 9223372036854775808", NOT_INTEGER),
            ("set n 007", "OK"),
            ("incr n", NOT_INTEGER),
            ("set n \" 1\"", "OK"),
            ("incr n", NOT_INTEGER),
        ]);
    }

    #[test]
    fn decimal_sums_are_exact() {
        Session::new().check(&[
            ("set f 10.50", "OK"),
            ("incrbyfloat f 0.1", "\"10.6\""),
            ("incrbyfloat f -5", "\"5.6\""),
            ("incrbyfloat new 5.0e3", "\"5000\""),
            ("incrbyfloat f x", "(error) ERR value is not a valid float"),
            ("incrbyfloat f inf", "(error) ERR increment would produce NaN or Infinity"),
            ("set f hello", "OK"),
            ("incrbyfloat f 1", "(error) ERR value is not a valid float"),
            ("set f 3", "OK"),
            ("pexpire f 10", "1"),
            ("incrbyfloat f 0", "\"3\""),
            ("pttl f", "10"),
        ]);
    }

    #[test]
    fn too_much_at_once_is_refused() {
        let mut session = Session::new();
        session.keys.set("k", &"v".repeat(7 << 20));
        let line = format!("mget{}", " k".repeat(10));
        let expect = "(error) ERR hotwarm replies are at most 67108864 bytes long; ask for less at once";
        session.check(&[(&line, expect)]);
        session.check(&[("append k x", "(error) ERR string exceeds maximum allowed size (proto-max-bulk-len)")]);
        assert_eq!(session.keys.len(), 1);
    }
}
