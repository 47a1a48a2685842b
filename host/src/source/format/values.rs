//! Looks at the values of a line of JSON beside the types that they should have: what the decoder would make something
//! else of without a word, and what it does not make texts of.
//!
//! | value | for | the decoder | here |
//! | --- | --- | --- | --- |
//! | `1.5`, `1e40` | whole numbers, times | cuts it, or takes the largest | a mistake |
//! | `1e400` | floats | infinity | a mistake |
//! | `"abc"` | `binary` | two bytes | a mistake |
//! | `{…}`, `[…]` | `utf8` | an error | its text |

use std::borrow::Cow;
use std::ops::Range;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Fields, Float32Type, Float64Type, TimestampMicrosecondType};
use memchr::{memchr, memchr2_iter};

use crate::plan::describe_type;

/// The largest whole number of any column is below this.
const TOO_LARGE: f64 = 18_446_744_073_709_551_616.0;

/// The largest time is below this.
const TOO_LATE: f64 = 9_223_372_036_854_775_808.0;

/// What a schema has that must be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kinds {
    /// Columns of whole numbers, which the decoder makes of any number.
    pub(super) whole: bool,
    /// Columns of bytes.
    pub(super) binary: bool,
    /// Columns of texts.
    pub(super) text: bool,
}

impl Kinds {
    pub(super) fn of(fields: &Fields) -> Self {
        let has = |is_so: fn(&DataType) -> bool| fields.iter().any(|field| has(field.data_type(), is_so));
        Self {
            whole: has(is_whole),
            binary: has(|data_type| *data_type == DataType::Binary),
            text: has(|data_type| *data_type == DataType::Utf8),
        }
    }
}

/// Whether a type is so, or one of a value within it.
fn has(data_type: &DataType, is_so: fn(&DataType) -> bool) -> bool {
    match data_type {
        DataType::List(item) => has(item.data_type(), is_so),
        // The keys of maps are texts in JSON too.
        DataType::Map(..) => map_value(data_type).is_some_and(|value| has(value, is_so)),
        DataType::Struct(fields) => fields.iter().any(|field| has(field.data_type(), is_so)),
        simple => is_so(simple),
    }
}

fn is_whole(data_type: &DataType) -> bool {
    use DataType::{Date32, Duration, Timestamp};
    data_type.is_integer() || matches!(data_type, Date32 | Timestamp(..) | Duration(_))
}

fn map_value(data_type: &DataType) -> Option<&DataType> {
    let DataType::Map(entries, _) = data_type else { return None };
    match entries.data_type() {
        DataType::Struct(fields) if fields.len() == 2 => Some(fields[1].data_type()),
        _ => None,
    }
}

/// Whether a line may have a number with a fraction. Few lines pass: whoever has only whole numbers, and texts without
/// stops, is not read twice.
pub(super) fn may_have_fraction(line: &[u8]) -> bool {
    memchr(b'.', line).is_some()
        || memchr2_iter(b'e', b'E', line).any(|index| index > 0 && line[index - 1].is_ascii_digit())
}

/// Whether rows have a value that the decoder also gives for a number that does not fit: an infinity, or the first or
/// last of all times.
pub(super) fn may_not_have_fitted(rows: &RecordBatch) -> bool {
    rows.columns().iter().any(|column| has_extreme(column))
}

fn has_extreme(array: &dyn Array) -> bool {
    match array.data_type() {
        DataType::Float32 => array.as_primitive::<Float32Type>().values().iter().any(|value| value.is_infinite()),
        DataType::Float64 => array.as_primitive::<Float64Type>().values().iter().any(|value| value.is_infinite()),
        DataType::Timestamp(..) => {
            let times = array.as_primitive_opt::<TimestampMicrosecondType>();
            times.is_some_and(|times| times.values().iter().any(|time| matches!(*time, i64::MIN | i64::MAX)))
        }
        DataType::List(_) => has_extreme(array.as_list::<i32>().values()),
        DataType::Map(..) => has_extreme(array.as_map().values()),
        DataType::Struct(_) => array.as_struct().columns().iter().any(|column| has_extreme(column)),
        _ => false,
    }
}

