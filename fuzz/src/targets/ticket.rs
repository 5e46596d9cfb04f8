//! Birth tickets and the identity of a data folder: text with a checksum.

use super::{SMALL, led};
use crate::draw::Draw;
use crate::sample;
use crate::target::{Seed, Target};
use hotwarm_node::birth::{Birth, Origin};
use hotwarm_types::FolderId;
use hotwarm_wire::crc32c;

pub(super) const TICKET: Target = Target { name: "ticket", run, seeds, memory_base_bytes: 512 << 10, ..SMALL };

/// The first byte chooses whether the text is sealed.
fn run(input: &[u8]) {
    let mut draw = Draw::new(input);
    let sealed = draw.coin();
    let mut text = String::from_utf8_lossy(draw.rest()).into_owned();
    if sealed {
        text = format!("{text}check {:08x}\n", crc32c(text.as_bytes()));
    }
    match Birth::parse(&text) {
        Ok(ticket) => {
            assert_eq!(Birth::parse(&ticket.to_text()), Ok(ticket.clone()));
            assert!(ticket.check(&ticket.name, None).is_ok() && ticket.check("another", None).is_err());
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

fn seeds() -> Vec<Seed> {
    let ticket = |origin| Birth {
        cluster: sample::CLUSTER,
        group: sample::GROUP,
        name: "a".to_owned(),
        folder: FolderId(0xa),
        origin,
        state: sample::state(),
    };
    let text = ticket(Origin::Founded).to_text();
    let body = text.find("check ").map_or("", |at| &text[..at]);
    vec![
        ("founded", led(&[0], text.as_bytes())),
        ("invited", led(&[0], ticket(Origin::Invited).to_text().as_bytes())),
        ("sealed", led(&[1], body.as_bytes())),
        (
            "sealed: no state",
            b"\x01hotwarm birth 1\ncluster 1\ngroup 1\nname a\nfolder 1\norigin founded\nstate 0\n".to_vec(),
        ),
    ]
}
