//! Reads files that have a schema of their own: Parquet, and Arrow's IPC files and streams.
//!
//! A range of a Parquet file has the row groups whose first byte is in it, so that ranges that cover a file have each
//! row group once, wherever it was cut. An IPC file is one range.
//!
//! What stands in a file is not trusted: sizes are held against the file's before anything is allocated for them, and a
//! reader that panics is a broken file.

use std::fs::File;
use std::io::{self, BufReader, ErrorKind, Read, Seek, SeekFrom};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::reader::{FileReader, StreamReader, read_footer_length};
use arrow::ipc::{root_as_footer, root_as_message};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::errors::ParquetError;

use super::conform::{conform, find_columns};
use crate::error::Error;
use crate::source::SourceError;

/// Rows of a batch, at most. Files have wide rows as a rule.
const ROWS_MAX: usize = 8_192;

/// What an IPC file starts and ends with.
const IPC_MAGIC: &[u8] = b"ARROW1";

/// What every message of an IPC stream starts with.
const IPC_CONTINUATION: [u8; 4] = [0xff; 4];

/// The formats that are read here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Columnar {
    /// Parquet.
    Parquet,
    /// An IPC file or stream: which of them, the file says.
    Ipc,
}

/// Why a file could not be read.
#[derive(Debug)]
pub(super) enum Failure {
    /// It is broken, or has other columns: the source's options say what is done.
    File {
        /// What is wrong.
        reason: String,
        /// Whether that shows before any row: then every range of the file finds it.
        at_start: bool,
    },
    /// Anything else.
    Other(Error),
}

impl<E: Into<Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Other(error.into())
    }
}

fn broken(reason: impl Into<String>) -> Failure {
    Failure::File { reason: reason.into(), at_start: true }
}

/// The rows of a file, batch by batch, with some of its columns.
type Batches = Box<dyn Iterator<Item = Result<RecordBatch, ArrowError>>>;

/// Reads the rows of a range of a file in the columns of `schema`.
pub(super) fn read(
    format: Columnar,
    name: &str,
    file: File,
    range: (u64, u64),
    schema: &SchemaRef,
    emit: &mut dyn FnMut(RecordBatch) -> Result<(), Error>,
) -> Result<(), Failure> {
    let mut batches = guarded(name, || match format {
        Columnar::Parquet => open_parquet(file, range, schema),
        Columnar::Ipc => open_ipc(file, schema),
    })?;
    let late = |failure| match failure {
        Failure::File { reason, .. } => Failure::File { reason, at_start: false },
        other => other,
    };
    loop {
        let rows = guarded(name, || match batches.next() {
            None => Ok(None),
            Some(rows) => shape(&rows?, schema).map(Some).map_err(Opening::Arrow),
        });
        match rows.map_err(late)? {
            None => return Ok(()),
            Some(rows) if rows.num_rows() == 0 => {}
            Some(rows) => emit(rows)?,
        }
    }
}

/// The schema of a file, as it says it.
pub(super) fn read_schema(format: Columnar, name: &str, file: File) -> Result<SchemaRef, Failure> {
    guarded(name, || match format {
        Columnar::Parquet => Ok(Arc::clone(ParquetRecordBatchReaderBuilder::try_new(file)?.schema())),
        Columnar::Ipc => match check_ipc(&file)? {
            IpcKind::File => Ok(FileReader::try_new(BufReader::new(file), None)?.schema()),
            IpcKind::Stream => Ok(StreamReader::try_new(BufReader::new(file), None)?.schema()),
        },
    })
}

/// The columns of `schema`, in its order and types.
fn shape(rows: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let column = |field: &Arc<arrow::datatypes::Field>| {
        let missing = || ArrowError::SchemaError(format!("column `{}` is missing", field.name()));
        conform(rows.column_by_name(field.name()).ok_or_else(missing)?, field.data_type())
    };
    let columns = schema.fields().iter().map(column).collect::<Result<Vec<_>, _>>()?;
    RecordBatch::try_new(Arc::clone(schema), columns)
}

/// What goes wrong while a reader of a library is at work.
enum Opening {
    Parquet(ParquetError),
    Arrow(ArrowError),
    Io(io::Error),
    /// Found here.
    Reason(String),
}

