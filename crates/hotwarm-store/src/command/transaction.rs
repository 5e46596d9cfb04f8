//! Transactions: MULTI queues, EXEC runs all or nothing of what was let through.
//!
//! WATCH remembers the version of a key; EXEC carries these versions with it, and the node that runs it compares them. A
//! command that was refused while it was queued spoils the transaction (EXECABORT); one that fails while it runs does
//! not, and nothing is rolled back. Source: the command pages and the transactions page of Redis 7.0.
//!
//! A watched key that runs out of time spoils the transaction; one that had run out of it before WATCH does not, whenever it
//! is reclaimed.
//!
//! Unlike there, commands that ask the node (INFO, CONFIG, CLIENT, WAIT, ..) cannot be queued, and a watched key that
//! is not there is not touched by a SET whose expiry lies in the past.

use super::args::Outcome;
use super::call::{Body, Call};
use super::client::{ClientState, Queue};
use super::error::CommandError;
use super::plan::Plan;
use super::server::Server;
use bytes::Bytes;
use hotwarm_resp::Reply;

pub(crate) fn multi(client: &mut ClientState, _: &dyn Server, _: &[Bytes]) -> Result<Plan, CommandError> {
    if client.queue.is_some() {
        return Err(CommandError::NestedMulti);
    }
    client.queue = Some(Queue::default());
    Ok(Plan::Reply(Reply::ok()))
}

pub(crate) fn exec(client: &mut ClientState, _: &dyn Server, _: &[Bytes]) -> Result<Plan, CommandError> {
    let queue = client.queue.take().ok_or(CommandError::WithoutMulti { command: "EXEC" })?;
    let watched = std::mem::take(&mut client.watches);
    if queue.spoiled {
        return Err(CommandError::ExecAborted);
    }
    if queue.invocations.is_empty() && watched.is_empty() {
        return Ok(Plan::Reply(Reply::Array(Vec::new())));
    }
    let call = Call::new(Body::Transaction { watched, invocations: queue.invocations });
    Ok(if call.is_write() { Plan::Write(call) } else { Plan::Read(call) })
}

pub(crate) fn discard(client: &mut ClientState, _: &dyn Server, _: &[Bytes]) -> Result<Plan, CommandError> {
    client.queue.take().ok_or(CommandError::WithoutMulti { command: "DISCARD" })?;
    client.watches.clear();
    Ok(Plan::Reply(Reply::ok()))
}

pub(crate) fn watch(client: &mut ClientState, _: &dyn Server, args: &[Bytes]) -> Result<Plan, CommandError> {
    if client.queue.is_some() {
        return Err(CommandError::WatchInsideMulti);
    }
    let watches = |key: &Bytes| client.watches.iter().any(|watched| watched.key == *key);
    let keys: Vec<Bytes> = args[1..].iter().filter(|key| !watches(key)).cloned().collect();
    client.check_watches(&keys)?;
    Ok(if keys.is_empty() { Plan::Reply(Reply::ok()) } else { Plan::Watch(Call::new(Body::Watch(keys))) })
}

pub(crate) fn unwatch(client: &mut ClientState, _: &dyn Server, _: &[Bytes]) -> Result<Plan, CommandError> {
    client.watches.clear();
    Ok(Plan::Reply(Reply::ok()))
}

/// Inside a transaction UNWATCH comes too late: EXEC has compared the versions.
pub(crate) fn unwatch_queued(_: &[Bytes]) -> Outcome {
    Ok(Reply::ok())
}

#[cfg(test)]
mod tests {
    use crate::command::Plan;
    use crate::command::testing::Session;

    const ABORTED: &str = "(error) EXECABORT Transaction discarded because of previous errors.";

    #[test]
    fn queued_commands_run_as_one() {
        Session::new().check(&[
            ("multi", "OK"),
            ("set a 1", "QUEUED"),
            ("incr a", "QUEUED"),
            ("get a", "QUEUED"),
            ("ping", "QUEUED"),
            ("echo hi", "QUEUED"),
            ("select 0", "QUEUED"),
            ("unwatch", "QUEUED"),
            ("exec", "[OK 2 \"2\" PONG \"hi\" OK OK]"),
            ("multi", "OK"),
            ("exec", "[]"),
            ("exec", "(error) ERR EXEC without MULTI"),
            ("discard", "(error) ERR DISCARD without MULTI"),
            ("multi", "OK"),
            ("set a 5", "QUEUED"),
            ("discard", "OK"),
            ("get a", "\"2\""),
        ]);
    }

