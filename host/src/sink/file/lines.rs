//! Files of lines: JSON, text, and what CSV is made of.

use std::fs::File;
use std::io::Write;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::error::ArrowError;

use super::row_file::{RowError, RowFile};
use crate::json_lines::write_lines;

/// Bytes gathered before they are written.
const WRITE_BYTES: usize = 256 << 10;

/// What readers pass over at the start of a file, though it may be the first letter of the first value.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// Appends rows to bytes.
type Encode = Box<dyn FnMut(&RecordBatch, &mut Vec<u8>) -> Result<(), ArrowError> + Send>;

/// A file of lines.
pub(super) struct LineFile {
    file: File,
    encode: Encode,
    /// Lines that have not been written.
    buffer: Vec<u8>,
    n_written: u64,
}

impl LineFile {
    pub(super) fn new(file: File, encode: Encode) -> Self {
        Self { file, encode, buffer: Vec::new(), n_written: 0 }
    }
}

impl RowFile for LineFile {
    fn write(&mut self, rows: &RecordBatch) -> Result<(), RowError> {
        let is_first = self.n_bytes() == 0;
        (self.encode)(rows, &mut self.buffer)?;
        if is_first && self.buffer.starts_with(BYTE_ORDER_MARK) {
            // Readers pass one over.
            self.buffer.splice(..0, BYTE_ORDER_MARK.iter().copied());
        }
        if self.buffer.len() >= WRITE_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    fn n_bytes(&self) -> u64 {
        self.n_written + self.buffer.len() as u64
    }

    fn held_bytes(&self) -> usize {
        self.buffer.capacity()
    }

    fn flush(&mut self) -> Result<(), RowError> {
        self.file.write_all(&self.buffer)?;
        self.n_written += self.buffer.len() as u64;
        // Many files may be open at once, each with little to do.
        self.buffer = Vec::new();
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<File, RowError> {
        self.flush()?;
        Ok(self.file)
    }
}

/// An object a line.
pub(super) fn json_file(file: File) -> LineFile {
    LineFile::new(file, Box::new(write_lines))
}

/// The only column, a line a row.
pub(super) fn text_file(file: File) -> LineFile {
    LineFile::new(
        file,
        Box::new(|rows, out| {
            let column = rows.column(0).as_string::<i32>();
            out.reserve(column.len());
            for line in column {
                out.extend_from_slice(line.unwrap_or_default().as_bytes());
                out.push(b'\n');
            }
            Ok(())
        }),
    )
}
