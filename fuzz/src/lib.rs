//! Every decoder of hotwarm under hostile bytes: the targets, what they may cost, and their corpora.
//!
//! A target is a plain function of bytes that panics when something that must hold does not: not only that nothing
//! crashes, but that what was read is written back as it was, that the way in which a stream is cut never matters, that
//! replies stay aligned with requests, that damage never takes away what was durable. Three drivers run the same
//! functions under the same limits ([`Target::check`]): the package's tests replay every committed input and some
//! thousand seeded mutations of each target's examples; `cargo xtask fuzz` lets libFuzzer search, guided by coverage; the
//! program `replay` runs single files and writes the examples down.
//!
//! Checksums would stop a blind search at the first byte. Where there is one, the target draws what to build from the
//! input and seals it, so that the search goes on behind it; unsealed bytes are tried as well.
//!
//! | target | what decodes | what must hold beside "no panic, in time, in bounds" |
//! | --- | --- | --- |
//! | `resp_request` | requests of clients, arrays and lines | same at every split; within the limits; written and read back; a refusal is one reply |
//! | `resp_reply` | replies, from servers and kept ones | same at every split; encoded and read back; in both versions exactly one reply |
//! | `commands` | requests, planned and run on a small store | one reply a request, in order; hot and warm end in the same state |
//! | `call` | a call as it is forwarded | one encoding; it runs; hot and warm end in the same state |
//! | `forwarded` | batches of forwarded calls and replies | one encoding |
//! | `frame` | one frame between nodes: every message, hello, refusal, snapshot frames | one encoding; no more than was asked for |
//! | `peer_stream` | a connection's bytes as frames | same at every split; another group is refused |
//! | `register` | the group's state and the vote record in files and tickets | one encoding |
//! | `death` | a guardian's notice and proof | one encoding |
//! | `guardian_line` | what node and guardian tell each other | written and read back |
//! | `log_recovery` | a log folder: head, mark, segments | what opens reads whole and opens again the same; flipped bits never take away what was durable |
//! | `slot` | a vote record's two slots | what opens is a record that was sealed; it can be replaced and opens again |
//! | `folder` | a data folder's identity | what opens counts one start more, each time |
//! | `cut_file` | what a cut put aside | blocks follow on each other, up to the end that the header names |
//! | `effects` | a block's operations, applied | one encoding; the same state before and after a restart |
//! | `snapshot` | a full copy's chunks and record, received | refused whole, or a state that opens |
//! | `incoming_record` | how far a full copy has come | one encoding |
//! | `config` | `hotwarm.toml` | faults name a line of the file; what is read is normal: written and read back |
//! | `settings` | the group's settings in the register | written and read back; their differences can be told |
//! | `ticket` | a birth ticket and a folder's identity | written and read back |
//! | `certificate` | whose a certificate is | the identity's URI stands in it |
//! | `admin` | HTTP requests to the admin API | one answer, and never a change that the request does not ask for |
//! | `history` | a node's own events in JSON lines | written and read back; what cannot be read is passed over |
//!
//! Not here: TLS and HTTP framing are rustls' and hyper's, the tree's own files are the engine's and lie under its
//! checksums; all of them have fuzzers of their own. What a decoded message does to the core is the simulator's to judge.

mod committed;
mod disk;
mod draw;
mod mutation;
mod pair;
mod sample;
mod target;
mod targets;

pub use committed::{committed, read_inputs};
pub use mutation::Mutation;
pub use target::{Cost, INPUT_SIZE_BYTES_MAX, INPUT_TIME_MAX, Seed, Target};
pub use targets::{TARGETS, target};
