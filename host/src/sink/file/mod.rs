//! Writes batches to files of a directory: whoever honours its manifests sees each batch whole, and once.
//!
//! ```text
//!  rows ── values: which folder ──▶ part: which file ── lines, csv, parquet ──▶ hidden files ── publish ──▶ files, then a manifest
//! ```
//!
//! 1. A task writes its rows to hidden files in the directory itself, so that the last step is a rename.
//! 2. When a file ends it is brought to the disk.
//! 3. `publish` renames the files of all partitions, and brings their folders to the disk.
//! 4. It writes a manifest that names them: the batch is published.
//!
//! | crash after | what readers of manifests see | what a restart does |
//! | --- | --- | --- |
//! | 1, 2 | nothing of the batch | removes the hidden files |
//! | some renames of 3, or all | nothing of the batch | removes the files, and runs the batch again |
//! | 4 | the batch | leaves it as it is; that the batch is run again changes nothing |

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use arrow::datatypes::{DataType, SchemaRef};

use super::console::check_json;
use super::error::SinkError;
use super::{Sink, SinkDefinition};
use crate::error::Error;
use crate::ids::BatchId;
use crate::manifest;
use crate::plan::describe_type;

use csv::check_csv;
use earlier::{Earlier, clear, lock};
use parquet::check_parquet;
use part::Shared;
use publish::FileBatches;
use values::Layout;

pub use options::{CsvSinkOptions, FileSinkFormat, ParquetCompression};

mod csv;
mod earlier;
mod lines;
mod names;
mod options;
mod parquet;
mod part;
mod publish;
mod row_file;
mod values;

#[cfg(test)]
mod tests;

/// Writes each partition of a batch to a file `batch-0000000012-part-0003.jsonl` of a directory, or to several: one for each value of
/// some columns, and more where files become too large.
///
/// A file appears whole, when its batch is published, or not at all. When all files of a batch are there, a manifest in the folder
/// `_manifest` names them: who reads what manifests name, as a file source does, sees a batch whole, and once. Partitions without
/// rows write no file. Without a checkpoint batches are numbered from 0 in every run, so a directory that has batches of an
/// earlier run is refused rather than written over.
///
/// # Examples
///
/// ```
/// use tidemill::sink::{FileSink, SinkDefinition};
///
/// let sink = FileSink { partition_by: vec!["day".into()], overwrite: true, ..FileSink::json("out/counts") };
/// assert_eq!(sink.describe(), "out/counts");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSink {
    /// The directory; it is made if it is not there.
    pub path: PathBuf,
    /// How rows are written.
    pub format: FileSinkFormat,
    /// Columns that are in the names of folders instead of in files: rows with the same values there share a folder
    /// `column=value`, those of the second column are folders within those of the first.
    pub partition_by: Vec<String>,
    /// A file that has so many bytes is ended, and another one begun. `None`: never.
    pub file_bytes_max: Option<u64>,
    /// Whether batches of an earlier run are deleted when the sink is opened. If not, they are refused.
    pub overwrite: bool,
}

impl FileSink {
    /// Files of any format.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>, format: FileSinkFormat) -> Self {
        Self { path: path.into(), format, partition_by: Vec::new(), file_bytes_max: None, overwrite: false }
    }

    /// Lines of JSON.
    #[must_use]
    pub fn json(path: impl Into<PathBuf>) -> Self {
        Self::new(path, FileSinkFormat::Json)
    }

    /// Lines of text.
    #[must_use]
    pub fn text(path: impl Into<PathBuf>) -> Self {
        Self::new(path, FileSinkFormat::Text)
    }

    /// Where columns go, when rows of this schema can be written.
    fn layout(&self, schema: &SchemaRef) -> Result<Layout, Error> {
        let layout = Layout::new(schema, &self.partition_by)?;
        match &self.format {
            FileSinkFormat::Json => check_json(&layout.schema)?,
            FileSinkFormat::Text => check_text(&layout.schema)?,
            FileSinkFormat::Csv(_) => check_csv(&layout.schema)?,
            FileSinkFormat::Parquet(_) => check_parquet(&layout.schema)?,
        }
        Ok(layout)
    }

    fn open_with(
        &self,
        schema: &SchemaRef,
        earlier: Earlier,
        committed: Option<BatchId>,
    ) -> Result<Arc<dyn Sink>, Error> {
        let layout = self.layout(schema)?;
        let failed = |source| SinkError::Directory { path: self.path.clone(), source };
        fs::create_dir_all(&self.path).map_err(failed)?;
        let lock = lock(&self.path)?;
        let kept = clear(&self.path, earlier)?;
        // From the start: readers see by it that only what manifests name counts.
        fs::create_dir_all(self.path.join(manifest::FOLDER)).map_err(failed)?;
        let shared = Shared {
            directory: self.path.clone(),
            format: self.format.clone(),
            layout,
            file_bytes_max: self.file_bytes_max,
            next_temporary: AtomicU64::new(0),
        };
        Ok(Arc::new(FileBatches::new(shared, committed, kept, lock)))
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
        self.layout(schema).map(|_| ())
    }

    fn open(&self, schema: &SchemaRef) -> Result<Arc<dyn Sink>, Error> {
        let published = if self.overwrite { Earlier::Deleted } else { Earlier::Refused };
        self.open_with(schema, published, None)
    }

    fn resume(&self, schema: &SchemaRef, committed: Option<BatchId>) -> Result<Arc<dyn Sink>, Error> {
        self.open_with(schema, Earlier::KeptUpTo(committed), committed)
    }
}

/// Whether lines of text can be made of rows of this schema.
fn check_text(schema: &SchemaRef) -> Result<(), Error> {
    let reason = match schema.fields().len() {
        1 if *schema.field(0).data_type() == DataType::Utf8 => return Ok(()),
        1 => format!("column `{}` is {}, not utf8", schema.field(0).name(), describe_type(schema.field(0).data_type())),
        n_columns => format!("they have {n_columns} columns, and a line has one"),
    };
    let hint = "Write `format = \"json\"`, or make one text of the columns.".into();
    Err(SinkError::Schema { format: "text", reason, hint }.into())
}
