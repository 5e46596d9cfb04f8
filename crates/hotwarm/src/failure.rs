//! Why a command could not be done: the one error of the program, a sentence with its causes after colons.

use std::error::Error;
use std::fmt;

/// What is printed after `hotwarm: `. One line for one fault; a configuration may have many.
#[derive(Debug)]
pub struct Failure {
    text: String,
    closed_pipe: bool,
}

impl Failure {
    /// A failure that needs no cause.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), closed_pipe: false }
    }

    /// A failure to do `what`, with the error and its causes.
    pub fn because(what: &str, error: &dyn Error) -> Self {
        Self::new(format!("{what}: {}", chain(error)))
    }

    /// The reader of standard output has gone.
    pub fn closed_pipe() -> Self {
        Self { text: "standard output is closed".to_owned(), closed_pipe: true }
    }

    /// The same failure, and more to know about it.
    pub fn and(mut self, more: &str) -> Self {
        self.text.push_str("; ");
        self.text.push_str(more);
        self
    }

    /// Whether the reader of standard output has gone.
    pub fn is_closed_pipe(&self) -> bool {
        self.closed_pipe
    }
}

impl<E: Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::new(chain(&error))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// An error and its causes, after colons.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use hotwarm_node::config::load_file;

    #[test]
    fn causes_follow_after_colons() {
        let error = load_file(std::path::Path::new("/nonexistent/hotwarm.toml")).unwrap_err();
        let text = Failure::from(error).to_string();
        assert_eq!(text, "read configuration \"/nonexistent/hotwarm.toml\": No such file or directory (os error 2)");
    }
}
