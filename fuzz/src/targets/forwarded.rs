//! Batches of calls on their way to the hot, and of replies on their way back.

use super::{SMALL, led};
use crate::draw::Draw;
use crate::target::{Seed, Target};
use bytes::Bytes;
use hotwarm_node::executor::forward::{
    ForwardedCall, ForwardedOutcome, ForwardedReply, ForwardedWork, decode_calls, decode_replies, encode_calls,
    encode_replies,
};
use hotwarm_store::Identity;
use hotwarm_types::{Lsn, SessionId};

pub(super) const FORWARDED: Target = Target { name: "forwarded", run, seeds, ..SMALL };

fn run(input: &[u8]) {
    let mut draw = Draw::new(input);
    let calls = draw.coin();
    let payload = Bytes::copy_from_slice(draw.rest());
    let error = if calls {
        decode_calls(payload.clone()).map(|calls| assert_eq!(encode_calls(&calls), payload)).err()
    } else {
        decode_replies(payload.clone()).map(|replies| assert_eq!(encode_replies(&replies), payload)).err()
    };
    assert!(error.is_none_or(|error| !error.to_string().is_empty()));
}

fn seeds() -> Vec<Seed> {
    let session = SessionId(7);
    let call = Bytes::from_static(b"get k");
    let works = [
        ForwardedWork::Session { session, resume: false },
        ForwardedWork::Session { session, resume: true },
        ForwardedWork::Write { identity: Identity { session, sequence: 1 }, call: call.clone() },
        ForwardedWork::Read { verify: true, call },
        ForwardedWork::Read { verify: false, call: Bytes::new() },
    ];
    let calls: Vec<ForwardedCall> =
        works.into_iter().zip(0..).map(|(work, seq)| ForwardedCall { seq, client: 11, work }).collect();
    let outcomes = [
        ForwardedOutcome::Done(Bytes::from_static(b"+OK\r\n")),
        ForwardedOutcome::NotServed,
        ForwardedOutcome::Unknown,
    ];
    let replies: Vec<ForwardedReply> =
        outcomes.into_iter().zip(0..).map(|(outcome, seq)| ForwardedReply { seq, seen: Lsn(seq), outcome }).collect();
    vec![("calls", led(&[1], &encode_calls(&calls))), ("replies", led(&[0], &encode_replies(&replies)))]
}
