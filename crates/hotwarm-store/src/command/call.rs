//! A call: what a node executes, complete in itself.
//!
//! A call may be executed by the node that took the request or be forwarded to the hot, so it has a form in bytes. All
//! numbers are little-endian, save the session, which is written as its digits read.
//!
//! | size | content |
//! | --- | --- |
//! | 1 | version of the format: 1 |
//! | 1 | kind: 0 command, 1 transaction, 2 watch |
//! | 1 | 1 if an identity follows, else 0 |
//! | 16 + 8 | session and sequence, if so |
//! | .. | kind 0 and 2: a list of strings: the arguments with the command's name, or the keys |
//! | .. | kind 1: u32 number of watched keys, for each u64 version, u8 whether it was there, a string; then u32 number of commands, each a list of strings |
//!
//! A string is a u32 length and its bytes; a list of strings is a u32 number and the strings.

use super::limits::{CALL_SIZE_BYTES_MAX, QUEUED_MAX, WATCHED_MAX};
use super::table::{Command, Handler, lookup};
use crate::effect::Identity;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use core::fmt;
use hotwarm_types::{Lsn, SessionId};

const FORMAT: u8 = 1;
const KIND_ONE: u8 = 0;
const KIND_TRANSACTION: u8 = 1;
const KIND_WATCH: u8 = 2;

/// What a call needs beside its strings: the header, an identity, and two numbers.
const HEADER_SIZE_BYTES: usize = 64;

/// A command with arguments that it takes.
#[derive(Clone, Debug)]
pub struct Invocation {
    command: &'static Command,
    args: Vec<Bytes>,
}

impl Invocation {
    /// The caller has looked the command up by the first argument, and it takes so many.
    pub(crate) fn new(command: &'static Command, args: Vec<Bytes>) -> Self {
        debug_assert!(command.takes(args.len()), "{command:?} does not take {} arguments", args.len());
        Self { command, args }
    }

    /// The command.
    #[must_use]
    pub fn command(&self) -> &'static Command {
        self.command
    }

    /// The arguments, the command's name first.
    #[must_use]
    pub fn args(&self) -> &[Bytes] {
        &self.args
    }

    /// The keys among the arguments.
    pub fn keys(&self) -> impl Iterator<Item = &Bytes> {
        self.command.keys(&self.args)
    }

    /// What it takes in a call, in bytes.
    pub(crate) fn size_bytes(&self) -> usize {
        4 + self.args.iter().map(|arg| 4 + arg.len()).sum::<usize>()
    }
}

impl PartialEq for Invocation {
    /// The name may be spelled in another case.
    fn eq(&self, other: &Self) -> bool {
        core::ptr::eq(self.command, other.command) && self.args == other.args
    }
}

/// A key as WATCH found it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watched {
    /// The key.
    pub key: Bytes,
    /// The position that had last changed it.
    pub version: Lsn,
    /// Whether it was there.
    pub live: bool,
}

/// What is to be executed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Body {
    One(Invocation),
    Transaction { watched: Vec<Watched>, invocations: Vec<Invocation> },
    Watch(Vec<Bytes>),
}

/// Something to execute: a command, a transaction with the keys it depends on, or a look at the versions of keys.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    pub(crate) body: Body,
    pub(crate) identity: Option<Identity>,
}

impl Call {
    pub(crate) fn new(body: Body) -> Self {
        Self { body, identity: None }
    }

    /// Under which session and number it is to be executed once (R34); such a call is always planned as a write.
    #[must_use]
    pub fn identity(&self) -> Option<Identity> {
        self.identity
    }

    /// Whether it may change data.
    #[must_use]
    pub fn is_write(&self) -> bool {
        match &self.body {
            Body::One(invocation) => invocation.command.is_write(),
            Body::Transaction { invocations, .. } => invocations.iter().any(|invocation| invocation.command.is_write()),
            Body::Watch(_) => false,
        }
    }

