//! Decimal numbers for INCRBYFLOAT.
//!
//! Redis adds in the 80-bit floating point of x86 and prints 17 decimals without trailing zeros. Here a number below
//! 10^20 is kept as a whole number of 10^-17, so its sum is exact and the same on every machine; a larger one is an
//! `f64`. For numbers of up to about 18 digits both ways print the same.
//!
//! Where it differs from Redis: no noise in the last decimals (`5000.1`, where Redis gives `5000.10000000000000009`);
//! only 15 to 17 correct digits from 10^20 on; a number beyond 1.8 * 10^308 is refused; hexadecimal spelling is no
//! number.

/// Decimals that are kept.
const DECIMALS: u32 = 17;
const ONE: i128 = 10_i128.pow(DECIMALS);
/// Exact numbers are below 10^20: sums of two stay far from the end of an `i128`.
const EXACT_MAX: i128 = ONE * 10_i128.pow(20);
/// A longer spelling is no number, as in Redis.
const SPELLING_SIZE_BYTES_MAX: usize = 5 * 1024;

/// A finite or infinite number, never NaN.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Decimal {
    /// So many 10^-17.
    Exact(i128),
    /// Beyond the exact range.
    Double(f64),
}

impl Decimal {
    /// Reads a number: sign, digits with a point, exponent, or `inf`. No space, no NaN.
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        if text.is_empty() || text.len() >= SPELLING_SIZE_BYTES_MAX {
            return None;
        }
        let text = core::str::from_utf8(text).ok()?;
        let double: f64 = text.parse().ok()?;
        // Digits too large for a double are no number; an infinity must be spelled as one.
        if double.is_nan() || double.is_infinite() && text.contains(|letter: char| letter.is_ascii_digit()) {
            return None;
        }
        Some(exact(text).map_or(Self::Double(double), Self::Exact))
    }

    /// The sum, if it is finite.
    pub(crate) fn plus(self, other: Self) -> Option<Self> {
        if let (Self::Exact(a), Self::Exact(b)) = (self, other)
            && (a + b).abs() < EXACT_MAX
        {
            return Some(Self::Exact(a + b));
        }
        let sum = self.to_f64() + other.to_f64();
        sum.is_finite().then_some(Self::Double(sum))
    }

    fn to_f64(self) -> f64 {
        match self {
            Self::Exact(units) => units as f64 / ONE as f64,
            Self::Double(value) => value,
        }
    }

    /// Spells it with at most 17 decimals, without trailing zeros and without an exponent.
    pub(crate) fn to_text(self) -> String {
        let text = match self {
            Self::Exact(units) => {
                let sign = if units < 0 { "-" } else { "" };
                let (whole, part) = (units.unsigned_abs() / ONE as u128, units.unsigned_abs() % ONE as u128);
                format!("{sign}{whole}.{part:017}")
            }
            Self::Double(value) => format!("{value:.17}"),
        };
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    }
}

/// The number of 10^-17 that a spelling stands for, rounded; `None` beyond the exact range or for `inf`.
fn exact(text: &str) -> Option<i128> {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let negative = mantissa.starts_with('-');
    let digits = mantissa.strip_prefix(['-', '+']).unwrap_or(mantissa);
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    let mut units: i128 = 0;
    // Power of ten that the digits read so far are still to be multiplied by.
    let mut scale = exponent.checked_add(DECIMALS as i32)?;
    for (index, byte) in whole.bytes().chain(part.bytes()).enumerate() {
        if !byte.is_ascii_digit() {
            return None;
        }
        let after_point = index >= whole.len();
        if units < EXACT_MAX {
            units = units * 10 + i128::from(byte - b'0');
            scale = scale.checked_sub(i32::from(after_point))?;
        } else {
            scale = scale.checked_add(i32::from(!after_point))?;
        }
    }
    let units = match scale {
        _ if units == 0 => 0,
        0.. => units.checked_mul(10_i128.checked_pow(scale.unsigned_abs())?)?,
        // A divisor that does not fit is far larger than the number: nothing is left of it.
        _ => match 10_i128.checked_pow(scale.unsigned_abs()) {
            Some(divisor) => (units + divisor / 2) / divisor,
            None => 0,
        },
    };
    (units < EXACT_MAX).then_some(if negative { -units } else { units })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(a: &str, b: &str, expect: &str) {
        let sum = Decimal::parse(a.as_bytes()).unwrap().plus(Decimal::parse(b.as_bytes()).unwrap()).unwrap();
        assert_eq!(sum.to_text(), expect, "{a} + {b}");
    }

    #[test]
    fn sums_are_printed_as_in_redis() {
        check("10.50", "0.1", "10.6");
        check("5.0e3", "2.0e2", "5200");
        check("0.1", "0.2", "0.3");
        check("3", "-5", "-2");
        check("0", "-0", "0");
        check("1.5", "-1.5", "0");
        check("-0.25", "0", "-0.25");
        check("1.", "+.5e1", "6");
        check("1e-17", "0", "0.00000000000000001");
        check("1e-18", "0", "0");
        check("1e-300", "1e-30", "0");
        check("0.000000000000000005", "0", "0.00000000000000001");
        check("0e999", "1", "1");
        check("99999999999999999999", "0", "99999999999999999999");
        check("1e20", "0", "100000000000000000000");
        check("00000000000000000000000000000000000000000000000012", "1", "13");
        check("0.3333333333333333333333333333333333333333333333333333333", "0", "0.33333333333333333");
        check("12345678901234567890123456789012345678901234567890e-45", "0", "12345.67890123456789012");
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in ["", ".", "e5", "1e", " 1", "1 ", "1x", "nan", "NaN", "-", "0x10", "1e5.5", "1\0", "1e400"] {
            assert_eq!(Decimal::parse(text.as_bytes()), None, "{text:?}");
        }
        let infinite = Decimal::parse(b"inf").unwrap();
        assert_eq!(infinite.plus(Decimal::Exact(0)), None);
        assert_eq!(Decimal::Double(1e308).plus(Decimal::Double(1e308)), None);
    }
}
