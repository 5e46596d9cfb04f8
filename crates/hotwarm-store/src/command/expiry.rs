//! When keys expire.
//!
//! Expiry is a point in group time (R35), in milliseconds; whatever a client gives is turned into one at once, so that
//! the log carries points and never durations. A point that is not in the future deletes the key.
//! Source: the command pages of Redis 7.0.

use super::args::{Base, Outcome, Unit, entry, integer, is, point_ms, quoted, string};
use super::error::CommandError;
use super::run::Context;
use crate::keyspace::Keyspace;
use bytes::Bytes;
use hotwarm_resp::Reply;

/// Conditions on the expiry that a key has; without any, it is replaced.
#[derive(Clone, Copy, Debug, Default)]
struct Conditions {
    if_none: bool,
    if_some: bool,
    if_greater: bool,
    if_less: bool,
}

impl Conditions {
    fn parse(args: &[Bytes]) -> Result<Self, CommandError> {
        let mut conditions = Self::default();
        for word in args {
            match word {
                word if is(word, "NX") => conditions.if_none = true,
                word if is(word, "XX") => conditions.if_some = true,
                word if is(word, "GT") => conditions.if_greater = true,
                word if is(word, "LT") => conditions.if_less = true,
                other => return Err(CommandError::ExpireOption { option: quoted(other) }),
            }
        }
        let Self { if_none, if_some, if_greater, if_less } = conditions;
        if if_none && (if_some || if_greater || if_less) {
            return Err(CommandError::ExpireNxWithOther);
        }
        if if_greater && if_less {
            return Err(CommandError::ExpireGtWithLt);
        }
        Ok(conditions)
    }

    /// Whether an expiry may become `new`. No expiry counts as one that is infinitely late.
    fn allow(self, current: Option<u64>, new: i64) -> bool {
        let current = current.map(|at| i64::try_from(at).unwrap_or(i64::MAX));
        !(self.if_none && current.is_some()
            || self.if_some && current.is_none()
            || self.if_greater && current.is_none_or(|current| new <= current)
            || self.if_less && current.is_some_and(|current| new >= current))
    }
}

fn set_expiry(args: &[Bytes], keys: &mut dyn Keyspace, unit: Unit, base: Base, command: &'static str) -> Outcome {
    let conditions = Conditions::parse(&args[3..])?;
    let now_ms = keys.now_ms();
    let point = point_ms(integer(&args[2])?, unit, base, now_ms).ok_or(CommandError::InvalidExpire { command })?;
    let Some(found) = keys.get(&args[1]) else { return Ok(Reply::Integer(0)) };
    if !conditions.allow(found.expires_at_ms, point) {
        return Ok(Reply::Integer(0));
    }
    match u64::try_from(point) {
        Ok(at) if at > now_ms => keys.put(&args[1], entry(string(&found).clone(), Some(at))),
        Ok(_) | Err(_) => {
            keys.delete(&args[1]);
        }
    }
    Ok(Reply::Integer(1))
}

pub(crate) fn expire(args: &[Bytes], _: &Context, keys: &mut dyn Keyspace) -> Outcome {
    set_expiry(args, keys, Unit::Seconds, Base::Now, "expire")
}

pub(crate) fn pexpire(args: &[Bytes], _: &Context, keys: &mut dyn Keyspace) -> Outcome {
    set_expiry(args, keys, Unit::Milliseconds, Base::Now, "pexpire")
}

pub(crate) fn expireat(args: &[Bytes], _: &Context, keys: &mut dyn Keyspace) -> Outcome {
    set_expiry(args, keys, Unit::Seconds, Base::Epoch, "expireat")
}

pub(crate) fn pexpireat(args: &[Bytes], _: &Context, keys: &mut dyn Keyspace) -> Outcome {
    set_expiry(args, keys, Unit::Milliseconds, Base::Epoch, "pexpireat")
}

/// Tells an expiry: -2 without the key, -1 without an expiry. Seconds are rounded to the nearest.
fn tell(args: &[Bytes], keys: &mut dyn Keyspace, unit: Unit, base: Base) -> Outcome {
    let Some(found) = keys.get(&args[1]) else { return Ok(Reply::Integer(-2)) };
    let Some(at) = found.expires_at_ms else { return Ok(Reply::Integer(-1)) };
    let told_ms = match base {
        Base::Now => at.saturating_sub(keys.now_ms()),
        Base::Epoch => at,
    };
    let told = match unit {
        Unit::Seconds => told_ms.saturating_add(500) / 1000,
        Unit::Milliseconds => told_ms,
    };
    Ok(Reply::Integer(i64::try_from(told).unwrap_or(i64::MAX)))
}

