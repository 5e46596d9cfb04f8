//! Patterns for keys, as KEYS, SCAN MATCH and CONFIG GET take them.
//!
//! `*` any bytes, `?` one byte, `[abc]`, `[a-c]`, `[^abc]` one byte of a set, `\x` the byte x. Bytes, not characters.
//! A `*` never has to be tried again once a later one has matched, so the work is bounded by pattern times text, without
//! recursion; Redis' recursive matcher needs exponential time for `a*a*a*a*b`.
//!
//! Source: the behaviour of Redis 7.0 (`stringmatchlen`), with its edges: `]` right after `[` closes an empty set that
//! matches nothing, a set that is not closed ends with the pattern, a range given backwards is turned round, and a
//! backslash at the very end stands for itself. Unlike there, several stars match the empty text as one star does.

/// Whether `text` as a whole matches `pattern`.
#[must_use]
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut position) = (0, 0);
    // Where to go on when the bytes after the last star did not match: the star may take one byte more.
    let mut retry: Option<(usize, usize)> = None;
    loop {
        if pattern.get(at) == Some(&b'*') {
            at += 1;
            retry = Some((at, position));
            continue;
        }
        let matched = match text.get(position) {
            Some(byte) => match_one(pattern, at, *byte),
            None if at >= pattern.len() => return true,
            None => return false,
        };
        match (matched, retry) {
            (Some(next), _) => {
                at = next;
                position += 1;
            }
            (None, Some((after_star, taken))) => {
                at = after_star;
                position = taken + 1;
                retry = Some((after_star, position));
            }
            (None, None) => return false,
        }
    }
}

/// Matches one byte against the element of the pattern at `at`; gives where the next element starts.
fn match_one(pattern: &[u8], at: usize, byte: u8) -> Option<usize> {
    match pattern.get(at)? {
        b'?' => Some(at + 1),
        b'[' => match_set(pattern, at + 1, byte),
        b'\\' if at + 1 < pattern.len() => (pattern[at + 1] == byte).then_some(at + 2),
        literal => (*literal == byte).then_some(at + 1),
    }
}

/// Matches one byte against a set whose content starts at `at`.
fn match_set(pattern: &[u8], mut at: usize, byte: u8) -> Option<usize> {
    let negated = pattern.get(at) == Some(&b'^');
    if negated {
        at += 1;
    }
    let mut found = false;
    loop {
        match pattern[at.min(pattern.len())..] {
            [] => break,
            [b'\\', escaped, ..] => {
                found |= escaped == byte;
                at += 2;
            }
            [b']', ..] => {
                at += 1;
                break;
            }
            [first, b'-', last, ..] => {
                found |= (first.min(last)..=first.max(last)).contains(&byte);
                at += 3;
            }
            [single, ..] => {
                found |= single == byte;
                at += 1;
            }
        }
    }
    (found != negated).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_redis() {
        let cases = [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("**", "", true),
            ("*", "anything", true),
            ("***a", "bca", true),
            ("a*", "b", false),
            ("h?llo", "hello", true),
            ("h?llo", "hllo", false),
            ("h*llo", "heeeello", true),
            ("h[ae]llo", "hallo", true),
            ("h[ae]llo", "hillo", false),
            ("h[^e]llo", "hallo", true),
            ("h[^e]llo", "hello", false),
            ("h[a-b]llo", "hbllo", true),
            ("h[b-a]llo", "hallo", true),
            ("h[a-b]llo", "hcllo", false),
            (r"h\*llo", "h*llo", true),
            (r"h\*llo", "hello", false),
            (r"[\]]", "]", true),
            (r"[\^a]", "^", true),
            ("[]", "a", false),
            ("[]a]", "]a]", false),
            ("[^]", "a", true),
            ("[abc", "c", true),
            ("[", "a", false),
            ("[a-", "-", true),
            ("[a-]", "b", false),
            (r"a\", r"a\", true),
            ("*a*b", "xaybzb", true),
            ("*ab", "aab", true),
            ("a*b*c", "abbc", true),
            ("*?", "", false),
            ("?*", "a", true),
        ];
        for (pattern, text, expect) in cases {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), expect, "{pattern:?} on {text:?}");
        }
    }

    #[test]
    fn many_stars_cost_no_more_than_the_product() {
        let pattern = "a*".repeat(400) + "b";
        assert!(!matches(pattern.as_bytes(), "a".repeat(20_000).as_bytes()));
    }
}
