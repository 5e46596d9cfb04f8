//! A deterministic simulator of a hotwarm group: one seed draws every fault.
