//! Whose a certificate is. Its chain has been verified by then, so the holder is no stranger; the text in it is still
//! not ours.

use super::SMALL;
use crate::target::{Seed, Target};
use hotwarm_node::tls::CertificateIdentity;
use rustls::pki_types::CertificateDer;

pub(super) const CERTIFICATE: Target =
    Target { name: "certificate", run, seeds, memory_base_bytes: 512 << 10, ..SMALL };

/// A certificate of node `a`, made by `hotwarm init`: a certificate cannot be made again with the same bytes.
const EXAMPLE: &[u8] = include_bytes!("certificate.der");

fn run(input: &[u8]) {
    match CertificateIdentity::of(&CertificateDer::from(input)) {
        Ok(identity) => {
            let uri = identity.uri();
            // Digits may be spelled in either case.
            let there = input.windows(uri.len()).any(|part| part.eq_ignore_ascii_case(uri.as_bytes()));
            assert!(there, "{uri} is not in the certificate");
        }
        Err(problem) => assert!(!problem.is_empty()),
    }
}

fn seeds() -> Vec<Seed> {
    vec![("a node's", EXAMPLE.to_vec())]
}
