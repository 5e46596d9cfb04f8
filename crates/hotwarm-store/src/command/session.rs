//! HOTWARM: sessions for clients that want their own retries to be harmless (R34, INV-10).
//!
//! ```text
//! HOTWARM SESSION 0123456789abcdef0123456789abcdef      a number that the client draws at random, once
//! HOTWARM SEQ 1 INCR visits
//! HOTWARM SEQ 2 SET last now EX 60
//! ```
//! After a lost connection the client connects anywhere, names its session with RESUME, and sends what was open again
//! under the same numbers: what had been executed is not executed again, and the first reply is repeated. Without
//! RESUME a session that has expired would be opened afresh, and an old number in it would be executed anew.
//!
//! A transaction gets its number at its EXEC: MULTI and the queued commands are sent again without one. One that depends
//! on WATCH cannot be sent again, since the watches died with their connection: such a client reads again instead.

use super::args::quoted;
use super::client::ClientState;
use super::connection::{help, unknown_subcommand};
use super::error::CommandError;
use super::plan::{Plan, Refusal, admit, carry_out};
use super::server::Server;
use crate::effect::Identity;
use bytes::Bytes;
use hotwarm_resp::number::parse_i64;
use hotwarm_types::SessionId;

const HELP: &[&str] = &[
    "HOTWARM <subcommand> [<arg> ...]. Subcommands are:",
    "SESSION <32 hexadecimal digits> [RESUME]",
    "    Open a session on this connection, or attach to it if it is open. With RESUME only attach.",
    "SEQ <number> <command> [<arg> ...]",
    "    Execute a command once under this number, from 1 on, in the session. A number that was used gives the first",
    "    reply again. EXEC takes a number for its whole transaction.",
    "HELP",
    "    Print this help.",
];

pub(crate) fn hotwarm(client: &mut ClientState, server: &dyn Server, args: &[Bytes]) -> Result<Plan, CommandError> {
    let subcommand = String::from_utf8_lossy(&args[1]).to_ascii_lowercase();
    let outcome = match (subcommand.as_str(), &args[2..]) {
        ("seq", [number, call @ ..]) if !call.is_empty() => return sequenced(client, server, number, call),
        _ if client.queue.is_some() => Err(CommandError::NotInTransaction { command: "HOTWARM".to_owned() }),
        ("session", [name]) => open(client, name, false),
        ("session", [name, option]) if option.eq_ignore_ascii_case(b"RESUME") => open(client, name, true),
        ("session", [_, _]) => Err(CommandError::Syntax),
        ("help", []) => Ok(Plan::Reply(help(HELP))),
        ("session" | "seq" | "help", _) => Err(CommandError::WrongArity { command: format!("hotwarm|{subcommand}") }),
        _ => Err(unknown_subcommand("hotwarm", &args[1])),
    };
    if outcome.is_err() {
        client.spoil();
    }
    outcome
}

fn open(client: &mut ClientState, name: &[u8], resume: bool) -> Result<Plan, CommandError> {
    let session = core::str::from_utf8(name).ok().and_then(SessionId::parse).ok_or(CommandError::SessionName)?;
    client.session = Some(session);
    Ok(Plan::Session { session, resume })
}

/// Plans a command under its number. Even a plain read becomes a write then: it is answered by the hot, in its place
/// among the session's operations.
fn sequenced(
    client: &mut ClientState,
    server: &dyn Server,
    number: &[u8],
    call: &[Bytes],
) -> Result<Plan, CommandError> {
    let in_transaction = client.queue.is_some();
    match identify(client, number).and_then(|identity| under(client, server, identity, call, in_transaction)) {
        Ok(plan) => Ok(plan),
        Err(error) => {
            client.spoil();
            Err(error)
        }
    }
}

fn identify(client: &ClientState, number: &[u8]) -> Result<Identity, CommandError> {
    let sequence = parse_i64(number).and_then(|number| u64::try_from(number).ok()).filter(|number| *number > 0);
    let sequence = sequence.ok_or(CommandError::SequenceNumber)?;
    let session = client.session.ok_or(CommandError::NoSession)?;
    Ok(Identity { session, sequence })
}

