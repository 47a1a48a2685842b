//! Station 4: what is done with rows, one step a file.
//!
//! A step works on one partition of one batch at a time. A task *starts* the steps of its stage, *pushes* rows through
//! them, and *finishes* them in the order of the flow:
//!
//! ```text
//!  StepFactory ── start(task) ──▶ PipelineStep ── push(rows, out)… ── finish(out) ──▶ dropped
//! ```
//!
//! The law: what a step gives depends on the rows and the task's batch, partition and attempt alone, not on how the
//! rows were cut into pushes.

use arrow::array::RecordBatch;

use crate::error::Error;
use crate::task::TaskContext;

pub mod aggregate;
pub mod aggregate_with;
mod by_key;
pub(crate) mod caller;
pub mod cast;
pub(crate) mod chunks;
pub mod count;
pub mod dead_letters;
pub mod dedup;
pub mod definition;
pub mod distinct;
pub mod drop;
pub mod filter;
mod fold;
pub mod group;
pub mod instances;
pub mod join;
mod key_table;
pub mod keyed;
pub(crate) mod kinds;
pub mod limit;
pub mod observe;
pub mod order;
pub mod partials;
mod project;
pub mod reduce;
pub mod rejected;
pub mod rename;
mod runs;
pub mod sample;
pub mod select;
pub mod sort;
pub mod sql;
#[cfg(test)]
mod test_rows;
#[cfg(test)]
pub(crate) mod testing;
pub mod times;
pub mod top_k;
pub mod transform;
pub mod update_state;
pub mod watermark;
pub mod window;
pub mod windowed;
pub mod with;

pub use fold::KeyedOpenError;

/// Where a step's output goes: the steps after it, a shuffle, a sink.
pub type Emit<'a> = dyn FnMut(RecordBatch) -> Result<(), Error> + 'a;

/// One step at work on one partition of one batch.
pub trait PipelineStep: Send {
    /// Takes some rows, and gives what is ready. Empty batches need not be given on.
    ///
    /// # Errors
    ///
    /// Whatever stops the task; the step is dropped.
    fn push(&mut self, rows: RecordBatch, emit: &mut Emit<'_>) -> Result<(), Error>;

    /// As [`push`](PipelineStep::push), of a step that gets rows on several sides: which.
    ///
    /// # Errors
    ///
    /// Whatever stops the task; the step is dropped.
    fn push_side(&mut self, side: usize, rows: RecordBatch, emit: &mut Emit<'_>) -> Result<(), Error> {
        debug_assert_eq!(side, 0, "a step that has several sides says what it does with each");
        self.push(rows, emit)
    }

    /// No more rows come: gives the rest. Called once, also for a partition without rows.
    ///
    /// # Errors
    ///
    /// Whatever stops the task; the step is dropped.
    fn finish(&mut self, emit: &mut Emit<'_>) -> Result<(), Error>;

    /// What it has set aside since it was last asked, as dead letters. Asked after each push and at the end.
    ///
    /// # Errors
    ///
    /// Whatever stops the task; the step is dropped.
    fn take_letters(&mut self) -> Result<Option<RecordBatch>, Error> {
        Ok(None)
    }
}

/// A step of a plan, ready to start in any task.
pub trait StepFactory: Send + Sync {
    /// Starts the step on the task's partition.
    ///
    /// # Errors
    ///
    /// When it cannot be started: an operator that does not open.
    fn start(&self, task: &TaskContext) -> Result<Box<dyn PipelineStep>, Error>;
}
