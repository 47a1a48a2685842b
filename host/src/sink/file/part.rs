//! Writes one partition of a batch to hidden files: one for each folder, or several where they are rolled.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::RecordBatch;

use super::names::part_name;
use super::options::FileSinkFormat;
use super::row_file::{RowError, RowFile, row_file};
use super::values::Layout;
use crate::error::Error;
use crate::ids::{BatchId, PartitionId};
use crate::sink::{PartitionWriter, Prepared, SinkError};

/// Files that a task has open at once; one more, and the one that was written to longest ago is ended. Its folder goes on with a
/// file more.
///
/// With a task a core on 32 cores these are 3200 of the 65536 files that a service commonly may open.
const OPEN_FILES_MAX: usize = 100;

/// Bytes that the open files of a task hold in memory; beyond, the one that holds most writes them.
const HELD_BYTES_MAX: usize = 64 << 20;

/// Rows of a file between two looks at its size: the same rows, however they come, are rolled alike.
const ROWS_BETWEEN_LOOKS: u64 = 128;

/// What all writers of a sink share.
pub(super) struct Shared {
    pub(super) directory: PathBuf,
    pub(super) format: FileSinkFormat,
    pub(super) layout: Layout,
    /// Where a file is rolled; `None`: nowhere.
    pub(super) file_bytes_max: Option<u64>,
    /// Numbers hidden files, so that two attempts of a task never share one.
    pub(super) next_temporary: AtomicU64,
}

/// A partition that is being written.
pub(super) struct PartWriter {
    shared: Arc<Shared>,
    batch_id: BatchId,
    partition: PartitionId,
    /// Open files by folder.
    open: HashMap<String, OpenFile>,
    /// Files that were begun in each folder.
    n_files: HashMap<String, u32>,
    /// Files that were opened or written to: a clock for `OpenFile::last_used`.
    n_uses: u64,
    ended: Vec<PartFile>,
    n_rows: u64,
}

struct OpenFile {
    rows: Box<dyn RowFile>,
    index: u32,
    n_rows: u64,
    last_used: u64,
    temporary: TemporaryFile,
}

/// A file that is on the disk, hidden.
pub(super) struct PartFile {
    temporary: TemporaryFile,
    pub(super) partition: PartitionId,
    /// Within the directory, with `/`; empty: the directory itself.
    pub(super) folder: String,
    /// Which of the partition's files in the folder.
    pub(super) index: u32,
    pub(super) name: String,
    pub(super) n_rows: u64,
    pub(super) n_bytes: u64,
}

/// A hidden file that is removed unless it is published.
struct TemporaryFile(Option<PathBuf>);

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        if let Some(path) = &self.0
            && let Err(error) = fs::remove_file(path)
        {
            let path = path.display().to_string();
            tracing::warn!(target: "tidemill::sink", path, %error, "unpublished file could not be removed");
        }
    }
}

impl PartFile {
    /// Its path within the directory, with `/`.
    pub(super) fn path(&self) -> String {
        if self.folder.is_empty() { self.name.clone() } else { format!("{}/{}", self.folder, self.name) }
    }

    /// Makes it visible, over what an earlier attempt at the batch may have left.
    pub(super) fn publish(&mut self, target: &PathBuf) -> Result<(), SinkError> {
        if let Some(path) = &self.temporary.0 {
            fs::rename(path, target).map_err(|source| SinkError::write_file(target, source))?;
        }
        self.temporary.0 = None;
        Ok(())
    }
}

impl PartWriter {
    pub(super) fn new(shared: Arc<Shared>, batch_id: BatchId, partition: PartitionId) -> Self {
        Self {
            shared,
            batch_id,
            partition,
            open: HashMap::new(),
            n_files: HashMap::new(),
            n_uses: 0,
            ended: Vec::new(),
            n_rows: 0,
        }
    }

    fn name(&self, index: u32) -> String {
        part_name(self.batch_id, self.partition, index, self.shared.format.extension())
    }

    fn failed(&self, folder: &str, index: u32) -> impl Fn(RowError) -> SinkError + use<> {
        let target = self.shared.directory.join(folder).join(self.name(index));
        let format = self.shared.format.name();
        move |error| match error {
            RowError::Io(source) => SinkError::write_file(&target, source),
            RowError::Format(source) => SinkError::Format { format, source },
        }
    }

