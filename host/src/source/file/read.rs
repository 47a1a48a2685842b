//! Reads the rows of a range of a file.
//!
//! A line belongs to the range that its first byte is in. So a range that does not start at 0 passes over everything up
//! to the first line end at or after the byte before it, and reads on beyond its end to the end of its last line: two
//! ranges that touch share no line and lose none, wherever the file was cut.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use memchr::{memchr, memchr_iter};

use super::columnar::{self, Columnar, Failure};
use super::listing::identity;
use super::{FileFormat, FileSource};
use crate::error::Error;
use crate::source::format::{BatchBounds, CsvColumns, CsvOptions, CsvRows, LineFormat};
use crate::source::intake::shown_bytes;
use crate::source::lines::{EmitRows, LineCutter, LineOptions, LineRows, LineStream};
use crate::source::reject::{BadRows, Rejects};
use crate::source::{OffsetRange, RangeReader, SourceCounters, SourceError, SourceNote};

/// Bytes of one read, and so about those of one batch of rows: they stay in the cache of one core from the read to the
/// first step.
const READ_BYTES: usize = 512 << 10;

/// Bytes of one read beyond the end of a range: most lines are far shorter.
const TAIL_BYTES: usize = 8 << 10;

/// Rows of a batch, at most: what one call of a plugin gets.
const ROWS_MAX: usize = 65_536;

/// Bytes of a batch, but for one line that is longer.
const BATCH_BYTES_MAX: usize = 4 << 20;

/// Bytes of a header of CSV, at most, beside `max-line-bytes`.
const HEADER_READ_BYTES: usize = 64 << 10;

/// Reads ranges of files.
#[derive(Debug)]
pub(super) struct FileReader {
    format: ReadAs,
    schema: SchemaRef,
    lines: LineOptions,
    bad_rows: BadRows,
    counters: Arc<SourceCounters>,
}

/// How ranges are read.
#[derive(Debug)]
enum ReadAs {
    Lines(LineFormat),
    /// CSV whose columns are found by a header, which ranges other than the first have to look for.
    WithHeader(CsvOptions),
    Columnar(Columnar),
}

impl FileReader {
    /// A reader of the files of a source, whose schema has been found.
    pub(super) fn new(source: &FileSource, schema: SchemaRef, counters: Arc<SourceCounters>) -> Self {
        let format = match &source.format {
            FileFormat::Text => ReadAs::Lines(LineFormat::Text),
            FileFormat::Json(_) => ReadAs::Lines(LineFormat::Json(Arc::clone(&schema))),
            FileFormat::Csv(_, options) if options.header => ReadAs::WithHeader(options.clone()),
            FileFormat::Csv(_, options) => ReadAs::Lines(LineFormat::Csv(Arc::clone(&schema), options.clone())),
            FileFormat::Parquet(_) => ReadAs::Columnar(Columnar::Parquet),
            FileFormat::Arrow(_) => ReadAs::Columnar(Columnar::Ipc),
        };
        Self { format, schema, lines: source.lines.clone(), bad_rows: source.bad_rows.clone(), counters }
    }

    fn rejects(&self, range: &OffsetRange) -> Rejects {
        Rejects::new(range.object.clone(), self.bad_rows.clone(), &self.schema, Arc::clone(&self.counters))
    }

    /// Reads a range of CSV whose columns the file's header names.
    fn read_with_header(
        &self,
        options: &CsvOptions,
        range: &OffsetRange,
        emit: &mut EmitRows<'_>,
    ) -> Result<(), Error> {
        let rejects = self.rejects(range);
        let mut rows = CsvRows::new(Arc::clone(&self.schema), options.clone(), self.lines.line_bytes_max, rejects);
        if range.start > 0 {
            let file = open(range)?;
            let header = first_fields(&file, options, &self.lines)
                .map_err(|source| SourceError::Read { what: format!("`{}`", range.object), source })?;
            match CsvColumns::find(&self.schema, &header.unwrap_or_default()) {
                Ok(columns) => rows = rows.with_columns(columns),
                Err(reason) => return self.file_failed(range, Failure::File { reason, at_start: true }, emit),
            }
        }
        let read = read_lines(range, LineStream::new(LineCutter::new(&self.lines), rows), emit);
        match read {
            Err(error) => match error.downcast_ref::<SourceError>() {
                Some(SourceError::BadFile { reason, .. }) => {
                    let failure = Failure::File { reason: reason.clone(), at_start: true };
                    self.file_failed(range, failure, emit)
                }
                _ => Err(error),
            },
            Ok(()) => Ok(()),
        }
    }

    fn read_columnar(&self, format: Columnar, range: &OffsetRange, emit: &mut EmitRows<'_>) -> Result<(), Error> {
        if range.start >= range.end {
            return check_empty(range);
        }
        let file = open(range)?;
        let mut rejects = self.rejects(range);
        let mut give = |rows| rejects.give(Some(rows), emit);
        match columnar::read(format, &range.object, file, (range.start, range.end), &self.schema, &mut give) {
            Ok(()) => Ok(()),
            Err(failure) => self.file_failed(range, failure, emit),
        }
    }