    /// Its command's name in lower case, for statistics and logs: `exec` for a transaction.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match &self.body {
            Body::One(invocation) => invocation.command.name,
            Body::Transaction { .. } => "exec",
            Body::Watch(_) => "watch",
        }
    }

    /// The keys that it names, watched ones included; a call that looks at all keys names none.
    #[must_use]
    pub fn keys(&self) -> Vec<&Bytes> {
        match &self.body {
            Body::One(invocation) => invocation.keys().collect(),
            Body::Transaction { watched, invocations } => {
                let watched = watched.iter().map(|watched| &watched.key);
                watched.chain(invocations.iter().flat_map(Invocation::keys)).collect()
            }
            Body::Watch(keys) => keys.iter().collect(),
        }
    }

    /// Its encoded size in bytes, or a little more.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        HEADER_SIZE_BYTES
            + match &self.body {
                Body::One(invocation) => invocation.size_bytes(),
                Body::Transaction { watched, invocations } => {
                    let watched = watched.iter().map(|watched| 13 + watched.key.len());
                    watched.chain(invocations.iter().map(Invocation::size_bytes)).sum()
                }
                Body::Watch(keys) => keys.iter().map(|key| 4 + key.len()).sum(),
            }
    }

    /// Its form in bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(self.size_bytes());
        out.put_u8(FORMAT);
        out.put_u8(match &self.body {
            Body::One(_) => KIND_ONE,
            Body::Transaction { .. } => KIND_TRANSACTION,
            Body::Watch(_) => KIND_WATCH,
        });
        out.put_u8(u8::from(self.identity.is_some()));
        if let Some(identity) = self.identity {
            out.put_u128(identity.session.0);
            out.put_u64_le(identity.sequence);
        }
        match &self.body {
            Body::One(invocation) => put_strings(&mut out, &invocation.args),
            Body::Watch(keys) => put_strings(&mut out, keys),
            Body::Transaction { watched, invocations } => {
                out.put_u32_le(watched.len() as u32);
                for Watched { key, version, live } in watched {
                    out.put_u64_le(version.0);
                    out.put_u8(u8::from(*live));
                    put_string(&mut out, key);
                }
                out.put_u32_le(invocations.len() as u32);
                for invocation in invocations {
                    put_strings(&mut out, &invocation.args);
                }
            }
        }
        out.freeze()
    }

    /// Reads what `encode` wrote; the arguments are slices of `bytes`.
    ///
    /// # Errors
    /// The bytes are no call, or one that this version of hotwarm cannot execute.
    pub fn decode(bytes: &Bytes) -> Result<Self, DecodeError> {
        if bytes.len() > CALL_SIZE_BYTES_MAX {
            return Err(DecodeError::TooLarge { size_bytes: bytes.len() });
        }
        let mut input = Input(bytes.clone());
        match input.u8()? {
            FORMAT => {}
            got => return Err(DecodeError::Format { got }),
        }
        let kind = input.u8()?;
        let identity = if input.flag()? {
            Some(Identity { session: SessionId(input.u128()?), sequence: input.u64()? })
        } else {
            None
        };
        let body = match kind {
            KIND_ONE => Body::One(input.invocation(false)?),
            KIND_TRANSACTION => {
                let watched = input.list(WATCHED_MAX, |input| {
                    Ok(Watched { version: Lsn(input.u64()?), live: input.flag()?, key: input.string()? })
                })?;
                let invocations = input.list(QUEUED_MAX, |input| input.invocation(true))?;
                Body::Transaction { watched, invocations }
            }
            KIND_WATCH => Body::Watch(input.list(WATCHED_MAX, Input::string)?),
            got => return Err(DecodeError::Kind { got }),
        };
        if input.0.has_remaining() {
            return Err(DecodeError::Malformed);
        }
        Ok(Self { body, identity })
    }
}

/// Why bytes are no call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// Longer than a call may be.
    TooLarge {
        /// Its size in bytes.
        size_bytes: usize,
    },
    /// Another version of the format.
    Format {
        /// Which.
        got: u8,
    },
    /// A kind that is not known.
    Kind {
        /// Which.
        got: u8,
    },
    /// Cut short, too long, or with a number that cannot be.
    Malformed,
    /// A command that does not exist here, or not with so many arguments, or that is not for data.
    Command {
        /// Its name as sent.
        name: String,
    },
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { size_bytes } => {
                write!(f, "call of {size_bytes} bytes is larger than {CALL_SIZE_BYTES_MAX} bytes")
            }
            Self::Format { got } => write!(f, "call has format {got}, this node reads format {FORMAT}"),
            Self::Kind { got } => write!(f, "call has unknown kind {got}"),
            Self::Malformed => f.write_str("call is malformed"),
            Self::Command { name } => write!(f, "call has a command '{name}' that this node cannot execute"),
        }
    }
}

impl core::error::Error for DecodeError {}

fn put_string(out: &mut BytesMut, string: &[u8]) {
    out.put_u32_le(string.len() as u32);
    out.put_slice(string);
}

fn put_strings(out: &mut BytesMut, strings: &[Bytes]) {
    out.put_u32_le(strings.len() as u32);
    for string in strings {
        put_string(out, string);
    }
}

/// What is left to read.
struct Input(Bytes);

impl Input {
    fn u8(&mut self) -> Result<u8, DecodeError> {
        self.0.try_get_u8().map_err(|_| DecodeError::Malformed)
    }

