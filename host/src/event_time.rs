//! Event time: what a job says of it, and the clocks that follow it.
//!
//! A source, or a `watermark` step, says which column holds the time at which its rows happened, and how late rows may be. Its
//! *watermark* is the largest time seen less that delay: from then on earlier rows are late. A step that gets rows of several
//! follows the slowest of them: that is a *clock*, one for each set of watermarks that some step of the plan depends on.
//!
//! Clocks move between batches (as in Spark's Structured Streaming): batch n sees what batches before it have seen. Each batch
//! has two readings. `late_us` is the reading of the batch before: rows are late against it. `now_us` is that of this batch:
//! windows that end by then are complete. So a row that a step before gives in this batch, because its window is complete
//! now, is not late for a step behind.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use arrow::array::{Array, AsArray, Int64Array};
use arrow::compute::{cast, max};
use arrow::datatypes::{DataType, Int64Type, TimeUnit};
use arrow::error::ArrowError;

/// A clock of a plan, by its index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClockId(pub usize);

/// What a job says of the event time of some rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventTime {
    /// The column that holds it.
    pub column: String,
    /// How much later than a row another row of an earlier time may come.
    pub delay: Duration,
    /// When no row has come for so long, in batch time, the source no longer holds others back; `None`: it always does.
    pub idle_timeout: Option<Duration>,
}

/// The readings of a clock in one batch, in microseconds since 1970-01-01 UTC; `None`: no row with a time has come yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Watermark {
    /// Rows of an earlier time, or of windows that end by then, are late.
    pub late_us: Option<i64>,
    /// No row of an earlier time is expected any more: what ends by then is complete.
    pub now_us: Option<i64>,
}

impl Watermark {
    /// Whether what ends at `end_us` was complete before this batch: a row that belongs to it is late.
    #[must_use]
    pub fn is_late(&self, end_us: i64) -> bool {
        self.late_us.is_some_and(|late_us| end_us <= late_us)
    }

    /// Whether what ends at `end_us` is complete after the rows of this batch.
    #[must_use]
    pub fn is_complete(&self, end_us: i64) -> bool {
        self.now_us.is_some_and(|now_us| end_us <= now_us)
    }
}

/// The clocks of one batch, and what its rows say for the next.
#[derive(Debug, Default)]
pub struct BatchTimes {
    clocks: Vec<Watermark>,
    /// The largest time seen in the batch for each watermark; `i64::MIN`: none.
    seen: Vec<AtomicI64>,
    /// Whether a row came for each watermark, with a time or without.
    came: Vec<AtomicBool>,
    /// Whether it is the last batch of a job whose sources have ended: what is open is completed.
    closes: bool,
}

impl BatchTimes {
    /// The times of a batch with these clocks, of a plan with so many watermarks.
    #[must_use]
    pub fn new(clocks: Vec<Watermark>, n_watermarks: usize, closes: bool) -> Self {
        let seen = (0..n_watermarks).map(|_| AtomicI64::new(i64::MIN)).collect();
        let came = (0..n_watermarks).map(|_| AtomicBool::new(false)).collect();
        Self { clocks, seen, came, closes }
    }

    /// The readings of a clock; without a clock no time is known.
    #[must_use]
    pub fn watermark(&self, clock: Option<ClockId>) -> Watermark {
        clock.and_then(|clock| self.clocks.get(clock.0)).copied().unwrap_or_default()
    }

    /// Whether it is the last batch of a job whose sources have ended.
    #[must_use]
    pub fn closes(&self) -> bool {
        self.closes
    }

    /// Notes the largest time among some rows; from any task.
    pub fn observe(&self, watermark: usize, largest_us: Option<i64>) {
        if let Some(came) = self.came.get(watermark) {
            came.store(true, Ordering::Relaxed);
        }
        if let (Some(seen), Some(largest_us)) = (self.seen.get(watermark), largest_us) {
            seen.fetch_max(largest_us, Ordering::Relaxed);
        }
    }

    /// The largest time seen for a watermark so far.
    #[must_use]
    pub fn seen(&self, watermark: usize) -> Option<i64> {
        self.seen.get(watermark).map(|seen| seen.load(Ordering::Relaxed)).filter(|seen| *seen != i64::MIN)
    }

    /// Whether a row came for a watermark.
    #[must_use]
    pub fn came(&self, watermark: usize) -> bool {
        self.came.get(watermark).is_some_and(|came| came.load(Ordering::Relaxed))
    }
}

/// Whether a column of this type can hold event times.
#[must_use]
pub fn is_time_type(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Timestamp(..) | DataType::Date32)
}

/// The times of a column in microseconds since 1970-01-01 UTC.
///
/// # Errors
///
/// When the column is of another type, or a time does not fit.
pub fn times_us(column: &dyn Array) -> Result<Int64Array, ArrowError> {
    let DataType::Timestamp(unit, zone) = column.data_type() else {
        let us = cast(column, &DataType::Timestamp(TimeUnit::Microsecond, None))?;
        return Ok(cast(&us, &DataType::Int64)?.as_primitive::<Int64Type>().clone());
    };
    if *unit == TimeUnit::Microsecond {
        return Ok(column.as_primitive::<arrow::datatypes::TimestampMicrosecondType>().reinterpret_cast());
    }
    let us = cast(column, &DataType::Timestamp(TimeUnit::Microsecond, zone.clone()))?;
    Ok(us.as_primitive::<arrow::datatypes::TimestampMicrosecondType>().reinterpret_cast())
}

/// The largest time of a column in microseconds, if it has any.
///
/// # Errors
///
/// As [`times_us`].
pub fn largest_us(column: &dyn Array) -> Result<Option<i64>, ArrowError> {
    Ok(max(&times_us(column)?))
}
