//! Keys as such: whether they are there, their names, all of them at once.
//!
//! Source: the command pages of Redis 7.0. UNLINK is DEL and TOUCH is EXISTS: memory is freed behind every removal, and
//! no access times are kept.

use super::args::{Outcome, is};
use super::error::CommandError;
use super::run::Context;
use crate::keyspace::{Keyspace, Value};
use bytes::Bytes;
use hotwarm_resp::Reply;

pub(crate) fn del(args: &[Bytes], _: &Context, keys: &mut dyn Keyspace) -> Outcome {
    Ok(Reply::Integer(args[1..].iter().filter(|key| keys.delete(key)).count() as i64))
}

/// A key that is named twice counts twice.
pub(crate) fn exists(args: &[Bytes], _: &Context, keys: &mut dyn Keyspace) -> Outcome {
    Ok(Reply::Integer(args[1..].iter().filter(|key| keys.get(key).is_some()).count() as i64))
}

pub(crate) fn type_of(args: &[Bytes], _: &Context, keys: &mut dyn Keyspace) -> Outcome {
    Ok(Reply::simple(match keys.get(&args[1]) {
        Some(found) => type_name(&found.value),
        None => "none",
    }))
}

/// The type as TYPE and SCAN name it.
pub(crate) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "string",
    }
}

pub(crate) fn rename(args: &[Bytes], _: &Context, keys: &mut dyn Keyspace) -> Outcome {
    move_key(args, keys, true)?;
    Ok(Reply::ok())
}

pub(crate) fn renamenx(args: &[Bytes], _: &Context, keys: &mut dyn Keyspace) -> Outcome {
    Ok(Reply::Integer(i64::from(move_key(args, keys, false)?)))
}

/// Gives a key another name, with its value and expiry; whether it did. A key renamed to itself stays untouched.
fn move_key(args: &[Bytes], keys: &mut dyn Keyspace, replace: bool) -> Result<bool, CommandError> {
    let (source, target) = (&args[1], &args[2]);
    let found = keys.get(source).ok_or(CommandError::NoSuchKey)?;
    if source == target {
        return Ok(false);
    }
    if !replace && keys.get(target).is_some() {
        return Ok(false);
    }
    keys.put(target, found);
    keys.delete(source);
    Ok(true)
}

pub(crate) fn dbsize(_: &[Bytes], _: &Context, keys: &mut dyn Keyspace) -> Outcome {
    Ok(Reply::Integer(i64::try_from(keys.len()).unwrap_or(i64::MAX)))
}

pub(crate) fn randomkey(_: &[Bytes], _: &Context, keys: &mut dyn Keyspace) -> Outcome {
    Ok(keys.any_key().map_or(Reply::Null, Reply::Bulk))
}

/// FLUSHALL and FLUSHDB: there is one database. ASYNC and SYNC are accepted; a clear is one small write either way.
pub(crate) fn flush(args: &[Bytes], _: &Context, keys: &mut dyn Keyspace) -> Outcome {
    match &args[1..] {
        [] => {}
        [mode] if is(mode, "ASYNC") || is(mode, "SYNC") => {}
        _ => return Err(CommandError::Syntax),
    }
    keys.clear();
    Ok(Reply::ok())
}

#[cfg(test)]
mod tests {
    use crate::command::testing::Session;

    #[test]
    fn keys_are_counted_and_removed() {
        Session::new().check(&[
            ("mset a 1 b 2 c 3", "OK"),
            ("exists a a x", "2"),
            ("touch a b x", "2"),
            ("dbsize", "3"),
            ("del a a x", "1"),
            ("unlink b x", "1"),
            ("type c", "string"),
            ("type a", "none"),
            ("randomkey", "\"c\""),
            ("flushall ASYNC", "OK"),
            ("dbsize", "0"),
            ("randomkey", "nil"),
            ("flushdb", "OK"),
            ("flushdb NOW", "(error) ERR syntax error"),
            ("flushall SYNC ASYNC", "(error) ERR syntax error"),
        ]);
    }

    #[test]
    fn a_renamed_key_takes_its_expiry_along() {
        Session::new().check(&[
            ("rename a b", "(error) ERR no such key"),
            ("renamenx a b", "(error) ERR no such key"),
            ("set a 1 EX 10", "OK"),
            ("set b 2", "OK"),
            ("renamenx a b", "0"),
            ("renamenx a a", "0"),
            ("rename a a", "OK"),
            ("rename a b", "OK"),
            ("exists a", "0"),
            ("get b", "\"1\""),
            ("ttl b", "10"),
            ("renamenx b c", "1"),
            ("ttl c", "10"),
        ]);
    }
}