    fn flag(&mut self) -> Result<bool, DecodeError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError::Malformed),
        }
    }

    fn u32(&mut self) -> Result<usize, DecodeError> {
        self.0.try_get_u32_le().map(|number| number as usize).map_err(|_| DecodeError::Malformed)
    }

    fn u64(&mut self) -> Result<u64, DecodeError> {
        self.0.try_get_u64_le().map_err(|_| DecodeError::Malformed)
    }

    fn u128(&mut self) -> Result<u128, DecodeError> {
        self.0.try_get_u128().map_err(|_| DecodeError::Malformed)
    }

    fn string(&mut self) -> Result<Bytes, DecodeError> {
        let length = self.u32()?;
        if length > self.0.remaining() { Err(DecodeError::Malformed) } else { Ok(self.0.split_to(length)) }
    }

    /// A list with its number in front. Each item takes at least four bytes, so a number that promises more than is
    /// left is refused before room is made.
    fn list<T>(
        &mut self,
        count_max: usize,
        item: impl Fn(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let count = self.u32()?;
        if count > count_max || count > self.0.remaining() / 4 {
            return Err(DecodeError::Malformed);
        }
        let mut items = Vec::with_capacity(count);
        for _ in 0..count {
            items.push(item(self)?);
        }
        Ok(items)
    }

    fn invocation(&mut self, in_transaction: bool) -> Result<Invocation, DecodeError> {
        let args = self.list(usize::MAX, Self::string)?;
        let name = args.first().ok_or(DecodeError::Malformed)?;
        let runnable = |command: &&Command| match command.handler {
            Handler::Data(_) => true,
            Handler::Plain(_) | Handler::Client { queued: Some(_), .. } => in_transaction,
            Handler::Client { queued: None, .. } => false,
        };
        match lookup(name).filter(|command| command.takes(args.len())).filter(runnable) {
            Some(command) => Ok(Invocation::new(command, args)),
            None => Err(DecodeError::Command { name: super::args::quoted(name) }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn invocation(line: &str) -> Invocation {
        let args: Vec<Bytes> = line.split(' ').map(|arg| Bytes::copy_from_slice(arg.as_bytes())).collect();
        Invocation::new(lookup(&args[0]).unwrap(), args)
    }

    fn transaction() -> Call {
        let watched = |key: &'static str, version, live| Watched {
            key: Bytes::from_static(key.as_bytes()),
            version: Lsn(version),
            live,
        };
        let body = Body::Transaction {
            watched: vec![watched("a", 7, true), watched("", 0, false)],
            invocations: vec![invocation("SET a 1"), invocation("ping"), invocation("unwatch")],
        };
        Call { body, identity: Some(Identity { session: SessionId(0xabc), sequence: 9 }) }
    }

    #[test]
    fn the_bytes_of_a_call_are_pinned() {
        let mut call = Call::new(Body::One(invocation("get k")));
        assert_eq!(&call.encode()[..], b"\x01\x00\x00\x02\0\0\0\x03\0\0\0get\x01\0\0\0k");
        call.identity = Some(Identity { session: SessionId(1), sequence: 2 });
        assert_eq!(&call.encode()[..27], b"\x01\x00\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x02\0\0\0\0\0\0\0");
    }

    #[test]
    fn a_call_decodes_to_itself_and_no_part_of_it_does() {
        let watch = Call::new(Body::Watch(vec![Bytes::from_static(b"k")]));
        for call in [transaction(), watch, Call::new(Body::One(invocation("MSET a 1 b 2")))] {
            let bytes = call.encode();
            assert!(bytes.len() <= call.size_bytes());
            assert_eq!(Call::decode(&bytes), Ok(call));
            for end in 0..bytes.len() {
                assert!(Call::decode(&bytes.slice(..end)).is_err(), "cut at {end}");
            }
            let longer = Bytes::from([&bytes[..], b"x"].concat());
            assert_eq!(Call::decode(&longer), Err(DecodeError::Malformed));
        }
    }

    #[test]
    fn commands_that_cannot_be_executed_are_refused() {
        let encode = |line: &str| {
            let mut out = BytesMut::from(&[FORMAT, KIND_ONE, 0][..]);
            let args: Vec<Bytes> = line.split(' ').map(|arg| Bytes::copy_from_slice(arg.as_bytes())).collect();
            put_strings(&mut out, &args);
            out.freeze()
        };
        for line in ["nosuch a", "get", "get a b", "ping", "info", "exec", ""] {
            assert!(matches!(Call::decode(&encode(line)), Err(DecodeError::Command { .. })), "{line}");
        }
        assert!(matches!(Call::decode(&Bytes::from_static(b"\x02")), Err(DecodeError::Format { got: 2 })));
        assert!(matches!(Call::decode(&Bytes::from_static(b"\x01\x07\0")), Err(DecodeError::Kind { got: 7 })));
    }

    proptest! {
        #[test]
        fn no_bytes_make_decode_panic(index in 0..120_usize, byte: u8, tail in prop::collection::vec(any::<u8>(), 0..40)) {
            let mut bytes = transaction().encode().to_vec();
            let end = bytes.len();
            bytes[index % end] = byte;
            let _ = Call::decode(&Bytes::from(bytes));
            let _ = Call::decode(&Bytes::from([&[FORMAT, byte % 3, byte / 128], &tail[..]].concat()));
        }
    }
}
