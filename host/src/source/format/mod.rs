//! What lines are: text, objects of JSON, records of CSV. Shared by every source of lines.
//!
//! ```text
//!  bytes ── LineCutter ──▶ whole lines ──┬─ TextRows ─────────────▶ one column, value: utf8
//!                                        ├─ JsonRows ── decode ───▶ declared columns ┐
//!                                        └─ CsvRows ── convert ───▶ declared columns ┴─ Rejects: what is no row
//! ```

use std::sync::Arc;

use arrow::datatypes::SchemaRef;

use super::counters::SourceCounters;
use super::lines::{LineCutter, LineOptions, LineRows, LineStream, TextRows, text_schema};
use super::reject::{BadRows, Rejects};
use super::schema::parse_schema;
use crate::job::table::Table;

pub use csv::CsvOptions;

pub(super) use csv::{CsvColumns, CsvRows};
pub(super) use json::JsonRows;

mod convert;
mod csv;
pub(super) mod infer;
mod json;
mod record;
#[cfg(test)]
mod tests;
mod values;

/// What a line is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum LineFormat {
    /// A row of one column, `value: utf8`.
    #[default]
    Text,
    /// A JSON object: a row of these columns. Other members are passed over, missing ones are null; lines that are not
    /// such objects are rejected. Blank lines are passed over.
    Json(SchemaRef),
    /// A record of CSV: a row of these columns. A record that does not fit them is rejected. Blank lines are passed over.
    Csv(SchemaRef, CsvOptions),
}

impl LineFormat {
    /// The schema of its rows.
    #[must_use]
    pub fn schema(&self) -> SchemaRef {
        match self {
            Self::Text => text_schema(),
            Self::Json(schema) | Self::Csv(schema, _) => Arc::clone(schema),
        }
    }

    /// Reads the keys `format` and `schema`, those of CSV, and those of bad rows, of a source that cannot look at its
    /// rows before it runs.
    pub(super) fn parse(table: &mut Table<'_>) -> (Option<Self>, BadRows) {
        #[derive(Clone, Copy)]
        enum Kind {
            Text,
            Json,
            Csv,
        }
        let kind = table.choice("format", &[("text", Kind::Text), ("json", Kind::Json), ("csv", Kind::Csv)]);
        let kind = if table.has("format") { kind } else { Some(Kind::Text) };
        let format = match kind {
            Some(Kind::Text) => refuse_schema(table).then_some(Self::Text),
            Some(Kind::Json) => parse_columns(table, WithInfer::Never).and_then(Declared::schema).map(Self::Json),
            Some(Kind::Csv) => {
                let options = CsvOptions::parse(table);
                let schema = parse_columns(table, WithInfer::Never).and_then(Declared::schema);
                schema.and_then(|schema| check_csv_columns(table, schema)).map(|schema| Self::Csv(schema, options))
            }
            None => {
                known(table, &["schema"]);
                None
            }
        };
        match kind {
            Some(Kind::Csv) | None => known(table, CsvOptions::KEYS),
            Some(Kind::Json) => refuse(table, CsvOptions::KEYS, "json", "it is for CSV"),
            Some(Kind::Text) => refuse(table, CsvOptions::KEYS, "text", "it is for CSV"),
        }
        let bad_rows = parse_bad_rows(table, matches!(kind, Some(Kind::Text)));
        (format, bad_rows)
    }

    /// A stream of lines of this format from `object`.
    pub(super) fn stream(
        &self,
        object: &str,
        lines: &LineOptions,
        bad_rows: &BadRows,
        batch: BatchBounds,
        counters: &Arc<SourceCounters>,
    ) -> LineStream<Box<dyn LineRows>> {
        let rejects =
            |schema: &SchemaRef| Rejects::new(object.to_owned(), bad_rows.clone(), schema, Arc::clone(counters));
        let rows: Box<dyn LineRows> = match self {
            Self::Text => {
                let counters = Arc::clone(counters);
                Box::new(TextRows::new(lines.clone(), text_schema(), counters, batch.rows_max, batch.bytes_max))
            }
            Self::Json(schema) => Box::new(JsonRows::new(Arc::clone(schema), lines.line_bytes_max, rejects(schema))),
            Self::Csv(schema, options) => {
                Box::new(CsvRows::new(Arc::clone(schema), options.clone(), lines.line_bytes_max, rejects(schema)))
            }
        };
        LineStream::new(LineCutter::new(lines), rows)
    }
}

/// How large the batches of text are that are given, at most. Those of other formats are cut by what is decoded at once.
#[derive(Debug, Clone, Copy)]
pub(super) struct BatchBounds {
    pub(super) rows_max: usize,
    pub(super) bytes_max: usize,
}

