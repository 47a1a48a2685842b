//! Reads the lines that start in a range of a file.
//!
//! A line belongs to the range that its first byte is in. So a range that does not start at 0 passes over everything up
//! to the first line end at or after the byte before it, and reads on beyond its end to the end of its last line: two
//! ranges that touch share no line and lose none, wherever the file was cut.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::sync::Arc;

use memchr::memchr;

use super::FileFormat;
use super::json::JsonRows;
use super::listing::identity;
use crate::error::Error;
use crate::source::intake::shown_bytes;
use crate::source::lines::{EmitRows, LineCutter, LineOptions, LineRows, LineStream, TextRows, text_schema};
use crate::source::{OffsetRange, RangeReader, SourceCounters, SourceError};

/// Bytes of one read, and so about those of one batch of rows: they stay in the cache of one core from the read to the
/// first step.
const READ_BYTES: usize = 512 << 10;

/// Bytes of one read beyond the end of a range: most lines are far shorter.
const TAIL_BYTES: usize = 8 << 10;

/// Rows of a batch, at most: what one call of a plugin gets.
const ROWS_MAX: usize = 65_536;

/// Bytes of a batch, but for one line that is longer.
const BATCH_BYTES_MAX: usize = 4 << 20;

/// Reads ranges of files.
#[derive(Debug)]
pub(super) struct FileReader {
    format: FileFormat,
    lines: LineOptions,
    counters: Arc<SourceCounters>,
}

impl FileReader {
    pub(super) fn new(format: FileFormat, lines: LineOptions, counters: Arc<SourceCounters>) -> Self {
        Self { format, lines, counters }
    }
}

impl RangeReader for FileReader {
    fn read_range(
        &self,
        range: &OffsetRange,
        emit: &mut dyn FnMut(arrow::array::RecordBatch) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut emit = |rows: arrow::array::RecordBatch| {
            self.counters.add_rows(rows.num_rows() as u64, shown_bytes(&rows));
            emit(rows)
        };
        let (lines, counters) = (&self.lines, Arc::clone(&self.counters));
        let cutter = LineCutter::new(lines);
        match &self.format {
            FileFormat::Text => {
                let rows = TextRows::new(lines.clone(), text_schema(), counters, ROWS_MAX, BATCH_BYTES_MAX);
                read_lines(range, LineStream::new(cutter, rows), &mut emit)
            }
            FileFormat::Json(schema) => {
                let rows = JsonRows::new(range.object.clone(), Arc::clone(schema), lines.line_bytes_max, counters);
                read_lines(range, LineStream::new(cutter, rows), &mut emit)
            }
        }
    }
}

fn read_lines<R: LineRows>(
    range: &OffsetRange,
    mut stream: LineStream<R>,
    emit: &mut EmitRows<'_>,
) -> Result<(), Error> {
    if range.start >= range.end {
        if range.start == range.end {
            return Ok(());
        }
        return Err(SourceError::Range { object: range.object.clone(), start: range.start, end: range.end }.into());
    }
    let file = open(range)?;
    let mut buffer =
        vec![0; READ_BYTES.min(usize::try_from(range.end - range.start).unwrap_or(READ_BYTES)).max(TAIL_BYTES)];
    // The byte before the range tells whether its first byte starts a line.
    let mut offset = range.start.saturating_sub(1);
    let mut within_foreign_line = range.start > 0;
    loop {
        let n_wanted = match range.end.checked_sub(offset) {
            None | Some(0) => TAIL_BYTES,
            Some(left) => buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX)),
        };
        let n_bytes = read_full(&file, offset, &mut buffer[..n_wanted])
            .map_err(|source| SourceError::Read { what: format!("`{}`", range.object), source })?;
        if n_bytes == 0 {
            return at_end_of_file(range, offset, stream, emit);
        }
        let mut piece = &buffer[..n_bytes];
        let mut piece_start = offset;
        offset += n_bytes as u64;
        if within_foreign_line {
            match memchr(b'\n', piece) {
                Some(end) => {
                    within_foreign_line = false;
                    piece = &piece[end + 1..];
                    piece_start += end as u64 + 1;
                }
                None => piece = &[],
            }
            // No line starts in the range: the whole of it is within a line of another one.
            if (within_foreign_line && offset >= range.end) || piece_start >= range.end {
                return Ok(());
            }
        }
        if offset < range.end {
            stream.add(piece, emit)?;
            stream.flush(emit)?;
            continue;
        }
        // The last line is that of the range's last byte, which is in this piece or before it.
        let last_byte = usize::try_from((range.end - 1).saturating_sub(piece_start)).unwrap_or(usize::MAX);
        if let Some(end) = piece.get(last_byte..).and_then(|rest| memchr(b'\n', rest)) {
            stream.add(&piece[..=last_byte + end], emit)?;
            return stream.flush(emit);
        }
        stream.add(piece, emit)?;
        stream.flush(emit)?;
        if stream.is_passing_over() {
            // The rest of a line that is too long is passed over by whoever starts in it.
            return Ok(());
        }
    }
}

/// Ends a range whose file has ended, where it may or too early.
fn at_end_of_file<R: LineRows>(
    range: &OffsetRange,
    offset: u64,
    mut stream: LineStream<R>,
    emit: &mut EmitRows<'_>,
) -> Result<(), Error> {
    if offset < range.end {
        return Err(SourceError::Shrank {
            path: PathBuf::from(&range.object),
            planned_bytes: range.end,
            found_bytes: offset,
        }
        .into());
    }
    stream.finish(emit)
}

/// Opens the file of a range, if it has what was planned.
fn open(range: &OffsetRange) -> Result<File, Error> {
    let path = PathBuf::from(&range.object);
    let failed = |source: io::Error| match source.kind() {
        ErrorKind::NotFound => SourceError::Vanished { path: path.clone() },
        _ => SourceError::Read { what: format!("`{}`", range.object), source },
    };
    // Opening a pipe would wait for whoever writes to it.
    if !fs::metadata(&path).map_err(failed)?.is_file() {
        return Err(SourceError::Replaced { path }.into());
    }
    let file = File::open(&path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if range.identity.is_some_and(|planned| planned != identity(&range.object, &metadata)) {
        return Err(SourceError::Replaced { path }.into());
    }
    let found_bytes = metadata.len();
    if found_bytes < range.end {
        return Err(SourceError::Shrank { path, planned_bytes: range.end, found_bytes }.into());
    }
    Ok(file)
}

/// Reads until the buffer is full or the file ends, so that pieces, and with them batches of rows, are cut the same way
/// on every replay.
fn read_full(file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let mut n_read = 0;
    while n_read < buffer.len() {
        match read_at(file, offset + n_read as u64, &mut buffer[n_read..]) {
            Ok(0) => break,
            Ok(n_bytes) => n_read += n_bytes,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(n_read)
}

#[cfg(unix)]
fn read_at(file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, buffer, offset)
}

#[cfg(windows)]
fn read_at(file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, buffer, offset)
}
