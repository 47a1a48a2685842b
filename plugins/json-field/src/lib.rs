//! Takes fields out of JSON text into columns of their own.
//!
//! ```toml
//! config = { fields = [{ column = "user", path = "/user/name", type = "text", required = true }], carry = true }
//! ```

use serde::Deserialize;
use serde_json::Value as Json;
use tidemill_guest::builder::{Build, Validity};
use tidemill_guest::value::{Read, Value};
use tidemill_guest::{
    Batch, Call, Carried, Failure, Field, Output, OwnedBatch, Refusal, Rejection, Schema, Step, Transform,
    TransformPlan, operator,
};

/// What is taken out of what.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    /// The column that holds the text.
    #[serde(default = "value")]
    from: String,
    /// What is taken out.
    fields: Vec<Extract>,
    /// Whether the columns of the input go along.
    #[serde(default)]
    carry: bool,
}

fn value() -> String {
    "value".into()
}

/// One field that is taken out.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Extract {
    /// The column that it becomes.
    column: String,
    /// Where it stands, as a JSON pointer; `/` and the column's name when it is left out.
    path: Option<String>,
    /// The column's type.
    #[serde(rename = "type")]
    kind: Kind,
    /// Whether a row without it is rejected; otherwise the column is null there.
    #[serde(default)]
    required: bool,
}

/// The type of a column.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    /// A string. Anything else is written as JSON.
    Text,
    /// A whole number.
    Int64,
    /// A number.
    Float64,
    /// True or false.
    Boolean,
}

/// Builds one of the columns.
enum Column {
    Text(<Option<String> as Value>::Builder),
    Int64(<Option<i64> as Value>::Builder),
    Float64(<Option<f64> as Value>::Builder),
    Boolean(<Option<bool> as Value>::Builder),
}

/// A value of one of the columns.
enum Cell {
    Text(Option<String>),
    Int64(Option<i64>),
    Float64(Option<f64>),
    Boolean(Option<bool>),
}

impl Extract {
    fn path(&self) -> String {
        self.path.clone().unwrap_or_else(|| format!("/{}", self.column.replace('~', "~0").replace('/', "~1")))
    }

    fn field(&self) -> Field {
        let field = match self.kind {
            Kind::Text => String::field(&self.column),
            Kind::Int64 => i64::field(&self.column),
            Kind::Float64 => f64::field(&self.column),
            Kind::Boolean => bool::field(&self.column),
        };
        if self.required { field } else { field.nullable() }
    }

    /// The value in a document, or why there is none.
    fn cell(&self, path: &str, document: &mut Json) -> Result<Cell, String> {
        let found = document.pointer_mut(path).map(Json::take).filter(|found| !found.is_null());
        if found.is_none() && self.required {
            return Err(format!("`{path}` is missing"));
        }
        let wrong = |found: Json, expected: &str| format!("`{path}` is {found}, not {expected}");
        let cell = match (self.kind, found) {
            (Kind::Text, Some(Json::String(text))) => Cell::Text(Some(text)),
            (Kind::Text, found) => Cell::Text(found.map(|found| found.to_string())),
            (Kind::Int64, None) => Cell::Int64(None),
            (Kind::Int64, Some(found)) => {
                Cell::Int64(Some(found.as_i64().ok_or_else(|| wrong(found, "a whole number of 64 bits"))?))
            }
            (Kind::Float64, None) => Cell::Float64(None),
            (Kind::Float64, Some(found)) => {
                Cell::Float64(Some(found.as_f64().ok_or_else(|| wrong(found, "a number"))?))
            }
            (Kind::Boolean, None) => Cell::Boolean(None),
            (Kind::Boolean, Some(found)) => {
                Cell::Boolean(Some(found.as_bool().ok_or_else(|| wrong(found, "true or false"))?))
            }
        };
        Ok(cell)
    }
}

impl Column {
    fn new(kind: Kind) -> Self {
        match kind {
            Kind::Text => Column::Text(Build::new()),
            Kind::Int64 => Column::Int64(Build::new()),
            Kind::Float64 => Column::Float64(Build::new()),
            Kind::Boolean => Column::Boolean(Build::new()),
        }
    }

    fn push(&mut self, cell: Cell) {
        match (self, cell) {
            (Column::Text(column), Cell::Text(value)) => value.append_to(column),
            (Column::Int64(column), Cell::Int64(value)) => value.append_to(column),
            (Column::Float64(column), Cell::Float64(value)) => value.append_to(column),
            (Column::Boolean(column), Cell::Boolean(value)) => value.append_to(column),
            // Column and cell are made from the same kind.
            _ => unreachable!("a cell of its column's kind"),
        }
    }

    fn finish(self, rows: &mut OwnedBatch) {
        match self {
            Column::Text(column) => column.finish(Validity::ALL, rows),
            Column::Int64(column) => column.finish(Validity::ALL, rows),
            Column::Float64(column) => column.finish(Validity::ALL, rows),
            Column::Boolean(column) => column.finish(Validity::ALL, rows),
        }
    }
}

/// Takes fields out of JSON text.
pub struct JsonField {
    config: Config,
    paths: Vec<String>,
}

