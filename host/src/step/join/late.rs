//! The rows of a side that come too late for a join, as a stream of their own.

use std::sync::Arc;

use arrow::array::{Array, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::Schema;

use super::reach::Reach;
use super::{JoinOptions, JoinScope};
use crate::error::Error;
use crate::event_time::{ClockId, Watermark, is_time_type, times_us};
use crate::step::definition::{Built, PlanContext, StepDefinition};
use crate::step::keyed::{SpecProblem, internal};
use crate::step::times::TimeColumns;
use crate::step::{Emit, PipelineStep, StepFactory};
use crate::task::TaskContext;

/// The late rows of one side of a join.
#[derive(Debug, Clone)]
pub struct LateForJoin {
    /// The join.
    pub options: JoinOptions,
    /// The names of its other side, whose watermark counts as well.
    pub other: Vec<String>,
    /// 0: the left side, 1: the right.
    pub side: usize,
}

/// When a row is late.
#[derive(Debug, Clone, Copy)]
enum LateWhen {
    /// When all that it may match is gone.
    OutOf(Reach),
    /// When the clock has passed it.
    Passed,
}

impl LateWhen {
    fn is_late(self, time_us: i64, clock: Watermark) -> bool {
        match self {
            LateWhen::OutOf(reach) => {
                let mut times = reach.times_of(time_us).map(|time_us| reach.is_late(time_us, clock)).peekable();
                times.peek().is_some() && times.all(|is_late| is_late)
            }
            LateWhen::Passed => clock.is_late(time_us.saturating_add(1)),
        }
    }
}

impl StepDefinition for LateForJoin {
    fn kind(&self) -> &'static str {
        "late"
    }

    fn follows(&self) -> Vec<String> {
        self.other.clone()
    }

    fn times(&self, context: &PlanContext<'_>, _: &Schema) -> TimeColumns {
        let usage = self.options.scope.time_use();
        let time = self.options.scope.times().map(|times| times[self.side]);
        time.map(|time| context.times().late(time, usage)).unwrap_or_default()
    }

    fn plan(&self, context: &PlanContext<'_>) -> Result<Built, Vec<SpecProblem>> {
        let scope = &self.options.scope;
        let when = match scope {
            JoinScope::Interval { .. } | JoinScope::Window { .. } => scope.reach().map(LateWhen::OutOf),
            JoinScope::Latest { .. } => Some(LateWhen::Passed),
            JoinScope::Batch => None,
        };
        let name = scope.times().map(|times| times[self.side]);
        let found = name.and_then(|name| context.input().column_with_name(name));
        // What is wrong is told of the join itself.
        let (Some((time, field)), Some(when)) = (found, when) else { return Err(Vec::new()) };
        if !is_time_type(field.data_type()) || context.clock.is_none() {
            return Err(Vec::new());
        }
        let factory = LateFactory { step: context.step.to_owned(), time, when, clock: context.clock };
        Ok(Built::narrow(context.input().clone(), Arc::new(factory)))
    }
}

#[derive(Debug, Clone)]
struct LateFactory {
    step: String,
    time: usize,
    when: LateWhen,
    clock: Option<ClockId>,
}

impl StepFactory for LateFactory {
    fn start(&self, task: &TaskContext) -> Result<Box<dyn PipelineStep>, Error> {
        Ok(Box::new(Late { late: self.clone(), clock: task.times.watermark(self.clock) }))
    }
}

struct Late {
    late: LateFactory,
    clock: Watermark,
}

impl PipelineStep for Late {
    fn push(&mut self, rows: RecordBatch, emit: &mut Emit<'_>) -> Result<(), Error> {
        let doing = || internal(format!("choosing the late rows for `{}`", self.late.step));
        let times = times_us(rows.column(self.late.time)).map_err(doing())?;
        // A row without a time matches nothing, and is not late.
        let is_late = |row| times.is_valid(row) && self.late.when.is_late(times.value(row), self.clock);
        let late: BooleanArray = (0..rows.num_rows()).map(|row| Some(is_late(row))).collect();
        if late.true_count() == 0 {
            return Ok(());
        }
        emit(filter_record_batch(&rows, &late).map_err(doing())?)
    }

    fn finish(&mut self, _: &mut Emit<'_>) -> Result<(), Error> {
        Ok(())
    }
}
