//! Station 3: one stage on one partition, run on a fixed pool of worker threads.

pub mod pipeline;
pub mod pool;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, Explain, Fault, Retry};
use crate::event_time::{BatchTimes, ClockId};
use crate::ids::{BatchId, PartitionId};
use crate::metrics::LateRows;
use crate::operator::Call;
use crate::spill::TaskMemory;

/// A source or sink failed in a batch.
#[derive(Debug, thiserror::Error)]
#[error("{part} `{name}` failed in batch {batch_id}")]
pub struct PartFailed {
    /// `source` or `sink`.
    pub part: &'static str,
    /// Its name.
    pub name: String,
    /// The batch.
    pub batch_id: BatchId,
    /// Why.
    #[source]
    pub source: Error,
}

impl Explain for PartFailed {
    fn fault(&self) -> Fault {
        self.source.fault()
    }

    fn retry(&self) -> Retry {
        self.source.retry()
    }

    fn hint(&self) -> Option<String> {
        self.source.hint()
    }
}

/// What a task knows of where it runs.
#[derive(Debug, Clone)]
pub struct TaskContext {
    /// The batch.
    pub batch_id: BatchId,
    /// The batch's time in microseconds since 1970-01-01 UTC.
    pub batch_time_us: i64,
    /// Whether sinks may have published the batch before the job was started again.
    pub is_repeated: bool,
    /// The partition, by a number that no other task of the steps it runs has: stages that share a step or sink are
    /// numbered through.
    pub partition: PartitionId,
    /// The partition's number within its stage, from 0: behind a shuffle, where its state is.
    pub stage_partition: PartitionId,
    /// 0 at the first attempt.
    pub attempt: u32,
    /// The batch's clocks of event time.
    pub times: Arc<BatchTimes>,
    /// Set when the batch is given up: whatever loops looks at it between calls.
    pub cancelled: Arc<AtomicBool>,
    /// What this attempt finds late.
    pub late: Arc<LateRows>,
    /// What its steps may hold of the batch's rows.
    pub memory: TaskMemory,
}

impl TaskContext {
    /// The call of an operator whose input starts after `first_row` rows of this partition, and follows `clock`.
    #[must_use]
    pub fn call(&self, first_row: u64, clock: Option<ClockId>) -> Call {
        Call {
            batch_id: self.batch_id,
            batch_time_us: self.batch_time_us,
            partition: self.partition,
            attempt: self.attempt,
            first_row,
            watermark_us: self.times.watermark(clock).now_us,
        }
    }

    /// Whether the batch has been given up.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }
}
