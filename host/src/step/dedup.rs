//! `dedup = { by, within, time }`: rows whose key has not come before, over batches.
//!
//! ```text
//!  table 0, slot 0: the keys that have come        table 1, slot = when they are forgotten: the keys
//! ```

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::Schema;

use crate::error::Error;
use crate::event_time::{ClockId, is_time_type, times_us};
use crate::job::table::Table;
use crate::metrics::StepMeter;
use crate::shuffle::Partitioning;
use crate::state::{RowCodec, StateTask, StepState};
use crate::step::definition::{Built, Gather, GatherSide, PlanContext, StepDefinition};
use crate::step::keyed::{KeyColumns, SpecProblem, column_hint, internal};
use crate::step::{Emit, PipelineStep, StepFactory};
use crate::task::TaskContext;

/// Keys that are known.
const KNOWN: usize = 0;
/// When they are forgotten.
const TIMERS: usize = 1;

/// The step: of rows with equal `by` the first that comes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dedup {
    /// The key columns.
    pub by: Vec<String>,
    /// The column of the event time; `None`: batch time.
    pub time: Option<String>,
    /// How long after the first row others are doubled; `None`: for ever, or with `time` until the watermark has passed it.
    pub within: Option<Duration>,
}

impl Dedup {
    pub(crate) fn parse(table: &mut Table<'_>) -> Option<Self> {
        let mut inner = table.table("dedup")?;
        if !inner.has("by") {
            inner
                .missing("by", Some("Name the columns in which doubled rows are equal, as in `by = [\"id\"]`.".into()));
        }
        let by = inner.texts("by");
        let time = inner.text("time");
        let within = inner.duration("within");
        inner.finish();
        Some(Self { by: by?, time, within })
    }
}

impl StepDefinition for Dedup {
    fn kind(&self) -> &'static str {
        "dedup"
    }

    fn plan(&self, context: &PlanContext<'_>) -> Result<Built, Vec<SpecProblem>> {
        let input = context.input().clone();
        let mut problems = Vec::new();
        let keys = KeyColumns::resolve(&input, &self.by, &mut problems);
        if self.by.is_empty() {
            let hint = Some("Name the columns in which doubled rows are equal.".into());
            problems.push(SpecProblem { key: "by".into(), message: "`by` is empty".into(), hint });
        }
        let time = self.time.as_ref().and_then(|time| {
            let problem = match input.column_with_name(time) {
                Some((index, field)) if is_time_type(field.data_type()) => {
                    if context.clock.is_some() {
                        return Some(index);
                    }
                    let hint = format!("Give the source `event-time = {{ column = \"{time}\", delay = \"…\" }}`.");
                    (
                        format!(
                            "`dedup` by the event time `{time}` needs a watermark, and no source before it has one"
                        ),
                        hint,
                    )
                }
                Some((_, field)) => {
                    let hint = "Event times are of type timestamp.";
                    (format!("column `{time}` has type {}, which is no time", field.data_type()), hint.into())
                }
                None => (format!("the input has no column `{time}`"), column_hint(&input, time)),
            };
            problems.push(SpecProblem { key: "time".into(), message: problem.0, hint: Some(problem.1) });
            None
        });
        if !problems.is_empty() {
            problems.iter_mut().for_each(|problem| problem.key = format!("dedup.{}", problem.key));
            return Err(problems);
        }
        let columns = keys.indices.clone();
        let n_partitions = context.settings.partitions;
        let state = StepState::new(context.step, 2, n_partitions);
        let codec = RowCodec::new(Arc::new(Schema::new(keys.fields.clone())))
            .map_err(|error| vec![SpecProblem { key: "dedup.by".into(), message: error.to_string(), hint: None }])?;
        let factory = Arc::new(Shared {
            step: context.step.to_owned(),
            keys,
            codec: Arc::new(codec),
            time,
            clock: context.clock,
            within: self.within,
            state: state.clone(),
            meter: context.meter.clone(),
        });
        let side = GatherSide { prepare: None, partitioning: Partitioning::Hash { columns } };
        // Also without rows: keys are forgotten in time.
        let gather = Gather { sides: vec![side], n_partitions, runs_when_empty: true, state: Some(state), factory };
        Ok(Built::gather(input, gather))
    }
}

