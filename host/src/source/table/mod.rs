//! Tables: files whose rows a job holds in memory, to join streams with.
//!
//! ```text
//!  start ── open ──▶ version 1 ──┐        before each batch: have the files changed?
//!                                ├── current ◀── refresh ── no: the same version
//!                    version 2 ──┘                      └── yes: read them, swap
//! ```
//!
//! The law: all tasks of a batch see one version. A version is what the files held at one moment: when they change while
//! they are read, or cannot be read, the version before it stays.

use std::path::PathBuf;
use std::time::Duration;

use arrow::datatypes::SchemaRef;

use super::schema::parse_schema;
use crate::job::table::Table;

pub use live::{LiveTable, TableVersion};
pub use read::TableError;

mod files;
mod live;
mod read;
#[cfg(test)]
mod tests;

/// A table: a file, the files of a directory, or those that match a pattern.
///
/// Files whose names start with `.` or `_` or end in `.tmp` are passed over, unless `path` names the file itself;
/// subdirectories are not looked into. Files are read in the order of their paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableSource {
    /// A file, a directory, or a pattern with `*`, `?` and `[…]`.
    pub path: PathBuf,
    /// What the files are.
    pub format: TableFormat,
    /// The columns; `None`: as the first file has them.
    pub schema: Option<SchemaRef>,
    /// When it is looked whether the files have changed.
    pub refresh: Refresh,
}

/// What the files of a table are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableFormat {
    /// Records of comma-separated values; the first line of each file names the columns.
    Csv,
    /// A JSON object a line.
    Json,
    /// Parquet.
    Parquet,
    /// Arrow's IPC, a file or a stream.
    Arrow,
    /// Lines: one column, `value`.
    Text,
}

/// When a table is looked at again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Refresh {
    /// Before each batch.
    #[default]
    Batch,
    /// Before the first batch that starts so long after it was looked at last.
    Every(Duration),
    /// Never: it is read when the job starts.
    Never,
}

impl TableSource {
    /// A table of files of this format, whose columns are those of the first file.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>, format: TableFormat) -> Self {
        Self { path: path.into(), format, schema: None, refresh: Refresh::Batch }
    }

    /// Reads the options `path`, `format`, `schema` and `refresh`.
    pub fn parse(table: &mut Table<'_>) -> Option<Self> {
        let path = table.path("path");
        if !table.has("path") {
            table.missing("path", Some("Write `path = \"…\"`: a file, a directory or a pattern.".into()));
        }
        let formats = [
            ("csv", TableFormat::Csv),
            ("json", TableFormat::Json),
            ("parquet", TableFormat::Parquet),
            ("arrow", TableFormat::Arrow),
            ("text", TableFormat::Text),
        ];
        let format = table.choice("format", &formats);
        if !table.has("format") {
            table.missing("format", Some("Formats: `csv`, `json`, `parquet`, `arrow`, `text`.".into()));
        }
        let schema = match (table.has("schema"), table.named_texts("schema")) {
            (true, Some(columns)) => read_schema(table, format, &columns).map(Some),
            (true, None) => None,
            (false, _) => Some(None),
        };
        let refresh = read_refresh(table);
        Some(Self { path: path?, format: format?, schema: schema?, refresh: refresh? })
    }
}

fn read_schema(table: &mut Table<'_>, format: Option<TableFormat>, columns: &[(String, String)]) -> Option<SchemaRef> {
    if format == Some(TableFormat::Text) {
        let hint = "Lines of text have one column, `value`.".into();
        table.problem("schema", "`schema` does not go with `format = \"text\"`", Some(hint));
        return None;
    }
    if columns.is_empty() {
        let hint = "Write `schema = { id = \"int64\" }`, or leave it out: the first file has the columns.".into();
        table.problem("schema", "`schema` has no columns", Some(hint));
        return None;
    }
    match parse_schema(columns) {
        Ok(schema) => Some(schema),
        Err(errors) => {
            for (column, error) in errors {
                table.problem(&format!("schema.{column}"), error.message, error.hint);
            }
            None
        }
    }
}

fn read_refresh(table: &mut Table<'_>) -> Option<Refresh> {
    if !table.has("refresh") {
        let _ = table.text("refresh");
        return Some(Refresh::Batch);
    }
    match table.text("refresh")?.as_str() {
        "batch" => Some(Refresh::Batch),
        "never" => Some(Refresh::Never),
        text if text.starts_with(|first: char| first.is_ascii_digit()) => {
            let interval = table.duration("refresh")?;
            Some(if interval.is_zero() { Refresh::Batch } else { Refresh::Every(interval) })
        }
        text => {
            let message = format!("`refresh` cannot be `{text}`");
            table.problem("refresh", message, Some("Choices: `batch`, `never`, or a duration as in `5m`.".into()));
            None
        }
    }
}