#[operator]
impl Transform for JsonField {
    fn open(step: &Step, input: &Schema) -> Result<(TransformPlan, Self), Refusal> {
        let config: Config = step.config()?;
        if config.fields.is_empty() {
            return Err(Refusal::Config("`fields` names nothing to take out".into()));
        }
        for (i, field) in config.fields.iter().enumerate() {
            if config.fields[..i].iter().any(|other| other.column == field.column) {
                return Err(Refusal::Config(format!("two of `fields` become the column `{}`", field.column)));
            }
            if field.path.as_ref().is_some_and(|path| !path.is_empty() && !path.starts_with('/')) {
                let text = format!("the `path` of `{}` starts with `/`, as in `/user/name`", field.column);
                return Err(Refusal::Config(text));
            }
        }
        match input.find(&config.from) {
            Some((_, field)) if <&str>::accepts(field) => {}
            Some((_, field)) => {
                let text = format!("column `{}` is {}, utf8 is expected", field.name, field.type_text());
                return Err(Refusal::Schema(text));
            }
            None => return Err(Refusal::Schema(format!("column `{}`, of JSON text, is missing", config.from))),
        }
        let plan = TransformPlan {
            reads: Some(vec![config.from.clone()]),
            writes: Schema::new(config.fields.iter().map(Extract::field).collect()),
            carries: if config.carry { Carried::Everything } else { Carried::Nothing },
        };
        let paths = config.fields.iter().map(Extract::path).collect();
        Ok((plan, Self { config, paths }))
    }

    fn process(&mut self, _: &Call, input: Batch<'_>) -> Result<Output, Failure> {
        let texts = input.column(&self.config.from).and_then(|column| column.read::<&str>());
        let texts = texts.ok_or("the batch has no column of JSON text")?;
        let mut columns: Vec<_> = self.config.fields.iter().map(|field| Column::new(field.kind)).collect();
        let (mut origin, mut rejected) = (Vec::with_capacity(input.n_rows()), Vec::new());
        for row in 0..input.n_rows() as u32 {
            match self.cells(<&str>::get(&texts, row as usize)) {
                Ok(cells) => {
                    columns.iter_mut().zip(cells).for_each(|(column, cell)| column.push(cell));
                    origin.push(row);
                }
                Err(reason) => rejected.push(Rejection { row, reason }),
            }
        }
        let mut rows = OwnedBatch { rows: origin.len() as u32, ..OwnedBatch::default() };
        columns.into_iter().for_each(|column| column.finish(&mut rows));
        let origin = Some(origin).filter(|origin| self.config.carry && origin.len() < input.n_rows());
        Ok(Output { rows, origin, rejected })
    }
}

impl JsonField {
    /// All the values of a row, or why it is rejected.
    fn cells(&self, text: Option<&str>) -> Result<Vec<Cell>, String> {
        let text = text.ok_or_else(|| format!("column `{}` is null", self.config.from))?;
        let mut document: Json = serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))?;
        self.config.fields.iter().zip(&self.paths).map(|(field, path)| field.cell(path, &mut document)).collect()
    }
}

#[cfg(test)]
mod tests {
    use tidemill_guest::{Row, testing};

    use super::*;

    #[derive(Row)]
    struct Line<'a> {
        value: Option<&'a str>,
    }

    fn run(config: &str, lines: &[Option<&str>]) -> Result<testing::Ran, String> {
        let lines = lines.iter().map(|&value| Line { value });
        testing::transform(&JsonField::operator(), config, lines).map_err(|error| error.to_string())
    }

    #[test]
    fn fields_become_columns_and_bad_rows_are_rejected() {
        let config = r#"{"carry": true, "fields": [
            {"column": "name", "path": "/user/name", "type": "text", "required": true},
            {"column": "n", "type": "int64"}, {"column": "x", "type": "float64"}, {"column": "ok", "type": "boolean"}]}"#;
        let lines = [
            Some(r#"{"user": {"name": "Ada"}, "n": 1, "x": 2, "ok": true}"#),
            Some(r#"{"user": {}}"#),
            Some("{"),
            None,
            Some(r#"{"user": {"name": ["a", 1]}, "n": null}"#),
            Some(r#"{"user": {"name": "Bob"}, "n": 1.5}"#),
        ];
        let ran = run(config, &lines).expect("it runs");
        assert_eq!(ran.column::<String>("name"), [Some("Ada".to_owned()), Some("[\"a\",1]".to_owned())]);
        assert_eq!(ran.column::<i64>("n"), [Some(1), None]);
        assert_eq!(ran.column::<f64>("x"), [Some(2.0), None]);
        assert_eq!(ran.column::<bool>("ok"), [Some(true), None]);
        assert_eq!(ran.origin, Some(vec![0, 4]));
        let rejected = [
            (1, "`/user/name` is missing"),
            (2, "not JSON: EOF while parsing an object at line 1 column 1"),
            (3, "column `value` is null"),
            (5, "`/n` is 1.5, not a whole number of 64 bits"),
        ];
        assert_eq!(ran.rejections(), rejected);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let check = |config: &str, expected: &str| assert_eq!(run(config, &[]).err().as_deref(), Some(expected));
        check("{}", "missing field `fields`");
        check(r#"{"fields": []}"#, "`fields` names nothing to take out");
        let field = r#"{"column": "a", "type": "int64"}"#;
        check(&format!(r#"{{"fields": [{field}, {field}]}}"#), "two of `fields` become the column `a`");
        check(&format!(r#"{{"from": "text", "fields": [{field}]}}"#), "column `text`, of JSON text, is missing");
        let relative = r#"{"fields": [{"column": "a", "path": "b", "type": "int64"}]}"#;
        check(relative, "the `path` of `a` starts with `/`, as in `/user/name`");
        let unknown = r#"{"fields": [{"column": "a", "type": "int"}]}"#;
        check(unknown, "unknown variant `int`, expected one of `text`, `int64`, `float64`, `boolean`");
    }
}
