//! What a program is told about batches, as they happen.

use std::time::Duration;

use crate::ids::BatchId;
use crate::plan::ChangedPlugin;
use crate::scheduler::Summary;
use crate::source::SourceEvent;
use crate::spill::SpillCounts;

/// Rows of one source in one batch.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct SourceRows {
    /// The source's name.
    pub source: String,
    /// Partitions of the batch that come from it.
    pub partitions: usize,
    /// What is read, for a source that is read by offset range, as in `logs/a.txt 0..1048576`.
    pub ranges: Vec<String>,
}

/// What a batch holds has been fixed.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct BatchSubmitted {
    /// The batch.
    #[serde(serialize_with = "as_number")]
    pub batch_id: BatchId,
    /// Its time in microseconds since 1970-01-01 UTC.
    pub batch_time_us: i64,
    /// Where its rows come from.
    pub sources: Vec<SourceRows>,
}

/// A batch's first task starts.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct BatchStarted {
    /// The batch.
    #[serde(serialize_with = "as_number")]
    pub batch_id: BatchId,
    /// How long it waited since it was submitted.
    #[serde(serialize_with = "as_seconds")]
    pub scheduling_delay: Duration,
}

/// A batch's rows have been published by every sink.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct BatchCompleted {
    /// The batch.
    #[serde(serialize_with = "as_number")]
    pub batch_id: BatchId,
    /// Its time in microseconds since 1970-01-01 UTC.
    pub batch_time_us: i64,
    /// Rows that came from sources.
    pub rows_in: u64,
    /// Rows that sinks got.
    pub rows_out: u64,
    /// Rows that steps have set aside.
    pub rows_dead_lettered: u64,
    /// Tasks that ran.
    pub n_tasks: usize,
    /// How long it waited between submission and start.
    #[serde(serialize_with = "as_seconds")]
    pub scheduling_delay: Duration,
    /// How long it ran.
    #[serde(serialize_with = "as_seconds")]
    pub processing_time: Duration,
    /// What is on disk, because memory had no room for it, and what was.
    pub spill: SpillCounts,
}

/// A batch has failed. Nothing of it was published.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct BatchFailed {
    /// The batch.
    #[serde(serialize_with = "as_number")]
    pub batch_id: BatchId,
    /// Its time in microseconds since 1970-01-01 UTC.
    pub batch_time_us: i64,
    /// The error, with its causes and hint.
    pub error: String,
    /// Whether the job goes on with the next batch: the step that failed has `on-error = "skip-batch"`.
    pub skipped: bool,
}

/// An attempt at a batch has failed, and another follows. Nothing of it was published.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct BatchRetried {
    /// The batch.
    #[serde(serialize_with = "as_number")]
    pub batch_id: BatchId,
    /// The attempt that has failed: 0 is the first.
    pub attempt: u32,
    /// The error, with its causes and hint.
    pub error: String,
    /// How long the job waits before the next.
    #[serde(serialize_with = "as_seconds")]
    pub pause: Duration,
}

/// Plugins were loaded anew, and run from this batch on.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct PluginsReloaded {
    /// The first batch with them.
    #[serde(serialize_with = "as_number")]
    pub batch_id: BatchId,
    /// Which.
    pub plugins: Vec<ChangedPlugin>,
}

/// A batch failed with plugins that were loaded anew: those before are back, and run it again.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ReloadUndone {
    /// The batch.
    #[serde(serialize_with = "as_number")]
    pub batch_id: BatchId,
    /// The plugins that are gone.
    pub plugins: Vec<ChangedPlugin>,
    /// The error, with its causes and hint.
    pub error: String,
}

/// The job has ended.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct RunEnded {
    /// What it has done.
    pub summary: Summary,
    /// Why it failed, if it did.
    pub error: Option<String>,
}

/// Is told what happens to batches.
///
/// Each method is called from the thread where it happens: `on_batch_submitted` from the generator's, the others from the
/// runner's, for one batch in the order submitted, started, completed or failed. A listener must not block: the job waits
/// for it.
pub trait Listener: Send + Sync {
    /// What a batch holds has been fixed.
    fn on_batch_submitted(&self, _event: &BatchSubmitted) {}

    /// A batch's first task starts.
    fn on_batch_started(&self, _event: &BatchStarted) {}

    /// A batch's rows have been published.
    fn on_batch_completed(&self, _event: &BatchCompleted) {}

    /// An attempt at a batch has failed, and another follows.
    fn on_batch_retried(&self, _event: &BatchRetried) {}

    /// Plugins were loaded anew, and run from this batch on.
    fn on_plugins_reloaded(&self, _event: &PluginsReloaded) {}

    /// A batch has failed with plugins that were loaded anew, and those before are back.
    fn on_reload_undone(&self, _event: &ReloadUndone) {}

    /// A batch has failed.
    fn on_batch_failed(&self, _event: &BatchFailed) {}

    /// A receiver has failed and is run again, has ended, or was stopped. Called from the receiver's thread.
    fn on_source_event(&self, _source: &str, _event: &SourceEvent) {}

    /// The job has ended; the last call.
    fn on_run_ended(&self, _event: &RunEnded) {}
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn as_number<S: serde::Serializer>(id: &BatchId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(id.0)
}

fn as_seconds<S: serde::Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
}
