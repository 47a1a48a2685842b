//! Station 7: where rows go.
//!
//! A batch's rows become visible in two moves: every task *prepares* what it wrote, and when all tasks of the batch have
//! ended the sink *publishes* it. Publishing the same batch twice shows its rows once: that is the law of the station.
//!
//! ```text
//!  task ── Sink::writer ──▶ PartitionWriter ── write… ── prepare ──▶ Prepared ┐
//!  task ── Sink::writer ──▶ PartitionWriter ── write… ── prepare ──▶ Prepared ┴─▶ Sink::publish
//! ```

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use crate::error::Error;
use crate::ids::{BatchId, PartitionId};
use crate::job::table::Table;

pub use console::{ConsoleFormat, ConsoleOutput, ConsoleSink};
pub use error::SinkError;
pub use file::{CsvSinkOptions, FileSink, FileSinkFormat, ParquetCompression};
pub use foreach::{Collect, CollectedBatch, ForeachBatch};
pub(crate) use json_lines::json_line;

mod console;
mod error;
mod file;
mod foreach;
mod json_lines;
mod table;

/// The values of `type` in a `[[sink]]` of a job file.
pub const SINK_TYPES: &[&str] = &["console", "file"];

/// Reads the options of a sink of one of [`SINK_TYPES`].
///
/// `None` when the type is not one of them, or when the options are wrong: then the mistakes are in the table's problems.
pub fn parse_definition(type_name: &str, table: &mut Table<'_>) -> Option<Arc<dyn SinkDefinition>> {
    fn shared<D: SinkDefinition + 'static>(definition: D) -> Arc<dyn SinkDefinition> {
        Arc::new(definition)
    }
    match type_name {
        "console" => ConsoleSink::parse(table).map(shared),
        "file" => FileSink::parse(table).map(shared),
        _ => None,
    }
}

/// What a job says about a sink: its options, checked, and how to open it.
///
/// Implement it for a sink of your own and give it to `Stream::sink`.
pub trait SinkDefinition: Send + Sync + fmt::Debug {
    /// The `type` in a job file, as in `console`.
    fn type_name(&self) -> &str;

    /// One line for people, as in `out/counts`.
    fn describe(&self) -> String;

    /// Checks that rows of this schema can be written. Nothing is created yet: `tidemill check` calls it.
    ///
    /// # Errors
    ///
    /// Which column cannot be written, and why.
    fn check(&self, schema: &SchemaRef) -> Result<(), Error>;

    /// Opens the sink. Called once, when the job starts.
    ///
    /// # Errors
    ///
    /// When it cannot be written to.
    fn open(&self, schema: &SchemaRef) -> Result<Arc<dyn Sink>, Error>;

    /// Opens the sink of a job that goes on from a checkpoint: batches up to `committed` are in it, and stay; `None`: no batch is
    /// done. Batches behind it may be in it, and are published again: then [`SinkBatch::is_repeated`] is set.
    ///
    /// # Errors
    ///
    /// When it cannot be written to.
    fn resume(&self, schema: &SchemaRef, committed: Option<BatchId>) -> Result<Arc<dyn Sink>, Error> {
        let _ = committed;
        self.open(schema)
    }
}

/// The batch that is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SinkBatch {
    /// Its number: the idempotency key.
    pub batch_id: BatchId,
    /// Its time in microseconds since 1970-01-01 UTC.
    pub batch_time_us: i64,
    /// Whether it may have been published before the job was started again.
    pub is_repeated: bool,
}

/// An open sink. Shared by the tasks that write to it.
///
/// For each batch: any number of writers, from any thread, then one `publish` with what those prepared whose tasks
/// succeeded. A batch that fails is not published; its writers are dropped and leave nothing visible.
pub trait Sink: Send + Sync {
    /// A writer for one partition of one batch.
    ///
    /// # Errors
    ///
    /// When nothing can be written; the task fails.
    fn writer(&self, batch: &SinkBatch, partition: PartitionId) -> Result<Box<dyn PartitionWriter>, Error>;

    /// Makes the rows of a batch visible, ordered by partition. Called on the scheduler's thread, batch after batch,
    /// also when the batch had no rows.
    ///
    /// # Errors
    ///
    /// When it could not; whatever is visible by then is made whole by publishing the batch again.
    fn publish(&self, batch: &SinkBatch, parts: Vec<Prepared>) -> Result<(), Error>;

    /// Flushes and closes: the last call.
    ///
    /// # Errors
    ///
    /// When something published may not last.
    fn close(&self) -> Result<(), Error> {
        Ok(())
    }
}

/// Writes one partition of one batch. Dropped without `prepare`, it leaves nothing behind.
pub trait PartitionWriter: Send {
    /// Writes some rows.
    ///
    /// # Errors
    ///
    /// When they cannot be written; the task fails.
    fn write(&mut self, rows: &RecordBatch) -> Result<(), Error>;

    /// Ends the partition: what is returned can be published.
    ///
    /// # Errors
    ///
    /// When what was written cannot be kept.
    fn prepare(self: Box<Self>) -> Result<Prepared, Error>;
}

/// What one writer prepared.
pub struct Prepared {
    /// The partition.
    pub partition: PartitionId,
    /// Rows written.
    pub n_rows: u64,
    /// What the sink needs to publish it; the sink's own.
    pub payload: Box<dyn Any + Send>,
}