impl From<ParquetError> for Opening {
    fn from(error: ParquetError) -> Self {
        Self::Parquet(error)
    }
}

impl From<ArrowError> for Opening {
    fn from(error: ArrowError) -> Self {
        Self::Arrow(error)
    }
}

impl From<io::Error> for Opening {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<String> for Opening {
    fn from(reason: String) -> Self {
        Self::Reason(reason)
    }
}

/// Calls a reader, and tells a broken file from a disk that does not answer.
fn guarded<T>(name: &str, read: impl FnOnce() -> Result<T, Opening>) -> Result<T, Failure> {
    // The reader is dropped after a panic.
    let error = match catch_unwind(AssertUnwindSafe(read)) {
        Ok(Ok(value)) => return Ok(value),
        Ok(Err(error)) => error,
        Err(_) => return Err(broken("its content contradicts itself")),
    };
    let unreadable = |source| SourceError::Read { what: format!("`{name}`"), source };
    Err(match error {
        Opening::Reason(reason) => broken(reason),
        Opening::Io(error) if error.kind() != ErrorKind::UnexpectedEof => unreadable(error).into(),
        Opening::Io(_) => broken("it ends too early"),
        Opening::Parquet(ParquetError::External(error)) => match error.downcast::<io::Error>() {
            Ok(error) if error.kind() != ErrorKind::UnexpectedEof => unreadable(*error).into(),
            Ok(_) => broken("it ends too early"),
            Err(error) => broken(error.to_string()),
        },
        Opening::Parquet(ParquetError::General(text) | ParquetError::EOF(text)) => broken(text),
        Opening::Parquet(error) => broken(error.to_string()),
        Opening::Arrow(ArrowError::IoError(_, error)) if error.kind() != ErrorKind::UnexpectedEof => {
            unreadable(error).into()
        }
        Opening::Arrow(ArrowError::IoError(..)) => broken("it ends too early"),
        Opening::Arrow(
            ArrowError::ParseError(text)
            | ArrowError::IpcError(text)
            | ArrowError::CastError(text)
            | ArrowError::ComputeError(text)
            | ArrowError::InvalidArgumentError(text)
            | ArrowError::SchemaError(text)
            | ArrowError::ParquetError(text),
        ) => broken(text),
        Opening::Arrow(error) => broken(error.to_string()),
    })
}

fn open_parquet(file: File, (start, end): (u64, u64), schema: &Schema) -> Result<Batches, Opening> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(file)?;
    let columns = find_columns(builder.schema(), schema)?;
    let groups = builder.metadata().row_groups().iter().enumerate();
    let is_ours = |first_byte: u64| (start..end).contains(&first_byte);
    let groups = groups.filter(|(_, group)| group.num_columns() > 0 && is_ours(group.column(0).byte_range().0));
    let groups = groups.map(|(index, _)| index).collect();
    let mask = ProjectionMask::roots(builder.parquet_schema(), columns);
    let reader = builder.with_projection(mask).with_row_groups(groups).with_batch_size(ROWS_MAX).build()?;
    Ok(Box::new(reader))
}

/// The two forms of IPC.
enum IpcKind {
    File,
    Stream,
}

fn open_ipc(file: File, schema: &Schema) -> Result<Batches, Opening> {
    match check_ipc(&file)? {
        IpcKind::File => {
            let found = FileReader::try_new(BufReader::new(&file), None)?.schema();
            let mut columns = find_columns(&found, schema)?;
            columns.sort_unstable();
            Ok(Box::new(FileReader::try_new(BufReader::new(file), Some(columns))?.flat_map(cut)))
        }
        IpcKind::Stream => {
            let mut reading = BufReader::new(file);
            let found = StreamReader::try_new(&mut reading, None)?.schema();
            let mut columns = find_columns(&found, schema)?;
            columns.sort_unstable();
            reading.rewind()?;
            Ok(Box::new(StreamReader::try_new(reading, Some(columns))?.flat_map(cut)))
        }
    }
}

