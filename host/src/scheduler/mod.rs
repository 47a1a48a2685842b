//! The control plane: when a batch is made, what it holds, in which order it runs.
//!
//! ```text
//!  generator thread: tick ─▶ fix what the batch holds ─▶ queue (bounded)
//!  runner thread:    queue ─▶ stages, in the worker pool ─▶ publish ─▶ release blocks ─▶ listeners
//! ```
//!
//! Batches run one at a time and in order; the tasks of a stage run side by side.

mod batch;
mod batch_generator;
mod listener;
mod recover;
mod run;
mod run_batch;
mod watermarks;

pub use batch::{Batch, SourceInput};
pub use listener::{
    BatchCompleted, BatchFailed, BatchRetried, BatchStarted, BatchSubmitted, Listener, RunEnded, SourceRows,
};
pub use run::{RunOutcome, Running, SourceSummary, StartError, StopMode, Summary, start, start_with};
