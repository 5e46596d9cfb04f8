//! Durations and sizes as people write them: a number and a unit, `"250ms"`, `"2GiB"`.
//!
//! Reading and writing are inverse: what [`duration_text`] and [`size_text`] print, [`duration`] and [`size`] read
//! back to the same value, so that a normalized configuration is a fixed point.

use std::time::Duration;

/// Units of time, largest first, in nanoseconds.
const TIME_UNITS: [(&str, u64); 7] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// Units of size, largest first, in bytes. Binary ones only: `2GB` would mean different things to different readers.
const SIZE_UNITS: [(&str, u64); 5] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// Reads a duration such as `"50ms"`, `"1.5s"` or `"24h"`; `None` for anything else, a bare number included.
#[must_use]
pub fn duration(text: &str) -> Option<Duration> {
    measure(text, &TIME_UNITS).map(Duration::from_nanos)
}

/// Reads a size in bytes such as `"64MiB"` or `"512B"`; `None` for anything else, a bare number included.
#[must_use]
pub fn size(text: &str) -> Option<u64> {
    measure(text, &SIZE_UNITS)
}

/// Writes a duration in the largest unit that divides it; at most 584 years are told apart.
#[must_use]
pub fn duration_text(length: Duration) -> String {
    largest(u64::try_from(length.as_nanos()).unwrap_or(u64::MAX), &TIME_UNITS, "0s")
}

/// Writes a size in the largest unit that divides it.
#[must_use]
pub fn size_text(bytes: u64) -> String {
    largest(bytes, &SIZE_UNITS, "0B")
}

fn measure(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = text.split_at(split);
    let (_, scale) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || number.ends_with('.') || fraction.len() > 9 {
        return None;
    }
    let mut total = whole.parse::<u64>().ok()?.checked_mul(*scale)?;
    if !fraction.is_empty() {
        let parts = u128::from(fraction.parse::<u64>().ok()?) * u128::from(*scale);
        let divisor = 10u128.pow(u32::try_from(fraction.len()).ok()?);
        if !parts.is_multiple_of(divisor) {
            return None;
        }
        total = total.checked_add(u64::try_from(parts / divisor).ok()?)?;
    }
    Some(total)
}

fn largest(value: u64, units: &[(&str, u64)], zero: &str) -> String {
    let fits = units.iter().find(|(_, scale)| value > 0 && value.is_multiple_of(*scale));
    fits.map_or_else(|| zero.to_owned(), |(name, scale)| format!("{}{name}", value / scale))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_a_number_and_a_unit() {
        for (text, nanos) in
            [("50ms", 50_000_000), ("1.5s", 1_500_000_000), ("0s", 0), ("24h", 86_400_000_000_000), ("3 us", 3_000)]
        {
            assert_eq!(duration(text), Some(Duration::from_nanos(nanos)), "{text}");
        }
        for bad in ["", "50", "ms", "-1s", "1.s", ".5s", "1,5s", "1y", "99999999999999d", "1.0000000001s", "1s2"] {
            assert_eq!(duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn sizes_are_binary() {
        assert_eq!(size("2GiB"), Some(2 << 30));
        assert_eq!(size("1.5KiB"), Some(1536));
        for bad in ["2GB", "2G", "1.0001B", "17179869184GiB"] {
            assert_eq!(size(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_is_written_reads_back_the_same() {
        for nanos in [0, 1, 999, 1_000, 90_000_000_000, 86_400_000_000_000, 1_500_000_000, u64::MAX] {
            let length = Duration::from_nanos(nanos);
            assert_eq!(duration(&duration_text(length)), Some(length));
            assert_eq!(size(&size_text(nanos)), Some(nanos));
        }
        assert_eq!(duration_text(Duration::from_millis(1500)), "1500ms");
        assert_eq!(size_text(64 << 20), "64MiB");
    }
}
