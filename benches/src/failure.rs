//! Why nothing was measured: a sentence. A measure is repeated by hand, so no caller tells failures apart.

use std::error::Error;
use std::fmt;

/// What is printed after `hotwarm-bench: `.
#[derive(Debug)]
pub struct Failure(String);

impl Failure {
    /// A failure in these words.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// A failure to do `what`, and its cause.
    pub fn because(what: &str, error: &dyn Error) -> Self {
        Self(format!("{what}: {error}"))
    }
}

impl<E: Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
