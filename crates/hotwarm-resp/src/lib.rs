//! The Redis serialization protocol, versions 2 and 3: bytes to values and back.
//!
//! - [`RequestParser`] takes a client's bytes and yields commands as argument lists (server side).
//! - [`Reply`] is what a command answers; it writes itself in the version its connection speaks.
//! - [`ReplyParser`] and [`write_request`] are the client side, for the demo, for forwarding and for tests.
//!
//! All parsers are incremental: they are called again with the same, longer buffer, never look twice at a byte that
//! was complete, and hand out slices of the buffer instead of copies. All are bounded in length, number and depth
//! before anything is allocated for a claim that a peer makes (INV-12). No socket, no clock, and no command is known
//! here.
//!
//! Source: the Redis serialization protocol specification (RESP2 and RESP3), and the behaviour of Redis 7.0 where the
//! specification is silent (inline requests, texts of protocol errors).

mod inline;
mod line;
pub mod number;
mod reply;
mod reply_parser;
mod request;

pub use line::escape_line;
pub use reply::{Protocol, Reply};
pub use reply_parser::{ReplyError, ReplyLimits, ReplyParser};
pub use request::{ProtocolError, RequestLimits, RequestParser, write_request};
