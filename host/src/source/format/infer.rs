//! Finds the schema of lines in the first of them.

use std::fmt;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::convert::guess;
use super::csv::named_twice;
use super::{BatchBounds, CsvOptions, LineFormat};
use crate::source::SourceCounters;
use crate::source::lines::LineOptions;
use crate::source::reject::BadRows;

/// Lines that are looked at, at most: enough for a field that is there once in a while.
pub(in crate::source) const LINES_MAX: usize = 1_000;

/// Bytes that are looked at, at most.
pub(in crate::source) const SAMPLE_BYTES_MAX: usize = 1 << 20;

/// The schema of records of CSV, whose columns are named by their header, or else `column_1`, `column_2`, …
///
/// # Errors
///
/// Why it cannot be told.
pub(in crate::source) fn infer_csv(
    sample: &[u8],
    options: &CsvOptions,
    lines: &LineOptions,
) -> Result<SchemaRef, String> {
    let sample = sample.strip_prefix(b"\xef\xbb\xbf").unwrap_or(sample);
    let first = options.first_fields(sample).ok_or("it has no record")?;
    let names: Vec<String> =
        (1..).zip(first).map(|(number, name)| if options.header { name } else { format!("column_{number}") }).collect();
    for (index, name) in names.iter().enumerate() {
        if let Some(first) = names[..index].iter().position(|earlier| earlier == name) {
            return Err(named_twice(name, first, index));
        }
    }
    let texts = names.iter().map(|name| Field::new(name, DataType::Utf8, true)).collect::<Vec<_>>();
    let texts = Arc::new(Schema::new(texts));
    let mut rows: Vec<RecordBatch> = Vec::new();
    let mut emit = |batch| {
        rows.push(batch);
        Ok(())
    };
    let format = LineFormat::Csv(Arc::clone(&texts), options.clone());
    let bounds = BatchBounds { rows_max: LINES_MAX, bytes_max: SAMPLE_BYTES_MAX };
    // What does not fit is none of the types that are found, and is rejected when it is read.
    let mut stream = format.stream("", lines, &BadRows::Drop, bounds, &Arc::new(SourceCounters::default()));
    let whole = first_lines(sample);
    stream.add(whole, &mut emit).and_then(|()| stream.finish(&mut emit)).map_err(|error| error.to_string())?;
    let rows = concat_batches(&texts, &rows).map_err(|error| error.to_string())?;
    let field = |(name, column): (&String, &arrow::array::ArrayRef)| {
        let data_type = guess(column.as_string::<i32>()).map_err(|error| error.to_string())?;
        Ok(Field::new(name, data_type, true))
    };
    let fields = names.iter().zip(rows.columns()).map(field).collect::<Result<Vec<_>, String>>()?;
    Ok(Arc::new(Schema::new(fields)))
}

/// The schema of lines of JSON: the members of all of them, in the order in which they first appear.
///
/// | values | type |
/// | --- | --- |
/// | whole numbers | `int64` |
/// | numbers | `float64` |
/// | true, false | `boolean` |
/// | texts, and values of several kinds, which are read as their text in JSON | `utf8` |
/// | lists | `list<…>` |
/// | objects | `struct<…>` |
///
/// # Errors
///
/// Why it cannot be told.
pub(in crate::source) fn infer_json(sample: &[u8]) -> Result<SchemaRef, String> {
    let sample = sample.strip_prefix(b"\xef\xbb\xbf").unwrap_or(sample);
    let mut all = Kind::Unknown;
    for line in first_lines(sample).split(|byte| *byte == b'\n') {
        // A line that is no object is rejected when it is read.
        let mut of_line = Kind::Unknown;
        let mut deserializer = serde_json::Deserializer::from_slice(line);
        let read = Learn(&mut of_line).deserialize(&mut deserializer).and_then(|()| deserializer.end());
        if read.is_ok() && matches!(of_line, Kind::Object(_)) {
            all.learn(of_line);
        }
    }
    match all.data_type() {
        Some(DataType::Struct(fields)) if !fields.is_empty() => Ok(Arc::new(Schema::new(fields))),
        _ => Err("its first lines are no JSON objects with members".into()),
    }
}

/// The first lines of a sample. A last line without its end may be cut, unless there is no other.
fn first_lines(sample: &[u8]) -> &[u8] {
    let mut ends = memchr::memchr_iter(b'\n', sample);
    match (ends.nth(LINES_MAX - 1), memchr::memrchr(b'\n', sample)) {
        (Some(end), _) => &sample[..=end],
        (None, Some(end)) if sample.len() >= SAMPLE_BYTES_MAX => &sample[..=end],
        (None, _) => sample,
    }
}

/// What a value of JSON is, as far as is known.
#[derive(Debug, Clone, PartialEq)]
enum Kind {
    /// Nothing but nulls so far.
    Unknown,
    Boolean,
    Whole,
    Number,
    /// A text, or values of several kinds.
    Text,
    List(Box<Kind>),
    Object(Vec<(String, Kind)>),
}

