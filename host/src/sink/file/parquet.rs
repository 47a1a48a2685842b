//! Files of Parquet.

use std::fs::File;
use std::io;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;

use super::options::ParquetCompression;
use super::row_file::{RowError, RowFile};
use crate::error::Error;
use crate::sink::SinkError;

/// A file of Parquet. Row groups end when their memory is needed elsewhere, or with Parquet's own default of a million rows.
pub(super) struct ParquetFile {
    writer: ArrowWriter<File>,
}

impl ParquetFile {
    pub(super) fn new(file: File, schema: &SchemaRef, compression: ParquetCompression) -> Result<Self, RowError> {
        let compression = match compression {
            ParquetCompression::Zstd => Compression::ZSTD(ZstdLevel::default()),
            ParquetCompression::Snappy => Compression::SNAPPY,
            ParquetCompression::None => Compression::UNCOMPRESSED,
        };
        let properties = WriterProperties::builder().set_compression(compression).build();
        let writer = ArrowWriter::try_new(file, schema.clone(), Some(properties)).map_err(row_error)?;
        Ok(Self { writer })
    }
}

impl RowFile for ParquetFile {
    fn write(&mut self, rows: &RecordBatch) -> Result<(), RowError> {
        self.writer.write(rows).map_err(row_error)
    }

    fn n_bytes(&self) -> u64 {
        (self.writer.bytes_written() + self.writer.in_progress_size()) as u64
    }

    fn held_bytes(&self) -> usize {
        self.writer.memory_size()
    }

    fn flush(&mut self) -> Result<(), RowError> {
        self.writer.flush().map_err(row_error)
    }

    fn finish(self: Box<Self>) -> Result<File, RowError> {
        self.writer.into_inner().map_err(row_error)
    }
}

/// Whether Parquet can be made of rows of this schema.
pub(super) fn check_parquet(schema: &SchemaRef) -> Result<(), Error> {
    match ArrowWriter::try_new(io::sink(), schema.clone(), None) {
        Ok(_) => Ok(()),
        Err(error) => {
            let reason = match error {
                ParquetError::General(text) | ParquetError::NYI(text) | ParquetError::ArrowError(text) => text,
                other => other.to_string(),
            };
            let hint = "Leave the column out, or make a text of it.".into();
            Err(SinkError::Schema { format: "Parquet", reason, hint }.into())
        }
    }
}

/// Errors of the file are found again in what Parquet says.
fn row_error(error: ParquetError) -> RowError {
    match error {
        ParquetError::External(source) => match source.downcast::<io::Error>() {
            Ok(error) => RowError::Io(*error),
            Err(source) => RowError::Format(ArrowError::ExternalError(source)),
        },
        other => RowError::Format(other.into()),
    }
}
