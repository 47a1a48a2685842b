//! One file of spilled rows: records of rows one after the other, each an Arrow IPC stream with a checksum in memory.

use std::fs::File;
use std::io::{Cursor, Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions};
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use arrow::ipc::CompressionType;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::{IpcWriteOptions, StreamWriter};
use xxhash_rust::xxh3::xxh3_64;

use super::{Spill, SpillError, SpillUse};
use crate::fail_point;
use crate::step::chunks::batch_bytes;

/// Bytes of rows that are put into one record, about: enough that a read costs more than the seek before it, and few enough
/// that many runs can be merged.
pub const RECORD_BYTES: u64 = 1 << 20;

/// A file that rows are appended to. It is removed when this and everything that was appended is dropped.
#[derive(Debug)]
pub struct SpillFile {
    spill: Arc<Spill>,
    used_for: SpillUse,
    open: Option<(File, Arc<OnDisk>)>,
}

/// The file on disk, for as long as anything of it may be read.
#[derive(Debug)]
struct OnDisk {
    spill: Arc<Spill>,
    used_for: SpillUse,
    path: PathBuf,
    /// Written by whoever appends, and read again by the last one that drops it.
    n_bytes: AtomicU64,
}

impl Drop for OnDisk {
    fn drop(&mut self) {
        // Gone already when the job has ended before.
        if let Err(error) = std::fs::remove_file(&self.path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            let path = self.path.display().to_string();
            tracing::warn!(target: "tidemill::spill", path, %error, "spilled rows could not be removed");
        }
        self.spill.give_room_back(self.used_for, self.n_bytes.load(Ordering::Relaxed));
    }
}

/// Rows on disk. Dropped, they are forgotten.
#[derive(Debug)]
pub struct Spilled {
    on_disk: Arc<OnDisk>,
    offset: u64,
    n_bytes: u64,
    checksum: u64,
    n_rows: u64,
    memory_bytes: u64,
}

impl SpillFile {
    pub(super) fn new(spill: Arc<Spill>, used_for: SpillUse) -> Self {
        Self { spill, used_for, open: None }
    }

    /// Bytes that have been appended.
    #[must_use]
    pub fn n_bytes(&self) -> u64 {
        self.open.as_ref().map_or(0, |(_, on_disk)| on_disk.n_bytes.load(Ordering::Relaxed))
    }

    /// Whether it holds only what has been dropped.
    #[must_use]
    pub fn is_waste(&self) -> bool {
        self.open.as_ref().is_some_and(|(_, on_disk)| Arc::strong_count(on_disk) == 1)
    }

    /// Appends rows of one schema as one record.
    ///
    /// # Errors
    ///
    /// [`SpillError`]. Nothing has been appended then, and it may be tried again.
    pub fn append(&mut self, batches: &[RecordBatch]) -> Result<Spilled, SpillError> {
        let bytes = encode(batches).map_err(|source| SpillError::Format { doing: "encoding", source })?;
        let n_rows = batches.iter().map(|rows| rows.num_rows() as u64).sum();
        let memory_bytes = batches.iter().map(batch_bytes).sum();
        let n_bytes = bytes.len() as u64;
        self.spill.take_room(self.used_for, n_bytes, n_rows)?;
        let written = self.write(&bytes);
        let (on_disk, offset) = match written {
            Ok(written) => written,
            Err(error) => {
                self.spill.give_room_back(self.used_for, n_bytes);
                self.spill.forget_rows(n_rows);
                return Err(error);
            }
        };
        self.spill.written(n_bytes, n_rows);
        fail_point::pass("rows-spilled");
        Ok(Spilled { on_disk, offset, n_bytes, checksum: xxh3_64(&bytes), n_rows, memory_bytes })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(Arc<OnDisk>, u64), SpillError> {
        let n_bytes = bytes.len() as u64;
        let (file, on_disk) = match &mut self.open {
            Some(open) => open,
            None => {
                let path = self.spill.new_path()?;
                let file = File::create_new(&path)
                    .map_err(|source| SpillError::of_write(self.spill.parent(), &path, n_bytes, source))?;
                let (spill, used_for) = (self.spill.clone(), self.used_for);
                let on_disk = OnDisk { spill, used_for, path, n_bytes: AtomicU64::new(0) };
                self.open.insert((file, Arc::new(on_disk)))
            }
        };
        let offset = on_disk.n_bytes.load(Ordering::Relaxed);
        if let Err(source) = (self.spill.write)(file, bytes) {
            let error = SpillError::of_write(self.spill.parent(), &on_disk.path, n_bytes, source);
            // What was half written must not stand before what is written next.
            let is_as_before = file.set_len(offset).and_then(|()| file.seek(SeekFrom::Start(offset))).is_ok();
            if !is_as_before {
                self.open = None;
            }
            return Err(error);
        }
        on_disk.n_bytes.store(offset + n_bytes, Ordering::Relaxed);
        Ok((on_disk.clone(), offset))
    }
}

impl Spilled {
    /// How many rows they are.
    #[must_use]
    pub fn n_rows(&self) -> u64 {
        self.n_rows
    }

