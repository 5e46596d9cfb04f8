//! From a request to a plan.
//!
//! The order of the checks is that of Redis 7.0: does the command exist, does it take so many arguments, may this client
//! call it, is it queued by MULTI. A request that fails one of them spoils the transaction that it was meant for; an
//! error of a command that was let through does not.

use super::args::quoted;
use super::call::{Body, Call, Invocation};
use super::client::ClientState;
use super::error::CommandError;
use super::known;
use super::limits::CALL_SIZE_BYTES_MAX;
use super::server::Server;
use super::table::{Command, Handler, NO_AUTH, lookup};
use crate::limits::{KEY_SIZE_BYTES_MAX, VALUE_SIZE_BYTES_MAX};
use bytes::Bytes;
use core::time::Duration;
use hotwarm_resp::Reply;
use hotwarm_types::SessionId;

/// What is to be done about a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Plan {
    /// Answer; no data is needed.
    Reply(Reply),
    /// Run it on the keys as the read policy allows, and answer.
    Read(Call),
    /// Run it on the hot and answer when its effects are durable where they must be, each identity once.
    Write(Call),
    /// Run it like a read, give the reply to [`ClientState::watched`], and answer what that says, before the client's
    /// next request is planned.
    Watch(Call),
    /// Open the session by an entry of the log, or find it open, and answer `OK`.
    Session {
        /// The session; the connection holds it already.
        session: SessionId,
        /// Only find it open, never open it: a client that may have operations in it must not take a fresh session
        /// for its own (R34).
        resume: bool,
    },
    /// Answer with the number of other nodes on which this connection's writes are durable, once they are at least so
    /// many or the time is over.
    Wait {
        /// The number of nodes, the hot not counted.
        replicas: u64,
        /// How long to wait; `None`: for ever.
        timeout: Option<Duration>,
    },
    /// Answer, then close the connection.
    Close(Reply),
}

/// Plans one request of a client; the first argument names the command. The reply is to be written in the protocol that
/// [`ClientState::protocol`] names afterwards: HELLO changes it.
pub fn plan(client: &mut ClientState, server: &dyn Server, args: Vec<Bytes>) -> Plan {
    let invocation = match admit(client, server, args) {
        Ok(invocation) => invocation,
        Err(Refusal::Answer(error)) => return refuse(client, error),
        Err(Refusal::Attack) => {
            return Plan::Close(Reply::error("ERR possible cross-protocol attack: the request looks like HTTP"));
        }
    };
    let command = invocation.command();
    client.last_command = command.name;
    if client.queue.is_some() && !runs_inside_multi(command) {
        return match enqueue(client, invocation) {
            Ok(()) => Plan::Reply(Reply::simple("QUEUED")),
            Err(error) => refuse(client, error),
        };
    }
    carry_out(client, server, invocation).unwrap_or_else(|error| Plan::Reply(error.into()))
}

/// Plans a command that has been let through and is not queued.
pub(crate) fn carry_out(
    client: &mut ClientState,
    server: &dyn Server,
    invocation: Invocation,
) -> Result<Plan, CommandError> {
    let command = invocation.command();
    match command.handler {
        Handler::Data(_) => {
            let call = Call::new(Body::One(invocation));
            Ok(if command.is_write() { Plan::Write(call) } else { Plan::Read(call) })
        }
        Handler::Plain(answer) => answer(invocation.args()).map(Plan::Reply),
        Handler::Client { plan, .. } => plan(client, server, invocation.args()),
    }
}

pub(crate) enum Refusal {
    Answer(CommandError),
    /// A web browser that was led here: what follows in its request must not be taken for commands.
    Attack,
}

impl From<CommandError> for Refusal {
    fn from(error: CommandError) -> Self {
        Self::Answer(error)
    }
}

/// Checks that a client may call this command with these arguments.
pub(crate) fn admit(client: &ClientState, server: &dyn Server, args: Vec<Bytes>) -> Result<Invocation, Refusal> {
    let name = args.first().map_or(&b""[..], |name| &name[..]);
    let Some(command) = lookup(name) else {
        if name.eq_ignore_ascii_case(b"POST") || name.eq_ignore_ascii_case(b"HOST:") {
            return Err(Refusal::Attack);
        }
        return Err(unknown(&args).into());
    };
    if !command.takes(args.len()) {
        return Err(CommandError::WrongArity { command: command.name.to_owned() }.into());
    }
    if command.flags & NO_AUTH == 0 && !client.is_admitted(server) {
        return Err(CommandError::AuthRequired.into());
    }
    check_sizes(command, &args)?;
    Ok(Invocation::new(command, args))
}

