//! What a guardian writes to peers, and what it and its node tell each other.

use super::{SMALL, led};
use crate::draw::Draw;
use crate::sample;
use crate::target::{Seed, Target};
use hotwarm_node::guardian::report::{Report, greeting, parse_greeting};
use hotwarm_types::{FolderId, Incarnation};
use hotwarm_wire::{DeathFrame, DeathNotice, crc32c};
use std::time::Duration;

pub(super) const DEATH: Target = Target { name: "death", run: death, seeds: death_seeds, ..SMALL };
pub(super) const GUARDIAN_LINE: Target = Target { name: "guardian_line", run: line, seeds: line_seeds, ..SMALL };

/// The first byte chooses whether the proof is sealed.
fn death(input: &[u8]) {
    let mut draw = Draw::new(input);
    let sealed = draw.coin();
    let mut bytes: [u8; DeathFrame::SIZE_BYTES] = draw.array();
    let (covered, crc) = bytes.split_at_mut(DeathFrame::SIZE_BYTES - 4);
    if sealed {
        crc.copy_from_slice(&crc32c(covered).to_le_bytes());
    }
    let notice = bytes.first_chunk().map(DeathNotice::decode).expect("a frame is longer than its notice");
    if let Ok(notice) = notice {
        assert_eq!(notice.encode(), bytes[..DeathNotice::SIZE_BYTES]);
    }
    match DeathFrame::decode(&bytes) {
        Ok(frame) => {
            assert_eq!(Ok(frame.notice), notice);
            assert_eq!(frame.encode(), bytes);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

fn line(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let text = text.trim_end_matches('\n');
    if let Some(digest) = parse_greeting(text) {
        assert_eq!(parse_greeting(greeting(&digest).trim_end()), Some(digest));
    }
    if let Some(report) = Report::parse(text) {
        assert_eq!(Report::parse(&report.to_string()), Some(report));
    }
}

fn notice() -> DeathNotice {
    let incarnation = Incarnation { start: 3, nonce: 9 };
    DeathNotice { cluster: sample::CLUSTER, group: sample::GROUP, folder: FolderId(0xa), incarnation }
}

fn death_seeds() -> Vec<Seed> {
    let frame = DeathFrame { notice: notice(), secret: [0xab; 32] }.encode();
    vec![("proof", led(&[0], &frame)), ("sealed", led(&[1], &frame)), ("notice", led(&[0], &notice().encode()))]
}

fn line_seeds() -> Vec<Seed> {
    let line = |report: Report| report.to_string().into_bytes();
    vec![
        ("greeting", greeting(&[0xa5; 32]).into_bytes()),
        ("identity", line(Report::Identity { notice: notice(), name: "a".to_owned() })),
        ("peers", line(Report::Peers(vec!["b.lan:7400".to_owned(), "[::1]:7400".to_owned()]))),
        ("no peers", line(Report::Peers(Vec::new()))),
        ("tick", line(Report::Tick(Duration::from_millis(900)))),
    ]
}
