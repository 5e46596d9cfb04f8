//! The group's state and the vote record, as files and tickets hold them.

use super::{SMALL, led};
use crate::draw::Draw;
use crate::sample;
use crate::target::{Seed, Target};
use hotwarm_wire::{decode_state, decode_vote, encode_state, encode_vote};

pub(super) const REGISTER: Target = Target { name: "register", run, seeds, ..SMALL };

fn run(input: &[u8]) {
    let mut draw = Draw::new(input);
    let is_vote = draw.coin();
    let bytes = draw.rest();
    let (again, error) = if is_vote {
        let vote = decode_vote(bytes);
        (vote.as_ref().ok().map(encode_vote), vote.err())
    } else {
        let state = decode_state(bytes);
        (state.as_ref().ok().map(encode_state), state.err())
    };
    match (again, error) {
        (Some(again), _) => assert_eq!(again, bytes, "it has one encoding"),
        (None, error) => assert!(error.is_some_and(|error| !error.to_string().is_empty())),
    }
}

fn seeds() -> Vec<Seed> {
    vec![
        ("state", led(&[0], &encode_state(&sample::state()))),
        ("vote", led(&[1], &encode_vote(&sample::vote()))),
        ("first vote", led(&[1], &encode_vote(&hotwarm_core::register::Vote::default()))),
    ]
}
