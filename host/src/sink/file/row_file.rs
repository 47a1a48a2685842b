//! A file that is being written, in any of the formats.

use std::fs::File;
use std::io;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;

use super::csv::csv_file;
use super::lines::{json_file, text_file};
use super::options::FileSinkFormat;
use super::parquet::ParquetFile;

/// A file that rows are written to.
pub(super) trait RowFile: Send {
    /// Writes rows behind those before.
    fn write(&mut self, rows: &RecordBatch) -> Result<(), RowError>;

    /// The bytes that it would have if it ended now, more or less.
    fn n_bytes(&self) -> u64;

    /// Bytes of memory that it holds.
    fn held_bytes(&self) -> usize;

    /// Writes what is held in memory.
    fn flush(&mut self) -> Result<(), RowError>;

    /// Writes the end. It is not brought to the disk yet.
    fn finish(self: Box<Self>) -> Result<File, RowError>;
}

/// Why rows cannot be written.
#[derive(Debug)]
pub(super) enum RowError {
    /// The file takes no more.
    Io(io::Error),
    /// The format has no place for a value.
    Format(ArrowError),
}

impl From<io::Error> for RowError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<ArrowError> for RowError {
    fn from(error: ArrowError) -> Self {
        match error {
            ArrowError::IoError(_, error) => Self::Io(error),
            error => Self::Format(error),
        }
    }
}

/// A file of a format, for rows of a schema. `file` is empty.
pub(super) fn row_file(format: &FileSinkFormat, schema: &SchemaRef, file: File) -> Result<Box<dyn RowFile>, RowError> {
    Ok(match format {
        FileSinkFormat::Json => Box::new(json_file(file)),
        FileSinkFormat::Text => Box::new(text_file(file)),
        FileSinkFormat::Csv(options) => Box::new(csv_file(file, options)),
        FileSinkFormat::Parquet(compression) => Box::new(ParquetFile::new(file, schema, *compression)?),
    })
}
