//! Lines that end in CR LF, found without looking twice at the same byte.

use std::borrow::Cow;

/// What the search for the end of a line came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// The line lies between the start of the search and this index; CR and LF follow.
    EndsAt(usize),
    /// More bytes are needed.
    Incomplete,
    /// A CR without its LF.
    Broken,
    /// No end within the limit.
    TooLong,
}

/// Searches `buffer[start..]` for CR LF. `scanned` remembers how far an earlier, incomplete search came; it is set
/// back to zero when a line is found.
pub(crate) fn find_line(buffer: &[u8], start: usize, scanned: &mut usize, size_bytes_max: usize) -> Line {
    let from = (*scanned).max(start).min(buffer.len());
    match buffer[from..].iter().position(|byte| *byte == b'\r').map(|offset| from + offset) {
        Some(end) if end - start > size_bytes_max => Line::TooLong,
        Some(end) => match buffer.get(end + 1) {
            Some(b'\n') => {
                *scanned = 0;
                Line::EndsAt(end)
            }
            Some(_) => Line::Broken,
            None => {
                *scanned = end;
                Line::Incomplete
            }
        },
        None if buffer.len().saturating_sub(start) > size_bytes_max => Line::TooLong,
        None => {
            *scanned = buffer.len();
            Line::Incomplete
        }
    }
}

/// Makes a text fit for one line: CR, LF and NUL become spaces, as in Redis, so that a client's own bytes in an error
/// text can never forge a second reply.
#[must_use]
pub fn escape_line(text: &[u8]) -> Cow<'_, [u8]> {
    let harmful = |byte: &u8| matches!(byte, b'\r' | b'\n' | 0);
    if text.iter().any(harmful) {
        Cow::Owned(text.iter().map(|byte| if harmful(byte) { b' ' } else { *byte }).collect())
    } else {
        Cow::Borrowed(text)
    }
}
