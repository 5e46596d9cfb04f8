//! What requests and answers of the admin API hold: every type that crosses it beside `Status` and `Event`.

use hotwarm_core::register::{GroupState, MemberRole};
use hotwarm_core::{AskRefused, FenceReason};
use serde::{Deserialize, Serialize};
use std::fmt::Write;

/// Body of `POST /switchover`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SwitchoverRequest {
    /// The wished target; absent: the best one.
    #[serde(default)]
    pub to: Option<String>,
}

/// Body of `POST /pause`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PauseRequest {
    /// How long, in milliseconds; at most a week.
    pub length_ms: u64,
    /// Why: shown wherever the pause is.
    pub reason: String,
}

/// Body of `POST /apply`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApplyRequest {
    /// The register's version that the difference was computed from.
    pub expected_version: u64,
    /// The group's part of the file, normalized.
    pub text: String,
}

/// Body of `POST /node/add` and `POST /node/replace`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddRequest {
    /// The name it joins under. A member of that name is replaced by it.
    pub name: String,
    /// Where peers will reach it; absent in a replacement: where the old one was.
    #[serde(default)]
    pub address: Option<String>,
    /// Whether it votes only; absent in a replacement: as the old one.
    #[serde(default)]
    pub witness: Option<bool>,
    /// Its priority; absent: 100, or that of the old one.
    #[serde(default)]
    pub priority: Option<u16>,
}

impl AddRequest {
    /// The role that it asks for.
    #[must_use]
    pub fn role(&self) -> Option<MemberRole> {
        self.witness.map(|witness| if witness { MemberRole::Witness } else { MemberRole::Data })
    }
}

/// Body of `POST /node/remove`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NameRequest {
    /// The member, or the invitation.
    pub name: String,
}

/// Body of `POST /promote`: forced promotion (R8).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PromoteRequest {
    /// How the operator knows that the old hot is fenced; kept in the history.
    pub statement: String,
}

/// A request that was carried out, or the group's state read from a majority (`GET /state`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// Who is hot now.
    pub hot: Option<String>,
    /// Number of the reign.
    pub epoch: u64,
    /// Version of the group's state, where it was read or made.
    pub register_version: Option<u64>,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// After an invitation or a reading: the group's state in hexadecimal digits, as the wire has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
}

impl Done {
    /// The group's state that came with it.
    ///
    /// # Errors
    /// There is none, or it was written by another version.
    pub fn group_state(&self) -> Result<GroupState, String> {
        let digits = self.state.as_deref().ok_or("the node sent no state")?;
        let bytes = bytes_of(digits).ok_or("the state that the node sent is not hexadecimal")?;
        hotwarm_wire::decode_state(&bytes).map_err(|error| error.to_string())
    }
}

/// The group's state in hexadecimal digits.
pub(super) fn digits_of(state: &GroupState) -> String {
    let mut digits = String::new();
    for byte in hotwarm_wire::encode_state(state) {
        let _ = write!(digits, "{byte:02x}");
    }
    digits
}

fn bytes_of(digits: &str) -> Option<Vec<u8>> {
    let pairs = digits.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

/// Group time has stepped onto the hot's wall clock (`POST /clock/follow`). Both in milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockFollowed {
    /// Group time before.
    pub from_ms: u64,
    /// Group time since.
    pub to_ms: u64,
}

/// A request that was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// What kind of refusal: a stable word.
    pub kind: ErrorKind,
    /// Whether anything was done.
    pub outcome: Outcome,
    /// Who can do it, where another node can.
    pub hot: Option<String>,
    /// What, why, and what to do: one sentence.
    pub error: String,
}

/// Kinds of refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// The request is not understood.
    BadRequest,
    /// The token is missing or wrong, or the request came from a web page.
    Denied,
    /// There is no such route.
    NotFound,
    /// A node of this role does not do it.
    WrongRole,
    /// Only the hot can do it.
    NotHot,
    /// The state has moved on.
    Conflict,
    /// The change is not allowed.
    Forbidden,
    /// No node could take over.
    NoTarget,
    /// Too many requests wait.
    Busy,
    /// No majority answers, so nothing was begun.
    NoMajority,
    /// No majority answered in time.
    Unknown,
}

/// Whether anything was done: the three answers that there are (INV-10).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Nothing was changed.
    NotDone,
    /// It may have been done; it will be known when a majority answers.
    Unknown,
}

impl ErrorBody {
    /// A refusal by this node itself, before the core was asked.
    #[must_use]
    pub fn refused(kind: ErrorKind, error: impl Into<String>) -> Self {
        Self { kind, outcome: Outcome::NotDone, hot: None, error: error.into() }
    }

    /// A refusal by the core. `hot` is the name of the node that the refusal points to.
    #[must_use]
    pub fn of(refused: &AskRefused, hot: Option<String>) -> Self {
        let refusal = |kind, error: String| Self { kind, outcome: Outcome::NotDone, hot: None, error };
        match refused {
            AskRefused::NotHot { .. } => {
                let error = match &hot {
                    Some(hot) => format!("only the hot can do that; ask \"{hot}\""),
                    None => "only the hot can do that, and this node knows of none; nothing was changed".to_owned(),
                };
                Self { hot, ..refusal(ErrorKind::NotHot, error) }
            }
            AskRefused::Conflict { version } => refusal(
                ErrorKind::Conflict,
                format!(
                    "the group's state has moved on to {version}; nothing was changed: look at the difference again"
                ),
            ),
            AskRefused::Forbidden { why } => refusal(ErrorKind::Forbidden, why.clone()),
            AskRefused::NoTarget { why } => {
                refusal(ErrorKind::NoTarget, format!("no node could take over: {why}; the hot stays as it is"))
            }
            AskRefused::Busy => {
                refusal(ErrorKind::Busy, "too many requests wait already; nothing was changed: try again".to_owned())
            }
            AskRefused::NoMajority { answering, members } => refusal(
                ErrorKind::NoMajority,
                format!(
                    "no majority of the members answers: {} of {}; changes of roles and settings must wait for one; nothing \
                     was changed",
                    answering.len(),
                    members.len()
                ),
            ),
            AskRefused::Unknown => Self {
                outcome: Outcome::Unknown,
                ..refusal(
                    ErrorKind::Unknown,
                    "no majority of the members answered in time; whether it was done will be known when one does: \
                     look at status before you try again"
                        .to_owned(),
                )
            },
        }
    }
}

/// Why a node stopped serving, in a sentence with what to do.
#[must_use]
pub fn fence_text(reason: &FenceReason, name_of: impl Fn(hotwarm_types::NodeId) -> String) -> String {
    match reason {
        FenceReason::Disk { error } => format!(
            "its disk failed ({error}); no acknowledged write is at risk while another node is in sync: \
             repair the disk, then start it again"
        ),
        FenceReason::DivergedBelowCommit { last, committed } => format!(
            "its log parts from the hot's after LSN {last}, below its own commit position {committed}; \
             keep the folder for inspection and replace the node (\"hotwarm node replace\")"
        ),
        FenceReason::Amnesia { by } => format!(
            "{} remembers more of it than its folder holds: the folder is old, copied or wiped; \
             replace the node (\"hotwarm node replace\")",
            name_of(*by)
        ),
        FenceReason::Removed => {
            "its folder is no longer a member's; give it an empty folder and invite it again to return".to_owned()
        }
    }
}
