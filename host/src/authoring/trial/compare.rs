//! Tells whether two lists of rows are the same, and where they differ.

use std::fmt;

use arrow::array::RecordBatch;
use serde_json::Value;

use crate::json_lines::write_lines;

/// How far sums of floating-point numbers may be apart that were added up in another order, relative to their size.
const TOLERANCE: f64 = 1e-9;

/// Differing lines that are shown.
const SHOWN_MAX: usize = 5;

/// A row as an object of JSON, nulls left out.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Line(pub(crate) Value);

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Line {
    /// The row that a line of a file says.
    pub(crate) fn parse(line: &str) -> Result<Self, String> {
        match serde_json::from_str::<Value>(line) {
            Ok(Value::Object(mut object)) => {
                object.retain(|_, value| !value.is_null());
                Ok(Self(Value::Object(object)))
            }
            Ok(_) => Err("it is no object".into()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Whether it says the same as another; numbers that are not whole may be apart by what rounding does.
    fn is_like(&self, other: &Self) -> bool {
        is_like(&self.0, &other.0)
    }

    /// What rows are put in order by: alike rows stand at the same places.
    fn order(&self) -> String {
        rounded(&self.0).to_string()
    }
}

fn is_like(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) if a.is_f64() || b.is_f64() => match (a.as_f64(), b.as_f64()) {
            (Some(a), Some(b)) => a == b || (a - b).abs() <= TOLERANCE * a.abs().max(b.abs()),
            _ => false,
        },
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_like(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            // Within a struct a null may be written or left out.
            let is_in = |a: &serde_json::Map<String, Value>, b: &serde_json::Map<String, Value>| {
                a.iter().all(|(key, value)| is_like(value, b.get(key).unwrap_or(&Value::Null)))
            };
            is_in(a, b) && is_in(b, a)
        }
        _ => a == b,
    }
}

fn rounded(value: &Value) -> Value {
    match value {
        Value::Number(number) if number.is_f64() => format!("{:.6e}", number.as_f64().unwrap_or(0.0)).into(),
        Value::Number(number) => format!("{:.6e}", number.as_f64().unwrap_or(0.0)).into(),
        Value::Array(items) => items.iter().map(rounded).collect(),
        Value::Object(object) => object.iter().map(|(key, value)| (key.clone(), rounded(value))).collect(),
        other => other.clone(),
    }
}

/// The rows of some batches as objects.
pub(crate) fn lines_of<'a>(batches: impl IntoIterator<Item = &'a RecordBatch>) -> Vec<Line> {
    let mut lines = Vec::new();
    for rows in batches {
        let mut text = Vec::new();
        // What has no form in JSON (a map with keys that are no text) is written as such.
        if let Err(error) = write_lines(rows, &mut text) {
            lines.extend((0..rows.num_rows()).map(|_| Line(Value::String(error.to_string()))));
            continue;
        }
        let text = String::from_utf8_lossy(&text);
        let parsed = text.lines().map(|line| Line::parse(line).unwrap_or_else(|_| Line(Value::String(line.into()))));
        lines.extend(parsed);
    }
    lines
}

/// Where two lists of rows differ, as `-` what was expected and `+` what was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Difference(pub(crate) String);

/// Compares two lists of rows. Where their order has no meaning, `is_ordered` is false.
pub(crate) fn compare(expected: &[Line], found: &[Line], is_ordered: bool) -> Result<(), Difference> {
    let in_order = |lines: &[Line]| {
        let mut lines = lines.to_vec();
        if !is_ordered {
            lines.sort_by_cached_key(Line::order);
        }
        lines
    };
    let (expected, found) = (in_order(expected), in_order(found));
    if expected.len() == found.len() && expected.iter().zip(&found).all(|(a, b)| a.is_like(b)) {
        return Ok(());
    }
    // Lines that have no like on the other side, each taken once.
    let mut rest: Vec<Option<&Line>> = found.iter().map(Some).collect();
    let mut missing = Vec::new();
    for (index, line) in expected.iter().enumerate() {
        let same_place = rest.get(index).is_some_and(|other| other.is_some_and(|other| other.is_like(line)));
        let place = if same_place {
            Some(index)
        } else if is_ordered {
            None
        } else {
            rest.iter().position(|other| other.is_some_and(|other| other.is_like(line)))
        };
        match place {
            Some(place) => rest[place] = None,
            None => missing.push((index, line)),
        }
    }
    let more: Vec<_> = rest.into_iter().enumerate().filter_map(|(index, line)| Some((index, line?))).collect();
    let place = |index: usize| if is_ordered { format!("row {index}: ") } else { String::new() };
    let mut text = match expected.len() == found.len() {
        true => format!("{} of {} rows differ", missing.len().max(more.len()), found.len()),
        false => format!("{} rows are expected, and {} came", expected.len(), found.len()),
    };
    let show = |sign: char, lines: &[(usize, &Line)], text: &mut String| {
        for (index, line) in lines.iter().take(SHOWN_MAX) {
            *text += &format!("\n{sign} {}{line}", place(*index));
        }
        if lines.len() > SHOWN_MAX {
            *text += &format!("\n{sign} … and {} more", lines.len() - SHOWN_MAX);
        }
    };
    show('-', &missing, &mut text);
    show('+', &more, &mut text);
    Err(Difference(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(expected: &[&str], found: &[&str], is_ordered: bool, difference: Option<&str>) {
        let lines = |lines: &[&str]| lines.iter().map(|line| Line::parse(line).expect("an object")).collect::<Vec<_>>();
        let compared = compare(&lines(expected), &lines(found), is_ordered);
        assert_eq!(compared.err().map(|difference| difference.0).as_deref(), difference);
    }

    #[test]
    fn rows_differ_by_what_they_say() {
        let (a, b) = (r#"{"a":1}"#, r#"{"a":2}"#);
        check(&[a, b], &[a, b], true, None);
        check(&[a, b], &[b, a], false, None);
        check(
            &[a, b],
            &[b, a],
            true,
            Some("2 of 2 rows differ\n- row 0: {\"a\":1}\n- row 1: {\"a\":2}\n+ row 0: {\"a\":2}\n+ row 1: {\"a\":1}"),
        );
        check(&[a], &[a, b], false, Some("1 rows are expected, and 2 came\n+ {\"a\":2}"));
        check(&[r#"{"a":1,"b":null}"#], &[a], true, None);
        check(&[r#"{"a":0.1}"#], &[r#"{"a":0.10000000000000002}"#], false, None);
        check(
            &[r#"{"a":0.1}"#],
            &[r#"{"a":0.1001}"#],
            false,
            Some("1 of 1 rows differ\n- {\"a\":0.1}\n+ {\"a\":0.1001}"),
        );
        check(&[r#"{"a":2.0}"#], &[r#"{"a":2}"#], true, None);
        check(
            &[r#"{"a":9007199254740993}"#],
            &[r#"{"a":9007199254740992}"#],
            true,
            Some("1 of 1 rows differ\n- row 0: {\"a\":9007199254740993}\n+ row 0: {\"a\":9007199254740992}"),
        );
        check(&[r#"{"s":{"x":null,"y":[1,{"z":2}]}}"#], &[r#"{"s":{"y":[1,{"z":2.0}]}}"#], true, None);
    }
}