    /// Does what the source's options say with a file that is broken, or has other columns. What every range of it finds
    /// is told by the first.
    fn file_failed(&self, range: &OffsetRange, failure: Failure, emit: &mut EmitRows<'_>) -> Result<(), Error> {
        let (reason, at_start) = match failure {
            Failure::Other(error) => return Err(error),
            Failure::File { reason, at_start } => (reason, at_start),
        };
        let object = range.object.clone();
        if self.bad_rows == BadRows::Fail {
            return Err(SourceError::BadFile { object, reason }.into());
        }
        if at_start && range.start > 0 {
            return Ok(());
        }
        if self.bad_rows == BadRows::Drop {
            let reason = SourceError::BadFile { object, reason }.to_string();
            self.counters.note(SourceNote::ObjectRefused { reason });
            return Ok(());
        }
        let mut rejects = self.rejects(range);
        rejects.reject(range.start, reason, None);
        rejects.give(None, emit)
    }
}

impl RangeReader for FileReader {
    fn read_range(
        &self,
        range: &OffsetRange,
        emit: &mut dyn FnMut(RecordBatch) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut emit = |rows: RecordBatch| {
            self.counters.add_rows(rows.num_rows() as u64, shown_bytes(&rows));
            emit(rows)
        };
        let read = match &self.format {
            ReadAs::Lines(format) => {
                let batch = BatchBounds { rows_max: ROWS_MAX, bytes_max: BATCH_BYTES_MAX };
                let stream = format.stream(&range.object, &self.lines, &self.bad_rows, batch, &self.counters);
                read_lines(range, stream, &mut emit)
            }
            ReadAs::WithHeader(options) => self.read_with_header(options, range, &mut emit),
            ReadAs::Columnar(format) => self.read_columnar(*format, range, &mut emit),
        };
        read.map_err(with_line)
    }
}

/// An error with the line that a row stands on, which is worth a look at the file before it.
fn with_line(error: Error) -> Error {
    match error.downcast_ref::<SourceError>() {
        Some(SourceError::BadRow { object, position, line: None, shown, reason }) => {
            let line = count_lines(object, *position).ok();
            let (object, position, shown, reason) = (object.clone(), *position, shown.clone(), reason.clone());
            SourceError::BadRow { object, position, line, shown, reason }.into()
        }
        _ => error,
    }
}

/// The number of the line that starts at `position`.
fn count_lines(path: &str, position: u64) -> io::Result<u64> {
    let mut before = File::open(path)?.take(position);
    let mut buffer = vec![0; READ_BYTES];
    let mut n_lines = 1;
    loop {
        match before.read(&mut buffer)? {
            0 => return Ok(n_lines),
            n_bytes => n_lines += memchr_iter(b'\n', &buffer[..n_bytes]).count() as u64,
        }
    }
}

/// The fields of the first record of a file, if it is whole and no longer than allowed.
pub(super) fn first_fields(file: &File, options: &CsvOptions, lines: &LineOptions) -> io::Result<Option<Vec<String>>> {
    let n_bytes_max = usize::try_from(lines.line_bytes_max).unwrap_or(usize::MAX).max(HEADER_READ_BYTES);
    let mut start = vec![0; HEADER_READ_BYTES];
    loop {
        let n_bytes = read_full(file, 0, &mut start)?;
        let is_whole = n_bytes < start.len();
        let text = &start[..n_bytes];
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        // A record at the end of what was read may go on behind it.
        let fields = options.first_fields(text);
        if is_whole || start.len() >= n_bytes_max || (fields.is_some() && memchr(b'\n', text).is_some()) {
            return Ok(fields);
        }
        start.resize(start.len() * 2, 0);
    }
}

/// The first bytes of a file.
pub(super) fn first_bytes(file: &File, n_bytes_max: usize) -> io::Result<Vec<u8>> {
    let mut sample = vec![0; n_bytes_max];
    let n_bytes = read_full(file, 0, &mut sample)?;
    sample.truncate(n_bytes);
    Ok(sample)
}

/// That a range without bytes is one that may be.
fn check_empty(range: &OffsetRange) -> Result<(), Error> {
    if range.start == range.end {
        return Ok(());
    }
    Err(SourceError::Range { object: range.object.clone(), start: range.start, end: range.end }.into())
}

fn read_lines<R: LineRows>(
    range: &OffsetRange,
    mut stream: LineStream<R>,
    emit: &mut EmitRows<'_>,
) -> Result<(), Error> {
    if range.start >= range.end {
        return check_empty(range);
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
                    stream.start_at(piece_start);
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
            return stream.finish(emit);
        }
        stream.add(piece, emit)?;
        stream.flush(emit)?;
        if stream.is_passing_over() {
            // The rest of a line that is too long is passed over by whoever starts in it.
            return stream.finish(emit);
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