    /// Bytes they take in memory, about.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        self.memory_bytes
    }

    /// The rows, cut as they were appended. May be read again.
    ///
    /// # Errors
    ///
    /// [`SpillError`]: the file cannot be read, or is damaged.
    pub fn read(&self) -> Result<Vec<RecordBatch>, SpillError> {
        let path = &self.on_disk.path;
        let damaged = || SpillError::Damaged { path: path.clone(), offset: self.offset, n_bytes: self.n_bytes };
        let mut bytes = vec![0; self.n_bytes as usize];
        let read = File::open(path).and_then(|mut file| {
            file.seek(SeekFrom::Start(self.offset))?;
            file.read_exact(&mut bytes)
        });
        read.map_err(|source| match source.kind() {
            // Cut off: no error of the disk, but not what was written either.
            std::io::ErrorKind::UnexpectedEof => damaged(),
            _ => SpillError::File { doing: "read", path: path.clone(), source },
        })?;
        if xxh3_64(&bytes) != self.checksum {
            return Err(damaged());
        }
        decode(&bytes).map_err(|source| SpillError::Format { doing: "decoding", source })
    }
}

impl Drop for Spilled {
    fn drop(&mut self) {
        self.on_disk.spill.forget_rows(self.n_rows);
    }
}

/// Appends rows as records of about [`RECORD_BYTES`], cut as they are.
///
/// # Errors
///
/// As [`SpillFile::append`]. What was appended before it is dropped.
pub fn spill_all(file: &mut SpillFile, batches: &[RecordBatch]) -> Result<Vec<Spilled>, SpillError> {
    let mut records = Vec::new();
    let mut start = 0;
    let mut n_bytes = 0;
    for (index, rows) in batches.iter().enumerate() {
        // A stream has one schema: of rows that are united one may be null where another may not.
        if index > start && (n_bytes >= RECORD_BYTES || rows.schema_ref() != batches[start].schema_ref()) {
            records.push(file.append(&batches[start..index])?);
            (start, n_bytes) = (index, 0);
        }
        n_bytes += batch_bytes(rows);
    }
    if start < batches.len() {
        records.push(file.append(&batches[start..])?);
    }
    Ok(records)
}

fn encode(batches: &[RecordBatch]) -> Result<Vec<u8>, ArrowError> {
    let Some(first) = batches.first() else { return Ok(Vec::new()) };
    let options = IpcWriteOptions::default().try_with_compression(Some(CompressionType::LZ4_FRAME))?;
    let mut writer = StreamWriter::try_new_with_options(Vec::new(), first.schema_ref(), options)?;
    for rows in batches {
        writer.write(&without_unseen(rows)?)?;
    }
    writer.into_inner()
}

/// The rows without the values that views keep alive and do not show: those of all partitions, in a slice for one.
fn without_unseen(rows: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let is_view = |column: &ArrayRef| matches!(column.data_type(), DataType::Utf8View | DataType::BinaryView);
    if !rows.columns().iter().any(is_view) {
        return Ok(rows.clone());
    }
    let columns = rows.columns().iter().map(|column| -> ArrayRef {
        match column.data_type() {
            DataType::Utf8View => Arc::new(column.as_string_view().gc()),
            DataType::BinaryView => Arc::new(column.as_binary_view().gc()),
            _ => column.clone(),
        }
    });
    let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    RecordBatch::try_new_with_options(rows.schema(), columns.collect(), &options)
}

fn decode(bytes: &[u8]) -> Result<Vec<RecordBatch>, ArrowError> {
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    StreamReader::try_new(Cursor::new(bytes), None)?.collect()
}
