//! Files, each read once: what Spark calls `textFileStream`, and more formats.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use arrow::datatypes::SchemaRef;

use super::counters::SourceCounters;
use super::error::SourceError;
use super::format::{
    CsvOptions, Declared, WithInfer, check_csv_columns, known, parse_bad_rows, parse_columns, refuse, refuse_schema,
};
use super::lines::{LineOptions, text_schema};
use super::reject::BadRows;
use super::{OpenSource, SourceDefinition};
use crate::error::Error;
use crate::job::table::Table;

use listing::Place;
use plan::FilePlanner;
use read::FileReader;

pub use table::{Fingerprint, TableRead, fingerprint, read_table, read_table_within};

mod columnar;
mod conform;
mod first;
#[cfg(test)]
mod format_tests;
mod listing;
mod plan;
mod read;
mod table;
#[cfg(test)]
mod tests;

/// Files: one file, those of a directory, or those that match a pattern.
///
/// # Which files
///
/// Files whose names start with `.` or `_` or end in `.tmp` are passed over, unless `path` names the file itself;
/// subdirectories are not looked into. Every batch looks for new files. They must be whole when they appear: write them
/// elsewhere in the same file system, or under a name that is passed over, and move them in. Each file is read once,
/// known by its path and identity: a file that grows after it became part of a batch is not read again, a new file
/// under an old name is. In a directory that a file sink writes to, only the files that its manifests name count, those in
/// folders of values included: never half a batch, nor one that is taken back. Such files are read in the order of
/// their batches; others are read in the order of their modification times, then names; those that appear later
/// come after all those seen before. Compressed files are refused, and so is what is not a regular file.
///
/// # How they are read
///
/// Large files are cut into offset ranges, so that several tasks share one file; nothing is read when ranges are cut.
/// A file that is gone, replaced, or shorter when its batch reads it fails the batch by name.
///
/// | format | what a range has |
/// | --- | --- |
/// | text, JSON, CSV without `quoted_newlines` | the lines that *start* in it |
/// | Parquet | the row groups that start in it |
/// | CSV with `quoted_newlines`, Arrow IPC | the whole file |
///
/// Lines are as those of [`SocketSource`](super::SocketSource). A byte order mark at the start of a file is passed over.
/// Lines that are no rows, and files that are broken or have other columns, are dealt with as `bad_rows` says.
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
    /// What is in the files.
    pub format: FileFormat,
    /// Files a batch takes, at most.
    pub files_per_batch_max: Option<u64>,
    /// Bytes a batch takes; a file is taken whole, so that one file may be more.
    pub bytes_per_batch_max: Option<u64>,
    /// How lines are read.
    pub lines: LineOptions,
    /// What is done with rows and files that cannot be read.
    pub bad_rows: BadRows,
}

/// What is in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileFormat {
    /// Lines, each a row of one column, `value: utf8`.
    Text,
    /// Lines, each a JSON object: see [`LineFormat::Json`](super::LineFormat::Json).
    Json(Columns),
    /// Records of CSV: see [`LineFormat::Csv`](super::LineFormat::Csv).
    Csv(Columns, CsvOptions),
    /// Parquet: of the columns of a file only these are read.
    Parquet(Columns),
    /// Arrow's IPC, as files or streams, which each file says itself.
    Arrow(Columns),
}

impl FileFormat {
    /// Its name in a job file.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json(_) => "json",
            Self::Csv(..) => "csv",
            Self::Parquet(_) => "parquet",
            Self::Arrow(_) => "arrow",
        }
    }

    /// Whether a file can be cut anywhere.
    fn is_cut(&self) -> bool {
        match self {
            Self::Text | Self::Json(_) | Self::Parquet(_) => true,
            Self::Csv(_, options) => !options.quoted_newlines,
            Self::Arrow(_) => false,
        }
    }
}

/// Which columns a source has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Columns {
    /// These.
    Declared(SchemaRef),
    /// Those of the first file there is when the schema is first asked for.
    Infer(Inferred),
}

impl Columns {
    /// Those of the first file.
    #[must_use]
    pub fn infer() -> Self {
        Self::Infer(Inferred::default())
    }
}

impl From<SchemaRef> for Columns {
    fn from(schema: SchemaRef) -> Self {
        Self::Declared(schema)
    }
}

impl From<Declared> for Columns {
    fn from(declared: Declared) -> Self {
        match declared {
            Declared::Columns(schema) => Self::Declared(schema),
            Declared::Infer => Self::infer(),
        }
    }
}

/// A schema that is found once, and is the source's from then on. A clone looks for itself.
#[derive(Debug, Default)]
pub struct Inferred(OnceLock<SchemaRef>);

impl Clone for Inferred {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl PartialEq for Inferred {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Inferred {}

impl FileSource {
    /// Files of any format.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>, format: FileFormat) -> Self {
        Self {
            path: path.into(),
            format,
            files_per_batch_max: None,
            bytes_per_batch_max: None,
            lines: LineOptions::default(),
            bad_rows: BadRows::Drop,
        }
    }

    /// Lines of text.
    #[must_use]
    pub fn text(path: impl Into<PathBuf>) -> Self {
        Self::new(path, FileFormat::Text)
    }

    /// Lines of JSON. Every column of the schema should allow nulls: a line without it is rejected otherwise.
    #[must_use]
    pub fn json(path: impl Into<PathBuf>, schema: SchemaRef) -> Self {
        Self::new(path, FileFormat::Json(schema.into()))
    }

