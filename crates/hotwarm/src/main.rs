//! The hotwarm program.

fn main() {}
