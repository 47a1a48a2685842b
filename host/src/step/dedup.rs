//! `dedup = { by, within, time }`: rows whose key has not come before, over batches.
//!
//! ```text
//!  table 0, slot 0: key ─▶ when it is forgotten (8 bytes; none: never)        table 1, slot = then: the keys
//! ```

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::Schema;

use crate::clock::describe_time;
use crate::error::Error;
use crate::event_time::{ClockId, is_time_type, times_us};
use crate::job::table::Table;
use crate::job::units::format_duration;
use crate::metrics::StepMeter;
use crate::plan::{describe_schema, describe_type};
use crate::shuffle::Partitioning;
use crate::state::{Placement, RowCodec, Slots, StateError, StateTask, StepState, TableLayout};
use crate::step::definition::{Built, Gather, GatherSide, PlanContext, StepDefinition};
use crate::step::keyed::{KeyColumns, SpecProblem, column_hint, internal};
use crate::step::times::{TimeColumns, TimeUse};
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
    /// How long after the first row others are doubled, whenever they come; `None`: for ever, or with `time` until the watermark
    /// has passed that of the first row.
    pub within: Option<Duration>,
}

impl Dedup {
    /// Rows that are equal in these columns are doubles, for ever.
    #[must_use]
    pub fn by<'a>(by: impl IntoIterator<Item = &'a str>) -> Self {
        Self { by: by.into_iter().map(str::to_owned).collect(), time: None, within: None }
    }

    /// With this column as the time of rows; without [`within`](Self::within), until the watermark has passed it.
    #[must_use]
    pub fn time(self, column: &str) -> Self {
        Self { time: Some(column.to_owned()), ..self }
    }

    /// For so long after the first row.
    #[must_use]
    pub fn within(self, within: Duration) -> Self {
        Self { within: Some(within), ..self }
    }

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

    fn times(&self, context: &PlanContext<'_>, output: &Schema) -> TimeColumns {
        context.times().through(output, |name| Some(name.to_owned()))
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
                        let refused = context.times().refusal(time, TimeUse::Instant);
                        let refused = refused.map(|(message, hint)| SpecProblem {
                            key: "time".into(),
                            message,
                            hint: Some(hint),
                        });
                        problems.extend(refused);
                        return Some(index);
                    }
                    let hint = format!(
                        "Give the source `event-time = {{ column = \"{time}\", delay = \"…\" }}`, or put a `watermark` step before this one."
                    );
                    (
                        format!(
                            "`dedup` by the event time `{time}` needs a watermark, and no source before it has one"
                        ),
                        hint,
                    )
                }
                Some((_, field)) => {
                    let hint = "Event times are of type timestamp.";
                    (format!("column `{time}` has type {}, which is no time", describe_type(field.data_type())), hint.into())
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
        let key_schema = Schema::new(keys.fields.clone());
        let forgotten = match (&self.time, self.within) {
            (None, None) => String::new(),
            (time, within) => {
                let of = time.as_ref().map_or_else(|| "batch time".to_owned(), |time| format!("`{time}`"));
                let within = within.map_or_else(String::new, |within| format!(" within {}", format_duration(within)));
                format!(", forgotten by {of}{within}")
            }
        };
        let keeps = format!("the keys {}{forgotten}", describe_schema(&key_schema));
        let codec = RowCodec::new(Arc::new(key_schema))
            .map_err(|error| vec![SpecProblem { key: "dedup.by".into(), message: error.to_string(), hint: None }])?;
        let codec = Arc::new(codec);
        let by_its_key = Placement::Key(codec.clone());
        let name = context.step.to_owned();
        let known =
            TableLayout::shown(by_its_key.clone(), Slots::One, move |value| match End::read(&name, value).ok()? {
                End::Never => Some(serde_json::json!({})),
                End::At(end_us) => Some(serde_json::json!({ "until": describe_time(end_us) })),
            });
        let tables = vec![known, TableLayout::hidden(by_its_key)];
        let state = context.keep(keeps, tables, n_partitions);
        let factory = Arc::new(Shared {
            step: context.step.to_owned(),
            keys,
            codec,
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
        Ok(Box::new(Running {
            shared: self.clone(),
            task: task.clone(),
            state: Some(state),
            firsts: Vec::new(),
            index: HashMap::new(),
        }))
    }
}

struct Running {
    shared: Shared,
    task: TaskContext,
    /// Given back when it ends.
    state: Option<StateTask>,
    /// The keys that a row of this batch is the first of, in the order in which they came.
    firsts: Vec<First>,
    /// Where each stands among them.
    index: HashMap<Box<[u8]>, usize>,
}

/// When a key that has come is forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Never,
    At(i64),
}

impl End {
    fn read(step: &str, value: &[u8]) -> Result<Self, StateError> {
        match (value.first_chunk(), value.len()) {
            (_, 0) => Ok(End::Never),
            (Some(end_us), 8) => Ok(End::At(i64::from_le_bytes(*end_us))),
            (_, n_bytes) => {
                Err(StateError::Damaged { step: step.to_owned(), what: format!("a value has {n_bytes} bytes, not 8") })
            }
        }
    }

    fn is_after(self, us: i64) -> bool {
        match self {
            End::Never => true,
            End::At(end_us) => end_us > us,
        }
    }
}