    #[test]
    fn an_error_while_running_stops_nothing() {
        Session::new().check(&[
            ("multi", "OK"),
            ("set a x", "QUEUED"),
            ("incr a", "QUEUED"),
            ("set b 1", "QUEUED"),
            ("exec", "[OK (error) ERR value is not an integer or out of range OK]"),
            ("get b", "\"1\""),
        ]);
    }

    #[test]
    fn a_refusal_while_queueing_spoils_all() {
        for (line, error) in [
            ("set a", "(error) ERR wrong number of arguments for 'set' command"),
            ("nosuch", "(error) ERR unknown command 'nosuch', with args beginning with: "),
            (
                "hotwarm help",
                "(error) ERR hotwarm does not support 'HOTWARM' inside MULTI: it asks the node, and a \
              transaction is a matter of the data alone",
            ),
            (
                "info",
                "(error) ERR hotwarm does not support 'INFO' inside MULTI: it asks the node, and a transaction is \
              a matter of the data alone",
            ),
        ] {
            let steps =
                [("multi", "OK"), ("set a 1", "QUEUED"), (line, error), ("set b 1", "QUEUED"), ("exec", ABORTED)];
            let mut session = Session::new();
            session.check(&steps);
            session.check(&[("exists a b", "0"), ("multi", "OK"), ("exec", "[]")]);
        }
    }

    #[test]
    fn misplaced_words_spoil_nothing() {
        Session::new().check(&[
            ("multi", "OK"),
            ("multi", "(error) ERR MULTI calls can not be nested"),
            ("watch a", "(error) ERR WATCH inside MULTI is not allowed"),
            ("set a 1", "QUEUED"),
            ("exec", "[OK]"),
            ("multi", "OK"),
            ("reset", "RESET"),
            ("exec", "(error) ERR EXEC without MULTI"),
        ]);
    }

    #[test]
    fn a_watched_key_that_changes_prevents_exec() {
        let mut session = Session::new();
        let outcome = |session: &mut Session, change: &[&str]| {
            session.check(&[("flushall", "OK"), ("set live 1", "OK"), ("watch live absent", "OK")]);
            for line in change {
                session.call(line);
            }
            session.check(&[("multi", "OK"), ("set done 1", "QUEUED")]);
            crate::command::testing::show(&session.call("exec"))
        };
        assert_eq!(outcome(&mut session, &["get live", "set other 1"]), "[OK]");
        for change in ["set live 1", "del live", "set absent 1", "flushall", "expire live 10", "rename live x"] {
            assert_eq!(outcome(&mut session, &[change]), "nil-array", "{change}");
        }
        assert_eq!(outcome(&mut session, &["set absent 1", "del absent"]), "nil-array");
        assert_eq!(outcome(&mut session, &["set live 2", "unwatch"]), "[OK]");
        assert_eq!(outcome(&mut session, &["set live 2", "multi", "discard"]), "[OK]");
        assert_eq!(outcome(&mut session, &["set live 2", "multi", "exec"]), "[OK]", "EXEC forgets the watches");
    }

    #[test]
    fn a_watched_key_that_runs_out_of_time_prevents_exec() {
        let mut session = Session::new();
        session.check(&[("set k v PX 10", "OK"), ("watch k", "OK")]);
        session.keys.now_ms += 10;
        session.check(&[("multi", "OK"), ("ping", "QUEUED"), ("exec", "nil-array")]);
        session.check(&[("watch k", "OK"), ("multi", "OK"), ("ping", "QUEUED"), ("exec", "[PONG]")]);
    }

    #[test]
    fn a_transaction_of_reads_is_a_read() {
        let mut session = Session::new();
        session.check(&[("multi", "OK"), ("get a", "QUEUED")]);
        assert!(matches!(session.plan("exec"), Plan::Read(call) if !call.is_write()));
        session.check(&[
            ("watch a", "OK"),
            ("watch a", "OK"),
            ("multi", "OK"),
            ("get a", "QUEUED"),
            ("set b 1", "QUEUED"),
        ]);
        let Plan::Write(call) = session.plan("exec") else { panic!() };
        assert_eq!(call.keys(), ["a", "a", "b"]);
        assert_eq!(call.name(), "exec");
    }
}