#[derive(Clone)]
struct Shared {
    step: String,
    keys: KeyColumns,
    codec: Arc<RowCodec>,
    time: Option<usize>,
    clock: Option<ClockId>,
    within: Option<Duration>,
    state: Arc<StepState>,
    meter: Arc<StepMeter>,
}

impl StepFactory for Shared {
    fn start(&self, task: &TaskContext) -> Result<Box<dyn PipelineStep>, Error> {
        let state = self.state.begin(task.stage_partition)?;
        Ok(Box::new(Running { shared: self.clone(), task: task.clone(), state: Some(state), new: HashSet::new() }))
    }
}

struct Running {
    shared: Shared,
    task: TaskContext,
    /// Given back when it ends.
    state: Option<StateTask>,
    /// The keys that came first in this batch.
    new: HashSet<Box<[u8]>>,
}

impl Running {
    /// What ends by then is over after this batch.
    fn now_us(&self) -> Option<i64> {
        match self.shared.time {
            Some(_) => self.task.times.watermark(self.shared.clock).now_us,
            None => Some(self.task.batch_time_us),
        }
    }

    /// When a key whose first row has this time is forgotten; `None`: never.
    fn end_us(&self, time_us: i64) -> Option<i64> {
        let within_us = self.shared.within.map(|within| i64::try_from(within.as_micros()).unwrap_or(i64::MAX));
        match (self.shared.time, within_us) {
            (None, None) => None,
            (_, within_us) => Some(time_us.saturating_add(within_us.unwrap_or(0))),
        }
    }
}

impl PipelineStep for Running {
    fn push(&mut self, rows: RecordBatch, emit: &mut Emit<'_>) -> Result<(), Error> {
        let doing = || internal(format!("comparing the rows of step `{}`", self.shared.step));
        let keys = self.shared.codec.encode_keys(&self.shared.keys.of(&rows), rows.num_rows()).map_err(doing())?;
        let times = self.shared.time.map(|time| times_us(rows.column(time))).transpose().map_err(doing())?;
        let watermark = self.task.times.watermark(self.shared.clock);
        let now_us = self.now_us();
        let mut stays = Vec::with_capacity(rows.num_rows());
        let mut n_late = 0;
        for (row, key) in keys.iter().enumerate() {
            let time_us = match &times {
                None => self.task.batch_time_us,
                Some(times) if times.is_valid(row) => times.value(row),
                // A row without a time belongs to none.
                Some(_) => {
                    n_late += 1;
                    stays.push(false);
                    continue;
                }
            };
            let end_us = self.end_us(time_us);
            if times.is_some() && end_us.is_some_and(|end_us| watermark.is_late(end_us)) {
                n_late += 1;
                stays.push(false);
                continue;
            }
            let Some(state) = &mut self.state else { unreachable!("it is there until the step ends") };
            let is_new = !self.new.contains(key) && state.table(KNOWN).get(0, key)?.is_none();
            stays.push(is_new);
            if is_new {
                self.new.insert(key.into());
                // What is over with this batch is not kept: others like it would be late, or are no longer doubled.
                if end_us.is_none_or(|end_us| now_us.is_none_or(|now_us| end_us > now_us)) {
                    state.changes(KNOWN).put(0, key, &[]);
                    if let Some(end_us) = end_us {
                        state.changes(TIMERS).put(end_us, key, &[]);
                    }
                }
            }
        }
        self.shared.meter.rows_late.add(n_late);
        let kept = filter_record_batch(&rows, &BooleanArray::from(stays)).map_err(doing())?;
        if kept.num_rows() > 0 { emit(kept) } else { Ok(()) }
    }

    fn finish(&mut self, _: &mut Emit<'_>) -> Result<(), Error> {
        let Some(mut state) = self.state.take() else { unreachable!("it is there until the step ends") };
        if let Some(now_us) = self.now_us() {
            let mut ended = Vec::new();
            state.table(TIMERS).scan(i64::MIN..=now_us, &mut |_, key, _| {
                ended.push(Box::<[u8]>::from(key));
                Ok(true)
            })?;
            ended.iter().for_each(|key| state.changes(KNOWN).remove(0, key));
            if !ended.is_empty() {
                state.changes(TIMERS).drop_slots(i64::MIN..=now_us);
            }
        }
        state.finish();
        Ok(())
    }
}
