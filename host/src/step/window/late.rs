//! Which rows are too late for every window they belong to: dropped before the shuffle, or kept as a stream of their own.

use std::sync::Arc;

use arrow::array::{Array, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::Schema;

use super::{Spans, Window};
use crate::error::Error;
use crate::event_time::{Watermark, times_us};
use crate::metrics::{self, StepMeter};
use crate::step::definition::{Built, PlanContext, StepDefinition};
use crate::step::keyed::{SpecProblem, internal};
use crate::step::times::{TimeColumns, TimeUse};
use crate::step::windowed::micros;
use crate::step::{Emit, PipelineStep, StepFactory};
use crate::task::TaskContext;

/// The late rows of a window step, as a stream.
#[derive(Debug, Clone)]
pub(super) struct LateRows(pub(super) Window);

impl StepDefinition for LateRows {
    fn kind(&self) -> &'static str {
        "window"
    }

    fn times(&self, context: &PlanContext<'_>, _: &Schema) -> TimeColumns {
        let usage = TimeUse::Windows(self.0.shape(), micros(self.0.lateness));
        self.0.time.as_ref().map(|time| context.times().late(time, usage)).unwrap_or_default()
    }

    fn plan(&self, context: &PlanContext<'_>) -> Result<Built, Vec<SpecProblem>> {
        // What is wrong is told of the window itself.
        let spans = self.0.check(context).map_err(|_| Vec::new())?;
        let filter = LateFilter { spans, keeps_late: true, step: context.step.to_owned(), meter: None };
        Ok(Built::narrow(context.input().clone(), Arc::new(filter)))
    }
}

/// Keeps the rows that are late, or those that are not.
pub(super) struct LateFilter {
    pub(super) spans: Spans,
    pub(super) keeps_late: bool,
    pub(super) step: String,
    /// Counts the late rows, if it is to.
    pub(super) meter: Option<Arc<StepMeter>>,
}

impl StepFactory for LateFilter {
    fn start(&self, task: &TaskContext) -> Result<Box<dyn PipelineStep>, Error> {
        Ok(Box::new(Filtering {
            spans: self.spans,
            watermark: task.times.watermark(self.spans.clock),
            keeps_late: self.keeps_late,
            step: self.step.clone(),
            meter: self.meter.clone(),
            late: task.late.clone(),
        }))
    }
}

struct Filtering {
    spans: Spans,
    watermark: Watermark,
    keeps_late: bool,
    step: String,
    meter: Option<Arc<StepMeter>>,
    late: Arc<metrics::LateRows>,
}

impl PipelineStep for Filtering {
    fn push(&mut self, rows: RecordBatch, emit: &mut Emit<'_>) -> Result<(), Error> {
        let Some(time) = self.spans.time else {
            return if self.keeps_late { Ok(()) } else { emit(rows) };
        };
        let doing = || internal(format!("reading the event times of step `{}`", self.step));
        let times = times_us(rows.column(time)).map_err(doing())?;
        // A row without a time belongs to no window.
        let is_late = |row| !times.is_valid(row) || self.spans.is_late(times.value(row), self.watermark);
        let late: Vec<bool> = (0..rows.num_rows()).map(is_late).collect();
        let n_late = late.iter().filter(|late| **late).count();
        if let Some(meter) = &self.meter {
            self.late.add(meter, n_late as u64);
        }
        if n_late == 0 {
            return if self.keeps_late { Ok(()) } else { emit(rows) };
        }
        let kept: BooleanArray = late.into_iter().map(|late| Some(late == self.keeps_late)).collect();
        let kept = filter_record_batch(&rows, &kept).map_err(doing())?;
        if kept.num_rows() > 0 { emit(kept) } else { Ok(()) }
    }

    fn finish(&mut self, _: &mut Emit<'_>) -> Result<(), Error> {
        Ok(())
    }
}
