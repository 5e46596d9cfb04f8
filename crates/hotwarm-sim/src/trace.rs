//! What is told of a run: nothing, a hash of everything, or lines for a person.
//!
//! ```text
//!   1042.113ms  a  < ack n2 upto 1043@7
//!   1042.113ms  a  > commit 1043
//! ```

use core::fmt::{self, Write};
use hotwarm_core::{Input, Message, Output};
use std::collections::VecDeque;

/// Where the story of a run goes.
#[derive(Clone, Debug)]
pub enum Trace {
    /// Nowhere.
    Off,
    /// Into a hash, every field of it, so that two runs can be compared.
    Hash(Hash),
    /// To standard output, from a time on (nanoseconds).
    Print {
        /// Nothing before this time is printed.
        from: u64,
    },
    /// Into lines that somebody will take.
    Keep(Kept),
}

/// Lines that are kept.
#[derive(Clone, Debug)]
pub struct Kept {
    lines: VecDeque<String>,
    /// Older ones are forgotten.
    count_max: usize,
}

impl Kept {
    /// All of them.
    #[must_use]
    pub fn all() -> Self {
        Self::last(usize::MAX)
    }

    /// The last ones.
    #[must_use]
    pub fn last(count_max: usize) -> Self {
        Self { lines: VecDeque::new(), count_max }
    }

    fn push(&mut self, line: String) {
        if self.lines.len() >= self.count_max {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }
}

/// FNV-1a over all that was written to it.
#[derive(Clone, Copy, Debug)]
pub struct Hash(pub u64);

impl Default for Hash {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Write for Hash {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        Ok(())
    }
}

impl Trace {
    /// The hash so far; 0 where none is taken.
    #[must_use]
    pub fn hash(&self) -> u64 {
        match self {
            Self::Hash(hash) => hash.0,
            Self::Off | Self::Print { .. } | Self::Keep(_) => 0,
        }
    }

    /// The lines kept so far; they are kept no more.
    pub fn take_lines(&mut self) -> VecDeque<String> {
        match self {
            Self::Keep(kept) => std::mem::take(&mut kept.lines),
            Self::Off | Self::Hash(_) | Self::Print { .. } => VecDeque::new(),
        }
    }

    /// The lines that were kept.
    #[must_use]
    pub fn into_lines(mut self) -> Vec<String> {
        self.take_lines().into()
    }

    /// Something that is no fact or order of a node.
    pub fn line(&mut self, now: u64, text: fmt::Arguments<'_>) {
        match self {
            Self::Off => {}
            Self::Hash(hash) => {
                // Writing to a hash cannot fail.
                let _ = write!(hash, "{now} {text}");
            }
            Self::Print { from } if now < *from => {}
            Self::Print { .. } => say(format_args!("{} {text}", Time(now))),
            Self::Keep(kept) => kept.push(format!("{} {text}", Time(now))),
        }
    }

    /// A node takes a fact.
    pub fn took(&mut self, now: u64, name: &str, input: &Input) {
        match self {
            Self::Off => {}
            Self::Hash(hash) => {
                let _ = write!(hash, "{now} {name} {input:?}");
            }
            Self::Print { from } if now < *from => {}
            Self::Print { .. } | Self::Keep(_) if *input == Input::Elapsed => {}
            Self::Print { .. } => say(format_args!("{} {name}  < {}", Time(now), Taken(input))),
            Self::Keep(kept) => kept.push(format!("{} {name}  < {}", Time(now), Taken(input))),
        }
    }

    /// A node orders something.
    pub fn ordered(&mut self, now: u64, name: &str, output: &Output) {
        match self {
            Self::Off => {}
            Self::Hash(hash) => {
                let _ = write!(hash, "{now} {name} {output:?}");
            }
            Self::Print { from } if now < *from => {}
            Self::Print { .. } => say(format_args!("{} {name}  > {}", Time(now), Ordered(output))),
            Self::Keep(kept) => kept.push(format!("{} {name}  > {}", Time(now), Ordered(output))),
        }
    }
}

/// A closed pipe ends the story, not the program.
fn say(text: fmt::Arguments<'_>) {
    use std::io::Write;
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

struct Time(u64);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>6}.{:03}ms", self.0 / 1_000_000, self.0 / 1_000 % 1_000)
    }
}

/// A fact, in few words.
struct Taken<'a>(&'a Input);

