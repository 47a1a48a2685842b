//! Finds numbers with a fraction where a column takes whole ones: the decoder of JSON would cut them without a word.

use std::cell::RefCell;
use std::fmt;

use arrow::datatypes::{DataType, Fields};
use memchr::{memchr, memchr2_iter};
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// The largest whole number of any column is below this.
const TOO_LARGE: f64 = 18_446_744_073_709_551_616.0;

/// Whether a value of this type is a whole number, or has some.
pub(super) fn has_whole_numbers(data_type: &DataType) -> bool {
    match data_type {
        DataType::List(item) | DataType::Map(item, _) => has_whole_numbers(item.data_type()),
        DataType::Struct(fields) => fields.iter().any(|field| has_whole_numbers(field.data_type())),
        simple => is_whole(simple),
    }
}

fn is_whole(data_type: &DataType) -> bool {
    use DataType::{Date32, Duration, Timestamp};
    data_type.is_integer() || matches!(data_type, Date32 | Timestamp(..) | Duration(_))
}

/// What is wrong with the first number of a line that has a fraction where it must be whole; `None` also for a line that
/// is no JSON, which the decoder says better.
pub(super) fn find_fraction(line: &[u8], fields: &Fields) -> Option<String> {
    if !may_have_fraction(line) {
        return None;
    }
    let found = RefCell::new(None);
    let check = Check { name: "", data_type: Expected::Struct(fields), found: &found };
    // Whatever else is wrong with the line is not for here.
    let _ = check.deserialize(&mut serde_json::Deserializer::from_slice(line));
    found.into_inner()
}

/// Few lines pass: whoever has only whole numbers, and texts without stops, is not read twice.
fn may_have_fraction(line: &[u8]) -> bool {
    memchr(b'.', line).is_some()
        || memchr2_iter(b'e', b'E', line).any(|index| index > 0 && line[index - 1].is_ascii_digit())
}

/// What a value should be.
#[derive(Clone, Copy)]
enum Expected<'a> {
    Struct(&'a Fields),
    List(&'a DataType),
    Map(&'a DataType),
    Whole,
    Other,
}

impl<'a> Expected<'a> {
    fn of(data_type: &'a DataType) -> Self {
        match data_type {
            DataType::Struct(fields) => Self::Struct(fields),
            DataType::List(item) => Self::List(item.data_type()),
            DataType::Map(entries, _) => match entries.data_type() {
                DataType::Struct(fields) if fields.len() == 2 => Self::Map(fields[1].data_type()),
                _ => Self::Other,
            },
            simple if is_whole(simple) => Self::Whole,
            _ => Self::Other,
        }
    }
}

/// Walks a value and the type that it should have together.
#[derive(Clone, Copy)]
struct Check<'a> {
    /// The innermost member that the value belongs to.
    name: &'a str,
    data_type: Expected<'a>,
    /// A cell, because the walk has no other way back.
    found: &'a RefCell<Option<String>>,
}

impl<'de> DeserializeSeed<'de> for Check<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match self.data_type {
            Expected::Other => deserializer.deserialize_ignored_any(IgnoredAny).map(|_| ()),
            _ => deserializer.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for Check<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<(), E> {
        if matches!(self.data_type, Expected::Whole) && (number.fract() != 0.0 || number.abs() >= TOO_LARGE) {
            *self.found.borrow_mut() = Some(format!("`{}` must be a whole number, and {number} is not", self.name));
            return Err(E::custom("found"));
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let data_type = if let Expected::List(item) = self.data_type { Expected::of(item) } else { Expected::Other };
        while items.next_element_seed(Check { data_type, ..self })?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        while let Some(name) = members.next_key::<String>()? {
            let data_type = match self.data_type {
                Expected::Struct(fields) => match fields.find(&name) {
                    Some((_, field)) => Expected::of(field.data_type()),
                    None => Expected::Other,
                },
                Expected::Map(value) => Expected::of(value),
                _ => Expected::Other,
            };
            members.next_value_seed(Check { name: &name, data_type, found: self.found })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::schema::parse_schema;

    #[track_caller]
    fn check(line: &str, expected: Option<&str>) {
        let columns = [
            ("n", "int8"),
            ("x", "float64"),
            ("t", "timestamp"),
            ("l", "list<struct<a: uint64, b: utf8>>"),
            ("m", "map<utf8, int64>"),
        ];
        let columns = columns.map(|(name, text)| (name.to_owned(), text.to_owned()));
        let schema = parse_schema(&columns).expect("right types");
        assert_eq!(find_fraction(line.as_bytes(), schema.fields()).as_deref(), expected, "{line}");
    }

    #[test]
    fn fractions_are_found_where_numbers_must_be_whole() {
        check(r#"{"n": 1, "x": 1.5, "other": [1.5, {"n": 2.5}], "t": null}"#, None);
        check(r#"{"n": 1.0, "x": 1e-3}"#, None);
        check(r#"{"n": 1e2}"#, None);
        check(r#"{"n": "1.5"}"#, None);
        check(r#"{"n": 1.5}"#, Some("`n` must be a whole number, and 1.5 is not"));
        check(r#"{"x": 0.1, "n": -1e-2}"#, Some("`n` must be a whole number, and -0.01 is not"));
        check(r#"{"\u006e": 1.5}"#, Some("`n` must be a whole number, and 1.5 is not"));
        check(r#"{"t": 1.25}"#, Some("`t` must be a whole number, and 1.25 is not"));
        check(
            r#"{"t": 1e40}"#,
            Some("`t` must be a whole number, and 10000000000000000000000000000000000000000 is not"),
        );
        check(r#"{"l": [{"b": "1.5"}, {"a": 1.5}]}"#, Some("`a` must be a whole number, and 1.5 is not"));
        check(r#"{"m": {"k.": 1, "j": 0.5}}"#, Some("`j` must be a whole number, and 0.5 is not"));
        check(r#"{"n": 1.5"#, Some("`n` must be a whole number, and 1.5 is not"));
        check(r#"{"x": 1.5, "n" 1.5}"#, None);
    }
}