/// What is wrong with the first value of a line that the decoder would make something else of; `None` also for a line
/// that is no JSON, which the decoder says better.
pub(super) fn find_mistake(line: &[u8], fields: &Fields) -> Option<String> {
    let mut found = None;
    let mut walk = Walk {
        line,
        at: 0,
        visit: |name: &str, data_type: &DataType, value: Range<usize>| {
            found = mistake(name, data_type, std::str::from_utf8(&line[value]).ok()?);
            found.is_none().then_some(())
        },
    };
    let _ = walk.object(Members::Fields(fields));
    found
}

/// The line with the texts of objects and lists where texts are wanted; `None` where there are none.
pub(super) fn with_texts(line: &[u8], fields: &Fields) -> Option<Vec<u8>> {
    let mut places = Vec::new();
    let mut walk = Walk {
        line,
        at: 0,
        visit: |_: &str, data_type: &DataType, value: Range<usize>| {
            if *data_type == DataType::Utf8 && matches!(line[value.start], b'{' | b'[') {
                places.push(value);
            }
            Some(())
        },
    };
    walk.object(Members::Fields(fields))?;
    if places.is_empty() {
        return None;
    }
    let mut written = Vec::with_capacity(line.len() + 16 * places.len());
    let mut start = 0;
    for place in places {
        written.extend_from_slice(&line[start..place.start]);
        let text = compact(&line[place.clone()]);
        serde_json::to_writer(&mut written, std::str::from_utf8(&text).ok()?).ok()?;
        start = place.end;
    }
    written.extend_from_slice(&line[start..]);
    Some(written)
}

/// A value without the space around its parts.
fn compact(value: &[u8]) -> Vec<u8> {
    let (mut is_in_text, mut is_escaped) = (false, false);
    let mut stays = |byte: &u8| {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_in_text => is_escaped = true,
            b'"' => is_in_text = !is_in_text,
            _ => {}
        }
        is_in_text || !byte.is_ascii_whitespace()
    };
    value.iter().copied().filter(|byte| stays(byte)).collect()
}

/// What is wrong with a value, given as it is written.
fn mistake(name: &str, data_type: &DataType, value: &str) -> Option<String> {
    let text = value.strip_prefix('"').map(|text| text.strip_suffix('"').unwrap_or(text));
    let is_number = value.starts_with(|first: char| first == '-' || first.is_ascii_digit());
    let does_not_fit = || Some(format!("`{name}` has {value}, which does not fit {}", describe_type(data_type)));
    match (data_type, text) {
        (DataType::Binary, Some(text)) => {
            let is_right = text.len().is_multiple_of(2) && text.bytes().all(|digit| digit.is_ascii_hexdigit());
            (!is_right).then(|| format!("`{name}` must be hexadecimal, two digits a byte, and {value} is not"))
        }
        (DataType::Float32 | DataType::Float64, text) => {
            let number = text.unwrap_or(value);
            let is_infinite = match data_type {
                DataType::Float32 => number.parse().is_ok_and(f32::is_infinite),
                _ => number.parse().is_ok_and(f64::is_infinite),
            };
            // The texts for infinity itself have no digits.
            if is_infinite && number.contains(|digit: char| digit.is_ascii_digit()) { does_not_fit() } else { None }
        }
        (whole, None) if is_number && is_whole(whole) => {
            let is_time = !whole.is_integer();
            if let Ok(number) = value.parse::<i128>() {
                // What does not fit a whole number, the decoder says.
                return if is_time && i64::try_from(number).is_err() { does_not_fit() } else { None };
            }
            let number: f64 = value.parse().ok()?;
            if number.is_finite() && number.fract() != 0.0 {
                return Some(format!("`{name}` must be a whole number, and {value} is not"));
            }
            let too_large = if is_time { TOO_LATE } else { TOO_LARGE };
            if number.abs() >= too_large { does_not_fit() } else { None }
        }
        _ => None,
    }
}