pub(crate) fn ttl(args: &[Bytes], _: &Context, keys: &mut dyn Keyspace) -> Outcome {
    tell(args, keys, Unit::Seconds, Base::Now)
}

pub(crate) fn pttl(args: &[Bytes], _: &Context, keys: &mut dyn Keyspace) -> Outcome {
    tell(args, keys, Unit::Milliseconds, Base::Now)
}

pub(crate) fn expiretime(args: &[Bytes], _: &Context, keys: &mut dyn Keyspace) -> Outcome {
    tell(args, keys, Unit::Seconds, Base::Epoch)
}

pub(crate) fn pexpiretime(args: &[Bytes], _: &Context, keys: &mut dyn Keyspace) -> Outcome {
    tell(args, keys, Unit::Milliseconds, Base::Epoch)
}

pub(crate) fn persist(args: &[Bytes], _: &Context, keys: &mut dyn Keyspace) -> Outcome {
    let Some(found) = keys.get(&args[1]).filter(|found| found.expires_at_ms.is_some()) else {
        return Ok(Reply::Integer(0));
    };
    keys.put(&args[1], entry(string(&found).clone(), None));
    Ok(Reply::Integer(1))
}

#[cfg(test)]
mod tests {
    use crate::command::testing::Session;

    #[test]
    fn expiry_is_set_told_and_removed() {
        Session::new().check(&[
            ("ttl k", "-2"),
            ("expiretime k", "-2"),
            ("expire k 10", "0"),
            ("persist k", "0"),
            ("set k v", "OK"),
            ("ttl k", "-1"),
            ("pexpiretime k", "-1"),
            ("persist k", "0"),
            ("expire k 10", "1"),
            ("ttl k", "10"),
            ("pttl k", "10000"),
            ("expiretime k", "1010"),
            ("pexpiretime k", "1010000"),
            ("pexpire k 1499", "1"),
            ("ttl k", "1"),
            ("pexpire k 1500", "1"),
            ("ttl k", "2"),
            ("expireat k 2000", "1"),
            ("ttl k", "1000"),
            ("pexpireat k 1000001", "1"),
            ("pttl k", "1"),
            ("persist k", "1"),
            ("ttl k", "-1"),
            ("get k", "\"v\""),
        ]);
    }

    #[test]
    fn a_key_is_gone_when_its_time_has_come() {
        let mut session = Session::new();
        session.check(&[("set k v PX 10", "OK")]);
        session.keys.now_ms += 9;
        session.check(&[("get k", "\"v\""), ("pttl k", "1")]);
        session.keys.now_ms += 1;
        session.check(&[("get k", "nil"), ("ttl k", "-2"), ("del k", "0"), ("set k w NX", "OK")]);
    }

    #[test]
    fn a_time_in_the_past_deletes_the_key() {
        for line in ["expire k 0", "expire k -1", "pexpire k -9", "expireat k 1000", "pexpireat k -1"] {
            Session::new().check(&[("set k v", "OK"), (line, "1"), ("exists k", "0")]);
        }
    }

    #[test]
    fn conditions_compare_with_what_is_set() {
        Session::new().check(&[
            ("set k v", "OK"),
            ("expire k 10 XX", "0"),
            ("expire k 10 GT", "0"),
            ("expire k 10 LT", "1"),
            ("expire k 20 LT", "0"),
            ("expire k 10 NX", "0"),
            ("expire k 10 GT", "0"),
            ("expire k 20 gt xx", "1"),
            ("ttl k", "20"),
            ("expire k -1 GT", "0"),
            ("persist k", "1"),
            ("expire k 5 NX", "1"),
            ("expire k 1 NX XX", "(error) ERR NX and XX, GT or LT options at the same time are not compatible"),
            ("expire k 1 GT LT", "(error) ERR GT and LT options at the same time are not compatible"),
            ("expire k 1 FOO", "(error) ERR Unsupported option FOO"),
            ("expire k x", "(error) ERR value is not an integer or out of range"),
            ("expire k 9223372036854775807", "(error) ERR invalid expire time in 'expire' command"),
            ("pexpire k 9223372036854775807", "(error) ERR invalid expire time in 'pexpire' command"),
            ("expireat absent -9223372036854775808", "(error) ERR invalid expire time in 'expireat' command"),
        ]);
    }
}