fn under(
    client: &mut ClientState,
    server: &dyn Server,
    identity: Identity,
    call: &[Bytes],
    in_transaction: bool,
) -> Result<Plan, CommandError> {
    let not_sequenced = || CommandError::NotSequenced { command: quoted(&call[0]).to_uppercase() };
    let invocation = match admit(client, server, call.to_vec()) {
        Ok(invocation) => invocation,
        Err(Refusal::Answer(error)) => return Err(error),
        Err(Refusal::Attack) => return Err(not_sequenced()),
    };
    let is_exec = invocation.command().name == "exec";
    if in_transaction && !is_exec {
        return Err(CommandError::NotInTransaction { command: "HOTWARM SEQ".to_owned() });
    }
    if !is_exec && !invocation.command().is_data() {
        return Err(not_sequenced());
    }
    match carry_out(client, server, invocation)? {
        Plan::Read(mut call) | Plan::Write(mut call) => {
            call.identity = Some(identity);
            Ok(Plan::Write(call))
        }
        // An empty transaction has nothing to repeat.
        other => Ok(other),
    }
}

#[cfg(test)]
mod tests {
    use crate::command::Plan;
    use crate::command::testing::Session;
    use crate::effect::Identity;
    use hotwarm_types::SessionId;

    const NAME: &str = "0000000000000000000000000000002a";

    fn opened() -> Session {
        let mut session = Session::new();
        let plan = session.plan(&format!("hotwarm session {NAME}"));
        assert_eq!(plan, Plan::Session { session: SessionId(42), resume: false });
        session
    }

    #[track_caller]
    fn check_identity(session: &mut Session, line: &str, sequence: u64) {
        let Plan::Write(call) = session.plan(line) else { panic!("{line}") };
        assert_eq!(call.identity(), Some(Identity { session: SessionId(42), sequence }), "{line}");
    }

    #[test]
    fn numbered_commands_carry_their_identity() {
        let mut session = opened();
        check_identity(&mut session, "hotwarm seq 1 incr n", 1);
        check_identity(&mut session, "HOTWARM SEQ 9223372036854775807 get n", u64::try_from(i64::MAX).unwrap());
        session.check(&[("hotwarm seq 2 incr n", "1"), ("multi", "OK"), ("incr n", "QUEUED")]);
        check_identity(&mut session, "hotwarm seq 3 exec", 3);
        let plan = session.plan(&format!("hotwarm session {NAME} resume"));
        assert_eq!(plan, Plan::Session { session: SessionId(42), resume: true });
    }

    #[test]
    fn what_cannot_be_numbered_is_refused() {
        const NUMBER: &str = "(error) ERR hotwarm sequence number must be an integer from 1 on";
        const NAMED: &str = "(error) ERR hotwarm session must be named by 32 hexadecimal digits";
        Session::new().check(&[
            (
                "hotwarm seq 1 get a",
                "(error) ERR hotwarm has no session on this connection; call HOTWARM SESSION first",
            ),
            ("hotwarm session 123", NAMED),
            ("hotwarm session \"\\xff\"", NAMED),
        ]);
        opened().check(&[
            ("hotwarm seq 0 get a", NUMBER),
            ("hotwarm seq -1 get a", NUMBER),
            ("hotwarm seq x get a", NUMBER),
            ("hotwarm seq 1", "(error) ERR wrong number of arguments for 'hotwarm|seq' command"),
            ("hotwarm seq 1 get", "(error) ERR wrong number of arguments for 'get' command"),
            ("hotwarm seq 1 nosuch", "(error) ERR unknown command 'nosuch', with args beginning with: "),
            (
                "hotwarm seq 1 ping",
                "(error) ERR hotwarm gives sequence numbers to commands that touch data and to EXEC, not to 'PING'",
            ),
            (
                "hotwarm seq 1 hotwarm seq 2 get a",
                "(error) ERR hotwarm gives sequence numbers to commands that touch data and to EXEC, not to 'HOTWARM'",
            ),
            ("hotwarm seq 1 exec", "(error) ERR EXEC without MULTI"),
            ("hotwarm foo", "(error) ERR unknown subcommand 'foo'. Try HOTWARM HELP."),
        ]);
    }

    #[test]
    fn a_number_inside_multi_spoils_it() {
        let mut session = opened();
        session.check(&[
            ("multi", "OK"),
            (
                "hotwarm seq 1 set a 1",
                "(error) ERR hotwarm does not support 'HOTWARM SEQ' inside MULTI: it asks the node, and a transaction \
                 is a matter of the data alone",
            ),
            ("hotwarm seq 2 exec", "(error) EXECABORT Transaction discarded because of previous errors."),
        ]);
    }
}