impl fmt::Display for Taken<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Input::Received { from, incarnation, message } => write!(f, "{from}({incarnation}) {}", Said(message)),
            Input::LinkUp { peer, incarnation } => write!(f, "link up {peer} ({incarnation})"),
            Input::LinkDown { peer } => write!(f, "link down {peer}"),
            Input::Persisted { token } => write!(f, "persisted {token}"),
            Input::LogRead { token, blocks } => write!(f, "log read {token}: {} blocks", blocks.len()),
            Input::Proposed { tenure, first, count, .. } => {
                write!(f, "proposed {count} from {first}@{}", tenure.epoch)
            }
            other @ (Input::Elapsed
            | Input::WallClock { .. }
            | Input::JoinAsked { .. }
            | Input::DeathAttested { .. }
            | Input::PersistFailed { .. }
            | Input::SnapshotMade { .. }
            | Input::SnapshotFailed { .. }
            | Input::SnapshotReceived { .. }
            | Input::SnapshotInstalled { .. }
            | Input::VerifyAsked { .. }
            | Input::Asked { .. }
            | Input::Applied { .. }) => write!(f, "{other:?}"),
        }
    }
}

/// An order, in few words.
struct Ordered<'a>(&'a Output);

impl fmt::Display for Ordered<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Output::Send { to, message } => write!(f, "to {to} {}", Said(message)),
            Output::PersistVote { token, vote } => {
                write!(f, "persist {token} vote: promised {}, epoch {}", vote.promised, vote.epoch)?;
                if let Some((ballot, state)) = &vote.accepted {
                    write!(f, ", accepted {ballot} {} {:?}", state.version, state.changes.back().map(|c| &c.kind))?;
                }
                Ok(())
            }
            Output::AppendLog { token, block } => {
                write!(f, "append {token} {}..{}@{} {:?}", block.first, block.last, block.epoch, block.kind)
            }
            Output::StateChanged { state } => {
                write!(f, "state {}: reign {}, in sync {:?}", state.version, state.reign, state.in_sync)
            }
            Output::Meet { newcomers } if newcomers.is_empty() => f.write_str("meet nobody"),
            Output::Meet { newcomers } => {
                newcomers.iter().try_for_each(|(id, member)| write!(f, "meet {} as {id}; ", member.name))
            }
            Output::Answer { id, answer: Ok(_) } => write!(f, "answer {id}: done"),
            other @ (Output::CutLog { .. }
            | Output::ReadLog { .. }
            | Output::Commit { .. }
            | Output::Serve { .. }
            | Output::Hold
            | Output::Follow { .. }
            | Output::Throttle { .. }
            | Output::MakeSnapshot { .. }
            | Output::SendSnapshot { .. }
            | Output::DropSnapshot { .. }
            | Output::ReceiveSnapshot { .. }
            | Output::InstallSnapshot { .. }
            | Output::Verified { .. }
            | Output::Answer { answer: Err(_), .. }
            | Output::Fence { .. }
            | Output::Left
            | Output::Note(_)) => write!(f, "{other:?}"),
        }
    }
}

/// A message, in few words.
struct Said<'a>(&'a Message);

impl fmt::Display for Said<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.0.name();
        match self.0 {
            Message::Append { epoch, prev, block, committed, stream, .. } => write!(
                f,
                "{name}@{epoch} {stream} {}..{}@{} after {prev}, commit {committed}",
                block.first, block.last, block.epoch
            ),
            Message::Ack { epoch, durable, stream, .. } => write!(f, "{name}@{epoch} {stream} upto {durable}"),
            Message::Beacon { epoch, seq, committed, echo, version, .. } => {
                write!(f, "{name}@{epoch} {seq} echo {echo} commit {committed} {version}")
            }
            Message::BeaconAnswer { epoch, seq, grant, version, .. } => {
                write!(f, "{name}@{epoch} {seq} {grant:?} {version}")
            }
            Message::Accept { ballot, state, .. } => {
                write!(f, "{name} {ballot} {}: reign {}, in sync {:?}", state.version, state.reign, state.in_sync)
            }
            Message::Promise { ballot, accepted } => match accepted {
                Some((at, state)) => write!(f, "{name} {ballot}, accepted {at} {}", state.version),
                None => write!(f, "{name} {ballot}, accepted nothing"),
            },
            Message::Announce { state } => write!(f, "{name} {}", state.version),
            Message::Refused { ballot, promised, newer } => {
                write!(f, "{name} {ballot}, promised {promised}, newer {:?}", newer.as_ref().map(|state| state.version))
            }
            other @ (Message::Hello(_)
            | Message::HelloPassed { .. }
            | Message::HelloRefused { .. }
            | Message::Prepare { .. }
            | Message::Accepted { .. }
            | Message::AskState { .. }
            | Message::Poll { .. }
            | Message::PollAnswer { .. }
            | Message::Verify { .. }
            | Message::Verified { .. }
            | Message::Goodbye { .. }
            | Message::OpenStream { .. }
            | Message::StreamOpened { .. }
            | Message::Commit { .. }
            | Message::OfferSnapshot { .. }
            | Message::SnapshotWanted { .. }) => write!(f, "{other:?}"),
        }
    }
}
