//! Why a command is refused, in the words of Redis.
//!
//! Client libraries recognise errors by their first word and sometimes by the whole text, so each text of Redis 7.0 is
//! kept exactly; refusals that only hotwarm has start with `ERR hotwarm`. Nothing that is refused has had any effect.

use core::fmt;
use hotwarm_resp::Reply;

/// Why a command is refused. `Display` is the reply's text, its code included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandError {
    /// A command that neither Redis nor hotwarm knows.
    UnknownCommand {
        /// The command's name as sent.
        name: String,
        /// The first arguments, quoted, each followed by a space.
        args: String,
    },
    /// A command of Redis that hotwarm does not have.
    Unsupported {
        /// Its name, in capitals; of a subcommand both words.
        name: String,
        /// What it belongs to, such as `streams`.
        family: &'static str,
    },
    /// A subcommand that neither knows.
    UnknownSubcommand {
        /// The command's name, in capitals.
        command: String,
        /// The subcommand's name as sent.
        subcommand: String,
    },
    /// Too few or too many arguments.
    WrongArity {
        /// The command's name; of a subcommand `command|subcommand`.
        command: String,
    },
    /// An option that is unknown, incomplete or contradicts another.
    Syntax,
    /// An argument or a stored value that is no 64-bit integer.
    NotInteger,
    /// An argument or a stored value that is no number.
    NotFloat,
    /// A time to live that is zero, negative or beyond what fits.
    InvalidExpire {
        /// The command's name.
        command: &'static str,
    },
    /// An option that the EXPIRE family does not have.
    ExpireOption {
        /// The option as sent.
        option: String,
    },
    /// NX together with another condition.
    ExpireNxWithOther,
    /// GT together with LT.
    ExpireGtWithLt,
    /// The key to rename is not there.
    NoSuchKey,
    /// A counter would leave 64 bits.
    Overflow,
    /// A counter would leave 64 bits because its decrement has no opposite.
    DecrementOverflow,
    /// A sum that is no finite number.
    NotFinite,
    /// A negative offset.
    OffsetRange,
    /// A value would grow past its limit.
    ValueTooLarge,
    /// A SCAN cursor that is no number.
    InvalidCursor,
    /// A database other than 0.
    DatabaseIndex,
    /// A command that needs authentication first.
    AuthRequired,
    /// HELLO by a client that has not authenticated.
    HelloAuthRequired,
    /// A password that does not fit.
    WrongPassword,
    /// AUTH with a password alone where no password is set.
    NoPasswordSet,
    /// A version of the protocol other than 2 and 3.
    ProtocolVersion,
    /// A version of the protocol that is no number.
    ProtocolNotInteger,
    /// An option that HELLO does not have, or not in this form.
    HelloOption {
        /// The option as sent.
        option: String,
    },
    /// A client's name with a space, a line end or another special character in it.
    ClientName,
    /// What CLIENT LIST ID was given is no number of a connection.
    ClientId,
    /// A kind of connections that CLIENT LIST TYPE does not know.
    ClientType {
        /// The kind as sent.
        kind: String,
    },
    /// A library's name or version with such a character.
    ClientInfo {
        /// `lib-name` or `lib-ver`.
        attribute: &'static str,
    },
    /// An attribute that CLIENT SETINFO does not have.
    ClientAttribute {
        /// The attribute as sent.
        attribute: String,
    },
    /// MULTI inside MULTI.
    NestedMulti,
    /// EXEC or DISCARD outside of MULTI.
    WithoutMulti {
        /// The command's name, in capitals.
        command: &'static str,
    },
    /// WATCH inside MULTI.
    WatchInsideMulti,
    /// EXEC after one of its commands was refused.
    ExecAborted,
    /// A command that asks the node rather than the data, inside MULTI.
    NotInTransaction {
        /// The command's name, in capitals.
        command: String,
    },
    /// WAIT for a negative time.
    NegativeTimeout,
    /// WAIT for a time that is no number.
    TimeoutNotInteger,
    /// CONFIG SET of a parameter that does not exist.
    UnknownParameter {
        /// The parameter as sent.
        name: String,
    },
    /// CONFIG SET that the node refuses.
    ParameterRefused {
        /// The parameter as sent.
        name: String,
        /// Why.
        reason: String,
    },
    /// A group that SENTINEL is asked of and does not know, or whose hot it does not.
    NoSuchMaster,
    /// COMMAND GETKEYS of a command that does not exist.
    InvalidCommand,
    /// COMMAND GETKEYS of a command without keys.
    NoKeys,
    /// COMMAND GETKEYS with a number of arguments that does not fit the command.
    KeysArity,
    /// A session that is not named by 32 hexadecimal digits.
    SessionName,
    /// A sequence number that is no number from 1 on.
    SequenceNumber,
    /// HOTWARM SEQ without a session.
    NoSession,
    /// HOTWARM SEQ of a command that does not touch data.
    NotSequenced {
        /// The command's name, in capitals.
        command: String,
    },
    /// A key past its limit.
    KeyTooLarge {
        /// The limit, in bytes.
        limit_bytes: usize,
    },
    /// A pattern past its limit.
    PatternTooLarge {
        /// The limit, in bytes.
        limit_bytes: usize,
    },
    /// A command or transaction that does not fit into one entry of the log.
    CallTooLarge {
        /// The limit, in bytes.
        limit_bytes: usize,
    },
    /// More commands in one transaction than are allowed.
    TooManyQueued {
        /// The limit.
        limit: usize,
    },
    /// More keys watched than are allowed.
    TooManyWatched {
        /// The limit.
        limit: usize,
    },
    /// An answer past its limit.
    ReplyTooLarge {
        /// The limit, in bytes.
        limit_bytes: usize,
    },
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownCommand { name, args } => {
                write!(f, "ERR unknown command '{name}', with args beginning with: {args}")
            }
            Self::Unsupported { name, family } => {
                write!(f, "ERR hotwarm does not support '{name}' ({family}); COMMAND LIST names what it does support")
            }
            Self::UnknownSubcommand { command, subcommand } => {
                write!(f, "ERR unknown subcommand '{subcommand}'. Try {command} HELP.")
            }
            Self::WrongArity { command } => write!(f, "ERR wrong number of arguments for '{command}' command"),
            Self::Syntax => f.write_str("ERR syntax error"),
            Self::NotInteger => f.write_str("ERR value is not an integer or out of range"),
            Self::NotFloat => f.write_str("ERR value is not a valid float"),
            Self::InvalidExpire { command } => write!(f, "ERR invalid expire time in '{command}' command"),
            Self::ExpireOption { option } => write!(f, "ERR Unsupported option {option}"),
            Self::ExpireNxWithOther => {
                f.write_str("ERR NX and XX, GT or LT options at the same time are not compatible")
            }
            Self::ExpireGtWithLt => f.write_str("ERR GT and LT options at the same time are not compatible"),
            Self::NoSuchKey => f.write_str("ERR no such key"),
            Self::Overflow => f.write_str("ERR increment or decrement would overflow"),
            Self::DecrementOverflow => f.write_str("ERR decrement would overflow"),
            Self::NotFinite => f.write_str("ERR increment would produce NaN or Infinity"),
            Self::OffsetRange => f.write_str("ERR offset is out of range"),
            Self::ValueTooLarge => f.write_str("ERR string exceeds maximum allowed size (proto-max-bulk-len)"),
            Self::InvalidCursor => f.write_str("ERR invalid cursor"),
            Self::DatabaseIndex => f.write_str("ERR DB index is out of range"),
            Self::AuthRequired => f.write_str("NOAUTH Authentication required."),
            Self::HelloAuthRequired => f.write_str(
                "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO AUTH <user> \
                 <pass> option can be used to authenticate the client and select the RESP protocol version at the \
                 same time",
            ),
            Self::WrongPassword => f.write_str("WRONGPASS invalid username-password pair or user is disabled."),
            Self::NoPasswordSet => f.write_str(
                "ERR AUTH <password> called without any password configured for the default user. Are you sure your \
                 configuration is correct?",
            ),
            Self::ProtocolVersion => f.write_str("NOPROTO unsupported protocol version"),
            Self::ProtocolNotInteger => f.write_str("ERR Protocol version is not an integer or out of range"),
            Self::HelloOption { option } => write!(f, "ERR Syntax error in HELLO option '{option}'"),
            Self::ClientName => f.write_str("ERR Client names cannot contain spaces, newlines or special characters."),
            Self::ClientId => f.write_str("ERR Invalid client ID"),
            Self::ClientType { kind } => write!(f, "ERR Unknown client type '{kind}'"),
            Self::ClientInfo { attribute } => {
                write!(f, "ERR {attribute} cannot contain spaces, newlines or special characters.")
            }
            Self::ClientAttribute { attribute } => write!(f, "ERR Unrecognized option '{attribute}'"),
            Self::NestedMulti => f.write_str("ERR MULTI calls can not be nested"),
            Self::WithoutMulti { command } => write!(f, "ERR {command} without MULTI"),
            Self::WatchInsideMulti => f.write_str("ERR WATCH inside MULTI is not allowed"),
            Self::ExecAborted => f.write_str("EXECABORT Transaction discarded because of previous errors."),
            Self::NotInTransaction { command } => write!(
                f,
                "ERR hotwarm does not support '{command}' inside MULTI: it asks the node, and a transaction is a \
                 matter of the data alone"
            ),
            Self::NegativeTimeout => f.write_str("ERR timeout is negative"),
            Self::TimeoutNotInteger => f.write_str("ERR timeout is not an integer or out of range"),
            Self::UnknownParameter { name } => {
                write!(f, "ERR Unknown option or number of arguments for CONFIG SET - '{name}'")
            }
            Self::ParameterRefused { name, reason } => {
                write!(f, "ERR CONFIG SET failed (possibly related to argument '{name}') - {reason}")
            }
            Self::NoSuchMaster => f.write_str("ERR No such master with that name"),
            Self::InvalidCommand => f.write_str("ERR Invalid command specified"),
            Self::NoKeys => f.write_str("ERR The command has no key arguments"),
            Self::KeysArity => f.write_str("ERR Invalid number of arguments specified for command"),
            Self::SessionName => f.write_str("ERR hotwarm session must be named by 32 hexadecimal digits"),
            Self::SequenceNumber => f.write_str("ERR hotwarm sequence number must be an integer from 1 on"),
            Self::NoSession => f.write_str("ERR hotwarm has no session on this connection; call HOTWARM SESSION first"),
            Self::NotSequenced { command } => write!(
                f,
                "ERR hotwarm gives sequence numbers to commands that touch data and to EXEC, not to '{command}'"
            ),
            Self::KeyTooLarge { limit_bytes } => write!(f, "ERR hotwarm keys are at most {limit_bytes} bytes long"),
            Self::PatternTooLarge { limit_bytes } => {
                write!(f, "ERR hotwarm patterns are at most {limit_bytes} bytes long")
            }
            Self::CallTooLarge { limit_bytes } => {
                write!(f, "ERR hotwarm commands and transactions are at most {limit_bytes} bytes long")
            }
            Self::TooManyQueued { limit } => write!(f, "ERR hotwarm transactions hold at most {limit} commands"),
            Self::TooManyWatched { limit } => write!(f, "ERR hotwarm connections watch at most {limit} keys"),
            Self::ReplyTooLarge { limit_bytes } => {
                write!(f, "ERR hotwarm replies are at most {limit_bytes} bytes long; ask for less at once")
            }
        }
    }
}

impl core::error::Error for CommandError {}

impl From<CommandError> for Reply {
    fn from(error: CommandError) -> Self {
        Self::error(error.to_string())
    }
}