fn check_sizes(command: &Command, args: &[Bytes]) -> Result<(), CommandError> {
    if command.keys(args).any(|key| key.len() > KEY_SIZE_BYTES_MAX) {
        return Err(CommandError::KeyTooLarge { limit_bytes: KEY_SIZE_BYTES_MAX });
    }
    if command.is_write() && args.iter().any(|arg| arg.len() > VALUE_SIZE_BYTES_MAX) {
        return Err(CommandError::ValueTooLarge);
    }
    if args.iter().map(|arg| 4 + arg.len()).sum::<usize>() + 64 > CALL_SIZE_BYTES_MAX {
        return Err(CommandError::CallTooLarge { limit_bytes: CALL_SIZE_BYTES_MAX });
    }
    Ok(())
}

fn unknown(args: &[Bytes]) -> CommandError {
    let name = args.first().map_or(&b""[..], |name| &name[..]);
    if let Some(family) = known::family(name) {
        return CommandError::Unsupported { name: quoted(name).to_uppercase(), family };
    }
    let mut shown = String::new();
    for arg in args.iter().skip(1) {
        if shown.len() >= 128 {
            break;
        }
        let room = arg.len().min(128 - shown.len());
        shown.push_str(&format!("'{}' ", String::from_utf8_lossy(&arg[..room])));
    }
    CommandError::UnknownCommand { name: quoted(name), args: shown }
}

fn refuse(client: &mut ClientState, error: CommandError) -> Plan {
    client.spoil();
    Plan::Reply(error.into())
}

fn runs_inside_multi(command: &Command) -> bool {
    matches!(command.name, "exec" | "discard" | "multi" | "watch" | "quit" | "reset" | "hotwarm")
}

fn enqueue(client: &mut ClientState, invocation: Invocation) -> Result<(), CommandError> {
    match invocation.command().handler {
        Handler::Data(_) | Handler::Plain(_) | Handler::Client { queued: Some(_), .. } => client.enqueue(invocation),
        Handler::Client { queued: None, .. } => {
            Err(CommandError::NotInTransaction { command: invocation.command().name.to_uppercase() })
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::command::testing::Session;
    use crate::command::{ClientState, Plan, plan};
    use bytes::Bytes;
    use hotwarm_resp::Reply;

    #[test]
    fn what_is_no_command_is_refused_by_name() {
        let mut session = Session::new();
        session.check(&[
            ("nosuch a b", "(error) ERR unknown command 'nosuch', with args beginning with: 'a' 'b' "),
            ("nosuch", "(error) ERR unknown command 'nosuch', with args beginning with: "),
            (
                "xadd s * a 1",
                "(error) ERR hotwarm does not support 'XADD' (streams); COMMAND LIST names what it does support",
            ),
            ("get", "(error) ERR wrong number of arguments for 'get' command"),
            ("GET a b", "(error) ERR wrong number of arguments for 'get' command"),
        ]);
        let long = format!("nosuch {} c", "b".repeat(200));
        let expect = format!("(error) ERR unknown command 'nosuch', with args beginning with: '{}' ", "b".repeat(128));
        session.check(&[(&long, &expect)]);
    }

    #[test]
    fn a_web_browser_is_shut_out() {
        let mut session = Session::new();
        for line in ["POST / HTTP/1.1", "Host: 127.0.0.1"] {
            assert!(matches!(session.plan(line), Plan::Close(Reply::Error(_))), "{line}");
        }
    }

    #[test]
    fn reads_and_writes_are_told_apart() {
        let mut session = Session::new();
        assert!(matches!(session.plan("get a"), Plan::Read(_)));
        assert!(matches!(session.plan("set a 1"), Plan::Write(_)));
        assert!(matches!(session.plan("ping"), Plan::Reply(_)));
        assert!(matches!(session.plan("wait 1 0"), Plan::Wait { replicas: 1, timeout: None }));
    }

    #[test]
    fn sizes_are_bounded_before_anything_runs() {
        let Session { server, .. } = Session::new();
        let mut client = ClientState::new(1, String::new());
        let mut refused = |args: &[&str]| {
            let args = args.iter().map(|arg| Bytes::copy_from_slice(arg.as_bytes())).collect();
            match plan(&mut client, &server, args) {
                Plan::Reply(Reply::Error(text)) => String::from_utf8(text.to_vec()).unwrap(),
                other => panic!("{other:?}"),
            }
        };
        let (key, value) = ("k".repeat(40_000), "v".repeat(7_900_000));
        assert_eq!(refused(&["GET", &key]), "ERR hotwarm keys are at most 32768 bytes long");
        assert_eq!(refused(&["SET", "k", &value]), "ERR string exceeds maximum allowed size (proto-max-bulk-len)");
        let half = &value[..4_500_000];
        let expect = "ERR hotwarm commands and transactions are at most 8323072 bytes long";
        assert_eq!(refused(&["MSET", "a", half, "b", half]), expect);
        assert_eq!(refused(&[]), "ERR unknown command '', with args beginning with: ");
    }
}
