//! The types of columns as a job file writes them: `utf8`, `list<int64>`, `struct<a: int64, b: utf8>`.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};

use crate::job::nearest::suggest;

/// Types within types, at most: more than any real schema has, and few enough for any stack.
const DEPTH_MAX: usize = 16;

/// The time zone of instants. An offset, because the names of zones are not known in every build of arrow.
pub const UTC: &str = "+00:00";

/// The types without parameters, and what they are.
const SIMPLE: &[(&str, DataType)] = &[
    ("boolean", DataType::Boolean),
    ("int8", DataType::Int8),
    ("int16", DataType::Int16),
    ("int32", DataType::Int32),
    ("int64", DataType::Int64),
    ("uint8", DataType::UInt8),
    ("uint16", DataType::UInt16),
    ("uint32", DataType::UInt32),
    ("uint64", DataType::UInt64),
    ("float32", DataType::Float32),
    ("float64", DataType::Float64),
    ("utf8", DataType::Utf8),
    ("binary", DataType::Binary),
    ("date32", DataType::Date32),
    ("duration", DataType::Duration(TimeUnit::Microsecond)),
    // Other names for the same, as other systems write them.
    ("bool", DataType::Boolean),
    ("float", DataType::Float32),
    ("double", DataType::Float64),
    ("string", DataType::Utf8),
    ("date", DataType::Date32),
];

/// Names of types with parameters, for suggestions.
const COMPOSED: &[&str] = &["timestamp", "decimal", "list", "struct", "map"];

/// The type `timestamp`.
#[must_use]
pub fn timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into()))
}

/// The type `map<utf8, T>`.
#[must_use]
pub fn map_of(value: DataType) -> DataType {
    let entries = Fields::from(vec![Field::new("key", DataType::Utf8, false), Field::new("value", value, true)]);
    DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entries), false)), false)
}

/// A type that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct TypeError {
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub hint: Option<String>,
}

/// Reads the name of a type.
///
/// | type | in Arrow |
/// | --- | --- |
/// | `boolean`, `int8` … `int64`, `uint8` … `uint64`, `float32`, `float64`, `utf8`, `binary`, `date32` | the same |
/// | `timestamp` | microseconds, in UTC |
/// | `duration` | microseconds |
/// | `decimal(p, s)` | a decimal number of 128 bits with precision `p` and scale `s` |
/// | `list<T>` | a list |
/// | `struct<a: T, b: U>` | a struct |
/// | `map<utf8, T>` | a map |
///
/// `bool`, `float`, `double`, `string` and `date` are understood too. What is within another type may be null.
///
/// # Errors
///
/// [`TypeError`], with the nearest right name.
///
/// # Examples
///
/// ```
/// use tidemill::source::schema::parse_type;
///
/// assert_eq!(parse_type("list<int64>")?.to_string(), "List(Int64)");
/// assert_eq!(parse_type("in64").unwrap_err().hint.as_deref(), Some("did you mean `int64`?"));
/// # Ok::<(), tidemill::source::schema::TypeError>(())
/// ```
pub fn parse_type(text: &str) -> Result<DataType, TypeError> {
    let mut parser = Parser { text, rest: text };
    let data_type = parser.data_type(0)?;
    parser.space();
    match parser.rest {
        "" => Ok(data_type),
        rest => Err(parser.error(format!("nothing may follow, and `{rest}` does"))),
    }
}

/// Makes a schema of columns and their types; every column may be null.
///
/// # Errors
///
/// The columns that are wrong, each with its mistake.
pub fn parse_schema(columns: &[(String, String)]) -> Result<SchemaRef, Vec<(String, TypeError)>> {
    let (mut fields, mut errors) = (Vec::new(), Vec::new());
    for (name, text) in columns {
        match parse_type(text) {
            Ok(data_type) => fields.push(Field::new(name, data_type, true)),
            Err(error) => errors.push((name.clone(), error)),
        }
    }
    if errors.is_empty() { Ok(Arc::new(Schema::new(fields))) } else { Err(errors) }
}

struct Parser<'a> {
    /// The whole text, for messages.
    text: &'a str,
    rest: &'a str,
}