    fn open_file(&mut self, folder: &str) -> Result<OpenFile, SinkError> {
        if self.open.len() >= OPEN_FILES_MAX
            && let Some(oldest) = self.open.iter().min_by_key(|(_, file)| file.last_used)
        {
            let oldest = oldest.0.clone();
            self.end_file(&oldest)?;
        }
        let next = self.n_files.entry(folder.to_owned()).or_default();
        let index = *next;
        *next += 1;
        let number = self.shared.next_temporary.fetch_add(1, Ordering::Relaxed);
        let path = self.shared.directory.join(format!(".{}.{number}.tmp", self.name(index)));
        let failed = self.failed(folder, index);
        let file = File::options().write(true).create_new(true).open(&path).map_err(|error| failed(error.into()))?;
        let temporary = TemporaryFile(Some(path));
        let rows = row_file(&self.shared.format, &self.shared.layout.schema, file).map_err(failed)?;
        Ok(OpenFile { rows, index, n_rows: 0, last_used: 0, temporary })
    }

    /// Ends the open file of a folder, and brings it to the disk.
    fn end_file(&mut self, folder: &str) -> Result<(), SinkError> {
        let Some(ended) = self.open.remove(folder) else { return Ok(()) };
        let failed = self.failed(folder, ended.index);
        let file = ended.rows.finish().map_err(&failed)?;
        let n_bytes = file.sync_all().and_then(|()| file.metadata()).map_err(|error| failed(error.into()))?.len();
        self.ended.push(PartFile {
            temporary: ended.temporary,
            partition: self.partition,
            folder: folder.to_owned(),
            index: ended.index,
            name: self.name(ended.index),
            n_rows: ended.n_rows,
            n_bytes,
        });
        Ok(())
    }

    fn write_to(&mut self, folder: &str, rows: &RecordBatch) -> Result<(), SinkError> {
        let mut start = 0;
        while start < rows.num_rows() {
            if !self.open.contains_key(folder) {
                let file = self.open_file(folder)?;
                self.open.insert(folder.to_owned(), file);
            }
            let Some(file) = self.open.get_mut(folder) else { unreachable!("it was opened just now") };
            self.n_uses += 1;
            file.last_used = self.n_uses;
            let left = rows.num_rows() - start;
            let n_rows = match self.shared.file_bytes_max {
                None => left,
                Some(_) => left.min((ROWS_BETWEEN_LOOKS - file.n_rows % ROWS_BETWEEN_LOOKS) as usize),
            };
            let written = file.rows.write(&rows.slice(start, n_rows));
            file.n_rows += n_rows as u64;
            start += n_rows;
            let is_full = file.n_rows.is_multiple_of(ROWS_BETWEEN_LOOKS)
                && self.shared.file_bytes_max.is_some_and(|max| file.rows.n_bytes() >= max);
            let index = file.index;
            written.map_err(self.failed(folder, index))?;
            if is_full {
                self.end_file(folder)?;
            }
        }
        Ok(())
    }

    /// Writes what is held, the most first, until it is little enough.
    fn hold_less(&mut self) -> Result<(), SinkError> {
        loop {
            let held: usize = self.open.values().map(|file| file.rows.held_bytes()).sum();
            if held <= HELD_BYTES_MAX {
                return Ok(());
            }
            let Some((folder, file)) = self.open.iter_mut().max_by_key(|(_, file)| file.rows.held_bytes()) else {
                return Ok(());
            };
            let before = file.rows.held_bytes();
            let flushed = file.rows.flush();
            let (folder, index, after) = (folder.clone(), file.index, file.rows.held_bytes());
            flushed.map_err(self.failed(&folder, index))?;
            if after >= before {
                // What an open file holds by itself.
                return self.end_file(&folder);
            }
        }
    }
}

impl PartitionWriter for PartWriter {
    fn write(&mut self, rows: &RecordBatch) -> Result<(), Error> {
        if rows.num_rows() == 0 {
            return Ok(());
        }
        let shared = self.shared.clone();
        for (folder, rows) in shared.layout.split(rows)? {
            self.write_to(&folder, &rows)?;
        }
        self.n_rows += rows.num_rows() as u64;
        Ok(self.hold_less()?)
    }

    fn prepare(mut self: Box<Self>) -> Result<Prepared, Error> {
        let mut folders: Vec<String> = self.open.keys().cloned().collect();
        folders.sort();
        folders.iter().try_for_each(|folder| self.end_file(folder))?;
        let files = std::mem::take(&mut self.ended);
        Ok(Prepared { partition: self.partition, n_rows: self.n_rows, payload: Box::new(files) })
    }
}