    /// Reads the options `path`, `format`, `schema`, those of CSV, `max-files-per-batch`, `max-bytes-per-batch`,
    /// `max-line-bytes`, `invalid`, `on-error` and `dead-letter`.
    pub fn parse(table: &mut Table<'_>) -> Option<Self> {
        let path = table.path("path");
        if path.is_none() && !table.has("path") {
            table.missing("path", Some("write `path = \"…\"`: a file, a directory or a pattern".into()));
        }
        // What is not there may come until the source is opened; what is no pattern never will be one.
        if let Some(Err(SourceError::Option { message, hint })) = path.as_deref().map(listing::split_pattern) {
            table.problem("path", message, hint);
        }
        let (format, kind) = parse_format(table);
        let bad_rows = parse_bad_rows(table, kind == Some(Kind::Text));
        let files_per_batch_max = table.integer("max-files-per-batch", 1..=u64::MAX);
        let bytes_per_batch_max = table.size("max-bytes-per-batch");
        if bytes_per_batch_max == Some(0) {
            table.problem("max-bytes-per-batch", "`max-bytes-per-batch` must be more than 0", None);
        }
        let lines = LineOptions::parse(table);
        match kind {
            None | Some(Kind::Text) => {}
            Some(Kind::Json) => {
                refuse(table, &["invalid"], "json", "lines of JSON that are not valid UTF-8 are always rejected");
            }
            Some(Kind::Csv) => {
                refuse(table, &["invalid"], "csv", "records of CSV that are not valid UTF-8 are always rejected");
            }
            Some(Kind::Parquet) => refuse(table, &["invalid", "max-line-bytes"], "parquet", "it has no lines"),
            Some(Kind::Arrow) => refuse(table, &["invalid", "max-line-bytes"], "arrow", "it has no lines"),
        }
        Some(Self { path: path?, format: format?, files_per_batch_max, bytes_per_batch_max, lines, bad_rows })
    }

    /// The schema of its rows, found in the first file if it is to be.
    fn resolved(&self) -> Result<SchemaRef, Error> {
        let columns = match &self.format {
            FileFormat::Text => return Ok(text_schema()),
            FileFormat::Json(columns)
            | FileFormat::Csv(columns, _)
            | FileFormat::Parquet(columns)
            | FileFormat::Arrow(columns) => columns,
        };
        match columns {
            Columns::Declared(schema) => Ok(Arc::clone(schema)),
            Columns::Infer(Inferred(found)) => match found.get() {
                Some(schema) => Ok(Arc::clone(schema)),
                None => {
                    let schema = first::infer(self)?;
                    Ok(Arc::clone(found.get_or_init(|| schema)))
                }
            },
        }
    }
}

/// The values of `format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Json,
    Csv,
    Parquet,
    Arrow,
}

/// Reads `format`, `schema` and the keys of CSV. The kind is known also where the rest is wrong.
fn parse_format(table: &mut Table<'_>) -> (Option<FileFormat>, Option<Kind>) {
    let choices = [
        ("text", Kind::Text),
        ("json", Kind::Json),
        ("csv", Kind::Csv),
        ("parquet", Kind::Parquet),
        ("arrow", Kind::Arrow),
    ];
    let kind = table.choice("format", &choices);
    let kind = if table.has("format") { kind } else { Some(Kind::Text) };
    let Some(kind) = kind else {
        known(table, &["schema"]);
        known(table, CsvOptions::KEYS);
        return (None, None);
    };
    let format = match kind {
        Kind::Text => refuse_schema(table).then_some(FileFormat::Text),
        Kind::Json => parse_columns(table, WithInfer::Written).map(|columns| FileFormat::Json(columns.into())),
        Kind::Csv => {
            let columns = parse_columns(table, WithInfer::Written).and_then(|columns| match columns {
                Declared::Columns(schema) => check_csv_columns(table, schema).map(Declared::Columns),
                Declared::Infer => Some(Declared::Infer),
            });
            let options = CsvOptions::parse(table);
            columns.map(|columns| FileFormat::Csv(columns.into(), options))
        }
        Kind::Parquet => parse_columns(table, WithInfer::Default).map(|columns| FileFormat::Parquet(columns.into())),
        Kind::Arrow => parse_columns(table, WithInfer::Default).map(|columns| FileFormat::Arrow(columns.into())),
    };
    if kind != Kind::Csv {
        let name = choices.iter().find(|(_, other)| *other == kind).map_or("", |(name, _)| name);
        refuse(table, CsvOptions::KEYS, name, "it is for CSV");
    }
    (format, Some(kind))
}

impl SourceDefinition for FileSource {
    fn type_name(&self) -> &str {
        "file"
    }

    fn schema(&self) -> Result<SchemaRef, Error> {
        let schema = self.resolved()?;
        first::check(self, &schema)?;
        Ok(schema)
    }

    fn dead_letter(&self) -> Option<&str> {
        self.bad_rows.dead_letter()
    }

    fn describe(&self) -> String {
        self.path.display().to_string()
    }

    fn is_pushed_to(&self) -> bool {
        false
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
        let reader = Arc::new(FileReader::new(self, self.resolved()?, Arc::clone(&counters)));
        let limits = plan::Limits {
            files_max: self.files_per_batch_max,
            bytes_max: self.bytes_per_batch_max,
            is_cut: self.format.is_cut(),
        };
        Ok(OpenSource::Replayable(Box::new(FilePlanner::new(place, listing.files, limits, reader, counters))))
    }
}
