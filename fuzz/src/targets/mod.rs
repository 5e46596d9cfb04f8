//! The targets, a file for each part of the product that decodes.

mod admin;
mod certificate;
mod commands;
mod config;
mod effects;
mod folder;
mod forwarded;
mod frame;
mod guardian;
mod history;
mod log;
mod register;
mod resp;
mod slot;
mod snapshot;
mod ticket;

use crate::target::Target;

/// All of them.
pub const TARGETS: [Target; 23] = [
    resp::REQUEST,
    resp::REPLY,
    commands::COMMANDS,
    commands::CALL,
    forwarded::FORWARDED,
    frame::FRAME,
    frame::PEER_STREAM,
    register::REGISTER,
    guardian::DEATH,
    guardian::GUARDIAN_LINE,
    log::LOG_RECOVERY,
    slot::SLOT,
    folder::FOLDER,
    log::CUT_FILE,
    effects::EFFECTS,
    snapshot::SNAPSHOT,
    snapshot::INCOMING_RECORD,
    config::CONFIG,
    config::SETTINGS,
    ticket::TICKET,
    certificate::CERTIFICATE,
    admin::ADMIN,
    history::HISTORY,
];

/// A target whose memory is a small multiple of its input.
const SMALL: Target = Target {
    name: "",
    run: |_| {},
    seeds: Vec::new,
    words: Vec::new,
    memory_base_bytes: 256 << 10,
    memory_factor: 256,
};

/// The target of this name.
#[must_use]
pub fn target(name: &str) -> Option<&'static Target> {
    const ALL: &[Target] = &TARGETS;
    ALL.iter().find(|target| target.name == name)
}

/// An example that begins with bytes which choose a way through the target.
fn led(lead: &[u8], bytes: &[u8]) -> Vec<u8> {
    [lead, bytes].concat()
}
