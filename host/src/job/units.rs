//! Durations and sizes: text with a unit.

use std::time::Duration;

/// The units of durations, the longest first.
const TIME_UNITS: [(&str, u128); 6] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
];

/// The units of sizes.
const SIZE_UNITS: [(&str, u128); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

/// The longest duration: a century, so that sums of durations and times do not overflow.
pub const DURATION_MAX: Duration = Duration::from_secs(100 * 366 * 86_400);

/// Reads a duration: `10ms`, `1.5s`, `1h30m`; `0` needs no unit.
///
/// # Errors
///
/// What is wrong, as in "`5 apples` is not a duration".
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tidemill::job::units::parse_duration;
///
/// assert_eq!(parse_duration("1h30m"), Ok(Duration::from_secs(5400)));
/// assert!(parse_duration("5").is_err());
/// ```
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a duration");
    let mut rest = text.trim();
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    let mut nanos: u128 = 0;
    let mut units = &TIME_UNITS[..];
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let (number, after) = split_number(rest).ok_or_else(wrong)?;
        let n_letters = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(n_letters);
        // Each unit is shorter than the one before it: `1h30m`, not `30m1h`.
        let index = units.iter().position(|(name, _)| *name == unit).ok_or_else(wrong)?;
        nanos = number.times(units[index].1).and_then(|part| nanos.checked_add(part)).ok_or_else(wrong)?;
        units = &units[index + 1..];
        rest = after;
    }
    if nanos > DURATION_MAX.as_nanos() {
        return Err(format!("`{text}` is longer than a century"));
    }
    // A century in nanoseconds fits into 62 bits.
    Ok(Duration::from_nanos(u64::try_from(nanos).map_err(|_| wrong())?))
}

/// Reads a size in bytes: `64MiB`, `1.5GB`, `4096B`; `0` needs no unit.
///
/// # Errors
///
/// What is wrong, as in "`64 M` is not a size".
///
/// # Examples
///
/// ```
/// use tidemill::job::units::parse_size;
///
/// assert_eq!(parse_size("64MiB"), Ok(64 << 20));
/// assert_eq!(parse_size("10MB"), Ok(10_000_000));
/// ```
pub fn parse_size(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is not a size");
    if text.trim() == "0" {
        return Ok(0);
    }
    let (number, unit) = split_number(text.trim()).ok_or_else(wrong)?;
    let unit = unit.trim_start();
    let (_, bytes) = SIZE_UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)).ok_or_else(wrong)?;
    let bytes = number.times(*bytes).ok_or_else(wrong)?;
    // Sizes are also held as signed numbers by what stands below.
    if bytes > i64::MAX as u128 {
        return Err(format!("`{text}` is more than any machine has"));
    }
    u64::try_from(bytes).map_err(|_| wrong())
}

/// A size as people write it: the largest unit that keeps it whole, as in `64MiB`.
#[must_use]
pub fn format_size(bytes: u64) -> String {
    let unit = SIZE_UNITS[..4].iter().find(|(_, size)| bytes > 0 && u128::from(bytes) % size == 0);
    match unit {
        Some((name, size)) => format!("{}{name}", u128::from(bytes) / size),
        None => format!("{bytes}B"),
    }
}

/// A duration as people write it, as in `1h30m`; to the microsecond.
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    let mut rest = duration.as_nanos();
    let mut text = String::new();
    for (name, nanos) in TIME_UNITS {
        let n = rest / nanos;
        rest %= nanos;
        if n > 0 {
            text.push_str(&format!("{n}{name}"));
        }
    }
    if text.is_empty() { "0".into() } else { text }
}

/// A decimal number, kept exactly.
struct Decimal {
    /// All its digits.
    digits: u128,
    /// Ten to the number of digits after the point.
    scale: u128,
}

impl Decimal {
    /// The number times `unit`, rounded down; `None` when it is too large.
    fn times(&self, unit: u128) -> Option<u128> {
        Some(self.digits.checked_mul(unit)? / self.scale)
    }
}

/// The number that `text` starts with, and what follows it.
fn split_number(text: &str) -> Option<(Decimal, &str)> {
    /// More digits than these are not a number that anyone means; they fit, times any unit, into 128 bits.
    const DIGITS_MAX: usize = 20;
    let n_bytes = text.find(|c: char| !c.is_ascii_digit() && c != '.' && c != '_').unwrap_or(text.len());
    let (number, rest) = text.split_at(n_bytes);
    let number = number.replace('_', "");
    let (whole, fraction) = number.split_once('.').unwrap_or((&number, ""));
    if whole.is_empty() || number.ends_with('.') || fraction.contains('.') || whole.len() + fraction.len() > DIGITS_MAX
    {
        return None;
    }
    let digits = format!("{whole}{fraction}").parse().ok()?;
    Some((Decimal { digits, scale: 10u128.pow(u32::try_from(fraction.len()).ok()?) }, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check_duration(text: &str, expected_us: Option<u64>) {
        assert_eq!(parse_duration(text).ok(), expected_us.map(Duration::from_micros), "{text}");
    }

    #[test]
    fn durations_have_units() {
        check_duration("0", Some(0));
        check_duration("0s", Some(0));
        check_duration("10ms", Some(10_000));
        check_duration("1s", Some(1_000_000));
        check_duration("1.5s", Some(1_500_000));
        check_duration("2m", Some(120_000_000));
        check_duration("1h30m", Some(5_400_000_000));
        check_duration("1d", Some(86_400_000_000));
        check_duration("250us", Some(250));
        check_duration(" 1s ", Some(1_000_000));
        for wrong in ["", "5", "s", "1 s", "30m1h", "1s1s", "1.s", ".5s", "1..5s", "-1s", "1x", "1S", "99999999d", "١s"]
        {
            check_duration(wrong, None);
        }
    }

    #[track_caller]
    fn check_size(text: &str, expected: Option<u64>) {
        assert_eq!(parse_size(text).ok(), expected, "{text}");
    }

    #[test]
    fn sizes_have_units() {
        check_size("0", Some(0));
        check_size("4096B", Some(4096));
        check_size("512KiB", Some(512 << 10));
        check_size("64MiB", Some(64 << 20));
        check_size("64 MiB", Some(64 << 20));
        check_size("64mib", Some(64 << 20));
        check_size("10MB", Some(10_000_000));
        check_size("1kB", Some(1000));
        check_size("1.5GiB", Some(3 << 29));
        check_size("1_000B", Some(1000));
        for wrong in ["", "64", "MiB", "64M", "64Mi", "-1B", "1 2B", "999999999TiB", "99999999999999999999B"] {
            check_size(wrong, None);
        }
    }

    proptest! {
        #[test]
        fn a_size_that_is_shown_reads_back(bytes in 0..=i64::MAX as u64) {
            prop_assert_eq!(parse_size(&format_size(bytes)), Ok(bytes));
        }

        #[test]
        fn a_duration_that_is_shown_reads_back(us in 0..3_000_000_000_000_000u64) {
            let duration = Duration::from_micros(us);
            prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
        }

        #[test]
        fn no_text_makes_it_panic(text in "[0-9.a-zA-Z_ ]{0,24}|.{0,12}") {
            let _ = parse_duration(&text);
            let _ = parse_size(&text);
        }
    }
}
