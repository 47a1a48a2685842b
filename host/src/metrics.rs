//! Every number that a job counts: its name, its unit, its labels, in one table.
//!
//! | name | unit | labels | meaning |
//! | --- | --- | --- | --- |
//! | `tidemill_step_rows_in_total` | rows | job, step | rows a step was given |
//! | `tidemill_step_rows_out_total` | rows | job, step | rows a step gave on |
//! | `tidemill_step_rows_rejected_total` | rows | job, step | rows an operator could not process |
//! | `tidemill_step_rows_dead_lettered_total` | rows | job, step | rows that were set aside with `on-error = "dead-letter"` |
//! | `tidemill_step_rows_late_total` | rows | job, step | rows that came too late for what they belong to |
//! | `tidemill_step_calls_total` | calls | job, step | calls of an operator |
//! | `tidemill_step_crossed_in_bytes_total` | bytes | job, step | lowered into a plugin |
//! | `tidemill_step_crossed_out_bytes_total` | bytes | job, step | lifted out of a plugin |
//! | `tidemill_step_busy_seconds_total` | seconds | job, step | time at work, the steps after it left out |
//! | `tidemill_step_errors_total` | errors | job, step | calls that failed |
//! | `tidemill_spill_rows` | rows | job | rows on disk now, because memory had no room: [`SpillCounts`](crate::spill::SpillCounts) |
//! | `tidemill_spill_disk_bytes` | bytes | job | bytes of files that they are in |
//! | `tidemill_spill_rows_total` | rows | job | rows that were ever spilled |
//! | `tidemill_spill_disk_bytes_total` | bytes | job | bytes that were ever written for them |
//!
//! What is counted is work: that of a batch that failed, or of a task that is run again, too. Rows that came too late,
//! and those that were set aside, are no work but what became of rows: each is counted once, when its batch is published.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A number that only grows. Relaxed: it is read for display, and orders nothing.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds to it.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// Its value.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Rows that one attempt of a task has found late or set aside, step by step: they count when their batch is published, and not
/// when the attempt or the batch fails.
///
/// A mutex: it is taken once for some thousands of rows, by one thread.
#[derive(Debug, Default)]
pub struct LateRows(Mutex<Vec<(Arc<StepMeter>, Became, u64)>>);

/// What became of rows.
#[derive(Debug, Clone, Copy)]
enum Became {
    Late,
    DeadLetters,
}

impl LateRows {
    /// Notes some rows of a step that came too late.
    pub fn add(&self, meter: &Arc<StepMeter>, n_rows: u64) {
        self.note(meter, Became::Late, n_rows);
    }

    /// Notes some rows that a step has set aside.
    pub fn add_dead(&self, meter: &Arc<StepMeter>, n_rows: u64) {
        self.note(meter, Became::DeadLetters, n_rows);
    }

    fn note(&self, meter: &Arc<StepMeter>, became: Became, n_rows: u64) {
        if n_rows > 0 {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push((meter.clone(), became, n_rows));
        }
    }

    /// Counts them, once: the batch has been published. Gives how many were set aside.
    pub fn count(&self) -> u64 {
        let mut n_dead = 0;
        for (meter, became, n_rows) in self.0.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            match became {
                Became::Late => meter.rows_late.add(n_rows),
                Became::DeadLetters => {
                    meter.rows_dead_lettered.add(n_rows);
                    n_dead += n_rows;
                }
            }
        }
        n_dead
    }
}

/// What is counted of one step; a sink counts as one.
#[derive(Debug, Default)]
pub struct StepMeter {
    /// Rows it was given.
    pub rows_in: Counter,
    /// Rows it gave on.
    pub rows_out: Counter,
    /// Rows an operator could not process.
    pub rows_rejected: Counter,
    /// Rows that came too late for what they belong to, of batches that were published; see [`LateRows`].
    pub rows_late: Counter,
    /// Rows that were set aside, of batches that were published.
    pub rows_dead_lettered: Counter,
    /// Calls of an operator.
    pub calls: Counter,
    /// Bytes lowered into a plugin.
    pub crossed_in_bytes: Counter,
    /// Bytes lifted out of a plugin.
    pub crossed_out_bytes: Counter,
    /// Nanoseconds at work.
    pub busy_ns: Counter,
    /// Calls that failed.
    pub errors: Counter,
}

/// What a [`StepMeter`] showed at one moment.
#[derive(Debug, Clone, PartialEq, Default, serde::Serialize)]
pub struct StepCounts {
    /// The step's name.
    pub step: String,
    /// Rows it was given.
    pub rows_in: u64,
    /// Rows it gave on.
    pub rows_out: u64,
    /// Rows an operator could not process.
    pub rows_rejected: u64,
    /// Rows that came too late for what they belong to.
    pub rows_late: u64,
    /// Rows that were set aside as dead letters.
    pub rows_dead_lettered: u64,
    /// Calls of an operator.
    pub calls: u64,
    /// Bytes lowered into a plugin.
    pub crossed_in_bytes: u64,
    /// Bytes lifted out of a plugin.
    pub crossed_out_bytes: u64,
    /// Seconds at work.
    pub busy_seconds: f64,
    /// Calls that failed.
    pub errors: u64,
    /// The counters and gauges that the step's plugin keeps, by name.
    pub guest: BTreeMap<String, serde_json::Value>,
}

impl StepMeter {
    /// What it shows now.
    #[must_use]
    pub fn snapshot(&self, step: &str) -> StepCounts {
        StepCounts {
            step: step.to_owned(),
            rows_in: self.rows_in.get(),
            rows_out: self.rows_out.get(),
            rows_rejected: self.rows_rejected.get(),
            rows_late: self.rows_late.get(),
            rows_dead_lettered: self.rows_dead_lettered.get(),
            calls: self.calls.get(),
            crossed_in_bytes: self.crossed_in_bytes.get(),
            crossed_out_bytes: self.crossed_out_bytes.get(),
            busy_seconds: Duration::from_nanos(self.busy_ns.get()).as_secs_f64(),
            errors: self.errors.get(),
            guest: BTreeMap::new(),
        }
    }
}

/// The most memory this process has had resident, in bytes, where the system tells.
#[must_use]
pub fn peak_memory_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}
