//! From a call to its reply.

use super::args::Outcome;
use super::call::{Body, Call, Invocation, Watched};
use super::cursor::Cursors;
use super::error::CommandError;
use super::limits::REPLY_SIZE_BYTES_MAX;
use super::table::Handler;
use crate::keyspace::Keyspace;
use bytes::Bytes;
use hotwarm_resp::Reply;

/// What a node lends to the commands that it runs: the places of walks under way. It belongs to no client, may be shared
/// by threads, and losing it costs no more than repeated keys.
#[derive(Debug, Default)]
pub struct Context {
    pub(crate) cursors: Cursors,
}

/// Executes a call. What it changes shows in `keys` at once; whoever calls it decides when the reply may be seen.
///
/// A command that is refused changes nothing. In a transaction it does not prevent the others, as in Redis.
pub fn run(call: &Call, context: &Context, keys: &mut dyn Keyspace) -> Reply {
    match &call.body {
        Body::One(invocation) => run_one(invocation, context, keys),
        Body::Transaction { watched, invocations } => run_transaction(watched, invocations, context, keys),
        Body::Watch(watched) => look(watched, keys),
    }
}

fn run_one(invocation: &Invocation, context: &Context, keys: &mut dyn Keyspace) -> Reply {
    let args = invocation.args();
    let outcome: Outcome = match invocation.command().handler {
        Handler::Data(handler) => handler(args, context, keys),
        Handler::Plain(handler) | Handler::Client { queued: Some(handler), .. } => handler(args),
        Handler::Client { queued: None, .. } => {
            Err(CommandError::NotInTransaction { command: invocation.command().name.to_uppercase() })
        }
    };
    outcome.unwrap_or_else(Reply::from)
}

fn run_transaction(
    watched: &[Watched],
    invocations: &[Invocation],
    context: &Context,
    keys: &mut dyn Keyspace,
) -> Reply {
    if watched.iter().any(|watched| has_changed(watched, keys)) {
        return Reply::NullArray;
    }
    let mut size_bytes = 0;
    let replies = invocations.iter().map(|invocation| {
        let reply = run_one(invocation, context, keys);
        size_bytes += reply.size_bytes();
        // The command has run and its effects stand; only the answer is too much.
        let fits = size_bytes <= REPLY_SIZE_BYTES_MAX;
        if fits { reply } else { CommandError::ReplyTooLarge { limit_bytes: REPLY_SIZE_BYTES_MAX }.into() }
    });
    Reply::Array(replies.collect())
}

/// For each key its version and whether it is there, one after the other.
fn look(watched: &[Bytes], keys: &mut dyn Keyspace) -> Reply {
    let flat = watched.iter().flat_map(|key| {
        // Looking first: where it removes a key whose time had come before, that removal is what is watched, and it
        // spoils no transaction.
        let live = keys.get(key).is_some();
        [Reply::Integer(keys.version(key).0.cast_signed()), Reply::Integer(i64::from(live))]
    });
    Reply::Array(flat.collect())
}

/// Whether a key was changed since it was watched. A key that ran out of time has changed although nobody wrote it. The
/// version of a removed key may be forgotten; then it is lower, and the key was not touched.
fn has_changed(watched: &Watched, keys: &mut dyn Keyspace) -> bool {
    let version = keys.version(&watched.key);
    match (watched.live, keys.get(&watched.key).is_some()) {
        (true, true) => version != watched.version,
        (false, false) => version > watched.version,
        (true, false) | (false, true) => true,
    }
}