/// The types of the members of an object.
#[derive(Clone, Copy)]
enum Members<'a> {
    Fields(&'a Fields),
    /// All have this type.
    All(&'a DataType),
    /// Nobody reads them.
    Other,
}

/// Walks a line and the types that its values should have together. What is no JSON ends the walk.
///
/// Its depth is bounded before: see `is_too_deep`.
struct Walk<'a, F> {
    line: &'a [u8],
    at: usize,
    /// Is given the values that are read as one, each with the name of the innermost member that it belongs to; `None`
    /// ends the walk.
    visit: F,
}

impl<'a, F: FnMut(&str, &DataType, Range<usize>) -> Option<()>> Walk<'a, F> {
    /// A value of a type, or one that nobody reads.
    fn value(&mut self, name: &str, data_type: Option<&DataType>) -> Option<()> {
        self.space();
        let start = self.at;
        match (self.line.get(start)?, data_type) {
            (b'{', Some(DataType::Struct(fields))) => return self.object(Members::Fields(fields)),
            (b'{', Some(map @ DataType::Map(..))) => {
                return self.object(map_value(map).map_or(Members::Other, Members::All));
            }
            (b'[', Some(DataType::List(item))) => return self.list(name, Some(item.data_type())),
            (b'{', _) => self.object(Members::Other)?,
            (b'[', _) => self.list(name, None)?,
            (b'"', _) => self.at = self.text()?.end,
            _ => {
                let is_end = |byte: &u8| matches!(byte, b',' | b'}' | b']' | b':' | b'"') || byte.is_ascii_whitespace();
                let rest = &self.line[start..];
                self.at += rest.iter().position(is_end).unwrap_or(rest.len());
                if self.at == start {
                    return None;
                }
            }
        }
        match data_type {
            Some(data_type) => (self.visit)(name, data_type, start..self.at),
            None => Some(()),
        }
    }

