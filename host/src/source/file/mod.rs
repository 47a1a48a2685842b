//! Files of lines, each read once: what Spark calls `textFileStream`.

use std::path::PathBuf;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;

use super::counters::SourceCounters;
use super::error::SourceError;
use super::lines::{LineOptions, text_schema};
use super::schema::parse_schema;
use super::{OpenSource, SourceDefinition};
use crate::error::Error;
use crate::job::table::Table;

use listing::Place;
use plan::FilePlanner;
use read::FileReader;

mod json;
mod listing;
mod plan;
mod read;
#[cfg(test)]
mod tests;

/// Files of lines: one file, those of a directory, or those that match a pattern.
///
/// # Which files
///
/// Files whose names start with `.` or `_` or end in `.tmp` are passed over, unless `path` names the file itself;
/// subdirectories are not looked into. Every batch looks for new files. They must be whole when they appear: write them
/// elsewhere in the same file system, or under a name that is passed over, and move them in. Each file is read once,
/// known by its path and identity: a file that grows after it became part of a batch is not read again, a new file
/// under an old name is. Files are read in the order of their modification times, then names; those that appear later
/// come after all those seen before. Compressed files are refused, and so is what is not a regular file.
///
/// # How they are read
///
/// Large files are cut into offset ranges, so that several tasks share one file. A range has the lines that *start* in
/// it; nothing is read when ranges are cut. A file that is gone, replaced, or shorter when its batch reads it fails the
/// batch by name. Lines are as those of [`SocketSource`](super::SocketSource).
///
/// # Examples
///
/// ```
/// use tidemill::source::{FileSource, SourceDefinition};
///
/// let source = FileSource { files_per_batch_max: Some(10), ..FileSource::text("logs/*.txt") };
/// assert_eq!(source.describe(), "logs/*.txt");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSource {
    /// A file, a directory, or a pattern with `*`, `?` and `[…]`, in which `**` stands for any directories.
    pub path: PathBuf,
    /// What a line is.
    pub format: FileFormat,
    /// Files a batch takes, at most.
    pub files_per_batch_max: Option<u64>,
    /// Bytes a batch takes; a file is taken whole, so that one file may be more.
    pub bytes_per_batch_max: Option<u64>,
    /// How lines are read.
    pub lines: LineOptions,
}

/// What a line of a file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileFormat {
    /// A row of one column, `value: utf8`.
    Text,
    /// A JSON object: a row of these columns. Other members are passed over, missing ones are null; lines that are not
    /// such objects are rejected, counted and shown. Blank lines are passed over.
    Json(SchemaRef),
}

impl FileSource {
    /// Lines of text.
    #[must_use]
    pub fn text(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            format: FileFormat::Text,
            files_per_batch_max: None,
            bytes_per_batch_max: None,
            lines: LineOptions::default(),
        }
    }

    /// Lines of JSON. Every column of the schema should allow nulls: a line without it is rejected otherwise.
    #[must_use]
    pub fn json(path: impl Into<PathBuf>, schema: SchemaRef) -> Self {
        Self { format: FileFormat::Json(schema), ..Self::text(path) }
    }

    /// Reads the options `path`, `format`, `schema`, `max-files-per-batch`, `max-bytes-per-batch`, `max-line-bytes`
    /// and `invalid`.
    pub fn parse(table: &mut Table<'_>) -> Option<Self> {
        let path = table.path("path");
        if path.is_none() && !table.has("path") {
            table.missing("path", Some("write `path = \"…\"`: a file, a directory or a pattern".into()));
        }
        // What is not there may come until the source is opened; what is no pattern never will be one.
        if let Some(Err(SourceError::Option { message, hint })) = path.as_deref().map(listing::split_pattern) {
            table.problem("path", message, hint);
        }
        let is_json = table.choice("format", &[("text", false), ("json", true)]);
        let columns = table.named_texts("schema");
        let format = match (is_json, columns) {
            (Some(true), Some(columns)) => parse_columns(table, &columns),
            (Some(true), None) => {
                if !table.has("schema") {
                    let hint = "write the columns and their types, as in `schema = { word = \"utf8\", n = \"int64\" }`";
                    table.missing("schema", Some(hint.into()));
                }
                None
            }
            (Some(false) | None, _) => {
                if table.has("schema") && (is_json.is_some() || !table.has("format")) {
                    let hint =
                        Some("lines of text have one column, `value`; write `format = \"json\"` for others".into());
                    table.problem("schema", "`schema` does not go with `format = \"text\"`", hint);
                }
                Some(FileFormat::Text)
            }
        };
        let files_per_batch_max = table.integer("max-files-per-batch", 1..=u64::MAX);
        let bytes_per_batch_max = table.size("max-bytes-per-batch");
        if bytes_per_batch_max == Some(0) {
            table.problem("max-bytes-per-batch", "`max-bytes-per-batch` must be more than 0", None);
        }
        let lines = LineOptions::parse(table);
        if is_json == Some(true) && table.has("invalid") {
            let hint = Some("lines of JSON that are not valid UTF-8 are always rejected".into());
            table.problem("invalid", "`invalid` does not go with `format = \"json\"`", hint);
        }
        Some(Self { path: path?, format: format?, files_per_batch_max, bytes_per_batch_max, lines })
    }
}

fn parse_columns(table: &mut Table<'_>, columns: &[(String, String)]) -> Option<FileFormat> {
    if columns.is_empty() {
        table.problem("schema", "`schema` has no columns", None);
        return None;
    }
    match parse_schema(columns) {
        Ok(schema) => Some(FileFormat::Json(schema)),
        Err(errors) => {
            for (column, error) in errors {
                table.problem(&format!("schema.{column}"), error.message, error.hint);
            }
            None
        }
    }
}

impl SourceDefinition for FileSource {
    fn type_name(&self) -> &str {
        "file"
    }

    fn schema(&self) -> Result<SchemaRef, Error> {
        Ok(match &self.format {
            FileFormat::Text => text_schema(),
            FileFormat::Json(schema) => Arc::clone(schema),
        })
    }

    fn describe(&self) -> String {
        self.path.display().to_string()
    }

    fn ends(&self) -> bool {
        true
    }

    fn open(&self) -> Result<OpenSource, Error> {
        let place = Place::find(&self.path)?;
        let listing = place.list()?;
        if let Some(path) = listing.compressed.into_iter().next() {
            return Err(SourceError::Compressed { path }.into());
        }
        let counters = Arc::new(SourceCounters::new(self.describe()));
        let reader = Arc::new(FileReader::new(self.format.clone(), self.lines.clone(), Arc::clone(&counters)));
        let limits = plan::Limits { files_max: self.files_per_batch_max, bytes_max: self.bytes_per_batch_max };
        Ok(OpenSource::Replayable(Box::new(FilePlanner::new(place, listing.files, limits, reader, counters))))
    }
}
