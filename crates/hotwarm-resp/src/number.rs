//! Integers as Redis reads and writes them.
//!
//! Redis accepts exactly one spelling of each integer: no sign but `-`, no leading zero, no space, no `-0`. So what
//! was read as a number and is written back is the same bytes, and a counter never swallows a string like `007`.
//! Source: the behaviour of Redis 7.0 (`string2ll`).

/// Longest spelling of an `i64`: `-9223372036854775808`.
const SIZE_BYTES_MAX: usize = 20;

/// Reads the one accepted spelling of a signed 64-bit integer; `None` for everything else, overflow included.
#[must_use]
pub fn parse_i64(text: &[u8]) -> Option<i64> {
    if text.len() > SIZE_BYTES_MAX {
        return None;
    }
    let (negative, digits) = match text.split_first()? {
        (b'-', rest) => (true, rest),
        _ => (false, text),
    };
    match digits.first()? {
        b'0' => return if text == b"0" { Some(0) } else { None },
        b'1'..=b'9' => {}
        _ => return None,
    }
    // Accumulates below zero, where one more value fits than above.
    let mut value: i64 = 0;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        value = value.checked_mul(10)?.checked_sub(i64::from(digit - b'0'))?;
    }
    if negative { Some(value) } else { value.checked_neg() }
}

/// The digits of an integer, without a trip through the formatting machinery: replies are mostly small integers.
#[derive(Clone, Copy, Debug)]
pub struct Digits {
    text: [u8; SIZE_BYTES_MAX],
    start: usize,
}

impl Digits {
    /// Spells `value`.
    #[must_use]
    pub fn of(value: i64) -> Self {
        let mut digits = Self { text: [b'0'; SIZE_BYTES_MAX], start: SIZE_BYTES_MAX };
        let mut rest = value.unsigned_abs();
        loop {
            digits.start -= 1;
            digits.text[digits.start] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        if value < 0 {
            digits.start -= 1;
            digits.text[digits.start] = b'-';
        }
        digits
    }

    /// The spelling, in ASCII.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.text[self.start..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_canonical_spelling_is_read() {
        for value in [0, 1, -1, 10, 99, -100, i64::MAX, i64::MIN, i64::MIN + 1] {
            assert_eq!(parse_i64(value.to_string().as_bytes()), Some(value));
            assert_eq!(Digits::of(value).as_bytes(), value.to_string().as_bytes());
        }
        let refused = [
            "",
            "-",
            "+1",
            "01",
            "-0",
            "-01",
            " 1",
            "1 ",
            "1.0",
            "0x1",
            "9223372036854775808",
            "-9223372036854775809",
            "99999999999999999999",
            "111111111111111111111",
            "1\0",
        ];
        for text in refused {
            assert_eq!(parse_i64(text.as_bytes()), None, "{text:?}");
        }
    }
}