/// A key that a row of this batch is the first of.
struct First {
    key: Box<[u8]>,
    /// What was kept of it before.
    before: Option<End>,
    end: End,
}

impl Running {
    fn state(&self) -> &StateTask {
        self.state.as_ref().unwrap_or_else(|| unreachable!("it is there until the step ends"))
    }

    /// What ends by then is over after this batch.
    fn now_us(&self) -> Option<i64> {
        match self.shared.time {
            Some(_) => self.task.times.watermark(self.shared.clock).now_us,
            None => Some(self.task.batch_time_us),
        }
    }

    /// When a key whose first row has this time is forgotten.
    fn end_of(&self, time_us: i64) -> End {
        match (self.shared.time, self.shared.within) {
            (None, None) => End::Never,
            // A row is over when the watermark has passed it, as a span of one microsecond is.
            (Some(_), None) => End::At(time_us.saturating_add(1)),
            (_, Some(within)) => {
                let within_us = i64::try_from(within.as_micros()).unwrap_or(i64::MAX);
                End::At(time_us.saturating_add(within_us.max(1)))
            }
        }
    }

    /// Whether a row is the first of its key. If so the key is known from now on.
    fn is_first(&mut self, key: &[u8], time_us: i64) -> Result<bool, Error> {
        let end = self.end_of(time_us);
        // How long others are doubled is a matter of their own times, unless only the watermark says it.
        let by_watermark = self.shared.within.is_none();
        let is_doubled = |known: End| by_watermark || known == End::At(i64::MAX) || known.is_after(time_us);
        if let Some(&index) = self.index.get(key) {
            let first = &mut self.firsts[index];
            let is_first = !is_doubled(first.end);
            if is_first {
                first.end = end;
            }
            return Ok(is_first);
        }
        let before = self.state().table(KNOWN).get(0, key)?;
        let before = before.map(|value| End::read(&self.shared.step, &value)).transpose()?;
        if before.is_some_and(is_doubled) {
            return Ok(false);
        }
        self.index.insert(key.into(), self.firsts.len());
        self.firsts.push(First { key: key.into(), before, end });
        Ok(true)
    }
}

impl PipelineStep for Running {
    fn push(&mut self, rows: RecordBatch, emit: &mut Emit<'_>) -> Result<(), Error> {
        let step = self.shared.step.clone();
        let doing = || internal(format!("comparing the rows of step `{step}`"));
        let keys = self.shared.codec.encode_keys(&self.shared.keys.of(&rows), rows.num_rows()).map_err(doing())?;
        let times = self.shared.time.map(|time| times_us(rows.column(time))).transpose().map_err(doing())?;
        let watermark = self.task.times.watermark(self.shared.clock);
        let mut stays = Vec::with_capacity(rows.num_rows());
        let mut n_late = 0;
        for (row, key) in keys.iter().enumerate() {
            let time_us = match &times {
                None => Some(self.task.batch_time_us),
                // A row before the watermark is late, however long its key is known: one like it may be forgotten. So is a row
                // without a time: it belongs to none.
                Some(times) => Some(times)
                    .filter(|times| times.is_valid(row))
                    .map(|times| times.value(row))
                    .filter(|time_us| !watermark.is_late(time_us.saturating_add(1))),
            };
            n_late += u64::from(time_us.is_none());
            stays.push(match time_us {
                Some(time_us) => self.is_first(key, time_us)?,
                None => false,
            });
        }
        self.task.late.add(&self.shared.meter, n_late);
        let kept = filter_record_batch(&rows, &BooleanArray::from(stays)).map_err(doing())?;
        if kept.num_rows() > 0 { emit(kept) } else { Ok(()) }
    }

    fn finish(&mut self, _: &mut Emit<'_>) -> Result<(), Error> {
        let Some(mut state) = self.state.take() else { unreachable!("it is there until the step ends") };
        let now_us = self.now_us();
        if let Some(now_us) = now_us {
            let mut ended = Vec::new();
            state.table(TIMERS).scan(i64::MIN..=now_us, &mut |_, key, _| {
                ended.push(Box::<[u8]>::from(key));
                Ok(true)
            })?;
            if !ended.is_empty() {
                state.changes(TIMERS).drop_slots(i64::MIN..=now_us);
            }
            // What came anew is written below.
            let is_over = |key: &&[u8]| !self.index.contains_key(*key);
            ended.iter().map(|key| &**key).filter(is_over).for_each(|key| state.changes(KNOWN).remove(0, key));
        }
        let is_kept = |end: End| now_us.is_none_or(|now_us| end.is_after(now_us));
        for First { key, before, end } in &self.firsts {
            if let Some(End::At(end_us)) = before.filter(|before| is_kept(*before)) {
                state.changes(TIMERS).remove(end_us, key);
            }
            // What is over with this batch is not kept: others like it are late, or no longer doubled.
            match end {
                end if !is_kept(*end) => {
                    if before.is_some() {
                        state.changes(KNOWN).remove(0, key);
                    }
                }
                End::Never => state.changes(KNOWN).put(0, key, &[]),
                End::At(end_us) => {
                    state.changes(KNOWN).put(0, key, &end_us.to_le_bytes());
                    state.changes(TIMERS).put(*end_us, key, &[]);
                }
            }
        }
        state.finish();
        Ok(())
    }
}

#[cfg(test)]
mod tests;