impl Kind {
    /// Learns from one more value.
    fn learn(&mut self, other: Kind) {
        match (&mut *self, other) {
            (_, Kind::Unknown) => {}
            (Kind::Unknown, other) => *self = other,
            (Kind::Whole, Kind::Number) => *self = Kind::Number,
            (Kind::Number, Kind::Whole) => {}
            (Kind::List(item), Kind::List(other)) => item.learn(*other),
            (Kind::Object(members), Kind::Object(others)) => {
                for (name, kind) in others {
                    match members.iter_mut().find(|(known, _)| *known == name) {
                        Some((_, known)) => known.learn(kind),
                        None => members.push((name, kind)),
                    }
                }
            }
            (known, other) if *known == other => {}
            _ => *self = Kind::Text,
        }
    }

    /// The type; `None` for an object without members, which no type is for.
    fn data_type(&self) -> Option<DataType> {
        Some(match self {
            Kind::Unknown | Kind::Text => DataType::Utf8,
            Kind::Boolean => DataType::Boolean,
            Kind::Whole => DataType::Int64,
            Kind::Number => DataType::Float64,
            Kind::List(item) => DataType::List(Arc::new(Field::new("item", item.data_type()?, true))),
            Kind::Object(members) => {
                let field = |(name, kind): &(String, Kind)| Some(Field::new(name, kind.data_type()?, true));
                let fields: Fields = members.iter().filter_map(field).collect();
                return (!fields.is_empty()).then_some(DataType::Struct(fields));
            }
        })
    }
}

/// Learns from a value that is read.
struct Learn<'a>(&'a mut Kind);

impl<'de> DeserializeSeed<'de> for Learn<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Learn<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        self.0.learn(Kind::Boolean);
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        self.0.learn(Kind::Whole);
        Ok(())
    }

    fn visit_u64<E>(self, number: u64) -> Result<(), E> {
        self.0.learn(if i64::try_from(number).is_ok() { Kind::Whole } else { Kind::Number });
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        self.0.learn(Kind::Number);
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        self.0.learn(Kind::Text);
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let mut item = Kind::Unknown;
        while items.next_element_seed(Learn(&mut item))?.is_some() {}
        self.0.learn(Kind::List(Box::new(item)));
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let mut object = Vec::new();
        while let Some(name) = members.next_key::<String>()? {
            let mut kind = Kind::Unknown;
            members.next_value_seed(Learn(&mut kind))?;
            object.push((name, kind));
        }
        // Through `learn`, so that a name that is there twice is there once.
        self.0.learn(Kind::Object(Vec::new()));
        self.0.learn(Kind::Object(object));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::describe_schema;

    #[track_caller]
    fn check_json(sample: &str, expected: Result<&str, &str>) {
        let inferred = infer_json(sample.as_bytes()).map(|schema| describe_schema(&schema));
        assert_eq!(inferred, expected.map(str::to_owned).map_err(str::to_owned), "{sample}");
    }

    #[test]
    fn members_of_json_have_the_types_of_their_values() {
        check_json("{\"b\": 1, \"a\": \"x\"}\n", Ok("{b: int64?, a: utf8?}"));
        check_json("\u{feff}{\"n\": 1}\n\nnonsense\n[1]\n{\"n\": 1.5, \"t\": true}", Ok("{n: float64?, t: boolean?}"));
        check_json("{\"n\": null}\n{\"n\": 18446744073709551615}", Ok("{n: float64?}"));
        check_json("{\"n\": null, \"m\": 1}\n{\"m\": \"x\"}", Ok("{n: utf8?, m: utf8?}"));
        check_json(
            "{\"l\": [], \"o\": {\"x\": 1}, \"e\": {}}\n{\"l\": [null, [1]], \"o\": {\"y\": [\"z\"]}}",
            Ok("{l: list<list<int64>>?, o: struct<x: int64, y: list<utf8>>?}"),
        );
        check_json("{\"a\": 1, \"a\": \"x\"}", Ok("{a: utf8?}"));
        check_json("", Err("its first lines are no JSON objects with members"));
        check_json("{}\n", Err("its first lines are no JSON objects with members"));
        check_json("{\"n\": 1} {\"m\": 1}\n{\"x\": 1}", Ok("{x: int64?}"));
    }

    #[track_caller]
    fn check_csv(sample: &str, options: &CsvOptions, expected: Result<&str, &str>) {
        let inferred = infer_csv(sample.as_bytes(), options, &LineOptions::default());
        let inferred = inferred.map(|schema| describe_schema(&schema));
        assert_eq!(inferred, expected.map(str::to_owned).map_err(str::to_owned), "{sample}");
    }

    #[test]
    fn columns_of_csv_have_the_types_of_their_fields() {
        let with_header = CsvOptions::default();
        check_csv("\u{feff}n,x,s\n1,,a\n-2,0.5,\"b\n\"\n", &with_header, Ok("{n: int64?, x: float64?, s: utf8?}"));
        check_csv("n,x\n1\n2,true", &with_header, Ok("{n: int64?, x: boolean?}"));
        check_csv("n,\n1,2\n", &with_header, Ok("{n: int64?, column_2: int64?}"));
        check_csv("n,n\n1,2\n", &with_header, Err("its header has `n` twice: fields 1 and 2"));
        check_csv("n\n", &with_header, Ok("{n: utf8?}"));
        check_csv("\n", &with_header, Err("it has no record"));
        let without = CsvOptions { header: false, null_values: vec!["-".into()], ..CsvOptions::default() };
        check_csv("1,2026-11-22\n-,-\n", &without, Ok("{column_1: int64?, column_2: date32?}"));
    }
}