    fn object(&mut self, members: Members<'_>) -> Option<()> {
        self.expect(b'{')?;
        if self.take(b'}') {
            return Some(());
        }
        loop {
            self.space();
            let name = self.text()?;
            let name: Cow<'a, str> = match memchr(b'\\', &self.line[name.clone()]) {
                None => Cow::Borrowed(std::str::from_utf8(&self.line[name.start + 1..name.end - 1]).ok()?),
                Some(_) => Cow::Owned(serde_json::from_slice(&self.line[name]).ok()?),
            };
            self.expect(b':')?;
            let data_type = match members {
                Members::Fields(fields) => fields.find(&name).map(|(_, field)| field.data_type()),
                Members::All(data_type) => Some(data_type),
                Members::Other => None,
            };
            self.value(&name, data_type)?;
            if !self.take(b',') {
                return self.expect(b'}');
            }
        }
    }

    fn list(&mut self, name: &str, item: Option<&DataType>) -> Option<()> {
        self.expect(b'[')?;
        if self.take(b']') {
            return Some(());
        }
        loop {
            self.value(name, item)?;
            if !self.take(b',') {
                return self.expect(b']');
            }
        }
    }

    /// A text with its quotes.
    fn text(&mut self) -> Option<Range<usize>> {
        let start = self.at;
        if *self.line.get(start)? != b'"' {
            return None;
        }
        let mut next = start + 1;
        loop {
            next += memchr::memchr2(b'"', b'\\', self.line.get(next..)?)?;
            if self.line[next] == b'"' {
                self.at = next + 1;
                return Some(start..self.at);
            }
            next += 2;
        }
    }

    fn space(&mut self) {
        while self.line.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
    }

    fn take(&mut self, sign: u8) -> bool {
        self.space();
        let is_there = self.line.get(self.at) == Some(&sign);
        self.at += usize::from(is_there);
        is_there
    }

    fn expect(&mut self, sign: u8) -> Option<()> {
        self.take(sign).then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::schema::parse_schema;

    fn fields() -> Fields {
        let columns = [
            ("n", "int8"),
            ("x", "float64"),
            ("f", "float32"),
            ("t", "timestamp"),
            ("b", "binary"),
            ("s", "utf8"),
            ("l", "list<struct<a: uint64, b: utf8>>"),
            ("m", "map<utf8, int64>"),
        ];
        let columns = columns.map(|(name, text)| (name.to_owned(), text.to_owned()));
        parse_schema(&columns).expect("right types").fields().clone()
    }

    #[track_caller]
    fn check(line: &str, expected: Option<&str>) {
        assert_eq!(find_mistake(line.as_bytes(), &fields()).as_deref(), expected, "{line}");
    }

    #[test]
    fn fractions_are_found_where_numbers_must_be_whole() {
        check(r#"{"n": 1, "x": 1.5, "other": [1.5, {"n": 2.5}], "t": null}"#, None);
        check(r#"{"n": 1.0, "x": 1e-3}"#, None);
        check(r#"{"n": 1e2}"#, None);
        check(r#"{"n": "1.5"}"#, None);
        check(r#"{"n": 1.5}"#, Some("`n` must be a whole number, and 1.5 is not"));
        check(r#"{"x": 0.1, "n": -1e-2}"#, Some("`n` must be a whole number, and -1e-2 is not"));
        check(r#"{"\u006e": 1.5}"#, Some("`n` must be a whole number, and 1.5 is not"));
        check(r#"{"t": 1.25}"#, Some("`t` must be a whole number, and 1.25 is not"));
        check(r#"{"l": [{"b": "1.5"}, {"a": 1.5}]}"#, Some("`a` must be a whole number, and 1.5 is not"));
        check(r#"{"m": {"k.": 1, "j": 0.5}}"#, Some("`j` must be a whole number, and 0.5 is not"));
        check(r#"{"n": 1.5"#, Some("`n` must be a whole number, and 1.5 is not"));
        check(r#"{"x": 1.5, "n" 1.5}"#, None);
        check(r#"{"s": "a\"n\": 1.5", "n": 1}"#, None);
        check("{\"s\": \"a\\", None);
    }

    #[test]
    fn what_does_not_fit_is_found() {
        check(r#"{"t": 1e40}"#, Some("`t` has 1e40, which does not fit timestamp"));
        check(r#"{"t": 9223372036854775808}"#, Some("`t` has 9223372036854775808, which does not fit timestamp"));
        check(r#"{"t": 9223372036854775807}"#, None);
        check(r#"{"n": 1e400}"#, Some("`n` has 1e400, which does not fit int8"));
        check(r#"{"x": -1e400}"#, Some("`x` has -1e400, which does not fit float64"));
        check(r#"{"x": "1e400"}"#, Some("`x` has \"1e400\", which does not fit float64"));
        check(r#"{"x": 1e39, "f": 1e39}"#, Some("`f` has 1e39, which does not fit float32"));
        check(r#"{"x": "inf", "f": "-Infinity"}"#, None);
    }

    #[test]
    fn bytes_have_two_digits_each() {
        check(r#"{"b": "00fF"}"#, None);
        check(r#"{"b": ""}"#, None);
        check(r#"{"b": null}"#, None);
        check(r#"{"b": "abc"}"#, Some("`b` must be hexadecimal, two digits a byte, and \"abc\" is not"));
        check(r#"{"b": "xy"}"#, Some("`b` must be hexadecimal, two digits a byte, and \"xy\" is not"));
    }

    #[track_caller]
    fn check_texts(line: &str, expected: Option<&str>) {
        let written = with_texts(line.as_bytes(), &fields());
        assert_eq!(written.as_deref().map(String::from_utf8_lossy).as_deref(), expected, "{line}");
    }

    #[test]
    fn objects_and_lists_become_texts_where_texts_are_wanted() {
        check_texts(r#"{"s": "a", "other": {"s": [1]}, "n": 1}"#, None);
        check_texts(r#"{"s": 1.50}"#, None);
        check_texts(
            r#"{"s": {"a" : [1.50, "b \" {"] }, "n": 1}"#,
            Some(r#"{"s": "{\"a\":[1.50,\"b \\\" {\"]}", "n": 1}"#),
        );
        check_texts(r#"{"l": [{"b": [ ]}, {"b": 1}]}"#, Some(r#"{"l": [{"b": "[]"}, {"b": 1}]}"#));
        check_texts(r#"{"s": [1"#, None);
    }
}
