//! The one crate that may say unsafe: what the safe system-call crates do not offer.
