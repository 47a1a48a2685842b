//! Before the shuffle: gives each row its window, and sets late rows aside.
//!
//! ```text
//!  rows ── times ──┬─ in a window that is open ── + label columns ──▶ combine
//!                  └─ late: counted; a side stream has them
//! ```
//!
//! A row is late when the last window that it belongs to was complete before this batch, or when it has no time: null, or
//! beyond what can be reckoned with. For a session that is the window of the row alone. A row that lies in a gap between
//! windows belongs to none; it is left out, and not late.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, Int64Array, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, SchemaRef};

use super::panes::{Panes, TIME_US_MAX, cut};
use crate::error::Error;
use crate::event_time::{ClockId, Watermark, times_us};
use crate::metrics::StepMeter;
use crate::step::key_table::KeyTable;
use crate::step::keyed::{KeyColumns, batch_of, internal};
use crate::step::{Emit, PipelineStep, StepFactory};
use crate::task::TaskContext;

/// The windows of time that rows are put into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TimeShape {
    /// Windows of one size.
    Panes(Panes),
    /// Sessions with this gap.
    Sessions(i64),
}

/// How rows are told from late ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lateness {
    /// The column of event time; `None`: the time is the batch's, and no row is late.
    pub(crate) column: Option<usize>,
    pub(crate) shape: TimeShape,
    pub(crate) clock: Option<ClockId>,
    pub(crate) lateness_us: i64,
}

/// What becomes of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Kept,
    Late,
    /// In no window.
    Outside,
}

impl Lateness {
    /// The times of some rows; of a late row any.
    fn fates(&self, rows: &RecordBatch, task: &TaskContext, step: &str) -> Result<(Vec<i64>, Vec<Fate>), Error> {
        let Some(column) = self.column else {
            let us = match self.shape {
                // The batch at `t` has what came before `t`: it belongs to windows that end then, not to those that begin.
                TimeShape::Panes(_) => task.batch_time_us - 1,
                TimeShape::Sessions(_) => task.batch_time_us,
            };
            let fate = if self.is_outside(us) { Fate::Outside } else { Fate::Kept };
            return Ok((vec![us; rows.num_rows()], vec![fate; rows.num_rows()]));
        };
        let times = times_us(rows.column(column)).map_err(internal(format!("reading the times of step `{step}`")))?;
        let open_from = self.open_from(task.times.watermark(self.clock));
        let fate = |row: usize| {
            let us = times.value(row);
            if times.is_null(row) || !(-TIME_US_MAX..TIME_US_MAX).contains(&us) {
                Fate::Late
            } else if self.is_outside(us) {
                Fate::Outside
            } else if us < open_from {
                Fate::Late
            } else {
                Fate::Kept
            }
        };
        let fates = (0..times.len()).map(fate).collect();
        Ok((times.values().to_vec(), fates))
    }

    fn is_outside(&self, us: i64) -> bool {
        match &self.shape {
            TimeShape::Panes(panes) => panes.has_gaps() && us - panes.last_window(us) >= panes.size(),
            TimeShape::Sessions(_) => false,
        }
    }

    /// Rows of earlier times are late: their last window was complete before the batch.
    fn open_from(&self, watermark: Watermark) -> i64 {
        let Some(cut) = cut(watermark.late_us, self.lateness_us) else { return i64::MIN };
        match &self.shape {
            // The last window of a time ends later than the cut when the time is in the first window that does, or later.
            TimeShape::Panes(panes) => panes.first_open(cut),
            TimeShape::Sessions(gap_us) => cut - gap_us + 1,
        }
    }
}

/// The half before the shuffle: assigns windows, then combines.
pub(crate) struct AssignFactory {
    pub(crate) step: String,
    pub(crate) lateness: Lateness,
    /// The columns of the input that go on.
    pub(crate) columns: Vec<usize>,
    /// Those columns, then the labels.
    pub(crate) labelled: SchemaRef,
    /// The key columns of the input.
    pub(crate) keys: KeyColumns,
    pub(crate) combine: Arc<dyn StepFactory>,
    pub(crate) meter: Arc<StepMeter>,
}

impl StepFactory for AssignFactory {
    fn start(&self, task: &TaskContext) -> Result<Box<dyn PipelineStep>, Error> {
        let types: Vec<DataType> = self.keys.fields.iter().map(|field| field.data_type().clone()).collect();
        Ok(Box::new(Assign {
            step: self.step.clone(),
            lateness: self.lateness,
            columns: self.columns.clone(),
            labelled: self.labelled.clone(),
            keys: self.keys.clone(),
            meter: self.meter.clone(),
            combine: self.combine.start(task)?,
            task: task.clone(),
            table: KeyTable::new(&types),
            groups: Vec::new(),
        }))
    }
}

