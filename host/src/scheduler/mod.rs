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
mod control;
mod export_state;
mod listener;
mod received;
mod recover;
mod reload;
mod replay;
mod restore;
mod run;
mod run_batch;
mod ticks;
mod watermarks;

pub use batch::{Batch, SourceInput};
pub use export_state::{ExportError, ExportedEntry, export_state};
pub use listener::{
    BatchCompleted, BatchFailed, BatchRetried, BatchStarted, BatchSubmitted, Listener, PluginsReloaded, ReloadUndone,
    RunEnded, SourceRows,
};
pub use reload::ReloadError;
pub use replay::{ReplayError, Replayed, ReplayedSink, replay};
pub use run::{RunOutcome, Running, SourceSummary, StartError, StopMode, Summary, start};
