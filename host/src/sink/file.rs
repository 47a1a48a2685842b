//! Writes batches to files of a directory: each appears whole, when its batch is published, or not at all.
//!
//! 1. A task writes its rows to a hidden file in the directory itself, so that the last step is a rename.
//! 2. `prepare` brings it to the disk.
//! 3. `publish` renames the files of all partitions, and brings the directory to the disk.
//!
//! | crash after | what is visible | what is left |
//! | --- | --- | --- |
//! | 1, 2 | nothing of the batch | hidden files, removed when the directory is next opened |
//! | some renames of 3 | some files of the batch | the batch is run again, and renames over them |
//! | 3 | the batch | nothing |

use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef};

use super::console::check_json;
use super::error::SinkError;
use super::json_lines::write_lines;
use super::{PartitionWriter, Prepared, Sink, SinkBatch, SinkDefinition};
use crate::error::Error;
use crate::fail_point;
use crate::ids::{BatchId, PartitionId};
use crate::job::table::Table;
use crate::plan::describe_type;

/// Bytes gathered before they are written.
const WRITE_BYTES: usize = 256 << 10;

/// The file that is locked for as long as a sink writes to a directory. Hidden, as file sources pass such names over.
const LOCK_NAME: &str = ".tidemill-sink.lock";

/// Writes each partition of a batch to a file `batch-0000000012-part-0003.jsonl` of a directory.
///
/// A file appears whole, when its batch is published, or not at all, so that whoever reads the directory needs to pass
/// over nothing but names that start with a dot; a file source does. Partitions without rows write no file. Batches are
/// numbered from 0 in every run, so a directory that has batches of an earlier run is refused rather than written over.
///
/// # Examples
///
/// ```
/// use tidemill::sink::{FileSink, SinkDefinition};
///
/// let sink = FileSink { overwrite: true, ..FileSink::json("out/counts") };
/// assert_eq!(sink.describe(), "out/counts");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSink {
    /// The directory; it is made if it is not there.
    pub path: PathBuf,
    /// How rows are written.
    pub format: FileSinkFormat,
    /// Whether batches of an earlier run are deleted when the sink is opened. If not, they are refused.
    pub overwrite: bool,
}

/// How rows are written to files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FileSinkFormat {
    /// An object a line; nulls are left out, but in lists and maps. A file source with the rows' schema reads them back.
    /// Files end in `.jsonl`.
    #[default]
    Json,
    /// A line a row, of its only column, `utf8`; null is an empty line. Line ends in values are written as they are.
    /// Files end in `.txt`.
    Text,
}

impl FileSinkFormat {
    fn extension(self) -> &'static str {
        match self {
            Self::Json => "jsonl",
            Self::Text => "txt",
        }
    }
}

impl FileSink {
    /// Lines of JSON.
    #[must_use]
    pub fn json(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), format: FileSinkFormat::Json, overwrite: false }
    }

    /// Lines of text.
    #[must_use]
    pub fn text(path: impl Into<PathBuf>) -> Self {
        Self { format: FileSinkFormat::Text, ..Self::json(path) }
    }

    /// Reads the options `path`, `format` and `overwrite`.
    pub fn parse(table: &mut Table<'_>) -> Option<Self> {
        let path = table.path("path");
        if path.is_none() && !table.has("path") {
            table.missing("path", Some("write `path = \"…\"`: a directory".into()));
        }
        let format = table.choice("format", &[("json", FileSinkFormat::Json), ("text", FileSinkFormat::Text)]);
        let overwrite = table.boolean("overwrite").unwrap_or(false);
        Some(Self { path: path?, format: format.unwrap_or_default(), overwrite })
    }
}

impl SinkDefinition for FileSink {
    fn type_name(&self) -> &str {
        "file"
    }

    fn describe(&self) -> String {
        self.path.display().to_string()
    }

    fn check(&self, schema: &SchemaRef) -> Result<(), Error> {
        match self.format {
            FileSinkFormat::Json => check_json(schema),
            FileSinkFormat::Text => {
                let reason = match schema.fields().len() {
                    1 if *schema.field(0).data_type() == DataType::Utf8 => return Ok(()),
                    1 => format!(
                        "column `{}` is {}, not utf8",
                        schema.field(0).name(),
                        describe_type(schema.field(0).data_type())
                    ),
                    n_columns => format!("they have {n_columns} columns, and a line has one"),
                };
                let hint = "Write `format = \"json\"`, or make one text of the columns.".into();
                Err(SinkError::Schema { format: "text", reason, hint }.into())
            }
        }
    }

    fn open(&self, schema: &SchemaRef) -> Result<Arc<dyn Sink>, Error> {
        let published = if self.overwrite { Earlier::Deleted } else { Earlier::Refused };
        self.open_with(schema, published, None)
    }