/// Cuts batches that whoever wrote the file made too large.
fn cut(rows: Result<RecordBatch, ArrowError>) -> Vec<Result<RecordBatch, ArrowError>> {
    match rows {
        Err(error) => vec![Err(error)],
        Ok(rows) => (0..rows.num_rows())
            .step_by(ROWS_MAX)
            .map(|start| Ok(rows.slice(start, ROWS_MAX.min(rows.num_rows() - start))))
            .collect(),
    }
}

/// Which form of IPC a file has. Looks at every size in it: the readers allocate what they say. Leaves the file at its
/// start.
fn check_ipc(mut file: &File) -> Result<IpcKind, Opening> {
    let n_bytes = file.metadata()?.len();
    let mut start = [0; 6];
    let n_start = usize::try_from(n_bytes).unwrap_or(usize::MAX).min(start.len());
    file.rewind()?;
    file.read_exact(&mut start[..n_start])?;
    let kind = if start[..n_start] == *IPC_MAGIC {
        check_ipc_file(file, n_bytes)?;
        IpcKind::File
    } else if start[..n_start].starts_with(&IPC_CONTINUATION) {
        check_ipc_stream(file, n_bytes)?;
        IpcKind::Stream
    } else {
        return Err("it is neither an Arrow IPC file nor an Arrow IPC stream".to_owned().into());
    };
    file.rewind()?;
    Ok(kind)
}

fn check_ipc_file(mut file: &File, n_bytes: u64) -> Result<(), Opening> {
    const TAIL_BYTES: u64 = 10;
    let cut_short = || Opening::from("it is an Arrow IPC file without its end".to_owned());
    let mut tail = [0; TAIL_BYTES as usize];
    file.seek(SeekFrom::Start(n_bytes.checked_sub(TAIL_BYTES).ok_or_else(cut_short)?))?;
    file.read_exact(&mut tail)?;
    let footer_bytes = read_footer_length(tail).map_err(|_| cut_short())?;
    let footer_start = (n_bytes - TAIL_BYTES).checked_sub(footer_bytes as u64).ok_or_else(cut_short)?;
    file.seek(SeekFrom::Start(footer_start))?;
    let mut footer = vec![0; footer_bytes];
    file.read_exact(&mut footer)?;
    let footer = root_as_footer(&footer).map_err(|error| format!("its footer is broken: {error}"))?;
    let blocks = footer.recordBatches().into_iter().flatten().chain(footer.dictionaries().into_iter().flatten());
    for block in blocks {
        let sizes = [block.offset(), i64::from(block.metaDataLength()), block.bodyLength()];
        let mut end = 0_u64;
        for size in sizes {
            let size = u64::try_from(size).map_err(|_| "its footer has a size below zero".to_owned())?;
            end = end.saturating_add(size);
        }
        if end > n_bytes {
            return Err("its footer has sizes beyond its end".to_owned().into());
        }
    }
    Ok(())
}

fn check_ipc_stream(file: &File, n_bytes: u64) -> Result<(), Opening> {
    let mut reading = BufReader::new(file);
    reading.rewind()?;
    let mut position = 0_u64;
    let too_early = || Opening::from(io::Error::from(ErrorKind::UnexpectedEof));
    // A stream may end without a mark.
    while position < n_bytes {
        let mut start = [0; 8];
        reading.read_exact(&mut start)?;
        let [marker, length] = [&start[..4], &start[4..]].map(|bytes| [bytes[0], bytes[1], bytes[2], bytes[3]]);
        if marker != IPC_CONTINUATION {
            return Err(format!("no message stands at byte {position}").into());
        }
        let Ok(length) = u64::try_from(i32::from_le_bytes(length)) else {
            return Err(format!("the message at byte {position} has a size below zero").into());
        };
        position += 8 + length;
        if length == 0 {
            return Ok(());
        }
        if position > n_bytes {
            return Err(too_early());
        }
        // Fits: it is no larger than 2 GiB.
        let mut header = vec![0; length as usize];
        reading.read_exact(&mut header)?;
        let message = root_as_message(&header).map_err(|error| format!("a message is broken: {error}"))?;
        let body = message.bodyLength();
        if body < 0 {
            return Err(format!("a message before byte {position} has a size below zero").into());
        }
        position = position.saturating_add(body.unsigned_abs());
        if position > n_bytes {
            return Err(too_early());
        }
        reading.seek_relative(body)?;
    }
    Ok(())
}
