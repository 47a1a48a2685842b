//! What a job file says about a file sink.

use crate::job::table::Table;

use super::FileSink;

/// How rows are written to files.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum FileSinkFormat {
    /// An object a line; nulls are left out, but in lists and maps. A file source with the rows' schema reads them back.
    /// Files end in `.jsonl`.
    #[default]
    Json,
    /// A line a row, of its only column, `utf8`; null is an empty line. Line ends in values are written as they are.
    /// Files end in `.txt`.
    Text,
    /// A record a row, quoted where it must be. A file source with the rows' schema and the same options reads them back, but for
    /// texts that are the null value. Files end in `.csv`.
    Csv(CsvSinkOptions),
    /// Parquet, with the rows' schema in each file. Files end in `.parquet`.
    Parquet(ParquetCompression),
}

/// How a file sink writes CSV.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CsvSinkOptions {
    /// What stands between fields: one ASCII character.
    pub delimiter: u8,
    /// Whether the first record of each file has the names of the columns.
    pub header: bool,
    /// What is written for null.
    pub null_value: String,
}

impl Default for CsvSinkOptions {
    fn default() -> Self {
        Self { delimiter: b',', header: true, null_value: String::new() }
    }
}

/// How Parquet is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ParquetCompression {
    /// Files a third smaller than Snappy's, for little more time; every reader of the last years knows it.
    #[default]
    Zstd,
    /// For older readers.
    Snappy,
    /// Not at all.
    None,
}

impl FileSinkFormat {
    /// How files of all formats end.
    pub(super) const EXTENSIONS: &'static [&'static str] = &["jsonl", "txt", "csv", "parquet"];

    pub(super) fn extension(&self) -> &'static str {
        match self {
            Self::Json => "jsonl",
            Self::Text => "txt",
            Self::Csv(_) => "csv",
            Self::Parquet(_) => "parquet",
        }
    }

    /// What messages call it.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Json => "JSON",
            Self::Text => "text",
            Self::Csv(_) => "CSV",
            Self::Parquet(_) => "Parquet",
        }
    }
}

/// The values of `format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Json,
    Text,
    Csv,
    Parquet,
}

const KINDS: &[(&str, Kind)] =
    &[("json", Kind::Json), ("text", Kind::Text), ("csv", Kind::Csv), ("parquet", Kind::Parquet)];

/// The keys that one format has alone.
const CSV_KEYS: &[&str] = &["delimiter", "header", "null-value"];
const PARQUET_KEYS: &[&str] = &["compression"];

impl FileSink {
    /// Reads the options `path`, `format`, `partition-by`, `max-file-size`, `overwrite`, and those of the format.
    pub fn parse(table: &mut Table<'_>) -> Option<Self> {
        let path = table.path("path");
        if path.is_none() && !table.has("path") {
            table.missing("path", Some("write `path = \"…\"`: a directory".into()));
        }
        let format = parse_format(table);
        let partition_by = table.texts("partition-by").unwrap_or_default();
        let file_bytes_max = table.size("max-file-size");
        if file_bytes_max == Some(0) {
            table.problem("max-file-size", "`max-file-size` must be more than 0", None);
        }
        let overwrite = table.boolean("overwrite").unwrap_or(false);
        Some(Self { path: path?, format: format?, partition_by, file_bytes_max, overwrite })
    }
}

/// Reads `format` and its keys.
fn parse_format(table: &mut Table<'_>) -> Option<FileSinkFormat> {
    let kind = table.choice("format", KINDS);
    let kind = if table.has("format") { kind } else { Some(Kind::Json) };
    let others: &[&[&str]] = match kind {
        // Which keys are right is not known.
        None => {
            [CSV_KEYS, PARQUET_KEYS].concat().into_iter().for_each(|key| table.know(key));
            return None;
        }
        Some(Kind::Json | Kind::Text) => &[CSV_KEYS, PARQUET_KEYS],
        Some(Kind::Csv) => &[PARQUET_KEYS],
        Some(Kind::Parquet) => &[CSV_KEYS],
    };
    for key in others.concat() {
        table.know(key);
        if table.has(key) {
            let name = KINDS.iter().find(|(_, other)| Some(*other) == kind).map_or("", |(name, _)| name);
            let hint = if CSV_KEYS.contains(&key) { "it is for CSV" } else { "it is for Parquet" };
            table.problem(key, format!("`{key}` does not go with `format = \"{name}\"`"), Some(hint.into()));
        }
    }
    Some(match kind? {
        Kind::Json => FileSinkFormat::Json,
        Kind::Text => FileSinkFormat::Text,
        Kind::Csv => FileSinkFormat::Csv(parse_csv(table)),
        Kind::Parquet => {
            let choices = [
                ("zstd", ParquetCompression::Zstd),
                ("snappy", ParquetCompression::Snappy),
                ("none", ParquetCompression::None),
            ];
            FileSinkFormat::Parquet(table.choice("compression", &choices).unwrap_or_default())
        }
    })
}

fn parse_csv(table: &mut Table<'_>) -> CsvSinkOptions {
    let mut options = CsvSinkOptions::default();
    match table.delimiter("delimiter") {
        Some(b'"') => table.problem("delimiter", "`delimiter` cannot be `\"`, which stands around fields", None),
        delimiter => options.delimiter = delimiter.unwrap_or(options.delimiter),
    }
    options.header = table.boolean("header").unwrap_or(options.header);
    options.null_value = table.text("null-value").unwrap_or(options.null_value);
    options
}