struct Assign {
    step: String,
    lateness: Lateness,
    columns: Vec<usize>,
    labelled: SchemaRef,
    keys: KeyColumns,
    meter: Arc<StepMeter>,
    combine: Box<dyn PipelineStep>,
    task: TaskContext,
    /// The keys of the rows at work; kept for its memory.
    table: KeyTable,
    groups: Vec<u32>,
}

impl Assign {
    /// The label columns of rows with these times.
    fn labels(&mut self, rows: &RecordBatch, times: &[i64]) -> Result<Vec<ArrayRef>, Error> {
        match self.lateness.shape {
            TimeShape::Panes(panes) => {
                Ok(vec![Arc::new(times.iter().map(|&us| panes.pane_of(us)).collect::<Int64Array>())])
            }
            TimeShape::Sessions(gap_us) => {
                let doing = format!("grouping the rows of step `{}`", self.step);
                self.table.clear();
                let grouped = self.table.group_rows(&self.keys.of(rows), times.len(), &mut self.groups);
                grouped.map_err(internal(doing))?;
                let (firsts, lasts) = sessions_of(&self.groups, times, gap_us);
                Ok(vec![Arc::new(Int64Array::from(firsts)), Arc::new(Int64Array::from(lasts))])
            }
        }
    }
}

/// The first and last time of the session of each row, among these rows alone: it makes fewer partials.
fn sessions_of(groups: &[u32], times: &[i64], gap_us: i64) -> (Vec<i64>, Vec<i64>) {
    let mut order: Vec<usize> = (0..times.len()).collect();
    order.sort_unstable_by_key(|&row| (groups[row], times[row]));
    let (mut firsts, mut lasts) = (vec![0; times.len()], vec![0; times.len()]);
    let is_one = |&a: &usize, &b: &usize| groups[a] == groups[b] && times[b] - times[a] < gap_us;
    for session in order.chunk_by(is_one) {
        let (first, last) = (times[session[0]], times[session[session.len() - 1]]);
        for &row in session {
            (firsts[row], lasts[row]) = (first, last);
        }
    }
    (firsts, lasts)
}

impl PipelineStep for Assign {
    fn push(&mut self, rows: RecordBatch, emit: &mut Emit<'_>) -> Result<(), Error> {
        let (mut times, fates) = self.lateness.fates(&rows, &self.task, &self.step)?;
        let doing = || internal(format!("giving windows to the rows of step `{}`", self.step));
        let n_late = fates.iter().filter(|fate| **fate == Fate::Late).count();
        self.task.late.add(&self.meter, n_late as u64);
        let mut rows = rows;
        if fates.iter().any(|fate| *fate != Fate::Kept) {
            let kept: BooleanArray = fates.iter().map(|fate| Some(*fate == Fate::Kept)).collect();
            rows = filter_record_batch(&rows, &kept).map_err(doing())?;
            let mut fates = fates.iter();
            times.retain(|_| fates.next() == Some(&Fate::Kept));
        }
        if times.is_empty() {
            return Ok(());
        }
        let labels = self.labels(&rows, &times)?;
        let columns = self.columns.iter().map(|&column| rows.column(column).clone()).chain(labels).collect();
        let doing = internal(format!("giving windows to the rows of step `{}`", self.step));
        let rows = batch_of(self.labelled.clone(), columns, times.len()).map_err(doing)?;
        self.combine.push(rows, emit)
    }

    fn finish(&mut self, emit: &mut Emit<'_>) -> Result<(), Error> {
        self.combine.finish(emit)
    }
}

/// A step that keeps exactly the late rows.
pub(crate) struct LateFactory {
    pub(crate) step: String,
    pub(crate) lateness: Lateness,
}

impl StepFactory for LateFactory {
    fn start(&self, task: &TaskContext) -> Result<Box<dyn PipelineStep>, Error> {
        Ok(Box::new(Late { step: self.step.clone(), lateness: self.lateness, task: task.clone() }))
    }
}

struct Late {
    step: String,
    lateness: Lateness,
    task: TaskContext,
}

impl PipelineStep for Late {
    fn push(&mut self, rows: RecordBatch, emit: &mut Emit<'_>) -> Result<(), Error> {
        let (_, fates) = self.lateness.fates(&rows, &self.task, &self.step)?;
        let late: BooleanArray = fates.iter().map(|fate| Some(*fate == Fate::Late)).collect();
        if late.true_count() == 0 {
            return Ok(());
        }
        let doing = format!("choosing the late rows for `{}`", self.step);
        emit(filter_record_batch(&rows, &late).map_err(internal(doing))?)
    }

    fn finish(&mut self, _: &mut Emit<'_>) -> Result<(), Error> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_one_push_are_joined_by_key_and_time() {
        let (firsts, lasts) = sessions_of(&[0, 1, 0, 0, 1, 0], &[20, 5, 0, 9, 14, 29], 10);
        assert_eq!(firsts, [20, 5, 0, 0, 5, 20]);
        assert_eq!(lasts, [29, 14, 9, 9, 14, 29]);
    }
}
