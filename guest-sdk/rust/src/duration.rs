//! Lengths of time in configurations, written as a job file writes them.

use std::str::FromStr;

use serde::de::{Deserialize, Deserializer, Error};

use crate::value::DurationUs;

/// The units in microseconds, the longest first.
const UNITS: [(&str, i64); 6] =
    [("d", 86_400_000_000), ("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000), ("ms", 1_000), ("us", 1)];

/// As in a job file: `"250ms"`, `"1.5s"`, `"1h30m"`; `"0"` needs no unit.
///
/// # Examples
///
/// ```
/// use tidemill_guest::DurationUs;
///
/// assert_eq!("1h30m".parse(), Ok(DurationUs(5_400_000_000)));
/// assert_eq!("5".parse::<DurationUs>(), Err("`5` is not a duration, as `30s` and `1h30m` are".to_owned()));
/// ```
impl FromStr for DurationUs {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parse(text.trim())
            .map(DurationUs)
            .ok_or_else(|| format!("`{text}` is not a duration, as `30s` and `1h30m` are"))
    }
}

impl<'de> Deserialize<'de> for DurationUs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

fn parse(text: &str) -> Option<i64> {
    if text == "0" {
        return Some(0);
    }
    let (mut rest, mut units, mut sum) = (text, &UNITS[..], 0_i64);
    while !rest.is_empty() || units.len() == UNITS.len() {
        let n_digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(n_digits);
        let n_letters = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(n_letters);
        // Each unit is shorter than the one before it.
        let index = units.iter().position(|(name, _)| *name == unit)?;
        sum = sum.checked_add(times(number, units[index].1)?)?;
        units = &units[index + 1..];
        rest = after;
    }
    Some(sum)
}

/// A number with decimals times a unit; what is less than a microsecond is left out.
fn times(number: &str, unit: i64) -> Option<i64> {
    let (whole, decimals) = number.split_once('.').unwrap_or((number, "0"));
    let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(whole) || !is_number(decimals) {
        return None;
    }
    let (mut sum, mut place) = (whole.parse::<i64>().ok()?.checked_mul(unit)?, unit);
    for digit in decimals.bytes() {
        place /= 10;
        sum = sum.checked_add(i64::from(digit - b'0') * place)?;
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<i64>) {
        assert_eq!(text.parse::<DurationUs>().ok(), expected.map(DurationUs), "{text}");
    }

    #[test]
    fn durations_have_units() {
        check("0", Some(0));
        check("0s", Some(0));
        check("10ms", Some(10_000));
        check("1.5s", Some(1_500_000));
        check("2m", Some(120_000_000));
        check("1h30m", Some(5_400_000_000));
        check("1d", Some(86_400_000_000));
        check("250us", Some(250));
        check("0.0000019s", Some(1));
        check(" 1s ", Some(1_000_000));
        for wrong in ["", "5", "s", "1 s", "30m1h", "1s1s", "1.s", ".5s", "1..5s", "-1s", "1x", "1S", "999999999999d"] {
            check(wrong, None);
        }
    }

    #[test]
    fn a_configuration_says_them_as_text() {
        assert_eq!(serde_json::from_str::<DurationUs>("\"2s\"").ok(), Some(DurationUs(2_000_000)));
        let error = serde_json::from_str::<DurationUs>("\"2\"").expect_err("it has no unit").to_string();
        assert!(error.starts_with("`2` is not a duration, as `30s` and `1h30m` are"), "{error}");
    }
}
