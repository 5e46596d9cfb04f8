//! One acceptor, as the tests that have acceptors ask it.

use hotwarm_core::Message;
use hotwarm_core::register::{Response, Vote, acceptor};

/// What an acceptor with this vote answers.
pub fn answer(vote: &mut Vote, message: Message) -> Response {
    match message {
        Message::Prepare { ballot, members_version } => acceptor::prepare(vote, ballot, members_version),
        Message::Accept { ballot, members_version, state } => acceptor::accept(vote, ballot, members_version, state),
        other => panic!("{} is not for an acceptor", other.name()),
    }
}