    fn resume(&self, schema: &SchemaRef, committed: Option<BatchId>) -> Result<Arc<dyn Sink>, Error> {
        self.open_with(schema, Earlier::KeptUpTo(committed), committed)
    }
}

impl FileSink {
    fn open_with(
        &self,
        schema: &SchemaRef,
        earlier: Earlier,
        committed: Option<BatchId>,
    ) -> Result<Arc<dyn Sink>, Error> {
        self.check(schema)?;
        let failed = |source| SinkError::Directory { path: self.path.clone(), source };
        fs::create_dir_all(&self.path).map_err(failed)?;
        let lock = lock(&self.path)?;
        clear(&self.path, earlier)?;
        Ok(Arc::new(FileBatches {
            directory: self.path.clone(),
            format: self.format,
            next_temporary: AtomicU64::new(0),
            last_published: Mutex::new(committed),
            _lock: lock,
        }))
    }
}

/// Locks the directory for this sink. The lock ends with the process, however it ends.
fn lock(directory: &Path) -> Result<File, SinkError> {
    let path = directory.join(LOCK_NAME);
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(|source| SinkError::write_file(&path, source))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(SinkError::InUse { path: directory.into() }),
        // Some network file systems have no locks: then nobody is kept out, and nothing else is lost.
        Err(TryLockError::Error(error)) => {
            let path = directory.display().to_string();
            tracing::warn!(target: "tidemill::sink", path, %error, "directory cannot be locked");
        }
    }
    Ok(file)
}

/// What becomes of batches that were published by an earlier run.
#[derive(Debug, Clone, Copy)]
enum Earlier {
    /// They are not ours to delete, and would be written over.
    Refused,
    Deleted,
    /// The job goes on behind this one: what is behind it was not committed, and is published again.
    KeptUpTo(Option<BatchId>),
}

/// Removes what a dead run left unpublished, and deals with what it published. The directory is locked: nobody else
/// has files there under names of ours.
fn clear(directory: &Path, earlier: Earlier) -> Result<(), SinkError> {
    let failed = |source| SinkError::Directory { path: directory.into(), source };
    let (mut temporary, mut published) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(directory).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        match name.to_str().map(Name::of) {
            Some(Name::Temporary) => temporary.push(name),
            Some(Name::Published(batch_id)) => match earlier {
                Earlier::KeptUpTo(committed) if committed.is_some_and(|committed| batch_id <= committed) => {}
                _ => published.push(name),
            },
            Some(Name::Foreign) | None => {}
        }
    }
    if matches!(earlier, Earlier::Refused)
        && let Some(example) = published.iter().min()
    {
        let example = example.to_string_lossy().into_owned();
        return Err(SinkError::Occupied { path: directory.into(), example });
    }
    for name in temporary.iter().chain(&published) {
        let path = directory.join(name);
        match fs::remove_file(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(source) => return Err(SinkError::write_file(path, source)),
        }
    }
    Ok(())
}

/// Whose a file is, by its name.
#[derive(Debug, PartialEq, Eq)]
enum Name {
    /// A file that was being written.
    Temporary,
    /// A partition of a batch.
    Published(BatchId),
    /// Not ours.
    Foreign,
}

impl Name {
    fn of(name: &str) -> Self {
        let temporary = name.strip_prefix('.').and_then(|name| name.strip_suffix(".tmp"));
        match temporary.and_then(|name| name.rsplit_once('.')) {
            Some((name, number)) if is_number(number, 1) && batch_of(name).is_some() => Self::Temporary,
            None => batch_of(name).map_or(Self::Foreign, Self::Published),
            Some(_) => Self::Foreign,
        }
    }
}

/// The batch of a name that is as [`part_name`] makes them.
fn batch_of(name: &str) -> Option<BatchId> {
    let numbers = name.strip_suffix(".jsonl").or_else(|| name.strip_suffix(".txt"));
    let (batch, part) = numbers?.strip_prefix("batch-")?.split_once("-part-")?;
    let is_part = is_number(batch, 10) && is_number(part, 4);
    is_part.then(|| batch.parse().ok().map(BatchId)).flatten()
}