impl Parser<'_> {
    fn data_type(&mut self, depth: usize) -> Result<DataType, TypeError> {
        if depth > DEPTH_MAX {
            return Err(self.error(format!("types may stand {DEPTH_MAX} deep within one another")));
        }
        let name = self.word()?;
        match name.as_str() {
            "timestamp" => Ok(timestamp()),
            "decimal" => self.decimal(),
            "list" => {
                self.expect('<')?;
                let item = self.data_type(depth + 1)?;
                self.expect('>')?;
                Ok(DataType::List(Arc::new(Field::new("item", item, true))))
            }
            "struct" => self.structure(depth),
            "map" => self.map(depth),
            _ => match SIMPLE.iter().find(|(simple, _)| *simple == name) {
                Some((_, data_type)) => Ok(data_type.clone()),
                None => {
                    let names = SIMPLE.iter().map(|(name, _)| *name).chain(COMPOSED.iter().copied());
                    let hint = suggest(&name, "types", names);
                    Err(TypeError { message: format!("`{name}` is no type"), hint })
                }
            },
        }
    }

    fn decimal(&mut self) -> Result<DataType, TypeError> {
        self.expect('(')?;
        let precision: u8 = self.number()?;
        self.expect(',')?;
        let scale: i8 = self.number()?;
        self.expect(')')?;
        if !(1..=38).contains(&precision) || !(0..=precision as i8).contains(&scale) {
            return Err(self.error("a decimal has a precision from 1 to 38 and a scale from 0 to its precision".into()));
        }
        Ok(DataType::Decimal128(precision, scale))
    }

    fn structure(&mut self, depth: usize) -> Result<DataType, TypeError> {
        self.expect('<')?;
        let mut fields = Vec::new();
        let mut names = HashSet::new();
        loop {
            let name = self.word()?;
            if !names.insert(name.clone()) {
                return Err(self.error(format!("the struct has two fields `{name}`")));
            }
            self.expect(':')?;
            fields.push(Field::new(name, self.data_type(depth + 1)?, true));
            if !self.take(',') {
                break;
            }
        }
        self.expect('>')?;
        Ok(DataType::Struct(Fields::from(fields)))
    }

    fn map(&mut self, depth: usize) -> Result<DataType, TypeError> {
        self.expect('<')?;
        let key = self.data_type(depth + 1)?;
        if key != DataType::Utf8 {
            return Err(self.error("the keys of a map must be utf8".into()));
        }
        self.expect(',')?;
        let value = self.data_type(depth + 1)?;
        self.expect('>')?;
        Ok(map_of(value))
    }

    fn space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    /// A name: letters, digits, `_` and `-`.
    fn word(&mut self) -> Result<String, TypeError> {
        self.space();
        let is_part = |letter: char| letter.is_alphanumeric() || letter == '_' || letter == '-';
        let end = self.rest.find(|letter| !is_part(letter)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        if word.is_empty() { Err(self.found("a name")) } else { Ok(word.into()) }
    }

    fn number<N: std::str::FromStr>(&mut self) -> Result<N, TypeError> {
        let word = self.word()?;
        word.parse().map_err(|_| self.error(format!("`{word}` is no number that fits there")))
    }

    fn take(&mut self, sign: char) -> bool {
        self.space();
        let rest = self.rest.strip_prefix(sign);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn expect(&mut self, sign: char) -> Result<(), TypeError> {
        if self.take(sign) { Ok(()) } else { Err(self.found(&format!("`{sign}`"))) }
    }

    fn found(&self, expected: &str) -> TypeError {
        match self.rest.chars().next() {
            Some(found) => self.error(format!("{expected} must stand where `{found}` stands")),
            None => self.error(format!("{expected} is missing at the end")),
        }
    }

    fn error(&self, message: String) -> TypeError {
        let hint = Some("types look like `utf8`, `list<int64>`, `struct<a: int64, b: utf8>`, `decimal(10, 2)`".into());
        TypeError { message: format!("`{}` is no type: {message}", self.text), hint }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(parse_type(text).map(|data_type| data_type.to_string()), Ok(expected.into()));
    }

    #[track_caller]
    fn check_error(text: &str, expected: &str) {
        assert_eq!(parse_type(text).map_err(|error| error.message), Err(expected.into()));
    }

    #[test]
    fn types_are_read() {
        check("utf8", "Utf8");
        check(" int64 ", "Int64");
        check("string", "Utf8");
        check("timestamp", "Timestamp(µs, \"+00:00\")");
        check("decimal(10, 2)", "Decimal128(10, 2)");
        check("list<utf8>", "List(Utf8)");
        check("list< list<int8> >", "List(List(Int8))");
        check("struct<a: int64, b: list<utf8>>", "Struct(\"a\": Int64, \"b\": List(Utf8))");
        check(
            "map<utf8, float64>",
            "Map(\"entries\": non-null Struct(\"key\": non-null Utf8, \"value\": Float64), unsorted)",
        );
    }

    #[test]
    fn mistakes_are_named() {
        check_error("uft8", "`uft8` is no type");
        check_error("", "`` is no type: a name is missing at the end");
        check_error("list", "`list` is no type: `<` is missing at the end");
        check_error("list<utf8", "`list<utf8` is no type: `>` is missing at the end");
        check_error("list(utf8)", "`list(utf8)` is no type: `<` must stand where `(` stands");
        check_error("utf8 or so", "`utf8 or so` is no type: nothing may follow, and `or so` does");
        check_error("struct<a: int8, a: int8>", "`struct<a: int8, a: int8>` is no type: the struct has two fields `a`");
        check_error("map<int8, utf8>", "`map<int8, utf8>` is no type: the keys of a map must be utf8");
        check_error("decimal(x, 2)", "`decimal(x, 2)` is no type: `x` is no number that fits there");
        let deep = format!("{}utf8{}", "list<".repeat(100), ">".repeat(100));
        assert!(parse_type(&deep).is_err());
        assert_eq!(parse_type("uft8").expect_err("misspelt").hint.as_deref(), Some("did you mean `utf8`?"));
    }

    #[test]
    fn every_wrong_column_is_reported() {
        let columns = [("a", "utf8"), ("b", "text"), ("c", "in8")].map(|(name, text)| (name.into(), text.into()));
        let errors = parse_schema(&columns).expect_err("two are wrong");
        assert_eq!(errors.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["b", "c"]);
        assert_eq!(parse_schema(&columns[..1]).expect("right").field(0).name(), "a");
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[a-z0-9<>(),: ]{0,40}|.{0,20}") {
            let _ = parse_type(&text);
        }
    }
}