/// What the key `schema` says.
#[derive(Debug)]
pub(super) enum Declared {
    /// These columns.
    Columns(SchemaRef),
    /// To be found in the files.
    Infer,
}

impl Declared {
    fn schema(self) -> Option<SchemaRef> {
        match self {
            Self::Columns(schema) => Some(schema),
            Self::Infer => None,
        }
    }
}

/// Whether `schema = "infer"` is understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WithInfer {
    /// The rows are not there before the source runs.
    Never,
    /// When it is written.
    Written,
    /// Also when nothing is written.
    Default,
}

/// Reads the key `schema`: columns and their types, or `"infer"`.
pub(super) fn parse_columns(table: &mut Table<'_>, infer: WithInfer) -> Option<Declared> {
    const EXAMPLE: &str = "write the columns and their types, as in `schema = { word = \"utf8\", n = \"int64\" }`";
    if !table.has("schema") {
        if infer == WithInfer::Default {
            known(table, &["schema"]);
            return Some(Declared::Infer);
        }
        known(table, &["schema"]);
        let or = if infer == WithInfer::Written { ", or `schema = \"infer\"`" } else { "" };
        table.missing("schema", Some(format!("{EXAMPLE}{or}")));
        return None;
    }
    if let Some(text) = table.text_if_text("schema") {
        match (text.as_str(), infer) {
            ("infer", WithInfer::Never) => {
                let hint =
                    format!("{EXAMPLE}: its rows are not there before the job runs, and only files can be looked at");
                table.problem("schema", "`schema = \"infer\"` is for files", Some(hint));
            }
            ("infer", _) => return Some(Declared::Infer),
            (_, WithInfer::Never) => {
                table.problem("schema", format!("`schema` cannot be `{text}`"), Some(EXAMPLE.into()));
            }
            (_, _) => {
                let hint = Some(format!("{EXAMPLE}, or `schema = \"infer\"`"));
                table.problem("schema", format!("`schema` cannot be `{text}`"), hint);
            }
        }
        return None;
    }
    let columns = table.named_texts("schema")?;
    if columns.is_empty() {
        table.problem("schema", "`schema` has no columns", None);
        return None;
    }
    match parse_schema(&columns) {
        Ok(schema) => Some(Declared::Columns(schema)),
        Err(errors) => {
            for (column, error) in errors {
                table.problem(&format!("schema.{column}"), error.message, error.hint);
            }
            None
        }
    }
}

/// Records the columns that CSV cannot have.
pub(super) fn check_csv_columns(table: &mut Table<'_>, schema: SchemaRef) -> Option<SchemaRef> {
    let mut is_right = true;
    for field in schema.fields().iter().filter(|field| !convert::is_supported(field.data_type())) {
        let hint = Some("a field of CSV is one value: read it as `utf8`, or use `format = \"json\"`".into());
        let key = format!("schema.{}", field.name());
        table.problem(&key, format!("column `{}` cannot be read from CSV", field.name()), hint);
        is_right = false;
    }
    is_right.then_some(schema)
}

/// Records that `schema` stands where lines are text. Whether it does not.
pub(super) fn refuse_schema(table: &mut Table<'_>) -> bool {
    known(table, &["schema"]);
    let is_there = table.has("schema");
    if is_there {
        let hint =
            Some("lines of text have one column, `value`; write `format = \"json\"` or `\"csv\"` for others".into());
        table.problem("schema", "`schema` does not go with `format = \"text\"`", hint);
    }
    !is_there
}

/// Reads what is done with bad rows; of text there are none.
pub(super) fn parse_bad_rows(table: &mut Table<'_>, is_text: bool) -> BadRows {
    if is_text {
        let why = "lines of text are never rejected; `invalid` says what is done with one that is not UTF-8";
        refuse(table, &["on-error", "dead-letter"], "text", why);
        return BadRows::Drop;
    }
    BadRows::parse(table)
}

/// Records keys that do not go with a format.
pub(super) fn refuse(table: &mut Table<'_>, keys: &[&'static str], format: &str, why: &str) {
    known(table, keys);
    for key in keys {
        if !table.has(key) {
            continue;
        }
        let message = format!("`{key}` does not go with `format = \"{format}\"`");
        table.problem(key, message, Some(why.to_owned()));
    }
}

/// Makes keys known without looking at them, where something else is wrong.
pub(super) fn known(table: &mut Table<'_>, keys: &[&str]) {
    keys.iter().for_each(|key| table.know(key));
}