fn is_number(text: &str, n_digits_min: usize) -> bool {
    text.len() >= n_digits_min && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn part_name(batch_id: BatchId, partition: PartitionId, format: FileSinkFormat) -> String {
    format!("batch-{:010}-part-{:04}.{}", batch_id.0, partition.0, format.extension())
}

struct FileBatches {
    directory: PathBuf,
    format: FileSinkFormat,
    /// Numbers hidden files, so that two attempts of a task never share one.
    next_temporary: AtomicU64,
    /// The last batch that was published whole. A mutex, held while publishing, because publishing a batch twice must
    /// publish it once.
    last_published: Mutex<Option<BatchId>>,
    /// Held for as long as the sink lives.
    _lock: File,
}

impl Sink for FileBatches {
    fn writer(&self, batch: &SinkBatch, partition: PartitionId) -> Result<Box<dyn PartitionWriter>, Error> {
        let name = part_name(batch.batch_id, partition, self.format);
        let number = self.next_temporary.fetch_add(1, Ordering::Relaxed);
        Ok(Box::new(FileWriter {
            partition,
            format: self.format,
            temporary: self.directory.join(format!(".{name}.{number}.tmp")),
            target: self.directory.join(name),
            file: None,
            buffer: Vec::new(),
            n_rows: 0,
        }))
    }

    fn publish(&self, batch: &SinkBatch, parts: Vec<Prepared>) -> Result<(), Error> {
        let mut last_published = self.last_published.lock().unwrap_or_else(PoisonError::into_inner);
        // What was prepared for nothing is removed as it is dropped.
        if last_published.is_some_and(|last| batch.batch_id <= last) {
            return Ok(());
        }
        let mut files = Vec::new();
        for part in parts {
            let file = part.payload.downcast::<Option<PartFile>>().map_err(|_| SinkError::Foreign { sink: "file" })?;
            files.extend(*file);
        }
        let n_files = files.len();
        let mut visible: Vec<PathBuf> = Vec::with_capacity(n_files);
        let published = files.into_iter().try_for_each(|file| {
            visible.push(file.publish()?);
            fail_point::pass("file-published");
            Ok(())
        });
        let kept = published.and_then(|()| if n_files > 0 { sync_directory(&self.directory) } else { Ok(()) });
        if let Err(error) = kept {
            // A part of a batch is not left to be seen; if this fails too, running the batch again mends it.
            visible.iter().for_each(|path| drop(fs::remove_file(path)));
            return Err(error.into());
        }
        *last_published = Some(batch.batch_id);
        Ok(())
    }
}

/// Makes renames last. Elsewhere than on Unix directories cannot be opened, and need not.
fn sync_directory(directory: &Path) -> Result<(), SinkError> {
    if !cfg!(unix) {
        return Ok(());
    }
    File::open(directory).and_then(|file| file.sync_all()).map_err(|source| SinkError::write_file(directory, source))
}

/// Writes a partition to a hidden file, which is made with the first row.
struct FileWriter {
    partition: PartitionId,
    format: FileSinkFormat,
    temporary: PathBuf,
    target: PathBuf,
    file: Option<(File, TemporaryFile)>,
    /// Lines that have not been written.
    buffer: Vec<u8>,
    n_rows: u64,
}

impl FileWriter {
    fn write_buffer(&mut self) -> Result<(), SinkError> {
        let failed = |source: io::Error| SinkError::write_file(&self.target, source);
        let (file, _) = match &mut self.file {
            Some(file) => file,
            None => {
                let file = File::options().write(true).create_new(true).open(&self.temporary).map_err(failed)?;
                self.file.insert((file, TemporaryFile(Some(self.temporary.clone()))))
            }
        };
        file.write_all(&self.buffer).map_err(failed)?;
        self.buffer.clear();
        Ok(())
    }
}

impl PartitionWriter for FileWriter {
    fn write(&mut self, rows: &RecordBatch) -> Result<(), Error> {
        if rows.num_rows() == 0 {
            return Ok(());
        }
        match self.format {
            FileSinkFormat::Json => {
                let written = write_lines(rows, &mut self.buffer);
                written.map_err(|source| SinkError::Format { format: "JSON", source })?;
            }
            FileSinkFormat::Text => {
                let column = rows.column(0).as_string::<i32>();
                self.buffer.reserve(column.value_data().len() + column.len());
                for line in column {
                    self.buffer.extend_from_slice(line.unwrap_or_default().as_bytes());
                    self.buffer.push(b'\n');
                }
            }
        }
        self.n_rows += rows.num_rows() as u64;
        if self.buffer.len() >= WRITE_BYTES {
            self.write_buffer()?;
        }
        Ok(())
    }

    fn prepare(mut self: Box<Self>) -> Result<Prepared, Error> {
        if !self.buffer.is_empty() {
            self.write_buffer()?;
        }
        let part = match self.file.take() {
            None => None,
            Some((file, temporary)) => {
                file.sync_all().map_err(|source| SinkError::write_file(&self.target, source))?;
                Some(PartFile { temporary, target: self.target.clone() })
            }
        };
        Ok(Prepared { partition: self.partition, n_rows: self.n_rows, payload: Box::new(part) })
    }
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

/// A partition that is on the disk, hidden.
struct PartFile {
    temporary: TemporaryFile,
    target: PathBuf,
}

impl PartFile {
    /// Makes it visible, over what an earlier attempt at the batch may have left. Returns where.
    fn publish(mut self) -> Result<PathBuf, SinkError> {
        if let Some(path) = &self.temporary.0 {
            fs::rename(path, &self.target).map_err(|source| SinkError::write_file(&self.target, source))?;
        }
        self.temporary.0 = None;
        Ok(self.target)
    }
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
